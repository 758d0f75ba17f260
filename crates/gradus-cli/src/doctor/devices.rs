//! The devices, each measured; a GPU's in a process of its own, because a driver that crashes takes its
//! process with it.

use std::time::Duration;

use anyhow::anyhow;
use gradus_bench::{Child, DeviceSpeed};
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
                false => apart(&found),
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
fn apart(found: &Found) -> Result<DeviceSpeed, String> {
    let slow = match found.software {
        true => " (a software driver: this may take minutes)",
        false => "",
    };
    output::say(false, format!("measuring {}{slow} …", found.name));
    let program = std::env::current_exe()
        .map_err(|error| format!("cannot find the path of this program: {error}"))?;
    let child = Child {
        program: &program,
        limit: LIMIT,
    };
    child.json(&["doctor", "--measure", &found.name])
}
