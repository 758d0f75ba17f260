//! Checkpoints: a folder per saved step, valid exactly when its manifest is there and agrees.
//!
//! ```text
//! checkpoints/step-00000140/
//!   model.safetensors      weights and running statistics
//!   optimizer.safetensors  state of the optimizer, keyed by parameter name
//!   evaluated.safetensors  at the end of an epoch, where the optimizer averages: what was validated
//!   progress.json          epoch, batch, sums of the running epoch, best epoch, history
//!   MANIFEST.json          written last: size and SHA-256 of each of the above
//! ```
//!
//! The folder is filled under a temporary name and renamed when it is complete, so a run that is
//! killed at any instant leaves the previous checkpoints as they were. A checkpoint whose manifest
//! does not agree with its files is passed over, loudly, for the one before it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gradus_optim::PlateauState;
use serde::{Deserialize, Serialize};

use crate::event::EpochRecord;
use crate::loss_scale::LossScale;
use crate::{RunDir, TrainError, files, weights};

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const EVALUATED: &str = "evaluated.safetensors";
const PROGRESS: &str = "progress.json";
const MANIFEST: &str = "MANIFEST.json";
const PARTIAL: &str = ".partial-";

/// How far a run has come: everything that the next step depends on, besides tensors.
///
/// There is no generator state in it: randomness is a function of (seed, epoch, index).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps taken.
    pub step: usize,
    /// Whole epochs done.
    pub epoch: usize,
    /// Batches done in the epoch after those.
    pub batch: usize,
    /// Sums over the batches of that epoch.
    pub sums: EpochSums,
    /// The best epoch so far.
    pub best: Option<Best>,
    /// Epochs since then.
    pub stale: usize,
    /// What a `plateau` of the schedule has seen.
    #[serde(default)]
    pub plateau: PlateauState,
    /// Why the run stopped before its last epoch, if it did.
    pub stopped: Option<String>,
    /// One record per epoch done.
    pub history: Vec<EpochRecord>,
    /// Length of `metrics.jsonl` at this point.
    pub log_bytes: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// SHA-256 of the data set, so that a run is not continued on other data.
    pub fingerprint: String,
    /// The scale of the loss, in f16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
}

/// Sums over the batches of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochSums {
    /// Σ loss · images.
    pub loss: f64,
    /// Images classified right.
    pub correct: usize,
    /// Images.
    pub images: usize,
    /// Σ gradient norm.
    pub grad_norm: f64,
    /// Steps.
    pub steps: usize,
    /// Of these, those that were left out because the gradient overflowed f16; no gradient norm is of them.
    #[serde(default)]
    pub skipped: usize,
    /// Seconds.
    pub seconds: f64,
    /// Of these, seconds until the images were there.
    #[serde(default)]
    pub data_seconds: f64,
    /// Learning rate of the last step.
    pub lr: f64,
}

/// The best epoch so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Its validation accuracy.
    pub val_accuracy: f64,
    /// Its number, from 1.
    pub epoch: usize,
    /// Steps done at its end.
    pub step: usize,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    gradus: String,
    step: usize,
    files: BTreeMap<String, FileEntry>,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct FileEntry {
    bytes: u64,
    sha256: String,
}

/// The newest valid checkpoint with its folder, and a sentence about each damaged one passed over.
pub type Latest = (Option<(PathBuf, Checkpoint)>, Vec<String>);

/// A checkpoint in memory.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Bytes of `model.safetensors`.
    pub model: Vec<u8>,
    /// Bytes of `optimizer.safetensors`.
    pub optimizer: Vec<u8>,
    /// Bytes of `evaluated.safetensors`: the averaged weights that the epoch was validated with, where
    /// they are not those being trained. Training goes on without them.
    pub evaluated: Option<Vec<u8>>,
    /// How far the run had come.
    pub progress: Progress,
}

impl Checkpoint {
    /// Writes the checkpoint into the folder of `dir` and returns where it lies.
    ///
    /// # Errors
    /// [`TrainError::Io`]; earlier checkpoints are untouched by a failure.
    pub fn save(&self, dir: &RunDir) -> Result<PathBuf, TrainError> {
        let folder = dir.checkpoints();
        let target = folder.join(name(self.progress.step));
        let partial = folder.join(format!("{PARTIAL}{}", name(self.progress.step)));
        remove(&partial)?;
        fs::create_dir_all(&partial).map_err(TrainError::io("create", &partial))?;

        let progress = serde_json::to_vec_pretty(&self.progress)
            .map_err(|error| TrainError::io("write", partial.join(PROGRESS))(error.into()))?;
        let mut files = BTreeMap::new();
        let evaluated = self.evaluated.as_ref().map(|bytes| (EVALUATED, bytes));
        for (file, bytes) in [
            (MODEL, &self.model),
            (OPTIMIZER, &self.optimizer),
            (PROGRESS, &progress),
        ]
        .into_iter()
        .chain(evaluated)
        {
            files::write(&partial.join(file), bytes)?;
            files.insert(
                file.to_owned(),
                FileEntry {
                    bytes: bytes.len() as u64,
                    sha256: weights::sha256(bytes),
                },
            );
        }
        let manifest = Manifest {
            gradus: env!("CARGO_PKG_VERSION").to_owned(),
            step: self.progress.step,
            files,
        };
        files::write_json(&partial.join(MANIFEST), &manifest)?;

        // A folder cannot be renamed over another. When the same step is saved twice, the old one is
        // put aside until the new one is in place, so that one of them is always whole.
        let aside = folder.join(format!("{PARTIAL}old-{}", name(self.progress.step)));
        remove(&aside)?;
        if target.exists() {
            fs::rename(&target, &aside).map_err(TrainError::io("rename", &target))?;
        }
        fs::rename(&partial, &target).map_err(TrainError::io("rename to", &target))?;
        remove(&aside)?;
        gradus_core::atomic::sync_folder(&folder).map_err(TrainError::io("write", &folder))?;
        Ok(target)
    }

    /// Reads the checkpoint in the folder `path`, every byte verified.
    ///
    /// # Errors
    /// [`TrainError::Damaged`] when the manifest is missing or does not agree with the files.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let manifest_path = path.join(MANIFEST);
        if !manifest_path.exists() {
            return Err(TrainError::damaged(
                path,
                "it has no MANIFEST.json, so it is incomplete",
            ));
        }
        let manifest: Manifest = files::read_json(&manifest_path)?;
        let read = |file: &str| -> Result<Vec<u8>, TrainError> {
            let path = path.join(file);
            let Some(expected) = manifest.files.get(file) else {
                return Err(TrainError::damaged(
                    &manifest_path,
                    format!("it does not list {file}"),
                ));
            };
            let bytes = fs::read(&path).map_err(TrainError::io("read", &path))?;
            let found = FileEntry {
                bytes: bytes.len() as u64,
                sha256: weights::sha256(&bytes),
            };
            if found != *expected {
                return Err(TrainError::damaged(
                    &path,
                    format!(
                        "the manifest states {} bytes with SHA-256 {}, found {} bytes with {}",
                        expected.bytes, expected.sha256, found.bytes, found.sha256
                    ),
                ));
            }
            Ok(bytes)
        };
        let (model, optimizer, progress) = (read(MODEL)?, read(OPTIMIZER)?, read(PROGRESS)?);
        let evaluated = match manifest.files.contains_key(EVALUATED) {
            true => Some(read(EVALUATED)?),
            false => None,
        };
        let progress = serde_json::from_slice(&progress)
            .map_err(|error| TrainError::damaged(path.join(PROGRESS), error.to_string()))?;
        Ok(Self {
            model,
            optimizer,
            evaluated,
            progress,
        })
    }

    /// The weights to use: those that were validated, where the optimizer averages.
    #[must_use]
    pub fn into_used(self) -> Vec<u8> {
        self.evaluated.unwrap_or(self.model)
    }

    /// The newest valid checkpoint of a run, with its folder; damaged ones are passed over, each
    /// with a sentence in the list. `None` when there is no valid one.
    ///
    /// # Errors
    /// [`TrainError::Io`] when the folder cannot be listed.
    pub fn latest(dir: &RunDir) -> Result<Latest, TrainError> {
        let mut warnings = Vec::new();
        for (_, path) in list(dir)?.into_iter().rev() {
            match Self::load(&path) {
                Ok(checkpoint) => return Ok((Some((path, checkpoint)), warnings)),
                Err(error) => warnings.push(format!("passing over a checkpoint: {error}")),
            }
        }
        Ok((None, warnings))
    }

    /// The checkpoint of the best epoch of a run, as the newest valid checkpoint names it.
    ///
    /// # Errors
    /// [`TrainError::NoRun`] when no epoch has been validated yet, or every checkpoint is damaged.
    pub fn best(dir: &RunDir) -> Result<(PathBuf, Self, Vec<String>), TrainError> {
        let (latest, warnings) = Self::latest(dir)?;
        let Some(best) = latest.and_then(|(_, checkpoint)| checkpoint.progress.best) else {
            return Err(TrainError::NoRun(match warnings.is_empty() {
                true => format!(
                    "{} has no best checkpoint: no epoch of it has been validated yet. `last` may \
                     be there",
                    dir.root().display()
                ),
                false => all_damaged(dir, &warnings),
            }));
        };
        let path = dir.checkpoints().join(name(best.step));
        let checkpoint = Self::load(&path)?;
        Ok((path, checkpoint, warnings))
    }

    /// Removes the checkpoints that need not be kept now that `step` is saved: all but the newest
    /// `keep` and the best one; those of later steps, which a run resumed from an earlier checkpoint
    /// has gone back on; and what a killed run left half-written.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn prune(
        dir: &RunDir,
        step: usize,
        keep: usize,
        best: Option<Best>,
    ) -> Result<(), TrainError> {
        let (folders, undone): (Vec<_>, Vec<_>) = list(dir)?
            .into_iter()
            .partition(|(saved, _)| *saved <= step);
        let old = folders.len().saturating_sub(keep);
        for (saved, path) in &folders[..old] {
            if best.is_none_or(|best| best.step != *saved) {
                remove(path)?;
            }
        }
        for (_, path) in undone {
            remove(&path)?;
        }
        let folder = dir.checkpoints();
        for entry in fs::read_dir(&folder)
            .map_err(TrainError::io("read", &folder))?
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// What to say of a run whose checkpoints are all damaged.
pub(crate) fn all_damaged(dir: &RunDir, warnings: &[String]) -> String {
    format!(
        "every checkpoint of {} is damaged; nothing was changed. To begin anew, choose another \
         folder with --out ({})",
        dir.root().display(),
        warnings.join("; ")
    )
}

fn name(step: usize) -> String {
    format!("step-{step:08}")
}

/// The checkpoint folders of a run, oldest first.
fn list(dir: &RunDir) -> Result<Vec<(usize, PathBuf)>, TrainError> {
    let folder = dir.checkpoints();
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found: Vec<(usize, PathBuf)> = fs::read_dir(&folder)
        .map_err(TrainError::io("read", &folder))?
        .flatten()
        .filter_map(|entry| {
            let step = entry
                .file_name()
                .to_str()?
                .strip_prefix("step-")?
                .parse()
                .ok()?;
            Some((step, entry.path()))
        })
        .collect();
    found.sort();
    Ok(found)
}

/// Removes a folder that may or may not be there.
fn remove(path: &Path) -> Result<(), TrainError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(TrainError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(step: usize, best: Option<usize>) -> Checkpoint {
        let best = best.map(|step| Best {
            val_accuracy: 0.5,
            epoch: step,
            step,
        });
        Checkpoint {
            model: vec![step as u8; 100],
            optimizer: vec![7; 10],
            evaluated: Some(vec![3; 50]),
            // A number that decimal notation must carry exactly.
            progress: Progress {
                step,
                best,
                seconds: 0.1 + 0.2,
                ..Progress::default()
            },
        }
    }

    fn run() -> (tempfile::TempDir, RunDir) {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::at(folder.path());
        (folder, dir)
    }

    #[test]
    fn what_was_saved_is_loaded_bit_for_bit() {
        let (_folder, dir) = run();
        let saved = checkpoint(5, None);
        let path = saved.save(&dir).unwrap();
        let loaded = Checkpoint::load(&path).unwrap();
        assert_eq!(loaded.model, saved.model);
        assert_eq!(loaded.evaluated, saved.evaluated);
        assert_eq!(loaded.progress, saved.progress);
        assert_eq!(loaded.progress.seconds.to_bits(), (0.1_f64 + 0.2).to_bits());
    }

    #[test]
    fn any_flipped_or_missing_byte_is_noticed_and_the_previous_checkpoint_is_used() {
        let (_folder, dir) = run();
        checkpoint(1, None).save(&dir).unwrap();
        let path = checkpoint(2, None).save(&dir).unwrap();
        for file in [MODEL, OPTIMIZER, EVALUATED, PROGRESS, MANIFEST] {
            let whole = fs::read(path.join(file)).unwrap();
            for damage in 0..2 {
                let mut bytes = whole.clone();
                match damage {
                    0 => bytes.truncate(bytes.len() - 2),
                    _ => bytes[whole.len() / 2] ^= 1,
                }
                fs::write(path.join(file), &bytes).unwrap();
                let (found, warnings) = Checkpoint::latest(&dir).unwrap();
                assert_eq!(found.unwrap().1.progress.step, 1, "{file} damaged");
                assert_eq!(warnings.len(), 1);
            }
            fs::write(path.join(file), &whole).unwrap();
        }
        assert_eq!(
            Checkpoint::latest(&dir).unwrap().0.unwrap().1.progress.step,
            2
        );
        fs::remove_file(path.join(MANIFEST)).unwrap();
        assert_eq!(
            Checkpoint::latest(&dir).unwrap().0.unwrap().1.progress.step,
            1
        );
    }

    #[test]
    fn the_last_ones_and_the_best_one_are_kept() {
        let (_folder, dir) = run();
        for step in 1..=6 {
            checkpoint(step, Some(2)).save(&dir).unwrap();
        }
        fs::create_dir(dir.checkpoints().join(".partial-step-00000009")).unwrap();
        let best = Best {
            val_accuracy: 0.5,
            epoch: 2,
            step: 2,
        };
        Checkpoint::prune(&dir, 6, 2, Some(best)).unwrap();
        let steps: Vec<usize> = list(&dir)
            .unwrap()
            .into_iter()
            .map(|(step, _)| step)
            .collect();
        assert_eq!(steps, [2, 5, 6]);
        assert_eq!(Checkpoint::best(&dir).unwrap().1.progress.step, 2);
        assert_eq!(fs::read_dir(dir.checkpoints()).unwrap().count(), 3);
        // The run is resumed from step 2 and saves step 4.
        checkpoint(4, Some(2)).save(&dir).unwrap();
        Checkpoint::prune(&dir, 4, 2, Some(best)).unwrap();
        assert_eq!(
            Checkpoint::latest(&dir).unwrap().0.unwrap().1.progress.step,
            4
        );
    }
}
