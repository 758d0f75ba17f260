//! A library measured in a process of its own, asked round by round.
//!
//! The scripts of `peers/` are part of the binary; they are written to a folder for temporary files and
//! run with the Python that was asked for. Each says its version in the first line of stdout, and then
//! answers every line of JSON with one of JSON.

use crate::BenchError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

const SCRIPTS: [(&str, &str); 5] = [
    (
        "kernels_torch.py",
        include_str!("../peers/kernels_torch.py"),
    ),
    ("optim_torch.py", include_str!("../peers/optim_torch.py")),
    ("models_torch.py", include_str!("../peers/models_torch.py")),
    ("step_torch.py", include_str!("../peers/step_torch.py")),
    ("step_jax.py", include_str!("../peers/step_jax.py")),
];

/// Where what a script says on stderr is kept.
const STDERR: &str = "stderr.txt";

/// A running script.
pub(crate) struct Peer {
    script: &'static str,
    python: String,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    /// The library's version, and how many threads it uses.
    pub(crate) version: String,
    folder: TempDir,
}

#[derive(Deserialize)]
struct Hello {
    version: String,
    threads: usize,
}

/// What a script answers instead of a result.
#[derive(Deserialize)]
struct Skip {
    skip: String,
}

impl Peer {
    /// Starts `script` and waits for its first line.
    ///
    /// # Errors
    /// [`BenchError::Peer`] if Python is not there or the script ends at once, as it does where its
    /// library cannot be imported.
    pub(crate) fn start(python: &str, script: &'static str) -> Result<Self, BenchError> {
        let failed = |problem: String| BenchError::Peer {
            library: library(script),
            python: python.to_owned(),
            problem,
        };
        let prepared = || -> std::io::Result<(TempDir, File)> {
            let folder = tempfile::tempdir()?;
            for (name, text) in SCRIPTS {
                std::fs::write(folder.path().join(name), text)?;
            }
            let stderr = File::create(folder.path().join(STDERR))?;
            Ok((folder, stderr))
        };
        let (folder, stderr) = prepared().map_err(|error| failed(error.to_string()))?;
        let mut child = Command::new(python)
            .arg("-u")
            .arg(folder.path().join(script))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let Some((to, from)) = pipes else {
            return Err(failed("its pipes are closed".to_owned()));
        };
        let mut from = BufReader::new(from);
        let mut line = String::new();
        let hello = from
            .read_line(&mut line)
            .ok()
            .and_then(|_| serde_json::from_str::<Hello>(&line).ok());
        let Some(hello) = hello else {
            // It is told to end; that it is gone already is no matter.
            let _ = child.kill();
            let _ = child.wait();
            return Err(failed(last_words(folder.path())));
        };
        Ok(Self {
            script,
            python: python.to_owned(),
            child,
            to,
            from,
            version: format!("{} ({} threads)", hello.version, hello.threads),
            folder,
        })
    }

    /// One question, one answer; the inner error says why the script cannot answer this one.
    ///
    /// # Errors
    /// [`BenchError::Peer`] if the script broke off or answers something else.
    pub(crate) fn ask<T: DeserializeOwned>(
        &mut self,
        question: &Value,
    ) -> Result<Result<T, String>, BenchError> {
        let mut line = String::new();
        let said = writeln!(self.to, "{question}")
            .and_then(|()| self.to.flush())
            .and_then(|()| self.from.read_line(&mut line));
        if let Ok(Skip { skip }) = serde_json::from_str(&line) {
            return Ok(Err(skip));
        }
        let problem = match (said, serde_json::from_str(&line)) {
            (Ok(1..), Ok(answer)) => return Ok(Ok(answer)),
            (Ok(1..), Err(error)) => format!("its answer cannot be read: {error}"),
            _ => last_words(self.folder.path()),
        };
        Err(BenchError::Peer {
            library: library(self.script),
            python: self.python.clone(),
            problem,
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It has nothing to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn library(script: &str) -> &'static str {
    match script.ends_with("_jax.py") {
        true => "JAX",
        false => "PyTorch",
    }
}

/// The last line that was said on stderr.
fn last_words(folder: &Path) -> String {
    let said = std::fs::read(folder.join(STDERR)).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    last.map_or_else(|| "it ended".to_owned(), |line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_python_that_is_none_says_why() {
        for python in ["/does/not/exist", "false"] {
            let Err(error) = Peer::start(python, "step_jax.py") else {
                panic!("{python} is no Python");
            };
            let error = error.to_string();
            assert!(error.contains("JAX") && error.contains(python), "{error}");
        }
    }
}
