//! Certificates: whether a merchant's API certificate was issued by the configured authority, and what it says.
//!
//! Cold: a certificate is read when it is loaded, never per request. Promises that lean one way: what passes
//! [`Authority::check`] satisfies every rule below; a certificate that breaks none may still be refused, where it
//! relies on something that is not evaluated here (name constraints, unknown critical extensions).
//!
//! Revocation lists are read and searched here; what else revokes a key, the registry knows.

mod chain;
mod der;
mod error;
mod extensions;
mod pem;
mod read;
mod revocation;
mod rsa;
mod shape;

use std::sync::Arc;
use std::time::Duration;

use crate::time::UnixMillis;
use crate::types::{KeyId, MerchantId};

use chain::Issuer;
use read::Certificate;
use revocation::List;

pub use error::Error;
pub use pem::pem_to_der;

/// The authority that issues merchants' API certificates: one or more self-signed roots and optional intermediates.
#[derive(Clone, Debug)]
pub struct Authority {
    issuers: Arc<[Issuer]>,
    /// At most one of each issuer and key.
    lists: Vec<List>,
}

/// A revocation list that an [`Authority`] goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListFacts<'a> {
    /// Its issuer's name.
    pub issuer: &'a str,
    /// By when the issuer promised the next list.
    pub next_update: UnixMillis,
    /// The last instant at which it counts, itself included.
    pub until: UnixMillis,
    /// How many certificates it revokes.
    pub entries: usize,
}

/// What revocation lists say of a certificate and of every intermediate above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Revocation {
    /// The authority has no lists.
    #[default]
    NotAsked,
    /// No list has it.
    NotListed {
        /// Until when these lists count, that instant included.
        until: UnixMillis,
    },
    /// A list has it.
    Revoked,
    /// There are lists, but none of an issuer concerned.
    Unlisted,
}

/// What a merchant's certificate says, once an [`Authority`] has vouched for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// The merchant, from the common name of the subject.
    pub merchant: MerchantId,
    /// The serial number, by which requests name the certificate.
    pub serial: KeyId,
    /// First instant of validity.
    pub not_before: UnixMillis,
    /// Last instant of validity, itself included.
    pub not_after: UnixMillis,
    /// The public key as a `SubjectPublicKeyInfo`: RSA of 2048 to 8192 bits.
    pub spki_der: Vec<u8>,
    /// Whether it is revoked.
    pub revocation: Revocation,
}

/// What a certificate says, nothing vouched for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspected {
    /// The serial number, normalised.
    pub serial: KeyId,
    /// The serial number as it is registered: upper-case hexadecimal, two digits an octet, as openssl prints it.
    pub serial_registered: String,
    /// First instant of validity.
    pub not_before: UnixMillis,
    /// Last instant of validity, itself included.
    pub not_after: UnixMillis,
    /// The public key as a `SubjectPublicKeyInfo`: RSA of 2048 to 8192 bits.
    pub spki_der: Vec<u8>,
    /// The whole certificate.
    pub der: Vec<u8>,
}

impl Authority {
    /// Reads a bundle of PEM certificates: self-issued ones are anchors, all others intermediates.
    ///
    /// # Errors
    /// [`Error`] where the bundle has no anchor or more than [`AUTHORITY_CERTIFICATES_MAX`] certificates, and
    /// [`Error::InAuthority`] where one of them may not issue certificates. Their validity is judged at each check.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let bundle = pem::blocks(pem, CERTIFICATE_LABEL, AUTHORITY_CERTIFICATES_MAX, AUTHORITY_PEM_BYTES_MAX)?;
        let issuers = (1..)
            .zip(bundle)
            .map(|(position, der)| {
                Issuer::read(der).map_err(|source| Error::InAuthority { position, source: Box::new(source) })
            })
            .collect::<Result<Arc<[Issuer]>, Error>>()?;
        if !issuers.iter().any(Issuer::is_anchor) {
            return Err(Error::NoAnchor);
        }
        Ok(Self { issuers, lists: Vec::new() })
    }

    /// Has certificates looked up in a revocation list too, PEM or DER, for `grace` after its nextUpdate. Once there is one
    /// list, every certificate between a merchant's and the root needs one that its issuer signed, with the same key.
    ///
    /// # Errors
    /// [`Error`] where the list is malformed, partial, too large, of the future, not numbered, not signed by an issuer of the
    /// bundle that may sign lists, or the second of its issuer. One that is out of date is taken: what it revokes is revoked
    /// all the same, and what it does not is refused at each check.
    pub fn add_list(&mut self, list: &[u8], grace: Duration, now: UnixMillis) -> Result<(), Error> {
        let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let list = List::read(list, &self.issuers, grace_ms, now)?;
        if self.lists.iter().any(|other| other.is_of_issuer_of(&list)) {
            return Err(Error::ListRepeated { issuer: list.issuer().to_owned() });
        }
        self.lists.push(list);
        Ok(())
    }

    /// Returns the revocation lists.
    pub fn lists(&self) -> impl Iterator<Item = ListFacts<'_>> {
        self.lists.iter().map(List::facts)
    }

    /// Checks that the lists may take the place of those of an earlier authority: the number of an issuer's list never goes
    /// back, and one number means one list.
    ///
    /// # Errors
    /// [`Error::ListOlder`] and [`Error::ListAmbiguous`].
    pub fn check_follows(&self, earlier: &Self) -> Result<(), Error> {
        self.lists.iter().try_for_each(|list| {
            let before = earlier.lists.iter().find(|before| before.is_of_issuer_of(list));
            before.map_or(Ok(()), |before| list.check_follows(before))
        })
    }

    /// Checks a merchant's certificate: chain, validity at `now`, usage, key, subject and revocation (RFC 5280, section 6).
    ///
    /// # Errors
    /// [`Error`] names the first rule that the certificate, or every chain to an anchor, breaks.
    pub fn check(&self, leaf_der: &[u8], now: UnixMillis) -> Result<Checked, Error> {
        let checked = self.check_ignoring_validity(leaf_der, now)?;
        if now < checked.not_before {
            return Err(Error::NotYetValid { not_before: checked.not_before });
        }
        if checked.not_after < now {
            return Err(Error::Expired { not_after: checked.not_after });
        }
        match checked.revocation {
            Revocation::Revoked => Err(Error::Revoked),
            Revocation::Unlisted => Err(Error::Unlisted),
            Revocation::NotListed { until } if until < now => Err(Error::ListStale { until }),
            Revocation::NotListed { .. } | Revocation::NotAsked => Ok(checked),
        }
    }

    /// Checks as [`Authority::check`] does, but for the validity of the certificate itself and its revocation, which its
    /// user judges at each use. Its issuers must be valid at `now`.
    ///
    /// # Errors
    /// As of [`Authority::check`], without [`Error::NotYetValid`], [`Error::Expired`], [`Error::Revoked`],
    /// [`Error::Unlisted`] and [`Error::ListStale`].
    pub fn check_ignoring_validity(&self, leaf_der: &[u8], now: UnixMillis) -> Result<Checked, Error> {
        let (leaf, merchant) = read_leaf(leaf_der)?;
        let path = chain::find(&self.issuers, &leaf, now)?;
        Ok(Checked {
            merchant,
            serial: leaf.serial,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            spki_der: leaf.spki().raw.to_vec(),
            revocation: revocation::judge(&self.lists, &leaf, &path),
        })
    }
}

/// Tells whether a certificate could pass [`Authority::check`] as far as it tells by itself, whoever issued it.
pub fn could_be_a_merchants(der: &[u8]) -> bool {
    read_leaf(der).is_ok()
}

fn read_leaf(der: &[u8]) -> Result<(Certificate<'_>, MerchantId), Error> {
    let leaf = Certificate::read(der)?;
    leaf.check_version()?;
    leaf.check_signature_algorithm()?;
    leaf.extensions.check_client_leaf()?;
    rsa::check(leaf.spki())?;
    let merchant = leaf.merchant()?;
    Ok((leaf, merchant))
}

/// Reads what a certificate says: strict form, serial, validity, an RSA key of at least 2048 bits.
///
/// Meant for certificates that the operator configured; no issuer, usage or subject is checked, nor validity at an
/// instant.
///
/// # Errors
/// [`Error`] where the PEM, the DER, the serial, the order of the dates or the key is refused.
pub fn inspect(pem: &str) -> Result<Inspected, Error> {
    let der = pem_to_der(pem, CERTIFICATE_LABEL)?;
    let certificate = Certificate::read(&der)?;
    rsa::check(certificate.spki())?;
    Ok(Inspected {
        serial: certificate.serial,
        serial_registered: certificate.serial_registered(),
        not_before: certificate.not_before,
        not_after: certificate.not_after,
        spki_der: certificate.spki().raw.to_vec(),
        der: der.clone(),
    })
}

/// Largest certificate, in bytes of DER.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// Most certificates in the bundle of an authority.
pub const AUTHORITY_CERTIFICATES_MAX: usize = 32;

/// Most certificates of a chain, the merchant's and the anchor included.
pub const CHAIN_CERTIFICATES_MAX: usize = 6;

/// Most signatures verified in search of a chain, so that a knot of authorities costs a bounded time.
pub const SIGNATURE_CHECKS_MAX: u32 = 64;

/// Most extensions of a certificate.
pub const EXTENSIONS_MAX: usize = 32;

/// Longest serial number, in octets as encoded (RFC 5280, section 4.1.2.2).
pub const SERIAL_OCTETS_MAX: usize = 20;

/// Largest text around one PEM block, explanations included, in bytes.
pub const PEM_BYTES_MAX: usize = 4 * CERTIFICATE_BYTES_MAX;

/// Largest text of an authority's bundle, in bytes.
pub const AUTHORITY_PEM_BYTES_MAX: usize = AUTHORITY_CERTIFICATES_MAX * PEM_BYTES_MAX;

/// Largest revocation list, in bytes of DER.
pub const LIST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most entries of a revocation list; each takes 20 bytes of memory once it is read.
pub const LIST_ENTRIES_MAX: usize = 200_000;

/// Largest file of a revocation list, in bytes: Base64 with its line ends takes less than half as much again.
pub const LIST_FILE_BYTES_MAX: usize = LIST_BYTES_MAX / 2 * 3;

/// How far ahead of the clock the thisUpdate of a list may be, in milliseconds: five minutes, for clocks that differ.
const LIST_AHEAD_MS_MAX: i64 = 5 * 60 * 1000;

/// The PEM label of a certificate (RFC 7468, section 5).
const CERTIFICATE_LABEL: &str = "CERTIFICATE";

const _: () = assert!(SIGNATURE_CHECKS_MAX as usize >= AUTHORITY_CERTIFICATES_MAX, "every issuer can be tried once");

#[cfg(test)]
mod tests;
