//! What can be downloaded, and where it is kept.
//!
//! Sizes and MD5 sums are those of the authors' page, <https://www.cs.toronto.edu/~kriz/cifar.html>;
//! the SHA-256 sums, which the page does not give, are those that several independent projects pin.

use std::path::{Path, PathBuf};

use crate::DataError;

/// A file published on the web, with what is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The name to fetch it by.
    pub name: &'static str,
    /// Its file name in the cache.
    pub file: &'static str,
    /// Where it is published.
    pub url: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its MD5, 32 hex digits.
    pub md5: &'static str,
    /// Its SHA-256, 64 hex digits, if known.
    pub sha256: Option<&'static str>,
}

/// CIFAR-10, binary version: 60,000 images.
pub const CIFAR10: Remote = Remote {
    name: "cifar10",
    file: "cifar-10-binary.tar.gz",
    url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    bytes: 170_052_171,
    md5: "c32a1d4ab5d03f1284b67883e8d87530",
    sha256: Some("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
};

/// CIFAR-100, binary version: 60,000 images.
pub const CIFAR100: Remote = Remote {
    name: "cifar100",
    file: "cifar-100-binary.tar.gz",
    url: "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    bytes: 168_513_733,
    md5: "03b5dce01913d631647c71ecec9e9cb8",
    sha256: Some("58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"),
};

/// Everything that [`fetch`](crate::fetch::fetch) knows.
pub const REMOTES: [&Remote; 2] = [&CIFAR10, &CIFAR100];

/// The folder that downloads go to: `explicit`, else `GRADUS_DATA`, else `gradus` in the platform's
/// cache folder.
///
/// # Errors
/// If none of the three exists.
pub fn cache_dir(explicit: Option<&Path>) -> Result<PathBuf, DataError> {
    explicit
        .map(Path::to_path_buf)
        .or_else(|| {
            std::env::var_os("GRADUS_DATA")
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        })
        .or_else(|| dirs::cache_dir().map(|cache| cache.join("gradus")))
        .ok_or(DataError::NoCacheFolder)
}
