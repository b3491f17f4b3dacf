//! The secret of API v2, which merchant and platform share: it verifies what merchants sign, and signs what they are
//! answered.
//!
//! HOT. Signatures are compared in constant time.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use md5::{Digest as _, Md5};
use ring::hmac;

use crate::types::Md5Rule;

/// How a signature of API v2 is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignType {
    /// HMAC-SHA256.
    HmacSha256,
    /// MD5 over a text that ends with the secret.
    Md5,
}

impl SignType {
    /// Returns the name that requests give it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "HMAC-SHA256",
            Self::Md5 => "MD5",
        }
    }
}

/// A secret, and what may be done with it. Never shown.
pub(super) struct Secret {
    text: [u8; 32],
    hmac: hmac::Key,
    md5: Md5Rule,
}

impl Secret {
    pub(super) fn new(text: [u8; 32], md5: Md5Rule) -> Self {
        Self { text, hmac: hmac::Key::new(hmac::HMAC_SHA256, &text), md5 }
    }

    pub(super) fn permits(&self, sign_type: Option<SignType>, pays_out: bool) -> bool {
        match (sign_type, self.md5) {
            (Some(SignType::HmacSha256), _) | (Some(SignType::Md5), Md5Rule::Allow) => true,
            (Some(SignType::Md5), Md5Rule::NoPayouts) => !pays_out,
            (Some(SignType::Md5), Md5Rule::Forbid) | (None, _) => false,
        }
    }

    /// Appends the last parameter of what is signed, which is the secret itself.
    pub(super) fn append_to(&self, message: &mut Vec<u8>) {
        message.extend_from_slice(b"&key=");
        message.extend_from_slice(&self.text);
    }

    /// Tells whether a signature is that of a message, which ends with the secret.
    pub(super) fn holds(&self, sign_type: SignType, message: &[u8], signature: &str) -> bool {
        verify_slices_are_equal(self.sign(sign_type, message).as_bytes(), signature.as_bytes()).is_ok()
    }

    /// Signs a message, which ends with the secret: in upper-case hexadecimal.
    pub(super) fn sign(&self, sign_type: SignType, message: &[u8]) -> String {
        match sign_type {
            SignType::HmacSha256 => hexadecimal(hmac::sign(&self.hmac, message).as_ref()),
            SignType::Md5 => hexadecimal(&Md5::digest(message)),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Secret").field("md5", &self.md5).finish_non_exhaustive()
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'A' + value - 10 });
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect()
}
