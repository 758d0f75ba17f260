//! Several ranks with shares of a batch do what one process does with the whole of it.
//!
//! The ranks are threads; `gradus-cli/tests/ranks.rs` does the same with processes. Only the order of
//! additions differs from one process, by about 1e-7 of each sum; eight steps let that grow a little.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
#![allow(clippy::panic, reason = "a test may fail by panicking")]
#![allow(clippy::print_stderr, reason = "how far apart, for --nocapture")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gradus_core::ranks::{self, Collective, RankError, Ranks};
use gradus_nn::AnyModel;
use gradus_train::weights::NamedTensors;
use gradus_train::{
    Ended, Event, Outcome, Resume, RunConfig, StopSignal, Summary, TrainError, Trainer,
    build_model, fitted, recipe, weights,
};
use serde_json::Value;

/// 45 training images in 4 batches of 11, augmented; 15 for validation; 13 for the test; 2 epochs.
fn config(model: &str, settings: &[(&str, &str)]) -> RunConfig {
    let mut config = recipe(model, &"shapes".parse().unwrap()).unwrap();
    config.device = "flex".to_owned();
    config.epochs = 2;
    config.batch_size = 11;
    config.optimizer = "sgd(lr=0.02, momentum=0.9)".parse().unwrap();
    config.schedule = "cosine".parse().unwrap();
    config.data.shapes_train = 60;
    config.data.shapes_test = 13;
    config.data.validation_fraction = 0.25;
    config.data.augmentation.flip = gradus_data::Flip::Random;
    {
        let network = config.model.as_mut().unwrap();
        let width = if model == "mlp" { "[12]" } else { "[4, 6]" };
        network.width = serde_json::from_str(width).unwrap();
        network.dropout = 0.2;
        network.norm = "batch".parse().unwrap();
    }
    let mut layers = gradus_train::Layers::over(&config).unwrap();
    for (key, value) in settings {
        layers.set(key, value).unwrap();
    }
    layers.finish().unwrap()
}

type Fit = Result<Outcome<AnyModel>, TrainError>;

/// One rank's run.
fn fit(config: &RunConfig, ranks: Ranks, out: &Path, more: impl FnOnce(Trainer) -> Trainer) -> Fit {
    let data = config.data.open()?;
    let config = fitted(config, &data)?;
    let trainer = Trainer::new(config.clone(), data.clone())?
        .out(out)
        .ranks(ranks);
    let model = build_model(&config, &data, &trainer.device())?;
    more(trainer).fit(model)
}

/// The run of every rank, each in a thread.
fn together(
    ranks: Vec<Ranks>,
    config: &RunConfig,
    out: &Path,
    more: impl Fn(Trainer) -> Trainer + Sync,
) -> Vec<Fit> {
    std::thread::scope(|scope| {
        let more = &more;
        let threads: Vec<_> = ranks
            .into_iter()
            .map(|rank| scope.spawn(move || fit(config, rank, out, more)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

fn same(trainer: Trainer) -> Trainer {
    trainer
}

fn resumed(trainer: Trainer) -> Trainer {
    trainer.resume(Resume::Last)
}

fn summary(outcome: &Outcome<AnyModel>) -> Summary {
    match &outcome.ended {
        Ended::Finished(summary) => (**summary).clone(),
        Ended::Interrupted { step, .. } => panic!("interrupted at step {step}"),
    }
}

/// The events of one kind.
fn events(run: &Path, kind: &str) -> Vec<Value> {
    fs::read_to_string(run.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|event: &Value| event["event"] == kind)
        .collect()
}

/// ‖a − b‖/‖b‖ of the worst tensor.
fn apart(a: &NamedTensors, b: &NamedTensors) -> (f64, String) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let mut worst = (0.0, String::new());
    for (name, b) in b {
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let mut differences = a[name]
            .iter::<f64>()
            .zip(b.iter::<f64>())
            .map(|(a, b)| a - b);
        let error = norm(&mut differences) / norm(&mut b.iter::<f64>()).max(1e-3);
        if error > worst.0 {
            worst = (error, name.clone());
        }
    }
    worst
}

fn near(a: &Value, b: &Value, tolerance: f64, what: &str) {
    let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
    assert!(
        (a - b).abs() <= tolerance * b.abs().max(1e-2),
        "{what}: {a} for {b}"
    );
}

/// Compares runs of 1, 2 and 4 ranks: batches of 11 images are shares of 5 and 6, or 2, 3, 3 and 3.
fn agrees(name: &str, config: &RunConfig) {
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("1");
    let alone = fit(config, Ranks::alone(), &one, same).unwrap();
    let expected = summary(&alone);
    for size in [2, 4] {
        let what = format!("{name}, {size} ranks");
        let many = folder.path().join(size.to_string());
        let outcomes: Vec<_> = together(ranks::threads(size), config, &many, same)
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|error| panic!("{what}: {error}")))
            .collect();
        // The same bits everywhere, and rank 0's are in the file.
        for outcome in &outcomes {
            assert_eq!(
                summary(outcome).weights_sha256,
                summary(&outcomes[0]).weights_sha256
            );
        }
        let file = fs::read(many.join("model.safetensors")).unwrap();
        assert_eq!(weights::sha256(&file), summary(&outcomes[0]).weights_sha256);
        let found = summary(&outcomes[0]);
        assert_eq!(
            (found.steps, found.test_images),
            (expected.steps, expected.test_images)
        );
        let (error, tensor) = apart(
            &weights::collect(&outcomes[0].model),
            &weights::collect(&alone.model),
        );
        eprintln!("{what}: weights differ by {error:.1e} ({tensor})");
        assert!(error < 1e-5, "{what}: {tensor} differs by {error:e}");

        let (steps, expected_steps) = (events(&many, "step"), events(&one, "step"));
        assert_eq!(steps.len(), expected_steps.len());
        for (a, b) in steps.iter().zip(&expected_steps) {
            for key in ["loss", "grad_norm", "lr"] {
                near(
                    &a[key],
                    &b[key],
                    1e-5,
                    &format!("{what}: {key} of step {}", b["step"]),
                );
            }
            assert_eq!(
                a["accuracy"], b["accuracy"],
                "{what}: accuracy of step {}",
                b["step"]
            );
        }
        let (epochs, expected_epochs) = (events(&many, "epoch"), events(&one, "epoch"));
        for (a, b) in epochs.iter().zip(&expected_epochs) {
            for key in ["train_loss", "val_loss"] {
                near(&a[key], &b[key], 1e-5, &format!("{what}: {key}"));
            }
            assert_eq!(a["val_accuracy"], b["val_accuracy"], "{what}");
        }
        assert!(
            (found.test_loss / expected.test_loss - 1.0).abs() < 1e-5,
            "{what}"
        );
    }
}

#[test]
fn an_mlp_with_batch_norm_and_dropout_is_the_same_on_any_number_of_ranks() {
    agrees("mlp", &config("mlp", &[]));
}

#[test]
fn a_cnn_with_batch_norm_and_dropout_is_the_same_on_any_number_of_ranks() {
    agrees("cnn", &config("cnn", &[]));
}

/// With an activation that has no kink: among a million inputs of a ReLU one lies within rounding of 0 now
/// and then, its gradient is there or not, and two runs part by that much.
#[test]
fn residual_networks_and_whitened_ones_are_too() {
    let settings = [
        ("model.width", "[4, 4, 6]"),
        ("model.dropout", "0"),
        ("model.activation", "silu"),
        ("limit.batches", "2"),
    ];
    for model in ["resnet20", "airnet"] {
        agrees(model, &config(model, &settings));
    }
}

#[test]
fn what_looks_at_the_whole_gradient_loss_or_batch_is_right() {
    for settings in [
        // One norm of all gradients; batches put together to larger ones.
        &[(
            "optimizer",
            "adam(lr=1e-3) | clip-global(0.1) | accumulate(2)",
        )][..],
        // Two gradients a step, of the same rows with the same masks.
        &[("optimizer", "sgd(lr=0.01) | sam(rho=0.05)")],
        // Averaged weights, with batch norm measured anew; each rank's device has the images.
        &[
            ("optimizer", "sgd(lr=0.02) | ema(decay=0.5)"),
            ("data.on", "device"),
            ("averaging.statistics_images", "22"),
        ],
        // A mean by class weights, and a summand that must enter once.
        &[
            (
                "loss",
                "cross-entropy(label_smoothing=0.1, class_weights=[1, 2, 0.5, 3, 1, 1, 0, 4, 1, 1])",
            ),
            ("penalty", "l2(lambda=1e-3)"),
        ],
    ] {
        agrees(&format!("{settings:?}"), &config("cnn", settings));
    }
}

/// The curvature rules take gradients at other weights.
#[test]
fn curvature_is_that_of_the_whole_batch() {
    agrees(
        "sophia",
        &config("mlp", &[("optimizer", "sophia(lr=1e-3)")]),
    );
}

#[test]
fn any_number_of_ranks_goes_on_with_a_checkpoint() {
    let config = config("cnn", &[("checkpoint.every_steps", "3")]);
    let folder = tempfile::tempdir().unwrap();
    let whole = fit(&config, Ranks::alone(), &folder.path().join("whole"), same).unwrap();
    let run = folder.path().join("parts");
    // Each part stops two steps after it began: rank 0 hears of the steps, all stop together.
    let interrupted = |trainer: Trainer| {
        let (stop, steps) = (StopSignal::new(), AtomicUsize::new(0));
        let signal = stop.clone();
        trainer.stop_signal(stop).subscribe(move |event: &Event| {
            if matches!(event, Event::Step(_)) && steps.fetch_add(1, Ordering::SeqCst) == 1 {
                signal.request(15);
            }
        })
    };
    for (part, size) in [2, 3, 1].into_iter().enumerate() {
        let outcomes = together(ranks::threads(size), &config, &run, |trainer| {
            let trainer = interrupted(trainer);
            if part == 0 { trainer } else { resumed(trainer) }
        });
        for outcome in outcomes {
            let Ended::Interrupted { signal, step } = outcome.unwrap().ended else {
                panic!("part {part} was to be interrupted");
            };
            assert_eq!((signal, step), (15, 2 * (part + 1)));
        }
    }
    let ended = together(ranks::threads(4), &config, &run, resumed);
    let outcome = ended.into_iter().next().unwrap().unwrap();
    let (error, tensor) = apart(
        &weights::collect(&outcome.model),
        &weights::collect(&whole.model),
    );
    assert!(error < 1e-5, "{tensor} differs by {error:e}");
    assert_eq!(events(&run, "step").len(), summary(&whole).steps);
    let info: Value = serde_json::from_slice(&fs::read(run.join("run.json")).unwrap()).unwrap();
    assert_eq!(info["ranks"], 4);
}

/// A rank whose connection breaks after so many sums.
#[derive(Debug)]
struct Breaking {
    ranks: Ranks,
    left: AtomicUsize,
}

impl Breaking {
    fn check(&self) -> Result<(), RankError> {
        let spent = |left: usize| left.checked_sub(1);
        let found = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, spent);
        found.map(|_| ()).map_err(|_| {
            self.ranks.leave();
            RankError("the cable is cut".to_owned())
        })
    }
}

impl Collective for Breaking {
    fn rank(&self) -> usize {
        self.ranks.rank()
    }
    fn size(&self) -> usize {
        self.ranks.size()
    }
    fn sum_f32(&self, values: &mut [f32]) -> Result<(), RankError> {
        self.check()?;
        self.ranks.sum_f32(values)
    }
    fn sum_f64(&self, values: &mut [f64]) -> Result<(), RankError> {
        self.check()?;
        self.ranks.sum(values)
    }
    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, RankError> {
        self.ranks.from_first(|| Ok(bytes))
    }
    fn leave(&self) {
        self.ranks.leave();
    }
}

#[test]
fn a_rank_that_fails_ends_the_others_and_the_run_can_go_on() {
    let config = config(
        "cnn",
        &[("checkpoint.every_steps", "1"), ("checkpoint.keep", "20")],
    );
    let folder = tempfile::tempdir().unwrap();
    let whole = fit(&config, Ranks::alone(), &folder.path().join("whole"), same).unwrap();
    // Wherever it breaks: between steps, in a forward pass, in a backward pass.
    for sums in [0, 1, 23, 40, 57, 58, 59, 60, 61, 62, 63, 64] {
        let run = folder.path().join(format!("after-{sums}"));
        let mut party = ranks::threads(3);
        party[1] = Ranks::new(Arc::new(Breaking {
            ranks: party[1].clone(),
            left: AtomicUsize::new(sums),
        }));
        let outcomes = together(party, &config, &run, same);
        for (rank, outcome) in outcomes.into_iter().enumerate() {
            let error = outcome.map(|_| ()).unwrap_err();
            let expected = if rank == 1 {
                "cable"
            } else {
                "rank 1 of 3 has ended"
            };
            assert!(
                matches!(&error, TrainError::Ranks(error) if error.0.contains(expected)),
                "after {sums}, rank {rank}: {error}"
            );
        }
        let outcomes = together(ranks::threads(2), &config, &run, resumed);
        let outcome = outcomes.into_iter().next().unwrap().unwrap();
        let (error, tensor) = apart(
            &weights::collect(&outcome.model),
            &weights::collect(&whole.model),
        );
        assert!(error < 1e-5, "after {sums}: {tensor} differs by {error:e}");
    }
}

#[test]
fn what_cannot_be_shared_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for (settings, size, expected) in [
        (
            &[("batch_size", "2")][..],
            3,
            "one image for each of 3 ranks",
        ),
        (
            &[("optimizer", "lbfgs"), ("schedule", "constant")],
            2,
            "lbfgs evaluates the loss",
        ),
    ] {
        let run = folder.path().join("run");
        for outcome in together(ranks::threads(size), &config("mlp", settings), &run, same) {
            let error = outcome.map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(!run.exists());
    }
}

#[test]
fn ranks_that_would_do_different_runs_are_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let (run, mut party) = (folder.path().join("run"), ranks::threads(2));
    let (second, first) = (party.pop().unwrap(), party.pop().unwrap());
    let one = config("mlp", &[]);
    let other = config("mlp", &[("seed", "7"), ("data.workers", "0")]);
    let (zero, one) = std::thread::scope(|scope| {
        let one = scope.spawn(|| fit(&one, first, &run, same).map(|_| ()).unwrap_err());
        let other = scope.spawn(|| fit(&other, second, &run, same).map(|_| ()).unwrap_err());
        (
            one.join().unwrap().to_string(),
            other.join().unwrap().to_string(),
        )
    });
    assert!(
        one.contains("rank 1 has another configuration") && one.contains("seed: 42, now 7"),
        "{one}"
    );
    assert!(zero.contains("rank 1 of 2 has ended"), "{zero}");
}
