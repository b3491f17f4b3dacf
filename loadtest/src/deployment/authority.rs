//! Who issues the merchants' certificates. It signs with a key for load, too: a thousand certificates take no time.

use std::time::Duration;

use rand::Rng;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyUsagePurpose, PKCS_RSA_SHA256,
    PublicKeyData, SerialNumber, SignatureAlgorithm, SigningKey,
};
use tollgate::time::UnixMillis;

use super::DeploymentError;
use crate::keys::LoadKey;

/// An authority with a new key.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, AuthorityKey>,
    now: UnixMillis,
}

/// A certificate.
pub(super) struct Issued {
    /// The serial number: 40 hexadecimal digits.
    pub serial: String,
    /// The certificate, in PEM.
    pub certificate_pem: String,
}

impl Authority {
    /// Makes an authority. All validities begin the day before `now`.
    pub fn new(random: &mut impl Rng, now: UnixMillis) -> Result<Self, DeploymentError> {
        let (_, mut params) = params("Load Root CA", random, now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = LoadKey::generate(AUTHORITY_PRIMES, random);
        let key = AuthorityKey { public: PublicKey(key.public_key_der()), key };
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, key)?, now })
    }

    /// Returns the authority's certificate, in PEM.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a merchant's API certificate.
    pub fn issue(&self, mchid: &str, key: &LoadKey, random: &mut impl Rng) -> Result<Issued, DeploymentError> {
        let (serial, mut params) = params(mchid, random, self.now)?;
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
        let certificate = params.signed_by(&PublicKey(key.public_key_der()), &self.issuer)?;
        Ok(Issued { serial, certificate_pem: certificate.pem() })
    }
}

/// A public key, an `RSAPublicKey` in DER.
struct PublicKey(Vec<u8>);

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

struct AuthorityKey {
    key: LoadKey,
    public: PublicKey,
}

impl PublicKeyData for AuthorityKey {
    fn der_bytes(&self) -> &[u8] {
        self.public.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.public.algorithm()
    }
}

impl SigningKey for AuthorityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.key.sign(message).to_vec())
    }
}

/// Begins a certificate: subject, a random serial number, and five years from the day before `now`.
fn params(
    common_name: &str,
    random: &mut impl Rng,
    now: UnixMillis,
) -> Result<(String, CertificateParams), DeploymentError> {
    let mut serial = [0; SERIAL_BYTES];
    random.fill_bytes(&mut serial);
    // Positive (RFC 5280, 4.1.2.2) and of full length: the highest bit clear, the next one set.
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x7F | 0x40;
    }
    let today = u64::try_from(now.seconds()).map_err(|_| DeploymentError::Clock)? / DAY_S * DAY_S;
    let instant = |seconds| {
        let since = Duration::from_secs(seconds).try_into().map_err(|_| DeploymentError::Clock)?;
        rcgen::date_time_ymd(1970, 1, 1).checked_add(since).ok_or(DeploymentError::Clock)
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = instant(today.saturating_sub(DAY_S))?;
    params.not_after = instant(today.saturating_add(VALID_DAYS * DAY_S))?;
    Ok((serial.iter().map(|byte| format!("{byte:02X}")).collect(), params))
}

/// Length of a serial number: the longest that RFC 5280 allows.
const SERIAL_BYTES: usize = 20;

const DAY_S: u64 = 24 * 60 * 60;

const VALID_DAYS: u64 = 1826;

/// Primes of the authority's key: as many as there can be, it signs once a merchant.
const AUTHORITY_PRIMES: usize = 16;
