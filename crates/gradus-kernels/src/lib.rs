//! The hot operations of training, with hand-written backward passes.
//!
//! [`cpu`] holds the kernels themselves: functions over slices, which know nothing of Burn.

#[cfg(feature = "flex")]
pub mod cpu;
