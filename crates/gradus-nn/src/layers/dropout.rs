//! Dropout: in training every value is set to 0 with probability p, the others grow by 1/(1 − p).
//!
//! ```text
//! training    y = x·m/(1 − p),   m ~ Bernoulli(1 − p), one draw for each value
//! evaluation  y = x
//! ```
//!
//! The factor keeps the mean, so evaluation needs no correction ("inverted" dropout). Source:
//! Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014.
//!
//! The mask is computed on the host from (seed, step, layer) and uploaded: the same on every backend,
//! and the same when a step is replayed. A value's draw is that of its place in the whole batch, whichever
//! rank has its row.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use gradus_core::random::{Purpose, stream};
use rand::Rng;

use crate::{Mode, NnError};

/// Configuration of a [`Dropout`].
///
/// | Name | Default | Range | Meaning |
/// |---|---|---|---|
/// | `probability` | – | [0, 1) | chance p that a value is dropped |
/// | `seed` | 0 | any | the layer's own stream of masks; layers of one model need different ones |
#[derive(Config, Debug)]
pub struct DropoutConfig {
    /// Chance p that a value is dropped.
    pub probability: f64,
    /// The layer's own stream of masks.
    #[config(default = 0)]
    pub seed: u64,
}

impl DropoutConfig {
    /// Build the layer. It has no parameters and needs no device.
    ///
    /// # Errors
    /// If the probability is outside [0, 1).
    pub fn init(&self) -> Result<Dropout, NnError> {
        if !(0.0..1.0).contains(&self.probability) {
            return Err(NnError::range(
                "the dropout probability",
                self.probability,
                "in [0, 1)",
            ));
        }
        Ok(Dropout {
            probability: self.probability,
            layer: self.seed,
        })
    }
}

/// Drops values in training; see the [module](self).
#[derive(Module, Debug)]
pub struct Dropout {
    /// Chance that a value is dropped.
    pub probability: f64,
    /// The layer's own stream of masks.
    pub layer: u64,
}

impl Dropout {
    /// Any shape → the same shape.
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>, mode: Mode) -> Tensor<D> {
        let Mode::Train(train) = mode else { return x };
        if self.probability == 0.0 {
            return x;
        }
        let rng = &mut stream(train.seed, Purpose::Dropout, train.step, self.layer);
        let elements = x.shape().num_elements();
        // Rows that other ranks have come before: one word of the stream for each value.
        let row = elements / x.dims().first().copied().unwrap_or(1).max(1);
        rng.set_word_pos(train.first_row as u128 * row as u128);
        // 32 bits a value: P(drop) = threshold/2³², within 2⁻³³ of p.
        let threshold = (self.probability * 2f64.powi(32)).round() as u64;
        let keep = (1.0 / (1.0 - self.probability)) as f32;
        let mask: Vec<f32> = (0..elements)
            .map(|_| {
                if u64::from(rng.next_u32()) < threshold {
                    0.0
                } else {
                    keep
                }
            })
            .collect();
        let mask = Tensor::from_data(TensorData::new(mask, x.dims()), (&x.device(), x.dtype()));
        x.mul(mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn forward(p: f64, layer: u64, mode: Mode) -> Vec<f32> {
        let dropout = DropoutConfig::new(p).with_seed(layer).init().unwrap();
        let ones = Tensor::<2>::ones([100, 1000], &Device::flex());
        dropout
            .forward(ones, mode)
            .into_data()
            .try_to_vec()
            .unwrap()
    }

    #[test]
    fn the_mean_is_kept() {
        for p in [0.1, 0.5, 0.9] {
            let values = forward(p, 3, Mode::train(1, 2));
            let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / 1e5;
            // A value is 1/(1−p) with probability 1−p: its variance is p/(1−p).
            let error = (p / (1.0 - p) / 1e5f64).sqrt();
            assert!((mean - 1.0).abs() < 4.0 * error, "p = {p}: mean {mean}");
            let dropped = values.iter().filter(|v| **v == 0.0).count() as f64;
            assert!((dropped - p * 1e5).abs() < 4.0 * (p * (1.0 - p) * 1e5f64).sqrt());
        }
    }

    #[test]
    fn the_mask_is_a_function_of_seed_step_and_layer() {
        let here = forward(0.5, 3, Mode::train(1, 2));
        assert_eq!(here, forward(0.5, 3, Mode::train(1, 2)));
        assert_eq!(
            here,
            forward(0.5, 3, Mode::train(1, 2).without_statistics())
        );
        for other in [
            forward(0.5, 4, Mode::train(1, 2)),
            forward(0.5, 3, Mode::train(0, 2)),
            forward(0.5, 3, Mode::train(1, 3)),
        ] {
            // Two independent masks agree at half of the places, ± 4·√(n/4).
            let agree = here.iter().zip(&other).filter(|(a, b)| a == b).count() as f64;
            assert!((agree - 5e4).abs() < 4.0 * 2.5e4f64.sqrt(), "{agree}");
        }
    }

    #[test]
    fn ranks_draw_the_rows_of_their_share() {
        let dropout = DropoutConfig::new(0.3).with_seed(5).init().unwrap();
        let rows = |first: usize, rows: usize| -> Vec<f32> {
            let ones = Tensor::<3>::ones([rows, 7, 3], &Device::flex());
            let mode = Mode::train(1, 2).from_row(first);
            dropout
                .forward(ones, mode)
                .into_data()
                .try_to_vec()
                .unwrap()
        };
        let whole = rows(0, 11);
        let shares = [rows(0, 4), rows(4, 1), rows(5, 6)].concat();
        assert_eq!(whole, shares);
    }

    /// Had the mask changed, a saved run would not resume to the same bits.
    #[test]
    fn the_mask_is_pinned() {
        let here = forward(0.5, 3, Mode::train(1, 2));
        let pinned = [
            2.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0,
        ];
        assert_eq!(here[..16], pinned);
    }

    #[test]
    fn evaluation_is_the_identity_and_nonsense_is_refused() {
        assert!(forward(0.5, 0, Mode::eval()).iter().all(|v| *v == 1.0));
        assert!(forward(0.0, 0, Mode::train(0, 0)).iter().all(|v| *v == 1.0));
        for p in [1.0, -0.1, f64::NAN] {
            assert!(DropoutConfig::new(p).init().is_err());
        }
    }
}
