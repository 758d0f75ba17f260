//! Softmax cross-entropy with its gradient, in one pass over the logits.
//!
//! With logits s, the true class y, m = max s, Z = Σ e^(s_j − m), p = e^(s − m)/Z, weights w and
//! smoothing ε:
//!
//! ```text
//! log p_j = s_j − m − ln Z
//! ℓ       = −(1−ε)·w_y·log p_y − (ε/K)·Σ_j w_j·log p_j
//! ∂ℓ/∂s_k = p_k·((1−ε)·w_y + (ε/K)·Σ_j w_j) − (1−ε)·w_y·[k = y] − (ε/K)·w_k
//! ```
//!
//! No exponent is positive, so that logits of any size are safe. Label smoothing is Szegedy et al.,
//! "Rethinking the Inception Architecture for Computer Vision" (2016); weights and smoothing together
//! follow `torch.nn.CrossEntropyLoss`.

use rayon::prelude::*;

use super::math::exp_nonpositive;
use super::pieces::MOST_LANES;
use super::simd::{Kernel, Simd, dispatch};

/// The loss of each example, and with `dlogits` its gradient.
///
/// `logits` and `dlogits` are `[N, K]`, `targets` (in 0…K−1) and `losses` `[N]`; `smoothing` is ε in
/// [0, 1), `class_weights` `[K]`, all 1 if absent. Nothing is averaged: the gradient of Σ cᵢ·ℓᵢ is row i
/// of `dlogits` times cᵢ. A row with NaN or +∞ gives NaN, as in PyTorch.
///
/// # Panics
/// If the lengths do not fit together or a target is not a class.
pub fn cross_entropy(
    logits: &[f32],
    targets: &[i32],
    smoothing: f32,
    class_weights: Option<&[f32]>,
    losses: &mut [f32],
    dlogits: Option<&mut [f32]>,
) {
    let examples = targets.len();
    assert_eq!(losses.len(), examples, "losses and targets");
    if examples == 0 {
        assert!(logits.is_empty(), "logits without targets");
        return;
    }
    let classes = logits.len() / examples;
    assert!(
        classes > 0 && logits.len() == examples * classes,
        "{} logits of {examples} examples",
        logits.len()
    );
    let known = |t: &&i32| !usize::try_from(**t).is_ok_and(|t| t < classes);
    if let Some(target) = targets.iter().find(known) {
        panic!("target {target} is none of {classes} classes");
    }
    if let Some(weights) = class_weights {
        assert_eq!(weights.len(), classes, "class_weights and classes");
    }
    if let Some(dlogits) = &dlogits {
        assert_eq!(dlogits.len(), logits.len(), "dlogits and logits");
    }

    let rows = (16_384 / classes).max(1);
    let gradients: Vec<Option<&mut [f32]>> = match dlogits {
        Some(d) => d.chunks_mut(rows * classes).map(Some).collect(),
        None => (0..examples.div_ceil(rows)).map(|_| None).collect(),
    };
    let run = |(i, (losses, dlogits)): (usize, (&mut [f32], Option<&mut [f32]>))| {
        let part = i * rows..i * rows + losses.len();
        dispatch(Rows {
            logits: &logits[part.start * classes..part.end * classes],
            targets: &targets[part],
            smoothing,
            weights: class_weights,
            losses,
            dlogits,
        });
    };
    if examples <= rows {
        return gradients
            .into_iter()
            .for_each(|dlogits| run((0, (&mut *losses, dlogits))));
    }
    losses
        .par_chunks_mut(rows)
        .zip(gradients)
        .enumerate()
        .for_each(run);
}

/// Some of the examples.
struct Rows<'a> {
    logits: &'a [f32],
    targets: &'a [i32],
    smoothing: f32,
    weights: Option<&'a [f32]>,
    losses: &'a mut [f32],
    dlogits: Option<&'a mut [f32]>,
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let classes = self.logits.len() / self.targets.len();
        let epsilon = f64::from(self.smoothing);
        let spread = epsilon / classes as f64;
        let weight = |j: usize| self.weights.map_or(1.0, |w| f64::from(w[j]));
        let all: f64 = (0..classes).map(weight).sum();
        // The row, filled up with −∞ to whole vectors: what is added does not count.
        let mut row = vec![0.0; classes.next_multiple_of(MOST_LANES)];
        for (i, target) in self.targets.iter().enumerate() {
            let logits = &self.logits[i * classes..(i + 1) * classes];
            let y = *target as usize;
            row[..classes].copy_from_slice(logits);
            row[classes..].fill(f32::NEG_INFINITY);
            let (top, sum) = exponentials(s, &mut row);
            let log_sum = sum.ln();
            let log_p = |j: usize| f64::from(logits[j]) - f64::from(top) - log_sum;
            let own = (1.0 - epsilon) * weight(y);
            let mut loss = -own * log_p(y);
            if spread > 0.0 {
                loss -= spread * (0..classes).map(|j| weight(j) * log_p(j)).sum::<f64>();
            }
            self.losses[i] = loss as f32;

            if let Some(dlogits) = &mut self.dlogits {
                let share = ((own + spread * all) / sum) as f32;
                let d = &mut dlogits[i * classes..(i + 1) * classes];
                match self.weights {
                    None => {
                        let spread = spread as f32;
                        for (d, e) in d.iter_mut().zip(&row) {
                            *d = e * share - spread;
                        }
                    }
                    Some(weights) => {
                        let spread = spread as f32;
                        for ((d, e), w) in d.iter_mut().zip(&row).zip(weights) {
                            *d = e * share - spread * w;
                        }
                    }
                }
                // In f64, for a probability near 1 leaves little.
                let p = f64::from(row[y]) * ((own + spread * all) / sum);
                d[y] = (p - own - spread * weight(y)) as f32;
            }
        }
    }
}

/// The maximum m and Σ e^(s − m) of whole vectors s, which become e^(s − m).
#[inline(always)]
fn exponentials<S: Simd>(s: S, row: &mut [f32]) -> (f32, f64) {
    let mut top = s.splat(f32::NEG_INFINITY);
    for part in row.chunks_exact(S::LANES) {
        // SAFETY: `part` has LANES elements.
        top = s.max(unsafe { s.load(part.as_ptr()) }, top);
    }
    let mut buffer = [f32::NEG_INFINITY; MOST_LANES];
    // SAFETY: no vector has more than MOST_LANES elements.
    unsafe { s.store(buffer.as_mut_ptr(), top) };
    let top = buffer.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let mut sum = s.splat(0.0);
    for part in row.chunks_exact_mut(S::LANES) {
        // SAFETY: `part` has LANES elements.
        unsafe {
            let e = exp_nonpositive(s, s.sub(s.load(part.as_ptr()), s.splat(top)));
            sum = s.add(sum, e);
            s.store(part.as_mut_ptr(), e);
        }
    }
    (top, f64::from(s.sum(sum)))
}
