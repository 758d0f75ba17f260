//! Layer-sequential unit-variance initialisation.
//!
//! ```text
//! for each layer in the order of the forward pass:
//!     repeat until |Var(y) − 1| < 0.1, at most 10 times:   W ← W/√Var(y)
//! ```
//!
//! y is the layer's output on a sample of the data, before normalisation and activation; W starts
//! orthogonal. Source: Mishkin & Matas, "All you need is a good init", 2016, arXiv:1511.06422.

use burn::module::{ModuleMapper, Param, ParamId};
use burn::tensor::Tensor;

use crate::{Classifier, Mode, Observer};

const TOLERANCE: f64 = 0.1;
const MAX_TRIALS: usize = 10;
/// More images make the estimate of a variance no better, and deep networks slow to start.
const MAX_IMAGES: usize = 128;

/// What [`lsuv`] did: for each layer, in order, the variance of its output before and after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LsuvReport {
    /// Variances before any scaling of that layer, with all earlier layers already scaled.
    pub before: Vec<f64>,
    /// Variances at the end. Away from 1 only for a layer whose output is constant.
    pub after: Vec<f64>,
}

/// Scale each weighted layer of `model` to unit output variance on `sample` `[N, C, H, W]`.
///
/// The model runs in evaluation mode, off the tape. Layers that
/// [`Classifier::forward_observed`] does not show are left alone.
pub fn lsuv<M: Classifier>(mut model: M, sample: Tensor<4>) -> (M, LsuvReport) {
    let count = sample.dims()[0].min(MAX_IMAGES);
    let mut report = LsuvReport::default();
    if count == 0 {
        return (model, report);
    }
    let sample = sample.without_autodiff().narrow(0, 0, count);
    let mut layers = Layers(Vec::new());
    let _ = model
        .valid()
        .forward_observed(sample.clone(), Mode::eval(), &mut layers);
    for weight in layers.0 {
        let mut variance = measure(&model, &sample, weight);
        report.before.push(variance);
        for _ in 0..MAX_TRIALS {
            if (variance - 1.0).abs() < TOLERANCE || !variance.is_normal() {
                break;
            }
            model = model.map(&mut Scale {
                weight,
                factor: variance.sqrt().recip(),
            });
            variance = measure(&model, &sample, weight);
        }
        report.after.push(variance);
    }
    (model, report)
}

fn measure<M: Classifier>(model: &M, sample: &Tensor<4>, weight: ParamId) -> f64 {
    let mut probe = Variance { weight, found: 0.0 };
    let _ = model
        .valid()
        .forward_observed(sample.clone(), Mode::eval(), &mut probe);
    probe.found
}

/// The weights, in the order in which their layers appear.
struct Layers(Vec<ParamId>);

impl Observer for Layers {
    fn output<const D: usize>(&mut self, weight: ParamId, _output: &Tensor<D>) {
        self.0.push(weight);
    }
}

/// The variance of one layer's output.
struct Variance {
    weight: ParamId,
    found: f64,
}

impl Observer for Variance {
    fn output<const D: usize>(&mut self, weight: ParamId, output: &Tensor<D>) {
        if weight == self.weight {
            let output = gradus_kernels::widen(output.clone());
            let mean = output.clone().mean().into_scalar::<f64>();
            let centred = output.sub_scalar(mean);
            self.found = centred.clone().mul(centred).mean().into_scalar::<f64>();
        }
    }
}

/// Multiplies one weight.
struct Scale {
    weight: ParamId,
    factor: f64,
}

impl ModuleMapper for Scale {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if param.id != self.weight {
            return param;
        }
        param.map(|tensor| {
            // Off the tape and back: a parameter has to be a leaf.
            let (tracked, trained) = (tensor.is_autodiff(), tensor.is_require_grad());
            let scaled = tensor.without_autodiff().mul_scalar(self.factor);
            let scaled = if tracked { scaled.autodiff() } else { scaled };
            scaled.set_require_grad(trained)
        })
    }
}
