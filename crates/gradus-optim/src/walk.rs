//! The walks through a module that a step needs.
//!
//! The first takes the weight of each parameter that has a gradient out of the module and leaves an empty
//! tensor in its place: only who has a tensor to himself may write to its memory. The second puts the
//! weights back. On the CPU backend (flex) the tensor that comes back is the one that went, node of the
//! tape and all, with other numbers in its memory ([`Resident`]); elsewhere it is a new one.

use crate::cohort::Cohorts;
use crate::execute::beside;
use crate::fused_or_not::{self as fused, Home, Resident};
use crate::item::{Info, Item, Weight};
use crate::path::Path;
use crate::roster::Roster;
use burn::backend::{DispatchAutodiffContext, DispatchTensor, TensorMetadata};
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{GradientCheckpointingStrategy, Tensor};
use std::sync::Arc;

/// A parameter in the step.
pub(crate) struct Taken {
    /// What the caller said about it.
    pub(crate) entry: usize,
    /// Its weight and gradient.
    pub(crate) item: Item,
    /// Where the weight belongs.
    id: ParamId,
    /// What the new tensor is to carry besides values, if it is a new one.
    tracking: Option<Tracking>,
}

/// How a tensor takes part in automatic differentiation.
struct Tracking {
    strategy: Option<GradientCheckpointingStrategy>,
    require_grad: bool,
    distributed: bool,
}

impl Tracking {
    fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        let strategy = tensor.gradient_checkpointing_strategy();
        Self {
            require_grad: tensor.is_require_grad(),
            // Burn asks this of autodiff tensors only.
            distributed: strategy.is_some() && tensor.is_distributed(),
            strategy,
        }
    }

    fn put_on<const D: usize>(&self, tensor: Tensor<D>, id: ParamId) -> Tensor<D> {
        let Some(strategy) = self.strategy else {
            return tensor;
        };
        let mut tensor = Tensor::from_inner(tensor).with_gradient_checkpointing_strategy(strategy);
        if self.require_grad {
            tensor = tensor.require_grad();
        }
        if self.distributed {
            tensor = tensor.set_distributed(id);
        }
        tensor
    }
}

/// Where a walk stands.
pub(crate) struct Place<'a> {
    path: &'a Path,
    shape: &'a dyn Fn() -> Vec<usize>,
}

impl Place<'_> {
    pub(crate) fn name(&self) -> &str {
        self.path.name()
    }

    pub(crate) fn info(&self) -> Info {
        Info {
            name: self.name().to_owned(),
            kind: self.path.kind(),
            shape: (self.shape)(),
        }
    }
}

/// Takes the weight of every parameter that has a gradient out of `model`. All parameters are noted in the
/// roster.
pub(crate) fn take<M: Module>(
    model: M,
    grads: &mut GradientsParams,
    roster: &mut Roster,
    cohorts: &Cohorts,
) -> (M, Vec<Taken>) {
    let mut walk = Take {
        taken: Vec::with_capacity(grads.len()),
        grads,
        roster,
        cohorts,
        path: Path::default(),
        next: 0,
        empty: Default::default(),
    };
    let model = model.map(&mut walk);
    (model, walk.taken)
}

/// Puts the weights back, in the order in which [`take`] gave them, and gives the gradients.
pub(crate) fn put_back<M: Module>(model: M, taken: Vec<Taken>) -> (M, Vec<DispatchTensor>) {
    if taken.is_empty() {
        return (model, Vec::new());
    }
    let mut walk = PutBack {
        spent: Vec::with_capacity(taken.len()),
        taken: taken.into_iter().peekable(),
    };
    let model = model.map(&mut walk);
    (model, walk.spent)
}

/// Maps every float parameter by name, off the tape.
pub(crate) fn change<M: Module>(
    model: M,
    change: impl FnMut(&str, DispatchTensor) -> DispatchTensor,
) -> M {
    model.map(&mut Change {
        change,
        path: Path::default(),
    })
}

/// The parameter with the weight that `change` makes of its own, off the tape.
pub(crate) fn with_weight<const D: usize>(
    param: Param<Tensor<D>>,
    change: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Param<Tensor<D>> {
    let (id, tensor, mapper) = param.consume();
    let tracking = Tracking::of(&tensor);
    let tensor = tracking.put_on(change(tensor.inner()), id);
    Param::from_mapped_value(id, tensor, mapper)
}

struct Take<'a> {
    grads: &'a mut GradientsParams,
    roster: &'a mut Roster,
    cohorts: &'a Cohorts,
    path: Path,
    /// The entry expected next.
    next: usize,
    taken: Vec<Taken>,
    /// What stands in the place of a weight, by rank.
    empty: [Option<DispatchTensor>; 9],
}

impl ModuleMapper for Take<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter_layer(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let place = Place {
            path: &self.path,
            shape: &|| param.shape().to_vec(),
        };
        let entry = self.roster.find(self.next, param.id, &place, self.cohorts);
        self.next = entry + 1;
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return param;
        };

        let (id, tensor, mapper) = param.consume();
        let known = &mut self.roster.entries[entry];
        let info = Arc::clone(&known.info);
        let cohort = known.cohort;
        let grad = off_tape(grad);
        info.check(&tensor.dims());
        let empty = self.empty[D].get_or_insert_with(|| {
            let device = tensor.device().without_autodiff();
            // Not of zero elements: a tensor of rank 0 has one. Nobody reads it.
            Tensor::<D>::empty([1; D], &device).into_dispatch()
        });
        let empty = Tensor::<D>::from_dispatch(empty.clone());
        let (weight, tracking) = match resident(tensor, id, &mut known.home) {
            Ok(resident) => (Weight::In(resident), None),
            Err(tensor) => {
                let tracking = Tracking::of(&tensor);
                let theta = tensor.inner().into_dispatch();
                (Weight::Out(Box::new(theta)), Some(tracking))
            }
        };
        let mut item = Item {
            info,
            weight,
            grad,
            cohort,
        };
        let at_home = match &item.weight {
            Weight::In(resident) => fused::flex_dtype(&item.grad) == Some(resident.dtype()),
            Weight::Out(theta) => fused::flex_dtype(&item.grad) == Some(theta.dtype()),
        };
        if !at_home {
            item.grad = beside(item.grad.clone(), &item.theta());
        }
        self.taken.push(Taken {
            entry,
            item,
            id,
            tracking,
        });
        Param::from_mapped_value(id, empty, mapper)
    }
}

fn off_tape<const D: usize>(tensor: Tensor<D>) -> DispatchTensor {
    let tensor = tensor.into_dispatch();
    match tensor.autodiff {
        DispatchAutodiffContext::Disabled => tensor,
        DispatchAutodiffContext::Enabled(_) => {
            Tensor::<D>::from_dispatch(tensor).inner().into_dispatch()
        }
    }
}

/// Access to the memory of the parameter's tensor, moved to a home of its own if need be; or else the
/// tensor as it was.
#[allow(
    clippy::result_large_err,
    reason = "the other case is a tensor, and as large"
)]
fn resident<const D: usize>(
    tensor: Tensor<D>,
    id: ParamId,
    home: &mut Home,
) -> Result<Resident, Tensor<D>> {
    let on_tape = tensor.gradient_checkpointing_strategy().is_some();
    // What sums gradients over devices is registered anew with each leaf.
    if on_tape && tensor.is_distributed() {
        return Err(tensor);
    }
    let leaf = !on_tape || tensor.is_require_grad() || !tensor.is_tracked();
    let mut tensor = tensor.into_dispatch();
    if !fused::is_ours(&tensor) {
        return Err(Tensor::from_dispatch(tensor));
    }
    if leaf {
        match Resident::of(tensor, home) {
            Ok(resident) => return Ok(resident),
            Err(back) => tensor = back,
        }
    }
    let tracking = Tracking::of(&Tensor::<D>::from_dispatch(tensor.clone()));
    let settled = fused::settle(tensor, home);
    let settled = tracking.put_on(Tensor::<D>::from_dispatch(settled), id);
    Resident::of(settled.into_dispatch(), home).map_err(Tensor::from_dispatch)
}

struct PutBack {
    taken: std::iter::Peekable<std::vec::IntoIter<Taken>>,
    spent: Vec<DispatchTensor>,
}

impl ModuleMapper for PutBack {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(taken) = self.taken.next_if(|taken| taken.id == param.id) else {
            return param;
        };
        let (id, _, mapper) = param.consume();
        self.spent.push(taken.item.grad);
        let theta = match taken.item.weight {
            Weight::Out(theta) => *theta,
            Weight::In(resident) => resident.into_tensor(),
        };
        let tensor = Tensor::from_dispatch(theta);
        let tensor = match taken.tracking {
            Some(tracking) => tracking.put_on(tensor, id),
            None => tensor,
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}

struct Change<F> {
    change: F,
    path: Path,
}

impl<F: FnMut(&str, DispatchTensor) -> DispatchTensor> ModuleMapper for Change<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter_layer(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        with_weight(param, |theta| {
            let changed = (self.change)(self.path.name(), theta.into_dispatch());
            Tensor::from_dispatch(changed)
        })
    }
}
