//! Devices as a person meets them: what is asked for and not there is an error that says how to get it,
//! and `gradus doctor` lists and measures what is there.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{fails, folder, gradus, json};
use predicates::str::contains;
use serde_json::Value;

/// Every way to ask for a device.
const ASKING: [&[&str]; 2] = [
    &["train", "--model", "linear", "--epochs", "1", "--device"],
    &["bench", "step", "--model", "linear", "--device"],
];

#[test]
fn a_device_that_cannot_be_used_says_how_to_get_it() {
    let folder = folder();
    let folder = folder.path();
    let listed = json(folder, &["list", "devices", "--json"]);
    let mut absent = 0;
    for backend in listed.as_array().unwrap() {
        let name = backend["name"].as_str().unwrap();
        let usable = backend["compiled"] == true && backend["devices"].as_u64().unwrap() > 0;
        assert_eq!(backend["advice"].is_null(), usable, "{backend}");
        if usable {
            continue;
        }
        absent += 1;
        let advice = backend["advice"].as_str().unwrap();
        for asking in ASKING {
            for device in [name.to_owned(), format!("{name}:3")] {
                let said = fails(folder, 2, &[asking, &[device.as_str()]].concat());
                assert!(said.contains(advice), "{device}: {said}");
                let feature = format!("cargo build --release --features {name}");
                assert_eq!(
                    said.contains(&feature),
                    backend["compiled"] == false,
                    "{said}"
                );
            }
        }
    }
    // No machine has an NVIDIA, an AMD and an Apple GPU.
    assert!(absent > 0);
    assert!(!folder.join("runs").exists(), "nothing was begun");
}

#[test]
fn a_number_too_high_says_how_many_there_are() {
    let folder = folder();
    for asking in ASKING {
        let said = fails(folder.path(), 2, &[asking, &["flex:3"]].concat());
        assert!(said.contains("flex has 1 device on this machine"), "{said}");
        assert!(said.contains("no number 3"), "{said}");
        let said = fails(folder.path(), 2, &[asking, &["cuda:first"]].concat());
        assert!(said.contains("a number after the colon"), "{said}");
        let said = fails(folder.path(), 2, &[asking, &["vulcan"]].concat());
        assert!(said.contains("vulkan"), "{said}");
    }
}

#[test]
fn doctor_measures_every_device() {
    let folder = folder();
    let found = json(folder.path(), &["doctor", "--json"]);
    let devices = found["devices"].as_array().unwrap();
    let names: Vec<&str> = devices
        .iter()
        .map(|d| d["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"flex"), "{names:?}");
    for device in devices {
        match &device["error"] {
            Value::Null => {
                let speed = &device["speed"];
                for field in [
                    "gemm_gflops",
                    "copy_gb_per_second",
                    "launch_microseconds",
                    "first_result_seconds",
                ] {
                    assert!(speed[field].as_f64().unwrap() > 0.0, "{field}: {device}");
                }
                assert!(speed["gemm_size"].as_u64().unwrap() >= 256, "{device}");
                assert_eq!(speed["precisions"][0], "f32", "{device}");
                if device["name"] == "ndarray" {
                    assert_eq!(speed["precisions"].as_array().unwrap().len(), 1);
                }
            }
            error => {
                assert!(!error.as_str().unwrap().is_empty(), "{device}");
                assert!(device["speed"].is_null(), "{device}");
                assert!(!["flex", "ndarray"].contains(&device["name"].as_str().unwrap()));
            }
        }
    }
    // Each backend of the list has as many devices as it says.
    for backend in found["backends"].as_array().unwrap() {
        let own = devices.iter().filter(|d| d["backend"] == backend["name"]);
        assert_eq!(own.count() as u64, backend["devices"].as_u64().unwrap());
    }
    let auto = found["auto"].as_str().unwrap();
    let taken = devices.iter().find(|d| d["backend"] == auto).unwrap();
    assert_eq!(taken["software"], false);
    assert_eq!(found["speed"]["device"], auto);
    assert_eq!(found["speed"]["gemm_gflops"], taken["speed"]["gemm_gflops"]);
    for version in ["gradus", "burn", "rustc", "os", "cpu"] {
        assert!(!found[version].as_str().unwrap().is_empty(), "{version}");
    }
    assert!(found["cpu_caches"].get("l2_bytes").is_some());
    assert!(found["drivers"]["vulkan"].is_array());
}

#[test]
fn doctor_can_leave_the_measurement_out() {
    let folder = folder();
    let found = json(folder.path(), &["doctor", "--no-speed", "--json"]);
    assert!(found["speed"].is_null());
    for device in found["devices"].as_array().unwrap() {
        assert!(
            device["speed"].is_null() && device["error"].is_null(),
            "{device}"
        );
    }
    gradus(folder.path())
        .args(["doctor", "--no-speed"])
        .assert()
        .success()
        .stdout(contains("caches"))
        .stdout(contains("GPU drivers"))
        .stdout(contains("flex"));
}

/// With every Vulkan and OpenGL driver hidden, wgpu has nothing to run on.
#[cfg(all(feature = "wgpu", target_os = "linux"))]
#[test]
fn wgpu_without_a_driver_is_an_error_with_advice() {
    let folder = folder();
    for device in ["wgpu", "wgpu:0", "wgpu:1"] {
        gradus(folder.path())
            .args(["train", "--model", "linear", "--device", device])
            .env("VK_DRIVER_FILES", "/nonexistent.json")
            .env("VK_ICD_FILENAMES", "/nonexistent.json")
            .env("__EGL_VENDOR_LIBRARY_FILENAMES", "/nonexistent.json")
            .assert()
            .code(2)
            .stderr(contains("error: wgpu finds no device on this machine"))
            .stderr(contains("mesa-vulkan-drivers"));
    }
}
