//! Numbers as runs write them: JSON has no NaN, so a diverged loss arrives as `null` (or as the
//! text "NaN", "inf").

use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

/// A number; `null`, "NaN" and the infinities are read as what they mean. Use with `default =
/// "nan"` for missing fields.
pub(super) fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match Option::<Written>::deserialize(deserializer)? {
        None => Ok(f64::NAN),
        Some(Written::Number(x)) => Ok(x),
        Some(Written::Text(text)) => text.trim().parse().map_err(|_| {
            serde::de::Error::custom(format!(
                "expected a number or null, found the text {text:?}"
            ))
        }),
    }
}

/// The value of a number that was not written.
pub(super) fn nan() -> f64 {
    f64::NAN
}
