//! What survives an interruption: Ctrl-C, SIGTERM, SIGKILL at any moment.

#![allow(clippy::unwrap_used)] // a test panics where it fails, in its helper functions too
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{background, fails, folder, gradus, json, train};
use serde_json::Value;

/// A small network with every source of randomness switched on, saved every third step.
const SMALL: [&str; 24] = [
    "--model",
    "cnn",
    "--width",
    "4,4,4",
    "--dropout",
    "0.2",
    "--set",
    "data.shapes_train=300",
    "--set",
    "data.shapes_test=50",
    "--set",
    "data.augmentation.flip=random",
    "--set",
    "data.augmentation.crop={padding=2}",
    "--set",
    "checkpoint.every_steps=3",
    "--epochs",
    "3",
    "--batch-size",
    "20",
    "--optimizer",
    "adam(lr=0.01)",
    "--device",
    "flex",
];

fn small(folder: &Path, more: &[&str]) -> Value {
    json(
        folder,
        &[
            &["train", "--json", "--quiet", "--no-report"],
            &SMALL[..],
            more,
        ]
        .concat(),
    )
}

/// Starts a run that would take very long.
fn endless(folder: &Path, more: &[&str]) -> Child {
    let arguments = [
        &["train", "--out", "run", "--no-report"],
        &common::TINY[..6],
        &[
            "--epochs",
            "1000000",
            "--batch-size",
            "50",
            "--device",
            "flex",
        ],
        more,
    ];
    background(folder)
        .args(arguments.concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the run in `folder` has taken a step.
fn wait_for_steps(folder: &Path) {
    let log = folder.join("run/metrics.jsonl");
    let begun = Instant::now();
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains("\"step\"")) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the run does not begin"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn send(signal: &str, child: &Child) {
    let script = format!("kill -{signal} {}", child.id());
    assert!(
        std::process::Command::new("sh")
            .args(["-c", &script])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn ctrl_c_and_sigterm_save_and_say_how_to_go_on() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let folder = folder();
        let child = endless(folder.path(), &[]);
        wait_for_steps(folder.path());
        let begun = Instant::now();
        send(signal, &child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{signal}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            stderr.contains("gradus train --resume last --out run"),
            "{stderr}"
        );
        let saved = fs::read_dir(folder.path().join("run/checkpoints"))
            .unwrap()
            .count();
        assert!(saved >= 1);
        // The number of epochs is one of the few things that may change: here to the one that was
        // interrupted.
        let history = fs::read_to_string(folder.path().join("run/history.csv")).unwrap_or_default();
        let done = history.lines().skip(1).count();
        let epochs = (done + 1).to_string();
        let arguments = [
            "train", "--resume", "last", "--out", "run", "--epochs", &epochs, "--json",
        ];
        let summary = json(folder.path(), &arguments);
        assert_eq!(summary["epochs"], done + 1, "{summary}");
        json(folder.path(), &["eval", "run", "--json"]);
    }
}

#[test]
fn an_interrupted_run_still_prints_one_json_object() {
    let folder = folder();
    let child = endless(folder.path(), &["--json", "--quiet"]);
    wait_for_steps(folder.path());
    send("INT", &child);
    let output = child.wait_with_output().unwrap();
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["interrupted"], true);
    assert_eq!(object["signal"], 2);
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_second_ctrl_c_leaves_at_once() {
    let folder = folder();
    // One batch of this network takes many seconds.
    let arguments = [
        "train",
        "--out",
        "run",
        "--model",
        "cnn",
        "--width",
        "128,256,512",
        "--set",
        "data.shapes_train=900",
        "--set",
        "data.shapes_test=50",
        "--batch-size",
        "800",
        "--device",
        "flex",
    ];
    let child = background(folder.path())
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !folder.path().join("run/run.json").exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the run does not begin"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    send("INT", &child);
    std::thread::sleep(Duration::from_millis(300));
    let second = Instant::now();
    send("INT", &child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(
        second.elapsed() < Duration::from_secs(1),
        "{:?}",
        second.elapsed()
    );
}

#[test]
fn the_same_command_gives_the_same_weights_whatever_the_workers() {
    let folder = folder();
    let hash = |more: &[&str]| small(folder.path(), more)["weights_sha256"].clone();
    let reference = hash(&["--out", "a"]);
    assert_eq!(hash(&["--out", "b"]), reference);
    assert_eq!(hash(&["--out", "c", "--workers", "0"]), reference);
    assert_eq!(hash(&["--out", "d", "--workers", "4"]), reference);
    assert_eq!(
        hash(&["--config", "a/config.toml", "--out", "e"]),
        reference
    );
    assert_ne!(hash(&["--out", "f", "--seed", "7"]), reference);
}

#[test]
fn a_run_killed_at_any_moment_resumes_to_the_same_weights() {
    let folder = folder();
    let begun = Instant::now();
    let reference = small(folder.path(), &["--out", "whole"])["weights_sha256"].clone();
    let whole = begun.elapsed();
    // Moments that differ from one test run to the next; a failure prints its own.
    let noise = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let mut noise = u64::from(noise.subsec_nanos()) | 1;
    for round in 0..4 {
        let run = format!("killed-{round}");
        let workers = if round % 2 == 0 { "0" } else { "4" };
        let mut moments = Vec::new();
        // Killed up to three times on its way, then left to finish.
        for _ in 0..3 {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let moment = whole.mul_f64((noise >> 40) as f64 / (1u64 << 24) as f64);
            moments.push(moment);
            let mut child = background(folder.path())
                .args([
                    "train",
                    "--quiet",
                    "--no-report",
                    "--resume",
                    "last",
                    "--out",
                    &run,
                ])
                .args(SMALL)
                .args(["--workers", workers])
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(moment);
            let _ = child.kill();
            child.wait().unwrap();
        }
        let resumed = small(folder.path(), &["--resume", "last", "--out", &run]);
        assert_eq!(
            resumed["weights_sha256"], reference,
            "killed after {moments:?}"
        );
        let log = fs::read_to_string(folder.path().join(&run).join("metrics.jsonl")).unwrap();
        let steps = log
            .lines()
            .filter(|line| line.contains("\"event\":\"step\""))
            .count() as u64;
        assert_eq!(
            steps,
            resumed["steps"].as_u64().unwrap(),
            "no step is logged twice or lost"
        );
    }
}

#[test]
fn a_run_goes_on_only_as_it_was_begun() {
    let folder = folder();
    let folder = folder.path();
    let first = train(folder, &["--out", "runs/a", "--no-report"]);
    let resume = |more: &[&str]| {
        json(
            folder,
            &[
                &["train", "--resume", "last", "--json", "--no-report"],
                more,
            ]
            .concat(),
        )
    };
    // Finished already: the same again, with or without the original flags, from anywhere.
    assert_eq!(
        resume(&["--out", "runs/a"])["weights_sha256"],
        first["weights_sha256"]
    );
    assert_eq!(
        resume(&[])["weights_sha256"],
        first["weights_sha256"],
        "the newest under runs/"
    );
    let repeated = [&["--out", "runs/a"], &common::TINY[..]].concat();
    assert_eq!(resume(&repeated)["weights_sha256"], first["weights_sha256"]);
    let checkpoint = "runs/a/checkpoints/step-00000003";
    let arguments = ["train", "--json", "--no-report", "--resume", checkpoint];
    assert_eq!(
        json(folder, &arguments)["weights_sha256"],
        first["weights_sha256"]
    );
    assert!(resume(&["--epochs", "4"])["steps"].as_u64().unwrap() > 6);

    let differs = [
        "train",
        "--resume",
        "last",
        "--batch-size",
        "25",
        "--seed",
        "1",
    ];
    let stderr = fails(folder, 2, &differs);
    assert!(
        stderr.contains("batch_size: 50, now 25") && stderr.contains("seed: 42"),
        "{stderr}"
    );
    let stderr = fails(folder, 2, &["train", "--resume", "lats"]);
    assert!(
        stderr.contains("lats") && stderr.contains("last"),
        "{stderr}"
    );
    fails(
        folder,
        2,
        &["train", "--resume", "runs/a", "--out", "elsewhere"],
    );
    fails(
        folder,
        2,
        &["train", "--resume", "best", "--out", "elsewhere"],
    );
    assert!(!folder.join("elsewhere").exists());
    // Nothing there yet: `last` begins the run, and says so.
    let arguments = [
        &["train", "--resume", "last", "--out", "new"],
        &common::TINY[..],
    ]
    .concat();
    let begun = gradus(folder).args(arguments).assert().success();
    let stderr = String::from_utf8_lossy(&begun.get_output().stderr).into_owned();
    assert!(stderr.contains("new holds no run yet"), "{stderr}");
}
