//! The request signature of WeChat Pay API v3, and the bytes that answers are signed over.
//!
//! HOT. `Authorization: <scheme> mchid="..",nonce_str="..",timestamp="..",serial_no="..",signature=".."`, the pairs in
//! any order. Whatever the header could mean twice is refused.

use serde::Serialize;

use super::key::MODULUS_BITS_MAX;
use super::{ExtractError, Extracted, Message, Scheme};
use crate::request::{Format, Repeated, Request};
use crate::types::{KEY_ID_BYTES_MAX, MERCHANT_ID_BYTES_MAX};

/// The scheme of merchants' requests.
#[derive(Clone, Copy, Debug)]
pub struct WechatPayV3 {
    scheme: &'static str,
}

impl WechatPayV3 {
    /// Makes the scheme named [`SCHEME`].
    pub const fn new() -> Self {
        Self { scheme: SCHEME }
    }

    /// Returns the pairs that follow the scheme's name and one space.
    fn credentials<'a>(&self, header: &'a [u8]) -> Result<&'a str, ExtractError> {
        if header.is_empty() || header.len() > AUTHORIZATION_BYTES_MAX {
            return Err(ExtractError::Malformed);
        }
        let header = std::str::from_utf8(header).map_err(|_| ExtractError::Malformed)?;
        let (scheme, credentials) = header.split_once(' ').unwrap_or((header, ""));
        if scheme == self.scheme { Ok(credentials) } else { Err(ExtractError::Unsupported) }
    }
}

impl Default for WechatPayV3 {
    fn default() -> Self {
        Self::new()
    }
}

impl Scheme for WechatPayV3 {
    fn name(&self) -> &'static str {
        self.scheme
    }

    fn format(&self) -> Format {
        Format::Json
    }

    fn signs_in_head(&self) -> bool {
        true
    }

    fn extract<'a>(&self, request: &Request<'a>) -> Result<Extracted<'a>, ExtractError> {
        let header = match request.headers.only("authorization") {
            Ok(header) => header.ok_or(ExtractError::Missing)?,
            Err(Repeated) => return Err(ExtractError::Malformed),
        };
        let Credentials { merchant, nonce, timestamp, serial, signature } =
            Credentials::parse(self.credentials(header)?)?;
        // A line feed in one of the lines would let one text stand for two requests; no HTTP parser lets one through.
        if request.method.contains('\n') || request.target.contains('\n') {
            return Err(ExtractError::Malformed);
        }
        Ok(Extracted {
            merchant: merchant.parse().map_err(|_| ExtractError::Malformed)?,
            key: serial.parse().map_err(|_| ExtractError::Malformed)?,
            timestamp_s: Some(seconds(timestamp)?),
            nonce: Some(within(nonce, NONCE_BYTES_MAX)?),
            signature: within(signature, SIGNATURE_BYTES_MAX)?,
            sign_type: None,
            message: request_message(request.method, request.target, timestamp, nonce, request.body),
        })
    }
}

/// What a caller is told that we verified, so that it finds out where its own message differs; nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignInformation {
    /// The method.
    pub method: String,
    /// The target.
    pub url: String,
    /// Length of the whole message, in bytes.
    pub sign_message_length: usize,
    /// The message, its body cut to its first 8 characters.
    pub truncated_sign_message: String,
}

impl SignInformation {
    /// Describes a message by its five lines.
    pub fn new(method: &str, target: &str, timestamp: &str, nonce: &str, body: &[u8]) -> Self {
        let start = body.get(..BODY_CHARACTERS_SHOWN * UTF8_BYTES_MAX).unwrap_or(body);
        let shown: String = String::from_utf8_lossy(start).chars().take(BODY_CHARACTERS_SHOWN).collect();
        Self {
            method: method.to_owned(),
            url: target.to_owned(),
            sign_message_length: request_message(method, target, timestamp, nonce, body).bytes(),
            truncated_sign_message: format!("{method}\n{target}\n{timestamp}\n{nonce}\n{shown}\n"),
        }
    }
}

/// Describes the message of a request whose signature did not hold; `None` where it is not in the scheme's form.
pub fn sign_information(request: &Request<'_>) -> Option<SignInformation> {
    let scheme = WechatPayV3::new();
    let header = request.headers.only("authorization").ok()??;
    let Credentials { nonce, timestamp, .. } = Credentials::parse(scheme.credentials(header).ok()?).ok()?;
    Some(SignInformation::new(request.method, request.target, timestamp, nonce, request.body))
}

/// Returns the bytes that an answer or a callback is signed over.
pub fn answer_message<'a>(timestamp_s: &'a str, nonce: &'a str, body: &'a [u8]) -> Message<'a> {
    Message::new([timestamp_s.as_bytes(), LF, nonce.as_bytes(), LF, body, LF])
}

/// Returns the bytes that a request is signed over: five lines, each ended by a line feed.
fn request_message<'a>(
    method: &'a str,
    target: &'a str,
    timestamp: &'a str,
    nonce: &'a str,
    body: &'a [u8],
) -> Message<'a> {
    let [method, target, timestamp, nonce] = [method, target, timestamp, nonce].map(str::as_bytes);
    Message::new([method, LF, target, LF, timestamp, LF, nonce, LF, body, LF])
}

/// The five values of the header, as sent.
struct Credentials<'a> {
    merchant: &'a str,
    nonce: &'a str,
    timestamp: &'a str,
    serial: &'a str,
    signature: &'a str,
}

impl<'a> Credentials<'a> {
    fn parse(mut rest: &'a str) -> Result<Self, ExtractError> {
        let (mut merchant, mut nonce, mut timestamp, mut serial, mut signature) = (None, None, None, None, None);
        loop {
            let (name, value, tail) = pair(rest).ok_or(ExtractError::Malformed)?;
            let slot = match name {
                "mchid" => &mut merchant,
                "nonce_str" => &mut nonce,
                "timestamp" => &mut timestamp,
                "serial_no" => &mut serial,
                "signature" => &mut signature,
                _ => return Err(ExtractError::Malformed),
            };
            if slot.replace(value).is_some() {
                return Err(ExtractError::Malformed);
            }
            if tail.is_empty() {
                break;
            }
            rest = tail.trim_start_matches(OWS).strip_prefix(',').ok_or(ExtractError::Malformed)?;
            rest = rest.trim_start_matches(OWS);
        }
        let all = || {
            Some(Self {
                merchant: merchant?,
                nonce: nonce?,
                timestamp: timestamp?,
                serial: serial?,
                signature: signature?,
            })
        };
        all().ok_or(ExtractError::Malformed)
    }
}

/// Splits `name="value"` off; a value is visible ASCII without quotes and backslashes, so it needs no unescaping.
fn pair(text: &str) -> Option<(&str, &str, &str)> {
    // PERF: a signature is 344 characters long: its end is looked for by a vectored search, and all bytes of a value are
    // judged at once.
    let (name, rest) = text.split_once('=')?;
    let rest = rest.strip_prefix('"')?;
    let end = memchr::memchr(b'"', rest.as_bytes())?;
    let (value, tail) = (rest.get(..end)?, rest.get(end.checked_add(1)?..)?);
    let plain = value.bytes().fold(true, |plain, byte| plain & byte.is_ascii_graphic() & (byte != b'\\'));
    plain.then_some((name, value, tail))
}

/// Reads seconds since the epoch, written as 1 to 12 digits.
fn seconds(text: &str) -> Result<i64, ExtractError> {
    let digits = within(text, TIMESTAMP_DIGITS_MAX)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ExtractError::Malformed);
    }
    digits.parse().map_err(|_| ExtractError::Malformed)
}

/// Returns a text that is neither empty nor too long.
fn within(text: &str, bytes_max: usize) -> Result<&str, ExtractError> {
    if text.is_empty() || text.len() > bytes_max { Err(ExtractError::Malformed) } else { Ok(text) }
}

/// The name of the scheme in the header, compared byte for byte.
pub const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";

/// Longest header value, in bytes; the longest signature and identities fit.
pub const AUTHORIZATION_BYTES_MAX: usize = 2048;

/// Longest nonce, in bytes. Clients send 11 to 36.
pub const NONCE_BYTES_MAX: usize = 128;

/// Most digits of a timestamp.
pub const TIMESTAMP_DIGITS_MAX: usize = 12;

/// Longest signature, in characters: the Base64 of 8192 bits.
pub const SIGNATURE_BYTES_MAX: usize = 1368;

const _: () =
    assert!(SIGNATURE_BYTES_MAX == (MODULUS_BITS_MAX / 8).div_ceil(3) * 4, "a signature is as long as its key");
const _: () = assert!(
    SIGNATURE_BYTES_MAX + NONCE_BYTES_MAX + MERCHANT_ID_BYTES_MAX + KEY_ID_BYTES_MAX + 128 < AUTHORIZATION_BYTES_MAX,
    "the longest values, and 128 bytes around them, fit the header"
);

/// How many characters of the body a caller is shown.
const BODY_CHARACTERS_SHOWN: usize = 8;

/// Longest character in UTF-8, in bytes.
const UTF8_BYTES_MAX: usize = 4;

/// Ends each line of a message.
const LF: &[u8] = b"\n";

/// Optional white space (RFC 9110, section 5.6.3).
const OWS: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests;
