//! A merchant's share of a bounded table, so that one merchant cannot fill it for the rest.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::types::MerchantId;

/// Counts the entries that one merchant holds in one table.
#[derive(Debug, Default)]
pub struct Share {
    used: AtomicU32,
    /// Where a table that lists its shares has put this one; zero where none has.
    place: AtomicU32,
    merchant: OnceLock<MerchantId>,
}

impl Share {
    /// Makes the empty share of a merchant.
    pub fn of(merchant: MerchantId) -> Self {
        Self { merchant: merchant.into(), ..Self::default() }
    }

    /// Returns whose share it is; `None` of one that was made for nobody.
    pub fn merchant(&self) -> Option<&MerchantId> {
        self.merchant.get()
    }

    /// Takes one entry where the share is below `max`; `false` where it is used up.
    #[must_use]
    pub fn take(&self, max: u32) -> bool {
        // Relaxed: the counter publishes nothing but itself.
        self.used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < max).then(|| used.saturating_add(1)))
            .is_ok()
    }

    /// Gives one entry back.
    pub fn give(&self) {
        let given = self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, |used| used.checked_sub(1));
        debug_assert!(given.is_ok(), "more entries given back than taken");
    }

    /// Returns how many entries are held.
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// Remembers where a table has listed the share. A hint, for the table to check: another may list it too.
    pub(crate) fn remember(&self, place: u32) {
        self.place.store(place.saturating_add(1), Ordering::Relaxed);
    }

    /// Returns the place that was remembered last.
    pub(crate) fn remembered(&self) -> Option<u32> {
        self.place.load(Ordering::Relaxed).checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_above_its_maximum() {
        let share = Share::default();
        assert!(share.take(2) && share.take(2) && !share.take(2));
        share.give();
        assert_eq!(share.used(), 1);
        assert!(share.take(2) && !share.take(0));
    }

    #[test]
    fn a_share_knows_whose_it_is() {
        let merchant: MerchantId = "1900000001".parse().expect("a merchant");
        assert_eq!((Share::of(merchant).merchant(), Share::default().merchant()), (Some(&merchant), None));
    }

    #[test]
    fn a_share_remembers_where_it_is_listed() {
        let share = Share::default();
        assert_eq!(share.remembered(), None);
        share.remember(0);
        assert_eq!(share.remembered(), Some(0));
    }
}
