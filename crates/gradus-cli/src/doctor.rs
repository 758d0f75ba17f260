//! `gradus doctor`: what this machine can do, and what is there.

mod caches;
mod devices;
mod drivers;
mod text;

use std::hint::black_box;
use std::time::Instant;

use clap::Args;
use gradus_data::cifar::{self, Cifar};
use gradus_data::remote::cache_dir;
use gradus_train::machine::Machine;
use gradus_train::{Backend, backends};
use serde::Serialize;

use crate::args::DataDir;
use crate::failure::{End, Outcome};
use crate::output;
use caches::Caches;
use devices::DeviceFindings;
use drivers::Drivers;

/// Show devices, processor, memory, data sets and versions, and measure the speed
#[derive(Args)]
#[command(after_help = "\
Examples:
  gradus doctor
  gradus doctor --json
  gradus doctor --no-speed      leave the measurement out

Every device is measured: products of matrices, copies through its memory, and what one small
operation costs. A GPU's kernels are compiled and tuned for that, which takes some seconds the first
time, on a software driver minutes. A device that fails or crashes is reported with the reason.")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    data_dir: DataDir,
    /// Do not measure the speed
    #[arg(long)]
    no_speed: bool,
    /// Measure this device alone and print one JSON object: what `doctor` starts for each GPU, so
    /// that a driver that crashes takes only the measurement with it
    #[arg(long, hide = true, value_name = "DEVICE")]
    measure: Option<String>,
    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Serialize)]
struct Findings {
    #[serde(flatten)]
    machine: Machine,
    /// `release`, or `debug`, which is unusably slow.
    build: &'static str,
    cpu_features: Vec<&'static str>,
    cpu_caches: Caches,
    /// What `--device auto` takes.
    auto: Option<String>,
    backends: Vec<Backend>,
    /// Every device of every backend, with its speed.
    devices: Vec<DeviceFindings>,
    drivers: Drivers,
    cache: Option<std::path::PathBuf>,
    data: Vec<DataFound>,
    speed: Option<Speed>,
}

#[derive(Serialize)]
struct DataFound {
    name: &'static str,
    path: Option<std::path::PathBuf>,
}

/// Of what `auto` takes, and of one thread; measured on the spot, and other programs share the machine.
#[derive(Serialize)]
struct Speed {
    device: String,
    /// Products of matrices of f32.
    gemm_gflops: f64,
    /// Reading and writing 64 MiB of main memory in one thread.
    memory_gb_per_second: f64,
}

pub(crate) fn run(args: &DoctorArgs) -> Outcome {
    if let Some(name) = &args.measure {
        output::json(&devices::measure_here(name)?)?;
        return Ok(End::Done);
    }
    let dir = args.data_dir.data_dir.as_deref();
    let data = [Cifar::Ten, Cifar::HundredFine].map(|set| DataFound {
        name: set.name(),
        path: cifar::locate(set, dir).ok(),
    });
    let devices = devices::all(!args.no_speed);
    // The order of the list is the order in which `auto` chooses.
    let auto = devices.iter().find(|device| !device.software);
    let speed = auto.and_then(|device| {
        Some(Speed {
            device: device.backend.to_owned(),
            gemm_gflops: device.speed.as_ref()?.gemm_gflops,
            memory_gb_per_second: memory(),
        })
    });
    let findings = Findings {
        machine: Machine::inspect(),
        build: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        cpu_features: cpu_features(),
        cpu_caches: Caches::find(),
        auto: auto.map(|device| device.backend.to_owned()),
        backends: backends(),
        drivers: Drivers::find(),
        cache: cache_dir(dir).ok(),
        data: data.into(),
        speed,
        devices,
    };
    if args.json {
        output::json(&findings)?;
    } else {
        output::line(text::of(&findings))?;
    }
    Ok(End::Done)
}

/// The vector instructions that the CPU backend can use, as far as this build knows to ask.
fn cpu_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    #[cfg(target_arch = "aarch64")]
    let found = [("neon", std::arch::is_aarch64_feature_detected!("neon"))];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found: [(&'static str, bool); 0] = [];
    found
        .into_iter()
        .filter(|(_, has)| *has)
        .map(|(name, _)| name)
        .collect()
}

const BYTES: usize = 64 << 20;

/// Main memory in one thread, best of eight after one that warms up, in GB/s.
fn memory() -> f64 {
    let source = vec![1u8; BYTES];
    let mut target = vec![0u8; BYTES];
    let best = (0..9)
        .map(|_| {
            let start = Instant::now();
            black_box(&mut target).copy_from_slice(black_box(&source));
            start.elapsed().as_secs_f64()
        })
        .skip(1)
        .fold(f64::INFINITY, f64::min);
    2.0 * BYTES as f64 / best / 1e9
}
