//! One parameter in a step: what it is, where it stands, and its gradient.

use crate::Kind;
use crate::fused_or_not::{self as fused, Resident};
use burn::backend::DispatchTensor;
use burn::tensor::Tensor;
use std::ops::Deref;
use std::sync::Arc;

/// What stays the same from step to step.
#[derive(Debug)]
pub(crate) struct Info {
    /// The module path, joined by `.`.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) shape: Vec<usize>,
}

impl Info {
    /// # Panics
    /// If the shape is not that of the parameter.
    pub(crate) fn check(&self, shape: &[usize]) {
        assert!(
            *shape == self.shape,
            "`{}` has shape {shape:?}, and had {:?} when this optimizer met it: another model needs an \
             optimizer of its own",
            self.name,
            self.shape
        );
    }
}

/// One parameter in a step, off the tape; θ and g are on one device.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) info: Arc<Info>,
    pub(crate) weight: Weight,
    pub(crate) grad: DispatchTensor,
    /// The place of its rule: what is of one cohort goes through the formula together.
    pub(crate) cohort: usize,
}

/// θ during the step.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and is made anew in every step"
)]
pub(crate) enum Weight {
    /// Off the tape: the module gets another tensor.
    Out(Box<DispatchTensor>),
    /// As the module has it: the step writes to its memory.
    In(Resident),
}

impl Item {
    /// θ for reading. What is kept beyond the stage at hand is a [copy](Self::kept_theta).
    pub(crate) fn theta(&self) -> DispatchTensor {
        match &self.weight {
            Weight::Out(theta) => (**theta).clone(),
            Weight::In(resident) => fused::view(resident),
        }
    }

    /// θ for changing, to be followed by [`set_theta`](Self::set_theta): until then the gradient stands in
    /// its place, so that who has this tensor has it to himself. A weight inside its module stays there.
    pub(crate) fn take_theta(&mut self) -> DispatchTensor {
        match &mut self.weight {
            Weight::Out(theta) => std::mem::replace(theta, self.grad.clone()),
            Weight::In(resident) => fused::view(resident),
        }
    }

    /// θ as it is now, for keeping.
    pub(crate) fn kept_theta(&self) -> DispatchTensor {
        match &self.weight {
            Weight::Out(theta) => (**theta).clone(),
            Weight::In(resident) => fused::copied(resident),
        }
    }

    /// θ ← `theta`, of the same shape, type and device.
    pub(crate) fn set_theta(&mut self, theta: DispatchTensor) {
        match &mut self.weight {
            Weight::Out(old) => **old = theta,
            Weight::In(resident) => fused::write(resident, theta),
        }
    }
}

impl Deref for Item {
    type Target = Info;
    fn deref(&self) -> &Info {
        &self.info
    }
}

/// A tensor of any rank as a vector.
pub(crate) fn flattened(tensor: DispatchTensor, rank: usize) -> Tensor<1> {
    crate::execute::with_rank!(rank, D => {
        Tensor::<D>::from_dispatch(tensor).reshape([-1])
    })
}

/// A vector in the given shape.
pub(crate) fn shaped(tensor: Tensor<1>, shape: &[usize]) -> DispatchTensor {
    crate::execute::with_rank!(shape.len(), D => {
        let mut dims = [0_usize; D];
        dims.copy_from_slice(shape);
        tensor.reshape(dims).into_dispatch()
    })
}
