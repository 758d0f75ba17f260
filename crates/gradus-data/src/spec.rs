//! Data sets by name: `shapes`, `cifar10`, `cifar100:PATH`, `folder:PATH` …
//!
//! A name is what the command line takes, what `config.toml` stores and what a report prints; this
//! type is the one place where it is read and written.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use gradus_core::names::did_you_mean;
use serde::{Deserialize, Serialize};

use crate::cifar::{self, Cifar};
use crate::{DataError, Dataset, decode, folder, pack, shapes};

/// The names that [`DataSpec`] reads, with what may follow the colon.
pub const DATA_NAMES: [&str; 6] = [
    "shapes",
    "cifar10[:PATH]",
    "cifar100[:PATH]",
    "cifar100-coarse[:PATH]",
    "folder:PATH",
    "pack:PATH",
];

/// Which data set, and where it lies if it is not in the cache.
///
/// Reads and prints as text (also through serde): everything after the first colon is the path.
///
/// ```
/// use gradus_data::DataSpec;
/// let spec: DataSpec = "cifar10:/data/cifar".parse()?;
/// assert_eq!(spec.to_string(), "cifar10:/data/cifar");
/// let error = "cifra10".parse::<DataSpec>().unwrap_err().to_string();
/// assert!(error.contains("did you mean cifar10"), "{error}");
/// # Ok::<(), gradus_data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DataSpec {
    /// The built-in set: see [`shapes`](crate::shapes).
    Shapes,
    /// CIFAR-10 or CIFAR-100 in the authors' binary format; `None` = from the cache.
    Cifar(Cifar, Option<PathBuf>),
    /// Class folders of JPEG and PNG files: a directory or an archive of one.
    Folder(PathBuf),
    /// A file written by [`pack::write`](crate::pack::write).
    Pack(PathBuf),
}

/// How to open a data set.
///
/// | Field | Default | Meaning |
/// |---|---|---|
/// | `data_dir` | `None` | the cache: this, else `GRADUS_DATA`, else the platform's cache folder |
/// | `seed` | 0 | what `shapes` is drawn from; no other set depends on it |
/// | `image_size` | `None` | side to resize to, 1 … 1024, of every set, `shapes` too; `None` keeps the images' own size, or makes folders of mixed sizes 32×32 |
/// | `test_fraction` | 0.2 | the part of a folder without `test/` that becomes the test set, in (0, 1) |
/// | `shapes_train` | 10 000 | training images of `shapes` |
/// | `shapes_test` | 2 000 | test images of `shapes` |
#[derive(Clone, Debug, PartialEq)]
pub struct OpenOptions {
    /// The cache folder.
    pub data_dir: Option<PathBuf>,
    /// The seed of the built-in set.
    pub seed: u64,
    /// The side of the square that every image of any set, `shapes` included, is resized to. `None`
    /// keeps the images' own size; those of a folder with mixed sizes become 32×32.
    pub image_size: Option<usize>,
    /// The share of each class that becomes the test set of a folder without one.
    pub test_fraction: f64,
    /// Training images of the built-in set.
    pub shapes_train: usize,
    /// Test images of the built-in set.
    pub shapes_test: usize,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            data_dir: None,
            seed: 0,
            image_size: None,
            test_fraction: 0.2,
            shapes_train: 10_000,
            shapes_test: 2_000,
        }
    }
}

impl DataSpec {
    /// Reads the whole set into memory.
    ///
    /// # Errors
    /// If it is not there (the message says how to get it) or is not what it should be.
    pub fn open(&self, options: &OpenOptions) -> Result<Dataset, DataError> {
        if let Some(size) = options.image_size.filter(|size| !(1..=1024).contains(size)) {
            return Err(DataError::option("image size", size, "1 to 1024 pixels"));
        }
        let mut data = match self {
            Self::Shapes => {
                shapes::generate(options.seed, options.shapes_train, options.shapes_test)?
            }
            Self::Cifar(set, path) => {
                let place = match path {
                    Some(path) => path.clone(),
                    None => cifar::locate(*set, options.data_dir.as_deref())?,
                };
                cifar::read(*set, &place)?
            }
            Self::Folder(path) if pack::is_pack(path) => pack::read(path)?,
            Self::Folder(path) => folder::read(path, options)?,
            Self::Pack(path) => pack::read(path)?,
        };
        data.name = self.to_string();
        if let Some(size) = options.image_size {
            decode::resize_dataset(&mut data, size)?;
        }
        Ok(data)
    }

    /// The path after the colon.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Shapes => None,
            Self::Cifar(_, path) => path.as_deref(),
            Self::Folder(path) | Self::Pack(path) => Some(path),
        }
    }
}

impl FromStr for DataSpec {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let (name, path) = match text.split_once(':') {
            None => (text, None),
            Some((name, "")) => {
                let example = format!("{name}:PATH");
                return Err(DataError::PathExpected {
                    spec: text.to_owned(),
                    example,
                });
            }
            Some((name, path)) => (name, Some(PathBuf::from(path))),
        };
        match (name, path) {
            ("shapes", None) => Ok(Self::Shapes),
            ("shapes", Some(path)) => Err(DataError::option(
                "data set 'shapes'",
                path.display(),
                "no path: it is drawn",
            )),
            ("cifar10", path) => Ok(Self::Cifar(Cifar::Ten, path)),
            ("cifar100", path) => Ok(Self::Cifar(Cifar::HundredFine, path)),
            ("cifar100-coarse", path) => Ok(Self::Cifar(Cifar::HundredCoarse, path)),
            ("folder", Some(path)) => Ok(Self::Folder(path)),
            ("pack", Some(path)) => Ok(Self::Pack(path)),
            ("folder" | "pack", None) => Err(DataError::PathExpected {
                spec: text.to_owned(),
                example: format!("{name}:PATH"),
            }),
            _ => Err(unknown(text, name)),
        }
    }
}

fn unknown(spec: &str, name: &str) -> DataError {
    let names = DATA_NAMES.map(|form| form.split(['[', ':']).next().unwrap_or(form));
    let hint = match did_you_mean(name, names).as_str() {
        // A bare path is the likeliest slip of all.
        "" if Path::new(spec).exists() => format!("; did you mean folder:{spec}?"),
        "" => String::new(),
        phrase => format!("; {phrase}"),
    };
    DataError::UnknownData {
        spec: spec.to_owned(),
        hint,
        known: DATA_NAMES.join(", "),
    }
}

impl std::fmt::Display for DataSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Shapes => "shapes",
            Self::Cifar(set, _) => set.name(),
            Self::Folder(_) => "folder",
            Self::Pack(_) => "pack",
        };
        f.write_str(name)?;
        self.path()
            .map_or(Ok(()), |path| write!(f, ":{}", path.display()))
    }
}

impl TryFrom<String> for DataSpec {
    type Error = DataError;

    fn try_from(text: String) -> Result<Self, DataError> {
        text.parse()
    }
}

impl From<DataSpec> for String {
    fn from(spec: DataSpec) -> Self {
        spec.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_printed_back() {
        for text in [
            "shapes",
            "cifar10",
            "cifar10:/a/b",
            "cifar100",
            "cifar100:x.tar.gz",
            "cifar100-coarse",
            "cifar100-coarse:C:\\x",
            "folder:a b/c.zip",
            "pack:x.gradus",
        ] {
            let spec: DataSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), text);
            let json = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<DataSpec>(&json).unwrap(), spec);
        }
    }

    #[test]
    fn a_wrong_name_gets_a_helpful_answer() {
        let message = |text: &str| text.parse::<DataSpec>().unwrap_err().to_string();
        assert_eq!(
            message("cifar-10"),
            "unknown data set 'cifar-10'; did you mean cifar10?; known: shapes, cifar10[:PATH], \
             cifar100[:PATH], cifar100-coarse[:PATH], folder:PATH, pack:PATH"
        );
        assert!(message("shape").contains("did you mean shapes?"));
        assert!(!message("zzz").contains("did you mean"));
        assert!(message("..").contains("did you mean folder:..?"));
        assert_eq!(
            message("folder"),
            "data set 'folder' needs a path: write 'folder:PATH'"
        );
        assert_eq!(
            message("cifar10:"),
            "data set 'cifar10:' needs a path: write 'cifar10:PATH'"
        );
        assert!(message("shapes:x").contains("no path"));
        assert!(message("").contains("unknown data set ''"));
    }
}
