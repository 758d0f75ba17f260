//! An optimizer as text: a rule, and what is done around it.

mod rule;

use crate::OptimError;
use crate::stages::{ClipGlobal, ClipValue, Group, Stage, check_groups};
use crate::text::{TextError, Value, parse_chain};
use burn::module::Module;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

pub use rule::{CatalogueEntry, RuleConfig};

/// An optimizer: a rule, and what is done around it; read from and printed as text.
///
/// ```
/// use gradus_optim::OptimizerConfig;
///
/// let config: OptimizerConfig = "AdamW(lr=3e-3, weight-decay=0.05) | clip-global(1.0) | no-decay".parse()?;
/// assert_eq!(config.to_string(), "adamw(lr=0.003, weight_decay=0.05) | clip_global(1) | no_decay");
/// assert_eq!(config.lr(), 3e-3);
///
/// let error = "sgd(lr=0.1, momentun=0.9)".parse::<OptimizerConfig>().unwrap_err();
/// assert!(error.to_string().contains("did you mean `momentum`?"));
/// # Ok::<(), gradus_optim::OptimError>(())
/// ```
///
/// After the rule, joined by `|`:
///
/// | Word | Meaning |
/// |---|---|
/// | `clip_global(L)` | scale all gradients so that their joint norm is at most L ([`ClipGlobal`]) |
/// | `clip_norm(L)` | the same for each parameter alone ([`ClipNorm`](crate::stages::ClipNorm)) |
/// | `clip_value(L)` | every entry into [−L, L] ([`ClipValue`]) |
/// | `clip_adaptive(λ)` | each unit's gradient at most λ times its weights ([`ClipAdaptive`](crate::stages::ClipAdaptive)) |
/// | `clip_quantile(q)` | the joint norm at most the q-quantile of its history ([`ClipQuantile`](crate::stages::ClipQuantile)) |
/// | `noise(σ²)` | Gaussian noise on the gradient ([`Noise`](crate::stages::Noise)) |
/// | `centralize` | the mean over a unit's inputs out of its gradient ([`Centralize`](crate::stages::Centralize)) |
/// | `accumulate(n)` | one step for n micro-batches ([`Accumulate`](crate::stages::Accumulate)) |
/// | `sam(ρ)`, `asam(ρ)` | the gradient at the worst place nearby ([`Sam`](crate::stages::Sam), [`Asam`](crate::stages::Asam)) |
/// | `entropy(L)` | the gradient of local entropy ([`Entropy`](crate::stages::Entropy)) |
/// | `l1(λ)` | the L1 penalty, as a proximal step ([`L1`](crate::stages::L1)) |
/// | `max_norm(c)` | each unit's weights inside a ball ([`MaxNorm`](crate::stages::MaxNorm)) |
/// | `lookahead(k)` | slow weights that the fast ones return to ([`Lookahead`](crate::stages::Lookahead)) |
/// | `rising_lookahead(k)` | the same, more and more to the end of the run ([`RisingLookahead`](crate::stages::RisingLookahead)) |
/// | `ema(d)` | evaluate at the moving average of the weights ([`Ema`](crate::stages::Ema)) |
/// | `swa(s)` | evaluate at their mean from step s on ([`Swa`](crate::stages::Swa)) |
/// | `no_decay` | no weight decay on parameters of rank 0 and 1 ([`NoDecay`](crate::stages::NoDecay)) |
/// | `group(…)` | some parameters with a rule, rate or decay of their own ([`Group`]) |
///
/// Those that change gradients happen before the rule, those that change weights after it, each in
/// the order of the text. Of the groups the first that fits counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OptimizerConfig {
    /// The rule.
    pub rule: RuleConfig,
    /// What is done around it, in order.
    pub stages: Vec<Stage>,
}

impl OptimizerConfig {
    /// The base learning rate, which a schedule scales.
    pub fn lr(&self) -> f64 {
        match self.rule.get("lr") {
            Some(Value::Number(lr)) => lr,
            _ => 1.0,
        }
    }

    /// The same with another base rate.
    #[must_use]
    pub fn with_lr(mut self, lr: f64) -> Self {
        // Every rule has `lr` as a number; the range is checked where the optimizer is made.
        let _ = self.rule.set("lr", &Value::Number(lr));
        self
    }

    /// The same with one stage more, at the end.
    #[must_use]
    pub fn with(mut self, stage: impl Into<Stage>) -> Self {
        self.stages.push(stage.into());
        self
    }

    /// The same with all gradients clipped to the joint norm `limit`, in place of such clips it has.
    #[must_use]
    pub fn with_clip_global(self, limit: f64) -> Self {
        self.instead(ClipGlobal { limit }.into())
    }

    /// The same with every entry clipped into [−limit, limit], in place of such clips it has.
    #[must_use]
    pub fn with_clip_value(self, limit: f64) -> Self {
        self.instead(ClipValue { limit }.into())
    }

    fn instead(mut self, stage: Stage) -> Self {
        self.stages.retain(|other| other.name() != stage.name());
        self.with(stage)
    }

    /// Whether parameters of rank 0 and 1 are exempt from weight decay.
    pub fn no_decay(&self) -> bool {
        self.stages
            .iter()
            .any(|stage| matches!(stage, Stage::NoDecay(_)))
    }

    /// Whether any of its rules has a momentum that a schedule can set.
    pub fn takes_momentum(&self) -> bool {
        let resolved = self
            .groups()
            .filter_map(|group| group.resolved(&self.rule).ok());
        self.rule.takes_momentum() || resolved.into_iter().any(|rule| rule.takes_momentum())
    }

    /// The parameter groups, in order.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.stages.iter().filter_map(Stage::as_group)
    }

    /// Checks that each group has at least one parameter of the model.
    ///
    /// # Errors
    /// [`OptimError::EmptyGroup`] for the first that has none, also if earlier groups took them all.
    pub fn check_groups<M: Module>(&self, model: &M) -> Result<(), OptimError> {
        let groups: Vec<_> = self.groups().collect();
        check_groups(&groups, model)
    }

    /// Checks every hyper-parameter.
    ///
    /// # Errors
    /// [`OptimError::OutOfRange`] or [`OptimError::Conflict`], naming the field.
    pub fn validate(&self) -> Result<(), OptimError> {
        self.rule.validate()?;
        self.stages.iter().try_for_each(Stage::validate)?;
        for group in self.groups() {
            group.resolved(&self.rule)?;
            if self.lr() == 0.0 && group.base_lr(0.0) != 0.0 {
                let problem = "the main rate is 0, so that no schedule can scale that of the group; \
                               freeze the other parameters by a last group(name=*, lr=0) instead";
                return Err(conflict("group", problem));
            }
        }
        let count = |is: fn(&Stage) -> bool| self.stages.iter().filter(|stage| is(stage)).count();
        if count(Stage::needs_closure) > 1 {
            let problem =
                "only one of sam, asam and entropy can decide where the gradient is taken";
            return Err(conflict("optimizer", problem));
        }
        if count(|stage| matches!(stage, Stage::Accumulate(_))) > 1 {
            let problem = "`accumulate` can stand only once";
            return Err(conflict("optimizer", problem));
        }
        Ok(())
    }
}

fn conflict(owner: &'static str, problem: &str) -> OptimError {
    OptimError::Conflict {
        owner,
        problem: problem.to_owned(),
    }
}

impl FromStr for OptimizerConfig {
    type Err = OptimError;

    fn from_str(text: &str) -> Result<Self, OptimError> {
        let calls = parse_chain(text)?;
        let Some((first, rest)) = calls.split_first() else {
            return Err(TextError::new(text, 0..0, "expected an optimizer").into());
        };
        let stages = rest.iter().map(|call| Stage::from_call(text, call));
        let this = Self {
            rule: RuleConfig::from_call(text, first)?,
            stages: stages.collect::<Result<_, _>>()?,
        };
        this.validate()
            .map_err(|error| error.in_text(text, &calls))?;
        Ok(this)
    }
}

impl fmt::Display for OptimizerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rule)?;
        self.stages
            .iter()
            .try_for_each(|stage| write!(f, " | {stage}"))
    }
}

impl TryFrom<String> for OptimizerConfig {
    type Error = OptimError;
    fn try_from(text: String) -> Result<Self, OptimError> {
        text.parse()
    }
}

impl From<OptimizerConfig> for String {
    fn from(config: OptimizerConfig) -> Self {
        config.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Adam;

    #[test]
    fn text_prints_back_and_means_the_same() {
        for (text, shown) in [
            ("sgd", "sgd(lr=0.001)"),
            ("SGD(0.1)", "sgd(lr=0.1)"),
            (
                "sgd(lr=0.1, momentum=0.9, nesterov=true)",
                "sgd(lr=0.1, momentum=0.9, nesterov=true)",
            ),
            (
                "adam(lr=0.02, betas=(0.8, 0.95), eps=1e-4, weight-decay=0.05, amsgrad=True)",
                "adam(lr=0.02, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.05, amsgrad=true)",
            ),
            (
                "adamw(weight_decay=0)|clip-value(.5)|clip-global(1)|no-decay",
                "adamw(lr=0.001, weight_decay=0) | clip_value(0.5) | clip_global(1) | no_decay",
            ),
        ] {
            let config: OptimizerConfig = text.parse().unwrap();
            assert_eq!(config.to_string(), shown);
            assert_eq!(shown.parse::<OptimizerConfig>().unwrap(), config);
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(
                serde_json::from_str::<OptimizerConfig>(&json).unwrap(),
                config
            );
        }
    }

    #[test]
    fn errors_name_the_field_its_range_and_its_place() {
        for (text, message) in [
            (
                "sdg(lr=0.1)",
                "there is no optimizer `sdg`; did you mean `sgd`",
            ),
            (
                "quux",
                "there is no optimizer `quux`; known: sgd, momentum, qhm",
            ),
            (
                "adam(betas=0.9)",
                "`betas` of adam must be a pair of numbers like (0.9, 0.999)",
            ),
            (
                "adam(betas=(0.9, 1))",
                "`betas` of adam must lie in [0, 1), found (0.9, 1)",
            ),
            ("sgd(lr=-1)", "`lr` of sgd must lie in [0, inf), found -1"),
            ("sgd(lr=nan)", "`lr` of sgd must lie in [0, inf), found NaN"),
            ("sgd(lr=1, lr=2)", "`lr` is given twice"),
            ("sgd(lr=1, 0.9)", "sgd takes this argument by name only"),
            ("sgd | clip-global", "write clip_global(1.0)"),
            (
                "sgd | clip-global(1, 2)",
                "clip_global takes this argument by name only",
            ),
            (
                "sgd | clip-global(-1)",
                "`limit` of clip_global must lie in (0, inf], found -1",
            ),
            ("sgd | clip-globl(1)", "did you mean `clip_global`?"),
            (
                "sgd(nesterov=true)",
                "sgd: `nesterov` needs `momentum` above 0 and `dampening` 0",
            ),
        ] {
            let error = text.parse::<OptimizerConfig>().unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
        let error = "adam(lr=0.1, epz=1)"
            .parse::<OptimizerConfig>()
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "adam has no hyper-parameter `epz`; did you mean `eps`?\n  adam(lr=0.1, epz=1)\n               ^^^"
        );
    }

    #[test]
    fn values_set_in_code_are_checked_where_the_optimizer_is_made() {
        let config = OptimizerConfig::from(Adam {
            eps: -1.0,
            ..Adam::default()
        });
        let error = config.validate().unwrap_err().to_string();
        assert_eq!(error, "adam: `eps` must lie in [0, inf), found -1");
    }

    #[test]
    fn the_catalogue_is_the_documentation() {
        for entry in RuleConfig::catalogue() {
            assert!(
                entry.documentation.contains("```text"),
                "{} shows its formula",
                entry.name
            );
            assert!(
                entry.documentation.contains("Memory:"),
                "{} states its memory",
                entry.name
            );
            assert!(
                entry.documentation.contains("When to use:"),
                "{}",
                entry.name
            );
            assert_eq!(entry.hyperparameters[0].name, "lr");
        }
    }
}
