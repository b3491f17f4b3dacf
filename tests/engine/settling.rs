//! What becomes of an admission: done, refused, unknown, taken back.

use tollgate::admission::{Admission, Outcome};
use tollgate::merchant::{LimitSpec, Settle};
use tollgate::reason::Reason;
use tollgate::types::Operation;

use crate::gate::{Gate, Setup, certified, fen, merchant_day};
use crate::signer::{Draft, serial};

/// A gate that allows 100 a day, and on which refunds may be asked for.
fn gate() -> Gate {
    let limit = LimitSpec { month: fen(1000), ..merchant_day("day", 100) };
    Setup::limited([limit]).first(|merchant| merchant.keys = vec![certified(0, &serial(0))]).gate()
}

fn used(gate: &Gate) -> u64 {
    let cells = [0, 1].map(|cell| gate.used("day", &["merchant", "1900000000"], cell));
    assert_eq!(cells, [cells[0]; 2]);
    cells[0]
}

fn sent(mut admission: Admission) -> Admission {
    admission.sent();
    admission
}

#[test]
fn what_was_done_or_may_have_been_done_stays_charged_and_what_was_refused_is_given_back() {
    for (outcome, charged) in [(Outcome::Done, 60), (Outcome::Unknown, 60), (Outcome::Refused, 0)] {
        let mut gate = gate();
        sent(gate.admit(&Draft::native(0, "T1", 60))).settle(outcome);
        assert_eq!(used(&gate), charged, "{outcome:?}");
        assert_eq!(gate.admit(&Draft::native(0, "T1", 60)).duplicate, charged > 0, "{outcome:?}");
    }
}

#[test]
fn an_admission_dropped_before_it_was_sent_gives_back_and_after_that_keeps() {
    let mut gate = gate();
    drop(gate.admit(&Draft::native(0, "T1", 60)));
    assert_eq!((used(&gate), gate.shared.orders().len()), (0, 0));
    drop(sent(gate.admit(&Draft::native(0, "T1", 60))));
    assert_eq!((used(&gate), gate.shared.orders().len()), (60, 1));
}

#[test]
fn a_refused_order_frees_its_number_for_other_parameters() {
    let mut gate = gate();
    gate.admit(&Draft::native(0, "T1", 60)).settle(Outcome::Refused);
    let other = gate.admit(&Draft::native(0, "T1", 61));
    assert_eq!((other.duplicate, used(&gate)), (false, 61));
}

#[test]
fn duplicates_settle_in_any_order_and_give_back_once_and_only_when_none_was_done() {
    use Outcome::{Done, Refused, Unknown};
    for (outcomes, charged) in [
        ([Refused, Refused, Refused], 0),
        ([Done, Refused, Refused], 60),
        ([Refused, Done, Refused], 60),
        ([Refused, Refused, Done], 60),
        ([Refused, Unknown, Refused], 60),
        ([Done, Done, Done], 60),
    ] {
        let mut gate = gate();
        let admissions = [(); 3].map(|()| gate.admit(&Draft::native(0, "T1", 60)));
        for (admission, outcome) in admissions.into_iter().zip(outcomes) {
            assert_eq!(used(&gate), 60, "while one is in flight, all stays charged");
            admission.settle(outcome);
        }
        assert_eq!(used(&gate), charged, "{outcomes:?}");
        gate.assert_conserved();
    }
}

#[test]
fn a_close_or_reversal_that_succeeds_gives_back_and_frees_the_number() {
    for take_back in [Draft::close(0, "T1"), Draft::reverse(0, "T1")] {
        let mut gate = gate();
        sent(gate.admit(&Draft::native(0, "T1", 60))).settle(Outcome::Done);
        for outcome in [Outcome::Refused, Outcome::Unknown] {
            gate.admit(&Draft { nonce: format!("{outcome:?}"), ..take_back.clone() }).settle(outcome);
            assert_eq!(used(&gate), 60, "{outcome:?}");
        }
        drop(gate.admit(&Draft { nonce: "dropped".to_owned(), ..take_back.clone() }));
        assert_eq!(used(&gate), 60);
        let admission = gate.admit(&take_back);
        assert!(matches!(admission.operation, Operation::Close | Operation::Reverse));
        assert_eq!(used(&gate), 60, "not before it succeeded");
        admission.settle(Outcome::Done);
        assert_eq!((used(&gate), gate.shared.orders().len()), (0, 0));
        gate.admit(&Draft { nonce: "again".to_owned(), ..take_back }).settle(Outcome::Done);
        assert_eq!(used(&gate), 0, "given back once");
        assert!(!gate.admit(&Draft::native(0, "T1", 70)).duplicate);
    }
}

#[test]
fn a_close_matches_a_number_however_its_path_spells_it() {
    let mut gate = gate();
    sent(gate.admit(&Draft::native(0, "T|1*", 60))).settle(Outcome::Done);
    gate.admit(&Draft::close(0, "%54%7c1%2A")).settle(Outcome::Done);
    assert_eq!(used(&gate), 0);
}

#[test]
fn a_close_takes_back_nothing_of_another_merchant_or_another_number() {
    let mut gate = gate();
    sent(gate.admit(&Draft::native(0, "T1", 60))).settle(Outcome::Done);
    gate.admit(&Draft::close(1, "T1")).settle(Outcome::Done);
    gate.admit(&Draft::close(0, "T2")).settle(Outcome::Done);
    assert_eq!(used(&gate), 60);
}

#[test]
fn a_close_that_overtakes_a_forward_gives_back_only_if_that_forward_is_refused() {
    for (outcome, charged) in [(Outcome::Done, 60), (Outcome::Refused, 0), (Outcome::Unknown, 60)] {
        let mut gate = gate();
        let [first, second] = [(); 2].map(|()| sent(gate.admit(&Draft::native(0, "T1", 60))));
        first.settle(Outcome::Done);
        gate.admit(&Draft::close(0, "T1")).settle(Outcome::Done);
        assert_eq!(used(&gate), 60, "one forward may have passed the close on its way");
        second.settle(outcome);
        assert_eq!((used(&gate), gate.shared.orders().len() as u64), (charged, charged / 60), "{outcome:?}");
    }
}

#[test]
fn a_late_answer_to_a_close_does_not_take_back_the_order_that_followed() {
    let mut gate = gate();
    sent(gate.admit(&Draft::native(0, "T1", 60))).settle(Outcome::Done);
    let [first, late] = [(); 2].map(|()| gate.admit(&Draft::close(0, "T1")));
    first.settle(Outcome::Done);
    sent(gate.admit(&Draft::native(0, "T1", 70))).settle(Outcome::Done);
    late.settle(Outcome::Done);
    assert_eq!((used(&gate), gate.shared.orders().len()), (70, 1));
}

#[test]
fn numbers_of_refunds_and_payments_are_apart() {
    let mut gate = gate();
    let payment = gate.admit(&Draft::native(0, "N1", 60));
    let refund = gate.admit(&Draft::refund(0, "N1", 60));
    assert_eq!((payment.duplicate, refund.duplicate, refund.operation), (false, false, Operation::Refund));
    assert_eq!(gate.reason(&Draft::refund(0, "N1", 59)), Reason::OrderNumberUsed);
    assert!(gate.admit(&Draft::refund(0, "N1", 60)).duplicate);
    payment.settle(Outcome::Done);
    gate.admit(&Draft::close(0, "N1")).settle(Outcome::Done);
    assert_eq!(gate.shared.orders().len(), 1, "the close took back the payment, not the refund");
    refund.settle(Outcome::Done);
    assert_eq!(used(&gate), 0);
}

#[test]
fn an_admission_says_how_its_route_settles() {
    let mut gate = gate();
    let codepay = Draft::order(0, "/v3/pay/transactions/codepay", "wx-code", "T2", "1", "");
    for (draft, settle) in [
        (Draft::native(0, "T1", 1), Settle::Later),
        (codepay, Settle::OnAnswer),
        (Draft::query(0, "T1"), Settle::None),
        (Draft::close(0, "T1"), Settle::OnAnswer),
    ] {
        assert_eq!(gate.admit(&draft).settle, settle);
    }
}
