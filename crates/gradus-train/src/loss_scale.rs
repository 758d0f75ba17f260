//! The scale of the loss in f16: gradients that would be rounded to 0 are made larger, for as long as none overflows.
//!
//! ```text
//! ∇(S·L)/S                         in f16 between the layers, divided in f32
//! a gradient that is no number:    no step;  S ← S/2
//! 2000 steps one after another:    S ← 2·S                                 S₀ = 2¹⁶
//! ```
//!
//! As `torch.amp.GradScaler`, with its numbers. S is a power of two, so that scaling rounds nothing. It is part of
//! a checkpoint. PyTorch goes on halving forever; here a run ends whose gradients are no numbers at S = 2⁻²⁴ either,
//! because then they are none in f32.
//!
//! bf16 has the range of f32 and needs none of this.

use gradus_kernels::Precision;
use serde::{Deserialize, Serialize};

/// 2¹⁶.
const FIRST: f64 = 65_536.0;
/// 2⁻²⁴, the smallest number that f16 has.
const LAST: f64 = 1.0 / 16_777_216.0;
/// Steps until S is doubled.
const PATIENCE: u32 = 2000;

/// S, and what it depends on next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// S.
    pub scale: f64,
    /// Steps since it changed.
    pub steps: u32,
    /// Batches of the run that no step was made with.
    pub skipped: usize,
}

impl Default for LossScale {
    fn default() -> Self {
        Self {
            scale: FIRST,
            steps: 0,
            skipped: 0,
        }
    }
}

impl LossScale {
    /// The scale of a run of this precision, which has come as far as `before`.
    pub(crate) fn of(precision: Precision, before: Option<Self>) -> Option<Self> {
        (precision == Precision::F16).then(|| before.unwrap_or_default())
    }

    /// After a step.
    pub(crate) fn stepped(mut self) -> Self {
        self.steps += 1;
        if self.steps >= PATIENCE {
            self.scale *= 2.0;
            self.steps = 0;
        }
        self
    }

    /// After a gradient that was no number; `None` if the scale cannot be the reason.
    pub(crate) fn overflowed(self) -> Option<Self> {
        (self.scale > LAST).then(|| Self {
            scale: self.scale / 2.0,
            steps: 0,
            skipped: self.skipped + 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_at_each_overflow_and_doubles_after_two_thousand_steps() {
        let mut scale = LossScale::default();
        for _ in 0..1999 {
            scale = scale.stepped();
        }
        assert_eq!((scale.scale, scale.steps), (65_536.0, 1999));
        // An overflow begins the count anew.
        scale = scale.overflowed().unwrap();
        assert_eq!((scale.scale, scale.steps), (32_768.0, 0));
        for _ in 0..2000 {
            scale = scale.stepped();
        }
        assert_eq!((scale.scale, scale.steps), (65_536.0, 0));
        for _ in 0..2000 {
            scale = scale.stepped();
        }
        assert_eq!(scale.scale, 131_072.0);
        assert_eq!(scale.skipped, 1);
    }

    #[test]
    fn it_gives_up_where_f16_ends() {
        let mut scale = Some(LossScale::default());
        let mut overflows = 0;
        while let Some(next) = scale.and_then(LossScale::overflowed) {
            overflows += 1;
            assert_eq!(next.scale, 2f64.powi(16 - overflows));
            assert_eq!(next.skipped, overflows as usize);
            scale = Some(next);
        }
        assert_eq!(overflows, 40);
    }

    #[test]
    fn only_f16_has_one() {
        for precision in [Precision::F32, Precision::Bf16] {
            assert_eq!(LossScale::of(precision, Some(LossScale::default())), None);
        }
        let before = LossScale::default().overflowed();
        assert_eq!(LossScale::of(Precision::F16, before), before);
        assert_eq!(
            LossScale::of(Precision::F16, None),
            Some(LossScale::default())
        );
    }
}
