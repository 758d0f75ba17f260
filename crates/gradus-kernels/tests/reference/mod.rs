//! What the tests of the kernels compare with: plain loops in f64.
#![allow(dead_code, clippy::unwrap_used)] // each test file uses a part of it

use gradus_kernels::cpu::activation::Act;
use proptest::test_runner::Config;

/// Numbers that look normal: a sum of four uniform ones, from a small generator.
pub(crate) fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    let mut uniform = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..n)
        .map(|_| ((0..4).map(|_| uniform()).sum::<f32>() - 2.0) * 1.732)
        .collect()
}

/// So many cases of a property; few under Miri, which is some thousand times slower and reads no files.
pub(crate) fn cases(n: u32) -> Config {
    if cfg!(miri) {
        Config {
            cases: 4,
            failure_persistence: None,
            ..Config::default()
        }
    } else {
        Config::with_cases(n)
    }
}

/// In f64.
pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

/// Fails unless every element is within `tolerance`·(1 + |expected|).
#[track_caller]
pub(crate) fn assert_close(got: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*g) - e).abs();
        assert!(
            error <= tolerance * (1.0 + e.abs()),
            "{what}[{i}] = {g}, expected {e}"
        );
    }
}

/// Fails unless the bits are the same.
#[track_caller]
pub(crate) fn assert_same_bits(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert_eq!(a.to_bits(), b.to_bits(), "[{i}]: {a} {b}");
    }
}

/// f with 1, 2 and 5 threads.
pub(crate) fn at_thread_counts<R: Send>(f: impl Fn() -> R + Sync) -> [R; 3] {
    [1, 2, 5].map(|threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
            .install(&f)
    })
}

/// Φ(z): the Taylor series of the integral for small |z|, the continued fraction of the tail else.
pub(crate) fn normal_distribution(z: f64) -> f64 {
    let a = z.abs();
    let density = normal_density(a);
    let tail = if a > 3.0 {
        let mut fraction = a;
        for k in (1..200).rev() {
            fraction = a + f64::from(k) / fraction;
        }
        density / fraction
    } else {
        let (mut term, mut sum) = (a, a);
        for k in 1..100 {
            term *= a * a / f64::from(2 * k + 1);
            sum += term;
        }
        0.5 - density * sum
    };
    if z < 0.0 { tail } else { 1.0 - tail }
}

fn normal_density(z: f64) -> f64 {
    (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// f(z).
pub(crate) fn value(act: Act, z: f64) -> f64 {
    let logistic = |z: f64| 1.0 / (1.0 + (-z).exp());
    match act {
        Act::Identity => z,
        Act::Relu => z.max(0.0),
        Act::LeakyRelu(a) => z.max(0.0) + f64::from(a) * z.min(0.0),
        Act::Gelu => z * normal_distribution(z),
        Act::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (z + 0.044_715 * z.powi(3));
            0.5 * z * (1.0 + u.tanh())
        }
        Act::Silu => z * logistic(z),
    }
}

/// f′(z): by hand where f has a corner, by central differences of O(h⁴) where it has none.
pub(crate) fn derivative(act: Act, z: f64) -> f64 {
    match act {
        Act::Identity => 1.0,
        Act::Relu => f64::from(z > 0.0),
        Act::LeakyRelu(a) => {
            if z > 0.0 {
                1.0
            } else {
                f64::from(a)
            }
        }
        Act::Gelu => normal_distribution(z) + z * normal_density(z),
        Act::GeluTanh | Act::Silu => {
            let h = 1e-3;
            let f = |k: f64| value(act, z + k * h);
            (8.0 * (f(1.0) - f(-1.0)) - (f(2.0) - f(-2.0))) / (12.0 * h)
        }
    }
}

pub(crate) const ACTS: [Act; 6] = [
    Act::Identity,
    Act::Relu,
    Act::LeakyRelu(0.1),
    Act::Gelu,
    Act::GeluTanh,
    Act::Silu,
];
