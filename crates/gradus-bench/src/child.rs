//! This program again, in a process of its own, with a time limit: its memory and its first step are then
//! those of one measurement alone.

use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How to run it.
pub(crate) struct Child<'a> {
    pub(crate) program: &'a Path,
    pub(crate) limit: Duration,
}

/// Between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

impl Child<'_> {
    /// The object that it prints on stdout, or why there is none.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value, String> {
        let failed =
            |error: std::io::Error| format!("cannot run {}: {error}", self.program.display());
        let mut child = Command::new(self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                break status;
            }
            if begun.elapsed() > self.limit {
                // If it has just ended, all the better.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("not done after {:.0} s", self.limit.as_secs_f64()));
            }
            thread::sleep(LOOK);
        };
        let read = |from: thread::JoinHandle<String>| from.join().unwrap_or_default();
        let (stdout, stderr) = (read(stdout), read(stderr));
        match serde_json::from_str(&stdout) {
            Ok(value) if status.success() => Ok(value),
            _ => Err(last_words(&stderr, status)),
        }
    }
}

/// Reads a pipe to its end, so that the process never waits for a reader.
fn reader(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came before a broken pipe is all there is.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Its error message, or at least how it ended.
fn last_words(stderr: &str, status: ExitStatus) -> String {
    let lines = || stderr.lines().filter(|line| !line.trim().is_empty());
    let line = lines()
        .find(|line| line.starts_with("error:") || line.contains("panicked"))
        .or_else(|| lines().next_back());
    match line {
        Some(line) => line.trim_start_matches("error:").trim().to_owned(),
        None => format!("ended with {status} and said nothing"),
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shell(seconds: u64) -> Child<'static> {
        Child {
            program: Path::new("/bin/sh"),
            limit: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn its_answer_is_read_and_its_failure_told() {
        let answer = shell(60).json(&["-c", "echo talk >&2; echo '{\"a\": 1}'"]);
        assert_eq!(answer.unwrap()["a"], 1);
        let problem = shell(60).json(&["-c", "echo 'error: no device' >&2; echo hint >&2; exit 2"]);
        assert_eq!(problem.unwrap_err(), "no device");
        let problem = shell(60).json(&["-c", "kill -9 $$"]).unwrap_err();
        assert!(problem.contains("signal"), "{problem}");
        let problem = Child {
            program: Path::new("/no/such/program"),
            limit: Duration::from_secs(1),
        };
        assert!(problem.json(&[]).unwrap_err().contains("/no/such/program"));
    }

    #[test]
    fn it_does_not_outlive_its_limit() {
        let begun = Instant::now();
        let problem = shell(1).json(&["-c", "exec sleep 600"]).unwrap_err();
        assert_eq!(problem, "not done after 1 s");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
