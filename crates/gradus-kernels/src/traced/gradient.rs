//! Gradients, each under the number of its forward call.

use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::Shape;

use super::{abs, argument, around, entering, magnitude, slope, times};
use crate::cpu::activation::Act;
use crate::fallback::norm::{mean, reciprocal_deviation, spread, widened};
use crate::fallback::{sum_positions, wide};
use crate::kernels::{
    ChannelGradients, ChannelMap, Convolution, Kernels, LinearState, Moments, Windows,
};
use crate::trace::Call;

/// Derivatives of activations are below this.
const STEEPEST: f64 = 1.2;

pub(crate) fn convolve_input<B: Kernels>(
    call: Call,
    x: Shape,
    weight: FloatTensor<B>,
    dy: FloatTensor<B>,
    how: &Convolution,
) -> FloatTensor<B> {
    if !call.is_heard() {
        return B::convolve_input_gradient(x, weight, dy, how);
    }
    let dy = call.enter::<B>("conv2d_input_gradient", "dy", dy);
    let dx = B::convolve_input_gradient(x.clone(), weight.clone(), dy.clone(), how);
    let channels = weight.shape()[1].max(1) * how.options.groups;
    let count = weight.shape().num_elements() / channels;
    call.show::<B>("conv2d_input_gradient", "input", dx, || {
        let dy = around::<B>(dy, &weight.shape().to_vec()[2..], how);
        let sum = B::convolve_input_gradient(x, abs::<B>(weight), dy, how);
        (sum, count)
    })
}

pub(crate) fn convolve_weight<B: Kernels>(
    call: Call,
    x: FloatTensor<B>,
    weight: Shape,
    dy: FloatTensor<B>,
    how: &Convolution,
) -> FloatTensor<B> {
    if !call.is_heard() {
        return B::convolve_weight_gradient(x, weight, dy, how);
    }
    let x = call.enter::<B>("conv2d_weight_gradient", "x", x);
    let dy = call.enter::<B>("conv2d_weight_gradient", "dy", dy);
    let dw = B::convolve_weight_gradient(x.clone(), weight.clone(), dy.clone(), how);
    let count = dy.shape().num_elements() / dy.shape()[1];
    call.show::<B>("conv2d_weight_gradient", "weight", dw, || {
        let kernel = weight.to_vec()[2..].to_vec();
        let sum = B::convolve_weight_gradient(abs::<B>(x), weight, abs::<B>(dy), how);
        (around::<B>(sum, &kernel, how), count)
    })
}

pub(crate) fn sum_positions_of<B: Kernels>(call: Call, dy: FloatTensor<B>) -> FloatTensor<B> {
    if !call.is_heard() {
        return B::sum_positions(dy);
    }
    let dy = call.enter::<B>("sum_positions", "dy", dy);
    let db = B::sum_positions(dy.clone());
    let count = dy.shape().num_elements() / dy.shape()[1];
    call.show::<B>("sum_positions", "bias", db, || {
        (sum_positions::<B>(abs::<B>(dy)), count)
    })
}

pub(crate) fn normalise<B: Kernels>(
    call: Call,
    map: ChannelMap<B>,
    moments: Moments<B>,
    epsilon: f64,
    dy: FloatTensor<B>,
    of_residual: bool,
) -> ChannelGradients<B> {
    if !call.is_heard() {
        return B::normalise_gradient(map, moments, epsilon, dy, of_residual);
    }
    let map = entering("batch_norm_gradient", call, map);
    let dy = call.enter::<B>("batch_norm_gradient", "dy", dy);
    let found = B::normalise_gradient(
        map.clone(),
        moments.clone(),
        epsilon,
        dy.clone(),
        of_residual,
    );
    let (map, dy) = (widened(map), wide::<B>(dy));
    let rho = spread::<B>(reciprocal_deviation::<B>(moments.variance, epsilon));
    let mu = spread::<B>(moments.mean);
    let act = map.act;
    let gamma = abs::<B>(map.scale.clone());
    // x̂ and how much was subtracted for it.
    let normal = ChannelMap {
        x: B::float_mul(B::float_sub(map.x.clone(), mu.clone()), rho.clone()),
        ..map.clone()
    };
    let far = B::float_mul(B::float_add(abs::<B>(map.x), abs::<B>(mu)), rho.clone());
    let terms = ChannelMap {
        x: far.clone(),
        ..magnitude(&normal)
    };
    let bounds = Bounds {
        argument: argument(&normal),
        terms: argument(&terms),
        far,
        dy,
        act,
    };
    show_gradients(call, "batch_norm_gradient", found, &bounds, |d, far| {
        // |γ|ρ(d + mean d + x̂·mean(d·x̂)).
        let product = mean::<B>(B::float_mul(d.clone(), far.clone()));
        let along = B::float_mul(far, product);
        let sum = B::float_add(B::float_add(d.clone(), mean::<B>(d)), along);
        B::float_mul(sum, B::float_mul(spread::<B>(gamma), rho))
    })
}

pub(crate) fn scale_shift<B: Kernels>(
    call: Call,
    map: ChannelMap<B>,
    dy: FloatTensor<B>,
    of_residual: bool,
) -> ChannelGradients<B> {
    if !call.is_heard() {
        return B::scale_shift_gradient(map, dy, of_residual);
    }
    let map = entering("scale_shift_gradient", call, map);
    let dy = call.enter::<B>("scale_shift_gradient", "dy", dy);
    let found = B::scale_shift_gradient(map.clone(), dy.clone(), of_residual);
    let (map, dy) = (widened(map), wide::<B>(dy));
    let terms = magnitude(&map);
    let bounds = Bounds {
        argument: argument(&map),
        terms: argument(&terms),
        far: terms.x,
        dy,
        act: map.act,
    };
    let scale = spread::<B>(terms.scale);
    show_gradients(call, "scale_shift_gradient", found, &bounds, |d, _| {
        B::float_mul(d, scale)
    })
}

/// What the rounding of a channel map's gradients depends on.
struct Bounds<B: Kernels> {
    /// z, the argument of the activation.
    argument: FloatTensor<B>,
    /// What was added up for it.
    terms: FloatTensor<B>,
    /// What was added up for the factor of the scale: x, or x̂.
    far: FloatTensor<B>,
    dy: FloatTensor<B>,
    act: Act,
}

/// Shows the gradients of a channel map; `input` gives the terms of ∂L/∂x from those of ∂L/∂z.
fn show_gradients<B: Kernels>(
    call: Call,
    operation: &'static str,
    found: ChannelGradients<B>,
    bounds: &Bounds<B>,
    input: impl FnOnce(FloatTensor<B>, FloatTensor<B>) -> FloatTensor<B>,
) -> ChannelGradients<B> {
    let count = bounds.dy.shape().num_elements() / bounds.dy.shape()[1];
    let d = || {
        let (z, terms) = (bounds.argument.clone(), bounds.terms.clone());
        slope::<B>(z, terms, bounds.dy.clone(), bounds.act, count)
    };
    let far = || bounds.far.clone();
    ChannelGradients {
        x: call.show::<B>(operation, "input", found.x, || (input(d(), far()), count)),
        scale: call.show::<B>(operation, "gamma", found.scale, || {
            (sum_positions::<B>(B::float_mul(d(), far())), count)
        }),
        shift: call.show::<B>(operation, "beta", found.shift, || {
            (sum_positions::<B>(d()), count)
        }),
        residual: found
            .residual
            .map(|found| call.show::<B>(operation, "residual", found, || (d(), count))),
    }
}

pub(crate) fn activate<B: Kernels>(
    call: Call,
    x: FloatTensor<B>,
    dy: FloatTensor<B>,
    act: Act,
) -> FloatTensor<B> {
    if !call.is_heard() {
        return B::activate_gradient(x, dy, act);
    }
    let x = call.enter::<B>("activation_gradient", "x", x);
    let dy = call.enter::<B>("activation_gradient", "dy", dy);
    let dx = B::activate_gradient(x.clone(), dy.clone(), act);
    call.show::<B>("activation_gradient", "input", dx, || {
        let count = 16;
        let jumps = slope::<B>(x.clone(), abs::<B>(x), dy.clone(), act, count);
        (
            B::float_add(jumps, times::<B>(abs::<B>(dy), STEEPEST)),
            count,
        )
    })
}

pub(crate) fn max_pooled<B: Kernels>(
    call: Call,
    x: Shape,
    index: IntTensor<B>,
    dy: FloatTensor<B>,
    windows: Windows,
) -> FloatTensor<B> {
    if !call.is_heard() {
        return B::max_pooled_gradient(x, index, dy, windows);
    }
    let dy = call.enter::<B>("max_pool_gradient", "dy", dy);
    let dx = B::max_pooled_gradient(x.clone(), index.clone(), dy.clone(), windows);
    let count = windows.kernel.iter().product();
    call.show::<B>("max_pool_gradient", "input", dx, || {
        (
            B::max_pooled_gradient(x, index, abs::<B>(dy), windows),
            count,
        )
    })
}

pub(crate) fn avg_pooled<B: Kernels>(
    call: Call,
    x: Shape,
    dy: FloatTensor<B>,
    windows: Windows,
    count_padding: bool,
) -> FloatTensor<B> {
    if !call.is_heard() {
        return B::avg_pooled_gradient(x, dy, windows, count_padding);
    }
    let dy = call.enter::<B>("avg_pool_gradient", "dy", dy);
    let dx = B::avg_pooled_gradient(x.clone(), dy.clone(), windows, count_padding);
    let count = windows.kernel.iter().product();
    call.show::<B>("avg_pool_gradient", "input", dx, || {
        (
            B::avg_pooled_gradient(x, abs::<B>(dy), windows, count_padding),
            count,
        )
    })
}

pub(crate) fn image_mean<B: Kernels>(call: Call, x: Shape, dy: FloatTensor<B>) -> FloatTensor<B> {
    if !call.is_heard() {
        return B::image_mean_gradient(x, dy);
    }
    let dy = call.enter::<B>("global_avg_pool_gradient", "dy", dy);
    let dx = B::image_mean_gradient(x, dy);
    call.show::<B>("global_avg_pool_gradient", "input", dx.clone(), || {
        (abs::<B>(dx), 2)
    })
}

pub(crate) fn subsampled<B: Kernels>(
    call: Call,
    x: Shape,
    dy: FloatTensor<B>,
    stride: usize,
) -> FloatTensor<B> {
    if !call.is_heard() {
        return B::subsampled_gradient(x, dy, stride);
    }
    let dy = call.enter::<B>("subsample_gradient", "dy", dy);
    let dx = B::subsampled_gradient(x, dy, stride);
    call.show::<B>("subsample_gradient", "input", dx.clone(), || {
        (abs::<B>(dx), 1)
    })
}

/// ∂L/∂s = dy·∂ℓ/∂s, row by row.
pub(crate) fn cross_entropy<B: Kernels>(
    call: Call,
    gradient: FloatTensor<B>,
    dy: FloatTensor<B>,
) -> FloatTensor<B> {
    let rows = dy.shape()[0];
    let dy = match call.is_heard() {
        true => call.enter::<B>("cross_entropy_gradient", "dy", dy),
        false => dy,
    };
    let ds = B::float_mul(gradient, B::float_reshape(dy, Shape::from([rows, 1])));
    if !call.is_heard() {
        return ds;
    }
    call.show::<B>("cross_entropy_gradient", "input", ds.clone(), || {
        (abs::<B>(ds), 4)
    })
}

pub(crate) fn linear_act<B: Kernels>(
    call: Call,
    state: LinearState<B>,
    dy: FloatTensor<B>,
    of_bias: bool,
) -> [Option<FloatTensor<B>>; 3] {
    if !call.is_heard() {
        return B::linear_act_gradient(state, dy, of_bias);
    }
    let dy = call.enter::<B>("linear_gradient", "dy", dy);
    let state = LinearState {
        x: (state.x).map(|x| call.enter::<B>("linear_gradient", "x", x)),
        ..state
    };
    let [batch, outputs] = [dy.shape()[0], dy.shape()[1]];
    let sums = || {
        let state = LinearState {
            x: state.x.clone().map(abs::<B>),
            weight: state.weight.clone().map(abs::<B>),
            z: None,
            act: Act::Identity,
        };
        let dz = times::<B>(abs::<B>(dy.clone()), STEEPEST);
        B::linear_act_gradient(state, dz, of_bias)
    };
    let found = B::linear_act_gradient(state.clone(), dy.clone(), of_bias);
    let names = [("input", outputs), ("weight", batch), ("bias", batch)];
    let mut place = 0;
    found.map(|found| {
        let ((output, count), at) = (names[place], place);
        place += 1;
        let found = found?;
        let like = found.clone();
        Some(call.show::<B>("linear_gradient", output, found, || {
            // A gradient that was found has its sum.
            let sum = sums()[at].take().unwrap_or(like);
            (sum, count + 2)
        }))
    })
}

/// a + b, the gradients of the two readers of one tensor.
pub(crate) fn sum_of<B: Kernels>(
    call: Call,
    a: FloatTensor<B>,
    b: FloatTensor<B>,
) -> FloatTensor<B> {
    if !call.is_heard() {
        return B::sum_of(a, b);
    }
    let sum = B::sum_of(a.clone(), b.clone());
    call.show::<B>("sum_of", "input", sum, || {
        (B::float_add(abs::<B>(a), abs::<B>(b)), 4)
    })
}
