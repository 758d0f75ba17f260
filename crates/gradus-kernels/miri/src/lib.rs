//! The parts of `gradus-kernels` that know nothing of Burn; see `Cargo.toml`.

#[path = "../../src/cpu/mod.rs"]
pub mod cpu;
#[path = "../../src/memory/mod.rs"]
pub mod memory;
