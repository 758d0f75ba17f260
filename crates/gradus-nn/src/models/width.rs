//! How wide a model is: a list, or a factor on its default list.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::NnError;

/// Channels per stage, or hidden units per layer.
///
/// | Text | TOML | Meaning |
/// |---|---|---|
/// | `x0.5` or `0.5` | `0.5` or `"x0.5"` | the model's default widths times 0.5 |
/// | `64` | `64` or `[64]` | 64 in the first stage, growing as the model's defaults do |
/// | `64,128,256` | `[64, 128, 256]` | these |
///
/// So `2` is a width of two, and `x2` or `2.0` twice the default.
#[derive(Clone, Debug, PartialEq)]
pub enum Width {
    /// The model's default widths times this, rounded, at least 1.
    Multiplier(f64),
    /// These widths; a single one is the first of a list that grows as the default does.
    List(Vec<usize>),
}

impl Default for Width {
    /// The model's default.
    fn default() -> Self {
        Self::Multiplier(1.0)
    }
}

/// A width beyond this is a slip of the finger. What several large widths amount to is bounded by the
/// number of parameters, see [`ModelConfig::summary`](super::ModelConfig::summary).
const MAX_WIDTH: usize = 1 << 16;

impl Width {
    /// The widths for a model whose defaults are `defaults`.
    ///
    /// # Errors
    /// If a width is 0 or above 65536, or the multiplier is not positive.
    pub fn resolve(&self, defaults: &[usize]) -> Result<Vec<usize>, NnError> {
        let widths: Vec<usize> = match self {
            Self::Multiplier(factor) if !(*factor > 0.0 && factor.is_finite()) => {
                return Err(NnError::range(
                    "the width multiplier",
                    factor,
                    "positive and finite",
                ));
            }
            Self::Multiplier(factor) => defaults
                .iter()
                .map(|w| (*w as f64 * factor).round().max(1.0) as usize)
                .collect(),
            Self::List(list) if list.is_empty() => {
                return Err(NnError::range(
                    "the width",
                    "an empty list",
                    "a list of numbers ≥ 1",
                ));
            }
            Self::List(list) if list.len() == 1 && !defaults.is_empty() => defaults
                .iter()
                .map(|w| (list[0].saturating_mul(*w) / defaults[0]).max(list[0].min(1)))
                .collect(),
            Self::List(list) => list.clone(),
        };
        match widths.iter().find(|w| !(1..=MAX_WIDTH).contains(*w)) {
            Some(bad) => Err(NnError::range(
                "a width",
                bad,
                format!("from 1 to {MAX_WIDTH}"),
            )),
            None => Ok(widths),
        }
    }
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multiplier(factor) => write!(f, "x{factor}"),
            Self::List(list) => {
                let texts: Vec<String> = list.iter().map(usize::to_string).collect();
                f.write_str(&texts.join(","))
            }
        }
    }
}

impl FromStr for Width {
    type Err = NnError;

    fn from_str(text: &str) -> Result<Self, NnError> {
        let bad = || NnError::BadText {
            what: "width",
            text: text.to_string(),
            reason: "expected a multiplier such as x0.5, a number such as 64, or a list such as \
                     64,128,256"
                .to_string(),
        };
        let trimmed = text.trim();
        if let Some(factor) = trimmed.strip_prefix('x') {
            return factor.parse().map(Self::Multiplier).map_err(|_| bad());
        }
        let inside = trimmed
            .strip_prefix('[')
            .and_then(|t| t.strip_suffix(']'))
            .unwrap_or(trimmed);
        let list: Result<Vec<usize>, _> = inside.split(',').map(|w| w.trim().parse()).collect();
        match list {
            Ok(list) => Ok(Self::List(list)),
            Err(_) => trimmed.parse().map(Self::Multiplier).map_err(|_| bad()),
        }
    }
}

impl Serialize for Width {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Multiplier(factor) => serializer.serialize_f64(*factor),
            Self::List(list) => list.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Width {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            List(Vec<usize>),
            One(usize),
            Factor(f64),
            Text(String),
        }
        let raw = Raw::deserialize(deserializer)
            .map_err(|_| D::Error::custom("a width is a number, a list of numbers or a text"))?;
        Ok(match raw {
            Raw::List(list) => Self::List(list),
            Raw::One(width) => Self::List(vec![width]),
            Raw::Factor(factor) => Self::Multiplier(factor),
            Raw::Text(text) => text.parse().map_err(D::Error::custom)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_resolution() {
        let resolve = |text: &str| text.parse::<Width>().unwrap().resolve(&[16, 32, 64]);
        assert_eq!(resolve("x0.5").unwrap(), [8, 16, 32]);
        assert_eq!(resolve("2.0").unwrap(), [32, 64, 128]);
        assert_eq!(resolve("24").unwrap(), [24, 48, 96]);
        assert_eq!(resolve("[8, 8]").unwrap(), [8, 8]);
        assert_eq!(resolve("x0.001").unwrap(), [1, 1, 1]);
        for text in ["0", "x0", "x-1", "4,0", "99999999999", "xinf"] {
            assert!(resolve(text).is_err(), "{text}");
        }
        assert!("wide".parse::<Width>().is_err());
    }

    #[test]
    fn serde_round_trips() {
        for width in [
            Width::Multiplier(1.0),
            Width::Multiplier(0.25),
            Width::List(vec![3, 4]),
        ] {
            let json = serde_json::to_string(&width).unwrap();
            assert_eq!(
                serde_json::from_str::<Width>(&json).unwrap(),
                width,
                "{json}"
            );
        }
        assert_eq!(
            serde_json::from_str::<Width>("7").unwrap(),
            Width::List(vec![7])
        );
        assert_eq!(
            serde_json::from_str::<Width>("\"x2\"").unwrap(),
            Width::Multiplier(2.0)
        );
    }
}
