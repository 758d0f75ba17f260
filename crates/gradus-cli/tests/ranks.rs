//! One run on several devices, or by the processes of `mpirun`.
//!
//! The tests by MPI are there with the feature `mpi`:
//! `cargo test --release --workspace --features mpi --test ranks`. They need `mpirun` in the path.

#![allow(clippy::unwrap_used)] // a test panics where it fails, in its helper functions too
#![allow(clippy::print_stderr, reason = "a test that is skipped must say so")]

mod common;

use std::path::Path;

use common::{fails, folder, json};
use serde_json::Value;

/// Batch norm, dropout and augmentation; 10 batches of 22 images. A ReLU would part two runs that differ by
/// rounding when one of its inputs lies that close to 0.
const SMALL: [&str; 24] = [
    "--activation",
    "silu",
    "--model",
    "cnn",
    "--width",
    "4,4",
    "--dropout",
    "0.2",
    "--set",
    "data.shapes_train=150",
    "--set",
    "data.shapes_test=50",
    "--set",
    "data.augmentation.flip=random",
    "--set",
    "checkpoint.every_steps=1",
    "--epochs",
    "2",
    "--optimizer",
    "sgd(lr=0.02, momentum=0.9)",
    "--schedule",
    "cosine",
    "--device",
    "flex",
];

fn train(folder: &Path, out: &str, settings: &[&str], more: &[&str]) -> Value {
    let verb = &["train", "--json", "--quiet", "--no-report", "--out", out][..];
    json(folder, &[verb, settings, more].concat())
}

/// The largest ‖a − b‖/‖b‖ of a tensor in two runs.
fn apart(folder: &Path, a: &str, b: &str) -> f64 {
    let read = |run: &str| {
        let path = folder.join(run).join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        gradus_train::weights::from_safetensors(&bytes, &path)
            .unwrap()
            .0
    };
    let (a, b) = (read(a), read(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let relative = |name: &String| {
        let pairs = || a[name].iter::<f64>().zip(b[name].iter::<f64>());
        let difference: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
        let norm: f64 = pairs().map(|(_, b)| b * b).sum();
        difference.sqrt() / norm.sqrt().max(1e-3)
    };
    a.keys().map(relative).fold(0.0, f64::max)
}

fn near(found: &Value, expected: &Value) {
    for key in ["train_loss", "test_loss"] {
        let (a, b) = (
            found[key].as_f64().unwrap(),
            expected[key].as_f64().unwrap(),
        );
        assert!((a / b - 1.0).abs() < 1e-5, "{key}: {a} for {b}");
    }
    for key in ["steps", "test_accuracy", "train_accuracy", "val_accuracy"] {
        assert_eq!(found[key], expected[key], "{key}");
    }
}

#[test]
fn devices_share_a_batch_and_the_result_is_that_of_one() {
    let folder = folder();
    let settings = &SMALL[..SMALL.len() - 2];
    let one = train(folder.path(), "one", &SMALL, &["--batch-size", "22"]);
    for (devices, batch) in [
        ("flex,flex", ["--batch-size", "11"]),
        ("ndarray,ndarray,ndarray", ["--global-batch-size", "22"]),
    ] {
        let more = [&batch[..], &["--devices", devices]].concat();
        let found = train(folder.path(), devices, settings, &more);
        near(&found, &one);
        let error = apart(folder.path(), devices, "one");
        assert!(error < 1e-5, "{devices}: {error:e}");
    }
}

/// What is typed counts for each, what stands in a file for all.
#[test]
fn the_batch_that_is_typed_is_that_of_each_device() {
    let folder = folder();
    std::fs::write(folder.path().join("32.toml"), "batch_size = 32\n").unwrap();
    std::fs::write(folder.path().join("other.toml"), "epochs = 1\n").unwrap();
    let plan = |arguments: &[&str]| {
        let dry = ["train", "--dry-run", "--json"];
        let found = json(folder.path(), &[&dry[..], arguments].concat());
        (
            found["config"]["batch_size"].clone(),
            found["ranks"].clone(),
        )
    };
    let two = ["--devices", "flex,flex"];
    for (arguments, expected) in [
        (&[][..], 256),
        (&["--preset", "shapes-linear"], 128),
        (&["--preset", "quick"], 64),
        (&["--preset", "quick", "--batch-size", "64"], 128),
        (&["--config", "32.toml"], 32),
        (&["--config", "other.toml"], 256),
        (&["--config", "32.toml", "--batch-size", "20"], 40),
        (&["--config", "32.toml", "--global-batch-size", "20"], 20),
        (&["--batch-size", "20", "--set", "batch_size=50"], 50),
    ] {
        let found = plan(&[arguments, &two].concat());
        assert_eq!(found, (expected.into(), 2.into()), "{arguments:?}");
    }
    for arguments in [&["--batch-size", "all"][..], &["--optimizer", "lbfgs"]] {
        assert_eq!(plan(arguments), ("all".into(), 1.into()), "{arguments:?}");
    }
    let found = plan(&["--batch-size", "all", "--devices", "flex,flex"]);
    assert_eq!(found, ("all".into(), 2.into()));
    assert_eq!(plan(&["--batch-size", "20"]), (20.into(), 1.into()));
    assert_eq!(plan(&["--global-batch-size", "20"]), (20.into(), 1.into()));
}

/// A run keeps its batch whoever goes on with it.
#[test]
fn another_number_of_devices_goes_on_with_the_same_batch() {
    let folder = folder();
    let settings = &SMALL[..SMALL.len() - 2];
    let two = ["--devices", "flex,flex"];
    train(
        folder.path(),
        "run",
        settings,
        &[&["--batch-size", "11"], &two[..]].concat(),
    );
    let again = ["train", "--resume", "last", "--out", "run"];
    let config = std::fs::read_to_string(folder.path().join("run/config.toml")).unwrap();
    assert!(config.contains("batch_size = 22\n"), "{config}");
    // The command of before, now alone: half the batch.
    let typed = [&again[..], &["--batch-size", "11"]].concat();
    let message = fails(folder.path(), 2, &typed);
    for expected in ["batch_size: 22, now 11", "--global-batch-size"] {
        assert!(message.contains(expected), "{message}");
    }
    for more in [
        &[][..],
        &["--batch-size", "22"],
        &["--global-batch-size", "22"],
    ] {
        let all = [&again[..], &["--json", "--quiet", "--no-report"], more].concat();
        assert_eq!(json(folder.path(), &all)["steps"], 10, "{more:?}");
    }
}

#[test]
fn devices_that_cannot_be_had_together_are_refused() {
    let folder = folder();
    for (arguments, expected) in [
        (&["--devices", "flex,ndarray"][..], "devices of one kind"),
        (&["--devices", "flex,flex:7"], "there is no number 7"),
        (
            &["--devices", "flex,flex", "--global-batch-size", "1"],
            "one image for each of 2 ranks",
        ),
        (
            &["--devices", "flex,flex", "--read-every", "3"],
            "the ranks add up losses",
        ),
        (
            &[
                "--devices",
                "flex,flex",
                "--optimizer",
                "lbfgs",
                "--model",
                "linear",
            ],
            "not shared between ranks",
        ),
        (
            &["--devices", "flex", "--device", "flex"],
            "cannot be used with",
        ),
        (
            &["--batch-size", "4", "--global-batch-size", "8"],
            "cannot be used with",
        ),
    ] {
        for verb in [&["train"][..], &["train", "--dry-run"]] {
            let message = fails(folder.path(), 2, &[verb, arguments].concat());
            assert!(message.contains(expected), "{arguments:?}: {message}");
        }
    }
}

/// N processes that know nothing of each other would write the same folder.
#[cfg(not(feature = "mpi"))]
#[test]
fn without_the_feature_mpirun_is_refused_with_what_to_do() {
    let folder = folder();
    for variable in ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"] {
        let output = common::gradus(folder.path())
            .args(["train", "--out", "run"])
            .env(variable, "2")
            .assert()
            .code(2)
            .get_output()
            .clone();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("--features mpi"), "{message}");
        assert!(!folder.path().join("run").exists());
    }
    common::gradus(folder.path())
        .args(["train", "--dry-run"])
        .env("OMPI_COMM_WORLD_SIZE", "1")
        .assert()
        .success();
}

#[cfg(feature = "mpi")]
mod mpi {
    use std::fs;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// `mpirun -n size gradus …`; `None`, with a word about it, where there is no `mpirun`.
    fn mpirun(folder: &Path, size: usize, arguments: &[&str]) -> Option<Command> {
        if Command::new("mpirun").arg("--version").output().is_err() {
            eprintln!("SKIPPED: there is no mpirun here, so training by MPI was not tested");
            return None;
        }
        let mut command = Command::new("mpirun");
        command
            .args([
                "--allow-run-as-root",
                "--oversubscribe",
                "--bind-to",
                "none",
                "-n",
            ])
            .arg(size.to_string())
            .arg(env!("CARGO_BIN_EXE_gradus"))
            .args(arguments)
            .env("GRADUS_DATA", folder.join("cache"))
            .current_dir(folder);
        Some(command)
    }

    #[test]
    fn processes_with_a_part_each_are_one_process_with_the_summed_batch() {
        let folder = folder();
        let one = train(folder.path(), "one", &SMALL, &["--batch-size", "22"]);
        for (size, batch) in [
            (2, ["--batch-size", "11"]),
            (3, ["--global-batch-size", "22"]),
        ] {
            let out = format!("{size}");
            let verb = &["train", "--json", "--quiet", "--no-report", "--out", &out][..];
            let Some(mut command) = mpirun(folder.path(), size, &[verb, &SMALL, &batch].concat())
            else {
                return;
            };
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
            // Rank 0 alone prints the one object.
            let found: Value = serde_json::from_slice(&output.stdout).unwrap();
            near(&found, &one);
            let error = apart(folder.path(), &out, "one");
            assert!(error < 1e-5, "{size} processes: {error:e}");
            // One process with the same shares adds in the same order.
            let devices = vec!["flex"; size].join(",");
            let (out, more) = (format!("{size}-devices"), ["--devices", &devices]);
            let settings = &SMALL[..SMALL.len() - 2];
            let shares = train(folder.path(), &out, settings, &[&batch[..], &more].concat());
            assert_eq!(found["weights_sha256"], shares["weights_sha256"], "{size}");
        }
    }

    /// The process of `rank` that trains in a folder of this name.
    fn process_of(rank: usize, out: &str) -> Option<u32> {
        fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let id: u32 = entry.file_name().to_str()?.parse().ok()?;
            let read = |file: &str| {
                let bytes = fs::read(entry.path().join(file)).ok()?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            };
            let named = read("cmdline")?.split('\0').any(|argument| argument == out);
            let ranked = read("environ")?
                .split('\0')
                .any(|variable| variable == format!("OMPI_COMM_WORLD_RANK={rank}"));
            (named && ranked).then_some(id)
        })
    }

    fn wait<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "waited for {what}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A run that would take very long, after a few checkpoints.
    fn endless(folder: &Path, out: &str) -> Option<Child> {
        let mut arguments = SMALL.to_vec();
        let epochs = arguments.iter().position(|a| *a == "--epochs").unwrap();
        arguments[epochs + 1] = "1000000";
        let verb = &["train", "--no-report", "--batch-size", "11", "--out", out][..];
        let child = mpirun(folder, 2, &[verb, &arguments].concat())?
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let checkpoints = folder.join(out).join("checkpoints");
        wait("checkpoints", || {
            checkpoints.join("step-00000007").exists().then_some(())
        });
        Some(child)
    }

    fn ended(mut child: Child) -> (std::process::ExitStatus, String) {
        let status = wait("mpirun to end", || child.try_wait().unwrap());
        let output = child.wait_with_output().unwrap();
        (status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The run goes on, with another number of processes.
    fn goes_on(folder: &Path, out: &str) {
        let step = |line: &str| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64();
        let verb = [
            "train",
            "--json",
            "--quiet",
            "--no-report",
            "--resume",
            "last",
            "--out",
            out,
        ];
        let arguments = [&verb[..], &["--epochs", "30"]].concat();
        let done = json(folder, &arguments)["steps"].as_u64();
        let log = fs::read_to_string(folder.join(out).join("metrics.jsonl")).unwrap();
        let steps: Vec<u64> = log
            .lines()
            .filter(|line| line.contains("\"event\":\"step\""))
            .filter_map(step)
            .collect();
        assert_eq!(steps, (1..=done.unwrap()).collect::<Vec<_>>());
    }

    #[test]
    fn a_killed_process_ends_the_run_which_can_go_on() {
        let folder = folder();
        for rank in [1, 0] {
            let out = format!("killed-{rank}-{}", std::process::id());
            let Some(child) = endless(folder.path(), &out) else {
                return;
            };
            let process = wait("the process", || process_of(rank, &out));
            Command::new("kill")
                .args(["-9", &process.to_string()])
                .status()
                .unwrap();
            let (status, said) = ended(child);
            assert!(!status.success(), "{said}");
            goes_on(folder.path(), &out);
        }
    }

    #[test]
    fn an_error_of_one_process_ends_all_with_its_code() {
        let folder = folder();
        let arguments = ["train", "--optimizer", "lbfgs", "--out", "run"];
        let Some(mut command) = mpirun(folder.path(), 2, &arguments) else {
            return;
        };
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("lbfgs evaluates the loss"), "{said}");
        assert!(!folder.path().join("run").exists());
    }
}
