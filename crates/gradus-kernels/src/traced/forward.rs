//! Forward operations.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Scalar, TensorMetadata};

use super::{abs, around, entering, magnitude, times};
use crate::cpu::activation::Act;
use crate::fallback::norm::{mean, reciprocal_deviation, spread, widened};
use crate::kernels::{ChannelMap, Convolution, CrossEntropy, Kernels, Moments, Windows};
use crate::trace::Call;

/// Elementwise formulas count as so many roundings.
const FORMULA: usize = 16;

pub(crate) fn convolve<B: Kernels>(
    call: Call,
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    how: &Convolution,
) -> FloatTensor<B> {
    if !call.is_heard() {
        return B::convolve(x, weight, bias, how);
    }
    let x = call.enter::<B>("conv2d", "x", x);
    let y = B::convolve(x.clone(), weight.clone(), bias.clone(), how);
    let count = weight.shape().num_elements() / weight.shape()[0] + 1;
    call.show::<B>("conv2d", "output", y, || {
        let bias = bias.map(abs::<B>);
        let x = around::<B>(x, &weight.shape().to_vec()[2..], how);
        (B::convolve(x, abs::<B>(weight), bias, how), count)
    })
}

pub(crate) fn normalise<B: Kernels>(
    call: Call,
    map: ChannelMap<B>,
    epsilon: f64,
) -> (FloatTensor<B>, Moments<B>) {
    if !call.is_heard() {
        return B::normalise(map, epsilon);
    }
    let map = entering("batch_norm", call, map);
    let count = map.x.shape().num_elements() / map.x.shape()[1];
    let (y, moments) = B::normalise(map.clone(), epsilon);
    let map = widened(map);
    let Moments {
        mean: mu,
        variance: v,
    } = moments;
    let flat = |x: FloatTensor<B>| B::float_reshape(x, mu.shape());
    let squares = || mean::<B>(B::float_mul(map.x.clone(), map.x.clone()));
    let y = call.show::<B>("batch_norm", "output", y, || {
        // ρ|γ|(|x| + mean |x|) + |γ·x̂|·mean(x²)/2v + |β| + |residual|: x, the error of μ, that of v.
        let map = magnitude(&map);
        let rho = spread::<B>(reciprocal_deviation::<B>(v.clone(), epsilon));
        let scale = B::float_mul(rho.clone(), spread::<B>(map.scale));
        let away = B::float_add(map.x.clone(), mean::<B>(map.x));
        let stable = B::float_add_scalar(spread::<B>(v.clone()), Scalar::Float(epsilon));
        let spoilt = times::<B>(B::float_div(squares(), stable), 0.5);
        let spoilt = B::float_add_scalar(spoilt, Scalar::Float(1.0));
        let sum = B::float_mul(away, B::float_mul(scale, spoilt));
        let sum = B::float_add(sum, spread::<B>(map.shift));
        let sum = match map.residual {
            Some(residual) => B::float_add(sum, residual),
            None => sum,
        };
        (sum, count)
    });
    let shown = Moments {
        mean: call.show::<B>("batch_norm", "mean", mu.clone(), || {
            (flat(mean::<B>(abs::<B>(map.x.clone()))), count)
        }),
        variance: call.show::<B>("batch_norm", "variance", v.clone(), || {
            (flat(squares()), count)
        }),
    };
    (y, shown)
}

pub(crate) fn scale_shift<B: Kernels>(call: Call, map: ChannelMap<B>) -> FloatTensor<B> {
    if !call.is_heard() {
        return B::scale_shift(map);
    }
    let map = entering("scale_shift", call, map);
    let y = B::scale_shift(map.clone());
    call.show::<B>("scale_shift", "output", y, || {
        (B::scale_shift(magnitude(&map)), FORMULA)
    })
}

pub(crate) fn activate<B: Kernels>(call: Call, x: FloatTensor<B>, act: Act) -> FloatTensor<B> {
    if !call.is_heard() {
        return B::activate(x, act);
    }
    let x = call.enter::<B>("activation", "x", x);
    let y = B::activate(x.clone(), act);
    call.show::<B>("activation", "output", y, || (abs::<B>(x), FORMULA))
}

pub(crate) fn max_pooled<B: Kernels>(
    call: Call,
    x: FloatTensor<B>,
    windows: Windows,
    with_index: bool,
) -> (FloatTensor<B>, Option<IntTensor<B>>) {
    if !call.is_heard() {
        return B::max_pooled(x, windows, with_index);
    }
    let x = call.enter::<B>("max_pool", "x", x);
    let (y, index) = B::max_pooled(x, windows, with_index);
    let shown = call.show::<B>("max_pool", "output", y.clone(), || (abs::<B>(y), 1));
    (shown, index)
}

pub(crate) fn avg_pooled<B: Kernels>(
    call: Call,
    x: FloatTensor<B>,
    windows: Windows,
    count_padding: bool,
) -> FloatTensor<B> {
    if !call.is_heard() {
        return B::avg_pooled(x, windows, count_padding);
    }
    let x = call.enter::<B>("avg_pool", "x", x);
    let y = B::avg_pooled(x.clone(), windows, count_padding);
    let count = windows.kernel.iter().product();
    call.show::<B>("avg_pool", "output", y, || {
        (B::avg_pooled(abs::<B>(x), windows, count_padding), count)
    })
}

pub(crate) fn image_mean<B: Kernels>(call: Call, x: FloatTensor<B>) -> FloatTensor<B> {
    if !call.is_heard() {
        return B::image_mean(x);
    }
    let x = call.enter::<B>("global_avg_pool", "x", x);
    let y = B::image_mean(x.clone());
    let count = x.shape()[2] * x.shape()[3];
    call.show::<B>("global_avg_pool", "output", y, || {
        (B::image_mean(abs::<B>(x)), count)
    })
}

pub(crate) fn subsampled<B: Kernels>(
    call: Call,
    x: FloatTensor<B>,
    stride: usize,
    channels: usize,
) -> FloatTensor<B> {
    if !call.is_heard() {
        return B::subsampled(x, stride, channels);
    }
    let x = call.enter::<B>("subsample", "x", x);
    let y = B::subsampled(x, stride, channels);
    call.show::<B>("subsample", "output", y.clone(), || (abs::<B>(y), 1))
}

pub(crate) fn cross_entropy<B: Kernels>(
    call: Call,
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    how: &CrossEntropy,
    with_gradient: bool,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    if !call.is_heard() {
        return B::cross_entropy(logits, targets, how, with_gradient);
    }
    let logits = call.enter::<B>("cross_entropy", "x", logits);
    let (loss, gradient) = B::cross_entropy(logits.clone(), targets, how, with_gradient);
    let (n, k) = (logits.shape()[0], logits.shape()[1]);
    let heaviest = how
        .class_weights
        .iter()
        .flatten()
        .fold(0.0f64, |a, b| a.max(*b));
    let heaviest = if how.class_weights.is_some() {
        heaviest
    } else {
        1.0
    };
    // 1 + 2·max |s| of each row, times the heaviest class: what log-sum-exp adds up, and by how much
    // an exponential's argument may be off.
    let size = || {
        let largest = B::float_max_dim(abs::<B>(logits.clone()), 1);
        let size = B::float_add_scalar(times::<B>(largest, 2.0), Scalar::Float(1.0));
        times::<B>(size, heaviest)
    };
    let loss = call.show::<B>("cross_entropy", "loss", loss, || {
        let log_k = heaviest * (k as f64).ln();
        let size = B::float_add_scalar(size(), Scalar::Float(log_k));
        (B::float_reshape(size, [n].into()), k + FORMULA)
    });
    let gradient = gradient.map(|gradient| {
        call.show::<B>("cross_entropy", "gradient", gradient.clone(), || {
            // p and the target p − g, each in the size of its row.
            let shifted = B::float_sub(logits.clone(), B::float_max_dim(logits.clone(), 1));
            let e = B::float_exp(shifted);
            let p = B::float_div(e.clone(), B::float_sum_dim(e, 1));
            let target = abs::<B>(B::float_sub(p.clone(), gradient));
            let sum = B::float_mul(B::float_add(p, target), size());
            (sum, k + FORMULA)
        })
    });
    (loss, gradient)
}

pub(crate) fn linear_act<B: Kernels>(
    call: Call,
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    act: Act,
    with_z: bool,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    if !call.is_heard() {
        return B::linear_act(x, weight, bias, act, with_z);
    }
    let x = call.enter::<B>("linear", "x", x);
    let (y, z) = B::linear_act(x.clone(), weight.clone(), bias.clone(), act, with_z);
    let count = weight.shape()[0] + 1;
    let sum = || {
        let (x, weight) = (abs::<B>(x.clone()), abs::<B>(weight.clone()));
        let bias = bias.clone().map(abs::<B>);
        (
            B::linear_act(x, weight, bias, Act::Identity, false).0,
            count,
        )
    };
    let y = call.show::<B>("linear", "output", y, sum);
    let z = z.map(|z| call.show::<B>("linear", "before activation", z, sum));
    (y, z)
}
