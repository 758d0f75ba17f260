//! Memory as numbers: [`Buffer`] from the pool, [`Fixed`] for itself.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::{Memory, class_of, pool};

/// A number of which every pattern of bits is one, so that memory can be used again for any of them.
///
/// # Safety
/// True only of types without invalid bits and without padding, of alignment ≤ `ALIGNMENT`.
pub unsafe trait Number: Copy + Default + Send + Sync + 'static {}

// SAFETY: any four bytes are a number.
unsafe impl Number for f32 {}
// SAFETY: any eight bytes are a number.
unsafe impl Number for f64 {}
// SAFETY: any byte is one.
unsafe impl Number for u8 {}

/// `len` numbers at a multiple of `ALIGNMENT`, from the pool and back to it.
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
    ///
    /// # Panics
    /// As `Vec::with_capacity`, if that is more than an address can count.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let class = len.checked_mul(size_of::<T>()).and_then(class_of);
        let Some(class) = class.filter(|class| Memory::layout(*class).is_some()) else {
            panic!(
                "capacity overflow: {len} numbers of {} bytes",
                size_of::<T>()
            );
        };
        let memory = pool().take(class);
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
        unsafe { std::slice::from_raw_parts(self.memory.start().as_ptr().cast(), self.len) }
    }
}

impl<T: Number> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` excludes other references.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start().as_ptr().cast(), self.len) }
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

/// `len` numbers at a multiple of `ALIGNMENT`(super::ALIGNMENT), 0 at first, in memory of exactly that
/// size: for what lasts longer than a step. From 2 MiB on they lie in large pages, as buffers do.
#[derive(Debug)]
pub struct Fixed<T: Number = f32> {
    memory: Memory,
    len: usize,
    numbers: PhantomData<T>,
}

// SAFETY: it owns its memory alone, like a `Box<[T]>`.
unsafe impl<T: Number> Send for Fixed<T> {}
// SAFETY: shared references only read.
unsafe impl<T: Number> Sync for Fixed<T> {}

impl<T: Number> Fixed<T> {
    /// `len` zeros.
    ///
    /// # Panics
    /// As `Vec::with_capacity`, if that is more than an address can count.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        let Some(bytes) = len.checked_mul(size_of::<T>()) else {
            panic!(
                "capacity overflow: {len} numbers of {} bytes",
                size_of::<T>()
            );
        };
        Self {
            // An allocation is never empty.
            memory: Memory::cleared(bytes.max(1)),
            len,
            numbers: PhantomData,
        }
    }
}

impl<T: Number> Deref for Fixed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the memory holds `len` numbers, aligned for all of them, was cleared, and belongs to
        // this alone.
        unsafe { std::slice::from_raw_parts(self.memory.start().as_ptr().cast(), self.len) }
    }
}

impl<T: Number> DerefMut for Fixed<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` excludes other references.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start().as_ptr().cast(), self.len) }
    }
}

impl<T: Number> Drop for Fixed<T> {
    fn drop(&mut self) {
        // SAFETY: nobody else has the memory.
        unsafe { self.memory.free() };
    }
}

#[cfg(test)]
mod tests {
    use super::super::ALIGNMENT;
    use super::super::system::LARGE_PAGE;
    use super::*;

    #[test]
    fn fixed_memory_is_aligned_zero_and_its_own() {
        for len in [0, 1, 100, 300_000] {
            let (mut a, b) = (Fixed::<f64>::zeros(len), Fixed::<f64>::zeros(len));
            assert_eq!((a.len(), a.as_ptr() as usize % ALIGNMENT), (len, 0));
            assert!(a.iter().all(|x| *x == 0.0));
            a.fill(7.0);
            assert!(b.iter().all(|x| *x == 0.0));
        }
        let large = Fixed::<f32>::zeros(LARGE_PAGE / 4);
        assert_eq!(large.as_ptr() as usize % LARGE_PAGE, 0);
        assert!(std::panic::catch_unwind(|| Fixed::<f64>::zeros(1 << 61)).is_err());
    }
}
