//! What the model zoo promises: sizes, names, shapes, determinism, what can be looked at.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Tensor};
use common::{Inventory, images, inventory, numbers};
use gradus_nn::{
    Classifier, FilterKind, Loss, MODEL_NAMES, Mode, ModelConfig, NormKind, PoolPlace, Shortcut,
    Width,
};

/// Small instances of every model and of most options.
fn zoo() -> Vec<ModelConfig> {
    let small = |name: &str, width: Vec<usize>| ModelConfig {
        width: Width::List(width),
        input: [3, 12, 10],
        classes: 5,
        ..ModelConfig::named(name).unwrap()
    };
    let mut configs = vec![
        ModelConfig {
            input: [2, 5, 4],
            ..ModelConfig::named("linear").unwrap()
        },
        small("mlp", vec![7, 9]),
        small("cnn", vec![4, 6, 8]),
        ModelConfig {
            depth: 2,
            dropout: 0.3,
            ..small("cnn", vec![4, 6])
        },
        ModelConfig {
            pool: PoolPlace::Last,
            ..small("cnn", vec![4, 6])
        },
        ModelConfig {
            ..small("resnet8", vec![4])
        },
        ModelConfig {
            shortcut: Shortcut::B,
            ..small("resnet14", vec![4, 4, 6])
        },
        small("airnet", vec![4, 5, 6]),
        ModelConfig {
            depth: 3,
            ..small("airnet", vec![4, 5, 6])
        },
    ];
    for norm in [NormKind::None, NormKind::Group, NormKind::Layer] {
        for name in ["mlp", "cnn", "resnet20", "airnet"] {
            configs.push(ModelConfig {
                norm,
                ..small(name, vec![4])
            });
        }
    }
    configs
}

#[test]
fn the_summary_is_the_truth() {
    let device = Device::flex().autodiff();
    let named = MODEL_NAMES.iter().filter(|n| **n != "resnet110");
    let named = named.map(|name| ModelConfig::named(name).unwrap());
    for config in zoo().into_iter().chain(named) {
        let (summary, model) = (config.summary().unwrap(), config.init(&device).unwrap());
        let found = inventory(&model);
        let trained: usize = found.iter().filter(|p| p.2).map(|p| p.1).sum();
        let all: usize = found.iter().map(|p| p.1).sum();
        assert_eq!(all, model.num_params());
        assert_eq!(
            summary.parameters + summary.buffers,
            all,
            "{config:?}\n{summary}"
        );
        assert_eq!(summary.trainable, trained, "{config:?}\n{summary}");
        // Each layer's line has the size of the parameters with its name.
        for layer in &summary.layers {
            let prefix = format!("{}.", layer.name);
            let size: usize = found
                .iter()
                .filter(|p| p.0.starts_with(&prefix))
                .map(|p| p.1)
                .sum();
            assert_eq!(
                size,
                layer.params + layer.buffers,
                "{} of {config:?}",
                layer.name
            );
        }
        let last = summary
            .layers
            .iter()
            .rev()
            .find(|l| !l.output.is_empty())
            .unwrap();
        assert_eq!(last.output, [config.classes]);
    }
}

#[test]
fn published_sizes() {
    let parameters = |name: &str| {
        ModelConfig::named(name)
            .unwrap()
            .summary()
            .unwrap()
            .parameters
    };
    // He et al. 2015, table 6: 0.27, 0.46, 0.66, 0.85, 1.7 million. The exact numbers are those of
    // the option-A networks of github.com/akamaster/pytorch_resnet_cifar10 (269722 for resnet20).
    assert_eq!(parameters("resnet20"), 269_722);
    assert_eq!((parameters("resnet32") as f64 / 1e4).round(), 46.0);
    assert_eq!((parameters("resnet44") as f64 / 1e4).round(), 66.0);
    assert_eq!((parameters("resnet56") as f64 / 1e4).round(), 85.0);
    assert_eq!((parameters("resnet110") as f64 / 1e5).round(), 17.0);
    // performance.md: ResNet-20 has 81 MFLOP, airbench94 1.97 M parameters and 0.236 GFLOP forward.
    let work = |name: &str| {
        ModelConfig::named(name)
            .unwrap()
            .summary()
            .unwrap()
            .multiply_adds
    };
    assert_eq!((work("resnet20") as f64 * 2.0 / 1e6).round(), 81.0);
    assert_eq!((parameters("airnet") as f64 / 1e4).round(), 197.0);
    assert_eq!((work("airnet") as f64 * 2.0 / 1e6).round(), 236.0);
    assert_eq!(parameters("linear"), 30_730);
}

#[test]
fn every_model_maps_images_to_logits_and_every_trained_parameter_gets_a_gradient() {
    struct Check<'a> {
        grads: &'a burn::tensor::Gradients,
        inventory: Inventory,
    }
    impl ModuleVisitor for Check<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.inventory.enter_module(name, container);
        }
        fn exit_module(&mut self, name: &str, container: &str) {
            self.inventory.exit_module(name, container);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let (tensor, name) = (param.val(), self.inventory.path.join("."));
            let gradient = tensor.grad(self.grads);
            assert_eq!(gradient.is_some(), tensor.is_require_grad(), "{name}");
            if let Some(gradient) = gradient {
                assert!(numbers(gradient).iter().all(|g| g.is_finite()), "{name}");
            }
        }
    }
    let device = Device::flex().autodiff();
    for config in zoo() {
        let sample = images(&config, 6, &device);
        let model = config.init(&device).unwrap().prepare(sample.clone());
        let targets = Tensor::<1, Int>::from_data([0, 1, 2, 3, 4, 0], &device);
        for mode in [Mode::train(1, 0), Mode::eval()] {
            let logits = model.forward(sample.clone(), mode);
            assert_eq!(logits.dims(), [6, config.classes]);
            assert!(
                numbers(logits.clone()).iter().all(|s| s.is_finite()),
                "{config:?}"
            );
            let grads = Loss::default().forward(logits, targets.clone()).backward();
            model.visit(&mut Check {
                grads: &grads,
                inventory: Inventory::default(),
            });
        }
    }
}

#[test]
fn a_model_is_a_function_of_its_config() {
    let device = Device::flex();
    for config in zoo() {
        let sample = images(&config, 4, &device);
        let logits = |config: &ModelConfig, mode| {
            let model = config.init(&device).unwrap().prepare(sample.clone());
            numbers(model.forward(sample.clone(), mode))
        };
        assert_eq!(
            logits(&config, Mode::train(1, 2)),
            logits(&config, Mode::train(1, 2))
        );
        let other = ModelConfig {
            seed: 1,
            ..config.clone()
        };
        assert_ne!(
            logits(&config, Mode::eval()),
            logits(&other, Mode::eval()),
            "{config:?}"
        );
    }
}

#[test]
fn parameter_names_are_stable() {
    // These are the keys of checkpoints: a change breaks every saved run.
    let names = |config: ModelConfig| -> Vec<String> {
        inventory(&config.init(&Device::flex()).unwrap())
            .into_iter()
            .map(|p| p.0)
            .collect()
    };
    let cnn = ModelConfig {
        depth: 1,
        width: Width::List(vec![4, 4]),
        ..ModelConfig::named("cnn").unwrap()
    };
    let expected = [
        "stages.0.0.conv.weight",
        "stages.0.0.norm.gamma",
        "stages.0.0.norm.beta",
        "stages.0.0.norm.running_mean",
        "stages.0.0.norm.running_var",
        "stages.1.0.conv.weight",
        "stages.1.0.norm.gamma",
        "stages.1.0.norm.beta",
        "stages.1.0.norm.running_mean",
        "stages.1.0.norm.running_var",
        "head.weight",
        "head.bias",
    ];
    assert_eq!(names(cnn), expected);
    let resnet = names(ModelConfig::named("resnet20").unwrap());
    assert_eq!(resnet[0], "conv.weight");
    assert_eq!(resnet[5], "stages.0.0.conv1.weight");
    let airnet = names(ModelConfig::named("airnet").unwrap());
    assert_eq!(
        airnet[..3],
        ["whiten.weight", "whiten.bias", "groups.0.0.conv.weight"]
    );
}

#[test]
fn records_and_validation_copies_keep_every_value() {
    let device = Device::flex().autodiff();
    for config in zoo() {
        let sample = images(&config, 6, &device);
        let model = config.init(&device).unwrap().prepare(sample.clone());
        let _ = model.forward(sample.clone(), Mode::train(0, 0));
        let expected = numbers(model.forward(sample.clone(), Mode::eval()));
        let valid = model.valid();
        let off_tape = numbers(valid.forward(sample.clone().inner(), Mode::eval()));
        assert_eq!(off_tape, expected, "{config:?}");
        let other = ModelConfig {
            seed: 77,
            ..config.clone()
        }
        .init(&device)
        .unwrap();
        let loaded = other.load_record(model.into_record());
        assert_eq!(
            numbers(loaded.forward(sample, Mode::eval())),
            expected,
            "{config:?}"
        );
    }
}

#[test]
fn a_clone_does_not_touch_the_original() {
    let device = Device::flex();
    for config in zoo() {
        let sample = images(&config, 6, &device);
        let model = config.init(&device).unwrap();
        let before = numbers(model.forward(sample.clone(), Mode::eval()));
        let copy = model.clone();
        for step in 0..3 {
            let _ = copy.forward(sample.clone(), Mode::train(0, step));
        }
        assert_eq!(
            numbers(model.forward(sample, Mode::eval())),
            before,
            "{config:?}"
        );
    }
}

/// The order of layers decides the work: pooling last costs the second convolution at full size.
#[test]
fn a_stage_pools_at_its_beginning_or_at_its_end() {
    let order = |pool: PoolPlace| -> (Vec<String>, u64) {
        let config = ModelConfig {
            pool,
            width: Width::List(vec![32, 64, 128]),
            ..ModelConfig::named("cnn").unwrap()
        };
        let summary = config.summary().unwrap();
        let layers = summary.layers.iter().take(7);
        (
            layers.map(|l| l.name.clone()).collect(),
            summary.multiply_adds,
        )
    };
    let (first, less) = order(PoolPlace::First);
    let (last, more) = order(PoolPlace::Last);
    assert_eq!(first[1], "stages.0.0.pool");
    assert_eq!(
        last.iter().map(|name| &name[9..]).collect::<Vec<_>>(),
        [
            "0.conv",
            "0.norm",
            "0.activation",
            "1.conv",
            "1.norm",
            "1.activation",
            "1.pool"
        ]
    );
    // conv1, conv2 at 32²; at 16²; at 8²; the head.
    let nine = |c: u64, k: u64, side: u64| 9 * c * k * side * side;
    let vgg = nine(3, 32, 32) + nine(32, 32, 32) + nine(32, 64, 16) + nine(64, 64, 16);
    assert_eq!(more, vgg + nine(64, 128, 8) + nine(128, 128, 8) + 1280);
    assert!(less < more);
    assert!("middle".parse::<PoolPlace>().is_err());
}

#[test]
fn configs_round_trip_and_partial_tables_take_the_models_defaults() {
    for config in zoo() {
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<ModelConfig>(&json).unwrap(),
            config,
            "{json}"
        );
    }
    let partial: ModelConfig =
        serde_json::from_str(r#"{"name": "airnet", "width": 0.5, "classes": 100}"#).unwrap();
    let expected = ModelConfig {
        width: Width::Multiplier(0.5),
        classes: 100,
        ..ModelConfig::named("airnet").unwrap()
    };
    assert_eq!(partial, expected);
    let unknown = serde_json::from_str::<ModelConfig>(r#"{"widht": 3}"#)
        .unwrap_err()
        .to_string();
    assert!(unknown.contains("widht"), "{unknown}");
    let bad = serde_json::from_str::<ModelConfig>(r#"{"activation": "rleu"}"#).unwrap_err();
    assert!(bad.to_string().contains("did you mean relu"), "{bad}");
}

#[test]
fn first_layers_can_be_looked_at() {
    let device = Device::flex();
    for (name, kind, shape) in [
        ("linear", FilterKind::Templates, [10, 3, 32, 32]),
        ("mlp", FilterKind::Filters, [512, 3, 32, 32]),
        ("cnn", FilterKind::Filters, [24, 3, 3, 3]),
        ("resnet20", FilterKind::Filters, [16, 3, 3, 3]),
        ("airnet", FilterKind::Filters, [24, 3, 2, 2]),
    ] {
        let model = ModelConfig::named(name).unwrap().init(&device).unwrap();
        let filters = model.first_layer_filters();
        assert_eq!((filters.kind, filters.shape), (kind, shape));
        assert_eq!(filters.values.len(), shape.iter().product::<usize>());
    }
    // A template is a column of W: its product with the image is the logit.
    let config = ModelConfig::named("linear").unwrap();
    let model = config.init(&device).unwrap();
    let sample = images(&config, 1, &device);
    let logits = numbers(model.forward(sample.clone(), Mode::eval()));
    let (pixels, filters) = (numbers(sample), model.first_layer_filters());
    for (template, logit) in filters.values.chunks(3072).zip(logits) {
        let product: f32 = template.iter().zip(&pixels).map(|(a, b)| a * b).sum();
        assert!((product - logit).abs() < 1e-5);
    }
}
