//! Tests of what is planned.

use std::collections::HashMap;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

fn scenario(text: &str) -> Scenario {
    toml::from_str(text).expect("a scenario")
}

fn planned(text: &str, count: u64) -> Vec<Planned> {
    let times: Vec<_> = (0..count).map(Duration::from_millis).collect();
    plan(&scenario(text), &times, &mut StdRng::seed_from_u64(7))
}

#[test]
fn kinds_come_in_the_shares_that_the_scenario_gives() {
    let planned = planned(include_str!("../../scenarios/hostile.toml"), 20_000);
    let mut counts: HashMap<Kind, usize> = HashMap::new();
    planned.iter().for_each(|one| *counts.entry(one.kind).or_default() += 1);
    for (kind, percent) in [
        (Kind::Payment, 61.0),
        (Kind::Refund, 4.0),
        (Kind::Tampered, 5.0),
        (Kind::Duplicate, 8.0),
        (Kind::Revoked, 3.0),
    ] {
        let share = 100.0 * counts[&kind] as f64 / 20_000.0;
        assert!((share - percent).abs() < 1.0, "{kind:?} {share}");
    }
}

#[test]
fn what_is_sent_again_is_the_order_of_an_earlier_payment() {
    let planned = planned(include_str!("../../scenarios/hostile.toml"), 5000);
    for one in planned.iter().filter(|one| matches!(one.kind, Kind::Replay | Kind::Duplicate)) {
        let first = planned.iter().find(|first| first.order == one.order).expect("the first");
        assert!(first.kind == Kind::Payment && first.at < one.at);
        assert_eq!((first.merchant, first.amount_fen, first.customer), (one.merchant, one.amount_fen, one.customer));
    }
}

#[test]
fn refunds_are_of_payments_committed_before_and_never_of_more_than_was_paid() {
    let text = include_str!("../../scenarios/hostile.toml").replace("refund = 4", "refund = 50");
    let planned = planned(&text, 5000);
    let mut refunded: HashMap<usize, u64> = HashMap::new();
    let mut parts = 0;
    for one in planned.iter().filter(|one| one.kind == Kind::Refund) {
        let original = one.original.expect("an original");
        let payment = planned.iter().find(|first| first.order == original.order).expect("the payment");
        assert!(payment.kind == Kind::Payment && payment.fate == Fate::Commit && payment.at < one.at);
        assert_eq!((payment.merchant, payment.amount_fen), (one.merchant, original.amount_fen));
        *refunded.entry(original.order).or_default() += one.amount_fen;
        assert!(one.amount_fen > 0 && refunded[&original.order] <= original.amount_fen);
        parts += usize::from(one.amount_fen < original.amount_fen);
    }
    assert!(refunded.len() > 500 && parts > 500, "{} {parts}", refunded.len());
}

#[test]
fn skew_and_a_hot_merchant_give_the_first_more_than_the_rest() {
    let share = |text: &str| {
        let planned = planned(text, 10_000);
        planned.iter().filter(|one| one.merchant == 0).count() as f64 / 10_000.0
    };
    assert!((0.88..0.93).contains(&share(include_str!("../../scenarios/hot_merchant.toml"))));
    // A hundred by Zipf with an exponent of 0.9: 1 of 7.1.
    assert!((0.12..0.17).contains(&share(include_str!("../../scenarios/steady.toml"))));
}
