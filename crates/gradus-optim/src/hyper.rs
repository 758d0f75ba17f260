//! Hyper-parameters, declared once: name, default, range and meaning in one table per rule or
//! schedule, from which come the struct and its documentation, parsing, printing and validation.

use crate::OptimError;
use crate::text::{Call, TextError, Value, normal, suggestion};

/// One row of a rule's or schedule's table.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameter {
    /// The name, as in `torch.optim`.
    pub name: &'static str,
    /// The default, printed.
    pub default: String,
    /// The allowed values: an interval like `"[0, 1)"`, or words separated by `|`.
    pub range: &'static str,
    /// What it does, in a few words.
    pub meaning: &'static str,
}

/// A rule or schedule with a table of hyper-parameters. Implemented by the declaration itself.
pub trait Hyperparameters: Default + Clone {
    /// The name in text, lower case with `_`.
    const TEXT_NAME: &'static str;
    /// The documentation: the comment that stands at the declaration.
    const DOCUMENTATION: &'static str;

    /// The table.
    fn table() -> Vec<Hyperparameter>;

    /// The value of a hyper-parameter by name.
    fn get(&self, name: &str) -> Option<Value>;

    /// Sets one by name.
    ///
    /// # Errors
    /// What kind of value was expected, if `value` is of another kind or the name is unknown.
    fn set(&mut self, name: &str, value: &Value) -> Result<(), &'static str>;

    /// Checks every value against its range.
    ///
    /// # Errors
    /// [`OptimError::OutOfRange`] for the first that fails.
    fn check_ranges(&self) -> Result<(), OptimError> {
        for row in Self::table() {
            let value = self.get(row.name).unwrap_or(Value::List(Vec::new()));
            if !within(&value, row.range) {
                return Err(OptimError::OutOfRange {
                    owner: Self::TEXT_NAME,
                    field: row.name,
                    range: row.range,
                    found: value.to_string(),
                });
            }
        }
        Ok(())
    }

    /// The text form; hyper-parameters at their default are left out, except those in `always`.
    fn to_text(&self, always: &[&str]) -> String {
        let mut arguments = Vec::new();
        let default = Self::default();
        for row in Self::table() {
            let value = self.get(row.name);
            if always.contains(&row.name) || value != default.get(row.name) {
                // A value that is absent (`none`) differs from its default only if that is none too.
                arguments.extend(value.map(|value| format!("{}={value}", row.name)));
            }
        }
        if arguments.is_empty() {
            Self::TEXT_NAME.to_owned()
        } else {
            format!("{}({})", Self::TEXT_NAME, arguments.join(", "))
        }
    }
}

/// Reads the arguments of a call; those before the first named one are taken in table order.
pub(crate) fn from_call<H: Hyperparameters>(text: &str, call: &Call) -> Result<H, TextError> {
    let table = H::table();
    let names: Vec<_> = table.iter().map(|row| row.name).collect();
    let mut this = H::default();
    let mut seen: Vec<String> = Vec::new();
    let mut named = false;
    for (position, (name, value)) in call.arguments.iter().enumerate() {
        let (wanted, at) = match name {
            Some(name) => {
                named = true;
                (normal(&name.value), name.at.clone())
            }
            None if !named && position < names.len() => {
                (names[position].to_owned(), value.at.clone())
            }
            None => {
                let message = format!("{} takes this argument by name only", H::TEXT_NAME);
                return Err(TextError::new(text, value.at.clone(), message));
            }
        };
        let (wanted, given) = of_optax(&this, &names, wanted, &value.value);
        let name = if given.is_some() {
            "betas"
        } else {
            wanted.as_str()
        };
        let Some(row) = table.iter().find(|row| row.name == name) else {
            let near = suggestion(&wanted, names.iter().copied());
            let message = format!("{} has no hyper-parameter `{wanted}`{near}", H::TEXT_NAME);
            return Err(TextError::new(text, at, message));
        };
        if seen.iter().any(|other| *other == wanted || other == name) {
            return Err(TextError::new(
                text,
                at,
                format!("`{wanted}` is given twice"),
            ));
        }
        seen.push(wanted);
        if let Err(expected) = this.set(row.name, given.as_ref().unwrap_or(&value.value)) {
            let message = format!("`{}` of {} must be {expected}", row.name, H::TEXT_NAME);
            return Err(TextError::new(text, value.at.clone(), message));
        }
        let stored = this.get(row.name).unwrap_or_else(|| value.value.clone());
        if !within(&stored, row.range) {
            let message = format!(
                "`{}` of {} must lie in {}, found {}",
                row.name,
                H::TEXT_NAME,
                row.range,
                value.value
            );
            return Err(TextError::new(text, value.at.clone(), message));
        }
    }
    Ok(this)
}

/// The name and value of an argument in our terms, which are PyTorch's: optax says `learning_rate` for
/// `lr`, and gives `betas` one by one as `b1`, `b2`, `b3`. The value is `Some` if it differs: `betas`
/// with one replaced.
fn of_optax<H: Hyperparameters>(
    this: &H,
    names: &[&str],
    wanted: String,
    value: &Value,
) -> (String, Option<Value>) {
    if names.contains(&wanted.as_str()) {
        return (wanted, None);
    }
    if wanted == "learning_rate" && names.contains(&"lr") {
        return ("lr".to_owned(), None);
    }
    let position = ["b1", "b2", "b3"].iter().position(|name| *name == wanted);
    if let (Some(position), Some(Value::List(mut betas))) = (position, this.get("betas"))
        && let Some(beta) = betas.get_mut(position)
    {
        *beta = value.clone();
        return (wanted, Some(Value::List(betas)));
    }
    (wanted, None)
}

/// Whether every number in `value` lies in the interval, or a word is among those listed.
fn within(value: &Value, range: &str) -> bool {
    match value {
        Value::Number(x) => in_interval(*x, range),
        Value::List(values) => values.iter().all(|value| within(value, range)),
        Value::Word(word) => {
            // "any name pattern": a range without words of its own.
            let free = range.starts_with("any ");
            free || word == "none" || range.split('|').any(|allowed| allowed.trim() == word)
        }
        // What is inside a call has ranges of its own.
        Value::Bool(_) | Value::Call(_) => true,
    }
}

/// Whether x lies in an interval written `[a, b)`; round brackets exclude the end.
fn in_interval(x: f64, interval: &str) -> bool {
    let mut ends = interval
        .trim_matches(['[', ']', '(', ')'])
        .split(',')
        .map(|end| end.trim().parse::<f64>());
    let (Some(Ok(low)), Some(Ok(high))) = (ends.next(), ends.next()) else {
        return false;
    };
    let above = if interval.starts_with('[') {
        x >= low
    } else {
        x > low
    };
    let below = if interval.ends_with(']') {
        x <= high
    } else {
        x < high
    };
    above && below
}

/// A type that a hyper-parameter can have.
pub(crate) trait FromValue: Sized {
    /// `Err` says what was expected: "a number".
    fn from_value(value: &Value) -> Result<Self, &'static str>;
    fn to_value(&self) -> Value;
}

impl FromValue for f64 {
    fn from_value(value: &Value) -> Result<Self, &'static str> {
        match value {
            Value::Number(x) => Ok(*x),
            _ => Err("a number"),
        }
    }
    fn to_value(&self) -> Value {
        Value::Number(*self)
    }
}

impl FromValue for u64 {
    fn from_value(value: &Value) -> Result<Self, &'static str> {
        match value {
            // 2⁵³: above it an f64 is no longer every whole number.
            Value::Number(x) if x.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(x) => {
                Ok(*x as u64)
            }
            _ => Err("a whole number, zero or more"),
        }
    }
    fn to_value(&self) -> Value {
        Value::Number(*self as f64)
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Result<Self, &'static str> {
        match value {
            Value::Bool(x) => Ok(*x),
            _ => Err("true or false"),
        }
    }
    fn to_value(&self) -> Value {
        Value::Bool(*self)
    }
}

impl FromValue for (f64, f64) {
    fn from_value(value: &Value) -> Result<Self, &'static str> {
        match value {
            Value::List(values) => match values.as_slice() {
                [Value::Number(a), Value::Number(b)] => Ok((*a, *b)),
                _ => Err("a pair of numbers like (0.9, 0.999)"),
            },
            _ => Err("a pair of numbers like (0.9, 0.999)"),
        }
    }
    fn to_value(&self) -> Value {
        Value::List(vec![Value::Number(self.0), Value::Number(self.1)])
    }
}

impl FromValue for (f64, f64, f64) {
    fn from_value(value: &Value) -> Result<Self, &'static str> {
        match value {
            Value::List(values) => match values.as_slice() {
                [Value::Number(a), Value::Number(b), Value::Number(c)] => Ok((*a, *b, *c)),
                _ => Err("three numbers like (0.98, 0.92, 0.99)"),
            },
            _ => Err("three numbers like (0.98, 0.92, 0.99)"),
        }
    }
    fn to_value(&self) -> Value {
        Value::List([self.0, self.1, self.2].map(Value::Number).to_vec())
    }
}

impl FromValue for Vec<u64> {
    fn from_value(value: &Value) -> Result<Self, &'static str> {
        match value {
            Value::List(values) => values
                .iter()
                .map(|value| u64::from_value(value).map_err(|_| "whole numbers like (30, 60, 80)"))
                .collect(),
            _ => Err("a list of whole numbers like (30, 60, 80)"),
        }
    }
    fn to_value(&self) -> Value {
        Value::List(self.iter().map(FromValue::to_value).collect())
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Result<Self, &'static str> {
        match value {
            Value::Word(word) if word == "none" => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }
    fn to_value(&self) -> Value {
        self.as_ref()
            .map_or_else(|| Value::Word("none".to_owned()), FromValue::to_value)
    }
}

/// Declares a struct of hyper-parameters with its table; see `rules/adam.rs`.
macro_rules! hyperparameters {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident as $text:literal {
            $($field:ident: $ty:ty = $default:expr, $range:literal, $meaning:literal;)*
        }
    ) => {
        $(#[doc = $doc])*
        ///
        /// # Hyper-parameters
        ///
        /// | Name | Default | Range | Meaning |
        /// |---|---|---|---|
        $(#[doc = concat!(
            "| `", stringify!($field), "` | `", stringify!($default), "` | `", $range, "` | ",
            $meaning, " |"
        )])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(#[doc = concat!($meaning, " Default `", stringify!($default), "`.")]
            pub $field: $ty,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::Hyperparameters for $name {
            const TEXT_NAME: &'static str = $text;
            const DOCUMENTATION: &'static str = concat!($($doc, "\n",)*);

            fn table() -> Vec<$crate::Hyperparameter> {
                #[allow(unused_variables, reason = "a table may be empty")]
                let default = Self::default();
                vec![$($crate::Hyperparameter {
                    name: stringify!($field),
                    default: $crate::hyper::FromValue::to_value(&default.$field).to_string(),
                    range: $range,
                    meaning: $meaning,
                },)*]
            }

            fn get(&self, name: &str) -> Option<$crate::Value> {
                match name {
                    $(stringify!($field) => Some($crate::hyper::FromValue::to_value(&self.$field)),)*
                    _ => None,
                }
            }

            fn set(
                &mut self,
                name: &str,
                #[allow(unused_variables, reason = "a table may be empty")]
                value: &$crate::Value,
            ) -> Result<(), &'static str> {
                match name {
                    $(stringify!($field) => {
                        self.$field = $crate::hyper::FromValue::from_value(value)?;
                    })*
                    _ => return Err("a known hyper-parameter"),
                }
                #[allow(unreachable_code, reason = "a table may be empty")]
                Ok(())
            }
        }
    };
}
pub(crate) use hyperparameters;

/// Declares a hyper-parameter that is one of a few words; see `rules/momentum.rs`.
macro_rules! words {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $variant_doc:literal])* $variant:ident = $word:literal),* $(,)? } $expected:literal) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $variant_doc])* $variant,)* }

        impl $crate::hyper::FromValue for $name {
            fn from_value(value: &$crate::Value) -> Result<Self, &'static str> {
                match value {
                    $($crate::Value::Word(word) if word == $word => Ok(Self::$variant),)*
                    _ => Err($expected),
                }
            }
            fn to_value(&self) -> $crate::Value {
                $crate::Value::Word(match self { $(Self::$variant => $word,)* }.to_owned())
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OptimizerConfig;

    #[test]
    fn the_names_of_optax_are_understood() {
        for (text, shown) in [
            (
                "lion(learning_rate=0.01, b2=0.98)",
                "lion(lr=0.01, betas=(0.9, 0.98))",
            ),
            (
                "adan(learning-rate=0.1, b3=0.9, b1=0.5)",
                "adan(lr=0.1, betas=(0.5, 0.92, 0.9))",
            ),
        ] {
            let config: OptimizerConfig = text.parse().unwrap();
            assert_eq!(config.to_string(), shown);
        }
        for (text, message) in [
            ("lion(lr=1, learning_rate=1)", "`lr` is given twice"),
            ("lion(betas=(0.9, 0.9), b1=0.5)", "`b1` is given twice"),
            ("lion(b1=0.5, b1=0.5)", "`b1` is given twice"),
            ("lion(b3=0.5)", "lion has no hyper-parameter `b3`"),
            ("sgd(b1=0.5)", "sgd has no hyper-parameter `b1`"),
            ("lion(b1=1.5)", "`betas` of lion must lie in [0, 1)"),
        ] {
            let error = text.parse::<OptimizerConfig>().unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn intervals_include_what_their_brackets_say() {
        assert!(in_interval(0.0, "[0, 1)") && !in_interval(1.0, "[0, 1)"));
        assert!(!in_interval(0.0, "(0, inf)") && in_interval(1e300, "(0, inf)"));
        assert!(!in_interval(f64::INFINITY, "[0, inf)") && in_interval(f64::INFINITY, "[0, inf]"));
        assert!(!in_interval(f64::NAN, "[0, 1)"));
        assert!(in_interval(-0.5, "(-inf, inf)"));
    }
}
