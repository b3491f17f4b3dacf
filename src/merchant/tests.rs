//! What limits make of payments, as they are decided.

mod coverage;

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;

use super::*;
use crate::prf::{DEPLOYMENT_KEY_BYTES, DeploymentKey, Prf};
use crate::quota::{CellDemand, Demand};
use crate::reason::Reason;
use crate::request::Format;
use crate::request::Trust;
use crate::signature::VerifyingKey;
use crate::time::{Calendar, CalendarRule, UnixMillis, WindowIds};
use crate::types::{
    AccountClass, Authentication, Channel, CodeGrade, Fen, Instrument, Interface, LimitMode, MerchantId, MerchantKind,
    Operation, Risk, Scenario, Unit,
};

/// Noon in Shanghai on 22 November 2026.
const NOW: UnixMillis = UnixMillis(1_795_320_000_000);
const IDS: WindowIds = WindowIds { day: 20_779, month: 56 * 12 + 10, year: 56 };

fn fen(fen: u64) -> Option<Fen> {
    Some(Fen::new(fen).expect("an amount"))
}

fn rows() -> Prf {
    DeploymentKey::new([7; DEPLOYMENT_KEY_BYTES]).derive("rows")
}

fn key() -> VerifyingKey {
    static KEY: OnceLock<VerifyingKey> = OnceLock::new();
    let make = || {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key pair");
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("DER");
        VerifyingKey::from_spki_der(der.as_ref()).expect("a key")
    };
    KEY.get_or_init(make).clone()
}

fn mchid() -> MerchantId {
    "1900000001".parse().expect("an mchid")
}

fn merchant() -> MerchantSpec {
    let key =
        KeySpec { id: "AB12".parse().expect("an id"), key: key(), origin: KeyOrigin::Bare, status: KeyStatus::Active };
    let code =
        AppSpec { interface: Interface::PaymentCode, scenario: Scenario::Offline, appids: vec!["wx1".to_owned()] };
    MerchantSpec {
        id: mchid(),
        name: "merchant".to_owned(),
        kind: MerchantKind::Ordinary,
        category: "retail".to_owned(),
        risk: Risk::Normal,
        sources: Vec::new(),
        keys: vec![key],
        apps: vec![code],
        measures: Vec::new(),
        apiv3_key: None,
        platform_key: None,
    }
}

/// A limit per merchant that has no ceiling yet.
fn limit(id: &str) -> LimitSpec {
    let zone = jiff::tz::TimeZone::get("Asia/Shanghai").expect("a zone");
    LimitSpec {
        id: id.to_owned(),
        predicate: Predicate::default(),
        subject: vec![SubjectPart::Merchant],
        unknown_subject: UnknownSubject::PerTransaction,
        calendar: CalendarRule::new(zone, 0).expect("an hour"),
        unit: Unit::Fen,
        transaction: None,
        day: None,
        month: None,
        year: None,
        lifetime: None,
        mode: LimitMode::Enforce,
        disk: false,
        refund: Refunds::Return,
        risk_factors: RiskFactors::default(),
        overrides: Vec::new(),
    }
}

fn build(merchant: MerchantSpec, limits: Vec<LimitSpec>) -> Result<Policy, PolicyError> {
    Policy::build(Routes::standard().expect("standard table"), vec![merchant], limits)
}

fn policy(limits: Vec<LimitSpec>) -> Policy {
    build(merchant(), limits).expect("a policy")
}

/// Decides a payment by code: what each limit demands, `None` where it is not charged; or why it is not permitted.
fn decide(policy: &Policy, facts: &Facts<'_>) -> Result<Vec<Option<Demand>>, Reason> {
    let merchant = policy.merchant(&mchid()).expect("the merchant");
    let route = policy.routes().iter().find(|route| route.id == "v3.codepay").expect("a route");
    let permitted = merchant.permit(route, facts, Trust::TrustedHop, None)?;
    let windows: Vec<_> = policy.calendars().iter().map(|rule| Calendar::new(rule.clone()).windows(NOW)).collect();
    let payment = Payment { merchant, permitted: &permitted, facts, amount: Fen::ONE, windows: &windows };
    let decided = policy.limits().iter().map(|limit| match limit.applies(&payment, &rows()) {
        Applies::Charge(demand) => Some(demand),
        Applies::No | Applies::Checked => None,
        other => panic!("{other:?}"),
    });
    Ok(decided.collect())
}

/// Decides a payment of which nothing is known; what the only limit demands.
fn demand(spec: LimitSpec) -> Option<Demand> {
    let facts = Facts { appid: Some("wx1"), ..Facts::default() };
    decide(&policy(vec![spec]), &facts).expect("permitted").pop().expect("one limit")
}

#[test]
fn a_limit_counts_day_and_month_together_and_longer_windows_where_they_have_a_ceiling() {
    let with = |day, month, year, lifetime| LimitSpec { day, month, year, lifetime, ..limit("limit") };
    let own = |ceilings| Override { subject: OverrideSubject::Merchant("1900000001".parse().expect("id")), ceilings };
    let overridden = |ceilings| LimitSpec { overrides: vec![own(ceilings)], ..with(None, None, fen(9), None) };
    let others = vec![
        (with(fen(5), None, None, None), [Some(5), Some(u64::MAX), None, None]),
        (with(None, fen(6), None, None), [Some(u64::MAX), Some(6), None, None]),
        (with(None, None, fen(7), None), [None, None, Some(7), None]),
        (with(None, None, None, fen(8)), [None, None, None, Some(8)]),
        (with(fen(1), fen(2), fen(3), fen(4)), [Some(1), Some(2), Some(3), Some(4)]),
        (overridden(Ceilings { month: fen(3), ..Ceilings::default() }), [Some(u64::MAX), Some(3), Some(9), None]),
        (overridden(Ceilings { lifetime: fen(9), ..Ceilings::default() }), [None, None, Some(9), Some(9)]),
    ];
    for (spec, ceilings) in others {
        let shown = format!("{spec:?}");
        let of_limit = policy(vec![spec.clone()]);
        let [limit] = of_limit.limits() else { panic!("one limit") };
        let demand = demand(spec).expect("charged");
        assert_eq!(demand.cells.map(|cell| cell.map(|cell| cell.ceiling)), ceilings, "{shown}");
        assert_eq!(limit.windows(), ceilings.map(|ceiling| ceiling.is_some()), "{shown}");
        assert_eq!(limit.cells(), ceilings.iter().flatten().count(), "{shown}");
        let ids = [IDS.day, IDS.month, IDS.year, 0];
        for (cell, id) in demand.cells.iter().zip(ids) {
            assert!(cell.is_none_or(|CellDemand { window_id, .. }| window_id == id), "{shown}");
        }
    }
}

#[test]
fn a_limit_of_single_transactions_counts_nothing() {
    let spec = LimitSpec { transaction: fen(5), ..limit("limit") };
    assert!(demand(spec.clone()).is_none());
    let policy = policy(vec![spec]);
    let [limit] = policy.limits() else { panic!("one limit") };
    assert_eq!((limit.windows(), limit.cells()), ([false; 4], 0));
}

#[test]
fn the_windows_that_are_charged_together_are_bounded() {
    let day = |number: usize| LimitSpec { day: fen(9), ..limit(&format!("day-{number}")) };
    let year = |number: usize| LimitSpec { year: fen(9), ..limit(&format!("year-{number}")) };
    assert!(build(merchant(), (0..32).map(day).collect()).is_ok());
    assert!(build(merchant(), (0..64).map(year).collect()).is_ok());
    let many = build(merchant(), (0..32).map(day).chain((0..1).map(year)).collect()).expect_err("too many");
    assert_eq!(many.problem, Problem::TooManyCells { cells: 65, max: 64 });
}

#[test]
fn a_demand_bears_the_label_of_its_limit() {
    let spec = |id: &str, unit| LimitSpec { unit, day: fen(9), ..limit(id) };
    let mut policy = policy(vec![spec("a", Unit::Fen), spec("b", Unit::Count)]);
    let facts = Facts { appid: Some("wx1"), ..Facts::default() };
    let labels = |policy: &Policy| -> Vec<u32> {
        decide(policy, &facts).expect("permitted").iter().flatten().map(|demand| demand.label).collect()
    };
    assert_eq!(labels(&policy), [0, 0]);
    let mut names = Vec::new();
    policy.label(&mut |name| {
        names.push(name.to_owned());
        40 + u32::try_from(names.len()).expect("few")
    });
    assert_eq!(names, ["a Asia/Shanghai 0 fen", "b Asia/Shanghai 0 count"]);
    assert_eq!((labels(&policy), policy.limit_by_id("b").map(|limit| limit.label)), (vec![41, 42], Some(42)));
    assert!(policy.limit_by_id("c").is_none());
}

#[test]
fn the_row_of_a_subject_is_the_one_that_is_charged() {
    let per = |subject: &[SubjectPart]| LimitSpec { subject: subject.to_vec(), day: fen(9), ..limit("limit") };
    let (merchant, category) = (SubjectPart::Merchant, SubjectPart::Category);
    let known = Facts { appid: Some("wx1"), openid: Some("o1"), customer: Some("c1"), ..Facts::default() };
    let openid = Facts { customer: None, ..known.clone() };
    let all = SubjectNames {
        merchant: Some("1900000001"),
        category: Some("retail"),
        customer: Some("c1"),
        openid: Some(("wx1", "o1")),
    };
    let of_openid = SubjectNames { customer: None, ..all };
    let cases = [
        (per(&[merchant]), &known, SubjectNames { merchant: all.merchant, ..SubjectNames::default() }),
        (per(&[category]), &known, SubjectNames { category: all.category, ..SubjectNames::default() }),
        (per(&[SubjectPart::Customer]), &known, all),
        (per(&[SubjectPart::Customer]), &openid, of_openid),
        (per(&[SubjectPart::Customer, category, merchant]), &known, SubjectNames { openid: None, ..all }),
    ];
    for (spec, facts, names) in cases {
        let policy = policy(vec![spec]);
        let charged = decide(&policy, facts).expect("permitted").pop().flatten().expect("charged");
        let [limit] = policy.limits() else { panic!("one limit") };
        assert_eq!(limit.row_of(&names, &rows()), Some(charged.row), "{names:?}");
        let missing = SubjectNames { customer: None, openid: None, ..names };
        let per_customer = limit.per().contains(&SubjectPart::Customer);
        assert_eq!(limit.row_of(&missing, &rows()).is_none(), per_customer);
        assert_eq!(limit.row_of(&SubjectNames::default(), &rows()), None);
    }
}

#[test]
fn ceilings_of_a_subject_are_those_it_is_held_to() {
    let risk_factors = RiskFactors { high_permille: 500, ..RiskFactors::default() };
    let own = |subject, day| Override { subject, ceilings: Ceilings { day: fen(day), ..Ceilings::default() } };
    let spec = LimitSpec {
        subject: vec![SubjectPart::Customer, SubjectPart::Merchant],
        transaction: fen(50),
        day: fen(100),
        year: fen(1000),
        risk_factors,
        overrides: vec![
            own(OverrideSubject::Customer("c1".to_owned()), 60),
            own(OverrideSubject::Merchant(mchid()), 80),
        ],
        ..limit("limit")
    };
    let measures = vec![Measure::LimitFactor { permille: 900 }];
    let policy = build(MerchantSpec { risk: Risk::High, measures, ..merchant() }, vec![spec]).expect("a policy");
    let [limit] = policy.limits() else { panic!("one limit") };
    let merchant = policy.merchant(&mchid());
    assert_eq!(limit.ceilings_of(None, None), [Some(50), Some(100), None, Some(1000), None]);
    assert_eq!(limit.ceilings_of(None, Some("c1")), [Some(50), Some(60), None, Some(1000), None]);
    assert_eq!(limit.ceilings_of(merchant, Some("c2")), [Some(22), Some(72), None, Some(450), None]);
    assert_eq!(limit.ceilings_of(merchant, Some("c1")), [Some(22), Some(54), None, Some(450), None]);
    let facts = Facts { appid: Some("wx1"), customer: Some("c1"), ..Facts::default() };
    let charged = decide(&policy, &facts).expect("permitted").pop().flatten().expect("charged");
    let ceilings = charged.cells.map(|cell| cell.map(|cell| cell.ceiling));
    assert_eq!(ceilings, [Some(54), Some(u64::MAX), Some(450), None]);
}

#[test]
fn routes_say_where_expiry_original_and_outcome_stand() {
    let routes = Routes::standard().expect("standard table");
    for route in routes.iter() {
        let name = |position: Option<usize>| position.and_then(|at| route.pointers.names.get(at)).map(String::as_str);
        let ordered = route.operation == Operation::Pay && route.settle == Settle::Later;
        assert_eq!(name(route.pointers.expires), ordered.then_some("/time_expire"), "{}", route.id);
        let refund = route.operation == Operation::Refund;
        assert_eq!(name(route.pointers.original), refund.then_some("/out_trade_no"), "{}", route.id);
        let tells = route.operation == Operation::Query || refund || route.interfaces.iter().any(at_once);
        let Some(answer) = &route.answer else {
            assert!(!tells && route.scheme.format() == Format::Json, "{}", route.id);
            continue;
        };
        let refunds = route.orders == OrderKind::Refund;
        if route.scheme.format() == Format::Xml {
            // Codes say whether it was done; only a query tells a state beside.
            let queries = route.operation == Operation::Query;
            assert!(answer.codes.is_some() && answer.state.is_some() == queries, "{}", route.id);
            assert_eq!(answer.order.is_some(), queries, "{}", route.id);
            assert_eq!(answer.paid_by.is_some(), tells && !refunds, "{}", route.id);
            continue;
        }
        assert!(tells && answer.done.contains(&"SUCCESS".to_owned()), "{}", route.id);
        assert_eq!(answer.paid_by.is_none(), refunds, "{}", route.id);
        assert_eq!(answer.refused.contains(&"PAYERROR".to_owned()), !refunds, "{}", route.id);
        assert_eq!(answer.order.is_some(), route.operation == Operation::Query, "{}", route.id);
        for open in ["USERPAYING", "NOTPAY", "PROCESSING"].map(str::to_owned) {
            assert!(!answer.done.contains(&open) && !answer.refused.contains(&open), "{}", route.id);
        }
    }
}

/// Tells whether the answer to an order of this interface says whether it was paid.
fn at_once(interface: &Interface) -> bool {
    matches!(interface, Interface::PaymentCode | Interface::Face)
}

#[test]
fn a_route_whose_answer_cannot_be_read_is_refused() {
    let route = r#"{"id":"a","scheme":"wechatpay-v3","operation":"query","method":"GET","path":"/a","certificate":"none","settle":"none","answer":{"state":"/s","done":[],"refused":[]}}"#;
    let error = Routes::from_json(&format!("{{\"routes\":[{route}]}}")).expect_err("no state is done");
    assert!(error.to_string().contains("route `a`: `answer` names at least one state"), "{error}");
    let unknown = route.replace("\"refused\"", "\"other\":1,\"refused\"");
    assert!(matches!(Routes::from_json(&format!("{{\"routes\":[{unknown}]}}")), Err(RoutesInvalid::Form(_))));
}

#[test]
fn holds_last_a_week_and_are_released() {
    let HoldRules { hold_s, on_expiry } = HoldRules::default();
    assert_eq!((hold_s, on_expiry), (7 * 86_400, ExpiryRule::Release));
    assert_eq!(ExpiryRule::default(), on_expiry);
}

#[test]
fn a_certificate_vouches_for_no_secret() {
    let routes = Routes::standard().expect("standard table");
    for route in routes.iter() {
        let flat = route.scheme.format() == Format::Xml;
        assert_eq!(routes.can_demand(&route.id, CertificateDemand::Signature), !flat, "{}", route.id);
        assert!(routes.can_demand(&route.id, CertificateDemand::Mtls), "{}", route.id);
        let shown = flat && route.pays_out();
        assert_eq!(route.certificate == CertificateDemand::Mtls, shown, "{}", route.id);
    }
}
