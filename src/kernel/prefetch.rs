//! Asks the processor to fetch memory ahead of its use. HOT.

#![cfg_attr(all(target_arch = "x86_64", not(miri)), expect(unsafe_code, reason = "the intrinsic takes a raw pointer"))]

/// Asks for the cache lines of a value, to be read and written soon. A hint: nothing depends on it.
#[inline]
pub(crate) fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first: *const i8 = std::ptr::from_ref(value).cast();
        for offset in (0..size_of_val(value)).step_by(LINE_BYTES) {
            // SAFETY: the pointer is that of a value and the offset is below its size, so it points into memory of this
            // program; besides, the instruction never faults and changes nothing that can be observed. Every x86-64
            // processor has it (SSE).
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(offset)) };
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        let _ = value;
    }
}

/// Bytes of a cache line of every x86-64 processor.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const LINE_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefetch_takes_any_reference_and_leaves_the_value() {
        let values = [7_u64, 8];
        values.iter().for_each(prefetch);
        prefetch::<[u64]>(&[]);
        prefetch(&());
        assert_eq!(values, [7, 8]);
    }
}
