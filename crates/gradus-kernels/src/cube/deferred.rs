//! Operations of ours in the queue of Burn's fusion.
//!
//! On a GPU operations wait until somebody needs their results. One that Burn does not know is registered with
//! the shapes and types of what it will give; when its turn comes it gets the tensors themselves, with their memory
//! and the order it is in, and starts its kernels.

use burn::backend::ExecutionError;
use burn::backend::fusion::FusionTensor;
use burn::backend::fusion::custom::{
    CustomOpIr, HandleContainer, Operation, OperationIr, StreamId, TensorId, TensorIr,
};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::fusion::{CubeFusionHandle, FusionCubeRuntime};
use burn_cubecl::tensor::CubeTensor;

/// A tensor whose operations wait.
pub(super) type Waiting = FusionTensor<FusionCubeRuntime>;

/// `run` of `inputs` (at least one) when its turn comes. It gives tensors of the shapes and types in `outputs`.
pub(super) fn deferred<const O: usize>(
    name: &'static str,
    inputs: Vec<Waiting>,
    outputs: [(Shape, DType); O],
    run: impl Fn(Vec<CubeTensor>) -> [CubeTensor; O] + Send + Sync + 'static,
) -> [Waiting; O] {
    let client = inputs[0].client.clone();
    let inputs: Vec<TensorIr> = inputs.into_iter().map(Waiting::into_ir).collect();
    let outputs =
        outputs.map(|(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype));
    let description = CustomOpIr::new(name, &inputs, &outputs);
    let operation = Deferred {
        name,
        inputs,
        outputs: outputs.map(|output| output.id),
        run,
    };
    let stream = StreamId::current();
    let mut registered = client
        .register(stream, OperationIr::Custom(description), operation)
        .into_iter();
    std::array::from_fn(|_| {
        let Some(output) = registered.next() else {
            unreachable!("there are as many outputs as were described")
        };
        output
    })
}

struct Deferred<const O: usize, F> {
    name: &'static str,
    inputs: Vec<TensorIr>,
    outputs: [TensorId; O],
    run: F,
}

impl<const O: usize, F> std::fmt::Debug for Deferred<O, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl<const O: usize, F> Operation<FusionCubeRuntime> for Deferred<O, F>
where
    F: Fn(Vec<CubeTensor>) -> [CubeTensor; O] + Send + Sync,
{
    fn execute(
        &self,
        handles: &mut HandleContainer<CubeFusionHandle>,
    ) -> Result<(), ExecutionError> {
        // A tensor of indices is looked up in the same way: on this backend they are of one Rust type.
        let inputs = self
            .inputs
            .iter()
            .map(|input| handles.get_float_tensor::<CubeBackend>(input))
            .collect();
        for (id, tensor) in self.outputs.iter().zip((self.run)(inputs)) {
            handles.register_float_tensor::<CubeBackend>(id, tensor);
        }
        Ok(())
    }
}
