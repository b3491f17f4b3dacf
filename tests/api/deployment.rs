//! Keys, certificates and the configuration that all gates of this binary share: made once, for RSA keys take a while.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tollgate::config::issue::{Issued, Issuer};
use tollgate::config::{self, SAMPLE_MCHID};
use tollgate::time::{Clock as _, SystemClock};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What `init` made, and more merchants' keys.
pub struct Deployment {
    /// The folder that `init` filled.
    pub folder: PathBuf,
    /// The sample merchant with the key that `init` made.
    pub merchant: Merchant,
    /// The sample merchant with a second certificate.
    pub second_key: Merchant,
    /// The sample merchant with a third certificate, that only TLS is spoken with.
    pub shown: Merchant,
    /// Another merchant.
    pub stranger: Merchant,
    /// Who issued all these but the first.
    pub second_authority: Issuer,
    /// The platform's certificate.
    platform: CertificateDer<'static>,
}

/// A merchant, as a client: an id, a certificate, and the key to it.
pub struct Merchant {
    /// The merchant number.
    pub mchid: &'static str,
    /// The serial number of the certificate.
    pub serial: String,
    /// The file of the certificate.
    pub certificate_file: PathBuf,
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    private_key_pem: String,
    key: RsaKeyPair,
}

/// Returns the deployment; the first caller makes it.
pub fn deployment() -> &'static Deployment {
    static DEPLOYMENT: OnceLock<Deployment> = OnceLock::new();
    DEPLOYMENT.get_or_init(Deployment::make)
}

impl Deployment {
    fn make() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("api-{}", std::process::id()));
        remove_leftovers();
        let (random, now) = (&mut UnwrapErr(SysRng), SystemClock.now());
        config::init(&folder, random, now).expect("init");
        let sample = folder.join("merchants").join(SAMPLE_MCHID);
        let certificate = read(&sample.join("apiclient_cert.pem"));
        let private_key = read(&sample.join("apiclient_key.pem"));
        let merchant = Merchant::new(SAMPLE_MCHID, sample.join("apiclient_cert.pem"), &certificate, private_key);

        let issuer = Issuer::new(random, now).expect("issuer");
        let authority = folder.join("authority/certificate.pem");
        let both = format!("{}\n{}", read(&authority), issuer.certificate_pem());
        fs::write(&authority, both).expect("two authorities");
        let mut issue = |name: &str, mchid: &'static str| {
            let id = mchid.parse().expect("a merchant number");
            let Issued { certificate_pem, private_key_pem, .. } = issuer.issue_merchant(random, id).expect("issue");
            let file = folder.join(name);
            write_secret(&file, &certificate_pem);
            Merchant::new(mchid, file, &certificate_pem, private_key_pem)
        };
        let second_key = issue("second_key.pem", SAMPLE_MCHID);
        let shown = issue("shown.pem", SAMPLE_MCHID);
        let stranger = issue("stranger.pem", STRANGER_MCHID);
        fs::write(folder.join("second_authority.pem"), issuer.certificate_pem()).expect("an authority");
        let platform = CertificateDer::from_pem_file(folder.join("platform/certificate.pem")).expect("platform");
        Self { folder, merchant, second_key, shown, stranger, second_authority: issuer, platform }
    }

    /// Returns the configuration as `init` wrote it, every file by its full path.
    pub fn configuration(&self) -> toml::Table {
        let mut table = read(&self.folder.join("tollgate.toml")).parse().expect("TOML");
        make_absolute(&mut table, &self.folder);
        table
    }

    /// Returns the certificates that the gate's TLS certificate chains to.
    pub fn authority(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.folder.join("authority/certificate.pem")).expect("authority")
    }

    /// Returns the serial number of the platform's certificate, as answers name it.
    pub fn platform_serial(&self) -> String {
        serial(&self.platform)
    }

    /// Tells whether the platform's certificate vouches for a signature.
    pub fn platform_signed(&self, message: &[u8], signature: &str) -> bool {
        let (_, certificate) = X509Certificate::from_der(&self.platform).expect("a certificate");
        let key = &certificate.public_key().subject_public_key.data;
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
        STANDARD.decode(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
    }
}

impl Merchant {
    fn new(mchid: &'static str, certificate_file: PathBuf, certificate_pem: &str, private_key_pem: String) -> Self {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).expect("a certificate");
        let der = PrivateKeyDer::from_pem_slice(private_key_pem.as_bytes()).expect("a private key");
        let key = RsaKeyPair::from_pkcs8(der.secret_der()).expect("an RSA key");
        let serial = serial(&certificate);
        Self { mchid, serial, certificate_file, certificate, private_key_pem, key }
    }

    /// Signs, and returns the signature in Base64.
    pub fn sign(&self, message: &[u8]) -> String {
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).expect("sign");
        STANDARD.encode(signature)
    }

    /// Returns the private key, for TLS.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.private_key_pem.as_bytes()).expect("a private key")
    }
}

fn serial(certificate: &CertificateDer<'_>) -> String {
    let (_, certificate) = X509Certificate::from_der(certificate).expect("a certificate");
    certificate.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Makes paths independent of where the configuration lies.
fn make_absolute(table: &mut toml::Table, folder: &Path) {
    for (name, value) in table.iter_mut() {
        match value {
            toml::Value::String(path) if name.ends_with("_file") => {
                *path = folder.join(&*path).to_str().expect("a path of text").to_owned();
            }
            toml::Value::Table(table) => make_absolute(table, folder),
            toml::Value::Array(items) => {
                items.iter_mut().filter_map(toml::Value::as_table_mut).for_each(|table| make_absolute(table, folder));
            }
            _ => {}
        }
    }
}

/// Removes what processes that are gone left: nothing here outlives its process otherwise.
fn remove_leftovers() {
    let entries = fs::read_dir(env!("CARGO_TARGET_TMPDIR")).expect("the folder for tests");
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let process = path.file_name().and_then(|name| name.to_str()?.strip_prefix("api-"));
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            // Another process of these tests may be removing it, too.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a file that init made")
}

/// Writes a file that only its owner may open.
pub fn write_secret(path: &Path, text: &str) {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("write");
}

/// A second merchant.
const STRANGER_MCHID: &str = "1900000002";
