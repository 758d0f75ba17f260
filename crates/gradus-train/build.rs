//! Records the compiler and the version of Burn, for `run.json`.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RUSTC");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=GRADUS_RUSTC_VERSION={}", version.trim());
    // Burn is pinned to exactly one version in the workspace's Cargo.toml.
    println!("cargo:rustc-env=GRADUS_BURN_VERSION=0.22.1");
}
