//! Every rule and every stage trains every model; what the trainer adds to them is right.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gradus_data::Dataset;
use gradus_nn::AnyModel;
use gradus_optim::RuleConfig;
use gradus_optim::stages::Stage;
use gradus_train::checkpoint::Checkpoint;
use gradus_train::{
    Ended, Event, Resume, RunConfig, RunDir, SavedModel, StopSignal, Summary, TrainError, Trainer,
    Which, build_model, fitted, recipe, weights,
};

/// A tiny run: 30 training images in 3 batches, 10 for validation, 10 for the test.
fn config(model: &str, optimizer: &str) -> RunConfig {
    let mut config = recipe(model, &"shapes".parse().unwrap()).unwrap();
    config.device = "flex".to_owned();
    config.epochs = 1;
    config.batch_size = 8;
    config.optimizer = optimizer.parse().unwrap();
    config.schedule = "constant".parse().unwrap();
    config.data.shapes_train = 40;
    config.data.shapes_test = 10;
    config.data.validation_fraction = 0.25;
    config.data.workers = 0;
    let width = match model {
        "linear" => None,
        "mlp" => Some("8"),
        "cnn" => Some("[4, 4]"),
        "airnet" => Some("[4, 4, 4]"),
        _ => Some("[4, 4, 8]"),
    };
    if let Some(width) = width {
        config.model.as_mut().unwrap().width = serde_json::from_str(width).unwrap();
    }
    config
}

fn trainer(config: &RunConfig, data: &Dataset, out: &Path) -> (Trainer, AnyModel) {
    let config = fitted(config, data).unwrap();
    let trainer = Trainer::new(config.clone(), data.clone()).unwrap().out(out);
    let model = build_model(&config, data, &trainer.device()).unwrap();
    (trainer, model)
}

fn run(config: &RunConfig, out: &Path) -> Result<(Summary, AnyModel), TrainError> {
    let data = config.data.open().unwrap();
    let (trainer, model) = trainer(config, &data, out);
    finished(trainer, model)
}

fn finished(trainer: Trainer, model: AnyModel) -> Result<(Summary, AnyModel), TrainError> {
    let outcome = trainer.fit(model)?;
    match outcome.ended {
        Ended::Finished(summary) => Ok((*summary, outcome.model)),
        Ended::Interrupted { .. } => panic!("nobody interrupted it"),
    }
}

/// Each rule at its defaults, and each stage behind one.
fn texts() -> Vec<String> {
    let rules = RuleConfig::catalogue()
        .into_iter()
        .map(|entry| entry.name.to_owned());
    let stages = Stage::catalogue().into_iter().map(|entry| {
        let stage = match entry.name {
            "accumulate" => "accumulate(3)",
            "clip_global" => "clip_global(1)",
            "clip_norm" => "clip_norm(1)",
            "clip_value" => "clip_value(0.1)",
            "entropy" => "entropy(steps=3)",
            "group" => "group(kind=bias, lr=0.5)",
            "l1" => "l1(1e-4)",
            // The slow weights first move at the k-th step.
            "lookahead" => "lookahead(2)",
            "rising_lookahead" => "rising_lookahead(2)",
            "max_norm" => "max_norm(3)",
            "swa" => "swa(2)",
            // Whoever adds a stage that needs a value adds it here.
            name => name,
        };
        format!("sgd(lr=0.01, momentum=0.9) | {stage}")
    });
    rules.chain(stages).collect()
}

fn every_optimizer_trains(model: &str) {
    let folder = tempfile::tempdir().unwrap();
    let data = config(model, "sgd").data.open().unwrap();
    for (number, text) in texts().into_iter().enumerate() {
        let config = config(model, &text);
        let (trainer, before) = trainer(&config, &data, &folder.path().join(number.to_string()));
        let start = weights::collect_trainable(&before);
        let (summary, after) =
            finished(trainer, before).unwrap_or_else(|error| panic!("{text} on {model}: {error}"));
        assert_eq!(summary.steps, 3, "{text} on {model}");
        let losses = [summary.train_loss.unwrap(), summary.test_loss];
        assert!(
            losses.iter().all(|loss| loss.is_finite()),
            "{text} on {model}: {losses:?}"
        );
        let moved = weights::collect_trainable(&after) != start;
        assert!(moved, "{text} leaves {model} as it was");
    }
}

#[test]
fn every_optimizer_trains_linear() {
    every_optimizer_trains("linear");
}

#[test]
fn every_optimizer_trains_mlp() {
    every_optimizer_trains("mlp");
}

#[test]
fn every_optimizer_trains_cnn() {
    every_optimizer_trains("cnn");
}

#[test]
fn every_optimizer_trains_resnet() {
    every_optimizer_trains("resnet8");
}

#[test]
fn every_optimizer_trains_airnet() {
    every_optimizer_trains("airnet");
}

/// Stops a run after `stop_after` batches and resumes it.
fn interrupted_and_resumed(config: &RunConfig, out: &Path, stop_after: usize) -> Summary {
    let data = config.data.open().unwrap();
    let (first, model) = trainer(config, &data, out);
    let (stop, seen) = (StopSignal::new(), Arc::new(AtomicUsize::new(0)));
    let (signal, count) = (stop.clone(), Arc::clone(&seen));
    let outcome = first
        .stop_signal(stop)
        .subscribe(move |event: &Event| {
            let step = matches!(event, Event::Step(_));
            if step && count.fetch_add(1, Ordering::SeqCst) + 1 == stop_after {
                signal.request(15);
            }
        })
        .fit(model)
        .unwrap();
    let step = stop_after;
    assert_eq!(outcome.ended, Ended::Interrupted { signal: 15, step });
    let (second, model) = trainer(config, &data, out);
    finished(second.resume(Resume::Last), model).unwrap().0
}

#[test]
fn an_interrupted_run_ends_as_the_uninterrupted_one() {
    for (text, schedule) in [
        (
            "sgd(lr=0.05, momentum=0.9) | noise(0.001) | clip_quantile(0.5, window=4) | lookahead(2) \
             | ema(0.9)",
            "cosine | momentum(constant, base=0.8)",
        ),
        ("sgd(lr=0.05) | sam(0.1)", "constant"),
        ("muon(lr=0.02)", "onecycle"),
        ("sophia", "constant"),
        ("adamw(lr=0.01) | accumulate(3) | swa(2)", "cosine"),
        (
            "schedule_free_adamw(lr=0.01)",
            "plateau(patience=0, threshold=9, threshold_mode=abs, factor=0.5)",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config("cnn", text);
        config.epochs = 4;
        config.schedule = schedule.parse().unwrap();
        let (whole, _) = run(&config, &folder.path().join("whole")).unwrap();
        for stop_after in [5, 11] {
            let out = folder.path().join(stop_after.to_string());
            let resumed = interrupted_and_resumed(&config, &out, stop_after);
            assert_eq!(
                resumed.weights_sha256, whole.weights_sha256,
                "{text}, stopped after {stop_after}"
            );
            assert_eq!(
                [resumed.val_accuracy, resumed.train_loss],
                [whole.val_accuracy, whole.train_loss],
                "{text}, stopped after {stop_after}"
            );
        }
    }
}

#[test]
fn accumulated_batches_are_one_larger_batch() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config("linear", "sgd(lr=0.02, momentum=0.9) | accumulate(3)");
    config.epochs = 3;
    config.schedule = "cosine | warmup(steps=1)".parse().unwrap();
    let (small, _) = run(&config, &folder.path().join("small")).unwrap();
    assert_eq!(small.steps, 9, "batches");
    config.optimizer = "sgd(lr=0.02, momentum=0.9)".parse().unwrap();
    config.batch_size = 24;
    let (large, _) = run(&config, &folder.path().join("large")).unwrap();
    assert_eq!(large.steps, 3);
    // The same steps at the same rates; sums of f32 in another order.
    assert!((small.test_loss - large.test_loss).abs() < 1e-5);
    let rates = |run: &str| -> Vec<f64> {
        let dir = RunDir::at(folder.path().join(run));
        let (latest, _) = Checkpoint::latest(&dir).unwrap();
        let history = latest.unwrap().1.progress.history;
        history.iter().map(|epoch| epoch.lr).collect()
    };
    assert_eq!(rates("small"), rates("large"));
}

#[test]
fn an_epoch_too_short_to_accumulate_is_refused() {
    let config = config("linear", "sgd(lr=0.02) | accumulate(4)");
    let data = config.data.open().unwrap();
    let error = Trainer::new(config, data).err().unwrap().to_string();
    assert_eq!(
        error,
        "optimizer: accumulate(4) needs 4 batches an epoch, found 3"
    );
}

#[test]
fn a_plateau_lowers_the_rate() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config("linear", "sgd(lr=0.01)");
    config.epochs = 4;
    // Nothing is better than the first look by 9, so each look after it halves the rate.
    config.schedule = "plateau(patience=0, threshold=9, threshold_mode=abs, factor=0.5)"
        .parse()
        .unwrap();
    run(&config, folder.path()).unwrap();
    let (latest, _) = Checkpoint::latest(&RunDir::at(folder.path())).unwrap();
    let history = latest.unwrap().1.progress.history;
    let rates: Vec<f64> = history.iter().map(|epoch| epoch.lr).collect();
    assert_eq!(rates, [0.01, 0.01, 0.005, 0.0025]);

    config.data.validation_fraction = 0.0;
    let error = config.validate().unwrap_err().to_string();
    assert!(
        error.starts_with("schedule: a plateau watches the validation set"),
        "{error}"
    );
}

#[test]
fn a_scheduled_momentum_needs_a_rule_that_has_one() {
    let mut config = config("linear", "sgd(lr=0.01)");
    config.schedule = "cosine | momentum(linear, base=0.9)".parse().unwrap();
    let error = config.validate().unwrap_err().to_string();
    assert!(
        error.starts_with("schedule: momentum: sgd(lr=0.01) has no momentum"),
        "{error}"
    );
    config.optimizer = "sgd(lr=0.01, momentum=0.9)".parse().unwrap();
    config.validate().unwrap();
}

#[test]
fn averaged_weights_are_validated_and_saved_with_statistics_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("ema");
    let mut config = config("cnn", "sgd(lr=0.05, momentum=0.9) | ema(0.9)");
    config.epochs = 2;
    let (summary, model) = run(&config, &out).unwrap();
    let dir = RunDir::at(&out);
    let (_, checkpoint) = Checkpoint::latest(&dir).unwrap().0.unwrap();
    let read = |bytes: &[u8]| weights::from_safetensors(bytes, &out).unwrap().0;
    let trained = read(&checkpoint.model);
    let validated = read(&checkpoint.evaluated.clone().unwrap());
    for (name, tensor) in &trained {
        assert_ne!(
            Some(tensor),
            validated.get(name),
            "{name} is that of the average"
        );
    }
    // What was validated last is what was tested, returned and saved, and what opens.
    assert_eq!(weights::collect(&model), validated);
    for which in [Which::Final, Which::Last] {
        let device = burn::tensor::Device::flex();
        let saved = SavedModel::open(&out, &which, &device).unwrap();
        assert_eq!(weights::collect(&saved.model), validated, "{which:?}");
    }

    // The same weights, but the statistics of the others: only those differ.
    config.averaging.statistics_images = 0;
    let (other, model) = run(&config, &folder.path().join("kept")).unwrap();
    for (name, tensor) in weights::collect(&model) {
        if name.contains("running") {
            assert_eq!(Some(&tensor), trained.get(&name), "{name}");
        } else {
            assert_eq!(Some(&tensor), validated.get(&name), "{name}");
        }
    }
    assert_ne!(summary.test_loss, other.test_loss);
}

#[test]
fn a_gradient_elsewhere_that_is_no_number_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let config = config("mlp", "sgd(lr=0.01) | sam(rho=1e38)");
    let error = run(&config, folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("at other weights of the same batch became")
            && error.contains("epoch 1, batch 1 (step 1)"),
        "{error}"
    );
}

#[test]
fn a_group_that_fits_no_parameter_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = config("linear", "sgd(lr=0.01) | group(name=haed.*, lr=0.1)");
    let error = run(&config, folder.path()).unwrap_err();
    assert!(matches!(error, TrainError::Optim(_)), "{error}");
}
