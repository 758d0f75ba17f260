//! Working memory of a thread, kept from call to call.

use std::cell::RefCell;

thread_local! {
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Call `f` with `len` numbers of this thread's working memory; what they hold is left over from
/// before.
pub(super) fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    // Taken out of the list while in use, so that calls nest.
    let mut buffer = FREE
        .with_borrow_mut(|free| {
            let place = free.iter().position(|b| b.len() >= len);
            place.map(|i| free.swap_remove(i)).or_else(|| free.pop())
        })
        .unwrap_or_default();
    if buffer.len() < len {
        buffer = vec![0.0; len];
    }
    let result = f(&mut buffer[..len]);
    FREE.with_borrow_mut(|free| free.push(buffer));
    result
}
