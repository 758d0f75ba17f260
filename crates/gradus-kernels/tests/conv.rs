//! Convolution and its gradients against the sums in the formula, in f64.
#![cfg(feature = "flex")]

use gradus_kernels::cpu::conv::{
    ConvShape, Images, Precision, forward, forward_in, input_gradient, input_gradient_in,
    weight_gradient, weight_gradient_in,
};
use proptest::prelude::*;

mod reference;

/// Numbers in −1…1 that depend on the place alone.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Every product of the sum: places in channels-last x, in the weights and in y.
fn each(shape: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    let out = shape.out_size();
    let channels = shape.in_channels / shape.groups;
    let filters = shape.out_channels / shape.groups;
    let [kh, kw] = shape.kernel;
    let inside = |d: usize, at: usize, tap: usize| {
        (at * shape.stride[d] + tap * shape.dilation[d])
            .checked_sub(shape.padding[d])
            .filter(|p| *p < shape.size[d])
    };
    for n in 0..shape.batch {
        for (i, j) in (0..out[0] * out[1]).map(|p| (p / out[1], p % out[1])) {
            for (u, v) in (0..kh * kw).map(|t| (t / kw, t % kw)) {
                let (Some(h), Some(w)) = (inside(0, i, u), inside(1, j, v)) else {
                    continue;
                };
                let x = ((n * shape.size[0] + h) * shape.size[1] + w) * shape.in_channels;
                let y = ((n * out[0] + i) * out[1] + j) * shape.out_channels;
                for k in 0..shape.out_channels {
                    for c in 0..channels {
                        let weight = ((k * channels + c) * kh + u) * kw + v;
                        f(x + k / filters * channels + c, weight, y + k);
                    }
                }
            }
        }
    }
}

fn strides(last: bool, [h, w]: [usize; 2], channels: usize) -> [usize; 4] {
    if last {
        [h * w * channels, w * channels, channels, 1]
    } else {
        [h * w * channels, w, 1, h * w]
    }
}

/// Channels-last numbers in another layout.
fn lay_out(x: &[f32], strides: [usize; 4], size: [usize; 2], channels: usize) -> Vec<f32> {
    let mut to = vec![0.0; x.len()];
    for (at, value) in x.iter().enumerate() {
        let (c, w) = (at % channels, at / channels % size[1]);
        let (h, n) = (
            at / channels / size[1] % size[0],
            at / channels / size[1] / size[0],
        );
        to[n * strides[0] + h * strides[1] + w * strides[2] + c * strides[3]] = *value;
    }
    to
}

/// Rounding of a sum of `terms` products of numbers up to 1; Winograd's method, which is for 3×3 with
/// stride 1, adds and subtracts larger terms.
fn close(found: &[f32], expected: &[f64], terms: usize, what: &str, shape: &ConvShape) {
    let unit = if (shape.kernel, shape.stride) == ([3, 3], [1, 1]) {
        8e-6
    } else {
        4e-6
    };
    let bound = unit * (terms as f64).sqrt().max(1.0);
    for (at, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(*f) - e).abs() <= bound * e.abs().max(1.0),
            "{what} at {at}: {f} instead of {e}; {shape:?}"
        );
    }
}

fn check(shape: &ConvShape, last: bool, bias: bool) {
    let out = shape.out_size();
    let channels = shape.in_channels / shape.groups;
    let inputs = shape.batch * shape.size[0] * shape.size[1] * shape.in_channels;
    let outputs = shape.batch * out[0] * out[1] * shape.out_channels;
    let weights = shape.out_channels * channels * shape.kernel[0] * shape.kernel[1];
    let (x, w, dy) = (numbers(inputs, 1), numbers(weights, 2), numbers(outputs, 3));
    let bias = bias.then(|| numbers(shape.out_channels, 4));

    let mut y64 = vec![0.0f64; outputs];
    for (at, y) in y64.iter_mut().enumerate() {
        *y = bias
            .as_ref()
            .map_or(0.0, |b| f64::from(b[at % shape.out_channels]));
    }
    let (mut dx64, mut dw64) = (vec![0.0f64; inputs], vec![0.0f64; weights]);
    each(shape, |i, j, k| {
        y64[k] += f64::from(x[i]) * f64::from(w[j]);
        dx64[i] += f64::from(dy[k]) * f64::from(w[j]);
        dw64[j] += f64::from(x[i]) * f64::from(dy[k]);
    });

    let x_strides = strides(last, shape.size, shape.in_channels);
    let dy_strides = strides(last, out, shape.out_channels);
    let x = lay_out(&x, x_strides, shape.size, shape.in_channels);
    let dy = lay_out(&dy, dy_strides, out, shape.out_channels);
    let x = Images {
        data: &x,
        strides: x_strides,
    };
    let dy = Images {
        data: &dy,
        strides: dy_strides,
    };
    let per_filter = channels * shape.kernel[0] * shape.kernel[1];
    // What was in the results before must not matter.
    let mut y = vec![f32::NAN; outputs];
    forward(shape, x, &w, bias.as_deref(), &mut y);
    close(&y, &y64, per_filter, "y", shape);
    let mut dx = vec![f32::NAN; inputs];
    input_gradient(shape, dy, &w, &mut dx);
    let terms = per_filter * shape.out_channels / shape.in_channels;
    close(&dx, &dx64, terms, "dx", shape);
    let mut dw = vec![f32::NAN; weights];
    weight_gradient(shape, x, dy, &mut dw);
    close(&dw, &dw64, shape.batch * out[0] * out[1], "dw", shape);
}

const BASE: ConvShape = ConvShape {
    batch: 2,
    size: [32, 32],
    in_channels: 3,
    out_channels: 32,
    kernel: [3, 3],
    stride: [1, 1],
    padding: [1, 1],
    dilation: [1, 1],
    groups: 1,
};

prop_compose! {
    fn shapes()(
        batch in 1usize..4,
        size in [1usize..12, 1usize..12],
        channels in prop::sample::select(vec![1usize, 2, 3, 8, 16, 17, 24, 33]),
        filters in prop::sample::select(vec![1usize, 3, 8, 10, 16, 17, 32, 40, 64, 70]),
        kernel in [1usize..5, 1usize..5],
        stride in [1usize..4, 1usize..4],
        padding in [0usize..4, 0usize..4],
        dilation in [1usize..3, 1usize..3],
        groups in prop::sample::select(vec![1usize, 1, 1, 2, 3]),
    ) -> ConvShape {
        let (in_channels, out_channels) = (channels * groups, filters * groups);
        ConvShape {
            batch, size, in_channels, out_channels, kernel, stride, padding, dilation, groups,
        }
    }
}

proptest! {
    #![proptest_config(reference::cases(300))]
    #[test]
    fn sums_of_the_formula(shape in shapes(), last: bool, bias: bool) {
        let fits = (0..2).all(|d| shape.size[d] + 2 * shape.padding[d] >= shape.span()[d]);
        prop_assume!(fits);
        check(&shape, last, bias);
    }
}

proptest! {
    #![proptest_config(reference::cases(150))]
    /// A filter for each channel: another kernel.
    #[test]
    fn depthwise_sums_of_the_formula(
        base in shapes(),
        channels in prop::sample::select(vec![2usize, 3, 8, 15, 16, 17, 33, 64, 70]),
        last: bool,
        bias: bool,
    ) {
        let shape = ConvShape {
            in_channels: channels,
            out_channels: channels,
            groups: channels,
            ..base
        };
        let fits = (0..2).all(|d| shape.size[d] + 2 * shape.padding[d] >= shape.span()[d]);
        prop_assume!(fits);
        check(&shape, last, bias);
    }
}

/// 3×3 with padding 1 as in every network here, and whitening, shortcuts, depthwise, a large image.
#[test]
#[cfg_attr(miri, ignore = "too large")]
fn shapes_of_networks() {
    let shape = |size: usize, channels: [usize; 2], batch: usize| ConvShape {
        batch,
        size: [size, size],
        in_channels: channels[0],
        out_channels: channels[1],
        ..BASE
    };
    for shape in [
        BASE,
        ConvShape {
            kernel: [2, 2],
            padding: [0, 0],
            out_channels: 24,
            ..BASE
        },
        shape(31, [24, 64], 2),
        shape(16, [64, 64], 5),
        shape(8, [128, 128], 19),
        shape(7, [64, 256], 17),
        shape(3, [256, 256], 33),
        ConvShape {
            stride: [2, 2],
            ..shape(32, [16, 32], 2)
        },
        ConvShape {
            stride: [2, 2],
            kernel: [1, 1],
            padding: [0, 0],
            ..shape(32, [16, 32], 2)
        },
        ConvShape {
            groups: 32,
            ..shape(9, [32, 32], 2)
        },
        shape(90, [48, 20], 1),
    ] {
        check(&shape, true, true);
    }
}

/// Small whole numbers and all that is made of them on the way fit in 8 bits: bf16 loses nothing. Of
/// other numbers it keeps 8 bits, so there is a difference to be seen.
#[test]
#[cfg_attr(miri, ignore = "too large")]
fn products_of_bf16() {
    let shape = ConvShape {
        batch: 3,
        size: [13, 10],
        in_channels: 65,
        out_channels: 70,
        ..BASE
    };
    let (inputs, outputs) = (3 * 130 * 65, 3 * 130 * 70);
    let run = |x: &[f32], w: &[f32], dy: &[f32], precision| {
        let x = Images {
            data: x,
            strides: strides(true, shape.size, 65),
        };
        let dy = Images {
            data: dy,
            strides: strides(true, shape.size, 70),
        };
        let (mut y, mut dx) = (vec![0.0f32; outputs], vec![0.0f32; inputs]);
        let mut dw = vec![0.0f32; w.len()];
        forward_in(precision, &shape, x, w, None, &mut y);
        input_gradient_in(precision, &shape, dy, w, &mut dx);
        weight_gradient_in(precision, &shape, x, dy, &mut dw);
        [y, dx, dw]
    };
    let (x, w) = (numbers(inputs, 8), numbers(70 * 65 * 9, 9));
    let dy = numbers(outputs, 10);
    let whole = |x: &[f32], unit: f32| x.iter().map(|x| (x * 2.0).round() * unit).collect();
    let (x2, w2, dy2): (Vec<f32>, Vec<f32>, Vec<f32>) =
        (whole(&x, 1.0), whole(&w, 2.0), whole(&dy, 1.0));
    let [y64, dx64, dw64] = {
        let mut sums = [
            vec![0.0f64; outputs],
            vec![0.0f64; inputs],
            vec![0.0f64; w.len()],
        ];
        each(&shape, |i, j, k| {
            sums[0][k] += f64::from(x2[i]) * f64::from(w2[j]);
            sums[1][i] += f64::from(dy2[k]) * f64::from(w2[j]);
            sums[2][j] += f64::from(x2[i]) * f64::from(dy2[k]);
        });
        sums
    };
    let exact = run(&x2, &w2, &dy2, Precision::Bf16);
    for (found, expected) in exact.iter().zip([&y64, &dx64, &dw64]) {
        assert!(found.iter().zip(expected).all(|(f, e)| f64::from(*f) == *e));
    }
    let (rough, fine) = (
        run(&x, &w, &dy, Precision::Bf16),
        run(&x, &w, &dy, Precision::F32),
    );
    for (rough, fine) in rough.iter().zip(&fine) {
        let square = |x: f32| f64::from(x) * f64::from(x);
        let error: f64 = rough.iter().zip(fine).map(|(r, f)| square(r - f)).sum();
        let size: f64 = fine.iter().map(|f| square(*f)).sum();
        let relative = (error / size).sqrt();
        assert!((1e-3..1e-2).contains(&relative), "{relative}");
    }
}

/// The same bits whatever the number of threads.
#[test]
fn bits_do_not_depend_on_threads() {
    let shape = ConvShape {
        batch: 21,
        size: [9, 11],
        in_channels: 20,
        out_channels: 37,
        ..BASE
    };
    if !cfg!(miri) {
        same_bits(&shape);
    }
    let small = if cfg!(miri) { 2 } else { 21 };
    same_bits(&ConvShape {
        batch: small,
        out_channels: 20,
        groups: 20,
        ..shape
    });
    // One image of one tile: fewer tiles than pieces, more tasks than either.
    same_bits(&ConvShape {
        batch: 1,
        size: [2, 3],
        ..shape
    });
}

fn same_bits(shape: &ConvShape) {
    let (c, k) = (shape.in_channels, shape.out_channels);
    let pixels = shape.batch * shape.size[0] * shape.size[1];
    let (inputs, outputs) = (pixels * c, pixels * k);
    let (x, w, dy) = (
        numbers(inputs, 5),
        numbers(k * c / shape.groups * 9, 6),
        numbers(outputs, 7),
    );
    let mut seen: Option<Vec<u32>> = None;
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        let bits = pool.install(|| {
            let (mut y, mut dx) = (vec![0.0f32; outputs], vec![0.0f32; inputs]);
            let mut dw = vec![0.0f32; w.len()];
            let x = Images {
                data: &x,
                strides: strides(true, shape.size, c),
            };
            let dy = Images {
                data: &dy,
                strides: strides(true, shape.size, k),
            };
            forward(shape, x, &w, None, &mut y);
            input_gradient(shape, dy, &w, &mut dx);
            weight_gradient(shape, x, dy, &mut dw);
            let all = y.iter().chain(&dx).chain(&dw);
            all.map(|v| v.to_bits()).collect::<Vec<_>>()
        });
        assert!(
            seen.get_or_insert_with(|| bits.clone()) == &bits,
            "{threads} threads"
        );
    }
}
