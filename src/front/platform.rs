//! The platform's own keys, and the bodies that the gate answers itself.
//!
//! A key is a certificate or a bare public key, each with the private key that signs answers. What is published of a
//! certificate is re-encoded from its DER, so nothing else that stood in the same file can leave with it. Cold: keys
//! are read at start and at a reload.

mod certificates;

#[cfg(test)]
pub(super) mod tests;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::reason::Reason;
use crate::time::UnixMillis;
use crate::types::{KeyId, PUBLIC_KEY_PREFIX};

pub(super) use certificates::beijing_time;

/// Refuses a key of the platform, or a set of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// The PEM holds no private key.
    #[error("platform key {0}: expected PEM with a section PRIVATE KEY or RSA PRIVATE KEY")]
    PrivateKeyUnreadable(KeyId),
    /// The private key is of another kind, too short or inconsistent.
    #[error("platform key {0}: expected a consistent RSA private key of 2048 to 8192 bits")]
    PrivateKeyRejected(KeyId),
    /// The private key belongs to another certificate.
    #[error("platform key {0}: the private key does not belong to the certificate")]
    PrivateKeyMismatch(KeyId),
    /// The PEM holds no certificate, or more than one, or one that cannot be read.
    #[error("platform key {0}: expected PEM with one X.509 certificate of at most {CERTIFICATE_BYTES_MAX} bytes")]
    CertificateUnreadable(KeyId),
    /// The certificate has another serial or key than was stated.
    #[error("platform key {0}: the certificate has another serial number or public key than stated")]
    CertificateMismatch(KeyId),
    /// The validity ends before it begins.
    #[error("platform key {0}: the validity ends before it begins")]
    ValidityEmpty(KeyId),
    /// A bare public key has a certificate's id.
    #[error("platform key {0}: expected the id of a public key to begin with {PUBLIC_KEY_PREFIX}")]
    PublicKeyIdInvalid(KeyId),
    /// Two keys have one id.
    #[error("platform key {0} is there twice")]
    Duplicate(KeyId),
    /// The default is not among the keys.
    #[error("the default platform key {0} is not among the platform keys")]
    DefaultUnknown(KeyId),
    /// There are too many keys.
    #[error("{count} platform keys: expected at most {PLATFORM_KEYS_MAX}")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// A key that the platform signs answers with.
pub struct PlatformKey {
    id: KeyId,
    serial: String,
    kind: PlatformKeyKind,
    signer: RsaKeyPair,
}

/// What a client verifies a platform key's signatures with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlatformKeyKind {
    /// A certificate, which clients download.
    Certificate {
        /// The certificate, and nothing else.
        pem: String,
        /// First instant of validity.
        not_before: UnixMillis,
        /// Last instant of validity.
        not_after: UnixMillis,
    },
    /// A bare public key, which merchants get out of band; it has no end.
    PublicKey,
}

impl PlatformKey {
    /// Makes a key of a certificate and its private key (PKCS#8 or PKCS#1). `expected_spki_der` is the
    /// SubjectPublicKeyInfo that was checked along with the validity.
    ///
    /// # Errors
    /// [`PlatformError`] where the parts are unreadable or do not belong together.
    pub fn certificate(
        id: KeyId,
        certificate_pem: &str,
        not_before: UnixMillis,
        not_after: UnixMillis,
        private_key_pem: &str,
        expected_spki_der: &[u8],
    ) -> Result<Self, PlatformError> {
        let der = only_certificate(certificate_pem).ok_or(PlatformError::CertificateUnreadable(id))?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| PlatformError::CertificateUnreadable(id))?;
        let serial = whole_bytes_hex(certificate.raw_serial());
        let spki = certificate.public_key();
        if serial.parse() != Ok(id) || spki.raw != expected_spki_der {
            return Err(PlatformError::CertificateMismatch(id));
        }
        if not_after < not_before {
            return Err(PlatformError::ValidityEmpty(id));
        }
        let signer = rsa_key_pair(id, private_key_pem)?;
        if signer.public_key().as_ref() != &*spki.subject_public_key.data {
            return Err(PlatformError::PrivateKeyMismatch(id));
        }
        Ok(Self { id, serial, kind: PlatformKeyKind::Certificate { pem: pem(&der), not_before, not_after }, signer })
    }

    /// Makes a key of a bare private key (PKCS#8 or PKCS#1), whose public half merchants have.
    ///
    /// # Errors
    /// [`PlatformError`] where the id is a certificate's or the key is unreadable.
    pub fn public_key(id: KeyId, private_key_pem: &str) -> Result<Self, PlatformError> {
        if !id.as_str().starts_with(PUBLIC_KEY_PREFIX) {
            return Err(PlatformError::PublicKeyIdInvalid(id));
        }
        let signer = rsa_key_pair(id, private_key_pem)?;
        Ok(Self { id, serial: id.as_str().to_owned(), kind: PlatformKeyKind::PublicKey, signer })
    }

    /// Returns the id, normalised.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// Returns what `Wechatpay-Serial` says: a serial as whole bytes in upper-case hexadecimal, so with the leading
    /// zero that [`KeyId`] drops and clients compare, or a public key's id.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Returns what clients verify with.
    pub const fn kind(&self) -> &PlatformKeyKind {
        &self.kind
    }

    /// Signs an answer: RSASSA-PKCS1-v1_5 with SHA-256 over timestamp, nonce and body, each ended by LF. `None` where
    /// the library fails. Never on a worker.
    // PERF: aws-lc-rs signs 300 bytes in 273-328 us where ring takes 505-681 us (RSA-2048, same core, five rounds of
    // 1000); the price is the C library that is linked already.
    pub fn sign(&self, timestamp: &str, nonce: &str, body: &[u8]) -> Option<Vec<u8>> {
        let mut context = digest::Context::new(&digest::SHA256);
        answer_message(timestamp, nonce, body).iter().for_each(|part| context.update(part));
        let mut signature = vec![0; self.signer.public_modulus_len()];
        self.signer.sign_digest(&RSA_PKCS1_SHA256, &context.finish(), &mut signature).ok()?;
        Some(signature)
    }
}

impl fmt::Debug for PlatformKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PlatformKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// All keys that answers may be signed with, and the one that signs unless another is asked for.
#[derive(Clone, Debug)]
pub struct PlatformKeys {
    keys: Vec<Arc<PlatformKey>>,
    default: Arc<PlatformKey>,
}

impl PlatformKeys {
    /// Makes a set of at most [`PLATFORM_KEYS_MAX`] keys.
    ///
    /// # Errors
    /// [`PlatformError`] where there are more, two have one id, or the default is not among them.
    pub fn new(keys: Vec<PlatformKey>, default: KeyId) -> Result<Self, PlatformError> {
        if keys.len() > PLATFORM_KEYS_MAX {
            return Err(PlatformError::TooMany { count: keys.len() });
        }
        let mut distinct: Vec<Arc<PlatformKey>> = Vec::with_capacity(keys.len());
        for key in keys {
            if distinct.iter().any(|other| other.id == key.id) {
                return Err(PlatformError::Duplicate(key.id));
            }
            distinct.push(Arc::new(key));
        }
        let default = find(&distinct, default).ok_or(PlatformError::DefaultUnknown(default))?.clone();
        Ok(Self { keys: distinct, default })
    }

    /// Iterates over all keys, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<PlatformKey>> {
        self.keys.iter()
    }

    /// Tells whether a key of this id is there, so that a merchant may name it as its own default.
    pub fn contains(&self, id: KeyId) -> bool {
        find(&self.keys, id).is_some()
    }

    /// Chooses the key that signs an answer: the one that the request asks for in `Wechatpay-Serial`, else the
    /// merchant's default, else the platform's. A merchant's default that is not there counts as none.
    ///
    /// # Errors
    /// [`Reason::PlatformKeyUnknown`] where the request asks for a key that is not there.
    pub fn choose(
        &self,
        requested: Option<&str>,
        merchant_default: Option<KeyId>,
    ) -> Result<&Arc<PlatformKey>, Reason> {
        match requested {
            Some(text) => {
                let id = text.parse().map_err(|_| Reason::PlatformKeyUnknown)?;
                find(&self.keys, id).ok_or(Reason::PlatformKeyUnknown)
            }
            None => Ok(merchant_default.and_then(|id| find(&self.keys, id)).unwrap_or(&self.default)),
        }
    }
}

/// Writes the answer to `POST /v3/security/echo`: `echo_message` as it was sent, empty where there was none to be read.
pub fn echo_body(request_body: &[u8]) -> Vec<u8> {
    #[derive(Default, Serialize, Deserialize)]
    struct Echo {
        echo_message: String,
    }
    let echo: Echo = serde_json::from_slice(request_body).unwrap_or_default();
    // One string always serialises.
    serde_json::to_vec(&echo).unwrap_or_default()
}

/// Lists the parts of the message that an answer's signature covers.
fn answer_message<'a>(timestamp: &'a str, nonce: &'a str, body: &'a [u8]) -> [&'a [u8]; 6] {
    [timestamp.as_bytes(), b"\n", nonce.as_bytes(), b"\n", body, b"\n"]
}

fn find(keys: &[Arc<PlatformKey>], id: KeyId) -> Option<&Arc<PlatformKey>> {
    keys.iter().find(|key| key.id == id)
}

fn rsa_key_pair(id: KeyId, private_key_pem: &str) -> Result<RsaKeyPair, PlatformError> {
    let der = PrivateKeyDer::from_pem_slice(private_key_pem.as_bytes())
        .map_err(|_| PlatformError::PrivateKeyUnreadable(id))?;
    match &der {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        // Elliptic curves, and whatever the library adds later.
        _ => return Err(PlatformError::PrivateKeyRejected(id)),
    }
    .map_err(|_| PlatformError::PrivateKeyRejected(id))
}

fn only_certificate(pem: &str) -> Option<CertificateDer<'static>> {
    let mut sections = CertificateDer::pem_slice_iter(pem.as_bytes());
    let first = sections.next()?.ok()?;
    (sections.next().is_none() && first.len() <= CERTIFICATE_BYTES_MAX).then_some(first)
}

/// Writes a certificate as PEM, without a final line break as the live service does.
fn pem(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for (index, character) in base64.chars().enumerate() {
        if index > 0 && index % PEM_LINE_CHARS == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END CERTIFICATE-----");
    pem
}

/// Writes an INTEGER's bytes in upper-case hexadecimal, without the byte that only carries its sign.
fn whole_bytes_hex(integer: &[u8]) -> String {
    let bytes = integer.strip_prefix(&[0]).unwrap_or(integer);
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Most keys of the platform.
pub const PLATFORM_KEYS_MAX: usize = 16;

/// Longest certificate of the platform, DER, in bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

const PEM_LINE_CHARS: usize = 64;
