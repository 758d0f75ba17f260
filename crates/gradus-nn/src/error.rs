//! The one error type of this crate: what was expected, what was found, what to do.

use gradus_core::names::nearest;

/// Whatever can go wrong while a layer, an initialiser, a loss or a model is configured.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NnError {
    /// A name that nothing is known by.
    #[error("there is no {what} called \"{found}\"; {}", suggestion(.nearest, .known))]
    UnknownName {
        /// The kind of thing that was looked for ("model", "activation", …).
        what: &'static str,
        /// The name as it was given.
        found: String,
        /// Known names that look alike, best first; may be empty.
        nearest: Vec<String>,
        /// Every known name.
        known: Vec<&'static str>,
    },

    /// Text that does not have the form `name(key=value, …)`, or a value that cannot be read.
    #[error("cannot read the {what} \"{text}\": {reason}")]
    BadText {
        /// The kind of thing that was to be read.
        what: &'static str,
        /// The text as it was given.
        text: String,
        /// What is wrong with it, and what was expected.
        reason: String,
    },

    /// A number outside the range in which it means something.
    #[error("{name} is {value}, but must be {expected}")]
    OutOfRange {
        /// The parameter.
        name: String,
        /// The value that was given.
        value: String,
        /// The allowed range, in words.
        expected: String,
    },

    /// An initialiser that cannot fill a weight of this shape.
    #[error("the initialiser {initializer} cannot fill a weight of shape {shape:?}: {reason}")]
    Initializer {
        /// The initialiser, in its text form.
        initializer: String,
        /// The shape of the weight.
        shape: Vec<usize>,
        /// Why not, and what to use instead.
        reason: String,
    },

    /// An image that shrinks to nothing on its way through the network.
    #[error(
        "the model {model} cannot take images of {found_height}×{found_width} pixels: it needs at \
         least {minimum}×{minimum}; enlarge the images or choose another model"
    )]
    ImageTooSmall {
        /// The model's name.
        model: String,
        /// Height of the images, in pixels.
        found_height: usize,
        /// Width of the images, in pixels.
        found_width: usize,
        /// The smallest side that works.
        minimum: usize,
    },

    /// Two settings that exclude each other, or a setting that this model does not have.
    #[error("the model {model} cannot be built: {reason}")]
    Unsupported {
        /// The model's name.
        model: String,
        /// What does not fit, and what to change.
        reason: String,
    },
}

impl NnError {
    pub(crate) fn unknown(what: &'static str, found: &str, known: &[&'static str]) -> Self {
        let nearest = nearest(found, known.iter().copied())
            .into_iter()
            .map(str::to_owned)
            .collect();
        Self::UnknownName {
            what,
            found: found.to_string(),
            nearest,
            known: known.to_vec(),
        }
    }

    pub(crate) fn range(
        name: impl Into<String>,
        value: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Self::OutOfRange {
            name: name.into(),
            value: value.to_string(),
            expected: expected.into(),
        }
    }
}

/// "did you mean …?" where something is near, and the whole list where nothing is.
fn suggestion(nearest: &[String], known: &[&'static str]) -> String {
    if nearest.is_empty() {
        format!("known: {}", known.join(", "))
    } else {
        format!(
            "did you mean {}? (known: {})",
            nearest.join(" or "),
            known.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_carries_its_nearest_neighbours() {
        let error = NnError::unknown("activation", "rellu", &["relu", "tanh", "softplus"]);
        let NnError::UnknownName { nearest, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(nearest[0], "relu");
        assert!(error.to_string().contains("did you mean relu"), "{error}");
        let far = NnError::unknown("activation", "qqq", &["relu"]).to_string();
        assert!(far.ends_with("known: relu"), "{far}");
    }
}
