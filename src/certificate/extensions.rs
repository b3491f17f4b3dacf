//! The extensions that decide something here (RFC 5280, section 4.2), and what an issuer and a merchant may have.

use x509_parser::der_parser::asn1_rs::{FromDer, Oid};
use x509_parser::error::X509Error;
use x509_parser::extensions::{BasicConstraints, ExtendedKeyUsage, KeyIdentifier, KeyUsage, X509Extension};
use x509_parser::oid_registry::{
    OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE,
    OID_X509_EXT_KEY_USAGE, OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_POLICY_CONSTRAINTS,
    OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
};

use super::der::{self, Reader};
use super::{EXTENSIONS_MAX, Error};

/// What the extensions of one certificate say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extensions<'a> {
    basic_constraints: Option<Basic>,
    key_usage: Option<KeyUsage>,
    /// Whether the extended usages, where there are any, include that of a client.
    client_auth: Option<bool>,
    name_constraints: bool,
    policy_constraints: bool,
    unknown_critical: bool,
    /// The id that the certificate gives its key.
    pub(super) subject_key_id: Option<&'a [u8]>,
    /// The id that the certificate gives its issuer's key.
    pub(super) authority_key_id: Option<&'a [u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Basic {
    critical: bool,
    ca: bool,
    intermediates_max: Option<u32>,
}

impl<'a> Extensions<'a> {
    /// Reads the extensions of a certificate; each may be there once.
    pub(super) fn read(list: &[X509Extension<'a>]) -> Result<Self, Error> {
        if list.len() > EXTENSIONS_MAX {
            return Err(Error::TooManyExtensions { extensions: list.len() });
        }
        let mut all = Self::default();
        let mut rest = list;
        while let Some((extension, later)) = rest.split_first() {
            if later.iter().any(|other| other.oid == extension.oid) {
                return Err(Error::DuplicateExtension);
            }
            all.add(extension)?;
            rest = later;
        }
        Ok(all)
    }

    fn add(&mut self, X509Extension { oid, critical, value, .. }: &X509Extension<'a>) -> Result<(), Error> {
        let is = |known: Oid<'static>| *oid == known;
        if is(OID_X509_EXT_BASIC_CONSTRAINTS) {
            self.basic_constraints = Some(basic_constraints(*critical, value)?);
        } else if is(OID_X509_EXT_KEY_USAGE) {
            self.key_usage = Some(parse(value, "keyUsage")?);
        } else if is(OID_X509_EXT_EXTENDED_KEY_USAGE) {
            self.client_auth = Some(allows_client_auth(value)?);
        } else if is(OID_X509_EXT_SUBJECT_KEY_IDENTIFIER) {
            self.subject_key_id = Some(parse::<KeyIdentifier<'_>>(value, "subjectKeyIdentifier")?.0);
            self.unknown_critical |= critical;
        } else if is(OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER) {
            self.authority_key_id = authority_key_id(value)?;
            self.unknown_critical |= critical;
        } else {
            self.name_constraints |= is(OID_X509_EXT_NAME_CONSTRAINTS);
            self.policy_constraints |= is(OID_X509_EXT_POLICY_CONSTRAINTS);
            self.unknown_critical |= critical;
        }
        Ok(())
    }

    /// Checks that the certificate may issue others; returns how many intermediates may be below it, if it says so.
    pub(super) fn check_issuer(&self) -> Result<Option<u32>, Error> {
        // A constraint that is not marked critical, as it must be, still is one.
        if self.name_constraints {
            return Err(Error::NameConstraints);
        }
        if self.policy_constraints {
            return Err(Error::UnknownCriticalExtension);
        }
        self.check_known()?;
        let basic = self.basic_constraints.filter(|basic| basic.ca && basic.critical);
        let basic = basic.ok_or(Error::IssuerNotAuthority)?;
        if self.key_usage.is_some_and(|usage| !usage.key_cert_sign()) {
            return Err(Error::IssuerKeyUsage);
        }
        self.check_client_auth()?;
        Ok(basic.intermediates_max)
    }

    /// Tells whether an issuer may sign revocation lists.
    pub(super) fn may_sign_lists(&self) -> bool {
        self.key_usage.is_none_or(|usage| usage.crl_sign())
    }

    /// Checks that the certificate may sign as a client, and not issue others.
    pub(super) fn check_client_leaf(&self) -> Result<(), Error> {
        if self.name_constraints {
            return Err(Error::NameConstraints);
        }
        self.check_known()?;
        let is_ca = self.basic_constraints.is_some_and(|basic| basic.ca);
        if is_ca || self.key_usage.is_some_and(|usage| usage.key_cert_sign()) {
            return Err(Error::LeafIsAuthority);
        }
        if self.key_usage.is_some_and(|usage| !usage.digital_signature()) {
            return Err(Error::LeafKeyUsage);
        }
        self.check_client_auth()
    }

    fn check_known(&self) -> Result<(), Error> {
        if self.unknown_critical { Err(Error::UnknownCriticalExtension) } else { Ok(()) }
    }

    /// The purposes of an issuer bound those of what it issues, as every verifier in use reads them.
    fn check_client_auth(&self) -> Result<(), Error> {
        if self.client_auth == Some(false) { Err(Error::ExtendedKeyUsage) } else { Ok(()) }
    }
}

/// Reads basicConstraints (RFC 5280, section 4.2.1.9).
fn basic_constraints(critical: bool, value: &[u8]) -> Result<Basic, Error> {
    const NAME: &str = "basicConstraints";
    let BasicConstraints { ca, path_len_constraint: intermediates_max } = parse(value, NAME)?;
    // The parser takes a negative length for a large one.
    let form = || {
        let mut fields = Reader::new(value).enter(der::SEQUENCE)?;
        fields.take(der::BOOLEAN);
        let length = fields.take(der::INTEGER);
        fields.end()?;
        length.is_none_or(|length| length.contents.first().is_some_and(|first| first & 0x80 == 0)).then_some(())
    };
    // A length means nothing without CA.
    if form().is_none() || (intermediates_max.is_some() && !ca) {
        return Err(Error::MalformedExtension { extension: NAME });
    }
    Ok(Basic { critical, ca, intermediates_max })
}

/// Tells whether extKeyUsage (RFC 5280, section 4.2.1.12) includes the purpose of a client, or any.
fn allows_client_auth(value: &[u8]) -> Result<bool, Error> {
    const NAME: &str = "extKeyUsage";
    let usage: ExtendedKeyUsage<'_> = parse(value, NAME)?;
    // The parser stops at what is no purpose.
    let form = || {
        let mut purposes = Reader::new(value).enter(der::SEQUENCE)?;
        purposes.take(der::OBJECT_IDENTIFIER)?;
        while purposes.take(der::OBJECT_IDENTIFIER).is_some() {}
        purposes.end()
    };
    form().map(|()| usage.client_auth || usage.any).ok_or(Error::MalformedExtension { extension: NAME })
}

/// Reads the key id of authorityKeyIdentifier (RFC 5280, section 4.2.1.1); the parser passes over its other fields.
pub(super) fn authority_key_id(value: &[u8]) -> Result<Option<&[u8]>, Error> {
    let form = || {
        let mut outside = Reader::new(value);
        let mut fields = outside.enter(der::SEQUENCE)?;
        outside.end()?;
        let key_id = fields.take(KEY_IDENTIFIER).map(|element| element.contents);
        fields.take(ISSUER_NAMES);
        fields.take(ISSUER_SERIAL);
        fields.end().map(|()| key_id)
    };
    let strict = der::is_strict(value);
    form().filter(|_| strict).ok_or(Error::MalformedExtension { extension: "authorityKeyIdentifier" })
}

/// Parses the value of an extension, once it is known to be one strictly encoded element.
fn parse<'a, T>(value: &'a [u8], extension: &'static str) -> Result<T, Error>
where
    T: FromDer<'a, X509Error>,
{
    let malformed = Error::MalformedExtension { extension };
    if !der::is_strict(value) {
        return Err(malformed);
    }
    match T::from_der(value) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) | Err(_) => Err(malformed),
    }
}

/// The implicit tags of authorityKeyIdentifier.
const KEY_IDENTIFIER: u8 = 0x80;
const ISSUER_NAMES: u8 = 0xa1;
const ISSUER_SERIAL: u8 = 0x82;
