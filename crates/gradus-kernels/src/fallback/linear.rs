//! The linear layer; formulas in [`crate::cpu::linear`].

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};

use super::activation::{activate, activate_gradient};
use super::{narrow, wide};
use crate::cpu::activation::Act;
use crate::kernels::LinearState;

pub(crate) fn linear_act<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    act: Act,
    with_z: bool,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    let z = B::linear(x, weight, bias);
    let kept = (with_z && act != Act::Identity).then(|| z.clone());
    (activate::<B>(z, act), kept)
}

pub(crate) fn linear_act_gradient<B: Backend>(
    state: LinearState<B>,
    dy: FloatTensor<B>,
    of_bias: bool,
) -> [Option<FloatTensor<B>>; 3] {
    let LinearState { x, weight, z, act } = state;
    let dz = match z {
        Some(z) => activate_gradient::<B>(z, dy, act),
        None => dy,
    };
    [
        weight.map(|weight| B::linear_x_backward(weight, dz.clone())),
        x.map(|x| B::linear_weight_backward(x, dz.clone())),
        of_bias.then(|| {
            let dtype = dz.dtype();
            narrow::<B>(B::linear_bias_backward(wide::<B>(dz)), dtype)
        }),
    ]
}
