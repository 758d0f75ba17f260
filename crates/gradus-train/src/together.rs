//! How the ranks of a run begin together: rank 0 opens the run folder and tells the others what is in it.
//!
//! ```text
//! configuration, data, version    compared with rank 0's
//! folder, lock, checkpoint        rank 0 opens them; the others get the bytes, and need no common disk
//! weights of a new run            drawn and prepared by each, then taken from rank 0
//! ```

use std::fs::File;
use std::path::PathBuf;

use burn::module::Module;
use gradus_core::ranks::{RankError, Ranks};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, Progress, all_damaged};
use crate::trainer::Trainer;
use crate::{Resume, RunConfig, RunDir, TrainError, weights};

/// What a run begins with.
pub(crate) struct Beginning {
    pub(crate) dir: RunDir,
    /// Rank 0 holds it.
    pub(crate) lock: Option<File>,
    pub(crate) loaded: Option<Checkpoint>,
    /// Where that lies.
    pub(crate) checkpoint: Option<PathBuf>,
    /// About checkpoints passed over.
    pub(crate) warnings: Vec<String>,
}

/// Whether so many ranks can do this run at all.
///
/// # Errors
/// [`TrainError::Config`] for a batch with fewer images than ranks, or a method that cannot be shared.
pub(crate) fn can_share(trainer: &Trainer) -> Result<(), TrainError> {
    let ranks = &trainer.ranks;
    if ranks.is_alone() {
        return Ok(());
    }
    let size = ranks.size();
    if trainer.batch_size() < size {
        return Err(TrainError::config(
            "batch_size",
            format!(
                "expected at least {size}, one image for each of {size} ranks, found {}",
                trainer.batch_size()
            ),
        ));
    }
    if let Some(solver) = trainer.config.optimizer.solver() {
        let problem = format!(
            "{} evaluates the loss as often as it likes inside one step, which is not shared between \
             ranks; run it in one process, or choose an update rule",
            solver.name()
        );
        return Err(TrainError::config("optimizer", problem));
    }
    Ok(())
}

/// Whether these ranks can do this run, and are about to do the same.
///
/// # Errors
/// As [`can_share`]; [`TrainError::Ranks`] where a rank has another configuration, data set or version than
/// rank 0.
pub(crate) fn check(trainer: &Trainer) -> Result<(), TrainError> {
    let ranks = &trainer.ranks;
    if ranks.is_alone() {
        return Ok(());
    }
    can_share(trainer)?;
    let mine = Agreement {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        fingerprint: trainer.data.fingerprint.clone(),
        config: trainer.config.clone(),
        resumes: trainer.resume.is_some(),
    };
    let theirs: Agreement = decode(&ranks.from_first(|| encode(&mine))?)?;
    match mine.differs(theirs)? {
        None => Ok(()),
        Some(what) => Err(TrainError::Ranks(RankError(format!(
            "rank {} has {what}; start all ranks with the same program, the same arguments and the same \
             data",
            ranks.rank()
        )))),
    }
}

/// What all ranks must have in common.
#[derive(Serialize, Deserialize)]
struct Agreement {
    version: String,
    fingerprint: String,
    config: RunConfig,
    resumes: bool,
}

impl Agreement {
    /// What `self` has that rank 0 has not.
    fn differs(&self, mut first: Self) -> Result<Option<String>, TrainError> {
        // Each may compute where it likes, on its own copy of the data.
        first.config.device.clone_from(&self.config.device);
        first.config.data.workers = self.config.data.workers;
        first.config.data.on = self.config.data.on;
        first.config.data.dir.clone_from(&self.config.data.dir);
        Ok(if self.version != first.version {
            Some(format!(
                "version {} of Gradus, rank 0 has {}",
                self.version, first.version
            ))
        } else if self.fingerprint != first.fingerprint {
            Some(format!(
                "data with SHA-256 {}, rank 0 has {}",
                self.fingerprint, first.fingerprint
            ))
        } else if self.config != first.config {
            let found = first.config.differences(&self.config)?.join(", ");
            Some(format!("another configuration than rank 0 ({found})"))
        } else if self.resumes != first.resumes {
            Some("another idea than rank 0 of whether the run goes on".to_owned())
        } else {
            None
        })
    }
}

/// Opens the run folder, and the checkpoint to go on from.
pub(crate) fn begin(trainer: &mut Trainer) -> Result<Beginning, TrainError> {
    let ranks = trainer.ranks.clone();
    if !ranks.is_first() {
        return hear(&ranks);
    }
    let beginning = open(trainer)?;
    if !ranks.is_alone() {
        tell(&ranks, &beginning)?;
    }
    Ok(beginning)
}

fn open(trainer: &mut Trainer) -> Result<Beginning, TrainError> {
    let dir = match trainer.run_dir.take() {
        Some(dir) => dir,
        None if trainer.resume.is_some() => RunDir::latest()?,
        None => {
            let data = trainer.config.data.spec.to_string();
            let kind = data.split(':').next().unwrap_or_default();
            RunDir::fresh(kind, &trainer.model_name)?
        }
    };
    let lock = dir.lock()?;
    let (found, warnings) = match &trainer.resume {
        None => {
            dir.create(&trainer.config)?;
            (None, Vec::new())
        }
        Some(Resume::Last) => match Checkpoint::latest(&dir)? {
            (None, warnings) if !warnings.is_empty() => {
                return Err(TrainError::NoRun(all_damaged(&dir, &warnings)));
            }
            latest => latest,
        },
        Some(Resume::Best) => {
            let (path, checkpoint, warnings) = Checkpoint::best(&dir)?;
            (Some((path, checkpoint)), warnings)
        }
        Some(Resume::Path(path)) => (Some((path.clone(), Checkpoint::load(path)?)), Vec::new()),
    };
    let (checkpoint, loaded) = found.unzip();
    Ok(Beginning {
        dir,
        lock: Some(lock),
        loaded,
        checkpoint,
        warnings,
    })
}

/// A [`Beginning`] without the bytes of the checkpoint.
#[derive(Serialize, Deserialize)]
struct Told {
    dir: PathBuf,
    checkpoint: Option<PathBuf>,
    progress: Option<Progress>,
}

fn tell(ranks: &Ranks, beginning: &Beginning) -> Result<(), TrainError> {
    let loaded = beginning.loaded.as_ref();
    let told = Told {
        dir: beginning.dir.root().to_path_buf(),
        checkpoint: beginning.checkpoint.clone(),
        progress: loaded.map(|loaded| loaded.progress.clone()),
    };
    ranks.from_first(|| encode(&told))?;
    if let Some(loaded) = loaded {
        for bytes in [&loaded.model, &loaded.optimizer] {
            ranks.from_first(|| Ok::<_, TrainError>(bytes.clone()))?;
        }
    }
    Ok(())
}

fn hear(ranks: &Ranks) -> Result<Beginning, TrainError> {
    let next = || ranks.from_first(|| Ok::<_, TrainError>(Vec::new()));
    let told: Told = decode(&next()?)?;
    let loaded = match told.progress {
        None => None,
        Some(progress) => Some(Checkpoint {
            model: next()?,
            optimizer: next()?,
            evaluated: None,
            progress,
        }),
    };
    Ok(Beginning {
        dir: RunDir::at(told.dir),
        lock: None,
        loaded,
        checkpoint: told.checkpoint,
        warnings: Vec::new(),
    })
}

/// `model` with the weights of rank 0: processors that round differently must not draw different ones.
pub(crate) fn same_weights<M: Module>(ranks: &Ranks, model: M) -> Result<M, TrainError> {
    if ranks.is_alone() {
        return Ok(model);
    }
    let bytes = ranks.from_first(|| {
        weights::to_safetensors(&weights::collect(&model), &serde_json::Value::Null)
    })?;
    let (tensors, _) = weights::from_safetensors(&bytes, "the weights of rank 0".as_ref())?;
    weights::restore(model, tensors)
}

/// What rank 0 finds to be so.
pub(crate) fn is_so(
    ranks: &Ranks,
    question: impl FnOnce() -> Result<bool, TrainError>,
) -> Result<bool, TrainError> {
    let answer = ranks.from_first(|| Ok::<_, TrainError>(vec![u8::from(question()?)]))?;
    Ok(answer == [1])
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, TrainError> {
    serde_json::to_vec(value).map_err(|error| garbled(&error))
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, TrainError> {
    serde_json::from_slice(bytes).map_err(|error| garbled(&error))
}

fn garbled(error: &serde_json::Error) -> TrainError {
    TrainError::Ranks(RankError(format!(
        "what rank 0 said to the others cannot be read: {error}"
    )))
}
