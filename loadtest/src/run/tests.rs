//! Tests of the loop, against targets that stall.

use super::*;
use crate::traffic::Planned;

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
    fn may_send(&mut self, _: &Prepared) -> bool {
        true
    }
}

fn pool(count: u64, gap: Duration) -> Vec<Prepared> {
    let one = |number: u64| Planned {
        at: gap * u32::try_from(number).expect("few"),
        order: usize::try_from(number).expect("few"),
        ..Planned::nothing()
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
    driven(&mut target, &pool, &pace(closed, Duration::from_secs(2)), &mut Nobody)
}

fn driven(target: &mut dyn Target, pool: &[Prepared], pace: &Pace, observer: &mut dyn Observer) -> Measured {
    driven_by(target, Requests::Signed(pool), pace, observer)
}

fn driven_by(target: &mut dyn Target, requests: Requests<'_>, pace: &Pace, observer: &mut dyn Observer) -> Measured {
    let mut nowhere = std::io::sink();
    let log = SecondsLog::begin(&mut nowhere).expect("a log");
    drive(target, requests, pace, observer, log, Watch::begin(pace.run, &mut |_| {})).expect("a run")
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
    let measured = driven(&mut target, &pool(100, Duration::from_millis(1)), &pace, &mut Nobody);
    assert_eq!((measured.sent, measured.unsent, measured.timed_out, measured.valid), (4, 96, 4, false));
}

#[test]
fn a_generator_that_can_not_keep_up_is_found_out() {
    /// Takes longer over each look than there is between two requests.
    struct Slow;
    impl Observer for Slow {
        fn answered(&mut self, _: &Prepared, _: &Answered) {}
        fn tick(&mut self, _: Instant) {
            std::thread::sleep(Duration::from_millis(400));
        }
        fn may_send(&mut self, _: &Prepared) -> bool {
            true
        }
    }
    let pool = pool(200, Duration::from_millis(1));
    for (observer, valid) in [(&mut Slow as &mut dyn Observer, false), (&mut Nobody, true)] {
        let stall = (Duration::from_secs(60), Duration::ZERO);
        let mut target = Stalling { start: Instant::now(), stall, under_way: Vec::new(), connections: 64 };
        let pace = Pace { lateness_max: Duration::from_millis(200), ..pace(None, Duration::from_millis(300)) };
        assert_eq!(driven(&mut target, &pool, &pace, observer).valid, valid);
    }
}

#[test]
fn one_request_is_sent_again_and_again_at_a_rate_or_as_fast_as_it_is_answered() {
    let request = &pool(1, Duration::ZERO)[0];
    let run = Duration::from_millis(300);
    for (closed, per_second) in [(None, 1000.0), (Some(2), f64::INFINITY)] {
        let never = (Duration::from_secs(60), Duration::ZERO);
        let mut target = Stalling { start: Instant::now(), stall: never, under_way: Vec::new(), connections: 4 };
        let requests = Requests::Same { request, per_second, run };
        let measured = driven_by(&mut target, requests, &pace(closed, run), &mut Nobody);
        assert_eq!((measured.sent, measured.unsent), (measured.answered, 0), "{closed:?}");
        match closed {
            None => assert_eq!(measured.sent, 300),
            Some(_) => assert!(measured.sent > 300 && measured.took >= run, "{}", measured.sent),
        }
    }
}

#[test]
fn what_is_not_reached_of_a_rate_is_counted_as_unsent() {
    let stall = (Duration::ZERO, Duration::from_secs(60));
    let mut target = Stalling { start: Instant::now(), stall, under_way: Vec::new(), connections: 4 };
    let run = Duration::from_millis(100);
    let requests = Requests::Same { request: &pool(1, Duration::ZERO)[0], per_second: 1000.0, run };
    let pace = Pace { drain: Duration::from_millis(50), ..pace(None, run) };
    let measured = driven_by(&mut target, requests, &pace, &mut Nobody);
    assert_eq!((measured.sent, measured.unsent, measured.timed_out, measured.valid), (4, 96, 4, false));
}

#[test]
fn what_may_not_be_sent_is_left_out_and_holds_nothing_up() {
    struct Odd;
    impl Observer for Odd {
        fn answered(&mut self, prepared: &Prepared, _: &Answered) {
            assert_eq!(prepared.planned.order % 2, 1);
        }
        fn tick(&mut self, _: Instant) {}
        fn may_send(&mut self, prepared: &Prepared) -> bool {
            prepared.planned.order % 2 == 1
        }
    }
    let never = (Duration::from_secs(60), Duration::ZERO);
    for closed in [None, Some(2)] {
        let mut target = Stalling { start: Instant::now(), stall: never, under_way: Vec::new(), connections: 4 };
        let pool = pool(100, Duration::from_millis(1));
        let measured = driven(&mut target, &pool, &pace(closed, Duration::from_millis(200)), &mut Odd);
        assert_eq!((measured.sent, measured.answered, measured.withheld, measured.unsent), (50, 50, 50, 0));
    }
}
