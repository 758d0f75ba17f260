//! What a device does: the three numbers that bound a training step on it.
//!
//! ```text
//! gemm     C = A·B of n×n matrices of f32, 2n³ FLOP, the best size of 256, 512, … 4096
//! copy     y ← x·c over a tensor beyond the caches, 8 bytes a number; on the CPU, STREAM's copy
//! launch   one operation on one number, and waiting for it: the median
//! ```
//!
//! Sizes grow until one product, or one copy, is long beside what a launch costs, so a slow device is
//! not kept busy for minutes. On a GPU every new size is first compiled and tuned by Burn, which
//! is not counted, but for the first number of all: `first_result_seconds`.

use crate::memory::{Bandwidth, bandwidth};
use burn::tensor::{Device, Tensor};
use gradus_kernels::Precision;
use gradus_train::device::{Adapter, adapter, caught, is_of_cpu, opens};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// What a device does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceSpeed {
    /// What the GPU says of itself.
    pub adapter: Option<Adapter>,
    /// The precisions that `gradus train` has on it; the CPU backend has f16 too, emulated.
    #[serde(default)]
    pub precisions: Vec<String>,
    /// From the first call to the first number: opening the driver, compiling a kernel.
    pub first_result_seconds: f64,
    /// Matrix products in f32, in GFLOP/s.
    pub gemm_gflops: f64,
    /// The n of the product that was fastest.
    pub gemm_size: usize,
    /// Reading one tensor and writing another, in GB/s.
    pub copy_gb_per_second: f64,
    /// One operation on one number, with the wait for it, in µs.
    pub launch_microseconds: f64,
    /// The whole measurement, with what Burn compiled and tuned for it.
    pub measured_in_seconds: f64,
}

impl DeviceSpeed {
    /// Measures `device` of the backend called `backend`: about a second, on a software driver a minute
    /// or more.
    ///
    /// # Errors
    /// What the driver or Burn says, the message of a panic included.
    pub fn measure(device: &Device, backend: &str) -> Result<Self, String> {
        let device = device.clone().without_autodiff();
        let start = Instant::now();
        opens(&device)?;
        let first_result_seconds = start.elapsed().as_secs_f64();
        caught(|| {
            let adapter = adapter(&device)?;
            let precisions = Precision::of(&device)
                .into_iter()
                .filter(|precision| {
                    backend != "flex" || *precision == Precision::F32 || precision.is_native()
                })
                .map(|precision| precision.to_string())
                .collect();
            let launch_microseconds = launch(&device)?;
            let (gemm_gflops, gemm_size) = gemm(&device)?;
            let copy_gb_per_second = match is_of_cpu(backend) {
                // The backends of the CPU share its memory, and take fresh pages for every result.
                true => bandwidth().copy,
                false => device_bandwidth(&device)?.copy,
            };
            Ok(Self {
                adapter,
                precisions,
                first_result_seconds,
                gemm_gflops,
                gemm_size,
                copy_gb_per_second,
                launch_microseconds,
                measured_in_seconds: start.elapsed().as_secs_f64(),
            })
        })
    }
}

/// No further size is begun after this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// The fastest of some runs of `work`, after one that warms up; the result is kept until the device
/// has finished it, or a lazy one need not compute it.
fn fastest(device: &Device, work: impl Fn() -> Tensor<2>) -> Result<f64, String> {
    let run = || {
        let start = Instant::now();
        let result = work();
        device.sync().map_err(|error| error.to_string())?;
        drop(result);
        Ok::<_, String>(start.elapsed().as_secs_f64())
    };
    run()?;
    let mut best = run()?;
    // Long ones are measured once more, short ones for 50 ms.
    let rounds = (0.05 / best.max(1e-6)).clamp(1.0, 50.0) as usize;
    for _ in 0..rounds {
        best = best.min(run()?);
    }
    Ok(best)
}

fn gemm(device: &Device) -> Result<(f64, usize), String> {
    let start = Instant::now();
    let (mut best, mut at) = (0.0, 0);
    for n in [256, 512, 1024, 2048, 4096] {
        let (a, b) = (
            Tensor::<2>::full([n, n], 0.5, device),
            Tensor::<2>::full([n, n], 0.25, device),
        );
        let seconds = fastest(device, || a.clone().matmul(b.clone()))?;
        let rate = 2.0 * (n as f64).powi(3) / seconds / 1e9;
        if rate > best {
            (best, at) = (rate, n);
        }
        if seconds > 0.05 || start.elapsed() > PATIENCE {
            break;
        }
    }
    Ok((best, at))
}

/// What the memory of a device gives to operations of Burn: y ← x·c, and y ← x + c·z.
///
/// # Errors
/// What the driver or Burn says.
pub(crate) fn device_bandwidth(device: &Device) -> Result<Bandwidth, String> {
    let start = Instant::now();
    let mut rate = Bandwidth {
        copy: 0.0,
        triad: 0.0,
    };
    // 4 MiB to 256 MiB.
    for rows in [1 << 10, 1 << 12, 1 << 14, 1 << 16] {
        let x = Tensor::<2>::ones([rows, 1024], device);
        let seconds = fastest(device, || x.clone().mul_scalar(1.5))?;
        if !is_scaled(&x, device)? {
            break;
        }
        let gb = (rows * 1024) as f64 / 1e9;
        rate.copy = 8.0 * gb / seconds;
        let z = Tensor::<2>::ones([rows, 1024], device);
        let triad = fastest(device, || x.clone() + z.clone().mul_scalar(0.5))?;
        rate.triad = 12.0 * gb / triad;
        if seconds > 0.02 || start.elapsed() > PATIENCE {
            break;
        }
    }
    Ok(rate)
}

/// Whether the copy of these ones is there. Lavapipe, for one, leaves tensors of 256 MiB as they are, in no
/// time and without a word.
fn is_scaled(x: &Tensor<2>, device: &Device) -> Result<bool, String> {
    let [rows, columns] = x.dims();
    let y = x.clone().mul_scalar(1.5);
    // Or fusion would compute the one number that is read.
    device.sync().map_err(|error| error.to_string())?;
    let last = y.slice([rows - 1..rows, columns - 1..columns]);
    let data = last.try_into_data().map_err(|error| error.to_string())?;
    Ok(data.iter::<f32>().eq([1.5]))
}

fn launch(device: &Device) -> Result<f64, String> {
    let x = Tensor::<2>::ones([1, 1], device);
    let mut times = Vec::new();
    let begun = Instant::now();
    // The first few compile and warm up.
    while times.len() < 205 && (times.len() < 15 || begun.elapsed() < Duration::from_millis(500)) {
        let start = Instant::now();
        let y = x.clone().add_scalar(1.0);
        device.sync().map_err(|error| error.to_string())?;
        times.push(start.elapsed().as_secs_f64());
        drop(y);
    }
    let times = &mut times[5..];
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2] * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_measured() {
        let speed = DeviceSpeed::measure(&Device::flex(), "flex").unwrap();
        assert_eq!(speed.adapter, None);
        assert!(speed.gemm_gflops > 0.1, "{speed:?}");
        assert!(speed.gemm_size >= 256, "{speed:?}");
        assert!(speed.copy_gb_per_second > 0.1, "{speed:?}");
        assert!(speed.launch_microseconds > 0.0, "{speed:?}");
        let text = serde_json::to_string(&speed).unwrap();
        assert_eq!(speed, serde_json::from_str(&text).unwrap());
    }
}
