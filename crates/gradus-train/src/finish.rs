//! The files a run ends with: the weights with all that is needed to use them, and the first layer as
//! a picture in numbers.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use gradus_data::{ImageShape, Normalization};
use gradus_nn::ModelConfig;
use serde::{Deserialize, Serialize};

use crate::named::{self, NamedVisitor};
use crate::{RunConfig, TrainError, weights};

/// The name of the weights in a run folder.
pub const MODEL_FILE: &str = "model.safetensors";

/// What a weights file says about itself: enough to classify an image with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The network; absent for a model of one's own.
    pub model: Option<ModelConfig>,
    /// Names of the classes, in the order of the outputs.
    pub classes: Vec<String>,
    /// `[C, H, W]` of an input.
    pub image: [usize; 3],
    /// x ← (pixel/255 − mean) / std, per channel.
    pub mean: Vec<f32>,
    /// See `mean`.
    pub std: Vec<f32>,
    /// Whether batch norm was folded into the layers before it: the norms that are not in the file are
    /// not in the model either.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub folded: bool,
}

/// The bytes of `model.safetensors`.
///
/// # Errors
/// [`TrainError::Weights`] when the model has an element type that cannot be stored.
pub(crate) fn model_file<M: Module>(
    model: &M,
    config: &RunConfig,
    normalization: &Normalization,
    classes: &[String],
    shape: ImageShape,
) -> Result<Vec<u8>, TrainError> {
    let info = ModelInfo {
        model: config.model.clone(),
        classes: classes.to_vec(),
        image: [shape.channels, shape.height, shape.width],
        mean: normalization.mean.clone(),
        std: normalization.std.clone(),
        folded: false,
    };
    info.file(model)
}

impl ModelInfo {
    /// The bytes of a file that holds the tensors of `model` and this description.
    pub(crate) fn file<M: Module>(&self, model: &M) -> Result<Vec<u8>, TrainError> {
        let info = serde_json::to_value(self)
            .map_err(|error| TrainError::Weights(format!("its description: {error}")))?;
        weights::to_safetensors(&weights::collect(model), &info)
    }
}

/// The first layer as images; the content of `filters.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filters {
    /// `filters` of a convolution, or `templates`, one per class, of a linear classifier.
    pub kind: String,
    /// Name of the weight.
    pub layer: String,
    /// `[K, C, H, W]`.
    pub shape: [usize; 4],
    /// The weights in that order.
    pub values: Vec<f32>,
    /// Class names, for templates.
    pub labels: Vec<String>,
}

/// Finds the first weight that looks at pixels: a convolution `[K, C, h, w]`, or a linear layer
/// `[C·H·W, K]`, whose columns are templates when K is the number of classes. Works for any module.
#[must_use]
pub fn filters<M: Module>(module: &M, shape: ImageShape, classes: &[String]) -> Option<Filters> {
    struct Search<'a> {
        shape: ImageShape,
        classes: &'a [String],
        found: Option<Filters>,
    }
    impl NamedVisitor for Search<'_> {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            if self.found.is_some() {
                return;
            }
            let ImageShape {
                channels,
                height,
                width,
            } = self.shape;
            let dims = param.shape().to_vec();
            let (kind, out) = match dims[..] {
                [k, c, h, w] if c == channels => ("filters", [k, c, h, w]),
                [d, k] if d == channels * height * width => {
                    let kind = if k == self.classes.len() {
                        "templates"
                    } else {
                        "filters"
                    };
                    (kind, [k, channels, height, width])
                }
                _ => return,
            };
            let stored: Vec<f32> = param.val().into_data().iter::<f32>().collect();
            let values = match dims[..] {
                [d, k] => (0..k * d).map(|at| stored[(at % d) * k + at / d]).collect(),
                _ => stored,
            };
            let labels = match kind {
                "templates" => self.classes.to_vec(),
                _ => Vec::new(),
            };
            self.found = Some(Filters {
                kind: kind.to_owned(),
                layer: name.to_owned(),
                shape: out,
                values,
                labels,
            });
        }
    }
    let mut search = Search {
        shape,
        classes,
        found: None,
    };
    named::visit(module, &mut search);
    search.found
}
