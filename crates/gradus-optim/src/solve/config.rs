//! A solver as text.

use super::solver::{Build, Solver};
use super::{
    Annealing, Cg, Coordinate, GaussNewton, Genetic, Lbfgs, LevenbergMarquardt, LocalSearch,
    MultiStart, NelderMead, Newton, NewtonCg, Powell, RandomSearch, Steepest,
};
use crate::hyper;
use crate::text::{Call, TextError, Value, normal, parse_chain, suggestion};
use crate::{CatalogueEntry, Hyperparameters, OptimError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! solver_config {
    ($($variant:ident),* $(,)?) => {
        /// A solver of this crate with its hyper-parameters, chosen at run time.
        ///
        /// ```
        /// use gradus_optim::solve::SolverConfig;
        ///
        /// let config: SolverConfig = "LBFGS(history-size=10, lr=0.5)".parse()?;
        /// assert_eq!(config.to_string(), "lbfgs(lr=0.5, history_size=10)");
        ///
        /// let error = "cg(beta=pr)".parse::<SolverConfig>().unwrap_err();
        /// assert!(error.to_string().contains("fr, pr_plus, hs or dy"));
        /// # Ok::<(), gradus_optim::OptimError>(())
        /// ```
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum SolverConfig {
            $(#[doc = concat!("[`", stringify!($variant), "`].")]
            $variant($variant),)*
        }

        impl SolverConfig {
            /// The solvers' names in text.
            pub const NAMES: &[&str] = &[$($variant::TEXT_NAME),*];

            /// Every solver, with its table and documentation.
            pub fn catalogue() -> Vec<CatalogueEntry> {
                vec![$(CatalogueEntry {
                    name: $variant::TEXT_NAME,
                    documentation: $variant::DOCUMENTATION,
                    hyperparameters: $variant::table(),
                    slots: 0,
                },)*]
            }

            fn from_call(text: &str, call: &Call) -> Result<Self, TextError> {
                match normal(&call.name.value).as_str() {
                    $($variant::TEXT_NAME => hyper::from_call(text, call).map(Self::$variant),)*
                    name => {
                        let near = suggestion(name, Self::NAMES.iter().copied());
                        let message = format!("there is no solver `{name}`{near}");
                        Err(TextError::new(text, call.name.at.clone(), message))
                    }
                }
            }

            /// The solver's name in text.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $variant::TEXT_NAME,)*
                }
            }

            /// The value of a hyper-parameter by name, if the solver has it.
            pub fn get(&self, name: &str) -> Option<Value> {
                match self {
                    $(Self::$variant(solver) => solver.get(name),)*
                }
            }

            /// The same with another value of a hyper-parameter.
            ///
            /// # Errors
            /// [`OptimError::Conflict`] if the solver lacks it or the value is of another kind, and
            /// what [`validate`](Self::validate) finds.
            pub fn with(mut self, name: &str, value: &Value) -> Result<Self, OptimError> {
                let owner = self.name();
                let set = match &mut self {
                    $(Self::$variant(solver) => solver.set(name, value),)*
                };
                set.map_err(|expected| OptimError::Conflict {
                    owner,
                    problem: format!("cannot set `{name}` to {value}: expected {expected}"),
                })?;
                self.validate()?;
                Ok(self)
            }

            /// Checks every hyper-parameter.
            ///
            /// # Errors
            /// [`OptimError::OutOfRange`] or [`OptimError::Conflict`], naming the field.
            pub fn validate(&self) -> Result<(), OptimError> {
                match self {
                    $(Self::$variant(solver) => {
                        solver.check_ranges()?;
                        solver.check_fields()
                    })*
                }
            }

            /// The solver, before its first step.
            ///
            /// # Errors
            /// What [`validate`](Self::validate) finds.
            pub fn solver(&self) -> Result<Box<dyn Solver>, OptimError> {
                self.validate()?;
                Ok(self.build())
            }

            pub(super) fn build(&self) -> Box<dyn Solver> {
                match self {
                    $(Self::$variant(solver) => Build::build(solver),)*
                }
            }
        }

        impl fmt::Display for SolverConfig {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant(solver) => f.write_str(&solver.to_text(&[])),)*
                }
            }
        }

        $(impl From<$variant> for SolverConfig {
            fn from(solver: $variant) -> Self {
                Self::$variant(solver)
            }
        }

        impl $variant {
            /// The solver, before its first step.
            ///
            /// # Errors
            /// [`OptimError::OutOfRange`] or [`OptimError::Conflict`], naming the field.
            pub fn solver(&self) -> Result<Box<dyn Solver>, OptimError> {
                self.check_ranges()?;
                self.check_fields()?;
                Ok(self.build())
            }
        })*
    };
}
solver_config!(
    Steepest,
    Cg,
    Lbfgs,
    Newton,
    NewtonCg,
    GaussNewton,
    LevenbergMarquardt,
    RandomSearch,
    LocalSearch,
    Coordinate,
    Powell,
    NelderMead,
    Annealing,
    Genetic,
    MultiStart
);

impl SolverConfig {
    /// Checks that the solver takes problems of `n` variables: those that keep n² numbers have a
    /// `max_dimension`.
    ///
    /// # Errors
    /// [`OptimError::Unsolvable`], naming solvers that do.
    pub fn check_dimension(&self, n: usize) -> Result<(), OptimError> {
        match self {
            Self::MultiStart(multi) => multi.solver.check_dimension(n),
            _ => match self.get("max_dimension") {
                Some(Value::Number(limit)) if n as f64 > limit => Err(OptimError::Unsolvable {
                    solver: self.name(),
                    problem: format!(
                        "{n} variables are more than its max_dimension = {limit}, as it keeps n² \
                         numbers: take lbfgs, cg or newton_cg (coordinate, where there is no \
                         gradient)"
                    ),
                }),
                _ => Ok(()),
            },
        }
    }

    /// Whether the solver needs the loss as a function of outputs: Gauss–Newton products.
    pub fn needs_structure(&self) -> bool {
        match self {
            Self::GaussNewton(_) | Self::LevenbergMarquardt(_) => true,
            Self::MultiStart(multi) => multi.solver.needs_structure(),
            _ => false,
        }
    }
}

impl Default for SolverConfig {
    fn default() -> Self {
        Self::Lbfgs(Lbfgs::default())
    }
}

impl FromStr for SolverConfig {
    type Err = OptimError;

    fn from_str(text: &str) -> Result<Self, OptimError> {
        let calls = parse_chain(text)?;
        let this = match calls.as_slice() {
            [call] => Self::from_call(text, call)?,
            [call, next, ..] => {
                // Names first: an unknown one is the greater mistake.
                let solver = Self::from_call(text, call)?;
                let message = format!(
                    "nothing can stand after a solver: {} chooses its steps itself",
                    solver.name()
                );
                return Err(TextError::new(text, next.name.at.clone(), message).into());
            }
            [] => return Err(TextError::new(text, 0..0, "expected a solver").into()),
        };
        this.validate()
            .map_err(|error| error.in_text(text, &calls))?;
        Ok(this)
    }
}

impl TryFrom<String> for SolverConfig {
    type Error = OptimError;
    fn try_from(text: String) -> Result<Self, OptimError> {
        text.parse()
    }
}

impl From<SolverConfig> for String {
    fn from(config: SolverConfig) -> Self {
        config.to_string()
    }
}
