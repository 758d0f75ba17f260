//! Choosing the device by name: `auto`, `flex`, `ndarray`, `cuda`, `cuda:1`, `wgpu`, …
//!
//! A backend is compiled in by a Cargo feature of the same name and chosen at run time. `auto`
//! takes the first of cuda, metal, rocm, vulkan, wgpu, flex, ndarray, cpu that was compiled in and
//! has a device on this machine.

use burn::tensor::Device;
#[cfg(any(
    feature = "flex",
    feature = "ndarray",
    feature = "cpu",
    feature = "cuda",
    feature = "rocm",
    feature = "metal",
    feature = "vulkan",
    feature = "wgpu"
))]
use burn::tensor::DeviceType;

use gradus_core::names::did_you_mean;

use crate::TrainError;

/// Every backend that Gradus knows, in the order in which `auto` prefers them.
pub const BACKENDS: [&str; 8] = [
    "cuda", "metal", "rocm", "vulkan", "wgpu", "flex", "ndarray", "cpu",
];

/// A backend and what this binary can do with it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Backend {
    /// Its name, as `--device` takes it.
    pub name: &'static str,
    /// Whether this binary was built with it.
    pub compiled: bool,
    /// How many devices of it this machine has; 0 when it was not compiled in.
    pub devices: usize,
}

/// What this binary can run on.
#[must_use]
pub fn backends() -> Vec<Backend> {
    BACKENDS
        .iter()
        .map(|&name| {
            let found = enumerate(name);
            Backend {
                name,
                compiled: found.is_some(),
                devices: found.map_or(0, |d| d.len()),
            }
        })
        .collect()
}

/// The device called `name`, and the name of its backend: `auto`, or a backend with an optional
/// index as in `cuda:1`.
///
/// # Errors
/// [`TrainError::Device`] when no backend has that name (with the nearest ones), when it was not
/// compiled in (with the command that does), or when this machine lacks the device.
pub fn device(name: &str) -> Result<(Device, String), TrainError> {
    if name == "auto" {
        return BACKENDS
            .iter()
            .find_map(|&backend| {
                let device = enumerate(backend)?.into_iter().next()?;
                Some((device, backend.to_owned()))
            })
            .ok_or_else(|| {
                TrainError::Device(format!(
                    "this binary was built without any backend that has a device here; build it \
                     with one of the features {}",
                    BACKENDS.join(", ")
                ))
            });
    }
    let (backend, index) = match name.split_once(':') {
        None => (name, 0),
        Some((backend, index)) => (
            backend,
            index.parse::<usize>().map_err(|_| {
                TrainError::Device(format!(
                    "device {name:?}: expected a number after the colon, as in `cuda:1`, found \
                     {index:?}"
                ))
            })?,
        ),
    };
    let Some(&backend) = BACKENDS.iter().find(|&&known| known == backend) else {
        let hint = did_you_mean(backend, BACKENDS);
        return Err(TrainError::Device(format!(
            "no device is called {backend:?}. {hint} The devices are auto, {}",
            BACKENDS.join(", ")
        )));
    };
    let Some(devices) = enumerate(backend) else {
        return Err(TrainError::Device(format!(
            "this binary was built without the backend {backend}; build it with `cargo build \
             --release --features {backend}`"
        )));
    };
    let found = devices.len();
    match devices.into_iter().nth(index) {
        Some(device) => Ok((device, backend.to_owned())),
        None => Err(TrainError::Device(format!(
            "{backend} has {found} device(s) on this machine, so there is no number {index}; \
             `gradus doctor` lists what there is"
        ))),
    }
}

/// The devices of `backend`; `None` when it was not compiled in.
fn enumerate(backend: &str) -> Option<Vec<Device>> {
    #[allow(unused_mut, reason = "empty when no backend is compiled in")]
    let mut kind = None;
    #[cfg(feature = "flex")]
    if backend == "flex" {
        kind = Some(DeviceType::Flex);
    }
    #[cfg(feature = "ndarray")]
    if backend == "ndarray" {
        kind = Some(DeviceType::NdArray);
    }
    #[cfg(feature = "cpu")]
    if backend == "cpu" {
        kind = Some(DeviceType::Cpu);
    }
    #[cfg(feature = "cuda")]
    if backend == "cuda" {
        kind = Some(DeviceType::Cuda);
    }
    #[cfg(feature = "rocm")]
    if backend == "rocm" {
        kind = Some(DeviceType::Rocm);
    }
    #[cfg(feature = "metal")]
    if backend == "metal" {
        kind = Some(DeviceType::Metal);
    }
    #[cfg(feature = "vulkan")]
    if backend == "vulkan" {
        kind = Some(DeviceType::Vulkan);
    }
    #[cfg(feature = "wgpu")]
    if backend == "wgpu" {
        kind = Some(DeviceType::Wgpu);
    }
    let kind: burn::tensor::DeviceType = kind?;
    // A driver that is missing makes some runtimes panic rather than report no device.
    std::panic::catch_unwind(|| Device::enumerate(kind).into_iter().collect())
        .ok()
        .or(Some(Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_finds_a_device_and_names_it() {
        let (_, name) = device("auto").unwrap();
        assert!(BACKENDS.contains(&name.as_str()));
    }

    #[test]
    fn a_misspelt_device_is_answered_with_the_nearest() {
        let error = device("flx").unwrap_err().to_string();
        assert!(error.contains("flex"), "{error}");
    }

    #[test]
    fn a_device_that_does_not_exist_is_an_error() {
        assert!(
            device("flex:7")
                .unwrap_err()
                .to_string()
                .contains("no number 7")
        );
        assert!(
            device("flex:x")
                .unwrap_err()
                .to_string()
                .contains("number after the colon")
        );
    }
}
