//! A running statistic: a tensor that a layer carries along, saves and loads, but never trains.
//!
//! Burn's `RunningState` shares its value between clones, so that a second pass through a cloned
//! model (SAM, a line search, an averaged copy) corrupts the statistics of the original. This one
//! belongs to its layer alone: a clone is a copy.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
    Param, ParamId,
};
use burn::tensor::{Device, Tensor};

/// A `[C]` tensor outside the tape, updated during the forward pass.
///
/// Visitors and mappers see it as a float parameter that does not require a gradient, so it is saved,
/// loaded and moved with the module. A mapper's value is taken, its gradient requirement is not.
#[derive(Debug)]
pub struct RunningStatistic {
    id: ParamId,
    value: Mutex<Tensor<1>>,
}

impl RunningStatistic {
    /// A statistic that starts at `value`.
    #[must_use]
    pub fn new(value: Tensor<1>) -> Self {
        Self::with_id(ParamId::new(), value)
    }

    /// The current value.
    #[must_use]
    pub fn value(&self) -> Tensor<1> {
        self.lock().clone()
    }

    /// Replace the value. The new one is taken off the tape.
    pub fn set(&self, value: Tensor<1>) {
        *self.lock() = value.detach();
    }

    fn with_id(id: ParamId, value: Tensor<1>) -> Self {
        Self {
            id,
            value: Mutex::new(value),
        }
    }

    /// A panic elsewhere cannot leave a tensor half written: the value is replaced in one move.
    fn lock(&self) -> MutexGuard<'_, Tensor<1>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn into_parts(self) -> (ParamId, Tensor<1>) {
        (
            self.id,
            self.value
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl Clone for RunningStatistic {
    fn clone(&self) -> Self {
        Self::with_id(self.id, self.value())
    }
}

impl Module for RunningStatistic {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        visitor.visit_float(&Param::initialized(self.id, self.value()));
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let (id, value) = self.into_parts();
        let (id, value, _) = mapper.map_float(Param::initialized(id, value)).consume();
        Self::with_id(id, value.detach().set_require_grad(false))
    }

    fn to_device(self, device: &Device) -> Self {
        let (id, value) = self.into_parts();
        Self::with_id(id, value.to_device(device))
    }

    fn fork(self, device: &Device) -> Self {
        let (id, value) = self.into_parts();
        Self::with_id(id, value.to_device(device).detach())
    }

    fn collect_devices(&self, mut devices: Devices) -> Devices {
        let device = self.lock().device();
        if !devices.contains(&device) {
            devices.push(device);
        }
        devices
    }

    fn materialize(self) -> Self {
        self
    }

    fn valid(&self) -> Self {
        Self::with_id(self.id, self.value().without_autodiff())
    }

    fn train(self) -> Self {
        let (id, value) = self.into_parts();
        Self::with_id(id, Tensor::from_inner(value))
    }
}

impl ModuleDisplayDefault for RunningStatistic {
    fn content(&self, content: Content) -> Option<Content> {
        content
            .add_formatted(&format!(
                "RunningStatistic {{shape: {:?}}}",
                self.lock().dims()
            ))
            .optional()
    }
}

impl ModuleDisplay for RunningStatistic {}
