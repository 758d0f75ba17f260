//! `conv2d` and its gradients against Burn's own, on a grid of shapes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};
use common::{assert_near, noise, numbers, tensor};
use gradus_kernels::{conv2d, fork};

struct Case {
    x: [usize; 4],
    w: [usize; 4],
    options: ConvOptions<2>,
}

fn grid() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |n,
                    [h, v]: [usize; 2],
                    groups,
                    [c, k]: [usize; 2],
                    [kh, kw]: [usize; 2],
                    stride,
                    padding,
                    dilation| {
        cases.push(Case {
            x: [n, c * groups, h, v],
            w: [k * groups, c, kh, kw],
            options: ConvOptions::new(stride, padding, dilation, groups),
        });
    };
    for channels in [[1, 1], [3, 8], [17, 5], [16, 16], [2, 33]] {
        for (kernel, padding) in [
            ([3, 3], [1, 1]),
            ([1, 1], [0, 0]),
            ([2, 3], [2, 0]),
            ([5, 4], [3, 2]),
        ] {
            case(2, [7, 9], 1, channels, kernel, [1, 1], padding, [1, 1]);
            case(1, [8, 5], 1, channels, kernel, [2, 1], padding, [1, 1]);
            case(3, [9, 10], 1, channels, kernel, [2, 2], padding, [1, 1]);
        }
    }
    case(2, [6, 6], 3, [2, 4], [3, 3], [1, 1], [1, 1], [1, 1]);
    case(2, [6, 7], 8, [1, 1], [3, 3], [1, 1], [1, 1], [1, 1]);
    case(1, [9, 9], 2, [4, 3], [3, 2], [2, 1], [1, 2], [2, 1]);
    case(4, [16, 16], 1, [32, 64], [3, 3], [1, 1], [1, 1], [1, 1]);
    cases
}

/// y, then ∂L/∂x, ∂L/∂w, ∂L/∂b of L = Σ y·g.
fn run(
    case: &Case,
    device: &Device,
    conv: impl Fn(Tensor<4>, Tensor<4>, Option<Tensor<1>>, ConvOptions<2>) -> Tensor<4>,
    bias: bool,
) -> Vec<Vec<f32>> {
    let x = tensor(case.x, 1, device).require_grad();
    let w = tensor(case.w, 2, device).require_grad();
    let b = bias.then(|| tensor([case.w[0]], 3, device).require_grad());
    let y = conv(x.clone(), w.clone(), b.clone(), case.options.clone());
    let g = tensor(y.dims(), 4, &device.clone().inner());
    let grads = y.clone().mul(Tensor::from_inner(g)).sum().backward();
    let mut out = vec![
        numbers(y),
        numbers(x.grad(&grads).unwrap()),
        numbers(w.grad(&grads).unwrap()),
    ];
    out.extend(b.map(|b| numbers(b.grad(&grads).unwrap())));
    out
}

#[test]
#[allow(deprecated, reason = "ndarray is kept for comparison")]
fn it_agrees_with_burn() {
    for case in grid() {
        for bias in [false, true] {
            let expected = run(
                &case,
                &Device::flex().autodiff(),
                burn::tensor::module::conv2d,
                bias,
            );
            for device in [Device::flex(), Device::ndarray()] {
                let found = run(&case, &device.autodiff(), conv2d, bias);
                for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let terms = case.x[0] * case.x[2] * case.x[3] * 8 + case.w[1] * 25;
                    let what = format!("{:?} {:?} {:?} number {i}", case.x, case.w, case.options);
                    assert_near(found, expected, terms, &what);
                }
            }
        }
    }
}

#[test]
fn what_has_no_gradient_gets_none_and_the_rest_is_the_same() {
    let device = Device::flex().autodiff();
    let options = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let all = |tracked: [bool; 3]| {
        let x = tensor([2, 5, 6, 7], 1, &device).set_require_grad(tracked[0]);
        let w = tensor([4, 5, 3, 3], 2, &device).set_require_grad(tracked[1]);
        let b = tensor([4], 3, &device).set_require_grad(tracked[2]);
        let y = conv2d(x.clone(), w.clone(), Some(b.clone()), options());
        let grads = y.clone().mul(y).sum().backward();
        [
            x.grad(&grads).map(numbers),
            w.grad(&grads).map(numbers),
            b.grad(&grads).map(numbers),
        ]
    };
    let full = all([true; 3]);
    for bits in 1..8 {
        let tracked = [0, 1, 2].map(|i| bits >> i & 1 == 1);
        for ((found, full), tracked) in all(tracked).iter().zip(&full).zip(tracked) {
            let expected = if tracked { full.as_ref() } else { None };
            assert_eq!(found.as_ref(), expected);
        }
    }
}

#[test]
fn views_are_read_as_they_are_seen() {
    let device = Device::flex();
    let options = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    for c in [3, 8] {
        let x = tensor([3, c, 9, 6], 1, &device);
        let w = tensor([4, c, 3, 3], 2, &device);
        // Transposed, sliced, mirrored and repeated images, and filters seen from the other side.
        let views = [
            x.clone().permute([0, 1, 3, 2]),
            x.clone().slice([1..3, 0..c, 2..9, 1..5]),
            x.clone().flip([3]),
            x.clone().slice([0..1, 0..c]).expand([2, c, 9, 6]),
        ];
        for (i, view) in views.into_iter().enumerate() {
            let straight = Tensor::from_data(view.to_data(), &device);
            for (w, w_straight) in [
                (w.clone(), w.clone()),
                (
                    w.clone().flip([2]),
                    Tensor::from_data(w.clone().flip([2]).to_data(), &device),
                ),
            ] {
                let found = conv2d(view.clone(), w, None, options());
                let expected = conv2d(straight.clone(), w_straight, None, options());
                assert_eq!(numbers(found), numbers(expected), "{c} channels, view {i}");
            }
        }
    }
}

#[test]
fn other_numbers_go_to_burn() {
    use burn::tensor::FloatDType;
    let device = Device::flex();
    let x = tensor([1, 2, 5, 5], 1, &device).cast(FloatDType::F64);
    let w = tensor([3, 2, 3, 3], 2, &device).cast(FloatDType::F64);
    let options = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let y = conv2d(x.clone(), w.clone(), None, options());
    let expected = burn::tensor::module::conv2d(x, w, None, options());
    y.into_data().assert_eq(&expected.into_data(), true);
}

#[test]
fn both_readers_of_a_fork_count() {
    let device = Device::flex().autodiff();
    let x = tensor([2, 3, 4, 5], 1, &device).require_grad();
    let w = tensor([3, 3, 3, 3], 2, &device);
    let options = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let gradient = |split: &dyn Fn(Tensor<4>) -> [Tensor<4>; 2], both: bool| {
        // Something before the fork, as in a network.
        let z = conv2d(x.clone(), w.clone(), None, options());
        let [a, b] = split(z);
        let mut y = conv2d(a, w.clone(), None, options());
        if both {
            y = y.add(b);
        }
        let grads = y.clone().mul(y).sum().backward();
        numbers(x.grad(&grads).unwrap())
    };
    for both in [true, false] {
        let expected = gradient(&|x| [x.clone(), x], both);
        assert_near(&gradient(&fork, both), &expected, 300, "fork");
    }
    // A leaf, and a tensor without a gradient.
    let [a, b] = fork(x.clone());
    let grads = a.mul_scalar(2.0).add(b.mul_scalar(3.0)).sum().backward();
    assert!(numbers(x.grad(&grads).unwrap()).iter().all(|g| *g == 5.0));
    let plain = tensor([2, 2], 1, &Device::flex());
    let [a, b] = fork(plain);
    assert_eq!(numbers(a), noise(4, 1));
    assert_eq!(numbers(b), noise(4, 1));
}

#[test]
#[should_panic(expected = "larger than the image")]
fn a_kernel_larger_than_the_image_is_refused() {
    let device = Device::flex();
    let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
    let _ = conv2d(
        tensor([1, 1, 2, 9], 1, &device),
        tensor([1, 1, 3, 3], 2, &device),
        None,
        options,
    );
}
