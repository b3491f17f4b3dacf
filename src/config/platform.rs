//! The platform's own keys, with which answers are signed.

use crate::certificate;
use crate::front::{PLATFORM_KEYS_MAX, PlatformError, PlatformKey, PlatformKeys, QUEUE_MAX, THREADS_MAX};
use crate::types::KeyId;

use super::bounds::{each, within};
use super::fault::{At, Fault, Problem, ROOT};
use super::file::{Folder, PEM_BYTES_MAX};
use super::shape::{self, PlatformKeyKind};

/// The platform's keys, checked.
pub(super) struct Platform {
    pub keys: PlatformKeys,
    pub signing_threads: usize,
    pub signing_queue_max: usize,
}

/// Checks the section `platform`.
pub(super) fn check(shape: shape::Platform, folder: Folder<'_>) -> Result<Platform, Fault> {
    let at = ROOT.key("platform");
    let keys = each(&at, "key", shape.key, PLATFORM_KEYS_MAX, |at, shape| match shape.kind {
        PlatformKeyKind::Certificate => with_certificate(at, shape, folder),
        PlatformKeyKind::PublicKey => bare(at, shape, folder),
    })?;
    let (ids, keys): (Vec<KeyId>, Vec<PlatformKey>) = keys.into_iter().unzip();
    let default = default(&at, shape.default_key, &ids)?;
    Ok(Platform {
        keys: PlatformKeys::new(keys, default).map_err(|error| misfit(&at, error))?,
        signing_threads: within(&at.key("signing_threads"), shape.signing_threads, 1..=SIGNING_THREADS_MAX)?,
        signing_queue_max: within(&at.key("signing_queue_max"), shape.signing_queue_max, 1..=SIGNING_QUEUE_MAX)?,
    })
}

fn default(at: &At<'_>, named: Option<KeyId>, ids: &[KeyId]) -> Result<KeyId, Fault> {
    let missing = |name, remedy| Err(at.key(name).refuse(Problem::Missing { remedy }));
    match (named, ids) {
        (_, []) => missing("key", "add a [[platform.key]]: answers must be signed"),
        (Some(id), _) => Ok(id),
        (None, [only]) => Ok(*only),
        (None, _) => missing("default_key", "add the id or serial of the key that signs where a request names none"),
    }
}

fn with_certificate(at: &At<'_>, shape: shape::PlatformKey, folder: Folder<'_>) -> Result<(KeyId, PlatformKey), Fault> {
    if shape.id.is_some() {
        let remedy = "remove the key: the id of a certificate is its serial";
        return Err(at.key("id").refuse(Problem::Unwanted { remedy }));
    }
    let file = at.key("certificate_file");
    let Some(name) = shape.certificate_file else {
        return Err(file.refuse(Problem::Missing { remedy: "add the file of the certificate" }));
    };
    let pem = folder.text(&file, &name, PEM_BYTES_MAX)?;
    let seen = certificate::inspect(&pem)
        .map_err(|source| file.refuse(Problem::Certificate { path: folder.path(&name), source }))?;
    let private_key = folder.secret(&at.key("private_key_file"), &shape.private_key_file)?;
    PlatformKey::certificate(seen.serial, &pem, seen.not_before, seen.not_after, &private_key, &seen.spki_der)
        .map(|key| (seen.serial, key))
        .map_err(|error| misfit(at, error))
}

fn bare(at: &At<'_>, shape: shape::PlatformKey, folder: Folder<'_>) -> Result<(KeyId, PlatformKey), Fault> {
    if shape.certificate_file.is_some() {
        let remedy = "remove the key, or write kind = \"certificate\"";
        return Err(at.key("certificate_file").refuse(Problem::Unwanted { remedy }));
    }
    let Some(id) = shape.id else {
        return Err(at.key("id").refuse(Problem::Missing { remedy: "add the id: PUB_KEY_ID_ and digits" }));
    };
    let private_key = folder.secret(&at.key("private_key_file"), &shape.private_key_file)?;
    PlatformKey::public_key(id, &private_key).map(|key| (id, key)).map_err(|error| misfit(at, error))
}

/// Places what is said of a key, or of all of them, at the key of the configuration that is to be changed.
fn misfit(at: &At<'_>, error: PlatformError) -> Fault {
    let (name, remedy) = match error {
        PlatformError::PrivateKeyUnreadable(_)
        | PlatformError::PrivateKeyRejected(_)
        | PlatformError::PrivateKeyMismatch(_) => {
            ("private_key_file", "write the file of the RSA private key that belongs to it")
        }
        PlatformError::CertificateUnreadable(_)
        | PlatformError::CertificateMismatch(_)
        | PlatformError::ValidityEmpty(_) => ("certificate_file", "write the file of the platform certificate"),
        PlatformError::PublicKeyIdInvalid(_) => ("id", "write PUB_KEY_ID_ and digits"),
        PlatformError::Duplicate(_) => ("key", "write each key once"),
        PlatformError::DefaultUnknown(_) => ("default_key", "write the serial or id of a [[platform.key]]"),
        PlatformError::TooMany { .. } => ("key", "remove keys that no merchant uses any more"),
    };
    at.key(name).refuse(Problem::Platform { source: error, remedy })
}

/// Most threads that sign.
const SIGNING_THREADS_MAX: u64 = 64;

/// Most answers that wait to be signed.
const SIGNING_QUEUE_MAX: u64 = 65_536;

const _: () = assert!(SIGNING_THREADS_MAX == THREADS_MAX as u64 && SIGNING_QUEUE_MAX == QUEUE_MAX as u64);
