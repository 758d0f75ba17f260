//! CIFAR-10 and CIFAR-100 in the authors' binary format (Krizhevsky, "Learning Multiple Layers of
//! Features from Tiny Images", 2009).
//!
//! ```text
//! CIFAR-10   record:  label, 1024 red, 1024 green, 1024 blue                    3073 bytes
//! CIFAR-100  record:  coarse label, fine label, 1024 red, 1024 green, 1024 blue 3074 bytes
//! ```
//!
//! The planes are row-major, so a record without its labels is already `[3, 32, 32]`. Read from a
//! folder, from a folder that holds the authors' folder or archive, or from an archive. Fewer or
//! shorter batches than published are accepted as long as every file is a whole number of records,
//! and are told in the data set's notes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::archive::{self, Entry};
use crate::cifar_names::{CIFAR10, CIFAR100_COARSE, CIFAR100_FINE};
use crate::remote::{self, Remote};
use crate::{DataError, Dataset, ImageShape, Images};

/// Bytes of one image.
const IMAGE: usize = 3 * 32 * 32;
/// A file of class names may have this many bytes.
const NAMES_LIMIT: u64 = 1 << 16;

/// Which of the sets, and which of CIFAR-100's two labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cifar {
    /// CIFAR-10: 10 classes, 50,000 + 10,000 images.
    Ten,
    /// CIFAR-100 with its 100 fine classes.
    HundredFine,
    /// CIFAR-100 with its 20 superclasses.
    HundredCoarse,
}

/// How a set's files look.
struct Layout {
    train: &'static [&'static str],
    test: &'static str,
    names: &'static str,
    folder: &'static str,
    /// The number of classes of each label byte, in order.
    labels: &'static [u8],
    /// Which of the label bytes is the class.
    wanted: usize,
    /// The published number of records in each training file and in the test file.
    records: [usize; 2],
    known: &'static [&'static str],
}

impl Cifar {
    /// `cifar10`, `cifar100` or `cifar100-coarse`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ten => "cifar10",
            Self::HundredFine => "cifar100",
            Self::HundredCoarse => "cifar100-coarse",
        }
    }

    /// The archive that the authors publish.
    #[must_use]
    pub const fn remote(self) -> &'static Remote {
        match self {
            Self::Ten => &remote::CIFAR10,
            Self::HundredFine | Self::HundredCoarse => &remote::CIFAR100,
        }
    }

    fn layout(self) -> Layout {
        let hundred = Layout {
            train: &["train.bin"],
            test: "test.bin",
            names: "fine_label_names.txt",
            folder: "cifar-100-binary",
            labels: &[20, 100],
            wanted: 1,
            records: [50_000, 10_000],
            known: &CIFAR100_FINE,
        };
        match self {
            Self::Ten => Layout {
                train: &[
                    "data_batch_1.bin",
                    "data_batch_2.bin",
                    "data_batch_3.bin",
                    "data_batch_4.bin",
                    "data_batch_5.bin",
                ],
                test: "test_batch.bin",
                names: "batches.meta.txt",
                folder: "cifar-10-batches-bin",
                labels: &[10],
                wanted: 0,
                records: [10_000, 10_000],
                known: &CIFAR10,
            },
            Self::HundredFine => hundred,
            Self::HundredCoarse => Layout {
                names: "coarse_label_names.txt",
                wanted: 0,
                known: &CIFAR100_COARSE,
                ..hundred
            },
        }
    }
}

impl Layout {
    fn record(&self) -> usize {
        self.labels.len() + IMAGE
    }

    /// The size that the file called `name` may have.
    fn limit(&self, name: &str) -> Option<u64> {
        let records = |count: usize| Some((count * self.record()) as u64);
        match name {
            name if self.train.contains(&name) => records(self.records[0]),
            name if name == self.test => records(self.records[1]),
            name if name == self.names => Some(NAMES_LIMIT),
            _ => None,
        }
    }
}

/// Where the cache holds the set: the authors' folder or the authors' archive.
///
/// # Errors
/// [`DataError::Missing`], which says how to get it.
pub fn locate(set: Cifar, data_dir: Option<&Path>) -> Result<PathBuf, DataError> {
    let (layout, remote) = (set.layout(), set.remote());
    let cache = remote::cache_dir(data_dir)?;
    let places = [cache.join(layout.folder), cache.join(remote.file)];
    if let Some(place) = places.iter().find(|place| place.exists()) {
        return Ok(place.clone());
    }
    // A data folder that is itself the authors' folder.
    if cache.join(layout.test).is_file() {
        return Ok(cache);
    }
    let looked: Vec<String> = places
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    let place = cache.join(remote.file);
    Err(DataError::Missing {
        remote,
        looked: looked.join(", "),
        place,
    })
}

/// Reads the set from a folder or archive.
///
/// # Errors
/// If a file is missing, is not a whole number of records, or holds a label that is out of range.
pub fn read(set: Cifar, path: &Path) -> Result<Dataset, DataError> {
    let layout = set.layout();
    let name_of = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let contents = archive::read(path, 2, &|inside| layout.limit(&name_of(inside)))?;
    let mut folders = BTreeMap::<String, BTreeMap<String, Entry>>::new();
    for entry in contents.files {
        let name = name_of(&entry.path);
        let parent = entry.path[..entry.path.len() - name.len()].to_owned();
        folders.entry(parent).or_default().insert(name, entry);
    }
    folders.retain(|_, files| files.contains_key(layout.test));
    let Some((parent, files)) = folders.pop_first() else {
        let inner = path.join(set.remote().file);
        if inner.is_file() {
            return read(set, &inner);
        }
        let problem = format!(
            "no {} in it (nor one folder below): not {}",
            layout.test,
            set.name()
        );
        return Err(DataError::file(path.display(), problem));
    };
    if let Some((other, _)) = folders.first_key_value() {
        let problem = format!("two sets in it, '{parent}' and '{other}': name one of them");
        return Err(DataError::file(path.display(), problem));
    }
    assemble(set, path, &files)
}

fn assemble(
    set: Cifar,
    path: &Path,
    files: &BTreeMap<String, Entry>,
) -> Result<Dataset, DataError> {
    let layout = set.layout();
    let classes = class_names(&layout, path, files.get(layout.names))?;
    let mut notes = Vec::new();
    let mut part =
        |names: &[&str], published| collect(&layout, path, files, names, published, &mut notes);
    let train = part(layout.train, layout.records[0])?;
    let test = part(&[layout.test], layout.records[1])?;
    if train.labels.iter().all(|&label| label == train.labels[0]) {
        let problem = format!(
            "one class only: every training label is {} ({})",
            train.labels[0],
            classes[usize::from(train.labels[0])]
        );
        return Err(DataError::classes(path, problem));
    }
    Ok(Dataset {
        name: set.name().to_owned(),
        classes,
        train,
        test,
        notes,
    })
}

/// The images of those of the files `names` that are there; what is short or missing is noted.
fn collect(
    layout: &Layout,
    path: &Path,
    files: &BTreeMap<String, Entry>,
    names: &[&str],
    published: usize,
    notes: &mut Vec<String>,
) -> Result<Images, DataError> {
    let (mut pixels, mut labels, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for &name in names {
        let Some(entry) = files.get(name) else {
            missing.push(name);
            continue;
        };
        let count = append(layout, path, entry, &mut pixels, &mut labels)?;
        if count != published {
            notes.push(format!(
                "{name}: {count} of the {published} published records"
            ));
        }
    }
    if labels.is_empty() {
        let problem = format!("none of {} is there", names.join(", "));
        return Err(DataError::file(path.display(), problem));
    }
    if !missing.is_empty() {
        notes.push(format!("not there: {}", missing.join(", ")));
    }
    Images::new(ImageShape::new(3, 32, 32), pixels, labels)
}

/// Adds the records of one file and returns how many there were.
fn append(
    layout: &Layout,
    path: &Path,
    entry: &Entry,
    pixels: &mut Vec<u8>,
    labels: &mut Vec<u16>,
) -> Result<usize, DataError> {
    let file = format!("{}: {}", path.display(), entry.path);
    let (size, found) = (layout.record(), entry.bytes.len());
    let records = entry.bytes.chunks_exact(size);
    let rest = records.remainder().len();
    if rest != 0 {
        let problem = format!(
            "{found} bytes are not a whole number of {size}-byte records: {rest} bytes left over"
        );
        return Err(DataError::offset(file, (found - rest) as u64, problem));
    }
    if found == 0 {
        return Err(DataError::offset(
            file,
            0,
            format!("no record: expected {size} bytes each"),
        ));
    }
    pixels.reserve_exact(found / size * IMAGE);
    for (number, record) in records.enumerate() {
        let (head, image) = record.split_at(layout.labels.len());
        for (position, (&label, &classes)) in head.iter().zip(layout.labels).enumerate() {
            if label >= classes {
                let problem = format!("label {label} of record {number}: expected below {classes}");
                return Err(DataError::offset(
                    file,
                    (number * size + position) as u64,
                    problem,
                ));
            }
        }
        labels.push(u16::from(head[layout.wanted]));
        pixels.extend_from_slice(image);
    }
    Ok(found / size)
}

/// The names in the authors' text file if it is there, else the well-known ones.
fn class_names(
    layout: &Layout,
    path: &Path,
    entry: Option<&Entry>,
) -> Result<Vec<String>, DataError> {
    let Some(entry) = entry else {
        return Ok(layout.known.iter().map(ToString::to_string).collect());
    };
    let file = format!("{}: {}", path.display(), entry.path);
    let text = std::str::from_utf8(&entry.bytes)
        .map_err(|e| DataError::offset(&file, e.valid_up_to() as u64, "not UTF-8 text"))?;
    let names: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .map(str::to_owned)
        .collect();
    if names.len() != layout.known.len() {
        let problem = format!(
            "{} class names: expected {}",
            names.len(),
            layout.known.len()
        );
        return Err(DataError::file(file, problem));
    }
    Ok(names)
}
