//! Choices by environment variable, to test and to compare.
//!
//! | variable | values | what it limits |
//! |---|---|---|
//! | `GRADUS_SIMD` | `portable`, `avx2`, `avx512` | the instruction set, see [`simd`] |
//! | `GRADUS_WINOGRAD` | `off`, `2`, `4` | the tiles of Winograd convolutions, see [`conv`] |
//!
//! A kernel cannot complain about a value that is none of these: it goes on as without the variable. A
//! program should therefore [`check`] them at its start.

use std::env::VarError;
use std::fmt;

use super::{conv, simd};

/// A variable and what its values mean.
pub(super) struct Variable<T: 'static> {
    pub(super) name: &'static str,
    pub(super) values: &'static [(&'static str, T)],
}

impl<T: Copy> Variable<T> {
    /// What is chosen, if anything is.
    pub(super) fn chosen(&self) -> Option<T> {
        self.read().ok().flatten()
    }

    fn read(&self) -> Result<Option<T>, UnknownValue> {
        match std::env::var(self.name) {
            Err(VarError::NotPresent) => Ok(None),
            Ok(value) => self.meaning(&value),
            Err(VarError::NotUnicode(value)) => self.meaning(&value.to_string_lossy()),
        }
    }

    /// An empty value is none.
    fn meaning(&self, value: &str) -> Result<Option<T>, UnknownValue> {
        if value.is_empty() {
            return Ok(None);
        }
        let known = self.values.iter().find(|(name, _)| *name == value);
        match known {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => Err(UnknownValue {
                variable: self.name,
                value: value.to_owned(),
                known: self.values.iter().map(|(name, _)| *name).collect(),
            }),
        }
    }
}

/// A variable has a value that means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownValue {
    /// The variable.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
    /// The values that it may have.
    pub known: Vec<&'static str>,
}

impl fmt::Display for UnknownValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the environment variable {}: expected one of {}, found `{}`; correct it or unset it",
            self.variable,
            self.known.join(", "),
            self.value
        )
    }
}

impl std::error::Error for UnknownValue {}

/// Whether every variable of this page that is set has a value that means something.
///
/// # Errors
/// The first that has not.
pub fn check() -> Result<(), UnknownValue> {
    simd::LIMIT.read()?;
    conv::WINOGRAD.read()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_mean_what_they_say_and_others_are_named() {
        let simd = &simd::LIMIT;
        assert_eq!(simd.meaning("avx2"), Ok(Some(simd::Level::Avx2)));
        assert_eq!(simd.meaning(""), Ok(None));
        assert_eq!(conv::WINOGRAD.meaning("off"), Ok(Some(0)));
        assert_eq!(conv::WINOGRAD.meaning("4"), Ok(Some(4)));
        let error = simd.meaning("AVX512").unwrap_err().to_string();
        for part in ["GRADUS_SIMD", "portable, avx2, avx512", "`AVX512`"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(conv::WINOGRAD.meaning("3").is_err());
    }
}
