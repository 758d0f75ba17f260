//! `gradus doctor`: what this machine can do, and what is there.

use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use clap::Args;
use gradus_data::cifar::{self, Cifar};
use gradus_data::remote::cache_dir;
use gradus_train::machine::Machine;
use gradus_train::{Backend, backends, device};
use serde::Serialize;

use crate::args::DataDir;
use crate::failure::{End, Outcome};
use crate::numbers::bytes;
use crate::output;

/// Show devices, processor, memory, data sets and versions, and measure the speed
#[derive(Args)]
#[command(after_help = "\
Examples:
  gradus doctor
  gradus doctor --json
  gradus doctor --no-speed      leave the measurement out")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    data_dir: DataDir,
    /// Do not measure the speed (it takes about a second)
    #[arg(long)]
    no_speed: bool,
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
    /// What `--device auto` takes.
    auto: Option<String>,
    backends: Vec<Backend>,
    cache: Option<std::path::PathBuf>,
    data: Vec<DataFound>,
    speed: Option<Speed>,
}

#[derive(Serialize)]
struct DataFound {
    name: &'static str,
    path: Option<std::path::PathBuf>,
}

/// Measured on the spot, best of a few; other programs share the machine.
#[derive(Serialize)]
struct Speed {
    device: String,
    /// Product of two 768×768 matrices of f32, 2·768³ FLOP.
    gemm_gflops: f64,
    /// Reading and writing 64 MiB of main memory in one thread.
    memory_gb_per_second: f64,
}

pub(crate) fn run(args: &DoctorArgs) -> Outcome {
    let found = device("auto").ok();
    let dir = args.data_dir.data_dir.as_deref();
    let data = [Cifar::Ten, Cifar::HundredFine].map(|set| DataFound {
        name: set.name(),
        path: cifar::locate(set, dir).ok(),
    });
    let findings = Findings {
        machine: Machine::inspect(),
        build: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        cpu_features: cpu_features(),
        auto: found.as_ref().map(|(_, name)| name.clone()),
        backends: backends(),
        cache: cache_dir(dir).ok(),
        data: data.into(),
        speed: found
            .filter(|_| !args.no_speed)
            .map(|(device, name)| measure(&device, name)),
    };
    if args.json {
        output::json(&findings)?;
    } else {
        output::line(text(&findings))?;
    }
    Ok(End::Done)
}

fn text(findings: &Findings) -> String {
    let machine = &findings.machine;
    let devices: Vec<String> = findings
        .backends
        .iter()
        .filter(|backend| backend.compiled)
        .map(|backend| match backend.devices {
            0 => format!("{} (no device found)", backend.name),
            1 => backend.name.to_owned(),
            many => format!("{} ({many} devices)", backend.name),
        })
        .collect();
    let absent: Vec<&str> = findings
        .backends
        .iter()
        .filter(|backend| !backend.compiled)
        .map(|backend| backend.name)
        .collect();
    let or_none = |text: String| {
        if text.is_empty() {
            "none".to_owned()
        } else {
            text
        }
    };
    let build = match findings.build {
        "debug" => "debug: unusably slow; build with --release".to_owned(),
        build => build.to_owned(),
    };
    let mut rows = vec![
        ("gradus", format!("{} ({build})", machine.gradus)),
        (
            "burn, rustc",
            format!("{}, {}", machine.burn, machine.rustc),
        ),
        ("system", machine.os.clone()),
        (
            "processor",
            format!("{}, {} cores", machine.cpu, machine.cores),
        ),
        ("vectors", or_none(findings.cpu_features.join(", "))),
        ("memory", bytes(machine.memory_bytes)),
        ("devices", or_none(devices.join(", "))),
        (
            "auto takes",
            findings
                .auto
                .clone()
                .unwrap_or_else(|| "nothing".to_owned()),
        ),
        ("not built in", or_none(absent.join(", "))),
    ];
    if let Some(speed) = &findings.speed {
        rows.push((
            "speed",
            format!(
                "{:.0} GFLOP/s in matrix products on {}, {:.1} GB/s of memory in one thread",
                speed.gemm_gflops, speed.device, speed.memory_gb_per_second
            ),
        ));
    }
    let cache = findings.cache.as_ref().map_or_else(
        || "none: give --data-dir or set GRADUS_DATA".to_owned(),
        |cache| cache.display().to_string(),
    );
    rows.push(("data folder", cache));
    rows.push(("shapes", "built in".to_owned()));
    for data in &findings.data {
        let place = match &data.path {
            Some(path) => path.display().to_string(),
            None => format!("not here; gradus data fetch {}", data.name),
        };
        rows.push((data.name, place));
    }
    output::pairs(&rows)
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

const SIDE: usize = 768;
const BYTES: usize = 64 << 20;

fn measure(device: &Device, name: String) -> Speed {
    let random = || Tensor::<2>::random([SIDE, SIDE], Distribution::Uniform(-1.0, 1.0), device);
    let (a, b) = (random(), random());
    // Reading one number back waits for the device.
    let product = || _ = black_box(a.clone().matmul(b.clone()).slice([0..1, 0..1]).into_data());
    let source = vec![1u8; BYTES];
    let mut target = vec![0u8; BYTES];
    let mut copy = || black_box(&mut target).copy_from_slice(black_box(&source));
    Speed {
        device: name,
        gemm_gflops: 2.0 * (SIDE as f64).powi(3) / best(8, product) / 1e9,
        memory_gb_per_second: 2.0 * BYTES as f64 / best(8, &mut copy) / 1e9,
    }
}

/// The shortest of `rounds` runs in seconds; the first, which warms up, is left out.
fn best(rounds: usize, mut work: impl FnMut()) -> f64 {
    work();
    (0..rounds)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}
