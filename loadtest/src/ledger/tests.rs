//! Tests of the rig's own books.

use super::*;
use crate::traffic::{Kind, Original};

fn scenario(name: &str) -> Scenario {
    Scenario::load(name.as_ref()).expect("a scenario")
}

fn planned(order: usize, amount_fen: u64) -> Planned {
    Planned { merchant: 1, customer: 7, amount_fen, order, ..Planned::nothing() }
}

fn refund(order: usize, of: (usize, u64), fen: u64) -> Planned {
    let (original, amount_fen) = of;
    Planned { kind: Kind::Refund, original: Some(Original { order: original, amount_fen }), ..planned(order, fen) }
}

/// What is used of a limit by merchant 1 today.
fn of_merchant(ledger: &Ledger, limit: usize) -> (u64, u64, u64) {
    let newest = ledger.newest();
    let account = newest.iter().find(|((position, subject, window), _)| {
        (*position, *window) == (limit, Window::Day) && subject.merchant.is_some()
    });
    let (_, (_, Totals { sums, late_fen })) = account.expect("an account");
    (sums.held, sums.committed, *late_fen)
}

#[test]
fn windows_are_those_of_the_local_date() {
    // 2026-11-30T23:59:59 and a second later; 29 February 2024.
    assert_eq!(window_ids(1_796_083_199), [(Window::Day, 20_787), (Window::Month, 682)]);
    assert_eq!(window_ids(1_796_083_200), [(Window::Day, 20_788), (Window::Month, 683)]);
    assert_eq!(window_ids(1_709_164_800), [(Window::Day, 19_782), (Window::Month, 649)]);
    assert_eq!(window_ids(0), [(Window::Day, 0), (Window::Month, 0)]);
}

#[test]
fn a_payment_counts_once_and_moves_from_held_to_committed_or_away() {
    let scenario = scenario("steady");
    let mchids = ["m-0", "m-1"].map(str::to_owned);
    let names = Names { scenario: &scenario, mchids: &mchids, offset_s: 0 };
    let mut ledger = Ledger::default();
    for (decision, order, amount) in [(1, 1, 100), (2, 2, 30), (1, 1, 100), (3, 3, 5)] {
        ledger.admit(decision, None, &planned(order, amount), 0, names);
    }
    ledger.commit(1, false, names);
    ledger.release(3);
    assert_eq!((of_merchant(&ledger, 2), ledger.repeats()), ((30, 100, 0), 1));
    let newest = ledger.newest();
    let customer =
        Subject { customer: Some("c-7".to_owned()), category: Some("catering".to_owned()), ..Subject::default() };
    assert_eq!(newest[&(1, customer.clone(), Window::Month)].1.sums, Sums { held: 30, committed: 100 });
    assert!(!newest.contains_key(&(0, customer, Window::Day)), "of the other channel");
    assert!(ledger.faults().is_empty());
}

#[test]
fn a_refund_gives_back_once_it_is_committed_no_more_than_was_paid_and_only_where_the_limit_says_so() {
    let scenario = scenario("hostile");
    let position = |id: &str| scenario.limit.iter().position(|limit| limit.id == id).expect("a limit");
    let (net, gross) = (position("merchant"), position("merchant-gross"));
    let names = Names { scenario: &scenario, mchids: &[], offset_s: 0 };
    let mut ledger = Ledger::default();
    ledger.admit(1, None, &planned(1, 100), 0, names);
    ledger.commit(1, false, names);
    ledger.admit(2, None, &refund(2, (1, 100), 30), 0, names);
    assert_eq!(of_merchant(&ledger, net), (0, 100, 0), "it is only asked for");
    ledger.commit(2, false, names);
    assert_eq!((of_merchant(&ledger, net), of_merchant(&ledger, gross)), ((0, 70, 0), (0, 100, 0)));
    ledger.admit(3, None, &refund(3, (1, 100), 90), 0, names);
    ledger.commit(3, false, names);
    ledger.admit(4, None, &refund(4, (1, 100), 10), 0, names);
    ledger.release(4);
    assert_eq!((of_merchant(&ledger, net), of_merchant(&ledger, gross)), ((0, 0, 0), (0, 100, 0)));
    assert_eq!((ledger.admitted(), ledger.refunded()), ((1, 100), (2, 100)));
    assert!(ledger.faults().is_empty(), "{:?}", ledger.faults());
}

#[test]
fn what_ran_out_is_given_back_and_taken_again_where_it_is_committed_after_all() {
    let scenario = scenario("steady");
    let names = Names { scenario: &scenario, mchids: &[], offset_s: 0 };
    let mut ledger = Ledger::default();
    for (decision, order, amount) in [(1, 1, 100), (2, 2, 30), (3, 3, 5)] {
        ledger.admit(decision, None, &planned(order, amount), 0, names);
    }
    ledger.commit(3, false, names);
    assert_eq!(ledger.expire(), 2);
    assert_eq!(of_merchant(&ledger, 2), (0, 5, 0));
    ledger.commit(2, true, names);
    assert_eq!(of_merchant(&ledger, 2), (0, 35, 30));
    ledger.admit(4, None, &planned(4, 7), 0, names);
    ledger.expire();
    ledger.release(4);
    assert_eq!(of_merchant(&ledger, 2), (0, 35, 30), "given back once");
    assert!(ledger.faults().is_empty());
    ledger.commit(1, false, names);
    assert_eq!(ledger.faults().len(), 1, "the gate must call it late");
}

#[test]
fn what_contradicts_itself_is_found() {
    let scenario = scenario("steady");
    let names = Names { scenario: &scenario, mchids: &[], offset_s: 0 };
    let mut ledger = Ledger::default();
    ledger.admit(1, Some(false), &planned(1, 100), 0, names);
    ledger.admit(1, Some(true), &planned(1, 100), 0, names);
    ledger.admit(2, None, &planned(1, 100), 0, names);
    ledger.admit(3, None, &Planned { kind: Kind::Stale, ..planned(2, 1) }, 0, names);
    ledger.admit(3, None, &planned(4, 1), 0, names);
    ledger.commit(1, false, names);
    ledger.release(1);
    ledger.admit(1, Some(false), &planned(1, 100), 0, names);
    ledger.admit(4, None, &refund(5, (3, 10), 10), 0, names);
    ledger.commit(4, false, names);
    ledger.commit(9, false, names);
    let faults = ledger.faults();
    assert_eq!(faults.len(), 7, "{faults:?}");
    for what in ["two orders", "new twice", "stale request", "settled and is not held", "was refunded", "two decisions"]
    {
        assert!(faults.iter().any(|fault| fault.contains(what)), "{what}: {faults:?}");
    }
}
