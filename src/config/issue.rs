//! Makes keys and certificates in the forms that the payment platform uses: for `init`, demonstrations and tests.
//!
//! COLD. A real deployment brings its own; nothing here is called while the gate serves.

use std::time::Duration;

use rand::CryptoRng;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
    RevokedCertParams, RsaKeySize, SerialNumber,
};

use ::time::OffsetDateTime;

use crate::time::UnixMillis;
use crate::types::{Invalid, KeyId, MerchantId};

/// An authority of its own, which issues the certificates of merchants, of the platform and of TLS servers.
pub struct Issuer {
    authority: CertifiedIssuer<'static, KeyPair>,
    now: UnixMillis,
}

/// A certificate and the private key that belongs to it.
pub struct Issued {
    /// The serial number: 40 hexadecimal digits.
    pub serial: KeyId,
    /// The certificate, in PEM.
    pub certificate_pem: String,
    /// The certificate, in DER.
    pub certificate_der: Vec<u8>,
    /// The private key, in PEM (PKCS#8). A secret.
    pub private_key_pem: String,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Issuer").field("now", &self.now).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Issued").field("serial", &self.serial).finish_non_exhaustive()
    }
}

/// A key or certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The library refused.
    #[error("a key or certificate could not be made: {0}")]
    Library(#[from] rcgen::Error),
    /// An identity does not have its form.
    #[error("an identity does not have its form: {0}")]
    Identity(#[from] Invalid),
    /// The instant is not one that a certificate can state.
    #[error("the clock stands before 1970 or beyond what a certificate can state")]
    Clock,
}

impl Issuer {
    /// Makes an authority with a new RSA-2048 key, valid for ten years; all validities begin the day before `now`.
    ///
    /// # Errors
    /// [`IssueError`] where the key or the certificate cannot be made.
    pub fn new(random: &mut dyn CryptoRng, now: UnixMillis) -> Result<Self, IssueError> {
        let subject = name(&[
            (DnType::CommonName, "Tollgate Sample Root CA"),
            (DnType::OrganizationalUnitName, "Tollgate CA Center"),
            (DnType::OrganizationName, "Tollgate"),
            (DnType::CountryName, "CN"),
        ]);
        let (_, mut params) = params(subject, random, now, 3652)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self { authority: CertifiedIssuer::self_signed(params, rsa_key()?)?, now })
    }

    /// Returns the authority's certificate, in PEM.
    pub fn certificate_pem(&self) -> String {
        self.authority.pem()
    }

    /// Returns the authority's private key, in PEM (PKCS#8). A secret.
    pub fn private_key_pem(&self) -> String {
        self.authority.key().serialize_pem()
    }

    /// Issues a merchant's API certificate: RSA-2048, subject CN the merchant, five years.
    ///
    /// # Errors
    /// [`IssueError`] where the key or the certificate cannot be made.
    pub fn issue_merchant(&self, random: &mut dyn CryptoRng, merchant: MerchantId) -> Result<Issued, IssueError> {
        let subject = name(&[
            (DnType::CommonName, merchant.as_str()),
            (DnType::OrganizationName, "微信商户系统"),
            (DnType::OrganizationalUnitName, "Sample Merchant"),
            (DnType::LocalityName, "Shenzhen"),
            (DnType::CountryName, "CN"),
        ]);
        self.issue(rsa_key()?, params(subject, random, self.now, 1826)?)
    }

    /// Issues a platform certificate, with whose key answers are signed: RSA-2048, five years.
    ///
    /// # Errors
    /// [`IssueError`] where the key or the certificate cannot be made.
    pub fn issue_platform(&self, random: &mut dyn CryptoRng) -> Result<Issued, IssueError> {
        let subject = name(&[
            (DnType::CommonName, "Tenpay.com sign"),
            (DnType::OrganizationalUnitName, "Tenpay.com CA Center"),
            (DnType::OrganizationName, "Tenpay.com"),
            (DnType::LocalityName, "Shenzhen"),
            (DnType::CountryName, "CN"),
        ]);
        self.issue(rsa_key()?, params(subject, random, self.now, 1826)?)
    }

    /// Issues a TLS server certificate for host names and addresses: P-256, one year. The first name is the subject CN.
    ///
    /// # Errors
    /// [`IssueError`] where a name is neither, or the key or the certificate cannot be made.
    pub fn issue_server(&self, random: &mut dyn CryptoRng, names: &[&str]) -> Result<Issued, IssueError> {
        let subject = name(&[(DnType::CommonName, names.first().copied().unwrap_or("localhost"))]);
        let (serial, mut params) = params(subject, random, self.now, 365)?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?, (serial, params))
    }

    /// Makes a revocation list, in PEM: thisUpdate the day before, nextUpdate in so many days.
    ///
    /// # Errors
    /// [`IssueError`] where a key id is no serial, or the list cannot be made.
    pub fn revocation_list(&self, number: u64, revoked: &[KeyId], days: u64) -> Result<String, IssueError> {
        let today = today(self.now)?;
        let this_update = instant(today.saturating_sub(DAY_S))?;
        let entry = |id: &KeyId| {
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from(octets(id)?),
                revocation_time: this_update,
                reason_code: None,
                invalidity_date: None,
            })
        };
        let params = CertificateRevocationListParams {
            this_update,
            next_update: instant(today.saturating_add(days.saturating_mul(DAY_S)))?,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect::<Result<_, IssueError>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.authority)?.pem()?)
    }

    fn issue(&self, key: KeyPair, (serial, mut params): (KeyId, CertificateParams)) -> Result<Issued, IssueError> {
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
        let certificate = params.signed_by(&key, &self.authority)?;
        Ok(Issued {
            serial,
            certificate_pem: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            private_key_pem: key.serialize_pem(),
        })
    }
}

fn rsa_key() -> Result<KeyPair, IssueError> {
    Ok(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?)
}

fn name(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    parts.iter().for_each(|(kind, value)| name.push(kind.clone(), *value));
    name
}

/// Begins a certificate: subject, a random serial number, and a validity from the day before `now`.
fn params(
    subject: DistinguishedName,
    random: &mut dyn CryptoRng,
    now: UnixMillis,
    days: u64,
) -> Result<(KeyId, CertificateParams), IssueError> {
    let mut serial = [0; SERIAL_BYTES];
    random.fill_bytes(&mut serial);
    // Positive (RFC 5280, 4.1.2.2) and of full length: the highest bit clear, the next one set.
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x7F | 0x40;
    }
    let digits: String = serial.iter().map(|byte| format!("{byte:02X}")).collect();
    let id = digits.parse()?;
    let today = today(now)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = instant(today.saturating_sub(DAY_S))?;
    params.not_after = instant(today.saturating_add(days * DAY_S))?;
    Ok((id, params))
}

/// Returns the beginning of the day, in seconds since the epoch.
fn today(now: UnixMillis) -> Result<u64, IssueError> {
    Ok(u64::try_from(now.seconds()).map_err(|_| IssueError::Clock)? / DAY_S * DAY_S)
}

fn instant(seconds: u64) -> Result<OffsetDateTime, IssueError> {
    let since = Duration::from_secs(seconds).try_into().map_err(|_| IssueError::Clock)?;
    rcgen::date_time_ymd(1970, 1, 1).checked_add(since).ok_or(IssueError::Clock)
}

/// Reads the octets of a serial number.
fn octets(serial: &KeyId) -> Result<Vec<u8>, IssueError> {
    let digits = format!("{}{serial}", if serial.as_str().len().is_multiple_of(2) { "" } else { "0" });
    let octet = |index: usize| {
        let two = digits.get(index..index.saturating_add(2)).unwrap_or_default();
        u8::from_str_radix(two, 16).map_err(|_| Invalid { expected: "a serial number in hexadecimal" }.into())
    };
    (0..digits.len()).step_by(2).map(octet).collect()
}

/// Length of a serial number: the longest that RFC 5280 allows, as the platform's are.
const SERIAL_BYTES: usize = 20;

const DAY_S: u64 = 24 * 60 * 60;
