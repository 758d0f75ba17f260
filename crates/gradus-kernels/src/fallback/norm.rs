//! Normalisation with what follows it; formulas in [`crate::cpu::norm`].
//!
//! Half images are computed with in f32; y, dx and the gradient of the residual are half again, everything that
//! belongs to a channel stays f32.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Scalar, TensorMetadata};
use burn::tensor::Shape;

use super::activation::{activate, activate_gradient};
use super::{narrow, sum_positions, wide};
use crate::kernels::{ChannelGradients, ChannelMap, Moments};

/// `[C]` as `[1, C, 1, 1]`.
pub(crate) fn spread<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let channels = x.shape()[0];
    B::float_reshape(x, Shape::from([1, channels, 1, 1]))
}

/// The mean over N, H and W, as `[1, C, 1, 1]`: the positions first, then the images.
pub(crate) fn mean<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let (batch, channels) = (x.shape()[0], x.shape()[1]);
    let positions = x.shape()[2] * x.shape()[3];
    let x = B::float_reshape(x, Shape::from([batch, channels, positions]));
    let mean = B::float_mean_dim(B::float_mean_dim(x, 2), 0);
    B::float_reshape(mean, Shape::from([1, channels, 1, 1]))
}

/// ρ = 1/√(v + ε).
pub(crate) fn reciprocal_deviation<B: Backend>(
    variance: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    B::float_recip(B::float_sqrt(B::float_add_scalar(
        variance,
        Scalar::Float(epsilon),
    )))
}

/// x·scale + shift + residual.
fn before_activation<B: Backend>(
    x: FloatTensor<B>,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
    residual: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    let z = B::float_add(B::float_mul(x, scale), spread::<B>(shift));
    match residual {
        Some(residual) => B::float_add(z, residual),
        None => z,
    }
}

/// The map with images in f32 if they are half.
pub(crate) fn widened<B: Backend>(map: ChannelMap<B>) -> ChannelMap<B> {
    ChannelMap {
        x: wide::<B>(map.x),
        residual: map.residual.map(wide::<B>),
        ..map
    }
}

pub(crate) fn normalise<B: Backend>(
    map: ChannelMap<B>,
    epsilon: f64,
) -> (FloatTensor<B>, Moments<B>) {
    let (dtype, map) = (map.x.dtype(), widened(map));
    let channels = Shape::from([map.x.shape()[1]]);
    let mu = mean::<B>(map.x.clone());
    let centred = B::float_sub(map.x, mu.clone());
    let variance = mean::<B>(B::float_mul(centred.clone(), centred.clone()));
    let rho = reciprocal_deviation::<B>(variance.clone(), epsilon);
    let scale = B::float_mul(rho, spread::<B>(map.scale));
    let z = before_activation::<B>(centred, scale, map.shift, map.residual);
    let moments = Moments {
        mean: B::float_reshape(mu, channels.clone()),
        variance: B::float_reshape(variance, channels),
    };
    (narrow::<B>(activate::<B>(z, map.act), dtype), moments)
}

pub(crate) fn moments<B: Backend>(x: FloatTensor<B>) -> Moments<B> {
    let x = wide::<B>(x);
    let channels = Shape::from([x.shape()[1]]);
    let mu = mean::<B>(x.clone());
    let centred = B::float_sub(x, mu.clone());
    let variance = mean::<B>(B::float_mul(centred.clone(), centred));
    Moments {
        mean: B::float_reshape(mu, channels.clone()),
        variance: B::float_reshape(variance, channels),
    }
}

pub(crate) fn normalise_by<B: Backend>(
    map: ChannelMap<B>,
    moments: &Moments<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (dtype, map) = (map.x.dtype(), widened(map));
    // The operations of the gradient, so that it finds the same z.
    let rho = spread::<B>(reciprocal_deviation::<B>(moments.variance.clone(), epsilon));
    let centred = B::float_sub(map.x, spread::<B>(moments.mean.clone()));
    let normal = B::float_mul(centred, rho);
    let gamma = spread::<B>(map.scale);
    let z = before_activation::<B>(normal, gamma, map.shift, map.residual);
    narrow::<B>(activate::<B>(z, map.act), dtype)
}

pub(crate) fn normalise_gradient<B: Backend>(
    map: ChannelMap<B>,
    moments: Moments<B>,
    epsilon: f64,
    dy: FloatTensor<B>,
    of_residual: bool,
) -> ChannelGradients<B> {
    let (dtype, map, dy) = (map.x.dtype(), widened(map), wide::<B>(dy));
    let rho = spread::<B>(reciprocal_deviation::<B>(moments.variance, epsilon));
    let centred = B::float_sub(map.x, spread::<B>(moments.mean));
    let normal = B::float_mul(centred, rho.clone());
    let gamma = spread::<B>(map.scale);
    let z = before_activation::<B>(normal.clone(), gamma.clone(), map.shift, map.residual);
    let g = activate_gradient::<B>(z, dy, map.act);
    let product = B::float_mul(g.clone(), normal.clone());
    // g less its mean and its part along x̂.
    let along = B::float_mul(normal, mean::<B>(product.clone()));
    let rest = B::float_sub(B::float_sub(g.clone(), mean::<B>(g.clone())), along);
    ChannelGradients {
        x: narrow::<B>(B::float_mul(rest, B::float_mul(gamma, rho)), dtype),
        scale: sum_positions::<B>(product),
        shift: sum_positions::<B>(g.clone()),
        residual: of_residual.then(|| narrow::<B>(g, dtype)),
    }
}

pub(crate) fn scale_shift<B: Backend>(map: ChannelMap<B>) -> FloatTensor<B> {
    let (dtype, map) = (map.x.dtype(), widened(map));
    let scale = spread::<B>(map.scale);
    let z = before_activation::<B>(map.x, scale, map.shift, map.residual);
    narrow::<B>(activate::<B>(z, map.act), dtype)
}

pub(crate) fn scale_shift_gradient<B: Backend>(
    map: ChannelMap<B>,
    dy: FloatTensor<B>,
    of_residual: bool,
) -> ChannelGradients<B> {
    let (dtype, map, dy) = (map.x.dtype(), widened(map), wide::<B>(dy));
    let scale = spread::<B>(map.scale);
    let z = before_activation::<B>(map.x.clone(), scale.clone(), map.shift, map.residual);
    let g = activate_gradient::<B>(z, dy, map.act);
    ChannelGradients {
        x: narrow::<B>(B::float_mul(g.clone(), scale), dtype),
        scale: sum_positions::<B>(B::float_mul(g.clone(), map.x)),
        shift: sum_positions::<B>(g.clone()),
        residual: of_residual.then(|| narrow::<B>(g, dtype)),
    }
}
