//! A schedule as text: a shape, and what stands behind it.

use super::shape::{Schedule, entry};
use super::stages::units;
use super::{Clock, Momentum, PerEpoch, Plateau, PlateauState, Rate, Warmup};
use crate::config::CatalogueEntry;
use crate::hyper;
use crate::text::{Call, TextError, normal, parse_chain, suggestion};
use crate::{Hyperparameters, OptimError, OptimizerConfig};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A schedule: a shape, a unit of time, a warm-up, and what else stands behind it. Its text form is
/// `SHAPE [| per_epoch] [| warmup(steps=N)] [| momentum(SHAPE)] [| plateau(…)]`, for example
/// `step(step_size=30, gamma=0.1) | per_epoch`; `plateau(…)` may also stand alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScheduleConfig {
    /// The shape.
    pub shape: Schedule,
    /// Whether the shape's time is counted in epochs rather than steps.
    pub per_epoch: bool,
    /// Warm-up before it.
    pub warmup: Option<Warmup>,
    /// Momentum over time, in place of the shape's own.
    pub momentum: Option<Momentum>,
    /// Reduction of the rate when the metric stops getting better.
    pub plateau: Option<Plateau>,
}

impl Default for ScheduleConfig {
    /// A constant rate.
    fn default() -> Self {
        Schedule::default().into()
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

    /// The rate, and the momentum of schedules that have one. What a plateau makes of it is in
    /// [`rate`](Self::rate).
    pub fn at(&self, clock: Clock, base_lr: f64) -> Rate {
        let mut rate = self.shape_at(clock, base_lr);
        if let Some(momentum) = &self.momentum {
            let (t, total) = units(clock, self.per_epoch);
            rate.momentum = Some(momentum.at(t, total));
        }
        rate
    }

    /// [`at`](Self::at), scaled by what a plateau has seen. For a schedule without one it is the same,
    /// whatever the state.
    pub fn rate(&self, clock: Clock, base_lr: f64, state: &PlateauState) -> Rate {
        let rate = self.at(clock, base_lr);
        let scale = self.plateau.as_ref().map_or(1.0, |_| state.scale());
        Rate {
            lr: rate.lr * scale,
            ..rate
        }
    }

    /// Whether the schedule looks at a metric: then [`observe`](Self::observe) belongs behind every
    /// validation. [`Plateau::mode`] says which way is better.
    pub fn needs_metric(&self) -> bool {
        self.plateau.is_some()
    }

    /// Takes the metric of an epoch. Says whether the rate was reduced; never for a schedule without
    /// a plateau, which leaves the state alone.
    pub fn observe(&self, state: &mut PlateauState, metric: f64, base_lr: f64) -> bool {
        self.plateau
            .as_ref()
            .is_some_and(|plateau| state.observe(plateau, metric, base_lr))
    }

    /// What may stand behind a schedule, with tables and documentation.
    pub fn stages() -> Vec<CatalogueEntry> {
        vec![
            entry::<PerEpoch>(),
            entry::<Warmup>(),
            entry::<Momentum>(),
            entry::<Plateau>(),
        ]
    }

    fn shape_at(&self, mut clock: Clock, base_lr: f64) -> Rate {
        let at = |clock| {
            let (t, total) = units(clock, self.per_epoch);
            self.shape.rate(t, total, base_lr)
        };
        let Some(warmup) = &self.warmup else {
            return at(clock);
        };
        let length = warmup.length(clock.steps_per_epoch.max(1));
        let step = clock.step;
        clock.step = step.saturating_sub(length);
        clock.total_steps = clock.total_steps.saturating_sub(length);
        // During the warm-up this is the rate that the shape starts with, which is climbed to.
        let rate = at(clock);
        if step >= length {
            return rate;
        }
        Rate {
            lr: rate.lr * warmup.factor(step, length),
            ..rate
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`OptimError::OutOfRange`], naming the field.
    pub fn validate(&self) -> Result<(), OptimError> {
        self.shape.validate()?;
        if let Some(warmup) = &self.warmup {
            warmup.check_ranges()?;
        }
        if let Some(momentum) = &self.momentum {
            momentum.validate()?;
        }
        self.plateau
            .as_ref()
            .map_or(Ok(()), Hyperparameters::check_ranges)
    }

    /// Checks that the optimizer has a momentum where `| momentum(…)` sets one. (The momentum that
    /// one-cycle schedules bring along is left aside by a rule without.)
    ///
    /// # Errors
    /// [`OptimError::Conflict`] naming the rule.
    pub fn check_rule(&self, optimizer: &OptimizerConfig) -> Result<(), OptimError> {
        match self.momentum {
            Some(_) if !optimizer.takes_momentum() => Err(OptimError::Conflict {
                owner: Momentum::TEXT_NAME,
                problem: format!(
                    "{} has no momentum to set; leave `| momentum` out, or give the optimizer one \
                     (sgd has it as sgd(momentum=0.9))",
                    optimizer.rule
                ),
            }),
            _ => Ok(()),
        }
    }
}

impl FromStr for ScheduleConfig {
    type Err = OptimError;

    fn from_str(text: &str) -> Result<Self, OptimError> {
        let calls = parse_chain(text)?;
        let Some((first, stages)) = calls.split_first() else {
            return Err(TextError::new(text, 0..0, "expected a schedule").into());
        };
        let mut this = if normal(&first.name.value) == Plateau::TEXT_NAME {
            hyper::from_call::<Plateau>(text, first)?.into()
        } else {
            Self::from(Schedule::from_call(text, first)?)
        };
        for call in stages {
            this.add_stage(text, call)?;
        }
        this.validate()
            .map_err(|error| error.in_text(text, &calls))?;
        Ok(this)
    }
}

impl ScheduleConfig {
    fn add_stage(&mut self, text: &str, call: &Call) -> Result<(), TextError> {
        let name = normal(&call.name.value);
        let wrong = |message: String| TextError::new(text, call.name.at.clone(), message);
        let taken = match name.as_str() {
            PerEpoch::TEXT_NAME => self.per_epoch,
            Warmup::TEXT_NAME => self.warmup.is_some(),
            Momentum::TEXT_NAME => self.momentum.is_some(),
            Plateau::TEXT_NAME => self.plateau.is_some(),
            _ => false,
        };
        if taken {
            return Err(wrong(format!("there is a {name} already")));
        }
        match name.as_str() {
            PerEpoch::TEXT_NAME => {
                if let Some((_, value)) = call.arguments.first() {
                    let message = "per_epoch takes no argument";
                    return Err(TextError::new(text, value.at.clone(), message));
                }
                self.per_epoch = true;
            }
            Warmup::TEXT_NAME => self.warmup = Some(hyper::from_call(text, call)?),
            Momentum::TEXT_NAME => self.momentum = Some(Momentum::read(text, call)?),
            Plateau::TEXT_NAME => self.plateau = Some(hyper::from_call(text, call)?),
            _ if Schedule::catalogue().iter().any(|entry| entry.name == name) => {
                return Err(wrong(format!(
                    "`{name}` is a schedule of its own; two of them are sequence(…, {name}, \
                     milestones=(N)) or product(…, {name})"
                )));
            }
            _ => {
                let stages = Self::stages();
                let near = suggestion(&name, stages.iter().map(|entry| entry.name));
                return Err(wrong(format!(
                    "there is no `{name}` to put after a schedule{near}"
                )));
            }
        }
        Ok(())
    }
}

impl fmt::Display for ScheduleConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A plateau alone scales a constant rate, which then goes without saying.
        let alone = self
            .plateau
            .as_ref()
            .filter(|_| self.shape == Schedule::default());
        match alone {
            Some(plateau) => f.write_str(&plateau.to_text(&[]))?,
            None => write!(f, "{}", self.shape)?,
        }
        if self.per_epoch {
            f.write_str(" | per_epoch")?;
        }
        if let Some(warmup) = &self.warmup {
            write!(f, " | {}", warmup.to_text(&[]))?;
        }
        if let Some(momentum) = &self.momentum {
            write!(f, " | {}", momentum.to_text(&[]))?;
        }
        match &self.plateau {
            Some(plateau) if alone.is_none() => write!(f, " | {}", plateau.to_text(&[])),
            _ => Ok(()),
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

impl From<Schedule> for ScheduleConfig {
    fn from(shape: Schedule) -> Self {
        Self {
            shape,
            per_epoch: false,
            warmup: None,
            momentum: None,
            plateau: None,
        }
    }
}

impl From<Plateau> for ScheduleConfig {
    fn from(plateau: Plateau) -> Self {
        Self {
            plateau: Some(plateau),
            ..Self::default()
        }
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
            ("plateau(min, 0.5)", "plateau(factor=0.5)"),
            (
                "plateau | warmup(5) | per_epoch",
                "plateau | per_epoch | warmup(steps=5)",
            ),
            ("cosine | plateau(mode=max)", "cosine | plateau(mode=max)"),
            (
                "Sequence(linear(1e-3, 1, total-iters=5), cosine, milestones=[5])",
                "sequence(linear(start_factor=0.001, end_factor=1, total_iters=5), cosine, \
                 milestones=(5))",
            ),
            (
                "product(schedules=(rex, sequence(constant)))",
                "product(rex, sequence(constant))",
            ),
            (
                "constant | momentum(step(step_size=7, gamma=.5), base=0.9)",
                "constant | momentum(schedule=step(step_size=7, gamma=0.5), base=0.9)",
            ),
            ("cosine | momentum", "cosine | momentum"),
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
                "there is a warmup already",
            ),
            ("cosine | per-epoc", "did you mean `per_epoch`?"),
            ("cosine | linear", "product(…, linear)"),
            ("plateau | plateau", "there is a plateau already"),
            (
                "plateau(factor=1)",
                "`factor` of plateau must lie in [0, 1), found 1",
            ),
            (
                "sequence(linear, step(gama=2), milestones=(3))",
                "step has no hyper-parameter `gama`; did you mean `gamma`?\n  \
                 sequence(linear, step(gama=2), milestones=(3))\n                        ^^^^",
            ),
            ("sequence(linear, 3)", "expected a schedule, found 3"),
            (
                "sequence(linear, plateau)",
                "cannot stand inside another schedule",
            ),
            (
                "sequence(linear, cosine)",
                "there are 2 schedules and 0 milestones",
            ),
            (
                "sequence(linear, cosine, rex, milestones=(5, 5))",
                "sequence: `milestones` must grow",
            ),
            (
                "sequence(schedules=(linear, cosin))",
                "there is no schedule `cosin`",
            ),
            (
                "product(schedules=())",
                "product: needs at least one schedule",
            ),
            (
                "product(linear, schedules=(cosine))",
                "`schedules` is given twice",
            ),
            (
                "product(sequence(linear, cosine))",
                "there are 2 schedules and 0 milestones",
            ),
            (
                "cosine | momentum(constant)",
                "reaches 1.0000, a momentum must stay below 1",
            ),
            ("cosine | momentum(liner)", "did you mean `linear`?"),
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
