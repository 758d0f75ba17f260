//! Pooling and subsampling on the CPU backend.

use burn::backend::Flex;
use burn::tensor::{DType, Shape};
use burn_flex::{FlexTensor, Layout};

use super::images::{self, channels_last, contiguous, from_buffer};
use crate::cpu::pool::{self, PoolShape};
use crate::cpu::subsample::{SubsampleShape, subsample, subsample_backward};
use crate::fallback;
use crate::kernels::Windows;
use crate::memory::Buffer;
use crate::profile::span;

fn size(shape: &Shape) -> [usize; 4] {
    std::array::from_fn(|d| shape[d])
}

/// The shape for the kernels, which want windows that all touch the image.
fn pool_shape(x: [usize; 4], windows: Windows) -> Option<PoolShape> {
    let shape = PoolShape {
        batch: x[0],
        size: [x[2], x[3]],
        channels: x[1],
        kernel: windows.kernel,
        stride: windows.stride,
        padding: windows.padding,
    };
    let touch = |d: usize| 2 * shape.padding[d] <= shape.kernel[d];
    (touch(0) && touch(1)).then_some(shape)
}

/// Whether the place of a maximum in its window is kept as a byte.
fn has_bytes(windows: Windows) -> bool {
    windows.kernel.iter().product::<usize>() <= 256
}

/// N, C, H′, W′.
fn out_size(shape: &PoolShape) -> [usize; 4] {
    let [h, w] = shape.out_size();
    [shape.batch, shape.channels, h, w]
}

pub(super) fn max_pooled(
    x: FlexTensor,
    windows: Windows,
    with_index: bool,
) -> (FlexTensor, Option<FlexTensor>) {
    let ours = has_bytes(windows) && images::is_f32(&x);
    let shape = pool_shape(images::size(&x), windows).filter(|_| ours);
    let Some(shape) = shape else {
        return fallback::pool::max_pooled::<Flex>(x, windows, with_index);
    };
    let x = channels_last(x);
    let size = out_size(&shape);
    let _span = span("max_pool", || images::size(&x).to_vec());
    let mut y = Buffer::new(size.iter().product());
    let mut index = with_index.then(|| Buffer::<u8>::new(y.len()));
    pool::max_pool(&shape, x.storage(), &mut y, index.as_deref_mut());
    let index = index.map(|index| {
        let layout = Layout::contiguous(Shape::from([index.len()]));
        FlexTensor::new(index.into(), layout, DType::U8)
    });
    (from_buffer(y, size), index)
}

pub(super) fn max_pooled_gradient(
    x: Shape,
    index: FlexTensor,
    dy: FlexTensor,
    windows: Windows,
) -> FlexTensor {
    // Bytes are ours, anything else is Burn's; so are bytes of what we did not compute.
    let ours = index.dtype() == DType::U8 && has_bytes(windows) && images::is_f32(&dy);
    let shape = pool_shape(size(&x), windows).filter(|_| ours);
    let Some(shape) = shape else {
        return fallback::pool::max_pooled_gradient::<Flex>(x, index, dy, windows);
    };
    let dy = channels_last(dy);
    let _span = span("max_pool_gradient", || x.to_vec());
    let mut dx = Buffer::new(x.num_elements());
    pool::max_pool_backward(&shape, index.storage(), dy.storage(), &mut dx);
    from_buffer(dx, size(&x))
}

pub(super) fn avg_pooled(x: FlexTensor, windows: Windows, count_padding: bool) -> FlexTensor {
    let shape = pool_shape(images::size(&x), windows).filter(|_| images::is_f32(&x));
    let Some(shape) = shape else {
        return fallback::pool::avg_pooled::<Flex>(x, windows, count_padding);
    };
    let x = channels_last(x);
    let size = out_size(&shape);
    let _span = span("avg_pool", || images::size(&x).to_vec());
    let mut y = Buffer::new(size.iter().product());
    pool::avg_pool(&shape, x.storage(), count_padding, &mut y);
    from_buffer(y, size)
}

pub(super) fn avg_pooled_gradient(
    x: Shape,
    dy: FlexTensor,
    windows: Windows,
    count_padding: bool,
) -> FlexTensor {
    let shape = pool_shape(size(&x), windows).filter(|_| images::is_f32(&dy));
    let Some(shape) = shape else {
        return fallback::pool::avg_pooled_gradient::<Flex>(x, dy, windows, count_padding);
    };
    let dy = channels_last(dy);
    let _span = span("avg_pool_gradient", || x.to_vec());
    let mut dx = Buffer::new(x.num_elements());
    pool::avg_pool_backward(&shape, dy.storage(), count_padding, &mut dx);
    from_buffer(dx, size(&x))
}

pub(super) fn image_mean(x: FlexTensor) -> FlexTensor {
    if !images::is_f32(&x) || x.layout().num_elements() == 0 {
        return fallback::pool::image_mean::<Flex>(x);
    }
    let x = channels_last(x);
    let [n, c, h, w] = images::size(&x);
    let _span = span("global_avg_pool", || vec![n, c, h, w]);
    let mut y = Buffer::new(n * c);
    pool::global_avg_pool(x.storage(), h * w, c, &mut y);
    FlexTensor::new(
        y.into(),
        Layout::contiguous(Shape::from([n, c])),
        DType::F32,
    )
}

pub(super) fn image_mean_gradient(x: Shape, dy: FlexTensor) -> FlexTensor {
    if !images::is_f32(&dy) || x.num_elements() == 0 {
        return fallback::pool::image_mean_gradient::<Flex>(x, dy);
    }
    let dy = contiguous(dy);
    let _span = span("global_avg_pool_gradient", || x.to_vec());
    let mut dx = Buffer::new(x.num_elements());
    pool::global_avg_pool_backward(dy.storage(), x[2] * x[3], x[1], &mut dx);
    from_buffer(dx, size(&x))
}

fn subsample_shape([n, c, h, w]: [usize; 4], stride: usize, channels: usize) -> SubsampleShape {
    SubsampleShape {
        batch: n,
        size: [h, w],
        channels: c,
        out_channels: channels,
        stride,
    }
}

pub(super) fn subsampled(x: FlexTensor, stride: usize, channels: usize) -> FlexTensor {
    if !images::is_f32(&x) {
        return fallback::pool::subsampled::<Flex>(x, stride, channels);
    }
    let x = channels_last(x);
    let shape = subsample_shape(images::size(&x), stride, channels);
    let [h, w] = shape.out_size();
    let size = [shape.batch, channels, h, w];
    let _span = span("subsample", || images::size(&x).to_vec());
    let mut y = Buffer::new(size.iter().product());
    subsample(&shape, x.storage(), &mut y);
    from_buffer(y, size)
}

pub(super) fn subsampled_gradient(x: Shape, dy: FlexTensor, stride: usize) -> FlexTensor {
    if !images::is_f32(&dy) {
        return fallback::pool::subsampled_gradient::<Flex>(x, dy, stride);
    }
    let dy = channels_last(dy);
    let shape = subsample_shape(size(&x), stride, images::size(&dy)[1]);
    let _span = span("subsample_gradient", || x.to_vec());
    let mut dx = Buffer::new(x.num_elements());
    subsample_backward(&shape, dy.storage(), &mut dx);
    from_buffer(dx, size(&x))
}
