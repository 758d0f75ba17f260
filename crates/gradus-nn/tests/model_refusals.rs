//! What no model can be, or could only be in name, is refused before anything is allocated, and says why.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use burn::tensor::Device;
use common::images;
use gradus_nn::{Classifier, MODEL_NAMES, Mode, ModelConfig, NormKind, Width};

#[test]
fn any_image_and_class_count_or_a_reason() {
    let device = Device::flex();
    for name in ["linear", "mlp", "cnn", "resnet8", "airnet"] {
        for input in [[1, 28, 28], [4, 33, 20]] {
            let width = if name == "linear" {
                Width::default()
            } else {
                Width::List(vec![4])
            };
            let config = ModelConfig {
                input,
                classes: 3,
                width,
                ..ModelConfig::named(name).unwrap()
            };
            let model = config.init(&device).unwrap();
            assert_eq!(
                model
                    .forward(images(&config, 2, &device), Mode::eval())
                    .dims(),
                [2, 3]
            );
        }
    }
    let refuse = |change: &dyn Fn(&mut ModelConfig), name: &str| {
        let mut config = ModelConfig::named(name).unwrap();
        change(&mut config);
        config.init(&device).map(|_| ()).unwrap_err().to_string()
    };
    let small = refuse(&|c| c.input = [3, 7, 32], "cnn");
    assert_eq!(
        small,
        "the model cnn cannot take images of 7×32 pixels: it needs at least 8×8; enlarge the \
         images or choose another model"
    );
    assert!(refuse(&|c| c.input = [3, 8, 8], "airnet").contains("9×9"));
    assert!(refuse(&|c| c.classes = 1, "mlp").contains("at least 2"));
    assert!(refuse(&|c| c.input = [0, 8, 8], "mlp").contains("input shape"));
    assert!(refuse(&|c| c.depth = 21, "resnet20").contains("6n + 2"));
    assert!(refuse(&|c| c.depth = 0, "mlp").contains("1 to 100"));
    assert!(refuse(&|c| c.dropout = 1.0, "cnn").contains("[0, 1)"));
    assert!(refuse(&|c| c.dropout = 0.5, "linear").contains("dropout = 0"));
    assert!(refuse(&|c| c.width = Width::List(vec![1, 2]), "airnet").contains("1 or 3"));
    assert!(refuse(&|c| c.width = Width::List(vec![8, 4, 4]), "resnet20").contains("shortcut B"));
    assert!(refuse(&|c| c.depth = 32, "resnet20").contains("name = \"resnet32\""));
    let typo = ModelConfig::named("resnet2O").unwrap_err().to_string();
    assert!(typo.contains("did you mean resnet20"), "{typo}");
    assert!(ModelConfig::named("resnet21").is_err());
}

#[test]
fn sizes_beyond_reason_are_refused_before_anything_is_allocated() {
    let refuse = |change: &dyn Fn(&mut ModelConfig), name: &str| {
        let mut config = ModelConfig::named(name).unwrap();
        change(&mut config);
        let error = config.summary().unwrap_err();
        assert_eq!(config.validate().unwrap_err(), error);
        error.to_string()
    };
    for name in ["mlp", "resnet20", "airnet"] {
        let error = refuse(&|c| c.width = Width::List(vec![65_536]), name);
        // 16 → 65,536 makes the third width of a resnet too large on its own.
        assert!(
            error.contains("at most 500000000") || error.contains("from 1 to 65536"),
            "{error}"
        );
    }
    let error = refuse(&|c| c.width = Width::List(vec![65_536; 3]), "resnet20");
    assert!(
        error.contains("parameters of resnet20") && error.contains("lower width"),
        "{error}"
    );
    let error = refuse(&|c| c.input = [1024, 4096, 4096], "linear");
    assert!(error.contains("at most 500000000"), "{error}");
    for name in MODEL_NAMES {
        let error = refuse(&|c| c.classes = usize::MAX, name);
        assert!(
            error.contains("`classes`") && error.contains("65536"),
            "{error}"
        );
        for input in [[1025, 32, 32], [3, 4097, 32], [3, 32, usize::MAX]] {
            let error = refuse(&|c| c.input = input, name);
            assert!(
                error.contains("`input`") && error.contains("4096"),
                "{error}"
            );
        }
    }
}

#[test]
fn settings_without_effect_are_refused() {
    let refuse = |table: &str| {
        let config: ModelConfig = serde_json::from_str(table).unwrap();
        config.validate().unwrap_err().to_string()
    };
    for (field, value) in [
        ("width", "64"),
        ("depth", "2"),
        ("activation", "\"relu\""),
        ("norm", "\"batch\""),
    ] {
        let error = refuse(&format!(r#"{{"name": "linear", "{field}": {value}}}"#));
        assert!(error.contains(&format!("has no {field}")), "{error}");
    }
    let repeated = r#"{"name": "linear", "width": "x1", "depth": 0, "activation": "identity",
        "norm": "none", "dropout": 0.0}"#;
    let repeated: ModelConfig = serde_json::from_str(repeated).unwrap();
    assert_eq!(repeated, ModelConfig::named("linear").unwrap());
    repeated.validate().unwrap();
    let error = refuse(r#"{"name": "resnet20", "norm": "none", "zero_gamma": true}"#);
    assert!(error.contains("zero_gamma"), "{error}");
}

#[test]
fn batches_too_small_for_batch_norm_are_foreseen() {
    let check = |name: &str, batch: usize| ModelConfig::named(name).unwrap().check_batch(batch);
    assert!(
        check("mlp", 1)
            .unwrap_err()
            .to_string()
            .contains("at least 2")
    );
    assert!(check("mlp", 2).is_ok());
    assert!(check("cnn", 1).is_ok());
    let tiny = ModelConfig {
        input: [3, 8, 8],
        ..ModelConfig::named("cnn").unwrap()
    };
    assert!(tiny.check_batch(1).is_err());
    let group = ModelConfig {
        norm: NormKind::Group,
        ..ModelConfig::named("mlp").unwrap()
    };
    assert!(group.check_batch(1).is_ok());
}
