//! The linear layer on the CPU backend.

use burn::backend::Flex;
use burn::tensor::{DType, Shape};
use burn_flex::{FlexTensor, Layout};

use super::images::{contiguous, vector};
use crate::cpu::activation::Act;
use crate::cpu::linear::{self, LinearBackward, LinearGradients, LinearShape};
use crate::kernels::LinearState;
use crate::memory::Buffer;
use crate::profile::span;

fn slice(x: &FlexTensor) -> &[f32] {
    x.storage()
}

fn size(x: &FlexTensor) -> [usize; 2] {
    let shape = x.layout().shape();
    [shape[0], shape[1]]
}

fn matrix(buffer: Buffer, size: [usize; 2]) -> FlexTensor {
    FlexTensor::new(
        buffer.into(),
        Layout::contiguous(Shape::from(size)),
        DType::F32,
    )
}

pub(super) fn linear_act(
    x: FlexTensor,
    weight: FlexTensor,
    bias: Option<FlexTensor>,
    act: Act,
    with_z: bool,
) -> (FlexTensor, Option<FlexTensor>) {
    let (x, weight, bias) = (contiguous(x), contiguous(weight), bias.map(contiguous));
    let ([batch, inputs], [_, outputs]) = (size(&x), size(&weight));
    let shape = LinearShape {
        batch,
        inputs,
        outputs,
    };
    let _span = span("linear", || vec![batch, inputs, outputs]);
    let mut y = Buffer::new(batch * outputs);
    let mut z = (with_z && act != Act::Identity).then(|| Buffer::new(y.len()));
    linear::linear(
        &shape,
        slice(&x),
        slice(&weight),
        bias.as_ref().map(slice),
        act,
        z.as_deref_mut(),
        &mut y,
    );
    let matrix = |buffer| matrix(buffer, [batch, outputs]);
    (matrix(y), z.map(matrix))
}

pub(super) fn linear_act_gradient(
    state: LinearState<Flex>,
    dy: FlexTensor,
    of_bias: bool,
) -> [Option<FlexTensor>; 3] {
    let dy = contiguous(dy);
    let [x, weight, z] = [state.x, state.weight, state.z].map(|t| t.map(contiguous));
    let [batch, outputs] = size(&dy);
    let inputs = match (&x, &weight) {
        (Some(x), _) => size(x)[1],
        (None, Some(weight)) => size(weight)[0],
        (None, None) => 0,
    };
    let _span = span("linear_gradient", || vec![batch, inputs, outputs]);
    let mut dx = weight.is_some().then(|| Buffer::new(batch * inputs));
    let mut dw = x.is_some().then(|| Buffer::new(inputs * outputs));
    let mut db = of_bias.then(|| vec![0.0; outputs]);
    let args = LinearBackward {
        shape: LinearShape {
            batch,
            inputs,
            outputs,
        },
        // What is absent is not read: its gradient is not asked for.
        x: x.as_ref().map_or(&[], slice),
        w: weight.as_ref().map_or(&[], slice),
        z: z.as_ref().map(slice),
        dy: slice(&dy),
        act: state.act,
    };
    let gradients = LinearGradients {
        dx: dx.as_deref_mut(),
        dw: dw.as_deref_mut(),
        db: db.as_deref_mut(),
    };
    linear::linear_backward(&args, gradients);
    [
        dx.map(|dx| matrix(dx, [batch, inputs])),
        dw.map(|dw| matrix(dw, [inputs, outputs])),
        db.map(vector),
    ]
}
