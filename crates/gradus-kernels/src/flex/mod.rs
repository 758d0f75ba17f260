//! The CPU backend: the operations of [`Kernels`](crate::Kernels) by the kernels in [`cpu`](crate::cpu).
//!
//! Image batches of `f32` are worked on in the order `[N, H, W, C]`; other number types go to Burn's
//! operations.

mod bytes;
mod conv;
mod images;
mod linear;
mod loss;
mod norm;
mod pool;

use burn::backend::Flex;
use burn::tensor::Shape;
use burn_flex::FlexTensor;

use crate::cpu::activation::Act;
use crate::cpu::layout;
use crate::cpu::linear::column_sums;
use crate::fallback;
use crate::kernels::{
    ChannelGradients, ChannelMap, Convolution, CrossEntropy, Kernels, LinearState, Moments, Windows,
};
use crate::memory::Buffer;
use crate::profile::span;
use images::{channels_last, is_f32};

impl Kernels for Flex {
    fn convolve(
        x: FlexTensor,
        weight: FlexTensor,
        bias: Option<FlexTensor>,
        how: &Convolution,
    ) -> FlexTensor {
        conv::forward(x, weight, bias, how)
    }

    fn convolve_input_gradient(
        x: Shape,
        weight: FlexTensor,
        dy: FlexTensor,
        how: &Convolution,
    ) -> FlexTensor {
        conv::input_gradient(x, weight, dy, how)
    }

    fn convolve_weight_gradient(
        x: FlexTensor,
        weight: Shape,
        dy: FlexTensor,
        how: &Convolution,
    ) -> FlexTensor {
        conv::weight_gradient(x, weight, dy, how)
    }

    fn sum_positions(dy: FlexTensor) -> FlexTensor {
        if !is_f32(&dy) {
            return fallback::sum_positions::<Self>(dy);
        }
        let dy = channels_last(dy);
        let _span = span("sum_positions", || images::size(&dy).to_vec());
        let mut out = vec![0.0; images::size(&dy)[1]];
        column_sums(dy.storage(), &mut out);
        images::vector(out)
    }

    fn normalise(map: ChannelMap<Self>, epsilon: f64) -> (FlexTensor, Moments<Self>) {
        if is_f32(&map.x) {
            norm::normalise(map, epsilon)
        } else {
            fallback::norm::normalise::<Self>(map, epsilon)
        }
    }

    fn moments(x: FlexTensor) -> Moments<Self> {
        if is_f32(&x) {
            norm::moments_of(x)
        } else {
            fallback::norm::moments::<Self>(x)
        }
    }

    fn normalise_by(map: ChannelMap<Self>, moments: &Moments<Self>, epsilon: f64) -> FlexTensor {
        if is_f32(&map.x) {
            norm::normalise_by(map, moments, epsilon)
        } else {
            fallback::norm::normalise_by::<Self>(map, moments, epsilon)
        }
    }

    fn normalise_gradient(
        map: ChannelMap<Self>,
        moments: Moments<Self>,
        epsilon: f64,
        dy: FlexTensor,
        of_residual: bool,
    ) -> ChannelGradients<Self> {
        if is_f32(&map.x) {
            norm::normalise_gradient(map, moments, epsilon, dy, of_residual)
        } else {
            fallback::norm::normalise_gradient::<Self>(map, moments, epsilon, dy, of_residual)
        }
    }

    fn scale_shift(map: ChannelMap<Self>) -> FlexTensor {
        if is_f32(&map.x) {
            norm::scale_shift(map)
        } else {
            fallback::norm::scale_shift::<Self>(map)
        }
    }

    fn scale_shift_gradient(
        map: ChannelMap<Self>,
        dy: FlexTensor,
        of_residual: bool,
    ) -> ChannelGradients<Self> {
        if is_f32(&map.x) {
            norm::scale_shift_gradient(map, dy, of_residual)
        } else {
            fallback::norm::scale_shift_gradient::<Self>(map, dy, of_residual)
        }
    }

    fn activate(x: FlexTensor, act: Act) -> FlexTensor {
        match act {
            Act::Identity => x,
            _ if is_f32(&x) => norm::activate(x, act),
            _ => fallback::activation::activate::<Self>(x, act),
        }
    }

    fn activate_gradient(x: FlexTensor, dy: FlexTensor, act: Act) -> FlexTensor {
        match act {
            Act::Identity => dy,
            _ if is_f32(&x) => norm::activate_gradient(x, dy, act),
            _ => fallback::activation::activate_gradient::<Self>(x, dy, act),
        }
    }

    fn max_pooled(
        x: FlexTensor,
        windows: Windows,
        with_index: bool,
    ) -> (FlexTensor, Option<FlexTensor>) {
        pool::max_pooled(x, windows, with_index)
    }

    fn max_pooled_gradient(
        x: Shape,
        index: FlexTensor,
        dy: FlexTensor,
        windows: Windows,
    ) -> FlexTensor {
        pool::max_pooled_gradient(x, index, dy, windows)
    }

    fn avg_pooled(x: FlexTensor, windows: Windows, count_padding: bool) -> FlexTensor {
        pool::avg_pooled(x, windows, count_padding)
    }

    fn avg_pooled_gradient(
        x: Shape,
        dy: FlexTensor,
        windows: Windows,
        count_padding: bool,
    ) -> FlexTensor {
        pool::avg_pooled_gradient(x, dy, windows, count_padding)
    }

    fn image_mean(x: FlexTensor) -> FlexTensor {
        pool::image_mean(x)
    }

    fn image_mean_gradient(x: Shape, dy: FlexTensor) -> FlexTensor {
        pool::image_mean_gradient(x, dy)
    }

    fn subsampled(x: FlexTensor, stride: usize, channels: usize) -> FlexTensor {
        pool::subsampled(x, stride, channels)
    }

    fn subsampled_gradient(x: Shape, dy: FlexTensor, stride: usize) -> FlexTensor {
        pool::subsampled_gradient(x, dy, stride)
    }

    fn cross_entropy(
        logits: FlexTensor,
        targets: FlexTensor,
        how: &CrossEntropy,
        with_gradient: bool,
    ) -> (FlexTensor, Option<FlexTensor>) {
        loss::cross_entropy(logits, targets, how, with_gradient)
    }

    fn linear_act(
        x: FlexTensor,
        weight: FlexTensor,
        bias: Option<FlexTensor>,
        act: Act,
        with_z: bool,
    ) -> (FlexTensor, Option<FlexTensor>) {
        if is_f32(&x) {
            linear::linear_act(x, weight, bias, act, with_z)
        } else {
            fallback::linear::linear_act::<Self>(x, weight, bias, act, with_z)
        }
    }

    fn linear_act_gradient(
        state: LinearState<Self>,
        dy: FlexTensor,
        of_bias: bool,
    ) -> [Option<FlexTensor>; 3] {
        if is_f32(&dy) {
            linear::linear_act_gradient(state, dy, of_bias)
        } else {
            fallback::linear::linear_act_gradient::<Self>(state, dy, of_bias)
        }
    }

    fn in_order(x: FlexTensor) -> FlexTensor {
        match is_f32(&x) && x.layout().num_dims() == 4 {
            true => channels_last(x),
            false => x,
        }
    }

    fn sum_of(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        use burn::backend::ops::FloatTensorOps;
        if !is_f32(&a) || a.layout().num_dims() != 4 {
            return Self::float_add(a, b);
        }
        let (mut a, mut b) = (channels_last(a), channels_last(b));
        let _span = span("sum_of", || images::size(&a).to_vec());
        // Into whichever nobody else reads.
        if !a.is_unique() && b.is_unique() {
            std::mem::swap(&mut a, &mut b);
        }
        if let Some(sum) = a.try_storage_mut::<f32>() {
            layout::add(b.storage(), sum);
            return a;
        }
        let mut sum = Buffer::copy_of(a.storage());
        layout::add(b.storage(), &mut sum);
        images::from_buffer(sum, images::size(&a))
    }
}
