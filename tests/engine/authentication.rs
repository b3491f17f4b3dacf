//! What is checked until the signature holds, in which order, and what a caller that is nobody yet can cause: nothing.

use tollgate::admission::{Detail, Refusal};
use tollgate::merchant::{KeySpec, KeyStatus};
use tollgate::reason::Reason;
use tollgate::time::UnixMillis;

use crate::gate::{Setup, certified, key};
use crate::signer::{Draft, NOW, mchid, serial};

type Headers = Vec<(String, Vec<u8>)>;

const ANONYMOUS: Refusal = Refusal { reason: Reason::SignatureInvalid, detail: Detail::None, authentic: None };

/// The first merchant with this key besides its own.
fn with_key(key: KeySpec) -> Setup {
    Setup::default().first(|merchant| merchant.keys.push(key))
}

#[test]
fn an_unknown_path_or_method_is_refused_before_anything_is_read() {
    let mut gate = Setup::default().gate();
    for (method, target, reason) in [
        ("POST", "/deposit/micropay", Reason::RouteUnknown),
        ("POST", "/v3/pay/transactions/jsapi/", Reason::RouteUnknown),
        ("POST", "/v3/pay/transactions/JSAPI", Reason::RouteUnknown),
        ("POST", "//v3/pay/transactions/jsapi", Reason::RouteUnknown),
        ("GET", "/v3/pay/transactions/jsapi", Reason::MethodNotAllowed),
        ("post", "/v3/pay/transactions/jsapi", Reason::MethodNotAllowed),
        ("POST", "/v3/certificates", Reason::MethodNotAllowed),
    ] {
        let draft = Draft { headers: Vec::new(), ..Draft::new(0, method, target, "{") };
        let mut unsigned = draft.sign(gate.now);
        unsigned.headers.0.clear();
        assert_eq!(gate.refuse_call(&unsigned), Refusal { reason, ..ANONYMOUS }, "{method} {target}");
    }
}

#[test]
fn accept_and_user_agent_are_demanded_where_the_route_says_so_and_before_authorization() {
    let mut gate = Setup::default().gate();
    for name in ["accept", "user-agent"] {
        let refund = Draft::refund(0, "R1", 1).without(name);
        let mut unsigned = refund.sign(gate.now);
        unsigned.headers.0.retain(|(name, _)| name != "Authorization");
        for call in [unsigned, refund.sign(gate.now)] {
            assert_eq!(gate.refuse_call(&call), Refusal { reason: Reason::HeaderMissing, ..ANONYMOUS });
        }
        let _admission = gate.admit(&Draft::native(0, name, 1).without(name));
    }
}

#[test]
fn one_well_formed_authorization_of_the_routes_scheme_is_demanded() {
    let mut gate = Setup::default().gate();
    let call = Draft::native(0, "T1", 1).sign(gate.now);
    let mut change = |change: &dyn Fn(&mut Headers), reason| {
        let mut changed = call.clone();
        change(&mut changed.headers.0);
        assert_eq!(gate.refuse_call(&changed), Refusal { reason, ..ANONYMOUS });
    };
    change(&|headers| headers.truncate(2), Reason::AuthorizationMissing);
    change(&|headers| headers.extend(headers.last().cloned()), Reason::AuthorizationMalformed);
    let with = |value: &str| ("authorization".to_owned(), value.as_bytes().to_vec());
    for malformed in ["", r#"WECHATPAY2-SHA256-RSA2048 mchid="1900000000""#, "WECHATPAY2-SHA256-RSA2048"] {
        change(&|headers| headers[2] = with(malformed), Reason::AuthorizationMalformed);
    }
    for other in ["Bearer token", r#"WECHATPAY2-SM2-WITH-SM3 mchid="1900000000""#, "wechatpay2-sha256-rsa2048 a"] {
        change(&|headers| headers[2] = with(other), Reason::SchemeUnsupported);
    }
    let _admission = gate.admit_call(&call);
}

#[test]
fn a_timestamp_is_fresh_up_to_the_tolerance_either_way() {
    let mut gate = Setup::default().gate();
    for (number, skew_s) in [("T1", -300), ("T2", 0), ("T3", 300)] {
        let timestamp_s = Some(NOW.seconds() + skew_s);
        let _admission = gate.admit(&Draft { timestamp_s, ..Draft::native(0, number, 1) });
    }
    for skew_s in [-86_400, -301, 301, 86_400] {
        let timestamp_s = Some(NOW.seconds() + skew_s);
        let refusal = gate.refuse(&Draft { timestamp_s, ..Draft::native(0, "T4", 1) });
        let detail = Detail::Skew { skew_ms: skew_s * 1000 };
        assert_eq!(refusal, Refusal { reason: Reason::TimestampSkewed, detail, authentic: None });
    }
}

#[test]
fn a_stale_timestamp_beats_an_unknown_merchant_beats_an_unknown_key_beats_a_wrong_signature() {
    let mut gate = Setup::default().gate();
    let all = Draft {
        timestamp_s: Some(NOW.seconds() - 301),
        mchid: mchid(7),
        serial: serial(7),
        ..Draft::native(0, "T1", 1)
    };
    let mut reason = |draft: &Draft| gate.refuse_call(&draft.sign(NOW).forged()).reason;
    assert_eq!(reason(&all), Reason::TimestampSkewed);
    let fresh = Draft { timestamp_s: None, ..all };
    assert_eq!(reason(&fresh), Reason::MerchantUnknown);
    let known = Draft { mchid: mchid(0), ..fresh };
    assert_eq!(reason(&known), Reason::KeyUnknown);
    let own = Draft { serial: serial(0), ..known };
    assert_eq!(reason(&own), Reason::SignatureInvalid);
    let _admission = gate.admit(&own);
}

#[test]
fn a_key_of_another_merchant_is_no_key() {
    let mut gate = Setup::default().gate();
    let stranger = Draft { serial: serial(1), key: 1, ..Draft::native(0, "T1", 1) };
    assert_eq!(gate.refuse(&stranger), Refusal { reason: Reason::KeyUnknown, ..ANONYMOUS });
    let borrowed = Draft { key: 1, ..Draft::native(0, "T1", 1) };
    assert_eq!(gate.refuse(&borrowed), ANONYMOUS);
}

#[test]
fn a_serial_is_one_in_any_case_and_with_leading_zeros() {
    let mut gate = Setup::default().gate();
    for (number, serial) in [("T1", serial(0).to_lowercase()), ("T2", format!("00{}", serial(0)))] {
        let _admission = gate.admit(&Draft { serial, ..Draft::native(0, number, 1) });
    }
}

#[test]
fn a_wrong_signature_burns_no_nonce_binds_no_order_and_leaves_no_record() {
    let mut gate = Setup::default().gate();
    let call = Draft::native(0, "T1", 1).sign(gate.now);
    assert_eq!(gate.refuse_call(&call.clone().forged()), ANONYMOUS);
    assert_eq!((gate.shared.nonces().len(), gate.shared.orders().len()), (0, 0));
    assert_eq!(gate.shelf.records(), []);
    let admission = gate.admit_call(&call);
    assert!(!admission.duplicate);
    assert_eq!((gate.shared.nonces().len(), gate.shared.orders().len()), (1, 1));
    assert_eq!(gate.shelf.records().len(), 1);
}

#[test]
fn every_authentic_decision_is_recorded_with_its_reason() {
    let mut gate = Setup::default().gate();
    let admission = gate.admit(&Draft::native(0, "T1", 7));
    assert_eq!(gate.reason(&Draft::native(0, "T1", 8)), Reason::OrderNumberUsed);
    let again = gate.admit(&Draft::native(0, "T1", 7));
    let records = gate.shelf.records();
    let told: Vec<_> = records.iter().map(|record| (record.amount_fen, record.refused, record.duplicate)).collect();
    assert_eq!(told, [(7, None, false), (8, Some(Reason::OrderNumberUsed), false), (7, None, true)]);
    assert_eq!((records[0].decision, records[2].decision), (admission.id, again.id));
    assert_eq!(admission.id, again.id);
    assert_ne!(records[0].decision, records[1].decision);
}

#[test]
fn a_key_out_of_force_is_only_spoken_of_after_the_signature_held() {
    let late = KeySpec { status: KeyStatus::Retiring { until: NOW }, ..key(2, "B1") };
    let revoked = KeySpec { status: KeyStatus::Revoked, ..key(2, "B2") };
    let by = |serial: &str| Draft { serial: serial.to_owned(), key: 2, ..Draft::native(0, "T1", 1) };
    let hour = 3_600_000;
    for (key, id, now, reason) in [
        (late, "B1", NOW, Reason::CertificateExpired),
        (revoked, "B2", NOW, Reason::CertificateRevoked),
        (certified(2, "B3"), "B3", UnixMillis(NOW.0 + hour), Reason::CertificateExpired),
        (certified(2, "B4"), "B4", UnixMillis(NOW.0 - hour), Reason::CertificateNotYetValid),
    ] {
        let mut gate = with_key(key).gate();
        gate.now = now;
        assert_eq!(gate.refuse_call(&by(id).sign(now).forged()), ANONYMOUS);
        let refusal = gate.refuse(&by(id));
        assert_eq!((refusal.reason, refusal.authentic), (reason, Some(mchid(0).parse().expect("a merchant"))));
        let _own = gate.admit(&Draft::native(0, "T1", 1));
    }
}

#[test]
fn a_certificate_holds_from_its_first_to_its_last_millisecond_and_a_retiring_key_until_its_end() {
    let (first, last) = (UnixMillis(NOW.0 - 1_800_000), UnixMillis(NOW.0 + 1_800_000));
    let retiring = KeySpec { status: KeyStatus::Retiring { until: NOW }, ..key(2, "B1") };
    let mut gate = Setup::default().first(|merchant| merchant.keys.extend([certified(2, "B2"), retiring])).gate();
    for (serial, at, refused) in [
        ("B2", UnixMillis(first.0 - 1), Some(Reason::CertificateNotYetValid)),
        ("B2", first, None),
        ("B2", last, None),
        ("B2", UnixMillis(last.0 + 1), Some(Reason::CertificateExpired)),
        ("B1", UnixMillis(NOW.0 - 1), None),
        ("B1", NOW, Some(Reason::CertificateExpired)),
    ] {
        gate.now = at;
        let draft = Draft { serial: serial.to_owned(), key: 2, ..Draft::query(0, "T1") };
        match refused {
            None => drop(gate.admit(&draft)),
            Some(reason) => assert_eq!(gate.reason(&draft), reason, "{serial} at {at:?}"),
        }
    }
}

#[test]
fn several_keys_sign_side_by_side_while_one_replaces_the_other() {
    let until = UnixMillis(NOW.0 + 1);
    let old = KeySpec { status: KeyStatus::Retiring { until }, ..key(2, "B1") };
    let mut gate = Setup::default().first(|merchant| merchant.keys.extend([old, certified(1, "B2")])).gate();
    for (serial, key) in [(serial(0), 0), ("B1".to_owned(), 2), ("B2".to_owned(), 1)] {
        let _admission = gate.admit(&Draft { serial, key, ..Draft::query(0, "T1") });
    }
    gate.now = until;
    let old = Draft { serial: "B1".to_owned(), key: 2, ..Draft::query(0, "T1") };
    assert_eq!(gate.reason(&old), Reason::CertificateExpired);
    let swapped = Draft { serial: "B2".to_owned(), key: 2, ..Draft::query(0, "T1") };
    assert_eq!(gate.reason(&swapped), Reason::SignatureInvalid, "each id has its own key");
}

#[test]
fn a_refund_demands_a_key_that_a_certificate_vouches_for() {
    let mut gate = with_key(certified(2, "B1")).gate();
    assert_eq!(gate.refuse_call(&Draft::refund(0, "R1", 1).sign(gate.now).forged()), ANONYMOUS);
    let refusal = gate.refuse(&Draft::refund(0, "R1", 1));
    assert_eq!((refusal.reason, refusal.authentic.is_some()), (Reason::CertificateRequired, true));
    let by_certificate = Draft { serial: "B1".to_owned(), key: 2, ..Draft::refund(0, "R1", 1) };
    let _admission = gate.admit(&by_certificate);
}
