//! One request acts once: nonces, order numbers, and what a trusted hop may deliver twice.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tollgate::admission::{Batch, Decision, Detail, Outcome};
use tollgate::journal::{Journal, Receipt, Recent, Record};
use tollgate::merchant::Measure;
use tollgate::reason::Reason;
use tollgate::time::UnixMillis;
use tollgate::types::Window;

use crate::gate::{Gate, Setup, engine, merchant_day};
use crate::signer::{Draft, NOW, serial};

const DAY: [&str; 2] = ["merchant", "1900000000"];

#[test]
fn a_nonce_is_used_once_whatever_else_the_request_says() {
    let mut gate = Setup::default().gate();
    let first = Draft::native(0, "T1", 1);
    let _admission = gate.admit(&first);
    let other = Draft { nonce: first.nonce.clone(), ..Draft::native(0, "T2", 2) };
    let malformed = Draft { nonce: first.nonce.clone(), ..Draft::new(0, "POST", &first.target, "{") };
    let later = Draft { timestamp_s: Some(NOW.seconds() + 1), ..first.clone() };
    let spelled = Draft { serial: serial(0).to_lowercase(), ..first.clone() };
    for replay in [&first, &other, &malformed, &later, &spelled] {
        let refusal = gate.refuse(replay);
        assert_eq!((refusal.reason, refusal.detail), (Reason::NonceReplayed, Detail::None));
        assert!(refusal.authentic.is_some());
    }
    let theirs = Draft { nonce: first.nonce.clone(), ..Draft::native(1, "T1", 1) };
    let _admission = gate.admit(&theirs);
}

#[test]
fn a_refused_request_has_used_its_nonce_too() {
    let mut gate = Gate::limited([merchant_day("day", 10)]);
    let draft = Draft::native(0, "T1", 11);
    assert_eq!(gate.reason(&draft), Reason::LimitExceeded);
    assert_eq!(gate.reason(&draft), Reason::NonceReplayed);
}

#[test]
fn a_clock_that_steps_back_makes_no_replay_fresh() {
    let mut gate = Setup::default().gate();
    let call = Draft::query(0, "T1").sign(gate.now);
    let _admission = gate.admit_call(&call);
    gate.now = UnixMillis(NOW.0 + 3_600_000);
    gate.shared.sweep(gate.now);
    assert_eq!(gate.shared.nonces().len(), 0);
    gate.now = NOW;
    assert_eq!(gate.refuse_call(&call).reason, Reason::NonceReplayed);
}

#[test]
fn the_same_order_is_one_decision_and_one_charge() {
    let mut gate = Gate::limited([merchant_day("day", 100)]);
    let first = gate.admit(&Draft::native(0, "T1", 60));
    let again = gate.admit(&Draft::native(0, "T1", 60));
    assert_eq!((first.duplicate, again.duplicate, first.id), (false, true, again.id));
    assert_eq!(gate.used("day", &DAY, 0), 60);
    let body = Draft::native(0, "T1", 60).body.replace(":", " : ");
    let spelled = gate.admit(&Draft { body, ..Draft::native(0, "T1", 60) });
    assert!(spelled.duplicate, "the spelling of the body does not count");
}

#[test]
fn an_order_number_with_other_parameters_is_used() {
    let mut gate = Setup::default().gate();
    let _first = gate.admit(&Draft::jsapi(0, "T1", 60, "c1"));
    for other in [
        Draft::jsapi(0, "T1", 61, "c1"),
        Draft::jsapi(0, "T1", 60, "c2"),
        Draft::native(0, "T1", 60),
        Draft::order(0, "/v3/pay/transactions/jsapi", "wx-mini", "T1", "60", r#","payer":{"openid":"c1"}"#),
        Draft::jsapi(0, "T1", 60, "c1").hop(&[("tollgate-customer", "c1")]),
        Draft::jsapi(0, "T1", 60, "c1").hop(&[("tollgate-channel", "balance")]),
        Draft::jsapi(0, "T1", 60, "c1").hop(&[("tollgate-instrument", "credit_card")]),
    ] {
        assert_eq!(gate.reason(&other), Reason::OrderNumberUsed, "{other:?}");
    }
    let _theirs = gate.admit(&Draft::jsapi(1, "T1", 60, "c1"));
}

#[test]
fn the_same_parameters_on_another_path_are_another_order() {
    let mut gate = Setup::default().first(|merchant| merchant.apps[2].appids.push("wx-app".to_owned())).gate();
    let on = |path: &str| Draft::order(0, path, "wx-app", "T1", "60", "");
    let _app = gate.admit(&on("/v3/pay/transactions/app"));
    assert_eq!(gate.reason(&on("/v3/pay/transactions/native")), Reason::OrderNumberUsed);
}

#[test]
fn measures_are_checked_again_before_a_duplicate_is_answered() {
    let mut gate = Setup::default().gate();
    let _first = gate.admit(&Draft::native(0, "T1", 60));
    for (measure, reason) in [
        (Measure::PaymentClosed, Reason::PaymentClosed),
        (Measure::Suspended, Reason::MerchantSuspended),
        (Measure::Terminated, Reason::MerchantTerminated),
    ] {
        gate.shared
            .replace_policy(Setup::default().first(|merchant| merchant.measures = vec![measure]).policy())
            .expect("nothing is recorded");
        assert_eq!(gate.reason(&Draft::native(0, "T1", 60)), reason);
    }
    gate.shared.replace_policy(Setup::default().policy()).expect("nothing is recorded");
    assert!(gate.admit(&Draft::native(0, "T1", 60)).duplicate);
}

#[test]
fn a_trusted_hop_that_delivers_twice_gets_the_stored_decision() {
    let mut gate = Gate::limited([merchant_day("day", 100)]);
    let admitted = Draft::native(0, "T1", 60).hop(&[]).sign(gate.now);
    let refused = Draft::native(0, "T2", 50).hop(&[]).sign(gate.now);
    let first = gate.admit_call(&admitted);
    let midnight = Some(UnixMillis(NOW.0 + 12 * 3_600_000));
    let detail = Detail::Limit { limit: "day".to_owned(), window: Some(Window::Day), ends: midnight };
    let refusal = gate.refuse_call(&refused);
    assert_eq!((refusal.reason, refusal.detail), (Reason::LimitExceeded, detail));
    first.settle(Outcome::Done);
    let again = gate.admit_call(&admitted);
    assert!(again.duplicate);
    assert_eq!(gate.used("day", &DAY, 0), 60);
    gate.shared.replace_policy(Setup::limited([merchant_day("day", 1000)]).policy()).expect("nothing is recorded");
    let refusal = gate.refuse_call(&refused);
    assert_eq!(refusal.reason, Reason::LimitExceeded, "what was refused stays refused");
    let public = Draft { trust: tollgate::request::Trust::Public, ..admitted.draft.clone() };
    assert_eq!(gate.reason(&public), Reason::NonceReplayed);
    for other in [Draft::native(0, "T3", 1), Draft::query(0, "T1"), Draft::close(0, "T1")] {
        let other = Draft { nonce: admitted.draft.nonce.clone(), ..other.hop(&[]) };
        assert_eq!(gate.reason(&other), Reason::NonceReplayed);
    }
}

#[test]
fn a_second_delivery_is_never_decided_anew() {
    let mut gate = Gate::limited([merchant_day("day", 100)]);
    let call = Draft::native(0, "T1", 60).hop(&[]).sign(gate.now);
    gate.admit_call(&call).settle(Outcome::Refused);
    assert_eq!(gate.refuse_call(&call).reason, Reason::NonceReplayed);
    assert_eq!((gate.shared.orders().len(), gate.shared.table().used_total()), (0, 0));
    let query = Draft::query(0, "T1").hop(&[]).sign(gate.now);
    drop(gate.admit_call(&query));
    drop(gate.admit_call(&query));
}

/// Holds each record back until it is told to go on.
struct Held {
    inner: Recent,
    reached: Sender<()>,
    go_on: Receiver<()>,
}

impl Journal for Held {
    fn append(&mut self, record: Record) -> Receipt {
        self.reached.send(()).expect("somebody waits");
        self.go_on.recv().expect("somebody lets it go on");
        self.inner.append(record)
    }

    fn commit(&mut self) {
        self.inner.commit();
    }
}

#[test]
fn a_second_delivery_while_the_first_is_being_decided_is_in_flight() {
    let mut gate = Setup::default().gate();
    let call = Draft::native(0, "T1", 1).hop(&[]).sign(gate.now);
    let (reached, is_reached) = channel();
    let (let_go, go_on) = channel();
    let mut slow = engine(&gate.shared, Box::new(Held { inner: Recent::new(1), reached, go_on }));
    let first = call.clone();
    let deciding = thread::spawn(move || {
        let mut batch = Batch::new();
        batch.push(first.request());
        slow.decide(&mut batch, NOW);
        batch.drain().next().expect("a decision")
    });
    is_reached.recv().expect("the first delivery");
    assert_eq!(gate.refuse_call(&call).reason, Reason::OrderInFlight);
    let public = Draft { trust: tollgate::request::Trust::Public, ..call.draft.clone() };
    assert_eq!(gate.reason(&public), Reason::NonceReplayed);
    let_go.send(()).expect("it waits");
    let Decision::Admitted(first) = deciding.join().expect("no panic") else { panic!("refused") };
    assert_eq!(gate.admit_call(&call).id, first.id);
}

#[test]
fn the_same_request_twice_in_one_batch_is_admitted_once() {
    let mut gate = Gate::limited([merchant_day("day", 100)]);
    let (call, order) = (Draft::native(0, "T1", 60).sign(gate.now), Draft::native(0, "T1", 60).sign(gate.now));
    let mut batch = Batch::new();
    [&call, &call, &order].into_iter().for_each(|call| batch.push(call.request()));
    gate.engine.decide(&mut batch, NOW);
    let decisions: Vec<_> = batch.drain().collect();
    let [Decision::Admitted(first), Decision::Refused(replay), Decision::Admitted(again)] = decisions.as_slice() else {
        panic!("{decisions:?}");
    };
    assert_eq!((first.duplicate, replay.reason, again.duplicate), (false, Reason::NonceReplayed, true));
    assert_eq!(gate.used("day", &DAY, 0), 60);
}

#[test]
fn a_batch_of_any_length_is_decided_in_order() {
    let mut gate = Setup::default().gate();
    let calls: Vec<_> = (0..21_u64)
        .map(|number| {
            let call = Draft::native(0, &format!("T{number}"), number + 1).sign(gate.now);
            if number % 3 == 1 { call.forged() } else { call }
        })
        .collect();
    let mut batch = Batch::new();
    calls.iter().for_each(|call| batch.push(call.request()));
    assert_eq!((batch.len(), batch.is_empty()), (21, false));
    gate.engine.decide(&mut batch, NOW);
    for (decision, number) in batch.drain().zip(0..) {
        match decision {
            Decision::Admitted(admission) => {
                assert_eq!(
                    (number % 3 == 1, admission.amount.map(tollgate::types::Fen::get)),
                    (false, Some(number + 1))
                );
            }
            Decision::Refused(refusal) => assert_eq!((number % 3, refusal.reason), (1, Reason::SignatureInvalid)),
        }
    }
    assert!(batch.recycle().is_empty());
}
