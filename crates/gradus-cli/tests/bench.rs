//! `gradus bench` at tiny sizes: what it prints and refuses, not how fast anything is.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;

use common::{fails, folder, json};
use serde_json::Value;

const TINY: [&str; 11] = [
    "bench", "step", "--batch", "4", "--width", "4", "--rounds", "2", "--steps", "1", "--json",
];

fn step(model: &str, more: &[&str]) -> Value {
    json(
        folder().path(),
        &[&TINY[..], &["--model", model], more].concat(),
    )
}

#[test]
fn a_step_has_its_numbers_and_plain_burn_learns_the_same() {
    for (model, more) in [
        ("cnn", &["--inference"][..]),
        ("cnn", &["--set", "pool=last"]),
        ("resnet8", &["--set", "shortcut=b"]),
        ("resnet8", &[]),
        ("airnet", &["--inference"]),
    ] {
        let found = step(model, &[&["--peers", "burn"], more].concat());
        assert_eq!(found["model"], model);
        assert_eq!(
            (&found["batch"], &found["device"]),
            (&4.into(), &"flex".into())
        );
        assert_eq!(found["precision"], "f32");
        for key in [
            "images_per_second",
            "seconds_per_step",
            "gflops",
            "peak_gflops",
            "peak_share",
        ] {
            let value = found[key].as_f64().unwrap();
            assert!(value.is_finite() && value > 0.0, "{key}: {value}");
        }
        let rate = found["images_per_second"].as_f64().unwrap();
        let seconds = found["seconds_per_step"].as_f64().unwrap();
        assert!((rate * seconds - 4.0).abs() < 1e-9);
        if cfg!(target_os = "linux") {
            assert!(found["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
        }
        let operations = found["operations"].as_array().unwrap();
        assert!(
            operations
                .iter()
                .any(|found| found["operation"] == "conv2d")
        );
        // Three steps that warm up and one timed, then one and one.
        assert_eq!(found["losses"].as_array().unwrap().len(), 6);
        let peers = found["peers"].as_array().unwrap();
        let inference = more.contains(&"--inference");
        assert_eq!(peers.len(), if inference { 2 } else { 1 });
        assert_eq!(found["inference"].is_object(), inference);
        let difference = peers[0]["loss_difference"].as_f64().unwrap();
        assert!(difference < 1e-4, "{model}: {difference}");
    }
}

#[test]
fn lockstep_says_whether_losses_agree() {
    let folder = folder();
    let found = json(
        folder.path(),
        &[
            "bench",
            "step",
            "--model",
            "cnn",
            "--width",
            "4",
            "--batch",
            "8",
            "--peers",
            "burn",
            "--lockstep",
            "5",
            "--json",
        ],
    );
    assert_eq!(found["agrees"], true);
    assert_eq!(found["losses"].as_array().unwrap().len(), 5);
    assert_eq!(found["sides"][0]["side"], "burn");
    assert!(found["sides"][0]["difference"].as_f64().unwrap() <= 1e-4);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let folder = folder();
    for (arguments, words) in [
        (&["--model", "vgg"][..], "vgg"),
        (&["--model", "cnn", "--batch", "0"], "from 1 on"),
        (&["--model", "cnn", "--set", "pool=middle"], "middle"),
        (&["--model", "cnn", "--set", "colour=red"], "colour"),
        (&["--model", "cnn", "--precision", "f8"], "bf16"),
        (
            &[
                "--model",
                "cnn",
                "--precision",
                "bf16",
                "--device",
                "ndarray",
            ],
            "expected f32, which is what ndarray computes in",
        ),
        (&["--model", "cnn", "--device", "flx"], "flex"),
        (&["--model", "mlp", "--peers", "burn"], "the peers have"),
        (&["--model", "cnn", "--lockstep", "2"], "--peers"),
        (&["--model", "cnn", "--peers", "tf"], "tf"),
    ] {
        let error = fails(folder.path(), 2, &[&["bench", "step"], arguments].concat());
        assert!(error.contains(words), "{error}");
    }
    // Not there is a failure of the machine, not of the words.
    let arguments = [
        "bench",
        "step",
        "--model",
        "cnn",
        "--batch",
        "2",
        "--width",
        "2",
        "--peers",
        "torch",
        "--python",
        "/no/python",
    ];
    let error = fails(folder.path(), 1, &arguments);
    assert!(error.contains("/no/python"), "{error}");
}

#[test]
fn kernels_are_measured_in_all_passes() {
    let folder = folder();
    let arguments = ["bench", "kernels", "--quick", "--batch", "1"];
    let found = json(
        folder.path(),
        &[
            &arguments[..],
            &["--only", "3→16", "--peer", "burn", "--json"],
        ]
        .concat(),
    );
    let lines = found["lines"].as_array().unwrap();
    let passes: Vec<&str> = lines
        .iter()
        .map(|line| line["pass"].as_str().unwrap())
        .collect();
    assert_eq!(passes, ["forward", "input_gradient", "weight_gradient"]);
    for line in lines {
        assert!(line["gflops"].as_f64().unwrap() > 0.0);
        assert!(line["burn_ratio"].as_f64().unwrap() > 0.0);
        assert!(line["torch_ratio"].is_null());
    }
    assert!(found["peaks"]["gemm_gflops"].as_f64().unwrap() > 0.0);
    assert!(found["peaks"]["triad_gb_per_second"].as_f64().unwrap() > 0.0);
    let found = json(
        folder.path(),
        &[&arguments[..], &["--only", "128 @8", "--json"]].concat(),
    );
    let streams = found["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 6, "three operations, forward and backward");
    for line in streams {
        assert!(line["gb_per_second"].as_f64().unwrap() > 0.0);
        assert!(line["triad_share"].as_f64().unwrap() > 0.0);
    }
    let error = fails(
        folder.path(),
        2,
        &[&arguments[..], &["--only", "9→9"]].concat(),
    );
    assert!(error.contains("64→64"), "{error}");
}

#[test]
fn a_profile_accounts_for_the_whole_step() {
    let folder = folder();
    let found = json(
        folder.path(),
        &[
            "bench", "profile", "--model", "cnn", "--width", "4", "--batch", "4", "--steps", "2",
            "--json",
        ],
    );
    let phases = found["phases"].as_array().unwrap();
    let names: Vec<&str> = phases
        .iter()
        .map(|phase| phase["phase"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["forward", "loss", "backward", "optimizer"]);
    // What has a name and what has none add up to the phase.
    for phase in phases {
        let layers = found["layers"].as_array().unwrap().iter();
        let named: f64 = layers
            .filter(|row| row["phase"] == phase["phase"])
            .map(|row| row["seconds"].as_f64().unwrap())
            .sum();
        let rest = phase["rest"].as_f64().unwrap();
        let whole = phase["seconds"].as_f64().unwrap();
        assert!((named + rest - whole).abs() < 1e-6 * whole, "{phase}");
    }
    let products: Vec<&Value> = (found["layers"].as_array().unwrap().iter())
        .filter(|row| row["operation"] == "conv2d")
        .collect();
    assert_eq!(
        products.len(),
        6,
        "two convolutions in each of three stages"
    );
    assert_eq!(products[0]["layer"], "stages.0.0.conv");
    assert!(products[5]["gflops"].as_f64().unwrap() > 0.0);
    let gradient = (found["layers"].as_array().unwrap().iter())
        .rfind(|row| row["operation"] == "conv2d_weight_gradient")
        .unwrap();
    assert_eq!(gradient["layer"], "stages.0.0.conv");
}

#[test]
fn backends_are_refused_before_anything_is_measured() {
    let folder = folder();
    for (arguments, words) in [
        (&["--limit", "1e300"][..], "a week"),
        (&["--limit", "-5"], "both must be positive"),
        (&["--seconds", "nan"], "both must be positive"),
        (&["--accuracy", "1"], "between 0 and 1"),
        (&["--model", "resnet2"], "did you mean resnet20"),
        (&["--model", ""], "--model <NAME>"),
        (&["--model", "cnn --widht 4"], "--widht"),
        (&["--model", "cnn --width 0"], "a width is 0"),
        (&["--figure", "a.txt"], ".svg or .png"),
        (&["--devices", "flx"], "did you mean flex"),
    ] {
        let command = ["bench", "backends", "--devices", "flex"];
        let error = fails(folder.path(), 2, &[&command[..], arguments].concat());
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
}

#[test]
fn the_report_keeps_what_is_measured() {
    let folder = folder();
    let folder = folder.path();
    let report = [
        "bench",
        "report",
        "--quick",
        "--peers",
        "burn",
        "--results",
        "kept.json",
    ];
    let only = [
        "--only",
        "losses resnet20",
        "--out",
        "docs/performance.md",
        "--json",
    ];
    let found = json(folder, &[&report[..], &only].concat());
    let agrees = &found["reports"]["losses resnet20"]["agrees"];
    assert_eq!(agrees, true);
    let text = std::fs::read_to_string(folder.join("docs/performance.md")).unwrap();
    assert!(text.contains("| resnet20 | burn | 5 |"), "{text}");
    // What is there is not measured again.
    let again = json(folder, &[&report[..], &only].concat());
    assert_eq!(again["finished"], found["finished"]);
    std::fs::write(folder.join("kept.json"), "{}").unwrap();
    let error = fails(folder, 2, &report);
    assert!(error.contains("--fresh"), "{error}");
}
