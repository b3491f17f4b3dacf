//! An explanation says what a decision would, of what it looked at, and takes nothing.

use proptest::prelude::*;
use tollgate::admission::{Decision, Outcome};
use tollgate::merchant::{KeySpec, KeyStatus, LimitSpec, SubjectPart, UnknownSubject};
use tollgate::time::UnixMillis;
use tollgate::types::LimitMode;

use crate::gate::{Gate, Setup, certified, fen, key, limit, merchant_day};
use crate::signer::{Call, Draft, NOW, mchid, serial};

/// What can be wrong with a request; several things may be.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Path,
    Method,
    Agent,
    NoAuthorization,
    TwoAuthorizations,
    Stale,
    Merchant,
    Key,
    Signature,
    Revoked,
    AnswerKey,
    Body,
    OtherMerchant,
    Appid,
    Amount,
    Currency,
    TooLate,
    TooMuch,
    Facts,
    KnownCustomer,
}

const FAULTS: [Fault; 20] = [
    Fault::Path,
    Fault::Method,
    Fault::Agent,
    Fault::NoAuthorization,
    Fault::TwoAuthorizations,
    Fault::Stale,
    Fault::Merchant,
    Fault::Key,
    Fault::Signature,
    Fault::Revoked,
    Fault::AnswerKey,
    Fault::Body,
    Fault::OtherMerchant,
    Fault::Appid,
    Fault::Amount,
    Fault::Currency,
    Fault::TooLate,
    Fault::TooMuch,
    Fault::Facts,
    Fault::KnownCustomer,
];

/// A gate with room for 100 a day and merchant, of which a part is used, and with a revoked key.
fn gate(used: u64) -> Gate {
    let customer = LimitSpec {
        unknown_subject: UnknownSubject::Refuse,
        transaction: fen(60),
        day: fen(70),
        ..limit("customer", &[SubjectPart::Customer])
    };
    let shadow = LimitSpec { mode: LimitMode::Shadow, ..merchant_day("shadow", 10) };
    let revoked = KeySpec { status: KeyStatus::Revoked, ..key(2, "B1") };
    let keys = vec![certified(0, &serial(0)), revoked];
    let setup = Setup::limited([merchant_day("day", 100), shadow, customer]);
    let mut gate = setup.first(|merchant| merchant.keys = keys).gate();
    if used > 0 {
        let order = Draft::codepay(0, "T0", used).hop(&[("tollgate-customer", "c0")]);
        gate.admit(&order).settle(Outcome::Done);
    }
    gate
}

fn draft(kind: usize, number: &str, amount: u64) -> Draft {
    match kind {
        0 => Draft::jsapi(0, number, amount, "o1"),
        1 => Draft::native(0, number, amount),
        2 => Draft::codepay(0, number, amount).hop(&[("tollgate-customer", "c1")]),
        3 => Draft::refund_of(0, number, "T0", amount),
        4 => Draft::query(0, number),
        5 => Draft::close(0, number),
        6 => Draft::reverse(0, number),
        7 => Draft::query_refund(0, number),
        _ => Draft::new(0, "GET", "/v3/certificates", ""),
    }
}

/// Spoils what is signed.
fn spoil(mut draft: Draft, fault: Fault) -> Draft {
    let replace = |from: &str, to: &str| draft.body.replace(from, to);
    match fault {
        Fault::Path => draft.target.push_str("/more"),
        Fault::Method => draft.method = "PUT".to_owned(),
        Fault::Agent => draft = draft.without("user-agent"),
        Fault::Stale => draft.timestamp_s = Some(NOW.seconds() - 301),
        Fault::Merchant => draft.mchid = mchid(7),
        Fault::Key => draft.serial = serial(7),
        Fault::Revoked => (draft.serial, draft.key) = ("B1".to_owned(), 2),
        Fault::AnswerKey => draft.answer_key_known = false,
        Fault::Body => draft.body.push('}'),
        Fault::OtherMerchant => draft.body = replace("1900000000", "1900000001"),
        Fault::Appid => draft.body = replace("wx-", "wy-"),
        Fault::Amount => draft.body = replace(r#""total":"#, r#""total":0."#),
        Fault::Currency => draft.body = replace("CNY", "USD"),
        Fault::TooLate => draft.body = replace(r#""appid""#, r#""time_expire":"2027-11-22T00:00:00Z","appid""#),
        Fault::TooMuch => draft.body = replace(r#""total":"#, r#""total":9"#),
        Fault::Facts => draft = draft.hop(&[("tollgate-channel", "barter")]),
        Fault::KnownCustomer => draft = draft.hop(&[("tollgate-customer", "c2")]),
        Fault::NoAuthorization | Fault::TwoAuthorizations | Fault::Signature => {}
    }
    draft
}

/// Spoils what was signed.
fn spoil_signed(mut call: Call, fault: Fault) -> Call {
    match fault {
        Fault::Signature => return call.forged(),
        Fault::NoAuthorization => call.headers.0.retain(|(name, _)| name != "Authorization"),
        Fault::TwoAuthorizations => call.headers.0.extend(call.headers.0.last().cloned()),
        _ => {}
    }
    call
}

/// All that a decision could have taken.
fn state(gate: &Gate) -> (usize, usize, u64, u64, usize) {
    let table = gate.shared.table();
    let records = gate.shelf.records().len();
    (gate.shared.nonces().len(), gate.shared.orders().len(), table.used_total(), table.rows(), records)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_explanation_refuses_as_the_decision_does_and_takes_nothing(
        used in prop::sample::select(vec![0_u64, 40, 55]),
        kind in 0..9_usize,
        number in prop::sample::select(vec!["T0", "T1"]),
        amount in prop::sample::select(vec![1_u64, 40, 60, 61, 71]),
        faults in prop::sample::subsequence(FAULTS.to_vec(), 0..3),
        repeated in prop::bool::weighted(0.2),
    ) {
        let mut gate = gate(used);
        let draft = faults.iter().fold(draft(kind, number, amount), |draft, fault| spoil(draft, *fault));
        let signed = faults.iter().any(|fault| matches!(fault, Fault::NoAuthorization));
        let mut call = draft.sign(gate.now);
        if !signed || !faults.iter().any(|fault| matches!(fault, Fault::Signature)) {
            call = faults.iter().fold(call, |call, fault| spoil_signed(call, *fault));
        }
        if repeated {
            // A trusted hop would be given what was decided then: that is not told.
            call.draft.trust = tollgate::request::Trust::Public;
            drop(gate.decide(call.request()));
        }
        let before = state(&gate);
        let explanation = gate.shared.explain(&call.request(), gate.now);
        prop_assert_eq!(gate.shared.explain(&call.request(), gate.now), explanation.clone());
        prop_assert_eq!(state(&gate), before, "{}", explanation);
        let refused = match gate.decide(call.request()) {
            Decision::Admitted(_) => None,
            Decision::Refused(refusal) => Some(refusal.reason),
        };
        prop_assert_eq!(explanation.refused(), refused, "{}", explanation);
    }
}

#[test]
fn an_explanation_shows_what_was_signed_by_whom_for_what_and_the_room_of_every_limit() {
    let mut gate = gate(40);
    let call = Draft::jsapi(0, "T1", 30, "o1").sign(gate.now);
    let text = gate.shared.explain(&call.request(), gate.now).to_string();
    let (nonce, body) = (&call.draft.nonce, &call.draft.body);
    let message = ["POST", "/v3/pay/transactions/jsapi", "1795320000", nonce, body];
    let canonical: String = message.iter().map(|line| format!("    | {line}\n")).collect();
    let bytes = message.iter().map(|line| line.len() + 1).sum::<usize>();
    let bytes = format!("canonical string, {bytes} bytes");
    let key = format!("key {}, vouched for by an API certificate", serial(0));
    for shown in [
        canonical.as_str(),
        &bytes,
        &key,
        "merchant 1900000000",
        "interfaces: jsapi\n",
        "channels: quick_pay, balance\n",
        "v3.jsapi: pay",
        "order: T1\n",
        "amount: 30 fen\n",
        "openid: o1\n",
        "T1: not bound",
        "day: asks 30 fen, used 40, ceiling 100, room 60",
        "month: asks 30 fen, used 40, ceiling none",
        "shadow: as a shadow limit it would have refused, limit_exceeded",
        "day: asks 30 fen, used 0, ceiling 70, room 70",
        "verdict: admitted\n",
    ] {
        assert!(text.contains(shown), "{shown:?} in\n{text}");
    }
    let admission = gate.admit_call(&call);
    let duplicate = Draft::jsapi(0, "T1", 30, "o1").sign(gate.now);
    let text = gate.shared.explain(&duplicate.request(), gate.now).to_string();
    assert!(text.contains(&format!("T1: decision {}, held", admission.id)), "{text}");
    let text = gate.shared.explain(&call.request(), gate.now).to_string();
    assert!(text.ends_with("verdict: refused, nonce_replayed\n"), "{text}");
}

#[test]
fn an_explanation_goes_on_after_a_refusal_and_names_the_first() {
    let gate = gate(0);
    let call = Draft::native(0, "T1", 101).sign(NOW).forged();
    let explanation = gate.shared.explain(&call.request(), UnixMillis(NOW.0 + 400_000));
    let refused: Vec<_> = explanation.steps.iter().filter_map(|step| Some((step.name, step.refused?))).collect();
    let names = refused.iter().map(|(name, reason)| (*name, reason.as_str()));
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            ("freshness", "timestamp_skewed"),
            ("signature", "signature_invalid"),
            ("limit", "limit_exceeded"),
            ("limit", "limit_exceeded"),
        ]
    );
    assert_eq!(explanation.refused().map(|reason| reason.as_str()), Some("timestamp_skewed"));
}
