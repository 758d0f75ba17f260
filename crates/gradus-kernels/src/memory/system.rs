//! Memory from the system: aligned, and in large pages where it is large.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::ALIGNMENT;

/// A large page of x86-64 and of most other processors.
pub(super) const LARGE_PAGE: usize = 1 << 21;

/// Memory of the system, and where it starts to be aligned. Freed by hand: it is an address only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: it is only an address; who owns it says whoever keeps it.
unsafe impl Send for Memory {}

impl Memory {
    /// The layout of so many bytes, if there can be so many.
    ///
    /// Up to a large page there is room to align by hand: an allocator that is asked for a large
    /// alignment would clear the memory itself.
    pub(super) fn layout(size: usize) -> Option<Layout> {
        if size >= LARGE_PAGE {
            return Layout::from_size_align(size, LARGE_PAGE).ok();
        }
        Layout::from_size_align(size.checked_add(ALIGNMENT)?, 16).ok()
    }

    /// So many bytes, all 0.
    ///
    /// # Panics
    /// As `Vec::with_capacity`, if there cannot be so many.
    pub(crate) fn cleared(size: usize) -> Self {
        let Some(layout) = Self::layout(size) else {
            panic!("capacity overflow: {size} bytes");
        };
        if size >= LARGE_PAGE {
            let this = Self::uninitialised(size);
            // SAFETY: as many bytes as were allocated. They are cleared after the advice, which is about
            // pages that are yet to be touched.
            unsafe { this.start.write_bytes(0, size) };
            return this;
        }
        // SAFETY: the layout is not empty.
        Self::new(unsafe { alloc_zeroed(layout) }, layout, size)
    }

    /// So many bytes that are yet to be written.
    ///
    /// # Panics
    /// As [`cleared`](Self::cleared).
    pub(crate) fn uninitialised(size: usize) -> Self {
        let Some(layout) = Self::layout(size) else {
            panic!("capacity overflow: {size} bytes");
        };
        // SAFETY: the layout is not empty.
        let this = Self::new(unsafe { alloc(layout) }, layout, size);
        if size >= LARGE_PAGE {
            ask_for_large_pages(this.start, size);
        }
        this
    }

    fn new(base: *mut u8, layout: Layout, size: usize) -> Self {
        let Some(base) = NonNull::new(base) else {
            handle_alloc_error(layout)
        };
        // SAFETY: a large page is aligned; otherwise the offset is below ALIGNMENT, by which the
        // allocation is larger than its size.
        let start = unsafe { base.add(base.as_ptr().align_offset(ALIGNMENT)) };
        Self { base, start, size }
    }

    /// Where it starts, a multiple of [`ALIGNMENT`].
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// # Safety
    /// Nobody may use the memory afterwards.
    pub(crate) unsafe fn free(self) {
        if let Some(layout) = Self::layout(self.size) {
            // SAFETY: `base` was allocated with this layout; the caller says it is not used again.
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
