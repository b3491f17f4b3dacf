//! A configuration for a gate under load: a folder with everything that the gate needs, and the keys of its merchants.

mod authority;
mod configuration;
mod gate;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::StdRng;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use tempfile::TempDir;
use tollgate::config::{self, Config, ConfigError};
use tollgate::time::{Clock as _, SystemClock, UnixMillis};

use crate::keys::LoadKey;
use authority::Authority;

pub use gate::Gate;

/// What a deployment is to be like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The merchants; at least one.
    pub merchants: Vec<MerchantPlan>,
    /// The sections `limit`.
    pub limits: toml::value::Array,
    /// The limits that come with the gate, by the names of their presets.
    pub presets: Vec<String>,
    /// Worker threads; 0 for one a core.
    pub workers: usize,
    /// Where the gate forwards to, `IP:PORT` or `unix:PATH`; without it there are no listeners that forward.
    pub upstream: Option<String>,
    /// The calendar of limits that name none: an IANA name.
    pub time_zone: String,
    /// Whether the public listeners speak TLS.
    pub tls: bool,
    /// Whether all listen on Unix sockets instead of ports.
    pub socket: bool,
    /// Keys to set, by section: `replay`, `orders`, `rows`, `bounds` or another.
    pub bounds: toml::Table,
}

/// A merchant to be.
#[derive(Clone, Debug)]
pub struct MerchantPlan {
    /// The merchant number.
    pub mchid: String,
    /// `ordinary` or `micro`.
    pub kind: String,
    /// The industry category.
    pub category: String,
    /// `low`, `normal` or `high`.
    pub risk: String,
    /// Whether risk control lets nothing but queries pass.
    pub suspended: bool,
    /// Whether its key is revoked.
    pub revoked: bool,
}

/// A merchant, as a client.
#[derive(Debug)]
pub struct Merchant {
    /// The merchant number.
    pub mchid: String,
    /// The serial number of its API certificate.
    pub serial: String,
    /// The key that the certificate is for.
    pub key: LoadKey,
}

/// A deployment in a folder of its own, which goes when this is dropped.
#[derive(Debug)]
pub struct Deployment {
    /// The folder.
    pub folder: TempDir,
    /// The configuration.
    pub config_file: PathBuf,
    /// The merchants, in the order of the plan.
    pub merchants: Vec<Merchant>,
    /// A TLS client that trusts the gate's certificate.
    pub tls_client: Arc<rustls::ClientConfig>,
}

/// A deployment could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DeploymentError {
    /// The folder cannot be made.
    #[error("no folder for temporary files: {0}")]
    Folder(io::Error),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The new configuration could not be begun.
    #[error(transparent)]
    Init(#[from] ConfigError),
    /// What was begun is no TOML.
    #[error("the configuration that was begun cannot be read: {0}")]
    Toml(#[from] toml::de::Error),
    /// A key of the plan's `bounds` is not a section.
    #[error("`bounds.{0}` is not a section with keys")]
    NoSection(String),
    /// A certificate could not be issued.
    #[error("no certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The instant is not one that a certificate can state.
    #[error("the clock stands before 1970 or beyond what a certificate can state")]
    Clock,
    /// The authority of the TLS certificate cannot be read.
    #[error("the authority of the TLS certificate cannot be read: {0}")]
    Pem(#[from] pem::Error),
    /// The TLS client cannot be set up.
    #[error("no TLS client: {0}")]
    Tls(#[from] rustls::Error),
}

impl Deployment {
    /// Writes a deployment as planned, each merchant's key of so many primes.
    ///
    /// # Errors
    /// [`DeploymentError`] where a part cannot be made or written. What is wrong with the plan itself shows when the
    /// configuration is loaded.
    pub fn write(plan: &Plan, primes: usize, random: &mut StdRng) -> Result<Self, DeploymentError> {
        Self::write_at(plan, primes, random, SystemClock.now())
    }

    /// Writes a deployment as [`Deployment::write`], whose certificates are issued at this time.
    ///
    /// # Errors
    /// As [`Deployment::write`].
    pub fn write_at(plan: &Plan, primes: usize, random: &mut StdRng, now: UnixMillis) -> Result<Self, DeploymentError> {
        let temporary = tempfile::Builder::new().prefix("gate-").tempdir().map_err(DeploymentError::Folder)?;
        let folder = temporary.path().join("deployment");
        config::init(&folder, random, now)?;
        // The authority that was begun with remains that of the TLS certificate.
        let authority = CertificateDer::from_pem_file(folder.join(configuration::AUTHORITY_FILE))?;
        let tls_client = tls_client(authority)?;

        let authority = Authority::new(random, now)?;
        write(&folder.join(configuration::AUTHORITY_FILE), &authority.certificate_pem())?;
        let mut merchants = Vec::with_capacity(plan.merchants.len());
        for MerchantPlan { mchid, .. } in &plan.merchants {
            let key = LoadKey::generate(primes, random);
            let issued = authority.issue(mchid, &key, random)?;
            write(&folder.join(configuration::certificate_file(mchid)), &issued.certificate_pem)?;
            merchants.push(Merchant { mchid: mchid.clone(), serial: issued.serial, key });
        }

        let config_file = folder.join("tollgate.toml");
        let begun = std::fs::read_to_string(&config_file);
        let begun = begun.map_err(|source| DeploymentError::File { path: config_file.clone(), source })?;
        write(&config_file, &configuration::write(begun.parse()?, plan)?.to_string())?;
        Ok(Self { folder: temporary, config_file, merchants, tls_client })
    }

    /// Returns the appid that all merchants use with the interface JSAPI.
    pub fn appid() -> &'static str {
        let jsapi = configuration::APPROVED.iter().find(|approved| approved.kind == "jsapi");
        jsapi.map_or("", |approved| approved.appid)
    }

    /// Returns the files of the gate's TLS certificate and key.
    pub fn tls_files(&self) -> [PathBuf; 2] {
        ["tls/certificate.pem", "tls/private_key.pem"].map(|file| self.config_file.with_file_name(file))
    }

    /// Loads the configuration, as a gate does.
    ///
    /// # Errors
    /// [`ConfigError`] names what is wrong with the plan.
    pub fn load(&self, now: UnixMillis) -> Result<Config, ConfigError> {
        config::load(&self.config_file, now)
    }
}

fn tls_client(authority: CertificateDer<'static>) -> Result<Arc<rustls::ClientConfig>, DeploymentError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
}

fn write(path: &Path, text: &str) -> Result<(), DeploymentError> {
    std::fs::write(path, text).map_err(|source| DeploymentError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
