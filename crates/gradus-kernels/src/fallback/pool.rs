//! Pooling and subsampling.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Scalar, TensorMetadata, get_or_init_device_settings};
use burn::tensor::{Shape, Slice};

use super::{narrow, shaped, wide};
use crate::kernels::Windows;

/// Windows are neither spread out nor hang over the edge.
const DILATION: [usize; 2] = [1, 1];
const CEIL: bool = false;

pub(crate) fn max_pooled<B: Backend>(
    x: FloatTensor<B>,
    windows: Windows,
    with_index: bool,
) -> (FloatTensor<B>, Option<IntTensor<B>>) {
    let Windows {
        kernel,
        stride,
        padding,
    } = windows;
    if !with_index {
        let y = B::max_pool2d(x, kernel, stride, padding, DILATION, CEIL);
        return (y, None);
    }
    let dtype = get_or_init_device_settings::<B>(&x.device()).int_dtype;
    let found = B::max_pool2d_with_indices(x, kernel, stride, padding, DILATION, CEIL, dtype);
    (found.output, Some(found.indices))
}

pub(crate) fn max_pooled_gradient<B: Backend>(
    x: Shape,
    index: IntTensor<B>,
    dy: FloatTensor<B>,
    windows: Windows,
) -> FloatTensor<B> {
    max_pooled_gradient_like::<B>(shaped::<B>(x, &dy), index, dy, windows)
}

/// With a tensor of the shape of x.
pub(crate) fn max_pooled_gradient_like<B: Backend>(
    x: FloatTensor<B>,
    index: IntTensor<B>,
    dy: FloatTensor<B>,
    windows: Windows,
) -> FloatTensor<B> {
    let Windows {
        kernel,
        stride,
        padding,
    } = windows;
    B::max_pool2d_with_indices_backward(x, kernel, stride, padding, DILATION, CEIL, dy, index)
        .x_grad
}

pub(crate) fn avg_pooled<B: Backend>(
    x: FloatTensor<B>,
    windows: Windows,
    count_padding: bool,
) -> FloatTensor<B> {
    let Windows {
        kernel,
        stride,
        padding,
    } = windows;
    let dtype = x.dtype();
    let x = wide::<B>(x);
    narrow::<B>(
        B::avg_pool2d(x, kernel, stride, padding, count_padding, CEIL),
        dtype,
    )
}

pub(crate) fn avg_pooled_gradient<B: Backend>(
    x: Shape,
    dy: FloatTensor<B>,
    windows: Windows,
    count_padding: bool,
) -> FloatTensor<B> {
    let Windows {
        kernel,
        stride,
        padding,
    } = windows;
    let (dtype, dy) = (dy.dtype(), wide::<B>(dy));
    let x = shaped::<B>(x, &dy);
    narrow::<B>(
        B::avg_pool2d_backward(x, dy, kernel, stride, padding, count_padding, CEIL),
        dtype,
    )
}

pub(crate) fn image_mean<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [n, c, h, w] = std::array::from_fn(|d| x.shape()[d]);
    let dtype = x.dtype();
    let x = B::float_reshape(wide::<B>(x), Shape::from([n, c, h * w]));
    let mean = B::float_reshape(B::float_mean_dim(x, 2), Shape::from([n, c]));
    narrow::<B>(mean, dtype)
}

pub(crate) fn image_mean_gradient<B: Backend>(x: Shape, dy: FloatTensor<B>) -> FloatTensor<B> {
    let pixels = (x[2] * x[3]) as f64;
    let share = B::float_div_scalar(dy, Scalar::Float(pixels));
    B::float_expand(B::float_reshape(share, Shape::from([x[0], x[1], 1, 1])), x)
}

/// All of the first dimension, of the second so many, of the others every s-th.
fn places(shape: &Shape, channels: usize, stride: usize) -> [Slice; 4] {
    let range = |end: usize, step: usize| Slice::new(0, Some(end as isize), step as isize);
    [
        range(shape[0], 1),
        range(channels, 1),
        range(shape[2], stride),
        range(shape[3], stride),
    ]
}

pub(crate) fn subsampled<B: Backend>(
    x: FloatTensor<B>,
    stride: usize,
    channels: usize,
) -> FloatTensor<B> {
    let (shape, device) = (x.shape(), x.device());
    let x = B::float_slice(x, &places(&shape, shape[1], stride));
    if channels == shape[1] {
        return x;
    }
    let mut rest = x.shape();
    rest[1] = channels - shape[1];
    let zeros = B::float_zeros(rest, &device, x.dtype().into());
    B::float_cat(vec![x, zeros], 1)
}

pub(crate) fn subsampled_gradient<B: Backend>(
    x: Shape,
    dy: FloatTensor<B>,
    stride: usize,
) -> FloatTensor<B> {
    let zeros = B::float_zeros(x.clone(), &dy.device(), dy.dtype().into());
    let dy = {
        let shape = dy.shape();
        B::float_slice(dy, &places(&shape, x[1], 1))
    };
    B::float_slice_assign(zeros, &places(&x, x[1], stride), dy)
}
