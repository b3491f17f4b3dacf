//! Full tables refuse, say which bound it was, and leave the other merchants alone.

use tollgate::admission::Outcome;
use tollgate::merchant::{LimitSpec, SubjectPart};
use tollgate::quota::Bounds;
use tollgate::reason::Reason;
use tollgate::replay::{NonceBounds, OrderBounds};
use tollgate::time::UnixMillis;

use crate::gate::{Gate, Setup, fen, limit, merchant_day};
use crate::signer::{Draft, NOW};

fn nonces(entries_max: usize, entries_per_merchant_max: u32) -> Gate {
    Setup { nonces: NonceBounds { entries_max, entries_per_merchant_max, tolerance_s: 300 }, ..Setup::default() }.gate()
}

fn orders(entries_max: usize, entries_per_merchant_max: u32) -> Gate {
    let orders = OrderBounds { entries_max, entries_per_merchant_max, keep_s: 3600 };
    Setup { orders, ..Setup::limited([merchant_day("day", 1000)]) }.gate()
}

fn by_customer() -> LimitSpec {
    LimitSpec { day: fen(1000), ..limit("customer", &[SubjectPart::Customer]) }
}

fn rows(rows_max: u64, rows_per_merchant_max: u32) -> Gate {
    let quota = Bounds { rows_max, rows_per_merchant_max };
    Setup { quota, ..Setup::limited([merchant_day("day", 1000), by_customer()]) }.gate()
}

#[test]
fn a_full_share_of_nonces_refuses_its_merchant_and_no_other() {
    let mut gate = nonces(100, 3);
    (0..3).for_each(|_| drop(gate.admit(&Draft::query(0, "T1"))));
    let refusal = gate.refuse(&Draft::query(0, "T1"));
    assert_eq!((refusal.reason, refusal.authentic.is_some()), (Reason::NonceShareFull, true));
    (0..3).for_each(|_| drop(gate.admit(&Draft::query(1, "T1"))));
    gate.now = UnixMillis(NOW.0 + 301_000);
    gate.shared.sweep(gate.now);
    drop(gate.admit(&Draft::query(0, "T1")));
}

#[test]
fn a_full_nonce_table_refuses_and_still_knows_its_oldest_nonce() {
    let mut gate = nonces(4, 100);
    let oldest = Draft::query(0, "T1").sign(gate.now);
    drop(gate.admit_call(&oldest));
    (0..3).for_each(|_| drop(gate.admit(&Draft::query(0, "T1"))));
    for merchant in [0, 1] {
        assert_eq!(gate.reason(&Draft::query(merchant, "T1")), Reason::NonceTableFull);
    }
    gate.now = UnixMillis(NOW.0 + 300_000);
    assert_eq!(gate.refuse_call(&oldest).reason, Reason::NonceReplayed);
    gate.now = UnixMillis(NOW.0 + 301_000);
    gate.shared.sweep(gate.now);
    drop(gate.admit(&Draft::query(1, "T1")));
}

#[test]
fn a_forged_request_takes_no_room() {
    let mut gate = nonces(1, 1);
    for _ in 0..5 {
        assert_eq!(gate.refuse_call(&Draft::query(0, "T1").sign(NOW).forged()).reason, Reason::SignatureInvalid);
    }
    drop(gate.admit(&Draft::query(0, "T1")));
}

#[test]
fn a_full_share_of_orders_refuses_its_merchant_and_no_other_and_charges_nothing() {
    let mut gate = orders(100, 2);
    let held = ["T1", "T2"].map(|number| gate.admit(&Draft::native(0, number, 1)));
    assert_eq!(gate.reason(&Draft::native(0, "T3", 1)), Reason::OrderShareFull);
    assert_eq!(gate.used("day", &["merchant", "1900000000"], 0), 2);
    assert!(gate.admit(&Draft::native(0, "T1", 1)).duplicate, "a known number needs no room");
    let _theirs = gate.admit(&Draft::native(1, "T1", 1));
    drop(held);
    let _room = gate.admit(&Draft::native(0, "T3", 1));
}

#[test]
fn a_full_order_table_refuses_until_settled_orders_are_old() {
    let mut gate = orders(2, 100);
    let _in_flight = gate.admit(&Draft::native(0, "T1", 1));
    gate.admit(&Draft::codepay(0, "T2", 1)).settle(Outcome::Done);
    for merchant in [0, 1] {
        assert_eq!(gate.reason(&Draft::native(merchant, "T3", 1)), Reason::OrderTableFull);
    }
    for (later_s, room) in [(3600, false), (3601, true)] {
        gate.now = UnixMillis(NOW.0 + later_s * 1000);
        (0..64).for_each(|_| gate.shared.sweep(gate.now));
        assert_eq!(gate.shared.orders().len(), if room { 1 } else { 2 });
    }
    let _room = gate.admit(&Draft::native(1, "T3", 1));
    assert_eq!(gate.reason(&Draft::native(1, "T4", 1)), Reason::OrderTableFull, "what is in flight stays");
}

#[test]
fn a_full_share_of_rows_refuses_new_subjects_of_its_merchant_and_nothing_else() {
    let mut gate = rows(100, 3);
    let customers = ["c1", "c2"];
    for customer in customers {
        gate.admit(&Draft::jsapi(0, customer, 1, customer)).settle(Outcome::Done);
    }
    assert_eq!(gate.reason(&Draft::jsapi(0, "T3", 1, "c3")), Reason::QuotaShareFull);
    assert_eq!(gate.used("day", &["merchant", "1900000000"], 0), 2, "what was taken before is given back");
    assert_eq!(gate.shared.orders().len(), 2);
    let _known = gate.admit(&Draft::jsapi(0, "T3", 1, "c1"));
    let _theirs = gate.admit(&Draft::jsapi(1, "T3", 1, "c3"));
    let _made_by_another = gate.admit(&Draft::jsapi(0, "T4", 1, "c3"));
}

#[test]
fn a_full_table_of_rows_refuses_new_subjects_and_existing_ones_go_on() {
    let mut gate = rows(3, 100);
    gate.admit(&Draft::jsapi(0, "T1", 1, "c1")).settle(Outcome::Done);
    gate.admit(&Draft::jsapi(0, "T2", 1, "c2")).settle(Outcome::Done);
    assert_eq!(gate.reason(&Draft::jsapi(0, "T3", 1, "c3")), Reason::QuotaTableFull);
    assert_eq!(gate.reason(&Draft::jsapi(1, "T1", 1, "c1")), Reason::QuotaTableFull, "a merchant without a row yet");
    let _known = gate.admit(&Draft::jsapi(0, "T3", 1, "c2"));
    assert_eq!((gate.shared.table().rows(), gate.shared.table().used_total()), (3, 12));
}

#[test]
fn another_policy_keeps_usage_and_what_each_merchant_holds() {
    let quota = Bounds { rows_max: 100, rows_per_merchant_max: 3 };
    let nonces = NonceBounds { entries_max: 100, entries_per_merchant_max: 6, tolerance_s: 300 };
    let orders = OrderBounds { entries_max: 100, entries_per_merchant_max: 3, keep_s: 3600 };
    let limits = || Setup::limited([merchant_day("day", 10), by_customer()]);
    let mut gate = Setup { quota, nonces, orders, ..limits() }.gate();
    for customer in ["c1", "c2"] {
        gate.admit(&Draft::jsapi(0, customer, 5, customer)).settle(Outcome::Done);
    }
    for _ in 0..3 {
        gate.shared.replace_policy(limits().policy()).expect("nothing is recorded");
    }
    assert_eq!(gate.reason(&Draft::jsapi(0, "T3", 1, "c1")), Reason::LimitExceeded);
    gate.shared
        .replace_policy(Setup::limited([merchant_day("day", 20), by_customer()]).policy())
        .expect("nothing is recorded");
    assert_eq!(gate.reason(&Draft::jsapi(0, "T4", 1, "c3")), Reason::QuotaShareFull);
    gate.admit(&Draft::jsapi(0, "T5", 1, "c1")).settle(Outcome::Done);
    assert_eq!(gate.reason(&Draft::jsapi(0, "T6", 1, "c1")), Reason::OrderShareFull);
    assert_eq!(gate.reason(&Draft::query(0, "T1")), Reason::NonceShareFull);
    let _theirs = gate.admit(&Draft::jsapi(1, "T1", 1, "c1"));
}

#[test]
fn a_merchant_or_key_that_another_policy_drops_is_unknown_from_the_next_batch_on() {
    let mut gate = Setup::default().gate();
    drop(gate.admit(&Draft::query(0, "T1")));
    let mut without = Setup::default();
    without.merchants.remove(0);
    gate.shared.replace_policy(without.policy()).expect("nothing is recorded");
    assert_eq!(gate.reason(&Draft::query(0, "T1")), Reason::MerchantUnknown);
    drop(gate.admit(&Draft::query(1, "T1")));
    let other_key = Setup::default().first(|merchant| merchant.keys = vec![crate::gate::key(2, "C0")]);
    gate.shared.replace_policy(other_key.policy()).expect("nothing is recorded");
    assert_eq!(gate.reason(&Draft::query(0, "T1")), Reason::KeyUnknown);
}
