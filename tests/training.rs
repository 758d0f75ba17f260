//! What the trainer promises, on tiny runs.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gradus::prelude::*;
use gradus::train::{Resume, StopSignal, Summary, TrainError};

/// A small run with everything that depends on chance: augmentation, dropout, batch norm, momentum.
fn config(workers: usize) -> RunConfig {
    let mut config = recipe("cnn", &"shapes".parse().unwrap()).unwrap();
    config.device = "flex".to_owned();
    config.epochs = 3;
    config.batch_size = 32;
    config.data.shapes_train = 220;
    config.data.shapes_test = 60;
    config.data.workers = workers;
    config.data.augmentation = serde_json::from_str(
        r#"{"crop": {"padding": 4, "mode": "reflect"}, "flip": "random", "cutout": 6}"#,
    )
    .unwrap();
    config.checkpoint.every_steps = 2;
    let model = config.model.as_mut().unwrap();
    model.width = serde_json::from_str("[8, 8]").unwrap();
    model.dropout = 0.2;
    config
}

fn trainer(config: &RunConfig, out: &Path) -> (Trainer, AnyModel) {
    let data = config.data.open().unwrap();
    let config = fitted(config, &data).unwrap();
    let trainer = Trainer::new(config.clone(), data.clone()).unwrap().out(out);
    let model = build_model(&config, &data, &trainer.device()).unwrap();
    (trainer, model)
}

fn run(config: &RunConfig, out: &Path, resume: Option<Resume>) -> Result<Summary, TrainError> {
    let (mut trainer, model) = trainer(config, out);
    if let Some(resume) = resume {
        trainer = trainer.resume(resume);
    }
    match trainer.fit(model)?.ended {
        Ended::Finished(summary) => Ok(*summary),
        Ended::Interrupted { .. } => panic!("nobody interrupted it"),
    }
}

#[test]
fn the_same_configuration_gives_the_same_weights_whatever_the_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    let one = run(&config(0), &folder.path().join("a"), None).unwrap();
    let two = run(&config(4), &folder.path().join("b"), None).unwrap();
    assert_eq!(one.weights_sha256, two.weights_sha256);
    let mut other = config(0);
    other.seed += 1;
    let three = run(&other, &folder.path().join("c"), None).unwrap();
    assert_ne!(one.weights_sha256, three.weights_sha256);
    // The hash is that of the file, so that anyone can check it with sha256sum.
    let file = std::fs::read(folder.path().join("a/model.safetensors")).unwrap();
    assert_eq!(gradus::train::weights::sha256(&file), one.weights_sha256);
}

/// Stops the run after each of its batches in turn, and resumes it.
#[test]
fn a_run_stopped_after_any_batch_and_resumed_ends_with_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let whole = run(&config(1), &folder.path().join("whole"), None).unwrap();
    for stop_after in 1..whole.steps {
        let out = folder.path().join(format!("stopped-{stop_after}"));
        let (trainer, model) = trainer(&config(1), &out);
        let (stop, seen) = (StopSignal::new(), Arc::new(AtomicUsize::new(0)));
        let (signal, count) = (stop.clone(), Arc::clone(&seen));
        let outcome = trainer
            .stop_signal(stop)
            .subscribe(move |event: &Event| {
                let step = matches!(event, Event::Step(_));
                if step && count.fetch_add(1, Ordering::SeqCst) + 1 == stop_after {
                    signal.request(15);
                }
            })
            .fit(model)
            .unwrap();
        assert_eq!(
            outcome.ended,
            Ended::Interrupted {
                signal: 15,
                step: stop_after
            }
        );
        let resumed = run(&config(0), &out, Some(Resume::Last)).unwrap();
        assert_eq!(
            resumed.weights_sha256, whole.weights_sha256,
            "stopped after {stop_after}"
        );
        assert_eq!(resumed.val_accuracy, whole.val_accuracy);
        let steps = |out: &Path| -> Vec<(u64, u64)> {
            let log = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
            log.lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
                .filter(|event| event["event"] == "step")
                .map(|step| {
                    (
                        step["step"].as_u64().unwrap(),
                        step["loss"].as_f64().unwrap().to_bits(),
                    )
                })
                .collect()
        };
        assert_eq!(
            steps(&out),
            steps(&folder.path().join("whole")),
            "the logs agree too"
        );
    }
}

#[test]
fn a_run_that_diverges_names_the_place_and_keeps_its_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(0);
    config.schedule = "constant".parse().unwrap();
    config.optimizer = "sgd(lr=1e30)".parse().unwrap();
    let error = run(&config, &folder.path().join("run"), None).unwrap_err();
    let TrainError::NotFinite {
        epoch: 1,
        ref tensor,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert!(
        tensor.contains('.') || tensor.contains("logits"),
        "{tensor}"
    );
    let message = error.to_string();
    assert!(
        message.contains("epoch 1, batch") && message.contains("learning rate"),
        "{message}"
    );
}

/// A step so large that the weights overflow, and no step after it that could notice.
#[test]
fn weights_that_overflow_in_the_last_step_are_neither_saved_nor_reported() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut config = config(0);
    config.epochs = 1;
    config.limit.batches = 1;
    config.schedule = "constant".parse().unwrap();
    config.optimizer = "sgd(lr=1e45)".parse().unwrap();
    let message = run(&config, &out, None).unwrap_err().to_string();
    assert!(
        message.contains("step 1") && message.contains("the parameter"),
        "{message}"
    );
    assert_eq!(
        std::fs::read_dir(out.join("checkpoints")).unwrap().count(),
        0
    );
    assert!(!out.join("model.safetensors").exists() && !out.join("summary.json").exists());
}

#[test]
fn two_processes_cannot_train_in_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_path_buf();
    let (trainer, model) = trainer(&config(0), &out);
    let inside = out.clone();
    let tried = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tried);
    trainer
        .subscribe(move |event: &Event| {
            if matches!(event, Event::Epoch(_)) {
                let error = run(&config(0), &inside, Some(Resume::Last)).unwrap_err();
                assert!(matches!(error, TrainError::RunBusy(_)), "{error}");
                count.fetch_add(1, Ordering::SeqCst);
            }
        })
        .fit(model)
        .unwrap();
    assert_eq!(tried.load(Ordering::SeqCst), 3);
}

#[test]
fn a_run_whose_checkpoints_are_all_damaged_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(0);
    config.epochs = 1;
    run(&config, folder.path(), None).unwrap();
    for checkpoint in std::fs::read_dir(folder.path().join("checkpoints")).unwrap() {
        std::fs::write(checkpoint.unwrap().path().join("progress.json"), "{}").unwrap();
    }
    let log = std::fs::read(folder.path().join("metrics.jsonl")).unwrap();
    let message = run(&config, folder.path(), Some(Resume::Last))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("every checkpoint of") && message.contains("--out"),
        "{message}"
    );
    assert_eq!(
        std::fs::read(folder.path().join("metrics.jsonl")).unwrap(),
        log
    );
}

#[test]
fn a_folder_that_holds_a_run_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(0);
    config.epochs = 1;
    run(&config, folder.path(), None).unwrap();
    let before = std::fs::read(folder.path().join("model.safetensors")).unwrap();
    let message = run(&config, folder.path(), None).unwrap_err().to_string();
    assert!(
        message.contains("already holds a run") && message.contains("--resume"),
        "{message}"
    );
    assert_eq!(
        std::fs::read(folder.path().join("model.safetensors")).unwrap(),
        before
    );
}

#[test]
fn a_run_is_not_continued_on_other_data() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(0);
    config.epochs = 1;
    run(&config, folder.path(), None).unwrap();
    config.data.seed = 1;
    config.epochs = 2;
    let message = run(&config, folder.path(), Some(Resume::Last))
        .unwrap_err()
        .to_string();
    assert!(message.contains("data set is not the one"), "{message}");
}

#[test]
fn twenty_images_can_be_learned_by_heart() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(0);
    config.limit.overfit = 20;
    config.epochs = 200;
    let model = config.model.as_mut().unwrap();
    model.dropout = 0.0;
    model.width = serde_json::from_str("[16, 32]").unwrap();
    config.optimizer = "adam(lr=0.01)".parse().unwrap();
    let summary = run(&config, &folder.path().join("run"), None).unwrap();
    assert_eq!(summary.val_accuracy, Some(1.0), "{summary:?}");
}

#[test]
fn stopping_rules_fire_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut patient = config(0);
    patient.epochs = 50;
    // A rate of almost nothing: no epoch improves on the first.
    patient.optimizer = "sgd(lr=1e-12)".parse().unwrap();
    patient.stop.patience = 2;
    patient.stop.min_delta = 0.5;
    let summary = run(&patient, &folder.path().join("patience"), None).unwrap();
    assert!(summary.epochs < 50);
    assert!(
        summary
            .stopped
            .unwrap()
            .contains("has not improved for 2 epochs")
    );

    let mut still = config(0);
    still.optimizer = "sgd(lr=1e-12)".parse().unwrap();
    still.stop.step_tolerance = 1e-3;
    let summary = run(&still, &folder.path().join("still"), None).unwrap();
    assert_eq!(summary.steps, 1);
    assert!(summary.stopped.unwrap().contains("‖Δw‖"));

    let mut flat = config(0);
    flat.stop.gradient_tolerance = 1e6;
    let summary = run(&flat, &folder.path().join("flat"), None).unwrap();
    assert!(summary.stopped.unwrap().contains("gradient norm"));
}
