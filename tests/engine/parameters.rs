//! What an authentic request must say of itself, and that each refusal names the parameter at fault.

use tollgate::admission::Detail;
use tollgate::reason::Reason;
use tollgate::types::Operation;

use crate::gate::{Gate, Setup, certified};
use crate::signer::{Draft, mchid};

const NATIVE: &str = "/v3/pay/transactions/native";

fn native(body: &str) -> Draft {
    Draft::new(0, "POST", NATIVE, body)
}

/// A Native order with this text as its amount.
fn amount(number: &str, text: &str) -> Draft {
    Draft::order(0, NATIVE, "wx-native", number, text, "")
}

#[track_caller]
fn assert_fault(gate: &mut Gate, draft: &Draft, reason: Reason, name: &str) {
    let refusal = gate.refuse(draft);
    assert_eq!((refusal.reason, &refusal.detail), (reason, &Detail::Parameter { name: name.to_owned() }), "{draft:?}");
    assert_eq!(refusal.authentic, Some(mchid(0).parse().expect("a merchant")));
}

#[test]
fn the_merchant_in_body_or_query_is_the_one_that_signed_and_that_is_said_after_the_signature_held() {
    let mut gate = Setup::default().gate();
    let theirs =
        Draft { mchid: mchid(0), serial: Draft::native(0, "T1", 1).serial, key: 0, ..Draft::native(1, "T1", 1) };
    assert_eq!(gate.refuse_call(&theirs.sign(gate.now).forged()).reason, Reason::SignatureInvalid);
    assert_fault(&mut gate, &theirs, Reason::MerchantMismatch, "/mchid");
    for (target, reason) in [
        ("?mchid=1900000001", Reason::MerchantMismatch),
        ("?mchid=1900000000&mchid=1900000000", Reason::ParameterInvalid),
        ("?mchid=190000000%", Reason::ParameterInvalid),
        ("?Mchid=1900000000", Reason::ParameterInvalid),
        ("?%6dchid=1900000001&mchid=1900000000", Reason::ParameterInvalid),
        ("?mchid=", Reason::MerchantMismatch),
        ("", Reason::ParameterMissing),
    ] {
        let target = format!("/v3/pay/transactions/out-trade-no/T1{target}");
        assert_fault(&mut gate, &Draft { target, ..Draft::query(0, "T1") }, reason, "mchid");
    }
    let target = "/v3/pay/transactions/out-trade-no/T1?x=1&mchid=190000000%30".to_owned();
    let _admission = gate.admit(&Draft { target, ..Draft::query(0, "T1") });
}

#[test]
fn a_body_that_is_not_one_strict_object_is_malformed() {
    let mut gate = Setup::default().gate();
    let good = Draft::native(0, "T1", 1).body;
    let repeated = good.replacen('{', r#"{"mchid":"1900000000","#, 1);
    let twice = good.replace(r#""total":1"#, r#""total":1,"total":1"#);
    let folded = good.replace(r#""total":1"#, r#""total":1,"Total":2"#);
    for body in ["", "[]", "null", "{", &format!("{good}x"), &format!("{good}{good}"), &repeated, &twice, &folded] {
        let refusal = gate.refuse(&native(body));
        assert_eq!(refusal.reason, Reason::BodyMalformed, "{body}");
        assert!(matches!(refusal.detail, Detail::Parameter { .. }) && refusal.authentic.is_some());
    }
    let _admission = gate.admit(&native(&good));
}

#[test]
fn a_missing_parameter_is_named() {
    let mut gate = Setup::default().gate();
    let good = Draft::native(0, "T1", 1).body;
    for (member, name) in [
        (r#""appid":"wx-native","#, "/appid"),
        (r#""mchid":"1900000000","#, "/mchid"),
        (r#""out_trade_no":"T1","#, "/out_trade_no"),
        (r#""total":1,"#, "/amount/total"),
    ] {
        let body = good.replace(member, "");
        assert_ne!(body, good);
        assert_fault(&mut gate, &native(&body), Reason::ParameterMissing, name);
    }
    let refund = Draft::refund(0, "R1", 1);
    let body = refund.body.replace(r#""out_refund_no":"R1","#, "");
    let mut gate = Setup::default().first(|merchant| merchant.keys = vec![certified(0, &refund.serial)]).gate();
    assert_fault(&mut gate, &Draft { body, ..refund }, Reason::ParameterMissing, "/out_refund_no");
}

#[test]
fn a_parameter_of_another_type_or_form_is_invalid() {
    let mut gate = Setup::default().gate();
    let good = Draft::native(0, "T1", 1).body;
    for (from, to, name) in [
        (r#""1900000000""#, "1900000000", "/mchid"),
        (r#""wx-native""#, "null", "/appid"),
        (r#""T1""#, "1", "/out_trade_no"),
        (r#""T1""#, r#""""#, "order number"),
        (r#""T1""#, r#""T 1""#, "order number"),
        (r#""T1""#, r#""T\u00001""#, "order number"),
        (r#""CNY""#, "156", "/amount/currency"),
        (r#"{"total":1,"currency":"CNY"}"#, "1", "/amount/currency"),
    ] {
        let body = good.replace(from, to);
        assert_ne!(body, good, "{from}");
        assert_fault(&mut gate, &native(&body), Reason::ParameterInvalid, name);
    }
    let long = "1".repeat(65);
    assert_fault(&mut gate, &Draft::native(0, &long, 1), Reason::ParameterInvalid, "order number");
    let _admission = gate.admit(&Draft::native(0, &long[..64], 1));
    assert_fault(&mut gate, &Draft::close(0, "T%201"), Reason::ParameterInvalid, "order number");
}

#[test]
fn an_order_is_in_cny_whether_it_says_so_or_not() {
    let mut gate = Setup::default().gate();
    let good = Draft::native(0, "T1", 1).body;
    for other in ["USD", "cny", "JPY", "KWD", ""] {
        let body = good.replace("CNY", other);
        assert_fault(&mut gate, &native(&body), Reason::CurrencyUnsupported, "/amount/currency");
    }
    let _stated = gate.admit(&native(&good));
    let unstated = gate.admit(&native(&good.replace(r#","currency":"CNY""#, "")));
    assert!(unstated.duplicate, "both say the same");
}

#[test]
fn an_amount_is_a_plain_positive_integer_below_2_to_the_48_and_is_read_exactly() {
    let mut gate = Setup::default().gate();
    for (number, fen) in [("T1", 1), ("T2", 100), ("T3", (1_u64 << 48) - 1)] {
        let admission = gate.admit(&amount(number, &fen.to_string()));
        assert_eq!((admission.amount.map(tollgate::types::Fen::get), admission.operation), (Some(fen), Operation::Pay));
    }
    for text in [
        "0",
        "-0",
        "-1",
        "1.0",
        "1e2",
        "1E0",
        "0.1e1",
        "281474976710656",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999999999999999999999",
        r#""1""#,
        "true",
        "null",
        "[1]",
        r#"{"fen":1}"#,
    ] {
        assert_fault(&mut gate, &amount("T4", text), Reason::ParameterInvalid, "/amount/total");
    }
    for text in ["01", "+1", "1.", ".1", "0x1", "NaN", "1_0", "１"] {
        assert_eq!(gate.reason(&amount("T4", text)), Reason::BodyMalformed, "{text}");
    }
}

#[test]
fn an_unknown_answer_key_is_told_to_who_signed_only() {
    let mut gate = Setup::default().gate();
    let draft = Draft { answer_key_known: false, ..Draft::native(0, "T1", 1) };
    assert_eq!(gate.refuse_call(&draft.sign(gate.now).forged()).reason, Reason::SignatureInvalid);
    let refusal = gate.refuse(&draft);
    assert_eq!((refusal.reason, refusal.authentic.is_some()), (Reason::PlatformKeyUnknown, true));
}

#[test]
fn facts_of_a_trusted_hop_have_a_form() {
    let mut gate = Setup::default().gate();
    let long = "c".repeat(129);
    for (name, value) in [
        ("tollgate-customer", ""),
        ("tollgate-customer", &long),
        ("tollgate-channel", "cash"),
        ("tollgate-channel", "Balance"),
        ("tollgate-instrument", "gold"),
        ("tollgate-scenario", "moon"),
        ("tollgate-account-class", "iv"),
        ("tollgate-code-grade", "e"),
    ] {
        assert_fault(&mut gate, &Draft::native(0, "T1", 1).hop(&[(name, value)]), Reason::ParameterInvalid, name);
    }
    let twice = Draft::native(0, "T1", 1).hop(&[("tollgate-customer", "c"), ("Tollgate-Customer", "c")]);
    assert_fault(&mut gate, &twice, Reason::ParameterInvalid, "tollgate-customer");
}

#[test]
fn an_instant_that_no_window_can_name_takes_no_money_and_binds_nothing() {
    let mut gate = Setup::limited([crate::gate::merchant_day("day", 1000)]).gate();
    gate.now = tollgate::time::UnixMillis::from_seconds(5_700_000_000);
    assert_eq!(gate.reason(&Draft::native(0, "T1", 1)), Reason::ClockOutOfRange);
    assert_eq!(gate.shared.orders().len(), 0);
    let _admission = gate.admit(&Draft::query(0, "T1"));
}

#[test]
fn a_body_that_could_be_decoded_otherwise_is_malformed() {
    let mut gate = Setup::default().gate();
    for (name, value) in [
        ("Content-Type", "application/json; charset=utf-7"),
        ("Content-Type", "application/json; x=y; Charset=gbk"),
        ("Content-Encoding", "gzip"),
    ] {
        let mut draft = Draft::native(0, "T1", 1);
        draft.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        assert_eq!(gate.reason(&draft), Reason::BodyMalformed, "{value}");
    }
    let mut draft = Draft::native(0, "T1", 1);
    draft.headers.push(("Content-Type".to_owned(), b"application/json; charset=UTF-8".to_vec()));
    let _admission = gate.admit(&draft);
}

#[test]
fn a_path_parameter_that_could_be_another_path_is_refused_on_every_route() {
    let mut gate = Setup::default().gate();
    for parameter in ["..", "..%2f..%2fadmin", "%2e%2e", "a%00", "a;b", "a%3Fb"] {
        for path in ["/v3/pay/transactions/id/", "/v3/pay/transactions/out-trade-no/", "/v3/refund/domestic/refunds/"] {
            let target = format!("{path}{parameter}?mchid=1900000000");
            let draft = Draft { target, ..Draft::query(0, "T1") };
            assert_eq!(gate.reason(&draft), Reason::ParameterInvalid, "{path}{parameter}");
        }
    }
}
