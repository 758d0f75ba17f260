//! `gradus optim`: the catalogue, traces and schedules as a person asks for them.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // a test panics where it fails

mod common;

use std::fs;
use std::path::Path;

use common::{fails, folder, gradus, json};
use predicates::prelude::*;
use serde_json::{Value, json as value};

/// A fixture of the project's shared folder, if this checkout lies beside one.
fn fixture(file: &str) -> Option<Value> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("shared/fixtures").join(file))
        .find(|path| path.exists());
    let Some(path) = found else {
        eprintln!("SKIPPED: shared/fixtures/{file} is not beside this checkout");
        return None;
    };
    Some(serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
}

fn floats(list: &Value) -> Vec<f64> {
    let list = list.as_array().unwrap();
    list.iter().map(|x| x.as_f64().unwrap()).collect()
}

#[track_caller]
fn assert_close(what: &str, ours: &[f64], theirs: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let error = (a - b).abs() / b.abs().max(1e-3);
        assert!(error <= tolerance, "{what}, entry {i}: {a} instead of {b}");
    }
}

/// `{"lr": 0.1, "betas": [0.9, 0.99]}` as `(lr=0.1, betas=(0.9, 0.99))`.
fn arguments(given: &Value) -> String {
    fn text(value: &Value) -> String {
        match value {
            Value::Array(values) => {
                let values: Vec<_> = values.iter().map(text).collect();
                format!("({})", values.join(", "))
            }
            Value::String(word) => word.clone(),
            other => other.to_string(),
        }
    }
    let pairs = given.as_object().unwrap().iter();
    let pairs: Vec<_> = pairs
        .map(|(key, value)| {
            // optax says `learning_rate`.
            let key = key.to_lowercase().replace("learning_rate", "lr");
            format!("{key}={}", text(value))
        })
        .collect();
    format!("({})", pairs.join(", "))
}

// === trace ===

fn trace(folder: &Path, optimizer: &str, theta: &str, grads: &Value, more: &[&str]) -> Value {
    fs::write(folder.join("grads.json"), grads.to_string()).unwrap();
    let arguments = [
        "optim",
        "trace",
        "--optimizer",
        optimizer,
        "--theta",
        theta,
        "--grads",
        "grads.json",
        "--json",
    ];
    json(folder, &[&arguments[..], more].concat())
}

#[test]
fn a_trace_is_what_pen_and_paper_say() {
    let folder = folder();
    let folder = folder.path();
    let grads = value!([[1.0, 0.0], [0.5, -4.0]]);
    let traced = trace(folder, "SGD(lr=0.5, momentum=0.5)", "1,-2", &grads, &[]);
    // v = g; then v = v/2 + g = (1, −4).
    assert_eq!(
        traced,
        value!({
            "optimizer": "sgd(lr=0.5, momentum=0.5)",
            "iterates": [[0.5, -2.0], [0.0, 0.0]],
        })
    );
    // A stage of the chain takes effect: the second gradient is cut to 1.
    let traced = trace(folder, "sgd(lr=0.5) | clip-value(1)", "1,-2", &grads, &[]);
    assert_eq!(traced["optimizer"], "sgd(lr=0.5) | clip_value(1)");
    assert_eq!(traced["iterates"], value!([[0.5, -2.0], [0.25, -1.5]]));
    // Without a gradient nothing moves, not even by momentum.
    let grads = value!([[1.0, 0.0], null, [0.5, -4.0]]);
    let traced = trace(folder, "sgd(lr=0.5, momentum=0.5)", "1,-2", &grads, &[]);
    assert_eq!(
        traced["iterates"],
        value!([[0.5, -2.0], [0.5, -2.0], [0.0, 0.0]])
    );
    // `no_decay` exempts vectors, not matrices.
    let grads = value!([[0.0, 0.0, 0.0, 0.0]]);
    let decayed = "sgd(lr=0.5, weight_decay=0.5) | no_decay";
    let vector = trace(folder, decayed, "4,4,4,4", &grads, &[]);
    let matrix = trace(folder, decayed, "4,4,4,4", &grads, &["--shape", "2,2"]);
    assert_eq!(vector["iterates"], value!([[4.0, 4.0, 4.0, 4.0]]));
    assert_eq!(matrix["iterates"], value!([[3.0, 3.0, 3.0, 3.0]]));
}

#[test]
fn a_trace_in_f32_is_rounded_to_f32() {
    let folder = folder();
    let folder = folder.path();
    let grads = value!([[0.1], [0.1]]);
    let one = trace(folder, "sgd(lr=0.1)", "-1", &grads, &["--dtype", "f32"]);
    let x = floats(&one["iterates"][1])[0];
    assert_eq!(x, f64::from(x as f32), "a number of f32");
    assert!((x + 1.02).abs() < 1e-7);
    let two = trace(folder, "sgd(lr=0.1)", "-1", &grads, &["--dtype", "f64"]);
    assert_ne!(two["iterates"], one["iterates"]);
}

#[test]
fn traces_equal_the_iterates_of_torch_and_optax() {
    let Some(fixture) = fixture("torch_optim.json") else {
        return;
    };
    let folder = folder();
    let folder = folder.path();
    let gradients: Vec<[f64; 3]> = (1..=50)
        .map(f64::from)
        .map(|t| [t.cos(), (2.0 * t).sin(), 0.1 * t])
        .collect();
    let mut compared = 0;
    for case in fixture["cases"].as_array().unwrap() {
        let name = case["optimizer"].as_str().unwrap().to_lowercase();
        // Those of optax are compared in gradus-optim's tests; one stands for them here.
        if case["library"] != "torch.optim" && name != "lion" {
            continue;
        }
        // PyTorch rounds NAdam's running product and ASGD's rate to f32; see gradus-optim's tests.
        let tolerance = if name == "asgd" { 1e-8 } else { 1e-10 };
        let text = format!("{name}{}", arguments(&case["given"]));
        let traced = trace(folder, &text, "1,-2,3", &value!(gradients), &[]);
        let theirs = case["iterates"].as_array().unwrap();
        let ours = traced["iterates"].as_array().unwrap();
        assert_eq!(ours.len(), theirs.len(), "{text}");
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_close(&text, &floats(ours), &floats(theirs), tolerance);
        }
        compared += 1;
    }
    assert!(compared > 30, "only {compared} cases were compared");
}

#[test]
fn a_trace_reads_stdin_and_prints_a_table() {
    let folder = folder();
    gradus(folder.path())
        .args([
            "optim",
            "trace",
            "--optimizer",
            "sgd(lr=1)",
            "--theta",
            "1,-2",
        ])
        .args(["--grads", "-"])
        .write_stdin("[[0.5, 0.25]]")
        .assert()
        .success()
        .stdout(predicate::str::contains("sgd(lr=1)"))
        .stdout(predicate::str::contains("5.000000000e-1"))
        .stdout(predicate::str::contains("-2.250000000e0"));
}

#[test]
fn what_cannot_be_traced_is_refused_with_the_reason() {
    let folder = folder();
    let folder = folder.path();
    fs::write(folder.join("good.json"), "[[1, 2]]").unwrap();
    fs::write(folder.join("long.json"), "[[1, 2], [1, 2, 3]]").unwrap();
    fs::write(folder.join("bad.json"), "[[1, \"two\"]]").unwrap();
    let refused = |code, optimizer: &str, theta: &str, grads: &str, more: &[&str]| {
        let arguments = [
            "optim",
            "trace",
            "--optimizer",
            optimizer,
            "--theta",
            theta,
            "--grads",
            grads,
        ];
        fails(folder, code, &[&arguments[..], more].concat())
    };
    for (code, optimizer, theta, grads, more, message) in [
        (
            1,
            "sgd",
            "1,2",
            "none.json",
            &[][..],
            "cannot read none.json",
        ),
        (
            1,
            "sgd",
            "1,2",
            "long.json",
            &[],
            "gradient 2 in long.json has 3 numbers, θ has 2",
        ),
        (1, "sgd", "1,2", "bad.json", &[], "line 1 column 10"),
        (
            1,
            "sgd",
            "1,2",
            "bad.json",
            &[],
            "bad.json does not hold a JSON list",
        ),
        (
            2,
            "sgd(lr=-1)",
            "1,2",
            "good.json",
            &[],
            "`lr` of sgd must lie in",
        ),
        (2, "sgdd", "1,2", "good.json", &[], "did you mean `sgd`?"),
        (2, "sgd", "1,x", "good.json", &[], "expected finite numbers"),
        (
            2,
            "sgd",
            "1,2",
            "good.json",
            &["--shape", "2,2"],
            "holds 4 numbers",
        ),
        (
            2,
            "sgd",
            "1,2",
            "good.json",
            &["--shape", "2,1,1,1,1"],
            "one to four sides",
        ),
        (
            2,
            "sgd",
            "1,2",
            "good.json",
            &["--shape", "4294967295,4294967295,4294967295,2"],
            "holds too many numbers",
        ),
        (
            2,
            "sgd(nesterov=true)",
            "1,2",
            "good.json",
            &[],
            "\n      ^^^^^^^^^^^^^",
        ),
    ] {
        let stderr = refused(code, optimizer, theta, grads, more);
        assert!(stderr.contains(message), "{stderr}");
    }
}

// === schedule ===

#[test]
fn schedules_equal_torch() {
    let Some(fixture) = fixture("torch_schedulers.json") else {
        return;
    };
    let folder = folder();
    let folder = folder.path();
    for case in fixture["cases"].as_array().unwrap() {
        let mut given = case["given"].clone();
        let name = match case["scheduler"].as_str().unwrap() {
            "StepLR" => "step",
            "MultiStepLR" => "multi_step",
            "ExponentialLR" => "exponential",
            "CosineAnnealingLR" => "cosine",
            "CosineAnnealingWarmRestarts" => "cosine_restarts",
            "LinearLR" => {
                given["end_factor"] = 1.0.into(); // PyTorch's default; ours goes to zero
                "linear"
            }
            "PolynomialLR" => "polynomial",
            "ConstantLR" => "constant",
            "OneCycleLR" => "onecycle",
            "CyclicLR" => "cyclic",
            "ReduceLROnPlateau" => "plateau",
            other => panic!("{other} is not covered"),
        };
        let text = format!("{name}{}", arguments(&given));
        let mut arguments = vec!["optim", "schedule", &text, "--steps", "60", "--lr", "0.5"];
        arguments.push("--json");
        if name == "plateau" {
            fs::write(folder.join("metric.json"), case["metric"].to_string()).unwrap();
            arguments.extend(["--metrics", "metric.json"]);
        }
        let ours = json(folder, &arguments);
        assert_close(&text, &floats(&ours["lr"]), &floats(&case["lr"]), 1e-12);
        if ours["momentum"].is_null() {
            assert!(name != "onecycle" && name != "cyclic");
        } else {
            let momenta = floats(&ours["momentum"]);
            assert_close(&text, &momenta, &floats(&case["momentum"]), 1e-12);
        }
    }
}

#[test]
fn a_schedule_is_drawn_and_tabled() {
    let folder = folder();
    gradus(folder.path())
        .args(["optim", "schedule", "onecycle(max_lr=0.5)", "--steps", "60"])
        .assert()
        .success()
        .stdout(predicate::str::contains("0.5000 │"))
        .stdout(predicate::str::contains("momentum"))
        .stdout(predicate::str::contains("step"));
    let once = json(
        folder.path(),
        &["optim", "schedule", "constant", "--steps", "1", "--json"],
    );
    assert_eq!(once, value!({"lr": [1.0], "momentum": null}));
    gradus(folder.path())
        .args(["optim", "schedule", "constant", "--steps", "1"])
        .assert()
        .success();
    // Epochs of two steps.
    let text = "step(step_size=1, gamma=0.5) | per_epoch | momentum(constant, base=0.5)";
    let by_epoch = json(
        folder.path(),
        &[
            "optim",
            "schedule",
            text,
            "--steps",
            "5",
            "--steps-per-epoch",
            "2",
            "--json",
        ],
    );
    assert_eq!(by_epoch["lr"], value!([1.0, 1.0, 0.5, 0.5, 0.25]));
    assert_eq!(by_epoch["momentum"], value!([0.5, 0.5, 0.5, 0.5, 0.5]));
}

#[test]
fn a_plateau_needs_metrics_and_others_need_none() {
    let folder = folder();
    let folder = folder.path();
    fs::write(folder.join("m.json"), "[1, 1, 1]").unwrap();
    let plateau = ["optim", "schedule", "plateau(patience=0)", "--steps"];
    let refused = fails(folder, 2, &[&plateau[..], &["3"]].concat());
    assert!(refused.contains("--metrics"), "{refused}");
    let refused = fails(
        folder,
        1,
        &[&plateau[..], &["5", "--metrics", "m.json"]].concat(),
    );
    assert!(
        refused.contains("has 3 numbers, 5 steps need 4"),
        "{refused}"
    );
    let ours = json(
        folder,
        &[&plateau[..], &["4", "--metrics", "m.json", "--json"]].concat(),
    );
    assert_close(
        "plateau",
        &floats(&ours["lr"]),
        &[1.0, 1.0, 0.1, 0.01],
        1e-12,
    );
    let cosine = [
        "optim",
        "schedule",
        "cosine",
        "--steps",
        "4",
        "--metrics",
        "m.json",
    ];
    assert!(fails(folder, 2, &cosine).contains("looks at no metric"));
    assert!(fails(folder, 2, &["optim", "schedule", "cosin", "--steps", "4"]).contains("cosine"));
    fails(folder, 2, &["optim", "schedule", "cosine", "--steps", "0"]);
    fails(folder, 2, &["optim", "schedule", "cosine"]);
}

// === list and show ===

#[test]
fn everything_listed_is_explained_from_the_same_source() {
    let folder = folder();
    let folder = folder.path();
    let lists = json(folder, &["optim", "list", "--json"]);
    let mut names = 0;
    for (key, entries) in lists.as_object().unwrap() {
        assert!(!entries.as_array().unwrap().is_empty(), "{key}");
        for entry in entries.as_array().unwrap() {
            names += 1;
            let name = entry["name"].as_str().unwrap();
            let kind = entry["kind"].as_str().unwrap();
            let shown = json(folder, &["optim", "show", name, "--kind", kind, "--json"]);
            assert_eq!(shown["hyperparameters"], entry["hyperparameters"], "{name}");
            assert!(
                shown["documentation"].as_str().unwrap().contains("```text"),
                "{name} has no formula"
            );
            assert!(!entry["about"].as_str().unwrap().is_empty(), "{name}");
        }
    }
    assert!(names > 30, "only {names}");
    gradus(folder)
        .args(["optim", "list"])
        .assert()
        .success()
        .stdout(predicate::str::contains("adamw"))
        .stdout(predicate::str::contains("onecycle"))
        .stdout(predicate::str::contains("warmup"));
}

#[test]
fn showing_one_prints_formula_table_and_text() {
    let folder = folder();
    let folder = folder.path();
    gradus(folder)
        .args(["optim", "show", "Adam-W"])
        .assert()
        .code(2)
        .stderr(predicate::str::contains("did you mean"));
    gradus(folder)
        .args(["optim", "show", "Adam"])
        .assert()
        .success()
        .stdout(predicate::str::contains("adam · rule"))
        .stdout(predicate::str::contains("\n    m ← "))
        .stdout(predicate::str::contains("Memory:"))
        .stdout(predicate::str::contains("When to use:"))
        .stdout(predicate::str::contains("betas"))
        .stdout(predicate::str::contains("(0.9, 0.999)"))
        .stdout(predicate::str::contains("```").not());
    gradus(folder)
        .args(["optim", "show", "multi-step"])
        .assert()
        .success()
        .stdout(predicate::str::contains("milestones=(30, 60, 80)"));
    // A rule and a stage of schedules are called so.
    gradus(folder)
        .args(["optim", "show", "momentum"])
        .assert()
        .success()
        .stdout(predicate::str::contains("momentum · rule"))
        .stdout(predicate::str::contains("--kind schedule-stage"));
    let unknown = fails(folder, 2, &["optim", "show", "zebra"]);
    assert!(unknown.contains("gradus optim list"), "{unknown}");
}

#[test]
fn the_help_of_each_verb_has_examples() {
    let folder = folder();
    for verb in ["list", "show", "trace", "schedule"] {
        gradus(folder.path())
            .args(["optim", verb, "--help"])
            .assert()
            .success()
            .stdout(predicate::str::contains("Examples:"))
            .stdout(predicate::str::contains("--json"));
    }
}
