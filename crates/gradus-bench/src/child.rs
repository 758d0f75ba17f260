//! This program again, in a process of its own, with a time limit: its memory and its first step are then
//! those of one measurement alone, and a driver that crashes takes only that with it.

use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

/// How to run it.
#[derive(Clone, Copy, Debug)]
pub struct Child<'a> {
    /// The program.
    pub program: &'a Path,
    /// When it is ended, done or not.
    pub limit: Duration,
}

/// Between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

impl Child<'_> {
    /// The object that it prints on stdout, or why there is none.
    ///
    /// # Errors
    /// Its error message; the signal that ended it; that it was not done in time.
    pub fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T, String> {
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
        if !status.success() {
            return Err(last_words(&stderr, status));
        }
        serde_json::from_str(&stdout)
            .map_err(|error| format!("it printed something else than its result: {error}"))
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
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let name = match signal {
            4 => " (SIGILL)",
            6 => " (SIGABRT)",
            8 => " (SIGFPE)",
            9 => " (SIGKILL; out of memory?)",
            11 => " (SIGSEGV)",
            _ => "",
        };
        return format!("it, a driver or a kernel crashed with signal {signal}{name}");
    }
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
    use serde_json::Value;

    fn shell(seconds: u64) -> Child<'static> {
        Child {
            program: Path::new("/bin/sh"),
            limit: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn its_answer_is_read_and_its_failure_told() {
        let run = |script: &str| shell(60).json::<Value>(&["-c", script]);
        let answer = run("echo talk >&2; echo '{\"a\": 1}'");
        assert_eq!(answer.unwrap()["a"], 1);
        let problem = run("echo 'error: no device' >&2; echo hint >&2; exit 2");
        assert_eq!(problem.unwrap_err(), "no device");
        let problem = run("kill -SEGV $$").unwrap_err();
        assert!(problem.contains("signal 11 (SIGSEGV)"), "{problem}");
        let problem = run("echo done").unwrap_err();
        assert!(problem.contains("something else"), "{problem}");
        // More than a pipe holds.
        let much = run("printf '\"'; yes x | head -c 300000 | tr -d '\\n'; printf '\"'");
        assert_eq!(much.unwrap().as_str().map(str::len), Some(150_000));
        let problem = Child {
            program: Path::new("/no/such/program"),
            limit: Duration::from_secs(1),
        };
        let problem = problem.json::<Value>(&[]).unwrap_err();
        assert!(problem.contains("/no/such/program"), "{problem}");
    }

    #[test]
    fn it_does_not_outlive_its_limit() {
        let begun = Instant::now();
        let problem = shell(1).json::<Value>(&["-c", "exec sleep 600"]);
        let problem = problem.unwrap_err();
        assert_eq!(problem, "not done after 1 s");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
