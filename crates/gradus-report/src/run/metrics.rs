//! `metrics.jsonl`: one JSON object a line, tagged by `"event"`. `history.csv` stands in where it
//! is missing.
//!
//! Two things happen to this file in real life, and both are read as what they mean. A killed
//! process leaves half a line at the end: it is dropped. A resumed run repeats the steps since its
//! checkpoint: the later telling counts.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::numbers::{lenient, nan};
use crate::ReportError;

/// One optimizer step. Numbers that were not written, or are not finite, are NaN or infinite here.
#[derive(Debug, Clone, Deserialize)]
pub struct StepRow {
    /// Global step, counted from 1 (or 0, as the trainer likes).
    pub step: u64,
    /// Epoch the step belongs to.
    #[serde(default)]
    pub epoch: u64,
    /// Mean loss of the batch.
    #[serde(default = "nan", deserialize_with = "lenient")]
    pub loss: f64,
    /// Share of the batch classified right, in `[0, 1]`.
    #[serde(default = "nan", deserialize_with = "lenient")]
    pub accuracy: f64,
    /// Learning rate of this step.
    #[serde(default = "nan", deserialize_with = "lenient")]
    pub lr: f64,
    /// Global norm of the gradient before clipping.
    #[serde(default = "nan", deserialize_with = "lenient")]
    pub grad_norm: f64,
    /// Throughput, images per second.
    #[serde(default = "nan", deserialize_with = "lenient")]
    pub images_per_second: f64,
}

/// One epoch with its validation.
#[derive(Debug, Clone, Deserialize)]
pub struct EpochRow {
    /// Epoch, counted from 1.
    pub epoch: u64,
    /// Global step at its end; 0 if not written.
    #[serde(default)]
    pub step: u64,
    /// Mean training loss over the epoch.
    #[serde(default = "nan", deserialize_with = "lenient")]
    pub train_loss: f64,
    /// Training accuracy over the epoch, in `[0, 1]`.
    #[serde(default = "nan", deserialize_with = "lenient")]
    pub train_accuracy: f64,
    /// Validation loss; NaN without a validation set.
    #[serde(default = "nan", deserialize_with = "lenient")]
    pub val_loss: f64,
    /// Validation accuracy, in `[0, 1]`.
    #[serde(default = "nan", deserialize_with = "lenient")]
    pub val_accuracy: f64,
    /// Validation top-5 accuracy, in `[0, 1]`.
    #[serde(default = "nan", deserialize_with = "lenient")]
    pub val_top5: f64,
    /// Learning rate at the end of the epoch.
    #[serde(default = "nan", deserialize_with = "lenient")]
    pub lr: f64,
    /// Wall-clock seconds of the epoch.
    #[serde(default = "nan", deserialize_with = "lenient")]
    pub seconds: f64,
    /// Throughput, images per second.
    #[serde(default = "nan", deserialize_with = "lenient")]
    pub images_per_second: f64,
}

/// The recorded steps and epochs, each in increasing order.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Steps.
    pub steps: Vec<StepRow>,
    /// Epochs.
    pub epochs: Vec<EpochRow>,
    /// What the run itself remarked: warnings, notes on the data, why it stopped early. Each once.
    pub remarks: Vec<String>,
}

impl Metrics {
    /// Steps in one epoch, if the epoch rows say so.
    #[must_use]
    pub fn steps_per_epoch(&self) -> Option<f64> {
        let last = self
            .epochs
            .iter()
            .rev()
            .find(|e| e.step > 0 && e.epoch > 0)?;
        Some(last.step as f64 / last.epoch as f64)
    }

    /// The first step whose loss is not finite although the file does record losses.
    #[must_use]
    pub fn diverged_at(&self) -> Option<u64> {
        self.steps
            .iter()
            .any(|s| s.loss.is_finite())
            .then_some(())?;
        self.steps
            .iter()
            .find(|s| !s.loss.is_finite())
            .map(|s| s.step)
    }

    fn add(&mut self, value: Value) -> Result<(), String> {
        let Some(event) = value
            .get("event")
            .and_then(Value::as_str)
            .map(str::to_owned)
        else {
            return Err("expected an object with an \"event\" name".into());
        };
        let wrong = |e: serde_json::Error| format!("event {event:?}: {e}");
        match event.as_str() {
            "step" => {
                let row: StepRow = serde_json::from_value(value).map_err(wrong)?;
                self.steps
                    .truncate(self.steps.partition_point(|s| s.step < row.step));
                self.steps.push(row);
            }
            "epoch" => {
                let row: EpochRow = serde_json::from_value(value).map_err(wrong)?;
                self.add_epoch(row);
            }
            "warning" => self.remark(value.get("message")),
            "stopped-early" => self.remark(value.get("reason")),
            "run-started" => {
                for note in value
                    .get("notes")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                {
                    self.remark(Some(note));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn remark(&mut self, text: Option<&Value>) {
        if let Some(text) = text.and_then(Value::as_str)
            && !self.remarks.iter().any(|known| known == text)
        {
            self.remarks.push(text.to_owned());
        }
    }

    fn add_epoch(&mut self, row: EpochRow) {
        self.epochs
            .truncate(self.epochs.partition_point(|e| e.epoch < row.epoch));
        self.epochs.push(row);
    }
}

pub(super) fn read(jsonl: &Path, csv: &Path) -> Result<Metrics, ReportError> {
    match std::fs::read(jsonl) {
        Ok(bytes) => parse(jsonl, &bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => history(csv),
        Err(e) => Err(ReportError::io(jsonl, "read", e)),
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Metrics, ReportError> {
    let mut metrics = Metrics::default();
    let lines: Vec<&[u8]> = bytes.split(|&b| b == b'\n').collect();
    for (index, line) in lines.iter().enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        // `split` leaves what follows the last newline as its last piece: a line without its end.
        let unfinished = index + 1 == lines.len();
        let malformed = |problem: String| ReportError::malformed(path, Some(index + 1), problem);
        match serde_json::from_slice::<Value>(line) {
            Err(_) if unfinished => break,
            Err(e) => return Err(malformed(format!("expected one JSON object a line: {e}"))),
            Ok(value) => metrics.add(value).map_err(malformed)?,
        }
    }
    Ok(metrics)
}

fn history(path: &Path) -> Result<Metrics, ReportError> {
    let mut metrics = Metrics::default();
    let Some(text) = super::text(path)? else {
        return Ok(metrics);
    };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers = reader.headers().cloned().map_err(|e| csv_error(path, &e))?;
    for record in reader.records() {
        let record = record.map_err(|e| csv_error(path, &e))?;
        let line = record.position().map(|p| p.line() as usize);
        let cell = |name: &str| {
            headers
                .iter()
                .position(|h| h == name)
                .and_then(|i| record.get(i))
        };
        let number = |name: &str| match cell(name).map(str::trim) {
            None | Some("") => Ok(f64::NAN),
            Some(text) => text.parse::<f64>().map_err(|_| {
                let problem = format!("column `{name}`: expected a number, found {text:?}");
                ReportError::malformed(path, line, problem)
            }),
        };
        let epoch = number("epoch")?;
        if epoch.is_nan() || epoch < 0.0 {
            return Err(ReportError::malformed(
                path,
                line,
                "expected an `epoch` in each row",
            ));
        }
        metrics.add_epoch(EpochRow {
            epoch: epoch as u64,
            step: number("step")?.max(0.0) as u64,
            train_loss: number("train_loss")?,
            train_accuracy: number("train_accuracy")?,
            val_loss: number("val_loss")?,
            val_accuracy: number("val_accuracy")?,
            val_top5: number("val_top5")?,
            lr: number("lr")?,
            seconds: number("seconds")?,
            images_per_second: number("images_per_second")?,
        });
    }
    Ok(metrics)
}

fn csv_error(path: &Path, error: &csv::Error) -> ReportError {
    let line = error.position().map(|p| p.line() as usize);
    ReportError::malformed(path, line, format!("not the expected CSV: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Metrics, ReportError> {
        parse(Path::new("metrics.jsonl"), text.as_bytes())
    }

    #[test]
    fn unknown_events_and_fields_are_ignored() {
        let text = "{\"event\":\"tomorrow\",\"x\":1}\n\n{\"event\":\"step\",\"step\":1,\"loss\":2.5,\"new\":[]}\n";
        let metrics = parsed(text).unwrap();
        assert_eq!(metrics.steps.len(), 1);
        assert_eq!(metrics.steps[0].loss, 2.5);
        assert!(metrics.steps[0].lr.is_nan());
    }

    #[test]
    fn a_half_written_last_line_is_dropped_but_a_broken_middle_line_is_an_error() {
        let good = "{\"event\":\"step\",\"step\":1,\"loss\":1}\n";
        assert_eq!(
            parsed(&format!("{good}{{\"event\":\"st"))
                .unwrap()
                .steps
                .len(),
            1
        );
        let broken = parsed(&format!("{good}{{\"event\":\"st\n{good}"))
            .unwrap_err()
            .to_string();
        assert!(broken.starts_with("metrics.jsonl, line 2: "), "{broken}");
        let nameless = parsed(&format!("{good}[1]\n")).unwrap_err().to_string();
        assert!(
            nameless.contains("line 2") && nameless.contains("event"),
            "{nameless}"
        );
    }

    #[test]
    fn a_resumed_run_counts_the_later_telling() {
        let line = |step: u32, loss: f64| {
            format!("{{\"event\":\"step\",\"step\":{step},\"loss\":{loss}}}\n")
        };
        let text = [
            line(1, 9.0),
            line(2, 8.0),
            line(3, 7.0),
            line(2, 5.0),
            line(3, 4.0),
        ]
        .concat();
        let losses: Vec<f64> = parsed(&text)
            .unwrap()
            .steps
            .iter()
            .map(|s| s.loss)
            .collect();
        assert_eq!(losses, [9.0, 5.0, 4.0]);
    }

    #[test]
    fn the_run_s_own_remarks_are_kept_once() {
        let text = "{\"event\":\"run-started\",\"notes\":[\"short batch\"]}\n\
                    {\"event\":\"warning\",\"message\":\"slow disk\"}\n\
                    {\"event\":\"run-started\",\"notes\":[\"short batch\"]}\n\
                    {\"event\":\"stopped-early\",\"reason\":\"no progress\",\"epoch\":3}\n";
        assert_eq!(
            parsed(text).unwrap().remarks,
            ["short batch", "slow disk", "no progress"]
        );
    }

    #[test]
    fn null_and_nan_are_divergence() {
        let text = "{\"event\":\"step\",\"step\":1,\"loss\":1}\n{\"event\":\"step\",\"step\":2,\"loss\":null}\n\
                    {\"event\":\"step\",\"step\":3,\"loss\":\"NaN\",\"grad_norm\":\"inf\"}\n";
        let metrics = parsed(text).unwrap();
        assert_eq!(metrics.diverged_at(), Some(2));
        assert!(metrics.steps[2].grad_norm.is_infinite());
    }
}
