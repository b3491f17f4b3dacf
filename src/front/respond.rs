//! What a refusal looks like on the wire: the error body of WeChat Pay API v3, or of v2, in the caller's language.
//!
//! The map from [`Reason`] to the wire is in `wire.rs`. A message tells the caller what to change, or that a retry with
//! the same parameters is right. Nothing here names a key, an expected signature, or what is left of a limit.

mod language;
pub mod v2;
mod wire;

#[cfg(test)]
mod tests;

use serde::Serialize;

use super::platform::beijing_time;
use crate::reason::Reason;
use crate::request::Format;
use crate::signature::wechatpay_v3::SignInformation;
use crate::time::UnixMillis;
use crate::types::Window;

pub use language::Language;
pub use wire::{Location, Wire, wire};

/// What a refusal may add to the body.
#[derive(Clone, Debug)]
pub enum Detail<'a> {
    /// Nothing.
    None,
    /// The parameter at fault.
    Field {
        /// A JSON Pointer into the body, or the plain name of a header or query parameter.
        pointer: &'a str,
        /// What is wrong with it.
        issue: &'static str,
    },
    /// How far the clocks are apart.
    Skew {
        /// The request's timestamp less the gate's clock, in milliseconds: positive where the caller's clock is fast.
        skew_ms: i64,
    },
    /// The limit at fault.
    Limit {
        /// The limit's id.
        limit: &'a str,
        /// The window that is used up; `None` means the ceiling of a single transaction.
        window: Option<Window>,
        /// When the window ends.
        resets_at: Option<UnixMillis>,
    },
    /// What the gate took as signed. Goes with every [`Reason::SignatureInvalid`], [`Reason::MerchantUnknown`] and
    /// [`Reason::KeyUnknown`]: the three must not be told apart by its absence.
    Signature(SignInformation),
}

/// A refusal, ready for the wire but for its signature and `Request-ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// In UTF-8, or empty.
    pub body: Vec<u8>,
    /// How it is written.
    pub format: Format,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
    /// The numeric suffix of `Request-ID`.
    pub platform_code: u32,
    /// Whether the answer is to be signed.
    pub sign: bool,
}

/// Writes the answer to a refused request.
pub fn refusal(reason: Reason, detail: &Detail<'_>, language: Language) -> Answer {
    worded(reason, wire(reason).message(language), detail, language)
}

/// Writes the answer to a refused request in these words.
fn worded(reason: Reason, text: &str, detail: &Detail<'_>, language: Language) -> Answer {
    let wire = wire(reason);
    let body = if wire.code.is_empty() { Vec::new() } else { error_body(reason, &wire, text, detail, language) };
    Answer {
        status: wire.status,
        body,
        format: Format::Json,
        retry_after_s: wire.retry_after_s,
        platform_code: wire.platform_code,
        sign: wire.signed,
    }
}

/// Writes a `Request-ID`: an opaque id and the numeric code of the outcome, [`PLATFORM_CODE_SUCCESS`] on success.
pub fn request_id(random: u128, platform_code: u32) -> String {
    format!("{random:032X}-{platform_code}")
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<DetailBody<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum DetailBody<'a> {
    Field {
        field: &'a str,
        issue: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        location: Option<Location>,
    },
    Skew {
        field: &'static str,
        issue: &'static str,
        location: Location,
        skew_ms: i64,
    },
    Limit {
        #[serde(skip_serializing_if = "Option::is_none")]
        field: Option<&'static str>,
        issue: &'static str,
        location: Location,
        limit: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        window: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        resets_at: Option<String>,
    },
    Signature {
        detail: SignatureIssue,
        field: &'static str,
        location: Location,
        sign_information: &'a SignInformation,
    },
}

#[derive(Serialize)]
struct SignatureIssue {
    issue: &'static str,
}

fn error_body(reason: Reason, wire: &Wire, text: &str, detail: &Detail<'_>, language: Language) -> Vec<u8> {
    let message = message(reason, text, detail, language);
    let body = ErrorBody { code: wire.code, message: &message, detail: detail_body(reason, wire, detail) };
    // Strings and integers always serialise; an empty body would be the harmless answer if they did not.
    serde_json::to_vec(&body).unwrap_or_default()
}

fn detail_body<'a>(reason: Reason, wire: &Wire, detail: &'a Detail<'a>) -> Option<DetailBody<'a>> {
    Some(match detail {
        Detail::None => return None,
        Detail::Field { pointer, issue } => {
            DetailBody::Field { field: pointer, issue, location: field_location(wire, pointer) }
        }
        Detail::Skew { skew_ms } => DetailBody::Skew {
            field: "timestamp",
            issue: "timestamp too far from the platform's clock",
            location: Location::Authorization,
            skew_ms: *skew_ms,
        },
        Detail::Limit { limit, window, resets_at } => limit_body(reason, limit, *window, *resets_at),
        Detail::Signature(information) => DetailBody::Signature {
            detail: SignatureIssue { issue: "sign not match" },
            field: "signature",
            location: Location::Authorization,
            sign_information: information,
        },
    })
}

/// A parameter that is not named by a JSON Pointer did not come from the body.
fn field_location(wire: &Wire, pointer: &str) -> Option<Location> {
    match wire.location {
        Some(Location::Body) if !pointer.starts_with('/') => Some(Location::Query),
        location => location,
    }
}

fn limit_body(reason: Reason, limit: &str, window: Option<Window>, resets_at: Option<UnixMillis>) -> DetailBody<'_> {
    if reason == Reason::LimitSubjectUnknown {
        let issue = "the limit counts per customer, and the customer is not known";
        return DetailBody::Limit {
            field: None,
            issue,
            location: Location::Body,
            limit,
            window: None,
            resets_at: None,
        };
    }
    let (issue, window) = match window {
        None => ("transaction limit exceeded", "transaction"),
        Some(Window::Day) => ("daily limit exceeded", "day"),
        Some(Window::Month) => ("monthly limit exceeded", "month"),
        Some(Window::Year) => ("yearly limit exceeded", "year"),
        Some(Window::Lifetime) => ("lifetime limit exceeded", "lifetime"),
    };
    DetailBody::Limit {
        field: Some("/amount/total"),
        issue,
        location: Location::Body,
        limit,
        window: Some(window),
        resets_at: resets_at.map(beijing_time),
    }
}

fn message(reason: Reason, text: &str, detail: &Detail<'_>, language: Language) -> String {
    let mut message = text.to_owned();
    if let Detail::Limit { limit, window, resets_at } = detail {
        let (open, comma, close) = match language {
            Language::Chinese => ("（限额 ", "，", "）"),
            Language::English => (" (limit ", ", ", ")"),
        };
        message.extend([open, limit]);
        if reason != Reason::LimitSubjectUnknown {
            message.extend([comma, window_name(*window, language)]);
        }
        if let Some(at) = resets_at.map(beijing_time) {
            match language {
                Language::Chinese => message.extend([comma, &at, " 恢复"]),
                Language::English => message.extend([comma, "resets at ", &at]),
            }
        }
        message.push_str(close);
    }
    message
}

const fn window_name(window: Option<Window>, language: Language) -> &'static str {
    match (language, window) {
        (Language::Chinese, None) => "单笔",
        (Language::Chinese, Some(Window::Day)) => "当日",
        (Language::Chinese, Some(Window::Month)) => "当月",
        (Language::Chinese, Some(Window::Year)) => "当年",
        (Language::Chinese, Some(Window::Lifetime)) => "累计",
        (Language::English, None) => "single transaction",
        (Language::English, Some(Window::Day)) => "day",
        (Language::English, Some(Window::Month)) => "month",
        (Language::English, Some(Window::Year)) => "year",
        (Language::English, Some(Window::Lifetime)) => "lifetime",
    }
}

/// The numeric suffix of `Request-ID` on success.
pub const PLATFORM_CODE_SUCCESS: u32 = 0;
