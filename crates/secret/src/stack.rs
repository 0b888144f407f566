//! Wiping what a computation leaves on the stack.

use std::hint::black_box;

/// Runs `work`, then overwrites `BYTES` of the stack below the caller: what its frames held, and those of everything
/// that it called.
///
/// Values are moved and returned by copying them, and libraries keep keys in arrays and hash states that they do not wipe:
/// wiping what one holds at the end leaves those copies. Whatever secret `work` gives back must be behind a pointer.
///
/// `BYTES` is how deep `work` is expected to go. What lies deeper stays, and so does everything if `work` panics.
///
/// ```
/// use tokenkeep_secret::{Secret, wiping_stack};
///
/// let sum = wiping_stack::<4096, _>(|| {
///     let key = [7_u8; 32];
///     Secret::from(&key[..])
/// });
/// assert_eq!(sum.len(), 32);
/// ```
pub fn wiping_stack<const BYTES: usize, T>(work: impl FnOnce() -> T) -> T {
    let done = below(work);
    overwrite::<BYTES>();
    done
}

/// A frame of its own, so that all of `work` is below the one that wipes.
#[inline(never)]
fn below<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Takes the place of the frames of `below`. The array is looked at, so that it is really written.
#[inline(never)]
fn overwrite<const BYTES: usize>() {
    let mut area = [0_u8; BYTES];
    black_box(&mut area);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_work_gives_comes_back() {
        let bytes = [1, 2, 3];
        assert_eq!(wiping_stack::<1024, _>(|| bytes.iter().sum::<i32>()), 6);
    }
}
