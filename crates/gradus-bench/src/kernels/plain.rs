//! Burn's own convolution on its CPU backend, called without the tape.

use std::hint::black_box;

use burn::backend::ops::{ConvOptions, FloatTensorOps, ModuleOps};
use burn::backend::{BackendTypes, Flex};
use burn::tensor::TensorData;
use gradus_kernels::cpu::conv::ConvShape;

use super::{Buffers, Pass};

type Primitive = <Flex as BackendTypes>::FloatTensorPrimitive;

/// The numbers of a convolution in Burn's layout, `[N, C, H, W]`.
pub(super) struct Tensors {
    x: Primitive,
    w: Primitive,
    dy: Primitive,
    options: ConvOptions<2>,
}

/// Channels-last numbers in the order `[N, C, H, W]`.
pub(super) fn first(values: &[f32], [h, w]: [usize; 2], channels: usize) -> Vec<f32> {
    let image = h * w * channels;
    let mut first = Vec::with_capacity(values.len());
    for pixels in values.chunks_exact(image) {
        for channel in 0..channels {
            first.extend(pixels.iter().skip(channel).step_by(channels));
        }
    }
    first
}

impl Tensors {
    pub(super) fn new(shape: &ConvShape, buffers: &Buffers) -> Self {
        let images = |values: &[f32], size: [usize; 2], channels: usize| {
            let dims = [shape.batch, channels, size[0], size[1]];
            tensor(first(values, size, channels), dims)
        };
        let filters = [
            shape.out_channels,
            shape.in_channels / shape.groups,
            shape.kernel[0],
            shape.kernel[1],
        ];
        Self {
            x: images(&buffers.x, shape.size, shape.in_channels),
            w: tensor(buffers.w.clone(), filters),
            dy: images(&buffers.y, shape.out_size(), shape.out_channels),
            options: ConvOptions::new(shape.stride, shape.padding, shape.dilation, shape.groups),
        }
    }

    fn pass(&self, pass: Pass) -> Primitive {
        let (x, w, dy) = (self.x.clone(), self.w.clone(), self.dy.clone());
        let options = self.options.clone();
        match pass {
            Pass::Forward => Flex::conv2d(x, w, None, options),
            Pass::InputGradient => Flex::conv2d_x_backward(x, w, dy, options),
            Pass::WeightGradient => Flex::conv2d_weight_backward(x, w, dy, options),
        }
    }

    pub(super) fn run(&self, pass: Pass) {
        black_box(self.pass(pass));
    }

    /// The result, in order.
    #[cfg(test)]
    pub(super) fn numbers(&self, pass: Pass) -> Vec<f32> {
        self.pass(pass).to_contiguous().storage::<f32>().to_vec()
    }
}

fn tensor(values: Vec<f32>, dims: [usize; 4]) -> Primitive {
    Flex::float_from_data(TensorData::new(values, dims), &Default::default())
}
