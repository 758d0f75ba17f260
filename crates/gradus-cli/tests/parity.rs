//! `gradus parity` at tiny sizes: its answer, its exit code, its words.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;

use common::{folder, gradus, json};
use serde_json::Value;

const TINY: [&str; 12] = [
    "parity",
    "--model",
    "cnn",
    "--width",
    "4",
    "--batch-size",
    "4",
    "--steps",
    "2",
    "--set",
    "data.shapes_train=40",
    "--quiet",
];

#[test]
fn devices_that_agree_end_with_success() {
    let folder = folder();
    let found = json(folder.path(), &[&TINY[..], &["--json"]].concat());
    assert_eq!(found["agree"], true);
    assert_eq!(found["first_divergence"], Value::Null);
    assert_eq!(found["devices"], serde_json::json!(["flex", "ndarray"]));
    assert!(found["worst"]["share"].as_f64().unwrap() < 1.0);
    assert_eq!(found["free"]["exact"].as_array().unwrap().len(), 2);
    let table = gradus(folder.path()).args(TINY).assert().success();
    let said = String::from_utf8(table.get_output().stdout.clone()).unwrap();
    for words in ["against f64", "flex–ndarray", "activations", "All agree"] {
        assert!(said.contains(words), "{words} is missing:\n{said}");
    }
}

#[test]
fn a_fault_is_named_and_ends_with_failure() {
    let folder = folder();
    let plant = "ndarray:2:conv2d_weight_gradient:stages.0.1.conv.weight:17:0.5";
    let arguments = [&TINY[..], &["--lockstep-only", "--plant", plant]].concat();
    let table = gradus(folder.path()).args(&arguments).assert().code(1);
    let said = String::from_utf8(table.get_output().stdout.clone()).unwrap();
    assert!(
        said.contains("ndarray DIVERGES in step 2: conv2d_weight_gradient"),
        "{said}"
    );
    let output = gradus(folder.path())
        .args(&arguments)
        .arg("--json")
        .assert()
        .code(1);
    let found: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let out = &found["first_divergence"];
    assert_eq!(out["step"], 2);
    assert_eq!(out["tensor"], "stages.0.1.conv.weight");
    assert_eq!(out["operation"], "conv2d_weight_gradient");
    assert_eq!(out["element"], 17);
    assert!(out["error"].as_f64().unwrap() > out["tolerance"].as_f64().unwrap());
}

#[test]
fn optimizers_are_compared_without_a_model() {
    let folder = folder();
    let command = [
        "parity",
        "--optimizers",
        "lion,sgd | sam",
        "--steps",
        "2",
        "--quiet",
    ];
    let found = json(folder.path(), &[&command[..], &["--json"]].concat());
    assert_eq!(
        (&found["agree"], &found["steps"]),
        (&true.into(), &2.into())
    );
    assert_eq!(found["first_divergence"], Value::Null);
    let with_sam = found["optimizers"][1]["optimizer"].as_str().unwrap();
    assert!(
        with_sam.starts_with("sgd(") && with_sam.contains("| sam("),
        "{with_sam}"
    );
    assert_eq!(
        found["optimizers"][1]["against_f64"][1]["device"],
        "ndarray"
    );
    assert!(found["worst"]["share"].as_f64().unwrap() < 1.0);

    let plant = ["--plant", "flex:2:update:dense.bias:3:1"];
    let table = gradus(folder.path())
        .args([&command[..], &plant].concat())
        .assert()
        .code(1);
    let table = String::from_utf8(table.get_output().stdout.clone()).unwrap();
    assert!(
        table.contains("DIVERGES in step 2: update computes dense.bias"),
        "{table}"
    );
    assert!(table.contains("2 of 2 do not agree"), "{table}");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_starts() {
    let folder = folder();
    for (arguments, words) in [
        (&["--devices", "flex,nowhere"][..], "nowhere"),
        (&["--model", "cn"], "cnn"),
        (&["--plant", "flex:1"], "DEVICE:STEP"),
        (
            &["--optimizer", "lbfgs", "--devices", "flex"],
            "closure solver",
        ),
        (&["--devices", "flex,flex"], "twice"),
        (&["--optimizers", "adma"], "did you mean"),
        (&["--optimizers", "lbfgs"], "closure solver"),
        (&["--optimizers", "adam,"], "expected all"),
        (&["--optimizers", "all", "--model", "cnn"], "--model"),
        (&["--optimizers", "lion", "--devices", "nowhere"], "nowhere"),
        (
            &[
                "--optimizers",
                "lion",
                "--plant",
                "flex:1:update:nothing:0:1",
            ],
            "nothing",
        ),
    ] {
        let refused = gradus(folder.path())
            .arg("parity")
            .args(arguments)
            .assert()
            .code(2);
        let said = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}
