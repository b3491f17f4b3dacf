//! Who sent a request: the schemes, the canonical bytes, prepared keys, and the verification that yields [`Verified`].
//!
//! HOT. The algorithm belongs to the stored key, never to the request.

mod key;
mod verify;
pub mod wechatpay_v3;

use std::fmt;

use arrayvec::ArrayVec;

use crate::request::Request;
use crate::types::{KeyId, MerchantId};

pub use key::{KeyError, VerifyingKey};
pub use verify::{Invalid, Job, Verified, Verifier};

/// A way of signing requests. Everything behind this boundary is the same for all schemes.
pub trait Scheme: fmt::Debug + Send + Sync {
    /// Returns the name by which routes and metrics know the scheme.
    fn name(&self) -> &'static str;

    /// Reads who signed, with which key, when, and which bytes; checks form only.
    ///
    /// # Errors
    /// [`ExtractError`] where the request does not have the scheme's form.
    fn extract<'a>(&self, request: &Request<'a>) -> Result<Extracted<'a>, ExtractError>;
}

/// What a request claims about itself, before anything is verified.
#[derive(Clone, Debug)]
pub struct Extracted<'a> {
    /// Who claims to have signed.
    pub merchant: MerchantId,
    /// The key claimed.
    pub key: KeyId,
    /// When, in seconds since the epoch; `None` in a scheme without timestamps.
    pub timestamp_s: Option<i64>,
    /// The nonce; `None` in a scheme without nonces.
    pub nonce: Option<&'a str>,
    /// The signature, in the scheme's text encoding.
    pub signature: &'a str,
    /// The bytes that were signed.
    pub message: Message<'a>,
}

/// The canonical bytes, as the slices of the request they are made of, in order.
#[derive(Clone, Debug, Default)]
pub struct Message<'a> {
    parts: ArrayVec<&'a [u8], MESSAGE_PARTS_MAX>,
}

impl<'a> Message<'a> {
    /// Makes a message of parts.
    ///
    /// # Panics
    /// Where there are more than [`MESSAGE_PARTS_MAX`] parts: a scheme that needs more raises the constant.
    pub fn new(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self { parts: parts.into_iter().collect() }
    }

    /// Returns the parts in order.
    pub fn parts(&self) -> &[&'a [u8]] {
        &self.parts
    }

    /// Returns the length in bytes.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }
}

/// The request does not have the form that its scheme prescribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtractError {
    /// The signature is not in the form prescribed, a field is missing, repeated or unknown.
    #[error("the signature header does not have the form that the scheme prescribes")]
    Malformed,
    /// There is no signature.
    #[error("the signature header is missing")]
    Missing,
    /// It is signed by another scheme.
    #[error("the signature header names another scheme")]
    Unsupported,
}

/// Most slices that a message is made of.
pub const MESSAGE_PARTS_MAX: usize = 12;
