//! Kernels of our own for GPUs, in CubeCL, and what looks at launches.
//!
//! One source for all runtimes of CubeCL (CUDA, ROCm, Metal, Vulkan, WebGPU, and its CPU runtime); compiled
//! only with a feature that brings one of them.

pub(crate) mod flat;
mod gather;
pub mod launches;
pub(crate) mod norm;
