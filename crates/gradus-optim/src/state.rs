//! What an optimizer remembers about one parameter.

use crate::execute::beside;
use crate::fused_or_not::Packed;
use crate::item::{flattened, shaped};
use burn::backend::DispatchTensor;
use burn::tensor::{Device, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// Time, numbers and tensors of one parameter under one rule.
#[derive(Debug, Default)]
pub(crate) struct ParameterState {
    /// Steps made so far.
    pub(crate) step: u64,
    /// The rule's [`memory`](crate::Rule::memory).
    pub(crate) memory: Vec<f64>,
    /// The rule's slots; empty before the first step, and while they are part of a flat buffer or packed.
    pub(crate) slots: Vec<DispatchTensor>,
    /// The slots of a parameter that the fused execution changes inside its module.
    pub(crate) packed: Option<Packed>,
    /// Where the slots are, if several parameters share flat buffers.
    pub(crate) part: Option<Box<Part>>,
}

/// A place in flat buffers that hold the slots of several parameters, one after another.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// One vector per slot.
    pub(crate) buffers: Arc<Mutex<Vec<DispatchTensor>>>,
    /// The elements of this parameter.
    pub(crate) start: usize,
    pub(crate) shape: Vec<usize>,
    /// This is the `index`-th of `members` parameters.
    pub(crate) index: usize,
    pub(crate) members: usize,
}

impl Part {
    /// The slots of this parameter, cut out.
    fn cut(&self) -> Vec<DispatchTensor> {
        let buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let end = self.start + self.shape.iter().product::<usize>();
        buffers
            .iter()
            .map(|buffer| {
                let buffer = Tensor::<1>::from_dispatch(buffer.clone());
                shaped(buffer.slice(self.start..end), &self.shape)
            })
            .collect()
    }
}

impl Clone for ParameterState {
    /// The clone has slots of its own: a shared buffer would change under it.
    fn clone(&self) -> Self {
        Self {
            step: self.step,
            memory: self.memory.clone(),
            slots: self.tensors(),
            packed: None,
            part: None,
        }
    }
}

impl ParameterState {
    /// The slots as tensors of their own.
    pub(crate) fn tensors(&self) -> Vec<DispatchTensor> {
        match (&self.part, &self.packed) {
            (Some(part), _) => part.cut(),
            (None, Some(packed)) => packed.tensors(),
            (None, None) => self.slots.clone(),
        }
    }

    /// Makes the slots tensors of their own, if they are not.
    pub(crate) fn settle(&mut self) {
        if self.part.is_some() || self.packed.is_some() {
            self.slots = self.tensors();
            self.part = None;
            self.packed = None;
        }
    }

    /// Brings the slots, as tensors of their own, to where `theta` is and into its type.
    pub(crate) fn follow(&mut self, theta: &DispatchTensor) {
        self.settle();
        for slot in &mut self.slots {
            *slot = beside(slot.clone(), theta);
        }
    }

    /// Moves the slots to `device`.
    pub(crate) fn moved(mut self, device: &Device) -> Self {
        self.settle();
        for slot in &mut self.slots {
            let shape = crate::execute::shape_of(slot);
            let moved = flattened(slot.clone(), shape.len()).to_device(device);
            *slot = shaped(moved, &shape);
        }
        self
    }
}
