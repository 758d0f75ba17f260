//! How a failure reaches the person: its words, its causes, its exit code.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use crate::{output, panics};

/// What a verb returns: how it ended, or why it could not.
pub(crate) type Outcome = anyhow::Result<End>;

/// How a verb ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It did what was asked.
    Done,
    /// It went through, but part of it failed, which has been said already.
    Incomplete,
    /// A signal of this number stopped it.
    Interrupted(i32),
}

/// An error in what was typed or configured rather than in the doing: exit code 2.
///
/// It reads like the error inside it and has the same causes.
#[derive(Debug)]
struct Usage(anyhow::Error);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for Usage {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Marks `error` as one of usage, for `map_err`.
pub(crate) fn usage(error: impl Into<anyhow::Error>) -> anyhow::Error {
    anyhow::Error::new(Usage(error.into()))
}

/// Runs a verb, says what went wrong and gives the exit code.
pub(crate) fn exit_code(verb: impl FnOnce() -> Outcome) -> ExitCode {
    ExitCode::from(code(verb))
}

/// [`exit_code`] as a number.
pub(crate) fn code(verb: impl FnOnce() -> Outcome) -> u8 {
    match catch_unwind(AssertUnwindSafe(verb)) {
        Ok(Ok(End::Done)) => 0,
        Ok(Ok(End::Incomplete)) => 1,
        Ok(Ok(End::Interrupted(signal))) => 128 + u8::try_from(signal).unwrap_or(2),
        Ok(Err(error)) if reader_left(&error) => 0,
        Ok(Err(error)) => {
            say(&error);
            if error.chain().any(|cause| cause.is::<Usage>()) {
                2
            } else {
                1
            }
        }
        Err(panic) => {
            let text = output::error_line(&panics::told(&*panic));
            let _ = anstream::stderr().write_all(text.as_bytes());
            1
        }
    }
}

/// Prints `error: …` and a line `caused by: …` for every cause that says something new.
pub(crate) fn say(error: &anyhow::Error) {
    let mut text = String::new();
    let mut above = String::new();
    for (depth, cause) in error.chain().enumerate() {
        // What has several lines stays together under its beginning.
        let message = cause.to_string().replace('\n', "\n  ");
        if depth == 0 {
            text = output::error_line(&message);
        } else if !above.contains(&message) {
            text.push_str(&format!("  caused by: {message}\n"));
        }
        above = message;
    }
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// Whether the failure is only that the reader of stdout went away, as `head` does.
pub(crate) fn reader_left(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_usage_error_keeps_its_words_and_causes() {
        let inner = Err::<(), _>(io::Error::other("the reason"))
            .context("the matter")
            .unwrap_err();
        let error = usage(inner);
        let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
        assert_eq!(chain, ["the matter", "the reason"]);
        assert_eq!(exit_code(|| Err(error)), ExitCode::from(2));
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let error = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe)).context("x");
        assert_eq!(exit_code(|| Err(error)), ExitCode::from(0));
    }

    #[test]
    fn signals_and_panics_have_their_codes() {
        assert_eq!(exit_code(|| Ok(End::Interrupted(15))), ExitCode::from(143));
        assert_eq!(exit_code(|| panic!("on purpose")), ExitCode::from(1));
    }
}
