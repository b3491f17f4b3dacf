//! A histogram of fixed bounds. HOT: one observation is a search of the bounds and two relaxed additions.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts observations between the bounds of a [`Scale`].
#[derive(Debug)]
pub(super) struct Histogram<const N: usize> {
    scale: &'static Scale<N>,
    /// One count a bound: observations up to and including it, above the bound before.
    counts: [AtomicU64; N],
    /// Observations above the last bound.
    above: AtomicU64,
    sum: AtomicU64,
}

/// The bounds of a histogram, and the unit that it counts in.
#[derive(Debug)]
pub(super) struct Scale<const N: usize> {
    /// Upper bounds, inclusive, rising, in the unit counted in.
    pub bounds: [u64; N],
    /// How many of the unit counted in make one of the unit shown.
    pub per_shown: u64,
    /// An observation above this is counted as this, so that one absurd value cannot wrap the sum.
    pub value_max: u64,
}

/// A histogram read at one moment, or the sum of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading<const N: usize> {
    pub counts: [u64; N],
    pub above: u64,
    /// In the unit counted in.
    pub sum: u64,
}

impl<const N: usize> Histogram<N> {
    /// Makes an empty histogram.
    pub fn new(scale: &'static Scale<N>) -> Self {
        Self { scale, counts: [const { AtomicU64::new(0) }; N], above: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Counts one value, in the unit counted in.
    pub fn observe(&self, value: u64) {
        let value = value.min(self.scale.value_max);
        let position = self.scale.bounds.partition_point(|bound| *bound < value);
        // Relaxed, here and below: a count publishes nothing but itself.
        self.counts.get(position).unwrap_or(&self.above).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Reads the counts; the sum may be a few observations apart from them.
    pub fn read(&self) -> Reading<N> {
        Reading {
            counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            above: self.above.load(Ordering::Relaxed),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

impl<const N: usize> Reading<N> {
    /// Makes the reading of a histogram without observations.
    pub fn empty() -> Self {
        Self { counts: [0; N], above: 0, sum: 0 }
    }

    /// Adds another reading.
    pub fn add(mut self, other: &Self) -> Self {
        // Wrapping: counters wrap by nature, and the reader of a series takes that for a restart.
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count = count.wrapping_add(*more));
        self.above = self.above.wrapping_add(other.above);
        self.sum = self.sum.wrapping_add(other.sum);
        self
    }

    /// Returns how many observations there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(self.above, |sum, count| sum.wrapping_add(*count))
    }

    /// Returns bounds and counts in the unit shown, the last bound being infinite.
    pub fn buckets(&self, scale: &Scale<N>) -> Vec<(f64, u64)> {
        let bounds = scale.bounds.iter().map(|bound| scale.shown(*bound));
        let counts = self.counts.iter().copied();
        bounds.zip(counts).chain([(f64::INFINITY, self.above)]).collect()
    }
}

impl<const N: usize> Scale<N> {
    /// Turns a value from the unit counted in to the unit shown.
    pub fn shown(&self, value: u64) -> f64 {
        float(value) / float(self.per_shown)
    }
}

/// Turns a count into a float, exactly up to 2^53 and to the nearest float above.
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    static SCALE: Scale<3> = Scale { bounds: [1_000, 2_000, 5_000], per_shown: 1_000, value_max: 10_000 };

    #[test]
    fn a_bound_belongs_to_its_bucket_and_the_next_value_does_not() {
        let histogram = Histogram::new(&SCALE);
        for value in [0, 1_000, 1_001, 2_000, 2_001, 5_000, 5_001] {
            histogram.observe(value);
        }
        let reading = histogram.read();
        assert_eq!((reading.counts, reading.above), ([2, 2, 2], 1));
        assert_eq!((reading.count(), reading.sum), (7, 16_003));
        assert_eq!(reading.buckets(&SCALE), [(1.0, 2), (2.0, 2), (5.0, 2), (f64::INFINITY, 1)]);
    }

    #[test]
    fn an_absurd_value_is_counted_without_wrapping_the_sum() {
        let histogram = Histogram::new(&SCALE);
        (0..2).for_each(|_| histogram.observe(u64::MAX));
        let reading = histogram.read();
        assert_eq!((reading.above, reading.sum), (2, 20_000));
    }

    proptest! {
        #[test]
        fn cumulative_counts_are_those_of_a_plain_count(values in prop::collection::vec(0_u64..9_000, 0..50)) {
            let (first, second) = (Histogram::new(&SCALE), Histogram::new(&SCALE));
            for (index, value) in values.iter().enumerate() {
                if index % 2 == 0 { first.observe(*value) } else { second.observe(*value) }
            }
            let reading = Reading::empty().add(&first.read()).add(&second.read());
            let mut cumulative = 0;
            for (bound, count) in SCALE.bounds.iter().zip(reading.counts) {
                cumulative += count;
                prop_assert_eq!(cumulative, values.iter().filter(|value| *value <= bound).count() as u64);
            }
            prop_assert_eq!(reading.count(), values.len() as u64);
            prop_assert_eq!(reading.sum, values.iter().sum::<u64>());
        }
    }
}
