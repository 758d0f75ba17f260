//! Parameter groups: some parameters with a rule, rate or decay of their own.

use crate::config::RuleConfig;
use crate::hyper::{self, FromValue, hyperparameters};
use crate::path::Path;
use crate::text::{Call, Placed, TextError, Value, normal, parse_chain};
use crate::{Hyperparameters, Kind, OptimError};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use std::fmt;

hyperparameters! {
    /// Some of the parameters, by name, kind or rank, with a rule, rate or decay of their own.
    ///
    /// ```text
    /// group(name=head.*, lr=0.1)                          another rate
    /// group(name=stages.0.*, lr=0)                        frozen: left out of the step altogether
    /// group(kind=(bias, norm), weight_decay=0)            another decay
    /// group(kind=bias, rule=sgd(lr=0.1, momentum=0.9))    another rule
    /// group(name=*.conv*, rank=4, lr=0.05)                all selectors must hold
    /// ```
    /// The first group that fits a parameter has it; parameters that fit none are the main rule's.
    /// The rate is a base rate, as the rule's own: a schedule scales all by the same factor. Without
    /// `lr` it is that of `rule`, or without that the main rate.
    ///
    /// Names are module paths joined by dots, `*` stands for any characters, case does not matter.
    /// Kinds are `bias`, `norm` (scale and shift of a normalisation), `conv`, `linear`, `embedding`,
    /// and `weight`: whatever is neither bias nor norm. See [`Kind::of`](crate::Kind::of).
    ///
    /// A group that fits no parameter is a mistake:
    /// [`check_groups`](crate::OptimizerConfig::check_groups) names it.
    ///
    /// Memory: none beyond the rule's.
    ///
    /// When to use: to train a head faster than what it stands on, to keep decay from embeddings, to
    /// give matrices and vectors different rules.
    pub struct Group as "group" {
        name: Option<Pattern> = None, "any name pattern", "Which names: head.* or *.bias.";
        kind: Option<Kinds> = None, "bias | norm | conv | linear | embedding | weight", "Which kinds: one, or several in brackets.";
        rank: Option<Ranks> = None, "[0, 8]", "Which ranks: one, or several in brackets.";
        lr: Option<f64> = None, "[0, inf)", "Base rate η; 0 freezes.";
        weight_decay: Option<f64> = None, "[0, inf)", "Weight decay λ.";
        rule: Option<RuleConfig> = None, "any optimizer", "The rule, with its own hyper-parameters.";
    }
}

impl Group {
    /// Whether the group has this parameter.
    pub fn fits(&self, name: &str, kind: Kind, rank: usize) -> bool {
        self.name.as_ref().is_none_or(|name_| name_.matches(name))
            && self.kind.as_ref().is_none_or(|kinds| kinds.contain(kind))
            && self
                .rank
                .as_ref()
                .is_none_or(|ranks| ranks.0.contains(&(rank as u64)))
    }

    /// The base rate beside a main rule of rate `main`.
    pub(crate) fn base_lr(&self, main: f64) -> f64 {
        match (self.lr, self.rule.as_ref().and_then(|rule| rule.get("lr"))) {
            (Some(lr), _) | (None, Some(Value::Number(lr))) => lr,
            _ => main,
        }
    }

    /// The rule beside the main rule `main`.
    pub(crate) fn resolved(&self, main: &RuleConfig) -> Result<RuleConfig, OptimError> {
        let mut rule = self.rule.as_ref().unwrap_or(main).clone();
        if let Some(decay) = self.weight_decay {
            if rule.get("weight_decay").is_none() {
                let problem = format!("`{}` has no weight_decay to set", rule.name());
                return Err(conflict(problem));
            }
            rule.set("weight_decay", &Value::Number(decay))?;
        }
        rule.validate()?;
        Ok(rule)
    }

    pub(super) fn check(&self) -> Result<(), OptimError> {
        if self.name.is_none() && self.kind.is_none() && self.rank.is_none() {
            let problem = "say which parameters: name=…, kind=… or rank=…";
            return Err(conflict(problem.to_owned()));
        }
        if self.lr.is_none() && self.weight_decay.is_none() && self.rule.is_none() {
            let problem = "say what is different: lr=…, weight_decay=… or rule=…";
            return Err(conflict(problem.to_owned()));
        }
        self.name
            .as_ref()
            .map_or(Ok(()), |name| name.check("group"))
    }

    /// Reads a group; a mistake inside its rule is shown where it stands.
    pub(super) fn from_call(text: &str, call: &Call) -> Result<Self, TextError> {
        for (name, value) in &call.arguments {
            if name
                .as_ref()
                .is_some_and(|name| normal(&name.value) == "rule")
                && value.value != Value::Word("none".to_owned())
                && let Some(rule) = as_call(&value.value, &value.at)
            {
                RuleConfig::from_call(text, &rule)?;
            }
        }
        hyper::from_call(text, call)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text(&[]))
    }
}

fn conflict(problem: String) -> OptimError {
    OptimError::Conflict {
        owner: "group",
        problem,
    }
}

/// Checks that each group has at least one parameter that earlier ones have left.
pub(crate) fn check_groups<M: Module>(groups: &[&Group], model: &M) -> Result<(), OptimError> {
    let mut census = Census {
        used: vec![false; groups.len()],
        groups,
        path: Path::default(),
        first: None,
    };
    model.visit(&mut census);
    let Census { used, first, .. } = census;
    match used.iter().position(|used| !used) {
        None => Ok(()),
        Some(unused) => Err(OptimError::EmptyGroup {
            group: groups[unused].to_string(),
            example: first.unwrap_or_default(),
        }),
    }
}

/// Which groups have a parameter.
struct Census<'a> {
    groups: &'a [&'a Group],
    used: Vec<bool>,
    path: Path,
    /// The first parameter's name, as an example of what names look like.
    first: Option<String>,
}

impl ModuleVisitor for Census<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter_layer(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
        let (name, kind) = (self.path.name(), self.path.kind());
        self.first.get_or_insert_with(|| name.to_owned());
        let fits = |group: &&Group| group.fits(name, kind, D);
        if let Some(place) = self.groups.iter().position(fits) {
            self.used[place] = true;
        }
    }
}

/// A pattern for names: `*` stands for any characters, also none; case and `-` or `_` do not matter.
///
/// ```
/// use gradus_optim::stages::Pattern;
///
/// let pattern = Pattern::new("stages.*.norm?");
/// assert!(!pattern.matches("stages.0.norm1"), "only * is special");
/// assert!(Pattern::new("stages.*.norm*").matches("stages.0.1.norm1.gamma"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern written as `text`.
    pub fn new(text: &str) -> Self {
        Self(normal(text))
    }

    /// Checks that the pattern can be printed and read back.
    pub(super) fn check(&self, owner: &'static str) -> Result<(), OptimError> {
        let value = parse_chain(&format!("name({})", self.0))
            .ok()
            .and_then(|mut calls| calls.pop()?.arguments.pop())
            .map(|(_, value)| value.value);
        if value == Some(Value::Word(self.0.clone())) && self.0 != "none" {
            return Ok(());
        }
        Err(OptimError::Conflict {
            owner,
            problem: format!("`{}` is no pattern for names", self.0),
        })
    }

    /// Whether the pattern covers the whole name.
    pub fn matches(&self, name: &str) -> bool {
        let name = normal(name);
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        // The leftmost place for each part leaves the most for those after it.
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl FromValue for Pattern {
    fn from_value(value: &Value) -> Result<Self, &'static str> {
        match value {
            Value::Word(word) => Ok(Self::new(word)),
            _ => Err("a name pattern like head.*"),
        }
    }
    fn to_value(&self) -> Value {
        Value::Word(self.0.clone())
    }
}

/// Some kinds of parameters, as words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kinds(Vec<String>);

impl Kinds {
    /// Whether one of the words covers `kind`.
    pub fn contain(&self, kind: Kind) -> bool {
        self.0.iter().any(|word| match word.as_str() {
            "weight" => !matches!(kind, Kind::Bias | Kind::Norm),
            "conv" => matches!(kind, Kind::Conv | Kind::ConvTranspose),
            word => kind.to_string() == word,
        })
    }
}

impl FromValue for Kinds {
    fn from_value(value: &Value) -> Result<Self, &'static str> {
        let words = match value {
            Value::List(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        let words = words.iter().map(|value| match value {
            Value::Word(word) => Ok(word.clone()),
            _ => Err("a kind like bias, or several like (bias, norm)"),
        });
        Ok(Self(words.collect::<Result<_, _>>()?))
    }
    fn to_value(&self) -> Value {
        one_or_list(self.0.iter().cloned().map(Value::Word).collect())
    }
}

/// Some ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranks(Vec<u64>);

impl FromValue for Ranks {
    fn from_value(value: &Value) -> Result<Self, &'static str> {
        let values = match value {
            Value::List(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        let ranks = values.iter().map(|value| {
            u64::from_value(value).map_err(|_| "a rank like 1, or several like (0, 1)")
        });
        Ok(Self(ranks.collect::<Result<_, _>>()?))
    }
    fn to_value(&self) -> Value {
        one_or_list(self.0.iter().map(FromValue::to_value).collect())
    }
}

fn one_or_list(mut values: Vec<Value>) -> Value {
    match values.len() {
        1 => values.remove(0),
        _ => Value::List(values),
    }
}

impl FromValue for RuleConfig {
    fn from_value(value: &Value) -> Result<Self, &'static str> {
        as_call(value, &(0..0))
            .and_then(|call| Self::from_call("", &call).ok())
            .ok_or("an optimizer like sgd(lr=0.1)")
    }
    fn to_value(&self) -> Value {
        let text = self.to_string();
        match parse_chain(&text) {
            Ok(mut calls) if calls.len() == 1 => Value::Call(calls.remove(0)),
            _ => Value::Word(text),
        }
    }
}

/// A word is a call without arguments.
fn as_call(value: &Value, at: &std::ops::Range<usize>) -> Option<Call> {
    match value {
        Value::Call(call) => Some(call.clone()),
        Value::Word(word) => Some(Call {
            name: Placed {
                value: word.clone(),
                at: at.clone(),
            },
            arguments: Vec::new(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_whole_names() {
        for (pattern, name, covers) in [
            ("head.weight", "head.weight", true),
            ("head", "head.weight", false),
            ("head.*", "head.weight", true),
            ("head.*", "heads.weight", false),
            ("*", "", true),
            ("*", "anything", true),
            ("*.bias", "a.b.bias", true),
            ("*.bias", "bias", false),
            ("*bias*", "bias", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
            ("**", "x", true),
            ("Cnn.Head-1.*", "cnn.head_1.weight", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(
                Pattern::new(pattern).matches(name),
                covers,
                "{pattern} {name}"
            );
        }
    }
}
