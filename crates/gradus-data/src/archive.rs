//! The files of a folder or an archive, in memory and in order of path.
//!
//! A `.tar`, `.tar.gz`, `.tar.xz` or `.zip` is recognised by its first bytes, not by its name, and is
//! never unpacked to disk. What could do harm elsewhere is refused here with the entry's name:
//!
//! - paths that leave the archive (`..`, absolute, drive letters), links, devices, sparse files;
//! - the same path twice, or a PAX size that contradicts the header (two readers would differ);
//! - bombs: an archive may unpack to [`RATIO`] times its size or [`FLOOR`] bytes, whichever is more,
//!   and no header makes us allocate: memory grows with the bytes that really arrive;
//! - truncation: a tar must end with at least the first of the two zero blocks of its end mark, and a
//!   compressed stream is read to its checksum.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use rayon::prelude::*;

use crate::DataError;

/// How many times its own size an archive may unpack to.
const RATIO: u64 = 200;
/// What any archive may unpack to, in bytes: 64 MiB.
const FLOOR: u64 = 64 << 20;
/// Memory for the dictionary of an xz stream, in KiB: 256 MiB covers every preset.
const XZ_MEMORY_KIB: u32 = 256 << 10;

/// One file.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its path inside, with `/`, without a leading `./`.
    pub(crate) path: String,
    /// Its contents.
    pub(crate) bytes: Vec<u8>,
}

/// What a folder or archive holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// The wanted files, sorted by path.
    pub(crate) files: Vec<Entry>,
    /// Every directory that is named, sorted.
    pub(crate) folders: Vec<String>,
    /// The files that were not wanted, sorted.
    pub(crate) ignored: Vec<String>,
}

/// Says of a path whether it is wanted, and how many bytes it may have.
pub(crate) type Wanted<'a> = &'a dyn Fn(&str) -> Option<u64>;

/// Reads the wanted files of the folder or archive `path`.
///
/// A folder is searched `depth` levels deep; links in it are followed, as they are the user's own.
pub(crate) fn read(path: &Path, depth: usize, wanted: Wanted) -> Result<Contents, DataError> {
    let meta = std::fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => DataError::NotFound {
            path: path.to_path_buf(),
        },
        _ => DataError::io("open", path)(source),
    })?;
    let mut contents = if meta.is_dir() {
        read_folder(path, depth, wanted)?
    } else {
        read_archive(path, meta.len(), wanted)?
    };
    contents.files.sort_by(|a, b| a.path.cmp(&b.path));
    contents.folders.sort();
    contents.folders.dedup();
    contents.ignored.sort();
    Ok(contents)
}

fn read_folder(root: &Path, depth: usize, wanted: Wanted) -> Result<Contents, DataError> {
    let mut contents = Contents::default();
    let mut found = Vec::new();
    for item in walkdir::WalkDir::new(root)
        .min_depth(1)
        .max_depth(depth)
        .follow_links(true)
    {
        let item = item.map_err(|error| {
            let place = error.path().unwrap_or(root).to_path_buf();
            DataError::io("read", &place)(error.into())
        })?;
        let inside = item.path().strip_prefix(root).unwrap_or(item.path());
        let name = inside.to_str().ok_or_else(|| {
            DataError::entry(root, inside.display().to_string(), "its name is not UTF-8")
        })?;
        let name = name.replace(std::path::MAIN_SEPARATOR, "/");
        if item.file_type().is_dir() {
            contents.folders.push(name);
        } else if let Some(limit) = wanted(&name) {
            found.push((name, item.into_path(), limit));
        } else {
            contents.ignored.push(name);
        }
    }
    contents.files = found
        .into_par_iter()
        .map(|(name, path, limit)| {
            let mut file = File::open(&path).map_err(DataError::io("open", &path))?;
            let bytes = read_limited(&mut file, limit).map_err(DataError::io("read", &path))?;
            let bytes = bytes.ok_or_else(|| too_long(root, &name, limit))?;
            Ok(Entry { path: name, bytes })
        })
        .collect::<Result<_, DataError>>()?;
    Ok(contents)
}

fn read_archive(path: &Path, size: u64, wanted: Wanted) -> Result<Contents, DataError> {
    let mut file = File::open(path).map_err(DataError::io("open", path))?;
    let mut head = Vec::new();
    file.by_ref()
        .take(512)
        .read_to_end(&mut head)
        .map_err(DataError::io("read", path))?;
    file.seek(SeekFrom::Start(0))
        .map_err(DataError::io("read", path))?;
    let budget = size.saturating_mul(RATIO).max(FLOOR);
    let file = BufReader::with_capacity(1 << 16, file);
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        read_zip(path, file, size, budget, wanted)
    } else if head.starts_with(&[0x1f, 0x8b]) {
        read_tar(
            path,
            flate2::bufread::MultiGzDecoder::new(file),
            budget,
            wanted,
        )
    } else if head.starts_with(b"\xfd7zXZ\0") {
        let reader = lzma_rust2::XzReader::new_mem_limit(file, true, XZ_MEMORY_KIB);
        read_tar(path, reader, budget, wanted)
    } else if is_tar(&head) {
        read_tar(path, file, budget, wanted)
    } else {
        Err(DataError::offset(path.display(), 0, not_an_archive(&head)))
    }
}

/// Whether 512 bytes are a tar header: its checksum field agrees with its bytes.
fn is_tar(head: &[u8]) -> bool {
    let Ok(block) = <&[u8; 512]>::try_from(head) else {
        return false;
    };
    let header = tar::Header::from_byte_slice(block);
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(i, &b)| {
            if (148..156).contains(&i) {
                32
            } else {
                u32::from(b)
            }
        })
        .sum();
    header.cksum().is_ok_and(|stated| stated == sum) || block.iter().all(|&b| b == 0)
}

fn not_an_archive(head: &[u8]) -> String {
    if head.is_empty() {
        return "the file is empty; expected a .tar, .tar.gz, .tar.xz or .zip".to_owned();
    }
    let shown: Vec<String> = head.iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!(
        "not a .tar, .tar.gz, .tar.xz or .zip archive (first bytes {})",
        shown.join(" ")
    )
}

/// Reads at most `limit` bytes; `None` if there are more.
fn read_limited(reader: &mut dyn Read, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    reader
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

fn too_long(file: &Path, entry: &str, limit: u64) -> DataError {
    DataError::entry(
        file,
        entry,
        format!("longer than the {limit} bytes that such a file may have"),
    )
}

/// A reader that stops at a budget, and remembers how far it came and whether it met the end.
struct Metered<R> {
    inner: R,
    budget: u64,
    position: Rc<Cell<u64>>,
    ended: Rc<Cell<bool>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position.set(self.position.get() + count as u64);
        if self.position.get() > self.budget {
            return Err(io::Error::other(bomb(self.budget)));
        }
        if count == 0 && !buffer.is_empty() {
            self.ended.set(true);
        }
        Ok(count)
    }
}

fn bomb(budget: u64) -> String {
    format!(
        "unpacks to more than {budget} bytes ({RATIO} times its size, at least {} MiB): \
         refused as a decompression bomb",
        FLOOR >> 20
    )
}

fn read_tar(
    path: &Path,
    inner: impl Read,
    budget: u64,
    wanted: Wanted,
) -> Result<Contents, DataError> {
    let (position, ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let metered = Metered {
        inner,
        budget,
        position: Rc::clone(&position),
        ended: Rc::clone(&ended),
    };
    let broken = |error: io::Error| {
        DataError::offset(
            path.display(),
            position.get(),
            format!("broken archive: {error}"),
        )
    };
    let mut archive = tar::Archive::new(metered);
    let mut contents = Contents::default();
    let mut seen = HashSet::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        let raw = entry.path_bytes().into_owned();
        let name = safe_path(path, &raw)?;
        if kind.is_dir() || raw.ends_with(b"/") {
            contents.folders.push(name);
            continue;
        }
        if !kind.is_file() {
            let problem = format!("is a {}, not a regular file: refused", kind_name(kind));
            return Err(DataError::entry(path, name, problem));
        }
        let size = entry.size();
        if entry.header().entry_size().map_err(broken)? != size {
            let problem = "its PAX size contradicts its header: refused";
            return Err(DataError::entry(path, name, problem));
        }
        if !seen.insert(name.clone()) {
            return Err(DataError::entry(
                path,
                name,
                "is in the archive twice: refused",
            ));
        }
        let Some(limit) = wanted(&name) else {
            contents.ignored.push(name);
            continue;
        };
        if size > limit {
            return Err(too_long(path, &name, limit));
        }
        let bytes = read_limited(&mut entry, limit)
            .map_err(|e| DataError::entry(path, name.clone(), format!("broken archive: {e}")))?
            .ok_or_else(|| too_long(path, &name, limit))?;
        if bytes.len() as u64 != size {
            let problem = format!(
                "truncated archive: {} of {size} bytes are there",
                bytes.len()
            );
            return Err(DataError::entry(path, name, problem));
        }
        contents.files.push(Entry { path: name, bytes });
    }
    if ended.get() {
        let problem = "truncated archive: the end mark (a zero block) is missing";
        return Err(DataError::offset(path.display(), position.get(), problem));
    }
    // Read on to the end, so that a compressed stream checks its own checksum.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
    Ok(contents)
}

fn kind_name(kind: tar::EntryType) -> &'static str {
    match kind {
        tar::EntryType::Link => "hard link",
        tar::EntryType::Symlink => "symbolic link",
        tar::EntryType::Char | tar::EntryType::Block => "device",
        tar::EntryType::Fifo => "pipe",
        tar::EntryType::GNUSparse => "sparse file",
        _ => "special entry",
    }
}

fn read_zip(
    path: &Path,
    file: BufReader<File>,
    size: u64,
    budget: u64,
    wanted: Wanted,
) -> Result<Contents, DataError> {
    // A zip is read from its end, where its directory lies: a truncated one fails there.
    let mut archive = zip::ZipArchive::new(file).map_err(|error| {
        let problem = format!("broken archive: {error}; expected the directory of the zip before");
        DataError::offset(path.display(), size, problem)
    })?;
    refuse_duplicates(path, archive.central_directory_start())?;
    let mut contents = Contents::default();
    let mut seen = HashSet::new();
    let mut total = 0u64;
    for index in 0..archive.len() {
        let named = archive
            .name_for_index(index)
            .and_then(Result::ok)
            .map(std::borrow::Cow::into_owned);
        let mut entry = archive.by_index(index).map_err(|error| {
            let name = named.unwrap_or_else(|| format!("number {index}"));
            DataError::entry(path, name, format!("broken archive: {error}"))
        })?;
        let raw = entry.name_raw().to_vec();
        let name = safe_path(path, &raw)?;
        if entry.is_dir() {
            contents.folders.push(name);
            continue;
        }
        if entry.is_symlink() {
            let problem = "is a symbolic link, not a regular file: refused";
            return Err(DataError::entry(path, name, problem));
        }
        if !seen.insert(name.clone()) {
            return Err(DataError::entry(
                path,
                name,
                "is in the archive twice: refused",
            ));
        }
        let Some(limit) = wanted(&name) else {
            contents.ignored.push(name);
            continue;
        };
        let bytes = read_limited(&mut entry, limit)
            .map_err(|e| DataError::entry(path, name.clone(), format!("broken archive: {e}")))?
            .ok_or_else(|| too_long(path, &name, limit))?;
        total += bytes.len() as u64;
        if total > budget {
            return Err(DataError::entry(path, name, bomb(budget)));
        }
        if bytes.len() as u64 != entry.size() {
            let problem = format!("{} bytes, its header says {}", bytes.len(), entry.size());
            return Err(DataError::entry(path, name, problem));
        }
        contents.files.push(Entry { path: name, bytes });
    }
    Ok(contents)
}

/// The zip library keeps the last of several entries with one name; we refuse them by name.
fn refuse_duplicates(path: &Path, start: u64) -> Result<(), DataError> {
    let mut file = File::open(path).map_err(DataError::io("open", path))?;
    file.seek(SeekFrom::Start(start))
        .map_err(DataError::io("read", path))?;
    let mut directory = Vec::new();
    file.read_to_end(&mut directory)
        .map_err(DataError::io("read", path))?;
    let mut rest = directory.as_slice();
    let mut seen = HashSet::new();
    // One record: PK\1\2, 42 more fixed bytes with three lengths at 28, 30, 32, then the name first.
    while rest.starts_with(b"PK\x01\x02") && rest.len() >= 46 {
        let length = |at: usize| usize::from(u16::from_le_bytes([rest[at], rest[at + 1]]));
        let (name, whole) = (length(28), 46 + length(28) + length(30) + length(32));
        let Some(name) = rest.get(46..46 + name) else {
            break;
        };
        if !seen.insert(name) {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(DataError::entry(
                path,
                name,
                "is in the archive twice: refused",
            ));
        }
        rest = rest.get(whole..).unwrap_or_default();
    }
    Ok(())
}

/// The path of an entry with `/` between its parts, or an error if it is not plainly inside.
fn safe_path(archive: &Path, raw: &[u8]) -> Result<String, DataError> {
    let shown = || String::from_utf8_lossy(raw).escape_debug().to_string();
    let refuse = |problem: &str| Err(DataError::entry(archive, shown(), problem));
    let Ok(text) = std::str::from_utf8(raw) else {
        return refuse("its name is not UTF-8: refused");
    };
    if text.chars().any(char::is_control) {
        return refuse("its name holds a control character: refused");
    }
    let text = text.replace('\\', "/");
    if text.starts_with('/') {
        return refuse("is an absolute path: refused");
    }
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.contains(&"..") {
        return refuse("its path leaves the archive ('..'): refused");
    }
    if parts
        .first()
        .is_some_and(|part| part.len() == 2 && part.ends_with(':'))
    {
        return refuse("is an absolute path: refused");
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_paths_are_tidied_and_harmful_ones_refused() {
        let safe = |text: &str| safe_path(Path::new("a.tar"), text.as_bytes());
        assert_eq!(safe("./train//cat/1.png").unwrap(), "train/cat/1.png");
        assert_eq!(safe("train\\cat\\1.png").unwrap(), "train/cat/1.png");
        assert_eq!(safe("a..b/...").unwrap(), "a..b/...");
        for (bad, why) in [
            ("../x", "leaves the archive"),
            ("a/../../x", "leaves the archive"),
            ("a\\..\\x", "leaves the archive"),
            ("/etc/passwd", "absolute"),
            ("\\x", "absolute"),
            ("C:\\x", "absolute"),
            ("a\0b", "control character"),
        ] {
            let message = safe(bad).unwrap_err().to_string();
            assert!(message.contains(why), "{bad}: {message}");
        }
        let message = safe_path(Path::new("a.tar"), &[0xff])
            .unwrap_err()
            .to_string();
        assert!(message.contains("not UTF-8"), "{message}");
    }
}
