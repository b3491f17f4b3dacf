//! Settled facts against the decision that would have been made had they been known.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;

/// A policy of limits that differ in their predicates, under measures that restrict channels.
fn by_predicates(predicates: Vec<Predicate>, restricted: &[Channel]) -> Policy {
    let limits = predicates.into_iter().enumerate();
    let limits = limits.map(|(number, predicate)| {
        let refund = if number % 2 == 0 { Refunds::Return } else { Refunds::Keep };
        LimitSpec { predicate, refund, year: fen(9), ..limit(&format!("limit-{number}")) }
    });
    let measures = restricted.iter().map(|channel| Measure::RestrictedChannel(*channel)).collect();
    build(MerchantSpec { measures, ..merchant() }, limits.collect()).expect("a policy")
}

/// What is known of a payment when what was settled counts for more than what was stated.
///
/// A stated channel or instrument that contradicts a settled one is not known any more; a settled pair that contradicts
/// itself is not known at all.
fn learned(stated: &Facts<'static>, settled: &SettledFacts) -> Facts<'static> {
    let SettledFacts { channel, instrument, account_class, code_grade, authentication } = *settled;
    let fits = |(channel, instrument): (Option<Channel>, Option<Instrument>)| {
        channel.is_none_or(|channel| instrument.is_none_or(|instrument| channel.draws_on(instrument)))
    };
    let own = (stated.channel, stated.instrument);
    let settled_pair = if fits((channel, instrument)) { (channel, instrument) } else { (None, None) };
    let both = (settled_pair.0.or(own.0), settled_pair.1.or(own.1));
    let (channel, instrument) = if fits(both) { both } else { settled_pair };
    Facts {
        channel,
        instrument,
        account_class: account_class.or(stated.account_class),
        code_grade: code_grade.or(stated.code_grade),
        authentication: authentication.or(stated.authentication),
        ..stated.clone()
    }
}

/// Tells whether nothing that was settled contradicts what was stated: all of both is known in the end.
fn agree(stated: &Facts<'static>, settled: &SettledFacts) -> bool {
    fn kept<T: PartialEq>(of: [Option<T>; 2], known: Option<T>) -> bool {
        of.iter().all(|one| one.is_none() || *one == known)
    }
    let known = learned(stated, settled);
    kept([stated.channel, settled.channel], known.channel)
        && kept([stated.instrument, settled.instrument], known.instrument)
        && kept([stated.account_class, settled.account_class], known.account_class)
        && kept([stated.code_grade, settled.code_grade], known.code_grade)
        && kept([stated.authentication, settled.authentication], known.authentication)
}

/// Holds what stays charged after a settle against what is charged when all is known from the start.
fn check(restricted: &Policy, open: &Policy, stated: &Facts<'static>, settled: &SettledFacts) {
    // A payment that is not permitted is not charged.
    let Ok(charged) = decide(restricted, stated) else { return };
    let stay: Vec<bool> = charged
        .iter()
        .map(|demand| demand.as_ref().is_some_and(|demand| Coverage::from_bits(demand.tag).covers(settled)))
        .collect();
    let known = learned(stated, settled);
    let applying = |policy: &Policy| decide(policy, &known).map(|all| all.iter().map(Option::is_some).collect());
    let applies: Vec<bool> = applying(open).expect("permitted");
    let both: Vec<bool> = charged.iter().zip(&applies).map(|(demand, applies)| demand.is_some() && *applies).collect();
    assert_eq!(stay, both, "{stated:?} {settled:?}: freed is what the settled facts rule out, and nothing else");
    if agree(stated, settled)
        && let Ok(applies) = applying(restricted)
    {
        assert_eq!(stay, applies, "{stated:?} {settled:?}: what stays is what would have been charged");
    }
}

fn options<T: Copy>(all: &[T]) -> Vec<Option<T>> {
    std::iter::once(None).chain(all.iter().copied().map(Some)).collect()
}

fn subsets<T: Copy>(all: &[T]) -> Vec<Vec<T>> {
    let chosen =
        |bits: usize| (0..).zip(all).filter(move |(bit, _)| bits >> bit & 1 == 1).map(|(_, one)| *one).collect();
    (0..1 << all.len()).map(chosen).collect()
}

#[test]
fn every_way_to_pay_frees_the_limits_on_other_ways_and_no_other() {
    let mut predicates = Vec::new();
    for channels in subsets(Channel::ALL) {
        for instruments in subsets(Instrument::ALL) {
            predicates.push(Predicate { channels: channels.clone(), instruments, ..Predicate::default() });
        }
    }
    assert_eq!(predicates.len(), 32);
    let open = by_predicates(predicates.clone(), &[]);
    let ways = || {
        options(Channel::ALL)
            .into_iter()
            .flat_map(|one| options(Instrument::ALL).into_iter().map(move |other| (one, other)))
    };
    let mut freed = 0;
    for restricted in [&[][..], &[Channel::QuickPay], &[Channel::Balance]] {
        let policy = by_predicates(predicates.clone(), restricted);
        for (channel, instrument) in ways() {
            let stated = Facts { appid: Some("wx1"), channel, instrument, ..Facts::default() };
            for (channel, instrument) in ways() {
                let settled = SettledFacts { channel, instrument, ..SettledFacts::default() };
                check(&policy, &open, &stated, &settled);
                freed += usize::from(channel.is_some() || instrument.is_some());
            }
        }
    }
    assert_eq!(freed, 3 * 12 * 11, "every pair was settled");
}

#[test]
fn a_settle_that_contradicts_itself_frees_nothing() {
    let card = Predicate { instruments: vec![Instrument::CreditCard], ..Predicate::default() };
    let charged = decide(&by_predicates(vec![card], &[]), &Facts { appid: Some("wx1"), ..Facts::default() });
    let tag = charged.expect("permitted").pop().flatten().expect("charged").tag;
    let settled = |channel, instrument| SettledFacts { channel, instrument, ..SettledFacts::default() };
    assert!(Coverage::from_bits(tag).covers(&settled(Some(Channel::Balance), Some(Instrument::DebitCard))));
    assert!(Coverage::from_bits(tag).covers(&settled(None, None)));
    assert!(!Coverage::from_bits(tag).covers(&settled(Some(Channel::Balance), None)));
    assert!(!Coverage::from_bits(tag).covers(&settled(None, Some(Instrument::DebitCard))));
}

#[test]
fn a_tag_tells_whether_refunds_return_room() {
    let policy = by_predicates(vec![Predicate::default(); 4], &[]);
    let charged = decide(&policy, &Facts { appid: Some("wx1"), ..Facts::default() }).expect("permitted");
    let returns: Vec<_> = charged.iter().flatten().map(|demand| Coverage::from_bits(demand.tag).returns()).collect();
    assert_eq!(returns, [true, false, true, false]);
    assert!(charged.iter().flatten().all(|demand| Coverage::from_bits(demand.tag).bits() == demand.tag));
}

fn predicate() -> impl Strategy<Value = Predicate> {
    (
        subsequence(Channel::ALL.to_vec(), 0..=2),
        subsequence(Instrument::ALL.to_vec(), 0..=3),
        subsequence(AccountClass::ALL.to_vec(), 0..=3),
        subsequence(CodeGrade::ALL.to_vec(), 0..=4),
        subsequence(Authentication::ALL.to_vec(), 0..=3),
    )
        .prop_map(|(channels, instruments, account_classes, code_grades, authentications)| Predicate {
            channels,
            instruments,
            account_classes,
            code_grades,
            authentications,
            ..Predicate::default()
        })
}

fn settled() -> impl Strategy<Value = SettledFacts> {
    (
        select(options(Channel::ALL)),
        select(options(Instrument::ALL)),
        select(options(AccountClass::ALL)),
        select(options(CodeGrade::ALL)),
        select(options(Authentication::ALL)),
    )
        .prop_map(|(channel, instrument, account_class, code_grade, authentication)| SettledFacts {
            channel,
            instrument,
            account_class,
            code_grade,
            authentication,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_stays_charged_is_what_applies_when_all_is_known(
        predicates in prop::collection::vec(predicate(), 16),
        known in settled(),
        restricted in subsequence(Channel::ALL.to_vec(), 0..=1),
        settles in prop::collection::vec(settled(), 16),
    ) {
        let (policy, open) = (by_predicates(predicates.clone(), &restricted), by_predicates(predicates, &[]));
        let SettledFacts { channel, instrument, account_class, code_grade, authentication } = known;
        let stated = Facts {
            appid: Some("wx1"),
            channel,
            instrument,
            account_class,
            code_grade,
            authentication,
            ..Facts::default()
        };
        for settled in settles {
            check(&policy, &open, &stated, &settled);
        }
    }
}
