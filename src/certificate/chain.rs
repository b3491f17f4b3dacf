//! The chain from a merchant's certificate to an anchor (RFC 5280, section 6.1), found within a budget.

use arrayvec::ArrayVec;
use x509_parser::der_parser::asn1_rs::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::read::{Certificate, Serial};
use super::{CHAIN_CERTIFICATES_MAX, Error, SIGNATURE_CHECKS_MAX, rsa};
use crate::time::UnixMillis;

/// A certificate of the authority that may issue others.
#[derive(Clone, Debug)]
pub(super) struct Issuer {
    der: Vec<u8>,
    serial: Serial,
    subject: Vec<u8>,
    subject_key_id: Option<Vec<u8>>,
    spki_der: Vec<u8>,
    not_before: UnixMillis,
    not_after: UnixMillis,
    intermediates_max: Option<u32>,
    anchor: bool,
    signs_lists: bool,
}

/// The issuers of a chain, from that of the leaf to the anchor.
pub(super) type Path<'a> = ArrayVec<&'a Issuer, { CHAIN_CERTIFICATES_MAX - 1 }>;

impl Issuer {
    /// Reads and checks a certificate of the authority, all but its validity at an instant and who issued it.
    pub(super) fn read(der: Vec<u8>) -> Result<Self, Error> {
        let certificate = Certificate::read(&der)?;
        certificate.check_version()?;
        certificate.check_signature_algorithm()?;
        let intermediates_max = certificate.extensions.check_issuer()?;
        rsa::check(certificate.spki())?;
        if certificate.has_empty_subject() {
            return Err(Error::IssuerUnnamed);
        }
        let anchor = certificate.subject() == certificate.issuer();
        if anchor {
            certificate.check_signed_by(certificate.spki()).map_err(|_| Error::NotSelfSigned)?;
        }
        Ok(Self {
            serial: certificate.serial_octets().ok_or(Error::Serial)?,
            signs_lists: certificate.extensions.may_sign_lists(),
            subject: certificate.subject().to_vec(),
            subject_key_id: certificate.extensions.subject_key_id.map(<[u8]>::to_vec),
            spki_der: certificate.spki().raw.to_vec(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            intermediates_max,
            anchor,
            der,
        })
    }

    /// Tells whether a chain may end here.
    pub(super) fn is_anchor(&self) -> bool {
        self.anchor
    }

    /// Returns its serial number.
    pub(super) fn serial(&self) -> &Serial {
        &self.serial
    }

    /// Tells whether it has this name and this key, as encoded.
    pub(super) fn is(&self, name: &[u8], spki_der: &[u8]) -> bool {
        self.subject == name && self.spki_der == spki_der
    }

    /// Returns its public key where it may sign lists under this name, and this key id where both have one.
    pub(super) fn list_key(&self, name: &[u8], key_id: Option<&[u8]>) -> Option<SubjectPublicKeyInfo<'_>> {
        let same_key = self.subject_key_id.as_deref().zip(key_id).is_none_or(|(ours, theirs)| ours == theirs);
        let (_, key) = SubjectPublicKeyInfo::from_der(&self.spki_der).ok()?;
        (self.signs_lists && same_key && self.subject == name).then_some(key)
    }

    /// Tells whether a certificate names this issuer, and its key where both have an id for it.
    ///
    /// Names are compared as encoded: an authority writes its own name one way.
    fn is_named_by(&self, child: &Certificate<'_>) -> bool {
        let ids = self.subject_key_id.as_deref().zip(child.extensions.authority_key_id);
        self.subject == child.issuer() && ids.is_none_or(|(ours, theirs)| ours == theirs)
    }

    fn check_validity(&self, now: UnixMillis) -> Result<(), Error> {
        if now < self.not_before {
            return Err(Error::IssuerNotYetValid { not_before: self.not_before });
        }
        if self.not_after < now {
            return Err(Error::IssuerExpired { not_after: self.not_after });
        }
        Ok(())
    }

    fn check_intermediates_below(&self, intermediates: usize) -> Result<(), Error> {
        match self.intermediates_max {
            Some(intermediates_max) if u32::try_from(intermediates).is_ok_and(|count| count <= intermediates_max) => {
                Ok(())
            }
            Some(intermediates_max) => Err(Error::PathLength { intermediates_max }),
            None => Ok(()),
        }
    }
}

/// Finds a chain from a certificate to an anchor, all of whose issuers are valid at `now`; returns its issuers.
///
/// # Errors
/// [`Error`] says why the first candidate was refused, or that there was none.
pub(super) fn find<'a>(issuers: &'a [Issuer], leaf: &Certificate<'_>, now: UnixMillis) -> Result<Path<'a>, Error> {
    let mut search =
        Search { issuers, now, checks_left: SIGNATURE_CHECKS_MAX, intermediates: ArrayVec::new(), path: Path::new() };
    search.climb(leaf)?;
    Ok(search.path)
}

/// A depth-first search; every step down a branch costs a signature check, of which there are only so many.
struct Search<'a> {
    issuers: &'a [Issuer],
    now: UnixMillis,
    checks_left: u32,
    /// The intermediates between the leaf and the issuer in question: the leaf and the anchor are not among them.
    intermediates: ArrayVec<usize, { CHAIN_CERTIFICATES_MAX - 2 }>,
    /// The chain that was found.
    path: Path<'a>,
}

impl<'a> Search<'a> {
    fn climb(&mut self, child: &Certificate<'_>) -> Result<(), Error> {
        let mut refusal = None;
        let issuers: &'a [Issuer] = self.issuers;
        for (index, issuer) in issuers.iter().enumerate() {
            if self.intermediates.contains(&index) || !issuer.is_named_by(child) {
                continue;
            }
            match self.climb_through(child, index, issuer) {
                Ok(()) => return Ok(()),
                Err(Error::SignatureChecks) => return Err(Error::SignatureChecks),
                Err(error) => refusal.get_or_insert(error),
            };
        }
        Err(refusal.unwrap_or(Error::UnknownIssuer))
    }

    fn climb_through(&mut self, child: &Certificate<'_>, index: usize, issuer: &'a Issuer) -> Result<(), Error> {
        issuer.check_validity(self.now)?;
        issuer.check_intermediates_below(self.intermediates.len())?;
        self.check_signature(child, issuer)?;
        if issuer.anchor {
            let below = self.intermediates.iter().filter_map(|index| self.issuers.get(*index));
            self.path = below.chain([issuer]).collect();
            return Ok(());
        }
        self.intermediates.try_push(index).map_err(|_| Error::ChainTooLong)?;
        let above = Certificate::read(&issuer.der).and_then(|certificate| self.climb(&certificate));
        self.intermediates.pop();
        above
    }

    fn check_signature(&mut self, child: &Certificate<'_>, issuer: &Issuer) -> Result<(), Error> {
        self.checks_left = self.checks_left.checked_sub(1).ok_or(Error::SignatureChecks)?;
        let (_, key) = SubjectPublicKeyInfo::from_der(&issuer.spki_der).map_err(|_| Error::KeyMalformed)?;
        child.check_signed_by(&key)
    }
}
