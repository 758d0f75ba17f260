//! A run folder read back, tolerantly: what is missing is noted, what is malformed is an error
//! naming file and line.
//!
//! | file | needed for |
//! |---|---|
//! | `run.json` | headline, machine, command |
//! | `metrics.jsonl` (or `history.csv`) | curves |
//! | `evaluation.json` | confusion matrix, per-class accuracy, worst mistakes |
//! | `filters.json` | first-layer filters or class templates |
//! | `summary.json` | headline, weights hash |
//! | `config.toml` | shown whole |
//!
//! None is required by itself: a run that was killed after one epoch still gives a report of that
//! epoch.

mod evaluation;
mod filters;
mod info;
mod metrics;
mod numbers;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use evaluation::{ClassScore, Evaluation, Mistake};
pub use filters::{FilterKind, Filters};
pub use info::{DataInfo, RunInfo, Summary};
pub use metrics::{EpochRow, Metrics, StepRow};

use crate::ReportError;

/// Everything a run folder says.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The folder as it was given.
    pub dir: PathBuf,
    /// `config.toml`, verbatim.
    pub config: Option<String>,
    /// `run.json`.
    pub info: Option<RunInfo>,
    /// `metrics.jsonl`, or `history.csv` where that is missing. Empty if there is neither.
    pub metrics: Metrics,
    /// `evaluation.json`.
    pub evaluation: Option<Evaluation>,
    /// `filters.json`.
    pub filters: Option<Filters>,
    /// `summary.json`.
    pub summary: Option<Summary>,
    /// One sentence for each thing a reader should know: the run's own remarks, and what is
    /// missing.
    pub notices: Vec<String>,
}

const FILES: [&str; 7] = [
    "run.json",
    "metrics.jsonl",
    "history.csv",
    "evaluation.json",
    "filters.json",
    "summary.json",
    "config.toml",
];

impl Run {
    /// Reads the run folder `dir`.
    ///
    /// Unknown events and unknown fields are ignored; a half-written last line of `metrics.jsonl`
    /// is ignored; missing files become [`notices`](Run::notices).
    ///
    /// # Errors
    /// [`ReportError::NotARun`] if `dir` holds none of the files above, [`ReportError::Malformed`]
    /// naming the file and line if one does not hold what it should, [`ReportError::Io`] if one
    /// cannot be read.
    pub fn read(dir: impl AsRef<Path>) -> Result<Self, ReportError> {
        let dir = dir.as_ref();
        if !FILES.iter().any(|name| dir.join(name).is_file()) {
            return Err(ReportError::NotARun {
                path: dir.to_path_buf(),
                expected: FILES.join(", "),
            });
        }
        let mut run = Self {
            dir: dir.to_path_buf(),
            ..Self::default()
        };
        run.info = json(&dir.join("run.json"))?;
        run.summary = json(&dir.join("summary.json"))?;
        run.config = text(&dir.join("config.toml"))?;
        run.evaluation = evaluation::read(&dir.join("evaluation.json"))?;
        run.filters = filters::read(&dir.join("filters.json"))?;
        run.metrics = metrics::read(&dir.join("metrics.jsonl"), &dir.join("history.csv"))?;
        run.note_what_is_missing();
        Ok(run)
    }

    /// The model's name, from `run.json` or `summary.json`.
    #[must_use]
    pub fn model(&self) -> Option<String> {
        let info = self.info.as_ref().and_then(|i| i.model.clone());
        info.or_else(|| self.summary.as_ref().and_then(|s| s.text("model")))
    }

    /// The data set, as it was named on the command line ("shapes", "cifar10:PATH").
    #[must_use]
    pub fn data(&self) -> Option<String> {
        let info = self.info.as_ref().and_then(|i| i.data.spec.clone());
        info.or_else(|| self.summary.as_ref().and_then(|s| s.text("data")))
    }

    /// Test accuracy in `[0, 1]`, from `evaluation.json` or `summary.json`.
    #[must_use]
    pub fn test_accuracy(&self) -> Option<f64> {
        let evaluated = self
            .evaluation
            .as_ref()
            .map(|e| e.accuracy)
            .filter(|a| a.is_finite());
        evaluated.or_else(|| {
            self.summary
                .as_ref()
                .and_then(|s| s.number("test_accuracy"))
        })
    }

    fn note_what_is_missing(&mut self) {
        let mut missing = Vec::new();
        if self.metrics.steps.is_empty() && self.metrics.epochs.is_empty() {
            missing.push("no step or epoch was recorded (metrics.jsonl): the curves are left out");
        }
        if self.evaluation.is_none() {
            missing.push(
                "evaluation.json is missing: confusion matrix, per-class accuracy and worst mistakes \
                 are left out",
            );
        } else if self
            .evaluation
            .as_ref()
            .is_some_and(|e| e.confusion.is_empty())
        {
            missing.push("evaluation.json holds no confusion matrix: it is left out");
        }
        if self.filters.is_none() {
            missing.push("filters.json is missing: first-layer filters are left out");
        }
        if self.config.is_none() {
            missing.push("config.toml is missing: the configuration is left out");
        }
        if self.info.is_none() {
            missing.push("run.json is missing: machine and command are left out");
        }
        if self.summary.is_none() {
            missing.push(
                "summary.json is missing: the run did not finish, or has not yet; weights hash and \
                 total time are left out",
            );
        }
        self.notices.extend(self.metrics.remarks.iter().cloned());
        self.notices.extend(missing.into_iter().map(String::from));
        if let Some(step) = self.metrics.diverged_at() {
            self.notices.push(format!(
                "the training loss is not a finite number at step {step}: the run diverged there"
            ));
        }
    }
}

/// The whole file as text; `None` if there is no such file.
fn text(path: &Path) -> Result<Option<String>, ReportError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
            Err(ReportError::malformed(path, None, "expected UTF-8 text"))
        }
        Err(e) => Err(ReportError::io(path, "read", e)),
    }
}

/// The whole file as JSON; `None` if there is no such file.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ReportError> {
    let Some(text) = text(path)? else {
        return Ok(None);
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| ReportError::json(path, &e))
}
