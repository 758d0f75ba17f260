//! Where the time goes: what each operation took, by name and shape.
//!
//! ```text
//! recording off   span = one relaxed load of an atomic
//! recording on    span = two clock readings and one entry in a list
//! ```
//!
//! Operations enter with [`span`]; `gradus bench profile` records a step and adds up. Spans may lie
//! inside each other (a gradient that calls another operation): the inner time counts for both, and
//! [`Span::own`] is what remains to the outer. On a device that computes behind the program's back (a
//! GPU) a span is the time to launch, not to compute.
//!
//! ```
//! use gradus_kernels::profile;
//! profile::start();
//! {
//!     let _span = profile::span("sum", || vec![4]);
//!     let _inner = profile::span("load", Vec::new);
//! }
//! let spans = profile::finish();
//! assert_eq!(spans.len(), 2);
//! assert_eq!((spans[0].name, spans[0].shape.as_slice()), ("sum", [4].as_slice()));
//! assert!(spans[0].seconds >= spans[1].seconds);
//! ```

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

static RECORDING: AtomicBool = AtomicBool::new(false);
/// How many recordings there have been: a span belongs to the one that it was entered in.
static NUMBER: AtomicUsize = AtomicUsize::new(0);
static SPANS: Mutex<Vec<Span>> = Mutex::new(Vec::new());

thread_local! {
    /// The open span of this thread: its recording, and its place in the list.
    static OPEN: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// One operation that ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// What it was, such as `conv2d` or `conv2d_weight_gradient`.
    pub name: &'static str,
    /// The sizes that decide how much work it was.
    pub shape: Vec<usize>,
    /// The place of the span that it lies inside, if any.
    pub outer: Option<usize>,
    /// From entering to leaving.
    pub seconds: f64,
    /// `seconds` without the spans inside.
    pub own: f64,
}

/// Leaves the operation when dropped.
#[derive(Debug)]
#[must_use = "a span ends when it is dropped: give it a name such as `_span`"]
pub struct Guard(Option<Running>);

#[derive(Debug)]
struct Running {
    recording: usize,
    place: usize,
    /// What was open before.
    outer: Option<(usize, usize)>,
    begun: Instant,
}

/// Whether spans are written down.
#[must_use]
pub fn is_recording() -> bool {
    RECORDING.load(Ordering::Relaxed)
}

/// Forgets what was recorded and records from now on, on all threads. There is one recording in a
/// process.
pub fn start() {
    let mut spans = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
    spans.clear();
    NUMBER.fetch_add(1, Ordering::Relaxed);
    drop(spans);
    RECORDING.store(true, Ordering::Relaxed);
}

/// Ends the recording and gives its spans, in the order in which they were entered.
#[must_use]
pub fn finish() -> Vec<Span> {
    RECORDING.store(false, Ordering::Relaxed);
    std::mem::take(&mut *SPANS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The spans recorded so far: their number is a mark that divides a recording.
#[must_use]
pub fn recorded() -> usize {
    SPANS.lock().unwrap_or_else(PoisonError::into_inner).len()
}

/// Enters an operation; `shape` is asked only while recording.
pub fn span(name: &'static str, shape: impl FnOnce() -> Vec<usize>) -> Guard {
    if !is_recording() {
        return Guard(None);
    }
    let (outer, shape) = (OPEN.get(), shape());
    // The number changes only under the lock.
    let (recording, place) = {
        let mut spans = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
        let recording = NUMBER.load(Ordering::Relaxed);
        let inside = outer.filter(|(of, _)| *of == recording);
        spans.push(Span {
            name,
            shape,
            outer: inside.map(|(_, place)| place),
            seconds: 0.0,
            own: 0.0,
        });
        (recording, spans.len() - 1)
    };
    OPEN.set(Some((recording, place)));
    Guard(Some(Running {
        recording,
        place,
        outer,
        begun: Instant::now(),
    }))
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(running) = self.0.take() else {
            return;
        };
        let seconds = running.begun.elapsed().as_secs_f64();
        OPEN.set(running.outer);
        let mut spans = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
        // A span may outlive its recording; then its place is gone, or another's.
        if running.recording != NUMBER.load(Ordering::Relaxed) {
            return;
        }
        let Some(span) = spans.get_mut(running.place) else {
            return;
        };
        span.seconds = seconds;
        span.own += seconds;
        if let Some(outer) = span.outer.and_then(|place| spans.get_mut(place)) {
            outer.own -= seconds;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is one recording in a process, so all of it is tested in one test.
    #[test]
    fn spans_nest_and_cost_nothing_when_off() {
        drop(span("before", || {
            panic!("the shape is asked only while recording")
        }));
        start();
        assert!(is_recording());
        {
            let _outer = span("outer", || vec![2, 3]);
            std::thread::sleep(std::time::Duration::from_millis(2));
            let _inner = span("inner", Vec::new);
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert_eq!(recorded(), 2);
        let late = span("late", Vec::new);
        let spans = finish();
        drop(late);
        assert!(!is_recording());
        assert_eq!(finish(), []);
        let names: Vec<_> = spans.iter().map(|span| span.name).collect();
        assert_eq!(names, ["outer", "inner", "late"]);
        let outers: Vec<_> = spans.iter().map(|span| span.outer).collect();
        assert_eq!(outers, [None, Some(0), None]);
        assert!(spans[0].seconds >= spans[1].seconds + 0.002);
        assert!((spans[0].own + spans[1].own - spans[0].seconds).abs() < 1e-12);
        assert_eq!(spans[2].seconds, 0.0);
        // What was entered in one recording does not count in the next.
        start();
        let late = span("late", Vec::new);
        start();
        let early = span("early", Vec::new);
        drop(late);
        assert_eq!(recorded(), 1);
        drop(early);
        let spans = finish();
        assert_eq!((spans[0].name, spans[0].outer), ("early", None));
        assert!((spans[0].own - spans[0].seconds).abs() < 1e-12);
    }
}
