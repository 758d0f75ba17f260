//! Normalisation, and its evaluation as scale and shift, on the tape.
//!
//! Kept are x, the residual where the activation needs it again, and vectors; z and x̂ are computed anew.

use burn::backend::Autodiff;
use burn::backend::AutodiffBackend;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;

use super::record;
use crate::cpu::activation::Act;
use crate::joint::Joint;
use crate::kernels::{ChannelGradients, ChannelMap, Kernels, Moments};
use crate::trace::Call;
use crate::traced::{forward, gradient};

/// What a map of channels is made of, on the tape.
pub(super) struct Inputs<B: Kernels, C: CheckpointStrategy> {
    /// x, scale, shift.
    tensors: [FloatTensor<Autodiff<B, C>>; 3],
    residual: Option<FloatTensor<Autodiff<B, C>>>,
    act: Act,
}

impl<B: Kernels, C: CheckpointStrategy> Inputs<B, C> {
    pub(super) fn new(
        x: FloatTensor<Autodiff<B, C>>,
        scale: FloatTensor<Autodiff<B, C>>,
        shift: FloatTensor<Autodiff<B, C>>,
        residual: Option<FloatTensor<Autodiff<B, C>>>,
        act: Act,
    ) -> Self {
        Self {
            tensors: [x, scale, shift],
            residual,
            act,
        }
    }

    fn map(&self) -> ChannelMap<B> {
        let [x, scale, shift] = self.tensors.each_ref().map(|t| t.primitive().clone());
        ChannelMap {
            x,
            scale,
            shift,
            residual: self.residual.as_ref().map(|r| r.primitive().clone()),
            act: self.act,
        }
    }

    /// What the backward pass needs: behind the identity nobody asks what the residual was.
    fn kept(&self) -> ChannelMap<B> {
        let mut map = self.map();
        if self.act == Act::Identity {
            map.residual = None;
        }
        map
    }

    /// `output` on the tape, with this step behind it.
    fn record<S>(
        &self,
        step: S,
        state: impl FnOnce() -> State<B>,
        output: FloatTensor<B>,
    ) -> FloatTensor<Autodiff<B, C>>
    where
        S: Backward<B, 3, State = State<B>> + Backward<B, 4, State = State<B>>,
    {
        let [x, scale, shift] = &self.tensors;
        let [x, scale, shift] = [x.node(), scale.node(), shift.node()];
        match &self.residual {
            Some(residual) => {
                record::<B, C, S, 4>(step, [x, scale, shift, residual.node()], state, output)
            }
            None => record::<B, C, S, 3>(step, [x, scale, shift], state, output),
        }
    }
}

#[derive(Clone, Debug)]
struct State<B: Kernels> {
    map: ChannelMap<B>,
    statistics: Statistics<B>,
    call: Call,
}

/// Where x̂ comes from.
#[derive(Clone, Debug)]
enum Statistics<B: Kernels> {
    /// The map is no normalisation.
    Given,
    /// μ, v of the batch, and ε.
    Batch(Moments<B>, f64),
    /// μ, v of the batches of all ranks.
    Joint(Moments<B>, Joint),
}

#[derive(Debug)]
struct Map;

/// N = 3 parents, or 4 with a residual.
impl<B: Kernels, const N: usize> Backward<B, N> for Map {
    type State = State<B>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let mut parents = ops.parents.into_iter();
        let [x, scale, shift, residual] = std::array::from_fn(|_| parents.next().flatten());
        let State {
            map,
            statistics,
            call,
        } = ops.state;
        let of_residual = residual.is_some();
        let found = match statistics {
            Statistics::Given => gradient::scale_shift::<B>(call, map, dy, of_residual),
            Statistics::Batch(moments, epsilon) => {
                gradient::normalise::<B>(call, map, moments, epsilon, dy, of_residual)
            }
            // What several ranks do together is not traced.
            Statistics::Joint(moments, how) => how.gradient(map, moments, dy, of_residual),
        };
        let ChannelGradients {
            x: dx,
            scale: dscale,
            shift: dshift,
            residual: dresidual,
        } = found;
        let found = [Some(dx), Some(dscale), Some(dshift), dresidual];
        for (node, gradient) in [x, scale, shift, residual].into_iter().zip(found) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

/// y, mean and variance; the moments are off the tape.
#[allow(clippy::type_complexity, reason = "three tensors")]
pub(super) fn normalise<B: Kernels, C: CheckpointStrategy>(
    inputs: &Inputs<B, C>,
    epsilon: f64,
) -> (
    FloatTensor<Autodiff<B, C>>,
    FloatTensor<Autodiff<B, C>>,
    FloatTensor<Autodiff<B, C>>,
) {
    let call = Call::next();
    let (y, moments) = forward::normalise::<B>(call, inputs.map(), epsilon);
    let state = || State {
        map: inputs.kept(),
        statistics: Statistics::Batch(moments.clone(), epsilon),
        call,
    };
    let y = inputs.record(Map, state, y);
    let off_tape = <Autodiff<B, C> as AutodiffBackend>::from_inner;
    (y, off_tape(moments.mean), off_tape(moments.variance))
}

/// Mean and variance, off the tape.
#[allow(clippy::type_complexity, reason = "two tensors")]
pub(super) fn moments<B: Kernels, C: CheckpointStrategy>(
    x: &FloatTensor<Autodiff<B, C>>,
) -> (FloatTensor<Autodiff<B, C>>, FloatTensor<Autodiff<B, C>>) {
    let moments = B::moments(x.primitive().clone());
    let off_tape = <Autodiff<B, C> as AutodiffBackend>::from_inner;
    (off_tape(moments.mean), off_tape(moments.variance))
}

pub(super) fn joint<B: Kernels, C: CheckpointStrategy>(
    inputs: &Inputs<B, C>,
    moments: [&FloatTensor<Autodiff<B, C>>; 2],
    how: Joint,
) -> FloatTensor<Autodiff<B, C>> {
    let [mean, variance] = moments.map(|moment| moment.primitive().clone());
    let moments = Moments { mean, variance };
    let y = B::normalise_by(inputs.map(), &moments, how.epsilon);
    let state = || State {
        map: inputs.kept(),
        statistics: Statistics::Joint(moments.clone(), how),
        call: Call::next(),
    };
    inputs.record(Map, state, y)
}

pub(super) fn scale_shift<B: Kernels, C: CheckpointStrategy>(
    inputs: &Inputs<B, C>,
) -> FloatTensor<Autodiff<B, C>> {
    let call = Call::next();
    let y = forward::scale_shift::<B>(call, inputs.map());
    let state = || State {
        map: inputs.kept(),
        statistics: Statistics::Given,
        call,
    };
    inputs.record(Map, state, y)
}
