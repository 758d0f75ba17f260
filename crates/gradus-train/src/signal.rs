//! A request to stop, which any thread or signal handler may make.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// Set once by whoever wants the run to stop; read by the trainer after every batch.
///
/// The trainer then finishes the batch, saves a checkpoint and returns. The number is a POSIX signal
/// number, so that a program can exit with 128 + n as shells expect (130 for Ctrl-C).
#[derive(Clone, Debug, Default)]
pub struct StopSignal(Arc<AtomicI32>);

impl StopSignal {
    /// A signal that nobody has given yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the run to stop; `signal` is 2 for an interrupt, 15 for a termination.
    pub fn request(&self, signal: i32) {
        self.0.store(signal, Ordering::SeqCst);
    }

    /// The signal that was given, if any.
    #[must_use]
    pub fn requested(&self) -> Option<i32> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal),
        }
    }
}
