//! One step of a set of parameters, by whichever execution fits where their tensors live.
//!
//! ```text
//! for each parameter   t ← t + 1,  k ← scalars(η, t)
//! rule with sums       Σ ← Σ measure(k, θ, g, slots),  k ← resolve(k, Σ)
//! for each parameter   θ, slots ← update(k, θ, g, slots)
//! ```
//! On the CPU backend (flex) both passes run over the memory of all parameters at once
//! ([`fused`](crate::fused)); elsewhere as tensor operations on flat buffers ([`flat`](crate::flat)).

use crate::item::{Item, Weight};
pub(crate) use crate::state::ParameterState;
use crate::{Curvature, MAX_SUMS, Rule, Scope, SlotShape, flat, fused_or_not as fused};
use burn::backend::{DispatchTensor, TensorMetadata};
use burn::tensor::{Device, Tensor};
use std::sync::Arc;

/// Runs `$body` with the constant `$D` equal to the run-time `$rank` (0 to 8, Burn's own limit).
macro_rules! with_rank {
    ($rank:expr, $D:ident => $body:block) => {
        $crate::execute::with_rank!(@ $rank, $D, $body, 0, 1, 2, 3, 4, 5, 6, 7, 8)
    };
    (@ $rank:expr, $D:ident, $body:block, $($r:literal),*) => {
        match $rank {
            $($r => {
                const $D: usize = $r;
                $body
            })*
            other => unreachable!("Burn has no tensor of rank {other}"),
        }
    };
}
pub(crate) use with_rank;

/// A parameter and what is remembered about it.
pub(crate) type Entry<'a> = (&'a mut Item, &'a mut ParameterState);

/// Sums over one parameter.
pub(crate) type Totals = [f64; MAX_SUMS];

/// A rule with its type forgotten, so that a model's optimizer is one type for all rules.
pub(crate) trait AnyRule: Send + Sync {
    fn rule_name(&self) -> &'static str;
    /// Names and shapes of the slots that a parameter of this shape has after its first step.
    fn slot_shapes(&self, shape: &[usize]) -> Vec<SlotShape>;
    fn memory_names(&self) -> &'static [(&'static str, f64)];
    fn at_momentum(&self, momentum: f64) -> Arc<dyn AnyRule>;
    /// One step of all these parameters.
    fn step_all(&self, lr: f64, entries: &mut [Entry<'_>]);
    /// The estimate of curvature that the rule wants; see [`Rule::curvature`].
    fn curvature(&self) -> Option<Curvature> {
        None
    }
    /// Whether the weights to be used differ from θ.
    fn averages(&self) -> bool;
    /// The weights to be used, of a parameter that has made a step.
    fn averaged(&self, theta: DispatchTensor, state: &ParameterState) -> DispatchTensor;
}

impl<R: Rule> AnyRule for R {
    fn rule_name(&self) -> &'static str {
        R::NAME
    }
    fn slot_shapes(&self, shape: &[usize]) -> Vec<SlotShape> {
        Rule::slots(self)
            .iter()
            .map(|name| SlotShape::new(*name, shape))
            .collect()
    }
    fn memory_names(&self) -> &'static [(&'static str, f64)] {
        Rule::memory(self)
    }
    fn at_momentum(&self, momentum: f64) -> Arc<dyn AnyRule> {
        Arc::new(Rule::with_momentum(self, momentum))
    }
    fn step_all(&self, lr: f64, entries: &mut [Entry<'_>]) {
        step_elementwise(self, lr, entries);
    }
    fn curvature(&self) -> Option<Curvature> {
        Rule::curvature(self)
    }
    fn averages(&self) -> bool {
        Rule::averages(self)
    }
    fn averaged(&self, theta: DispatchTensor, state: &ParameterState) -> DispatchTensor {
        flat::averaged(self, theta, state)
    }
}

/// One step of an elementwise rule.
pub(crate) fn step_elementwise<R: Rule>(rule: &R, lr: f64, entries: &mut [Entry<'_>]) {
    let names = rule.memory();
    let mut scalars: Vec<R::Scalars> = Vec::with_capacity(entries.len());
    let mut last = None;
    for (_, state) in entries.iter_mut() {
        if state.step == 0 {
            state.memory = names.iter().map(|(_, first)| *first).collect();
        }
        state.step += 1;
        // Without memory the scalars depend on the time alone, which most parameters share.
        let k = match scalars.last() {
            Some(k) if names.is_empty() && last == Some(state.step) => k.clone(),
            _ => rule.scalars(lr, state.step, &mut state.memory),
        };
        last = Some(state.step);
        scalars.push(k);
    }
    let fused = fused::prepare(rule.slots().len(), entries);
    let mut bundles = flat::gather(rule, entries, &fused);

    let sums = R::SUMS;
    if sums.count > 0 {
        let mut totals = vec![[0.0; MAX_SUMS]; entries.len()];
        fused::measure(rule, &scalars, entries, &fused, &mut totals);
        flat::measure(rule, sums, &scalars, &mut bundles, &mut totals);
        if sums.scope == Scope::Model {
            let all = totals.iter().fold([0.0; MAX_SUMS], |mut all, one| {
                all.iter_mut().zip(one).for_each(|(sum, x)| *sum += x);
                all
            });
            totals.fill(all);
        }
        for (((_, state), k), totals) in entries.iter_mut().zip(&mut scalars).zip(&totals) {
            rule.resolve(k, &totals[..sums.count], &mut state.memory);
        }
    }

    fused::update(rule, &scalars, entries, &fused);
    flat::update(rule, &scalars, bundles, entries);
}

/// The shape of a tensor of any rank.
pub(crate) fn shape_of(tensor: &DispatchTensor) -> Vec<usize> {
    TensorMetadata::shape(tensor).to_vec()
}

/// Where a tensor of any rank lives.
pub(crate) fn device_of(tensor: &DispatchTensor) -> Device {
    with_rank!(shape_of(tensor).len(), D => {
        Tensor::<D>::from_dispatch(tensor.clone()).device()
    })
}

/// `tensor` where `like` lives and in its type. A model may be moved or cast between steps, and what
/// belongs to a parameter follows.
pub(crate) fn beside(tensor: DispatchTensor, like: &DispatchTensor) -> DispatchTensor {
    let dtype = like.dtype();
    if tensor.dtype() == dtype && fused::both_here(&tensor, like) {
        return tensor;
    }
    let device = device_of(like);
    with_rank!(shape_of(&tensor).len(), D => {
        let mut tensor = Tensor::<D>::from_dispatch(tensor);
        if tensor.device() != device {
            tensor = tensor.to_device(&device);
        }
        tensor.cast(dtype).into_dispatch()
    })
}

/// θ after one step of one parameter, for Burn's own `Optimizer`.
pub(crate) fn step_parameter<const D: usize>(
    rule: &dyn AnyRule,
    lr: f64,
    theta: Tensor<D>,
    grad: Tensor<D>,
    state: &mut ParameterState,
) -> Tensor<D> {
    let info = crate::item::Info {
        name: String::new(),
        kind: crate::Kind::Other,
        shape: theta.dims().to_vec(),
    };
    let mut item = Item {
        info: Arc::new(info),
        weight: Weight::Out(Box::new(theta.into_dispatch())),
        grad: grad.into_dispatch(),
        cohort: 0,
    };
    rule.step_all(lr, &mut [(&mut item, state)]);
    state.settle();
    Tensor::from_dispatch(item.theta())
}
