//! Training with a closure solver instead of an update rule.
//!
//! ```text
//! f(θ) = loss(model(x; θ), y) + R(θ)   on the batch of the step;   θ ← one step of the solver on f
//! ```
//!
//! One optimizer step is one iteration of the solver, which evaluates f as often as it likes (one
//! iteration of `lbfgs` makes up to `max_iter` of its own). Dropout draws the same mask at every
//! evaluation of a step; batch norm looks at the batch each time and folds it into its running
//! averages once, at the weights before the step. Loss, accuracy and gradient norm of the step are
//! those before it, as with rules; the rate in the records is the solver's `lr`.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use gradus_nn::{Classifier, Mode};
use gradus_optim::solve::{ModelObjective, ModelSolver};
use gradus_optim::{MethodConfig, ModelOptimizer, ScheduleConfig};

use crate::{RunConfig, TrainError, trainable};

/// What changes the weights, with its memory.
pub(crate) enum Method {
    /// An update rule.
    Rule(Box<ModelOptimizer>),
    /// A closure solver.
    Solver(ModelSolver),
}

impl Method {
    /// The method for a run of `steps` steps.
    pub(crate) fn new(config: &MethodConfig, steps: u64) -> Result<Self, TrainError> {
        Ok(match config {
            MethodConfig::Rule(rule) => Self::Rule(Box::new(ModelOptimizer::new(
                &rule.clone().for_steps(steps),
            )?)),
            MethodConfig::Solver(solver) => Self::Solver(ModelSolver::new(solver)?),
        })
    }

    /// Whether every group of a rule finds parameters.
    pub(crate) fn check_groups<M: Module>(&self, model: &M) -> Result<(), TrainError> {
        match self {
            Self::Rule(rule) => Ok(rule.check_groups(model)?),
            Self::Solver(_) => Ok(()),
        }
    }

    /// Steps taken.
    pub(crate) fn steps(&self) -> u64 {
        match self {
            Self::Rule(rule) => rule.steps(),
            Self::Solver(solver) => solver.steps(),
        }
    }

    /// Whether the weights to be used are not those that are trained.
    pub(crate) fn averages(&self) -> bool {
        match self {
            Self::Rule(rule) => rule.averages(),
            Self::Solver(_) => false,
        }
    }

    /// The weights to be used.
    pub(crate) fn evaluation_model<M: Module>(&self, model: &M) -> M {
        match self {
            Self::Rule(rule) => rule.evaluation_model(model),
            Self::Solver(_) => model.clone(),
        }
    }

    pub(crate) fn set_momentum(&mut self, momentum: f64) {
        if let Self::Rule(rule) = self {
            rule.set_momentum(momentum);
        }
    }

    pub(crate) fn save<M: Module>(&self, model: &M) -> Result<Vec<u8>, TrainError> {
        Ok(match self {
            Self::Rule(rule) => rule.save()?,
            Self::Solver(solver) => solver.save(model)?,
        })
    }

    pub(crate) fn load<M: Module>(&mut self, bytes: &[u8], model: &M) -> Result<(), TrainError> {
        match self {
            Self::Rule(rule) => rule.load(bytes, model)?,
            Self::Solver(solver) => solver.load(bytes, model)?,
        }
        Ok(())
    }
}

/// One iteration of the solver on a batch.
pub(crate) fn step<M: Classifier>(
    solver: &mut ModelSolver,
    model: M,
    images: &Tensor<4>,
    labels: &Tensor<1, Int>,
    mode: Mode,
    config: &RunConfig,
) -> Result<M, TrainError> {
    let mode = mode.without_statistics();
    let outputs = |model: &M| model.forward(images.clone(), mode);
    let loss = |logits: Tensor<2>| config.loss.forward(logits, labels.clone());
    let objective = match &config.penalty {
        // Apart, for the solvers that want the loss as a function of the logits.
        None => ModelObjective::composed(model, outputs, loss)?,
        Some(penalty) => ModelObjective::new(model, |model: &M| {
            let loss = loss(outputs(model));
            match penalty.forward(model) {
                Some(penalty) => loss + penalty,
                None => loss,
            }
        })?,
    };
    // Another batch each time: another function.
    let version = solver.steps();
    let (model, _) = solver.step(objective.with_version(version))?;
    Ok(model)
}

/// Whether the rest of the configuration goes with a solver.
pub(crate) fn check(config: &RunConfig) -> Result<(), TrainError> {
    let solver = match &config.optimizer {
        MethodConfig::Solver(solver) => solver,
        MethodConfig::Rule(rule) => {
            return (config.schedule.check_rule(rule))
                .map_err(|error| TrainError::config("schedule", error.to_string()));
        }
    };
    let name = solver.name();
    if config.schedule != ScheduleConfig::default() {
        let problem = format!(
            "expected constant, found {}: {name} finds the length of its steps itself, there is no \
             rate to schedule",
            config.schedule
        );
        return Err(TrainError::config("schedule", problem));
    }
    if let (true, Some(penalty)) = (solver.needs_structure(), &config.penalty) {
        let problem = format!(
            "expected none, found {penalty}: {name} uses the curvature of the loss as a function of \
             the logits, which a penalty on the weights is not; set its `damping` instead"
        );
        return Err(TrainError::config("penalty", problem));
    }
    Ok(())
}

/// Whether the method can train this model at all.
pub(crate) fn check_model<M: Module>(config: &RunConfig, model: &M) -> Result<(), TrainError> {
    if let Some(solver) = config.optimizer.solver() {
        solver.check_dimension(trainable(model))?;
    }
    Ok(())
}
