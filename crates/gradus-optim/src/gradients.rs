//! Gradients of a model as a whole: their norm, clipping, and the search for a bad one.
//!
//! ```text
//! ‖g‖ = √(Σ over parameters Σ over entries g²)
//! ```
//! On the CPU backend (flex) sums are taken in f64 straight from memory. Elsewhere they are taken on the
//! device, and a call that returns numbers waits for it once; [`GlobalNorm`] lets the caller choose
//! when. There the squares are of g/max|g|, so that entries of 1e30 do not overflow.
//!
//! R. Pascanu, T. Mikolov, Y. Bengio, *On the difficulty of training recurrent neural networks*,
//! 2012, arXiv:1211.5063 (clipping by norm).

use crate::fused_or_not::{Values, with_values};
pub use crate::norm::GlobalNorm;
use crate::path::Path;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rayon::prelude::*;

/// The norm of all gradients together. Parameters without a gradient count as zero.
pub fn global_norm<M: Module>(model: &M, grads: &GradientsParams) -> f64 {
    GlobalNorm::of(model, grads).value()
}

/// The norm of each parameter's gradient, with the parameter's name, in the model's order.
pub fn norms<M: Module>(model: &M, grads: &GradientsParams) -> Vec<(String, f64)> {
    measured(model, grads)
        .into_iter()
        .map(|(name, square)| (name, square.sqrt()))
        .collect()
}

/// The name of the first parameter, in the model's order, whose gradient holds a NaN or an infinity.
///
/// Also reports a finite gradient whose squares add up to more than the largest `f64`.
pub fn first_non_finite<M: Module>(model: &M, grads: &GradientsParams) -> Option<String> {
    measured(model, grads)
        .into_iter()
        .find(|(_, square)| !square.is_finite())
        .map(|(name, _)| name)
}

/// Scales all gradients by `limit/(‖g‖ + 1e-6)` if that is below 1, as PyTorch's `clip_grad_norm_`.
/// Returns ‖g‖ as it was before.
///
/// If ‖g‖ is not finite the gradients are left as they are: look at the result.
pub fn clip_global_norm<M: Module>(model: &M, grads: &mut GradientsParams, limit: f64) -> f64 {
    let norm = global_norm(model, grads);
    let factor = clip_factor(norm, limit);
    if factor < 1.0 {
        scale(model, grads, factor);
    }
    norm
}

/// [`clip_global_norm`] for each parameter alone.
pub fn clip_norm<M: Module>(model: &M, grads: &mut GradientsParams, limit: f64) {
    let factors: Vec<_> = norms(model, grads)
        .into_iter()
        .map(|(_, norm)| clip_factor(norm, limit))
        .collect();
    let mut factors = factors.into_iter();
    change(model, grads, &mut |change| {
        // The same walk as in `norms`: one factor per gradient.
        match factors.next() {
            Some(factor) if factor < 1.0 => change.scale(factor),
            _ => {}
        }
    });
}

/// Moves every entry into [−limit, limit].
pub fn clip_value<M: Module>(model: &M, grads: &mut GradientsParams, limit: f64) {
    change(model, grads, &mut |change| change.clamp(limit));
}

/// Multiplies every gradient by `factor`.
pub fn scale<M: Module>(model: &M, grads: &mut GradientsParams, factor: f64) {
    change(model, grads, &mut |change| change.scale(factor));
}

/// min(1, …) of it is what a clip by norm multiplies with.
pub(crate) fn clip_factor(norm: f64, limit: f64) -> f64 {
    if norm.is_finite() {
        limit / (norm + 1e-6)
    } else {
        1.0
    }
}

// === Changing ===

/// What to do with one gradient, whatever its rank.
#[derive(Clone, Copy, Default)]
struct Change {
    factor: Option<f64>,
    limit: Option<f64>,
}

impl Change {
    fn scale(&mut self, factor: f64) {
        self.factor = Some(factor);
    }
    fn clamp(&mut self, limit: f64) {
        self.limit = Some(limit);
    }
}

fn change<M: Module>(model: &M, grads: &mut GradientsParams, decide: &mut dyn FnMut(&mut Change)) {
    model.visit(&mut Changer { grads, decide });
}

struct Changer<'a> {
    grads: &'a mut GradientsParams,
    decide: &'a mut dyn FnMut(&mut Change),
}

impl ModuleVisitor for Changer<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(mut g) = self.grads.remove::<D>(param.id) else {
            return;
        };
        let mut change = Change::default();
        (self.decide)(&mut change);
        if let Some(factor) = change.factor {
            g = g.mul_scalar(factor);
        }
        if let Some(limit) = change.limit {
            g = g.clamp(-limit, limit);
        }
        self.grads.register(param.id, g);
    }
}

// === Measuring ===

/// Each gradient's name and Σ g².
fn measured<M: Module>(model: &M, grads: &GradientsParams) -> Vec<(String, f64)> {
    let mut measure = Measure {
        grads,
        path: Path::default(),
        names: Vec::new(),
        squares: Squares::default(),
    };
    model.visit(&mut measure);
    let squares = measure.squares.finish();
    measure.names.into_iter().zip(squares).collect()
}

/// Σ g², where g lies in the host's memory.
pub(crate) fn square_in_memory<const D: usize>(g: &Tensor<D>) -> Option<f64> {
    with_values(g.clone().into_dispatch(), |values| match values {
        Values::F32(values) => sum_of_squares(values),
        Values::F64(values) => sum_of_squares(values),
    })
}

/// Sums of squares, of which some may still be on their way from a device.
#[derive(Default)]
struct Squares {
    known: Vec<f64>,
    /// Results still on their device, with their place in `known`.
    pending: Vec<(usize, Tensor<1>)>,
}

impl Squares {
    fn add<const D: usize>(&mut self, g: Tensor<D>) {
        // Backends refuse to look for the largest of no numbers.
        if g.dims().contains(&0) {
            return self.known.push(0.0);
        }
        let square = square_in_memory(&g);
        if square.is_none() {
            let largest = g.clone().abs().max().reshape([1]);
            // A zero tensor is divided by the smallest normal number instead of by zero.
            let divisor = largest.clone().clamp_min(f64::from(f32::MIN_POSITIVE));
            let g = g.flatten::<1>(0, D.max(1) - 1);
            let sum = (g / divisor).square().sum().reshape([1]);
            self.pending
                .push((self.known.len(), Tensor::cat(vec![largest, sum], 0)));
        }
        self.known.push(square.unwrap_or(f64::NAN));
    }

    fn finish(mut self) -> Vec<f64> {
        for (place, values) in read_pending(self.pending) {
            // [max|g|, Σ (g/max|g|)²] of one tensor.
            let (largest, sum) = (values[0], values[1]);
            self.known[place] = if largest == 0.0 {
                sum
            } else {
                largest * largest * sum
            };
        }
        self.known
    }
}

/// Brings the results of the device to the host, in one read for each device and type.
fn read_pending(pending: Vec<(usize, Tensor<1>)>) -> Vec<(usize, Vec<f64>)> {
    let mut groups: Vec<(Vec<usize>, Vec<Tensor<1>>)> = Vec::new();
    for (index, tensor) in pending {
        let same = groups.iter_mut().find(|(_, tensors)| {
            tensors[0].device() == tensor.device() && tensors[0].dtype() == tensor.dtype()
        });
        match same {
            Some((indices, tensors)) => {
                indices.push(index);
                tensors.push(tensor);
            }
            None => groups.push((vec![index], vec![tensor])),
        }
    }
    let mut read = Vec::new();
    for (indices, tensors) in groups {
        let values: Vec<f64> = Tensor::cat(tensors, 0).into_data().iter::<f64>().collect();
        read.extend(
            indices
                .into_iter()
                .zip(values.chunks(2).map(<[f64]>::to_vec)),
        );
    }
    read
}

struct Measure<'a> {
    grads: &'a GradientsParams,
    path: Path,
    names: Vec<String>,
    squares: Squares,
}

impl ModuleVisitor for Measure<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(g) = self.grads.get::<D>(param.id) else {
            return;
        };
        self.names.push(self.path.name().to_owned());
        self.squares.add(g.inner());
    }
}

/// Σ x² in f64. The order of additions is fixed, whatever the number of threads.
fn sum_of_squares<T: Copy + Into<f64> + Sync>(values: &[T]) -> f64 {
    /// Values that one thread adds up.
    const CHUNK: usize = 64 * 1024;
    /// Independent sums, so that additions need not wait for one another.
    const LANES: usize = 16;

    let of_chunk = |chunk: &[T]| -> f64 {
        let mut sums = [0.0_f64; LANES];
        let mut groups = chunk.chunks_exact(LANES);
        for group in &mut groups {
            for (sum, x) in sums.iter_mut().zip(group) {
                let x: f64 = (*x).into();
                *sum += x * x;
            }
        }
        for (sum, x) in sums.iter_mut().zip(groups.remainder()) {
            let x: f64 = (*x).into();
            *sum += x * x;
        }
        sums.iter().sum()
    };
    if values.len() <= CHUNK {
        of_chunk(values)
    } else {
        let sums: Vec<f64> = values.par_chunks(CHUNK).map(of_chunk).collect();
        sums.iter().sum()
    }
}
