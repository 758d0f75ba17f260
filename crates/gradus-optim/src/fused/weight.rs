//! Weights on flex during the step: taken as they are, read, written, given back. See
//! [`gradus_kernels::resident`].

use super::memory::{Element, into_flex, whole};
use burn::backend::DispatchTensor;
use burn::tensor::DType;
use gradus_kernels::resident::{Home, Resident, flex_tensor, off_tape, settled};

/// Whether the step can write to the memory of such a tensor, on the tape or not.
pub(crate) fn is_ours(tensor: &DispatchTensor) -> bool {
    flex_tensor(tensor).is_some_and(|flex| matches!(flex.dtype(), DType::F32 | DType::F64))
}

/// The values of `tensor`, which [is ours](is_ours), moved to memory that becomes their home; off the
/// tape.
pub(crate) fn settle(tensor: DispatchTensor, home: &mut Home) -> DispatchTensor {
    let Some(flex) = flex_tensor(&tensor) else {
        return tensor;
    };
    let (tensor, new) = settled(flex);
    *home = new;
    tensor
}

/// The weight for reading during the step.
pub(crate) fn view(resident: &Resident) -> DispatchTensor {
    off_tape(resident.view().clone())
}

/// The weight as it is now, for keeping.
pub(crate) fn copied(resident: &Resident) -> DispatchTensor {
    settled(resident.view()).0
}

/// The weight ← `values`, of the same number and type.
pub(crate) fn write(resident: &mut Resident, values: DispatchTensor) {
    let values = whole(into_flex(values));
    if values.bytes().as_ptr() == resident.view().bytes().as_ptr() {
        return; // They are the weight itself.
    }
    match resident.dtype() {
        DType::F64 => (resident.memory_mut::<f64>()).copy_from_slice(f64::memory(&values)),
        _ => (resident.memory_mut::<f32>()).copy_from_slice(f32::memory(&values)),
    }
}
