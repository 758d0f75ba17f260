//! A ceiling for the norm of each unit's weights.
//!
//! N. Srebro, J. Rennie, T. Jaakkola, *Maximum-margin matrix factorization*, 2004; in nets
//! N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, *Dropout*, 2014, §5.1.

use super::unit_norms;
use crate::Number;
use crate::execute::with_rank;
use crate::hyper::hyperparameters;
use crate::item::Item;
use burn::tensor::Tensor;

hyperparameters! {
    /// The incoming weights of each unit kept inside a ball of radius c.
    ///
    /// ```text
    /// θᵢ ← θᵢ·min(1, c/‖θᵢ‖)                 θᵢ: the incoming weights of unit i, after the step
    /// ```
    /// A unit is a column of a dense `[in, out]` weight or a filter of a convolution. Vectors and
    /// numbers (biases, norms) stay as they are.
    ///
    /// Memory: none.
    ///
    /// When to use: with dropout and large rates; c of 3 or 4 is customary. When not: with
    /// normalisation behind the layer, which makes the norm of its weights meaningless.
    ///
    /// As Keras' `MaxNorm` over a unit's inputs, without its 1e-7 in the denominator.
    pub struct MaxNorm as "max_norm" {
        c: f64 = 1.0, "(0, inf]", "Largest norm c of a unit's incoming weights.";
    }
}

/// min(1, c/‖θ‖); 1 where the norm is not above c, also where it is zero.
fn factor<N: Number>(norm: N, c: f64) -> N {
    let one = norm.constant(1.0);
    (norm.clone() - c).where_positive(norm.constant(c) / norm, one)
}

impl MaxNorm {
    pub(super) fn apply(&self, items: &mut [&mut Item]) {
        for item in items.iter_mut() {
            let rank = item.shape.len();
            let Some(unit) = item.kind.unit_axis(rank) else {
                continue;
            };
            // Backends refuse to look for the largest of no numbers.
            if item.shape.contains(&0) {
                continue;
            }
            let theta = item.theta();
            let theta = with_rank!(rank, D => {
                let theta = Tensor::<D>::from_dispatch(theta);
                let norms = unit_norms(theta.clone(), Some(unit));
                (theta * factor(norms, self.c)).into_dispatch()
            });
            item.set_theta(theta);
        }
    }
}
