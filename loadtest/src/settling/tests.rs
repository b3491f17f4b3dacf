//! Tests of what becomes of orders, against a gate that settles at once.

use super::*;
use crate::scenario::Scenario;
use crate::traffic::{Original, Planned};

/// Settles as a gate would that has released these, and others whose holds have run out.
#[derive(Default)]
struct Gate {
    released: HashSet<u128>,
    expired: bool,
    /// So many releases have to wait.
    pending: usize,
    done: Vec<(Settle, Settled)>,
}

impl Settler for Gate {
    fn settle(&mut self, settle: Settle) {
        let settled = match settle.commit {
            true if self.released.contains(&settle.decision) => Settled::Conflict,
            true => Settled::Done { late: self.expired },
            false if self.pending > 0 => {
                self.pending -= 1;
                Settled::Pending
            }
            false => {
                self.released.insert(settle.decision);
                Settled::Done { late: false }
            }
        };
        self.done.push((settle, settled));
    }

    fn settled(&mut self) -> Vec<(Settle, Settled)> {
        std::mem::take(&mut self.done)
    }
}

fn prepared(order: usize, fate: Fate) -> Prepared {
    Prepared { planned: Planned { order, fate, amount_fen: 10, ..Planned::nothing() }, bytes: Vec::new() }
}

fn admitted(decision: u128, duplicate: bool) -> Outcome {
    Outcome::Admitted { decision, duplicate: Some(duplicate) }
}

/// Admits an order of each fate, and settles what is to be.
fn settled(holds_end: bool, gate: &mut Gate, check: impl FnOnce(&mut Bookkeeper<'_>)) {
    let scenario = Scenario::load("hostile".as_ref()).expect("a scenario");
    let mchids = ["m-0".to_owned()];
    let names = Names { scenario: &scenario, mchids: &mchids, offset_s: 0 };
    let mut keeper = Bookkeeper::new(names, gate, holds_end);
    for (number, fate) in [Fate::Commit, Fate::Release, Fate::Late, Fate::Missing].into_iter().enumerate() {
        assert!(keeper.enter(&admitted(number as u128, false), &prepared(number, fate), 0, Instant::now()));
    }
    assert!(keeper.finish(Duration::from_secs(5)));
    check(&mut keeper);
    assert_eq!(keeper.ledger.faults(), Vec::<String>::new());
}

#[test]
fn where_no_hold_runs_out_a_late_commit_follows_a_release_and_is_refused() {
    settled(false, &mut Gate::default(), |keeper| {
        let wanted = Settles { committed: 1, released: 2, conflicts: 1, ..Settles::default() };
        assert_eq!(keeper.settles, wanted);
    });
}

#[test]
fn a_release_that_has_to_wait_is_asked_for_again_and_counts_once() {
    settled(false, &mut Gate { pending: 3, ..Gate::default() }, |keeper| {
        let wanted = Settles { committed: 1, released: 2, conflicts: 1, repeated: 3, ..Settles::default() };
        assert_eq!(keeper.settles, wanted);
    });
}

#[test]
fn where_holds_run_out_a_late_commit_comes_after_that() {
    settled(true, &mut Gate { expired: true, ..Gate::default() }, |keeper| {
        assert_eq!(keeper.settles.conflicts, 0, "it waits");
        keeper.end_holds();
        assert!(keeper.finish(Duration::from_secs(5)));
        assert_eq!((keeper.settles.expired, keeper.settles.released), (2, 1));
        assert!(keeper.ledger.is_committed(0, 2), "the late one");
    });
}

#[test]
fn answers_are_counted_by_kind_and_by_what_the_gate_called_them() {
    settled(false, &mut Gate::default(), |keeper| {
        let again = |kind| {
            let mut prepared = prepared(0, Fate::Commit);
            prepared.planned.kind = kind;
            prepared
        };
        let refused = Outcome::Refused { code: "401 SIGN_ERROR".to_owned() };
        keeper.enter(&admitted(0, true), &again(Kind::Duplicate), 0, Instant::now());
        keeper.enter(&admitted(0, true), &again(Kind::Replay), 0, Instant::now());
        keeper.enter(&refused, &again(Kind::Replay), 0, Instant::now());
        keeper.enter(&Outcome::Admitted { decision: 0, duplicate: None }, &again(Kind::Replay), 0, Instant::now());
        assert!(!keeper.enter(&Outcome::Unknown { timed_out: true }, &again(Kind::Replay), 0, Instant::now()));
        let counts = |kind: &str| keeper.answers[kind].iter().map(|(to, count)| (to.as_str(), *count)).collect();
        let (duplicates, replays): (Vec<_>, Vec<_>) = (counts("duplicate"), counts("replay"));
        assert_eq!(duplicates, [("duplicate", 1)]);
        assert_eq!(replays, [("401 SIGN_ERROR", 1), ("admitted again", 1), ("duplicate", 1)]);
        assert_eq!(keeper.ledger.repeats(), 3);
    });
}

#[test]
fn a_refund_may_be_sent_once_its_payment_is_committed() {
    settled(false, &mut Gate::default(), |keeper| {
        let refund = |of: usize| {
            let original = Some(Original { order: of, amount_fen: 10 });
            let mut prepared = prepared(9, Fate::Commit);
            prepared.planned = Planned { kind: Kind::Refund, original, ..prepared.planned };
            prepared
        };
        let may: Vec<bool> = (0..5).map(|of| keeper.may_send(&refund(of))).collect();
        assert_eq!(may, [true, false, false, false, false]);
        assert!(keeper.may_send(&prepared(9, Fate::Commit)));
    });
}
