//! Which limits a payment falls under, what they charge, and that all of them or none is charged.

use tollgate::admission::{Detail, Outcome};
use tollgate::merchant::{
    Ceilings, LimitProblem, LimitSpec, Measure, MerchantSpec, Override, OverrideSubject, Policy, Predicate, Problem,
    RiskFactors, SubjectPart, UnknownSubject,
};
use tollgate::reason::Reason;
use tollgate::types::{
    AccountClass, Channel, CodeGrade, Instrument, Interface, LimitMode, MerchantKind, Risk, Unit, Window,
};

use crate::gate::{Gate, Setup, fen, limit, merchant_day};
use crate::signer::Draft;

const FIRST: [&str; 2] = ["merchant", "1900000000"];
const SECOND: [&str; 2] = ["merchant", "1900000001"];

/// A limit of a merchant's day on payments that match.
fn on(id: &str, predicate: Predicate) -> LimitSpec {
    LimitSpec { predicate, ..merchant_day(id, 1000) }
}

#[track_caller]
fn assert_exceeds(gate: &mut Gate, draft: &Draft, id: &str, window: Option<Window>) {
    let refusal = gate.refuse(draft);
    let Detail::Limit { limit, window: found, .. } = refusal.detail else { panic!("{refusal:?}") };
    assert_eq!((refusal.reason, limit.as_str(), found), (Reason::LimitExceeded, id, window));
}

#[test]
fn a_window_is_used_up_to_its_ceiling_and_not_beyond() {
    let mut gate = Gate::limited([merchant_day("day", 100)]);
    let _most = gate.admit(&Draft::native(0, "T1", 99));
    assert_exceeds(&mut gate, &Draft::native(0, "T2", 2), "day", Some(Window::Day));
    let _last = gate.admit(&Draft::native(0, "T2", 1));
    assert_exceeds(&mut gate, &Draft::native(0, "T3", 1), "day", Some(Window::Day));
    assert_eq!(gate.used("day", &FIRST, 0), 100);
    let _theirs = gate.admit(&Draft::native(1, "T1", 100));
}

#[test]
fn the_largest_amounts_are_refused_and_not_wrapped() {
    let max = (1 << 48) - 1;
    let mut gate = Gate::limited([merchant_day("day", max)]);
    let _all = gate.admit(&Draft::native(0, "T1", max));
    for amount in [1, max] {
        assert_exceeds(&mut gate, &Draft::native(0, "T2", amount), "day", Some(Window::Day));
    }
    assert_eq!(gate.used("day", &FIRST, 0), max);
}

#[test]
fn a_single_transaction_has_a_ceiling_of_its_own() {
    let mut gate = Gate::limited([LimitSpec { transaction: fen(50), ..merchant_day("day", 100) }]);
    let _at = gate.admit(&Draft::native(0, "T1", 50));
    assert_exceeds(&mut gate, &Draft::native(0, "T2", 51), "day", None);
    assert_eq!(gate.used("day", &FIRST, 0), 50);
}

#[test]
fn a_limit_of_payments_counts_each_as_one_and_beside_the_money() {
    let count = LimitSpec { unit: Unit::Count, month: fen(3), ..merchant_day("count", 2) };
    let mut gate = Gate::limited([count, merchant_day("money", 1000)]);
    let row = "count Asia/Shanghai 0 count";
    gate.admit(&Draft::native(0, "T1", 600)).settle(Outcome::Done);
    assert_exceeds(&mut gate, &Draft::native(0, "T2", 401), "money", Some(Window::Day));
    assert_eq!((gate.used(row, &FIRST, 0), gate.used("money", &FIRST, 0)), (1, 600));
    let refused = gate.admit(&Draft::native(0, "T2", 400));
    assert_exceeds(&mut gate, &Draft::native(0, "T3", 1), "count", Some(Window::Day));
    refused.settle(Outcome::Refused);
    assert_eq!([0, 1, 2, 3].map(|cell| gate.used(row, &FIRST, cell)), [1, 1, 0, 0]);
    gate.admit(&Draft::native(0, "T3", 1)).settle(Outcome::Done);
    gate.now = tollgate::time::UnixMillis(gate.now.0 + 86_400_000);
    gate.admit(&Draft::native(0, "T4", 1)).settle(Outcome::Done);
    assert_exceeds(&mut gate, &Draft::native(0, "T5", 1), "count", Some(Window::Month));
    // The day before has passed: three payments of 602 in the month, one of 1 in the day.
    assert_eq!(gate.shared.table().used_total(), (3 + 602) + (1 + 1));
    gate.assert_conserved();
}

#[test]
fn all_limits_are_charged_or_none() {
    let category = LimitSpec { day: fen(500), ..limit("category", &[SubjectPart::Category]) };
    let month = LimitSpec { month: fen(120), ..merchant_day("month", 110) };
    let mut gate = Gate::limited([category, month]);
    let _first = gate.admit(&Draft::native(0, "T1", 100));
    let used = |gate: &Gate| {
        let category = gate.used("category", &["category", "retail"], 0);
        (category, gate.used("month", &FIRST, 0), gate.used("month", &FIRST, 1))
    };
    assert_eq!(used(&gate), (100, 100, 100));
    assert_exceeds(&mut gate, &Draft::native(0, "T2", 11), "month", Some(Window::Day));
    assert_eq!((used(&gate), gate.shared.table().used_total()), ((100, 100, 100), 400));
    assert_eq!(gate.shared.orders().len(), 1, "a refusal frees its number");
    let _second = gate.admit(&Draft::native(0, "T2", 10));
    assert_eq!(used(&gate), (110, 110, 110));
    let _others = gate.admit(&Draft::native(1, "T1", 110));
    assert_eq!(used(&gate), (220, 110, 110), "a category counts over its merchants");
}

#[test]
fn a_category_is_used_up_for_all_its_merchants() {
    let category = LimitSpec { day: fen(100), ..limit("category", &[SubjectPart::Category]) };
    let mut gate = Gate::limited([category]);
    let _first = gate.admit(&Draft::native(0, "T1", 100));
    assert_exceeds(&mut gate, &Draft::native(1, "T1", 1), "category", Some(Window::Day));
    let mut setup = Setup::limited([LimitSpec { day: fen(100), ..limit("category", &[SubjectPart::Category]) }]);
    setup.merchants[1].category = "food".to_owned();
    let mut gate = setup.gate();
    let _first = gate.admit(&Draft::native(0, "T1", 100));
    let _second = gate.admit(&Draft::native(1, "T1", 100));
}

#[test]
fn a_customer_is_the_platforms_customer_over_all_merchants() {
    let customer = LimitSpec { day: fen(100), ..limit("customer", &[SubjectPart::Customer]) };
    let mut gate = Gate::limited([customer]);
    let of = |customer: &'static str| [("tollgate-customer", customer)];
    let _first = gate.admit(&Draft::jsapi(0, "T1", 60, "o1").hop(&of("c1")));
    assert_exceeds(&mut gate, &Draft::native(1, "T1", 41).hop(&of("c1")), "customer", Some(Window::Day));
    let _second = gate.admit(&Draft::native(1, "T1", 40).hop(&of("c1")));
    let _other = gate.admit(&Draft::jsapi(0, "T2", 100, "o1").hop(&of("c2")));
    let _openid = gate.admit(&Draft::jsapi(0, "T3", 100, "o1"));
    assert_exceeds(&mut gate, &Draft::jsapi(1, "T3", 1, "o1"), "customer", Some(Window::Day));
    assert_eq!(gate.used("customer", &["customer", "c1"], 0), 100);
    assert_eq!(gate.used("customer", &["openid", "wx-jsapi", "o1"], 0), 100);
}

#[test]
fn a_customer_in_a_header_counts_on_a_trusted_hop_only() {
    let customer = LimitSpec { day: fen(100), ..limit("customer", &[SubjectPart::Customer]) };
    let mut gate = Gate::limited([customer]);
    let hop = Draft::jsapi(0, "T1", 60, "o1").hop(&[("tollgate-customer", "c1")]);
    let _public = gate.admit(&Draft { trust: tollgate::request::Trust::Public, ..hop });
    assert_eq!(gate.used("customer", &["customer", "c1"], 0), 0);
    assert_eq!(gate.used("customer", &["openid", "wx-jsapi", "o1"], 0), 60);
}

#[test]
fn an_unknown_customer_is_refused_or_held_to_the_single_transaction_as_the_limit_says() {
    let spec = |id: &str, unknown_subject| LimitSpec {
        unknown_subject,
        transaction: fen(50),
        day: fen(60),
        ..limit(id, &[SubjectPart::Customer, SubjectPart::Category])
    };
    let mut gate = Gate::limited([spec("each", UnknownSubject::PerTransaction)]);
    for number in ["T1", "T2", "T3"] {
        let _admission = gate.admit(&Draft::native(0, number, 50));
    }
    assert_exceeds(&mut gate, &Draft::native(0, "T4", 51), "each", None);
    assert_eq!((gate.shared.table().rows(), gate.shared.table().used_total()), (0, 0));
    let mut gate = Gate::limited([spec("known", UnknownSubject::Refuse)]);
    let refusal = gate.refuse(&Draft::native(0, "T1", 50));
    let detail = Detail::Limit { limit: "known".to_owned(), window: None, ends: None };
    assert_eq!((refusal.reason, refusal.detail), (Reason::LimitSubjectUnknown, detail));
    let _known = gate.admit(&Draft::native(0, "T1", 50).hop(&[("tollgate-customer", "c1")]));
    assert_eq!(gate.used("known", &["customer", "c1", "category", "retail"], 0), 50);
}

#[test]
fn a_limit_applies_to_the_payments_that_its_predicate_names() {
    let everything = Predicate::default;
    let mut setup = Setup::limited([
        on("micro", Predicate { merchant_kinds: vec![MerchantKind::Micro], ..everything() }),
        on("food", Predicate { categories: vec!["food".to_owned()], ..everything() }),
        on("high", Predicate { risks: vec![Risk::High], ..everything() }),
        on("native", Predicate { interfaces: vec![Interface::Native], ..everything() }),
        on("mini", Predicate { interfaces: vec![Interface::MiniProgram], ..everything() }),
        on("all", everything()),
    ]);
    let second = &mut setup.merchants[1];
    (second.kind, second.category, second.risk) = (MerchantKind::Micro, "food".to_owned(), Risk::High);
    let mut gate = setup.gate();
    let _native = gate.admit(&Draft::native(0, "T1", 1));
    let _mini = gate.admit(&Draft::order(0, "/v3/pay/transactions/jsapi", "wx-mini", "T2", "10", ""));
    let _jsapi = gate.admit(&Draft::jsapi(1, "T1", 100, "o1"));
    for (id, first, second) in
        [("micro", 0, 100), ("food", 0, 100), ("high", 0, 100), ("native", 1, 0), ("mini", 10, 0), ("all", 11, 100)]
    {
        assert_eq!((gate.used(id, &FIRST, 0), gate.used(id, &SECOND, 0)), (first, second), "{id}");
    }
}

/// Limits on one channel or instrument each.
fn by_means() -> [LimitSpec; 5] {
    let channel = |channel| Predicate { channels: vec![channel], ..Predicate::default() };
    let instrument = |instrument| Predicate { instruments: vec![instrument], ..Predicate::default() };
    [
        on("quick", channel(Channel::QuickPay)),
        on("balance", channel(Channel::Balance)),
        on("credit", instrument(Instrument::CreditCard)),
        on("debit", instrument(Instrument::DebitCard)),
        on("account", instrument(Instrument::Balance)),
    ]
}

#[test]
fn a_payment_of_unknown_channel_or_instrument_is_charged_to_each_it_could_fall_under() {
    for (facts, charged) in [
        (vec![], [1, 1, 1, 1, 1]),
        (vec![("tollgate-channel", "quick_pay")], [1, 0, 1, 1, 0]),
        (vec![("tollgate-channel", "balance")], [0, 1, 0, 0, 1]),
        (vec![("tollgate-instrument", "credit_card")], [1, 0, 1, 0, 0]),
        (vec![("tollgate-instrument", "debit_card")], [1, 0, 0, 1, 0]),
        (vec![("tollgate-instrument", "balance")], [0, 1, 0, 0, 1]),
        (vec![("tollgate-channel", "quick_pay"), ("tollgate-instrument", "debit_card")], [1, 0, 0, 1, 0]),
    ] {
        let mut gate = Gate::limited(by_means());
        let _admission = gate.admit(&Draft::native(0, "T1", 1).hop(&facts));
        let used = ["quick", "balance", "credit", "debit", "account"].map(|id| gate.used(id, &FIRST, 0));
        assert_eq!(used, charged, "{facts:?}");
    }
}

#[test]
fn a_payment_of_unknown_account_class_or_code_grade_is_charged_to_each_it_could_fall_under() {
    let class = |class| Predicate { account_classes: vec![class], ..Predicate::default() };
    let grade = |grades: &[CodeGrade]| Predicate { code_grades: grades.to_vec(), ..Predicate::default() };
    let limits = || {
        [
            on("one", class(AccountClass::I)),
            on("two", class(AccountClass::II)),
            on("b-c", grade(&[CodeGrade::B, CodeGrade::C])),
            on("d", grade(&[CodeGrade::D])),
        ]
    };
    for (facts, charged) in [
        (vec![], [1, 1, 1, 1]),
        (vec![("tollgate-account-class", "i")], [1, 0, 1, 1]),
        (vec![("tollgate-account-class", "iii"), ("tollgate-code-grade", "c")], [0, 0, 1, 0]),
        (vec![("tollgate-account-class", "ii"), ("tollgate-code-grade", "a")], [0, 1, 0, 0]),
    ] {
        let mut gate = Gate::limited(limits());
        let order = Draft::native(0, "T1", 1).hop(&facts);
        let _admission = gate.admit(&order);
        let used = ["one", "two", "b-c", "d"].map(|id| gate.used(id, &FIRST, 0));
        assert_eq!(used, charged, "{facts:?}");
        let other = Draft::native(0, "T1", 1).hop(&[("tollgate-account-class", "i"), ("tollgate-code-grade", "d")]);
        assert_eq!(gate.reason(&other), Reason::OrderNumberUsed, "another fact is another order");
    }
}

#[test]
fn a_restricted_channel_is_not_charged() {
    let mut gate = Setup::limited(by_means())
        .first(|merchant| merchant.measures = vec![Measure::RestrictedChannel(Channel::QuickPay)])
        .gate();
    let _admission = gate.admit(&Draft::native(0, "T1", 1));
    let used = ["quick", "balance", "credit", "debit", "account"].map(|id| gate.used(id, &FIRST, 0));
    assert_eq!(used, [0, 1, 0, 0, 1]);
}

#[test]
fn the_strictest_limit_factor_lowers_every_ceiling() {
    let factors = [700, 455, 800].map(|permille| Measure::LimitFactor { permille });
    let mut gate = Setup::limited([LimitSpec { transaction: fen(99), ..merchant_day("day", 100) }])
        .first(|merchant| merchant.measures = factors.to_vec())
        .gate();
    assert_exceeds(&mut gate, &Draft::native(0, "T1", 46), "day", None);
    let _first = gate.admit(&Draft::native(0, "T1", 45));
    assert_exceeds(&mut gate, &Draft::native(0, "T2", 1), "day", Some(Window::Day));
    let _unmeasured = gate.admit(&Draft::native(1, "T1", 99));
    let mut gate = Setup::limited([merchant_day("day", 100)])
        .first(|merchant| merchant.measures = vec![Measure::LimitFactor { permille: 0 }])
        .gate();
    assert_exceeds(&mut gate, &Draft::native(0, "T1", 1), "day", Some(Window::Day));
}

#[test]
fn the_factor_of_the_risk_level_multiplies_every_ceiling_and_a_measure_what_is_left() {
    let risk_factors = RiskFactors { low_permille: 1500, normal_permille: 1000, high_permille: 505 };
    for (risk, ceiling) in [(Risk::Low, 151), (Risk::Normal, 101), (Risk::High, 51)] {
        let long = LimitSpec { month: fen(202), risk_factors, ..merchant_day("day", 101) };
        let setup = Setup::limited([LimitSpec { transaction: fen(101), ..long }]);
        let mut gate = setup.first(|merchant| merchant.risk = risk).gate();
        assert_exceeds(&mut gate, &Draft::native(0, "T1", ceiling + 1), "day", None);
        let _most = gate.admit(&Draft::native(0, "T1", ceiling));
        assert_exceeds(&mut gate, &Draft::native(0, "T2", 1), "day", Some(Window::Day));
        let _normal = gate.admit(&Draft::native(1, "T1", 101));
    }
    let mut gate = Setup::limited([LimitSpec { risk_factors, ..merchant_day("day", 101) }])
        .first(|merchant| {
            merchant.risk = Risk::High;
            merchant.measures = vec![Measure::LimitFactor { permille: 500 }];
        })
        .gate();
    assert_exceeds(&mut gate, &Draft::native(0, "T1", 26), "day", Some(Window::Day));
    let _most = gate.admit(&Draft::native(0, "T1", 25));
}

#[test]
fn a_subject_may_have_ceilings_of_its_own_and_the_customers_come_first() {
    let of = |subject, ceilings| Override { subject, ceilings };
    let merchant = OverrideSubject::Merchant("1900000000".parse().expect("a merchant"));
    let customer = OverrideSubject::Customer("c1".to_owned());
    let spec = |overrides| LimitSpec {
        day: fen(100),
        month: fen(150),
        risk_factors: RiskFactors { normal_permille: 500, ..RiskFactors::default() },
        overrides,
        ..limit("both", &[SubjectPart::Customer, SubjectPart::Merchant])
    };
    let overrides = vec![
        of(merchant, Ceilings { transaction: fen(60), day: fen(70), ..Ceilings::default() }),
        of(customer, Ceilings { day: fen(20), ..Ceilings::default() }),
    ];
    let mut gate = Gate::limited([spec(overrides)]);
    let by = |customer: &'static str| [("tollgate-customer", customer)];
    // The risk factor halves what is the limit's, not what is the subject's own.
    for (merchant, customer, most, window) in
        [(0, "c1", 20, Window::Day), (1, "c1", 20, Window::Day), (0, "c2", 60, Window::Day), (1, "c2", 50, Window::Day)]
    {
        let number = format!("T-{customer}");
        let draft = |number: &str, amount| Draft::native(merchant, number, amount).hop(&by(customer));
        let above = if most == 60 { None } else { Some(window) };
        assert_exceeds(&mut gate, &draft(&number, most + 1), "both", above);
        gate.admit(&draft(&number, most)).settle(Outcome::Done);
        let rest = if most == 60 { 10 } else { 0 };
        assert_exceeds(&mut gate, &draft("T-next", rest + 1), "both", Some(window));
    }
    gate.now = tollgate::time::UnixMillis(gate.now.0 + 86_400_000);
    let month = Draft::native(0, "T-month", 16).hop(&by("c2"));
    assert_exceeds(&mut gate, &month, "both", Some(Window::Month));
}

#[test]
fn ceilings_of_a_subject_that_could_never_act_are_refused() {
    let problem = |per: &[SubjectPart], unit, overrides: &[(OverrideSubject, Ceilings)]| {
        let overrides =
            overrides.iter().map(|(subject, ceilings)| Override { subject: subject.clone(), ceilings: *ceilings });
        let spec = LimitSpec { unit, day: fen(100), overrides: overrides.collect(), ..limit("limit", per) };
        let Setup { routes, merchants, .. } = Setup::default();
        match Policy::build(routes, merchants, vec![spec]).expect_err("no use").problem {
            Problem::Limit(LimitProblem::Override { index, problem }) => (index, *problem),
            other => panic!("{other}"),
        }
    };
    let of = |id: &str| OverrideSubject::Merchant(id.parse().expect("a merchant"));
    let [known, unknown] = [of("1900000000"), of("1900000009")];
    let customer = || OverrideSubject::Customer("c".to_owned());
    let day = Ceilings { day: fen(10), ..Ceilings::default() };
    let both = [SubjectPart::Merchant, SubjectPart::Customer];
    let unknown = problem(&both, Unit::Fen, &[(customer(), day), (unknown, day)]);
    assert!(matches!(unknown, (1, LimitProblem::OverrideOfUnknown(_))), "{unknown:?}");
    let another = problem(&both[..1], Unit::Fen, &[(customer(), day)]);
    assert_eq!(another, (0, LimitProblem::OverrideOfAnother { part: "customer" }));
    let twice = problem(&both, Unit::Fen, &[(known.clone(), day), (known.clone(), day)]);
    assert_eq!(twice, (1, LimitProblem::OverrideRepeated));
    let empty = problem(&both, Unit::Fen, &[(known.clone(), Ceilings::default())]);
    assert_eq!(empty, (0, LimitProblem::NoCeiling { unit: Unit::Fen }));
    let month = Ceilings { month: fen(99), ..Ceilings::default() };
    let inverted = LimitProblem::Inverted { longer: Window::Month, shorter: Some(Window::Day), unit: Unit::Fen };
    assert_eq!(problem(&both, Unit::Fen, &[(known.clone(), month)]), (0, inverted));
    let transaction = Ceilings { transaction: fen(1), ..Ceilings::default() };
    assert_eq!(problem(&both, Unit::Count, &[(known, transaction)]), (0, LimitProblem::TransactionOfCount));
}

#[test]
fn a_shadow_limit_decides_and_reports_and_never_refuses() {
    let shadow = |spec| LimitSpec { mode: LimitMode::Shadow, ..spec };
    let customer = LimitSpec {
        unknown_subject: UnknownSubject::Refuse,
        day: fen(1000),
        ..limit("customer", &[SubjectPart::Customer])
    };
    let day = LimitSpec { transaction: fen(90), ..merchant_day("day", 100) };
    let mut gate = Gate::limited([shadow(day), merchant_day("real", 300), shadow(customer)]);
    let by = [("tollgate-customer", "c1")];
    let fits = gate.admit(&Draft::native(0, "T1", 60).hop(&by));
    assert_eq!(fits.shadowed.as_slice(), [0_u16; 0]);
    let unknown = gate.admit(&Draft::native(0, "T2", 40));
    assert_eq!(unknown.shadowed.as_slice(), [2]);
    let full = gate.admit(&Draft::native(0, "T3", 1).hop(&by));
    assert_eq!(full.shadowed.as_slice(), [0]);
    let both = gate.admit(&Draft::native(0, "T4", 91));
    assert_eq!(both.shadowed.as_slice(), [0, 2]);
    assert!(gate.admit(&Draft::native(0, "T4", 91)).shadowed.is_empty(), "a duplicate takes nothing");
    let used = ["day", "real"].map(|id| gate.used(id, &FIRST, 0));
    assert_eq!(used, [100, 192], "what it had no room for is not charged");
    assert_exceeds(&mut gate, &Draft::native(0, "T5", 109), "real", Some(Window::Day));
    let named: Vec<Vec<String>> =
        gate.shelf.records().iter().map(|record| record.shadowed.iter().map(|id| id.to_string()).collect()).collect();
    assert_eq!(
        named[..4],
        [vec![], vec!["customer".to_owned()], vec!["day".to_owned()], vec!["day".to_owned(), "customer".to_owned()]]
    );
    drop((fits, unknown, full, both));
    assert_eq!(gate.shared.table().used_total(), 0);
    gate.assert_conserved();
}

#[test]
fn a_changed_limit_acts_on_the_next_batch_and_keeps_what_is_used() {
    let mut gate = Gate::limited([merchant_day("day", 100)]);
    let admission = gate.admit(&Draft::native(0, "T1", 80));
    for (ceiling, amount, admitted) in [(50, 1, false), (81, 2, false), (81, 1, true), (200, 120, false)] {
        gate.shared
            .replace_policy(Setup::limited([merchant_day("day", ceiling)]).policy())
            .expect("nothing is recorded");
        let number = format!("T{ceiling}-{amount}");
        let draft = Draft::native(0, &number, amount);
        if admitted {
            gate.admit(&draft).settle(Outcome::Done);
        } else {
            assert_exceeds(&mut gate, &draft, "day", Some(Window::Day));
        }
    }
    admission.settle(Outcome::Refused);
    assert_eq!(gate.used("day", &FIRST, 0), 1, "given back under the policy in force then");
    gate.shared.replace_policy(Setup::limited([merchant_day("other", 100)]).policy()).expect("nothing is recorded");
    let _new = gate.admit(&Draft::native(0, "T9", 100));
    assert_eq!((gate.used("day", &FIRST, 0), gate.used("other", &FIRST, 0)), (1, 100));
}

#[test]
fn a_window_that_is_added_or_removed_forgets_nothing_of_the_others() {
    let mut gate = Gate::limited([merchant_day("day", 100)]);
    gate.admit(&Draft::native(0, "T1", 100)).settle(Outcome::Done);
    let both = || LimitSpec { month: fen(150), ..merchant_day("day", 100) };
    gate.shared.replace_policy(Setup::limited([both()]).policy()).expect("nothing is recorded");
    assert_exceeds(&mut gate, &Draft::native(0, "T2", 1), "day", Some(Window::Day));
    gate.shared
        .replace_policy(Setup::limited([LimitSpec { day: None, ..both() }]).policy())
        .expect("nothing is recorded");
    assert_exceeds(&mut gate, &Draft::native(0, "T2", 51), "day", Some(Window::Month));
    gate.admit(&Draft::native(0, "T2", 50)).settle(Outcome::Done);
    let long = |year, lifetime| LimitSpec { day: None, year, lifetime, ..merchant_day("day", 1) };
    // Day and month count together; a year and a lifetime each from when it has a ceiling.
    gate.shared.replace_policy(Setup::limited([long(fen(10), None)]).policy()).expect("nothing is recorded");
    assert_exceeds(&mut gate, &Draft::native(0, "T3", 11), "day", Some(Window::Year));
    gate.admit(&Draft::native(0, "T3", 10)).settle(Outcome::Done);
    gate.shared.replace_policy(Setup::limited([long(None, fen(5))]).policy()).expect("nothing is recorded");
    assert_exceeds(&mut gate, &Draft::native(0, "T4", 6), "day", Some(Window::Lifetime));
    gate.admit(&Draft::native(0, "T4", 5)).settle(Outcome::Done);
    gate.shared.replace_policy(Setup::limited([both()]).policy()).expect("nothing is recorded");
    assert_exceeds(&mut gate, &Draft::native(0, "T5", 1), "day", Some(Window::Day));
    assert_eq!([0, 1, 2, 3].map(|cell| gate.used("day", &FIRST, cell)), [150, 150, 10, 5]);
}

#[test]
fn sixteen_limits_are_charged_together_and_no_more_are_taken() {
    let four = |id: String| LimitSpec { year: fen(200), lifetime: fen(300), ..merchant_day(&id, 100) };
    let limits = |count: usize| (0..count).map(|number| four(format!("limit-{number}")));
    let mut gate = Gate::limited(limits(16));
    let _all = gate.admit(&Draft::native(0, "T1", 7));
    assert!((0..16).all(|number| gate.used(&format!("limit-{number}"), &FIRST, 0) == 7));
    let Setup { routes, merchants, .. } = Setup::default();
    let refused = Policy::build(routes, merchants, limits(17).collect()).expect_err("17 limits");
    assert_eq!(refused.problem, Problem::TooManyCells { cells: 68, max: 64 });
}

#[test]
fn a_duplicate_may_take_only_the_channels_that_were_charged_for() {
    let quick = |ceiling| LimitSpec {
        predicate: Predicate { channels: vec![Channel::QuickPay], ..Predicate::default() },
        ..merchant_day("quick", ceiling)
    };
    let restricted = |merchant: &mut MerchantSpec| {
        merchant.measures = vec![Measure::RestrictedChannel(Channel::QuickPay)];
    };
    let mut gate = Setup::limited([quick(10)]).first(restricted).gate();
    let order = || Draft::native(0, "T1", 1000);
    let first = gate.admit(&order());
    assert_eq!((first.channels.as_slice(), gate.used("quick", &FIRST, 0)), ([Channel::Balance].as_slice(), 0));
    gate.shared.replace_policy(Setup::limited([quick(10)]).policy()).expect("nothing is recorded");
    let again = gate.admit(&order());
    assert!(again.duplicate);
    assert_eq!(again.channels.as_slice(), [Channel::Balance], "quick pay was never charged");
    let balance = Measure::RestrictedChannel(Channel::Balance);
    let closed = Setup::limited([quick(10)]).first(|merchant| merchant.measures = vec![balance]);
    gate.shared.replace_policy(closed.policy()).expect("nothing is recorded");
    assert_eq!(gate.reason(&order()), Reason::ChannelRestricted);
}

#[test]
fn only_payments_are_charged() {
    let mut setup = Setup::limited([merchant_day("day", 100)]);
    setup.merchants[0].keys = vec![crate::gate::certified(0, &crate::signer::serial(0))];
    let mut gate = setup.gate();
    for draft in [Draft::refund(0, "R1", 10_000), Draft::query(0, "T1"), Draft::close(0, "T1"), Draft::reverse(0, "T1")]
    {
        gate.admit(&draft).settle(Outcome::Done);
    }
    assert_eq!(gate.shared.table().rows(), 0);
}
