//! Keys that verify, checked and prepared once when they are loaded.
//!
//! Cold, except for what [`Verifier`](super::Verifier) reads. The algorithm is part of the key, so that a request
//! cannot choose another one.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use x509_parser::asn1_rs::Tag;
use x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::secret::{Secret, SignType};
use crate::types::Md5Rule;

/// A key with which signatures are verified; cloning shares it.
#[derive(Clone)]
pub struct VerifyingKey(Arc<Prepared>);

/// The algorithms, each with its key in the form that its verification wants.
pub(super) enum Prepared {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, section 8.2).
    RsaPkcs1Sha256(RsaKey),
    /// HMAC-SHA256 and MD5 with a secret, as in API v2.
    WechatPayV2(Secret),
}

/// An RSA public key within the policy: see [`KeyError`].
pub(super) struct RsaKey {
    /// The key with all that is worked out of it once: by ring it would be worked out in each verification.
    pub(super) parsed: ParsedPublicKey,
    /// Length of the modulus, and of signatures.
    pub(super) modulus_bytes: usize,
}

/// The key is not one that signatures may be verified with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not one PEM block labelled `PUBLIC KEY`.
    #[error("expected one PEM block labelled PUBLIC KEY")]
    Pem,
    /// Not exactly the DER of a SubjectPublicKeyInfo (RFC 5280, section 4.1).
    #[error("expected the DER of a SubjectPublicKeyInfo and nothing after it")]
    Der,
    /// A key of an algorithm that is not supported.
    #[error("expected an RSA key")]
    Algorithm,
    /// The modulus is too short or too long.
    #[error("expected an RSA modulus of 2048 to 8192 bits, found {bits}")]
    Bits {
        /// Length found, in bits.
        bits: usize,
    },
    /// The modulus is negative, even, or does not fill its bytes.
    #[error("expected a positive, odd RSA modulus whose length in bits is a multiple of 8")]
    Modulus,
    /// The exponent is even, below 65537, or above 32 bits.
    #[error("expected an odd RSA exponent of at least 65537 and at most 32 bits")]
    Exponent,
}

impl VerifyingKey {
    /// Reads a key from the DER of its SubjectPublicKeyInfo (RFC 5280, section 4.1; RFC 3279, section 2.3.1).
    ///
    /// # Errors
    /// [`KeyError`] where it is not one, or not one within the policy.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyError::Der)?;
        if info.algorithm.algorithm != OID_PKCS1_RSAENCRYPTION {
            return Err(KeyError::Algorithm);
        }
        if !info.algorithm.parameters().is_some_and(|parameters| parameters.tag() == Tag::Null) {
            return Err(KeyError::Der);
        }
        let PublicKey::RSA(numbers) = info.parsed().map_err(|_| KeyError::Der)? else {
            return Err(KeyError::Algorithm);
        };
        if der.len() != spki_bytes(&numbers) {
            return Err(KeyError::Der);
        }
        RsaKey::new(der, &numbers).map(Prepared::RsaPkcs1Sha256).map(Arc::new).map(Self)
    }

    /// Reads a key from a PEM block labelled `PUBLIC KEY` (RFC 7468, section 13).
    ///
    /// # Errors
    /// [`KeyError`] where it is not one, or not one within the policy.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let (rest, block) = parse_x509_pem(pem.as_bytes()).map_err(|_| KeyError::Pem)?;
        if block.label != "PUBLIC KEY" || !rest.trim_ascii().is_empty() {
            return Err(KeyError::Pem);
        }
        Self::from_spki_der(&block.contents)
    }

    /// Makes the key of an API v2 secret, and says where its signatures may be made with MD5.
    pub fn wechatpay_v2(secret: [u8; 32], md5: Md5Rule) -> Self {
        Self(Arc::new(Prepared::WechatPayV2(Secret::new(secret, md5))))
    }

    /// Tells whether the key is a secret that merchant and platform share.
    pub fn is_secret(&self) -> bool {
        self.secret().is_some()
    }

    /// Tells whether signatures of this key may be made with the algorithm that a request names; `pays_out` where the
    /// request moves money out.
    pub fn permits(&self, sign_type: Option<SignType>, pays_out: bool) -> bool {
        self.secret().is_none_or(|secret| secret.permits(sign_type, pays_out))
    }

    /// Returns the secret, where the key is one.
    pub(super) fn secret(&self) -> Option<&Secret> {
        match self.prepared() {
            Prepared::RsaPkcs1Sha256(_) => None,
            Prepared::WechatPayV2(secret) => Some(secret),
        }
    }

    /// Returns the length of the key in bits; of the modulus in RSA.
    pub fn bits(&self) -> usize {
        match self.prepared() {
            Prepared::RsaPkcs1Sha256(key) => key.modulus_bytes.saturating_mul(8),
            Prepared::WechatPayV2(_) => SECRET_BITS,
        }
    }

    /// Returns the key in the form that its verification wants.
    pub(super) fn prepared(&self) -> &Prepared {
        &self.0
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = match self.prepared() {
            Prepared::RsaPkcs1Sha256(_) => "RsaPkcs1Sha256",
            Prepared::WechatPayV2(_) => "WechatPayV2",
        };
        formatter.debug_struct("VerifyingKey").field("algorithm", &algorithm).field("bits", &self.bits()).finish()
    }
}

impl RsaKey {
    /// Checks the numbers of a key, and reads it from its DER.
    fn new(der: &[u8], numbers: &RSAPublicKey<'_>) -> Result<Self, KeyError> {
        // DER integers are signed: a positive one whose top bit is set has exactly one zero byte before it.
        let modulus = numbers.modulus.strip_prefix(&[0]).ok_or(KeyError::Modulus)?;
        let bits = modulus.len().saturating_mul(8);
        if !(MODULUS_BITS_MIN..=MODULUS_BITS_MAX).contains(&bits) {
            return Err(KeyError::Bits { bits });
        }
        let fills = modulus.first().is_some_and(|byte| byte & 0x80 != 0);
        let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
        if !fills || !odd(modulus) {
            return Err(KeyError::Modulus);
        }
        let exponent = match numbers.exponent {
            [0, bytes @ ..] if bytes.first() >= Some(&0x80) => bytes,
            bytes if (Some(&1)..Some(&0x80)).contains(&bytes.first()) => bytes,
            _ => return Err(KeyError::Exponent),
        };
        // At least 65537 is: odd, and of three bytes or more, of which the first is not zero.
        if !(EXPONENT_BYTES_MIN..=EXPONENT_BYTES_MAX).contains(&exponent.len()) || !odd(exponent) {
            return Err(KeyError::Exponent);
        }
        let parsed = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).map_err(|_| KeyError::Der)?;
        Ok(Self { parsed, modulus_bytes: modulus.len() })
    }
}

/// Returns the length of the only DER encoding of an RSA key, so that nothing can hide inside or behind it.
fn spki_bytes(numbers: &RSAPublicKey<'_>) -> usize {
    let key = der_bytes(der_bytes(numbers.modulus.len()) + der_bytes(numbers.exponent.len()));
    der_bytes(ALGORITHM_BYTES + der_bytes(1 + key))
}

/// Returns the length in bytes of a DER element with so many bytes of content: tag, length, content.
fn der_bytes(content: usize) -> usize {
    let length = match content {
        0..=0x7f => 1,
        0x80..=0xff => 2,
        0x100..=0xffff => 3,
        _ => 4,
    };
    1 + length + content
}

/// Length of a secret, in bits.
const SECRET_BITS: usize = 256;

/// Shortest RSA modulus, in bits.
const MODULUS_BITS_MIN: usize = 2048;

/// Longest RSA modulus, in bits.
pub(super) const MODULUS_BITS_MAX: usize = 8192;

/// Shortest exponent of at least 65537, in bytes.
const EXPONENT_BYTES_MIN: usize = 3;

/// Longest exponent, in bytes.
const EXPONENT_BYTES_MAX: usize = 4;

/// Length of the DER of `rsaEncryption` with its NULL parameters, in bytes.
const ALGORITHM_BYTES: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes one DER element.
    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).expect("short").to_be_bytes();
        let mut der = vec![tag];
        match content.len() {
            0..=0x7f => der.push(length[1]),
            0x80..=0xff => der.extend([0x81, length[1]]),
            _ => der.extend([0x82, length[0], length[1]]),
        }
        der.extend(content);
        der
    }

    /// Encodes a key of the two integers as they stand.
    fn spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
        let key = element(0x30, &[element(2, modulus), element(2, exponent)].concat());
        let bits = element(3, &[&[0], key.as_slice()].concat());
        element(0x30, &[algorithm(), bits].concat())
    }

    fn algorithm() -> Vec<u8> {
        let oid = element(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]);
        element(0x30, &[oid, element(5, &[])].concat())
    }

    fn modulus(bytes: usize) -> Vec<u8> {
        [vec![0], vec![0xc5; bytes]].concat()
    }

    fn refusal(der: &[u8]) -> Option<KeyError> {
        VerifyingKey::from_spki_der(der).err()
    }

    #[test]
    fn key_takes_moduli_of_2048_to_8192_bits() {
        for bytes in [256, 257, 384, 512, 1024] {
            let key = VerifyingKey::from_spki_der(&spki(&modulus(bytes), &[1, 0, 1]));
            assert_eq!(key.map(|key| key.bits()), Ok(bytes * 8));
        }
        for bytes in [64, 128, 255, 1025] {
            assert_eq!(refusal(&spki(&modulus(bytes), &[1, 0, 1])), Some(KeyError::Bits { bits: bytes * 8 }));
        }
    }

    #[test]
    fn key_refuses_a_modulus_that_is_even_negative_or_short_of_its_bytes() {
        let mut even = modulus(256);
        even[256] = 0xc4;
        let mut short = modulus(256);
        short[1] = 0x45;
        let negative = &even[1..];
        for bad in [&even, &short[1..], negative] {
            assert_eq!(refusal(&spki(bad, &[1, 0, 1])), Some(KeyError::Modulus), "{bad:02x?}");
        }
        let padded = [&[0], even.as_slice()].concat();
        for bad in [&short, &padded] {
            assert_eq!(refusal(&spki(bad, &[1, 0, 1])), Some(KeyError::Der), "{bad:02x?}");
        }
    }

    #[test]
    fn key_refuses_exponents_that_are_small_even_long_negative_or_padded() {
        for good in
            [&[1, 0, 1][..], &[1, 0, 3], &[0, 0x80, 0, 1], &[0x7f, 0xff, 0xff, 0xff], &[0, 0xff, 0xff, 0xff, 0xff]]
        {
            assert_eq!(refusal(&spki(&modulus(256), good)), None, "{good:02x?}");
        }
        let bad = [
            &[0][..],
            &[1],
            &[2],
            &[3],
            &[17],
            &[0, 0xff, 0xff],
            &[1, 0, 0],
            &[1, 0, 2],
            &[0x80, 0, 1],
            &[1, 0, 0, 0, 1],
        ];
        for bad in bad {
            assert_eq!(refusal(&spki(&modulus(256), bad)), Some(KeyError::Exponent), "{bad:02x?}");
        }
        assert_eq!(refusal(&spki(&modulus(256), &[0, 1, 0, 1])), Some(KeyError::Der));
    }

    #[test]
    fn key_refuses_anything_hidden_in_its_encoding() {
        let good = spki(&modulus(256), &[1, 0, 1]);
        assert_eq!(refusal(&[good.as_slice(), &[0]].concat()), Some(KeyError::Der));
        assert_eq!(refusal(&good[..good.len() - 1]), Some(KeyError::Der));
        let numbers = [element(2, &modulus(256)), element(2, &[1, 0, 1])].concat();
        let inside = element(0x30, &[numbers.as_slice(), &element(5, &[])].concat());
        let behind = [element(0x30, &numbers), element(5, &[])].concat();
        for key in [inside, behind] {
            let bits = element(3, &[&[0], key.as_slice()].concat());
            assert_eq!(refusal(&element(0x30, &[algorithm(), bits].concat())), Some(KeyError::Der));
        }
    }

    #[test]
    fn key_refuses_other_algorithms_and_missing_parameters() {
        let bits = element(3, &[&[0], &[4; 65][..]].concat());
        let curve = element(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
        let elliptic = element(0x30, &[element(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]), curve].concat());
        assert_eq!(refusal(&element(0x30, &[elliptic, bits].concat())), Some(KeyError::Algorithm));

        let key = element(0x30, &[element(2, &modulus(256)), element(2, &[1, 0, 1])].concat());
        let bits = element(3, &[&[0], key.as_slice()].concat());
        let bare = element(0x30, &element(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]));
        assert_eq!(refusal(&element(0x30, &[bare, bits].concat())), Some(KeyError::Der));
    }

    #[test]
    fn pem_is_one_block_with_the_label_of_public_keys() {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(spki(&modulus(256), &[1, 0, 1]));
        let block = |label: &str| format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
        let public = block("PUBLIC KEY");
        assert_eq!(VerifyingKey::from_pem(&public).map(|key| key.bits()), Ok(2048));
        assert_eq!(VerifyingKey::from_pem(&block("CERTIFICATE")).err(), Some(KeyError::Pem));
        assert_eq!(VerifyingKey::from_pem(&format!("{public}{public}")).err(), Some(KeyError::Pem));
        assert_eq!(VerifyingKey::from_pem("").err(), Some(KeyError::Pem));
    }
}
