//! THE map from [`Reason`] to the wire.
//!
//! Status and code follow WeChat Pay API v3; where the live service's message is known, the Chinese text is that
//! message to the letter. Reasons that an unauthenticated caller must not tell apart share one constant.

use serde::Serialize;

use super::Language;
use crate::reason::Reason;

/// What the wire says of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The HTTP status.
    pub status: u16,
    /// The error code; empty where the answer has no body.
    pub code: &'static str,
    /// The numeric suffix of `Request-ID`.
    pub platform_code: u32,
    /// The message in Chinese.
    pub zh: &'static str,
    /// The message in English.
    pub en: &'static str,
    /// Where the fault lies, if in one place.
    pub location: Option<Location>,
    /// Whether the refusal may be signed. Only where the signature held and the nonce is spent: neither a stranger nor
    /// who replays a request can ask for signing work.
    pub signed: bool,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
}

/// The part of a request that a fault lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    /// The `Authorization` header.
    Authorization,
    /// The body.
    Body,
    /// The path.
    Url,
    /// The query.
    Query,
    /// Another header.
    Header,
}

impl Wire {
    /// Returns the message in a language.
    pub const fn message(&self, language: Language) -> &'static str {
        match language {
            Language::Chinese => self.zh,
            Language::English => self.en,
        }
    }

    const fn new(status: u16, code: &'static str, platform_code: u32, zh: &'static str, en: &'static str) -> Self {
        Self { status, code, platform_code, zh, en, location: None, signed: false, retry_after_s: None }
    }

    const fn at(self, location: Location) -> Self {
        Self { location: Some(location), ..self }
    }

    const fn signed(self) -> Self {
        Self { signed: true, ..self }
    }

    const fn retry_after_s(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }
}

/// Maps a reason to the wire.
pub const fn wire(reason: Reason) -> Wire {
    match reason {
        // Before anybody is known.
        Reason::RouteUnknown => empty(404),
        Reason::MethodNotAllowed => empty(405),
        Reason::HeadInvalid => invalid_request(
            400,
            "HTTP请求头有歧义，请只发送一种消息体长度声明，并且不要重复请求头",
            "the request head is ambiguous: send one framing of the body, an origin-form target, and no header twice",
        )
        .at(Location::Header),
        Reason::HeaderMissing => invalid_request(
            400,
            "Http头缺少Accept或User-Agent",
            "the header Accept or User-Agent is missing: send both",
        )
        .at(Location::Header),
        Reason::BodyTooLarge => {
            invalid_request(413, "请求体过大，请缩短请求体", "the body is too long: send a shorter one")
                .at(Location::Body)
        }
        Reason::BodyTimeout => invalid_request(
            408,
            "请求体未在规定时间内到达，请检查网络后用相同参数重试",
            "the body did not arrive in time: check the network and retry with the same parameters",
        )
        .at(Location::Body),
        Reason::BodyBudgetExhausted => busy(RETRY_SOON_S),
        Reason::AuthorizationMissing => sign_error(
            "Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》",
            "the header Authorization is missing: sign the request as the signature rules of the REST API say",
        ),
        Reason::AuthorizationMalformed => sign_error(
            "Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》",
            "the header Authorization is malformed: send it once, with mchid, nonce_str, timestamp, serial_no and \
             signature, each once and in double quotes",
        ),
        Reason::SchemeUnsupported => sign_error(
            "签名信息错误，验签失败",
            "the scheme in the header Authorization is not accepted here: use WECHATPAY2-SHA256-RSA2048",
        ),
        Reason::TimestampSkewed => sign_error(
            "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟",
            "the timestamp in the header Authorization is too far from the platform's clock: set your clock and sign \
             each request as it is sent",
        ),
        // One answer for three reasons: who is not known learns nothing about who is.
        Reason::MerchantUnknown | Reason::KeyUnknown | Reason::SignatureInvalid => SIGNATURE_REFUSED,

        // The signature held, the nonce is not spent.
        Reason::JournalFull | Reason::JournalFailed | Reason::ClockSteppedBack => Wire::new(
            503,
            "SERVICE_UNAVAILABLE",
            NO_LISTED_CODE,
            "平台暂时无法受理请求，请稍后用相同参数重试",
            "the platform takes no requests at the moment: retry later with the same parameters",
        )
        .retry_after_s(RETRY_LATER_S),
        Reason::CertificateNotYetValid => sign_error(
            "商户API证书尚未生效，请使用已生效的证书，或在生效后重试",
            "the API certificate is not valid yet: sign with one that is, or wait until it is",
        ),
        Reason::CertificateExpired => sign_error(
            "商户API证书已过期或已被替换，请改用新证书签名，并更新serial_no",
            "the API certificate has expired or was replaced: sign with the new one and send its serial_no",
        ),
        Reason::CertificateRevoked => sign_error(
            "商户API证书已被吊销，请申请新证书，改用新证书签名",
            "the API certificate is revoked: apply for a new one and sign with it",
        ),
        Reason::RevocationUnknown => Wire::new(
            503,
            "SERVICE_UNAVAILABLE",
            NO_LISTED_CODE,
            "平台暂时无法核实商户API证书的状态，请稍后用相同参数重试",
            "the platform cannot tell at the moment whether the API certificate is revoked: retry later with the same \
             parameters",
        )
        .retry_after_s(RETRY_LATER_S),
        Reason::CertificateRequired => Wire::new(
            403,
            "NO_AUTH",
            NO_LISTED_CODE,
            "该接口要求使用商户API证书，请用API证书签名，并在TLS连接中出示该证书",
            "this interface demands the API certificate: sign with its key and present it in the TLS handshake",
        ),
        Reason::SignTypeForbidden => sign_error(
            "不允许使用MD5签名，请改用HMAC-SHA256，并在sign_type中注明",
            "signatures with MD5 are not accepted here: sign with HMAC-SHA256 and say so in sign_type",
        ),
        Reason::NonceReplayed => sign_error(
            "nonce_str已被使用，请为每次请求生成新的nonce_str并重新签名",
            "the nonce_str was used before: make a new one for each request, retries too, and sign again",
        ),
        Reason::NonceTableFull => busy(RETRY_SOON_S),
        Reason::NonceShareFull => frequency_limited(
            RETRY_SOON_S,
            "请求频率超出该商户的上限，请降低频率后重试",
            "too many requests of this merchant: slow down, then retry with a new nonce_str",
        ),

        // The nonce is spent: refusals may be signed, except where no key is agreed on to sign them with.
        Reason::PlatformKeyUnknown => param_error(
            BAD_PARAMETER,
            "Http头Wechatpay-Serial不是平台证书序列号或微信支付公钥ID，请更新平台证书或公钥",
            "the header Wechatpay-Serial names no certificate or public key of the platform (your own serial belongs \
             in serial_no): fetch the platform's again",
        )
        .at(Location::Header),
        Reason::BodyMalformed => param_error(
            BAD_PARAMETER,
            "请求体不是合法的JSON（API v2为XML），或含有重复的字段，请发送UTF-8编码且字段不重复的请求体",
            "the body is not valid JSON (flat XML in API v2) or repeats a member: send UTF-8 with each member once",
        )
        .at(Location::Body)
        .signed(),
        Reason::ParameterMissing => {
            param_error(BAD_PARAMETER, "缺少必填参数，请补充后重试", "a required parameter is missing: add it")
                .at(Location::Body)
                .signed()
        }
        Reason::ParameterInvalid => param_error(
            BAD_PARAMETER,
            "参数格式或取值错误，请修改后重试",
            "a parameter has a form or value that is not accepted: correct it",
        )
        .at(Location::Body)
        .signed(),
        Reason::CurrencyUnsupported => {
            param_error(VALUE_OUT_OF_RANGE, "不支持该币种，请使用CNY", "the currency is not supported: use CNY")
                .at(Location::Body)
                .signed()
        }
        Reason::MerchantMismatch => param_error(
            BAD_PARAMETER,
            "参数中的商户号与签名的商户号不一致，请使用签名商户的商户号",
            "the merchant in the parameters is not the one that signed: send the mchid of the signer",
        )
        .at(Location::Body)
        .signed(),
        Reason::AppidUnknown => Wire::new(
            400,
            "APPID_MCHID_NOT_MATCH",
            APPID_MISMATCH,
            "appid与商户号不匹配，请使用已与该商户号绑定的appid",
            "the appid does not belong to this merchant: send one that is bound to the mchid",
        )
        .at(Location::Body)
        .signed(),
        Reason::SourceDenied => no_auth(
            NO_LISTED_CODE,
            "请求来源地址未获授权，请从已登记的地址发起请求，或先登记该地址",
            "the source address is not one of this merchant's: send from a registered address, or register this one",
        ),
        Reason::InterfaceDenied => no_auth(
            NO_LISTED_CODE,
            "商户未开通该支付接口，请先申请开通",
            "this payment interface is not approved for the merchant and appid: apply for it first",
        ),
        Reason::ScenarioDenied => no_auth(
            NO_LISTED_CODE,
            "该支付接口未获准用于此交易场景，请在获准的场景中使用，或先申请",
            "this payment interface is not approved for the scenario stated: use an approved one, or apply first",
        ),
        Reason::ScenarioRestricted => no_auth(
            COLLECTION_RESTRICTED,
            "此交易场景已被风控限制，请改用其他场景，或联系平台解除限制",
            "risk control has restricted this scenario: use another one, or ask the platform to lift the measure",
        ),
        Reason::ChannelRestricted => no_auth(
            COLLECTION_RESTRICTED,
            "此支付渠道已被风控限制，请改用其他渠道，或联系平台解除限制",
            "risk control has restricted this channel: use another one, or ask the platform to lift the measure",
        ),
        Reason::MerchantSuspended => no_auth(
            MERCHANT_DISABLED,
            "商户服务已被暂停，目前仅可查询，请联系平台",
            "the merchant's service is suspended, only queries pass: contact the platform",
        ),
        Reason::PaymentClosed => no_auth(
            COLLECTION_RESTRICTED,
            "商户支付权限已被关闭，不能发起新支付，请联系平台",
            "the merchant's payment permission is closed, new payments are refused: contact the platform",
        ),
        Reason::MerchantTerminated => no_auth(
            MERCHANT_DISABLED,
            "商户协议已终止，请停止调用，如有疑问请联系平台",
            "the agreement with the merchant is terminated: stop calling, or contact the platform",
        ),
        Reason::OrderNumberUsed => Wire::new(
            403,
            "OUT_TRADE_NO_USED",
            ORDER_NUMBER_USED,
            "商户订单号已被其他参数的请求使用，请用原参数重试，或更换商户订单号",
            "the order number was used with other parameters: retry with the first ones, or choose a new number",
        )
        .at(Location::Body)
        .signed(),
        Reason::OrderTableFull | Reason::QuotaTableFull => busy(RETRY_LATER_S).signed(),
        Reason::OrderShareFull => frequency_limited(
            RETRY_LATER_S,
            "该商户未完结的订单数已达上限，请先关闭或完成部分订单，再重试",
            "this merchant has too many orders under way: close or finish some, then retry",
        )
        .signed(),
        Reason::OrderInFlight => unavailable(
            503,
            "同一商户订单号的请求正在处理，请稍后用相同参数重试",
            "a request with this order number is being handled: retry shortly with the same parameters",
        )
        .retry_after_s(RETRY_SOON_S),
        Reason::LimitExceeded => rule_limit(
            "交易金额超出限额，请减小金额，或在限额恢复后重试",
            "the amount exceeds a limit: send a smaller amount, or retry when the limit has reset",
        ),
        Reason::LimitSubjectUnknown => rule_limit(
            "该限额按用户计算，但无法识别用户，请在请求中提供用户标识",
            "a limit counts per customer and the customer is not known: name the customer in the request",
        ),
        Reason::QuotaShareFull => frequency_limited(
            RETRY_LATER_S,
            "该商户占用的限额记录已达上限，请降低频率，稍后重试",
            "this merchant holds too many limit records: slow down and retry later",
        )
        .signed(),
        Reason::ClockOutOfRange => unavailable(
            503,
            "平台时钟异常，请稍后用相同参数重试",
            "the platform's clock is out of order: retry later with the same parameters",
        )
        .retry_after_s(RETRY_LATER_S),
        Reason::NoPlatformCertificate => Wire::new(
            404,
            "RESOURCE_NOT_EXISTS",
            NO_LISTED_CODE,
            "该商户没有可用的平台证书，请改用微信支付公钥验签",
            "there is no platform certificate for this merchant: verify answers with the platform's public key instead",
        )
        .at(Location::Url)
        .signed(),

        // After an admission.
        Reason::UpstreamUnreachable => unavailable(
            502,
            "后端服务不可达，请求未被处理，请稍后用相同参数重试",
            "the service behind could not be reached, nothing was done: retry with the same parameters",
        )
        .retry_after_s(RETRY_SOON_S),
        Reason::UpstreamTimeout => system_error(
            504,
            "后端服务超时，结果未知，请查询订单，或用相同参数重试",
            "the service behind did not answer in time, the outcome is not known: query the order, or retry with the \
             same parameters",
        )
        .signed(),
        Reason::UpstreamBroken => system_error(
            502,
            "后端服务应答异常，结果未知，请查询订单，或用相同参数重试",
            "the answer of the service behind was broken, the outcome is not known: query the order, or retry with the \
             same parameters",
        )
        .signed(),
        Reason::SigningOverloaded => system_error(
            503,
            "系统繁忙，应答未能签名，结果未知，请查询订单，或用相同参数重试",
            "the answer could not be signed in time, the outcome is not known: query the order, or retry with the same \
             parameters",
        )
        .retry_after_s(RETRY_SOON_S),
    }
}

const fn empty(status: u16) -> Wire {
    Wire::new(status, "", NO_LISTED_CODE, "", "")
}

const fn invalid_request(status: u16, zh: &'static str, en: &'static str) -> Wire {
    Wire::new(status, "INVALID_REQUEST", BAD_PARAMETER, zh, en)
}

const fn sign_error(zh: &'static str, en: &'static str) -> Wire {
    Wire::new(401, "SIGN_ERROR", SIGNATURE_ERROR, zh, en).at(Location::Authorization)
}

const fn param_error(platform_code: u32, zh: &'static str, en: &'static str) -> Wire {
    Wire::new(400, "PARAM_ERROR", platform_code, zh, en)
}

const fn no_auth(platform_code: u32, zh: &'static str, en: &'static str) -> Wire {
    Wire::new(403, "NO_AUTH", platform_code, zh, en).signed()
}

const fn rule_limit(zh: &'static str, en: &'static str) -> Wire {
    Wire::new(403, "RULE_LIMIT", COLLECTION_RESTRICTED, zh, en).at(Location::Body).signed()
}

const fn frequency_limited(retry_after_s: u32, zh: &'static str, en: &'static str) -> Wire {
    Wire::new(429, "FREQUENCY_LIMITED", RATE, zh, en).retry_after_s(retry_after_s)
}

const fn unavailable(status: u16, zh: &'static str, en: &'static str) -> Wire {
    Wire::new(status, "SERVICE_UNAVAILABLE", NO_LISTED_CODE, zh, en).signed()
}

const fn system_error(status: u16, zh: &'static str, en: &'static str) -> Wire {
    Wire::new(status, "SYSTEM_ERROR", NO_LISTED_CODE, zh, en)
}

/// Says that the gate itself is full; which table, is for the metrics.
const fn busy(retry_after_s: u32) -> Wire {
    Wire::new(
        503,
        "SERVICE_UNAVAILABLE",
        NO_LISTED_CODE,
        "系统繁忙，请求未被处理，请稍后用相同参数重试",
        "the platform is busy and did nothing: retry later with the same parameters",
    )
    .retry_after_s(retry_after_s)
}

/// Says that the signature does not hold, for whatever reason.
const SIGNATURE_REFUSED: Wire = sign_error(
    "签名错误",
    "the signature does not hold: check mchid, serial_no and private key, and compare the message you signed with \
     sign_information",
);

/// `Retry-After` where room comes free all the time, in seconds.
const RETRY_SOON_S: u32 = 1;

/// `Retry-After` where room comes free as windows and orders end, in seconds.
const RETRY_LATER_S: u32 = 60;

// Codes that the live service appends to `Request-ID`.
const SIGNATURE_ERROR: u32 = 268_443_699;
const RATE: u32 = 268_447_840;
const BAD_PARAMETER: u32 = 268_435_461;
const VALUE_OUT_OF_RANGE: u32 = 268_435_464;
const ORDER_NUMBER_USED: u32 = 268_498_688;
const COLLECTION_RESTRICTED: u32 = 268_448_010;
const MERCHANT_DISABLED: u32 = 268_443_715;
const APPID_MISMATCH: u32 = 268_445_527;

/// The base of the live service's range, for reasons that no published code fits: it says failure and no more.
const NO_LISTED_CODE: u32 = 268_435_456;
