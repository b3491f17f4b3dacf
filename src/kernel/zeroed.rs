//! Arrays of zeroes that cost no time to make: the system clears a page when it is first touched. COLD.

#![cfg_attr(not(feature = "loom"), expect(unsafe_code, reason = "zeroed memory is read without being written first"))]

use crate::sync::{AtomicU32, AtomicU64};

/// Four words that lie in one cache line: a line of 64 bytes holds two of them.
#[cfg_attr(not(feature = "loom"), repr(C, align(32)))]
pub(crate) struct Line(pub(crate) [AtomicU64; 4]);

#[cfg(not(feature = "loom"))]
const _: () = assert!(size_of::<Line>() == 32 && align_of::<Line>() == 32, "a line never crosses a cache line");

mod sealed {
    /// Marks the types of which all bytes may be zero; only this file says which.
    pub trait Sealed {
        /// Makes the value that zero bytes stand for.
        #[cfg_attr(not(feature = "loom"), expect(dead_code, reason = "only models make values one by one"))]
        fn zero() -> Self;
    }
}

/// A type that zero bytes are a value of.
pub(crate) trait Zeroed: sealed::Sealed {}

impl sealed::Sealed for AtomicU32 {
    fn zero() -> Self {
        Self::new(0)
    }
}
impl Zeroed for AtomicU32 {}

impl sealed::Sealed for Line {
    fn zero() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}
impl Zeroed for Line {}

/// Makes an array of zeroes. Memory is reserved here, and held from when it is first written.
///
/// Aborts where the system refuses to reserve as much.
#[cfg(not(feature = "loom"))]
pub(crate) fn zeroed<T: Zeroed>(len: usize) -> Box<[T]> {
    let zeroes = Box::<[T]>::new_zeroed_slice(len);
    // SAFETY: all bytes of the array are zero, and zero bytes are a value of `T`: `Zeroed` is sealed, and its two types,
    // an `AtomicU32` and four `AtomicU64`, have the layout of integers, of which every bit pattern is a value.
    unsafe { zeroes.assume_init() }
}

/// Makes an array of zeroes, value by value: the model checker has to know of each.
#[cfg(feature = "loom")]
pub(crate) fn zeroed<T: Zeroed>(len: usize) -> Box<[T]> {
    (0..len).map(|_| T::zero()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Ordering;

    #[test]
    fn a_zeroed_array_holds_zeroes_and_can_be_written() {
        let lines = zeroed::<Line>(3);
        let words = || lines.iter().flat_map(|line| &line.0);
        assert!(words().all(|word| word.load(Ordering::Relaxed) == 0));
        words().zip(1..).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        assert_eq!(words().map(|word| word.load(Ordering::Relaxed)).sum::<u64>(), (1..=12).sum::<u64>());
        assert!(lines.iter().all(|line| std::ptr::from_ref(line).addr() % 32 == 0));
    }

    #[test]
    fn threads_share_a_zeroed_array() {
        let entries = zeroed::<AtomicU32>(5);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for entry in &entries {
                        entry.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(entries.iter().all(|entry| entry.load(Ordering::Relaxed) == 3));
    }

    #[test]
    fn an_empty_array_is_one() {
        assert!(zeroed::<Line>(0).is_empty() && zeroed::<AtomicU32>(0).is_empty());
    }
}
