//! Keyed pseudo-random functions: table keys that nobody outside the deployment can steer or predict.

use std::hash::Hasher;

use arrayvec::ArrayVec;
use ring::hmac;
use siphasher::sip128::{Hasher128, SipHasher13};

/// The deployment's secret: 32 bytes from its key file. Every table key is derived from it.
#[derive(Clone)]
pub struct DeploymentKey([u8; DEPLOYMENT_KEY_BYTES]);

impl DeploymentKey {
    /// Takes the secret.
    pub const fn new(bytes: [u8; DEPLOYMENT_KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns what tells the secret from others and tells nothing of it (HMAC-SHA256 of a purpose, first 128 bits).
    pub fn fingerprint(&self) -> [u8; 16] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), b"fingerprint");
        let mut fingerprint = [0; 16];
        fingerprint.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        fingerprint
    }

    /// Derives an independent function for one purpose (HMAC-SHA256 of the purpose, first 128 bits).
    pub fn derive(&self, purpose: &str) -> Prf {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), purpose.as_bytes());
        let mut key = [0; 16];
        key.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        Prf(SipHasher13::new_with_key(&key))
    }
}

impl std::fmt::Debug for DeploymentKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DeploymentKey(..)")
    }
}

/// SipHash-1-3 with a 128-bit result (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012), keyed for one purpose.
#[derive(Clone)]
pub struct Prf(SipHasher13);

impl Prf {
    /// Digests a sequence of parts. Each part is preceded by its length, so no two sequences share an encoding.
    pub fn digest(&self, parts: &[&[u8]]) -> u128 {
        let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut hasher = self.0;
        let mut joined: ArrayVec<u8, JOINED_BYTES_MAX> = ArrayVec::new();
        // PERF: the hasher is slow on many short writes and sees the same bytes in one; where they do not fit, in many.
        // The length is copied by itself, since four bytes known to be four are one move.
        let fits = parts.iter().all(|part| {
            joined.try_extend_from_slice(&length(part)).is_ok() && joined.try_extend_from_slice(part).is_ok()
        });
        if fits {
            hasher.write(&joined);
        } else {
            for part in parts {
                hasher.write(&length(part));
                hasher.write(part);
            }
        }
        hasher.finish128().as_u128()
    }
}

impl std::fmt::Debug for Prf {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Prf(..)")
    }
}

/// Most bytes that are joined before they are hashed; the parts of every table key fit.
const JOINED_BYTES_MAX: usize = 512;

/// Length of the deployment's secret, in bytes.
pub const DEPLOYMENT_KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_two_purposes_or_two_deployments_differ() {
        let key = DeploymentKey::new([7; DEPLOYMENT_KEY_BYTES]);
        let parts: &[&[u8]] = &[b"limit", b"subject"];
        assert_eq!(key.derive("rows").digest(parts), key.derive("rows").digest(parts));
        assert_ne!(key.derive("rows").digest(parts), key.derive("nonces").digest(parts));
        let other = DeploymentKey::new([8; DEPLOYMENT_KEY_BYTES]);
        assert_ne!(key.derive("rows").digest(parts), other.derive("rows").digest(parts));
    }

    #[test]
    fn long_parts_are_digested_like_short_ones() {
        let prf = DeploymentKey::new([7; DEPLOYMENT_KEY_BYTES]).derive("rows");
        let digests: std::collections::HashSet<_> =
            (500..520).map(|length| prf.digest(&[b"a", vec![b'b'; length].as_slice()])).collect();
        assert_eq!(digests.len(), 20);
        let (mut streamed, long) = (prf.0, [b'b'; 600]);
        [1_u32.to_le_bytes().as_slice(), b"a", &600_u32.to_le_bytes(), &long]
            .iter()
            .for_each(|part| streamed.write(part));
        assert_eq!(prf.digest(&[b"a", &long]), streamed.finish128().as_u128());
    }

    #[test]
    fn a_boundary_between_parts_counts() {
        let prf = DeploymentKey::new([7; DEPLOYMENT_KEY_BYTES]).derive("rows");
        assert_ne!(prf.digest(&[b"ab", b"c"]), prf.digest(&[b"a", b"bc"]));
        assert_ne!(prf.digest(&[b"ab"]), prf.digest(&[b"ab", b""]));
    }
}
