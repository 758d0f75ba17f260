//! A pool's buffer as the memory of a Burn tensor.

use std::mem::MaybeUninit;

use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes};

use crate::memory::{Buffer, Number};

/// Owns a buffer for [`Bytes`]; it goes back to the pool with the last tensor that uses it.
struct Pooled<T: Number>(Buffer<T>);

impl<T: Number> From<Buffer<T>> for Bytes {
    fn from(buffer: Buffer<T>) -> Self {
        let len = size_of_val::<[T]>(&buffer);
        // SAFETY: the controller's memory has `len` bytes, and a buffer is always initialised.
        unsafe { Self::from_controller(Box::new(Pooled(buffer)), len) }
    }
}

impl<T: Number> AllocationController for Pooled<T> {
    /// The alignment that `Bytes` uses by itself when it copies. Ours is larger, but it may not be
    /// asked for; and the memory never becomes a `Vec`, for which the number would have to be exact.
    fn alloc_align(&self) -> usize {
        align_of::<u128>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(
        &mut self,
        _policy: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let values: &mut [T] = &mut self.0;
        let bytes = size_of_val(values);
        // SAFETY: the same memory, as bytes, for which any alignment does; the caller promises to write
        // only initialised bytes, and any bytes are a number.
        Ok(unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), bytes) })
    }

    fn memory(&self, _policy: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let values: &[T] = &self.0;
        // SAFETY: the same memory, as bytes.
        Ok(unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) })
    }

    fn capacity(&self) -> usize {
        size_of_val::<[T]>(&self.0)
    }

    /// A copy, in memory of the pool too.
    fn duplicate(&self) -> Option<Box<dyn AllocationController>> {
        Some(Box::new(Self(self.0.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::ALIGNMENT;
    use burn::tensor::{DType, Shape, TensorData};
    use burn_flex::{FlexTensor, Layout};
    use burn_std::SplitPolicy;

    fn counting(len: usize) -> Buffer {
        let mut buffer = Buffer::new(len);
        buffer
            .iter_mut()
            .enumerate()
            .for_each(|(i, x)| *x = i as f32);
        buffer
    }

    fn numbers(bytes: &Bytes) -> Vec<f32> {
        bytes
            .chunks_exact(4)
            .map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    }

    #[test]
    fn a_clone_is_a_copy_and_splitting_and_growing_work() {
        let bytes = Bytes::from(counting(100));
        assert_eq!(bytes.as_ptr() as usize % ALIGNMENT, 0);
        assert_eq!((bytes.len(), bytes.capacity()), (400, 400));
        let mut copy = bytes.clone();
        copy[..4].copy_from_slice(&7f32.to_ne_bytes());
        assert_eq!((numbers(&copy)[0], numbers(&bytes)[0]), (7.0, 0.0));
        let mut longer = bytes.clone();
        longer.extend_from_byte_slice(&5f32.to_ne_bytes());
        assert_eq!((longer.len(), numbers(&longer)[100]), (404, 5.0));
        assert_eq!(numbers(&longer)[..100], numbers(&bytes));
        for policy in [SplitPolicy::Shared, SplitPolicy::Owned] {
            let (left, right) = bytes.clone().split(40, policy).unwrap();
            assert_eq!((numbers(&left)[9], numbers(&right)[0]), (9.0, 10.0));
        }
        // It never becomes a vector: the allocator would not know it.
        assert!(bytes.try_into_vec::<f32>().is_err());
    }

    #[test]
    fn a_tensor_reads_it_and_copies_on_write() {
        let layout = Layout::contiguous(Shape::from([4, 25]));
        let mut tensor = FlexTensor::new(counting(100).into(), layout, DType::F32);
        let shared = tensor.clone();
        tensor.storage_mut::<f32>()[0] = 3.0;
        assert_eq!(
            (tensor.storage::<f32>()[0], shared.storage::<f32>()[0]),
            (3.0, 0.0)
        );
        let data: TensorData = shared.into_data();
        assert_eq!(data.try_into_vec::<f32>().unwrap()[99], 99.0);
        assert_eq!(tensor.into_data().try_to_vec::<f32>().unwrap()[0], 3.0);
    }
}
