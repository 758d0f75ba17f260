//! A side of the comparison with what it did so far.

use std::collections::BTreeMap;

use super::side::{Round, Side, Task};
use crate::BenchError;
use crate::statistics::median;

/// A variant this many times slower than its library's fastest will not become the fastest.
const MUCH_SLOWER: f64 = 1.3;

/// A side with its name and what it did so far.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) precision: &'static str,
    /// Variants of one process share what they load; each may train or infer only.
    tasks: &'static [Task],
    pub(super) side: Box<dyn Side>,
    rounds: BTreeMap<&'static str, Vec<Round>>,
    pub(super) dropped: bool,
    /// Tasks in which it is left alone from now on.
    left: Vec<Task>,
}

pub(super) const BOTH: &[Task] = &[Task::Train, Task::Infer];

pub(super) fn name_of(task: Task) -> &'static str {
    match task {
        Task::Train => "train",
        Task::Infer => "infer",
    }
}

impl Entry {
    pub(super) fn new(
        name: &str,
        precision: &'static str,
        tasks: &'static [Task],
        side: Box<dyn Side>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            precision,
            tasks,
            side,
            rounds: BTreeMap::new(),
            dropped: false,
            left: Vec::new(),
        }
    }

    /// One more round, or a reason to leave this side out from now on.
    pub(super) fn round(
        &mut self,
        task: Task,
        warmup: usize,
        steps: usize,
        skipped: &mut Vec<String>,
    ) -> Result<(), BenchError> {
        if self.dropped || self.left.contains(&task) || !self.tasks.contains(&task) {
            return Ok(());
        }
        match self.side.round(task, warmup, steps)? {
            Ok(round) => self.rounds.entry(name_of(task)).or_default().push(round),
            Err(why) => {
                skipped.push(format!("{} ({}): {why}", self.name, name_of(task)));
                self.dropped = true;
            }
        }
        Ok(())
    }

    pub(super) fn of(&self, task: Task) -> &[Round] {
        self.rounds.get(name_of(task)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn seconds(&self, task: Task) -> Vec<f64> {
        let rounds = self.of(task).iter();
        rounds.flat_map(|r| r.seconds.iter().copied()).collect()
    }

    pub(super) fn losses(&self) -> Vec<f64> {
        let rounds = self.of(Task::Train).iter();
        rounds.flat_map(|r| r.losses.iter().copied()).collect()
    }

    pub(super) fn first_seconds(&self, task: Task) -> Option<f64> {
        self.of(task).iter().find_map(|round| round.first_seconds)
    }

    pub(super) fn memory(&self, task: Task) -> Option<u64> {
        self.of(task)
            .iter()
            .filter_map(|r| r.peak_memory_bytes)
            .max()
    }
}

/// Leaves the variants alone that are much slower than the fastest of the same library and precision.
pub(super) fn narrow(task: Task, theirs: &mut [Entry]) {
    let group = |entry: &Entry| {
        let library = entry.name.split(' ').next().unwrap_or_default().to_owned();
        (library, entry.precision)
    };
    let mut fastest: BTreeMap<(String, &'static str), f64> = BTreeMap::new();
    for entry in theirs.iter().filter(|entry| !entry.of(task).is_empty()) {
        let time = median(entry.seconds(task));
        let best = fastest.entry(group(entry)).or_insert(time);
        *best = best.min(time);
    }
    for entry in theirs {
        let best = fastest.get(&group(entry)).copied().unwrap_or_default();
        if median(entry.seconds(task)) > MUCH_SLOWER * best {
            entry.left.push(task);
        }
    }
}
