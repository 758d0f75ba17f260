//! Panics: kept until it is known whether anyone catches them, then told for what they are.
//!
//! Burn's GPU backends report what a device cannot do by panics: memory that ran out, a kernel that the
//! driver refuses, a device that was lost. That is no bug in Gradus, and the person can do something about
//! it. It is known by where the panic comes from:
//!
//! | sign | example |
//! |---|---|
//! | the source file is one of a GPU's crates | `…/cubecl-wgpu-0.11.3/src/compute/device_poison.rs` |
//! | the thread serves a device | `DSD-6-0` of cubecl |
//! | the words of Burn where results are read, which is where it reports what failed before | `Error while reading data: …` |

use std::any::Any;
use std::sync::{Mutex, PoisonError};

/// How many are kept; more than a few are one failure many times.
const KEPT: usize = 16;

/// The crates between Burn's tensors and a device, by the beginning of their names.
const GPU_CRATES: [&str; 11] = [
    "burn-cubecl",
    "burn-cuda",
    "burn-fusion",
    "burn-rocm",
    "burn-wgpu",
    "cubecl",
    "cubek",
    "cudarc",
    "naga",
    "tracel",
    "wgpu",
];

/// What Burn says where a result is read that was never computed.
const READING: &str =
    "Error while reading data: use `try_into_data` instead to catch the error at runtime";

/// One that happened.
#[derive(Clone, Debug, Default, PartialEq)]
struct Panic {
    message: String,
    /// `file:line:column`.
    place: String,
    /// The name of its thread.
    thread: String,
}

static SEEN: Mutex<Vec<Panic>> = Mutex::new(Vec::new());

/// Keeps panics instead of printing them at once: one that is caught on the way (a missing driver, a
/// loader's worker) is reported by whoever caught it. With `RUST_BACKTRACE` set, they are printed too.
pub(crate) fn remember() {
    let default = std::panic::take_hook();
    let loud = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string);
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() == KEPT {
            seen.remove(0);
        }
        seen.push(Panic {
            message: panic.payload_as_str().unwrap_or("no message").to_owned(),
            place: place.unwrap_or_default(),
            thread: std::thread::current().name().unwrap_or_default().to_owned(),
        });
        drop(seen);
        if loud {
            default(panic);
        }
    }));
}

/// What to say of a panic with this payload that nobody caught.
pub(crate) fn told(payload: &(dyn Any + Send)) -> String {
    let message = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    words(&seen, message)
}

/// The words for the panic with this message, the last of several; `seen` are those that happened.
fn words(seen: &[Panic], message: &str) -> String {
    let known = seen.iter().rfind(|panic| panic.message == message);
    let unknown = Panic {
        message: message.to_owned(),
        ..Panic::default()
    };
    let panic = known.unwrap_or(&unknown);
    let of_device = |panic: &&Panic| panic.of_device();
    match Some(panic).filter(of_device).or_else(|| {
        // Whoever waits for a thread that has panicked only says that nobody answers.
        let waited = ["RecvError", "SendError", "PoisonError", "disconnected"];
        let lost = waited.iter().any(|word| panic.message.contains(word));
        seen.iter().rfind(of_device).filter(|_| lost)
    }) {
        Some(panic) => panic.as_device_failure(),
        None => panic.as_bug(),
    }
}

impl Panic {
    /// Whether it is a device that failed.
    fn of_device(&self) -> bool {
        // With its version: `ash` alone may be a person.
        let folder_of = |part: &str, name: &str| {
            let rest = part.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with('-'))
        };
        self.message.starts_with(READING)
            || ["DSU-", "DSD-"]
                .iter()
                .any(|of| self.thread.starts_with(of))
            || self
                .place
                .split(['/', '\\'])
                .any(|part| GPU_CRATES.iter().any(|name| folder_of(part, name)))
    }

    fn as_bug(&self) -> String {
        format!(
            "this is a bug in Gradus {}: {}{}\n  Please report it with the command you typed; \
             RUST_BACKTRACE=1 shows where it came from. Checkpoints written before are intact.",
            env!("CARGO_PKG_VERSION"),
            self.message,
            self.at()
        )
    }

    fn as_device_failure(&self) -> String {
        let message = self.reason();
        let lower = message.to_lowercase();
        let full = [
            "out of memory",
            "out of device memory",
            "out-of-memory",
            "out_of_memory",
        ]
        .iter()
        .any(|words| lower.contains(words));
        let (what, first) = if full {
            (
                "the device has no memory left",
                "Try a smaller --batch-size",
            )
        } else {
            (
                "the device or its driver failed",
                "Try again, with a smaller --batch-size",
            )
        };
        format!(
            "{what}: {message}{}\n  {first}, or another --device (`gradus doctor` tests each). Checkpoints \
             written before are intact: `gradus train --resume RUN` goes on with a run, on any device. \
             RUST_BACKTRACE=1 shows where it came from.",
            self.at()
        )
    }

    /// The message without the frames of a backtrace and the advice for programmers.
    fn reason(&self) -> String {
        let message = self.message.strip_prefix(READING).unwrap_or(&self.message);
        let frame = |line: &str| {
            let number: String = line.chars().take_while(char::is_ascii_digit).collect();
            !number.is_empty() && line[number.len()..].starts_with(": ")
        };
        let lines: Vec<&str> = message
            .trim_start_matches(':')
            .lines()
            .map(str::trim)
            .take_while(|line| !frame(line) && !line.to_lowercase().starts_with("backtrace"))
            .filter(|line| !line.is_empty())
            .collect();
        lines.join("\n")
    }

    /// ` (place)`, where it is known.
    fn at(&self) -> String {
        match self.place.as_str() {
            "" => String::new(),
            place => format!(" ({place})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str = "registry/src/index.crates.io-1949cf8c6b5b557f";

    fn panic(message: &str, place: &str, thread: &str) -> Panic {
        Panic {
            message: message.to_owned(),
            place: place.to_owned(),
            thread: thread.to_owned(),
        }
    }

    fn said(panics: &[Panic]) -> String {
        words(panics, &panics.last().unwrap().message)
    }

    #[test]
    fn a_device_is_known_by_crate_thread_or_words() {
        let wgpu = format!("{REGISTRY}/cubecl-wgpu-0.11.3/src/compute/device_poison.rs:42:17");
        let kernel = format!("{REGISTRY}/cubek-matmul-0.3.1/src/launch/base.rs:1:1");
        let windows = r"registry\cudarc-0.19.10\src\driver\result.rs:1:1";
        let read = format!("{READING}: An error happened during execution\nCaused by:\n  x");
        for failure in [
            panic("wgpu error: Validation Error", &wgpu, "main"),
            panic("no tile size fits", &kernel, "main"),
            panic("illegal address", windows, "main"),
            panic("index out of bounds", "src/mine.rs:1:1", "DSD-6-0"),
            panic(&read, "crates/gradus-train/src/evaluate.rs:7:1", "main"),
        ] {
            let text = said(&[failure]);
            assert!(
                text.starts_with("the device or its driver failed: "),
                "{text}"
            );
            for advice in ["smaller --batch-size", "gradus doctor", "--resume RUN"] {
                assert!(text.contains(advice), "{text}");
            }
            assert!(!text.contains("bug"), "{text}");
        }
    }

    #[test]
    fn everything_else_is_ours() {
        let flex = format!("{REGISTRY}/burn-flex-0.22.1/src/ops/matmul.rs:5:1");
        for bug in [
            panic("on purpose", "crates/gradus-cli/src/train.rs:1:2", "main"),
            panic("shapes do not fit", &flex, "main"),
            panic("x", "cubeclub/src/main.rs:1:1", "DSP"),
            panic(
                "called `Result::unwrap()` on an `Err` value: RecvError",
                "a.rs:1:1",
                "main",
            ),
        ] {
            let text = said(std::slice::from_ref(&bug));
            assert!(text.starts_with("this is a bug in Gradus"), "{text}");
            assert!(
                text.contains(&bug.message) && text.contains(&bug.place),
                "{text}"
            );
        }
        // One that nobody heard of.
        assert!(words(&[], "lost").contains("bug in Gradus"));
    }

    #[test]
    fn of_several_the_one_that_was_not_caught_or_its_cause_is_told() {
        let server = format!("{REGISTRY}/cubecl-cuda-0.11.3/src/compute/server.rs:575:9");
        let caught = panic("no such kernel", &server, "DSD-0-0");
        let ours = panic("on purpose", "crates/a.rs:1:1", "main");
        assert!(said(&[caught.clone(), ours.clone()]).contains("bug in Gradus"));
        // What the unwinding brings about comes after its cause.
        let after = panic("a drop", "crates/b.rs:1:1", "main");
        assert!(words(&[ours, after], "on purpose").contains("crates/a.rs"));
        let waiting = panic("value: RecvError", "crates/a.rs:1:1", "main");
        assert!(said(&[caught, waiting]).contains("no such kernel"));
    }

    #[test]
    fn memory_that_ran_out_is_said_without_frames() {
        let message = format!(
            "{READING}: An error happened during execution\nCaused by:\n  out of device memory allocating \
             4294967296 bytes\nBacktrace:\n   0: cubecl_common::capture\n   1: main"
        );
        let text = said(&[panic(&message, "crates/a.rs:1:1", "main")]);
        assert!(
            text.starts_with("the device has no memory left: An error"),
            "{text}"
        );
        assert!(
            text.contains("4294967296 bytes (crates/a.rs:1:1)"),
            "{text}"
        );
        assert!(
            !text.contains("try_into_data") && !text.contains("capture"),
            "{text}"
        );
        let frames = panic(
            "full\n   0: a::b\n             at x.rs",
            "wgpu-30.0.1/x.rs:1:1",
            "main",
        );
        assert!(said(&[frames]).contains("failed: full (wgpu"));
    }
}
