//! The hot operations of training, with hand-written backward passes.
//!
//! [`cpu`] holds the kernels themselves: functions over slices, which know nothing of Burn. [`profile`]
//! says what each operation took.

#[cfg(feature = "flex")]
pub mod cpu;
pub mod profile;
