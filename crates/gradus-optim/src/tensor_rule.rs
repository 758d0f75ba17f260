//! Rules whose arithmetic knows the shape of a parameter: a norm per row, a product of matrices, an
//! eigenbasis.
//!
//! ```text
//! Θ, S ← update(η, t, shape, Θ, G, S)       Θ, G: [B, N];  S: [B, n] per slot
//! ```
//!
//! All parameters of equal shape are updated in one batch: row b of Θ is parameter b, its N numbers in
//! a line. A rule reshapes the rows as it needs ([B, m, n] for matrices) and never mixes them, so that
//! a batch of B computes what B batches of one compute, with a B-th of the kernel launches. Laying a
//! parameter in a line costs nothing; only a batch of two or more is a copy, and on a GPU only that of the
//! gradients, by one kernel: weights and slots stay in the memory of the step before, of which they are
//! [views](gradus_kernels::flat).
//!
//! Entries of a gradient beyond the 0.4th power of the largest number of their type (2.6e15 in `f32`)
//! count as that, so that no sum of squares overflows.
//!
//! The same code runs on every Burn backend and float type; in `f64` ([`TensorOptimizer`]) it is its
//! own reference.

use crate::execute::{AnyRule, Entry, ParameterState, device_of};
use crate::stack::{line, rows, shaped, stacked};
use crate::{OptimError, RuleConfig, Slot};
use burn::backend::{DispatchTensor, TensorMetadata};
use burn::tensor::{DType, Device, Tensor, TensorData};
use gradus_kernels::flat::is_ours;
use std::fmt::Debug;
use std::sync::Arc;

/// An update rule that knows the shape of what it updates.
///
/// ```
/// use burn::tensor::Tensor;
/// use gradus_optim::{Slot, Step, TensorOptimizer, TensorRule};
///
/// /// θ ← θ − η·g/‖g‖: steps of one length.
/// #[derive(Clone, Debug)]
/// struct NormalisedDescent;
///
/// impl TensorRule for NormalisedDescent {
///     const NAME: &'static str = "normalised_descent";
///     fn update(
///         &self,
///         step: &mut Step<'_>,
///         theta: Tensor<2>,
///         g: Tensor<2>,
///         _slots: &mut [Slot<Tensor<2>>],
///     ) -> Tensor<2> {
///         let norm = g.clone().square().sum_dim(1).sqrt(); // one per parameter
///         theta - g / norm * step.lr
///     }
/// }
///
/// let mut theta = [1.0, 1.0];
/// TensorOptimizer::new(NormalisedDescent, &[2]).step(0.5, &mut theta, &[0.3, 0.4]);
/// assert!((theta[0] - 0.7).abs() < 1e-12 && (theta[1] - 0.6).abs() < 1e-12);
/// ```
pub trait TensorRule: Clone + Debug + Send + Sync + 'static {
    /// The name in text and in saved files, lower case: `"muon"`.
    const NAME: &'static str;

    /// Whether the rule is for parameters of this shape. Others are updated by [`rest`](Self::rest).
    fn takes(&self, _shape: &[usize]) -> bool {
        true
    }

    /// The rule for parameters that this one does not [take](Self::takes); `None` only if it takes
    /// all.
    fn rest(&self) -> Option<Rest> {
        None
    }

    /// The tensors kept per parameter of this shape, all zero at first.
    fn slots(&self, _shape: &[usize]) -> Vec<SlotShape> {
        Vec::new()
    }

    /// Names and first values of `f64` numbers kept per parameter, functions of rate and time only
    /// (what depends on a gradient is a slot).
    fn memory(&self) -> &'static [(&'static str, f64)] {
        &[]
    }

    /// The new Θ, with the slots brought up to date. Every argument is a batch: row b belongs to
    /// parameter b.
    fn update(
        &self,
        step: &mut Step<'_>,
        theta: Tensor<2>,
        g: Tensor<2>,
        slots: &mut [Slot<Tensor<2>>],
    ) -> Tensor<2>;

    /// [`update`](Self::update) of several batches, in their order. For a rule that can work on them together with fewer
    /// kernels, where a kernel costs much to start.
    fn update_all(&self, batches: Vec<Batch<'_>>) -> Vec<Tensor<2>> {
        let update =
            |mut batch: Batch<'_>| self.update(&mut batch.step, batch.theta, batch.g, batch.slots);
        batches.into_iter().map(update).collect()
    }

    /// The same rule with weight decay switched off. The default is for rules without decay.
    fn without_decay(&self) -> Self {
        self.clone()
    }

    /// The same rule with the momentum a schedule asks for; rules without one ignore it. It must keep
    /// the [slots](Self::slots).
    fn with_momentum(&self, _momentum: f64) -> Self {
        self.clone()
    }

    /// Conditions between hyper-parameters that no single range can state.
    ///
    /// # Errors
    /// [`OptimError::Conflict`] naming the fields.
    fn check(&self) -> Result<(), OptimError> {
        Ok(())
    }
}

/// What a batch has in common.
#[derive(Debug)]
pub struct Step<'a> {
    /// The learning rate, already scheduled.
    pub lr: f64,
    /// The number of this step, 1 at the first.
    pub t: u64,
    /// The shape of each parameter.
    pub shape: &'a [usize],
    /// The axis that counts outputs (neurons, filters): 0 in PyTorch's layout, 1 for Burn's dense layer
    /// `[in, out]`. 0 for parameters of rank 0 and 1.
    pub units: usize,
    /// The rule's [`memory`](TensorRule::memory).
    pub memory: &'a mut [f64],
}

/// Parameters of one shape, and what [`update`](TensorRule::update) takes of them.
#[derive(Debug)]
pub struct Batch<'a> {
    /// What they have in common.
    pub step: Step<'a>,
    /// Θ.
    pub theta: Tensor<2>,
    /// G.
    pub g: Tensor<2>,
    /// S.
    pub slots: &'a mut [Slot<Tensor<2>>],
}

/// A slot of a [`TensorRule`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotShape {
    /// Its name, as in saved files.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl SlotShape {
    /// A slot of any shape.
    pub fn new(name: impl Into<String>, shape: &[usize]) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The rule for parameters that a [`TensorRule`] does not take.
#[derive(Clone, Debug, PartialEq)]
pub struct Rest {
    /// The rule. Its own learning rate is not looked at.
    pub rule: RuleConfig,
    /// Its learning rate, as a multiple of that of the first rule.
    pub lr: f64,
}

/// A parameter of a batch, and what is remembered about it. Off the tape.
pub(crate) struct Piece<'a> {
    pub(crate) shape: &'a [usize],
    pub(crate) units: usize,
    pub(crate) theta: &'a mut DispatchTensor,
    pub(crate) grad: DispatchTensor,
    pub(crate) state: &'a mut ParameterState,
}

/// One step of all `pieces`, in batches of equal shape, type, device and number of steps.
pub(crate) fn step_all<R: TensorRule>(rule: &R, lr: f64, pieces: Vec<Piece<'_>>) {
    let mut batches: Vec<(Common, Vec<Piece<'_>>)> = Vec::new();
    for piece in pieces {
        if piece.state.step == 0 {
            piece.state.memory = rule.memory().iter().map(|(_, first)| *first).collect();
        }
        let common = Common::of(&piece);
        match batches.iter_mut().find(|(other, _)| *other == common) {
            Some((_, batch)) => batch.push(piece),
            None => batches.push((common, vec![piece])),
        }
    }
    batches.retain(|(common, _)| !common.shape.contains(&0));
    let on_gpu = (batches.iter()).all(|(_, batch)| batch.iter().all(|piece| is_ours(piece.theta)));
    if on_gpu {
        let stacks = batches.into_iter();
        let stacks = stacks.map(|(common, batch)| Stack::new(rule, common, batch));
        step_stacks(rule, lr, stacks);
    } else {
        // One after another, so that one at a time is in memory.
        for (common, batch) in batches {
            let stack = Stack::new(rule, common, batch);
            step_stacks(rule, lr, std::iter::once(stack));
        }
    }
}

/// What the parameters of a batch share.
#[derive(PartialEq)]
struct Common {
    shape: Vec<usize>,
    units: usize,
    dtype: DType,
    device: Device,
    step: u64,
    memory: Vec<f64>,
}

impl Common {
    fn of(piece: &Piece<'_>) -> Self {
        Self {
            shape: piece.shape.to_vec(),
            units: piece.units,
            dtype: piece.theta.dtype(),
            device: device_of(piece.theta),
            step: piece.state.step,
            memory: piece.state.memory.clone(),
        }
    }
}

/// The parameters of a batch on top of one another.
struct Stack<'a> {
    common: Common,
    pieces: Vec<Piece<'a>>,
    layout: Vec<SlotShape>,
    slots: Vec<Slot<Tensor<2>>>,
}

impl<'a> Stack<'a> {
    /// With Θ and G. The state of each gives its slots away.
    fn new<R: TensorRule>(
        rule: &R,
        common: Common,
        mut pieces: Vec<Piece<'a>>,
    ) -> (Self, [Tensor<2>; 2]) {
        let shape = &common.shape;
        let count = pieces.len();
        let theta = stacked(pieces.iter().map(|p| p.theta.clone()).collect(), shape);
        let g = stacked(pieces.iter().map(|p| p.grad.clone()).collect(), shape);
        // Sums of squares must stay finite; a NaN stays.
        let largest = common.dtype.finfo().map_or(f64::MAX, |info| info.max);
        let g = g.clamp(-largest.powf(0.4), largest.powf(0.4));
        let layout = rule.slots(shape);
        let first = pieces.iter().all(|piece| piece.state.slots.is_empty());
        let slots = layout.iter().enumerate().map(|(i, slot)| {
            let zeros = |count| Tensor::zeros([count, slot.len()], (&common.device, common.dtype));
            if first {
                return Slot::new(zeros(count));
            }
            let rows = pieces.iter().map(|piece| match piece.state.slots.get(i) {
                Some(tensor) => tensor.clone(),
                None => shaped(&slot.shape, zeros(1)),
            });
            Slot::new(stacked(rows.collect(), &slot.shape))
        });
        let slots = slots.collect();
        for piece in &mut pieces {
            piece.state.slots.clear();
        }
        let stack = Self {
            common,
            pieces,
            layout,
            slots,
        };
        (stack, [theta, g])
    }
}

fn step_stacks<'a, R: TensorRule>(
    rule: &R,
    lr: f64,
    stacks: impl Iterator<Item = (Stack<'a>, [Tensor<2>; 2])>,
) {
    let (mut stacks, given): (Vec<_>, Vec<_>) = stacks.unzip();
    let batches = stacks
        .iter_mut()
        .zip(given)
        .map(|(stack, [theta, g])| Batch {
            step: Step {
                lr,
                t: stack.common.step + 1,
                shape: &stack.common.shape,
                units: stack.common.units,
                memory: &mut stack.common.memory,
            },
            theta,
            g,
            slots: &mut stack.slots,
        });
    let thetas = rule.update_all(batches.collect());
    for (stack, theta) in stacks.into_iter().zip(thetas) {
        let Stack {
            common,
            pieces,
            layout,
            mut slots,
            ..
        } = stack;
        let count = pieces.len();
        let thetas = rows(theta, &common.shape, count);
        let slots = slots.iter_mut().zip(&layout);
        let mut slots: Vec<_> = slots
            .map(|(slot, layout)| rows(slot.take(), &layout.shape, count).into_iter())
            .collect();
        for (piece, theta) in pieces.into_iter().zip(thetas) {
            *piece.theta = theta;
            let state = piece.state;
            state.step += 1;
            state.memory.clone_from(&common.memory);
            state.slots = slots.iter_mut().filter_map(Iterator::next).collect();
        }
    }
}

/// A [`TensorRule`] behind the boundary that all rules share.
#[derive(Clone, Debug)]
pub(crate) struct Shaped<R>(pub(crate) R);

impl<R: TensorRule> AnyRule for Shaped<R> {
    fn rule_name(&self) -> &'static str {
        R::NAME
    }
    fn slot_shapes(&self, shape: &[usize]) -> Vec<SlotShape> {
        self.0.slots(shape)
    }
    fn memory_names(&self) -> &'static [(&'static str, f64)] {
        self.0.memory()
    }
    fn at_momentum(&self, momentum: f64) -> Arc<dyn AnyRule> {
        Arc::new(Self(self.0.with_momentum(momentum)))
    }
    fn step_all(&self, lr: f64, entries: &mut [Entry<'_>]) {
        let mut thetas: Vec<_> = entries.iter().map(|(item, _)| item.theta()).collect();
        let pieces = entries.iter_mut().zip(&mut thetas);
        let pieces = pieces.map(|((item, state), theta)| {
            state.follow(theta);
            Piece {
                shape: &item.info.shape,
                units: item.info.kind.unit_axis(item.info.shape.len()).unwrap_or(0),
                theta,
                grad: item.grad.clone(),
                state,
            }
        });
        step_all(&self.0, lr, pieces.collect());
        for ((item, _), theta) in entries.iter_mut().zip(thetas) {
            item.set_theta(theta);
        }
    }
    fn averages(&self) -> bool {
        false
    }
    fn averaged(&self, theta: DispatchTensor, _state: &ParameterState) -> DispatchTensor {
        theta
    }
}

/// A [`TensorRule`] on one parameter of `f64` numbers: the laboratory's execution, as
/// [`VectorOptimizer`](crate::VectorOptimizer) is for an elementwise [`Rule`](crate::Rule).
///
/// The first dimension counts outputs, as in PyTorch.
#[derive(Clone, Debug)]
pub struct TensorOptimizer<R: TensorRule> {
    rule: R,
    shape: Vec<usize>,
    state: ParameterState,
}

impl<R: TensorRule> TensorOptimizer<R> {
    /// An optimizer for a parameter of this shape, before its first step.
    pub fn new(rule: R, shape: &[usize]) -> Self {
        Self {
            rule,
            shape: shape.to_vec(),
            state: ParameterState::default(),
        }
    }

    /// One step: θ, row by row, changes in place.
    ///
    /// # Panics
    /// If `theta` or `gradient` has another number of entries than the shape.
    pub fn step(&mut self, lr: f64, theta: &mut [f64], gradient: &[f64]) {
        let n: usize = self.shape.iter().product();
        assert_eq!(theta.len(), n, "θ has another size than the shape");
        assert_eq!(gradient.len(), n, "g has another size than the shape");
        let device = laboratory();
        let put = |values: &[f64]| {
            let data = TensorData::new(values.to_vec(), [1, n]);
            shaped(&self.shape, Tensor::from_data(data, (&device, DType::F64)))
        };
        let mut new = put(theta);
        let piece = Piece {
            shape: &self.shape,
            units: 0,
            theta: &mut new,
            grad: put(gradient),
            state: &mut self.state,
        };
        step_all(&self.rule, lr, vec![piece]);
        let data = line(self.shape.len(), n, new).into_data();
        for (x, new) in theta.iter_mut().zip(data.iter::<f64>()) {
            *x = new;
        }
    }

    /// The values of slot `index` ([`TensorRule::slots`] names them); empty before the first step.
    pub fn slot(&self, index: usize) -> Vec<f64> {
        let layout = self.rule.slots(&self.shape);
        match (layout.get(index), self.state.slots.get(index)) {
            (Some(slot), Some(tensor)) => {
                let data = line(slot.shape.len(), slot.len(), tensor.clone()).into_data();
                data.iter::<f64>().collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Where `f64` tensors live.
fn laboratory() -> Device {
    #[cfg(feature = "flex")]
    return Device::flex();
    #[cfg(not(feature = "flex"))]
    return Device::default();
}

/// The iterates θ₁, θ₂, … of a rule for a parameter of shape `shape` from `theta0` on a given sequence
/// of gradients, all row by row; see [`trajectory`](crate::trajectory).
pub fn tensor_trajectory<R: TensorRule>(
    rule: &R,
    lr: f64,
    shape: &[usize],
    theta0: &[f64],
    gradients: impl IntoIterator<Item = impl AsRef<[f64]>>,
) -> Vec<Vec<f64>> {
    let mut optimizer = TensorOptimizer::new(rule.clone(), shape);
    let mut theta = theta0.to_vec();
    gradients
        .into_iter()
        .map(|g| {
            optimizer.step(lr, &mut theta, g.as_ref());
            theta.clone()
        })
        .collect()
}
