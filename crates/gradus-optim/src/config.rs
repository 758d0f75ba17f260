//! An optimizer as text: a rule, and what is done around it.

use crate::execute::AnyRule;
use crate::hyper;
use crate::rules::*;
use crate::stages::{ClipGlobal, ClipValue, Group, Stage, check_groups};
use crate::tensor_rule::Shaped;
use crate::text::{Call, TextError, Value, normal, parse_chain, suggestion};
use crate::{Hyperparameter, Hyperparameters, OptimError, Rest, Rule, TensorRule};
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// One of the crate's rules, chosen at run time: [`Rule`]s, then [`TensorRule`]s.
macro_rules! rule_config {
    (
        elementwise: $($plain:ident),*;
        curvature: $($curved:ident),*;
        tensor: $($shaped:ident),*;
    ) => {
        rule_config!(@ [$($plain)*] [$($plain)* $($curved)*] [$($shaped)*]);
    };
    (@ [$($plain:ident)*] [$($variant:ident)*] [$($shaped:ident)*]) => {
        /// A rule of this crate with its hyper-parameters, chosen at run time.
        #[derive(Clone, Debug, PartialEq)]
        pub enum RuleConfig {
            $(#[doc = concat!("[`", stringify!($variant), "`].")]
            $variant($variant),)*
            $(#[doc = concat!("[`", stringify!($shaped), "`].")]
            $shaped($shaped),)*
        }

        impl RuleConfig {
            /// Every rule, with its table and documentation; what `gradus optim list` prints.
            pub fn catalogue() -> Vec<CatalogueEntry> {
                vec![
                    $(CatalogueEntry {
                        name: $variant::TEXT_NAME,
                        documentation: $variant::DOCUMENTATION,
                        hyperparameters: $variant::table(),
                        slots: $variant::default().slots().len(),
                    },)*
                    $(CatalogueEntry {
                        name: $shaped::TEXT_NAME,
                        documentation: $shaped::DOCUMENTATION,
                        hyperparameters: $shaped::table(),
                        slots: $shaped::default().slots(&[2, 2]).len(),
                    },)*
                ]
            }

            pub(crate) fn from_call(text: &str, call: &Call) -> Result<Self, TextError> {
                match normal(&call.name.value).as_str() {
                    $($variant::TEXT_NAME => hyper::from_call(text, call).map(Self::$variant),)*
                    $($shaped::TEXT_NAME => hyper::from_call(text, call).map(Self::$shaped),)*
                    name => {
                        let near = suggestion(
                            name,
                            [$($variant::TEXT_NAME,)* $($shaped::TEXT_NAME,)*],
                        );
                        let message = format!("there is no optimizer `{name}`{near}");
                        Err(TextError::new(text, call.name.at.clone(), message))
                    }
                }
            }

            /// The rule's name in text.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $variant::TEXT_NAME,)*
                    $(Self::$shaped(_) => $shaped::TEXT_NAME,)*
                }
            }

            /// The value of a hyper-parameter by name, if the rule has it.
            pub fn get(&self, name: &str) -> Option<Value> {
                match self {
                    $(Self::$variant(rule) => rule.get(name),)*
                    $(Self::$shaped(rule) => rule.get(name),)*
                }
            }

            /// Sets a hyper-parameter by name.
            ///
            /// # Errors
            /// [`OptimError::Conflict`] if the rule lacks it or the value is of another kind, and
            /// what [`validate`](Self::validate) finds.
            pub fn set(&mut self, name: &str, value: &Value) -> Result<(), OptimError> {
                let done = match self {
                    $(Self::$variant(rule) => rule.set(name, value),)*
                    $(Self::$shaped(rule) => rule.set(name, value),)*
                };
                done.map_err(|expected| OptimError::Conflict {
                    owner: self.name(),
                    problem: format!("cannot set `{name}` to {value}: expected {expected}"),
                })?;
                self.validate()
            }

            /// Checks every hyper-parameter.
            ///
            /// # Errors
            /// [`OptimError::OutOfRange`] or [`OptimError::Conflict`], naming the field.
            pub fn validate(&self) -> Result<(), OptimError> {
                match self {
                    $(Self::$variant(rule) => {
                        rule.check_ranges()?;
                        rule.check()
                    })*
                    $(Self::$shaped(rule) => {
                        rule.check_ranges()?;
                        rule.check()
                    })*
                }
            }

            /// Whether the rule is for parameters of this shape; others are updated by
            /// [`rest`](Self::rest).
            pub fn takes(&self, shape: &[usize]) -> bool {
                match self {
                    $(Self::$shaped(rule) => rule.takes(shape),)*
                    _ => true,
                }
            }

            /// The rule for parameters that this one does not [take](Self::takes); `None` for a rule
            /// that takes all.
            pub fn rest(&self) -> Option<Rest> {
                match self {
                    $(Self::$shaped(rule) => rule.rest(),)*
                    _ => None,
                }
            }

            /// The iterates of the rule for a vector on a sequence of gradients; see
            /// [`trajectory`](crate::trajectory).
            pub fn trajectory(
                &self,
                lr: f64,
                theta0: &[f64],
                gradients: impl IntoIterator<Item = impl AsRef<[f64]>>,
            ) -> Vec<Vec<f64>> {
                self.trajectory_shaped(lr, &[theta0.len()], theta0, gradients)
            }

            /// The iterates of the rule for a parameter of shape `shape`, its entries row by row; by
            /// the [rest](Self::rest) if the rule does not take that shape.
            ///
            /// # Panics
            /// If θ₀ or a gradient has another number of entries than the shape.
            pub fn trajectory_shaped(
                &self,
                lr: f64,
                shape: &[usize],
                theta0: &[f64],
                gradients: impl IntoIterator<Item = impl AsRef<[f64]>>,
            ) -> Vec<Vec<f64>> {
                if !self.takes(shape)
                    && let Some(Rest { rule, lr: ratio }) = self.rest()
                {
                    // Collected, so that the recursion ends in one type.
                    let gradients: Vec<_> = gradients
                        .into_iter()
                        .map(|g| g.as_ref().to_vec())
                        .collect();
                    return rule.trajectory_shaped(lr * ratio, shape, theta0, gradients);
                }
                match self {
                    $(Self::$variant(rule) => crate::trajectory(rule, lr, theta0, gradients),)*
                    $(Self::$shaped(rule) => {
                        crate::tensor_trajectory(rule, lr, shape, theta0, gradients)
                    })*
                }
            }

            /// The rule as Burn's own optimizer; `None` for those by [curvature](crate::curvature), which
            /// need gradients that Burn's trait cannot give.
            ///
            /// A rule that leaves some shapes to another ([`rest`](Self::rest)) does so there too.
            pub fn to_burn(&self) -> Option<ModuleOptimizer> {
                match self {
                    $(Self::$plain(rule) => Some(ModuleOptimizer::from(rule.clone())),)*
                    $(Self::$shaped(rule) => Some(ModuleOptimizer::from(rule.clone())),)*
                    _ => None,
                }
            }

            /// Whether a momentum that a schedule asks for changes anything: the rule is of a kind that
            /// has one, and was configured with it.
            pub fn takes_momentum(&self) -> bool {
                let own = match self {
                    $(Self::$variant(rule) => {
                        rule.with_momentum(0.25) != rule.with_momentum(0.5)
                    })*
                    $(Self::$shaped(rule) => rule.with_momentum(0.25) != rule.with_momentum(0.5),)*
                };
                own || self.rest().is_some_and(|rest| rest.rule.takes_momentum())
            }

            /// The rule with its type forgotten; with decay, and without.
            pub(crate) fn shared(&self) -> [Arc<dyn AnyRule>; 2] {
                match self {
                    $(Self::$variant(rule) => {
                        [Arc::new(rule.clone()), Arc::new(rule.without_decay())]
                    })*
                    $(Self::$shaped(rule) => [
                        Arc::new(Shaped(rule.clone())),
                        Arc::new(Shaped(rule.without_decay())),
                    ],)*
                }
            }
        }

        impl fmt::Display for RuleConfig {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant(rule) => f.write_str(&rule.to_text(&["lr"])),)*
                    $(Self::$shaped(rule) => f.write_str(&rule.to_text(&["lr"])),)*
                }
            }
        }

        rule_config!(@from $($variant,)* $($shaped,)*);
    };
    (@from $($variant:ident,)*) => {
        $(impl From<$variant> for RuleConfig {
            fn from(rule: $variant) -> Self {
                Self::$variant(rule)
            }
        }

        impl From<$variant> for OptimizerConfig {
            fn from(rule: $variant) -> Self {
                Self { rule: rule.into(), stages: Vec::new() }
            }
        })*
    };
}
all_rules!(rule_config);

/// What is known about a rule or a schedule by its declaration.
#[derive(Clone, Debug)]
pub struct CatalogueEntry {
    /// The name in text.
    pub name: &'static str,
    /// Formula, memory, when to use: the documentation comment, in Markdown.
    pub documentation: &'static str,
    /// The table of hyper-parameters.
    pub hyperparameters: Vec<Hyperparameter>,
    /// Tensors kept per parameter (per matrix, if it depends on the shape), at the defaults; 0 for a
    /// schedule.
    pub slots: usize,
}

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
