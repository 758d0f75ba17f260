//! What is minimised: a line and a bowl, other ones in each step.
//!
//! ```text
//! fₜ(θ) = Σ aₜ·θ + ½·h·θ²,  ∇fₜ(θ) = aₜ + h·θ          aₜ of both signs, h > 0, random numbers of f32
//! ```
//! The parameters are those of a convolution, a dense layer and a normalisation, and a long vector: what
//! optimizers tell apart (rank, role, size). The matrices are square and the gradients of full rank, since
//! where a gradient is zero SOAP divides rounding by rounding.

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use gradus_core::random::{Purpose, child_seed, stream};
use gradus_train::weights::NamedTensors;
use rand::RngExt;

use crate::parity::tensors::{each, rounded, wide};
use crate::parity::yardstick::nudged;

/// The parameters that are optimized.
#[derive(Module, Debug)]
pub(super) struct Parameters {
    /// `[8, 3, 3, 3]` and `[8]`.
    conv: Conv2d,
    /// `[12, 12]` and `[12]`.
    dense: Linear,
    /// `[12]` twice.
    norm: LayerNorm,
    /// Longer than a thread's share on flex, and no multiple of its blocks.
    table: Param<Tensor<1>>,
}

impl Parameters {
    pub(super) fn new(device: &Device) -> Self {
        Self {
            conv: Conv2dConfig::new([3, 8], [3, 3]).init(device),
            dense: LinearConfig::new(12, 12).init(device),
            norm: LayerNormConfig::new(12).init(device),
            table: Param::from_tensor(Tensor::zeros([70_001], device)),
        }
    }
}

/// Numbers of f32 in −1…1 for each tensor.
pub(super) fn noise(like: &NamedTensors, seed: u64, step: u64) -> NamedTensors {
    let drawn = like.iter().map(|(name, data)| {
        let mut stream = stream(child_seed(seed, name), Purpose::Probe, step, 0);
        let count = data.num_elements();
        let values: Vec<f64> = (0..count)
            .map(|_| f64::from(stream.random_range(-1.0f32..1.0)))
            .collect();
        let data = TensorData::new(values, data.shape().to_vec());
        (name.clone(), data)
    });
    drawn.collect()
}

/// The function of a step: its slopes a and curvatures h.
pub(super) struct Function {
    pub(super) slopes: NamedTensors,
    pub(super) curvatures: NamedTensors,
}

impl Function {
    pub(super) fn at(like: &NamedTensors, seed: u64, step: usize) -> Self {
        let size = |name: &str| match name {
            "conv.weight" => 0.1,
            "dense.weight" => 1.0,
            _ => 0.01,
        };
        let mut slopes = noise(like, seed, step as u64);
        for (name, data) in &mut slopes {
            let scaled = wide(data).iter().map(|x| x * size(name)).collect();
            *data = TensorData::new::<f64, _>(scaled, data.shape().to_vec());
        }
        let h = |values: &[f64]| values.iter().map(|x| 0.1 * (1.1 + x)).collect();
        Self {
            slopes: rounded(slopes),
            curvatures: rounded(each(&noise(like, seed, u64::MAX), h)),
        }
    }

    /// The gradient as f32 has it.
    pub(super) fn gradient(&self, weights: &NamedTensors) -> NamedTensors {
        let found = weights.iter().map(|(name, data)| {
            let terms = |tensors: &NamedTensors| tensors.get(name).map(wide).unwrap_or_default();
            let (a, h) = (terms(&self.slopes), terms(&self.curvatures));
            let values: Vec<f64> = (wide(data).iter().zip(a).zip(h))
                .map(|((x, a), h)| a + h * x)
                .collect();
            let data = TensorData::new(values, data.shape().to_vec());
            (name.clone(), data)
        });
        rounded(found.collect())
    }

    /// The function with a gradient that is moved a little, and the other way: what differences of two
    /// gradients make of rounding would not be seen if both moved alike.
    pub(super) fn nudged(&self, way: f64) -> [Self; 2] {
        [way, -way].map(|way| Self {
            slopes: each(&self.slopes, |a| nudged(a, way)),
            curvatures: each(&self.curvatures, |h| nudged(h, way)),
        })
    }
}

/// aₜ + h·θ for every parameter of a model, on its device.
pub(super) struct GradientAt<'a> {
    pub(super) slopes: &'a GradientsParams,
    pub(super) curvatures: &'a GradientsParams,
    pub(super) found: GradientsParams,
}

impl ModuleVisitor for GradientAt<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let a = self.slopes.get::<D>(param.id);
        let h = self.curvatures.get::<D>(param.id);
        if let (Some(a), Some(h)) = (a, h) {
            self.found.register(param.id, a + h * param.val().inner());
        }
    }
}
