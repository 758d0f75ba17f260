//! The text form that activations, initialisers and losses share: `name(key=value, …)`.
//!
//! ```text
//! spec  := name [ "(" [ key "=" value { "," key "=" value } ] ")" ]
//! value := number | name | spec | "[" number { "," number } "]"
//! ```
//!
//! Names are kebab-case; case does not matter, and `_` is read as `-` in names. Commas inside
//! parentheses or brackets belong to the value. An argument that nobody asked for is an error, so a
//! misspelt key is never silently ignored.

use std::str::FromStr;

use crate::NnError;

/// A parsed `name(key=value, …)`, from which arguments are taken one by one.
pub(crate) struct Spec {
    what: &'static str,
    text: String,
    pub(crate) name: String,
    arguments: Vec<(String, String)>,
    asked: Vec<&'static str>,
}

impl Spec {
    pub(crate) fn parse(what: &'static str, text: &str) -> Result<Self, NnError> {
        let bad = |reason: &str| NnError::BadText {
            what,
            text: text.to_string(),
            reason: reason.to_string(),
        };
        let trimmed = text.trim();
        let (name, inside) = match trimmed.split_once('(') {
            None => (trimmed, ""),
            Some((name, rest)) => {
                let inside = rest.strip_suffix(')').ok_or_else(|| {
                    bad("the closing parenthesis is missing; expected name(key=value, …)")
                })?;
                (name.trim(), inside)
            }
        };
        if name.is_empty() {
            return Err(bad(
                "the name is missing; expected name or name(key=value, …)",
            ));
        }
        let mut arguments = Vec::new();
        for part in split_at_top_level(inside) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| bad(&format!("\"{part}\" is not of the form key=value")))?;
            let key = key.trim().replace('-', "_");
            if arguments.iter().any(|(known, _)| *known == key) {
                return Err(bad(&format!("{key} is given twice")));
            }
            arguments.push((key, value.trim().to_string()));
        }
        Ok(Self {
            what,
            text: text.to_string(),
            name: name.to_lowercase().replace('_', "-"),
            arguments,
            asked: Vec::new(),
        })
    }

    /// The argument `key` read as `T`, or `default` where it was not given.
    pub(crate) fn take<T: FromStr>(&mut self, key: &'static str, default: T) -> Result<T, NnError> {
        match self.take_text(key) {
            None => Ok(default),
            Some(value) => value
                .parse()
                .map_err(|_| self.bad(format!("{key}={value} cannot be read"))),
        }
    }

    /// The finite number `key`, or `default` where it was not given.
    pub(crate) fn number(&mut self, key: &'static str, default: f64) -> Result<f64, NnError> {
        let value: f64 = self.take(key, default)?;
        if value.is_finite() {
            Ok(value)
        } else {
            Err(self.bad(format!("{key} must be finite")))
        }
    }

    /// The raw text of the argument `key`.
    pub(crate) fn take_text(&mut self, key: &'static str) -> Option<String> {
        self.asked.push(key);
        let place = self.arguments.iter().position(|(name, _)| name == key)?;
        Some(self.arguments.remove(place).1)
    }

    pub(crate) fn bad(&self, reason: impl Into<String>) -> NnError {
        NnError::BadText {
            what: self.what,
            text: self.text.clone(),
            reason: reason.into(),
        }
    }

    /// An error if an argument was given that nobody took.
    pub(crate) fn finish(&self) -> Result<(), NnError> {
        let Some((key, _)) = self.arguments.first() else {
            return Ok(());
        };
        let takes = if self.asked.is_empty() {
            "it takes no arguments".to_string()
        } else {
            format!("it takes {}", self.asked.join(", "))
        };
        Err(self.bad(format!("{} has no argument {key}; {takes}", self.name)))
    }
}

fn split_at_top_level(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0i32, 0, Vec::new());
    for (place, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..place].trim());
                start = place + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// Implements serde through `FromStr` and `Display`: in TOML and JSON the value is a plain string.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(source)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_keep_their_commas() {
        let text = "Kaiming_Normal(gain=leaky-relu(negative_slope=0.2), w=[1, 2])";
        let mut spec = Spec::parse("initialiser", text).unwrap();
        assert_eq!(spec.name, "kaiming-normal");
        assert_eq!(
            spec.take_text("gain").unwrap(),
            "leaky-relu(negative_slope=0.2)"
        );
        assert_eq!(spec.take_text("w").unwrap(), "[1, 2]");
        spec.finish().unwrap();
    }

    #[test]
    fn mistakes_are_named() {
        let parse = |text| {
            Spec::parse("loss", text)
                .map(|_| ())
                .unwrap_err()
                .to_string()
        };
        assert!(parse("").contains("name is missing"));
        assert!(parse("a(b=1").contains("closing parenthesis"));
        assert!(parse("a(1)").contains("key=value"));
        assert!(parse("a(b=1, b=2)").contains("twice"));
        let mut spec = Spec::parse("loss", "hinge(magrin=2)").unwrap();
        spec.number("margin", 1.0).unwrap();
        let message = spec.finish().unwrap_err().to_string();
        assert!(
            message.contains("no argument magrin; it takes margin"),
            "{message}"
        );
    }
}
