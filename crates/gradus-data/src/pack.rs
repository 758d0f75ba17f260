//! A data set as one file that opens at the speed of the disc.
//!
//! ```text
//! offset 0   "GRADUSPK"                    8 bytes
//!        8   length L of the header        u64, little-endian, at most 16 MiB
//!       16   header                        L bytes of JSON: name, classes, shape, counts, notes, SHA-256
//!     16+L   training labels (u16 LE), training pixels, test labels, test pixels; then the end
//! ```
//!
//! The header is believed only after the file's length has been compared with what it promises, and
//! the contents only after their SHA-256.

use gradus_core::atomic;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::dataset::hex;
use crate::{DataError, Dataset, ImageShape, Images};

const MAGIC: &[u8; 8] = b"GRADUSPK";
const HEADER_LIMIT: u64 = 16 << 20;
/// Red, green, blue: the only images that are packed.
const CHANNELS: usize = 3;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    name: String,
    classes: Vec<String>,
    shape: ImageShape,
    train: u64,
    test: u64,
    notes: Vec<String>,
    sha256: String,
}

/// Whether the file starts as a pack does.
#[must_use]
pub fn is_pack(path: &Path) -> bool {
    let mut magic = [0; 8];
    path.is_file()
        && File::open(path)
            .and_then(|mut file| file.read_exact(&mut magic))
            .is_ok()
        && &magic == MAGIC
}

/// Writes `data` to `path`, atomically: a temporary file beside it, fsync, rename.
///
/// # Errors
/// If the two parts have different shapes, an image has other than three channels, or the system
/// refuses.
pub fn write(data: &Dataset, path: &Path) -> Result<(), DataError> {
    if data.train.shape != data.test.shape {
        let found = format!("{} and {}", data.train.shape, data.test.shape);
        return Err(DataError::option(
            "shapes of training and test images",
            found,
            "equal shapes",
        ));
    }
    if data.train.shape.channels != CHANNELS {
        return Err(DataError::file(path.display(), channels(data.train.shape)));
    }
    let mut hash = Sha256::new();
    payload(data, |bytes| {
        hash.update(bytes);
        Ok(())
    })
    .map_err(DataError::io("hash", path))?;
    let header = Header {
        version: 1,
        name: data.name.clone(),
        classes: data.classes.clone(),
        shape: data.train.shape,
        train: data.train.len() as u64,
        test: data.test.len() as u64,
        notes: data.notes.clone(),
        sha256: hex(&hash.finalize()),
    };
    let header = serde_json::to_vec(&header)
        .map_err(|e| DataError::file(path.display(), format!("header: {e}")))?;
    atomic::write_with(path, |file| {
        let mut out = BufWriter::new(file);
        out.write_all(MAGIC)?;
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        payload(data, |bytes| out.write_all(bytes))?;
        out.flush()
    })
    .map_err(DataError::io("write", path))
}

fn payload(
    data: &Dataset,
    mut put: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    for part in [&data.train, &data.test] {
        let labels: Vec<u8> = part
            .labels
            .iter()
            .flat_map(|label| label.to_le_bytes())
            .collect();
        put(&labels)?;
        put(&part.pixels)?;
    }
    Ok(())
}

/// Reads a pack.
///
/// # Errors
/// If it is not one, is truncated or longer than it says, its images have other than three channels,
/// or its checksum or a label is wrong.
pub fn read(path: &Path) -> Result<Dataset, DataError> {
    let io = |e| DataError::io("read", path)(e);
    let mut file = File::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => DataError::NotFound {
            path: path.to_path_buf(),
        },
        _ => DataError::io("open", path)(source),
    })?;
    let length = file.metadata().map_err(io)?.len();
    let wrong = |offset: u64, problem: String| DataError::offset(path.display(), offset, problem);
    let mut head = Vec::new();
    (&file).take(16).read_to_end(&mut head).map_err(io)?;
    if !head.starts_with(MAGIC) {
        return Err(wrong(
            0,
            "not a pack: it does not start with 'GRADUSPK'".to_owned(),
        ));
    }
    let stated = head
        .get(8..16)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_le_bytes)
        .ok_or_else(|| wrong(8, format!("truncated pack: {length} bytes")))?;
    if stated > HEADER_LIMIT.min(length.saturating_sub(16)) {
        return Err(wrong(
            8,
            format!("a header of {stated} bytes in a file of {length}"),
        ));
    }
    let mut header = vec![0; stated as usize];
    file.read_exact(&mut header).map_err(io)?;
    let header: Header =
        serde_json::from_slice(&header).map_err(|e| wrong(16, format!("header: {e}")))?;
    if header.version != 1 {
        return Err(wrong(
            16,
            format!("version {}: this program reads version 1", header.version),
        ));
    }
    // Every other source gives three, and resizing and augmentation rely on it.
    if header.shape.channels != CHANNELS {
        return Err(wrong(16, channels(header.shape)));
    }
    let promised = promised_length(&header).and_then(|bytes| bytes.checked_add(16 + stated));
    if promised != Some(length) {
        let promised = promised.map_or("an impossible number of".to_owned(), |p| p.to_string());
        return Err(wrong(
            16,
            format!("{length} bytes, but its header promises {promised}"),
        ));
    }
    let mut payload = Vec::new();
    payload
        .try_reserve_exact((length - 16 - stated) as usize)
        .map_err(|_| DataError::Memory {
            what: path.display().to_string(),
            bytes: length,
        })?;
    file.read_to_end(&mut payload).map_err(io)?;
    let found = hex(&Sha256::digest(&payload));
    if found != header.sha256 {
        let problem = format!("damaged: SHA-256 {found}, written was {}", header.sha256);
        return Err(wrong(16 + stated, problem));
    }
    parse(path, &header, &payload)
}

fn channels(shape: ImageShape) -> String {
    format!(
        "images of {shape}, {} channels: expected {CHANNELS}; store greyscale as three equal channels",
        shape.channels
    )
}

/// Bytes after the header, or `None` if the numbers overflow.
fn promised_length(header: &Header) -> Option<u64> {
    let ImageShape {
        channels,
        height,
        width,
    } = header.shape;
    let image = (channels as u64)
        .checked_mul(height as u64)?
        .checked_mul(width as u64)?;
    header
        .train
        .checked_add(header.test)?
        .checked_mul(image.checked_add(2)?)
}

fn parse(path: &Path, header: &Header, payload: &[u8]) -> Result<Dataset, DataError> {
    let mut rest = payload;
    let mut part = |name: &str, count: u64| {
        let (labels, after) = rest.split_at(2 * count as usize);
        let (pixels, after) = after.split_at(count as usize * header.shape.bytes());
        rest = after;
        let labels: Vec<u16> = labels
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        let classes = header.classes.len();
        if let Some(bad) = labels.iter().find(|&&label| usize::from(label) >= classes) {
            let problem = format!("{name} label {bad}: expected below {classes}");
            return Err(DataError::file(path.display(), problem));
        }
        if labels.is_empty() {
            return Err(DataError::classes(
                path,
                format!("the {name} part has no image"),
            ));
        }
        Images::new(header.shape, pixels.to_vec(), labels)
    };
    let (train, test) = (part("training", header.train)?, part("test", header.test)?);
    if header.classes.len() < 2 {
        return Err(DataError::classes(
            path,
            "one class only: expected at least two",
        ));
    }
    Ok(Dataset {
        name: header.name.clone(),
        classes: header.classes.clone(),
        train,
        test,
        notes: header.notes.clone(),
    })
}
