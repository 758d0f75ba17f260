//! Memory for results: buffers that come back.
//!
//! A training step asks for the same few dozen large buffers every time. Fresh memory costs a page
//! fault every 4 KiB (about 1 ms for the 16 MB of one activation), so buffers are given back to a pool
//! of the process when dropped, and handed out again:
//!
//! ```text
//! classes of size   256 bytes · {4, 5, 6, 7}/4 · 2^k        at most a quarter too large
//! kept              of each class as many as were in use at once during the last two windows
//!                   of 4096 requests; what exceeds that goes back to the system
//! ```
//!
//! Buffers of 2 MiB and more lie in large pages, where the system has them.
//!
//! So a loop whose steps are alike takes fresh memory in its first step only. What is held is bounded by
//! the sum over the classes of their largest use at once, whatever sizes a program asks for: where all
//! differ, and every class has been used once, that is 6.5 times the largest of them at most. [`release`] gives
//! back what waits; nothing else does while nobody asks. What lasts, as the slots of an optimizer do, is
//! [`Fixed`]: of exactly its size, and not from the pool.

use std::sync::{Mutex, MutexGuard, PoisonError};

mod buffer;
mod pool;
mod system;

pub use buffer::{Buffer, Fixed, Number};
use pool::Pool;
pub(crate) use system::Memory;

/// Every buffer starts at a multiple of this: a cache line, and the widest vector.
pub const ALIGNMENT: usize = 64;

/// The smallest class in bytes.
const SMALLEST: usize = 256;

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

/// What the pool holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In buffers that are in use.
    pub in_use: usize,
    /// In use and waiting.
    pub held: usize,
    /// The largest `held` since the start or the last [`reset_peak`].
    pub peak: usize,
    /// How many buffers were taken from the system, ever.
    pub fresh: u64,
    /// How many buffers were asked for, ever.
    pub requests: u64,
}

/// What the pool holds now.
#[must_use]
pub fn usage() -> Usage {
    pool().usage
}

/// Measure [`Usage::peak`] from now on.
pub fn reset_peak() {
    let mut pool = pool();
    pool.usage.peak = pool.usage.held;
}

/// Give everything that waits back to the system: after training, before something else.
pub fn release() {
    pool().release(|class| class.in_use);
}

/// A panic elsewhere cannot leave the pool half changed: nothing in it panics between two writes, for
/// sizes that cannot be are refused before.
fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The class that a request belongs to, in bytes: four to the octave.
fn class_of(bytes: usize) -> Option<usize> {
    let bytes = bytes.max(SMALLEST);
    let step = 1 << (bytes.ilog2() - 2);
    bytes.checked_next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::system::LARGE_PAGE;
    use super::*;

    #[test]
    fn classes_are_at_most_a_quarter_too_large() {
        for bytes in (1..5000).chain([1 << 20, (1 << 20) + 1, 17_000_000]) {
            let class = class_of(bytes).unwrap();
            assert!(class >= bytes && class.is_multiple_of(ALIGNMENT), "{bytes}");
            assert!(bytes < SMALLEST || class <= bytes + bytes / 4, "{bytes}");
            assert_eq!(class_of(class), Some(class));
        }
    }

    /// 2⁶² f32 are 2⁶⁴ bytes, which is 0 where it is not looked at.
    #[test]
    fn sizes_that_cannot_be_are_refused_and_leave_the_pool_as_it_was() {
        let before = usage().requests;
        for len in [1 << 62, (1 << 62) + 1, usize::MAX, usize::MAX / 4, 1 << 61] {
            let refused = std::panic::catch_unwind(|| Buffer::<f32>::new(len).len());
            assert!(refused.is_err(), "{len}");
        }
        assert_eq!(class_of(usize::MAX), None);
        assert!(usage().requests >= before);
        assert_eq!(Buffer::<f32>::new(10).len(), 10);
    }

    #[test]
    fn buffers_are_aligned_and_their_own() {
        let mut buffers: Vec<Buffer> = (0..40).map(|i| Buffer::new(i * 37)).collect();
        for (i, buffer) in buffers.iter_mut().enumerate() {
            assert_eq!(buffer.len(), i * 37);
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
            buffer.fill(i as f32);
        }
        let large = Buffer::<f32>::new(1_500_000);
        assert_eq!(large.as_ptr() as usize % LARGE_PAGE, 0);
        assert_eq!(large.len(), 1_500_000);
        for (i, buffer) in buffers.iter().enumerate() {
            assert!(buffer.iter().all(|x| *x == i as f32));
        }
        let bytes = Buffer::<u8>::copy_of(&[7; 300]);
        assert_eq!((bytes.len(), bytes[299]), (300, 7));
        let mut copy = buffers[3].clone();
        copy[0] = 9.0;
        assert_eq!(buffers[3][0], 3.0);
        assert!(Buffer::<f32>::zeros(1000).iter().all(|x| *x == 0.0));
    }

    #[test]
    fn threads_share_it() {
        std::thread::scope(|scope| {
            for t in 0..4u8 {
                scope.spawn(move || {
                    for i in 0..500 {
                        let mut a = Buffer::new(100 + i);
                        let mut b = Buffer::new(100 + i);
                        a.fill(f32::from(t));
                        b.fill(f32::from(t) + 0.5);
                        assert!(a.iter().all(|x| *x == f32::from(t)));
                    }
                });
            }
        });
        let usage = usage();
        assert!(usage.held >= usage.in_use && usage.fresh <= usage.requests);
    }
}
