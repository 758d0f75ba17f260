//! Files that are either the old version or the new one, never half of it.
//!
//! ```text
//! temporary file in the same folder → write → fsync → rename over the target → fsync the folder
//! ```
//!
//! `rename` replaces its target in one step on every file system that POSIX describes, so a reader,
//! or a run killed at any instant, sees a whole file.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::TrainError;

/// Writes `bytes` to `path` atomically.
///
/// # Errors
/// [`TrainError::Io`] when the folder does not exist, is not writable, or the disk is full; the old
/// file, if there was one, is then untouched.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let folder = parent(path);
    let mut file =
        tempfile::NamedTempFile::new_in(folder).map_err(TrainError::io("write in", folder))?;
    let fail = TrainError::io("write", path);
    (|| {
        file.write_all(bytes)?;
        // A temporary file is private to its owner; a run folder is meant to be read.
        set_readable(file.as_file())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        sync_folder(folder)
    })()
    .map_err(fail)
}

/// Writes `value` as indented JSON to `path` atomically.
///
/// # Errors
/// As [`write`].
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

/// Makes a rename inside `folder` durable.
///
/// # Errors
/// The operating system's, where folders can be synchronised at all.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// The folder that `path` lies in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn set_readable(file: &File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_version_replaces_the_old_and_leaves_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named_and_nothing_is_created() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(&folder.path().join("no/such/a.txt"), b"x").unwrap_err().to_string();
        assert!(error.contains("no/such"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
