//! What a model of the zoo is made of: one table that configures all of them.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::{AnyModel, PoolPlace, Summary, Width, airnet, cnn, linear, mlp, resnet};
use crate::layers::BatchNormConfig;
use crate::{Activation, Initializer, NnError, NormKind, Shortcut};

/// Names of the zoo. `resnetD` is known for every depth D = 6n + 2.
pub const MODEL_NAMES: [&str; 9] = [
    "linear",
    "mlp",
    "cnn",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "airnet",
];

/// Beyond these, a number is a slip of the finger: it would be refused by the memory, late and with
/// less to say. 500 million parameters are 2 GB, and with gradients and two slots of an optimizer 8.
const MAX_PARAMETERS: usize = 500_000_000;
const MAX_CLASSES: usize = 1 << 16;
const MAX_CHANNELS: usize = 1 << 10;
const MAX_SIDE: usize = 1 << 12;

/// The configuration of a model.
///
/// | Name | linear | mlp | cnn | resnet20 | airnet |
/// |---|---|---|---|---|---|
/// | `width` | – | 512 | 24, 48, 96 | 16, 32, 64 | 64, 256, 256 |
/// | `depth` | – | 2 hidden layers | 2 convolutions a stage | 20 (6n + 2) | 2 convolutions a group |
/// | `activation` | – | relu | relu | relu | gelu |
/// | `norm` | – | batch | batch | batch | batch |
/// | `dropout` | 0 | 0 | 0 | 0 | 0 |
/// | `initializer` | normal, 0.001 | kaiming | kaiming | kaiming | torch |
/// | `norm_momentum` | – | 0.1 | 0.1 | 0.1 | 0.4 |
/// | `logit_scale` | 1 | 1 | 1 | 1 | 1/9 |
///
/// `input` defaults to `[3, 32, 32]`, `classes` to 10, `seed` to 0, `head_initializer` to `initializer`, `shortcut` to a and `zero_gamma` to
/// false (these two matter to `resnet` only), `pool` to first (it matters to `cnn` only). A model has at most 500 million parameters. What `linear`
/// does not have (–) may only be given as it is by default: activation identity, norm none, depth 0. Read from TOML or JSON, a table may leave out whatever
/// it does not change; the defaults are those of the model it names. An unknown key is an error.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use gradus_nn::{Classifier, Mode, ModelConfig};
/// let device = Device::flex();
/// let config = ModelConfig { input: [1, 28, 28], ..ModelConfig::named("cnn")? };
/// let model = config.init(&device)?;
/// let logits = model.forward(Tensor::zeros([2, 1, 28, 28], &device), Mode::eval());
/// assert_eq!(logits.dims(), [2, 10]);
/// # Ok::<(), gradus_nn::NnError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Partial")]
pub struct ModelConfig {
    /// One of [`MODEL_NAMES`].
    pub name: String,
    /// Channels (1 to 1024), height and width (1 to 4096) of the images, in pixels.
    pub input: [usize; 3],
    /// Number of classes, 2 to 65,536.
    pub classes: usize,
    /// Channels or hidden units; see [`Width`].
    pub width: Width,
    /// What deepens the model: hidden layers (mlp), convolutions a stage (cnn) or group (airnet: 2, or 3
    /// with a residual connection), all weighted layers (resnet: 6n + 2, the number in its name). `mlp` takes it from `width`
    /// where that lists several layers.
    pub depth: usize,
    /// The non-linearity.
    pub activation: Activation,
    /// Normalisation after each convolution or hidden layer.
    pub norm: NormKind,
    /// Weight of the new batch in the running averages of batch norm, 0 to 1.
    pub norm_momentum: f64,
    /// Dropout probability in [0, 1): after each hidden layer (mlp) or before the classifier (others).
    pub dropout: f64,
    /// How weights start.
    pub initializer: Initializer,
    /// How those of the classifier start, if not as the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_initializer: Option<Initializer>,
    /// The factor a on the logits, s = a·(x·W + b): positive.
    pub logit_scale: f64,
    /// Shortcut of residual blocks.
    pub shortcut: Shortcut,
    /// Whether residual blocks start as their shortcut.
    pub zero_gamma: bool,
    /// Where a stage of `cnn` halves its image.
    pub pool: PoolPlace,
    /// What weights and dropout streams are derived from.
    pub seed: u64,
}

impl ModelConfig {
    /// The model of this name with its defaults, for 3×32×32 images of 10 classes.
    ///
    /// # Errors
    /// If the name is unknown; the error carries the nearest names.
    pub fn named(name: &str) -> Result<Self, NnError> {
        let name = name.trim().to_lowercase();
        let base = Self {
            name: name.clone(),
            input: [3, 32, 32],
            classes: 10,
            width: Width::default(),
            depth: 1,
            activation: Activation::Relu,
            norm: NormKind::Batch,
            norm_momentum: 0.1,
            dropout: 0.0,
            initializer: Initializer::default(),
            head_initializer: None,
            logit_scale: 1.0,
            shortcut: Shortcut::A,
            zero_gamma: false,
            pool: PoolPlace::default(),
            seed: 0,
        };
        Ok(match Family::of(&name)? {
            Family::Linear => Self {
                depth: 0,
                activation: Activation::Identity,
                norm: NormKind::None,
                initializer: Initializer::Normal {
                    mean: 0.0,
                    std: 0.001,
                },
                ..base
            },
            Family::Mlp => Self {
                width: Width::List(vec![512]),
                depth: 2,
                ..base
            },
            Family::Cnn => Self {
                width: Width::List(cnn::WIDTHS.to_vec()),
                depth: 2,
                ..base
            },
            Family::ResNet(depth) => Self {
                width: Width::List(resnet::WIDTHS.to_vec()),
                depth,
                ..base
            },
            Family::AirNet => Self {
                width: Width::List(airnet::WIDTHS.to_vec()),
                depth: 2,
                activation: Activation::Gelu,
                norm_momentum: 0.4,
                initializer: Initializer::Torch,
                logit_scale: airnet::LOGIT_SCALE,
                ..base
            },
        })
    }

    /// Check everything that can be checked without building.
    ///
    /// # Errors
    /// If a value is outside its range, the images are too small for the model, or settings exclude
    /// each other.
    pub fn validate(&self) -> Result<(), NnError> {
        self.summary().map(|_| ())
    }

    /// Check that batch norm can train on batches of `batch` images: it needs two values per channel.
    ///
    /// # Errors
    /// If a batch of this size gives batch norm a single value per channel somewhere.
    pub fn check_batch(&self, batch: usize) -> Result<(), NnError> {
        let summary = self.summary()?;
        if self.norm != NormKind::Batch {
            return Ok(());
        }
        let smallest = summary
            .layers
            .iter()
            .filter(|layer| layer.kind.starts_with("batch norm"))
            .map(|layer| layer.output[1..].iter().product::<usize>())
            .min();
        match smallest {
            Some(positions) if batch.saturating_mul(positions) < 2 => Err(NnError::range(
                "the size of a training batch",
                batch,
                format!(
                    "at least {} for {} with batch normalisation; drop the last short batch, or \
                     choose norm = \"group\"",
                    2usize.div_ceil(positions),
                    self.name
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Build the model. All weights are drawn at once, from `seed` and the layers' names.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<AnyModel, NnError> {
        self.validate()?;
        Ok(match Family::of(&self.name)? {
            Family::Linear => AnyModel::Linear(linear::LinearClassifier::new(self, device)?),
            Family::Mlp => AnyModel::Mlp(mlp::Mlp::new(self, device)?),
            Family::Cnn => AnyModel::Cnn(cnn::Cnn::new(self, device)?),
            Family::ResNet(_) => AnyModel::ResNet(resnet::ResNet::new(self, device)?),
            Family::AirNet => AnyModel::AirNet(airnet::AirNet::new(self, device)?),
        })
    }

    /// Every layer with its output shape, parameters and multiply-adds, without building the model.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn summary(&self) -> Result<Summary, NnError> {
        self.check_common()?;
        let summary = match Family::of(&self.name)? {
            Family::Linear => linear::plan(self),
            Family::Mlp => mlp::plan(self),
            Family::Cnn => cnn::plan(self),
            Family::ResNet(depth) => resnet::plan(self, depth),
            Family::AirNet => airnet::plan(self),
        }?;
        if summary.parameters > MAX_PARAMETERS {
            return Err(NnError::range(
                format!("the number of parameters of {}", self.name),
                summary.parameters,
                format!(
                    "at most {MAX_PARAMETERS}; lower width, depth, classes or the image's size"
                ),
            ));
        }
        Ok(summary)
    }

    fn check_common(&self) -> Result<(), NnError> {
        let [channels, height, width] = self.input;
        if !(1..=MAX_CHANNELS).contains(&channels)
            || ![height, width]
                .iter()
                .all(|side| (1..=MAX_SIDE).contains(side))
        {
            return Err(NnError::range(
                "the input shape (`input`)",
                format!("{:?}", self.input),
                format!(
                    "[channels, height, width] with 1 to {MAX_CHANNELS} channels and sides of 1 to \
                     {MAX_SIDE} pixels"
                ),
            ));
        }
        if !(2..=MAX_CLASSES).contains(&self.classes) {
            return Err(NnError::range(
                "the number of classes (`classes`)",
                self.classes,
                format!("at least 2 and at most {MAX_CLASSES}"),
            ));
        }
        if self.zero_gamma && self.norm == NormKind::None {
            return Err(self.unsupported(
                "zero_gamma = true starts the γ of a normalisation at 0, and with norm = \"none\" \
                 there is none; choose a norm, or leave zero_gamma out",
            ));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(NnError::range(
                "the dropout probability",
                self.dropout,
                "in [0, 1)",
            ));
        }
        if !(0.0..=1.0).contains(&self.norm_momentum) {
            return Err(NnError::range(
                "the momentum of batch norm (`norm_momentum`)",
                self.norm_momentum,
                "in [0, 1]",
            ));
        }
        if !(self.logit_scale > 0.0 && self.logit_scale.is_finite()) {
            return Err(NnError::range(
                "the factor on the logits (`logit_scale`)",
                self.logit_scale,
                "positive and finite",
            ));
        }
        self.activation.validate()?;
        if let Some(initializer) = &self.head_initializer {
            initializer.validate()?;
        }
        self.initializer.validate()
    }

    /// Batch norm over `channels` channels, as this model has it.
    pub(crate) fn batch_norm(&self, channels: usize) -> BatchNormConfig {
        BatchNormConfig::new(channels).with_momentum(self.norm_momentum)
    }

    /// The initialiser of a layer that the model's activation follows.
    pub(crate) fn hidden_initializer(&self) -> Initializer {
        self.initializer.for_activation(self.activation)
    }

    /// The initialiser of the last layer, which nothing follows.
    pub(crate) fn head_initializer(&self) -> Initializer {
        self.head_initializer
            .unwrap_or(self.initializer)
            .for_activation(Activation::Identity)
    }

    pub(crate) fn unsupported(&self, reason: impl Into<String>) -> NnError {
        NnError::Unsupported {
            model: self.name.clone(),
            reason: reason.into(),
        }
    }
}

impl Default for ModelConfig {
    /// `cnn`.
    fn default() -> Self {
        Self::named("cnn").expect("the zoo has a model called cnn")
    }
}

/// The architecture behind a name.
enum Family {
    Linear,
    Mlp,
    Cnn,
    ResNet(usize),
    AirNet,
}

impl Family {
    fn of(name: &str) -> Result<Self, NnError> {
        Ok(match name {
            "linear" => Self::Linear,
            "mlp" => Self::Mlp,
            "cnn" => Self::Cnn,
            "airnet" => Self::AirNet,
            other => {
                let depth = other
                    .strip_prefix("resnet")
                    .and_then(|digits| digits.parse().ok());
                match depth {
                    Some(depth) if resnet::blocks_of(depth).is_some() => Self::ResNet(depth),
                    _ => return Err(NnError::unknown("model", other, &MODEL_NAMES)),
                }
            }
        })
    }
}

/// A table that may leave things out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Partial {
    name: Option<String>,
    input: Option<[usize; 3]>,
    classes: Option<usize>,
    width: Option<Width>,
    depth: Option<usize>,
    activation: Option<Activation>,
    norm: Option<NormKind>,
    norm_momentum: Option<f64>,
    dropout: Option<f64>,
    initializer: Option<Initializer>,
    head_initializer: Option<Initializer>,
    logit_scale: Option<f64>,
    shortcut: Option<Shortcut>,
    zero_gamma: Option<bool>,
    pool: Option<PoolPlace>,
    seed: Option<u64>,
}

impl TryFrom<Partial> for ModelConfig {
    type Error = NnError;

    fn try_from(table: Partial) -> Result<Self, NnError> {
        let base = Self::named(table.name.as_deref().unwrap_or("cnn"))?;
        Ok(Self {
            input: table.input.unwrap_or(base.input),
            classes: table.classes.unwrap_or(base.classes),
            width: table.width.unwrap_or(base.width),
            depth: table.depth.unwrap_or(base.depth),
            activation: table.activation.unwrap_or(base.activation),
            norm: table.norm.unwrap_or(base.norm),
            norm_momentum: table.norm_momentum.unwrap_or(base.norm_momentum),
            dropout: table.dropout.unwrap_or(base.dropout),
            initializer: table.initializer.unwrap_or(base.initializer),
            head_initializer: table.head_initializer.or(base.head_initializer),
            logit_scale: table.logit_scale.unwrap_or(base.logit_scale),
            shortcut: table.shortcut.unwrap_or(base.shortcut),
            zero_gamma: table.zero_gamma.unwrap_or(base.zero_gamma),
            pool: table.pool.unwrap_or(base.pool),
            seed: table.seed.unwrap_or(base.seed),
            name: base.name,
        })
    }
}
