//! Revocation lists (RFC 5280, section 5): complete lists that an issuer made of its own certificates.
//!
//! COLD where a list is read; a look into it costs the logarithm of its length.

use x509_parser::der_parser::asn1_rs::{FromDer, Oid};
use x509_parser::extensions::X509Extension;
use x509_parser::oid_registry::{
    OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_CRL_NUMBER, OID_X509_EXT_DELTA_CRL_INDICATOR,
    OID_X509_EXT_ISSUER_DISTRIBUTION_POINT, OID_X509_EXT_REASON_CODE,
};
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Version;

use super::chain::{Issuer, Path};
use super::read::{self, Certificate, Serial, hexadecimal, serial_octets};
use super::{
    Error, LIST_AHEAD_MS_MAX, LIST_BYTES_MAX, LIST_ENTRIES_MAX, LIST_FILE_BYTES_MAX, ListFacts, Revocation, der,
    extensions, pem, shape,
};
use crate::time::UnixMillis;

/// A list that its issuer signed.
#[derive(Clone, Debug)]
pub(super) struct List {
    /// The issuer's name and the key that signed, as encoded: certificates of another key are another list's.
    issuer: Vec<u8>,
    spki_der: Vec<u8>,
    /// The issuer's name, for people.
    issuer_text: String,
    number: Serial,
    /// The SHA-256 of the whole list.
    digest: [u8; 32],
    next_update: UnixMillis,
    /// The last instant at which the list counts, itself included.
    until: UnixMillis,
    /// Sorted.
    revoked: Box<[Serial]>,
}

impl List {
    /// Reads a list, PEM or DER, and checks that one of the issuers signed it.
    pub(super) fn read(bytes: &[u8], issuers: &[Issuer], grace_ms: i64, now: UnixMillis) -> Result<Self, Error> {
        let unarmoured = match std::str::from_utf8(bytes) {
            Ok(text) if text.contains("-----BEGIN") => pem::blocks(text, LIST_LABEL, 1, LIST_FILE_BYTES_MAX)?.pop(),
            Ok(_) | Err(_) => None,
        };
        let der = unarmoured.as_deref().unwrap_or(bytes);
        check_form(der)?;
        let (_, list) = CertificateRevocationList::from_der(der).map_err(|_| Error::ListMalformed)?;
        if list.version() != Some(X509Version::V2) || list.tbs_cert_list.signature != list.signature_algorithm {
            return Err(Error::ListMalformed);
        }
        read::check_signature_algorithm(&list.signature_algorithm)?;
        let stated = Stated::read(list.extensions())?;
        let issuer = list.tbs_cert_list.issuer.as_raw();
        let spki_der = check_signature(&list, issuers, stated.key_id)?;
        let begins = UnixMillis::from_seconds(list.last_update().timestamp());
        let ends = list.next_update().ok_or(Error::ListMalformed)?.timestamp();
        let ends = UnixMillis::from_seconds(ends);
        if ends < begins || begins.0 > now.0.saturating_add(LIST_AHEAD_MS_MAX) {
            return Err(Error::ListDates { begins, ends });
        }
        for entry in list.iter_revoked_certificates() {
            check_entry(entry.extensions())?;
        }
        // A serial that is left out is one that no certificate accepted here can bear.
        let serials = list.iter_revoked_certificates().filter_map(|entry| serial_octets(entry.raw_serial()));
        let mut revoked: Vec<Serial> = serials.collect();
        revoked.sort_unstable();
        revoked.dedup();
        let digest = ring::digest::digest(&ring::digest::SHA256, der);
        Ok(Self {
            issuer: issuer.to_vec(),
            spki_der,
            issuer_text: list.issuer().to_string(),
            number: stated.number,
            digest: digest.as_ref().try_into().map_err(|_| Error::ListMalformed)?,
            next_update: ends,
            until: UnixMillis(ends.0.saturating_add(grace_ms)),
            revoked: revoked.into(),
        })
    }

    /// Returns the issuer's name, for people.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer_text
    }

    /// Returns what is told of the list.
    pub(super) fn facts(&self) -> ListFacts<'_> {
        let Self { next_update, until, .. } = *self;
        ListFacts { issuer: &self.issuer_text, next_update, until, entries: self.revoked.len() }
    }

    /// Tells whether two lists are of one issuer and key.
    pub(super) fn is_of_issuer_of(&self, other: &Self) -> bool {
        (&self.issuer, &self.spki_der) == (&other.issuer, &other.spki_der)
    }

    /// Checks that this list may take the place of an earlier one of its issuer: its number never goes back.
    pub(super) fn check_follows(&self, earlier: &Self) -> Result<(), Error> {
        let issuer = || self.issuer_text.clone();
        if self.number < earlier.number {
            let (found, in_force) = (number_text(&self.number), number_text(&earlier.number));
            return Err(Error::ListOlder { issuer: issuer(), found, in_force });
        }
        if self.number == earlier.number && self.digest != earlier.digest {
            return Err(Error::ListAmbiguous { issuer: issuer(), number: number_text(&self.number) });
        }
        Ok(())
    }
}

/// Tells what lists say of a certificate and of every intermediate above it; the worst of it counts.
pub(super) fn judge(lists: &[List], leaf: &Certificate<'_>, path: &Path<'_>) -> Revocation {
    if lists.is_empty() {
        return Revocation::NotAsked;
    }
    let Some(serial) = leaf.serial_octets() else { return Revocation::Unlisted };
    let serials = std::iter::once(&serial).chain(path.iter().map(|issuer| issuer.serial()));
    // The anchor's serial is left over: nobody above it could revoke it.
    let links = serials.zip(path.iter());
    links.map(|(serial, issuer)| judge_one(lists, serial, issuer)).fold(Revocation::NotAsked, Revocation::and)
}

fn judge_one(lists: &[List], serial: &Serial, issuer: &Issuer) -> Revocation {
    match lists.iter().find(|list| issuer.is(&list.issuer, &list.spki_der)) {
        None => Revocation::Unlisted,
        Some(list) if list.revoked.binary_search(serial).is_ok() => Revocation::Revoked,
        Some(list) => Revocation::NotListed { until: list.until },
    }
}

impl Revocation {
    /// Joins what is known of two certificates that depend on each other.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Revoked, _) | (_, Self::Revoked) => Self::Revoked,
            (Self::Unlisted, _) | (_, Self::Unlisted) => Self::Unlisted,
            (Self::NotListed { until }, Self::NotListed { until: also }) => Self::NotListed { until: until.min(also) },
            (Self::NotAsked, other) | (other, Self::NotAsked) => other,
        }
    }
}

fn check_form(der: &[u8]) -> Result<(), Error> {
    if der.len() > LIST_BYTES_MAX {
        return Err(Error::ListTooLarge { bytes: der.len() });
    }
    // Counted first: the parser would make something of every entry.
    if shape::list_entries(der, LIST_ENTRIES_MAX).ok_or(Error::ListMalformed)? > LIST_ENTRIES_MAX {
        return Err(Error::ListTooLong);
    }
    if der::is_strict(der) && shape::is_list(der) { Ok(()) } else { Err(Error::ListMalformed) }
}

fn check_signature(
    list: &CertificateRevocationList<'_>,
    issuers: &[Issuer],
    key_id: Option<&[u8]>,
) -> Result<Vec<u8>, Error> {
    let name = list.tbs_cert_list.issuer.as_raw();
    let mut keys = issuers.iter().filter_map(|issuer| issuer.list_key(name, key_id)).peekable();
    if keys.peek().is_none() {
        return Err(Error::ListUnknownIssuer);
    }
    let whole = list.signature_value.unused_bits == 0;
    let signer = keys.find(|key| whole && list.verify_signature(key).is_ok());
    signer.map(|key| key.raw.to_vec()).ok_or(Error::ListSignature)
}

/// What the extensions of a list say (RFC 5280, section 5.2).
struct Stated<'a> {
    number: Serial,
    key_id: Option<&'a [u8]>,
}

impl<'a> Stated<'a> {
    fn read(list: &'a [X509Extension<'a>]) -> Result<Self, Error> {
        let (mut number, mut key_id) = (None, None);
        for_each_once(list, |extension| {
            let is = |known: Oid<'static>| extension.oid == known;
            if is(OID_X509_EXT_DELTA_CRL_INDICATOR) || is(OID_X509_EXT_ISSUER_DISTRIBUTION_POINT) {
                return Err(Error::ListPartial);
            }
            if extension.critical {
                let numbered = is(OID_X509_EXT_CRL_NUMBER);
                return Err(if numbered { Error::ListNumber } else { Error::UnknownCriticalExtension });
            }
            if is(OID_X509_EXT_CRL_NUMBER) {
                number = Some(number_of(extension.value).ok_or(Error::ListNumber)?);
            } else if is(OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER) {
                key_id = extensions::authority_key_id(extension.value)?;
            }
            Ok(())
        })?;
        Ok(Self { number: number.ok_or(Error::ListNumber)?, key_id })
    }
}

/// Checks the extensions of an entry (RFC 5280, section 5.3). Every reason revokes, a hold too.
fn check_entry(list: &[X509Extension<'_>]) -> Result<(), Error> {
    for_each_once(list, |extension| {
        if extension.oid.as_bytes() == CERTIFICATE_ISSUER {
            return Err(Error::ListPartial);
        }
        // It takes back what another list said, which only a delta can do.
        if extension.oid == OID_X509_EXT_REASON_CODE && extension.value == REMOVE_FROM_LIST {
            return Err(Error::ListPartial);
        }
        if extension.critical { Err(Error::UnknownCriticalExtension) } else { Ok(()) }
    })
}

fn for_each_once<'a>(
    list: &'a [X509Extension<'a>],
    mut visit: impl FnMut(&'a X509Extension<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    if list.len() > super::EXTENSIONS_MAX {
        return Err(Error::TooManyExtensions { extensions: list.len() });
    }
    let mut rest = list;
    while let Some((extension, later)) = rest.split_first() {
        if later.iter().any(|other| other.oid == extension.oid) {
            return Err(Error::DuplicateExtension);
        }
        visit(extension)?;
        rest = later;
    }
    Ok(())
}

fn number_of(value: &[u8]) -> Option<Serial> {
    let mut reader = der::Reader::new(value);
    let number = reader.take(der::INTEGER)?;
    reader.end()?;
    der::is_strict(value).then(|| serial_octets(number.contents)).flatten()
}

fn number_text(number: &Serial) -> String {
    let text = hexadecimal(number);
    let digits = text.trim_start_matches('0');
    format!("0x{}", if digits.is_empty() { "0" } else { digits })
}

/// The PEM label of a revocation list (RFC 7468, section 6).
const LIST_LABEL: &str = "X509 CRL";

/// The reason code removeFromCRL, encoded.
const REMOVE_FROM_LIST: &[u8] = &[0x0a, 0x01, 0x08];

/// The object identifier of certificateIssuer, encoded: 2.5.29.29.
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 0x1d];
