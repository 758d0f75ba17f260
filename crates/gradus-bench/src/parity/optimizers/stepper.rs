//! One optimizer on one device, a step at a time.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, TensorData};
use gradus_optim::{ModelOptimizer, OptimizerConfig};
use gradus_train::weights::{NamedTensors, collect};

use super::function::{Function, GradientAt, Parameters};
use crate::BenchError;
use crate::parity::side::{State, following};
use crate::parity::slots::Slots;
use crate::parity::tensors::{by_parameter, wide, with_weights};
use crate::parity::yardstick::ROUNDOFF;

/// One optimizer on one device.
pub(super) struct Stepper<'a> {
    config: &'a OptimizerConfig,
    dtype: DType,
    model: Parameters,
    optimizer: ModelOptimizer,
}

impl<'a> Stepper<'a> {
    pub(super) fn new(
        config: &'a OptimizerConfig,
        device: &Device,
        dtype: DType,
        state: &State,
    ) -> Result<Self, BenchError> {
        let mut this = Self {
            config,
            dtype,
            model: Parameters::new(&device.clone().autodiff()),
            optimizer: following(config)?,
        };
        this.load(state)?;
        Ok(this)
    }

    pub(super) fn load(&mut self, state: &State) -> Result<(), BenchError> {
        self.model = with_weights(self.model.clone(), &state.weights, self.dtype);
        self.optimizer = following(self.config)?;
        let bytes = state.slots.write(self.dtype == DType::F64)?;
        self.optimizer.load(&bytes, &self.model)?;
        Ok(())
    }

    /// Moves the weights by a rounding, further along their last move from `before` or back. Moves of one
    /// length, as those of Adam's family are at first, are all rounded the same way, and what a rule adds
    /// up of them (Prodigy's ⟨g, θ₀ − θ⟩) is off by as much as each of them.
    pub(super) fn shift(&mut self, way: f64, before: &NamedTensors) {
        let mut moved = collect(&self.model);
        for (name, data) in &mut moved {
            let old = before.get(name).map(wide).unwrap_or_default();
            let values: Vec<f64> = (wide(data).iter().zip(&old))
                .map(|(x, old)| match x == old {
                    true => *x,
                    false => x + way * ROUNDOFF * x.abs() * (x - old).signum(),
                })
                .collect();
            *data = TensorData::new(values, data.shape().clone());
        }
        self.model = with_weights(self.model.clone(), &moved, self.dtype);
    }

    /// One step from the gradient given. Those elsewhere are of `functions`, by turns.
    pub(super) fn step(mut self, functions: &[Function; 2], gradient: &NamedTensors) -> Self {
        let given = |tensors| by_parameter(&self.model, tensors, self.dtype);
        let gradient = given(gradient);
        let both = functions
            .each_ref()
            .map(|function| (given(&function.slopes), given(&function.curvatures)));
        let mut turn = 0;
        let mut elsewhere = |model: &Parameters| {
            let (slopes, curvatures) = &both[turn % 2];
            turn += 1;
            let mut at = GradientAt {
                slopes,
                curvatures,
                found: GradientsParams::new(),
            };
            model.visit(&mut at);
            at.found
        };
        let lr = self.config.lr();
        let optimizer = &mut self.optimizer;
        self.model = optimizer.step_with(lr, self.model, gradient, &mut elsewhere);
        self
    }

    pub(super) fn state(&self) -> Result<State, BenchError> {
        Ok(State {
            weights: collect(&self.model),
            slots: Slots::read(&self.optimizer.save()?)?,
        })
    }
}
