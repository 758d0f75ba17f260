//! A schedule as text: a shape, a unit of time, and a warm-up.

use super::{
    Clock, Constant, Cosine, CosineRestarts, Cyclic, Exponential, InverseTime, Linear, MultiStep,
    OneCycle, Polynomial, Rate, Shape, StepDecay, Triangular,
};
use crate::config::CatalogueEntry;
use crate::hyper::{self, hyperparameters};
use crate::text::{Call, TextError, normal, parse_chain, suggestion};
use crate::{Hyperparameters, OptimError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! schedules {
    ($($variant:ident),* $(,)?) => {
        /// The shape of a schedule.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Schedule {
            $(#[doc = concat!("[`", stringify!($variant), "`](crate::schedules::", stringify!($variant), ").")]
            $variant($variant),)*
        }

        impl Schedule {
            /// Every schedule, with its table and documentation.
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
                        let near = suggestion(name, [$($variant::TEXT_NAME),*]);
                        let message = format!("there is no schedule `{name}`{near}");
                        Err(TextError::new(text, call.name.at.clone(), message))
                    }
                }
            }

            fn validate(&self) -> Result<(), OptimError> {
                match self {
                    $(Self::$variant(shape) => shape.check_ranges(),)*
                }
            }

            fn rate(&self, t: f64, total: f64, base_lr: f64) -> Rate {
                match self {
                    $(Self::$variant(shape) => shape.rate(t, total, base_lr),)*
                }
            }
        }

        impl fmt::Display for Schedule {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant(shape) => f.write_str(&shape.to_text(&[])),)*
                }
            }
        }

        $(impl From<$variant> for ScheduleConfig {
            fn from(shape: $variant) -> Self {
                Self { shape: Schedule::$variant(shape), per_epoch: false, warmup: None }
            }
        })*
    };
}
schedules!(
    Constant,
    StepDecay,
    MultiStep,
    Exponential,
    InverseTime,
    Linear,
    Polynomial,
    Cosine,
    CosineRestarts,
    OneCycle,
    Cyclic,
    Triangular,
);

hyperparameters! {
    /// Linear warm-up before a schedule.
    ///
    /// ```text
    /// η(t) = η(W)·(start + (1 − start)·(t + 1)/W)  for t < W = steps + epochs·(steps of an epoch)
    /// ```
    /// It climbs to what the shape behind it starts with, η(W): the optimizer's rate for most shapes,
    /// but `max_lr/25` for `onecycle`, which is a warm-up of its own. The last step of the warm-up has
    /// that rate already. The shape begins at step W.
    pub struct Warmup as "warmup" {
        steps: u64 = 0, "[0, inf)", "Length in steps.";
        epochs: f64 = 0.0, "[0, inf)", "Length in epochs, added to `steps`.";
        start: f64 = 0.0, "[0, inf)", "Factor before the first step.";
    }
}

impl Warmup {
    fn length(&self, steps_per_epoch: u64) -> u64 {
        // The conversion saturates, and so must the sum: `epochs = 1e300` is a valid table.
        self.steps
            .saturating_add((self.epochs * steps_per_epoch as f64).round() as u64)
    }
}

/// A schedule: a shape, a unit of time, and a warm-up. Its text form is
/// `SHAPE [| per_epoch] [| warmup(steps=N)]`, for example `step(step_size=30, gamma=0.1) | per_epoch`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScheduleConfig {
    /// The shape.
    pub shape: Schedule,
    /// Whether the shape's time is counted in epochs rather than steps.
    pub per_epoch: bool,
    /// Warm-up before it.
    pub warmup: Option<Warmup>,
}

impl Default for ScheduleConfig {
    /// A constant rate.
    fn default() -> Self {
        Constant::default().into()
    }
}

impl ScheduleConfig {
    /// The rate for step `step` (from 0) of `total_steps`, for an optimizer whose rate is `base_lr`.
    /// For schedules with epochs in their text, see [`at`](Self::at): here the run is one epoch.
    pub fn lr(&self, step: u64, total_steps: u64, base_lr: f64) -> f64 {
        self.at(
            Clock {
                step,
                total_steps,
                steps_per_epoch: total_steps,
            },
            base_lr,
        )
        .lr
    }

    /// The rate, and the momentum of schedules that have one.
    pub fn at(&self, clock: Clock, base_lr: f64) -> Rate {
        let steps_per_epoch = clock.steps_per_epoch.max(1);
        let (mut step, mut total) = (clock.step, clock.total_steps);
        if let Some(warmup) = &self.warmup {
            let length = warmup.length(steps_per_epoch);
            if step < length {
                // The rate that the shape starts with is what the warm-up climbs to.
                let top = self.shape.rate(
                    0.0,
                    self.units(total.saturating_sub(length), steps_per_epoch),
                    base_lr,
                );
                let climbed = (step + 1) as f64 / length as f64;
                return Rate {
                    lr: top.lr * (warmup.start + (1.0 - warmup.start) * climbed),
                    ..top
                };
            }
            step -= length;
            total = total.saturating_sub(length);
        }
        let t = if self.per_epoch {
            step / steps_per_epoch
        } else {
            step
        };
        self.shape
            .rate(t as f64, self.units(total, steps_per_epoch), base_lr)
    }

    /// A length in the unit of the shape.
    fn units(&self, steps: u64, steps_per_epoch: u64) -> f64 {
        if self.per_epoch {
            steps.div_ceil(steps_per_epoch) as f64
        } else {
            steps as f64
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`OptimError::OutOfRange`], naming the field.
    pub fn validate(&self) -> Result<(), OptimError> {
        self.shape.validate()?;
        self.warmup
            .as_ref()
            .map_or(Ok(()), Hyperparameters::check_ranges)
    }
}

const WRAPPERS: [&str; 2] = ["per_epoch", "warmup"];

impl FromStr for ScheduleConfig {
    type Err = OptimError;

    fn from_str(text: &str) -> Result<Self, OptimError> {
        let calls = parse_chain(text)?;
        let mut calls = calls.iter();
        let Some(first) = calls.next() else {
            return Err(TextError::new(text, 0..0, "expected a schedule").into());
        };
        let mut this = Self {
            shape: Schedule::from_call(text, first)?,
            per_epoch: false,
            warmup: None,
        };
        for call in calls {
            match normal(&call.name.value).as_str() {
                "per_epoch" => match call.arguments.first() {
                    None => this.per_epoch = true,
                    Some((_, value)) => {
                        let message = "per_epoch takes no argument";
                        return Err(TextError::new(text, value.at.clone(), message).into());
                    }
                },
                "warmup" if this.warmup.is_none() => {
                    this.warmup = Some(hyper::from_call(text, call)?);
                }
                "warmup" => {
                    let message = "there is a warm-up already";
                    return Err(TextError::new(text, call.name.at.clone(), message).into());
                }
                name => {
                    let near = suggestion(name, WRAPPERS);
                    let message = format!("there is no `{name}` to put after a schedule{near}");
                    return Err(TextError::new(text, call.name.at.clone(), message).into());
                }
            }
        }
        this.validate()?;
        Ok(this)
    }
}

impl fmt::Display for ScheduleConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shape)?;
        if self.per_epoch {
            f.write_str(" | per_epoch")?;
        }
        match &self.warmup {
            Some(warmup) => write!(f, " | {}", warmup.to_text(&[])),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for ScheduleConfig {
    type Error = OptimError;
    fn try_from(text: String) -> Result<Self, OptimError> {
        text.parse()
    }
}

impl From<ScheduleConfig> for String {
    fn from(config: ScheduleConfig) -> Self {
        config.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_prints_back_and_means_the_same() {
        for (text, shown) in [
            ("constant", "constant"),
            ("step(30, 0.1)", "step"),
            (
                "step(step-size=10)|per-epoch",
                "step(step_size=10) | per_epoch",
            ),
            (
                "cosine(T_max=none) | warmup(500)",
                "cosine | warmup(steps=500)",
            ),
            (
                "onecycle(anneal_strategy=linear, max_lr=0.5)",
                "onecycle(max_lr=0.5, anneal_strategy=linear)",
            ),
            (
                "multi-step(milestones=[7, 20])",
                "multi_step(milestones=(7, 20))",
            ),
        ] {
            let schedule: ScheduleConfig = text.parse().unwrap();
            assert_eq!(schedule.to_string(), shown);
            assert_eq!(shown.parse::<ScheduleConfig>().unwrap(), schedule);
        }
    }

    #[test]
    fn errors_name_the_field_its_range_and_its_place() {
        for (text, message) in [
            (
                "cosin",
                "there is no schedule `cosin`; did you mean `cosine`",
            ),
            (
                "step(step_size=0)",
                "`step_size` of step must lie in [1, inf), found 0",
            ),
            (
                "step(step_size=1.5)",
                "`step_size` of step must be a whole number, zero or more",
            ),
            (
                "onecycle(anneal_strategy=log)",
                "`anneal_strategy` of onecycle must be cos or linear",
            ),
            (
                "cosine | warmup(1) | warmup(2)",
                "there is a warm-up already",
            ),
            ("cosine | per-epoc", "did you mean `per_epoch`?"),
        ] {
            let error = text.parse::<ScheduleConfig>().unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn per_epoch_counts_whole_epochs() {
        let schedule: ScheduleConfig = "step(step_size=2, gamma=0.1) | per_epoch".parse().unwrap();
        let lr = |step| {
            schedule
                .at(
                    Clock {
                        step,
                        total_steps: 60,
                        steps_per_epoch: 10,
                    },
                    1.0,
                )
                .lr
        };
        assert_eq!([lr(0), lr(19)], [1.0, 1.0]);
        assert!((lr(20) - 0.1).abs() < 1e-15 && (lr(59) - 0.01).abs() < 1e-15);
        let cosine: ScheduleConfig = "cosine | per_epoch".parse().unwrap();
        let lr = |step| {
            cosine
                .at(
                    Clock {
                        step,
                        total_steps: 60,
                        steps_per_epoch: 10,
                    },
                    1.0,
                )
                .lr
        };
        assert!((lr(30) - 0.5).abs() < 1e-15, "half way at epoch 3 of 6");
    }

    #[test]
    fn warm_up_climbs_to_the_full_rate_and_then_hands_over() {
        let schedule: ScheduleConfig = "linear | warmup(steps=4, start=0.2)".parse().unwrap();
        let lrs: Vec<_> = (0..8).map(|step| schedule.lr(step, 8, 1.0)).collect();
        for (lr, expected) in lrs.iter().zip([0.4, 0.6, 0.8, 1.0, 1.0, 0.75, 0.5, 0.25]) {
            assert!((lr - expected).abs() < 1e-12, "{lrs:?}");
        }
        let by_epochs: ScheduleConfig = "constant | warmup(epochs=0.5)".parse().unwrap();
        let lr = by_epochs
            .at(
                Clock {
                    step: 4,
                    total_steps: 100,
                    steps_per_epoch: 20,
                },
                1.0,
            )
            .lr;
        assert!((lr - 0.5).abs() < 1e-12, "the fifth step of ten");
    }

    #[test]
    fn a_warm_up_longer_than_time_saturates() {
        let schedule: ScheduleConfig = "constant | warmup(steps=9007199254740992, epochs=1e300)"
            .parse()
            .unwrap();
        let lr = schedule.lr(7, 100, 1.0);
        assert!((0.0..1e-15).contains(&lr), "{lr}");
    }

    #[test]
    fn the_airbench_triangle() {
        let schedule: ScheduleConfig = "triangular".parse().unwrap();
        let lr = |step| schedule.lr(step, 476, 1.0);
        assert!((lr(0) - 0.2).abs() < 1e-12);
        assert!((lr(109) - 1.0).abs() < 1e-12);
        assert!((lr(476) - 0.07).abs() < 1e-12);
        assert!((0..109).all(|step| lr(step) < lr(step + 1)));
        assert!((109..476).all(|step| lr(step) > lr(step + 1)));
    }

    #[test]
    fn textbook_decays() {
        let at = |text: &str, t| text.parse::<ScheduleConfig>().unwrap().lr(t, 100, 0.5);
        assert!((at("exponential(k=0.1)", 7) - 0.5 * (-0.7_f64).exp()).abs() < 1e-15);
        assert!((at("inverse_time(k=0.1)", 10) - 0.25).abs() < 1e-15);
    }

    proptest::proptest! {
        #[test]
        fn every_schedule_is_finite_and_not_negative_anywhere(
            step in 0u64..300, total in 0u64..200, per_epoch in 0u64..50, warmup in 0u64..20,
        ) {
            for entry in Schedule::catalogue() {
                let mut schedule: ScheduleConfig = entry.name.parse().unwrap();
                schedule.per_epoch = per_epoch % 2 == 0;
                schedule.warmup = Some(Warmup { steps: warmup, ..Warmup::default() });
                let clock = Clock { step, total_steps: total, steps_per_epoch: per_epoch };
                let Rate { lr, momentum } = schedule.at(clock, 0.5);
                proptest::prop_assert!(lr.is_finite() && lr >= 0.0, "{}: {lr}", entry.name);
                proptest::prop_assert!(momentum.is_none_or(|m| (0.0..1.0).contains(&m)), "{}", entry.name);
            }
        }
    }
}
