//! Images as rows of channels: how a tensor lies in memory, and how its work is divided.
//!
//! ```text
//! [N, C, H, W] in the order N, H, W, C:   rows = N·H·W,   element (r, c) at r·pitch + c
//! ```
//! That is what convolutions and poolings of Burn return on a GPU, seen as `[N, C, H, W]` through the strides
//! (with pitch > C where the device wants rows to begin at round addresses), and what all kernels here
//! return. A tensor in another order is copied into this one first: one pass, which Burn's convolution would need
//! as well.
//!
//! A unit (CUDA: a thread) computes some neighbouring channels, a *column*, in some of the rows; a cube (CUDA: a block) is
//! `width` columns by `lanes` rows, and goes down a piece of the rows:
//!
//! ```text
//!              width columns
//!            ┌───────────────┐
//!   lanes    │ units         │     cubes: (columns / width) × (rows / block)
//!            ├───────────────┤
//!     ⋮      │ the same      │     a unit visits the rows first + lane, first + lane + lanes, …
//!   block    └───────────────┘
//! ```
//! Which cube adds up what follows from shapes and the limits of the device alone: the same sums in the same
//! order in every run.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::{AddressType, CubeCount, CubeDim};

/// Units of a cube: every device offers these, and WebGPU no more by default.
const UNITS: usize = 256;
/// The widest cube, in columns.
const WIDTH: usize = 32;
/// Channels of a column, at most: 16 bytes of f32.
const MOST: usize = 4;
/// Rows that a unit visits before there are more cubes.
const FEWEST: usize = 8;
/// Cubes that fill a large GPU a few times over, and partial sums that are added up quickly.
const CUBES: usize = 1024;

/// A tensor whose memory is rows of channels.
pub(super) struct Rows {
    tensor: CubeTensor,
    /// N·H·W.
    pub(super) rows: usize,
    /// C.
    pub(super) channels: usize,
    /// Elements from one row to the next.
    pitch: usize,
}

impl Rows {
    /// The rows of `[N, C, H, W]`, with a copy if they are not there.
    pub(super) fn of(tensor: CubeTensor) -> Self {
        if let Some(pitch) = pitch(&tensor) {
            return Self::with_pitch(tensor, pitch);
        }
        let dense = into_contiguous(channels_last(tensor));
        let channels = dense.meta.shape()[3];
        Self::with_pitch(channels_first(dense), channels)
    }

    /// New memory for an image batch of this shape, `[N, C, H, W]`.
    pub(super) fn empty(like: &CubeTensor, shape: &Shape, dtype: DType) -> Self {
        let [n, c, h, w] = std::array::from_fn(|d| shape[d]);
        let dense = empty_device_contiguous_dtype(
            like.client.clone(),
            like.device.clone(),
            Shape::from([n, h, w, c]),
            dtype,
        );
        Self::with_pitch(channels_first(dense), c)
    }

    fn with_pitch(tensor: CubeTensor, pitch: usize) -> Self {
        let [n, channels, h, w] = std::array::from_fn(|d| tensor.meta.shape()[d]);
        Self {
            tensor,
            rows: n * h * w,
            channels,
            pitch,
        }
    }

    pub(super) fn tensor(&self) -> &CubeTensor {
        &self.tensor
    }

    pub(super) fn into_tensor(self) -> CubeTensor {
        self.tensor
    }

    /// The type of the elements, for a kernel.
    pub(super) fn element(&self) -> ElemType {
        dtype_to_storage_type(self.tensor.dtype)
    }

    /// Whether the elements are f32.
    pub(super) fn is_f32(&self) -> bool {
        self.tensor.dtype == DType::F32
    }

    /// How many neighbouring channels can be read at once: 4, 2 or 1.
    fn vector(&self) -> usize {
        let bytes = self.tensor.dtype.size();
        let start = self.tensor.handle.offset_start.unwrap_or(0) as usize;
        let fits = |n: &usize| {
            self.channels.is_multiple_of(*n)
                && self.pitch.is_multiple_of(*n)
                && start.is_multiple_of(n * bytes)
        };
        [MOST, 2].into_iter().find(fits).unwrap_or(1)
    }

    /// Columns from one row to the next.
    pub(super) fn pitch(&self, plan: &Plan) -> usize {
        self.pitch / plan.vector
    }
}

/// Elements from one row to the next, if the memory of `[N, C, H, W]` is rows of channels.
fn pitch(tensor: &CubeTensor) -> Option<usize> {
    if tensor.meta.is_tiled() || tensor.qparams.is_some() {
        return None;
    }
    let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
    if shape[1] != 1 && strides[1] != 1 {
        return None;
    }
    let (mut pitch, mut below) = (None, 1);
    for d in [3, 2, 0] {
        if shape[d] != 1 {
            let step = *pitch.get_or_insert(strides[d]);
            if strides[d] != step * below {
                return None;
            }
            below *= shape[d];
        }
    }
    let pitch = pitch.unwrap_or(shape[1]);
    (pitch >= shape[1]).then_some(pitch)
}

fn permuted(mut tensor: CubeTensor, axes: [usize; 4]) -> CubeTensor {
    let (shape, strides) = (tensor.meta.shape().clone(), tensor.meta.strides().clone());
    for (to, from) in axes.into_iter().enumerate() {
        tensor.meta.shape_mut()[to] = shape[from];
        tensor.meta.strides_mut()[to] = strides[from];
    }
    tensor
}

/// `[N, C, H, W] → [N, H, W, C]`, a view.
pub(super) fn channels_last(tensor: CubeTensor) -> CubeTensor {
    permuted(tensor, [0, 2, 3, 1])
}

/// `[N, H, W, C] → [N, C, H, W]`, a view.
pub(super) fn channels_first(tensor: CubeTensor) -> CubeTensor {
    permuted(tensor, [0, 3, 1, 2])
}

/// How the work on some tensors of one shape is divided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Channels of a column.
    pub(super) vector: usize,
    /// Columns of a row.
    pub(super) columns: usize,
    /// Columns of a cube.
    pub(super) width: usize,
    /// Rows of a cube at a time, a power of two.
    pub(super) lanes: usize,
    /// Rows.
    pub(super) rows: usize,
    /// Rows that a cube goes down.
    pub(super) block: usize,
    /// Cubes below one another.
    pub(super) blocks: usize,
    pub(super) address: AddressType,
}

impl Plan {
    pub(super) fn of(tensors: &[&Rows]) -> Self {
        let first = tensors[0];
        let vector = tensors.iter().map(|t| t.vector()).min().unwrap_or(1);
        let address = tensors
            .iter()
            .map(|t| t.tensor.required_address_type())
            .max()
            .unwrap_or_default();
        let columns = first.channels / vector;
        let width = columns.min(WIDTH);
        let hardware = &first.tensor.client.properties().hardware;
        let units = UNITS.min(hardware.max_units_per_cube as usize);
        let most = (units / width).clamp(1, hardware.max_cube_dim.1 as usize);
        // The largest power of two that is not larger.
        let lanes = 1 << most.ilog2();
        let across = columns.div_ceil(width);
        let wanted = first.rows.div_ceil(lanes * FEWEST);
        let blocks = wanted.clamp(1, (CUBES / across).max(1));
        let block = first.rows.div_ceil(blocks).max(1);
        Self {
            vector,
            columns,
            width,
            lanes,
            rows: first.rows,
            block,
            blocks: first.rows.div_ceil(block),
            address,
        }
    }

    pub(super) fn dim(&self) -> CubeDim {
        CubeDim::new_2d(self.width as u32, self.lanes as u32)
    }

    pub(super) fn count(&self) -> CubeCount {
        let across = self.columns.div_ceil(self.width);
        CubeCount::Static(across as u32, self.blocks as u32, 1)
    }
}
