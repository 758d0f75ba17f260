//! The linear layer and its gradients against Burn's own, and what has no gradient.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use burn::tensor::{Device, Tensor};
use common::{assert_near, numbers, tensor};
use gradus_kernels::{Act, activation, linear};

type Layer = dyn Fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>) -> Tensor<2>;

/// y, then the gradients of Σ y·g for x, W and b, where they are tracked.
fn run(
    [n, c, k]: [usize; 3],
    device: &Device,
    bias: bool,
    tracked: [bool; 3],
    f: &Layer,
) -> Vec<Option<Vec<f32>>> {
    let x = tensor([n, c], 1, device).set_require_grad(tracked[0]);
    let w = tensor([c, k], 2, device).set_require_grad(tracked[1]);
    let b = bias.then(|| tensor([k], 3, device).set_require_grad(tracked[2]));
    let y = f(x.clone(), w.clone(), b.clone());
    let g = Tensor::from_inner(tensor([n, k], 4, &device.clone().inner()));
    // Something that always has a gradient, so that there is a backward pass.
    let one = Tensor::<1>::ones([1], device).require_grad();
    let grads = y.clone().mul(g).sum().add(one).backward();
    vec![
        Some(numbers(y)),
        x.grad(&grads).map(numbers),
        w.grad(&grads).map(numbers),
        b.and_then(|b| b.grad(&grads)).map(numbers),
    ]
}

#[test]
#[allow(deprecated, reason = "ndarray is kept for comparison")]
fn it_agrees_with_burn() {
    for size in [[1, 1, 1], [5, 3, 7], [33, 17, 10], [64, 128, 64]] {
        for act in [Act::Identity, Act::Relu, Act::Gelu] {
            for bias in [false, true] {
                let burn: Box<Layer> =
                    Box::new(move |x, w, b| activation(burn::tensor::module::linear(x, w, b), act));
                let ours: Box<Layer> = Box::new(move |x, w, b| linear(x, w, b, act));
                let expected = run(size, &Device::flex().autodiff(), bias, [true; 3], &burn);
                for device in [Device::flex(), Device::ndarray()] {
                    for bits in 0..8 {
                        let tracked = [0, 1, 2].map(|i| bits >> i & 1 == 1);
                        let found = run(size, &device.clone().autodiff(), bias, tracked, &ours);
                        for i in 0..4 {
                            let wanted = i == 0 || tracked[i - 1];
                            let expected = expected[i].as_ref().filter(|_| wanted);
                            match (&found[i], expected) {
                                (Some(a), Some(b)) => {
                                    let what = format!("{size:?} {act:?} {i}");
                                    assert_near(a, b, 8 * (size[0] + size[1]), &what);
                                }
                                (a, b) => assert_eq!(a.is_some(), b.is_some(), "{tracked:?} {i}"),
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn leading_dimensions_are_rows() {
    let device = Device::flex();
    let (w, b) = (tensor([5, 3], 2, &device), tensor([3], 3, &device));
    let x = tensor([2, 4, 5], 1, &device);
    let y = linear(x.clone(), w.clone(), Some(b.clone()), Act::Identity);
    assert_eq!(y.dims(), [2, 4, 3]);
    let rows = linear(
        x.clone().reshape([8, 5]),
        w.clone(),
        Some(b.clone()),
        Act::Identity,
    );
    assert_eq!(numbers(y), numbers(rows));
    let one: Tensor<1> = x.slice([0..1, 0..1, 0..5]).reshape([5]);
    assert_eq!(linear(one, w, Some(b), Act::Identity).dims(), [3]);
}

#[test]
#[should_panic(expected = "inputs of x and of the weight")]
fn sizes_that_do_not_fit_are_refused() {
    let device = Device::flex();
    let _ = linear(
        tensor([2, 3], 1, &device),
        tensor([4, 3], 2, &device),
        None,
        Act::Identity,
    );
}
