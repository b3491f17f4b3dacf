//! Lanes: what each worker counts for itself, so that workers on different rows do not meet. HOT.
//!
//! Whoever reads or changes rows is inside a lane meanwhile, alone. A lane that is seen empty at some instant tells that
//! all who were inside it before are gone; once each lane was seen empty, nobody holds on to anything from before. So
//! memory of a row that is over is used again, without a lock for those who read rows.
//!
//! Why that holds: `visits` is odd while somebody is inside. Who enters changes it by a compare-and-swap (Acquire), who
//! leaves by a store (Release), so that those who are in a lane one after the other see what the last ones did. Looking at
//! it is a read-modify-write (both). Who entered before a look that finds it even has left, and the look sees all that
//! they did; who enters after the look sees all that was done before it, a row that is over above all.

use crossbeam::utils::CachePadded;

use super::row::{Key, SHARDS};
use crate::sync::{self, AtomicU64, AtomicUsize, Ordering};

/// Says which lane a worker enters; where another is in it, the next one that is empty. Each worker should ask for its
/// own once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane(usize);

impl Lane {
    /// The lane of those who come seldom.
    pub(super) const COLD: Self = Self(0);

    /// Returns the lane of a position.
    #[cfg(all(test, feature = "loom"))]
    pub(super) const fn of(number: usize) -> Self {
        Self(number)
    }

    /// Returns its position among the lanes.
    pub(super) const fn number(self) -> usize {
        self.0 % LANES
    }
}

/// All lanes.
pub(super) struct Lanes {
    lanes: Box<[CachePadded<Counts>; LANES]>,
    handed_out: AtomicUsize,
}

/// What is counted in one lane.
struct Counts {
    /// How often somebody has come or gone: odd while somebody is inside.
    visits: AtomicU64,
    /// Rows at which this lane met others, each in a place that follows from its key, and how often.
    meetings: [AtomicU64; MEETINGS],
    flows: [Flow; SHARDS],
}

/// What went into the cells of one shard and out of them, money in fen and payments as one each, modulo 2^64.
pub(super) struct Flow {
    taken: AtomicU64,
    given_back: AtomicU64,
    passed: AtomicU64,
    begun: AtomicU64,
}

/// The sums of what all lanes have counted for one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flows {
    pub(super) taken: u64,
    pub(super) given_back: u64,
    pub(super) passed: u64,
    pub(super) begun: u64,
}

impl Lanes {
    /// Makes empty lanes.
    pub(super) fn new() -> Self {
        Self {
            lanes: Box::new(std::array::from_fn(|_| CachePadded::new(Counts::new()))),
            handed_out: AtomicUsize::new(0),
        }
    }

    /// Hands out a lane, in turn.
    pub(super) fn next(&self) -> Lane {
        // Relaxed: it publishes nothing but itself.
        Lane(self.handed_out.fetch_add(1, Ordering::Relaxed) % LANES)
    }

    /// Enters a lane, until what is returned is dropped: the one asked for, or where it is not empty another.
    #[inline]
    pub(super) fn enter(&self, lane: Lane) -> Inside<'_> {
        self.try_enter(lane).unwrap_or_else(|| self.enter_another(lane))
    }

    /// Enters the next lane that is empty. Nobody stays in one for long.
    #[cold]
    fn enter_another(&self, Lane(first): Lane) -> Inside<'_> {
        let mut number = first;
        loop {
            number = number.wrapping_add(1);
            if let Some(inside) = self.try_enter(Lane(number)) {
                return inside;
            }
            if number.wrapping_sub(first) % LANES == 0 {
                sync::yield_now();
            }
        }
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "the number is below the length of the array")]
    fn try_enter(&self, lane: Lane) -> Option<Inside<'_>> {
        let counts = &self.lanes[lane.number()];
        let visits = counts.visits.load(Ordering::Relaxed);
        if !visits.is_multiple_of(2) {
            return None;
        }
        // Acquire: partner of the Release of who left last, and of that in `seen_empty`.
        let entered = visits.wrapping_add(1);
        let exchanged = counts.visits.compare_exchange(visits, entered, Ordering::Acquire, Ordering::Relaxed);
        // Made only by who has entered: dropping it leaves the lane.
        exchanged.ok().map(|_| Inside { counts, lane, entered })
    }

    /// Returns how many lanes workers may be in.
    pub(super) fn handed_out(&self) -> u64 {
        // Relaxed: it publishes nothing but itself.
        self.handed_out.load(Ordering::Relaxed).clamp(1, LANES) as u64
    }

    /// Returns the set of all lanes.
    pub(super) const fn all() -> LaneSet {
        LaneSet(u64::MAX >> (u64::BITS as usize - LANES))
    }

    /// Removes from a set the lanes that are seen empty, looking at each up to so many times.
    pub(super) fn remove_empty(&self, set: &mut LaneSet, looks: usize) {
        for (number, counts) in self.lanes.iter().enumerate() {
            if set.0 & 1 << number != 0 && (0..looks).any(|_| counts.seen_empty()) {
                set.0 &= !(1 << number);
            }
        }
    }

    /// Adds up what was counted for a shard.
    pub(super) fn flows(&self, shard: usize) -> Flows {
        let sum = |side: fn(&Flow) -> &AtomicU64| {
            let flows = self.lanes.iter().filter_map(|counts| counts.flows.get(shard));
            // Acquire: partner of the Release where it is counted, see `Flow::take`.
            flows.map(|flow| side(flow).load(Ordering::Acquire)).fold(0, u64::wrapping_add)
        };
        // What is counted first is read last, so that whoever has counted the one is seen to have counted the other.
        let (given_back, passed) = (sum(|flow| &flow.given_back), sum(|flow| &flow.passed));
        Flows { given_back, passed, taken: sum(|flow| &flow.taken), begun: sum(|flow| &flow.begun) }
    }

    /// Returns the memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.lanes)
    }
}

impl Counts {
    fn new() -> Self {
        let flow = || Flow {
            taken: AtomicU64::new(0),
            given_back: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            begun: AtomicU64::new(0),
        };
        Self {
            visits: AtomicU64::new(0),
            meetings: std::array::from_fn(|_| AtomicU64::new(0)),
            flows: std::array::from_fn(|_| flow()),
        }
    }

    /// Tells whether nobody is inside, see the head of the file.
    fn seen_empty(&self) -> bool {
        // Acquire: partner of the Release of those who left. Release: partner of the Acquire of those who enter later.
        self.visits.fetch_add(0, Ordering::AcqRel).is_multiple_of(2)
    }
}

/// Is inside a lane for as long as it lives.
pub(super) struct Inside<'a> {
    counts: &'a Counts,
    lane: Lane,
    /// What `visits` is meanwhile.
    entered: u64,
}

impl Inside<'_> {
    /// Returns the lane.
    pub(super) const fn lane(&self) -> Lane {
        self.lane
    }

    /// Counts that others were met at the row of a key; returns how often since another took its place.
    #[expect(clippy::indexing_slicing, reason = "the remainder is below the length")]
    pub(super) fn count_meeting(&self, key: Key) -> u32 {
        let name = key.spread() >> COUNT_BITS << COUNT_BITS;
        let meeting = &self.counts.meetings[(name >> COUNT_BITS) as usize % MEETINGS];
        // Relaxed: nobody else is inside.
        let before = meeting.load(Ordering::Relaxed);
        let count = if before >> COUNT_BITS << COUNT_BITS == name { before & COUNT_MAX } else { 0 };
        let count = count.saturating_add(1).min(COUNT_MAX);
        meeting.store(name | count, Ordering::Relaxed);
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Returns where to count what happens to the rows of a shard.
    #[expect(clippy::indexing_slicing, reason = "the number is below the length of the array")]
    pub(super) fn flow(&self, shard: usize) -> &Flow {
        &self.counts.flows[shard % SHARDS]
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Release: partner of the Acquire in `seen_empty` and of who enters next; what was done inside is done.
        let left = self.entered.wrapping_add(1);
        if cfg!(feature = "loom") {
            // The model checker does not order a store after the look that read what it overwrites; the language does.
            self.counts.visits.swap(left, Ordering::Release);
        } else {
            self.counts.visits.store(left, Ordering::Release);
        }
    }
}

/// The order of counting lets a reader know whether cells change while it adds them up: whoever changes a cell has
/// counted `taken` or `begun` before, which never decrease, and counts the rest before the lane is left.
impl Flow {
    /// Counts what is about to be taken. What then is not is to be given back.
    pub(super) fn take(&self, amount: u64) {
        add(&self.taken, amount);
    }

    /// Counts that something other than a take is about to change cells.
    pub(super) fn begin(&self) {
        add(&self.begun, 1);
    }

    /// Counts what was given back.
    pub(super) fn give_back(&self, amount: u64) {
        if amount != 0 {
            add(&self.given_back, amount);
        }
    }

    /// Counts what was used of windows that have passed.
    pub(super) fn pass(&self, used: u64) {
        if used != 0 {
            add(&self.passed, used);
        }
    }
}

/// Adds to a counter of the lane that the caller is inside of.
#[inline]
fn add(counter: &AtomicU64, amount: u64) {
    // Nobody else writes meanwhile, so there is no need of a read-modify-write. Release: who sees it also sees that the
    // lane was entered, and what was counted before.
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Release);
}

/// Some of the lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LaneSet(u64);

impl LaneSet {
    /// No lane.
    pub(super) const EMPTY: Self = Self(0);

    /// Tells whether there is none in it.
    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Lanes of a table; a model has few.
pub(super) const LANES: usize = if cfg!(feature = "loom") { 2 } else { 64 };
const _: () = assert!(0 < LANES && LANES <= u64::BITS as usize, "a set of lanes is one word");

/// Rows of which a lane counts the meetings.
const MEETINGS: usize = if cfg!(feature = "loom") { 1 } else { 16 };

/// A meeting is named by the upper bits of a key and counted in so many lower ones.
const COUNT_BITS: u32 = 16;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn who_finds_a_lane_occupied_enters_another() {
        let lanes = Lanes::new();
        let inside: Vec<_> = (0..LANES).map(|_| lanes.enter(Lane::COLD)).collect();
        let mut numbers: Vec<_> = inside.iter().map(|inside| inside.lane().number()).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..LANES));
    }

    #[test]
    fn who_finds_all_lanes_occupied_waits_until_one_is_left() {
        let lanes = Lanes::new();
        let mut inside: Vec<_> = (0..LANES).map(|_| lanes.enter(Lane::COLD)).collect();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lanes.enter(Lane::COLD).lane().number());
            let left = inside.remove(7).lane().number();
            assert_eq!(waiting.join().expect("no panic"), left);
        });
    }

    #[test]
    fn what_many_count_in_the_same_lane_is_exact() {
        let lanes = Lanes::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let inside = lanes.enter(Lane::COLD);
                        inside.flow(1).take(3);
                        inside.flow(1).give_back(1);
                    }
                });
            }
        });
        let Flows { taken, given_back, .. } = lanes.flows(1);
        assert_eq!((taken, given_back), (240_000, 80_000));
    }
}
