//! Limbo: places that are nobody's any more, kept until nobody can hold on to them. COLD.

use super::lanes::{LaneSet, Lanes};

/// Places in limbo, in two batches: what comes in does not make those wait longer that were there before.
pub(super) struct Limbo<T> {
    /// Each lane but those in `waiting` was seen empty since the last of these came in.
    aging: Vec<T>,
    waiting: LaneSet,
    fresh: Vec<T>,
}

impl<T> Limbo<T> {
    /// Makes an empty limbo.
    pub(super) const fn new() -> Self {
        Self { aging: Vec::new(), waiting: LaneSet::EMPTY, fresh: Vec::new() }
    }

    /// Puts a place in limbo. Whoever comes from here on is not led to it.
    pub(super) fn push(&mut self, place: T) {
        self.fresh.push(place);
    }

    /// Returns how many places are in limbo.
    pub(super) const fn len(&self) -> usize {
        self.aging.len().saturating_add(self.fresh.len())
    }

    /// Takes out the places that nobody can hold on to any more; looks at each lane up to so many times.
    pub(super) fn release(&mut self, lanes: &Lanes, looks: usize) -> Vec<T> {
        let mut released = self.release_batch(lanes, looks);
        released.append(&mut self.release_batch(lanes, looks));
        released
    }

    fn release_batch(&mut self, lanes: &Lanes, looks: usize) -> Vec<T> {
        if self.aging.is_empty() {
            if self.fresh.is_empty() {
                return Vec::new();
            }
            std::mem::swap(&mut self.aging, &mut self.fresh);
            self.waiting = Lanes::all();
        }
        lanes.remove_empty(&mut self.waiting, looks);
        if self.waiting.is_empty() { std::mem::take(&mut self.aging) } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::Lane;
    use super::*;

    #[test]
    fn a_place_is_released_once_each_lane_was_empty_since_it_came_in() {
        let lanes = Lanes::new();
        let mut limbo = Limbo::new();
        limbo.push(1);
        let (first, other) = (lanes.enter(Lane::COLD), lanes.enter(lanes.next()));
        assert!(limbo.release(&lanes, 3).is_empty());
        drop(first);
        let second = lanes.enter(Lane::COLD);
        limbo.push(2);
        drop(other);
        assert_eq!((limbo.release(&lanes, 3), limbo.len()), (vec![], 2), "somebody came into the first lane before");
        drop(second);
        assert_eq!((limbo.release(&lanes, 3), limbo.len()), (vec![1, 2], 0));
    }

    #[test]
    fn what_comes_in_does_not_hold_up_what_was_there() {
        let lanes = Lanes::new();
        let (one, other) = (lanes.next(), lanes.next());
        let mut limbo = Limbo::new();
        for place in 0..4 {
            // One of two lanes is always full.
            let inside = lanes.enter(if place % 2 == 0 { one } else { other });
            limbo.push(place);
            let expected: Vec<i32> = (place - 1..place).filter(|before| *before >= 0).collect();
            assert_eq!(limbo.release(&lanes, 3), expected, "after {place}");
            drop(inside);
        }
    }
}
