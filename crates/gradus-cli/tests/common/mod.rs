//! Running the real binary in a folder of its own.

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// A run that takes a fraction of a second.
#[allow(dead_code, reason = "not every test file trains")]
pub(crate) const TINY: [&str; 12] = [
    "--model",
    "linear",
    "--set",
    "data.shapes_train=200",
    "--set",
    "data.shapes_test=50",
    "--epochs",
    "2",
    "--batch-size",
    "50",
    "--device",
    "flex",
];

/// A folder that goes away with the test.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The binary, working in `folder`, with a cache of its own that is empty.
pub(crate) fn gradus(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gradus"));
    prepare(|key, value| _ = command.env(key, value), folder);
    command.current_dir(folder).env_remove("RUST_BACKTRACE");
    command
}

/// The same to be started in the background.
#[allow(dead_code, reason = "not every test file interrupts")]
pub(crate) fn background(folder: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gradus"));
    prepare(|key, value| _ = command.env(key, value), folder);
    command.current_dir(folder);
    command
}

fn prepare(mut env: impl FnMut(&str, std::path::PathBuf), folder: &Path) {
    env("GRADUS_DATA", folder.join("cache"));
}

/// Runs `arguments`, which must succeed, and reads the one JSON value on stdout.
pub(crate) fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = gradus(folder)
        .args(arguments)
        .assert()
        .success()
        .get_output()
        .clone();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stdout));
    })
}

/// `train --json` with `TINY` and more.
#[allow(dead_code, reason = "not every test file trains")]
pub(crate) fn train(folder: &Path, more: &[&str]) -> Value {
    json(folder, &[&["train", "--json"], &TINY[..], more].concat())
}

/// Runs `arguments`, which must fail with `code`, and returns stderr.
#[allow(dead_code, reason = "not every test file reads stderr alone")]
pub(crate) fn fails(folder: &Path, code: i32, arguments: &[&str]) -> String {
    let output = gradus(folder)
        .args(arguments)
        .assert()
        .code(code)
        .get_output()
        .clone();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("error:"), "{stderr}");
    assert!(!stderr.contains("this is a bug"), "{stderr}");
    stderr
}
