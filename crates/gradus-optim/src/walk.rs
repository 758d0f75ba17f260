//! The walks through a module that a step needs.
//!
//! On the CPU backend (flex) one walk does it: the weights stay where they are, and the step learns where
//! that is ([`Resident`]). Elsewhere a weight can change in place only while nobody else holds its
//! memory, so the step takes it out of the module, leaves an empty tensor in its place, and puts the new
//! one back on a second walk.

use crate::cohort::Cohorts;
use crate::execute::{beside, device_of};
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
    /// Where a weight that was taken out belongs, and what its tensor carries besides values.
    back: Option<(ParamId, Tracking)>,
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

/// Finds every parameter that has a gradient, and takes its weight out of `model` where it cannot be
/// changed inside. All parameters are noted in the roster.
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

/// Puts weights back where they were taken out, and leaves in `taken` what stayed inside. The order is
/// that in which [`take`] gave them.
pub(crate) fn put_back<M: Module>(model: M, taken: &mut Vec<Taken>) -> M {
    let out: Vec<_> = taken.extract_if(.., |taken| taken.back.is_some()).collect();
    if out.is_empty() {
        return model;
    }
    model.map(&mut PutBack {
        out: out.into_iter().peekable(),
    })
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
        let grad = off_tape(grad);
        let (tensor, weight, back) = match settled(tensor, id, &info, &mut known.home) {
            Ok((tensor, resident)) => (tensor, Weight::In(resident), None),
            Err(tensor) => {
                info.check(&tensor.dims());
                let tracking = Tracking::of(&tensor);
                let theta = tensor.inner().into_dispatch();
                let empty = self.empty[D].get_or_insert_with(|| {
                    // Not of zero elements: a tensor of rank 0 has one.
                    Tensor::<D>::zeros([1; D], &device_of(&theta)).into_dispatch()
                });
                let empty = Tensor::<D>::from_dispatch(empty.clone());
                (empty, Weight::Out(Box::new(theta)), Some((id, tracking)))
            }
        };
        let mut item = Item { info, weight, grad };
        let at_home = match &item.weight {
            Weight::In(resident) => fused::flex_dtype(&item.grad) == Some(resident.dtype()),
            Weight::Out(theta) => fused::flex_dtype(&item.grad) == Some(theta.dtype()),
        };
        if !at_home {
            item.grad = beside(item.grad.clone(), &item.theta());
        }
        self.taken.push(Taken { entry, item, back });
        Param::from_mapped_value(id, tensor, mapper)
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

/// The parameter's tensor, as it shall stand in the module, and access to its memory; or else the tensor
/// as it was.
#[cfg(feature = "flex")]
#[allow(
    clippy::result_large_err,
    reason = "the other case is a tensor, and as large"
)]
fn settled<const D: usize>(
    tensor: Tensor<D>,
    id: ParamId,
    info: &Info,
    home: &mut Home,
) -> Result<(Tensor<D>, Resident), Tensor<D>> {
    let on_tape = tensor.gradient_checkpointing_strategy().is_some();
    // What sums gradients over devices is registered anew with each leaf.
    if on_tape && tensor.is_distributed() {
        return Err(tensor);
    }
    let leaf = !on_tape || tensor.is_require_grad() || !tensor.is_tracked();
    let tensor = tensor.into_dispatch();
    let Some(flex) = fused::primitive(&tensor) else {
        return Err(Tensor::from_dispatch(tensor));
    };
    info.check(flex.layout().shape());
    if leaf && let Some(resident) = Resident::of(flex, home) {
        return Ok((Tensor::from_dispatch(tensor), resident));
    }
    let tensor = Tensor::<D>::from_dispatch(tensor);
    let tracking = Tracking::of(&tensor);
    let theta = fused::into_flex(tensor.inner().into_dispatch());
    let (theta, resident) = Resident::settle(theta, home);
    let theta = Tensor::from_dispatch(fused::from_flex(theta));
    Ok((tracking.put_on(theta, id), resident))
}

#[cfg(not(feature = "flex"))]
fn settled<const D: usize>(
    tensor: Tensor<D>,
    _: ParamId,
    _: &Info,
    _: &mut Home,
) -> Result<(Tensor<D>, Resident), Tensor<D>> {
    Err(tensor)
}

struct PutBack {
    out: std::iter::Peekable<std::vec::IntoIter<Taken>>,
}

impl ModuleMapper for PutBack {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let here = |taken: &Taken| matches!(&taken.back, Some((id, _)) if *id == param.id);
        let Some(taken) = self.out.next_if(here) else {
            return param;
        };
        let (id, empty, mapper) = param.consume();
        let tensor = match (taken.item.weight, taken.back) {
            (Weight::Out(theta), Some((_, tracking))) => {
                tracking.put_on(Tensor::from_dispatch(*theta), id)
            }
            // Not reached: those that stayed inside are not among them.
            _ => empty,
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
