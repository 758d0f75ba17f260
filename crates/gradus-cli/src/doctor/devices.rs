//! The devices, each measured; a GPU's in a process of its own, because a driver that crashes takes its
//! process with it.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use gradus_bench::DeviceSpeed;
use gradus_train::device::{Found, devices, is_eager};
use serde::Serialize;

use crate::output;

/// A device, and what it does.
#[derive(Serialize)]
pub(super) struct DeviceFindings {
    /// As `--device` takes it.
    pub(super) name: String,
    pub(super) backend: &'static str,
    /// Whether it is a driver that computes on the CPU in place of a GPU.
    pub(super) software: bool,
    /// What was measured, if it was.
    pub(super) speed: Option<DeviceSpeed>,
    /// Why it could not be measured.
    pub(super) error: Option<String>,
}

/// A software driver tunes its kernels for minutes the first time.
const LIMIT: Duration = Duration::from_secs(600);

/// Every device; with its speed if `measured`.
pub(super) fn all(measured: bool) -> Vec<DeviceFindings> {
    devices()
        .into_iter()
        .map(|found| {
            let speed = measured.then(|| match is_eager(found.backend) {
                true => DeviceSpeed::measure(&found.device, found.backend),
                false => apart(&found).map_err(|error| format!("{error:#}")),
            });
            let (speed, error) = match speed {
                None => (None, None),
                Some(Ok(speed)) => (Some(speed), None),
                Some(Err(error)) => (None, Some(error)),
            };
            DeviceFindings {
                name: found.name,
                backend: found.backend,
                software: found.software,
                speed,
                error,
            }
        })
        .collect()
}

/// Measures the device called `name` in this process.
pub(super) fn measure_here(name: &str) -> anyhow::Result<DeviceSpeed> {
    let found = devices()
        .into_iter()
        .find(|found| found.name == name)
        .ok_or_else(|| anyhow!("`gradus doctor` lists no device {name:?}"))?;
    DeviceSpeed::measure(&found.device, found.backend).map_err(|reason| anyhow!(reason))
}

/// Measures `found` in a process of its own.
fn apart(found: &Found) -> anyhow::Result<DeviceSpeed> {
    let slow = match found.software {
        true => " (a software driver: this may take minutes)",
        false => "",
    };
    output::say(false, format!("measuring {}{slow} …", found.name));
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let mut command = Command::new(program);
    command.args(["doctor", "--measure", &found.name]);
    let (status, out, err) = within(command, LIMIT)?;
    if !status.success() {
        return Err(anyhow!(reason(status, &err)));
    }
    serde_json::from_str(&out).context("the measurement printed something else than its result")
}

/// Runs `command` to its end, or for `limit` and then ends it: its status and what it printed.
fn within(
    mut command: Command,
    limit: Duration,
) -> anyhow::Result<(std::process::ExitStatus, String, String)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the measurement")?;
    let out = listen(child.stdout.take());
    let err = listen(child.stderr.take());
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Err(anyhow!(
                "it was not done after {} s and was ended",
                limit.as_secs()
            ));
        }
        thread::sleep(Duration::from_millis(20));
    };
    let text = |listener: thread::JoinHandle<String>| listener.join().unwrap_or_default();
    Ok((status, text(out), text(err)))
}

/// Reads to the end, so that a talkative driver does not fill the pipe and wait.
fn listen(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before a failure is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Why a measurement ended without a result.
fn reason(status: std::process::ExitStatus, stderr: &str) -> String {
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
        return format!("the driver or one of its kernels crashed with signal {signal}{name}");
    }
    let said = stderr
        .lines()
        .find_map(|line| line.strip_prefix("error: "))
        .or(stderr.lines().last());
    match said {
        Some(said) => said.to_owned(),
        None => format!("the measurement ended with {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[cfg(unix)]
    #[test]
    fn a_crash_is_reported_as_one() {
        let limit = Duration::from_secs(60);
        let (status, _, err) = within(shell("kill -SEGV $$"), limit).unwrap();
        assert!(reason(status, &err).contains("signal 11 (SIGSEGV)"));
        let (status, _, err) = within(shell("echo 'error: no NVRTC' >&2; exit 1"), limit).unwrap();
        assert_eq!(reason(status, &err), "no NVRTC");
        let (status, out, _) = within(shell("yes x | head -c 300000"), limit).unwrap();
        assert!(status.success());
        assert_eq!(out.len(), 300_000);
    }

    #[cfg(unix)]
    #[test]
    fn what_hangs_is_ended() {
        let begun = Instant::now();
        let error = within(shell("exec sleep 60"), Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("was ended"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
