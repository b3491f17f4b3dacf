//! Whose share a row is charged to: each share has a number here, so that a row needs to remember no more. COLD.

use std::sync::{Arc, Mutex, PoisonError};

use crate::share::Share;

/// The shares that rows were added for.
#[derive(Default)]
pub(super) struct Owners(Mutex<List>);

#[derive(Default)]
struct List {
    list: Vec<Arc<Share>>,
    /// Free numbers found by the last look for them.
    free: Vec<usize>,
    /// Length of the list from which the next look pays.
    look_at: usize,
}

impl List {
    /// Returns a number that nobody has any more.
    fn free(&mut self) -> Option<usize> {
        let gone = |owner: &Arc<Share>| owner.used() == 0 && Arc::strong_count(owner) == 1;
        if self.free.is_empty() && self.list.len() >= self.look_at {
            self.free = (0..).zip(&self.list).filter(|(_, owner)| gone(owner)).map(|(place, _)| place).collect();
            self.look_at = self.list.len().saturating_sub(self.free.len()).saturating_mul(2);
        }
        // One that was free may have been taken up again.
        std::iter::from_fn(|| self.free.pop()).find(|place| self.list.get(*place).is_some_and(gone))
    }
}

impl Owners {
    /// Returns the number of a share that an entry was just taken from; `None` where no further one has a number.
    pub(super) fn number(&self, share: &Arc<Share>) -> Option<u32> {
        let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered = share
            .remembered()
            .filter(|place| owners.list.get(*place as usize).is_some_and(|owner| Arc::ptr_eq(owner, share)));
        if remembered.is_some() {
            return remembered;
        }
        // Its number may be remembered for another table. A share that nobody else knows and that holds no row will never
        // be charged again: its number is free. Both are looked for once in as many new shares as there are, so that a
        // hundred thousand merchants do not look at each other.
        let known = share.remembered().and_then(|_| owners.list.iter().position(|owner| Arc::ptr_eq(owner, share)));
        let place = known.or_else(|| owners.free()).unwrap_or(owners.list.len());
        let number = u32::try_from(place).ok()?;
        match owners.list.get_mut(place) {
            Some(owner) => *owner = Arc::clone(share),
            None => owners.list.push(Arc::clone(share)),
        }
        share.remember(number);
        Some(number)
    }

    /// Gives an entry back to the share of a number.
    pub(super) fn give(&self, number: u32) {
        let owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = owners.list.get(number as usize) {
            owner.give();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share() -> Arc<Share> {
        let share = Arc::new(Share::default());
        assert!(share.take(9));
        share
    }

    #[test]
    fn a_share_keeps_its_number_though_another_table_lists_it_too() {
        let (one, other) = (Owners::default(), Owners::default());
        let shares = [share(), share(), share()];
        let numbers = |owners: &Owners, turn: usize| {
            (0..3).map(|step| owners.number(&shares[(step + turn) % 3]).expect("a number")).collect::<Vec<_>>()
        };
        assert_eq!((numbers(&one, 0), numbers(&other, 1)), (vec![0, 1, 2], vec![0, 1, 2]));
        assert_eq!((numbers(&one, 0), numbers(&other, 1)), (vec![0, 1, 2], vec![0, 1, 2]));
        other.give(0);
        assert_eq!(shares.each_ref().map(|share| share.used()), [1, 0, 1]);
    }

    #[test]
    fn the_number_of_a_share_is_used_again_once_nobody_can_take_from_it() {
        let owners = Owners::default();
        let first = share();
        assert_eq!(owners.number(&first), Some(0));
        drop(first);
        let second = share();
        assert_eq!(owners.number(&second), Some(1), "the first holds a row yet");
        owners.give(0);
        owners.give(1);
        assert_eq!((owners.number(&share()), owners.number(&share())), (Some(0), Some(2)), "the second may come again");
    }
}
