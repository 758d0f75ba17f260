//! What is done around the rule: to gradients before it, to weights after it, to both by groups.
//!
//! ```text
//! rule(…) | stage(…) | stage(…)
//! ```
//! Stages that change gradients happen in the order of the text, then the rule's step, then the
//! stages that change or average weights, in the order of the text. SAM, ASAM and entropy-SGD come
//! before all: they decide at which weights the gradient is taken.

mod accumulate;
mod asam;
mod centralize;
mod clip_adaptive;
mod clip_global;
mod clip_norm;
mod clip_quantile;
mod clip_value;
mod displace;
mod ema;
mod entropy;
mod group;
mod l1;
mod lookahead;
mod max_norm;
mod no_decay;
mod noise;
mod rising_lookahead;
mod sam;
mod swa;

pub use accumulate::Accumulate;
pub use asam::Asam;
pub use centralize::Centralize;
pub use clip_adaptive::ClipAdaptive;
pub use clip_global::ClipGlobal;
pub use clip_norm::ClipNorm;
pub use clip_quantile::ClipQuantile;
pub use clip_value::ClipValue;
pub use ema::Ema;
pub use entropy::Entropy;
pub use group::{Group, Kinds, Pattern, Ranks};
pub use l1::L1;
pub use lookahead::Lookahead;
pub use max_norm::MaxNorm;
pub use no_decay::NoDecay;
pub use noise::Noise;
pub use rising_lookahead::RisingLookahead;
pub use sam::Sam;
pub use swa::Swa;

pub(crate) use displace::{each_info, fill, without};
pub(crate) use group::check_groups;

use crate::config::CatalogueEntry;
use crate::execute::{AnyRule, ParameterState, with_rank};
use crate::flat::goes_alone;
use crate::hyper;
use crate::item::Item;
use crate::norm::{Factor, GlobalNorm};
use crate::text::{Call, TextError, Value, normal, suggestion};
use crate::{Hyperparameters, OptimError, Rule};
use burn::backend::TensorMetadata;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};
use gradus_kernels::flat::{Places, joined_times, parted};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Declares the stages: the example, if not empty, is shown where the first argument is missing.
macro_rules! stages {
    ($($variant:ident $example:literal,)*) => {
        /// One of the things that can stand after a rule.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Stage {
            $(#[doc = concat!("[`", stringify!($variant), "`].")]
            $variant($variant),)*
        }

        impl Stage {
            /// Every stage, with its table and documentation.
            pub fn catalogue() -> Vec<CatalogueEntry> {
                vec![$(CatalogueEntry {
                    name: $variant::TEXT_NAME,
                    documentation: $variant::DOCUMENTATION,
                    hyperparameters: $variant::table(),
                    slots: Self::$variant($variant::default()).slot_names().len(),
                },)*]
            }

            pub(crate) fn from_call(text: &str, call: &Call) -> Result<Self, TextError> {
                let name = normal(&call.name.value);
                if name == Group::TEXT_NAME && !call.arguments.is_empty() {
                    return Group::from_call(text, call).map(Self::Group);
                }
                match name.as_str() {
                    $($variant::TEXT_NAME => {
                        if !$example.is_empty() && call.arguments.is_empty() {
                            let message = concat!("write ", $example);
                            return Err(TextError::new(text, call.name.at.clone(), message));
                        }
                        hyper::from_call(text, call).map(Self::$variant)
                    })*
                    name => {
                        let near = suggestion(name, [$($variant::TEXT_NAME),*]);
                        let message = format!("there is no `{name}` to put after an optimizer{near}");
                        Err(TextError::new(text, call.name.at.clone(), message))
                    }
                }
            }

            /// The stage's name in text.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $variant::TEXT_NAME,)*
                }
            }

            /// The value of a hyper-parameter by name, if the stage has it.
            pub fn get(&self, name: &str) -> Option<Value> {
                match self {
                    $(Self::$variant(stage) => stage.get(name),)*
                }
            }

            /// Checks every hyper-parameter.
            ///
            /// # Errors
            /// [`OptimError::OutOfRange`] or [`OptimError::Conflict`], naming the field.
            pub fn validate(&self) -> Result<(), OptimError> {
                match self {
                    $(Self::$variant(stage) => stage.check_ranges()?,)*
                }
                match self {
                    Self::Group(group) => group.check(),
                    Self::ClipAdaptive(clip) => clip.check(),
                    _ => Ok(()),
                }
            }
        }

        impl fmt::Display for Stage {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if let Self::Group(group) = self {
                    return write!(f, "{group}");
                }
                match self {
                    $(Self::$variant(stage) => f.write_str(&short_text(stage)),)*
                }
            }
        }

        $(impl From<$variant> for Stage {
            fn from(stage: $variant) -> Self {
                Self::$variant(stage)
            }
        })*
    };
}
stages!(
    ClipGlobal "clip_global(1.0)",
    ClipNorm "clip_norm(1.0)",
    ClipValue "clip_value(1.0)",
    ClipAdaptive "",
    ClipQuantile "",
    Noise "",
    Centralize "",
    Accumulate "accumulate(4)",
    L1 "l1(1e-4)",
    MaxNorm "max_norm(3.0)",
    Lookahead "",
    RisingLookahead "",
    Ema "",
    Swa "swa(1000)",
    Sam "",
    Asam "",
    Entropy "",
    NoDecay "",
    Group "group(name=head.*, lr=0.1)",
);

/// `ema(0.999)`: the first hyper-parameter without its name, the others where they differ from their
/// defaults.
fn short_text<H: Hyperparameters>(stage: &H) -> String {
    let table = H::table();
    let Some(first) = table.first() else {
        return H::TEXT_NAME.to_owned();
    };
    stage
        .to_text(&[first.name])
        .replacen(&format!("({}=", first.name), "(", 1)
}

// === Running them ===

/// What a stage remembers.
#[derive(Clone, Debug, Default)]
pub(crate) struct StageState {
    /// Numbers whose meaning is the stage's: a history of norms, a count.
    pub(crate) numbers: Vec<f64>,
    /// By name of the parameter.
    pub(crate) parameters: BTreeMap<String, ParameterState>,
}

/// The circumstances of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Steps completed before this one.
    pub(crate) step: u64,
    /// What the gradient counts, where several make one step.
    pub(crate) weight: f64,
}

/// Whether the step goes on.
#[derive(Clone, Debug)]
pub(crate) enum Flow {
    /// On, perhaps with the norm of all gradients as it was found.
    On(Option<GlobalNorm>),
    /// No further for now.
    Wait,
}

/// A stage before the rule.
pub(crate) trait GradientStage {
    /// Names of the tensors kept per parameter.
    fn slot_names(&self) -> &'static [&'static str] {
        &[]
    }
    fn apply(&self, now: &Now, state: &mut StageState, items: &mut [&mut Item]) -> Flow;
}

impl Stage {
    /// The stage as one that changes gradients.
    pub(crate) fn on_gradients(&self) -> Option<&dyn GradientStage> {
        Some(match self {
            Self::ClipGlobal(stage) => stage,
            Self::ClipNorm(stage) => stage,
            Self::ClipValue(stage) => stage,
            Self::ClipAdaptive(stage) => stage,
            Self::ClipQuantile(stage) => stage,
            Self::Noise(stage) => stage,
            Self::Centralize(stage) => stage,
            Self::Accumulate(stage) => stage,
            _ => return None,
        })
    }

    /// Whether the stage needs gradients at other weights than the model's.
    pub(crate) fn needs_closure(&self) -> bool {
        matches!(self, Self::Sam(_) | Self::Asam(_) | Self::Entropy(_))
    }

    /// The gradient that a stage around the gradient makes of the first one.
    pub(crate) fn gradient<M: burn::module::Module>(
        &self,
        step: u64,
        model: &M,
        grads: GradientsParams,
        loss: &mut dyn FnMut(&M) -> GradientsParams,
    ) -> GradientsParams {
        match self {
            Self::Sam(stage) => stage.gradient(model, grads, loss),
            Self::Asam(stage) => stage.gradient(model, grads, loss),
            Self::Entropy(stage) => stage.gradient(step, model, grads, loss),
            _ => grads,
        }
    }

    /// Names of the tensors kept per parameter.
    pub(crate) fn slot_names(&self) -> &'static [&'static str] {
        match self {
            Self::Lookahead(stage) => stage.slots(),
            Self::RisingLookahead(stage) => stage.slots(),
            Self::Ema(stage) => stage.slots(),
            Self::Swa(stage) => stage.slots(),
            stage => stage.on_gradients().map_or(&[], |stage| stage.slot_names()),
        }
    }

    /// Whether the stage remembers anything, so that it is saved.
    pub(crate) fn remembers(&self) -> bool {
        !self.slot_names().is_empty() || matches!(self, Self::ClipQuantile(_))
    }

    /// Whether the weights to be used are this stage's, not the model's.
    pub(crate) fn averages(&self) -> bool {
        matches!(
            self,
            Self::Lookahead(_) | Self::RisingLookahead(_) | Self::Ema(_) | Self::Swa(_)
        )
    }

    /// Whether several gradients make one step.
    pub(crate) fn accumulates(&self) -> bool {
        matches!(self, Self::Accumulate(_))
    }

    /// Whether the next gradient will not be the last of a step.
    pub(crate) fn waits(&self, state: &StageState) -> bool {
        match self {
            Self::Accumulate(stage) => stage.waits(state),
            _ => false,
        }
    }

    /// Whether the stage does something after the rule.
    pub(crate) fn on_weights(&self) -> bool {
        matches!(self, Self::L1(_) | Self::MaxNorm(_)) || self.averages()
    }

    /// The stage as a parameter group.
    pub(crate) fn as_group(&self) -> Option<&Group> {
        match self {
            Self::Group(group) => Some(group),
            _ => None,
        }
    }

    /// What must be seen of the weights before the rule's step.
    pub(crate) fn before_rule(&self, state: &mut StageState, items: &[&mut Item]) {
        // φ = θ at the start.
        if let Self::Lookahead(_) | Self::RisingLookahead(_) = self {
            for item in items {
                if !state.parameters.contains_key(&item.name) {
                    let first = ParameterState {
                        slots: vec![item.kept_theta()],
                        ..ParameterState::default()
                    };
                    state.parameters.insert(item.name.clone(), first);
                }
            }
        }
    }

    /// The stage after the rule. `rates` and `decays` say of each item its rate and whether weight
    /// decay applies to it.
    pub(crate) fn after_rule(
        &self,
        state: &mut StageState,
        items: &mut [&mut Item],
        rates: &[f64],
        decays: &[bool],
    ) {
        match self {
            Self::L1(stage) => {
                for ((item, lr), decays) in items.iter_mut().zip(rates).zip(decays) {
                    if *decays {
                        stage.step_all(*lr, &mut [(&mut **item, &mut ParameterState::default())]);
                    }
                }
            }
            Self::MaxNorm(stage) => stage.apply(items),
            Self::Lookahead(stage) => step_items(stage, state, items),
            Self::RisingLookahead(stage) => step_items(stage, state, items),
            Self::Ema(stage) => step_items(stage, state, items),
            Self::Swa(stage) => step_items(stage, state, items),
            _ => {}
        }
    }
}

/// A stage that is a rule without use for rate and gradient, on all items.
fn step_items<R: Rule>(rule: &R, state: &mut StageState, items: &mut [&mut Item]) {
    let taken = |item: &&mut Item| state.parameters.remove(&item.name).unwrap_or_default();
    let mut states: Vec<_> = items.iter().map(taken).collect();
    let mut entries: Vec<_> = (items.iter_mut().map(|item| &mut **item))
        .zip(&mut states)
        .collect();
    rule.step_all(0.0, &mut entries);
    for (item, kept) in items.iter().zip(states) {
        state.parameters.insert(item.name.clone(), kept);
    }
}

/// [`scale`] for all items: on a GPU by one kernel, into one buffer, in the order in which the rules will ask for
/// them.
fn scale_together(items: &mut [&mut Item], factor: &Factor) {
    let Factor::Pending(factor) = factor else {
        items.iter_mut().for_each(|item| scale(item, factor));
        return;
    };
    // What goes through its rule by itself is scaled on the way.
    let (alone, mut order): (Vec<usize>, Vec<usize>) =
        (0..items.len()).partition(|&index| goes_alone(items[index].shape.iter().product()));
    order.sort_by_key(|&index| items[index].cohort);
    if order.len() > 1 {
        scale_side_by_side(items, &order, factor);
    } else {
        scale_each(items, &order, factor);
    }
    scale_each(items, &alone, factor);
}

fn scale_each(items: &mut [&mut Item], which: &[usize], factor: &Tensor<1>) {
    let factor = Factor::Pending(Box::new(factor.clone()));
    for &index in which {
        scale(items[index], &factor);
    }
}

fn scale_side_by_side(items: &mut [&mut Item], order: &[usize], factor: &Tensor<1>) {
    let dtype = items[order[0]].grad.dtype();
    let parts = order.iter().map(|&index| items[index].grad.clone());
    let shapes = order.iter().map(|&index| items[index].shape.clone());
    let places = Arc::new(Places::apart(shapes, dtype));
    let scaled = joined_times(parts.collect(), factor.clone().into_dispatch(), &places)
        .ok()
        .and_then(|buffer| parted(buffer, &places).ok());
    match scaled {
        Some(scaled) => {
            for (&index, grad) in order.iter().zip(scaled) {
                items[index].grad = grad;
            }
        }
        None => scale_each(items, order, factor),
    }
}

/// g ← g·factor, where that is below 1.
fn scale(item: &mut Item, factor: &Factor) {
    match factor {
        Factor::Known(factor) if *factor < 1.0 => each_gradient!([&mut *item], |g| g * *factor),
        Factor::Known(_) => {}
        // Whether it is below 1 only the device knows.
        Factor::Pending(factor) if !item.shape.contains(&0) => {
            let g = item.grad.clone();
            item.grad = with_rank!(item.shape.len(), D => {
                let factor = (**factor).clone().reshape([1; D]);
                (Tensor::<D>::from_dispatch(g) * factor).into_dispatch()
            });
        }
        Factor::Pending(_) => {}
    }
}

/// Replaces each item's gradient by an expression of it, of θ, and of the item.
macro_rules! each_gradient {
    ($items:expr, |$g:ident| $new:expr) => {
        $crate::stages::each_gradient!($items, |$g, _theta, _item| $new)
    };
    ($items:expr, |$g:ident, $theta:ident, $item:ident| $new:expr) => {
        for item in $items.iter_mut() {
            // Backends refuse to look for the largest of no numbers.
            if item.shape.contains(&0) {
                continue;
            }
            let $item = &**item;
            let (g, theta) = (item.grad.clone(), item.theta());
            let new = $crate::execute::with_rank!(item.shape.len(), D => {
                let $g = burn::tensor::Tensor::<D>::from_dispatch(g);
                let $theta = burn::tensor::Tensor::<D>::from_dispatch(theta);
                burn::tensor::Tensor::<D>::into_dispatch($new)
            });
            item.grad = new;
        }
    };
}
use each_gradient;

/// Reduces a tensor over the inputs of each unit (over everything, where it has no units), keeping
/// the reduced axes at length 1.
fn over_inputs<const D: usize>(
    x: Tensor<D>,
    unit: Option<usize>,
    reduce: impl Fn(Tensor<D>, usize) -> Tensor<D>,
) -> Tensor<D> {
    (0..D).filter(|axis| Some(*axis) != unit).fold(x, reduce)
}

/// ‖xᵢ‖ of each unit i, as max|xᵢ|·‖xᵢ/max|xᵢ|‖ so that squares do not overflow.
fn unit_norms<const D: usize>(x: Tensor<D>, unit: Option<usize>) -> Tensor<D> {
    // A unit of zeros is divided by the smallest normal number instead.
    let smallest = match x.dtype() {
        DType::F16 => 6.104e-5,
        _ => f64::from(f32::MIN_POSITIVE),
    };
    let largest = over_inputs(x.clone().abs(), unit, |x, axis| x.max_dim(axis));
    let largest = largest.clamp_min(smallest);
    let squares = (x / largest.clone()).square();
    largest * over_inputs(squares, unit, |x, axis| x.sum_dim(axis)).sqrt()
}
