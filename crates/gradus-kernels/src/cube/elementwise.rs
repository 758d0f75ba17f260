//! Activations by themselves, and sums of two tensors, in the order of memory that images have.
//!
//! ```text
//! y = f(x),    dx = dy·f′(x),    a + b
//! ```
//! Burn fuses such operations too, but gives results in the order of its own choice.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::function::{self, Function};
use super::rows::{Plan, Rows};
use super::sums::end_of;
use crate::cpu::activation::Act;

/// What is computed from x and, perhaps, another tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    /// f(x).
    Value,
    /// other·f′(x).
    Gradient,
    /// x + other.
    Sum,
}

pub(super) fn activate(x: CubeTensor, act: Act) -> CubeTensor {
    launch(Rows::of(x), None, What::Value, act)
}

pub(super) fn activate_gradient(x: CubeTensor, dy: CubeTensor, act: Act) -> CubeTensor {
    launch(Rows::of(x), Some(Rows::of(dy)), What::Gradient, act)
}

pub(super) fn sum_of(a: CubeTensor, b: CubeTensor) -> CubeTensor {
    launch(Rows::of(a), Some(Rows::of(b)), What::Sum, Act::Identity)
}

fn launch(x: Rows, other: Option<Rows>, what: What, act: Act) -> CubeTensor {
    let y = Rows::empty(x.tensor(), x.tensor().meta.shape(), x.tensor().dtype);
    let mut tensors = vec![&x, &y];
    tensors.extend(&other);
    let plan = Plan::of(&tensors);
    let (function, slope) = Function::of(act);
    // SAFETY: a unit reads and writes rows below `rows` and columns below `columns`, by the pitch of each tensor.
    unsafe {
        elementwise_kernel::launch_unchecked(
            &x.tensor().client,
            plan.count(),
            plan.dim(),
            plan.address,
            plan.vector,
            x.tensor().clone().into_tensor_arg(),
            other
                .as_ref()
                .map(|o| o.tensor().clone().into_tensor_arg())
                .into(),
            y.tensor().clone().into_tensor_arg(),
            slope,
            plan.rows,
            plan.block,
            plan.columns,
            x.pitch(&plan),
            other.as_ref().map_or(0, |o| o.pitch(&plan)),
            y.pitch(&plan),
            plan.width,
            plan.lanes,
            function,
            what,
            x.element(),
        );
    }
    y.into_tensor()
}

#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "arguments of a kernel")]
fn elementwise_kernel<E: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    other: ComptimeOption<&Tensor<Vector<E, N>>>,
    y: &mut Tensor<Vector<E, N>>,
    slope: f32,
    rows: usize,
    block: usize,
    columns: usize,
    x_pitch: usize,
    other_pitch: usize,
    y_pitch: usize,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
    #[comptime] function: Function,
    #[comptime] what: What,
    #[define(E)] _element: ElemType,
) {
    let column = CUBE_POS_X as usize * width + UNIT_POS_X as usize;
    if column < columns {
        let first = CUBE_POS_Y as usize * block;
        let end = end_of(first, block, rows);
        let mut row = first + UNIT_POS_Y as usize;
        while row < end {
            let value = Vector::<f32, N>::cast_from(x[row * x_pitch + column]);
            #[comptime]
            let other = match other {
                ComptimeOption::Some(other) => {
                    Vector::<f32, N>::cast_from(other[row * other_pitch + column])
                }
                ComptimeOption::None => value,
            };
            let result = match comptime!(what) {
                What::Value => function::value::<N>(value, slope, function),
                What::Gradient => function::gradient::<N>(value, other, slope, function),
                What::Sum => value + other,
            };
            y[row * y_pitch + column] = Vector::cast_from(result);
            row += lanes;
        }
    }
}
