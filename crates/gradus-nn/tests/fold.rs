//! Folded models compute what they computed before, and what cannot be folded is left and named.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use gradus_core::random::{Purpose, stream};
use gradus_nn::{AnyModel, Classifier, Mode, ModelConfig, NormKind, PoolPlace, Shortcut, Width};
use rand::RngExt;

fn small(name: &str) -> ModelConfig {
    ModelConfig {
        width: Width::List(vec![8]),
        input: [3, 12, 10],
        classes: 5,
        ..ModelConfig::named(name).unwrap()
    }
}

/// Weights, γ, β and running statistics as after training: nothing at its neutral value.
struct Trained {
    path: Vec<String>,
    /// The smallest γ.
    gamma: f32,
    count: u64,
}

impl ModuleMapper for Trained {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (low, high) = match self.path.last().map(String::as_str) {
            Some("gamma") => (self.gamma, 2.0),
            Some("running_var") => (0.3, 3.0),
            Some("beta" | "running_mean" | "bias") => (-1.0, 1.0),
            _ => return param,
        };
        self.count += 1;
        let mut rng = stream(5, Purpose::Synthesis, 0, self.count);
        param.map(|old| {
            let numbers: Vec<f32> = (0..old.dims().iter().product())
                .map(|_| low + (high - low) * rng.random::<f32>())
                .collect();
            Tensor::from_data(TensorData::new(numbers, old.dims()), &old.device())
        })
    }
}

fn trained(config: &ModelConfig, gamma: f32) -> AnyModel {
    let mut mapper = Trained {
        path: Vec::new(),
        gamma,
        count: 0,
    };
    config.init(&Device::flex()).unwrap().map(&mut mapper)
}

fn scores(model: &AnyModel, config: &ModelConfig) -> Vec<f32> {
    let [c, h, w] = config.input;
    let mut rng = stream(9, Purpose::Synthesis, 0, 0);
    let pixels: Vec<f32> = (0..6 * c * h * w)
        .map(|_| rng.random::<f32>() * 2.0 - 1.0)
        .collect();
    let images = Tensor::<1>::from_data(pixels.as_slice(), &Device::flex()).reshape([6, c, h, w]);
    let logits = model.forward(images, Mode::eval());
    logits.into_data().try_to_vec().unwrap()
}

/// The largest difference over the largest score.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    let size = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let gap = a
        .iter()
        .zip(b)
        .fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(size > 0.01 && size.is_finite(), "{size}");
    gap / size
}

fn with_batch_norm() -> Vec<ModelConfig> {
    vec![
        small("mlp"),
        small("cnn"),
        ModelConfig {
            pool: PoolPlace::Last,
            ..small("cnn")
        },
        small("resnet14"),
        ModelConfig {
            shortcut: Shortcut::B,
            width: Width::List(vec![4, 6, 8]),
            ..small("resnet8")
        },
        small("airnet"),
        ModelConfig {
            depth: 3,
            ..small("airnet")
        },
    ]
}

#[test]
fn scores_change_by_rounding_alone_and_no_norm_is_left() {
    for config in with_batch_norm() {
        let model = trained(&config, 0.2);
        let before = scores(&model, &config);
        let (folded, folding) = model.fold_batch_norm();
        assert!(
            !folding.folded.is_empty() && folding.kept.is_empty(),
            "{folding:?}"
        );
        let gap = difference(&before, &scores(&folded, &config));
        assert!(gap < 1e-5, "{}: {gap}", config.name);
        // It is a model of the zoo without norms, and nothing is left to fold.
        let bare = ModelConfig {
            norm: NormKind::None,
            ..config.clone()
        };
        assert_eq!(folded.num_params(), bare.summary().unwrap().parameters);
        let (_, again) = folded.fold_batch_norm();
        assert_eq!(again, gradus_nn::Folding::default());
    }
}

/// γ < 0 commutes with everything but the maximum of a pooling.
#[test]
fn negative_factors_stay_behind_a_max_pooling_only() {
    for (config, kept) in [
        (small("resnet14"), 0),
        (small("mlp"), 0),
        (small("cnn"), 3),
        (
            ModelConfig {
                pool: PoolPlace::Last,
                ..small("cnn")
            },
            0,
        ),
    ] {
        let model = trained(&config, -2.0);
        let before = scores(&model, &config);
        let (folded, folding) = model.fold_batch_norm();
        assert_eq!(folding.kept.len(), kept, "{}: {folding:?}", config.name);
        for kept in &folding.kept {
            assert!(kept.name.ends_with(".0.norm"), "{kept:?}");
            assert!(kept.reason.contains("max pooling"), "{kept:?}");
        }
        let gap = difference(&before, &scores(&folded, &config));
        assert!(gap < 1e-5, "{}: {gap}", config.name);
    }
}

#[test]
fn statistics_of_the_image_at_hand_cannot_be_folded() {
    for norm in [NormKind::Group, NormKind::Layer] {
        let config = ModelConfig {
            norm,
            ..small("cnn")
        };
        let model = trained(&config, 0.2);
        let before = scores(&model, &config);
        let (folded, folding) = model.fold_batch_norm();
        assert_eq!((folding.folded.len(), folding.kept.len()), (0, 6));
        assert_eq!(before, scores(&folded, &config));
    }
}

/// What a file of folded weights is read into.
#[test]
fn a_model_without_some_norms_has_the_shape_of_a_folded_one() {
    let config = small("cnn");
    let (folded, folding) = trained(&config, -2.0).fold_batch_norm();
    let empty = config.init(&Device::flex()).unwrap();
    let empty = empty.without_norms(|name| folding.folded.iter().any(|folded| folded == name));
    assert_eq!(names(&empty), names(&folded));
    assert_ne!(names(&empty), names(&config.init(&Device::flex()).unwrap()));
}

fn names(model: &AnyModel) -> Vec<(String, Vec<usize>)> {
    #[derive(Default)]
    struct Names {
        path: Vec<String>,
        found: Vec<(String, Vec<usize>)>,
    }
    impl burn::module::ModuleVisitor for Names {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let shape = param.shape().to_vec();
            self.found.push((self.path.join("."), shape));
        }
    }
    let mut names = Names::default();
    model.visit(&mut names);
    names.found
}
