//! A reader sees the old file or the new one, never half of either: temporary file in the same
//! folder, fsync, rename.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::ReportError;

/// Writes `bytes` to `path`, replacing what was there in one step.
///
/// # Errors
/// [`ReportError::Io`] naming `path` if the folder is not writable or the disk is full; the old
/// file is then untouched.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    let fail = |source| ReportError::io(path, "write", source);
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));

    let mut builder = tempfile::Builder::new();
    builder.prefix(".gradus-").suffix(".tmp");
    #[cfg(unix)]
    {
        // Temporary files are private by default; a report is an ordinary file under the user's
        // umask.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    // The rename itself lives in the folder: flush that too where the system lets us open folders.
    if let Ok(folder) = File::open(folder) {
        folder.sync_all().ok();
    }
    Ok(())
}
