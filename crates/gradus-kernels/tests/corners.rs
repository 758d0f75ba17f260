//! The edges of what the operations take: empty batches, images of one pixel, sizes that do not fit.

#![cfg(feature = "flex")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Int, Tensor};
use common::{numbers, tensor};
use gradus_kernels::cpu::conv::{self, ConvShape, Images};
use gradus_kernels::{
    Act, Precision, Windows, activation, avg_pool2d, batch_norm_act, conv2d, cross_entropy, fork,
    global_avg_pool, linear, max_pool2d, scale_shift_act, subsample,
};

fn tape() -> Device {
    Device::flex().autodiff()
}

fn options(groups: usize) -> ConvOptions<2> {
    ConvOptions::new([1, 1], [1, 1], [1, 1], groups)
}

const WINDOWS: Windows = Windows {
    kernel: [2, 2],
    stride: [2, 2],
    padding: [0, 0],
};

/// Every operation on a batch of `n` images, one after the other: y, and the gradients to x and to
/// what has the sizes of the layers.
fn through_everything(n: usize, side: usize) -> Vec<Vec<f32>> {
    let device = tape();
    let x = tensor([n, 3, side, side], 1, &device).require_grad();
    let w = tensor([4, 3, 3, 3], 2, &device).require_grad();
    let b = tensor([4], 3, &device).require_grad();
    let gamma = tensor([4], 4, &device).require_grad();
    let head = tensor([6, 5], 5, &device).require_grad();
    let y = conv2d(x.clone(), w.clone(), Some(b.clone()), options(1));
    let y = scale_shift_act(y, gamma.clone(), b.clone(), None, Act::Silu);
    let [y, around] = fork(y);
    let y = activation(y, Act::Gelu) + around;
    let y = if side > 1 {
        max_pool2d(y, WINDOWS) + avg_pool2d(tensor([n, 4, side, side], 6, &device), WINDOWS, true)
    } else {
        y
    };
    let y = linear(
        global_avg_pool(subsample(y, 2, 6)),
        head.clone(),
        None,
        Act::Relu,
    );
    let classes = Tensor::<1, Int>::zeros([n], &device);
    let loss = cross_entropy(y.clone(), classes, 0.1, None);
    assert_eq!((y.dims(), loss.dims()), ([n, 5], [n]));
    let grads = loss.sum().backward();
    vec![
        numbers(y),
        numbers(x.grad(&grads).unwrap()),
        numbers(w.grad(&grads).unwrap()),
        numbers(b.grad(&grads).unwrap()),
        numbers(gamma.grad(&grads).unwrap()),
        numbers(head.grad(&grads).unwrap()),
    ]
}

#[test]
fn a_batch_of_nothing_has_gradients_of_zero() {
    let found = through_everything(0, 8);
    let sizes: Vec<usize> = found.iter().map(Vec::len).collect();
    assert_eq!(sizes, [0, 0, 108, 4, 4, 30]);
    assert!(found.iter().flatten().all(|g| *g == 0.0));
    let y = batch_norm_act(
        tensor([0, 4, 3, 3], 1, &tape()),
        None,
        None,
        None,
        1e-5,
        Act::Relu,
    );
    assert_eq!(y.output.dims(), [0, 4, 3, 3]);
}

/// One after the other or together: an image does not see its neighbours.
#[test]
fn images_of_one_pixel_and_batches_of_one() {
    for side in [1, 2, 7] {
        let [one, three] = [1, 3].map(|n| through_everything(n, side));
        for found in one.iter().chain(&three) {
            assert!(found.iter().all(|x| x.is_finite()));
        }
        let first = |all: &[Vec<f32>], i: usize, len: usize| all[i][..len].to_vec();
        assert_eq!(first(&one, 0, 5), first(&three, 0, 5), "side {side}");
        let pixels = 3 * side * side;
        assert_eq!(first(&one, 1, pixels), first(&three, 1, pixels));
    }
}

fn refused(what: &str, expected: &str, f: impl FnOnce()) {
    let error = catch_unwind(AssertUnwindSafe(f)).expect_err(what);
    let text = error.downcast_ref::<String>().map_or_else(
        || (*error.downcast_ref::<&str>().unwrap()).to_owned(),
        Clone::clone,
    );
    assert!(text.contains(expected), "{what}: {text}");
}

#[test]
fn convolutions_that_are_none_are_refused() {
    let conv = |x: [usize; 4], w: [usize; 4], bias: Option<usize>, how: ConvOptions<2>| {
        let device = Device::flex();
        let bias = bias.map(|n| tensor([n], 3, &device));
        drop(conv2d(
            tensor(x, 1, &device),
            tensor(w, 2, &device),
            bias,
            how,
        ));
    };
    // Its fields are open, whatever `new` refuses.
    let with = |stride, dilation, groups| ConvOptions {
        stride,
        dilation,
        groups,
        ..options(1)
    };
    refused("no filters", "at least one of each", || {
        conv([2, 3, 8, 8], [0, 3, 3, 3], None, options(1));
    });
    refused("no channels", "at least one of each", || {
        conv([2, 0, 8, 8], [4, 0, 3, 3], None, options(1));
    });
    refused("groups", "in 3 groups", || {
        conv([2, 4, 8, 8], [6, 1, 3, 3], None, options(3));
    });
    refused("no group", "in 0 groups", || {
        conv([2, 4, 8, 8], [6, 4, 3, 3], None, with([1, 1], [1, 1], 0));
    });
    refused("biases", "one bias for each filter", || {
        conv([2, 3, 8, 8], [4, 3, 3, 3], Some(5), options(1));
    });
    refused("a step of 0", "at least 1", || {
        conv([2, 3, 8, 8], [4, 3, 3, 3], None, with([0, 1], [1, 1], 1));
    });
    refused("taps on one place", "at least 1", || {
        conv([2, 3, 8, 8], [4, 3, 3, 3], None, with([1, 1], [1, 0], 1));
    });
    refused("an empty kernel", "at least 1", || {
        conv([2, 3, 8, 8], [4, 3, 3, 0], None, options(1));
    });
}

/// Slices of the wrong length, also where the product of the sizes is more than a number holds, never
/// reach the loops that go by address.
#[test]
fn sizes_that_wrap_around_are_refused() {
    let base = ConvShape {
        batch: 2,
        size: [4, 4],
        in_channels: 16,
        out_channels: 16,
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1, 1],
        dilation: [1, 1],
        groups: 1,
    };
    let x = vec![0.0; 2 * 16 * 16];
    let w = vec![0.0; 16 * 16 * 9];
    let run = |shape: ConvShape, strides: [usize; 4], outputs: usize| {
        let mut y = vec![0.0; outputs];
        let x = Images { data: &x, strides };
        conv::forward(&shape, x, &w, None, &mut y);
    };
    let strides = [256, 64, 16, 1];
    run(base, strides, 512);
    refused("another result", "result", || run(base, strides, 511));
    let half = 1 << 63;
    refused("strides that wrap", "images", || {
        run(ConvShape { batch: 3, ..base }, [half, 64, 16, 1], 768);
    });
    refused("a batch that wraps", "result", || {
        run(
            ConvShape {
                batch: 1 << 60,
                ..base
            },
            strides,
            0,
        );
    });
    refused("a kernel larger than the image", "does not fit", || {
        run(
            ConvShape {
                size: [4, 0],
                padding: [1, 0],
                ..base
            },
            strides,
            0,
        );
    });
    refused("a padding that wraps", "does not fit", || {
        run(
            ConvShape {
                padding: [half, 1],
                ..base
            },
            strides,
            512,
        );
    });
}

/// A window that is larger than the image, a step larger than the window, and a border as wide as half
/// of it, each as Burn has it.
#[test]
fn windows_at_the_edges() {
    use burn::tensor::module;
    use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
    let x = tensor([2, 17, 5, 4], 1, &Device::flex());
    for (kernel, stride, padding) in [
        ([4, 4], [1, 1], [2, 2]),
        ([2, 2], [5, 3], [1, 1]),
        ([7, 6], [1, 1], [3, 3]),
        ([1, 1], [3, 3], [0, 0]),
        ([5, 4], [9, 9], [0, 0]),
    ] {
        let windows = Windows {
            kernel,
            stride,
            padding,
        };
        let mut max = MaxPoolOptions::new(kernel);
        (max.stride, max.padding) = (stride, padding.map(|p| (p, p)));
        let expected = numbers(module::max_pool2d(x.clone(), max));
        assert_eq!(
            numbers(max_pool2d(x.clone(), windows)),
            expected,
            "{windows:?}"
        );
        for count in [true, false] {
            let mut average = AvgPoolOptions::new(kernel);
            (average.stride, average.count_include_pad) = (stride, count);
            average.padding = padding.map(|p| (p, p));
            let expected = numbers(module::avg_pool2d(x.clone(), average));
            let found = numbers(avg_pool2d(x.clone(), windows, count));
            common::assert_near(&found, &expected, 42, &format!("{windows:?} {count}"));
        }
    }
}

#[test]
fn a_precision_ends_with_its_code_even_by_a_panic_and_stays_on_its_thread() {
    let result = catch_unwind(|| {
        Precision::Bf16.during(|| {
            let elsewhere = std::thread::spawn(Precision::current).join().unwrap();
            assert_eq!(elsewhere, Precision::F32);
            let inner = Precision::F32.during(Precision::current);
            assert_eq!(
                (inner, Precision::current()),
                (Precision::F32, Precision::Bf16)
            );
            panic!("the end");
        })
    });
    assert!(result.is_err());
    assert_eq!(Precision::current(), Precision::F32);
}
