//! Asks the processor to fetch memory ahead of its use. HOT.

#![cfg_attr(all(target_arch = "x86_64", not(miri)), expect(unsafe_code, reason = "the intrinsic takes a raw pointer"))]

/// Asks for the cache line of a value, to be read and written soon. A hint: nothing depends on it.
#[inline]
pub(crate) fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the pointer comes from a reference, so it points to memory of this program; besides, the instruction
        // never faults and changes nothing that can be observed. Every x86-64 processor has it (SSE).
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        let _ = value;
    }
}

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
