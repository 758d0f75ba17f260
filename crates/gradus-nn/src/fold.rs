//! Batch normalisation folded into the layer before it, for inference.
//!
//! In evaluation mode batch norm multiplies each channel by a number and adds another. The layer before
//! it can do that with its own weights:
//!
//! ```text
//! s = γ/√(σ²_run + ε)        w′ = w·s        b′ = β + (b − μ_run)·s        for each output channel
//! ```
//!
//! computed in f64 and rounded once, so the scores change by rounding alone. What cannot be folded stays
//! as it is and is named in [`Folding::kept`]:
//!
//! - group and layer norm, whose statistics are of the image at hand;
//! - batch norm behind a max pooling (`cnn` and `airnet` pool before they normalise) if some s < 0 there:
//!   max(s·x) is s·max(x) for s ≥ 0 only.
//!
//! A folded model is for inference: its running statistics are gone, and with them what would train it.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use gradus_nn::{Classifier, Mode, ModelConfig};
//! let device = Device::flex();
//! let model = ModelConfig::named("resnet8")?.init(&device)?;
//! let (folded, folding) = model.clone().fold_batch_norm();
//! assert_eq!((folding.folded.len(), folding.kept.len()), (7, 0));
//! let images = Tensor::ones([1, 3, 32, 32], &device);
//! let [a, b] = [model, folded].map(|model| model.forward(images.clone(), Mode::eval()));
//! assert!(a.sub(b).abs().max().into_scalar::<f32>() < 1e-4);
//! # Ok::<(), gradus_nn::NnError>(())
//! ```

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use serde::Serialize;

use crate::{AnyModel, BatchNorm, Conv2d, Linear, Norm};

/// What became of the normalisations of a model, by the path of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Folding {
    /// Those that are in the layer before them now.
    pub folded: Vec<String>,
    /// Those that stayed.
    pub kept: Vec<Kept>,
}

/// A normalisation that could not be folded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its path in the model.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A normalisation in a model, with the layer before it.
pub(crate) struct NormPlace<'a> {
    /// Path of the normalisation.
    pub(crate) name: String,
    pub(crate) layer: Layer<'a>,
    pub(crate) norm: &'a mut Option<Norm>,
    /// Whether a max pooling lies between.
    pub(crate) pooled: bool,
}

/// A layer whose output is normalised.
pub(crate) enum Layer<'a> {
    Conv(&'a mut Conv2d),
    Linear(&'a mut Linear),
}

impl AnyModel {
    /// The model with batch norm folded into the layers before it, which computes the same scores in
    /// evaluation mode, up to rounding; and what was folded.
    #[must_use]
    pub fn fold_batch_norm(mut self) -> (Self, Folding) {
        let mut folding = Folding::default();
        self.each_norm(&mut |place| {
            let Some(norm) = place.norm else {
                return;
            };
            match foldable(norm, place.pooled) {
                Ok((scale, shift)) => {
                    place.layer.absorb(&scale, &shift);
                    *place.norm = None;
                    folding.folded.push(place.name);
                }
                Err(reason) => folding.kept.push(Kept {
                    name: place.name,
                    reason,
                }),
            }
        });
        (self, folding)
    }

    /// The model without the normalisations whose path `absent` knows, with biases of 0 in the layers
    /// before them: what the weights of a folded model fit into.
    #[must_use]
    pub fn without_norms(mut self, absent: impl Fn(&str) -> bool) -> Self {
        self.each_norm(&mut |mut place| {
            if place.norm.is_some() && absent(&place.name) {
                *place.norm = None;
                place.layer.give_bias();
            }
        });
        self
    }

    fn each_norm(&mut self, f: &mut dyn FnMut(NormPlace<'_>)) {
        match self {
            Self::Linear(_) => {}
            Self::Mlp(model) => model.each_norm(f),
            Self::Cnn(model) => model.each_norm(f),
            Self::ResNet(model) => model.each_norm(f),
            Self::AirNet(model) => model.each_norm(f),
        }
    }
}

/// s and β − μ·s of each channel, or why the layer before cannot take them.
fn foldable(norm: &Norm, pooled: bool) -> Result<(Vec<f64>, Vec<f64>), String> {
    let Norm::Batch(norm) = norm else {
        return Err(
            "group and layer normalisation take their statistics from each image anew".to_owned(),
        );
    };
    let (scale, shift) = running_map(norm);
    // What is no number is no factor ≥ 0 either.
    let negative = scale.iter().filter(|s| s.is_nan() || **s < 0.0).count();
    if pooled && negative > 0 {
        return Err(format!(
            "it follows a max pooling, and {negative} of its {} factors γ/√(σ² + ε) are negative: the \
             maximum does not commute with those",
            scale.len()
        ));
    }
    Ok((scale, shift))
}

fn running_map(norm: &BatchNorm) -> (Vec<f64>, Vec<f64>) {
    let mean = values(norm.running_mean.value());
    let variance = values(norm.running_var.value());
    let parameter = |p: &Option<Param<Tensor<1>>>, neutral: f64| match p {
        Some(p) => values(p.val()),
        None => vec![neutral; mean.len()],
    };
    let (gamma, beta) = (parameter(&norm.gamma, 1.0), parameter(&norm.beta, 0.0));
    let scale: Vec<f64> = gamma
        .iter()
        .zip(variance)
        .map(|(gamma, variance)| gamma / (variance + norm.epsilon).sqrt())
        .collect();
    let shift = (beta.iter().zip(&mean).zip(&scale))
        .map(|((beta, mean), scale)| beta - mean * scale)
        .collect();
    (scale, shift)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

impl Layer<'_> {
    fn bias(&mut self) -> &mut Option<Param<Tensor<1>>> {
        match self {
            Self::Conv(conv) => &mut conv.bias,
            Self::Linear(linear) => &mut linear.bias,
        }
    }

    fn outputs(&self) -> usize {
        match self {
            Self::Conv(conv) => conv.weight.dims()[0],
            Self::Linear(linear) => linear.weight.dims()[1],
        }
    }

    /// w ← w·s, b ← b·s + t, for each output channel.
    fn absorb(mut self, scale: &[f64], shift: &[f64]) {
        self.give_bias();
        if let Some(bias) = self.bias() {
            replace(bias, |c, b| b * scale[c] + shift[c]);
        }
        match self {
            Self::Conv(conv) => {
                let [_, c, h, w] = conv.weight.dims();
                replace(&mut conv.weight, |at, x| x * scale[at / (c * h * w)]);
            }
            Self::Linear(linear) => {
                let [_, outputs] = linear.weight.dims();
                replace(&mut linear.weight, |at, x| x * scale[at % outputs]);
            }
        }
    }

    fn give_bias(&mut self) {
        let outputs = self.outputs();
        let like = match self {
            Self::Conv(conv) => (conv.weight.val().device(), conv.weight.val().dtype()),
            Self::Linear(linear) => (linear.weight.val().device(), linear.weight.val().dtype()),
        };
        self.bias()
            .get_or_insert_with(|| Param::from_tensor(Tensor::zeros([outputs], (&like.0, like.1))));
    }
}

/// Each number of a parameter by `f(place, number)`, computed in f64.
fn replace<const D: usize>(param: &mut Param<Tensor<D>>, f: impl Fn(usize, f64) -> f64) {
    let old = param.val();
    let numbers: Vec<f64> = values(old.clone())
        .into_iter()
        .enumerate()
        .map(|(at, x)| f(at, x))
        .collect();
    let data = TensorData::new(numbers, old.dims());
    let new = Tensor::<D>::from_data(data, (&old.device(), old.dtype()));
    *param = Param::initialized(param.id, new.set_require_grad(old.is_require_grad()));
}
