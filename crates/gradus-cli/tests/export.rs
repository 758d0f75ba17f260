//! `gradus export`: a file that predicts what the run predicts, folded or not.

#![allow(clippy::unwrap_used)] // a test panics where it fails, in its helper functions too

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{TINY, fails, folder, gradus, json};
use predicates::prelude::*;
use serde_json::Value;

/// A short training of this model, into the folder `run`.
fn train(folder: &Path, model: &[&str]) -> Value {
    let begin = ["train", "--json", "--out", "run"];
    // Without the model that is there.
    json(folder, &[&begin[..], &TINY[2..], model].concat())
}

#[test]
fn an_exported_model_is_the_model_of_the_run() {
    let folder = folder();
    let folder = folder.path();
    let small = [
        "--model",
        "cnn",
        "--width",
        "4,6,8",
        "--set",
        "model.pool=last",
    ];
    let summary = train(folder, &small);

    // As it is: the same file.
    let plain = json(folder, &["export", "run", "--json"]);
    assert_eq!(plain["path"], "model.safetensors");
    assert_eq!(plain["sha256"], summary["weights_sha256"]);
    assert!(plain["folded"].is_null());
    let written = fs::read(folder.join("model.safetensors")).unwrap();
    assert_eq!(
        written,
        fs::read(folder.join("run/model.safetensors")).unwrap()
    );
    let problem = fails(folder, 1, &["export", "run"]);
    assert!(problem.contains("--force"), "{problem}");

    // Folded: without norms, with the same answers.
    let folded = json(
        folder,
        &[
            "export",
            "run",
            "--fold",
            "--out",
            "net.safetensors",
            "--json",
        ],
    );
    assert_eq!(folded["folded"].as_array().unwrap().len(), 6, "{folded}");
    assert_eq!(folded["kept"].as_array().unwrap().len(), 0);
    assert!(folded["difference"].as_f64().unwrap() < 1e-5, "{folded}");
    assert!(folded["bytes"].as_u64() < plain["bytes"].as_u64());
    let text =
        String::from_utf8_lossy(&fs::read(folder.join("net.safetensors")).unwrap()).into_owned();
    assert!(text.contains("stages.0.1.conv.bias") && !text.contains("running_mean"));

    gradus(folder)
        .args(["data", "show", "shapes", "--count", "1", "--quiet"])
        .assert()
        .success();
    let sheet = fs::read_dir(folder)
        .unwrap()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "png"))
        .unwrap();
    let image = sheet.to_str().unwrap();
    let guess = |model: &str| {
        let answer = json(folder, &["predict", model, image, "--json", "--top", "10"]);
        let classes = answer["predictions"][0]["classes"]
            .as_array()
            .unwrap()
            .clone();
        classes
            .into_iter()
            .map(|guess| {
                let class = guess["class"].as_str().unwrap().to_owned();
                (class, guess["probability"].as_f64().unwrap())
            })
            .collect::<BTreeMap<_, _>>()
    };
    let (ours, theirs) = (guess("run"), guess("net.safetensors"));
    assert_eq!((ours.len(), theirs.len()), (10, 10));
    for (class, p) in ours {
        assert!((p - theirs[&class]).abs() < 1e-5, "{class}: {p} {theirs:?}");
    }
    let data = ["--data", "shapes", "--json"];
    let sizes = |model: &str| json(folder, &[&["eval", model][..], &data[..]].concat());
    let (a, b) = (sizes("model.safetensors"), sizes("net.safetensors"));
    assert_eq!(a["accuracy"], b["accuracy"]);

    // Once folded there is nothing left to fold, and it says where it wrote.
    let problem = fails(
        folder,
        2,
        &["export", "net.safetensors", "--fold", "--force"],
    );
    assert!(problem.contains("nothing to fold"), "{problem}");
    gradus(folder)
        .args(["export", "run", "--fold", "--force"])
        .assert()
        .success()
        .stdout("model.safetensors\n")
        .stderr(predicate::str::contains("6 of 6 normalisations folded"));
}

#[test]
fn what_cannot_be_folded_is_said() {
    let folder = folder();
    let folder = folder.path();
    let small = ["--model", "cnn", "--width", "4", "--norm", "group"];
    train(folder, &small);
    let problem = fails(folder, 2, &["export", "run", "--fold"]);
    assert!(problem.contains("statistics from each image"), "{problem}");
    assert!(!folder.join("model.safetensors").exists());
    fails(folder, 1, &["export", "nowhere"]);
}
