//! What a model is made of, layer by layer, computed from its configuration alone.
//!
//! ```text
//! conv     parameters K·C·h·w (+ K)       multiply-adds K·C·h·w·H′·W′ per image
//! linear   parameters d_in·d_out (+ d_out) multiply-adds d_in·d_out
//! norm     parameters γ, β                 buffers: running mean and variance (batch norm)
//! ```
//!
//! Multiply-adds count convolutions and linear layers only, biases not included, as is usual; one is
//! two FLOP. `parameters` is what PyTorch's `sum(p.numel() for p in model.parameters())` counts:
//! running statistics are `buffers`. Burn's `num_params()` is the sum of both.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ModelConfig;
use crate::{NnError, NormKind};

/// One layer of a [`Summary`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSummary {
    /// Module path, the beginning of its parameters' names.
    pub name: String,
    /// What it is, in words.
    pub kind: String,
    /// Shape of its output without the batch: `[C, H, W]` or `[C]`.
    pub output: Vec<usize>,
    /// Number of parameters, frozen ones included.
    pub params: usize,
    /// Number of values that are saved but are no parameters.
    pub buffers: usize,
    /// Multiply-adds for one image.
    pub multiply_adds: u64,
}

/// All layers of a model and their totals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The model's name.
    pub model: String,
    /// Input shape `[C, H, W]`.
    pub input: [usize; 3],
    /// The layers, in the order of the forward pass.
    pub layers: Vec<LayerSummary>,
    /// Parameters in total, frozen ones included.
    pub parameters: usize,
    /// Parameters that are trained.
    pub trainable: usize,
    /// Buffers in total.
    pub buffers: usize,
    /// Multiply-adds for the forward pass of one image.
    pub multiply_adds: u64,
}

impl fmt::Display for Summary {
    /// A table with one layer a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: fn(&LayerSummary) -> usize, title: &str| {
            self.layers
                .iter()
                .map(column)
                .max()
                .unwrap_or(0)
                .max(title.len())
        };
        let names = width(|l| l.name.chars().count(), "layer");
        let kinds = width(|l| l.kind.chars().count(), "kind");
        writeln!(
            f,
            "{:names$}  {:kinds$}  {:>14}  {:>10}  {:>13}",
            "layer", "kind", "output", "parameters", "multiply-adds"
        )?;
        for layer in &self.layers {
            let output: Vec<String> = layer.output.iter().map(usize::to_string).collect();
            writeln!(
                f,
                "{:names$}  {:kinds$}  {:>14}  {:>10}  {:>13}",
                layer.name,
                layer.kind,
                output.join("×"),
                layer.params,
                layer.multiply_adds
            )?;
        }
        write!(
            f,
            "{}: {} parameters ({} trained), {} buffers, {:.2} M multiply-adds an image",
            self.model,
            self.parameters,
            self.trainable,
            self.buffers,
            self.multiply_adds as f64 / 1e6
        )
    }
}

/// A product that stops at the largest number: a network that size is refused by its number of
/// parameters, which therefore must not wrap around.
fn product(factors: &[usize]) -> usize {
    factors.iter().fold(1, |n, f| n.saturating_mul(*f))
}

/// As [`product`], in the type of multiply-adds.
fn work(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |n, f| n.saturating_mul(*f as u64))
}

/// Walks a shape through a network and writes down what it meets.
pub(crate) struct Plan<'a> {
    config: &'a ModelConfig,
    minimum: usize,
    shape: Vec<usize>,
    layers: Vec<LayerSummary>,
    frozen: usize,
}

impl<'a> Plan<'a> {
    /// `minimum` is the smallest side of an image that the model can take.
    pub(crate) fn new(config: &'a ModelConfig, minimum: usize) -> Result<Self, NnError> {
        let [_, h, w] = config.input;
        if h < minimum || w < minimum {
            return Err(NnError::ImageTooSmall {
                model: config.name.clone(),
                found_height: h,
                found_width: w,
                minimum,
            });
        }
        let shape = config.input.to_vec();
        Ok(Self {
            config,
            minimum,
            shape,
            layers: Vec::new(),
            frozen: 0,
        })
    }

    fn add(&mut self, name: &str, kind: String, params: usize, buffers: usize, work: u64) {
        self.layers.push(LayerSummary {
            name: name.to_string(),
            kind,
            output: self.shape.clone(),
            params,
            buffers,
            multiply_adds: work,
        });
    }

    /// The current shape as channels, height and width; a vector is an image of one pixel.
    fn image(&self) -> [usize; 3] {
        match self.shape[..] {
            [c, h, w] => [c, h, w],
            _ => [product(&self.shape), 1, 1],
        }
    }

    fn side(
        &self,
        size: usize,
        kernel: usize,
        stride: usize,
        pad: usize,
    ) -> Result<usize, NnError> {
        let [_, found_height, found_width] = self.config.input;
        (size + 2 * pad)
            .checked_sub(kernel)
            .map(|rest| rest / stride + 1)
            .ok_or_else(|| NnError::ImageTooSmall {
                model: self.config.name.clone(),
                found_height,
                found_width,
                minimum: self.minimum.max(kernel),
            })
    }

    /// A convolution with square kernels, padded by `pad`.
    pub(crate) fn conv(
        &mut self,
        name: &str,
        filters: usize,
        [kernel, stride, pad]: [usize; 3],
        bias: bool,
    ) -> Result<(), NnError> {
        let [c, h, w] = self.image();
        let (h, w) = (
            self.side(h, kernel, stride, pad)?,
            self.side(w, kernel, stride, pad)?,
        );
        self.shape = vec![filters, h, w];
        let weights = product(&[filters, c, kernel, kernel]);
        let step = if stride == 1 {
            String::new()
        } else {
            format!(", stride {stride}")
        };
        let kind = format!("conv {kernel}×{kernel}, {c} → {filters}{step}");
        self.add(
            name,
            kind,
            weights.saturating_add(if bias { filters } else { 0 }),
            0,
            work(&[weights, h, w]),
        );
        Ok(())
    }

    /// Say that `count` of the parameters so far are not trained.
    pub(crate) fn freeze(&mut self, count: usize) {
        self.frozen += count;
    }

    /// Set the shape by hand, for a path beside the main one.
    pub(crate) fn at(&mut self, shape: Vec<usize>) -> Vec<usize> {
        std::mem::replace(&mut self.shape, shape)
    }

    pub(crate) fn shape(&self) -> Vec<usize> {
        self.shape.clone()
    }

    pub(crate) fn norm(&mut self, name: &str, gamma: bool) {
        let c = self.shape[0];
        let (kind, params, buffers) = match self.config.norm {
            NormKind::None => return,
            NormKind::Batch => ("batch norm", if gamma { 2 * c } else { c }, 2 * c),
            NormKind::Group => ("group norm", 2 * c, 0),
            NormKind::Layer => ("layer norm", 2 * c, 0),
        };
        self.add(name, kind.to_string(), params, buffers, 0);
    }

    /// A linear layer; an image is flattened first.
    pub(crate) fn linear(&mut self, name: &str, outputs: usize, bias: bool) {
        let inputs = product(&self.shape);
        self.shape = vec![outputs];
        let params = product(&[inputs, outputs]).saturating_add(if bias { outputs } else { 0 });
        self.add(
            name,
            format!("linear, {inputs} → {outputs}"),
            params,
            0,
            work(&[inputs, outputs]),
        );
    }

    pub(crate) fn activation(&mut self, name: &str) {
        let kind = self.config.activation.to_string();
        self.add(name, kind, 0, 0, 0);
    }

    pub(crate) fn dropout(&mut self, name: &str) {
        if self.config.dropout > 0.0 {
            let kind = format!("dropout, p = {}", self.config.dropout);
            self.add(name, kind, 0, 0, 0);
        }
    }

    /// Max pooling over windows of 2×2.
    pub(crate) fn max_pool(&mut self, name: &str) -> Result<(), NnError> {
        let [c, h, w] = self.image();
        self.shape = vec![c, self.side(h, 2, 2, 0)?, self.side(w, 2, 2, 0)?];
        self.add(name, "max pool 2×2".to_string(), 0, 0, 0);
        Ok(())
    }

    /// Global pooling.
    pub(crate) fn global_pool(&mut self, name: &str, kind: &str) {
        self.shape.truncate(1);
        self.add(name, format!("global {kind} pool"), 0, 0, 0);
    }

    pub(crate) fn other(&mut self, name: &str, kind: &str) {
        self.add(name, kind.to_string(), 0, 0, 0);
    }

    pub(crate) fn finish(self) -> Summary {
        let parameters = (self.layers.iter()).fold(0usize, |n, l| n.saturating_add(l.params));
        Summary {
            model: self.config.name.clone(),
            input: self.config.input,
            parameters,
            trainable: parameters.saturating_sub(self.frozen),
            buffers: (self.layers.iter()).fold(0usize, |n, l| n.saturating_add(l.buffers)),
            multiply_adds: (self.layers.iter())
                .fold(0u64, |n, l| n.saturating_add(l.multiply_adds)),
            layers: self.layers,
        }
    }
}
