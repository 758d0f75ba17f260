//! Is a data set what it claims to be?
//!
//! An archive that the authors publish is compared with their size and checksums; then any set is
//! opened, which checks every record, entry and image of it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{DataError, DataSpec, ImageShape, OpenOptions, cifar, fetch};

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verification {
    /// The set's name and path as given.
    pub spec: DataSpec,
    /// The file or folder that was read; `None` for the built-in set.
    pub path: Option<PathBuf>,
    /// `Some(true)`: its size and checksums are the published ones. `None`: nothing is published
    /// about it (a folder, or an archive that somebody made).
    pub published_checksum: Option<bool>,
    /// Training images.
    pub train: usize,
    /// Test images.
    pub test: usize,
    /// Training images of each class, by name.
    pub classes: Vec<(String, usize)>,
    /// The shape of every image.
    pub shape: ImageShape,
    /// [`Dataset::fingerprint`](crate::Dataset::fingerprint).
    pub fingerprint: String,
    /// [`Dataset::notes`](crate::Dataset::notes).
    pub notes: Vec<String>,
}

/// Checks a data set: checksums where they are published, then everything in it.
///
/// # Errors
/// If it is not there, is not the published file although it bears its name, or does not open.
pub fn verify(spec: &DataSpec, options: &OpenOptions) -> Result<Verification, DataError> {
    let path = match spec {
        DataSpec::Cifar(set, None) => Some(cifar::locate(*set, options.data_dir.as_deref())?),
        other => other.path().map(Path::to_path_buf),
    };
    let mut published_checksum = None;
    if let (DataSpec::Cifar(set, _), Some(path)) = (spec, &path) {
        let remote = set.remote();
        if path.is_file() && path.file_name().is_some_and(|name| name == remote.file) {
            fetch::check(remote, path)?;
            published_checksum = Some(true);
        }
    }
    let data = spec.open(options)?;
    let counts = data.train.class_counts(data.classes.len());
    Ok(Verification {
        spec: spec.clone(),
        path,
        published_checksum,
        train: data.train.len(),
        test: data.test.len(),
        shape: data.shape(),
        fingerprint: data.fingerprint(),
        classes: data.classes.into_iter().zip(counts).collect(),
        notes: data.notes,
    })
}
