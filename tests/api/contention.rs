//! Many callers and the operator at once: limits hold, and what is taken is what was not given back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::request::{Request, unique};
use crate::till::{NOTHING, Taken, Till};

const LIMIT: &str = "merchant-day";
const CEILING_FEN: u64 = 2000;
const CALLERS: u64 = 8;
const ORDERS_PER_CALLER: u64 = 24;

#[test]
fn at_no_time_is_more_taken_than_the_limit_has_and_in_the_end_every_fen_is_accounted_for() {
    let limit = format!("[[limit]]\nid = \"{LIMIT}\"\nper = [\"merchant\"]\nday_fen = {CEILING_FEN}\n");
    let till = Till::with(&limit, |settings| settings.set("gate.workers", 4));
    let over = AtomicBool::new(false);
    let (expected, refused) = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let Taken { held, committed } = till.taken(LIMIT);
                assert!(held + committed <= CEILING_FEN, "{held} + {committed}");
            }
        });
        let till = &till;
        let callers: Vec<_> = (0..CALLERS).map(|caller| scope.spawn(move || call(till, caller))).collect();
        let sums = callers.into_iter().map(|caller| caller.join().expect("no panic"));
        let sum = sums.fold((NOTHING, 0), |(sum, refused), (taken, refusals)| {
            let sum = Taken { held: sum.held + taken.held, committed: sum.committed + taken.committed };
            (sum, refused + refusals)
        });
        over.store(true, Ordering::Relaxed);
        watcher.join().expect("no panic");
        sum
    });
    assert_eq!(till.taken(LIMIT), expected);
    assert!(refused > 0 && expected.held > 0 && expected.committed > 0, "{refused} refused, {expected:?}");
    let left = CEILING_FEN - expected.held - expected.committed;
    till.refuse(&unique("o"), left + 1);
    till.assert_conserved();
}

/// Makes orders and settles them in every way, some of them twice at once; returns what must be left of them, and how many
/// were refused.
fn call(till: &Till, caller: u64) -> (Taken, u64) {
    let mut client = till.gate.connect("check");
    let (mut taken, mut refused) = (NOTHING, 0);
    for round in 0..ORDERS_PER_CALLER {
        let (number, fen) = (unique("o"), 1 + (7 * caller + 13 * round) % 97);
        let answer = client.ask(&Request::order(&number, fen));
        if answer.status() == 403 {
            refused += 1;
            continue;
        }
        let json = answer.json();
        let decision = json["decision"].as_str().expect("a decision");
        match round % 6 {
            0 => taken.held += fen,
            1 => {
                taken.committed += fen;
                assert_eq!(settle_twice(till, decision, "commit"), 1, "one of them did it");
            }
            2 => {
                // A close that the upstream agrees to.
                assert_eq!(till.ask(&Request::close(&number)).status(), 200);
                assert_eq!(till.settle(decision, "release", "").json()["already"], true);
            }
            _ => assert_eq!(settle_twice(till, decision, "release"), 1, "one of them did it"),
        }
    }
    (taken, refused)
}

/// Settles a decision twice at once; returns how many of the two calls changed anything.
fn settle_twice(till: &Till, decision: &str, verb: &str) -> usize {
    let changed = || {
        let answer = till.settle(decision, verb, "");
        assert_eq!(answer.status(), 200, "{answer:?}");
        usize::from(answer.json()["already"] == false)
    };
    thread::scope(|scope| {
        let other = scope.spawn(changed);
        changed() + other.join().expect("no panic")
    })
}
