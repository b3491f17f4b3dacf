use proptest::prelude::*;

use super::*;
use crate::request::Trust;
use crate::signature::{Job, Verifier};
use crate::types::Md5Rule;

const SECRET: [u8; 32] = *b"192006250b4c09247ec02edce69f6a2d";
const NONE: [(&str, &[u8]); 0] = [];

fn scheme() -> WechatPayV2 {
    let facts = ["mch_id", "out_trade_no", "total_fee", "openid", "fee_type"];
    WechatPayV2::new("mch_id", facts.map(str::to_owned), false)
}

fn key() -> VerifyingKey {
    VerifyingKey::wechatpay_v2(SECRET, Md5Rule::Allow)
}

fn request(body: &str) -> Request<'_> {
    Request {
        method: "POST",
        target: "/pay/unifiedorder",
        headers: &NONE,
        body: body.as_bytes(),
        trust: Trust::Public,
        peer: None,
        client_certificate: None,
        answer_key_known: true,
    }
}

fn message(body: &str) -> Result<String, ExtractError> {
    let extracted = scheme().extract(&request(body))?;
    Ok(String::from_utf8(extracted.message.to_vec()).expect("text"))
}

fn holds(body: &str) -> bool {
    let request = request(body);
    scheme().extract(&request).is_ok_and(|extracted| Verifier::new().holds(&Job { key: &key(), extracted: &extracted }))
}

/// Writes a signed request.
fn signed(sign_type: SignType, fields: &[(&str, &str)]) -> String {
    let stated = ("sign_type", sign_type.as_str());
    let fields: Vec<_> = fields.iter().copied().chain([stated]).collect();
    signed_answer(&key(), sign_type, &fields).expect("a secret")
}

#[test]
fn what_is_signed_is_ordered_raw_and_without_what_is_empty() {
    let body = "<xml><b>2 &amp; é</b><a><![CDATA[<1>]]></a><sign>S</sign><c/><A>0</A><mch_id>7</mch_id></xml>";
    assert_eq!(message(body).as_deref(), Ok("A=0&a=<1>&b=2 & é&mch_id=7"));
}

#[test]
fn what_has_not_the_form_is_told_apart() {
    let extract = |body: &str| scheme().extract(&request(body)).map(|extracted| extracted.sign_type);
    assert_eq!(extract("<xml><mch_id>7</mch_id></xml>"), Err(ExtractError::Missing));
    assert_eq!(extract("<xml><mch_id>7</mch_id><sign/></xml>"), Err(ExtractError::Missing));
    assert_eq!(extract("<xml><mch_id>7</mch_id><sign>&#65;</sign></xml>"), Err(ExtractError::Malformed));
    assert_eq!(extract("<xml><mchid>7</mchid><sign>A</sign></xml>"), Err(ExtractError::Malformed));
    assert_eq!(extract("<xml><mch_id>7 </mch_id><sign>A</sign></xml>"), Err(ExtractError::Malformed));
    assert!(matches!(extract("{}"), Err(ExtractError::Body(_))));
    let body = signed(SignType::Md5, &[("mch_id", "7")]);
    let queried = Request { target: "/pay/unifiedorder?mch_id=8", ..request(&body) };
    assert_eq!(scheme().extract(&queried).err(), Some(ExtractError::Query));
    let of = |sign_type: &str| extract(&format!("<xml><mch_id>7</mch_id><sign>A</sign>{sign_type}</xml>"));
    for md5 in ["", "<sign_type/>", "<sign_type>MD5</sign_type>"] {
        assert_eq!(of(md5), Ok(Some(SignType::Md5)), "{md5}");
    }
    assert_eq!(of("<sign_type>HMAC-SHA256</sign_type>"), Ok(Some(SignType::HmacSha256)));
    for other in ["md5", "HMAC-SHA1", "hmac-sha256", "MD5 ", "RSA"] {
        assert_eq!(of(&format!("<sign_type>{other}</sign_type>")), Err(ExtractError::Unsupported), "{other}");
    }
    let strict = WechatPayV2 { hmac_only: true, ..scheme() };
    for md5 in ["", "<sign_type>MD5</sign_type>"] {
        let body = format!("<xml><mch_id>7</mch_id><sign>A</sign>{md5}</xml>");
        assert_eq!(strict.extract(&request(&body)).err(), Some(ExtractError::Unsupported), "{md5}");
    }
}

#[test]
fn a_value_that_reads_as_a_parameter_at_its_place_is_refused() {
    let of = |fields: &str| message(&format!("<xml><sign>S</sign><mch_id>7</mch_id>{fields}</xml>"));
    let amp = |name: &str, value: &str| format!("<{name}><![CDATA[{value}]]></{name}>");
    // total_fee would stand behind spbill_create_ip, where nothing else stands.
    assert_eq!(of(&amp("spbill_create_ip", "1&total_fee=1")), Err(ExtractError::TwoReadings));
    assert_eq!(of(&amp("nonce_str", "n&openid=o&x=1")), Err(ExtractError::TwoReadings));
    assert_eq!(of(&amp("attach", "a&b=1&fee_type=USD")), Err(ExtractError::TwoReadings));
    // Here it would have to stand elsewhere: what is signed has one reading.
    assert!(of(&(amp("attach", "a&total_fee=1") + &amp("body", "b"))).is_ok());
    assert!(of(&(amp("spbill_create_ip", "1&total_fee=1") + &amp("time_start", "2"))).is_ok());
    assert!(of(&(amp("spbill_create_ip", "1&total_fee=1") + &amp("trade_type", "2"))).is_err());
    assert!(of(&(amp("spbill_create_ip", "1&total_fee=1") + &amp("total_fee", "2"))).is_ok());
    assert!(of(&amp("notify_url", "https://a/?b=1&c=2")).is_ok());
    assert!(of(&amp("spbill_create_ip", "1&total_fees=1&xtotal_fee=2&total_fee")).is_ok());
}

#[test]
fn a_signature_is_upper_case_hexadecimal_of_its_own_algorithm() {
    for sign_type in [SignType::Md5, SignType::HmacSha256] {
        let body = signed(sign_type, &[("mch_id", "7"), ("total_fee", "1")]);
        assert!(holds(&body));
        let sign = body.split("<sign><![CDATA[").nth(1).and_then(|rest| rest.split(']').next()).expect("the sign");
        assert!(!holds(&body.replace(sign, &sign.to_lowercase())));
        assert!(!holds(&body.replace(sign, &sign[1..])));
        assert!(!holds(&body.replace(sign, &format!("{sign}0"))));
        assert!(!holds(&body.replace(sign, &format!(" {sign}"))));
        let other = if sign_type == SignType::Md5 { SignType::HmacSha256 } else { SignType::Md5 };
        assert!(!holds(&body.replace(sign_type.as_str(), other.as_str())));
    }
}

#[test]
fn a_key_permits_md5_where_its_rule_does() {
    let permits =
        |rule, sign_type, pays_out| VerifyingKey::wechatpay_v2(SECRET, rule).permits(Some(sign_type), pays_out);
    for rule in Md5Rule::ALL {
        assert!(permits(*rule, SignType::HmacSha256, true) && permits(*rule, SignType::HmacSha256, false));
    }
    let md5 = |rule| [false, true].map(|pays_out| permits(rule, SignType::Md5, pays_out));
    assert_eq!(md5(Md5Rule::Forbid), [false, false]);
    assert_eq!(md5(Md5Rule::NoPayouts), [true, false]);
    assert_eq!(md5(Md5Rule::Allow), [true, true]);
}

#[test]
fn a_secret_is_never_shown() {
    let shown = format!("{:?} {:?}", key(), key().secret());
    assert!(!shown.contains("192006") && !shown.contains("49, 57"), "{shown}");
}

proptest! {
    #[test]
    fn what_is_signed_verifies_and_what_is_changed_does_not(
        fields in prop::collection::btree_map("[a-z_]{1,8}", "([ -~\n]|\\PC|é){0,12}", 0..8),
        md5: bool, at: prop::sample::Index, mask in 1..=u8::MAX,
    ) {
        let mut fields = fields;
        fields.extend([("mch_id".to_owned(), "1900000001".to_owned())]);
        fields.retain(|name, _| !name.starts_with("sign"));
        let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let body = signed(if md5 { SignType::Md5 } else { SignType::HmacSha256 }, &fields);
        if let Ok(before) = message(&body) {
            prop_assert!(holds(&body));
            let mut changed = body.into_bytes();
            let at = at.index(changed.len());
            changed[at] ^= mask;
            if let Ok(changed) = std::str::from_utf8(&changed) {
                // Another spelling of the same parameters is no change.
                prop_assert!(!holds(changed) || message(changed) == Ok(before), "{}", changed);
            }
        }
    }
}
