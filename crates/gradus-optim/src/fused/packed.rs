//! The slots of one parameter in one piece of memory that is the optimizer's alone.
//!
//! As tensors, each would have to be asked for its memory at every step, through four pointers, and
//! whether somebody shares it. Tensors of them are made when they are asked for: for saving, for a clone.

#![allow(unsafe_code, reason = "cuts one piece of memory into slots")]

use super::memory::{Element, FlexTensor, flex_dtype, flex_mut, from_flex, into_flex, whole};
use super::resident::{ALIGNMENT, Buffer, LARGE};
use crate::item::{Item, Weight};
use crate::state::ParameterState;
use burn::backend::DispatchTensor;
use burn::tensor::{Bytes, DType};
use burn_flex::Layout;

/// Bytes before each slot: streams a multiple of 4096 bytes apart would compete for the same places in
/// the first-level cache, and large ones for the same banks of memory. θ begins at such a multiple.
fn gap(size: usize) -> usize {
    if size < LARGE { 192 } else { 4096 + 192 }
}

/// Slots in the shape of their parameter, all of one type.
#[derive(Debug)]
pub(crate) struct Packed {
    buffer: Buffer,
    count: usize,
    /// Bytes of one slot.
    size: usize,
    dtype: DType,
    shape: Vec<usize>,
}

impl Packed {
    /// Slots of zeros.
    fn zeros(count: usize, shape: &[usize], dtype: DType) -> Self {
        let size = shape.iter().product::<usize>() * dtype.size();
        Self {
            buffer: Buffer::zeros(Self::offset(size, count)),
            count,
            size,
            dtype,
            shape: shape.to_vec(),
        }
    }

    /// The values of these tensors, which are flex tensors of one type and shape.
    fn of(slots: Vec<DispatchTensor>, shape: &[usize], dtype: DType) -> Self {
        let mut this = Self::zeros(slots.len(), shape, dtype);
        for (index, slot) in slots.into_iter().enumerate() {
            this.put(index, slot);
        }
        this
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    /// Slot `index` ← `values`, a flex tensor of the same shape and type.
    pub(crate) fn put(&mut self, index: usize, values: DispatchTensor) {
        let values = whole(into_flex(values));
        self.bytes_mut(index).copy_from_slice(values.bytes());
    }

    /// The slots as tensors: copies.
    pub(crate) fn tensors(&self) -> Vec<DispatchTensor> {
        let tensor = |index| {
            let layout = Layout::contiguous(self.shape.clone().into());
            let bytes = Bytes::from_bytes_vec(self.bytes(index).to_vec());
            from_flex(FlexTensor::new(bytes, layout, self.dtype))
        };
        (0..self.count).map(tensor).collect()
    }

    /// Where slot `index` of this size begins.
    fn offset(size: usize, index: usize) -> usize {
        gap(size) + index * (size.next_multiple_of(ALIGNMENT) + gap(size))
    }

    fn bytes(&self, index: usize) -> &[u8] {
        assert!(index < self.count, "no such slot");
        // SAFETY: slots lie in the buffer, whose memory was zeroed when it was made; `&self` keeps
        // others from writing.
        unsafe {
            let start = self.buffer.start().add(Self::offset(self.size, index));
            std::slice::from_raw_parts(start, self.size)
        }
    }

    fn bytes_mut(&mut self, index: usize) -> &mut [u8] {
        assert!(index < self.count, "no such slot");
        // SAFETY: as in `bytes`; `&mut self` excludes other references.
        unsafe {
            let start = self.buffer.start().add(Self::offset(self.size, index));
            std::slice::from_raw_parts_mut(start, self.size)
        }
    }

    /// The memory of all slots.
    pub(super) fn slots_mut<T: Element, const S: usize>(&mut self) -> [&mut [T]; S] {
        assert!(
            S == self.count && T::dtype() == self.dtype,
            "a state has the slots of its rule"
        );
        let len = self.size / size_of::<T>();
        std::array::from_fn(|index| {
            // SAFETY: each slot is another part of the buffer, aligned for every type, and was zeroed
            // when it was made. `&mut self` excludes other references.
            unsafe {
                let start = self.buffer.start().add(Self::offset(self.size, index));
                std::slice::from_raw_parts_mut(start.cast(), len)
            }
        })
    }
}

/// The slots as memory, whichever way they are kept.
pub(super) fn slots_mut<'a, T: Element, const S: usize>(
    packed: &'a mut Option<Packed>,
    tensors: &'a mut [DispatchTensor],
) -> [&'a mut [T]; S] {
    if let Some(packed) = packed {
        return packed.slots_mut();
    }
    let mut tensors = tensors.iter_mut();
    std::array::from_fn(|_| match tensors.next() {
        Some(slot) => T::memory_mut(flex_mut(slot)),
        None => unreachable!("a state has the slots of its rule"),
    })
}

impl ParameterState {
    /// Prepares `count` slots for the fused execution of `item`, whose type this is: packed, if its
    /// weight stays in the module.
    pub(super) fn pack(&mut self, count: usize, item: &Item, dtype: DType) {
        let alike = |slot: &DispatchTensor| flex_dtype(slot) == Some(dtype);
        if self.part.is_some() || self.packed.is_some() || !self.slots.iter().all(alike) {
            self.follow(&item.theta());
        }
        let shape = &item.info.shape;
        let fresh = self.slots.is_empty();
        match (&item.weight, fresh) {
            (Weight::In(_), true) => self.packed = Some(Packed::zeros(count, shape, dtype)),
            (Weight::In(_), false) => {
                let slots = std::mem::take(&mut self.slots);
                self.packed = Some(Packed::of(slots, shape, dtype));
            }
            (Weight::Out(_), true) => self.slots = Packed::zeros(count, shape, dtype).tensors(),
            (Weight::Out(_), false) => {}
        }
    }
}
