//! Tests of refusals on the wire.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::*;

fn body(reason: Reason, detail: &Detail<'_>, language: Language) -> Value {
    serde_json::from_slice(&refusal(reason, detail, language).body).expect("JSON")
}

fn text(reason: Reason, detail: &Detail<'_>, language: Language) -> String {
    String::from_utf8(refusal(reason, detail, language).body).expect("UTF-8")
}

fn limit(window: Option<Window>, resets_at: Option<UnixMillis>) -> Detail<'static> {
    Detail::Limit { limit: "micro-receipts", window, resets_at }
}

/// The codes of the protocol and the statuses that each may have.
const CODES: &[(&str, &[u16])] = &[
    ("", &[404, 405]),
    ("INVALID_REQUEST", &[400, 408, 413]),
    ("SIGN_ERROR", &[401]),
    ("PARAM_ERROR", &[400]),
    ("APPID_MCHID_NOT_MATCH", &[400]),
    ("NO_AUTH", &[403]),
    ("OUT_TRADE_NO_USED", &[403]),
    ("RULE_LIMIT", &[403]),
    ("RESOURCE_NOT_EXISTS", &[404]),
    ("FREQUENCY_LIMITED", &[429]),
    ("SYSTEM_ERROR", &[502, 503, 504]),
    ("SERVICE_UNAVAILABLE", &[502, 503]),
];

#[test]
fn every_reason_has_a_code_of_the_protocol_and_a_message_in_both_languages() {
    let codes: HashMap<_, _> = CODES.iter().copied().collect();
    for &reason in Reason::ALL {
        let wire = wire(reason);
        let statuses = codes.get(wire.code).copied().unwrap_or_default();
        assert!(statuses.contains(&wire.status), "{reason}: {} {}", wire.status, wire.code);
        assert_ne!(wire.platform_code, PLATFORM_CODE_SUCCESS, "{reason}");
        assert_eq!(wire.retry_after_s.is_some(), retries_soon(reason), "{reason}");
        if wire.code.is_empty() {
            assert_eq!((wire.zh, wire.en), ("", ""), "{reason}");
            continue;
        }
        assert!(!wire.zh.is_ascii(), "{reason}: Chinese");
        assert!(wire.en.is_ascii() && wire.en.len() > 20 && !wire.en.contains("  "), "{reason}: English");
        for language in [Language::Chinese, Language::English] {
            let body = body(reason, &Detail::None, language);
            assert_eq!(body, json!({"code": wire.code, "message": wire.message(language)}), "{reason}");
        }
    }
}

fn retries_soon(reason: Reason) -> bool {
    use Reason::*;
    [
        BodyBudgetExhausted,
        JournalFull,
        JournalFailed,
        ClockSteppedBack,
        RevocationUnknown,
        NonceTableFull,
        NonceShareFull,
        OrderTableFull,
        OrderShareFull,
        OrderInFlight,
        QuotaTableFull,
        QuotaShareFull,
        ClockOutOfRange,
        UpstreamUnreachable,
        SigningOverloaded,
    ]
    .contains(&reason)
}

#[test]
fn reasons_with_answers_of_their_own_are_told_apart() {
    let mut seen: HashMap<(u16, &str), Reason> = HashMap::new();
    let mut shared = Vec::new();
    for &reason in Reason::ALL {
        let wire = wire(reason);
        if let Some(other) = seen.insert((wire.status, wire.en), reason) {
            shared.push((other, reason));
        }
    }
    use Reason::*;
    let expected = [
        (MerchantUnknown, KeyUnknown),
        (KeyUnknown, SignatureInvalid),
        (JournalFull, JournalFailed),
        (JournalFailed, ClockSteppedBack),
        (BodyBudgetExhausted, NonceTableFull),
        (NonceTableFull, OrderTableFull),
        (OrderTableFull, QuotaTableFull),
    ];
    assert_eq!(shared, expected);
}

#[test]
fn who_is_not_known_gets_one_answer() {
    let information = SignInformation::new("GET", "/v3/certificates", "1", "n", b"");
    for detail in [Detail::None, Detail::Signature(information)] {
        for language in [Language::Chinese, Language::English] {
            let answer = refusal(Reason::SignatureInvalid, &detail, language);
            assert_eq!(refusal(Reason::MerchantUnknown, &detail, language), answer);
            assert_eq!(refusal(Reason::KeyUnknown, &detail, language), answer);
        }
    }
}

#[test]
fn a_refusal_is_signed_only_once_the_nonce_is_spent() {
    for &reason in Reason::ALL {
        let expected = reason > Reason::PlatformKeyUnknown && reason != Reason::SigningOverloaded;
        assert_eq!(wire(reason).signed, expected, "{reason}");
        assert!(!(wire(reason).signed && wire(reason).status == 401), "{reason}");
    }
}

#[test]
fn live_messages_are_kept_to_the_letter() {
    let malformed = "Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》";
    for (reason, message) in [
        (Reason::AuthorizationMissing, malformed),
        (Reason::AuthorizationMalformed, malformed),
        (Reason::SchemeUnsupported, "签名信息错误，验签失败"),
        (Reason::TimestampSkewed, "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟"),
        (Reason::SignatureInvalid, "签名错误"),
        (Reason::HeaderMissing, "Http头缺少Accept或User-Agent"),
    ] {
        assert_eq!(body(reason, &Detail::None, Language::Chinese)["message"], message);
    }
}

#[test]
fn no_route_and_no_method_answer_with_an_empty_body() {
    for (reason, status) in [(Reason::RouteUnknown, 404), (Reason::MethodNotAllowed, 405)] {
        let detail = Detail::Field { pointer: "a", issue: "b" };
        let answer = refusal(reason, &detail, Language::English);
        assert_eq!((answer.status, answer.body.as_slice(), answer.sign), (status, b"".as_slice(), false));
    }
}

#[test]
fn sign_information_matches_a_genuine_answer() {
    // The body of the genuine request is not known but for its length and beginning.
    let body = format!("{:271}", "{\"notify_url\":");
    let nonce = "593BEC0C930BF1AFEB40B4A08C8FB242";
    let information = SignInformation::new("POST", "/v3/pay/transactions/jsapi", "1722492232", nonce, body.as_bytes());
    let answer = text(Reason::SignatureInvalid, &Detail::Signature(information), Language::Chinese);
    let genuine = r#"{"code":"SIGN_ERROR","message":"签名错误","detail":{"detail":{"issue":"sign not match"},"field":"signature","location":"authorization","sign_information":{"method":"POST","url":"/v3/pay/transactions/jsapi","sign_message_length":348,"truncated_sign_message":"POST\n/v3/pay/transactions/jsapi\n1722492232\n593BEC0C930BF1AFEB40B4A08C8FB242\n{\"notify\n"}}}"#;
    assert_eq!(answer, genuine);
}

#[test]
fn sign_information_counts_bytes_and_shows_characters() {
    let shown = |body: &[u8]| {
        let information = SignInformation::new("A", "/", "1", "n", body);
        let last = information.truncated_sign_message.strip_prefix("A\n/\n1\nn\n").expect("head").to_owned();
        (information.sign_message_length - 8, last)
    };
    assert_eq!(shown(b""), (1, "\n".to_owned()));
    assert_eq!(shown(b"{\n\"appid\": 1}"), (14, "{\n\"appid\n".to_owned()));
    assert_eq!(shown("一二三四五六七八九".as_bytes()), (28, "一二三四五六七八\n".to_owned()));
    assert_eq!(shown("\u{1f600}".repeat(9).as_bytes()), (37, "\u{1f600}".repeat(8) + "\n"));
    assert_eq!(shown(b"\xff\xfe1234567890"), (13, "\u{fffd}\u{fffd}123456\n".to_owned()));
}

#[test]
fn a_field_is_placed_by_its_form() {
    let at = |reason, pointer| {
        let detail = Detail::Field { pointer, issue: "must be CNY" };
        body(reason, &detail, Language::English)["detail"].clone()
    };
    let field = json!({"field": "/amount/currency", "issue": "must be CNY", "location": "body"});
    assert_eq!(at(Reason::CurrencyUnsupported, "/amount/currency"), field);
    assert_eq!(at(Reason::MerchantMismatch, "mchid")["location"], "query");
    assert_eq!(at(Reason::PlatformKeyUnknown, "Wechatpay-Serial")["location"], "header");
    assert_eq!(at(Reason::SourceDenied, "x"), json!({"field": "x", "issue": "must be CNY"}));
}

#[test]
fn a_skew_is_told_with_its_direction() {
    let detail =
        body(Reason::TimestampSkewed, &Detail::Skew { skew_ms: -301_000 }, Language::Chinese)["detail"].clone();
    assert_eq!((&detail["skew_ms"], &detail["location"]), (&json!(-301_000), &json!("authorization")));
}

#[test]
fn a_limit_is_named_with_its_window_and_without_what_is_left() {
    let answer = text(Reason::LimitExceeded, &limit(Some(Window::Day), Some(UnixMillis(0))), Language::Chinese);
    let expected = r#"{"code":"RULE_LIMIT","message":"交易金额超出限额，请减小金额，或在限额恢复后重试（限额 micro-receipts，当日，1970-01-01T08:00:00+08:00 恢复）","detail":{"field":"/amount/total","issue":"daily limit exceeded","location":"body","limit":"micro-receipts","window":"day","resets_at":"1970-01-01T08:00:00+08:00"}}"#;
    assert_eq!(answer, expected);

    for (window, name, issue) in
        [(Window::Year, "当年", "yearly limit exceeded"), (Window::Lifetime, "累计", "lifetime limit exceeded")]
    {
        let answer = text(Reason::LimitExceeded, &limit(Some(window), None), Language::Chinese);
        assert!(answer.contains(name) && answer.contains(issue), "{answer}");
        assert!(answer.contains(&format!("\"window\":\"{window}\"")), "{answer}");
    }
    let answer = body(Reason::LimitExceeded, &limit(Some(Window::Month), None), Language::English);
    let message = answer["message"].as_str().expect("text");
    assert!(message.ends_with("(limit micro-receipts, month)"), "{message}");
    assert_eq!(answer["detail"]["issue"], "monthly limit exceeded");

    let answer = body(Reason::LimitExceeded, &limit(None, None), Language::Chinese);
    assert!(answer["message"].as_str().is_some_and(|text| text.ends_with("（限额 micro-receipts，单笔）")));
    assert_eq!(answer["detail"]["window"], "transaction");
}

#[test]
fn a_limit_without_a_customer_names_no_window() {
    let answer = body(Reason::LimitSubjectUnknown, &limit(None, None), Language::English);
    assert!(answer["message"].as_str().is_some_and(|text| text.ends_with("request (limit micro-receipts)")));
    let issue = "the limit counts per customer, and the customer is not known";
    assert_eq!(answer["detail"], json!({"issue": issue, "location": "body", "limit": "micro-receipts"}));
}

#[test]
fn text_of_the_caller_is_escaped() {
    let information = SignInformation::new("GET", "/v3/\"<\\", "1", "n\u{1}", b"\"\"");
    let answer = body(Reason::SignatureInvalid, &Detail::Signature(information), Language::Chinese);
    assert_eq!(answer["detail"]["sign_information"]["url"], "/v3/\"<\\");
}

#[test]
fn a_request_id_is_opaque_and_ends_in_the_code() {
    assert_eq!(request_id(0xab, 0), "000000000000000000000000000000AB-0");
    assert_eq!(request_id(u128::MAX, 268_443_699), "F".repeat(32) + "-268443699");
}
