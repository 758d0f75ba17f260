//! A rule with its hyper-parameters, chosen at run time by its name.

use super::OptimizerConfig;
use crate::execute::AnyRule;
use crate::hyper;
use crate::rules::*;
use crate::tensor_rule::Shaped;
use crate::text::{Call, TextError, Value, normal, suggestion};
use crate::{Hyperparameter, Hyperparameters, OptimError, Rest, Rule, TensorRule};
use burn::optim::ModuleOptimizer;
use std::fmt;
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
