//! How far a result may be from the f64 run, element by element.
//!
//! ```text
//! sums            λ·√n·u·(Σ|tᵢ| + mean over the tensor)        from the terms tᵢ of the operation, in f64
//! updates         16·u·(|old| + |new| + their mean) + 8·(s + mean s)
//!                 s: by how much the f64 step moves when its gradients and slots move by 4·u of themselves;
//!                 λ·√n in place of 16 for numbers that a rule adds up over the n weights
//! ```
//! with u = 2⁻²⁴, the unit roundoff of f32, and λ = 4. The first is the probabilistic bound on rounding of
//! Higham & Mary (SIAM J. Sci. Comput. 41, 2019), which holds for every order of adding up; the mean is
//! for sums in which an element's own terms are small beside its neighbours', with which it is computed. n·u·Σ|tᵢ| is certain: rounding
//! cannot reach beyond it, so what does is a fault.

use gradus_kernels::trace::Terms;

/// Unit roundoff of f32.
pub(super) const ROUNDOFF: f64 = 1.0 / 16_777_216.0;
/// λ: the bound fails with a probability below 2·exp(−λ²/2) for each rounding, if their signs are random;
/// in fact errors stay far below it.
pub(super) const LAMBDA: f64 = 4.0;
/// Roundings of a short formula.
const FORMULA: usize = 16;
/// A step that is out by more than so many tolerances is not rounding.
const CERTAIN: f64 = 8.0;
/// By how many roundings gradients and slots are moved.
const NUDGE: f64 = 4.0 * ROUNDOFF;

/// The factor by which the number at `place` is moved, up or down as a hash of the place has it, so that
/// neighbours move independently; `way` is 1 or −1.
pub(super) fn nudge(place: usize, way: f64) -> f64 {
    let mixed = (place as u64 ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let up = (mixed >> 37) & 1 == 0;
    1.0 + if up { way } else { -way } * NUDGE
}

/// Numbers, each moved a little.
pub(super) fn nudged(values: &[f64], way: f64) -> Vec<f64> {
    let moved = values.iter().enumerate();
    moved.map(|(place, x)| x * nudge(place, way)).collect()
}

/// The largest difference of each element of `here` from those of runs that were nudged; one that is
/// missing tells nothing.
pub(super) fn sensitivity(here: &[f64], others: [Option<Vec<f64>>; 2]) -> Vec<f64> {
    let mut found = vec![0.0f64; here.len()];
    for other in others.into_iter().flatten() {
        for ((found, here), other) in found.iter_mut().zip(here).zip(&other) {
            *found = found.max((here - other).abs());
        }
    }
    found
}

/// What a tensor should be, and how far from it is still rounding.
#[derive(Clone, Debug)]
pub(super) struct Yardstick {
    pub(super) expected: Vec<f64>,
    tolerance: Vec<f64>,
    /// Beyond so many tolerances it cannot be rounding.
    certain: f64,
}

/// The element of a tensor that is farthest out, in tolerances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Deviation {
    pub(super) element: usize,
    pub(super) error: f64,
    pub(super) tolerance: f64,
    /// error/tolerance; infinite for what is no number.
    pub(super) share: f64,
    /// The largest error over the root mean square of the tensor.
    pub(super) relative: f64,
}

impl Yardstick {
    /// Of a result that was added up from `terms`.
    pub(super) fn of_terms(expected: Vec<f64>, terms: &Terms) -> Self {
        let n = terms.count.max(1) as f64;
        let mean = mean(&terms.sums);
        let factor = LAMBDA * n.sqrt() * ROUNDOFF;
        let tolerance = terms.sums.iter().map(|sum| factor * (sum + mean));
        Self {
            tolerance: tolerance.collect(),
            certain: (n.sqrt() / LAMBDA).max(1.0),
            expected,
        }
    }

    /// Of a result of a few roundings, each in proportion to `sizes`.
    pub(super) fn of_sizes(expected: Vec<f64>, sizes: Vec<f64>, count: usize) -> Self {
        let (sums, count) = (sizes, count.max(FORMULA));
        Self::of_terms(expected, &Terms { sums, count })
    }

    /// Of a step from `old` that moves by `sensitivity` when what it depends on moves by [`NUDGE`], and
    /// adds up so many terms.
    pub(super) fn of_step(
        expected: Vec<f64>,
        old: &[f64],
        sensitivity: &[f64],
        terms: usize,
    ) -> Self {
        let roundings = (FORMULA as f64).max(LAMBDA * (terms as f64).sqrt());
        let sizes: Vec<f64> = (expected.iter().enumerate())
            .map(|(i, new)| new.abs() + old.get(i).map_or(0.0, |old| old.abs()))
            .collect();
        let (size, mean) = (mean(&sizes), mean(sensitivity));
        let tolerance = sizes.iter().enumerate().map(|(i, here)| {
            let moved = sensitivity.get(i).copied().unwrap_or_default();
            roundings * ROUNDOFF * (here + size) + 8.0 * (moved + mean)
        });
        Self {
            tolerance: tolerance.collect(),
            certain: CERTAIN,
            expected,
        }
    }

    /// The same value as f32 has it: what all sides go on with.
    pub(super) fn rounded(&self) -> Vec<f64> {
        self.expected.iter().map(|x| f64::from(*x as f32)).collect()
    }

    /// The root mean square of what is expected; 1 for zeros.
    pub(super) fn size(&self) -> f64 {
        size(&self.expected)
    }

    /// How far `found` is out.
    pub(super) fn deviation(&self, found: &[f64]) -> Deviation {
        self.between(found, &self.expected, 1.0)
    }

    /// How far two sides are from each other; each may be out by the tolerance.
    pub(super) fn distance(&self, a: &[f32], b: &[f32]) -> Deviation {
        let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        self.between(&wide(a), &wide(b), 2.0)
    }

    fn between(&self, a: &[f64], b: &[f64], sides: f64) -> Deviation {
        let mut worst = Deviation {
            element: 0,
            error: 0.0,
            tolerance: self.tolerance.first().copied().unwrap_or_default(),
            share: 0.0,
            relative: 0.0,
        };
        if a.len() != self.expected.len() || b.len() != a.len() {
            (worst.error, worst.share, worst.relative) =
                (f64::INFINITY, f64::INFINITY, f64::INFINITY);
            return worst;
        }
        let mut largest = 0.0f64;
        for (element, (x, y)) in a.iter().zip(b).enumerate() {
            let same = x == y || (x.is_nan() && y.is_nan());
            if same {
                continue;
            }
            let error = match (x - y).abs() {
                error if error.is_nan() => f64::INFINITY,
                error => error,
            };
            // Numbers below the smallest normal one are flushed to zero by some devices.
            let tolerance = sides * self.tolerance[element] + f64::from(f32::MIN_POSITIVE);
            largest = largest.max(error);
            let share = error / tolerance;
            if share > worst.share {
                worst = Deviation {
                    element,
                    error,
                    tolerance,
                    share,
                    relative: 0.0,
                };
            }
        }
        worst.relative = largest / self.size();
        worst
    }

    /// Whether so much can be rounding, if it is more than the tolerance.
    pub(super) fn may_be_rounding(&self, deviation: &Deviation) -> bool {
        deviation.share <= self.certain
    }
}

/// The root mean square; 1 for zeros.
pub(super) fn size(values: &[f64]) -> f64 {
    let squares: Vec<f64> = values.iter().map(|x| x * x).collect();
    match mean(&squares).sqrt() {
        size if size > 0.0 => size,
        _ => 1.0,
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_element_is_enough_and_no_number_is_infinitely_wrong() {
        let terms = Terms {
            sums: vec![1.0; 100],
            count: 100,
        };
        let yardstick = Yardstick::of_terms(vec![0.5; 100], &terms);
        let mut found = vec![0.5; 100];
        assert_eq!(yardstick.deviation(&found).share, 0.0);
        // λ·√n·u·(1 + 1) = 4·10·2·u.
        found[17] += 81.0 * ROUNDOFF;
        let out = yardstick.deviation(&found);
        assert_eq!(out.element, 17);
        assert!((out.share - 81.0 / 80.0).abs() < 1e-9, "{out:?}");
        assert!(yardstick.may_be_rounding(&out));
        found[17] = 0.5 + 250.0 * ROUNDOFF;
        assert!(!yardstick.may_be_rounding(&yardstick.deviation(&found)));
        found[3] = f64::NAN;
        let out = yardstick.deviation(&found);
        assert_eq!((out.element, out.share), (3, f64::INFINITY));
        assert_eq!(yardstick.deviation(&found[1..]).share, f64::INFINITY);
        assert_eq!(yardstick.distance(&[0.5; 100], &[0.5; 100]).error, 0.0);
    }

    #[test]
    fn a_step_may_move_as_far_as_it_is_sensitive() {
        let yardstick = Yardstick::of_step(vec![1.0, 1.0], &[1.0, 1.0], &[0.1, 0.0], 1);
        assert!(yardstick.deviation(&[1.5, 1.0]).share < 1.0);
        assert!(yardstick.deviation(&[1.0, 1.5]).share > 1.0);
    }
}
