//! Many threads at one number.

use std::sync::Barrier;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::*;

const THREADS: usize = 16;

/// Longer than the gate waits: a loaded machine may keep a decision from its core for a while.
const ROUNDS_MAX: u32 = 100 * ORDER_WAIT_ROUNDS_MAX;

/// What one trial of a storm saw.
#[derive(Default)]
struct Seen {
    new: Vec<(usize, DecisionId)>,
    same: Vec<(usize, DecisionId)>,
    used: usize,
}

/// Runs trials in which 16 threads bind one number at one instant; each decides under an id of its own.
fn storm(trials: usize, digest_of: impl Fn(usize) -> u128 + Sync, check: impl Fn(&Seen) + Sync) {
    let (orders, merchant, share) = (table(trials, 1 << 20), merchant(), Arc::default());
    let (start, seen) = (Barrier::new(THREADS), Mutex::new(Seen::default()));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (orders, merchant, share, start, seen) = (&orders, &merchant, &share, &start, &seen);
            let (digest_of, check) = (&digest_of, &check);
            scope.spawn(move || {
                for trial in 0..trials {
                    let number = trial.to_string();
                    start.wait();
                    let name = payment(merchant, &number);
                    let binding = orders.bind_within(ROUNDS_MAX, name, digest_of(thread), share, at(0));
                    let (outcome, _bound) = match binding {
                        Ok(Binding::New(mut bound)) => {
                            thread::yield_now();
                            let id = bound.decide(thread as u64, terms(0));
                            (Ok((true, id)), Some(bound))
                        }
                        Ok(Binding::Same { decision, again, .. }) => (Ok((false, decision)), Some(again)),
                        Err(refused) => (Err(refused), None),
                    };
                    let mut all = seen.lock().expect("no panic");
                    match outcome {
                        Ok((true, decision)) => all.new.push((thread, decision)),
                        Ok((false, decision)) => all.same.push((thread, decision)),
                        Err(BindRefused::Used) => all.used += 1,
                        Err(other) => panic!("{other}"),
                    }
                    drop(all);
                    if start.wait().is_leader() {
                        check(&std::mem::take(&mut *seen.lock().expect("no panic")));
                    }
                }
            });
        }
    });
    assert_eq!(orders.len(), trials);
}

#[test]
fn storm_of_one_request_is_decided_once_and_all_see_that_decision() {
    let check = |seen: &Seen| {
        assert_eq!((seen.new.len(), seen.same.len(), seen.used), (1, THREADS - 1, 0));
        assert!(seen.same.iter().all(|(_, decision)| *decision == seen.new[0].1));
    };
    storm(500, |_| 7, check);
}

#[test]
fn storm_of_different_requests_has_exactly_one_winner() {
    let check = |seen: &Seen| {
        assert_eq!((seen.new.len(), seen.same.len(), seen.used), (1, 3, 12));
        assert!(seen.same.iter().all(|one| one.1 == seen.new[0].1 && one.0 % 4 == seen.new[0].0 % 4));
    };
    storm(500, |thread| thread as u128 % 4, check);
}

/// A small generator, enough to make threads disagree.
fn random(index: u64, seed: u64) -> u64 {
    (index * 2_654_435_761 + seed * 40_503).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

#[test]
fn storm_hands_charges_out_at_most_once_and_holds_the_bounds() {
    const ENTRIES_MAX: usize = 6;
    let (orders, merchant, share) = (table(ENTRIES_MAX, 5), merchant(), Arc::<Share>::default());
    let ids = AtomicU64::new(1);
    let mut out = thread::scope(|scope| {
        let work = |seed: u64| {
            let mut out = Vec::new();
            for index in 0..5_000_u64 {
                let random = random(index, seed);
                let number = (random % 8).to_string();
                let name = payment(&merchant, &number);
                let outcome = match random / 8 % 8 {
                    0 => Outcome::Done,
                    1 => Outcome::Unknown,
                    2 => Outcome::Created,
                    _ => Outcome::Refused,
                };
                let settled = match orders.bind_within(ROUNDS_MAX, name, u128::from(random / 64 % 2), &share, at(0)) {
                    Ok(Binding::New(mut bound)) if !(random / 128).is_multiple_of(4) => {
                        let id = ids.fetch_add(1, Ordering::Relaxed);
                        let _ = bound.decide(id, terms(u128::from(id)));
                        bound.settle(outcome, at(0))
                    }
                    Ok(Binding::New(bound)) => {
                        drop(bound);
                        Settled::Nothing
                    }
                    Ok(Binding::Same { again, .. }) => again.settle(outcome, at(0)),
                    Err(BindRefused::InFlight) => panic!("nobody decides for so long"),
                    Err(BindRefused::Used | BindRefused::TableFull | BindRefused::ShareFull) => Settled::Nothing,
                };
                match settled {
                    Settled::Nothing => {}
                    Settled::GiveBack(released) => out.push(released.charges),
                    Settled::Late { .. } => panic!("nothing expires"),
                }
                if (random / 512).is_multiple_of(8)
                    && let Some(order) = orders.named(name)
                    && let Release::Released(released) = orders.release(order, at(0), PaidRule::TakeBack)
                {
                    out.push(released.charges);
                }
                assert!(orders.len() <= ENTRIES_MAX && share.used() <= 5);
            }
            out
        };
        let threads: Vec<_> = (0..THREADS as u64).map(|seed| scope.spawn(move || work(seed))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    for number in 0..8 {
        let number = number.to_string();
        let Some(order) = orders.named(payment(&merchant, &number)) else { continue };
        if let Release::Released(released) = orders.release(order, at(0), PaidRule::TakeBack) {
            out.push(released.charges);
        }
    }
    out.sort_unstable();
    let decided: Vec<_> = (1..u128::from(ids.load(Ordering::Relaxed))).collect();
    assert_eq!((out == decided, orders.len(), share.used()), (true, 0, 0), "charges were lost or came twice");
}

/// What is handed out less what was asked back, of one decision that charged 1: zero or one at any time that all agree on.
#[derive(Default)]
struct Out(AtomicI64);

impl Out {
    fn hand(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn settled(&self, settled: Settled<Charges>) {
        match settled {
            Settled::Nothing => {}
            Settled::GiveBack(_) => self.hand(),
            Settled::Late { .. } => panic!("nothing with a forward in flight expires"),
        }
    }

    fn committed(&self, commit: Commit<Charges>) {
        match commit {
            Commit::Late { .. } => {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
            Commit::Committed { .. } | Commit::Already | Commit::Conflict => {}
            Commit::Unknown => panic!("the decision is known all the time"),
        }
    }

    fn released(&self, release: Release<Charges>) {
        match release {
            Release::Released(_) => self.hand(),
            Release::Already | Release::Pending | Release::Conflict => {}
            Release::Unknown => panic!("the decision is known all the time"),
        }
    }
}

#[test]
fn storm_at_one_decision_hands_its_charges_out_once_where_it_ends_released() {
    let (orders, merchant, share) = (table(9, 9), merchant(), Arc::<Share>::default());
    let (mut released_by_storm, mut not) = (0, 0);
    for trial in 0..400_u64 {
        let number = trial.to_string();
        let name = payment(&merchant, &number);
        let mut first = expect_new(orders.bind(name, 7, &share, at(0)));
        let id = first.decide(trial, terms(1));
        let order = orders.find(id).expect("held");
        let mut forwards = vec![first];
        forwards.extend((1..THREADS / 4).map(|_| expect_same(orders.bind(name, 7, &share, at(0)), id)));
        let (start, out) = (Barrier::new(THREADS), Out::default());
        thread::scope(|scope| {
            for thread in 0..THREADS as u64 {
                let (orders, start, out, forward) = (&orders, &start, &out, forwards.pop());
                scope.spawn(move || {
                    let random = random(trial, thread);
                    start.wait();
                    match (forward, random % 4) {
                        (Some(forward), 0) => out.settled(forward.settle(Outcome::Done, at(HOLD_S + 1))),
                        (Some(forward), 1) if trial % 2 == 0 => drop(forward),
                        (Some(forward), _) => out.settled(forward.settle(Outcome::Refused, at(HOLD_S + 1))),
                        (None, 0) if trial % 4 == 0 => out.committed(orders.commit(order, at(HOLD_S + 1), keep_all)),
                        (None, 1) => out.released(orders.release(order, at(HOLD_S + 1), PaidRule::TakeBack)),
                        (None, 2) => out.released(orders.release(order, at(HOLD_S + 1), PaidRule::Refuse)),
                        (None, _) => {
                            let expired = sweep_all(orders, at(HOLD_S + 1));
                            expired.iter().filter(|one| one.decision == id).for_each(|_| out.hand());
                        }
                    }
                });
            }
        });
        match orders.release(order, at(HOLD_S + 1), PaidRule::TakeBack) {
            Release::Already => released_by_storm += 1,
            release => {
                not += 1;
                assert!(matches!(release, Release::Released(_)), "nothing is in flight: {release:?}");
                out.released(release);
            }
        }
        assert_eq!(out.0.load(Ordering::SeqCst), 1, "trial {trial}");
        assert_eq!((orders.len(), share.used()), (0, 0));
    }
    assert!(released_by_storm > 20 && not > 20, "the storm took one way only: {released_by_storm} and {not}");
}
