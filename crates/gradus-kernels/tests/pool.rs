//! Pooling and subsampling, values and gradients, against Burn's own operations.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use burn::tensor::module::{avg_pool2d as burn_avg_pool2d, max_pool2d as burn_max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor};
use common::{assert_near, numbers, tensor};
use gradus_kernels::{Windows, avg_pool2d, global_avg_pool, max_pool2d, subsample};

fn windows(kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2]) -> Windows {
    Windows {
        kernel,
        stride,
        padding,
    }
}

/// y and ∂L/∂x of L = Σ y·g, for images whose order of memory is also that of other operations.
fn run<const D: usize>(
    shape: [usize; 4],
    device: &Device,
    f: impl Fn(Tensor<4>) -> Tensor<D>,
) -> [Vec<f32>; 2] {
    let x = tensor(shape, 1, device).require_grad();
    let y = f(x.clone());
    let g = Tensor::from_inner(tensor(y.dims(), 5, &device.clone().inner()));
    let grads = y.clone().mul(g).sum().backward();
    [numbers(y), numbers(x.grad(&grads).unwrap())]
}

#[allow(deprecated, reason = "ndarray is kept for comparison")]
fn compare<const D: usize>(
    shape: [usize; 4],
    what: &str,
    found: impl Fn(Tensor<4>) -> Tensor<D>,
    expected: impl Fn(Tensor<4>) -> Tensor<D>,
) {
    let expected = run(shape, &Device::flex().autodiff(), expected);
    for device in [Device::flex(), Device::ndarray()] {
        let found = run(shape, &device.autodiff(), &found);
        for (found, expected) in found.iter().zip(&expected) {
            assert_near(found, expected, 20, &format!("{what} {shape:?}"));
        }
    }
    // Off the tape the same.
    let x = tensor(shape, 1, &Device::flex());
    assert_near(&numbers(found(x)), &expected[0], 20, what);
}

const CASES: [([usize; 2], [usize; 2], [usize; 2]); 6] = [
    ([2, 2], [2, 2], [0, 0]),
    ([3, 3], [2, 2], [1, 1]),
    ([3, 2], [1, 3], [1, 0]),
    ([1, 1], [2, 2], [0, 0]),
    ([5, 4], [2, 1], [2, 2]),
    ([7, 8], [1, 1], [0, 0]),
];

#[test]
fn windows_agree_with_burn() {
    for shape in [[2, 3, 7, 9], [1, 17, 8, 8], [3, 32, 10, 12]] {
        for (kernel, stride, padding) in CASES {
            let ours = windows(kernel, stride, padding);
            let what = format!("{ours:?}");
            compare(
                shape,
                &format!("max {what}"),
                |x| max_pool2d(x, ours),
                |x| {
                    let mut options = MaxPoolOptions::new(kernel);
                    options.stride = stride;
                    options.padding = padding.map(|p| (p, p));
                    burn_max_pool2d(x, options)
                },
            );
            for count in [true, false] {
                compare(
                    shape,
                    &format!("average {count} {what}"),
                    |x| avg_pool2d(x, ours, count),
                    |x| {
                        let mut options = AvgPoolOptions::new(kernel);
                        options.stride = stride;
                        options.padding = padding.map(|p| (p, p));
                        options.count_include_pad = count;
                        burn_avg_pool2d(x, options)
                    },
                );
            }
        }
        compare(shape, "global", global_avg_pool, |x| {
            x.flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2)
        });
    }
}

#[test]
fn windows_that_need_more_than_a_byte_go_to_burn() {
    let ours = windows([17, 16], [1, 1], [0, 0]);
    compare(
        [2, 2, 17, 18],
        "large",
        |x| max_pool2d(x, ours),
        |x| {
            let mut options = MaxPoolOptions::new([17, 16]);
            options.stride = [1, 1];
            burn_max_pool2d(x, options)
        },
    );
}

#[test]
fn subsampling_takes_every_place_and_appends_zeros() {
    for shape in [[2, 3, 7, 9], [1, 16, 8, 8], [2, 5, 4, 3]] {
        for (stride, more) in [(1, 0), (2, 0), (2, 3), (3, 16), (1, 4)] {
            let channels = shape[1] + more;
            let expected = |x: Tensor<4>| {
                let mut options = AvgPoolOptions::new([1, 1]);
                options.stride = [stride, stride];
                let x = burn_avg_pool2d(x, options);
                let [n, _, h, w] = x.dims();
                if more == 0 {
                    return x;
                }
                let zeros = Tensor::zeros([n, more, h, w], &x.device());
                Tensor::cat(vec![x, zeros], 1)
            };
            let what = format!("every {stride}, {more} more");
            compare(shape, &what, |x| subsample(x, stride, channels), expected);
        }
    }
}

#[test]
#[should_panic(expected = "windows of 3 on an image of 2")]
fn a_window_larger_than_the_image_is_refused() {
    let x = tensor([1, 1, 4, 2], 1, &Device::flex());
    let _ = max_pool2d(x, windows([3, 3], [1, 1], [0, 0]));
}
