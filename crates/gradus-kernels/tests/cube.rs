//! The kernels for GPUs against those of the CPU, in every order of memory, and how many of them start.
//!
//! ```text
//! CUBECL_AUTOTUNE_LEVEL=minimal cargo test --release --workspace --features wgpu --test cube
//! ```
//! A software driver (Debian: `mesa-vulkan-drivers`) is enough. Without a device nothing is tested, loudly.

#![cfg(all(
    feature = "flex",
    any(
        feature = "wgpu",
        feature = "vulkan",
        feature = "metal",
        feature = "cuda",
        feature = "rocm"
    )
))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::{DType, Device, DeviceType, FloatDType, Tensor, TensorData};
use common::{noise, numbers, tensor};
use gradus_kernels::cube::launches::{Launches, watched};
use gradus_kernels::{
    Act, Windows, activation, batch_norm_act, fork, global_avg_pool, max_pool2d, scale_shift_act,
    subsample,
};

const ACTS: [Act; 6] = [
    Act::Identity,
    Act::Relu,
    Act::LeakyRelu(0.2),
    Act::Gelu,
    Act::GeluTanh,
    Act::Silu,
];

/// Launches are counted for the whole process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gpus() -> Vec<Device> {
    let kinds = [
        #[cfg(feature = "cuda")]
        DeviceType::Cuda,
        #[cfg(feature = "rocm")]
        DeviceType::Rocm,
        #[cfg(feature = "metal")]
        DeviceType::Metal,
        #[cfg(feature = "vulkan")]
        DeviceType::Vulkan,
        #[cfg(feature = "wgpu")]
        DeviceType::Wgpu,
    ];
    let found: Vec<Device> = kinds
        .into_iter()
        .flat_map(|kind| {
            std::panic::catch_unwind(|| Device::enumerate(kind).into_vec()).unwrap_or_default()
        })
        .collect();
    if found.is_empty() {
        // Not through `eprintln!`, which the test harness would keep to itself.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: kernels for GPUs: no device");
    }
    found
}

/// In what order a tensor lies in memory.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// As the shape says.
    Plain,
    /// Channels last, as convolutions give it.
    Last,
    /// Channels last, with other channels between the rows.
    Wide,
    /// Height and width exchanged: in no useful order.
    Odd,
}

const ORDERS: [Order; 4] = [Order::Plain, Order::Last, Order::Wide, Order::Odd];

/// Noise of this shape; the same numbers in every order.
fn laid(shape: [usize; 4], seed: u64, order: Order, device: &Device) -> Tensor<4> {
    let [n, c, h, w] = shape;
    let plain = TensorData::new(noise(n * c * h * w, seed), shape);
    let values: Vec<f32> = plain.try_to_vec().unwrap();
    let at = |i: usize, j: usize, k: usize, l: usize| values[((i * c + j) * h + k) * w + l];
    let channels = match order {
        Order::Plain => return Tensor::from_data(plain, device),
        Order::Last => c,
        Order::Wide => 2 * c + 1,
        Order::Odd => {
            let moved = collect([n, c, w, h], |[i, j, l, k]| at(i, j, k, l));
            return Tensor::<4>::from_data(moved, device).swap_dims(2, 3);
        }
    };
    let moved = collect([n, h, w, channels], |[i, k, l, j]| match j < c {
        true => at(i, j, k, l),
        false => f32::NAN,
    });
    let x = Tensor::<4>::from_data(moved, device);
    x.slice([0..n, 0..h, 0..w, 0..c]).permute([0, 3, 1, 2])
}

fn collect(shape: [usize; 4], f: impl Fn([usize; 4]) -> f32) -> TensorData {
    let mut values = Vec::new();
    for i in 0..shape[0] {
        for j in 0..shape[1] {
            for k in 0..shape[2] {
                for l in 0..shape[3] {
                    values.push(f([i, j, k, l]));
                }
            }
        }
    }
    TensorData::new(values, shape)
}

/// Equal relative to the largest number.
#[track_caller]
fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3f32, |a, b| a.max(b.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let error = (a - b).abs() / largest;
        assert!(error <= tolerance, "{what}: element {i}: {a} and not {b}");
    }
}

/// What an operation gives, and the gradients of Σ y·g for x, scale, shift and the residual.
fn run(
    shape: [usize; 4],
    order: Order,
    device: &Device,
    residual: bool,
    f: impl Fn(Tensor<4>, Tensor<1>, Tensor<1>, Option<Tensor<4>>) -> Vec<Tensor<4>>,
) -> Vec<Vec<f32>> {
    let device = &device.clone().autodiff();
    let inner = &device.clone().inner();
    let x = Tensor::from_inner(laid(shape, 1, order, inner).add_scalar(0.3)).require_grad();
    let scale = tensor([shape[1]], 2, device).add_scalar(1.2).require_grad();
    let shift = tensor([shape[1]], 3, device).require_grad();
    let r = residual.then(|| Tensor::from_inner(laid(shape, 4, order, inner)).require_grad());
    let y = f(x.clone(), scale.clone(), shift.clone(), r.clone());
    let g = Tensor::from_inner(laid(shape, 5, order, inner));
    let grads = y[0].clone().mul(g).sum().backward();
    let mut out: Vec<Vec<f32>> = y.into_iter().map(numbers).collect();
    out.push(numbers(x.grad(&grads).unwrap()));
    out.push(numbers(scale.grad(&grads).unwrap()));
    out.push(numbers(shift.grad(&grads).unwrap()));
    out.extend(r.map(|r| numbers(r.grad(&grads).unwrap())));
    out
}

fn compare(
    shape: [usize; 4],
    order: Order,
    act: Act,
    residual: bool,
    f: impl Fn(Tensor<4>, Tensor<1>, Tensor<1>, Option<Tensor<4>>) -> Vec<Tensor<4>>,
) {
    let expected = run(shape, Order::Plain, &Device::flex(), residual, &f);
    for device in gpus() {
        let found = run(shape, order, &device, residual, &f);
        assert_eq!(found.len(), expected.len());
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let what = format!("{shape:?} {order:?} {act:?} residual {residual} number {i}");
            assert_close(found, expected, 2e-5, &what);
        }
    }
}

fn normalised(
    act: Act,
) -> impl Fn(Tensor<4>, Tensor<1>, Tensor<1>, Option<Tensor<4>>) -> Vec<Tensor<4>> {
    move |x, gamma, beta, r| {
        let found = batch_norm_act(x, Some(gamma), Some(beta), r, 1e-5, act);
        let moments = [found.mean, found.variance].map(|m| {
            let channels = m.dims()[0];
            m.reshape([1, channels, 1, 1])
        });
        let [mean, variance] = moments;
        vec![found.output, mean, variance]
    }
}

#[test]
fn normalisation_of_every_shape() {
    let _alone = alone();
    for (shape, residual) in [
        ([2, 3, 5, 7], true),
        ([3, 24, 4, 4], false),
        ([4, 64, 8, 8], true),
        ([2, 257, 3, 3], true),
        ([5, 16, 1, 1], false),
        ([1, 4, 6, 6], false),
        ([2, 1, 3, 2], true),
        // Many blocks of rows, the last one shorter.
        ([9, 8, 33, 31], true),
    ] {
        compare(
            shape,
            Order::Last,
            Act::Silu,
            residual,
            normalised(Act::Silu),
        );
    }
}

#[test]
fn normalisation_with_every_activation() {
    let _alone = alone();
    for act in ACTS {
        for residual in [false, true] {
            compare([3, 12, 4, 5], Order::Last, act, residual, normalised(act));
        }
    }
}

#[test]
fn normalisation_in_every_order_of_memory() {
    let _alone = alone();
    for order in ORDERS {
        for shape in [[3, 8, 4, 5], [2, 6, 3, 1], [4, 5, 1, 1]] {
            compare(shape, order, Act::Gelu, true, normalised(Act::Gelu));
        }
    }
}

#[test]
fn moments_of_large_numbers_do_not_cancel() {
    let _alone = alone();
    let shape = [16, 4, 13, 11];
    let values: Vec<f32> = noise(shape.iter().product(), 9)
        .into_iter()
        .map(|v| 1000.0 + 0.05 * v)
        .collect();
    let count = shape[0] * shape[2] * shape[3];
    for device in gpus() {
        let x = Tensor::<4>::from_data(TensorData::new(values.clone(), shape), &device);
        let found = batch_norm_act(x, None, None, None, 1e-12, Act::Identity);
        let (mean, variance) = (numbers(found.mean), numbers(found.variance));
        for c in 0..shape[1] {
            let area = shape[2] * shape[3];
            let of_channel = || {
                (0..shape[0])
                    .flat_map(move |n| (0..area).map(move |p| (n * shape[1] + c) * area + p))
            };
            let mu = of_channel().map(|i| f64::from(values[i])).sum::<f64>() / count as f64;
            let v = of_channel()
                .map(|i| (f64::from(values[i]) - mu).powi(2))
                .sum::<f64>()
                / count as f64;
            assert!((f64::from(mean[c]) / mu - 1.0).abs() < 1e-7, "mean of {c}");
            let error = f64::from(variance[c]) / v - 1.0;
            assert!(error.abs() < 1e-4, "variance of {c}: off by {error}");
        }
    }
}

#[test]
fn scale_and_shift() {
    let _alone = alone();
    for (order, residual) in [(Order::Last, true), (Order::Plain, false)] {
        for act in [Act::Identity, Act::Relu, Act::Gelu] {
            compare([3, 12, 4, 5], order, act, residual, |x, a, b, r| {
                vec![scale_shift_act(x, a, b, r, act)]
            });
        }
    }
}

/// An operation without vectors: y, and the gradient of Σ y·g.
fn plain(
    shape: [usize; 4],
    order: Order,
    device: &Device,
    f: impl Fn(Tensor<4>) -> Tensor<4>,
) -> [Vec<f32>; 2] {
    let inner = &device.clone().inner();
    let x = Tensor::from_inner(laid(shape, 1, order, inner)).require_grad();
    let y = f(x.clone());
    let g = Tensor::from_inner(laid(y.dims(), 5, order, inner));
    let grads = y.clone().mul(g).sum().backward();
    [numbers(y), numbers(x.grad(&grads).unwrap())]
}

fn compare_plain(shape: [usize; 4], what: &str, f: impl Fn(Tensor<4>) -> Tensor<4>) {
    let flex = Device::flex().autodiff();
    let expected = plain(shape, Order::Plain, &flex, &f);
    for device in gpus() {
        for order in ORDERS {
            let found = plain(shape, order, &device.clone().autodiff(), &f);
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let what = format!("{what} {shape:?} {order:?} number {i}");
                assert_close(found, expected, 2e-5, &what);
            }
        }
    }
}

#[test]
fn activations_by_themselves() {
    let _alone = alone();
    for act in ACTS {
        compare_plain([2, 8, 3, 5], "activation", |x| activation(x, act));
    }
}

#[test]
fn pooling_and_what_has_two_readers() {
    let _alone = alone();
    for shape in [[2, 8, 6, 7], [3, 5, 4, 4]] {
        let windows = |kernel: usize, stride: usize, padding: usize| Windows {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 2],
        };
        compare_plain(shape, "max of 2", |x| max_pool2d(x, windows(2, 2, 0)));
        compare_plain(shape, "max of 3", |x| max_pool2d(x, windows(3, 2, 1)));
        compare_plain(shape, "global mean", |x| {
            let [n, c, ..] = x.dims();
            global_avg_pool(x).reshape([n, c, 1, 1])
        });
        for (stride, more) in [(1, 3), (2, 0), (2, 8), (3, 4)] {
            let what = format!("subsample {stride} and {more}");
            let channels = shape[1] + more;
            compare_plain(shape, &what, |x| subsample(x, stride, channels));
        }
        compare_plain(shape, "fork", |x| {
            let [a, b] = fork(x);
            activation(a, Act::Relu).add(b)
        });
    }
}

#[test]
fn half_images_with_vectors_of_f32() {
    let _alone = alone();
    for device in gpus() {
        for (dtype, half, unit) in [
            (DType::F16, FloatDType::F16, 1.0 / 2048.0),
            (DType::BF16, FloatDType::BF16, 1.0 / 256.0),
        ] {
            if !device.supports_dtype(dtype) {
                let _ = writeln!(
                    std::io::stderr(),
                    "\nSKIPPED: {dtype:?}: {device:?} does not have it"
                );
                continue;
            }
            let shape = [3, 12, 4, 5];
            let of = |device: &Device, half: Option<FloatDType>| {
                let device = &device.clone().autodiff();
                let inner = &device.clone().inner();
                // Numbers that f16 and bf16 hold exactly.
                let exact = |seed| {
                    laid(shape, seed, Order::Last, inner)
                        .mul_scalar(8.0)
                        .round()
                };
                let as_images = |x: Tensor<4>| match half {
                    Some(half) => x.cast(half),
                    None => x,
                };
                let x = Tensor::from_inner(as_images(exact(1).mul_scalar(0.25))).require_grad();
                let r = Tensor::from_inner(as_images(exact(2).mul_scalar(0.25))).require_grad();
                let gamma = tensor([shape[1]], 2, device).add_scalar(1.5).require_grad();
                let beta = tensor([shape[1]], 3, device).require_grad();
                let found = batch_norm_act(
                    x.clone(),
                    Some(gamma.clone()),
                    Some(beta.clone()),
                    Some(r.clone()),
                    1e-5,
                    Act::Silu,
                );
                let g = Tensor::from_inner(as_images(exact(5)));
                let loss = found.output.clone().mul(g).cast(FloatDType::F32).sum();
                let grads = loss.backward();
                let wide = |x: Tensor<4>| numbers(x.cast(FloatDType::F32));
                vec![
                    wide(found.output),
                    numbers(found.mean),
                    numbers(found.variance),
                    wide(x.grad(&grads).unwrap()),
                    numbers(gamma.grad(&grads).unwrap()),
                    numbers(beta.grad(&grads).unwrap()),
                    wide(r.grad(&grads).unwrap()),
                ]
            };
            let expected = of(&Device::flex(), None);
            let found = of(&device, Some(half));
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                // Moments are of exact numbers, gradients of rounded ones.
                let tolerance = if [1, 2].contains(&i) {
                    1e-5
                } else {
                    4.0 * unit
                };
                assert_close(found, expected, tolerance, &format!("{dtype:?} number {i}"));
            }
        }
    }
}

#[test]
fn normalisation_starts_three_kernels_and_its_gradient_three() {
    let _alone = alone();
    for device in gpus() {
        let device = device.autodiff();
        let inner = device.clone().inner();
        let x = laid([4, 8, 6, 6], 1, Order::Last, &inner).add_scalar(0.5);
        let x = Tensor::from_inner(x).require_grad();
        let gamma = Tensor::<1>::ones([8], &device).require_grad();
        let beta = Tensor::<1>::zeros([8], &device).require_grad();
        let layer = |x: Tensor<4>| {
            let (gamma, beta) = (Some(gamma.clone()), Some(beta.clone()));
            batch_norm_act(x, gamma, beta, None, 1e-5, Act::Relu).output
        };
        let of = |launches: &Launches, part: &str| {
            let names = launches.names().iter();
            names.filter(|name| name.contains(part)).count()
        };
        device.sync().unwrap();
        let (y, launches) = watched(|| {
            let y = layer(layer(x));
            device.sync().unwrap();
            y
        });
        assert_eq!(launches.count(), 6, "two layers: {launches}");
        let (_, launches) = watched(|| {
            let grads = y.powf_scalar(2.0).sum().backward();
            device.sync().unwrap();
            grads
        });
        // gradient_sums_kernel, join_gradients_kernel, gradient_kernel.
        assert_eq!(
            of(&launches, "::Gradient"),
            4,
            "their gradients: {launches}"
        );
        assert_eq!(
            of(&launches, "::JoinGradients"),
            2,
            "their gradients: {launches}"
        );
        // Burn's own operations behind the last layer give their gradient in the order of the shape.
        assert!(
            of(&launches, "::Copy") <= 1,
            "something is moved: {launches}"
        );
    }
}

#[test]
fn a_cast_between_two_operations_moves_nothing() {
    let _alone = alone();
    for device in gpus() {
        if !device.supports_dtype(DType::F16) {
            continue;
        }
        let x = laid([4, 8, 6, 6], 1, Order::Last, &device);
        let y = activation(x, Act::Silu);
        device.sync().unwrap();
        let (_, launches) = watched(|| {
            let y = activation(y.cast(FloatDType::F16), Act::Relu);
            let y = activation(y.cast(FloatDType::F32), Act::Relu);
            device.sync().unwrap();
            y
        });
        assert_eq!(launches.count(), 4, "{launches}");
    }
}
