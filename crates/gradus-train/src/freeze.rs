//! Parameters that stop learning after some epochs.
//!
//! ```toml
//! [[freeze]]
//! name = "whiten.bias"      # as in model.safetensors; * stands for any characters
//! after_epochs = 3          # it learns for three epochs
//! ```
//!
//! A frozen parameter takes no part in the backward pass, so what lies before it need not be
//! differentiated: with its whitening bias frozen, a network whose first weight is fixed spares the
//! gradient of its first, largest images. Which parameters are frozen in an epoch follows from the
//! configuration and the epoch alone, so a resumed run goes on with the same.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use gradus_optim::stages::Pattern;
use serde::{Deserialize, Serialize};

use crate::named::{self, NamedMapper};
use crate::weights::{self, NamedTensors};
use crate::{RunConfig, TrainError};

/// Parameters and how long they learn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeConfig {
    /// Which: a name as in `model.safetensors`; `*` stands for any characters.
    pub name: String,
    /// Epochs in which they learn; 0 freezes them from the beginning.
    #[serde(default)]
    pub after_epochs: usize,
}

impl FreezeConfig {
    fn covers(&self, name: &str) -> bool {
        Pattern::new(&self.name).matches(name)
    }
}

/// `model` as it is trained in the epoch after `epoch` others: without gradients for what is frozen by
/// then.
pub fn apply<M: Module>(config: &RunConfig, epoch: usize, model: M) -> M {
    let frozen: Vec<&FreezeConfig> = due(config, epoch).collect();
    if frozen.is_empty() {
        return model;
    }
    named::map(model, &mut Freezer(frozen))
}

fn due(config: &RunConfig, epoch: usize) -> impl Iterator<Item = &FreezeConfig> {
    config
        .freeze
        .iter()
        .filter(move |freeze| epoch >= freeze.after_epochs)
}

/// `averaged` with the frozen parameters of `model`: the network has learned with these since, and an
/// average may have been taken of them for the last time steps before they froze.
pub(crate) fn keep<M: Module>(
    config: &RunConfig,
    epoch: usize,
    averaged: M,
    model: &M,
) -> Result<M, TrainError> {
    let frozen: Vec<&FreezeConfig> = due(config, epoch).collect();
    if frozen.is_empty() {
        return Ok(averaged);
    }
    let covered = |name: &str| frozen.iter().any(|freeze| freeze.covers(name));
    let mut tensors: NamedTensors = weights::collect(&averaged);
    for (name, tensor) in weights::collect(model) {
        if covered(&name) {
            tensors.insert(name, tensor);
        }
    }
    weights::restore(averaged, tensors)
}

/// Checks that each entry names a parameter of `model` that is trained.
///
/// # Errors
/// [`TrainError::Config`] with the entry that names none.
pub fn check<M: Module>(config: &RunConfig, model: &M) -> Result<(), TrainError> {
    if config.freeze.is_empty() {
        return Ok(());
    }
    let names = weights::collect_trainable(model);
    for freeze in &config.freeze {
        if !names.keys().any(|name| freeze.covers(name)) {
            let example = names.keys().next().map_or("", String::as_str);
            return Err(TrainError::config(
                "freeze",
                format!(
                    "no trained parameter of the model is called `{}`; names look like `{example}`",
                    freeze.name
                ),
            ));
        }
    }
    Ok(())
}

struct Freezer<'a>(Vec<&'a FreezeConfig>);

impl NamedMapper for Freezer<'_> {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.iter().any(|freeze| freeze.covers(name)) {
            true => param.set_require_grad(false),
            false => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use gradus_nn::{Classifier, Mode, ModelConfig};

    fn config(freeze: &[(&str, usize)]) -> RunConfig {
        let mut config = crate::recipe("airnet", &"shapes".parse().unwrap()).unwrap();
        config.freeze = freeze
            .iter()
            .map(|(name, after_epochs)| FreezeConfig {
                name: (*name).to_owned(),
                after_epochs: *after_epochs,
            })
            .collect();
        config
    }

    fn model() -> impl Classifier {
        let mut model: ModelConfig = config(&[]).model.unwrap();
        model.width = "8,8,8".parse().unwrap();
        model.init(&Device::flex().autodiff()).unwrap()
    }

    #[test]
    fn a_parameter_learns_for_its_epochs_and_then_no_more() {
        let config = config(&[("whiten.bias", 3), ("groups.*.norm.beta", 1)]);
        let learns = |epoch: usize| {
            let names = weights::collect_trainable(&apply(&config, epoch, model()));
            let beta = names.keys().any(|name| name.ends_with("norm.beta"));
            (
                names.contains_key("whiten.bias"),
                beta,
                names.contains_key("head.weight"),
            )
        };
        assert_eq!(learns(0), (true, true, true));
        assert_eq!(learns(1), (true, false, true));
        assert_eq!(learns(2), (true, false, true));
        assert_eq!(learns(3), (false, false, true));
    }

    #[test]
    fn a_frozen_parameter_gets_no_gradient() {
        let config = config(&[("whiten.bias", 0)]);
        let device = Device::flex().autodiff();
        let images =
            Tensor::<4>::random([4, 3, 32, 32], burn::tensor::Distribution::Default, &device);
        let model = model();
        let gradients = |model: &dyn Fn(Tensor<4>) -> Tensor<2>| {
            model(images.clone()).square().sum().backward()
        };
        let free = gradients(&|x| model.forward(x, Mode::train(0, 0)));
        let free = burn::optim::GradientsParams::from_grads(free, &model);
        let frozen_model = apply(&config, 0, model.clone());
        let frozen = gradients(&|x| frozen_model.forward(x, Mode::train(0, 0)));
        let frozen = burn::optim::GradientsParams::from_grads(frozen, &frozen_model);
        assert_eq!(frozen.len() + 1, free.len());
    }

    #[test]
    fn an_average_keeps_what_is_frozen() {
        let config = config(&[("whiten.bias", 2)]);
        let (average, trained) = (model(), model().map(&mut Plus(1.0)));
        let of = |model: &_| weights::collect(model);
        let kept = keep(&config, 2, average.clone(), &trained).unwrap();
        for (name, tensor) in weights::collect(&kept) {
            let source = if name == "whiten.bias" {
                of(&trained)
            } else {
                of(&average)
            };
            assert_eq!(tensor, source[&name], "{name}");
        }
        let earlier = keep(&config, 1, average.clone(), &trained).unwrap();
        assert_eq!(weights::collect(&earlier), weights::collect(&average));
    }

    struct Plus(f64);
    impl burn::module::ModuleMapper for Plus {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let by = self.0;
            param.map(|tensor| tensor.add_scalar(by))
        }
    }

    #[test]
    fn a_name_that_fits_nothing_is_an_error_with_an_example() {
        let error = check(&config(&[("whitening.bias", 3)]), &model()).unwrap_err();
        assert!(error.to_string().contains("whitening.bias"), "{error}");
        check(&config(&[("whiten.*", 3)]), &model()).unwrap();
    }
}
