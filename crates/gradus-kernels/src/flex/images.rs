//! Image batches of the CPU backend in the order of memory that the kernels work in.
//!
//! A result is stored as `[N, H, W, C]` and shown as `[N, C, H, W]` by its strides, which every Burn
//! operation understands. The next kernel sees from the strides that nothing needs to be moved.

use burn::tensor::DType;
use burn::tensor::Shape;
use burn_flex::{FlexTensor, Layout};

use crate::cpu::layout::{View, to_channels_last};
use crate::memory::Buffer;

/// Strides of `[N, C, H, W]` over memory in the order `[N, H, W, C]`.
fn strides([_, c, h, w]: [usize; 4]) -> [isize; 4] {
    [h * w * c, 1, w * c, c].map(|s| s as isize)
}

/// N, C, H, W.
pub(super) fn size(x: &FlexTensor) -> [usize; 4] {
    let shape = x.layout().shape();
    std::array::from_fn(|d| shape[d])
}

/// A tensor `[N, C, H, W]` from memory in the order `[N, H, W, C]`.
pub(super) fn from_buffer(buffer: Buffer, size: [usize; 4]) -> FlexTensor {
    let layout = Layout::new(Shape::from(size), strides(size).to_vec(), 0);
    FlexTensor::new(buffer.into(), layout, DType::F32)
}

/// A tensor of one dimension.
pub(super) fn vector(values: Vec<f32>) -> FlexTensor {
    let shape = Shape::from([values.len()]);
    FlexTensor::from_data(burn::tensor::TensorData::new(values, shape))
}

/// Whether the memory is exactly the image batch in the order `[N, H, W, C]`.
pub(super) fn is_channels_last(x: &FlexTensor) -> bool {
    let (layout, size) = (x.layout(), size(x));
    let dense =
        layout.start_offset() == 0 && x.bytes().len() == layout.num_elements() * size_of::<f32>();
    // The stride of a dimension of size 1 is never used.
    let fits = |d: usize| size[d] == 1 || layout.strides()[d] == strides(size)[d];
    dense && (0..4).all(fits)
}

/// The same image batch in the order `[N, H, W, C]`: itself, or a copy.
pub(super) fn channels_last(x: FlexTensor) -> FlexTensor {
    if is_channels_last(&x) {
        return x;
    }
    let (layout, size) = (x.layout(), size(&x));
    let view = View {
        data: x.storage(),
        offset: layout.start_offset(),
        size,
        strides: std::array::from_fn(|d| layout.strides()[d]),
    };
    let _span = crate::profile::span("to_channels_last", || size.to_vec());
    let mut buffer = Buffer::new(layout.num_elements());
    to_channels_last(&view, &mut buffer);
    from_buffer(buffer, size)
}

/// The elements in the order of the dimensions, copied only if they do not lie so.
pub(super) fn contiguous(x: FlexTensor) -> FlexTensor {
    let dense = x.bytes().len() == x.layout().num_elements() * size_of::<f32>();
    if dense && x.layout().start_offset() == 0 && x.is_contiguous() {
        return x;
    }
    FlexTensor::from_data(x.into_data())
}

/// Whether the kernels compute in this tensor's numbers.
pub(super) fn is_f32(x: &FlexTensor) -> bool {
    x.dtype() == DType::F32
}
