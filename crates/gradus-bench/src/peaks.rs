//! What the machine gives at best, measured in the same run as everything else.
//!
//! ```text
//! gemm    C = A·B of n×n matrices, 2n³ FLOP, best of several at n = 1024 and 2048
//! fma     x ← x·a + b in registers, 2 FLOP each, without memory
//! triad   a ← b + s·c over arrays beyond any cache, 12 bytes a number
//! ```
//!
//! `gemm` is the bound of convolutions and what shares of the peak refer to; `fma` says how far the
//! matrix product itself is from what the arithmetic units can do.

use crate::memory::bandwidth;
use burn::tensor::{Device, Tensor};
use gradus_kernels::cpu::linear::square_product;
use pulp::{Arch, Simd, WithSimd};
use serde::Serialize;
use std::hint::black_box;
use std::time::Instant;

/// The best of the machine, all cores together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peaks {
    /// Matrix products in f32, in GFLOP/s.
    pub gemm_gflops: f64,
    /// Multiply-adds in registers, in GFLOP/s; absent on a device that is not the CPU.
    pub fma_gflops: Option<f64>,
    /// Streaming through memory, in GB/s; absent on a device that is not the CPU.
    pub triad_gb_per_second: Option<f64>,
    /// Cores that took part.
    pub threads: usize,
}

impl Peaks {
    /// Of the CPU, with all its cores. Takes about a second.
    #[must_use]
    pub fn of_cpu() -> Self {
        Self {
            gemm_gflops: products(),
            fma_gflops: Some(fma()),
            triad_gb_per_second: Some(bandwidth().triad),
            threads: threads(),
        }
    }

    /// The better of these and the matrix product now: measured again when the rest is done, so that a
    /// machine that was busy at the beginning does not flatter the shares.
    #[must_use]
    pub(crate) fn again_on_cpu(mut self) -> Self {
        self.gemm_gflops = self.gemm_gflops.max(products());
        self
    }

    /// Of any device, by Burn's matrix product on it.
    #[must_use]
    pub fn of_device(device: &Device) -> Self {
        let n = 4096;
        let device = device.clone().without_autodiff();
        let (a, b) = (
            Tensor::<2>::ones([n, n], &device),
            Tensor::<2>::ones([n, n], &device),
        );
        let seconds = best(5, || {
            black_box(a.clone().matmul(b.clone()));
            // A device that fails will say so in the measurement itself.
            let _ = device.sync();
        });
        Self {
            gemm_gflops: 2.0 * (n as f64).powi(3) / seconds / 1e9,
            fma_gflops: None,
            triad_gb_per_second: None,
            threads: 1,
        }
    }
}

/// The best of several sizes.
fn products() -> f64 {
    let rates = [(1024, 8), (1536, 4), (2048, 3)].map(|(n, times)| gemm(n, times));
    rates.into_iter().fold(0.0, f64::max)
}

pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The fastest of `times` after one that warms up, in seconds.
fn best(times: usize, mut work: impl FnMut()) -> f64 {
    (0..=times)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .skip(1)
        .fold(f64::INFINITY, f64::min)
}

fn gemm(n: usize, times: usize) -> f64 {
    let (a, b) = (vec![0.5f32; n * n], vec![0.25f32; n * n]);
    let mut c = vec![0f32; n * n];
    let seconds = best(times, || {
        square_product(n, &a, &b, &mut c);
        black_box(&c);
    });
    2.0 * (n as f64).powi(3) / seconds / 1e9
}

/// Multiply-adds that wait for nothing: enough independent sums to fill the pipelines.
struct Registers;

const CHAINS: usize = 12;
const ROUNDS: usize = 1 << 20;

impl WithSimd for Registers {
    /// FLOP done.
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let (a, b) = (
            simd.splat_f32s(black_box(0.999_9)),
            simd.splat_f32s(black_box(1e-4)),
        );
        let mut sums = [simd.splat_f32s(1.0); CHAINS];
        for _ in 0..ROUNDS {
            for x in &mut sums {
                *x = simd.mul_add_f32s(*x, a, b);
            }
        }
        let total = sums.map(|x| simd.reduce_sum_f32s(x));
        black_box(total);
        let lanes = size_of::<S::f32s>() / size_of::<f32>();
        2.0 * (lanes * CHAINS * ROUNDS) as f64
    }
}

fn fma() -> f64 {
    let mut flop = 0.0;
    let seconds = best(4, || {
        flop = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads())
                .map(|_| scope.spawn(|| Arch::new().dispatch(Registers)))
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_default())
                .sum()
        });
    });
    flop / seconds / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_one() {
        let n = 3;
        let (a, b): (Vec<f32>, Vec<f32>) = ((0..9u8).map(f32::from).collect(), vec![2.0; 9]);
        let mut c = vec![0.0; 9];
        square_product(n, &a, &b, &mut c);
        assert_eq!(c, [6.0, 6.0, 6.0, 24.0, 24.0, 24.0, 42.0, 42.0, 42.0]);
    }
}
