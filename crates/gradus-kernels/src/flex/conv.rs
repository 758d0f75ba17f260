//! Convolution on the CPU backend.

use burn::backend::Flex;
use burn::tensor::Shape;
use burn::tensor::ops::ConvOptions;
use burn_flex::FlexTensor;

use super::images::{self, channels_last, contiguous, is_f32};
use crate::cpu::conv::{self, ConvShape, Images};
use crate::fallback;
use crate::kernels::Convolution;
use crate::memory::Buffer;
use crate::profile::span;

/// With so few channels, as in photographs, the kernels read any order of memory; with more, it pays
/// to put the channels of a pixel side by side first.
const FEW_CHANNELS: usize = 4;

fn shape_of(x: [usize; 4], weight: &Shape, options: &ConvOptions<2>) -> ConvShape {
    ConvShape {
        batch: x[0],
        size: [x[2], x[3]],
        in_channels: x[1],
        out_channels: weight[0],
        kernel: [weight[2], weight[3]],
        stride: options.stride,
        padding: options.padding.map(|(before, _)| before),
        dilation: options.dilation,
        groups: options.groups,
    }
}

/// N, C, H, W, K, h, w for the profile.
fn extent(shape: &ConvShape) -> Vec<usize> {
    let ([h, w], [kh, kw]) = (shape.size, shape.kernel);
    vec![
        shape.batch,
        shape.in_channels,
        h,
        w,
        shape.out_channels,
        kh,
        kw,
    ]
}

/// Whether the kernels compute this: f32, and as many zeros before as behind.
fn is_ours(x: &FlexTensor, options: &ConvOptions<2>) -> bool {
    is_f32(x)
        && options
            .padding
            .iter()
            .all(|(before, behind)| before == behind)
}

/// A tensor that the kernels can read: dense channels-last, or few channels in any order.
fn readable(x: FlexTensor) -> FlexTensor {
    let strides = x.layout().strides();
    let direct = strides.iter().all(|s| *s >= 0) && images::size(&x)[1] <= FEW_CHANNELS;
    if direct { x } else { channels_last(x) }
}

fn view(x: &FlexTensor) -> Images<'_> {
    let (layout, data) = (x.layout(), x.storage());
    let [n, c, h, w] = std::array::from_fn(|d| layout.strides()[d] as usize);
    Images {
        data: &data[layout.start_offset()..],
        strides: [n, h, w, c],
    }
}

pub(super) fn forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: Option<FlexTensor>,
    how: &Convolution,
) -> FlexTensor {
    if !is_ours(&x, &how.options) {
        return fallback::conv::convolve::<Flex>(x, weight, bias, how);
    }
    let (x, weight) = (readable(x), contiguous(weight));
    let bias = bias.map(contiguous);
    let shape = shape_of(images::size(&x), weight.layout().shape(), &how.options);
    let [height, width] = shape.out_size();
    let size = [shape.batch, shape.out_channels, height, width];
    let _span = span("conv2d", || extent(&shape));
    let mut y = Buffer::new(size.iter().product());
    conv::forward_in(
        how.precision,
        &shape,
        view(&x),
        weight.storage(),
        bias.as_ref().map(FlexTensor::storage),
        &mut y,
    );
    images::from_buffer(y, size)
}

pub(super) fn input_gradient(
    x: Shape,
    weight: FlexTensor,
    dy: FlexTensor,
    how: &Convolution,
) -> FlexTensor {
    if !is_ours(&dy, &how.options) {
        return fallback::conv::input_gradient::<Flex>(x, weight, dy, how);
    }
    let (dy, weight) = (channels_last(dy), contiguous(weight));
    let size = std::array::from_fn(|d| x[d]);
    let shape = shape_of(size, weight.layout().shape(), &how.options);
    let _span = span("conv2d_input_gradient", || extent(&shape));
    let mut dx = Buffer::new(size.iter().product());
    conv::input_gradient_in(how.precision, &shape, view(&dy), weight.storage(), &mut dx);
    images::from_buffer(dx, size)
}

pub(super) fn weight_gradient(
    x: FlexTensor,
    weight: Shape,
    dy: FlexTensor,
    how: &Convolution,
) -> FlexTensor {
    if !is_ours(&dy, &how.options) {
        return fallback::conv::weight_gradient::<Flex>(x, weight, dy, how);
    }
    let (x, dy) = (readable(x), channels_last(dy));
    let shape = shape_of(images::size(&x), &weight, &how.options);
    let _span = span("conv2d_weight_gradient", || extent(&shape));
    let mut dw = vec![0.0; weight.num_elements()];
    conv::weight_gradient_in(how.precision, &shape, view(&x), view(&dy), &mut dw);
    FlexTensor::from_data(burn::tensor::TensorData::new(dw, weight))
}
