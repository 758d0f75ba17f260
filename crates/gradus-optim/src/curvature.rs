//! The diagonal of the Hessian, estimated from gradients alone.
//!
//! ```text
//! z    random signs, one per number of the model
//! H·z ≈ (g(θ + ε·z) − g(θ − ε·z)) / 2ε          two more gradients, no second derivatives
//! ĥ   = z ⊙ H·z                                 E ĥ = diag H
//! ε   = ∛u · max(‖θ‖/‖z‖, 0.01)                 u the rounding unit: 2⁻⁵³, in f32 2⁻²⁴
//! ```
//!
//! M. Hutchinson, *A stochastic estimator of the trace of the influence matrix*, 1990; C. Bekas,
//! E. Kokiopoulou, Y. Saad, *An estimator for the diagonal of a matrix*, 2007. The variance of ĥᵢ is
//! the sum of the squares of row i beside the diagonal: for a diagonal Hessian there is none.
//!
//! This ε, a three-hundredth of the size of a typical weight in f32, is where what the parabola leaves
//! out (∝ ε²) and what rounding adds (∝ u/ε) are of one size.

use crate::execute::{ParameterState, shape_of, with_rank};
use crate::fused_or_not::flex_dtype;
use crate::path::Path;
use crate::walk;
use burn::backend::{DispatchTensor, TensorMetadata};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, TensorData};
use gradus_core::random::{Purpose, child_seed, stream};
use rand::Rng;
use std::collections::HashMap;

/// The estimate of the Hessian's diagonal that a rule asks for; see
/// [`Rule::curvature`](crate::Rule::curvature).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Curvature {
    /// The slot that receives the estimate before [`update`](crate::Rule::update) runs.
    pub slot: usize,
    /// Steps from one estimate to the next; the first is made at the first step.
    pub every: u64,
    /// The seed of the random signs.
    pub seed: u64,
    /// Whether |ĥ| is averaged over the positions of each convolution kernel (all axes after the
    /// second).
    pub average_kernels: bool,
}

impl Curvature {
    /// Whether step `t` (1 at the first) begins with a new estimate.
    pub fn due(&self, t: u64) -> bool {
        t.saturating_sub(1).is_multiple_of(self.every.max(1))
    }
}

/// ĥ of a function of a vector, from its gradient. The signs depend on `seed` and `step` alone.
///
/// ```
/// use gradus_optim::curvature::hutchinson;
///
/// // f(x, y) = x² + 5y²: a diagonal Hessian is found whatever the signs.
/// let h = hutchinson(&[3.0, -1.0], |t| vec![2.0 * t[0], 10.0 * t[1]], 0, 1);
/// assert!((h[0] - 2.0).abs() < 1e-8 && (h[1] - 10.0).abs() < 1e-8);
/// ```
pub fn hutchinson(
    theta: &[f64],
    mut gradient: impl FnMut(&[f64]) -> Vec<f64>,
    seed: u64,
    step: u64,
) -> Vec<f64> {
    let z = signs(seed, "", step, theta.len());
    let squared = theta.iter().map(|x| x * x).sum();
    let epsilon = spacing(squared, theta.len(), DType::F64);
    let mut at = |epsilon: f64| {
        let moved: Vec<f64> = theta
            .iter()
            .zip(&z)
            .map(|(x, z)| x + epsilon * f64::from(*z))
            .collect();
        gradient(&moved)
    };
    let (plus, minus) = (at(epsilon), at(-epsilon));
    plus.iter()
        .zip(minus)
        .zip(&z)
        .map(|((plus, minus), z)| f64::from(*z) * (plus - minus) / (2.0 * epsilon))
        .collect()
}

/// `count` random signs for the parameter `name` at `step`.
fn signs(seed: u64, name: &str, step: u64, count: usize) -> Vec<f32> {
    let mut stream = stream(child_seed(seed, name), Purpose::Probe, step, 0);
    let mut signs = Vec::with_capacity(count);
    while signs.len() < count {
        let bits = stream.next_u64();
        let more = (count - signs.len()).min(64);
        signs.extend((0..more).map(|i| if bits >> i & 1 == 1 { 1.0 } else { -1.0 }));
    }
    signs
}

/// ε for weights with this sum of squares.
fn spacing(squared: f64, count: usize, dtype: DType) -> f64 {
    let unit: f64 = match dtype {
        DType::F64 => (-53_f64).exp2(),
        DType::F16 => (-11_f64).exp2(),
        DType::BF16 => (-8_f64).exp2(),
        _ => (-24_f64).exp2(),
    };
    let typical = (squared / count.max(1) as f64).sqrt();
    unit.cbrt()
        * if typical.is_finite() {
            typical.max(0.01)
        } else {
            0.01
        }
}

// === Models ===

/// ĥ of every parameter of `model` that has a gradient in `grads` and is wanted, by name. `loss` gives
/// the gradients at other weights; it must be the same function at each call.
///
/// Running statistics are afterwards what they were. `spaced_as` is the type whose rounding ε suits; by
/// default that of the weights.
pub(crate) fn estimate<M: Module>(
    model: &M,
    grads: &GradientsParams,
    loss: &mut dyn FnMut(&M) -> GradientsParams,
    step: u64,
    spaced_as: Option<DType>,
    wanted: &dyn Fn(&str) -> Option<Curvature>,
) -> HashMap<String, DispatchTensor> {
    let mut survey = Survey {
        grads,
        step,
        wanted,
        path: Path::default(),
        probes: HashMap::new(),
        squared: 0.0,
        count: 0,
        dtype: DType::F64,
    };
    model.visit(&mut survey);
    let epsilon = spacing(
        survey.squared,
        survey.count,
        spaced_as.unwrap_or(survey.dtype),
    );
    let probes = survey.probes;
    if probes.is_empty() {
        return HashMap::new();
    }
    let (plus, minus) = preserving(model, || {
        let mut at = |epsilon: f64| loss(&moved(model, &probes, epsilon));
        (at(epsilon), at(-epsilon))
    });
    let mut difference = Difference {
        plus,
        minus,
        probes,
        epsilon,
        path: Path::default(),
        found: HashMap::new(),
    };
    model.visit(&mut difference);
    difference.found
}

/// A parameter's part of the direction z.
struct Probe {
    signs: DispatchTensor,
    average_kernels: bool,
}

/// θ + ε·z.
fn moved<M: Module>(model: &M, probes: &HashMap<String, Probe>, epsilon: f64) -> M {
    walk::change(model.clone(), |name, theta| match probes.get(name) {
        None => theta,
        Some(probe) => with_rank!(shape_of(&theta).len(), D => {
            let z = Tensor::<D>::from_dispatch(probe.signs.clone());
            (Tensor::<D>::from_dispatch(theta) + z * epsilon).into_dispatch()
        }),
    })
}

/// Draws z, and measures θ.
struct Survey<'a> {
    grads: &'a GradientsParams,
    step: u64,
    wanted: &'a dyn Fn(&str) -> Option<Curvature>,
    path: Path,
    probes: HashMap<String, Probe>,
    squared: f64,
    count: usize,
    /// The coarsest type among the parameters.
    dtype: DType,
}

impl ModuleVisitor for Survey<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.name();
        let Some(curvature) = (self.wanted)(name) else {
            return;
        };
        if self.grads.get::<D>(param.id).is_none() {
            return;
        }
        let theta = param.base().inner();
        let count = theta.shape().num_elements();
        let data = TensorData::new(signs(curvature.seed, name, self.step, count), theta.shape());
        let signs = Tensor::<D>::from_data(data, (&theta.device(), theta.dtype()));
        self.squared += theta.clone().square().sum().into_scalar::<f64>();
        self.count += count;
        if theta.dtype().size() < self.dtype.size() {
            self.dtype = theta.dtype();
        }
        let probe = Probe {
            signs: signs.into_dispatch(),
            average_kernels: curvature.average_kernels,
        };
        self.probes.insert(name.to_owned(), probe);
    }
}

/// Makes ĥ of the two gradients.
struct Difference {
    plus: GradientsParams,
    minus: GradientsParams,
    probes: HashMap<String, Probe>,
    epsilon: f64,
    path: Path,
    found: HashMap<String, DispatchTensor>,
}

impl ModuleVisitor for Difference {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(probe) = self.probes.remove(self.path.name()) else {
            return;
        };
        let (Some(plus), Some(minus)) = (
            self.plus.remove::<D>(param.id),
            self.minus.remove::<D>(param.id),
        ) else {
            return;
        };
        let z = Tensor::<D>::from_dispatch(probe.signs);
        let mut h =
            (plus.inner() - minus.inner()).to_device(&z.device()) * z / (2.0 * self.epsilon);
        if probe.average_kernels && D > 2 {
            let shape = h.shape();
            h = h.abs();
            for axis in 2..D {
                h = h.mean_dim(axis);
            }
            h = h.expand(shape);
        }
        self.found
            .insert(self.path.name().to_owned(), h.into_dispatch());
    }
}

/// Runs `f`, which may send batches through `model` and its clones, and puts back what that does to
/// running statistics (which clones share).
pub(crate) fn preserving<M: Module, T>(model: &M, f: impl FnOnce() -> T) -> T {
    // `valid` folds in what the last forward pass of this thread left pending.
    drop(model.valid());
    let mut statistics = Statistics::default();
    model.visit(&mut statistics);
    let result = f();
    drop(model.valid());
    drop(model.clone().map(&mut statistics));
    result
}

/// The tensors that no gradient belongs to.
#[derive(Default)]
struct Statistics(HashMap<ParamId, DispatchTensor>);

impl ModuleVisitor for Statistics {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if !value.is_require_grad() {
            self.0.insert(param.id, value.into_dispatch());
        }
    }
}

impl burn::module::ModuleMapper for Statistics {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.remove(&param.id) {
            None => param,
            Some(value) => {
                let (id, _, mapper) = param.consume();
                Param::from_mapped_value(id, Tensor::from_dispatch(value), mapper)
            }
        }
    }
}

impl ParameterState {
    /// Gives slot `slot` of `slots` a value before the step.
    pub(crate) fn put(&mut self, slot: usize, slots: usize, value: DispatchTensor) {
        if let Some(packed) = &mut self.packed
            && flex_dtype(&value) == Some(packed.dtype())
        {
            return packed.put(slot, value);
        }
        self.settle();
        if self.slots.is_empty() {
            let zeros = || {
                with_rank!(TensorMetadata::shape(&value).num_dims(), D => {
                    Tensor::<D>::from_dispatch(value.clone()).zeros_like().into_dispatch()
                })
            };
            self.slots = (0..slots).map(|_| zeros()).collect();
        }
        self.slots[slot] = value;
    }
}
