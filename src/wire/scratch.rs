//! One read buffer for each worker thread, so that an idle connection holds none.

use std::cell::RefCell;

use crate::fixed_limits::fixed_limit;

/// Bytes of the buffer. More than a unix socket's default buffer holds.
const SIZE: usize = 256 * 1024;
fixed_limit!("payload that a pipe holds each way", bytes SIZE);

/// Bytes of the buffer of a read inside another one.
const NESTED: usize = 4 * 1024;

thread_local! {
    /// Nothing stays in it between two polls.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SIZE].into());
}

/// Lends the worker's buffer to `read`. What `read` leaves in it is lost.
///
/// A call from inside `read` gets a small buffer of its own.
pub(crate) fn with_scratch<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => read(&mut scratch),
        Err(_) => read(&mut [0; NESTED]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_read_has_a_buffer_of_its_own() {
        let sizes = with_scratch(|outer| (outer.len(), with_scratch(|inner| inner.len())));
        assert_eq!(sizes, (SIZE, NESTED));
    }
}
