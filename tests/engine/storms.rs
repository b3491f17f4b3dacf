//! Many engines over one state at once: what must happen once happens once, and no ceiling is passed.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Barrier;
use std::thread;

use tollgate::admission::{Admission, Batch, Decision, Engine, Outcome, SettleAs, Shared};
use tollgate::journal::Recent;
use tollgate::merchant::{LimitSpec, Refunds, SettledFacts, SubjectPart};
use tollgate::reason::Reason;
use tollgate::replay::{Namespace, OrderName, OrderState};
use tollgate::time::UnixMillis;
use tollgate::types::{Operation, Unit};

use crate::gate::{Gate, Setup, always_certified, engine, fen, limit, merchant_day};
use crate::signer::{Call, Draft, NOW, serial};

/// What a thread of a storm does with its engine; it begins when all are ready.
fn storm<T: Send>(shared: &Arc<Shared>, threads: usize, act: impl Fn(usize, &mut Engine) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(threads);
    let one = |thread: usize| {
        let mut engine = engine(shared, Box::new(Recent::new(1)));
        barrier.wait();
        act(thread, &mut engine)
    };
    thread::scope(|scope| {
        let one = &one;
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// Decides calls in batches of eight.
fn decide(engine: &mut Engine, calls: &[Call], now: UnixMillis) -> Vec<Decision> {
    let mut decisions = Vec::with_capacity(calls.len());
    for calls in calls.chunks(8) {
        let mut batch = Batch::new();
        calls.iter().for_each(|call| batch.push(call.request()));
        engine.decide(&mut batch, now);
        decisions.extend(batch.drain());
    }
    decisions
}

fn admissions(decisions: impl IntoIterator<Item = Decision>) -> Vec<Admission> {
    let admitted = decisions.into_iter().filter_map(|decision| match decision {
        Decision::Admitted(admission) => Some(admission),
        Decision::Refused(_) => None,
    });
    admitted.collect()
}

#[test]
fn a_nonce_is_accepted_once_by_sixteen_threads() {
    let gate = Setup::default().gate();
    let calls: Vec<_> = (0..60).map(|_| Draft::query(0, "T1").sign(NOW)).collect();
    let verdicts = storm(&gate.shared, 16, |_, engine| {
        let decisions = decide(engine, &calls, NOW);
        let refused = decisions.iter().filter_map(|decision| match decision {
            Decision::Admitted(_) => None,
            Decision::Refused(refusal) => Some(refusal.reason),
        });
        assert!(refused.clone().all(|reason| reason == Reason::NonceReplayed));
        decisions.iter().map(|decision| matches!(decision, Decision::Admitted(_))).collect::<Vec<_>>()
    });
    for call in 0..calls.len() {
        assert_eq!(verdicts.iter().filter(|verdicts| verdicts[call]).count(), 1, "call {call}");
    }
    assert_eq!(gate.shared.nonces().len(), calls.len());
}

#[test]
fn the_same_order_from_sixteen_threads_is_one_decision_and_one_charge() {
    let gate = Gate::limited([merchant_day("day", 1 << 40)]);
    let orders = 20;
    let calls: Vec<Vec<_>> = (0..16)
        .map(|_| (0..orders).map(|number| Draft::native(0, &format!("T{number}"), 7).sign(NOW)).collect())
        .collect();
    let all = storm(&gate.shared, 16, |thread, engine| admissions(decide(engine, &calls[thread], NOW)));
    for order in 0..orders {
        let of_order: Vec<_> = all.iter().map(|admissions| &admissions[order]).collect();
        assert_eq!(of_order.iter().filter(|admission| !admission.duplicate).count(), 1);
        assert_eq!(of_order.iter().map(|admission| admission.id).collect::<HashSet<_>>().len(), 1);
    }
    assert_eq!(gate.shared.table().used_total(), 2 * 7 * 20);
    let settled = all.into_iter().flatten().zip(0..);
    settled
        .for_each(|(admission, number)| admission.settle(if number == 0 { Outcome::Done } else { Outcome::Refused }));
    assert_eq!(gate.shared.table().used_total(), 2 * 7, "the one that was done stays");
    assert_eq!(gate.shared.orders().len(), 1);
    gate.assert_conserved();
}

#[test]
fn different_requests_for_one_number_from_eight_threads_bind_it_once() {
    let gate = Gate::limited([merchant_day("day", 1 << 40)]);
    let calls: Vec<Vec<_>> = (1..=8)
        .map(|fen| (0..20).map(|number| Draft::native(0, &format!("T{number}"), fen).sign(NOW)).collect())
        .collect();
    let all = storm(&gate.shared, 8, |thread, engine| admissions(decide(engine, &calls[thread], NOW)));
    let charged: u64 =
        all.iter().flatten().filter_map(|admission| admission.amount.map(tollgate::types::Fen::get)).sum();
    assert_eq!(all.iter().flatten().count(), 20);
    assert_eq!(gate.shared.table().used_total(), 2 * charged);
}

#[test]
fn eight_threads_grant_a_ceiling_of_units_exactly() {
    for ceiling in [1, 100] {
        let category = LimitSpec { month: fen(ceiling), ..limit("category", &[SubjectPart::Category]) };
        let gate = Gate::limited([merchant_day("day", 10_000), category]);
        let number = |thread: usize, one: usize| format!("T{thread}-{one}");
        let calls: Vec<Vec<_>> = (0..8)
            .map(|thread| (0..24).map(|one| Draft::native(thread % 2, &number(thread, one), 1).sign(NOW)).collect())
            .collect();
        let granted = storm(&gate.shared, 8, |thread, engine| admissions(decide(engine, &calls[thread], NOW)));
        assert_eq!(granted.iter().flatten().count() as u64, ceiling);
        assert_eq!(gate.used("category", &["category", "retail"], 1), ceiling);
        let merchants = ["1900000000", "1900000001"].map(|id| gate.used("day", &["merchant", id], 0));
        assert_eq!(merchants.iter().sum::<u64>(), ceiling, "refusals left nothing behind");
        drop(granted);
        assert_eq!((gate.shared.table().used_total(), gate.shared.orders().len()), (0, 0));
        gate.assert_conserved();
    }
}

#[test]
fn across_midnight_no_day_is_charged_beyond_its_ceiling() {
    let midnight = UnixMillis(NOW.0 + 12 * 3_600_000);
    let gate = Gate::limited([merchant_day("day", 30)]);
    let instants = [UnixMillis(midnight.0 - 1), midnight];
    let calls: Vec<Vec<_>> = (0..8)
        .map(|thread| (0..16).map(|one| Draft::native(0, &format!("T{thread}-{one}"), 1).sign(midnight)).collect())
        .collect();
    let granted = storm(&gate.shared, 8, |thread, engine| {
        let mut granted = 0;
        for (pair, at) in calls[thread].chunks(2).zip(instants.into_iter().cycle()) {
            for admission in admissions(decide(engine, pair, at)) {
                granted += 1;
                admission.settle(Outcome::Done);
            }
        }
        granted
    });
    let (window, used) = gate.cell("day", &["merchant", "1900000000"], 0).expect("a row");
    assert_eq!((window, used), (20_780, 30));
    assert!((30..=60).contains(&granted.iter().sum::<usize>()), "{granted:?}");
    gate.assert_conserved();
}

#[test]
fn what_is_taken_and_given_back_by_eight_threads_balances() {
    let limits = || Setup::limited([LimitSpec { month: fen(60), ..merchant_day("day", 40) }]);
    let gate = limits().gate();
    let calls: Vec<Vec<_>> = (0..8)
        .map(|thread| {
            let number = move |one: usize| format!("T{}", (thread * 3 + one) % 12);
            (0..24).map(|one| Draft::native(0, &number(one), 1 + one as u64 % 3).sign(NOW)).collect()
        })
        .collect();
    storm(&gate.shared, 8, |thread, engine| {
        for (calls, round) in calls[thread].chunks(3).zip(thread..) {
            for (admission, one) in admissions(decide(engine, calls, NOW)).into_iter().zip(round..) {
                match one % 4 {
                    0 => drop(admission),
                    1 => admission.settle(Outcome::Done),
                    _ => admission.settle(Outcome::Refused),
                }
            }
            if round % 5 == 0 {
                gate.shared.replace_policy(limits().policy()).expect("nothing is recorded");
            }
        }
    });
    gate.assert_conserved();
    let used = [0, 1].map(|cell| gate.used("day", &["merchant", "1900000000"], cell));
    assert!(used.iter().all(|one| *one == used[0]) && used[0] <= 40, "{used:?}");
    let kept = gate.shared.orders().len();
    assert!((kept as u64..=3 * kept as u64).contains(&used[0]), "each order that is kept took 1 to 3");
}

#[test]
fn at_several_ceilings_eight_threads_pass_none_and_retries_one_by_one_fill_them_to_the_fen() {
    let category = LimitSpec { month: fen(333), ..limit("category", &[SubjectPart::Category]) };
    let count = LimitSpec { unit: Unit::Count, ..merchant_day("count", 60) };
    let ceilings = |used: [u64; 4], merchant: usize, amount: u64| {
        let [first, second, category, payments] = used;
        let own = if merchant == 0 { first } else { second };
        own + amount <= 200 && category + amount <= 333 && payments < 60
    };
    let mut gate = Gate::limited([merchant_day("day", 200), category, count]);
    let used = |gate: &Gate, merchant: usize| {
        let own = ["1900000000", "1900000001"].map(|id| gate.used("day", &["merchant", id], 0));
        let subject = ["merchant", ["1900000000", "1900000001"][merchant]];
        let payments = gate.used("count Asia/Shanghai 0 count", &subject, 0);
        [own[0], own[1], gate.used("category", &["category", "retail"], 1), payments]
    };
    let order = |thread: usize, one: usize| {
        Draft::native(thread % 2, &format!("T{thread}-{one}"), 1 + (thread * 5 + one * 3) as u64 % 13)
    };
    let calls: Vec<Vec<_>> = (0..8).map(|thread| (0..24).map(|one| order(thread, one).sign(NOW)).collect()).collect();
    let refused = storm(&gate.shared, 8, |thread, engine| {
        let decisions = decide(engine, &calls[thread], NOW).into_iter().enumerate();
        let refused = decisions.filter_map(|(one, decision)| match decision {
            Decision::Admitted(admission) => {
                admission.settle(Outcome::Done);
                None
            }
            Decision::Refused(refusal) => {
                assert_eq!(refusal.reason, Reason::LimitExceeded);
                Some((thread, one))
            }
        });
        refused.collect::<Vec<_>>()
    });
    let all = used(&gate, 0);
    assert!(all[0] <= 200 && all[1] <= 200 && all[2] <= 333 && all[0] + all[1] == all[2], "{all:?}");
    for (thread, one) in refused.into_iter().flatten() {
        let draft = order(thread, one);
        let amount = 1 + (thread * 5 + one * 3) as u64 % 13;
        let fits = ceilings(used(&gate, thread % 2), thread % 2, amount);
        match gate.decide(draft.sign(NOW).request()) {
            Decision::Admitted(admission) => {
                assert!(fits, "{draft:?}");
                admission.settle(Outcome::Done);
            }
            Decision::Refused(refusal) => assert!(!fits, "{refusal:?} on {draft:?}"),
        }
    }
    assert_eq!(used(&gate, 0)[2], 333, "filled to the last fen");
    gate.assert_conserved();
}

/// Everything that can happen to orders, chosen by a number.
fn live(shared: &Shared, engine: &mut Engine, calls: &[Call], thread: usize) {
    let later = UnixMillis(NOW.0 + 400_000);
    let mut ids = Vec::new();
    for (call, turn) in calls.iter().zip(thread * 7..) {
        let at = if turn % 3 == 0 { later } else { NOW };
        for admission in admissions(decide(engine, std::slice::from_ref(call), at)) {
            let (id, operation) = (admission.id, admission.operation);
            if operation == Operation::Pay {
                ids.push(id);
            }
            let states: [&[u8]; 4] = [
                br#"{"trade_state":"SUCCESS","status":"SUCCESS"}"#,
                br#"{"trade_state":"REVOKED","status":"CLOSED"}"#,
                br#"{"trade_state":"USERPAYING","status":"PROCESSING"}"#,
                b"",
            ];
            match turn % 7 {
                0 => drop(admission),
                1 => admission.settle(Outcome::Unknown),
                2 => _ = admission.answered(404, b""),
                _ => _ = admission.answered(200, states[turn / 7 % 4]),
            }
        }
        if let (0, Some(id)) = (turn % 5, ids.get(turn % ids.len().max(1))) {
            let settle = if turn % 2 == 0 { SettleAs::Commit } else { SettleAs::Release };
            // Whoever comes second may be told so.
            let _ = shared.settle(*id, settle, &SettledFacts::default(), at);
        }
        if turn % 4 == 0 {
            shared.sweep(later);
        }
        if turn % 31 == 0 {
            shared.replace_policy(lively().policy()).expect("nothing is recorded");
        }
    }
}

fn lively() -> Setup {
    let gross = LimitSpec { refund: Refunds::Keep, ..merchant_day("gross", 1 << 30) };
    let count = LimitSpec { unit: Unit::Count, ..merchant_day("count", 1 << 30) };
    let setup = Setup::limited([merchant_day("net", 1 << 30), gross, count]);
    setup.first(|merchant| merchant.keys = vec![always_certified(0, &serial(0))])
}

#[test]
fn whatever_eight_threads_do_to_orders_usage_is_what_the_orders_hold() {
    let gate = lively().gate();
    let paid_until = jiff::Timestamp::from_second(NOW.seconds() + 60).expect("an instant");
    let call = |thread: usize, turn: usize| {
        let (number, refund) = (format!("T{}", (turn * 5 + thread) % 17), format!("R{}", (turn + thread * 3) % 23));
        let fen = (10 + (turn * 5 + thread) % 17) as u64;
        let until = format!(r#","time_expire":"{paid_until}""#);
        match (turn * 3 + thread) % 9 {
            0 | 1 => Draft::order(0, "/v3/pay/transactions/native", "wx-native", &number, &fen.to_string(), &until),
            2 | 3 => Draft::codepay(0, &number, fen),
            4 => Draft::query(0, &number),
            5 => Draft::close(0, &number),
            6 => Draft::query_refund(0, &refund),
            _ => Draft::refund_of(0, &refund, &number, 1 + turn as u64 % 9),
        }
    };
    let calls: Vec<Vec<_>> = (0..8).map(|thread| (0..150).map(|turn| call(thread, turn).sign(NOW)).collect()).collect();
    storm(&gate.shared, 8, |thread, engine| live(&gate.shared, engine, &calls[thread], thread));
    gate.assert_conserved();
    let merchant = "1900000000".parse().expect("a merchant");
    let (mut net, mut gross, mut count, mut held) = (0, 0, 0, 0);
    for number in (0..17).map(|number| format!("T{number}")) {
        let name = OrderName { namespace: Namespace::Payment, merchant: &merchant, number: &number };
        let Some(view) = gate.shared.orders().view(name) else { continue };
        if matches!(view.state, OrderState::Held | OrderState::Committed) {
            net += view.amount_fen - view.refunded_fen;
            gross += view.amount_fen;
            count += u64::from(view.amount_fen > view.refunded_fen);
            held += if view.state == OrderState::Held { view.amount_fen } else { 0 };
        }
    }
    let (used_net, used_gross, used_count) = (gate.books("net"), gate.books("gross"), gate.books("count"));
    assert_eq!((used_net.0, used_gross.0, used_count.0), (net, gross, count));
    assert_eq!(used_gross, (gross, held, gross - held));
}
