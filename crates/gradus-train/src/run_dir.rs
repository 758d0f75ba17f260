//! The run folder: what lies where, and how it is opened.
//!
//! | file | what it holds |
//! |---|---|
//! | `config.toml` | the complete configuration; it alone repeats the run |
//! | `run.json` | versions, machine, device, seed, command, data set with fingerprint |
//! | `metrics.jsonl` | every event, one JSON object a line |
//! | `history.csv` | one row per epoch |
//! | `checkpoints/step-N/` | weights, optimizer state, progress, manifest |
//! | `model.safetensors` | the weights at the end |
//! | `evaluation.json`, `filters.json`, `summary.json` | results on the test set |

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::event::{EpochRecord, Event, Subscriber};
use crate::{RunConfig, TrainError, files};

/// Where runs are put when no folder is named.
pub const DEFAULT_ROOT: &str = "runs";

/// The paths of one run.
#[derive(Clone, Debug)]
pub struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// The run folder at `root`, which need not exist yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Makes a new folder with a name that is not taken: `runs/shapes-cnn-20261122-101500`.
    ///
    /// # Errors
    /// [`TrainError::Io`] when it cannot be made.
    pub fn fresh(data: &str, model: &str) -> Result<Self, TrainError> {
        let now =
            time::OffsetDateTime::now_local().unwrap_or_else(|_| time::OffsetDateTime::now_utc());
        let stamp = format!(
            "{:04}{:02}{:02}-{:02}{:02}{:02}",
            now.year(),
            u8::from(now.month()),
            now.day(),
            now.hour(),
            now.minute(),
            now.second()
        );
        let base = Path::new(DEFAULT_ROOT).join(format!("{data}-{model}-{stamp}"));
        fs::create_dir_all(DEFAULT_ROOT).map_err(TrainError::io("create", DEFAULT_ROOT))?;
        let mut root = base.clone();
        let mut number = 2;
        // Making the folder, not looking for it, decides who has the name: two runs may start in
        // the same second.
        while let Err(error) = fs::create_dir(&root) {
            if error.kind() != std::io::ErrorKind::AlreadyExists {
                return Err(TrainError::io("create", &root)(error));
            }
            root = base.with_file_name(format!("{data}-{model}-{stamp}-{number}"));
            number += 1;
        }
        Ok(Self { root })
    }

    /// Makes the folder if need be, and takes it for this process until the result is dropped.
    ///
    /// # Errors
    /// [`TrainError::RunBusy`] when another process has it.
    pub(crate) fn lock(&self) -> Result<File, TrainError> {
        fs::create_dir_all(&self.root).map_err(TrainError::io("create", &self.root))?;
        let path = self.join(".lock");
        let file = File::create(&path).map_err(TrainError::io("create", &path))?;
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => Err(TrainError::RunBusy(self.root.clone())),
            // A file system without locks is no reason not to train.
            _ => Ok(file),
        }
    }

    /// The run that was started last under [`DEFAULT_ROOT`].
    ///
    /// # Errors
    /// [`TrainError::NoRun`] when there is none.
    pub fn latest() -> Result<Self, TrainError> {
        let newest = fs::read_dir(DEFAULT_ROOT)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let config = entry.path().join("config.toml");
                Some((fs::metadata(config).ok()?.modified().ok()?, entry.path()))
            })
            .max();
        match newest {
            Some((_, root)) => Ok(Self { root }),
            None => Err(TrainError::NoRun(format!(
                "there is no run in {DEFAULT_ROOT}/ of this folder; name one, or start one with \
                 `gradus train`"
            ))),
        }
    }

    /// The run that `path` belongs to: a run folder, a checkpoint in one, or a file in either.
    /// `None` when it belongs to none.
    #[must_use]
    pub fn containing(path: &Path) -> Option<Self> {
        let search = |path: &Path| {
            path.ancestors()
                .filter(|folder| !folder.as_os_str().is_empty())
                .take(4)
                .map(Self::at)
                .find(Self::holds_run)
        };
        // As it was typed if that will do, so that messages show it so; `.` has no ancestors to see.
        search(path).or_else(|| search(&fs::canonicalize(path).ok()?))
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file or folder called `name` inside.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where checkpoints lie.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.join("checkpoints")
    }

    /// Whether a run was begun here.
    #[must_use]
    pub fn holds_run(&self) -> bool {
        self.join("config.toml").exists()
    }

    /// Makes the folder of a new run and writes its configuration.
    ///
    /// # Errors
    /// [`TrainError::RunExists`] when a run was begun here before, [`TrainError::Io`] when it cannot
    /// be written.
    pub fn create(&self, config: &RunConfig) -> Result<(), TrainError> {
        if self.holds_run() {
            return Err(TrainError::RunExists(self.root.clone()));
        }
        let folder = self.checkpoints();
        fs::create_dir_all(&folder).map_err(TrainError::io("create", &folder))?;
        files::write(&self.join("config.toml"), config.to_toml()?.as_bytes())
    }

    /// The configuration of the run.
    ///
    /// # Errors
    /// [`TrainError::NoRun`] when there is no run here, [`TrainError::ConfigFile`] when its
    /// configuration does not fit.
    pub fn config(&self) -> Result<RunConfig, TrainError> {
        let path = self.join("config.toml");
        if !path.exists() {
            return Err(TrainError::NoRun(format!(
                "{} holds no run (it has no config.toml); expected a folder that `gradus train` \
                 wrote",
                self.root.display()
            )));
        }
        let text = fs::read_to_string(&path).map_err(TrainError::io("read", &path))?;
        let config: RunConfig = toml::from_str(&text).map_err(|error| TrainError::ConfigFile {
            origin: path.display().to_string(),
            problem: error.to_string(),
        })?;
        config.validate()?;
        Ok(config)
    }
}

/// The subscriber that writes `metrics.jsonl` and `history.csv`.
pub(crate) struct RunLog {
    events: File,
    events_path: PathBuf,
    history_path: PathBuf,
    history: Vec<EpochRecord>,
}

impl RunLog {
    /// Opens the log of a run and forgets whatever was written after `length` bytes and after the
    /// epochs in `history`: those steps will be done again.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub(crate) fn open(
        dir: &RunDir,
        length: u64,
        history: Vec<EpochRecord>,
    ) -> Result<Self, TrainError> {
        let events_path = dir.join("metrics.jsonl");
        let open = || -> std::io::Result<File> {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&events_path)?;
            // Shorter than expected means that the disk lost its end; what is there stays.
            let kept = whole_lines(&mut file, length)?;
            file.set_len(kept)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let events = open().map_err(TrainError::io("write", &events_path))?;
        Ok(Self {
            events,
            history_path: dir.join("history.csv"),
            events_path,
            history,
        })
    }

    /// Makes everything logged so far durable and returns the length of the log in bytes.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub(crate) fn sync(&mut self) -> Result<u64, TrainError> {
        let sync = |file: &mut File| -> std::io::Result<u64> {
            file.sync_data()?;
            file.stream_position()
        };
        sync(&mut self.events).map_err(TrainError::io("write", &self.events_path))
    }
}

impl Subscriber for RunLog {
    fn receive(&mut self, event: &Event) -> Result<(), TrainError> {
        let mut line = serde_json::to_string(event)
            .map_err(|error| TrainError::io("write", &self.events_path)(error.into()))?;
        line.push('\n');
        self.events
            .write_all(line.as_bytes())
            .map_err(TrainError::io("write", &self.events_path))?;
        if let Event::Epoch(record) = event {
            self.history.push(record.clone());
            let mut table = csv::Writer::from_writer(Vec::new());
            for row in &self.history {
                table
                    .serialize(row)
                    .map_err(|error| TrainError::io("write", &self.history_path)(error.into()))?;
            }
            let bytes = table
                .into_inner()
                .map_err(|error| TrainError::io("write", &self.history_path)(error.into_error()))?;
            files::write(&self.history_path, &bytes)?;
        }
        Ok(())
    }
}

/// The length of `file` up to the end of the last whole line within its first `limit` bytes.
fn whole_lines(file: &mut File, limit: u64) -> std::io::Result<u64> {
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    Read::by_ref(file).take(limit).read_to_end(&mut text)?;
    Ok(text
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(number: usize) -> Event {
        Event::Epoch(EpochRecord {
            epoch: number,
            step: number * 10,
            train_loss: 0.5,
            train_accuracy: 0.5,
            val_loss: None,
            val_accuracy: Some(0.25),
            val_top5: None,
            lr: 0.1,
            grad_norm: 1.0,
            seconds: 1.0,
            data_seconds: 0.1,
            images_per_second: 10.0,
        })
    }

    #[test]
    fn a_run_is_found_from_anything_inside_it() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("checkpoints/step-00000001");
        fs::create_dir_all(&checkpoint).unwrap();
        assert!(RunDir::containing(&checkpoint).is_none());
        fs::write(folder.path().join("config.toml"), "").unwrap();
        for inside in [
            "",
            "model.safetensors",
            "checkpoints/step-00000001/model.safetensors",
        ] {
            let run = RunDir::containing(&folder.path().join(inside)).unwrap();
            assert_eq!(run.root(), folder.path());
        }
    }

    #[test]
    fn a_log_that_is_reopened_forgets_what_came_after_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::at(folder.path());
        let mut log = RunLog::open(&dir, 0, Vec::new()).unwrap();
        log.receive(&epoch(1)).unwrap();
        let length = log.sync().unwrap();
        log.receive(&epoch(2)).unwrap();
        log.events.write_all(b"{\"half a li").unwrap();
        let Event::Epoch(first) = epoch(1) else {
            unreachable!()
        };
        let mut log = RunLog::open(&dir, length, vec![first]).unwrap();
        log.receive(&epoch(2)).unwrap();
        let lines = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), 2);
        assert!(
            lines
                .lines()
                .all(|line| serde_json::from_str::<Event>(line).is_ok())
        );
        let table = fs::read_to_string(dir.join("history.csv")).unwrap();
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.starts_with("epoch,step,train_loss"), "{table}");
    }
}
