//! What is built today instead of a gate: nginx with Lua, and Redis or shared memory for the counters.
//!
//! The rival does the same work: it parses the `Authorization` header of a signed payment, verifies it with OpenSSL,
//! takes the nonce and four counters ([`CEILINGS`]) and answers 200, 401 (signature, time), 403 (`RULE_LIMIT`),
//! 409 (nonce used) or 400. The body is JSON with `/amount/total` in fen, `/payer/openid` and, as the header, `/mchid`.
//! The reasons for each setting stand in the files of `rivals/`. Nothing is kept on disk, which favours the rival.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::apt;
use crate::process::Child;

/// Where the rival keeps nonces and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Redis on the same core, asked over a Unix socket with one script a request.
    Redis,
    /// Shared memory of nginx.
    SharedDict,
}

/// What a customer and a merchant may pay and take, in fen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceilings {
    /// Of a customer in a calendar day (UTC+8).
    pub customer_day_fen: u64,
    /// Of a customer in a calendar month.
    pub customer_month_fen: u64,
    /// Of a merchant in a calendar day.
    pub merchant_day_fen: u64,
    /// Of a merchant in a calendar month.
    pub merchant_month_fen: u64,
}

/// The ceilings of every rival: far above a load, and a single request can be above them.
pub const CEILINGS: Ceilings = Ceilings {
    customer_day_fen: 1_000_000_000,
    customer_month_fen: 10_000_000_000,
    merchant_day_fen: 10_000_000_000_000,
    merchant_month_fen: 100_000_000_000_000,
};

/// A rival that listens; ended when this is dropped.
pub struct Rival {
    address: SocketAddr,
    nginx: Child,
    /// Only with [`Kind::Redis`]. After nginx, so that nginx ends first and finds its store to the last.
    redis: Option<Child>,
}

impl Rival {
    /// Says why no rival can run here: the packages that are not installed.
    #[must_use]
    pub fn missing() -> Option<String> {
        let lacking: Vec<&str> =
            PACKAGES.iter().filter(|(_, file)| !is_installed(file)).map(|(package, _)| *package).collect();
        if lacking.is_empty() { None } else { Some(format!("not installed: {}", lacking.join(", "))) }
    }

    /// Installs the Debian packages with `apt-get`, through `sudo` unless this is root.
    ///
    /// # Errors
    /// `apt-get` does not start, or ends with a failure.
    pub fn install() -> io::Result<()> {
        apt::install(PACKAGES.iter().map(|(package, _)| *package))
    }

    /// Writes configuration and keys into `folder` and starts the rival, all of it on `core` if given.
    ///
    /// A key is the serial number of a certificate, in hexadecimal capitals, and its public key (SPKI, DER).
    ///
    /// # Errors
    /// Packages are missing, a name does not fit, a file cannot be written, or a program does not come up.
    pub fn start(
        kind: Kind,
        core: Option<usize>,
        keys: &[(String, Vec<u8>)],
        folder: &Path,
    ) -> Result<Self, RivalError> {
        if let Some(reason) = Self::missing() {
            return Err(RivalError::Missing { reason });
        }
        let address = free_address()?;
        write_files(kind, address, keys, folder)?;
        let redis = match kind {
            Kind::Redis => Some(start_redis(core, folder)?),
            Kind::SharedDict => None,
        };
        let nginx = start_nginx(core, folder, address)?;
        Ok(Self { address, nginx, redis })
    }

    /// Returns where it answers HTTP/1.1.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Measures the processor time, in seconds, that all processes of the rival have taken so far.
    ///
    /// # Errors
    /// A process is gone.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        let redis = self.redis.as_ref().map_or(Ok(0.0), Child::cpu_seconds)?;
        Ok(self.nginx.cpu_seconds()? + redis)
    }
}

/// Why a rival does not run.
#[derive(Debug, thiserror::Error)]
pub enum RivalError {
    /// Packages are missing.
    #[error("{reason}")]
    Missing {
        /// What [`Rival::missing`] says.
        reason: String,
    },
    /// The folder's name would need quoting in the configuration files.
    #[error("{folder:?} may hold only letters, digits and ./_-")]
    Folder {
        /// The folder.
        folder: PathBuf,
    },
    /// A serial number is no hexadecimal number in capitals, of at most 40 digits.
    #[error("{serial:?} is not the serial number of a certificate")]
    Serial {
        /// What was given instead.
        serial: String,
    },
    /// There is no free port.
    #[error("no free port")]
    Port(#[source] io::Error),
    /// A file cannot be written.
    #[error("cannot write {path:?}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A program does not start, or does not accept a connection in time.
    #[error("{program} does not come up")]
    Start {
        /// The program.
        program: &'static str,
        /// The reason, with the last line the program wrote.
        source: io::Error,
    },
}

/// Tells if a file of a package is there; `{arch}` stands for the folder of the machine's libraries.
fn is_installed(file: &str) -> bool {
    Path::new(&file.replace("{arch}", &format!("{}-linux-gnu", std::env::consts::ARCH))).exists()
}

/// Finds a port nobody listens on. It is free again when nginx binds it: nginx cannot tell a port it was given.
fn free_address() -> Result<SocketAddr, RivalError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).map_err(RivalError::Port)
}

fn write_files(kind: Kind, address: SocketAddr, keys: &[(String, Vec<u8>)], folder: &Path) -> Result<(), RivalError> {
    let name = folder
        .to_str()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./_-".contains(&byte)))
        .ok_or_else(|| RivalError::Folder { folder: folder.to_owned() })?;
    let keys_folder = folder.join("keys");
    fs::create_dir_all(&keys_folder).map_err(|source| RivalError::File { path: keys_folder.clone(), source })?;
    for (serial, spki_der) in keys {
        if serial.is_empty() || serial.len() > 40 || !serial.bytes().all(|byte| b"0123456789ABCDEF".contains(&byte)) {
            return Err(RivalError::Serial { serial: serial.clone() });
        }
        write(&keys_folder.join(format!("{serial}.pem")), &public_key_pem(spki_der))?;
    }
    write(&folder.join("nginx.conf"), &nginx_conf(kind, address, name))?;
    write(&folder.join("redis.conf"), &redis_conf(name))?;
    for (file, text) in SCRIPTS {
        write(&folder.join(file), text)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), RivalError> {
    fs::write(path, text).map_err(|source| RivalError::File { path: path.to_owned(), source })
}

fn nginx_conf(kind: Kind, address: SocketAddr, folder: &str) -> String {
    // As root, workers would otherwise run as a user who cannot enter a folder for temporary files of root.
    let user = if rustix::process::geteuid().is_root() { "user root root;" } else { "" };
    let store = match kind {
        Kind::Redis => "store_redis",
        Kind::SharedDict => "store_shdict",
    };
    NGINX_CONF
        .replace("@USER_DIRECTIVE@", user)
        .replace("@FOLDER@", folder)
        .replace("@MODULES@", MODULES)
        .replace("@NONCES_MB@", &DICT_MB.to_string())
        .replace("@COUNTERS_MB@", &DICT_MB.to_string())
        .replace("@STORE@", store)
        .replace("@CUSTOMER_DAY@", &CEILINGS.customer_day_fen.to_string())
        .replace("@CUSTOMER_MONTH@", &CEILINGS.customer_month_fen.to_string())
        .replace("@MERCHANT_DAY@", &CEILINGS.merchant_day_fen.to_string())
        .replace("@MERCHANT_MONTH@", &CEILINGS.merchant_month_fen.to_string())
        .replace("@ADDRESS@", &address.to_string())
}

fn redis_conf(folder: &str) -> String {
    REDIS_CONF.replace("@FOLDER@", folder)
}

/// Writes a public key as PEM (RFC 7468 section 13).
fn public_key_pem(spki_der: &[u8]) -> String {
    let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
    // 48 bytes make the 64 characters of a line.
    for line in spki_der.chunks(48) {
        STANDARD.encode_string(line, &mut pem);
        pem.push('\n');
    }
    pem.push_str("-----END PUBLIC KEY-----\n");
    pem
}

fn start_redis(core: Option<usize>, folder: &Path) -> Result<Child, RivalError> {
    let failed = |source| RivalError::Start { program: REDIS, source };
    let config = folder.join("redis.conf");
    let mut redis = Child::start(Path::new(REDIS), &[config.as_os_str()], core).map_err(failed)?;
    let socket = folder.join("redis.sock");
    wait_until(&mut redis, || UnixStream::connect(&socket).is_ok()).map_err(failed)?;
    Ok(redis)
}

fn start_nginx(core: Option<usize>, folder: &Path, address: SocketAddr) -> Result<Child, RivalError> {
    let failed = |source| RivalError::Start { program: NGINX, source };
    let (log, config) = (folder.join("error.log"), folder.join("nginx.conf"));
    let arguments = ["-p".as_ref(), folder.as_os_str(), "-e".as_ref(), log.as_os_str(), "-c".as_ref()];
    let arguments: Vec<&OsStr> = arguments.into_iter().chain([config.as_os_str()]).collect();
    let mut nginx = Child::start(Path::new(NGINX), &arguments, core).map_err(failed)?;
    wait_until(&mut nginx, || TcpStream::connect(address).is_ok()).map_err(failed)?;
    Ok(nginx)
}

/// Waits until the child accepts connections; notices at once if it ends instead.
fn wait_until(child: &mut Child, accepts: impl Fn() -> bool) -> io::Result<()> {
    let start = Instant::now();
    while !accepts() {
        match child.wait_for_line(|_| false, START_POLL) {
            Err(silence) if silence.kind() == io::ErrorKind::TimedOut && start.elapsed() < START_PATIENCE => {}
            Err(ended) => return Err(ended),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// The Debian packages, each with a file by which it is known to be installed.
const PACKAGES: [(&str, &str); 7] = [
    ("nginx", NGINX),
    ("libnginx-mod-http-lua", "/usr/lib/nginx/modules/ngx_http_lua_module.so"),
    ("libnginx-mod-http-ndk", "/usr/lib/nginx/modules/ndk_http_module.so"),
    ("lua-resty-core", "/usr/share/lua/5.1/resty/core.lua"),
    ("lua-cjson", "/usr/lib/{arch}/lua/5.1/cjson.so"),
    ("lua-nginx-redis", "/usr/share/lua/5.1/nginx/redis.lua"),
    ("redis-server", REDIS),
];
const NGINX: &str = "/usr/sbin/nginx";
const REDIS: &str = "/usr/bin/redis-server";
const MODULES: &str = "/usr/lib/nginx/modules";
const NGINX_CONF: &str = include_str!("../rivals/nginx.conf.in");
const REDIS_CONF: &str = include_str!("../rivals/redis.conf.in");
const SCRIPTS: [(&str, &str); 3] = [
    ("check.lua", include_str!("../rivals/check.lua")),
    ("store_redis.lua", include_str!("../rivals/store_redis.lua")),
    ("store_shdict.lua", include_str!("../rivals/store_shdict.lua")),
];
/// Of each dictionary: 4 M entries.
const DICT_MB: u32 = 512;
const START_PATIENCE: Duration = Duration::from_secs(10);
const START_POLL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
