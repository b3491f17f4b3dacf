//! The verification of a batch of signatures, and the proof that one held.
//!
//! HOT. The promise leans one way: a verdict is never [`Verified`] unless the key's owner signed exactly those bytes.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::{MODULUS_BITS_MAX, Prepared, RsaKey, VerifyingKey};
use super::secret::{Secret, SignType};
use super::{Extracted, Message};
use crate::types::{KeyId, MerchantId};

/// Proves that a signature held under the key that was looked up for the merchant.
#[derive(Debug)]
pub struct Verified {
    merchant: MerchantId,
    key: KeyId,
    digest: u128,
}

impl Verified {
    /// Returns who signed.
    pub fn merchant(&self) -> MerchantId {
        self.merchant
    }

    /// Returns with which key.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// Returns 128 bits that stand for the key and all bytes signed: of the SHA-256 of the signature's bytes, which are
    /// deterministic and were valid; or, where the key is a secret, of that of the message and the secret.
    pub fn digest(&self) -> u128 {
        self.digest
    }
}

/// The signature does not verify: it is another's, of other bytes, or no signature at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct Invalid;

/// One signature to verify.
#[derive(Clone, Copy, Debug)]
pub struct Job<'k, 'r> {
    /// The key registered for the merchant and the key id that the request claims; the caller looked it up.
    pub key: &'k VerifyingKey,
    /// What the request claims.
    pub extracted: &'r Extracted<'r>,
}

/// Verifies batches; keeps its buffers from one to the next.
#[derive(Debug, Default)]
pub struct Verifier {
    message: Vec<u8>,
}

impl Verifier {
    /// Makes a verifier with empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells whether one signature verifies.
    pub fn holds(&mut self, job: &Job<'_, '_>) -> bool {
        self.verify_one(job).is_ok()
    }

    /// Decides the whole batch: `verdicts` afterwards holds one verdict per job, in order, and nothing else.
    pub fn verify(&mut self, jobs: &[Job<'_, '_>], verdicts: &mut Vec<Result<Verified, Invalid>>) {
        verdicts.clear();
        verdicts.extend(jobs.iter().map(|job| self.verify_one(job)));
    }

    fn verify_one(&mut self, job: &Job<'_, '_>) -> Result<Verified, Invalid> {
        let Extracted { merchant, key, signature, sign_type, ref message, .. } = *job.extracted;
        let digest = match (job.key.prepared(), sign_type) {
            (Prepared::RsaPkcs1Sha256(key), None) => self.verify_rsa(key, signature, message)?,
            (Prepared::WechatPayV2(secret), Some(sign_type)) => {
                self.verify_secret(secret, sign_type, signature, message)?
            }
            // A key of one scheme verifies nothing of another.
            (Prepared::RsaPkcs1Sha256(_), Some(_)) | (Prepared::WechatPayV2(_), None) => return Err(Invalid),
        };
        Ok(Verified { merchant, key, digest })
    }

    fn verify_secret(
        &mut self,
        secret: &Secret,
        sign_type: SignType,
        signature: &str,
        message: &Message<'_>,
    ) -> Result<u128, Invalid> {
        self.join(message);
        secret.append_to(&mut self.message);
        if !secret.holds(sign_type, &self.message, signature) {
            return Err(Invalid);
        }
        let digest = digest::digest(&digest::SHA256, &self.message);
        digest.as_ref().first_chunk().copied().map(u128::from_be_bytes).ok_or(Invalid)
    }

    fn verify_rsa(&mut self, key: &RsaKey, signature: &str, message: &Message<'_>) -> Result<u128, Invalid> {
        // RFC 8017, section 8.2.2. Step 1: the signature is as long as the modulus.
        let mut buffer = [0; SIGNATURE_BYTES_MAX + BASE64_SLACK_BYTES];
        let length = STANDARD.decode_slice(signature, &mut buffer).map_err(|_| Invalid)?;
        let signature = buffer.get(..length).filter(|bytes| bytes.len() == key.modulus_bytes).ok_or(Invalid)?;
        // Steps 2 to 4; the encoded message is compared whole, never parsed.
        let signed = digest::digest(&digest::SHA256, self.join(message));
        key.parsed.verify_digest_sig(&signed, signature).map_err(|_| Invalid)?;
        let digest = digest::digest(&digest::SHA256, signature);
        digest.as_ref().first_chunk().copied().map(u128::from_be_bytes).ok_or(Invalid)
    }

    /// Returns the parts of the message one behind the other.
    fn join(&mut self, message: &Message<'_>) -> &[u8] {
        self.message.clear();
        message.append_to(&mut self.message);
        &self.message
    }
}

/// Longest signature, in bytes.
const SIGNATURE_BYTES_MAX: usize = MODULUS_BITS_MAX / 8;

/// What the decoder may ask for beyond the bytes that it writes: it does not count the padding.
const BASE64_SLACK_BYTES: usize = 2;
