//! Drives a target, by a clock that does not wait for it.
//!
//! Open loop: each request has an intended instant, and its latency counts from there, however late it could be sent. So a
//! target that stalls shows it in every request that fell due meanwhile, and not in one (coordinated omission).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::latency::{SecondsLog, histogram, nanoseconds, record};
use crate::pool::Prepared;
use crate::target::{Answered, Outcome, Target, TargetError};
use crate::watch::{Counts, Resident, Watch};

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

/// What is sent.
#[derive(Clone, Copy)]
pub enum Requests<'a> {
    /// Each of these once, at its time.
    Signed(&'a [Prepared]),
    /// This one again and again, evenly at a rate: it takes no memory however long the run.
    Same { request: &'a Prepared, per_second: f64, run: Duration },
}

impl Requests<'_> {
    fn get(&self, number: usize) -> Option<&Prepared> {
        match self {
            Self::Signed(pool) => pool.get(number),
            Self::Same { request, .. } => Some(request),
        }
    }

    /// Returns when one is to be sent, from the start; `None` where there are no more.
    fn at(&self, number: usize) -> Option<Duration> {
        match self {
            Self::Signed(pool) => pool.get(number).map(|one| one.planned.at),
            Self::Same { per_second, run, .. } => {
                let at = Duration::try_from_secs_f64(number as f64 / per_second).ok();
                at.filter(|at| at < run)
            }
        }
    }

    /// Returns how many are due before the end and were not reached.
    fn after(&self, next: usize) -> u64 {
        match self {
            Self::Signed(pool) => pool.len().saturating_sub(next) as u64,
            Self::Same { .. } => (next..).take_while(|number| self.at(*number).is_some()).count() as u64,
        }
    }
}

/// What was measured.
pub struct Measured {
    /// Latencies in nanoseconds: from the intended instant, or from sending in a closed loop.
    pub latency: Histogram<u64>,
    /// From sending to the answer, in nanoseconds.
    pub service: Histogram<u64>,
    /// How late the generator noticed that requests were due, in nanoseconds.
    pub lateness: Histogram<u64>,
    pub sent: u64,
    /// Requests that there was no time or connection for.
    pub unsent: u64,
    /// Requests that were left out because what they follow on did not come about.
    pub withheld: u64,
    pub admitted: u64,
    pub refused: u64,
    pub answered: u64,
    pub timed_out: u64,
    pub failed: u64,
    /// From the first request to the last answer.
    pub took: Duration,
    pub resident: Resident,
    /// Whether the generator kept up: else the figures say nothing of the target.
    pub valid: bool,
}

/// Somebody who is told of each answer.
pub trait Observer {
    /// Takes an answer.
    fn answered(&mut self, prepared: &Prepared, answered: &Answered);

    /// Does what is due; called often, and must not take long.
    fn tick(&mut self, now: Instant);

    /// Tells whether a request may be sent, now that it is due; one that may not is left out.
    fn may_send(&mut self, prepared: &Prepared) -> bool;
}

/// Sends all requests; every latency goes to the log, and `watch` looks on.
///
/// # Errors
/// Where the target fails for good, or the log can't be written.
pub fn drive(
    target: &mut dyn Target,
    requests: Requests<'_>,
    pace: &Pace,
    observer: &mut dyn Observer,
    mut log: SecondsLog<'_>,
    mut watch: Watch<'_>,
) -> Result<Measured, TargetError> {
    let start = Instant::now();
    let mut run =
        Run { requests, pace: *pace, start, measured: Measured::new(), due: VecDeque::new(), next: 0, open: 0 };
    let mut answers = Vec::new();
    loop {
        let now = Instant::now();
        run.notice(now);
        run.send(target, observer, now)?;
        target.poll(run.patience(), &mut answers)?;
        for answered in answers.drain(..) {
            let latency = run.take(&answered);
            let since = answered.at.saturating_duration_since(start);
            log.record(since, latency).map_err(TargetError::Log)?;
            if let Some(prepared) = requests.get(answered.request) {
                observer.answered(prepared, &answered);
            }
        }
        observer.tick(now);
        watch.look(now.duration_since(start), || run.counts());
        if run.is_over(now) {
            log.end().map_err(TargetError::Log)?;
            return Ok(run.end(watch));
        }
    }
}

struct Run<'a> {
    requests: Requests<'a>,
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
            while running && self.open + self.due.len() < closed && self.requests.at(self.next).is_some() {
                self.due.push_back(self.next);
                self.next += 1;
            }
            return;
        }
        while let Some(at) = self.requests.at(self.next).filter(|at| self.start + *at <= now) {
            let late = now.duration_since(self.start + at);
            record(&mut self.measured.lateness, late);
            self.due.push_back(self.next);
            self.next += 1;
        }
    }

    fn send(&mut self, target: &mut dyn Target, observer: &mut dyn Observer, now: Instant) -> Result<(), TargetError> {
        if now.duration_since(self.start) > self.pace.run + self.pace.drain {
            return Ok(());
        }
        while let Some(number) = self.due.front().copied() {
            let Some(prepared) = self.requests.get(number) else { break };
            if !observer.may_send(prepared) {
                self.due.pop_front();
                self.measured.withheld += 1;
                continue;
            }
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
        let next = self.requests.at(self.next).map(|at| self.start + at);
        let until = next.map_or(PATIENCE, |next| next.saturating_duration_since(Instant::now()));
        if until < SPUN { Duration::ZERO } else { (until - SPUN).min(PATIENCE) }
    }

    /// Counts an answer; returns its latency.
    fn take(&mut self, answered: &Answered) -> Duration {
        self.open = self.open.saturating_sub(1);
        let service = answered.at.saturating_duration_since(answered.sent);
        let intended = match (self.pace.closed, self.requests.at(answered.request)) {
            (None, Some(at)) => self.start + at,
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
        latency
    }

    fn counts(&self) -> Counts {
        let Measured { sent, admitted, refused, answered, timed_out, lateness, .. } = &self.measured;
        let late_ns = self.pace.closed.is_none().then(|| lateness.value_at_quantile(0.99));
        Counts {
            sent: *sent,
            answered: admitted + refused + answered,
            refused: *refused,
            timed_out: *timed_out,
            waiting: self.due.len() as u64,
            late_us: late_ns.map(|late_ns| late_ns / 1000),
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        let since = now.duration_since(self.start);
        let all_due = self.requests.at(self.next).is_none() || (self.pace.closed.is_some() && since >= self.pace.run);
        (all_due && self.due.is_empty() && self.open == 0) || since > self.pace.run + self.pace.drain
    }

    fn end(mut self, watch: Watch<'_>) -> Measured {
        let measured = &mut self.measured;
        measured.took = self.start.elapsed();
        measured.unsent = self.due.len() as u64;
        if self.pace.closed.is_none() {
            measured.unsent += self.requests.after(self.next);
        }
        // What is still under way was sent and not answered.
        measured.timed_out += self.open as u64;
        measured.resident = watch.end();
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
            sent: 0,
            unsent: 0,
            withheld: 0,
            admitted: 0,
            refused: 0,
            answered: 0,
            timed_out: 0,
            failed: 0,
            took: Duration::ZERO,
            resident: Resident::default(),
            valid: false,
        }
    }
}

/// Longest wait for an answer before other things are looked after.
const PATIENCE: Duration = Duration::from_millis(10);

/// Waits shorter than this are spent looking: kernels with a tick of 4 ms wake up as late as that.
const SPUN: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
