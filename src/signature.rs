//! Who sent a request: the schemes, the canonical bytes, prepared keys, and the verification that yields [`Verified`].
//!
//! HOT. The algorithm belongs to the stored key, never to the request.

mod key;
mod secret;
mod verify;
pub mod wechatpay_v2;
pub mod wechatpay_v3;

use std::fmt;

use arrayvec::ArrayVec;

use crate::request::xml::XmlError;
use crate::request::{Format, Request};
use crate::types::{KeyId, MerchantId};

pub use key::{KeyError, VerifyingKey};
pub use secret::SignType;
pub use verify::{Invalid, Job, Verified, Verifier};

/// A way of signing requests. Everything behind this boundary is the same for all schemes.
pub trait Scheme: fmt::Debug + Send + Sync {
    /// Returns the name by which routes and metrics know the scheme.
    fn name(&self) -> &'static str;

    /// Returns how bodies are written, of requests and of answers.
    fn format(&self) -> Format;

    /// Tells whether the signature stands in the head of a request, so that its form can be judged without the body.
    fn signs_in_head(&self) -> bool;

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
    /// The algorithm, where the key leaves a choice.
    pub sign_type: Option<SignType>,
    /// The bytes that were signed.
    pub message: Message<'a>,
}

/// The canonical bytes: the slices of the request they are made of, in order, or made anew.
#[derive(Clone, Debug)]
pub struct Message<'a>(Bytes<'a>);

#[derive(Clone, Debug)]
enum Bytes<'a> {
    Parts(ArrayVec<&'a [u8], MESSAGE_PARTS_MAX>),
    Built(Box<[u8]>),
}

impl<'a> Message<'a> {
    /// Makes a message of parts.
    ///
    /// # Panics
    /// Where there are more than [`MESSAGE_PARTS_MAX`] parts: a scheme that needs more raises the constant.
    pub fn new(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self(Bytes::Parts(parts.into_iter().collect()))
    }

    /// Makes a message of bytes that stand nowhere in the request as they are.
    pub fn built(bytes: Vec<u8>) -> Self {
        Self(Bytes::Built(bytes.into()))
    }

    /// Appends the bytes to others.
    pub fn append_to(&self, bytes: &mut Vec<u8>) {
        match &self.0 {
            Bytes::Parts(parts) => parts.iter().for_each(|part| bytes.extend_from_slice(part)),
            Bytes::Built(built) => bytes.extend_from_slice(built),
        }
    }

    /// Returns the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes());
        self.append_to(&mut bytes);
        bytes
    }

    /// Returns the length in bytes.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Bytes::Parts(parts) => parts.iter().map(|part| part.len()).sum(),
            Bytes::Built(built) => built.len(),
        }
    }
}

/// The request does not have the form that its scheme prescribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtractError {
    /// The signature is not in the form prescribed, a field is missing, repeated or unknown.
    #[error("the signature does not have the form that the scheme prescribes")]
    Malformed,
    /// There is no signature.
    #[error("the signature is missing")]
    Missing,
    /// It is signed by another scheme or algorithm.
    #[error("the signature is said to be of another scheme or algorithm")]
    Unsupported,
    /// The body, in which the signature stands, is refused.
    #[error(transparent)]
    Body(#[from] XmlError),
    /// The target has a query, which the signature does not cover.
    #[error("the target has a query, which is not signed: send all parameters in the body")]
    Query,
    /// A value holds what reads as another parameter: the bytes signed could stand for two requests.
    #[error("the value of a parameter holds `&` and the name of another one with `=`: what is signed has two readings")]
    TwoReadings,
}

/// Most slices that a message is made of.
pub const MESSAGE_PARTS_MAX: usize = 12;
