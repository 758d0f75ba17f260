//! Choosing the device by name: `auto`, `flex`, `ndarray`, `cuda`, `cuda:1`, `wgpu`, …
//!
//! A backend is compiled in by a Cargo feature of the same name and chosen at run time. `auto`
//! takes the first of cuda, metal, rocm, vulkan, wgpu, flex, ndarray, cpu that was compiled in and
//! has a device on this machine; a software driver (lavapipe, llvmpipe) is taken only by its name,
//! because the CPU backend does the same work faster.
//!
//! A driver may be there and not work. A device other than the plain CPU backends is therefore
//! opened, and computes 0 + 1, before it is handed out; what Burn or the driver says against it, a
//! panic included, becomes an error with advice.

mod advice;

use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(any(feature = "vulkan", feature = "wgpu"))]
use burn::tensor::DeviceKind;
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
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use gradus_core::names::did_you_mean;

use crate::TrainError;

/// Every backend that Gradus knows, in the order in which `auto` prefers them.
pub const BACKENDS: [&str; 8] = [
    "cuda", "metal", "rocm", "vulkan", "wgpu", "flex", "ndarray", "cpu",
];

/// A backend and what this binary can do with it.
#[derive(Clone, Debug, Serialize)]
pub struct Backend {
    /// Its name, as `--device` takes it; the Cargo feature has the same.
    pub name: &'static str,
    /// Whether this binary was built with it.
    pub compiled: bool,
    /// How many devices of it this machine has; 0 when it was not compiled in.
    pub devices: usize,
    /// How to get it, where it cannot be used.
    pub advice: Option<String>,
}

/// A device of this machine that this binary finds. Nothing has been computed on it yet.
#[derive(Clone, Debug)]
pub struct Found {
    /// As `--device` takes it: `flex`, `cuda:1`.
    pub name: String,
    /// Its backend.
    pub backend: &'static str,
    /// Whether it is a driver that computes on the CPU in place of a GPU.
    pub software: bool,
    /// Burn's handle of it.
    pub device: Device,
}

/// What a GPU says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// Its name, as the driver gives it.
    pub name: String,
    /// What its kernels are compiled for.
    pub target: String,
    /// Its address on the PCI bus, where it is a card.
    pub pci: Option<String>,
}

/// What this binary can run on.
#[must_use]
pub fn backends() -> Vec<Backend> {
    BACKENDS
        .iter()
        .map(|&name| {
            let found = enumerate(name);
            let devices = found.as_ref().map_or(0, Vec::len);
            Backend {
                name,
                compiled: found.is_some(),
                devices,
                advice: match found {
                    None => Some(advice::not_compiled(name)),
                    Some(_) if devices == 0 => Some(advice::not_present(name)),
                    Some(_) => None,
                },
            }
        })
        .collect()
}

/// Every device of every backend of this binary, in the order of [`BACKENDS`].
#[must_use]
pub fn devices() -> Vec<Found> {
    BACKENDS
        .iter()
        .flat_map(|&backend| {
            let devices = enumerate(backend).unwrap_or_default();
            devices.into_iter().enumerate().map(move |(index, device)| {
                let name = if is_of_cpu(backend) {
                    backend.to_owned()
                } else {
                    format!("{backend}:{index}")
                };
                Found {
                    name,
                    backend,
                    software: is_software(&device),
                    device,
                }
            })
        })
        .collect()
}

/// The device called `name`, and the name of its backend: `auto`, or a backend with an optional
/// index as in `cuda:1`. It has computed something when this returns.
///
/// # Errors
/// [`TrainError::Device`] when no backend has that name (with the nearest ones), when it was not
/// compiled in (with the command that does), when this machine lacks the device (with what it needs,
/// or with the number of those that are there), or when it is there and does not work.
pub fn device(name: &str) -> Result<(Device, String), TrainError> {
    let (found, backend) = choose(name).map_err(TrainError::Device)?;
    if !is_eager(backend) {
        opens(&found)
            .map_err(|reason| TrainError::Device(advice::does_not_open(name, backend, &reason)))?;
    }
    Ok((found, backend.to_owned()))
}

fn choose(name: &str) -> Result<(Device, &'static str), String> {
    if name == "auto" {
        return BACKENDS
            .iter()
            .find_map(|&backend| {
                let mut devices = enumerate(backend)?.into_iter();
                Some((devices.find(|device| !is_software(device))?, backend))
            })
            .ok_or_else(advice::nothing_for_auto);
    }
    let (backend, index) = match name.split_once(':') {
        None => (name, 0),
        Some((backend, index)) => {
            let number = index.parse::<usize>().map_err(|_| {
                format!(
                    "device {name:?}: expected a number after the colon, as in `cuda:1`, found \
                     {index:?}"
                )
            })?;
            (backend, number)
        }
    };
    let Some(&backend) = BACKENDS.iter().find(|&&known| known == backend) else {
        let hint = match did_you_mean(backend, BACKENDS).as_str() {
            "" => ".".to_owned(),
            phrase => format!("; {phrase}"),
        };
        return Err(format!(
            "no device is called {backend:?}{hint} The devices are auto, {}",
            BACKENDS.join(", ")
        ));
    };
    let devices = enumerate(backend).ok_or_else(|| advice::not_compiled(backend))?;
    match devices.len() {
        0 => Err(advice::not_present(backend)),
        found => match devices.into_iter().nth(index) {
            Some(device) => Ok((device, backend)),
            None => Err(advice::no_such_number(backend, index, found)),
        },
    }
}

/// Computes 0 + 1 on `device` and reads it back: this opens the driver, compiles a kernel and waits
/// for it.
///
/// # Errors
/// What the driver or Burn says, the message of a panic included.
pub fn opens(device: &Device) -> Result<(), String> {
    caught(|| {
        let sum = Tensor::<1>::zeros([1], device).add_scalar(1.0);
        let data = sum.try_into_data().map_err(|error| error.to_string())?;
        match data.try_to_vec::<f32>() {
            Ok(numbers) if numbers == [1.0] => Ok(()),
            found => Err(format!("it computed 0 + 1 = {found:?}")),
        }
    })
}

/// What the GPU behind `device` says of itself; none for a backend of the CPU. Opens the device.
///
/// # Errors
/// As [`opens`].
pub fn adapter(device: &Device) -> Result<Option<Adapter>, String> {
    caught(|| Ok(identity(device)))
}

#[cfg(any(
    feature = "cpu",
    feature = "cuda",
    feature = "rocm",
    feature = "metal",
    feature = "vulkan",
    feature = "wgpu"
))]
fn identity(device: &Device) -> Option<Adapter> {
    device.identity().map(|found| Adapter {
        name: found.name,
        target: found.fingerprint,
        pci: found
            .physical
            .and_then(|card| card.pci_address)
            .map(|address| address.to_string()),
    })
}

/// The other backends are no cards.
#[cfg(not(any(
    feature = "cpu",
    feature = "cuda",
    feature = "rocm",
    feature = "metal",
    feature = "vulkan",
    feature = "wgpu"
)))]
fn identity(_: &Device) -> Option<Adapter> {
    None
}

/// Runs `work` on a device; a panic of Burn or of a driver becomes an error like any other.
///
/// # Errors
/// Those of `work`, and the message of its panic.
pub fn caught<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(message
            .unwrap_or("it panicked without a message")
            .to_owned())
    })
}

/// Whether the backend computes on the processor by its nature; it has one device then.
#[must_use]
pub fn is_of_cpu(backend: &str) -> bool {
    is_eager(backend) || backend == "cpu"
}

/// Whether an operation of the backend is done when it returns: no driver, no queue, no kernels that are
/// compiled when they are first needed.
#[must_use]
pub fn is_eager(backend: &str) -> bool {
    ["flex", "ndarray"].contains(&backend)
}

/// Whether this is the CPU posing as a GPU: wgpu counts such a driver as an adapter of kind CPU.
#[allow(unused_variables, reason = "without wgpu there is no software driver")]
fn is_software(device: &Device) -> bool {
    #[cfg(feature = "wgpu")]
    if *device == Device::wgpu(DeviceKind::Cpu) {
        return true;
    }
    #[cfg(feature = "vulkan")]
    if *device == Device::vulkan(DeviceKind::Cpu) {
        return true;
    }
    false
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
    let found = caught(|| Ok(Device::enumerate(kind).into_iter().collect()));
    Some(found.unwrap_or_default())
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
        let error = device("flex:7").unwrap_err().to_string();
        assert!(error.contains("1 device"), "{error}");
        assert!(error.contains("no number 7"), "{error}");
        for (name, found) in [
            ("flex:x", "\"x\""),
            ("flex:", "\"\""),
            ("cuda:-1", "\"-1\""),
        ] {
            let error = device(name).unwrap_err().to_string();
            assert!(error.contains("number after the colon"), "{error}");
            assert!(error.contains(found), "{error}");
        }
    }

    #[test]
    fn whatever_can_be_listed_has_a_name_that_finds_it() {
        let all = devices();
        assert!(!all.is_empty());
        for found in all {
            let (device, backend) = choose(&found.name).unwrap();
            assert_eq!((device, backend), (found.device, found.backend));
        }
    }

    #[test]
    fn what_cannot_be_used_says_how_to_get_it() {
        for backend in backends() {
            match backend.advice {
                None => assert!(backend.compiled && backend.devices > 0, "{}", backend.name),
                Some(advice) => {
                    assert_eq!(backend.devices, 0);
                    let error = device(backend.name).unwrap_err().to_string();
                    assert_eq!(error, advice);
                    assert_eq!(
                        error.contains(&format!("--features {}", backend.name)),
                        !backend.compiled,
                        "{error}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_panic_on_a_device_is_an_error_with_its_message() {
        let error = caught::<()>(|| panic!("no {}", "adapter")).unwrap_err();
        assert_eq!(error, "no adapter");
        let error = caught::<()>(|| panic!("plain")).unwrap_err();
        assert_eq!(error, "plain");
        assert_eq!(caught(|| Ok(3)), Ok(3));
    }

    #[test]
    fn the_cpu_opens() {
        opens(&device("auto").unwrap().0).unwrap();
    }
}
