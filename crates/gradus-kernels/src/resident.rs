//! Weights whose memory a step can write to while they stay the tensors that they are.
//!
//! To take a weight off the tape and put it back on costs more than the step of a small parameter: a
//! node, a graph and a lock for each. Nor can a tensor on the tape give its memory out for writing. So
//! the first step moves each weight into memory whose address is known ([`settled`]); from then on a
//! step takes the tensor as it is, on the tape or not, writes to its memory, and gives it back
//! ([`Resident`]). As in PyTorch, the parameter stays the same leaf.
//!
//! This is done only while nobody could see it: when the tensor is the only one in that memory (a clone
//! of the model, a graph not yet differentiated, a tensor kept by the caller are others). Else the
//! weight is to be settled in new memory once more, and the others keep the old values.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use gradus_kernels::resident::{Home, Resident, flex_tensor, settled};
//!
//! let weight = Tensor::<1>::from_floats([1.0, 2.0], &Device::flex()).into_dispatch();
//! let (weight, home) = settled(flex_tensor(&weight).unwrap());
//! let mut resident = Resident::of(weight, &home).unwrap();
//! resident.memory_mut::<f32>()[1] = 5.0;
//! let weight = Tensor::<1>::from_dispatch(resident.into_tensor());
//! assert_eq!(weight.clone().into_data().to_vec::<f32>().unwrap(), [1.0, 5.0]);
//!
//! // Somebody else has it too.
//! let other = weight.clone();
//! assert!(Resident::of(weight.into_dispatch(), &home).is_err());
//! # drop(other);
//! ```

use std::mem::MaybeUninit;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Weak};

use burn::backend::{BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind};
use burn::tensor::{AllocationProperty, Bytes, DType, Element};
use burn_flex::FlexTensor;
use burn_std::sync::Arc as Shared;
use burn_std::{AccessError, AccessPolicy, AllocationController};

use crate::memory::{ALIGNMENT, Memory, Number};

/// Where a weight was left by the step before; empty at first, and once the memory is gone.
#[derive(Clone, Debug, Default)]
pub struct Home(Weak<Room>);

/// Memory of one tensor.
#[derive(Debug)]
struct Room(Memory);

// SAFETY: the room owns its memory, which is freed once; who may read and write it is settled where that
// is done, and a shared room gives out its address only.
unsafe impl Sync for Room {}

impl Room {
    /// Room for so many bytes, and always for some more: see [`Resident::of`].
    fn copy_of(bytes: &[u8]) -> Self {
        let memory = Memory::uninitialised((bytes.len() + 1).next_multiple_of(ALIGNMENT));
        // SAFETY: the new memory is at least as long, and lies elsewhere.
        unsafe {
            bytes
                .as_ptr()
                .copy_to_nonoverlapping(memory.start().as_ptr(), bytes.len());
        }
        Self(memory)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: this is the last owner.
        unsafe { self.0.free() }
    }
}

/// What makes a room the memory of a tensor. There is one for each room, which is not cloned.
struct Owner(Arc<Room>);

impl AllocationController for Owner {
    fn alloc_align(&self) -> usize {
        // Burn allocates copies with the same alignment, and up to this one.
        align_of::<u128>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(
        &mut self,
        _: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let memory = &self.0.0;
        // SAFETY: the memory lives as long as the room, and `&mut self` is the only way to it: the
        // other, `Resident`, is open only while it has the tensor, and this inside, to itself.
        Ok(
            unsafe {
                std::slice::from_raw_parts_mut(memory.start().as_ptr().cast(), memory.size())
            },
        )
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let memory = &self.0.0;
        // SAFETY: as in `memory_mut`, shared.
        Ok(unsafe { std::slice::from_raw_parts(memory.start().as_ptr().cast(), memory.size()) })
    }

    fn capacity(&self) -> usize {
        self.0.0.size()
    }
}

/// The values of `tensor` in new memory, off the tape, and where that is.
#[must_use]
pub fn settled(tensor: &FlexTensor) -> (DispatchTensor, Home) {
    let copy;
    let whole = if is_whole(tensor) {
        tensor
    } else {
        copy = tensor.to_contiguous();
        &copy
    };
    let room = Arc::new(Room::copy_of(whole.bytes()));
    let owner = Box::new(Owner(Arc::clone(&room)));
    // SAFETY: `copy_of` wrote so many bytes.
    let bytes = unsafe { Bytes::from_controller(owner, whole.bytes().len()) };
    let tensor = FlexTensor::new(bytes, whole.layout().clone(), whole.dtype());
    (off_tape(tensor), Home(Arc::downgrade(&room)))
}

/// A flex tensor as Burn's dispatch holds it, off the tape.
#[must_use]
pub fn off_tape(tensor: FlexTensor) -> DispatchTensor {
    DispatchTensor {
        kind: DispatchTensorKind::Flex(BackendTensor::Float(tensor)),
        autodiff: DispatchAutodiffContext::Disabled,
    }
}

/// The memory's tensor of a float tensor on flex, also of one on the tape; `None` for any other.
#[must_use]
pub fn flex_tensor(tensor: &DispatchTensor) -> Option<&FlexTensor> {
    match &tensor.kind {
        DispatchTensorKind::Flex(BackendTensor::Float(t)) => Some(t),
        DispatchTensorKind::Autodiff(inner) => match &**inner {
            DispatchTensorKind::Flex(BackendTensor::Autodiff(t)) => Some(t.primitive()),
            _ => None,
        },
        _ => None,
    }
}

/// Whether the memory is exactly the tensor's elements, in row-major order.
#[must_use]
pub fn is_whole(tensor: &FlexTensor) -> bool {
    let layout = tensor.layout();
    let mut elements = 1;
    for (&size, &stride) in layout.shape().iter().zip(layout.strides()).rev() {
        if size > 1 && stride != elements as isize {
            return false;
        }
        elements *= size;
    }
    layout.start_offset() == 0 && tensor.bytes().len() == elements * tensor.dtype().size()
}

/// A weight at home, of which there is no other tensor: its memory can be written.
#[derive(Debug)]
pub struct Resident {
    /// The only tensor in the room.
    tensor: DispatchTensor,
    room: Arc<Room>,
    /// Bytes of the tensor.
    len: usize,
    dtype: DType,
}

impl Resident {
    /// The weight where it lies, if that is `home` and no other tensor lies there; else the tensor
    /// back.
    #[allow(
        clippy::result_large_err,
        reason = "the other case is a tensor, and as large"
    )]
    pub fn of(tensor: DispatchTensor, home: &Home) -> Result<Self, DispatchTensor> {
        let room = match flex_tensor(&tensor) {
            Some(flex) if is_whole(flex) && is_alone(flex) => home.0.upgrade().filter(|room| {
                // Bytes can be wrapped so as to be shared without being counted; a wrapper has no room
                // to spare.
                let bytes = flex.data_arc();
                bytes.capacity() == room.0.size()
                    && bytes.as_ptr() == room.0.start().as_ptr().cast_const()
            }),
            _ => None,
        };
        let Some(room) = room else {
            return Err(tensor);
        };
        let (len, dtype) = match flex_tensor(&tensor) {
            Some(flex) => (flex.bytes().len(), flex.dtype()),
            None => return Err(tensor),
        };
        Ok(Self {
            tensor,
            room,
            len,
            dtype,
        })
    }

    /// The tensor, as it was given.
    #[must_use]
    pub fn into_tensor(self) -> DispatchTensor {
        self.tensor
    }

    /// The type of its elements.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The weight for reading, off the tape. It must not be kept: who does, makes the next
    /// [`memory_mut`](Self::memory_mut) panic.
    #[must_use]
    pub fn view(&self) -> &FlexTensor {
        match flex_tensor(&self.tensor) {
            Some(flex) => flex,
            None => unreachable!("`of` takes flex tensors only"),
        }
    }

    /// The weight.
    ///
    /// # Panics
    /// If a tensor made of [`view`](Self::view) is still there, or the elements are of another type.
    #[must_use]
    pub fn memory_mut<T: Number + Element>(&mut self) -> &mut [T] {
        assert!(
            is_alone(self.view()),
            "a tensor of a weight was kept during the step"
        );
        assert!(T::dtype() == self.dtype, "the weight is of another type");
        // SAFETY: `start` is aligned for every type, and the first `len` bytes are written. Nobody else
        // reads or writes them while the slice lives: they are the memory of `self.tensor`, which was
        // moved in here; tensors that share it are counted, and there are none, nor a weak way to one.
        // Whoever wants to use this one, or to make a second of it, needs `self`, which is borrowed.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.room.0.start().as_ptr().cast(),
                self.len / size_of::<T>(),
            )
        }
    }
}

/// Whether there is no other tensor, and no way to another tensor, in this one's memory.
fn is_alone(tensor: &FlexTensor) -> bool {
    let no_way = Shared::weak_count(&tensor.data_arc()) == 0;
    let alone = no_way && tensor.is_unique();
    // Who had the memory before and gave it up on another thread has finished reading.
    fence(Ordering::Acquire);
    alone
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tensor};

    fn weight() -> (DispatchTensor, Home) {
        let tensor = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &Device::flex());
        settled(flex_tensor(&tensor.into_dispatch()).unwrap())
    }

    fn numbers(tensor: DispatchTensor) -> Vec<f32> {
        let data = Tensor::<2>::from_dispatch(tensor).into_data();
        data.try_to_vec().unwrap()
    }

    #[test]
    fn a_weight_is_written_where_it_lies() {
        let (tensor, home) = weight();
        let address = flex_tensor(&tensor).unwrap().bytes().as_ptr();
        let mut resident = Resident::of(tensor, &home).unwrap();
        resident.memory_mut::<f32>()[3] = 9.0;
        let tensor = resident.into_tensor();
        assert_eq!(flex_tensor(&tensor).unwrap().bytes().as_ptr(), address);
        assert_eq!(numbers(tensor), [1.0, 2.0, 3.0, 9.0]);
        assert!(
            home.0.upgrade().is_none(),
            "the memory went with the tensor"
        );
    }

    #[test]
    fn on_the_tape_it_stays_the_same_leaf() {
        let (tensor, home) = weight();
        let leaf = Tensor::<2>::from_inner(Tensor::from_dispatch(tensor)).require_grad();
        let mut resident = Resident::of(leaf.into_dispatch(), &home).unwrap();
        resident.memory_mut::<f32>().fill(2.0);
        let leaf = Tensor::<2>::from_dispatch(resident.into_tensor());
        assert!(leaf.is_require_grad());
        let grads = leaf.clone().square().sum().backward();
        assert_eq!(
            numbers(leaf.grad(&grads).unwrap().into_dispatch()),
            [4.0; 4]
        );
    }

    #[test]
    fn who_shares_the_memory_sees_no_change() {
        let (tensor, home) = weight();
        let other = tensor.clone();
        let tensor = Resident::of(tensor, &home).unwrap_err();
        drop(other);
        // A part, another home, a turned view.
        let turned = Tensor::<2>::from_dispatch(tensor)
            .transpose()
            .into_dispatch();
        let tensor = Resident::of(turned, &home).unwrap_err();
        let tensor = Tensor::<2>::from_dispatch(tensor)
            .transpose()
            .into_dispatch();
        let (_elsewhere, foreign) = weight();
        let tensor = Resident::of(tensor, &foreign).unwrap_err();
        let tensor = Resident::of(tensor, &Home::default()).unwrap_err();
        assert!(Resident::of(tensor, &home).is_ok());
    }

    #[test]
    #[should_panic(expected = "kept during the step")]
    fn a_view_that_is_kept_makes_writing_panic() {
        let (tensor, home) = weight();
        let mut resident = Resident::of(tensor, &home).unwrap();
        let _kept = resident.view().clone();
        let _ = resident.memory_mut::<f32>();
    }

    #[test]
    #[should_panic(expected = "kept during the step")]
    fn a_way_back_to_a_view_makes_writing_panic() {
        let (tensor, home) = weight();
        let mut resident = Resident::of(tensor, &home).unwrap();
        let _way = Shared::downgrade(&resident.view().data_arc());
        let _ = resident.memory_mut::<f32>();
    }

    #[test]
    #[should_panic(expected = "another type")]
    fn another_type_is_refused() {
        let (tensor, home) = weight();
        let _ = Resident::of(tensor, &home).unwrap().memory_mut::<f64>();
    }

    #[test]
    fn empty_weights_have_a_home_too() {
        let tensor = Tensor::<1>::zeros([0], &Device::flex()).into_dispatch();
        let (tensor, home) = settled(flex_tensor(&tensor).unwrap());
        let mut resident = Resident::of(tensor, &home).unwrap();
        assert!(resident.memory_mut::<f32>().is_empty());
    }
}
