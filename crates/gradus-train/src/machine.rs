//! What a run ran on and with: the content of `run.json`.

use serde::{Deserialize, Serialize};

/// Versions and machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Version of Gradus.
    pub gradus: String,
    /// Version of Burn.
    pub burn: String,
    /// Compiler that built this program.
    pub rustc: String,
    /// Processor.
    pub cpu: String,
    /// Cores that the operating system offers.
    pub cores: usize,
    /// Main memory in bytes.
    pub memory_bytes: u64,
    /// Operating system and architecture.
    pub os: String,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn inspect() -> Self {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        system.refresh_cpu_all();
        let cpu = system
            .cpus()
            .first()
            .map(|cpu| cpu.brand().trim().to_owned());
        let os = sysinfo::System::long_os_version().unwrap_or_else(|| std::env::consts::OS.into());
        Self {
            gradus: env!("CARGO_PKG_VERSION").to_owned(),
            burn: env!("GRADUS_BURN_VERSION").to_owned(),
            rustc: env!("GRADUS_RUSTC_VERSION").to_owned(),
            cpu: cpu
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: system.total_memory(),
            os: format!("{os} ({})", std::env::consts::ARCH),
        }
    }
}

/// The content of `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunInfo {
    /// Versions and machine.
    #[serde(flatten)]
    pub machine: Machine,
    /// The device as it was asked for.
    pub device: String,
    /// The backend that was taken.
    pub backend: String,
    /// How many processes or devices shared each batch.
    #[serde(default = "one")]
    pub ranks: usize,
    /// Master seed.
    pub seed: u64,
    /// The command line, as typed.
    pub command: Vec<String>,
    /// When the run began, RFC 3339.
    pub started: String,
    /// The parts in which it went on, each with its command and time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<Part>,
    /// The model's name.
    pub model: String,
    /// Trainable parameters.
    pub parameters: usize,
    /// Multiply-adds of one image's forward pass; 0 for a model that does not say.
    pub multiply_adds: u64,
    /// The data set.
    pub data: DataInfo,
}

fn one() -> usize {
    1
}

/// A part of a run: from a start to an end or an interruption.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// The command line, as typed.
    pub command: Vec<String>,
    /// When it began, RFC 3339.
    pub started: String,
}

/// The data set of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DataInfo {
    /// As it was asked for.
    pub spec: String,
    /// SHA-256 over shapes, labels and pixels.
    pub fingerprint: String,
    /// Images trained on.
    pub train: usize,
    /// Images held out for validation.
    pub validation: usize,
    /// Images of the test set.
    pub test: usize,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// `[C, H, W]`.
    pub image: [usize; 3],
}

/// The current time, RFC 3339.
#[must_use]
pub fn now() -> String {
    time::OffsetDateTime::now_utc()
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_default()
}
