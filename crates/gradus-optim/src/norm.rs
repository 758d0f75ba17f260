//! ‖g‖ of many gradients together, which the host need not know at once.
//!
//! ```text
//! ‖g‖ = √(k + m²·Σ (g/m)²)        k = Σ g² of the gradients in the host's memory,  m = max|g| of the others
//! ```
//! On the CPU backend (flex) squares are added up in f64 straight from memory. On a GPU (backends of CubeCL) a kernel
//! reads each gradient once, where it lies; elsewhere the gradients are laid one after another and reduced. m and
//! Σ (g/m)² stay on the device as one tensor of two numbers until someone asks for the [`value`](GlobalNorm::value), or takes them along with a tensor of his own
//! ([`pending`](GlobalNorm::pending), [`given`](GlobalNorm::given)). A clip by the norm needs no value: its factor is
//! computed where the gradients are. The division by m keeps entries of 1e30 from overflowing.

use crate::execute::{device_of, shape_of, with_rank};
use crate::gradients::{clip_factor, square_in_memory};
use crate::item::{Item, flattened};
use burn::backend::{DispatchTensor, TensorMetadata};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use gradus_kernels::flat::{clip_factor as factor_on_device, magnitude};

/// ‖g‖, of which a part may still be on a device.
#[derive(Clone, Debug)]
pub struct GlobalNorm {
    /// Σ g² as far as the host has it.
    known: f64,
    /// m and Σ (g/m)² of the rest.
    pending: Option<Box<Tensor<1>>>,
}

/// What gradients are multiplied with.
pub(crate) enum Factor {
    Known(f64),
    /// `[1]`, beside the gradients; at most 1.
    Pending(Box<Tensor<1>>),
}

impl GlobalNorm {
    /// Of the gradients of `model`. Parameters without one count as zero. Reads nothing from a device, unless the
    /// gradients are on several or of several types.
    pub fn of<M: Module>(model: &M, grads: &GradientsParams) -> Self {
        let mut visit = Visit {
            grads,
            gathered: Gathered::default(),
        };
        model.visit(&mut visit);
        visit.gathered.finish()
    }

    /// Of the weights and buffers of `model` instead: finite if all of them are, for the price of one read.
    pub fn of_weights<M: Module>(model: &M) -> Self {
        let mut gathered = Weights(Gathered::default());
        model.visit(&mut gathered);
        gathered.0.finish()
    }

    pub(crate) fn of_items(items: &[&mut Item]) -> Self {
        let mut gathered = Gathered::default();
        for item in items {
            let g = item.grad.clone();
            with_rank!(item.shape.len(), D => { gathered.add(Tensor::<D>::from_dispatch(g)) });
        }
        gathered.finish()
    }

    /// Two numbers on a device, without which the norm is not known; `None` if it is.
    #[must_use]
    pub fn pending(&self) -> Option<&Tensor<1>> {
        self.pending.as_deref()
    }

    /// The norm, given what [`pending`](Self::pending) holds; without it NaN, if it is needed.
    #[must_use]
    pub fn given(&self, pending: &[f64]) -> f64 {
        let rest = match (&self.pending, pending) {
            (None, _) => 0.0,
            (Some(_), [largest, sum]) if *largest == 0.0 => *sum,
            (Some(_), [largest, sum]) => largest * largest * sum,
            (Some(_), _) => f64::NAN,
        };
        (self.known + rest).sqrt()
    }

    /// The norm. Waits for the device, if it has a part of it.
    #[must_use]
    pub fn value(&self) -> f64 {
        match &self.pending {
            None => self.given(&[]),
            Some(pending) => self.given(&read((**pending).clone())),
        }
    }

    /// min(1, L/(‖g‖ + 1e-6)), and 1 if ‖g‖ is not finite: what a clip multiplies with.
    pub(crate) fn factor(&self, limit: f64) -> Factor {
        match &self.pending {
            Some(pending) if self.known == 0.0 => {
                let pair = (**pending).clone().into_dispatch();
                if let Ok(factor) = factor_on_device(pair, limit) {
                    return Factor::Pending(Box::new(Tensor::from_dispatch(factor)));
                }
                let [largest, sum] = [0..1, 1..2].map(|place| (**pending).clone().slice(place));
                let norm = largest * sum.sqrt();
                let factor = (norm.clone() + 1e-6).recip() * limit;
                let bad = norm.is_finite().bool_not();
                Factor::Pending(Box::new(factor.clamp_max(1.0).mask_fill(bad, 1.0)))
            }
            _ => Factor::Known(clip_factor(self.value(), limit)),
        }
    }
}

fn read(tensor: Tensor<1>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

#[derive(Default)]
struct Gathered {
    known: f64,
    pending: Vec<DispatchTensor>,
}

impl Gathered {
    fn add<const D: usize>(&mut self, g: Tensor<D>) {
        // Backends refuse to look for the largest of no numbers.
        if g.dims().contains(&0) {
            return;
        }
        match square_in_memory(&g) {
            Some(square) => self.known += square,
            None => self.pending.push(g.into_dispatch()),
        }
    }

    fn finish(self) -> GlobalNorm {
        let mut norm = GlobalNorm {
            known: self.known,
            pending: None,
        };
        let mut rest = self.pending;
        while let Some(first) = rest.first() {
            let (device, dtype) = (device_of(first), first.dtype());
            let (together, others) = rest
                .into_iter()
                .partition(|g| device_of(g) == device && g.dtype() == dtype);
            rest = others;
            // What does not go together with the others is read: one norm has room for one tensor.
            if let Some(pending) = norm.pending.replace(Box::new(reduced(together))) {
                let square = GlobalNorm {
                    known: 0.0,
                    pending: Some(pending),
                };
                norm.known += square.value().powi(2);
            }
        }
        norm
    }
}

/// m = max|g| and Σ (g/m)².
fn reduced(gradients: Vec<DispatchTensor>) -> Tensor<1> {
    let gradients = match magnitude(gradients) {
        Ok(pair) => return Tensor::from_dispatch(pair),
        Err(gradients) => gradients,
    };
    let vector = |g: DispatchTensor| {
        let rank = shape_of(&g).len();
        flattened(g, rank)
    };
    let mut gradients: Vec<Tensor<1>> = gradients.into_iter().map(vector).collect();
    let g = match gradients.len() {
        1 => gradients.swap_remove(0),
        _ => Tensor::cat(gradients, 0),
    };
    let largest = g.clone().abs().max().reshape([1]);
    // Zeros are divided by the smallest normal number instead of by zero.
    let divisor = largest.clone().clamp_min(f64::from(f32::MIN_POSITIVE));
    let sum = (g / divisor).square().sum().reshape([1]);
    Tensor::cat(vec![largest, sum], 0)
}

struct Visit<'a> {
    grads: &'a GradientsParams,
    gathered: Gathered,
}

impl ModuleVisitor for Visit<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(g) = self.grads.get::<D>(param.id) {
            self.gathered.add(g.inner());
        }
    }
}

struct Weights(Gathered);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.add(param.val().inner());
    }
}
