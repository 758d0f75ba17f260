//! The same networks written with Burn's own layers: what a user of Burn has without Gradus.
//!
//! Fields are named as in gradus-nn, so that weights can be handed over by name. Loss, optimizer and
//! evaluation mode are Burn's too.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor, TensorData, activation, s};
use gradus_nn::{ModelConfig, PoolPlace};
use gradus_train::weights::{NamedTensors, restore};

use crate::BenchError;

/// A network of Burn's layers.
pub(super) trait PlainNet: Module {
    /// Images `[N, C, H, W]` → logits `[N, K]`; training or evaluation by the device, as Burn does.
    fn forward(&self, images: Tensor<4>) -> Tensor<2>;
}

/// The shape of the tensor called `name`.
fn shape(tensors: &NamedTensors, name: &str) -> Option<Vec<usize>> {
    tensors.get(name).map(|data| data.shape().to_vec())
}

/// The shapes of `prefix.i.j.suffix`, stage by stage.
fn stages(tensors: &NamedTensors, prefix: &str, suffix: &str) -> Vec<Vec<[usize; 2]>> {
    let row = |i: usize| -> Vec<[usize; 2]> {
        (0..)
            .map_while(|j| shape(tensors, &format!("{prefix}.{i}.{j}.{suffix}")))
            .map(|shape| [shape[1], shape[0]])
            .collect()
    };
    (0..)
        .map(row)
        .take_while(|shapes| !shapes.is_empty())
        .collect()
}

fn conv([from, to]: [usize; 2], side: usize, stride: usize, device: &Device) -> Conv2d {
    let pad = side / 2;
    Conv2dConfig::new([from, to], [side, side])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(false)
        .init(device)
}

fn norm(channels: usize, device: &Device) -> BatchNorm {
    BatchNormConfig::new(channels).init(device)
}

fn global_average(x: Tensor<4>) -> Tensor<2> {
    let pool = AdaptiveAvgPool2dConfig::new([1, 1]).init();
    pool.forward(x).flatten(1, 3)
}

/// conv 3×3 → [pool] → norm → f → [pool]
#[derive(Module, Debug)]
struct Block {
    conv: Conv2d,
    norm: BatchNorm,
    pool: Option<MaxPool2d>,
    pool_last: bool,
    gelu: bool,
}

impl Block {
    fn new(channels: [usize; 2], pool: Option<PoolPlace>, gelu: bool, device: &Device) -> Self {
        let mut norm = norm(channels[1], device);
        if gelu {
            // airnet's.
            norm = BatchNormConfig::new(channels[1])
                .with_epsilon(1e-12)
                .with_momentum(0.4)
                .init(device);
            norm.gamma = norm.gamma.set_require_grad(false);
        }
        Self {
            conv: conv(channels, 3, 1, device),
            norm,
            pool: pool.map(|_| MaxPool2dConfig::new([2, 2]).init()),
            pool_last: pool == Some(PoolPlace::Last),
            gelu,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut x = self.conv.forward(x);
        if let (Some(pool), false) = (&self.pool, self.pool_last) {
            x = pool.forward(x);
        }
        x = self.norm.forward(x);
        x = match self.gelu {
            true => activation::gelu(x),
            false => activation::relu(x),
        };
        match (&self.pool, self.pool_last) {
            (Some(pool), true) => pool.forward(x),
            _ => x,
        }
    }
}

/// `cnn` in Burn's layers.
#[derive(Module, Debug)]
pub(super) struct PlainCnn {
    stages: Vec<Vec<Block>>,
    head: Linear,
}

impl PlainNet for PlainCnn {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let blocks = self.stages.iter().flatten();
        let x = blocks.fold(images, |x, block| block.forward(x));
        self.head.forward(global_average(x))
    }
}

/// f(norm(conv(f(norm(conv x)))) + shortcut x)
#[derive(Module, Debug)]
struct Residual {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: BatchNorm,
    shortcut: Option<Conv2d>,
    shortcut_norm: Option<BatchNorm>,
    stride: usize,
    more: usize,
}

impl Residual {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = activation::relu(self.norm1.forward(self.conv1.forward(x.clone())));
        let y = self.norm2.forward(self.conv2.forward(y));
        let around = match (&self.shortcut, &self.shortcut_norm) {
            (Some(conv), Some(norm)) => norm.forward(conv.forward(x)),
            _ => self.pass_on(x),
        };
        activation::relu(y.add(around))
    }

    /// Every second position, zeros for the channels that are more.
    fn pass_on(&self, mut x: Tensor<4>) -> Tensor<4> {
        if self.stride != 1 {
            x = x.slice(s![.., .., ..;self.stride as isize, ..;self.stride as isize]);
        }
        if self.more == 0 {
            return x;
        }
        let [n, _, h, w] = x.dims();
        let zeros = Tensor::zeros([n, self.more, h, w], &x.device());
        Tensor::cat(vec![x, zeros], 1)
    }
}

/// `resnet` in Burn's layers.
#[derive(Module, Debug)]
pub(super) struct PlainResNet {
    conv: Conv2d,
    norm: BatchNorm,
    stages: Vec<Vec<Residual>>,
    head: Linear,
}

impl PlainNet for PlainResNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = activation::relu(self.norm.forward(self.conv.forward(images)));
        let blocks = self.stages.iter().flatten();
        let x = blocks.fold(x, |x, block| block.forward(x));
        self.head.forward(global_average(x))
    }
}

/// `airnet` in Burn's layers.
#[derive(Module, Debug)]
pub(super) struct PlainAirNet {
    whiten: Conv2d,
    groups: Vec<Vec<Block>>,
    head: Linear,
}

impl PlainNet for PlainAirNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = activation::gelu(self.whiten.forward(images));
        let blocks = self.groups.iter().flatten();
        let x = blocks.fold(x, |x, block| block.forward(x));
        let [_, _, h, w] = x.dims();
        let pool = MaxPool2dConfig::new([h, w]).init();
        self.head
            .forward(pool.forward(x).flatten(1, 3))
            .mul_scalar(1.0 / 9.0)
    }
}

fn head(tensors: &NamedTensors, device: &Device) -> Result<Linear, BenchError> {
    let Some([inputs, outputs]) =
        shape(tensors, "head.weight").and_then(|shape| <[usize; 2]>::try_from(shape).ok())
    else {
        return Err(unknown("head.weight"));
    };
    Ok(LinearConfig::new(inputs, outputs)
        .with_bias(tensors.contains_key("head.bias"))
        .init(device))
}

fn unknown(name: &str) -> BenchError {
    BenchError::Settings(format!("the weights of the model have no {name}"))
}

/// The weights of `tensors`, and γ = 1 where batch norm has none: Burn's always has.
fn with_weights<M: Module>(model: M, mut tensors: NamedTensors) -> Result<M, BenchError> {
    let betas: Vec<String> = tensors
        .keys()
        .filter_map(|name| name.strip_suffix(".beta").map(str::to_owned))
        .collect();
    for name in betas {
        let channels = shape(&tensors, &format!("{name}.beta")).unwrap_or_default();
        let count = channels.iter().product();
        tensors
            .entry(format!("{name}.gamma"))
            .or_insert_with(|| TensorData::new(vec![1f32; count], channels));
    }
    Ok(restore(model, tensors)?)
}

/// `cnn` with the weights given.
pub(super) fn cnn(
    config: &ModelConfig,
    tensors: NamedTensors,
    device: &Device,
) -> Result<PlainCnn, BenchError> {
    let rows = stages(&tensors, "stages", "conv.weight");
    let place = |j: usize, row: &[[usize; 2]]| {
        let pooling = match config.pool {
            PoolPlace::First => 0,
            PoolPlace::Last => row.len() - 1,
        };
        (j == pooling).then_some(config.pool)
    };
    let model = PlainCnn {
        stages: blocks(&rows, place, false, device),
        head: head(&tensors, device)?,
    };
    with_weights(model, tensors)
}

/// `airnet` with the weights given.
pub(super) fn airnet(tensors: NamedTensors, device: &Device) -> Result<PlainAirNet, BenchError> {
    let rows = stages(&tensors, "groups", "conv.weight");
    let first = |j: usize, _: &[[usize; 2]]| (j == 0).then_some(PoolPlace::First);
    let Some([filters, channels, side, _]) =
        shape(&tensors, "whiten.weight").and_then(|shape| <[usize; 4]>::try_from(shape).ok())
    else {
        return Err(unknown("whiten.weight"));
    };
    let mut whiten = Conv2dConfig::new([channels, filters], [side, side]).init(device);
    whiten.weight = whiten.weight.set_require_grad(false);
    let model = PlainAirNet {
        whiten,
        groups: blocks(&rows, first, true, device),
        head: head(&tensors, device)?,
    };
    with_weights(model, tensors)
}

fn blocks(
    rows: &[Vec<[usize; 2]>],
    pool: impl Fn(usize, &[[usize; 2]]) -> Option<PoolPlace>,
    gelu: bool,
    device: &Device,
) -> Vec<Vec<Block>> {
    let row = |row: &Vec<[usize; 2]>| -> Vec<Block> {
        (row.iter().enumerate())
            .map(|(j, channels)| Block::new(*channels, pool(j, row), gelu, device))
            .collect()
    };
    rows.iter().map(row).collect()
}

/// `resnet` with the weights given.
pub(super) fn resnet(tensors: NamedTensors, device: &Device) -> Result<PlainResNet, BenchError> {
    let residual = |i: usize, j: usize, channels: [usize; 2]| {
        let [from, to] = channels;
        let stride = if i > 0 && j == 0 { 2 } else { 1 };
        let projected = tensors.contains_key(&format!("stages.{i}.{j}.shortcut.weight"));
        Residual {
            conv1: conv(channels, 3, stride, device),
            norm1: norm(to, device),
            conv2: conv([to, to], 3, 1, device),
            norm2: norm(to, device),
            shortcut: projected.then(|| conv(channels, 1, stride, device)),
            shortcut_norm: projected.then(|| norm(to, device)),
            stride,
            more: to - from.min(to),
        }
    };
    let Some(first) = shape(&tensors, "conv.weight") else {
        return Err(unknown("conv.weight"));
    };
    let rows = stages(&tensors, "stages", "conv1.weight");
    let model = PlainResNet {
        conv: conv([first[1], first[0]], 3, 1, device),
        norm: norm(first[0], device),
        stages: (rows.iter().enumerate())
            .map(|(i, row)| {
                (row.iter().enumerate())
                    .map(|(j, channels)| residual(i, j, *channels))
                    .collect()
            })
            .collect(),
        head: head(&tensors, device)?,
    };
    with_weights(model, tensors)
}

/// The number of values that are trained.
pub(super) fn trained<M: Module>(model: &M) -> usize {
    struct Count(usize);
    impl burn::module::ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.0 += param.shape().num_elements();
            }
        }
    }
    let mut count = Count(0);
    model.visit(&mut count);
    count.0
}
