//! Makes a new configuration that runs as it is: a commented file, an authority, keys and certificates, one merchant.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rand::CryptoRng;

use crate::prf::DEPLOYMENT_KEY_BYTES;
use crate::time::UnixMillis;
use crate::types::MerchantId;

use super::fault::{ConfigError, Problem};
use super::issue::{IssueError, Issuer};

/// Makes the folder `dir` with a configuration, `tollgate.toml`, and every file it names; returns the files in the
/// order written. All are for their owner only (0600).
///
/// # Errors
/// [`ConfigError`] where `dir` exists and is not an empty folder, or something cannot be made or written.
pub fn init(dir: &Path, random: &mut dyn CryptoRng, now: UnixMillis) -> Result<Vec<PathBuf>, ConfigError> {
    let fail = |problem| ConfigError::of_file(dir, problem);
    match std::fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => return Err(fail(Problem::Exists)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => return Err(fail(Problem::Exists)),
    }
    let contents = contents(random, now).map_err(fail)?;
    write_all(dir, &contents).map_err(fail)
}

/// Makes the content of every file. Nothing is written before all of it could be made.
pub(super) fn contents(random: &mut dyn CryptoRng, now: UnixMillis) -> Result<Vec<(String, String)>, Problem> {
    let issuer = Issuer::new(random, now)?;
    let server = issuer.issue_server(random, SERVER_NAMES)?;
    let platform = issuer.issue_platform(random)?;
    let id: MerchantId = SAMPLE_MCHID.parse().map_err(IssueError::from)?;
    let merchant = issuer.issue_merchant(random, id)?;
    let merchant_file = |name: &str| format!("merchants/{SAMPLE_MCHID}/{name}");
    let made = jiff::Timestamp::from_second(now.seconds()).unwrap_or_default();
    let template =
        TEMPLATE.replace("{{made}}", &made.to_string()).replace("{{platform_key}}", platform.serial.as_str());
    Ok(vec![
        ("deployment.key".to_owned(), deployment_key(random)),
        ("authority/certificate.pem".to_owned(), issuer.certificate_pem()),
        ("authority/private_key.pem".to_owned(), issuer.private_key_pem()),
        ("tls/certificate.pem".to_owned(), server.certificate_pem),
        ("tls/private_key.pem".to_owned(), server.private_key_pem),
        ("platform/certificate.pem".to_owned(), platform.certificate_pem),
        ("platform/private_key.pem".to_owned(), platform.private_key_pem),
        (merchant_file("apiclient_cert.pem"), merchant.certificate_pem),
        (merchant_file("apiclient_key.pem"), merchant.private_key_pem),
        (merchant_file("apiv3.key"), apiv3_key(random)),
        // Last: where this file stands, all that it names does too.
        (CONFIG_NAME.to_owned(), template),
    ])
}

/// Writes new files below a folder; returns their paths.
pub(super) fn write_all(dir: &Path, contents: &[(String, String)]) -> Result<Vec<PathBuf>, Problem> {
    let write = |(name, content): &(String, String)| {
        let path = dir.join(name);
        match write_new(&path, content) {
            Ok(()) => Ok(path),
            Err(source) => Err(Problem::Unwritable { path, source }),
        }
    };
    contents.iter().map(write).collect()
}

fn deployment_key(random: &mut dyn CryptoRng) -> String {
    let mut key = [0; DEPLOYMENT_KEY_BYTES];
    random.fill_bytes(&mut key);
    key.iter().map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect()
}

/// Makes 32 random letters and digits, some 190 bits.
fn apiv3_key(random: &mut dyn CryptoRng) -> String {
    let mut key = String::new();
    while key.len() < 32 {
        let mut byte = [0];
        random.fill_bytes(&mut byte);
        key.extend(byte.iter().map(|byte| char::from(*byte)).filter(char::is_ascii_alphanumeric));
    }
    key + "\n"
}

fn write_new(path: &Path, content: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

/// The configuration that [`init`] writes: every key with what it means, its unit, range and default.
pub const TEMPLATE: &str = include_str!("template.toml");

/// The merchant of a new configuration.
pub const SAMPLE_MCHID: &str = "1900000001";

/// The name of the file that [`init`] writes the configuration to.
pub const CONFIG_NAME: &str = "tollgate.toml";

/// What the sample TLS certificate is for: this machine, and the platform's name for clients that know no other.
const SERVER_NAMES: &[&str] = &["localhost", "127.0.0.1", "api.mch.weixin.qq.com"];
