//! The linear layer `y = x·W + b`.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use gradus_kernels::Act;

use crate::{Initializer, NnError, WeightShape};

/// Configuration of a [`Linear`].
///
/// | Name | Default | Range | Meaning |
/// |---|---|---|---|
/// | `d_input`, `d_output` | – | ≥ 1 | number of inputs and outputs |
/// | `bias` | true | | whether b exists; it starts at 0 |
/// | `initializer` | `kaiming-normal` | | how W starts |
/// | `seed` | 0 | any | what W is drawn from |
#[derive(Config, Debug)]
pub struct LinearConfig {
    /// Number of inputs.
    pub d_input: usize,
    /// Number of outputs.
    pub d_output: usize,
    /// Whether a bias is added.
    #[config(default = true)]
    pub bias: bool,
    /// How the weight starts.
    #[config(default = "Initializer::default()")]
    pub initializer: Initializer,
    /// What the weight is drawn from.
    #[config(default = 0)]
    pub seed: u64,
}

impl LinearConfig {
    /// Build the layer.
    ///
    /// # Errors
    /// If a dimension is 0 or the initialiser's parameters make no sense.
    pub fn init(&self, device: &Device) -> Result<Linear, NnError> {
        let shape = WeightShape::Linear {
            d_in: self.d_input,
            d_out: self.d_output,
        };
        let weight = self.initializer.values(&shape, self.seed)?;
        let bias = self
            .bias
            .then(|| Param::from_data(vec![0.0; self.d_output].as_slice(), device));
        Ok(Linear {
            weight: Param::from_data(TensorData::new(weight, shape.dims()), device),
            bias,
        })
    }
}

/// `[N, d_in] → [N, d_out]`; also over any number of leading dimensions.
#[derive(Module, Debug)]
pub struct Linear {
    /// W, `[d_in, d_out]` as in Burn: the transpose of PyTorch's.
    pub weight: Param<Tensor<2>>,
    /// b, `[d_out]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// `y = x·W + b`. `[…, d_in] → […, d_out]`.
    ///
    /// # Panics
    /// If the last dimension of `x` is not `d_in`.
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let bias = self.bias.as_ref().map(Param::val);
        gradus_kernels::linear(x, self.weight.val(), bias, Act::Identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_multiplies_from_the_right_and_adds() {
        let device = Device::flex();
        let layer = LinearConfig::new(2, 3)
            .with_initializer(Initializer::Ones)
            .init(&device)
            .unwrap();
        let y = layer.forward(Tensor::<2>::from_data([[1.0, 2.0]], &device));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [3.0, 3.0, 3.0]);
        assert!(LinearConfig::new(0, 3).init(&device).is_err());
    }

    #[test]
    fn the_seed_decides_the_weight() {
        let weight = |seed| {
            let layer = LinearConfig::new(20, 30)
                .with_seed(seed)
                .init(&Device::flex())
                .unwrap();
            layer.weight.val().into_data().try_to_vec::<f32>().unwrap()
        };
        assert_eq!(weight(1), weight(1));
        assert_ne!(weight(1), weight(2));
    }
}
