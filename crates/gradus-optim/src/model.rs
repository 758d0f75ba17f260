//! The step of a whole model.

use crate::cohort::Cohorts;
use crate::curvature::{estimate, preserving};
use crate::execute::beside;
use crate::item::Item;
use crate::norm::GlobalNorm;
use crate::roster::Roster;
use crate::stages::{Flow, Group, Now, Stage, StageState, check_groups, each_info, fill, without};
use crate::walk::{self, Taken};
use crate::{Curvature, OptimError, OptimizerConfig, Rule, saved};
use burn::backend::DispatchTensor;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::DType;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Optimizes all parameters of a module as an [`OptimizerConfig`] says.
///
/// State is kept by parameter *name* (the module path joined by `.`), so it outlives the random ids
/// that Burn gives parameters anew in each process. A parameter without a gradient is left alone, and
/// so is its state; each counts its own steps.
///
/// The state follows a model that is moved to another device or cast to another type between steps. An
/// optimizer is for one model: two with the same names would share a state.
///
/// A clone is an independent optimizer: its state never changes with the original's.
///
/// On the CPU backend (flex) weights change in place, inside the model: the first step moves them to
/// memory of the optimizer's own, and later ones allocate nothing. Whoever else holds a weight (a clone
/// of the model, a graph not yet differentiated) keeps the values it had; the step then costs one copy.
///
/// Weights that are one tensor in two places of a model (tied: a clone of a [`Param`](burn::module::Param)
/// has the same id) come apart, as with Burn's own optimizer: the gradient, which is the sum over both
/// places, goes to the first on the walk, and the second keeps its values. Hold such a weight once, and
/// use it twice in `forward`.
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
    cohorts: Cohorts,
    /// What stands after the rule, in the order of the text, with what it remembers.
    stages: Vec<(Stage, StageState)>,
    steps: u64,
    last_norm: Option<GlobalNorm>,
    /// The type for whose rounding differences of gradients are spaced, if not that of the weights.
    spacing: Option<DType>,
    roster: Roster,
}

/// Gradients of the loss at other weights.
type Loss<'a, M> = &'a mut dyn FnMut(&M) -> GradientsParams;

impl std::fmt::Debug for ModelOptimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelOptimizer")
            .field("optimizer", &self.text)
            .field("steps", &self.steps)
            .field("parameters", &self.roster.entries.len())
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
        let mut this = Self::from_cohorts(config.to_string(), Cohorts::new(config)?);
        let stages = config.stages.iter();
        this.stages = stages
            .map(|stage| (stage.clone(), StageState::default()))
            .collect();
        Ok(this)
    }

    /// An optimizer with any rule, also one of your own.
    ///
    /// # Errors
    /// What [`Rule::check`] finds.
    pub fn with_rule<R: Rule>(rule: R) -> Result<Self, OptimError> {
        rule.check()?;
        Ok(Self::from_cohorts(
            R::NAME.to_owned(),
            Cohorts::of_rule(rule),
        ))
    }

    fn from_cohorts(text: String, cohorts: Cohorts) -> Self {
        Self {
            text,
            cohorts,
            stages: Vec::new(),
            steps: 0,
            last_norm: None,
            spacing: None,
            roster: Roster::default(),
        }
    }

    /// One step at learning rate `lr`, already scheduled: what the stages do to gradients, the rule for
    /// every parameter that has a gradient, what the stages do to weights. On an autodiff device the
    /// update happens off the tape, and parameters come back with their id and `require_grad` as before.
    ///
    /// On the CPU backend a parameter changes in place if nobody else holds its memory.
    ///
    /// # Panics
    /// If the optimizer [needs gradients at other weights](Self::needs_closure):
    /// [`step_with`](Self::step_with) takes it. If a parameter has another shape than at the step
    /// before.
    #[must_use = "the model was moved in; this is the updated one"]
    pub fn step<M: Module>(&mut self, lr: f64, model: M, grads: GradientsParams) -> M {
        self.advance(lr, model, grads, 1.0, None)
    }

    /// [`step`](Self::step) for a gradient that counts `weight`, the number of its examples say, among
    /// those that [`Accumulate`](crate::stages::Accumulate) makes a mean of. Without accumulation the
    /// weight does nothing.
    ///
    /// # Panics
    /// As [`step`](Self::step).
    #[must_use = "the model was moved in; this is the updated one"]
    pub fn step_weighted<M: Module>(
        &mut self,
        lr: f64,
        model: M,
        grads: GradientsParams,
        weight: f64,
    ) -> M {
        self.advance(lr, model, grads, weight, None)
    }

    /// [`step`](Self::step) with the means to take gradients at other weights: `loss` gives the
    /// gradients of the loss on the batch of `grads`, at the model it is called with.
    ///
    /// What forward passes inside `loss` do to the running statistics of Burn's batch normalisation is
    /// undone.
    #[must_use = "the model was moved in; this is the updated one"]
    pub fn step_with<M: Module>(
        &mut self,
        lr: f64,
        model: M,
        grads: GradientsParams,
        loss: &mut dyn FnMut(&M) -> GradientsParams,
    ) -> M {
        self.advance(lr, model, grads, 1.0, Some(loss))
    }

    /// [`step_with`](Self::step_with) for a gradient that counts `weight`; see
    /// [`step_weighted`](Self::step_weighted).
    #[must_use = "the model was moved in; this is the updated one"]
    pub fn step_with_weighted<M: Module>(
        &mut self,
        lr: f64,
        model: M,
        grads: GradientsParams,
        weight: f64,
        loss: &mut dyn FnMut(&M) -> GradientsParams,
    ) -> M {
        self.advance(lr, model, grads, weight, Some(loss))
    }

    /// Whether only [`step_with`](Self::step_with) will do.
    pub fn needs_closure(&self) -> bool {
        self.stages.iter().any(|(stage, _)| stage.needs_closure())
            || (self.cohorts.all.iter()).any(|cohort| cohort.rule.curvature().is_some())
    }

    fn advance<M: Module>(
        &mut self,
        lr: f64,
        model: M,
        grads: GradientsParams,
        weight: f64,
        loss: Option<Loss<'_, M>>,
    ) -> M {
        self.last_norm = None;
        let mut loss = loss;
        let mut grads = self.gradients(&model, grads, &mut loss);
        let waits = self.stages.iter().any(|(stage, state)| stage.waits(state));
        let curvature = match waits {
            true => HashMap::new(),
            false => self.curvature(&model, &grads, &mut loss),
        };
        let (roster, cohorts) = (&mut self.roster, &self.cohorts);
        let (model, mut taken) = walk::take(model, &mut grads, roster, cohorts);
        if self.before_rule(weight, &mut taken) {
            self.steps += 1;
            self.update(lr, &mut taken, curvature);
            self.after_rule(lr, &mut taken);
        }
        let (model, spent) = walk::put_back(model, taken);
        discard(grads, spent);
        model
    }

    /// Every cohort's rule over its parameters.
    fn update(
        &mut self,
        lr: f64,
        taken: &mut [Taken],
        mut curvature: HashMap<String, (usize, DispatchTensor)>,
    ) {
        // Parameters and what is known about them go side by side; a module walked in another order
        // than at first is the exception.
        let in_order = taken.is_sorted_by_key(|taken| taken.entry);
        let mut sorted: Vec<&mut Taken> = taken.iter_mut().collect();
        if !in_order {
            sorted.sort_by_key(|taken| taken.entry);
        }
        let cohorts = &self.cohorts.all;
        let mut entries: Vec<Vec<_>> = cohorts.iter().map(|_| Vec::new()).collect();
        let mut known = self.roster.entries.iter_mut().enumerate();
        for taken in sorted {
            let known = known.find_map(|(index, known)| (index == taken.entry).then_some(known));
            if let Some(known) = known {
                if !curvature.is_empty()
                    && let Some((slot, h)) = curvature.remove(&known.info.name)
                {
                    let rule = &cohorts[known.cohort].rule;
                    let slots = rule.slot_shapes(&known.info.shape).len();
                    known.state.put(slot, slots, h);
                }
                entries[known.cohort].push((&mut taken.item, &mut known.state));
            }
        }
        for (cohort, mut entries) in cohorts.iter().zip(entries) {
            if !entries.is_empty() {
                cohort.rule.step_all(lr * cohort.ratio, &mut entries);
            }
        }
    }

    /// The gradients that the step begins with: taken where a stage wants them, without those of frozen
    /// parameters, with zeros where a micro-batch has none and another had.
    fn gradients<M: Module>(
        &self,
        model: &M,
        mut grads: GradientsParams,
        loss: &mut Option<Loss<'_, M>>,
    ) -> GradientsParams {
        let cohorts = &self.cohorts;
        let some_frozen = cohorts.all.iter().any(|cohort| cohort.frozen);
        let thawed = |model: &M, grads: GradientsParams| {
            if !some_frozen {
                return grads;
            }
            without(model, grads, |info| cohorts.all[cohorts.place(info)].frozen)
        };
        grads = thawed(model, grads);
        let around = self.stages.iter().find(|(stage, _)| stage.needs_closure());
        if let Some((stage, _)) = around {
            let loss = asked(loss, stage.name());
            let mut loss = |model: &M| thawed(model, loss(model));
            grads = preserving(model, || {
                stage.gradient(self.steps, model, grads, &mut loss)
            });
        }
        for (stage, state) in &self.stages {
            if stage.accumulates() && !state.parameters.is_empty() {
                fill(model, &mut grads, |name| {
                    state.parameters.contains_key(name)
                });
            }
        }
        grads
    }

    /// The estimates of curvature that are due, by name, with the slot that they are for.
    fn curvature<M: Module>(
        &self,
        model: &M,
        grads: &GradientsParams,
        loss: &mut Option<Loss<'_, M>>,
    ) -> HashMap<String, (usize, DispatchTensor)> {
        let cohorts = &self.cohorts.all;
        if cohorts
            .iter()
            .all(|cohort| cohort.rule.curvature().is_none())
        {
            return HashMap::new();
        }
        let mut due: HashMap<String, (&'static str, Curvature)> = HashMap::new();
        each_info(model, |info| {
            let known = self.roster.get(&info.name);
            let place = known.map_or_else(|| self.cohorts.place(&info), |known| known.cohort);
            let rule = &cohorts[place].rule;
            let step = known.map_or(0, |known| known.state.step) + 1;
            if let Some(curvature) = rule.curvature().filter(|curvature| curvature.due(step)) {
                due.insert(info.name, (rule.rule_name(), curvature));
            }
        });
        let Some((rule, _)) = due.values().next() else {
            return HashMap::new();
        };
        let loss = asked(loss, rule);
        let wanted = |name: &str| due.get(name).map(|(_, curvature)| *curvature);
        estimate(model, grads, loss, self.steps, self.spacing, &wanted)
            .into_iter()
            .filter_map(|(name, h)| {
                let slot = due.get(&name)?.1.slot;
                Some((name, (slot, h)))
            })
            .collect()
    }

    /// What happens before the rule. Whether it is the rule's turn.
    fn before_rule(&mut self, weight: f64, taken: &mut [Taken]) -> bool {
        if self.stages.is_empty() {
            return true;
        }
        let now = Now {
            step: self.steps,
            weight,
        };
        let mut items: Vec<&mut Item> = taken.iter_mut().map(|taken| &mut taken.item).collect();
        for (stage, state) in &mut self.stages {
            let Some(stage) = stage.on_gradients() else {
                continue;
            };
            match stage.apply(&now, state, &mut items) {
                Flow::On(norm) => self.last_norm = self.last_norm.take().or(norm),
                Flow::Wait => return false,
            }
        }
        for (stage, state) in &mut self.stages {
            stage.before_rule(state, &items);
        }
        true
    }

    /// What happens after the rule.
    fn after_rule(&mut self, lr: f64, taken: &mut [Taken]) {
        if !self.stages.iter().any(|(stage, _)| stage.on_weights()) {
            return;
        }
        let cohort = |taken: &Taken| &self.cohorts.all[self.roster.entries[taken.entry].cohort];
        let rates: Vec<_> = taken.iter().map(|taken| lr * cohort(taken).ratio).collect();
        let decays: Vec<_> = taken.iter().map(|taken| cohort(taken).decays).collect();
        let mut items: Vec<&mut Item> = taken.iter_mut().map(|taken| &mut taken.item).collect();
        for (stage, state) in &mut self.stages {
            stage.after_rule(state, &mut items, &rates, &decays);
        }
    }

    /// Sets the momentum (β₁ for the Adam family) from the next step on, as one-cycle schedules ask.
    ///
    /// A rule configured without momentum stays without: it has no buffer for one. A rule configured
    /// with momentum keeps its buffer, also while a schedule passes through 0.
    pub fn set_momentum(&mut self, momentum: f64) {
        for cohort in &mut self.cohorts.all {
            cohort.set_momentum(momentum);
        }
    }

    /// Takes differences of gradients (Sophia, AdaHessian) over the distance that suits weights of type
    /// `dtype`, whatever the type of the model's: so that a run in f64 does what a run in f32 does, but
    /// for rounding. By default the distance is that of the weights' own [type](crate::curvature).
    pub fn set_spacing(&mut self, dtype: DType) {
        self.spacing = Some(dtype);
    }

    /// The model to be used (validated, saved, deployed), where it differs from the one being trained:
    /// the average of the last stage that keeps one ([`Ema`](crate::stages::Ema),
    /// [`Swa`](crate::stages::Swa), [`Lookahead`](crate::stages::Lookahead)), or else of a rule that does.
    /// Otherwise a clone of `model`.
    ///
    /// Only parameters change. Running statistics of batch normalisation belong to the weights they
    /// were measured with: measure them anew after averaging.
    #[must_use]
    pub fn evaluation_model<M: Module>(&self, model: &M) -> M {
        let model = model.clone();
        let stage = self.stages.iter().rfind(|(stage, _)| stage.averages());
        if let Some((_, state)) = stage {
            return walk::change(model, |name, theta| {
                let kept = state.parameters.get(name);
                match kept.and_then(|state| state.tensors().into_iter().next()) {
                    Some(average) => beside(average, &theta),
                    None => theta,
                }
            });
        }
        let cohorts = &self.cohorts.all;
        if !cohorts.iter().any(|cohort| cohort.rule.averages()) {
            return model;
        }
        walk::change(model, |name, theta| match self.roster.get(name) {
            Some(known) if known.state.step > 0 => {
                cohorts[known.cohort].rule.averaged(theta, &known.state)
            }
            _ => theta,
        })
    }

    /// Whether [`evaluation_model`](Self::evaluation_model) differs from the model being trained.
    pub fn averages(&self) -> bool {
        self.stages.iter().any(|(stage, _)| stage.averages())
            || self.cohorts.all.iter().any(|cohort| cohort.rule.averages())
    }

    /// Checks that each parameter group has at least one parameter of the model; best before the first
    /// step, which leaves out an empty group without a word.
    ///
    /// # Errors
    /// [`OptimError::EmptyGroup`].
    pub fn check_groups<M: Module>(&self, model: &M) -> Result<(), OptimError> {
        let groups: Vec<&Group> = self
            .stages
            .iter()
            .filter_map(|(stage, _)| stage.as_group())
            .collect();
        check_groups(&groups, model)
    }

    /// The optimizer as text; the rule's name for one of your own.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Steps made so far, over saving and loading. (Calls of [`step`](Self::step), but a gradient that
    /// waits for others to accumulate is no step yet.)
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The global norm of the gradients at the last step, as the first `clip_global` or `clip_quantile`
    /// of the chain found it: before that clip, after what stands before it. `None` without such a clip.
    /// Waits for the device, unless that is the CPU.
    pub fn last_gradient_norm(&self) -> Option<f64> {
        self.last_norm.as_ref().map(GlobalNorm::value)
    }

    /// The state as the bytes of a safetensors file: per parameter `NAME/SLOT` in the parameter's
    /// type, `NAME/step`, and the rule's scalars as `NAME/memory`; what the n-th stage remembers of it
    /// as `NAME/n.STAGE.SLOT`; in the metadata the optimizer's text. The same state gives the same bytes.
    ///
    /// # Errors
    /// [`OptimError::BadFile`] for a type that safetensors cannot hold.
    pub fn save(&self) -> Result<Vec<u8>, OptimError> {
        saved::write(
            &self.text,
            self.steps,
            &self.cohorts,
            &self.roster.entries,
            &self.stages,
        )
    }

    /// Takes up a state written by [`save`](Self::save), bit by bit, for `model`.
    ///
    /// Hyper-parameters may differ from those of the saved run (a new rate, say); the rule of a
    /// parameter, its slots, the stages that remember something and the model's parameters may not.
    ///
    /// # Errors
    /// If the state does not fit the rules, the stages or the model; the error names the parameter,
    /// and the optimizer is unchanged.
    pub fn load<M: Module>(&mut self, bytes: &[u8], model: &M) -> Result<(), OptimError> {
        let stages: Vec<_> = self.stages.iter().map(|(stage, _)| stage).collect();
        let loaded = saved::read(bytes, &self.cohorts, &stages, model)?;
        self.steps = loaded.steps;
        self.last_norm = None;
        for ((_, state), loaded) in self.stages.iter_mut().zip(loaded.stages) {
            *state = loaded;
        }
        self.roster = Roster::of(loaded.parameters, &self.cohorts);
        Ok(())
    }
}

/// The loss, which a caller of `step` has not given.
fn asked<'a, 'b, M>(loss: &'a mut Option<Loss<'b, M>>, who: &str) -> &'a mut Loss<'b, M> {
    match loss {
        Some(loss) => loss,
        None => panic!("`{who}` needs gradients at other weights: call `step_with`"),
    }
}

/// Frees what a step leaves behind: gradients in the memory of the host. That of a large model takes
/// milliseconds to give back, which need not keep the next forward pass waiting.
///
/// Threads that are busy elsewhere (other trainings of one process, say) may not come to it for long,
/// and gradients of step after step must not pile up: beyond a few they are freed here.
fn discard(grads: GradientsParams, spent: Vec<DispatchTensor>) {
    /// Steps whose remains wait for a thread.
    static WAITING: AtomicUsize = AtomicUsize::new(0);
    /// Their largest number.
    const LIMIT: usize = 2;

    let reserve = || WAITING.try_update(Relaxed, Relaxed, |n| (n < LIMIT).then_some(n + 1));
    if !spent.is_empty() && reserve().is_ok() {
        rayon::spawn(move || {
            drop((grads, spent));
            WAITING.fetch_sub(1, Relaxed);
        });
    }
}
