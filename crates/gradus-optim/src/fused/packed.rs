//! The slots of one parameter in one piece of memory that is the optimizer's alone.
//!
//! As tensors, each would have to be asked for its memory at every step, through four pointers, and
//! whether somebody shares it. Tensors of them are made when they are asked for: for saving, for a clone.

use super::memory::{Element, flex_dtype, flex_mut, into_flex, whole};
use crate::item::{Item, Weight};
use crate::state::ParameterState;
use burn::backend::DispatchTensor;
use burn::tensor::{DType, TensorData};
use burn_flex::FlexTensor;
use gradus_kernels::memory::{ALIGNMENT, Fixed};
use gradus_kernels::resident::off_tape;

/// From this many bytes on a slot is large.
const LARGE: usize = 4 << 20;

/// Bytes before each slot: streams a multiple of 4096 bytes apart would compete for the same places in
/// the first-level cache, and large ones for the same banks of memory. θ begins at such a multiple.
fn gap(size: usize) -> usize {
    if size < LARGE { 192 } else { 4096 + 192 }
}

/// Slots in the shape of their parameter, all of one type.
#[derive(Debug)]
pub(crate) struct Packed {
    memory: Memory,
    count: usize,
    shape: Vec<usize>,
}

/// Memory of either type.
#[derive(Debug)]
pub(super) enum Memory {
    F32(Fixed<f32>),
    F64(Fixed<f64>),
}

impl Packed {
    /// Slots of zeros.
    fn zeros(count: usize, shape: &[usize], dtype: DType) -> Self {
        let len = shape.iter().product();
        Self {
            memory: match dtype {
                DType::F64 => Memory::F64(Fixed::zeros(place::<f64>(len, count))),
                _ => Memory::F32(Fixed::zeros(place::<f32>(len, count))),
            },
            count,
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
        match self.memory {
            Memory::F32(_) => DType::F32,
            Memory::F64(_) => DType::F64,
        }
    }

    /// Elements of a slot.
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Slot `index` ← `values`, a flex tensor of the same shape and type.
    pub(crate) fn put(&mut self, index: usize, values: DispatchTensor) {
        let (values, len) = (whole(into_flex(values)), self.len());
        match &mut self.memory {
            Memory::F32(memory) => part_mut(memory, len, index).copy_from_slice(values.storage()),
            Memory::F64(memory) => part_mut(memory, len, index).copy_from_slice(values.storage()),
        }
    }

    /// The slots as tensors: copies.
    pub(crate) fn tensors(&self) -> Vec<DispatchTensor> {
        let tensor = |index| {
            let (len, shape) = (self.len(), self.shape.clone());
            let data = match &self.memory {
                Memory::F32(memory) => TensorData::new(part(memory, len, index).to_vec(), shape),
                Memory::F64(memory) => TensorData::new(part(memory, len, index).to_vec(), shape),
            };
            off_tape(FlexTensor::from_data(data))
        };
        (0..self.count).map(tensor).collect()
    }

    /// The memory of all slots.
    pub(super) fn slots_mut<T: Element, const S: usize>(&mut self) -> [&mut [T]; S] {
        let (len, count) = (self.len(), self.count);
        let Some(mut rest) = T::of_memory(&mut self.memory).filter(|_| S == count) else {
            unreachable!("a state has the slots of its rule, in the type of its parameter");
        };
        // Where `rest` begins.
        let mut at = 0;
        std::array::from_fn(|index| {
            let start = place::<T>(len, index);
            let (slot, behind) = std::mem::take(&mut rest)[start - at..].split_at_mut(len);
            (rest, at) = (behind, start + len);
            slot
        })
    }
}

/// Where slot `index` begins, if each has `len` elements.
fn place<T>(len: usize, index: usize) -> usize {
    let size = len * size_of::<T>();
    let bytes = gap(size) + index * (size.next_multiple_of(ALIGNMENT) + gap(size));
    bytes / size_of::<T>()
}

fn part<T>(memory: &[T], len: usize, index: usize) -> &[T] {
    &memory[place::<T>(len, index)..][..len]
}

fn part_mut<T>(memory: &mut [T], len: usize, index: usize) -> &mut [T] {
    &mut memory[place::<T>(len, index)..][..len]
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
