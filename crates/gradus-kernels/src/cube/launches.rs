//! Which kernels were started: what a step costs before any of its arithmetic.
//!
//! ```text
//! watched(work)      every kernel that CubeCL starts while `work` runs, by name, in order
//! ```
//! Operations wait in the queue of Burn's fusion until somebody needs them: `work` begins and ends with a
//! `sync` of its device, or the count is that of other work. The count is of the process, all devices and
//! threads.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Result};
use std::sync::{Arc, Mutex, PoisonError};

use cubecl::logging::{LaunchObservation, LaunchObserver};

/// Kernels that were started, in order, each by the last part of its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launches(Vec<String>);

impl Launches {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Their names, in order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

impl Display for Launches {
    /// `3: 1 × elemwise_fuse, 2 × gather_kernel`
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in &self.0 {
            *counts.entry(name).or_default() += 1;
        }
        write!(f, "{}", self.0.len())?;
        for (index, (name, count)) in counts.iter().enumerate() {
            let before = if index == 0 { ": " } else { ", " };
            write!(f, "{before}{count} × {name}")?;
        }
        Ok(())
    }
}

/// What `work` gives, and the kernels that were started meanwhile.
pub fn watched<T>(work: impl FnOnce() -> T) -> (T, Launches) {
    let notes = Arc::new(Notes::default());
    let watching = LaunchObservation::new(Arc::clone(&notes) as Arc<dyn LaunchObserver>);
    let result = work();
    drop(watching);
    let names = notes.0.lock().unwrap_or_else(PoisonError::into_inner);
    let short = names.iter().map(|name| short(name).to_owned()).collect();
    (result, Launches(short))
}

#[derive(Default)]
struct Notes(Mutex<Vec<&'static str>>);

impl LaunchObserver for Notes {
    fn launched(&self, kernel: &'static str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.push(kernel);
    }
}

/// `a::b::Kernel<x::y>` → `b::Kernel`
fn short(name: &str) -> &str {
    let path = name.split('<').next().unwrap_or(name);
    let from = path.rmatch_indices("::").nth(1).map_or(0, |(at, _)| at + 2);
    &path[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shortened_and_counted() {
        assert_eq!(short("a::b::c::Kernel<x::y::Z>"), "c::Kernel");
        assert_eq!(short("Kernel"), "Kernel");
        let names = ["copy", "sum", "copy"].map(str::to_owned);
        let launches = Launches(names.to_vec());
        assert_eq!(launches.to_string(), "3: 2 × copy, 1 × sum");
        assert_eq!(Launches::default().to_string(), "0");
    }
}
