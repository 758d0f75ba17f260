//! Download a published file into the cache: all of it, and exactly it, or nothing.
//!
//! The bytes go to a temporary file in the cache folder; only when their number, MD5 and SHA-256 are
//! the published ones is it flushed to the disc and renamed. So a file that is visible is whole, a
//! killed download leaves nothing that looks like data, and two processes that fetch at once write
//! two temporary files of which the later rename wins with the same contents.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::DataError;
use crate::dataset::hex;
use crate::remote::Remote;

/// Leftovers of killed downloads are removed when they are this old.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// How patient a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchOptions {
    /// Give up when no connection is made in this time; default 30 s.
    pub connect: Duration,
    /// Give up when no byte arrives for this time; default 60 s.
    pub stall: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            stall: Duration::from_secs(60),
        }
    }
}

/// Where a file is now, and whether it had to be downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The verified file.
    pub path: PathBuf,
    /// `false` if it was there already.
    pub downloaded: bool,
}

/// Puts `remote` into the folder `cache` unless it is there, and verifies it either way.
///
/// `progress(done, total)` is called now and then with numbers of bytes.
///
/// # Errors
/// If the download fails, stalls, or is not the published file; the cache is then unchanged. If the
/// file is there already but is not the published one, it is replaced.
pub fn fetch(
    remote: &Remote,
    cache: &Path,
    options: FetchOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Fetched, DataError> {
    let path = cache.join(remote.file);
    if path.is_file() && check(remote, &path).is_ok() {
        return Ok(Fetched {
            path,
            downloaded: false,
        });
    }
    std::fs::create_dir_all(cache).map_err(DataError::io("create", cache))?;
    remove_stale(remote, cache);
    let start = prefix(remote);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&start).suffix(".part");
    #[cfg(unix)]
    {
        // Temporary files are private by default; a cache may be shared as the user's umask says.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let part = builder
        .tempfile_in(cache)
        .map_err(DataError::io("write in", cache))?;
    let sums = download(remote, part.as_file(), options, progress)?;
    sums.compare(remote)
        .map_err(|(what, expected, found)| DataError::Download {
            url: remote.url.to_owned(),
            problem: format!("its {what} is {found}, published is {expected}"),
        })?;
    part.as_file()
        .sync_all()
        .map_err(DataError::io("write", part.path()))?;
    part.persist(&path)
        .map_err(|e| DataError::io("write", &path)(e.error))?;
    // The rename itself survives a power cut only when the folder has been flushed.
    if let Ok(folder) = File::open(cache) {
        let _ = folder.sync_all(); // not every platform can open a folder
    }
    Ok(Fetched {
        path,
        downloaded: true,
    })
}

/// Compares a file with what is published about it: size, MD5, SHA-256.
///
/// # Errors
/// [`DataError::Checksum`] with both values, or [`DataError::Io`].
pub fn check(remote: &Remote, path: &Path) -> Result<(), DataError> {
    let mut file = File::open(path).map_err(DataError::io("open", path))?;
    let bytes = file.metadata().map_err(DataError::io("read", path))?.len();
    let mismatch = |(what, expected, found): (&'static str, String, String)| DataError::Checksum {
        file: path.to_path_buf(),
        name: remote.name,
        what,
        expected,
        found,
    };
    if bytes != remote.bytes {
        let found = format!("{bytes} bytes");
        return Err(mismatch(("size", format!("{} bytes", remote.bytes), found)));
    }
    let mut sums = Sums::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file
            .read(&mut buffer)
            .map_err(DataError::io("read", path))?
        {
            0 => break,
            count => sums.update(&buffer[..count]),
        }
    }
    sums.compare(remote).map_err(mismatch)
}

/// Running checksums.
#[derive(Default)]
struct Sums {
    bytes: u64,
    md5: Md5,
    sha256: Sha256,
}

impl Sums {
    fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.md5.update(bytes);
        self.sha256.update(bytes);
    }

    /// What differs from the published values: (what, published, found).
    fn compare(self, remote: &Remote) -> Result<(), (&'static str, String, String)> {
        if self.bytes != remote.bytes {
            let [expected, found] = [remote.bytes, self.bytes].map(|n| format!("{n} bytes"));
            return Err(("size", expected, found));
        }
        let md5 = hex(&self.md5.finalize());
        if md5 != remote.md5 {
            return Err(("MD5", remote.md5.to_owned(), md5));
        }
        let sha256 = hex(&self.sha256.finalize());
        match remote.sha256 {
            Some(expected) if expected != sha256 => Err(("SHA-256", expected.to_owned(), sha256)),
            _ => Ok(()),
        }
    }
}

fn download(
    remote: &Remote,
    mut part: &File,
    options: FetchOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Sums, DataError> {
    let failed = |problem: String| DataError::Download {
        url: remote.url.to_owned(),
        problem,
    };
    let agent = ureq::Agent::config_builder()
        .timeout_connect(Some(options.connect))
        .timeout_per_read(Some(options.stall))
        // A server that compresses on the way would change the bytes that the checksum is of.
        .accept_encoding("identity")
        .user_agent(concat!("gradus/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent();
    let response = agent
        .get(remote.url)
        .call()
        .map_err(|e| failed(explain(&e, options)))?;
    let mut body = response.into_body();
    let stated = body.content_length();
    if let Some(length) = stated.filter(|&length| length != remote.bytes) {
        let published = remote.bytes;
        return Err(failed(format!(
            "the server offers {length} bytes, published are {published}"
        )));
    }
    let mut reader = body.as_reader();
    let mut sums = Sums::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = reader.read(&mut buffer).map_err(|e| {
            let stalled = e.kind() == std::io::ErrorKind::TimedOut
                || e.to_string().to_lowercase().contains("timeout");
            let why = if stalled {
                stall(options)
            } else {
                e.to_string()
            };
            failed(format!(
                "after {} of {} bytes: {why}",
                sums.bytes, remote.bytes
            ))
        })?;
        if count == 0 {
            break;
        }
        sums.update(&buffer[..count]);
        if sums.bytes > remote.bytes {
            return Err(failed(format!(
                "more than the published {} bytes came",
                remote.bytes
            )));
        }
        part.write_all(&buffer[..count])
            .map_err(|e| failed(format!("cannot write: {e}")))?;
        progress(sums.bytes, remote.bytes);
    }
    if sums.bytes < remote.bytes {
        let (came, all) = (sums.bytes, remote.bytes);
        return Err(failed(format!(
            "the connection ended after {came} of {all} bytes"
        )));
    }
    Ok(sums)
}

fn stall(options: FetchOptions) -> String {
    format!("no byte for {} s", options.stall.as_secs_f32())
}

fn explain(error: &ureq::Error, options: FetchOptions) -> String {
    match error {
        ureq::Error::StatusCode(404) => "the server says 404: not found".to_owned(),
        ureq::Error::StatusCode(code) => format!("the server says {code}"),
        ureq::Error::TooManyRedirects => "redirected in a circle".to_owned(),
        ureq::Error::HostNotFound => "host not found: is this machine online?".to_owned(),
        ureq::Error::Timeout(ureq::Timeout::Connect) => {
            format!("no connection in {} s", options.connect.as_secs_f32())
        }
        ureq::Error::Timeout(_) => stall(options),
        other => other.to_string(),
    }
}

fn prefix(remote: &Remote) -> String {
    format!(".{}.", remote.file)
}

/// Removes what killed downloads left behind. Failing to is no reason to fail.
fn remove_stale(remote: &Remote, cache: &Path) {
    let Ok(items) = std::fs::read_dir(cache) else {
        return;
    };
    for item in items.flatten() {
        let name = item.file_name().to_string_lossy().into_owned();
        let age = item
            .metadata()
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|written| SystemTime::now().duration_since(written).ok());
        let ours = name.starts_with(&prefix(remote)) && name.ends_with(".part");
        if ours && age.is_some_and(|age| age > STALE) {
            let _ = std::fs::remove_file(item.path());
        }
    }
}
