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
//! So a loop whose steps are alike takes fresh memory in its first step only, and never holds more than
//! twice what it needs: the sum over the classes of their largest use.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Every buffer starts at a multiple of this: a cache line, and the widest vector.
pub const ALIGNMENT: usize = 64;

/// The smallest class in bytes.
const SMALLEST: usize = 256;
/// A large page of x86-64 and of most other processors.
const LARGE_PAGE: usize = 1 << 21;
/// Requests after which the classes look back.
const WINDOW: u64 = 4096;

static POOL: Mutex<Pool> = Mutex::new(Pool {
    classes: BTreeMap::new(),
    requests: 0,
    fresh: 0,
    in_use: 0,
    held: 0,
    peak: 0,
});

/// A number of which every pattern of bits is one, so that memory can be used again for any of them.
///
/// # Safety
/// True only of types without invalid bits and without padding, of alignment ≤ [`ALIGNMENT`].
pub unsafe trait Number: Copy + Default + Send + Sync + 'static {}

// SAFETY: any four bytes are a number.
unsafe impl Number for f32 {}
// SAFETY: any byte is one.
unsafe impl Number for u8 {}

/// `len` numbers at a multiple of [`ALIGNMENT`], from the pool and back to it.
///
/// The numbers are whatever was there before, 0 in fresh memory: write before you read.
#[derive(Debug)]
pub struct Buffer<T: Number = f32> {
    memory: Memory,
    len: usize,
    numbers: PhantomData<T>,
}

// SAFETY: a buffer owns its memory alone, like a `Box<[T]>`.
unsafe impl<T: Number> Send for Buffer<T> {}
// SAFETY: shared references only read.
unsafe impl<T: Number> Sync for Buffer<T> {}

impl<T: Number> Buffer<T> {
    /// Room for `len` numbers, with whatever they are.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let memory = pool().take(class_of(len * size_of::<T>()));
        Self {
            memory,
            len,
            numbers: PhantomData,
        }
    }

    /// The same with all numbers 0.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::new(len);
        buffer.fill(T::default());
        buffer
    }

    /// A copy of these numbers.
    #[must_use]
    pub fn copy_of(values: &[T]) -> Self {
        let mut buffer = Self::new(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl<T: Number> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the memory holds `len` numbers (its class is at least as large), was cleared when it was
        // fresh, and belongs to this buffer alone until it is dropped.
        unsafe { std::slice::from_raw_parts(self.memory.start.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` excludes other references.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self::copy_of(self)
    }
}

impl<T: Number> Drop for Buffer<T> {
    fn drop(&mut self) {
        pool().give(self.memory);
    }
}

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
    let pool = pool();
    Usage {
        in_use: pool.in_use,
        held: pool.held,
        peak: pool.peak,
        fresh: pool.fresh,
        requests: pool.requests,
    }
}

/// Measure [`Usage::peak`] from now on.
pub fn reset_peak() {
    let mut pool = pool();
    pool.peak = pool.held;
}

/// Give everything that waits back to the system: after training, before something else.
pub fn release() {
    pool().release(|class| class.in_use);
}

/// A panic elsewhere cannot leave the pool half changed: nothing in it panics between two writes.
fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The class that a request belongs to, in bytes: four to the octave.
fn class_of(bytes: usize) -> usize {
    let bytes = bytes.max(SMALLEST);
    let step = 1 << (bytes.ilog2() - 2);
    bytes.next_multiple_of(step)
}

/// Memory of a class, cleared when fresh, and where it starts to be aligned.
#[derive(Clone, Copy, Debug)]
struct Memory {
    base: NonNull<u8>,
    start: NonNull<u8>,
    class: usize,
}

// SAFETY: it is only an address; who owns it says `Buffer` or `Class`.
unsafe impl Send for Memory {}

impl Memory {
    /// Up to a large page there is room to align by hand: an allocator that is asked for a large
    /// alignment would clear the memory itself.
    fn layout(class: usize) -> Option<Layout> {
        if class >= LARGE_PAGE {
            return Layout::from_size_align(class, LARGE_PAGE).ok();
        }
        Layout::from_size_align(class.checked_add(ALIGNMENT)?, 16).ok()
    }

    fn fresh(class: usize) -> Self {
        let Some(layout) = Self::layout(class) else {
            // What `Vec` does with such a request.
            panic!("capacity overflow: {class} bytes");
        };
        let large = class >= LARGE_PAGE;
        // SAFETY: the layout is not empty.
        let base = unsafe {
            if large {
                alloc(layout)
            } else {
                alloc_zeroed(layout)
            }
        };
        let Some(base) = NonNull::new(base) else {
            handle_alloc_error(layout)
        };
        if large {
            ask_for_large_pages(base, class);
            // SAFETY: as many bytes as were allocated. They are cleared after the advice, which is about
            // pages that are yet to be touched.
            unsafe { base.write_bytes(0, class) };
        }
        // SAFETY: a large page is aligned; otherwise the offset is below ALIGNMENT, by which the
        // allocation is larger than the class.
        let start = unsafe { base.add(base.as_ptr().align_offset(ALIGNMENT)) };
        Self { base, start, class }
    }

    /// # Safety
    /// Nobody may use the memory afterwards.
    unsafe fn free(self) {
        if let Some(layout) = Self::layout(self.class) {
            // SAFETY: `fresh` allocated `base` with this layout; the caller says it is not used again.
            unsafe { dealloc(self.base.as_ptr(), layout) };
        }
    }
}

/// Tell the system that this memory is used as a whole. With pages of 2 MiB instead of 4 KiB, passes over
/// activations are a quarter faster here: the processor finds and fetches ahead what follows.
#[cfg(all(target_os = "linux", not(miri)))]
fn ask_for_large_pages(start: NonNull<u8>, len: usize) {
    // SAFETY: the range is an allocation of ours that starts at a page; the advice changes no contents.
    // Whether it is followed is the system's affair.
    unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn ask_for_large_pages(_start: NonNull<u8>, _len: usize) {}

/// The buffers of one size.
#[derive(Default)]
struct Class {
    /// Those that wait, the last one used on top.
    idle: Vec<Memory>,
    in_use: usize,
    /// The most in use at once in this window and in the one before.
    most: [usize; 2],
}

struct Pool {
    classes: BTreeMap<usize, Class>,
    requests: u64,
    fresh: u64,
    in_use: usize,
    held: usize,
    peak: usize,
}

impl Pool {
    fn take(&mut self, size: usize) -> Memory {
        self.requests += 1;
        if self.requests.is_multiple_of(WINDOW) {
            self.look_back();
        }
        let class = self.classes.entry(size).or_default();
        class.in_use += 1;
        class.most[0] = class.most[0].max(class.in_use);
        self.in_use += size;
        if let Some(memory) = class.idle.pop() {
            return memory;
        }
        self.fresh += 1;
        self.held += size;
        self.peak = self.peak.max(self.held);
        Memory::fresh(size)
    }

    fn give(&mut self, memory: Memory) {
        self.in_use -= memory.class;
        let class = self.classes.entry(memory.class).or_default();
        class.in_use -= 1;
        class.idle.push(memory);
    }

    /// A window ends.
    fn look_back(&mut self) {
        self.release(|class| class.most[0].max(class.most[1]));
        for class in self.classes.values_mut() {
            class.most = [class.in_use, class.most[0]];
        }
    }

    /// Keep of each class only so many, counting those in use.
    fn release(&mut self, keep: impl Fn(&Class) -> usize) {
        for (size, class) in &mut self.classes {
            let idle = keep(class).saturating_sub(class.in_use);
            while class.idle.len() > idle {
                if let Some(memory) = class.idle.pop() {
                    // SAFETY: it waited in the pool, so no buffer owns it, and here it is forgotten.
                    unsafe { memory.free() };
                    self.held -= size;
                }
            }
        }
        self.classes
            .retain(|_, class| class.in_use > 0 || !class.idle.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_at_most_a_quarter_too_large() {
        for bytes in (1..5000).chain([1 << 20, (1 << 20) + 1, 17_000_000]) {
            let class = class_of(bytes);
            assert!(class >= bytes && class.is_multiple_of(ALIGNMENT), "{bytes}");
            assert!(bytes < SMALLEST || class <= bytes + bytes / 4, "{bytes}");
            assert_eq!(class_of(class), class);
        }
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

    /// A pool of one's own: the other tests use the common one.
    fn private() -> Pool {
        Pool {
            classes: BTreeMap::new(),
            requests: 0,
            fresh: 0,
            in_use: 0,
            held: 0,
            peak: 0,
        }
    }

    #[test]
    fn the_second_step_takes_nothing_fresh() {
        let mut pool = private();
        let sizes = [5000, 7000, 5000, 100_000];
        for step in 0..3 {
            let taken: Vec<Memory> = sizes.iter().map(|s| pool.take(class_of(*s))).collect();
            let total: usize = sizes.iter().map(|s| class_of(*s)).sum();
            assert_eq!((pool.in_use, pool.held), (total, total));
            taken.into_iter().for_each(|memory| pool.give(memory));
            assert_eq!((pool.in_use, pool.held), (0, total), "{step}");
            assert_eq!(pool.fresh, 4);
        }
        pool.release(|class| class.in_use);
        assert_eq!((pool.held, pool.classes.len()), (0, 0));
    }

    #[test]
    fn what_is_no_longer_needed_goes_back() {
        let mut pool = private();
        let big = 1 << 20;
        let many: Vec<Memory> = (0..8).map(|_| pool.take(big)).collect();
        many.into_iter().for_each(|memory| pool.give(memory));
        assert_eq!(pool.held, 8 * big);
        // Two at once from now on: in the third window that is all that is remembered.
        for _ in 0..3 * WINDOW {
            let pair = [pool.take(big), pool.take(big)];
            pair.into_iter().for_each(|memory| pool.give(memory));
        }
        assert_eq!((pool.held, pool.fresh), (2 * big, 8));
        pool.release(|_| 0);
        assert_eq!(pool.held, 0);
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
