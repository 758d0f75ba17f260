//! Who trains together: the processes of `mpirun`, the devices of `--devices`, or this process alone.

use gradus_core::ranks::Ranks;
use gradus_train::TrainError;

use crate::failure::Outcome;
use crate::numbers::{count, counted};

/// What MPI libraries tell the processes they start: how many they are.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"];

/// And which of those on its machine each is.
const LOCAL_RANKS: [&str; 3] = [
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "MV2_COMM_WORLD_LOCAL_RANK",
];

/// The processes that were started together with this one.
pub(crate) struct Party {
    pub(crate) ranks: Ranks,
    #[cfg(feature = "mpi")]
    mpi: Option<std::sync::Arc<gradus_train::Mpi>>,
}

impl Party {
    /// Finds out whether there are others, and joins them.
    ///
    /// # Errors
    /// When there are and this binary cannot speak with them; when MPI fails.
    pub(crate) fn join() -> anyhow::Result<Self> {
        match number(&SIZES) {
            Some(size) if size > 1 => Self::join_processes(size),
            _ => Ok(Self {
                ranks: Ranks::alone(),
                #[cfg(feature = "mpi")]
                mpi: None,
            }),
        }
    }

    #[cfg(feature = "mpi")]
    fn join_processes(_: usize) -> anyhow::Result<Self> {
        let mpi = std::sync::Arc::new(gradus_train::Mpi::join()?);
        let party = Self {
            ranks: Ranks::new(mpi.clone()),
            mpi: Some(mpi),
        };
        share_processors(&party.ranks)?;
        Ok(party)
    }

    #[cfg(not(feature = "mpi"))]
    fn join_processes(size: usize) -> anyhow::Result<Self> {
        anyhow::bail!(
            "mpirun started {size} processes, but this binary was built without MPI: each of them would \
             train by itself. Build it with\n  cargo build --release --features mpi\nwhich needs an MPI \
             library with its headers and libclang (Debian: libopenmpi-dev openmpi-bin libclang-dev), or \
             leave mpirun out"
        )
    }

    /// Does `work` with the others.
    ///
    /// Where there are other processes this one ends here. If its work failed it ends them too: they would
    /// wait for it forever.
    #[cfg(feature = "mpi")]
    pub(crate) fn all(&self, work: impl FnOnce(&Ranks) -> Outcome) -> Outcome {
        use anyhow::Context;

        let Some(mpi) = &self.mpi else {
            return work(&self.ranks);
        };
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        let code = crate::failure::code(|| match (work(&self.ranks), rank) {
            (outcome, 0) => outcome,
            (outcome, _) => outcome.with_context(|| format!("rank {rank} of {size} failed")),
        });
        match code {
            // Done, or interrupted: that is so on all ranks.
            0 | 129.. => mpi.end(),
            failed => mpi.abort(failed.into()),
        }
        std::process::exit(code.into())
    }

    /// Does `work`; there are no others.
    #[cfg(not(feature = "mpi"))]
    pub(crate) fn all(&self, work: impl FnOnce(&Ranks) -> Outcome) -> Outcome {
        work(&self.ranks)
    }
}

/// The devices of this process among those of `--devices`: all, or under `mpirun` the one of its number.
///
/// # Errors
/// If they are of different kinds, whose updates would round differently.
pub(crate) fn devices(named: &[String], ranks: &Ranks) -> Result<Vec<String>, TrainError> {
    let kind = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
    let mixed = named.iter().find(|name| kind(name) != kind(&named[0]));
    if let Some(other) = mixed {
        return Err(TrainError::Device(format!(
            "--devices: expected devices of one kind, found {} and {other}: their weights would drift \
             apart by rounding",
            named[0]
        )));
    }
    if ranks.is_alone() || named.is_empty() {
        return Ok(named.to_vec());
    }
    let local = number(&LOCAL_RANKS).unwrap_or_else(|| ranks.rank());
    Ok(vec![named[local % named.len()].clone()])
}

/// The images of a batch and how `ranks` share it: `128 images`, `2 × 64 = 128 images`.
pub(crate) fn images(batch: usize, ranks: usize) -> String {
    let all = counted(batch, "image", "images");
    match (ranks, batch % ranks.max(1)) {
        (0 | 1, _) => all,
        (_, 0) => format!("{ranks} × {} = {all}", count(batch / ranks)),
        (_, _) => {
            let least = batch / ranks;
            let (least, most) = (count(least), count(least + 1));
            format!("{all}, {least} or {most} for each of {ranks} ranks")
        }
    }
}

/// The number in the first of these variables that holds one.
fn number(names: &[&str]) -> Option<usize> {
    names
        .iter()
        .find_map(|name| std::env::var(name).ok()?.trim().parse().ok())
}

/// Shares the processors of a machine among the ranks that run on it: each gets
/// ⌊processors/ranks that may use the same ones⌋ threads, at least one. `RAYON_NUM_THREADS` overrides it.
#[cfg(feature = "mpi")]
fn share_processors(ranks: &Ranks) -> anyhow::Result<()> {
    use std::hash::{DefaultHasher, Hash, Hasher};

    // Whether `mpirun` bound each rank to processors of its own or left them all to all, ranks with the
    // same machine and the same processors share them.
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let host = read("/proc/sys/kernel/hostname");
    let status = read("/proc/self/status");
    let processors = status
        .lines()
        .find(|line| line.starts_with("Cpus_allowed_list"));
    let mut hasher = DefaultHasher::new();
    (host.trim(), processors).hash(&mut hasher);
    // As many bits as an f64 holds exactly.
    let place = (hasher.finish() >> 12) as f64;
    let mut places = vec![0.0; ranks.size()];
    places[ranks.rank()] = place;
    ranks.sum(&mut places)?;
    let sharing = places.iter().filter(|other| **other == place).count();
    if std::env::var_os("RAYON_NUM_THREADS").is_some() {
        return Ok(());
    }
    let here = std::thread::available_parallelism().map_or(1, usize::from);
    // The pool of the process is made at its first use, which lies ahead.
    rayon::ThreadPoolBuilder::new()
        .num_threads((here / sharing.max(1)).max(1))
        .build_global()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_said_with_its_shares() {
        assert_eq!(images(1, 1), "1 image");
        assert_eq!(images(1280, 1), "1,280 images");
        assert_eq!(images(128, 2), "2 × 64 = 128 images");
        assert_eq!(images(22, 3), "22 images, 7 or 8 for each of 3 ranks");
    }

    #[test]
    fn devices_are_of_one_kind_and_each_process_takes_its_own() {
        let named = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let alone = Ranks::alone();
        let both = named("cuda:0,cuda:1");
        assert_eq!(devices(&both, &alone).unwrap(), both);
        assert_eq!(devices(&[], &alone).unwrap(), Vec::<String>::new());
        let third = &gradus_core::ranks::threads(3)[2];
        assert_eq!(devices(&both, third).unwrap(), ["cuda:0"]);
        let error = devices(&named("flex,ndarray"), &alone).unwrap_err();
        assert!(error.to_string().contains("flex and ndarray"), "{error}");
    }
}
