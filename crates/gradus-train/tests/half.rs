//! Whole runs in f16, on the CPU, where operations round to f16 as a GPU does: they learn, leave out the batches whose
//! gradients overflow, and go on to the same bits.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::panic, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::Module;
use burn::tensor::{FloatDType, Tensor};
use gradus_kernels::Precision;
use gradus_nn::{AnyModel, Classifier, Mode};
use gradus_train::checkpoint::Checkpoint;
use gradus_train::{
    Ended, Event, Resume, RunConfig, RunDir, StopSignal, Summary, TrainError, Trainer, build_model,
    fitted, recipe,
};
use serde_json::Value;

fn config(epochs: usize) -> RunConfig {
    let mut config = recipe("cnn", &"shapes".parse().unwrap()).unwrap();
    config.device = "flex".to_owned();
    config.precision = Precision::F16;
    config.epochs = epochs;
    config.batch_size = 32;
    config.data.shapes_train = 400;
    config.data.shapes_test = 100;
    config.data.workers = 0;
    config.model.as_mut().unwrap().width = serde_json::from_str("[8, 16]").unwrap();
    config
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

fn events(run: &Path, name: &str) -> Vec<Value> {
    fs::read_to_string(run.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["event"] == name)
        .collect()
}

/// A model whose images are rounded to bf16 first: everything behind them is then of that type, which is the way of a
/// GPU with `--precision bf16`, and not of the CPU's own kernels.
#[derive(Module, Debug)]
struct OfHalves {
    model: AnyModel,
}

impl Classifier for OfHalves {
    fn forward(&self, images: Tensor<4>, mode: Mode) -> Tensor<2> {
        self.model.forward(images.cast(FloatDType::BF16), mode)
    }

    fn prepare(self, sample: Tensor<4>) -> Self {
        Self {
            model: self.model.prepare(sample),
        }
    }
}

#[test]
fn bf16_learns_as_f32_does_by_the_way_of_a_gpu() {
    let folder = tempfile::tempdir().unwrap();
    for model in ["cnn", "airnet"] {
        let mut config = config(6);
        config.precision = Precision::F32;
        config.data.shapes_train = 2000;
        let network = config.model.as_mut().unwrap();
        network.name = model.parse().unwrap();
        if model == "airnet" {
            network.width = serde_json::from_str("[8, 16, 16]").unwrap();
        }
        let data = config.data.open().unwrap();
        let config = fitted(&config, &data).unwrap();
        let [half, full] = [true, false].map(|half| {
            let out = folder.path().join(format!("{model}-{half}"));
            let trainer = Trainer::new(config.clone(), data.clone()).unwrap().out(out);
            let model = build_model(&config, &data, &trainer.device()).unwrap();
            let ended = match half {
                true => trainer.fit(OfHalves { model }).unwrap().ended,
                false => trainer.fit(model).unwrap().ended,
            };
            match ended {
                Ended::Finished(summary) => summary.test_accuracy,
                Ended::Interrupted { .. } => panic!("nobody interrupted it"),
            }
        });
        assert!(full > 0.5, "{model}: {full}");
        assert!(half > full - 0.1, "{model}: {half} and {full}");
    }
}

#[test]
fn it_learns_as_f32_does() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("f16");
    let mut half = config(6);
    half.data.shapes_train = 2000;
    let found = run(&half, &out);
    let mut full = half;
    full.precision = Precision::F32;
    let exact = run(&full, &folder.path().join("f32"));
    assert!(exact.test_accuracy > 0.6, "{}", exact.test_accuracy);
    assert!(
        found.test_accuracy > exact.test_accuracy - 0.1,
        "{} and {}",
        found.test_accuracy,
        exact.test_accuracy
    );
    assert_eq!(exact.skipped_steps, None);
    let skipped = events(&out, "step-skipped").len();
    assert_eq!(found.skipped_steps, Some(skipped));
    assert_eq!(events(&out, "step").len() + skipped, found.steps);
}

/// Logits times 2000: the gradient of S·L at the logits is beyond 65504 at first.
fn overflowing() -> RunConfig {
    let mut config = config(3);
    config.optimizer = "sgd(lr=1e-4, momentum=0.9)".parse().unwrap();
    config.model.as_mut().unwrap().logit_scale = 2000.0;
    config
}

#[test]
fn a_batch_whose_gradient_overflows_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let summary = run(&overflowing(), folder.path());
    let skipped = events(folder.path(), "step-skipped");
    assert!(skipped.len() > 1, "{skipped:?}");
    assert_eq!(summary.skipped_steps, Some(skipped.len()));
    // From the first batch on, each with half of the scale before.
    for (i, event) in skipped.iter().take(2).enumerate() {
        assert_eq!(event["step"], i + 1);
        assert_eq!(event["loss_scale"], 65_536.0 / 2f64.powi(i as i32));
        assert!(event["loss"].as_f64().unwrap().is_finite());
    }
    for event in events(folder.path(), "step") {
        assert!(event["grad_norm"].as_f64().unwrap().is_finite());
    }
    for event in events(folder.path(), "epoch") {
        assert!(event["grad_norm"].as_f64().unwrap().is_finite());
        assert!(event["train_loss"].as_f64().unwrap().is_finite());
    }
    let dir = RunDir::at(folder.path());
    let (latest, _) = Checkpoint::latest(&dir).unwrap();
    let scale = latest.unwrap().1.progress.loss_scale.unwrap();
    assert_eq!(scale.skipped, skipped.len());
    assert_eq!(scale.scale, 65_536.0 / 2f64.powi(skipped.len() as i32));
    assert_eq!(
        scale.steps as usize,
        events(folder.path(), "step").len() - later(folder.path())
    );
}

/// Steps before the last batch that was left out.
fn later(run: &Path) -> usize {
    let last = events(run, "step-skipped").last().unwrap()["step"].as_u64();
    let before = |event: &Value| event["step"].as_u64() < last;
    events(run, "step")
        .iter()
        .filter(|event| before(event))
        .count()
}

#[test]
fn a_run_that_is_resumed_has_the_same_scale_and_bits() {
    let folder = tempfile::tempdir().unwrap();
    let whole = run(&overflowing(), &folder.path().join("whole"));
    for stop_after in [1, 4] {
        let out = folder.path().join(format!("parts{stop_after}"));
        let stop = StopSignal::new();
        let (seen, raised) = (Arc::new(AtomicUsize::new(0)), stop.clone());
        let ended = fit(&overflowing(), &out, |trainer| {
            trainer.stop_signal(stop).subscribe(move |event: &Event| {
                let step = matches!(event, Event::Step(_) | Event::StepSkipped { .. });
                if step && seen.fetch_add(1, Ordering::Relaxed) + 1 == stop_after {
                    raised.request(15);
                }
            })
        });
        assert!(matches!(ended, Ok(Ended::Interrupted { .. })));
        let ended = fit(&overflowing(), &out, |trainer| trainer.resume(Resume::Last)).unwrap();
        let Ended::Finished(parts) = ended else {
            panic!("nobody interrupted it");
        };
        assert_eq!(parts.weights_sha256, whole.weights_sha256);
        assert_eq!(parts.skipped_steps, whole.skipped_steps);
    }
}

#[test]
fn what_cannot_be_done_in_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for optimizer in [
        "lbfgs",
        "sgd(lr=0.1) | accumulate(2)",
        "sgd(lr=0.1) | sam(0.05)",
    ] {
        let mut config = config(1);
        config.optimizer = optimizer.parse().unwrap();
        config.schedule = "constant".parse().unwrap();
        let error = fit(&config, folder.path(), |trainer| trainer).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("expected bf16 or f32, found f16"), "{text}");
    }
    let mut config = config(1);
    config.device = "ndarray".to_owned();
    for precision in [Precision::F16, Precision::Bf16] {
        config.precision = precision;
        let error = fit(&config, folder.path(), |trainer| trainer).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("found {precision}")), "{text}");
        assert!(text.contains("expected f32"), "{text}");
    }
    let text = Trainer::new(
        fitted(&self::config(1), &self::config(1).data.open().unwrap()).unwrap(),
        self::config(1).data.open().unwrap(),
    )
    .unwrap()
    .plan()
    .unwrap()
    .join("; ");
    assert!(text.contains("f16: the loss is scaled"), "{text}");
}
