//! `GET /v3/certificates`: the platform's certificates, sealed under the merchant's APIv3 key.
//!
//! AES-256-GCM (RFC 5116, AEAD_AES_256_GCM): the nonce is twelve ASCII characters used as they are, the tag follows the
//! ciphertext.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::Offset;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::Serialize;

use super::{PlatformKey, PlatformKeyKind, PlatformKeys};
use crate::reason::Reason;
use crate::time::UnixMillis;

impl PlatformKeys {
    /// Writes the body of `GET /v3/certificates` for the merchant with this APIv3 key: each certificate whose validity
    /// is not over at `now`, those that are yet to begin included, so that clients have them in time.
    ///
    /// `nonces` gives a fresh random nonce for each; letters and digits are used as they are, another byte is turned
    /// into one. `algorithm` is the query's `algorithm_type`; there is no SM2 certificate, so that list is empty.
    ///
    /// # Errors
    /// [`Reason::NoPlatformCertificate`] where there is none, [`Reason::ParameterInvalid`] where the algorithm is
    /// not one.
    pub fn certificates_body(
        &self,
        apiv3_key: &[u8; 32],
        nonces: &mut dyn FnMut() -> [u8; NONCE_LEN],
        now: UnixMillis,
        algorithm: Option<&str>,
    ) -> Result<Vec<u8>, Reason> {
        match algorithm {
            None | Some("RSA" | "ALL") => {}
            Some("SM2") => return Ok(body(&[])),
            Some(_) => return Err(Reason::ParameterInvalid),
        }
        let key = UnboundKey::new(&AES_256_GCM, apiv3_key).map_err(|_| Reason::NoPlatformCertificate)?;
        let key = LessSafeKey::new(key);
        let in_force = self.iter().filter_map(|platform_key| Certificate::in_force(platform_key, now));
        // Sealing fails on lengths alone, and certificates are bounded far below.
        let rows: Vec<Row> = in_force.filter_map(|certificate| certificate.sealed(&key, ascii(nonces()))).collect();
        if rows.is_empty() { Err(Reason::NoPlatformCertificate) } else { Ok(body(&rows)) }
    }
}

/// A certificate to be listed.
pub(super) struct Certificate<'a> {
    pub(super) serial: &'a str,
    pub(super) pem: &'a str,
    pub(super) not_before: UnixMillis,
    pub(super) not_after: UnixMillis,
}

impl<'a> Certificate<'a> {
    fn in_force(key: &'a PlatformKey, now: UnixMillis) -> Option<Self> {
        match key.kind() {
            PlatformKeyKind::Certificate { pem, not_before, not_after } if now <= *not_after => {
                Some(Self { serial: key.serial(), pem, not_before: *not_before, not_after: *not_after })
            }
            PlatformKeyKind::Certificate { .. } | PlatformKeyKind::PublicKey => None,
        }
    }

    pub(super) fn sealed(&self, key: &LessSafeKey, nonce: [u8; NONCE_LEN]) -> Option<Row> {
        let mut sealed = self.pem.as_bytes().to_vec();
        let aad = Aad::from(ASSOCIATED_DATA);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        Some(Row {
            serial_no: self.serial.to_owned(),
            effective_time: beijing_time(self.not_before),
            expire_time: beijing_time(self.not_after),
            encrypt_certificate: Sealed {
                algorithm: "AEAD_AES_256_GCM",
                nonce: std::str::from_utf8(&nonce).ok()?.to_owned(),
                associated_data: ASSOCIATED_DATA,
                ciphertext: STANDARD.encode(sealed),
            },
        })
    }
}

/// One certificate in the answer.
#[derive(Serialize)]
pub(super) struct Row {
    serial_no: String,
    effective_time: String,
    expire_time: String,
    encrypt_certificate: Sealed,
}

#[derive(Serialize)]
struct Sealed {
    algorithm: &'static str,
    nonce: String,
    associated_data: &'static str,
    ciphertext: String,
}

pub(super) fn body(data: &[Row]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        data: &'a [Row],
    }
    // Strings always serialise.
    serde_json::to_vec(&Body { data }).unwrap_or_default()
}

/// Writes an instant as the platform does: RFC 3339, whole seconds, `+08:00`.
///
/// An instant outside the years -9999 to 9999 reads as the nearest inside; certificates without an end use year 9999.
pub(in crate::front) fn beijing_time(instant: UnixMillis) -> String {
    let nearest = if instant.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
    let timestamp = Timestamp::from_second(instant.seconds()).unwrap_or(nearest);
    timestamp.to_zoned(BEIJING.to_time_zone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

fn ascii(nonce: [u8; NONCE_LEN]) -> [u8; NONCE_LEN] {
    nonce.map(|byte| if byte.is_ascii_alphanumeric() { byte } else { b'A' + byte % 26 })
}

const ASSOCIATED_DATA: &str = "certificate";
const BEIJING: Offset = jiff::tz::offset(8);
