//! Distributions of times, and a log of them by the second that takes no memory.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2Serializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError};

/// Makes an empty histogram of nanoseconds.
#[expect(clippy::expect_used, reason = "the bounds are constants that the format takes")]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, NANOSECONDS_MAX, DIGITS).expect("bounds that a histogram can have")
}

/// Enters a time; one that is too long counts as the longest.
pub fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(nanoseconds(duration).max(1));
}

/// Returns a time in nanoseconds.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A log of one histogram for each second, in nanoseconds. A histogram takes a quarter of a megabyte: each is written as
/// soon as its second is over, and its memory used again.
pub struct SecondsLog<'a> {
    out: &'a mut dyn Write,
    serializer: V2Serializer,
    current: Histogram<u64>,
    /// Which second of the run the histogram is of.
    second: u64,
}

impl<'a> SecondsLog<'a> {
    /// Writes the head of a log.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn begin(mut out: &'a mut dyn Write) -> io::Result<Self> {
        let mut serializer = V2Serializer::new();
        let now = SystemTime::now();
        IntervalLogWriterBuilder::new()
            .add_comment("latencies in nanoseconds, by the second of the answer")
            .with_start_time(now)
            .with_base_time(now)
            .begin_log_with(&mut out, &mut serializer)?;
        Ok(Self { out, serializer, current: histogram(), second: 0 })
    }

    /// Enters a latency, by the time of the answer since the start of the run. One of a second that is written already
    /// counts in the one that is not.
    ///
    /// # Errors
    /// Where a second that is over can't be written.
    pub fn record(&mut self, since: Duration, latency: Duration) -> io::Result<()> {
        if since.as_secs() > self.second {
            self.write()?;
            self.second = since.as_secs();
        }
        record(&mut self.current, latency);
        Ok(())
    }

    /// Writes the last second.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn end(mut self) -> io::Result<()> {
        self.write()?;
        self.out.flush()
    }

    fn write(&mut self) -> io::Result<()> {
        if self.current.is_empty() {
            return Ok(());
        }
        let mut writer = IntervalLogWriterBuilder::new().begin_log_with(&mut self.out, &mut self.serializer)?;
        let written =
            writer.write_histogram(&self.current, Duration::from_secs(self.second), Duration::from_secs(1), None);
        self.current.reset();
        written.map_err(|error| match error {
            IntervalLogWriterError::IoError(error) => error,
            IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
        })
    }
}

/// Longest latency that is told apart, in nanoseconds: two minutes.
const NANOSECONDS_MAX: u64 = 120_000_000_000;

/// Significant decimal digits of a latency.
const DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    #[test]
    fn a_log_has_a_line_for_each_second_in_which_something_was_answered() {
        let mut bytes = Vec::new();
        let mut log = SecondsLog::begin(&mut bytes).expect("begun");
        for at_ms in [10, 20, 1500, 900, 4000] {
            log.record(Duration::from_millis(at_ms), Duration::from_micros(at_ms)).expect("entered");
        }
        log.end().expect("written");
        let entries = IntervalLogIterator::new(&bytes).map(|entry| entry.expect("a line"));
        let starts_s: Vec<u64> = entries
            .filter_map(|entry| match entry {
                LogEntry::Interval(interval) => Some(interval.start_timestamp().as_secs()),
                LogEntry::StartTime(_) | LogEntry::BaseTime(_) => None,
            })
            .collect();
        assert_eq!(starts_s, [0, 1, 4]);
    }

    #[test]
    fn times_beyond_the_longest_count_as_that() {
        let mut histogram = histogram();
        record(&mut histogram, Duration::MAX);
        record(&mut histogram, Duration::ZERO);
        assert_eq!((histogram.len(), histogram.min()), (2, 1));
        assert!(histogram.max() >= NANOSECONDS_MAX);
    }
}
