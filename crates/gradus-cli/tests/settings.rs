//! What is typed becomes a configuration: layers over one another, slips answered, nonsense refused.

#![allow(clippy::unwrap_used)] // a test panics where it fails, in its helper functions too

mod common;

use std::fs;

use common::{TINY, fails, folder, gradus, json};
use predicates::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

/// What `gradus train` with these flags, separated by spaces, would do.
fn planned(folder: &TempDir, flags: &str) -> Value {
    let arguments = ["train", "--dry-run", "--json"].into_iter();
    let arguments: Vec<_> = arguments.chain(flags.split_whitespace()).collect();
    json(folder.path(), &arguments)
}

#[test]
fn a_dry_run_shows_everything_and_writes_nothing() {
    let folder = folder();
    let arguments = [&["train", "--dry-run", "--model", "cnn"], &TINY[2..]].concat();
    gradus(folder.path())
        .args(&arguments)
        .assert()
        .success()
        .stdout(predicate::str::contains("shapes_train = 200"))
        .stdout(predicate::str::contains("conv 3×3"))
        .stdout(predicate::str::contains("6 steps"));
    let plan = json(folder.path(), &[&arguments[..], &["--json"]].concat());
    assert_eq!(plan["steps"], 6);
    assert_eq!(plan["config"]["model"]["name"], "cnn");
    assert_eq!(plan["plan"], serde_json::json!([]));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    // What a GPU does by itself can be asked for.
    let flags = ["--data-on", "device", "--read-every", "4"];
    gradus(folder.path())
        .args([&arguments[..], &flags].concat())
        .assert()
        .success()
        .stdout(predicate::str::contains("plan: the device holds"))
        .stdout(predicate::str::contains("read every 4 steps"));
}

#[test]
fn every_preset_can_be_resolved() {
    let folder = folder();
    let presets = json(folder.path(), &["list", "presets", "--json"]);
    for preset in presets.as_array().unwrap() {
        let name = preset["name"].as_str().unwrap();
        // On the built-in set, since no other is here; models and schedules are the preset's.
        let plan = planned(&folder, &format!("--preset {name} --data shapes"));
        assert!(plan["steps"].as_u64().unwrap() > 0, "{name}");
    }
}

#[test]
fn flags_lie_over_the_file_which_lies_over_the_preset() {
    let folder = folder();
    fs::write(
        folder.path().join("mine.toml"),
        "batch_size = 10\nepochs = 3\nseed = 5\n",
    )
    .unwrap();
    let plan = planned(
        &folder,
        "--preset quick --config mine.toml --epochs 7 --lr 0.25 --clip-norm 2 --l2 1e-4 \
         --label-smoothing 0.1 --width 4,8,8 --set seed=9",
    );
    let config = &plan["config"];
    assert_eq!(config["data"]["shapes_train"], 2000, "from the preset");
    assert_eq!(config["batch_size"], 10, "from the file");
    assert_eq!(config["epochs"], 7, "from the flag");
    assert_eq!(config["seed"], 9, "from --set");
    assert_eq!(config["model"]["width"], serde_json::json!([4, 8, 8]));
    let optimizer = config["optimizer"].as_str().unwrap();
    assert!(
        optimizer.contains("lr=0.25") && optimizer.contains("clip_global(2)"),
        "{optimizer}"
    );
    assert!(
        config["penalty"].as_str().unwrap().starts_with("l2"),
        "{config}"
    );
    assert_eq!(config["loss"], "cross-entropy(label_smoothing=0.1)");
}

#[test]
fn slips_of_the_finger_are_answered_with_the_nearest_name() {
    let folder = folder();
    let cases: [(&[&str], &str); 14] = [
        (&["trian"], "train"),
        (&["train", "--modle", "cnn"], "--model"),
        (&["train", "--model", "resnet2"], "resnet20"),
        (&["train", "--optimizer", "adma(lr=1)"], "adam"),
        (
            &["train", "--optimizer", "sgd(lr=0.1, momentun=0.9)"],
            "momentum",
        ),
        (&["train", "--schedule", "cosin"], "cosine"),
        (&["train", "--activation", "rellu"], "relu"),
        (&["train", "--init", "kaiming-norml"], "kaiming-normal"),
        (&["train", "--loss", "hing"], "hinge"),
        (&["train", "--preset", "cifar10-resnet"], "cifar10-resnet20"),
        (&["train", "--data", "cifar-10"], "cifar10"),
        (&["train", "--device", "flx"], "flex"),
        (&["train", "--set", "data.worker=2"], "workers"),
        (&["list", "model"], "models"),
    ];
    for (arguments, expected) in cases {
        let stderr = fails(folder.path(), 2, arguments);
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn impossible_values_are_usage_errors_that_name_what_is_wrong() {
    let folder = folder();
    let cases: [(&[&str], &str); 22] = [
        (&[], "Usage"),
        (&["train", "--epochs", "0"], "epochs"),
        (&["train", "--epochs", "-3"], "--epochs"),
        (&["train", "--batch-size", "0"], "batch_size"),
        (&["train", "--lr", "0"], "--lr"),
        (&["train", "--lr", "nan"], "--lr"),
        (&["train", "--val-fraction", "1.5"], "validation_fraction"),
        (&["train", "--val-fraction", "nan"], "validation_fraction"),
        (&["train", "--width", "0"], "width"),
        (&["train", "--width", "99999999999999999999"], "width"),
        (
            &["train", "--depth", "4294967295", "--model", "mlp"],
            "depth",
        ),
        (&["train", "--dropout", "1"], "dropout"),
        (&["train", "--label-smoothing", "1"], "label_smoothing"),
        (
            &["train", "--label-smoothing", "0.1", "--loss", "hinge"],
            "hinge",
        ),
        (&["train", "--seed", "18446744073709551615"], "seed"),
        (&["train", "--set", "epochs"], "KEY=VALUE"),
        (&["train", "--set", "epochs.x=1"], "epochs"),
        (&["train", "--set", "epochs=many"], "many"),
        (&["train", "--config", "missing.toml"], "missing.toml"),
        (&["train", "--image-size", "0"], "image"),
        (&["train", "--out", ""], "expected a path"),
        (&["train", "--data-dir", ""], "expected a path"),
    ];
    for (arguments, expected) in cases {
        let output = gradus(folder.path())
            .args(arguments)
            .assert()
            .code(2)
            .get_output()
            .clone();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
    fs::write(folder.path().join("bad.toml"), "epochs = [").unwrap();
    let stderr = fails(folder.path(), 2, &["train", "--config", "bad.toml"]);
    assert!(stderr.contains("bad.toml"), "{stderr}");
}

/// A kernel would ignore them, and what was to be compared would be the same twice.
#[test]
fn variables_with_values_that_mean_nothing_are_named() {
    let folder = folder();
    for (variable, value, known) in [
        ("GRADUS_SIMD", "avx51", "portable, avx2, avx512"),
        ("GRADUS_WINOGRAD", "3", "off, 2, 4"),
    ] {
        for verb in [
            &["train", "--dry-run"][..],
            &["doctor", "--json", "--no-speed"],
        ] {
            let output = gradus(folder.path())
                .args(verb)
                .env(variable, value)
                .assert()
                .code(2)
                .get_output()
                .clone();
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            for part in [variable, value, known] {
                assert!(stderr.contains(part), "{stderr}");
            }
        }
    }
    gradus(folder.path())
        .args(["train", "--dry-run"])
        .env("GRADUS_SIMD", "portable")
        .env("GRADUS_WINOGRAD", "")
        .assert()
        .success();
}
