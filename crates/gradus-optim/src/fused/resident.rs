//! Parameters that a step writes to while the module holds them.
//!
//! To take a weight off the tape and put it back on costs more than the step of a small parameter: a
//! node, a graph and a lock for each. Nor can a tensor on the tape give its memory out for writing. So
//! the first step moves each weight into memory that the optimizer allocated itself; from then on a step
//! leaves tensor and node where they are, and writes to the memory by the address it knows. As in
//! PyTorch, the parameter stays the same leaf.
//!
//! This is done only while nobody could see it: when the module's tensor is the only one in that memory
//! (a clone of the model, a graph not yet differentiated, a tensor kept by the caller are others). Else
//! the weight is copied to new memory once more, and the others keep the old values.

#![allow(unsafe_code, reason = "writes to memory that tensors hold")]

use super::memory::{Element, FlexTensor, from_flex, into_flex, is_whole, whole};
use burn::backend::DispatchTensor;
use burn::tensor::{AllocationProperty, Bytes, DType};
use burn_flex::Layout;
use burn_std::{AccessError, AccessPolicy, AllocationController, sync::Arc as Shared};
use std::alloc::{alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Weak};

/// A cache line, and the widest vector.
pub(super) const ALIGNMENT: usize = 64;

/// A large page, and the size from which memory begins at one. The step passes through all of its memory
/// once: with small pages it would ask for the place of a new one every 4 KiB of each stream.
const LARGE_PAGE: usize = 2 << 20;
pub(super) const LARGE: usize = 2 * LARGE_PAGE;

/// Asks the system for large pages, before the memory is touched. It may decline.
#[cfg(target_os = "linux")]
fn advise_large_pages(start: NonNull<u8>, size: usize) {
    // SAFETY: the memory was allocated with this size; the advice changes none of its contents.
    unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise_large_pages(_: NonNull<u8>, _: usize) {}

/// Where a parameter was left at the step before; empty at first, and once the memory is gone.
pub(crate) type Home = Weak<Buffer>;

/// Memory of one tensor.
#[derive(Debug)]
pub(crate) struct Buffer {
    start: NonNull<u8>,
    layout: std::alloc::Layout,
}

// SAFETY: the buffer owns its memory; who may read and write it is settled where that is done.
unsafe impl Send for Buffer {}
// SAFETY: as above; a shared buffer gives out its address only.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Memory for so many bytes, and always for some more: see [`Resident::of`].
    fn allocate(bytes: usize, zeroed: bool) -> Self {
        let size = (bytes + 1).next_multiple_of(ALIGNMENT);
        let large = size >= LARGE;
        let align = if large { LARGE_PAGE } else { ALIGNMENT };
        let Ok(layout) = std::alloc::Layout::from_size_align(size, align) else {
            // What `Vec` does with such a request.
            panic!("capacity overflow: {bytes} bytes");
        };
        // SAFETY: the size is not zero.
        let start = unsafe {
            if zeroed && !large {
                alloc_zeroed(layout)
            } else {
                alloc(layout)
            }
        };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        if large {
            advise_large_pages(start, size);
            if zeroed {
                // SAFETY: the memory is `size` bytes long.
                unsafe { start.write_bytes(0, size) };
            }
        }
        Self { start, layout }
    }

    pub(super) fn zeros(bytes: usize) -> Self {
        Self::allocate(bytes, true)
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    fn copy_of(bytes: &[u8]) -> Self {
        let this = Self::allocate(bytes.len(), false);
        // SAFETY: the new memory is at least as long, and lies elsewhere.
        unsafe {
            bytes
                .as_ptr()
                .copy_to_nonoverlapping(this.start.as_ptr(), bytes.len());
        };
        this
    }

    /// The first `len` bytes as the memory of a tensor. They must be written.
    fn tensor(self: &Arc<Self>, len: usize, layout: Layout, dtype: DType) -> FlexTensor {
        let owner = Box::new(Owner(Arc::clone(self)));
        // SAFETY: all callers wrote the first `len` bytes.
        let bytes = unsafe { Bytes::from_controller(owner, len) };
        FlexTensor::new(bytes, layout, dtype)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: `start` was allocated with this layout, and this is the last owner.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// What makes a buffer the memory of a tensor. There is one for each buffer, which is not cloned.
struct Owner(Arc<Buffer>);

impl AllocationController for Owner {
    fn alloc_align(&self) -> usize {
        // Burn allocates copies with the same alignment, and up to this one.
        align_of::<u128>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(
        &mut self,
        _: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        // SAFETY: the memory lives as long as the buffer, and `&mut self` is the only way to it: the
        // other, `Resident`, is open only while nobody has this.
        Ok(unsafe {
            std::slice::from_raw_parts_mut(self.0.start.as_ptr().cast(), self.0.layout.size())
        })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        // SAFETY: as in `memory_mut`, shared.
        Ok(unsafe {
            std::slice::from_raw_parts(self.0.start.as_ptr().cast(), self.0.layout.size())
        })
    }

    fn capacity(&self) -> usize {
        self.0.layout.size()
    }
}

/// The weight of a parameter whose tensor stays in the module during the step.
#[derive(Debug)]
pub(crate) struct Resident {
    buffer: Arc<Buffer>,
    /// The same memory as the tensor has it: tells whether others have it too.
    bytes: Shared<Bytes>,
    dtype: DType,
}

impl Resident {
    /// The weight where it lies, if that is `home` and no other tensor lies there.
    pub(crate) fn of(tensor: &FlexTensor, home: &Home) -> Option<Self> {
        if !tensor.is_unique() || !is_whole(tensor) {
            return None;
        }
        // Who had the memory before and gave it up on another thread has finished reading.
        fence(Ordering::Acquire);
        let buffer = home.upgrade()?;
        let bytes = tensor.data_arc();
        // Bytes can be wrapped so as to be shared without being counted; a wrapper has no room to spare.
        let direct = bytes.capacity() == buffer.layout.size() && Shared::weak_count(&bytes) == 0;
        (direct && bytes.as_ptr() == buffer.start.as_ptr().cast_const()).then(|| Self {
            buffer,
            bytes,
            dtype: tensor.dtype(),
        })
    }

    /// The weight moved to new memory, which becomes its home, and the tensor for the module.
    pub(crate) fn settle(tensor: FlexTensor, home: &mut Home) -> (FlexTensor, Self) {
        let tensor = whole(tensor);
        let (layout, dtype) = (tensor.layout().clone(), tensor.dtype());
        let buffer = Arc::new(Buffer::copy_of(tensor.bytes()));
        let tensor = buffer.tensor(tensor.bytes().len(), layout, dtype);
        *home = Arc::downgrade(&buffer);
        let bytes = tensor.data_arc();
        (
            tensor,
            Self {
                buffer,
                bytes,
                dtype,
            },
        )
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    /// A tensor of the weight, for reading during the step. It must not be kept: who does, makes the
    /// next writing panic.
    pub(crate) fn view(&self, shape: &[usize]) -> DispatchTensor {
        let layout = Layout::contiguous(shape.to_vec().into());
        from_flex(FlexTensor::from_arc(self.bytes.clone(), layout, self.dtype))
    }

    /// A tensor of the weight as it is now, for keeping.
    pub(crate) fn copied(&self, shape: &[usize]) -> DispatchTensor {
        let view = into_flex(self.view(shape));
        from_flex(Self::settle(view, &mut Home::new()).0)
    }

    /// The weight.
    pub(super) fn memory_mut<T: Element>(&mut self) -> &mut [T] {
        assert!(
            Shared::strong_count(&self.bytes) == 2,
            "a tensor of a weight was kept during the step"
        );
        assert!(T::dtype() == self.dtype, "the weight is of another type");
        let len = self.bytes.len() / size_of::<T>();
        // SAFETY: `start` is aligned for every type, and the first `bytes.len()` bytes are written.
        // Nobody else reads or writes them while the slice lives: two hold the memory as a tensor, this
        // and the module's parameter. The module was moved into the step that holds this, so its tensor
        // is idle; views made of this one are counted, and there are none; making one needs `&self`.
        unsafe { std::slice::from_raw_parts_mut(self.buffer.start.as_ptr().cast(), len) }
    }

    /// Takes these values, of the same number and type.
    pub(crate) fn write(&mut self, values: DispatchTensor) {
        let values = whole(into_flex(values));
        if values.bytes().as_ptr() == self.buffer.start.as_ptr().cast_const() {
            return; // They are the weight itself.
        }
        match self.dtype {
            DType::F64 => self
                .memory_mut::<f64>()
                .copy_from_slice(f64::memory(&values)),
            _ => self
                .memory_mut::<f32>()
                .copy_from_slice(f32::memory(&values)),
        }
    }
}
