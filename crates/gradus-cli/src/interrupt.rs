//! Ctrl-C and SIGTERM: the first asks the run to finish its batch and save, the second leaves at once.

use anyhow::Context;
use gradus_train::StopSignal;

use crate::output;

/// Listens for signals in a thread of its own until the program ends; says so unless `quiet`.
///
/// # Errors
/// When the operating system refuses the handler.
#[cfg(unix)]
pub(crate) fn listen(stop: StopSignal, quiet: bool) -> anyhow::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};

    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
        .context("cannot listen for Ctrl-C")?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if stop.requested().is_some() {
                    // Leaves without unwinding: whatever is being written is written atomically.
                    signal_hook::low_level::exit(128 + signal);
                }
                stop.request(signal);
                output::say(
                    quiet,
                    "\nstopping: finishing this batch, then saving (once more to leave at once)",
                );
            }
        })
        .context("cannot start the thread that listens for Ctrl-C")?;
    Ok(())
}

/// Where there are no such signals, Ctrl-C ends the program; the checkpoints written before are intact.
#[cfg(not(unix))]
pub(crate) fn listen(_stop: StopSignal, _quiet: bool) -> anyhow::Result<()> {
    Ok(())
}
