//! The verbs as a person types them: what they print, what they write, how they refuse.

#![allow(clippy::unwrap_used)] // a test panics where it fails, in its helper functions too

mod common;

use std::fs;

use common::{TINY, fails, folder, gradus, json, train};
use predicates::prelude::*;

#[test]
fn training_evaluating_predicting_and_reporting_agree() {
    let folder = folder();
    let folder = folder.path();
    let summary = train(folder, &["--out", "run"]);
    for key in [
        "run_dir",
        "model",
        "parameters",
        "data",
        "device",
        "seed",
        "epochs",
        "steps",
        "train_loss",
        "val_accuracy",
        "test_accuracy",
        "seconds",
        "images_per_second",
        "weights_sha256",
        "report",
    ] {
        assert!(!summary[key].is_null(), "{key} is missing: {summary}");
    }
    assert_eq!(summary["model"], "linear");
    assert_eq!(summary["epochs"], 2);
    assert_eq!(summary["steps"], 6, "180 images make 3 batches of 50");
    for file in [
        "config.toml",
        "run.json",
        "metrics.jsonl",
        "history.csv",
        "summary.json",
        "evaluation.json",
        "model.safetensors",
        "report.html",
    ] {
        assert!(folder.join("run").join(file).exists(), "{file}");
    }

    let evaluation = json(folder, &["eval", "run", "--json"]);
    assert_eq!(evaluation["accuracy"], summary["test_accuracy"]);
    assert_eq!(evaluation["loss"], summary["test_loss"]);
    assert_eq!(evaluation["n"], 50);
    assert_eq!(evaluation["per_class"].as_array().unwrap().len(), 10);
    assert!(evaluation["top5"].is_number());
    let validation = json(folder, &["eval", "run", "--json", "--split", "validation"]);
    assert_eq!(validation["accuracy"], summary["val_accuracy"]);
    // The newest run is found, and other weights of it can be named.
    let last = json(folder, &["eval", "run/checkpoints/step-00000006", "--json"]);
    assert_eq!(last["accuracy"], summary["test_accuracy"]);
    json(folder, &["eval", "run", "--json", "--checkpoint", "best"]);
    let file = json(folder, &["eval", "run/model.safetensors", "--json"]);
    assert_eq!(file["accuracy"], summary["test_accuracy"]);
    gradus(folder)
        .args(["eval", "run"])
        .assert()
        .success()
        .stdout(predicate::str::contains("precision"));

    // Views of an image, averaged.
    assert_eq!(evaluation["tta"], "none");
    let views = json(folder, &["eval", "run", "--json", "--tta", "mirror-shift"]);
    assert_eq!(views["tta"], "mirror-shift");
    assert_ne!(views["loss"], summary["test_loss"]);

    // A picture on which to predict: the first sample that `data show` draws, cut out of its sheet.
    gradus(folder)
        .args(["data", "show", "shapes", "--count", "1", "--quiet"])
        .assert()
        .success();
    let sheet = image::open(folder.join("shapes-samples.png")).unwrap();
    sheet
        .crop_imm(4, 4, 64, 64)
        .save(folder.join("one.png"))
        .unwrap();
    let answer = json(
        folder,
        &["predict", "run", "one.png", "--json", "--top", "10"],
    );
    let classes = answer["predictions"][0]["classes"].as_array().unwrap();
    let sum: f64 = classes
        .iter()
        .map(|guess| guess["probability"].as_f64().unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    let mirrored = json(
        folder,
        &["predict", "run", "one.png", "--json", "--tta", "mirror"],
    );
    assert_ne!(mirrored["predictions"], answer["predictions"]);

    fs::remove_file(folder.join("run/report.html")).unwrap();
    gradus(folder)
        .args(["report", "run"])
        .assert()
        .success()
        .stdout(predicate::str::contains("report.html"));
    assert!(folder.join("run/report.html").exists());
}

#[test]
fn views_that_training_tested_with_are_those_of_eval() {
    let folder = folder();
    let folder = folder.path();
    let plain = train(folder, &["--out", "plain", "--no-report"]);
    let summary = train(folder, &["--out", "run", "--no-report", "--tta", "mirror"]);
    assert_eq!(summary["tta"], "mirror");
    assert_eq!(summary["train_loss"], plain["train_loss"]);
    assert_ne!(summary["test_loss"], plain["test_loss"]);
    let file = fs::read_to_string(folder.join("run/evaluation.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    assert_eq!(file["tta"], "mirror");
    let evaluation = json(folder, &["eval", "run", "--json"]);
    assert_eq!(evaluation["loss"], summary["test_loss"]);
    let without = json(folder, &["eval", "run", "--json", "--tta", "none"]);
    assert_eq!(without["loss"], plain["test_loss"]);
    let error = fails(folder, 2, &["eval", "run", "--tta", "mirrors"]);
    assert!(error.contains("did you mean mirror"), "{error}");
}

#[test]
fn a_bad_image_is_named_and_the_others_are_still_classified() {
    let folder = folder();
    let folder = folder.path();
    train(folder, &["--out", "run", "--no-report"]);
    assert!(!folder.join("run/report.html").exists());
    image::RgbImage::from_pixel(50, 20, image::Rgb([9, 9, 9]))
        .save(folder.join("a.png"))
        .unwrap();
    fs::write(folder.join("b.png"), "no image").unwrap();
    gradus(folder)
        .args(["predict", "run", "b.png", "a.png", ".", "missing.png"])
        .assert()
        .code(1)
        .stdout(predicate::str::contains("a.png: "))
        .stderr(predicate::str::contains("b.png"))
        .stderr(predicate::str::contains(". is a folder"))
        .stderr(predicate::str::contains("missing.png"));
    fails(folder, 2, &["predict", "run"]);
    fails(folder, 2, &["predict", "run", "a.png", "--top", "0"]);
}

#[test]
fn words_go_to_stderr_and_quiet_silences_them() {
    let folder = folder();
    let run = |flags: &[&str]| {
        let arguments = [&["train"], &TINY[..], flags].concat();
        gradus(folder.path())
            .args(arguments)
            .assert()
            .success()
            .get_output()
            .clone()
    };
    let loud = run(&["--out", "a"]);
    let (stdout, stderr) = (
        String::from_utf8(loud.stdout).unwrap(),
        String::from_utf8(loud.stderr).unwrap(),
    );
    assert!(stdout.starts_with("test accuracy"), "{stdout}");
    assert!(
        stdout.contains("report.html") && stdout.contains("SHA-256"),
        "{stdout}"
    );
    assert!(
        stderr.contains("2/2") && stderr.contains("train loss"),
        "{stderr}"
    );
    assert!(
        !stderr.contains('\u{1b}'),
        "no colours or cursor movements in a pipe: {stderr:?}"
    );
    assert!(run(&["--out", "b", "--quiet"]).stderr.is_empty());
    assert!(run(&["--out", "c", "--quiet", "--json"]).stderr.is_empty());
}

#[test]
fn a_folder_that_holds_a_run_is_not_written_over() {
    let folder = folder();
    train(folder.path(), &["--out", "run", "--no-report"]);
    let before = fs::read(folder.path().join("run/metrics.jsonl")).unwrap();
    let arguments = [&["train", "--out", "run"], &TINY[..]].concat();
    let stderr = fails(folder.path(), 2, &arguments);
    assert!(stderr.contains("--resume last --out run"), "{stderr}");
    assert_eq!(
        fs::read(folder.path().join("run/metrics.jsonl")).unwrap(),
        before
    );
}

#[test]
fn every_list_can_be_read_by_people_and_programs() {
    let folder = folder();
    for kind in [
        "models",
        "optimizers",
        "schedules",
        "activations",
        "initializers",
        "losses",
        "presets",
        "data",
        "devices",
    ] {
        let entries = json(folder.path(), &["list", kind, "--json"]);
        let entries = entries.as_array().unwrap();
        assert!(entries.len() >= 3, "{kind}");
        let text = gradus(folder.path())
            .args(["list", kind])
            .assert()
            .success();
        let text = String::from_utf8_lossy(&text.get_output().stdout).into_owned();
        for entry in entries {
            let name = entry["name"].as_str().unwrap();
            assert!(text.contains(name), "{kind}: {name} is not in\n{text}");
        }
    }
    let count = |arguments: &[&str]| {
        let models = json(folder.path(), arguments);
        let models = models.as_array().unwrap();
        let linear = models
            .iter()
            .find(|model| model["name"] == "linear")
            .unwrap();
        linear["parameters"].as_u64().unwrap()
    };
    assert_eq!(count(&["list", "models", "--json"]), 3072 * 10 + 10);
    let other = [
        "list",
        "models",
        "--json",
        "--input",
        "1x28x28",
        "--classes",
        "3",
    ];
    assert_eq!(count(&other), 784 * 3 + 3);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let folder = folder();
    let binary = env!("CARGO_BIN_EXE_gradus");
    // `true` reads nothing, so the first write may already meet a closed pipe.
    for arguments in [
        "list models",
        "list optimizers",
        "--help",
        "train --help",
        "completions bash",
    ] {
        let script = format!("set -o pipefail; '{binary}' {arguments} | true");
        let output = std::process::Command::new("bash")
            .args(["-c", &script])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments}: {output:?}");
    }
}

#[test]
fn help_names_defaults_and_ends_with_examples() {
    let folder = folder();
    for verb in [
        "train",
        "eval",
        "predict",
        "report",
        "list",
        "data",
        "doctor",
        "completions",
    ] {
        let output = gradus(folder.path())
            .args([verb, "--help"])
            .assert()
            .success();
        let text = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
        let examples = text
            .find("Examples:")
            .unwrap_or_else(|| panic!("{verb} has no examples"));
        assert!(examples > text.find("Options:").unwrap(), "{verb}");
    }
    gradus(folder.path())
        .args(["train", "--help"])
        .assert()
        .stdout(predicate::str::contains("[default: shapes]"))
        .stdout(predicate::str::contains("[default: 128;"));
}

#[test]
fn doctor_and_completions_speak() {
    let folder = folder();
    let findings = json(folder.path(), &["doctor", "--json"]);
    assert!(findings["speed"]["gemm_gflops"].as_f64().unwrap() > 0.1);
    assert!(findings["backends"].as_array().unwrap().len() >= 2);
    gradus(folder.path())
        .args(["doctor", "--no-speed"])
        .assert()
        .success()
        .stdout(predicate::str::contains("auto takes"));
    for shell in ["bash", "zsh", "fish"] {
        gradus(folder.path())
            .args(["completions", shell])
            .assert()
            .success()
            .stdout(predicate::str::contains("label-smoothing"));
    }
}

#[test]
fn a_loss_that_explodes_stops_with_its_place() {
    let folder = folder();
    let arguments = [
        &["train", "--out", "run"],
        &TINY[..],
        &["--optimizer", "sgd(lr=1e30)", "--loss", "mse"],
    ];
    let stderr = fails(folder.path(), 1, &arguments.concat());
    assert!(
        stderr.contains("epoch") && stderr.contains("batch"),
        "{stderr}"
    );
    assert!(stderr.contains("tensor"), "{stderr}");
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let folder = folder();
    fs::write(folder.path().join("file"), "in the way").unwrap();
    let arguments = [&["train", "--out", "file/run"], &TINY[..]].concat();
    let stderr = fails(folder.path(), 1, &arguments);
    assert!(stderr.contains("file/run"), "{stderr}");
}
