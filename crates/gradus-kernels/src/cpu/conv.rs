//! Two-dimensional convolution and its two gradients.
//!
//! ```text
//! y[n,i,j,k]  = b[k] + Σ_{u,v,c} w[k,c,u,v]·x[n, i·s + u·d − p, j·s + v·d − p, c]
//! dx[n,h,v,c] = Σ over the (i, j, k, u, v) of that sum that read x[n,h,v,c] of w[k,c,u,v]·dy[n,i,j,k]
//! dw[k,c,u,v] = Σ_{n,i,j} x[n, i·s + u·d − p, j·s + v·d − p, c]·dy[n,i,j,k]
//! ```

use std::marker::PhantomData;

pub use super::Precision;
use super::volume;

mod depthwise;
mod direct;
mod panels;
mod scratch;
mod tile;
mod weight;
mod window;
mod winograd;

pub(super) use winograd::LIMIT as WINOGRAD;

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Images N.
    pub batch: usize,
    /// Input height H and width W.
    pub size: [usize; 2],
    /// Input channels C.
    pub in_channels: usize,
    /// Filters K.
    pub out_channels: usize,
    /// Height and width of a filter.
    pub kernel: [usize; 2],
    /// Step between positions.
    pub stride: [usize; 2],
    /// Zeros on every side.
    pub padding: [usize; 2],
    /// Distance between the taps of a filter.
    pub dilation: [usize; 2],
    /// Groups G: filter block g sees channel block g only.
    pub groups: usize,
}

impl ConvShape {
    /// Rows and columns that a filter spans, taps and the gaps between them.
    #[must_use]
    pub fn span(&self) -> [usize; 2] {
        std::array::from_fn(|i| self.dilation[i] * (self.kernel[i] - 1) + 1)
    }

    /// Output height H′ and width W′.
    #[must_use]
    pub fn out_size(&self) -> [usize; 2] {
        std::array::from_fn(|i| {
            (self.size[i] + 2 * self.padding[i] - self.span()[i]) / self.stride[i] + 1
        })
    }
}

/// An image batch in memory: element (n, h, w, c) is `data[n·s₀ + h·s₁ + w·s₂ + c·s₃]`.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// The memory.
    pub data: &'a [f32],
    /// Distances between neighbours along n, h, w and c.
    pub strides: [usize; 4],
}

/// y = x ∗ w + b. `x` `[N, H, W, C]` in any layout; `w` `[K, C/G, kh, kw]`; `y` `[N, H′, W′, K]`.
///
/// # Panics
/// If a slice is not of the size that `shape` says, or there is no such convolution: no channel or
/// filter, groups that do not divide them, a kernel larger than the padded image, a step of 0.
pub fn forward(shape: &ConvShape, x: Images<'_>, w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    forward_in(Precision::F32, shape, x, w, bias, y);
}

/// [`forward`] with products of this precision.
///
/// # Panics
/// As [`forward`].
pub fn forward_in(
    precision: Precision,
    shape: &ConvShape,
    x: Images<'_>,
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    shape.check(w);
    shape.check_result(y, shape.out_size(), shape.out_channels);
    shape.check_images(&x, shape.size, shape.in_channels);
    assert!(bias.is_none_or(|b| b.len() == shape.out_channels), "bias");
    if depthwise::fits(shape, &[x]) {
        return depthwise::forward(shape, x, w, bias, y);
    }
    match winograd::method(shape, precision).filter(|_| x.strides[3] == 1) {
        Some(method) => winograd::forward(shape, method, x, w, bias, y),
        None => direct::forward(shape, x, w, bias, y),
    }
}

/// ∂L/∂x from ∂L/∂y. `dy` `[N, H′, W′, K]` in any layout; `dx` `[N, H, W, C]`.
///
/// # Panics
/// As [`forward`].
pub fn input_gradient(shape: &ConvShape, dy: Images<'_>, w: &[f32], dx: &mut [f32]) {
    input_gradient_in(Precision::F32, shape, dy, w, dx);
}

/// [`input_gradient`] with products of this precision.
///
/// # Panics
/// As [`input_gradient`].
pub fn input_gradient_in(
    precision: Precision,
    shape: &ConvShape,
    dy: Images<'_>,
    w: &[f32],
    dx: &mut [f32],
) {
    shape.check(w);
    shape.check_result(dx, shape.size, shape.in_channels);
    shape.check_images(&dy, shape.out_size(), shape.out_channels);
    if depthwise::fits(shape, &[dy]) {
        return depthwise::input_gradient(shape, dy, w, dx);
    }
    match winograd::method(shape, precision).filter(|_| dy.strides[3] == 1) {
        Some(method) => winograd::input_gradient(shape, method, dy, w, dx),
        None => direct::input_gradient(shape, dy, w, dx),
    }
}

/// ∂L/∂w from ∂L/∂y and x. `x`, `dy` in any layout; `dw` `[K, C/G, kh, kw]`.
///
/// # Panics
/// As [`forward`].
pub fn weight_gradient(shape: &ConvShape, x: Images<'_>, dy: Images<'_>, dw: &mut [f32]) {
    weight_gradient_in(Precision::F32, shape, x, dy, dw);
}

/// [`weight_gradient`] with products of this precision.
///
/// # Panics
/// As [`weight_gradient`].
pub fn weight_gradient_in(
    precision: Precision,
    shape: &ConvShape,
    x: Images<'_>,
    dy: Images<'_>,
    dw: &mut [f32],
) {
    shape.check(dw);
    shape.check_images(&x, shape.size, shape.in_channels);
    shape.check_images(&dy, shape.out_size(), shape.out_channels);
    if depthwise::fits(shape, &[x, dy]) {
        return depthwise::weight_gradient(shape, x, dy, dw);
    }
    let last = x.strides[3] == 1 && dy.strides[3] == 1;
    match winograd::method(shape, precision).filter(|_| last) {
        Some(method) => winograd::weight_gradient(shape, method, x, dy, dw),
        None => weight::weight_gradient(shape, x, dy, dw),
    }
}

impl ConvShape {
    /// What every pass rests on: the sums below read and write by address.
    ///
    /// # Panics
    /// If there is no such convolution, or it does not have so many weights.
    fn check(&self, weights: &[f32]) {
        assert!(
            self.groups > 0
                && self.in_channels > 0
                && self.out_channels > 0
                && self.in_channels.is_multiple_of(self.groups)
                && self.out_channels.is_multiple_of(self.groups),
            "{} channels and {} filters cannot be cut into {} groups",
            self.in_channels,
            self.out_channels,
            self.groups
        );
        for i in 0..2 {
            let (size, kernel, padding) = (self.size[i], self.kernel[i], self.padding[i]);
            let padded = padding.checked_mul(2).and_then(|p| p.checked_add(size));
            let span = kernel
                .checked_sub(1)
                .and_then(|gaps| gaps.checked_mul(self.dilation[i]))
                .and_then(|reach| reach.checked_add(1));
            assert!(
                self.stride[i] > 0 && self.dilation[i] > 0 && span.is_some() && span <= padded,
                "a kernel of {kernel} with dilation {} and stride {} does not fit {size} positions \
                 padded by {padding}",
                self.dilation[i],
                self.stride[i]
            );
        }
        let per_group = self.in_channels / self.groups;
        let expected = [self.out_channels, per_group, self.kernel[0], self.kernel[1]];
        assert_eq!(weights.len(), volume(&expected), "weights {expected:?}");
    }

    /// # Panics
    /// If `images` has not so many numbers.
    fn check_result(&self, images: &[f32], [h, w]: [usize; 2], channels: usize) {
        let expected = [self.batch, h, w, channels];
        assert_eq!(images.len(), volume(&expected), "result {expected:?}");
    }

    /// # Panics
    /// If an element lies outside of the memory.
    fn check_images(&self, images: &Images<'_>, size: [usize; 2], channels: usize) {
        let counts = [self.batch, size[0], size[1], channels];
        if counts.contains(&0) {
            return;
        }
        let last = (0..4).try_fold(0usize, |last, d| {
            (counts[d] - 1)
                .checked_mul(images.strides[d])
                .and_then(|step| last.checked_add(step))
        });
        assert!(
            last.is_some_and(|last| last < images.data.len()),
            "images {counts:?} with strides {:?} in {} numbers",
            images.strides,
            images.data.len()
        );
    }
}

/// Memory that several tasks write, each a part of its own.
struct Shared<'a> {
    start: *mut f32,
    len: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is a mutable borrow of plain numbers; who writes through it vouches for disjointness.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    fn new(memory: &'a mut [f32]) -> Self {
        Self {
            start: memory.as_mut_ptr(),
            len: memory.len(),
            borrow: PhantomData,
        }
    }

    fn pointer(&self) -> *mut f32 {
        self.start
    }

    /// Some of the memory.
    ///
    /// # Safety
    /// No other task may touch these numbers while the slice lives.
    #[allow(clippy::mut_from_ref)]
    unsafe fn slice(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start + len <= self.len);
        // SAFETY: inside the borrow, and the caller's alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}
