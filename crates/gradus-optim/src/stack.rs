//! Tensors of one shape on top of one another, each in a line: `B` tensors of n numbers as `[B, n]`.
//!
//! One tensor is only seen in another shape. Several are copied together, but on a GPU, where those of the step
//! before are views of one buffer already (`gradus_kernels::flat`).

use crate::execute::with_rank;
use burn::backend::DispatchTensor;
use burn::tensor::Tensor;
use gradus_kernels::flat::{Places, is_ours, joined, parted};
use std::sync::Arc;

/// A tensor as one row.
pub(crate) fn line(rank: usize, n: usize, tensor: DispatchTensor) -> Tensor<2> {
    with_rank!(rank, D => { Tensor::<D>::from_dispatch(tensor).reshape([1, n]) })
}

/// Tensors of one shape as the rows of one. On a GPU the rows of the step before are found to lie so already.
pub(crate) fn stacked(mut tensors: Vec<DispatchTensor>, shape: &[usize]) -> Tensor<2> {
    let (rank, n) = (shape.len(), shape.iter().product());
    if tensors.len() == 1 {
        return line(rank, n, tensors.swap_remove(0));
    }
    let count = tensors.len();
    match joined(tensors, &one_after_another(shape, count)) {
        Ok(buffer) => Tensor::<1>::from_dispatch(buffer).reshape([count, n]),
        Err(tensors) => {
            let lines = tensors.into_iter().map(|tensor| line(rank, n, tensor));
            Tensor::cat(lines.collect(), 0)
        }
    }
}

/// The rows of a tensor, each in this shape.
pub(crate) fn rows(batch: Tensor<2>, shape: &[usize], count: usize) -> Vec<DispatchTensor> {
    if count == 1 {
        return vec![shaped(shape, batch)];
    }
    let batch = batch.into_dispatch();
    let ours = is_ours(&batch);
    let batch = Tensor::<2>::from_dispatch(batch);
    if ours {
        let places = one_after_another(shape, count);
        let buffer = batch.clone().reshape([places.elements()]);
        if let Ok(rows) = parted(buffer.into_dispatch(), &places) {
            return rows;
        }
    }
    let row = |b| shaped(shape, batch.clone().narrow(0, b, 1));
    (0..count).map(row).collect()
}

fn one_after_another(shape: &[usize], count: usize) -> Arc<Places> {
    Arc::new(Places::close(vec![shape.to_vec(); count]))
}

/// The inverse of [`line`].
pub(crate) fn shaped(shape: &[usize], row: Tensor<2>) -> DispatchTensor {
    with_rank!(shape.len(), D => {
        let mut dims = [0; D];
        dims.copy_from_slice(shape);
        row.reshape(dims).into_dispatch()
    })
}
