//! How far runs that are left to themselves part, and how much of that is rounding.
//!
//! ```text
//! eₜ            losses of the f64 run on its own;   ℓₜ   of a device on its own
//! shaken runs   the f64 run again, three times, with every result y of an operation moved to
//!               y + ρ·rms(y)·ξ,   ξ uniform in −1 … 1, another number for each element
//! ρ             the largest error so far of any device in lockstep, over the rms of its tensor;
//!               of activations and gradients apart, and 16·u at least
//! sₜ            the largest |shakenₜ − eₜ|/|eₜ| up to t, over the shaken runs and the rounded one
//! explained     |ℓₜ − eₜ|/|eₜ| ≤ 16·sₜ + 1e-5 at every t
//! ```
//! A shaken run errs in every element as much as the worst element of the devices does. Where an input of a
//! ReLU lies near its kink, or two numbers under a pooling window near each other, it comes to the other side
//! sooner than a device; so what training makes of that is in sₜ before a device shows it.
//!
//! Once rounding alone moves the losses by more than a thousandth, chance has the say, and no drift tells
//! a fault from it: [`Free::clear_steps`].

use std::cell::RefCell;
use std::rc::Rc;

use gradus_core::random::{ChaCha8Rng, Purpose, stream};
use gradus_kernels::trace::{Listener, Seen, listening};
use rand::RngExt;
use serde::Serialize;

use super::report::{Kind, finite};
use super::side::{Feed, Side, State};
use super::yardstick::{ROUNDOFF, size};
use crate::BenchError;

/// Shaken runs.
const SHAKEN: u64 = 3;
/// The least ρ: what a few additions make of rounding.
const LEAST: f64 = 16.0 * ROUNDOFF;
/// How many times as far as the shaken runs a device may drift.
const DRIFT: f64 = 16.0;
/// A drift that needs no explanation.
const SLIGHT: f64 = 1e-5;
/// Rounding that moves a loss by more has the say.
const CLEAR: f64 = 1e-3;

/// The losses of runs that are left to themselves.
#[derive(Clone, Debug, Serialize)]
pub struct Free {
    /// The f64 run's loss at each step.
    pub exact: Vec<f64>,
    /// Of the run in which each result and each step of the f64 run is rounded to f32.
    pub rounded: Vec<f64>,
    /// How far rounding may have moved a loss by each step, relative to it; infinite as `null`.
    pub spread: Vec<Option<f64>>,
    /// The steps before rounding may move a loss by more than a thousandth. Drift after them tells nothing.
    pub clear_steps: usize,
    /// One run for each device.
    pub devices: Vec<Drift>,
    /// Whether rounding explains the drift of every device.
    pub explained: bool,
}

/// How a device's losses leave those of the f64 run.
#[derive(Clone, Debug, Serialize)]
pub struct Drift {
    /// The device.
    pub device: String,
    /// Its losses.
    pub losses: Vec<f64>,
    /// The largest relative difference from the f64 run.
    pub largest: Option<f64>,
    /// Whether it is of the order of what rounding makes of the f64 run, all along.
    pub explained: bool,
}

/// A run on its own.
struct Loose<'a> {
    side: Side<'a>,
    losses: Vec<f64>,
}

impl<'a> Loose<'a> {
    fn new(mut side: Side<'a>, state: &State) -> Result<Self, BenchError> {
        side.load(state)?;
        let losses = Vec::new();
        Ok(Self { side, losses })
    }

    fn step(mut self, feed: &Feed, shaking: Option<Shaking>) -> Result<Self, BenchError> {
        let (loss, gradients) = match shaking {
            None => self.side.look(feed)?,
            Some(shaking) => {
                let listener = Rc::new(RefCell::new(shaking));
                listening(listener, || self.side.look(feed))?
            }
        };
        self.losses.push(loss);
        self.side = self.side.update(feed, gradients, &mut |run| run());
        Ok(self)
    }
}

/// Moves every result of a run by a little.
struct Shaking {
    /// ρ of activations and of gradients.
    by: [f64; 2],
    numbers: ChaCha8Rng,
}

impl Listener for Shaking {
    fn hear(&mut self, seen: Seen) -> Option<Vec<f64>> {
        if seen.entering {
            return None;
        }
        let by = self.by[usize::from(Kind::of(seen.operation) == Kind::Gradient)];
        let by = by * size(&seen.values);
        let moved = seen.values.iter();
        let moved = moved.map(|y| y + by * self.numbers.random_range(-1.0..1.0));
        Some(moved.collect())
    }
}

/// All runs on their own, from the same start.
pub(super) struct FreeRuns<'a> {
    exact: Loose<'a>,
    shaken: Vec<Loose<'a>>,
    devices: Vec<Loose<'a>>,
    rounded: Vec<f64>,
    seed: u64,
}

impl<'a> FreeRuns<'a> {
    /// `of_f64` makes a side in f64.
    pub(super) fn new(
        of_f64: impl Fn() -> Result<Side<'a>, BenchError>,
        devices: Vec<Side<'a>>,
        state: &State,
        seed: u64,
    ) -> Result<Self, BenchError> {
        let shaken = (0..SHAKEN).map(|_| Loose::new(of_f64()?, state));
        let devices = devices.into_iter().map(|side| Loose::new(side, state));
        Ok(Self {
            exact: Loose::new(of_f64()?, state)?,
            shaken: shaken.collect::<Result<_, _>>()?,
            devices: devices.collect::<Result<_, _>>()?,
            rounded: Vec::new(),
            seed,
        })
    }

    /// Begins a step of this epoch.
    pub(super) fn enter(&mut self, epoch: usize) {
        let rest = self.shaken.iter_mut().chain(&mut self.devices);
        for loose in rest.chain([&mut self.exact]) {
            loose.side.enter(epoch);
        }
    }

    /// A step of all. `rounded` is the loss of the rounded run, `relative` the largest errors of activations
    /// and of gradients on the devices so far.
    pub(super) fn step(
        mut self,
        feed: &Feed,
        rounded: f64,
        relative: [f64; 2],
    ) -> Result<Self, BenchError> {
        let step = self.rounded.len() as u64;
        let by = relative.map(|relative| relative.max(LEAST));
        let shaken = (self.shaken.into_iter().zip(0..)).map(|(loose, run)| {
            let numbers = stream(self.seed, Purpose::Probe, step, run);
            loose.step(feed, Some(Shaking { by, numbers }))
        });
        self.shaken = shaken.collect::<Result<_, _>>()?;
        let devices = self.devices.into_iter();
        let devices = devices.map(|loose| loose.step(feed, None));
        self.devices = devices.collect::<Result<_, _>>()?;
        self.exact = self.exact.step(feed, None)?;
        self.rounded.push(rounded);
        Ok(self)
    }

    /// What came of it.
    pub(super) fn told(self, names: &[String]) -> Free {
        let others = self.shaken.iter().map(|loose| &loose.losses[..]);
        let others: Vec<&[f64]> = others.chain([&self.rounded[..]]).collect();
        let exact = self.exact.losses;
        let spread = spread(&exact, &others);
        let devices: Vec<Drift> = (names.iter().zip(self.devices))
            .map(|(name, loose)| Drift::new(name, loose.losses, &exact, &spread))
            .collect();
        Free {
            explained: devices.iter().all(|drift| drift.explained),
            clear_steps: spread.iter().take_while(|s| **s <= CLEAR).count(),
            spread: spread.into_iter().map(finite).collect(),
            rounded: self.rounded,
            exact,
            devices,
        }
    }
}

fn apart(a: f64, b: f64) -> f64 {
    match (a - b).abs() / b.abs().max(1e-3) {
        apart if apart.is_nan() => f64::INFINITY,
        apart => apart,
    }
}

/// sₜ.
fn spread(exact: &[f64], others: &[&[f64]]) -> Vec<f64> {
    let mut most = 0.0f64;
    let at = |(step, exact): (usize, &f64)| {
        let there = others.iter().filter_map(|losses| losses.get(step));
        most = there.fold(most, |most, loss| most.max(apart(*loss, *exact)));
        most
    };
    exact.iter().enumerate().map(at).collect()
}

impl Drift {
    /// The drift of `losses` where the f64 run had `exact`, which rounding may move by `spread` of it.
    fn new(device: &str, losses: Vec<f64>, exact: &[f64], spread: &[f64]) -> Self {
        let (mut largest, mut explained) = (0.0f64, true);
        for ((found, exact), spread) in losses.iter().zip(exact).zip(spread) {
            // Where the exact run has left the numbers there is nothing to compare.
            if !exact.is_finite() {
                break;
            }
            let drift = apart(*found, *exact);
            largest = largest.max(drift);
            explained &= drift <= DRIFT * spread + SLIGHT;
        }
        Self {
            device: device.to_owned(),
            losses,
            largest: finite(largest),
            explained,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn drift_is_explained_by_what_rounding_makes_of_the_same_run() {
        let exact = [2.0, 1.0, 0.5];
        let shaken = [2.0, 1.0 + 1e-4, 0.5];
        let spread = spread(&exact, &[&exact, &shaken]);
        assert!((spread[1] - 1e-4).abs() < 1e-12, "{spread:?}");
        assert_eq!(spread[0], 0.0);
        assert_eq!(spread[1], spread[2], "what has grown does not shrink");
        let drift = |losses: [f64; 3]| Drift::new("a", losses.to_vec(), &exact, &spread);
        assert!(drift([2.0, 1.0 + 1e-3, 0.5 + 5e-4]).explained);
        assert!(
            !drift([2.0 + 1e-4, 1.0, 0.5]).explained,
            "before anything grew"
        );
        assert!(!drift([2.0, 1.0 + 1e-2, 0.5]).explained);
        assert!(!drift([2.0, 1.0, f64::NAN]).explained);
        assert!((drift([2.0, 1.0, 0.51]).largest.unwrap() - 0.02).abs() < 1e-12);
    }

    #[test]
    fn every_result_is_moved_by_no_more_than_rho_of_its_size() {
        let mut shaking = Shaking {
            by: [1e-3, 1e-1],
            numbers: stream(1, Purpose::Probe, 0, 0),
        };
        let mut seen = Seen {
            operation: "conv2d",
            entering: false,
            call: 0,
            output: "output",
            shape: vec![1000],
            values: vec![-2.0; 1000],
            terms: None,
        };
        let moves = |shaking: &mut Shaking, seen: &Seen| -> f64 {
            let found = shaking.hear(seen.clone()).unwrap();
            let moves = found.iter().map(|y| (y + 2.0).abs());
            moves.fold(0.0, f64::max)
        };
        let most = moves(&mut shaking, &seen);
        assert!((1.8e-3..=2e-3).contains(&most), "{most}");
        seen.operation = "conv2d_weight_gradient";
        let most = moves(&mut shaking, &seen);
        assert!((1.8e-1..=2e-1).contains(&most), "{most}");
        seen.entering = true;
        assert!(shaking.hear(seen).is_none());
    }
}
