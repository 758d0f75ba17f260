//! Mixed precision: each operation on half tensors, its value and its gradients, against f64.
//!
//! All numbers are multiples of 1/64 in −1…1, which bf16 and f16 hold exactly, so that only what an operation rounds
//! is seen: once at its end, u = 2⁻⁸ or 2⁻¹¹ of the result, and a few times where it has parts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use gradus_kernels::{
    Act, Precision, Windows, activation, avg_pool2d, batch_norm_act, conv2d, cross_entropy, fork,
    global_avg_pool, linear, max_pool2d, scale_shift_act, subsample, widen,
};

const HALVES: [(FloatDType, f64); 2] = [
    (FloatDType::BF16, 1.0 / 256.0),
    (FloatDType::F16, 1.0 / 2048.0),
];

/// The CPU backend, and the GPU of the build if there is one.
fn devices() -> Vec<Device> {
    #[allow(unused_mut)]
    let mut devices = vec![Device::flex()];
    #[cfg(feature = "wgpu")]
    devices.push(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice));
    devices
}

/// Multiples of 1/64 in −1…1.
fn coarse(len: usize, seed: u64) -> Vec<f64> {
    common::noise(len, seed)
        .into_iter()
        .map(|v| f64::from((v * 64.0).round() / 64.0))
        .collect()
}

fn leaf<const D: usize>(shape: [usize; D], seed: u64, to: (&Device, DType)) -> Tensor<D> {
    let data = TensorData::new(coarse(shape.iter().product(), seed), shape);
    Tensor::from_data(data, to).require_grad()
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// The arguments: images in the type at hand, everything else in f32 (in f64 where that is the type).
struct Given {
    images: [Tensor<4>; 2],
    vectors: [Tensor<1>; 2],
    filters: Tensor<4>,
    matrix: Tensor<2>,
}

const IMAGES: [usize; 4] = [3, 4, 6, 6];
const FILTERS: usize = 4;

fn given(device: &Device, dtype: DType) -> Given {
    let rest = match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    };
    Given {
        images: [1, 2].map(|seed| leaf(IMAGES, seed, (device, dtype))),
        vectors: [3, 4].map(|seed| leaf([IMAGES[1]], seed, (device, rest))),
        filters: leaf([FILTERS, IMAGES[1], 3, 3], 5, (device, rest)),
        matrix: leaf([IMAGES[3], 5], 6, (device, rest)),
    }
}

/// y, then the gradient of Σ y·g for every argument; their types.
fn run<const D: usize>(
    device: &Device,
    dtype: DType,
    f: &dyn Fn(&Given) -> Tensor<D>,
) -> (Vec<Vec<f64>>, Vec<DType>) {
    let device = device.clone().autodiff();
    let given = given(&device, dtype);
    let y = f(&given);
    let sum = match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    };
    let shape = y.dims();
    let g = TensorData::new(coarse(shape.iter().product(), 7), shape);
    let g = Tensor::<D>::from_data(g, (&device, sum));
    let grads = y.clone().cast(sum).mul(g).sum().backward();
    let (mut found, mut types) = (vec![numbers(y.clone())], vec![y.dtype()]);
    macro_rules! of {
        ($tensor:expr) => {
            let gradient = $tensor.grad(&grads);
            types.extend(gradient.as_ref().map(|gradient| gradient.dtype()));
            found.push(gradient.map(numbers).unwrap_or_default());
        };
    }
    given.images.iter().for_each(|x| {
        of!(x);
    });
    given.vectors.iter().for_each(|x| {
        of!(x);
    });
    of!(given.filters);
    of!(given.matrix);
    (found, types)
}

/// Against f64 on the CPU: at most `roundings` of them, relative to the largest number.
fn check<const D: usize>(name: &str, roundings: f64, f: impl Fn(&Given) -> Tensor<D>) {
    let (exact, _) = run(&Device::flex(), DType::F64, &f);
    for device in devices() {
        for (half, u) in HALVES {
            if !device.supports_dtype(half) {
                continue;
            }
            let (found, types) = run(&device, half.into(), &f);
            for (i, (found, exact)) in found.iter().zip(&exact).enumerate() {
                assert_eq!(found.len(), exact.len(), "{name}, {half:?}, number {i}");
                let largest = exact.iter().fold(0.0f64, |a, b| a.max(b.abs()));
                for (a, b) in found.iter().zip(exact) {
                    assert!(
                        (a - b).abs() <= roundings * u * largest + 1e-6,
                        "{name} on {device:?}, {half:?}, number {i}: {a} and {b}, of {largest}"
                    );
                }
            }
            // y and what belongs to pixels is half; parameters have gradients of f32.
            let half = DType::from(half);
            assert_eq!(types[0], half, "{name}");
            assert!(types[1..].iter().all(|t| *t == half || *t == DType::F32));
            let of_images = (exact[1..3].iter()).filter(|g| !g.is_empty()).count();
            assert!(
                types[1..=of_images].iter().all(|t| *t == half),
                "{name}: {types:?}"
            );
            assert!(
                types[1 + of_images..].iter().all(|t| *t == DType::F32),
                "{name}: {types:?}"
            );
        }
    }
}

fn same_size() -> ConvOptions<2> {
    ConvOptions::new([1, 1], [1, 1], [1, 1], 1)
}

const ACTS: [Act; 6] = [
    Act::Identity,
    Act::Relu,
    Act::LeakyRelu(0.25),
    Act::Gelu,
    Act::GeluTanh,
    Act::Silu,
];

#[test]
fn products() {
    check("conv2d", 1.0, |given| {
        let [x, _] = given.images.clone();
        conv2d(x, given.filters.clone(), None, same_size())
    });
    check("conv2d with bias", 2.0, |given| {
        let [x, _] = given.images.clone();
        let [bias, _] = given.vectors.clone();
        conv2d(x, given.filters.clone(), Some(bias), same_size())
    });
    for act in ACTS {
        // z is rounded before f, and dz before it is multiplied.
        check(&format!("linear {act:?}"), 4.0, |given| {
            let [x, _] = given.images.clone();
            linear(x, given.matrix.clone(), None, act)
        });
    }
}

#[test]
fn channels() {
    for act in ACTS {
        check(&format!("batch_norm {act:?}"), 1.0, |given| {
            let [x, _] = given.images.clone();
            let [gamma, beta] = given.vectors.clone();
            batch_norm_act(x, Some(gamma), Some(beta), None, 1e-5, act).output
        });
        // A backend may make the gradient of x from that of the residual, which is rounded.
        check(&format!("batch_norm with residual {act:?}"), 2.0, |given| {
            let [x, r] = given.images.clone();
            let [gamma, beta] = given.vectors.clone();
            batch_norm_act(x, Some(gamma), Some(beta), Some(r), 1e-5, act).output
        });
        check(&format!("scale_shift {act:?}"), 1.0, |given| {
            let [x, r] = given.images.clone();
            let [scale, shift] = given.vectors.clone();
            scale_shift_act(x, scale, shift, Some(r), act)
        });
    }
    check("batch_norm without parameters", 1.0, |given| {
        let [x, _] = given.images.clone();
        batch_norm_act(x, None, None, None, 1e-5, Act::Identity).output
    });
}

#[test]
fn pixels() {
    for act in ACTS {
        check(&format!("activation {act:?}"), 1.0, |given| {
            let [x, _] = given.images.clone();
            activation(x, act)
        });
    }
    let windows = Windows {
        kernel: [3, 3],
        stride: [2, 2],
        padding: [1, 1],
    };
    // Gradients of several windows are added up in half.
    check("max_pool", 4.0, |given| {
        max_pool2d(given.images[0].clone(), windows)
    });
    check("avg_pool", 2.0, |given| {
        avg_pool2d(given.images[0].clone(), windows, false)
    });
    check("global_avg_pool", 2.0, |given| {
        global_avg_pool(given.images[0].clone())
    });
    check("subsample", 1.0, |given| {
        subsample(given.images[0].clone(), 2, 6)
    });
    check("fork", 2.0, |given| {
        let [a, b] = fork(given.images[0].clone());
        a.mul_scalar(0.5).add(b)
    });
}

#[test]
fn moments_and_losses_are_f32() {
    for device in devices() {
        for (half, _) in HALVES {
            if !device.supports_dtype(half) {
                continue;
            }
            let device = device.clone().autodiff();
            // 3000 numbers around 100, whose squares are beyond f16, and whose mean bf16 cannot add up.
            let values: Vec<f64> = (0..3000).map(|i| 100.0 + f64::from(i % 4)).collect();
            let data = TensorData::new(values, [30, 1, 10, 10]);
            let x = Tensor::<4>::from_data(data, (&device, DType::from(half)));
            let found = batch_norm_act(x, None, None, None, 1e-5, Act::Identity);
            assert_eq!(found.mean.dtype(), DType::F32);
            assert!((numbers(found.mean)[0] - 101.5).abs() < 1e-3);
            assert!((numbers(found.variance)[0] - 1.25).abs() < 1e-3);

            let logits = leaf([4, 3], 1, (&device, half.into()));
            let classes = Tensor::<1, Int>::from_data([0, 2, 1, 2], &device);
            let losses = cross_entropy(logits.clone(), classes.clone(), 0.1, None);
            assert_eq!(losses.dtype(), DType::F32);
            let wide = cross_entropy(widen(logits.clone()), classes, 0.1, None);
            assert_eq!(numbers(losses.clone()), numbers(wide));
            let gradient = logits.grad(&losses.sum().backward()).unwrap();
            assert_eq!(gradient.dtype(), DType::from(half));
        }
    }
}

/// 256 + 1 is 256 in bf16: who adds up in half stops there.
#[test]
fn long_sums_do_not_stop() {
    for device in devices() {
        for (half, _) in HALVES {
            if !device.supports_dtype(half) {
                continue;
            }
            let to = (&device.clone().autodiff(), DType::from(half));
            let (x, w) = (
                Tensor::<4>::ones([4, 2, 32, 16], to).require_grad(),
                Tensor::<4>::ones([2, 2, 1, 1], (to.0, DType::F32)).require_grad(),
            );
            let bias = Tensor::<1>::zeros([2], (to.0, DType::F32)).require_grad();
            let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
            let y = conv2d(x, w.clone(), Some(bias.clone()), options);
            let grads = y.cast(FloatDType::F32).sum().backward();
            assert_eq!(numbers(w.grad(&grads).unwrap()), [2048.0; 4]);
            assert_eq!(numbers(bias.grad(&grads).unwrap()), [2048.0; 2]);
        }
    }
}

#[test]
fn the_precision_decides_what_f32_becomes() {
    let device = Device::flex();
    let (x, w) = (
        Tensor::<4>::ones([1, 3, 4, 4], &device),
        Tensor::<4>::ones([2, 3, 3, 3], &device),
    );
    let of = |precision: Precision, x: &Tensor<4>| {
        precision.during(|| conv2d(x.clone(), w.clone(), None, same_size()).dtype())
    };
    assert_eq!(of(Precision::F32, &x), DType::F32);
    // The CPU's own kernels: half products, f32 between operations.
    assert_eq!(of(Precision::Bf16, &x), DType::F32);
    assert_eq!(of(Precision::F16, &x), DType::F16);
    // What is half already decides itself.
    let half = x.clone().cast(FloatDType::BF16);
    assert_eq!(of(Precision::F32, &half), DType::BF16);
    // f64 is somebody's reference.
    let (x, w) = (x.cast(FloatDType::F64), w.clone().cast(FloatDType::F64));
    let y = Precision::F16.during(|| conv2d(x, w, None, same_size()));
    assert_eq!(y.dtype(), DType::F64);
    assert!(Precision::of(&device).contains(&Precision::F16));
    #[cfg(feature = "ndarray")]
    #[allow(deprecated, reason = "kept for comparison")]
    {
        assert_eq!(Precision::of(&Device::ndarray()), [Precision::F32]);
    }
}
