//! A model on a fixed batch as a function of one vector: its trained parameters.
//!
//! ```text
//! x = the parameters with `require_grad`, flattened and joined in the order of the module's walk
//! f(x) = loss(model with the parameters x),   ∇f by automatic differentiation
//! G(x)·v = Jᵀ·H_L·J·v      J·v and H_L·(J·v) by central differences, Jᵀ·u by automatic differentiation
//! ```
//!
//! Burn has no forward mode and no second derivatives, hence the differences. Their relative error is
//! of the order ∛ε²: about 1e-10 for f64 parameters and 1e-4 for f32, which conjugate gradients
//! tolerate.

use super::objective::Objective;
use super::vector::norm;
use crate::path::Path;
use crate::{OptimError, forget_graphs};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, TensorData};

/// One trained parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    dtype: DType,
}

impl Piece {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Walks through a model, collecting the trained parameters: their places, and their values or
/// gradients.
#[derive(Default)]
struct Flatten {
    path: Path,
    pieces: Vec<Piece>,
    values: Vec<f64>,
    /// Gradients to be collected instead of values; a parameter that the loss does not touch has none,
    /// which counts as 0.
    grads: Option<GradientsParams>,
}

impl ModuleVisitor for Flatten {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        if !tensor.is_require_grad() {
            return;
        }
        let piece = Piece {
            name: self.path.name().to_owned(),
            shape: tensor.dims().to_vec(),
            dtype: tensor.dtype(),
        };
        match &mut self.grads {
            None => self.values.extend(tensor.into_data().iter::<f64>()),
            Some(grads) => match grads.remove::<D>(param.id) {
                Some(grad) => self.values.extend(grad.into_data().iter::<f64>()),
                None => self.values.resize(self.values.len() + piece.len(), 0.0),
            },
        }
        self.pieces.push(piece);
    }
}

/// Puts numbers into the trained parameters.
struct Unflatten<'a> {
    values: &'a [f64],
}

impl ModuleMapper for Unflatten<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.val().is_require_grad() {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let checkpointing = tensor.gradient_checkpointing_strategy();
        let distributed = tensor.is_autodiff() && tensor.is_distributed();
        let shape = tensor.dims();
        let dtype = tensor.dtype();
        let device = tensor.inner().device();
        let (these, rest) = self.values.split_at(shape.iter().product());
        self.values = rest;
        let data = TensorData::new(these.to_vec(), shape).convert_dtype(dtype);
        let mut tensor = Tensor::from_inner(Tensor::<D>::from_data(data, (&device, dtype)));
        if let Some(strategy) = checkpointing {
            tensor = tensor.with_gradient_checkpointing_strategy(strategy);
        }
        tensor = tensor.require_grad();
        if distributed {
            tensor = tensor.set_distributed(id);
        }
        Param::from_mapped_value(id, tensor, mapper)
    }
}

type Loss<'a, M> = Box<dyn FnMut(&M) -> Tensor<1> + 'a>;
type Outputs<'a, M> = Box<dyn FnMut(&M) -> Tensor<2> + 'a>;
type Head<'a> = Box<dyn FnMut(Tensor<2>) -> Tensor<1> + 'a>;

enum Closure<'a, M> {
    Whole(Loss<'a, M>),
    Composed(Outputs<'a, M>, Head<'a>),
}

/// The loss of a model on a fixed batch as an [`Objective`] of its trained parameters.
///
/// Only parameters that require a gradient move: frozen ones and buffers stay as they are. The loss
/// must be a pure function of the model: batch norm should look at the batch without updating its
/// running averages (`Mode::train(…).without_statistics()` in gradus-nn), dropout should draw the same
/// mask each time (which [`Mode`](https://docs.rs/gradus-nn) does for a given step).
///
/// ```
/// use burn::{nn::LinearConfig, tensor::{Device, Tensor}};
/// use gradus_optim::solve::{Cg, ModelObjective, Stop, minimise};
///
/// let device = Device::flex().autodiff();
/// let model = LinearConfig::new(2, 1).init(&device);
/// let x = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]], &device);
/// let y = Tensor::<2>::from_floats([[5.0], [1.0], [2.0]], &device);
/// let mut objective = ModelObjective::new(model, |model: &burn::nn::Linear| {
///     (model.forward(x.clone()) - y.clone()).square().mean()
/// })?;
/// let start = objective.position();
/// let stop = Stop { gradient_tolerance: 1e-4, ..Stop::default() };
/// let found = minimise(Cg::default().solver()?.as_mut(), &mut objective, &start, &stop)?;
/// assert!(found.value < 1e-6);
/// let model = objective.into_model(&found.x);
/// # Ok::<(), gradus_optim::OptimError>(())
/// ```
pub struct ModelObjective<'a, M: Module> {
    model: M,
    pieces: Vec<Piece>,
    dimension: usize,
    closure: Closure<'a, M>,
    version: u64,
}

impl<M: Module> std::fmt::Debug for ModelObjective<'_, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelObjective")
            .field("dimension", &self.dimension)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl<'a, M: Module> ModelObjective<'a, M> {
    /// The objective `loss` of `model`.
    ///
    /// # Errors
    /// [`OptimError::Unsolvable`] if no parameter requires a gradient: all are frozen, or the model is
    /// not on an autodiff device.
    pub fn new(model: M, loss: impl FnMut(&M) -> Tensor<1> + 'a) -> Result<Self, OptimError> {
        Self::with_closure(model, Closure::Whole(Box::new(loss)))
    }

    /// The objective head(outputs(model)), which has Gauss–Newton products: `outputs` gives the logits
    /// (a row per example) and `head` the loss of them.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn composed(
        model: M,
        outputs: impl FnMut(&M) -> Tensor<2> + 'a,
        head: impl FnMut(Tensor<2>) -> Tensor<1> + 'a,
    ) -> Result<Self, OptimError> {
        Self::with_closure(model, Closure::Composed(Box::new(outputs), Box::new(head)))
    }

    fn with_closure(model: M, closure: Closure<'a, M>) -> Result<Self, OptimError> {
        let pieces = pieces(&model);
        let dimension = pieces.iter().map(Piece::len).sum();
        if dimension == 0 {
            return Err(OptimError::Unsolvable {
                solver: "model",
                problem:
                    "no parameter requires a gradient: all are frozen, or the model is not on \
                          an autodiff device"
                        .to_owned(),
            });
        }
        Ok(Self {
            model,
            pieces,
            dimension,
            closure,
            version: 0,
        })
    }

    /// The same, told apart from the objectives of other batches.
    #[must_use]
    pub fn with_version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    /// The trained parameters as they stand in the model.
    pub fn position(&self) -> Vec<f64> {
        let mut walk = Flatten::default();
        self.model.visit(&mut walk);
        walk.values
    }

    /// The model with the trained parameters x.
    pub fn into_model(self, x: &[f64]) -> M {
        put(self.model, x)
    }

    /// The model as it was given, but for x.
    fn at(&self, x: &[f64]) -> M {
        put(self.model.clone(), x)
    }

    /// What the parameters' types make of x.
    pub(crate) fn rounded(&self, x: &[f64]) -> Vec<f64> {
        let mut rest = x;
        let mut rounded = Vec::with_capacity(x.len());
        for piece in &self.pieces {
            let (these, after) = rest.split_at(piece.len().min(rest.len()));
            rest = after;
            let data = TensorData::new(these.to_vec(), [these.len()]);
            rounded.extend(data.convert_dtype(piece.dtype).iter::<f64>());
        }
        rounded
    }

    fn loss(&mut self, model: &M) -> Tensor<1> {
        match &mut self.closure {
            Closure::Whole(loss) => loss(model),
            Closure::Composed(outputs, head) => head(outputs(model)),
        }
    }
}

/// The trained parameters of a model, in the order of its walk.
pub(crate) fn pieces<M: Module>(model: &M) -> Vec<Piece> {
    let mut walk = Flatten::default();
    model.visit(&mut walk);
    walk.pieces
}

fn put<M: Module>(model: M, x: &[f64]) -> M {
    model.map(&mut Unflatten { values: x })
}

fn number(tensor: Tensor<1>) -> f64 {
    // A tensor of one number; the sum, had a closure returned more.
    tensor.into_data().iter::<f64>().sum()
}

/// The gradient of `loss` with respect to the trained parameters of `model`.
fn gradient<M: Module>(loss: &Tensor<1>, model: &M, into: &mut [f64]) {
    if !loss.is_tracked() {
        // The loss does not depend on the parameters.
        into.fill(0.0);
        return;
    }
    let grads = GradientsParams::from_grads(loss.backward(), model);
    let mut walk = Flatten {
        grads: Some(grads),
        ..Flatten::default()
    };
    model.visit(&mut walk);
    super::objective::fill(into, &walk.values);
}

impl<M: Module> Objective for ModelObjective<'_, M> {
    fn dimension(&self) -> usize {
        self.dimension
    }

    fn value(&mut self, x: &[f64]) -> f64 {
        let value = number(self.loss(&self.at(x)));
        if let Some(device) = self.model.devices().first() {
            forget_graphs(device);
        }
        value
    }

    fn value_and_gradient(&mut self, x: &[f64], into: &mut [f64]) -> f64 {
        let model = self.at(x);
        let loss = self.loss(&model);
        gradient(&loss, &model, into);
        number(loss)
    }

    fn difference_step(&self) -> f64 {
        let epsilon = |piece: &Piece| match piece.dtype {
            DType::F64 => f64::EPSILON,
            DType::F16 => 9.77e-4,
            DType::BF16 => 7.81e-3,
            _ => f64::from(f32::EPSILON),
        };
        self.pieces.iter().map(epsilon).fold(0.0, f64::max).cbrt()
    }

    fn gauss_newton_vector(
        &mut self,
        x: &[f64],
        v: &[f64],
        product: &mut [f64],
    ) -> Result<(), OptimError> {
        let step = self.difference_step();
        let size = norm(v);
        let models = (size > 0.0).then(|| {
            let h = step * (1.0 + norm(x)) / size;
            let at = |h| self.at(&super::vector::along(x, h, v));
            (h, self.at(x), at(h), at(-h))
        });
        let Closure::Composed(outputs, head) = &mut self.closure else {
            return Err(OptimError::Unsolvable {
                solver: "Gauss-Newton",
                problem: "the loss is one closure: give outputs and loss apart \
                          (`ModelObjective::composed`)"
                    .to_owned(),
            });
        };
        let Some((h, here, ahead, behind)) = models else {
            product.fill(0.0);
            return Ok(());
        };
        // u = J·v.
        let u = (outputs(&ahead).inner() - outputs(&behind).inner()) / (2.0 * h);
        // w = H_L·u, by differences of the loss's gradient at z ± k·u.
        let z = outputs(&here);
        let length = |t: &Tensor<2>| number(t.clone().square().sum()).sqrt();
        let along = length(&u);
        if along == 0.0 {
            product.fill(0.0);
            return Ok(());
        }
        let flat = z.clone().inner();
        let k = step * (1.0 + length(&flat)) / along;
        let mut slope = |k: f64| {
            let z = Tensor::from_inner(flat.clone() + u.clone() * k).require_grad();
            let grads = head(z.clone()).backward();
            z.grad(&grads)
        };
        let (Some(after), Some(before)) = (slope(k), slope(-k)) else {
            // The loss does not depend on the outputs.
            product.fill(0.0);
            return Ok(());
        };
        let w = (after - before) / (2.0 * k);
        // Jᵀ·w.
        gradient(&(z * Tensor::from_inner(w)).sum(), &here, product);
        Ok(())
    }

    fn version(&self) -> u64 {
        self.version
    }
}
