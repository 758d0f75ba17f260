//! What can go wrong between a run folder and a page: the file, the place in it, and what was
//! expected.

use std::path::{Path, PathBuf};

/// Why a run could not be read, or its report not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The folder is missing or holds none of the files that a run writes.
    #[error(
        "{path}: not a run folder (expected at least one of {expected}); \
         give the folder that `gradus train` printed as its run folder"
    )]
    NotARun {
        /// The folder that was given.
        path: PathBuf,
        /// The file names that were looked for.
        expected: String,
    },
    /// A file or folder could not be read or written.
    #[error("{path}: could not {action}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb phrase ("read", "write").
        action: &'static str,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A file is there, but does not hold what the run-folder format says.
    #[error("{path}{}: {problem}", .line.map(|l| format!(", line {l}")).unwrap_or_default())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1, where it is known.
        line: Option<usize>,
        /// What was expected and what was found.
        problem: String,
    },
    /// A figure could not be turned into pixels.
    #[error("figure `{figure}` could not be drawn as PNG: {problem}")]
    Draw {
        /// The figure's file stem.
        figure: String,
        /// The renderer's words.
        problem: String,
    },
    /// The page template failed to render.
    #[error("the report page could not be rendered: {0}")]
    Page(#[from] askama::Error),
}

impl ReportError {
    pub(crate) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_path_buf(),
            action,
            source,
        }
    }

    pub(crate) fn malformed(path: &Path, line: Option<usize>, problem: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_path_buf(),
            line,
            problem: problem.into(),
        }
    }

    pub(crate) fn json(path: &Path, error: &serde_json::Error) -> Self {
        let line = (error.line() > 0).then_some(error.line());
        Self::malformed(path, line, format!("not the expected JSON: {error}"))
    }
}

/// Writes a file of the report in one step: see [`gradus_core::atomic`].
///
/// # Errors
/// [`ReportError::Io`] naming `path`; the old file is then untouched.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    gradus_core::atomic::write(path, bytes).map_err(|source| ReportError::io(path, "write", source))
}
