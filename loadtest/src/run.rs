//! Drives a target, by a clock that does not wait for it.
//!
//! Open loop: each request has an intended instant, and its latency counts from there, however late it could be sent. So a
//! target that stalls shows it in every request that fell due meanwhile, and not in one (coordinated omission).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::pool::Prepared;
use crate::target::{Answered, Outcome, Target, TargetError};

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// `None`: open, by the times of the requests. Else so many requests are under way at all times.
    pub closed: Option<usize>,
    /// When to stop sending, from the start.
    pub run: Duration,
    /// How long to wait for the last answers.
    pub drain: Duration,
    /// The generator's own lateness that 99 of 100 requests must stay below.
    pub lateness_max: Duration,
}

/// What was measured.
pub struct Measured {
    /// Latencies in nanoseconds: from the intended instant, or from sending in a closed loop.
    pub latency: Histogram<u64>,
    /// From sending to the answer, in nanoseconds.
    pub service: Histogram<u64>,
    /// How late the generator noticed that requests were due, in nanoseconds.
    pub lateness: Histogram<u64>,
    /// Latencies of each second by itself, by the instant of the answer.
    pub seconds: Vec<Histogram<u64>>,
    pub sent: u64,
    pub unsent: u64,
    pub admitted: u64,
    pub refused: u64,
    pub answered: u64,
    pub timed_out: u64,
    pub failed: u64,
    /// From the first request to the last answer.
    pub took: Duration,
    /// Whether the generator kept up: else the figures say nothing of the target.
    pub valid: bool,
}

/// Somebody who is told of each answer.
pub trait Observer {
    /// Takes an answer.
    fn answered(&mut self, prepared: &Prepared, answered: &Answered);

    /// Does what is due; called often, and must not take long.
    fn tick(&mut self, now: Instant);
}

/// Sends all requests.
///
/// # Errors
/// Where the target fails for good.
pub fn drive(
    target: &mut dyn Target,
    pool: &[Prepared],
    pace: &Pace,
    observer: &mut dyn Observer,
) -> Result<Measured, TargetError> {
    let start = Instant::now();
    let mut run = Run { pool, pace: *pace, start, measured: Measured::new(), due: VecDeque::new(), next: 0, open: 0 };
    let mut answers = Vec::new();
    loop {
        let now = Instant::now();
        run.notice(now);
        run.send(target, now)?;
        target.poll(run.patience(), &mut answers)?;
        for answered in answers.drain(..) {
            run.take(&answered);
            if let Some(prepared) = pool.get(answered.request) {
                observer.answered(prepared, &answered);
            }
        }
        observer.tick(now);
        if run.is_over(now) {
            return Ok(run.end());
        }
    }
}

struct Run<'a> {
    pool: &'a [Prepared],
    pace: Pace,
    start: Instant,
    measured: Measured,
    /// Requests that are due and not sent.
    due: VecDeque<usize>,
    /// The next request that is not due.
    next: usize,
    /// Requests under way.
    open: usize,
}

impl Run<'_> {
    /// Moves on to the requests that are due by now.
    fn notice(&mut self, now: Instant) {
        if let Some(closed) = self.pace.closed {
            let running = now.duration_since(self.start) < self.pace.run;
            while running && self.open + self.due.len() < closed && self.next < self.pool.len() {
                self.due.push_back(self.next);
                self.next += 1;
            }
            return;
        }
        while let Some(one) = self.pool.get(self.next).filter(|one| self.start + one.planned.at <= now) {
            let late = now.duration_since(self.start + one.planned.at);
            record(&mut self.measured.lateness, late);
            self.due.push_back(self.next);
            self.next += 1;
        }
    }

    fn send(&mut self, target: &mut dyn Target, now: Instant) -> Result<(), TargetError> {
        if now.duration_since(self.start) > self.pace.run + self.pace.drain {
            return Ok(());
        }
        while let Some(number) = self.due.front().copied() {
            let Some(prepared) = self.pool.get(number) else { break };
            if !target.send(number, prepared)? {
                break;
            }
            self.due.pop_front();
            self.open += 1;
            self.measured.sent += 1;
        }
        Ok(())
    }

    /// Returns how long to wait for answers before the next request is due. Short waits are spent looking: the system
    /// wakes nobody up to the microsecond.
    fn patience(&self) -> Duration {
        if self.pace.closed.is_some() {
            return PATIENCE;
        }
        let next = self.pool.get(self.next).map(|one| self.start + one.planned.at);
        let until = next.map_or(PATIENCE, |next| next.saturating_duration_since(Instant::now()));
        if until < SPUN { Duration::ZERO } else { (until - SPUN).min(PATIENCE) }
    }

    fn take(&mut self, answered: &Answered) {
        self.open = self.open.saturating_sub(1);
        let service = answered.at.saturating_duration_since(answered.sent);
        let intended = match (self.pace.closed, self.pool.get(answered.request)) {
            (None, Some(prepared)) => self.start + prepared.planned.at,
            _ => answered.sent,
        };
        let latency = answered.at.saturating_duration_since(intended);
        let measured = &mut self.measured;
        match answered.outcome {
            Outcome::Admitted { .. } => measured.admitted += 1,
            Outcome::Refused { .. } => measured.refused += 1,
            Outcome::Answered => measured.answered += 1,
            Outcome::Unknown { timed_out: true } => measured.timed_out += 1,
            Outcome::Unknown { timed_out: false } => measured.failed += 1,
        }
        record(&mut measured.latency, latency);
        record(&mut measured.service, service);
        let second = answered.at.saturating_duration_since(self.start).as_secs();
        let second = usize::try_from(second).unwrap_or(usize::MAX).min(SECONDS_MAX);
        while measured.seconds.len() <= second {
            measured.seconds.push(histogram());
        }
        if let Some(histogram) = measured.seconds.get_mut(second) {
            record(histogram, latency);
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        let since = now.duration_since(self.start);
        let all_due = self.next >= self.pool.len() || (self.pace.closed.is_some() && since >= self.pace.run);
        (all_due && self.due.is_empty() && self.open == 0) || since > self.pace.run + self.pace.drain
    }

    fn end(mut self) -> Measured {
        let measured = &mut self.measured;
        measured.took = self.start.elapsed();
        measured.unsent = self.due.len() as u64;
        if self.pace.closed.is_none() {
            measured.unsent += self.pool.len().saturating_sub(self.next) as u64;
        }
        // What is still under way was sent and not answered.
        measured.timed_out += self.open as u64;
        measured.valid =
            measured.unsent == 0 && measured.lateness.value_at_quantile(0.99) <= nanoseconds(self.pace.lateness_max);
        self.measured
    }
}

impl Measured {
    fn new() -> Self {
        Self {
            latency: histogram(),
            service: histogram(),
            lateness: histogram(),
            seconds: Vec::new(),
            sent: 0,
            unsent: 0,
            admitted: 0,
            refused: 0,
            answered: 0,
            timed_out: 0,
            failed: 0,
            took: Duration::ZERO,
            valid: false,
        }
    }
}

/// Makes an empty histogram of nanoseconds.
#[expect(clippy::expect_used, reason = "the bounds are constants that the format takes")]
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, NANOSECONDS_MAX, DIGITS).expect("bounds that a histogram can have")
}

fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(nanoseconds(duration).max(1));
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Longest wait for an answer before other things are looked after.
const PATIENCE: Duration = Duration::from_millis(10);

/// Waits shorter than this are spent looking: kernels with a tick of 4 ms wake up as late as that.
const SPUN: Duration = Duration::from_millis(5);

/// Longest latency that is told apart, in nanoseconds: two minutes.
const NANOSECONDS_MAX: u64 = 120_000_000_000;

/// Significant decimal digits of a latency.
const DIGITS: u8 = 3;

/// Most seconds that have a histogram of their own; later ones share the last.
const SECONDS_MAX: usize = 3600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{Channel, Kind, Planned};

    /// Answers at once, but for one stall.
    struct Stalling {
        start: Instant,
        /// From when, and for how long, it answers nothing.
        stall: (Duration, Duration),
        under_way: Vec<(usize, Instant)>,
        connections: usize,
    }

    impl Target for Stalling {
        fn send(&mut self, request: usize, _: &Prepared) -> Result<bool, TargetError> {
            let free = self.under_way.len() < self.connections;
            if free {
                self.under_way.push((request, Instant::now()));
            }
            Ok(free)
        }

        fn poll(&mut self, patience: Duration, answers: &mut Vec<Answered>) -> Result<(), TargetError> {
            let (from, how_long) = self.stall;
            let since = self.start.elapsed();
            if since >= from && since < from + how_long {
                std::thread::sleep(patience.min(Duration::from_millis(1)));
                return Ok(());
            }
            let at = Instant::now();
            let answered = |(request, sent)| Answered { request, sent, at, as_of_s: None, outcome: Outcome::Answered };
            answers.extend(self.under_way.drain(..).map(answered));
            Ok(())
        }
    }

    struct Nobody;

    impl Observer for Nobody {
        fn answered(&mut self, _: &Prepared, _: &Answered) {}
        fn tick(&mut self, _: Instant) {}
    }

    fn pool(count: u64, gap: Duration) -> Vec<Prepared> {
        let one = |number: u64| Planned {
            at: gap * u32::try_from(number).expect("few"),
            kind: Kind::Payment,
            merchant: 0,
            customer: 0,
            channel: Channel::Balance,
            amount_fen: 1,
            order: usize::try_from(number).expect("few"),
        };
        (0..count).map(|number| Prepared { planned: one(number), bytes: Vec::new() }).collect()
    }

    fn pace(closed: Option<usize>, run: Duration) -> Pace {
        Pace { closed, run, drain: Duration::from_secs(5), lateness_max: Duration::from_secs(1) }
    }

    fn stalled(closed: Option<usize>) -> Measured {
        let stall = (Duration::from_millis(500), Duration::from_millis(1000));
        let mut target = Stalling { start: Instant::now(), stall, under_way: Vec::new(), connections: 4 };
        let pool = pool(2000, Duration::from_millis(1));
        drive(&mut target, &pool, &pace(closed, Duration::from_secs(2)), &mut Nobody).expect("a run")
    }

    fn ms(histogram: &Histogram<u64>, quantile: f64) -> u64 {
        histogram.value_at_quantile(quantile) / 1_000_000
    }

    #[test]
    fn a_stall_shows_in_the_latency_of_all_that_fell_due_meanwhile() {
        let measured = stalled(None);
        // Half of the requests fell due in the stall; on average they waited for half of it.
        assert!(ms(&measured.latency, 0.99) >= 900, "{}", ms(&measured.latency, 0.99));
        assert!(ms(&measured.latency, 0.75) >= 400, "{}", ms(&measured.latency, 0.75));
        assert!(ms(&measured.service, 0.90) < 100, "few were sent into it");
        assert_eq!((measured.sent, measured.answered, measured.unsent, measured.timed_out), (2000, 2000, 0, 0));
    }

    #[test]
    fn a_closed_loop_hides_a_stall_which_is_why_it_is_labelled() {
        let measured = stalled(Some(1));
        assert!(ms(&measured.latency, 0.99) < 100, "{}", ms(&measured.latency, 0.99));
    }

    #[test]
    fn what_is_not_sent_and_what_is_not_answered_are_counted_apart() {
        let stall = (Duration::ZERO, Duration::from_secs(60));
        let mut target = Stalling { start: Instant::now(), stall, under_way: Vec::new(), connections: 4 };
        let pace = Pace { drain: Duration::from_millis(50), ..pace(None, Duration::from_millis(100)) };
        let measured = drive(&mut target, &pool(100, Duration::from_millis(1)), &pace, &mut Nobody).expect("a run");
        assert_eq!((measured.sent, measured.unsent, measured.timed_out, measured.valid), (4, 96, 4, false));
    }

    #[test]
    fn a_generator_that_can_not_keep_up_is_found_out() {
        /// Takes longer over each look than there is between two requests.
        struct Slow;
        impl Observer for Slow {
            fn answered(&mut self, _: &Prepared, _: &Answered) {}
            fn tick(&mut self, _: Instant) {
                std::thread::sleep(Duration::from_millis(30));
            }
        }
        let pool = pool(200, Duration::from_millis(1));
        for (observer, valid) in [(&mut Slow as &mut dyn Observer, false), (&mut Nobody, true)] {
            let stall = (Duration::from_secs(60), Duration::ZERO);
            let mut target = Stalling { start: Instant::now(), stall, under_way: Vec::new(), connections: 64 };
            let pace = Pace { lateness_max: Duration::from_millis(20), ..pace(None, Duration::from_millis(300)) };
            assert_eq!(drive(&mut target, &pool, &pace, observer).expect("a run").valid, valid);
        }
    }
}
