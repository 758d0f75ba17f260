//! What can go wrong between a name like `cifar10` and a batch of pixels.
//!
//! Every message says what was expected, what was found and, where there is one, the remedy. A
//! complaint about a file names the file and the byte offset or the entry inside it.

use std::path::{Path, PathBuf};

use crate::remote::Remote;

/// An error from opening, downloading, checking or loading a data set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    // === Naming a data set ===
    /// The text before the first colon names no data set.
    #[error("unknown data set '{spec}'{hint}; known: {known}")]
    UnknownData {
        /// What was asked for.
        spec: String,
        /// `; did you mean …?` or nothing.
        hint: String,
        /// Every known form.
        known: String,
    },
    /// `folder` or `pack` without a path, or a colon with nothing behind it.
    #[error("data set '{spec}' needs a path: write '{example}'")]
    PathExpected {
        /// What was asked for.
        spec: String,
        /// How it should look.
        example: String,
    },
    /// An option outside its range.
    #[error("{name} = {value}: expected {expected}")]
    Option {
        /// The option's name.
        name: &'static str,
        /// The refused value.
        value: String,
        /// The range that is accepted.
        expected: String,
    },

    // === Finding it ===
    /// A downloadable set is not on this machine.
    #[error(
        "{name} was not found.\nLooked for: {looked}\nFetch it:   gradus data fetch {name}\n\
         By hand:    put {url} ({bytes} bytes, MD5 {md5}) at {place}",
        name = .remote.name, url = .remote.url, bytes = .remote.bytes, md5 = .remote.md5
    )]
    Missing {
        /// What is published: address, size, checksum.
        remote: &'static Remote,
        /// The places that were looked at.
        looked: String,
        /// Where to put it by hand.
        place: PathBuf,
    },
    /// A path that the user named does not exist.
    #[error("{path}: no such file or folder")]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// The platform has no cache folder and none was given.
    #[error("this system has no cache folder: give --data-dir or set GRADUS_DATA")]
    NoCacheFolder,
    /// The operating system refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was attempted: "read", "write", …
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },

    // === Reading it ===
    /// A file is not what it should be; the offset is in bytes from its start.
    #[error("{file}{}: {problem}", at(.offset))]
    File {
        /// The file, or `archive: entry`.
        file: String,
        /// Where in it, in bytes from the start.
        offset: Option<u64>,
        /// Expected and found.
        problem: String,
    },
    /// An entry of an archive or folder is not what it should be.
    #[error("{file}: entry '{entry}': {problem}")]
    Entry {
        /// The archive or folder.
        file: PathBuf,
        /// The path of the entry inside it.
        entry: String,
        /// Expected and found.
        problem: String,
    },
    /// The files are sound, but they make no classification problem.
    #[error("{file}: {problem}")]
    Classes {
        /// The archive or folder.
        file: PathBuf,
        /// Expected and found.
        problem: String,
    },
    /// The set does not fit in memory.
    #[error("{what} needs {bytes} bytes of memory, more than this system gives")]
    Memory {
        /// What was to be stored.
        what: String,
        /// How much it takes.
        bytes: u64,
    },

    // === Fetching it ===
    /// A download failed; nothing was left in the cache.
    #[error("download of {url} failed: {problem}; nothing was kept")]
    Download {
        /// The address.
        url: String,
        /// What happened.
        problem: String,
    },
    /// A file's size or checksum is not the published one.
    #[error(
        "{file}: {what} is {found}, published is {expected}; delete it and run 'gradus data fetch {name}'"
    )]
    Checksum {
        /// The file.
        file: PathBuf,
        /// The set's name.
        name: &'static str,
        /// "size", "MD5" or "SHA-256".
        what: &'static str,
        /// The published value.
        expected: String,
        /// The value of this file.
        found: String,
    },

    // === Loading it ===
    /// A loader thread died; the batch it was making is lost, so the run cannot go on.
    #[error("loader worker failed while making batch {batch}: {problem}")]
    Worker {
        /// The number of the batch within its epoch.
        batch: usize,
        /// The panic's message.
        problem: String,
    },
}

fn at(offset: &Option<u64>) -> String {
    offset
        .map(|bytes| format!(" at byte {bytes}"))
        .unwrap_or_default()
}

impl DataError {
    /// Wraps an operating-system error with what was being done to which path.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }

    /// A complaint about the file as a whole.
    pub(crate) fn file(file: impl std::fmt::Display, problem: impl Into<String>) -> Self {
        Self::File {
            file: file.to_string(),
            offset: None,
            problem: problem.into(),
        }
    }

    /// A complaint about the bytes at `offset` of a file.
    pub(crate) fn offset(
        file: impl std::fmt::Display,
        offset: u64,
        problem: impl Into<String>,
    ) -> Self {
        Self::File {
            file: file.to_string(),
            offset: Some(offset),
            problem: problem.into(),
        }
    }

    /// A complaint about one entry of an archive or folder.
    pub(crate) fn entry(file: &Path, entry: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Entry {
            file: file.to_path_buf(),
            entry: entry.into(),
            problem: problem.into(),
        }
    }

    /// A complaint about the classes of a data set.
    pub(crate) fn classes(file: &Path, problem: impl Into<String>) -> Self {
        Self::Classes {
            file: file.to_path_buf(),
            problem: problem.into(),
        }
    }

    /// A refused option.
    pub(crate) fn option(
        name: &'static str,
        value: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Self::Option {
            name,
            value: value.to_string(),
            expected: expected.into(),
        }
    }
}
