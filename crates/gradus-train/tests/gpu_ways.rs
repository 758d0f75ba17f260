//! What a GPU is given to do, done on the CPU: the runs are the same to the last bit.
//!
//! `data.on = "device"` keeps the images on the device and makes batches there; `read_every = k` reads losses of k
//! steps at once. Neither may change what is computed. (With `--features wgpu`, `data.on` and `read_every` are the
//! defaults of a GPU: `gradus train --device wgpu`.)

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
#![allow(clippy::panic, reason = "a test may fail by panicking")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gradus_core::ranks;
use gradus_train::{
    Ended, Event, Layers, Resume, RunConfig, StopSignal, Summary, TrainError, Trainer, build_model,
    fitted, recipe,
};
use serde_json::Value;

/// 4 batches of 32 images in an epoch, and 3 epochs; everything that depends on chance.
fn config(model: &str, settings: &[(&str, &str)]) -> RunConfig {
    let mut config = recipe(model, &"shapes".parse().unwrap()).unwrap();
    config.device = "flex".to_owned();
    config.epochs = 3;
    config.batch_size = 32;
    config.optimizer = "sgd(lr=0.05, momentum=0.9) | clip_global(0.7)"
        .parse()
        .unwrap();
    config.schedule = "cosine".parse().unwrap();
    config.data.shapes_train = 170;
    config.data.shapes_test = 60;
    config.data.augmentation = serde_json::from_str(
        r#"{"crop": {"padding": 4, "mode": "reflect"}, "flip": "alternating", "cutout": 6}"#,
    )
    .unwrap();
    let network = config.model.as_mut().unwrap();
    let width = if model == "mlp" { "[12]" } else { "[8, 8]" };
    network.width = serde_json::from_str(width).unwrap();
    network.dropout = 0.2;
    let mut layers = Layers::over(&config).unwrap();
    for (key, value) in settings {
        layers.set(key, value).unwrap();
    }
    layers.finish().unwrap()
}

fn fit(
    config: &RunConfig,
    out: &Path,
    more: impl FnOnce(Trainer) -> Trainer,
) -> Result<Ended, TrainError> {
    let data = config.data.open()?;
    let config = fitted(config, &data)?;
    let trainer = Trainer::new(config.clone(), data.clone())?.out(out);
    let model = build_model(&config, &data, &trainer.device())?;
    Ok(more(trainer).fit(model)?.ended)
}

fn run(config: &RunConfig, out: &Path) -> Summary {
    match fit(config, out, |trainer| trainer).unwrap() {
        Ended::Finished(summary) => *summary,
        Ended::Interrupted { .. } => panic!("nobody interrupted it"),
    }
}

/// What every step and epoch found, times left out.
fn found(run: &Path) -> Vec<Value> {
    fs::read_to_string(run.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|event: &Value| event["event"] == "step" || event["event"] == "epoch")
        .map(|mut event| {
            let fields = event.as_object_mut().unwrap();
            for time in ["images_per_second", "seconds", "data_seconds"] {
                fields.remove(time);
            }
            event
        })
        .collect()
}

/// Two runs that must be one.
fn same(a: &RunConfig, b: &RunConfig) {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    let (x, y) = (run(a, &first), run(b, &second));
    assert_eq!(found(&first), found(&second));
    assert_eq!(x.weights_sha256, y.weights_sha256);
    assert_eq!(
        (x.test_loss, x.test_accuracy, x.val_accuracy, x.steps),
        (y.test_loss, y.test_accuracy, y.val_accuracy, y.steps)
    );
    let evaluation = |run: &Path| fs::read_to_string(run.join("evaluation.json")).unwrap();
    assert_eq!(evaluation(&first), evaluation(&second));
}

#[test]
fn images_on_the_device_give_the_same_run() {
    for settings in [
        &[][..],
        &[
            ("data.augmentation.crop.mode", "zero"),
            ("data.augmentation.flip", "random"),
        ],
        // Batch normalisation is measured anew; validated and tested with shifted views.
        &[
            ("optimizer", "adamw(lr=3e-3) | ema(0.9)"),
            ("evaluation.tta", "mirror-shift"),
            ("averaging.statistics_images", "64"),
            ("data.augmentation.cutout", "0"),
        ],
        &[
            ("limit.overfit", "40"),
            ("data.normalize", "false"),
            ("batch_size", "all"),
        ],
    ] {
        let host: Vec<_> = [settings, &[("data.on", "host")]].concat();
        let device: Vec<_> = [settings, &[("data.on", "device"), ("data.workers", "2")]].concat();
        same(&config("cnn", &host), &config("cnn", &device));
    }
}

#[test]
fn steps_read_later_are_the_same_steps() {
    for every in ["2", "4", "7", "1000"] {
        let settings = [("checkpoint.every_steps", "3")];
        let later: Vec<_> = [&settings[..], &[("read_every", every)]].concat();
        same(&config("cnn", &settings), &config("cnn", &later));
    }
}

#[test]
fn norms_that_stay_on_the_device_too() {
    // ndarray takes the way of a GPU through the optimizer.
    for optimizer in [
        "sgd(lr=0.05) | clip_global(0.3)",
        "adamw(lr=3e-3) | clip_norm(0.2)",
        "sgd(lr=0.05) | accumulate(2) | ema(0.9)",
    ] {
        let settings = [
            ("device", "ndarray"),
            ("optimizer", optimizer),
            ("epochs", "2"),
        ];
        let later: Vec<_> = [&settings[..], &[("read_every", "3"), ("data.on", "device")]].concat();
        same(&config("mlp", &settings), &config("mlp", &later));
    }
}

#[test]
fn a_run_stopped_between_two_reads_resumes_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    let whole = run(&config("cnn", &[]), &folder.path().join("whole"));
    let later = config("cnn", &[("read_every", "3"), ("data.on", "device")]);
    // The signal comes with the first, second, … event of a step: between reads, at an epoch's end.
    for stop_after in [1, 3, 4, 7, 11] {
        let out = folder.path().join(format!("stopped-{stop_after}"));
        let (stop, seen) = (StopSignal::new(), Arc::new(AtomicUsize::new(0)));
        let (signal, count) = (stop.clone(), Arc::clone(&seen));
        let ended = fit(&later, &out, |trainer| {
            trainer.stop_signal(stop).subscribe(move |event: &Event| {
                let step = matches!(event, Event::Step(_));
                if step && count.fetch_add(1, Ordering::SeqCst) + 1 == stop_after {
                    signal.request(15);
                }
            })
        })
        .unwrap();
        let Ended::Interrupted { step, .. } = ended else {
            panic!("{stop_after}: it went through")
        };
        assert!(step >= stop_after, "{step}, {stop_after}");
        // Everything that was done has been told.
        let told = found(&out).iter().filter(|e| e["event"] == "step").count();
        assert_eq!(told, step);
        let resumed = fit(&later, &out, |trainer| trainer.resume(Resume::Last)).unwrap();
        let Ended::Finished(resumed) = resumed else {
            panic!("{stop_after}: nobody interrupted it")
        };
        assert_eq!(resumed.weights_sha256, whole.weights_sha256);
        assert_eq!(found(&out), found(&folder.path().join("whole")));
    }
}

#[test]
fn a_loss_that_is_no_number_is_found_at_its_step_and_never_saved() {
    let folder = tempfile::tempdir().unwrap();
    // Squared errors grow from step to step until they overflow.
    let base = [
        ("loss", "mse"),
        ("optimizer", "sgd(lr=30)"),
        ("schedule", "constant"),
        ("model.norm", "none"),
        ("checkpoint.every_steps", "1"),
    ];
    let error = |name: &str, settings: &[(&str, &str)]| {
        let out = folder.path().join(name);
        let error = fit(&config("mlp", settings), &out, |trainer| trainer).unwrap_err();
        let text = error.to_string();
        match error {
            TrainError::NotFinite {
                what,
                step,
                epoch,
                batch,
                ..
            } => (what, step, epoch, batch, text),
            other => panic!("{other}"),
        }
    };
    let now = error("now", &base);
    assert!(now.1 > 2, "it should take a few steps: {}", now.4);
    for every in ["5", "100"] {
        let mut settings = base.to_vec();
        settings[4].1 = "1000";
        settings.push(("read_every", every));
        let late = error(every, &settings);
        assert_eq!(
            (late.0, late.1, late.2, late.3),
            (now.0, now.1, now.2, now.3)
        );
        assert!(late.4.contains("--read-every 1"), "{}", late.4);
        assert!(
            late.4.contains("the weights had been updated"),
            "{}",
            late.4
        );
        let out = folder.path().join(every);
        // The steps before it have been told, and no later one was saved.
        let told = found(&out).iter().filter(|e| e["event"] == "step").count();
        assert_eq!(told, late.1 - 1);
        let saved = fs::read_dir(out.join("checkpoints")).map_or(0, Iterator::count);
        assert_eq!(saved, (late.1 - 1) / 4, "one for each whole epoch before");
    }
}

#[test]
fn where_a_value_decides_something_it_is_read_at_once() {
    for (settings, reason) in [
        (
            &[("optimizer", "sgd | clip_quantile(0.5)")][..],
            "clip_quantile",
        ),
        (&[("optimizer", "sgd | sam")], "gradients at other weights"),
        (&[("optimizer", "sophia")], "gradients at other weights"),
        (
            &[
                ("optimizer", "lbfgs"),
                ("schedule", "constant"),
                ("model.dropout", "0"),
            ],
            "lbfgs",
        ),
        (
            &[("stop.gradient_tolerance", "1e-9")],
            "stop.gradient_tolerance",
        ),
        (&[("stop.step_tolerance", "1e-9")], "stop.step_tolerance"),
    ] {
        let settings: Vec<_> = [settings, &[("read_every", "4"), ("epochs", "1")]].concat();
        let folder = tempfile::tempdir().unwrap();
        let error = fit(&config("mlp", &settings), &folder.path().join("run"), |t| t);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("read_every: expected 1 or auto, found 4") && error.contains(reason),
            "{error}"
        );
    }
    let two = ranks::threads(2).remove(0);
    let config = config("mlp", &[("read_every", "4")]);
    let data = config.data.open().unwrap();
    let trainer = Trainer::new(fitted(&config, &data).unwrap(), data).unwrap();
    let error = trainer.ranks(two).plan().unwrap_err().to_string();
    assert!(error.contains("the ranks add up"), "{error}");
}

#[test]
fn the_plan_says_what_differs_from_a_plain_run_on_the_cpu() {
    let plan = |settings: &[(&str, &str)]| {
        let config = config("mlp", settings);
        let data = config.data.open().unwrap();
        let trainer = Trainer::new(fitted(&config, &data).unwrap(), data).unwrap();
        trainer.plan().unwrap()
    };
    assert!(plan(&[]).is_empty());
    let plan = plan(&[("read_every", "4"), ("data.on", "device")]);
    assert_eq!(
        plan,
        [
            "the device holds the training images (0.7 MB) and augments them",
            "losses, accuracies and gradient norms are read every 4 steps"
        ]
    );
}

#[test]
fn what_cannot_be_is_refused() {
    for (key, value) in [
        ("read_every", "0"),
        ("read_every", "often"),
        ("data.on", "disk"),
    ] {
        let mut layers = Layers::over(&config("mlp", &[])).unwrap();
        layers.set(key, value).unwrap();
        assert!(layers.finish().is_err(), "{key} = {value}");
    }
}
