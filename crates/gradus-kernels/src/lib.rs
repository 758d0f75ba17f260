//! The hot operations of training, with hand-written backward passes.
//!
//! ```text
//! Tensor ─► conv2d, … (this page)            tensor.rs
//!   Dispatch: which device, with a tape?     ops.rs
//!     Autodiff ─► record, differentiate      autodiff/
//!     backend  ─► Kernels: flex ─► cpu       kernels.rs, flex/, cpu/
//!                          GPUs ─► cube      cube/: between convolutions
//!                          others ─► Burn    fallback/
//! ```
//!
//! - [`conv2d`], [`batch_norm_act`], [`scale_shift_act`], [`activation`], [`max_pool2d`], [`avg_pool2d`],
//!   [`global_avg_pool`], [`subsample`], [`linear`], [`cross_entropy`], [`fork`]: the operations
//! - [`Precision`]: f32, bf16 or f16 products; [`mixed`]: which operation computes in which type
//! - [`cpu`]: the kernels themselves, functions over slices, which know nothing of Burn
//! - [`memory`]: the pool that their results come from
//! - [`profile`]: what each operation took
//! - [`trace`]: what each operation computed
//! - [`flat`]: tensors one after another in one buffer
//! - `cube`: kernels for GPUs, and which of them were started
//! - `resident`: weights that a step writes to while they stay in use
//!
//! ```
//! use burn::tensor::{Device, Tensor, ops::ConvOptions};
//! let device = Device::flex().autodiff();
//! let x = Tensor::ones([2, 3, 8, 8], &device);
//! let w = Tensor::ones([4, 3, 3, 3], &device).require_grad();
//! let y = gradus_kernels::conv2d(x, w.clone(), None, ConvOptions::new([1, 1], [1, 1], [1, 1], 1));
//! assert_eq!(y.dims(), [2, 4, 8, 8]);
//! let gradient = w.grad(&y.sum().backward());
//! assert!(gradient.is_some());
//! ```

mod autodiff;
pub mod cpu;
#[cfg(feature = "cube")]
pub mod cube;
mod fallback;
pub mod flat;
#[cfg(feature = "flex")]
mod flex;
mod joint;
mod kernels;
pub mod memory;
pub mod mixed;
mod ops;
pub mod profile;
#[cfg(feature = "flex")]
pub mod resident;
mod tensor;
pub mod trace;
mod traced;

pub use cpu::Precision;
pub use cpu::activation::Act;
pub use joint::Joint;
pub use kernels::{
    ChannelGradients, ChannelMap, Convolution, CrossEntropy, Kernels, LinearState, Moments, Windows,
};
pub use mixed::widen;
pub use ops::{KernelOps, Maybe};
pub use tensor::{
    Normalised, activation, avg_pool2d, batch_norm_act, conv2d, cross_entropy, fork,
    global_avg_pool, linear, max_pool2d, scale_shift_act, subsample,
};
