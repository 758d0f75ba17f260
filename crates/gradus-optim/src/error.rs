//! What can go wrong, said so that it can be put right.

use crate::text::{Call, TextError, Value, normal};

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptimError {
    // === Hyper-parameters ===
    /// A hyper-parameter outside its range.
    #[error("{owner}: `{field}` must lie in {range}, found {found}")]
    OutOfRange {
        /// The rule or schedule: `"adam"`.
        owner: &'static str,
        /// The hyper-parameter: `"eps"`.
        field: &'static str,
        /// The range, as the documentation prints it: `"[0, 1)"`.
        range: &'static str,
        /// The value given.
        found: String,
    },
    /// Hyper-parameters that do not go together.
    #[error("{owner}: {problem}")]
    Conflict {
        /// The rule or schedule.
        owner: &'static str,
        /// Which fields, and what to change.
        problem: String,
    },
    /// Text that is not an optimizer or a schedule.
    #[error(transparent)]
    Text(#[from] TextError),

    /// A parameter group without parameters.
    #[error(
        "{group} fits no parameter that an earlier group has left; names look like `{example}`"
    )]
    EmptyGroup {
        /// The group as text.
        group: String,
        /// The name of a parameter of the model.
        example: String,
    },

    // === Solvers ===
    /// A solver that cannot work on this objective.
    #[error("{solver}: {problem}")]
    Unsolvable {
        /// The solver: `"newton"`.
        solver: &'static str,
        /// What stands in the way, and what to do instead.
        problem: String,
    },

    // === Saved state ===
    /// The bytes are not a saved optimizer state.
    #[error("not a saved optimizer state: {0}")]
    BadFile(String),
    /// The state was saved by another rule.
    #[error(
        "the state was saved by `{found}`, this optimizer is `{expected}`: resume with the \
         optimizer of the saved run, or start without its state"
    )]
    OtherRule {
        /// The rule of this optimizer.
        expected: String,
        /// The rule of the file.
        found: String,
    },
    /// A parameter was updated by another rule when its state was saved.
    #[error(
        "the state of parameter `{parameter}` was saved by `{found}`, its rule is now `{expected}`"
    )]
    OtherRuleFor {
        /// The parameter's name (its module path).
        parameter: String,
        /// The rule of this optimizer.
        expected: String,
        /// The rule of the file.
        found: String,
    },
    /// The stages that remember something are not those of the saved run.
    #[error(
        "the state was saved with these stages that remember: {found}; this optimizer has: {expected}"
    )]
    OtherStages {
        /// The stages of this optimizer, numbered.
        expected: String,
        /// The stages of the file.
        found: String,
    },
    /// A parameter of the model that the saved state does not know.
    #[error("the saved state has nothing for parameter `{parameter}`: it belongs to another model")]
    MissingParameter {
        /// The parameter's name (its module path).
        parameter: String,
    },
    /// A parameter of the saved state that the model does not have.
    #[error(
        "the saved state has parameter `{parameter}`, which the model lacks: it belongs to another model"
    )]
    UnknownParameter {
        /// The parameter's name in the file.
        parameter: String,
    },
    /// A slot missing from, or unknown in, a parameter's saved state.
    #[error("the saved state of parameter `{parameter}` has {found}, expected {expected}")]
    OtherSlots {
        /// The parameter's name.
        parameter: String,
        /// Slots that the rule keeps.
        expected: String,
        /// Slots in the file.
        found: String,
    },
    /// A slot in another shape than the parameter.
    #[error(
        "`{slot}` of parameter `{parameter}` was saved with shape {found:?}, the parameter has {expected:?}"
    )]
    OtherShape {
        /// The parameter's name.
        parameter: String,
        /// The slot.
        slot: String,
        /// The parameter's shape.
        expected: Vec<usize>,
        /// The saved shape.
        found: Vec<usize>,
    },
}

impl OptimError {
    /// A conflict as an error of the text it comes from, which points at the first argument that its
    /// words name, or else at the rule's name. Where several calls could be meant, and for other errors,
    /// it stays as it is.
    pub(crate) fn in_text(self, text: &str, calls: &[Call]) -> Self {
        let Self::Conflict { owner, problem } = &self else {
            return self;
        };
        let mut found = Vec::new();
        calls.iter().for_each(|call| named(owner, call, &mut found));
        let [call] = found[..] else {
            return self;
        };
        // Names stand between backquotes.
        let mut fields = problem.split('`').skip(1).step_by(2);
        let at = fields
            .find_map(|field| {
                call.arguments.iter().find_map(|(name, value)| {
                    let name = name.as_ref()?;
                    (normal(&name.value) == field).then_some(name.at.start..value.at.end)
                })
            })
            .unwrap_or_else(|| call.name.at.clone());
        TextError::new(text, at, self.to_string()).into()
    }
}

/// The calls of this name in `call`, itself included.
fn named<'a>(name: &str, call: &'a Call, found: &mut Vec<&'a Call>) {
    if normal(&call.name.value) == name {
        found.push(call);
    }
    let mut values: Vec<&Value> = call
        .arguments
        .iter()
        .map(|(_, value)| &value.value)
        .collect();
    while let Some(value) = values.pop() {
        match value {
            Value::List(inner) => values.extend(inner),
            Value::Call(inner) => named(name, inner, found),
            Value::Number(_) | Value::Bool(_) | Value::Word(_) => {}
        }
    }
}
