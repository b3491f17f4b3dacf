//! Who takes part: the authority, the platform and the merchants, with keys made for this run and never used again.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use aws_lc_rs::signature::RsaKeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::Rng;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use super::DemoError;
use crate::certificate;
use crate::config::issue::{IssueError, Issued, Issuer};
use crate::time::UnixMillis;

/// A merchant, and one of the keys that it signs with.
#[derive(Clone)]
pub(super) struct Account {
    pub mchid: &'static str,
    /// What `serial_no` says.
    pub key_id: String,
    pub key: Arc<RsaKeyPair>,
}

/// The merchants of the demo's configuration.
pub(super) struct Accounts {
    /// Has every interface; signs with its certificate.
    pub store: Account,
    /// The same, signing with a bare key.
    pub store_bare: Account,
    pub store_revoked: Account,
    pub store_replaced: Account,
    /// Verifies answers with the platform's public key.
    pub tea_house: Account,
    /// Its limits refuse customers that are not known.
    pub travel: Account,
    /// A micro merchant.
    pub stall: Account,
    /// May neither take quick pay nor be paid in an app.
    pub restricted: Account,
    /// May not call from this machine.
    pub elsewhere: Account,
    pub suspended: Account,
    pub payment_closed: Account,
    pub terminated: Account,
}

/// The platform's side of the keys.
pub(super) struct Platform {
    /// The authority's certificate, which the clients trust for TLS.
    pub authority_pem: String,
    /// The certificate of the platform, with the key that signs by default.
    pub certificate: Issued,
    /// Public key (SubjectPublicKeyInfo, DER) of the key that signs in public-key mode.
    pub public_key_der: Vec<u8>,
    /// The secret with which platform certificates are sealed for the store.
    pub apiv3_key: String,
    /// The secret that the store signs with by API v2.
    pub apiv2_key: String,
}

/// Makes all keys and certificates, and writes the files that the configuration names.
///
/// # Errors
/// Where a key cannot be made or a file not be written.
pub(super) fn make(folder: &Path, now: UnixMillis) -> Result<(Accounts, Platform), DemoError> {
    let issuer = Issuer::new(&mut random(), now)?;
    let [certificate, public_key_mode, store, stall] = issue_all(&issuer)?;
    let server = issuer.issue_server(&mut random(), &["localhost", "127.0.0.1"])?;
    let store_spki = certificate::inspect(&store.certificate_pem)?.spki_der;
    let (apiv3_key, apiv2_key) = (unique(), unique());
    let files = [
        ("deployment.key", format!("{}{}", unique(), unique())),
        ("authority/certificate.pem", issuer.certificate_pem()),
        ("authority/revoked.pem", issuer.revocation_list(1, &[], LIST_DAYS.unsigned_abs())?),
        ("tls/certificate.pem", server.certificate_pem),
        ("tls/private_key.pem", server.private_key_pem),
        ("platform/certificate.pem", certificate.certificate_pem.clone()),
        ("platform/private_key.pem", certificate.private_key_pem.clone()),
        ("platform/public_key_mode.pem", public_key_mode.private_key_pem),
        ("merchants/public_key.pem", public_key_pem(&store_spki)),
        ("merchants/1900000101/certificate.pem", store.certificate_pem.clone()),
        ("merchants/1900000101/apiv3.key", apiv3_key.clone()),
        ("merchants/1900000101/apiv2.key", apiv2_key.clone()),
        ("merchants/1900000104/certificate.pem", stall.certificate_pem.clone()),
    ];
    files.iter().try_for_each(|(name, content)| write(&folder.join(name), content))?;
    let platform = Platform {
        authority_pem: issuer.certificate_pem(),
        certificate,
        public_key_der: certificate::inspect(&public_key_mode.certificate_pem)?.spki_der,
        apiv3_key,
        apiv2_key,
    };
    Ok((accounts(&store, &stall)?, platform))
}

/// How long the revocation list counts, in days.
pub(super) const LIST_DAYS: i64 = 10;

/// Makes random bytes.
pub(super) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    random().fill_bytes(&mut bytes);
    bytes
}

/// Makes a text that no other call makes: 32 hexadecimal digits.
pub(super) fn unique() -> String {
    format!("{:032X}", u128::from_be_bytes(random_bytes()))
}

/// Makes the name of a customer whom nobody else in a demo is.
pub(super) fn customer() -> String {
    format!("c-{:08x}", u32::from_be_bytes(random_bytes()))
}

/// Writes a file for its owner only.
///
/// # Errors
/// What the operating system says.
pub(super) fn write(path: &Path, content: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())
}

fn random() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// Making an RSA key is what takes time at the start: each has a thread.
fn issue_all(issuer: &Issuer) -> Result<[Issued; 4], DemoError> {
    let merchant = |mchid: &str| issuer.issue_merchant(&mut random(), mchid.parse().map_err(IssueError::from)?);
    thread::scope(|scope| {
        let certificate = scope.spawn(|| issuer.issue_platform(&mut random()));
        let public_key_mode = scope.spawn(|| issuer.issue_platform(&mut random()));
        let store = scope.spawn(|| merchant(STORE));
        let stall = scope.spawn(|| merchant(STALL));
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Issued, IssueError>>| {
            Ok::<Issued, DemoError>(thread.join().map_err(|_| DemoError::Thread)??)
        };
        Ok([join(certificate)?, join(public_key_mode)?, join(store)?, join(stall)?])
    })
}

/// Only two merchants have a certificate; one key pair serves as the bare key of all others, as keys take long to make.
fn accounts(store: &Issued, stall: &Issued) -> Result<Accounts, DemoError> {
    let store_key = key(store)?;
    let bare = |mchid: &'static str, suffix: &str| Account {
        mchid,
        key_id: format!("PUB_KEY_ID_{mchid}{suffix}"),
        key: Arc::clone(&store_key),
    };
    Ok(Accounts {
        store: Account { mchid: STORE, key_id: store.serial.to_string(), key: Arc::clone(&store_key) },
        store_bare: bare(STORE, ""),
        store_revoked: bare(STORE, "_REVOKED"),
        store_replaced: bare(STORE, "_REPLACED"),
        tea_house: bare("1900000102", ""),
        travel: bare("1900000103", ""),
        stall: Account { mchid: STALL, key_id: stall.serial.to_string(), key: key(stall)? },
        restricted: bare("1900000105", ""),
        elsewhere: bare("1900000106", ""),
        suspended: bare("1900000107", ""),
        payment_closed: bare("1900000108", ""),
        terminated: bare("1900000109", ""),
    })
}

fn key(issued: &Issued) -> Result<Arc<RsaKeyPair>, DemoError> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(issued.private_key_pem.as_bytes()).map_err(|_| DemoError::Key)?;
    RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map(Arc::new).map_err(|_| DemoError::Key)
}

/// Writes a SubjectPublicKeyInfo as PEM (RFC 7468, section 13).
fn public_key_pem(spki_der: &[u8]) -> String {
    let base64 = STANDARD.encode(spki_der);
    let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
    for (index, character) in base64.chars().enumerate() {
        if index > 0 && index % PEM_LINE_CHARS == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem + "\n-----END PUBLIC KEY-----\n"
}

const STORE: &str = "1900000101";
const STALL: &str = "1900000104";
const PEM_LINE_CHARS: usize = 64;
