//! The size of a batch in a configuration: a number, or `"all"`.

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;
use std::fmt;

/// A batch of all training images: `batch_size = "all"`.
pub const ALL: usize = usize::MAX;

/// As it is written: `128`, `all`.
pub fn text(size: usize) -> String {
    match size {
        ALL => "all".to_owned(),
        size => size.to_string(),
    }
}

/// As a value of TOML: a number, or `"all"`.
pub fn value(size: usize) -> toml::Value {
    match size {
        ALL => "all".into(),
        size => i64::try_from(size).unwrap_or(i64::MAX).into(),
    }
}

/// The batch of `ranks` that take `each` images of it; all images stay all.
pub fn of_ranks(each: usize, ranks: usize) -> usize {
    match each {
        ALL => ALL,
        // A number that cannot be is for the checks of the configuration to refuse.
        each => each.saturating_mul(ranks).min(ALL - 1),
    }
}

pub(crate) fn serialize<S: Serializer>(size: &usize, to: S) -> Result<S::Ok, S::Error> {
    match *size {
        ALL => to.serialize_str("all"),
        size => to.serialize_u64(size as u64),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    struct Size;
    impl Visitor<'_> for Size {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number of images, or \"all\"")
        }

        fn visit_u64<E: Error>(self, size: u64) -> Result<usize, E> {
            usize::try_from(size).map_err(E::custom)
        }

        fn visit_i64<E: Error>(self, size: i64) -> Result<usize, E> {
            usize::try_from(size)
                .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(size), &self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<usize, E> {
            match text {
                "all" => Ok(ALL),
                _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
            }
        }
    }
    from.deserialize_any(Size)
}
