//! What a run shows while it goes on: plain lines of progress, and how much memory this process takes.

use std::time::Duration;

/// Counts of a run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub sent: u64,
    /// Answers of every kind.
    pub answered: u64,
    pub refused: u64,
    pub timed_out: u64,
    /// Requests that are due and wait for a free connection.
    pub waiting: u64,
    /// How late the generator was in 99 of 100 requests, in microseconds; none in a closed loop.
    pub late_us: Option<u64>,
}

/// Memory of this process in KiB: what is resident of it at four instants of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Resident {
    /// Before the first request, all that is signed ahead included.
    pub start: u64,
    /// A tenth into the run, when buffers have grown to what they need.
    pub warm: u64,
    pub middle: u64,
    /// After the last answer.
    pub end: u64,
}

/// Looks at a run from time to time.
pub struct Watch<'a> {
    tell: &'a mut dyn FnMut(&str),
    run: Duration,
    /// When the next line is due, from the start.
    next: Duration,
    resident: Resident,
}

impl<'a> Watch<'a> {
    /// Begins to watch a run of this length; `tell` takes the lines.
    pub fn begin(run: Duration, tell: &'a mut dyn FnMut(&str)) -> Self {
        let resident = Resident { start: resident_kib(), ..Resident::default() };
        Self { tell, run, next: PROGRESS_EVERY, resident }
    }

    /// Looks, where it is time to. Called often.
    pub fn look(&mut self, since: Duration, counts: impl FnOnce() -> Counts) {
        if self.resident.warm == 0 && since >= self.run / 10 {
            self.resident.warm = resident_kib();
        }
        if self.resident.middle == 0 && since >= self.run / 2 {
            self.resident.middle = resident_kib();
        }
        if since >= self.next {
            // After a pause the lines that were missed are not made up for.
            self.next = since + PROGRESS_EVERY;
            (self.tell)(&counts().line(since));
        }
    }

    /// Looks a last time.
    pub fn end(self) -> Resident {
        let end = resident_kib();
        let Resident { start, warm, middle, .. } = self.resident;
        // A run that ended early has the instants that it did not reach at its end.
        let or_end = |kib: u64| if kib == 0 { end } else { kib };
        Resident { start, warm: or_end(warm), middle: or_end(middle), end }
    }
}

impl Counts {
    fn line(self, since: Duration) -> String {
        let Self { sent, answered, refused, timed_out, waiting, late_us } = self;
        let late = late_us.map_or_else(String::new, |late_us| format!(", late {late_us} us (p99)"));
        let since_s = since.as_secs();
        format!(
            "{since_s:>4} s: {sent} sent, {answered} answered, {refused} refused, {timed_out} timed out, \
             {waiting} waiting{late}"
        )
    }
}

/// Reads how much of this process is in memory, in KiB; 0 where the system does not say.
pub fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}

/// How often a line is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_every_two_seconds_and_memory_is_looked_at_along_the_run() {
        let mut lines = Vec::new();
        let mut tell = |line: &str| lines.push(line.to_owned());
        let mut watch = Watch::begin(Duration::from_secs(6), &mut tell);
        let counts = Counts { sent: 7, answered: 5, refused: 2, late_us: Some(31), ..Counts::default() };
        for tenths in 0..=60 {
            watch.look(Duration::from_millis(tenths * 100), || counts);
        }
        let Resident { start, warm, middle, end } = watch.end();
        assert!([start, warm, middle, end].iter().all(|kib| *kib > 100), "{start} {warm} {middle} {end}");
        let expected = "7 sent, 5 answered, 2 refused, 0 timed out, 0 waiting, late 31 us (p99)";
        assert_eq!(lines, [2, 4, 6].map(|second| format!("   {second} s: {expected}")));
    }

    #[test]
    fn what_is_taken_more_is_seen() {
        let before = resident_kib();
        // More than all that other tests of this process could free meanwhile.
        let more = std::hint::black_box(vec![1_u8; 256 << 20]);
        assert!(resident_kib() >= before + 64 * 1024, "{before}");
        drop(more);
    }
}
