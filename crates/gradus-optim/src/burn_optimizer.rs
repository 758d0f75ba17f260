//! Rules as Burn's own [`Optimizer`](burn::optim::Optimizer): for `ModuleOptimizer`, its parameter
//! groups, and Burn's Learner.
//!
//! Every rule of this crate is a Burn optimizer as it stands; [`burn_optimizer!`](crate::burn_optimizer)
//! does the same for a rule of your own.
//!
//! Burn's records do not say which rule they are of: one that does not fit makes the next step panic,
//! with a word about it. [`ModelOptimizer`](crate::ModelOptimizer) refuses it when it is loaded.

use crate::execute::{AnyRule, ParameterState, shape_of, step_parameter, with_rank};
use crate::tensor_rule::Shaped;
use crate::{Rule, TensorRule};
use burn::optim::{RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};

/// What Burn keeps, and records, for one parameter of rank `D` under a rule of this crate.
#[derive(Clone, Debug)]
pub struct RuleState<const D: usize>(ParameterState);

// By hand: the derive expands to paths that exist inside burn-optim only. A record does not know the
// rule, so slots and memory are numbered rather than named.
impl<const D: usize> RecordState for RuleState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        let state = &self.0;
        out.push_scalar(prefix, "step", state.step.into());
        out.push_scalar(prefix, "slots", state.slots.len().into());
        out.push_scalar(prefix, "memory", state.memory.len().into());
        for (i, slot) in state.tensors().into_iter().enumerate() {
            // A slot may have another rank than the parameter.
            let data = with_rank!(shape_of(&slot).len(), S => {
                Tensor::<S>::from_dispatch(slot).into_data()
            });
            out.push_tensor(prefix, &format!("slot{i}"), data);
        }
        for (i, number) in state.memory.iter().enumerate() {
            out.push_scalar(prefix, &format!("memory{i}"), (*number).into());
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let step = u64::try_from(src.take_scalar(prefix, "step")?).ok()?;
        let slots = usize::try_from(src.take_scalar(prefix, "slots")?).ok()?;
        let memory = usize::try_from(src.take_scalar(prefix, "memory")?).ok()?;
        let slots = (0..slots)
            .map(|i| {
                let data = src.take_tensor(prefix, &format!("slot{i}"))?;
                let (dtype, rank) = (data.dtype(), data.shape().as_slice().len());
                // Burn has no tensor of more than eight dimensions.
                (rank <= 8).then(|| {
                    with_rank!(rank, S => {
                        Tensor::<S>::from_data(data, (device, dtype)).into_dispatch()
                    })
                })
            })
            .collect::<Option<_>>()?;
        let memory = (0..memory)
            .map(|i| f64::try_from(src.take_scalar(prefix, &format!("memory{i}"))?).ok())
            .collect::<Option<_>>()?;
        Some(Self(ParameterState {
            step,
            memory,
            slots,
            packed: None,
            part: None,
        }))
    }
}

impl<const D: usize> RuleState<D> {
    #[doc(hidden)]
    pub fn step<R: Rule>(
        rule: &R,
        lr: f64,
        theta: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self>,
    ) -> (Tensor<D>, Option<Self>) {
        Self::advance(rule, lr, theta, grad, state)
    }

    #[doc(hidden)]
    pub fn step_shaped<R: TensorRule>(
        rule: &R,
        lr: f64,
        theta: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self>,
    ) -> (Tensor<D>, Option<Self>) {
        match rule.rest() {
            Some(rest) if !rule.takes(&theta.dims()) => {
                let [rule, _] = rest.rule.shared();
                Self::advance(rule.as_ref(), lr * rest.lr, theta, grad, state)
            }
            _ => Self::advance(&Shaped(rule.clone()), lr, theta, grad, state),
        }
    }

    fn advance(
        rule: &dyn AnyRule,
        lr: f64,
        theta: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self>,
    ) -> (Tensor<D>, Option<Self>) {
        let mut state = state.map(|Self(state)| state).unwrap_or_default();
        // A record says no name of a rule, and Burn's trait has no place for an error.
        if state.step > 0 {
            let slots = rule.slot_shapes(&theta.dims());
            let fits = slots.len() == state.slots.len()
                && (slots.iter().zip(&state.slots))
                    .all(|(slot, kept)| slot.shape == shape_of(kept))
                && rule.memory_names().len() == state.memory.len();
            assert!(
                fits,
                "the state of this parameter is not one of `{}`: it was recorded by another \
                 optimizer or for another model",
                rule.rule_name()
            );
        }
        let theta = step_parameter(rule, lr, theta, grad, &mut state);
        (theta, Some(Self(state)))
    }

    #[doc(hidden)]
    pub fn to_device(self, device: &Device) -> Self {
        Self(self.0.moved(device))
    }
}

/// Makes rules Burn optimizers: `burn_optimizer!(MyRule)` for each type that implements
/// [`Rule`](crate::Rule).
///
/// ```
/// use burn::optim::ModuleOptimizer;
/// use gradus_optim::AdamW;
///
/// // The rules of this crate are Burn optimizers already.
/// let optimizer = ModuleOptimizer::from(AdamW { weight_decay: 0.05, ..AdamW::default() });
/// assert!(!optimizer.has_gradient_clipping());
/// ```
#[macro_export]
macro_rules! burn_optimizer {
    ($($rule:ty),* $(,)?) => {
        $crate::burn_optimizer!(@ step, $($rule),*);
    };
    (@ $step:ident, $($rule:ty),*) => {$(
        impl ::burn::optim::Optimizer for $rule {
            type State<const D: usize> = $crate::RuleState<D>;

            fn step<const D: usize>(
                &self,
                lr: ::burn::optim::LearningRate,
                tensor: ::burn::tensor::Tensor<D>,
                grad: ::burn::tensor::Tensor<D>,
                state: ::std::option::Option<$crate::RuleState<D>>,
            ) -> (::burn::tensor::Tensor<D>, ::std::option::Option<$crate::RuleState<D>>) {
                $crate::RuleState::$step(self, lr, tensor, grad, state)
            }

            fn to_device<const D: usize>(
                state: $crate::RuleState<D>,
                device: &::burn::tensor::Device,
            ) -> $crate::RuleState<D> {
                state.to_device(device)
            }
        }
    )*};
}

/// Makes rules that know shapes Burn optimizers: `burn_tensor_optimizer!(MyRule)` for each type that
/// implements [`TensorRule`](crate::TensorRule). A parameter that the rule does not take is updated by
/// its rest.
///
/// Burn's `Optimizer` sees one parameter at a time, so nothing is batched; a matrix is read as the
/// weight `[in, out]` of Burn's dense layer, a tensor of higher rank as that of a convolution.
#[macro_export]
macro_rules! burn_tensor_optimizer {
    ($($rule:ty),* $(,)?) => {
        $crate::burn_optimizer!(@ step_shaped, $($rule),*);
    };
}
