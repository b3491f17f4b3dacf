//! One certificate, read strictly: what must hold of any, whoever it belongs to.

use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::nom::Parser;
use x509_parser::oid_registry::{
    OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_X509_COMMON_NAME,
};
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo, X509Version};

use super::extensions::Extensions;
use super::{CERTIFICATE_BYTES_MAX, Error, SERIAL_OCTETS_MAX, der, shape};
use crate::time::UnixMillis;
use crate::types::{KeyId, MerchantId};

/// A serial number or the number of a list: an unsigned integer, the most significant octet first.
pub(super) type Serial = [u8; SERIAL_OCTETS_MAX];

/// A certificate of strict form with a proper serial, one algorithm, dates in order and no extension twice.
#[derive(Clone, Debug)]
pub(super) struct Certificate<'a> {
    x509: X509Certificate<'a>,
    pub(super) extensions: Extensions<'a>,
    pub(super) serial: KeyId,
    pub(super) not_before: UnixMillis,
    pub(super) not_after: UnixMillis,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate.
    pub(super) fn read(der: &'a [u8]) -> Result<Self, Error> {
        check_form(der)?;
        // Extensions are parsed one by one where they are needed; the others are left alone.
        let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
        let (_, x509) = parser.parse(der).map_err(|_| Error::Malformed)?;
        check_version_known(&x509)?;
        if x509.signature != x509.signature_algorithm {
            return Err(Error::SignatureAlgorithmMismatch);
        }
        let serial = serial(x509.raw_serial())?;
        let not_before = UnixMillis::from_seconds(x509.validity().not_before.timestamp());
        let not_after = UnixMillis::from_seconds(x509.validity().not_after.timestamp());
        if not_after < not_before {
            return Err(Error::ValidityReversed);
        }
        let extensions = Extensions::read(x509.extensions())?;
        Ok(Self { x509, extensions, serial, not_before, not_after })
    }

    /// Checks that the certificate is of version 3, so that its extensions say what it is for.
    pub(super) fn check_version(&self) -> Result<(), Error> {
        if self.x509.version() == X509Version::V3 { Ok(()) } else { Err(Error::Version) }
    }

    /// Checks that the certificate was signed in a way that cannot be forged today.
    pub(super) fn check_signature_algorithm(&self) -> Result<(), Error> {
        check_signature_algorithm(&self.x509.signature_algorithm)
    }

    /// Checks that a key made the signature.
    pub(super) fn check_signed_by(&self, key: &SubjectPublicKeyInfo<'_>) -> Result<(), Error> {
        // The parser ignores a count of unused bits, which would be a second encoding of one signature.
        if self.x509.signature_value.unused_bits != 0 {
            return Err(Error::Signature);
        }
        self.x509.verify_signature(Some(key)).map_err(|_| Error::Signature)
    }

    /// Returns the merchant that the subject names.
    pub(super) fn merchant(&self) -> Result<MerchantId, Error> {
        let mut names = self.x509.subject().iter_attributes().filter(|name| *name.attr_type() == OID_X509_COMMON_NAME);
        let (Some(name), None) = (names.next(), names.next()) else { return Err(Error::Subject) };
        if !matches!(name.attr_value().tag(), Tag::Utf8String | Tag::PrintableString) {
            return Err(Error::Subject);
        }
        let text = std::str::from_utf8(name.as_slice()).map_err(|_| Error::Subject)?;
        text.parse().map_err(|_| Error::Subject)
    }

    /// Returns the serial as it is registered: two digits an octet, without the octet that only keeps it positive.
    pub(super) fn serial_registered(&self) -> String {
        hexadecimal(magnitude(self.x509.raw_serial()))
    }

    /// Returns the serial as revocation lists are searched for it.
    pub(super) fn serial_octets(&self) -> Option<Serial> {
        serial_octets(self.x509.raw_serial())
    }

    /// Returns the public key.
    pub(super) fn spki(&self) -> &SubjectPublicKeyInfo<'a> {
        &self.x509.tbs_certificate.subject_pki
    }

    /// Tells whether the subject names nothing.
    pub(super) fn has_empty_subject(&self) -> bool {
        self.x509.subject().iter_attributes().next().is_none()
    }

    /// Returns the encoded name of the subject.
    pub(super) fn subject(&self) -> &'a [u8] {
        self.x509.tbs_certificate.subject.as_raw()
    }

    /// Returns the encoded name of the issuer.
    pub(super) fn issuer(&self) -> &'a [u8] {
        self.x509.tbs_certificate.issuer.as_raw()
    }
}

/// Checks that something was signed in a way that cannot be forged today (RFC 4055, section 5).
pub(super) fn check_signature_algorithm(algorithm: &AlgorithmIdentifier<'_>) -> Result<(), Error> {
    let accepted = [OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA];
    let null = algorithm.parameters.as_ref().is_none_or(|parameters| parameters.tag() == Tag::Null);
    if null && accepted.contains(&algorithm.algorithm) { Ok(()) } else { Err(Error::SignatureAlgorithm) }
}

fn check_form(der: &[u8]) -> Result<(), Error> {
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(Error::TooLarge { bytes: der.len() });
    }
    let mut reader = der::Reader::new(der);
    reader.next().ok_or(Error::Malformed)?;
    if !reader.rest().is_empty() {
        return Err(Error::TrailingBytes { bytes: reader.rest().len() });
    }
    if der::is_strict(der) && shape::is_certificate(der) { Ok(()) } else { Err(Error::Malformed) }
}

/// Extensions came with version 3, and nothing has come since (RFC 5280, sections 4.1.2.1 and 4.1.2.9).
fn check_version_known(x509: &X509Certificate<'_>) -> Result<(), Error> {
    match x509.version() {
        X509Version::V3 => Ok(()),
        X509Version::V1 | X509Version::V2 if x509.extensions().is_empty() => Ok(()),
        _ => Err(Error::Version),
    }
}

fn serial(contents: &[u8]) -> Result<KeyId, Error> {
    let negative = contents.first().is_none_or(|first| first & 0x80 != 0);
    if negative || contents.len() > SERIAL_OCTETS_MAX {
        return Err(Error::Serial);
    }
    // Zero has no key id.
    hexadecimal(contents).parse().map_err(|_| Error::Serial)
}

/// Returns a serial, padded in front; `None` where no certificate that is accepted here bears it.
pub(super) fn serial_octets(contents: &[u8]) -> Option<Serial> {
    let negative = contents.first().is_none_or(|first| first & 0x80 != 0);
    if negative || contents.len() > SERIAL_OCTETS_MAX {
        return None;
    }
    let mut octets = [0; SERIAL_OCTETS_MAX];
    octets.iter_mut().rev().zip(contents.iter().rev()).for_each(|(octet, digit)| *octet = *digit);
    Some(octets)
}

fn magnitude(integer: &[u8]) -> &[u8] {
    integer.strip_prefix(&[0]).unwrap_or(integer)
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
