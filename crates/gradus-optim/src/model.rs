//! The step of a whole model.

use crate::execute::{AnyRule, ParameterState};
use crate::path::Path;
use crate::{OptimError, OptimizerConfig, Rule, saved};
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use std::collections::HashMap;
use std::sync::Arc;

use crate::gradients::Clip;

/// Optimizes all parameters of a module with one rule.
///
/// State is kept by parameter *name* (the module path joined by `.`), so it outlives the random ids
/// that Burn gives parameters anew in each process. A parameter without a gradient is left alone, and
/// so is its state; each counts its own steps.
///
/// A clone is an independent optimizer: its state never changes with the original's.
///
/// ```
/// use burn::{nn::LinearConfig, optim::GradientsParams, tensor::{Device, Tensor}};
/// use gradus_optim::{ModelOptimizer, OptimizerConfig};
///
/// let device = Device::flex().autodiff();
/// let mut model = LinearConfig::new(2, 1).init(&device);
/// let config: OptimizerConfig = "sgd(lr=0.1, momentum=0.9)".parse()?;
/// let mut optimizer = ModelOptimizer::new(&config)?;
///
/// let x = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, -1.0]], &device);
/// let y = Tensor::<2>::from_floats([[5.0], [1.0]], &device);
/// for _ in 0..200 {
///     let loss = (model.forward(x.clone()) - y.clone()).powi_scalar(2).mean();
///     let grads = GradientsParams::from_grads(loss.backward(), &model);
///     model = optimizer.step(config.lr(), model, grads);
/// }
/// let error = (model.forward(x) - y).abs().max().into_scalar::<f32>();
/// assert!(error < 1e-2);
/// # Ok::<(), gradus_optim::OptimError>(())
/// ```
#[derive(Clone)]
pub struct ModelOptimizer {
    /// The text that `save` writes down.
    text: String,
    /// The rule as configured, with decay and without. What a schedule asks for is always derived
    /// from these, so that nothing it asked for earlier sticks.
    configured: [Arc<dyn AnyRule>; 2],
    /// The rule of the next step, with decay and without.
    rules: [Arc<dyn AnyRule>; 2],
    clips: Vec<Clip>,
    no_decay: bool,
    steps: u64,
    last_norm: Option<f64>,
    /// Every parameter seen, in the order of the first walk.
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
}

/// What is known about one parameter.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// The id when last seen: a shortcut to the entry, which is found by name.
    id: Option<ParamId>,
    pub(crate) rank: usize,
    pub(crate) state: ParameterState,
}

impl std::fmt::Debug for ModelOptimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelOptimizer")
            .field("optimizer", &self.text)
            .field("steps", &self.steps)
            .field("parameters", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl ModelOptimizer {
    /// An optimizer as the configuration says, before its first step.
    ///
    /// # Errors
    /// [`OptimError::OutOfRange`] or [`OptimError::Conflict`] for a bad hyper-parameter.
    pub fn new(config: &OptimizerConfig) -> Result<Self, OptimError> {
        config.validate()?;
        let mut this = Self::from_shared(config.to_string(), config.rule.shared());
        this.clips.clone_from(&config.clips);
        this.no_decay = config.no_decay;
        Ok(this)
    }

    /// An optimizer with any rule, also one of your own.
    ///
    /// # Errors
    /// What [`Rule::check`] finds.
    pub fn with_rule<R: Rule>(rule: R) -> Result<Self, OptimError> {
        rule.check()?;
        let bare = rule.without_decay();
        Ok(Self::from_shared(
            R::NAME.to_owned(),
            [Arc::new(rule), Arc::new(bare)],
        ))
    }

    fn from_shared(text: String, rules: [Arc<dyn AnyRule>; 2]) -> Self {
        Self {
            text,
            configured: rules.clone(),
            rules,
            clips: Vec::new(),
            no_decay: false,
            steps: 0,
            last_norm: None,
            entries: Vec::new(),
            by_name: HashMap::new(),
        }
    }

    /// One step at learning rate `lr`, already scheduled: clips, then updates every parameter that
    /// has a gradient. On an autodiff device the update happens off the tape, and parameters come
    /// back with their id and `require_grad` as before.
    ///
    /// On the CPU backend a parameter changes in place if nobody else holds its memory.
    #[must_use = "the model was moved in; this is the updated one"]
    pub fn step<M: Module>(&mut self, lr: f64, model: M, mut grads: GradientsParams) -> M {
        self.last_norm = None;
        for clip in &self.clips {
            let norm = clip.apply(&model, &mut grads);
            self.last_norm = self.last_norm.or(norm);
        }
        self.steps += 1;
        model.map(&mut Stepper {
            optimizer: self,
            grads,
            lr,
            path: Path::default(),
            next: 0,
        })
    }

    /// Sets the momentum (β₁ for the Adam family) from the next step on, as one-cycle schedules ask.
    ///
    /// A rule configured without momentum stays without: it has no buffer for one. A rule configured
    /// with momentum keeps its buffer, also while a schedule passes through 0.
    pub fn set_momentum(&mut self, momentum: f64) {
        for (rule, configured) in self.rules.iter_mut().zip(&self.configured) {
            let scheduled = configured.at_momentum(momentum);
            *rule = if scheduled.slot_names() == configured.slot_names() {
                scheduled
            } else {
                // Momentum exactly 0 reads as "no buffer", and would lose what the buffers hold. The
                // smallest normal number computes the same, 0·v + g = g, and keeps them.
                configured.at_momentum(f64::MIN_POSITIVE)
            };
        }
    }

    /// The optimizer as text; the rule's name for one of your own.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Calls of [`step`](Self::step) so far, over saving and loading.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The global norm of the gradients at the last step, as the first global clip of the chain found
    /// it: before that clip, after any clips that stand before it. `None` without a global clip.
    pub fn last_gradient_norm(&self) -> Option<f64> {
        self.last_norm
    }

    /// The state as the bytes of a safetensors file: per parameter `NAME/SLOT` in the parameter's
    /// type and shape, `NAME/step`, and the rule's scalars as `NAME/memory`; in the metadata the
    /// optimizer's text. The same state gives the same bytes.
    ///
    /// # Errors
    /// [`OptimError::BadFile`] for a type that safetensors cannot hold.
    pub fn save(&self) -> Result<Vec<u8>, OptimError> {
        saved::write(
            &self.text,
            self.rules[0].as_ref(),
            self.steps,
            &self.entries,
        )
    }

    /// Takes up a state written by [`save`](Self::save), bit by bit, for `model`.
    ///
    /// Hyper-parameters may differ from those of the saved run (a new rate, say); the rule, its slots
    /// and the model's parameters may not.
    ///
    /// # Errors
    /// If the state does not fit the rule or the model; the error names the parameter, and the
    /// optimizer is unchanged.
    pub fn load<M: Module>(&mut self, bytes: &[u8], model: &M) -> Result<(), OptimError> {
        let (steps, loaded) = saved::read(bytes, self.rules[0].as_ref(), model)?;
        self.steps = steps;
        self.last_norm = None;
        self.entries = loaded
            .into_iter()
            .map(|(name, rank, state)| Entry {
                name,
                id: None,
                rank,
                state,
            })
            .collect();
        self.by_name = self
            .entries
            .iter()
            .enumerate()
            .map(|(i, entry)| (entry.name.clone(), i))
            .collect();
        Ok(())
    }

    /// The place of the parameter's entry. The walk is the same each time, so the next entry is
    /// nearly always the one.
    fn entry(&mut self, next: usize, id: ParamId, rank: usize, name: &str) -> usize {
        if self
            .entries
            .get(next)
            .is_some_and(|entry| entry.id == Some(id))
        {
            return next;
        }
        if let Some(&index) = self.by_name.get(name) {
            self.entries[index].id = Some(id);
            return index;
        }
        let index = self.entries.len();
        let state = ParameterState::default();
        self.entries.push(Entry {
            name: name.to_owned(),
            id: Some(id),
            rank,
            state,
        });
        self.by_name.insert(name.to_owned(), index);
        index
    }
}

/// The walk of one step.
struct Stepper<'a> {
    optimizer: &'a mut ModelOptimizer,
    grads: GradientsParams,
    lr: f64,
    path: Path,
    /// The entry expected next.
    next: usize,
}

impl ModuleMapper for Stepper<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let index = self
            .optimizer
            .entry(self.next, param.id, D, self.path.name());
        self.next = index + 1;
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return param;
        };

        let (id, tensor, mapper) = param.consume();
        // What the tensor carries besides its values, to be put back after the step.
        let was_autodiff = tensor.is_autodiff();
        let require_grad = tensor.is_require_grad();
        let checkpointing = tensor.gradient_checkpointing_strategy();
        // Burn asks this of autodiff tensors only.
        let distributed = was_autodiff && tensor.is_distributed();

        let theta = tensor.inner();
        let mut grad = grad.inner();
        let device = theta.device();
        if grad.device() != device {
            grad = grad.to_device(&device);
        }
        let bare = self.optimizer.no_decay && D <= 1;
        let rule = Arc::clone(&self.optimizer.rules[usize::from(bare)]);
        let state = &mut self.optimizer.entries[index].state;
        let theta = rule.step_any(
            D,
            self.lr,
            theta.into_dispatch(),
            grad.into_dispatch(),
            state,
        );
        let mut tensor = Tensor::<D>::from_dispatch(theta);

        if was_autodiff {
            tensor = Tensor::from_inner(tensor);
            if let Some(strategy) = checkpointing {
                tensor = tensor.with_gradient_checkpointing_strategy(strategy);
            }
            if require_grad {
                tensor = tensor.require_grad();
            }
            if distributed {
                tensor = tensor.set_distributed(id);
            }
        }
        Param::from_mapped_value(id, tensor, mapper)
    }
}
