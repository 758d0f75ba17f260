//! Normalisation and activations on the CPU backend.

use burn_flex::FlexTensor;

use super::images::{self, channels_last, contiguous, from_buffer, is_channels_last, size, vector};
use crate::cpu::activation::{Act, act, act_backward};
use crate::cpu::norm::{
    NormBackward, ScaleShiftBackward, fold, moments, norm_act_backward, scale_shift_act,
    scale_shift_act_backward,
};
use crate::kernels::{ChannelGradients, ChannelMap, Moments};
use crate::memory::Buffer;
use crate::profile::span;

type Map = ChannelMap<burn::backend::Flex>;
type Gradients = ChannelGradients<burn::backend::Flex>;

/// The same map with images in channels-last order and dense vectors.
pub(super) fn ordered(map: Map) -> Map {
    ChannelMap {
        x: channels_last(map.x),
        scale: contiguous(map.scale),
        shift: contiguous(map.shift),
        residual: map.residual.map(channels_last),
        act: map.act,
    }
}

fn slice(x: &FlexTensor) -> &[f32] {
    x.storage()
}

pub(super) fn normalise(map: Map, epsilon: f64) -> (FlexTensor, Moments<burn::backend::Flex>) {
    let map = ordered(map);
    let _span = span("batch_norm", || size(&map.x).to_vec());
    let [mean, variance] = measured(&map.x);
    let y = apply(&map, [&mean, &variance], epsilon);
    let moments = Moments {
        mean: vector(mean),
        variance: vector(variance),
    };
    (y, moments)
}

pub(super) fn moments_of(x: FlexTensor) -> Moments<burn::backend::Flex> {
    let x = channels_last(x);
    let _span = span("moments", || size(&x).to_vec());
    let [mean, variance] = measured(&x).map(vector);
    Moments { mean, variance }
}

pub(super) fn normalise_by(
    map: Map,
    moments: &Moments<burn::backend::Flex>,
    epsilon: f64,
) -> FlexTensor {
    let map = ordered(map);
    let _span = span("normalise_by", || size(&map.x).to_vec());
    let [mean, variance] = [&moments.mean, &moments.variance].map(|m| contiguous(m.clone()));
    apply(&map, [slice(&mean), slice(&variance)], epsilon)
}

/// Mean and biased variance of the channels of images in order.
fn measured(x: &FlexTensor) -> [Vec<f32>; 2] {
    let channels = || vec![0.0; size(x)[1]];
    let [mut mean, mut variance] = [channels(), channels()];
    moments(slice(x), &mut mean, &mut variance);
    [mean, variance]
}

/// y of a map in order, with these moments.
fn apply(map: &Map, moments: [&[f32]; 2], epsilon: f64) -> FlexTensor {
    let size = size(&map.x);
    let channels = || vec![0.0; size[1]];
    let [mut rstd, mut scale, mut shift] = [channels(), channels(), channels()];
    fold(
        moments,
        epsilon as f32,
        [slice(&map.scale), slice(&map.shift)],
        [&mut rstd, &mut scale, &mut shift],
    );
    let mut y = Buffer::new(size.iter().product());
    let residual = map.residual.as_ref().map(slice);
    scale_shift_act(slice(&map.x), &scale, &shift, residual, map.act, &mut y);
    from_buffer(y, size)
}

pub(super) fn normalise_gradient(
    map: Map,
    moments: Moments<burn::backend::Flex>,
    epsilon: f64,
    dy: FlexTensor,
    of_residual: bool,
) -> Gradients {
    let (map, dy) = (ordered(map), channels_last(dy));
    let size = size(&map.x);
    let _span = span("batch_norm_gradient", || size.to_vec());
    let (mean, variance) = (contiguous(moments.mean), contiguous(moments.variance));
    let channels = || vec![0.0; size[1]];
    let [mut rstd, mut scale, mut shift] = [channels(), channels(), channels()];
    fold(
        [slice(&mean), slice(&variance)],
        epsilon as f32,
        [slice(&map.scale), slice(&map.shift)],
        [&mut rstd, &mut scale, &mut shift],
    );
    let args = NormBackward {
        x: slice(&map.x),
        dy: slice(&dy),
        residual: map.residual.as_ref().map(slice),
        mean: slice(&mean),
        rstd: &rstd,
        gamma: slice(&map.scale),
        beta: slice(&map.shift),
        act: map.act,
    };
    gradients(&map, &dy, of_residual, |dx, dgamma, dbeta, dresidual| {
        norm_act_backward(&args, dx, dgamma, dbeta, dresidual);
    })
}

/// Room for the gradients, filled by `compute(dx, dscale, dshift, dresidual)`.
fn gradients(
    map: &Map,
    dy: &FlexTensor,
    of_residual: bool,
    compute: impl FnOnce(&mut [f32], &mut [f32], &mut [f32], Option<&mut [f32]>),
) -> Gradients {
    let size = size(&map.x);
    let len = size.iter().product();
    let mut dx = Buffer::new(len);
    // Behind the identity it is dy itself.
    let mut dresidual = (of_residual && map.act != Act::Identity).then(|| Buffer::new(len));
    let [mut dscale, mut dshift] = [vec![0.0; size[1]], vec![0.0; size[1]]];
    compute(&mut dx, &mut dscale, &mut dshift, dresidual.as_deref_mut());
    ChannelGradients {
        x: from_buffer(dx, size),
        scale: vector(dscale),
        shift: vector(dshift),
        residual: of_residual.then(|| match dresidual {
            Some(dresidual) => from_buffer(dresidual, size),
            None => dy.clone(),
        }),
    }
}

pub(super) fn scale_shift(map: Map) -> FlexTensor {
    let map = ordered(map);
    let size = size(&map.x);
    let _span = span("scale_shift", || size.to_vec());
    let mut y = Buffer::new(size.iter().product());
    let residual = map.residual.as_ref().map(slice);
    let (scale, shift) = (slice(&map.scale), slice(&map.shift));
    scale_shift_act(slice(&map.x), scale, shift, residual, map.act, &mut y);
    from_buffer(y, size)
}

pub(super) fn scale_shift_gradient(map: Map, dy: FlexTensor, of_residual: bool) -> Gradients {
    let (map, dy) = (ordered(map), channels_last(dy));
    let _span = span("scale_shift_gradient", || size(&map.x).to_vec());
    let args = ScaleShiftBackward {
        x: slice(&map.x),
        dy: slice(&dy),
        residual: map.residual.as_ref().map(slice),
        scale: slice(&map.scale),
        shift: slice(&map.shift),
        act: map.act,
    };
    gradients(&map, &dy, of_residual, |dx, dscale, dshift, dresidual| {
        scale_shift_act_backward(&args, dx, dscale, dshift, dresidual);
    })
}

/// A tensor whose memory is its elements in some order, and whether that is channels-last.
fn dense(x: FlexTensor) -> (FlexTensor, bool) {
    let images = x.layout().num_dims() == 4 && is_channels_last(&x);
    if images {
        (x, true)
    } else {
        (contiguous(x), false)
    }
}

pub(super) fn activate(x: FlexTensor, function: Act) -> FlexTensor {
    let (x, _) = dense(x);
    let _span = span("activation", || x.layout().shape().to_vec());
    let mut y = Buffer::new(x.layout().num_elements());
    act(slice(&x), function, &mut y);
    FlexTensor::new(y.into(), x.layout().clone(), x.dtype())
}

pub(super) fn activate_gradient(x: FlexTensor, dy: FlexTensor, function: Act) -> FlexTensor {
    let (x, images) = dense(x);
    let dy = if images {
        images::channels_last(dy)
    } else {
        contiguous(dy)
    };
    let _span = span("activation_gradient", || x.layout().shape().to_vec());
    let mut dx = Buffer::new(x.layout().num_elements());
    act_backward(slice(&x), slice(&dy), function, &mut dx);
    FlexTensor::new(dx.into(), x.layout().clone(), x.dtype())
}
