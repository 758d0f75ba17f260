//! Files of a run, written so that a reader, or a run killed at any instant, sees whole ones: see
//! [`gradus_core::atomic`]. Here its errors say which file it was.

use std::fs;
use std::path::Path;

use gradus_core::atomic;

use crate::TrainError;

/// Writes `bytes` to `path`, replacing what was there in one step.
///
/// # Errors
/// [`TrainError::Io`] when the folder does not exist, is not writable, or the disk is full; the old
/// file, if there was one, is then untouched.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    atomic::write(path, bytes).map_err(TrainError::io("write", path))
}

/// Writes `value` as indented JSON to `path` in one step.
///
/// # Errors
/// As [`write()`].
pub fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), TrainError> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| TrainError::io("write", path)(error.into()))?;
    text.push('\n');
    write(path, text.as_bytes())
}

/// Reads JSON from `path`.
///
/// # Errors
/// [`TrainError::Io`] if it cannot be read, [`TrainError::Damaged`] if it is not what was expected.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, TrainError> {
    let text = fs::read_to_string(path).map_err(TrainError::io("read", path))?;
    serde_json::from_str(&text).map_err(|error| TrainError::damaged(path, error.to_string()))
}
