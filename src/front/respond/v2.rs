//! Refusals in the words of WeChat Pay API v2: flat XML, always at HTTP 200.
//!
//! Who is not known is told by `return_code` alone, unsigned. Who is, is told by `result_code` and `err_code`, and the
//! answer repeats who asked and what its nonce was, and is signed as the request was.

use super::{Answer, Detail, Language, message, wire, worded};
use crate::reason::Reason;
use crate::request::{Format, xml};
use crate::signature::wechatpay_v2::{plain_answer, signed_answer};
use crate::signature::{SignType, VerifyingKey};

/// The one who asked, where the signature held.
#[derive(Debug)]
pub struct Caller<'a> {
    key: &'a VerifyingKey,
    sign_type: SignType,
    echoed: Vec<(&'static str, String)>,
}

impl<'a> Caller<'a> {
    /// Reads from a body who asked. `nonce` is for answers to requests that name none.
    pub fn read(key: &'a VerifyingKey, sign_type: SignType, body: &[u8], nonce: impl FnOnce() -> String) -> Self {
        let document = xml::read(body).ok();
        let field = |name: &str| document.as_ref()?.field(name).filter(|value| !value.is_empty());
        let short = |value: &str| value.len() <= ECHOED_BYTES_MAX;
        let known =
            |name: &'static str| field(name).filter(|value| short(value)).map(|value| (name, value.into_owned()));
        let mut echoed: Vec<_> = IDENTITY.iter().copied().filter_map(known).collect();
        echoed.push(known("nonce_str").unwrap_or_else(|| ("nonce_str", nonce())));
        Self { key, sign_type, echoed }
    }
}

/// Writes the answer to a refused request.
pub fn refusal(reason: Reason, detail: &Detail<'_>, language: Language, caller: Option<&Caller<'_>>) -> Answer {
    let wire = wire(reason);
    let mut told = message(reason, text(reason, language), detail, language);
    if let Detail::Field { pointer, .. } = detail {
        told.extend([" (", pointer, ")"]);
    }
    let signed = caller.and_then(|Caller { key, sign_type, echoed }| {
        let mut fields = vec![("return_code", "SUCCESS"), ("return_msg", "OK")];
        fields.extend(echoed.iter().map(|(name, value)| (*name, &**value)));
        fields.extend([("result_code", "FAIL"), ("err_code", code(reason)), ("err_code_des", &told)]);
        signed_answer(key, *sign_type, &fields)
    });
    let body = signed.unwrap_or_else(|| plain_answer(&[("return_code", "FAIL"), ("return_msg", &told)]));
    Answer {
        status: 200,
        body: body.into_bytes(),
        format: Format::Xml,
        retry_after_s: wire.retry_after_s,
        platform_code: wire.platform_code,
        // Its signature stands in it already.
        sign: false,
    }
}

/// Writes the answer to one who only asks whether a request of API v2 may pass: that of API v3, in words that suit v2.
pub fn checked(reason: Reason, detail: &Detail<'_>, language: Language) -> Answer {
    worded(reason, text(reason, language), detail, language)
}

fn text(reason: Reason, language: Language) -> &'static str {
    match (wording(reason), language) {
        (Some((zh, _)), Language::Chinese) => zh,
        (Some((_, en)), Language::English) => en,
        (None, _) => wire(reason).message(language),
    }
}

/// Maps a reason to an error code of API v2.
pub const fn code(reason: Reason) -> &'static str {
    match reason {
        Reason::AuthorizationMissing
        | Reason::AuthorizationMalformed
        | Reason::SchemeUnsupported
        | Reason::TimestampSkewed
        | Reason::MerchantUnknown
        | Reason::KeyUnknown
        | Reason::SignatureInvalid
        | Reason::CertificateNotYetValid
        | Reason::CertificateExpired
        | Reason::CertificateRevoked
        | Reason::SignTypeForbidden
        | Reason::NonceReplayed => "SIGNERROR",
        Reason::CertificateRequired => "CA_ERROR",
        Reason::MethodNotAllowed => "REQUIRE_POST_METHOD",
        Reason::BodyMalformed => "XML_FORMAT_ERROR",
        Reason::ParameterMissing => "LACK_PARAMS",
        Reason::HeadInvalid
        | Reason::HeaderMissing
        | Reason::BodyTooLarge
        | Reason::BodyTimeout
        | Reason::PlatformKeyUnknown
        | Reason::ParameterInvalid
        | Reason::CurrencyUnsupported
        | Reason::MerchantMismatch => "PARAM_ERROR",
        Reason::AppidUnknown => "APPID_MCHID_NOT_MATCH",
        Reason::RouteUnknown
        | Reason::NoPlatformCertificate
        | Reason::SourceDenied
        | Reason::InterfaceDenied
        | Reason::ScenarioDenied
        | Reason::ScenarioRestricted
        | Reason::ChannelRestricted
        | Reason::MerchantSuspended
        | Reason::PaymentClosed
        | Reason::MerchantTerminated => "NOAUTH",
        Reason::OrderNumberUsed => "OUT_TRADE_NO_USED",
        Reason::LimitExceeded | Reason::LimitSubjectUnknown => "RULE_LIMIT",
        Reason::NonceShareFull | Reason::OrderShareFull | Reason::QuotaShareFull => "FREQUENCY_LIMITED",
        Reason::BodyBudgetExhausted
        | Reason::JournalFull
        | Reason::JournalFailed
        | Reason::ClockSteppedBack
        | Reason::RevocationUnknown
        | Reason::NonceTableFull
        | Reason::OrderTableFull
        | Reason::OrderInFlight
        | Reason::QuotaTableFull
        | Reason::ClockOutOfRange
        | Reason::UpstreamUnreachable
        | Reason::UpstreamTimeout
        | Reason::UpstreamBroken
        | Reason::SigningOverloaded => "SYSTEMERROR",
    }
}

/// Returns the message, Chinese and English, where that of API v3 speaks of what API v2 has not.
const fn wording(reason: Reason) -> Option<(&'static str, &'static str)> {
    Some(match reason {
        Reason::HeadInvalid => (
            "请求地址不得带有查询参数，请将全部参数放在请求体中",
            "the target has a query, which is not signed: send all parameters in the body",
        ),
        Reason::AuthorizationMissing => (
            "缺少签名，请签名后在sign中提供",
            "the signature is missing: sign the request and send the signature as sign",
        ),
        Reason::AuthorizationMalformed => (
            "商户号或签名格式错误，请检查商户号和sign",
            "the merchant or the signature is missing or malformed: send the merchant, and sign as upper-case hexadecimal",
        ),
        Reason::SchemeUnsupported => (
            "不支持该sign_type，请使用HMAC-SHA256签名，并在sign_type中注明",
            "this sign_type is not accepted here: sign with HMAC-SHA256 and say so in sign_type",
        ),
        // One answer for three reasons, as in API v3.
        Reason::MerchantUnknown | Reason::KeyUnknown | Reason::SignatureInvalid => (
            "签名错误",
            "the signature does not hold: check the merchant and the API v2 key, and that all parameters with a value \
             were signed, in the order of their bytes",
        ),
        Reason::BodyMalformed => (
            "XML格式错误，请发送UTF-8编码、无嵌套、无重复参数、不含DTD的XML",
            "the body is not flat XML in UTF-8: send each parameter once, without nesting, attributes, comments or DTD",
        ),
        Reason::CertificateNotYetValid | Reason::CertificateExpired | Reason::CertificateRevoked => {
            ("API v2密钥已停用，请改用新密钥签名", "the API v2 key is not in force: sign with the one that is")
        }
        Reason::CertificateRequired => (
            "证书错误，该接口要求在TLS连接中出示商户API证书",
            "this interface demands the API certificate: present it in the TLS handshake",
        ),
        _ => return None,
    })
}

/// The parameters that say who asked, in the several spellings of API v2.
const IDENTITY: &[&str] = &["appid", "mch_id", "wxappid", "mch_appid", "mchid"];

/// Longest value that is repeated, in bytes.
const ECHOED_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Md5Rule;

    fn written(answer: Answer) -> String {
        String::from_utf8(answer.body).expect("UTF-8")
    }

    #[test]
    fn who_is_not_known_is_told_by_the_return_code_alone() {
        let answer = refusal(Reason::SignatureInvalid, &Detail::None, Language::Chinese, None);
        assert_eq!((answer.status, answer.sign, answer.format), (200, false, Format::Xml));
        let expected =
            "<xml><return_code><![CDATA[FAIL]]></return_code><return_msg><![CDATA[签名错误]]></return_msg></xml>";
        assert_eq!(written(answer), expected);
        for alike in [Reason::MerchantUnknown, Reason::KeyUnknown] {
            assert_eq!(written(refusal(alike, &Detail::None, Language::Chinese, None)), expected, "{alike}");
        }
    }

    #[test]
    fn who_is_known_is_told_the_code_with_its_own_identity_and_nonce_signed() {
        let key = VerifyingKey::wechatpay_v2(*b"192006250b4c09247ec02edce69f6a2d", Md5Rule::Allow);
        let body = b"<xml><mch_id>19</mch_id><appid>wx</appid><nonce_str>]]&gt;</nonce_str><openid>o</openid></xml>";
        let caller = Caller::read(&key, SignType::Md5, body, || unreachable!("the request names a nonce"));
        let detail = Detail::Field { pointer: "/total_fee", issue: "x" };
        let answer = written(refusal(Reason::ParameterMissing, &detail, Language::English, Some(&caller)));
        let read = xml::read(answer.as_bytes()).expect("flat XML");
        let fields: Vec<_> = read.fields().filter(|(name, _)| *name != "sign").collect();
        let expected = [
            ("appid", "wx"),
            ("err_code", "LACK_PARAMS"),
            ("err_code_des", "a required parameter is missing: add it (/total_fee)"),
            ("mch_id", "19"),
            ("nonce_str", "]]>"),
            ("result_code", "FAIL"),
            ("return_code", "SUCCESS"),
            ("return_msg", "OK"),
        ];
        assert!(fields.iter().map(|(name, value)| (*name, &**value)).eq(expected), "{fields:?}");
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, &**value)).collect();
        let signed = signed_answer(&key, SignType::Md5, &fields).expect("a secret");
        assert_eq!(xml::read(signed.as_bytes()).expect("flat XML").field("sign"), read.field("sign"));
    }

    #[test]
    fn an_answer_to_a_request_without_a_nonce_has_one_of_its_own() {
        let key = VerifyingKey::wechatpay_v2([b'a'; 32], Md5Rule::Allow);
        let caller = Caller::read(&key, SignType::HmacSha256, b"<xml/>", || "fresh".to_owned());
        let answer = written(refusal(Reason::LimitExceeded, &Detail::None, Language::Chinese, Some(&caller)));
        assert!(
            answer.contains("<nonce_str><![CDATA[fresh]]></nonce_str>") && answer.contains("RULE_LIMIT"),
            "{answer}"
        );
    }

    #[test]
    fn every_reason_has_a_code_and_words_that_suit_api_v2() {
        let codes = [
            "SIGNERROR",
            "CA_ERROR",
            "REQUIRE_POST_METHOD",
            "XML_FORMAT_ERROR",
            "LACK_PARAMS",
            "PARAM_ERROR",
            "APPID_MCHID_NOT_MATCH",
            "NOAUTH",
            "OUT_TRADE_NO_USED",
            "RULE_LIMIT",
            "FREQUENCY_LIMITED",
            "SYSTEMERROR",
        ];
        for &reason in Reason::ALL {
            assert!(codes.contains(&code(reason)), "{reason}");
            // Those that no request of API v2 comes to.
            let foreign = matches!(reason, Reason::TimestampSkewed | Reason::PlatformKeyUnknown);
            for language in [Language::Chinese, Language::English] {
                let told = written(refusal(reason, &Detail::None, language, None));
                let asked = written(checked(reason, &Detail::None, language));
                let alike = wire(reason).code.is_empty() || asked.contains(text(reason, language));
                assert!(alike && told.contains(text(reason, language)), "{reason}: {told} {asked}");
                let strange =
                    ["Authorization", "serial_no", "JSON", "sign_information"].iter().any(|word| told.contains(word));
                assert!(foreign || !strange, "{reason}: {told}");
            }
        }
    }
}
