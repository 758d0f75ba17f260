//! A made-up but lifelike run folder, written the way the trainer writes one. No randomness: noise
//! is a hash of the index, so that snapshots hold.

pub(crate) mod page;

use std::f64::consts::{PI, TAU};
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

/// What kind of run to make up.
pub(crate) struct Fixture {
    pub(crate) classes: Vec<String>,
    pub(crate) epochs: u64,
    pub(crate) steps_per_epoch: u64,
    pub(crate) per_class: u64,
    /// Step from which the loss is `null`.
    pub(crate) diverges_at: Option<u64>,
    pub(crate) templates: bool,
}

impl Default for Fixture {
    fn default() -> Self {
        let names = [
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ];
        Self {
            classes: names.map(String::from).to_vec(),
            epochs: 12,
            steps_per_epoch: 90,
            per_class: 1000,
            diverges_at: None,
            templates: false,
        }
    }
}

/// Uniform in `[0, 1)` from an index (splitmix64's finaliser).
fn noise(index: u64) -> f64 {
    let mut z = index
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(0x1234_5678);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

impl Fixture {
    pub(crate) fn write(&self, dir: &Path) {
        let put = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
        put("config.toml", self.config());
        put("run.json", self.info().to_string());
        put("metrics.jsonl", self.metrics());
        put("evaluation.json", self.evaluation().to_string());
        put("filters.json", self.filters().to_string());
        put("summary.json", self.summary().to_string());
    }

    fn steps(&self) -> u64 {
        self.epochs * self.steps_per_epoch
    }

    /// Progress of step t in `[0, 1]`.
    fn progress(&self, step: u64) -> f64 {
        step as f64 / self.steps() as f64
    }

    fn loss(&self, step: u64) -> f64 {
        let t = self.progress(step);
        let chance = (self.classes.len() as f64).ln();
        0.18 + (chance - 0.18) * (-4.5 * t).exp() + 0.35 * (noise(step) - 0.5) * (1.2 - t)
    }

    fn rate(&self, step: u64) -> f64 {
        let t = self.progress(step);
        if t < 0.2 {
            0.1 * t / 0.2
        } else {
            0.05 * (1.0 + (PI * (t - 0.2) / 0.8).cos())
        }
    }

    fn metrics(&self) -> String {
        let mut lines =
            vec![json!({"event": "run-started", "time": "2026-11-22T00:40:00Z"}).to_string()];
        for step in 1..=self.steps() {
            let epoch = (step - 1) / self.steps_per_epoch + 1;
            let lost = self.diverges_at.is_some_and(|d| step >= d);
            let number = |x: f64| if lost { Value::Null } else { json!(x) };
            let t = self.progress(step);
            let learnt = |t: f64| 0.1 + 0.84 * (1.0 - (-5.0 * t).exp());
            let norm =
                0.4 + 6.0 * (-6.0 * t).exp() * (0.6 + noise(step + 13)) + 0.5 * noise(step + 3);
            let stall = if step % 97 == 0 { 1400.0 } else { 0.0 };
            lines.push(
                json!({
                    "event": "step", "step": step, "epoch": epoch,
                    "loss": number(self.loss(step)),
                    "accuracy": number((learnt(t) + 0.12 * (noise(step + 7) - 0.5)).min(1.0)),
                    "lr": self.rate(step),
                    "grad_norm": number(norm),
                    "images_per_second": 3100.0 + 260.0 * noise(step + 5) - stall,
                })
                .to_string(),
            );
            if step.is_multiple_of(self.steps_per_epoch) {
                let middle = step - self.steps_per_epoch / 2;
                let t = self.progress(middle);
                lines.push(
                    json!({
                        "event": "epoch", "epoch": epoch, "step": step,
                        "train_loss": number(self.loss(middle)),
                        "train_accuracy": number(learnt(t)),
                        "val_loss": number(self.loss(step) + 0.08 + 0.1 * t),
                        "val_accuracy": number(0.96 * learnt(1.1 * t) + 0.02 * noise(step)),
                        "val_top5": number(0.99), "lr": self.rate(step),
                        "seconds": 14.0 + noise(epoch), "images_per_second": 3200.0,
                    })
                    .to_string(),
                );
                lines.push(
                    json!({"event": "checkpoint", "path": format!("checkpoints/epoch-{epoch}")})
                        .to_string(),
                );
            }
        }
        lines.join("\n") + "\n"
    }

    fn evaluation(&self) -> Value {
        let k = self.classes.len();
        let mut confusion = vec![vec![0_u64; k]; k];
        for (t, row) in confusion.iter_mut().enumerate() {
            let mut left = self.per_class;
            for p in (0..k).filter(|&p| p != t) {
                // Neighbours are alike; a few pairs (cat and dog) much more so.
                let near = 1.0 / (1.0 + t.abs_diff(p) as f64);
                let alike = if t.abs_diff(p) == 2 && t % 4 == 3 {
                    5.0
                } else {
                    1.0
                };
                let share = 0.055 * near * alike * noise((t * k + p) as u64).powi(2);
                let count = ((self.per_class as f64 * share).round() as u64).min(left);
                row[p] = count;
                left -= count;
            }
            row[t] = left;
        }
        let n = self.per_class * k as u64;
        let right: u64 = (0..k).map(|i| confusion[i][i]).sum();
        let per_class: Vec<Value> = (0..k)
            .map(|c| {
                let given: u64 = confusion.iter().map(|row| row[c]).sum();
                json!({
                    "class": self.classes[c], "n": self.per_class, "correct": confusion[c][c],
                    "accuracy": confusion[c][c] as f64 / self.per_class as f64,
                    "precision": confusion[c][c] as f64 / given.max(1) as f64,
                })
            })
            .collect();
        let mistakes: Vec<Value> = (0..40_u64)
            .map(|i| {
                let (t, p) = (
                    i as usize * 7 % k,
                    (i as usize * 7 + 1 + i as usize % (k - 1)) % k,
                );
                json!({
                    "index": 131 * i + 17, "true": t, "predicted": p,
                    "probability": 0.999 - 0.006 * i as f64, "loss": 9.2 - 0.13 * i as f64,
                    "image": {
                        "shape": [3, 32, 32], "pixels": BASE64_STANDARD.encode(picture(i)),
                    },
                })
            })
            .collect();
        json!({
            "split": "test", "n": n, "loss": 0.2741, "accuracy": right as f64 / n as f64,
            "top5": 0.9987, "classes": self.classes, "confusion": confusion,
            "per_class": per_class, "mistakes": mistakes,
        })
    }

    fn filters(&self) -> Value {
        if self.templates {
            let k = self.classes.len() as u64;
            let values: Vec<f64> = (0..k)
                .flat_map(|i| picture(i).into_iter().map(|b| f64::from(b) / 255.0 - 0.5))
                .collect();
            return json!({
                "kind": "templates", "layer": "linear", "shape": [k, 3, 32, 32],
                "values": values, "labels": self.classes,
            });
        }
        let (k, side) = (32_u64, 5_u64);
        let mut values = Vec::new();
        for i in 0..k {
            let (turn, phase) = (noise(i) * TAU, noise(i + 99) * TAU);
            for c in 0..3 {
                for p in 0..side * side {
                    let (x, y) = ((p % side) as f64 - 2.0, (p / side) as f64 - 2.0);
                    let wave =
                        (1.3 * (x * turn.cos() + y * turn.sin()) + phase + c as f64 * noise(i + 7))
                            .sin();
                    values.push(wave * (-(x * x + y * y) / 6.0).exp() * 0.4);
                }
            }
        }
        json!({
            "kind": "filters", "layer": "stages.0.conv1", "shape": [k, 3, side, side],
            "values": values,
        })
    }

    fn info(&self) -> Value {
        json!({
            "gradus": "0.1.0", "burn": "0.22.1", "rustc": "1.95.0",
            "device": "flex", "backend": "flex", "cpu": "Example CPU @ 2.60 GHz", "cores": 2,
            "memory_bytes": 16_777_216_000_u64, "os": "Linux 6.1", "seed": 7,
            "command": ["gradus", "train", "--data", "cifar10", "--model", "cnn", "--seed", "7"],
            "started": "2026-11-22T00:40:00Z", "model": "cnn", "parameters": 272_474,
            "multiply_adds": 41_030_656,
            "data": {
                "spec": "cifar10", "fingerprint": "5b3f".repeat(16),
                "train": 45000, "validation": 5000,
                "test": self.per_class * self.classes.len() as u64,
                "classes": self.classes, "image": [3, 32, 32],
            },
        })
    }

    fn summary(&self) -> Value {
        json!({
            "run_dir": "runs/example", "model": "cnn", "parameters": 272_474, "data": "cifar10",
            "device": "flex", "seed": 7, "epochs": self.epochs, "steps": self.steps(),
            "train_loss": 0.2012, "val_accuracy": 0.9116, "test_accuracy": 0.9124,
            "seconds": 174.2, "images_per_second": 3188.0,
            "weights_sha256": "c0ffee42".repeat(8),
        })
    }

    fn config(&self) -> String {
        format!(
            r#"# complete: running with this file repeats the run
seed = 7
epochs = {}

[data]
spec = "cifar10"
validation = 0.1

[data.augmentation]
crop = {{ padding = 4, mode = "reflect" }}
flip = "random"

[model]
name = "cnn"
width = 32
activation = "relu"

[optimizer]
rule = "sgd(lr=0.1, momentum=0.9, nesterov=true)"
schedule = "onecycle(max_lr=0.1)"
"#,
            self.epochs
        )
    }
}

/// A 32×32 picture of a coloured disc on a gradient, `[3, 32, 32]`.
fn picture(seed: u64) -> Vec<u8> {
    let (cx, cy, r) = (
        8.0 + 16.0 * noise(seed),
        8.0 + 16.0 * noise(seed + 50),
        5.0 + 7.0 * noise(seed + 90),
    );
    let mut bytes = Vec::with_capacity(3 * 32 * 32);
    for c in 0..3_u64 {
        let (front, back) = (noise(seed * 3 + c + 400), noise(seed * 3 + c + 900));
        for p in 0..1024_u64 {
            let (x, y) = ((p % 32) as f64, (p / 32) as f64);
            let inside = (x - cx).hypot(y - cy) < r;
            let v = if inside {
                front
            } else {
                back * (0.5 + y / 64.0)
            } + 0.08 * (noise(seed * 5000 + p * 3 + c) - 0.5);
            bytes.push((v.clamp(0.0, 1.0) * 255.0) as u8);
        }
    }
    bytes
}
