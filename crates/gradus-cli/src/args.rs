//! Flags that several verbs share, under the same names everywhere.

use std::path::PathBuf;

use clap::Args;

/// How much is said, and in what form.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Speech {
    /// Print one JSON object on stdout and nothing else there
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Say nothing on stderr but errors
    #[arg(long, short, help_heading = "Output")]
    pub(crate) quiet: bool,
}

/// Where the data lies.
#[derive(Args, Clone, Debug)]
pub(crate) struct DataDir {
    /// Folder of downloaded data sets [default: $GRADUS_DATA, else the cache folder of the system]
    #[arg(long, value_name = "DIR", value_parser = path, help_heading = "Data")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// A path that a TOML or JSON file can hold: clap refuses what is no Unicode.
///
/// # Errors
/// For an empty text, which a variable that is not set leaves, and which would mean this folder.
pub(crate) fn path(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("expected a path, found nothing; this folder is `.`".to_owned()),
        path => Ok(path.into()),
    }
}

/// Splits `a.b=c` for `--set`.
///
/// # Errors
/// When there is no `=` or nothing before it.
pub(crate) fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("expected KEY=VALUE, such as data.workers=4".to_owned()),
    }
}
