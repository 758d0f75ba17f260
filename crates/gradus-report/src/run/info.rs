//! `run.json` (where and how the run was made) and `summary.json` (what `train --json` printed).

use serde::Deserialize;
use serde_json::{Map, Value};

/// `run.json`. Every field may be missing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RunInfo {
    /// Gradus version.
    pub gradus: Option<String>,
    /// Burn version.
    pub burn: Option<String>,
    /// Compiler version.
    pub rustc: Option<String>,
    /// Device, as Burn names it.
    pub device: Option<String>,
    /// Backend.
    pub backend: Option<String>,
    /// Processor's name.
    pub cpu: Option<String>,
    /// Logical cores.
    pub cores: Option<u64>,
    /// Main memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Operating system.
    pub os: Option<String>,
    /// The run's seed.
    pub seed: Option<u64>,
    /// The command line, one entry an argument.
    pub command: Vec<String>,
    /// When the run started, RFC 3339.
    pub started: Option<String>,
    /// Model's name.
    pub model: Option<String>,
    /// Number of parameters.
    pub parameters: Option<u64>,
    /// Multiply-adds of one image's forward pass.
    pub multiply_adds: Option<u64>,
    /// What it was trained on.
    pub data: DataInfo,
}

/// The `data` object of `run.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct DataInfo {
    /// As given on the command line.
    pub spec: Option<String>,
    /// SHA-256 over shape, labels and pixels.
    pub fingerprint: Option<String>,
    /// Training images.
    pub train: Option<u64>,
    /// Validation images.
    pub validation: Option<u64>,
    /// Test images.
    pub test: Option<u64>,
    /// Class names.
    pub classes: Vec<String>,
    /// `[C, H, W]`.
    pub image: Vec<u64>,
}

/// `summary.json`: read by name, so that new entries need no change here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Summary(pub Map<String, Value>);

impl Summary {
    /// A finite number by name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(Value::as_f64)
    }

    /// A text by name.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).and_then(Value::as_str).map(str::to_owned)
    }
}
