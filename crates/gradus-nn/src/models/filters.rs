//! What the first layer of a model looks for, as images.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::AnyModel;
use crate::layers::{Conv2d, Linear};

/// What the pictures of [`FirstLayerFilters`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilterKind {
    /// One picture per class: the weights of a linear classifier.
    Templates,
    /// One picture per filter or hidden unit.
    Filters,
}

/// The weights of a model's first layer as `k` images of the input's channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FirstLayerFilters {
    /// Templates or filters.
    pub kind: FilterKind,
    /// Module path of the layer.
    pub layer: String,
    /// `[k, channels, height, width]`.
    pub shape: [usize; 4],
    /// The weights in that order.
    pub values: Vec<f32>,
}

impl AnyModel {
    /// The first layer's weights as images: class templates of `linear`, filters of the others.
    #[must_use]
    pub fn first_layer_filters(&self) -> FirstLayerFilters {
        match self {
            Self::Linear(model) => {
                of_linear(&model.head, model.input, FilterKind::Templates, "head")
            }
            Self::Mlp(model) => match model.hidden.first() {
                Some(layer) => of_linear(
                    &layer.linear,
                    model.input,
                    FilterKind::Filters,
                    "hidden.0.linear",
                ),
                None => of_linear(&model.head, model.input, FilterKind::Templates, "head"),
            },
            Self::Cnn(model) => match model.stages.iter().flatten().next() {
                Some(block) => of_conv(&block.conv, "stages.0.0.conv"),
                None => empty("stages.0.0.conv"),
            },
            Self::ResNet(model) => of_conv(&model.conv, "conv"),
            Self::AirNet(model) => of_conv(&model.whiten, "whiten"),
        }
    }
}

fn of_linear(
    layer: &Linear,
    [c, h, w]: [usize; 3],
    kind: FilterKind,
    name: &str,
) -> FirstLayerFilters {
    let weight = layer.weight.val();
    let [_, units] = weight.dims();
    FirstLayerFilters {
        kind,
        layer: name.to_string(),
        shape: [units, c, h, w],
        values: numbers(weight.transpose()),
    }
}

fn of_conv(layer: &Conv2d, name: &str) -> FirstLayerFilters {
    let weight = layer.weight.val();
    FirstLayerFilters {
        kind: FilterKind::Filters,
        layer: name.to_string(),
        shape: weight.dims(),
        values: numbers(weight),
    }
}

fn empty(name: &str) -> FirstLayerFilters {
    FirstLayerFilters {
        kind: FilterKind::Filters,
        layer: name.to_string(),
        shape: [0; 4],
        values: Vec::new(),
    }
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .try_to_vec()
        .expect("the data was converted to f32 on the line above")
}
