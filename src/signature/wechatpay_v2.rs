//! The request signature of WeChat Pay API v2, which stands in the XML body, and that of answers.
//!
//! HOT. What is signed are the parameters that have a value, but for `sign`, ordered by the bytes of their names, as
//! `name=value` joined by `&`; then `&key=` and the secret. Values are not escaped there. So a value that holds `&x=`
//! could stand for itself or for a parameter `x`: where that parameter decides something, and stands in the order where
//! the value does, the request is refused.

use std::borrow::Cow;

use memchr::memmem::Finder;

use super::secret::SignType;
use super::{ExtractError, Extracted, Message, Scheme, VerifyingKey};
use crate::request::xml::{self, Document};
use crate::request::{Format, Request};
use crate::types::KeyId;

/// The scheme of merchants' requests on one route.
#[derive(Clone, Debug)]
pub struct WechatPayV2 {
    merchant: String,
    facts: Vec<Fact>,
    hmac_only: bool,
}

/// A parameter that decides something.
#[derive(Clone, Debug)]
struct Fact {
    name: String,
    /// Finds it within the value of another one.
    hidden: Finder<'static>,
}

impl WechatPayV2 {
    /// Makes the scheme of a route: the parameter that names the merchant, all that decide something, and whether nothing
    /// but HMAC-SHA256 will do.
    pub fn new(merchant: &str, facts: impl IntoIterator<Item = String>, hmac_only: bool) -> Self {
        let fact = |name: String| Fact { hidden: Finder::new(&format!("&{name}=")).into_owned(), name };
        Self { merchant: merchant.to_owned(), facts: facts.into_iter().map(fact).collect(), hmac_only }
    }

    fn sign_type(&self, document: &Document<'_>) -> Result<SignType, ExtractError> {
        match document.field(SIGN_TYPE).as_deref() {
            Some("HMAC-SHA256") => Ok(SignType::HmacSha256),
            None | Some("" | "MD5") if !self.hmac_only => Ok(SignType::Md5),
            None | Some(_) => Err(ExtractError::Unsupported),
        }
    }

    /// Returns what is signed, but for the secret.
    fn message(&self, document: &Document<'_>) -> Result<Vec<u8>, ExtractError> {
        let mut message = Vec::with_capacity(MESSAGE_BYTES_USUAL);
        let mut signed = document.fields().filter(|(name, value)| *name != SIGN && !value.is_empty()).peekable();
        while let Some((name, value)) = signed.next() {
            let next = signed.peek().map(|(name, _)| *name);
            if value.contains('&') && self.has_two_readings(name, &value, next) {
                return Err(ExtractError::TwoReadings);
            }
            append(&mut message, name, &value);
        }
        Ok(message)
    }

    /// Tells whether a value holds a parameter that decides something, at the place where that would stand by itself.
    fn has_two_readings(&self, name: &str, value: &str, next: Option<&str>) -> bool {
        let between = |fact: &&Fact| fact.name.as_str() > name && next.is_none_or(|next| fact.name.as_str() < next);
        self.facts.iter().filter(between).any(|fact| fact.hidden.find(value.as_bytes()).is_some())
    }
}

impl Scheme for WechatPayV2 {
    fn name(&self) -> &'static str {
        SCHEME
    }

    fn format(&self) -> Format {
        Format::Xml
    }

    fn signs_in_head(&self) -> bool {
        false
    }

    fn extract<'a>(&self, request: &Request<'a>) -> Result<Extracted<'a>, ExtractError> {
        if request.target.contains('?') {
            return Err(ExtractError::Query);
        }
        let document = xml::read(request.body)?;
        let signature = match document.field(SIGN) {
            Some(Cow::Borrowed(signature)) if !signature.is_empty() => signature,
            // None of its letters needs to be written as a reference.
            Some(Cow::Owned(_)) => return Err(ExtractError::Malformed),
            Some(Cow::Borrowed(_)) | None => return Err(ExtractError::Missing),
        };
        let merchant = document.field(&self.merchant).ok_or(ExtractError::Malformed)?;
        let sign_type = self.sign_type(&document)?;
        Ok(Extracted {
            merchant: merchant.parse().map_err(|_| ExtractError::Malformed)?,
            key: KeyId::API_V2,
            timestamp_s: None,
            nonce: None,
            signature,
            sign_type: Some(sign_type),
            message: Message::built(self.message(&document)?),
        })
    }
}

/// Writes an answer of these fields, none of them twice, and signs it; `None` where the key is no secret of this scheme.
pub fn signed_answer(key: &VerifyingKey, sign_type: SignType, fields: &[(&str, &str)]) -> Option<String> {
    let secret = key.secret()?;
    let mut ordered: Vec<_> = fields.iter().filter(|(_, value)| !value.is_empty()).collect();
    ordered.sort_unstable();
    let mut message = Vec::with_capacity(MESSAGE_BYTES_USUAL);
    ordered.iter().for_each(|(name, value)| append(&mut message, name, value));
    secret.append_to(&mut message);
    Some(write(fields.iter().copied().chain([(SIGN, &*secret.sign(sign_type, &message))])))
}

/// Writes an answer that is not signed.
pub fn plain_answer(fields: &[(&str, &str)]) -> String {
    write(fields.iter().copied())
}

fn write<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut answer = String::from("<xml>");
    fields.for_each(|(name, value)| xml::element(&mut answer, name, value));
    answer.push_str("</xml>");
    answer
}

/// Appends one parameter to what is signed.
fn append(message: &mut Vec<u8>, name: &str, value: &str) {
    if !message.is_empty() {
        message.push(b'&');
    }
    [name, "=", value].iter().for_each(|part| message.extend_from_slice(part.as_bytes()));
}

/// The name of the scheme.
pub const SCHEME: &str = "wechatpay-v2";

/// The parameter that holds the signature.
const SIGN: &str = "sign";

/// The parameter that says how it was made.
const SIGN_TYPE: &str = "sign_type";

/// How much memory is taken for a message at first, in bytes.
const MESSAGE_BYTES_USUAL: usize = 1024;

#[cfg(test)]
mod tests;
