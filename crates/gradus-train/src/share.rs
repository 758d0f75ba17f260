//! A batch shared by several ranks: who has which rows, and how gradients are put together.
//!
//! ```text
//! batch b of the epoch, B images:   rank r has its rows [⌊B·r/R⌋, ⌊B·(r+1)/R⌋)
//! L_r = Σ over these rows ℓ_i/B  (+ R(W) on rank 0),     L = Σ_r L_r,     ∇L = Σ_r ∇L_r
//! ```
//!
//! Every rank computes the order of the epoch from (seed, epoch), as one process would, and leaves out what
//! is not its own. The sums are taken in the order of ranks ([`gradus_core::ranks`]), so ∇L, and with it
//! the update, has the same bits on every rank; against one process with all rows only the order of
//! additions differs. Images per batch and class weights enter by their sum over the whole batch, so
//! shares of unequal size weigh as they should.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use gradus_core::ranks::{RankError, Ranks};

/// Numbers that travel at once: 16 MB.
const BUCKET: usize = 1 << 22;

/// What one rank does of the batches of an epoch.
pub(crate) struct Share {
    /// The images of its rows, batch after batch.
    pub(crate) order: Vec<u32>,
    /// Rows of each batch.
    pub(crate) batch_size: usize,
}

impl Share {
    /// The share of whole batches of `batch_size` images each.
    pub(crate) fn of(order: Vec<u32>, batch_size: usize, ranks: &Ranks) -> Self {
        if ranks.is_alone() {
            return Self { order, batch_size };
        }
        let rows = ranks.share(batch_size);
        Self {
            batch_size: rows.len(),
            order: order
                .chunks_exact(batch_size)
                .flat_map(|batch| &batch[rows.clone()])
                .copied()
                .collect(),
        }
    }
}

/// The sums over all ranks of the gradients of `module`, in a few messages.
pub(crate) fn sum_gradients<M: Module>(
    ranks: &Ranks,
    module: &M,
    mut gradients: GradientsParams,
) -> Result<GradientsParams, RankError> {
    if ranks.is_alone() {
        return Ok(gradients);
    }
    let mut taken = Take {
        gradients: &mut gradients,
        values: Vec::new(),
    };
    module.visit(&mut taken);
    let mut values = taken.values;
    for bucket in values.chunks_mut(BUCKET) {
        ranks.sum_f32(bucket)?;
    }
    module.visit(&mut Put {
        gradients: &mut gradients,
        values: &values,
    });
    Ok(gradients)
}

/// Copies every gradient, in the order of the module.
struct Take<'a> {
    gradients: &'a mut GradientsParams,
    values: Vec<f32>,
}

impl ModuleVisitor for Take<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.values.extend(gradient.into_data().iter::<f32>());
        }
    }
}

/// Puts the sums in their places, in the same order.
struct Put<'a> {
    gradients: &'a mut GradientsParams,
    values: &'a [f32],
}

impl ModuleVisitor for Put<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(old) = self.gradients.remove::<D>(param.id) {
            let (own, rest) = self.values.split_at(old.shape().num_elements());
            self.values = rest;
            let data = TensorData::new(own.to_vec(), old.dims());
            let new = Tensor::<D>::from_data(data, (&old.device(), old.dtype()));
            self.gradients.register(param.id, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gradus_core::ranks::threads;

    #[test]
    fn the_shares_of_all_ranks_are_the_batches() {
        let order: Vec<u32> = (0..30).rev().collect();
        for size in [1, 2, 3, 4] {
            let shares: Vec<Share> = threads(size)
                .iter()
                .map(|rank| Share::of(order.clone(), 10, rank))
                .collect();
            let batches: Vec<u32> = (0..3)
                .flat_map(|batch| {
                    shares.iter().flat_map(move |share| {
                        let rows = share.batch_size;
                        share.order[batch * rows..(batch + 1) * rows].to_vec()
                    })
                })
                .collect();
            assert_eq!(batches, order, "{size} ranks");
        }
    }
}
