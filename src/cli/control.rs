//! The other end of the control listener: one HTTP/1.1 request a connection, over TCP or a Unix socket.
//!
//! Waits and answers are bounded, but for streams, which are passed on as they come. An error says what to change.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::time;

use crate::config::{self, ConfigError};
use crate::front::Address;
use crate::time::{Clock, SystemClock};

/// Where a gate is controlled.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Place {
    /// The gate's control listener: IP:PORT or unix:PATH.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub control: Option<Address>,
    /// The gate's configuration, which names the control listener.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Place {
    /// Finds the control listener.
    ///
    /// # Errors
    /// [`ControlError::Config`] or [`ControlError::NoListener`] where the configuration names none.
    pub fn find(&self) -> Result<Address, ControlError> {
        match (&self.control, &self.config) {
            (Some(address), _) => Ok(address.clone()),
            (None, Some(file)) => {
                let config = config::load(file, SystemClock.now()).map_err(Box::new)?;
                config.control.ok_or_else(|| ControlError::NoListener { file: file.clone() })
            }
            (None, None) => Err(ControlError::NoPlace),
        }
    }
}

/// Reads an address as configuration writes it.
///
/// # Errors
/// What to write instead.
pub(super) fn address(text: &str) -> Result<Address, &'static str> {
    let expected = "write an IP address and a port such as 127.0.0.1:9090, or unix: and a path";
    match text.strip_prefix("unix:") {
        Some("") => Err(expected),
        Some(path) => Ok(Address::Unix(path.into())),
        None => text.parse::<SocketAddr>().map(Address::Tcp).map_err(|_| expected),
    }
}

/// Why a gate could not be asked, or did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    /// Nobody listens there.
    #[error(
        "no gate can be reached at {at}: {source}; start it, or give the address of its `kind = \"control\"` listener"
    )]
    Unreachable {
        /// Where.
        at: Address,
        /// What the operating system says.
        source: io::Error,
    },
    /// Whoever listens there does not speak as a control listener does.
    #[error(
        "what listens at {at} is no control listener; give the address of the gate's `kind = \"control\"` listener"
    )]
    NotControl {
        /// Where.
        at: Address,
    },
    /// The connection broke; a Unix socket hangs up on other users.
    #[error(
        "the connection to {at} broke off: {source}; see that the gate still runs, and ask as its own user or root"
    )]
    Broken {
        /// Where.
        at: Address,
        /// How.
        source: hyper::Error,
    },
    /// The peer was silent for too long.
    #[error("no answer from {at} within {} s; see whether the gate is busy or the address is another's", waited.as_secs())]
    Silent {
        /// Where.
        at: Address,
        /// For how long.
        waited: Duration,
    },
    /// The gate refused.
    #[error("the gate answered {status}: {}", text.trim_end())]
    Refused {
        /// The status.
        status: StatusCode,
        /// What the gate says is to be changed.
        text: String,
    },
    /// The answer is longer than any answer of a gate.
    #[error("the answer is longer than {bytes_max} bytes; ask for less, or use --export")]
    Long {
        /// The bound.
        bytes_max: usize,
    },
    /// The answer is not what this program reads.
    #[error("the answer cannot be read: {0}; use the program that the gate was started with")]
    Form(serde_json::Error),
    /// The configuration that should name the listener has a mistake.
    #[error(transparent)]
    Config(#[from] Box<ConfigError>),
    /// The configuration names no control listener.
    #[error("{}: there is no control listener; add a [[listener]] with kind = \"control\", or give --control", file.display())]
    NoListener {
        /// The configuration.
        file: PathBuf,
    },
    /// Neither an address nor a configuration is given.
    #[error("give --control ADDR, or --config FILE")]
    NoPlace,
    /// This end failed.
    #[error("this end failed: {0}")]
    Local(#[from] io::Error),
}

/// Asks one gate.
pub(super) struct Client {
    runtime: Runtime,
    at: Address,
    bounds: Bounds,
}

/// What is taken of a gate before it is given up.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Longest wait for a connection.
    connect_timeout: Duration,
    /// Longest wait for an answer, or for more of it.
    answer_timeout: Duration,
    /// Longest answer that is not streamed.
    answer_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(60),
            answer_bytes_max: 16 * 1024 * 1024,
        }
    }
}

impl Client {
    /// Makes a client of the gate whose control listener is there.
    ///
    /// # Errors
    /// [`ControlError::Local`].
    pub fn new(at: Address) -> Result<Self, ControlError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, at, bounds: Bounds::default() })
    }

    /// Gets what is there.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn get(&self, target: &str) -> Result<Vec<u8>, ControlError> {
        self.runtime.block_on(self.whole(Method::GET, target, Bytes::new()))
    }

    /// Posts a body, and returns the answer.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn post(&self, target: &str, body: Vec<u8>) -> Result<Vec<u8>, ControlError> {
        self.runtime.block_on(self.whole(Method::POST, target, body.into()))
    }

    /// Passes on what is there, as it comes.
    ///
    /// # Errors
    /// [`ControlError`]; what came before it broke off has been passed on.
    pub fn stream(&self, target: &str, sink: &mut dyn Write) -> Result<(), ControlError> {
        self.runtime.block_on(async {
            let mut body = self.ask(Method::GET, target, Bytes::new()).await?.into_body();
            while let Some(data) = self.more(&mut body).await? {
                sink.write_all(&data)?;
            }
            Ok(sink.flush()?)
        })
    }

    async fn whole(&self, method: Method, target: &str, body: Bytes) -> Result<Vec<u8>, ControlError> {
        let answer = self.ask(method, target, body).await?;
        self.read(answer.into_body()).await
    }

    /// Asks, and returns an answer that is no refusal.
    async fn ask(&self, method: Method, target: &str, body: Bytes) -> Result<Response<Incoming>, ControlError> {
        let connect = async {
            match &self.at {
                Address::Tcp(address) => TcpStream::connect(address).await.map(Stream::Tcp),
                Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            }
        };
        let stream = self.within(self.bounds.connect_timeout, connect).await?;
        let stream = stream.map_err(|source| ControlError::Unreachable { at: self.at.clone(), source })?;
        // Every target is written by this program, with values percent-encoded.
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, "tollgate")
            .header(CONNECTION, "close")
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        let answer = match stream {
            Stream::Tcp(stream) => self.converse(stream, request).await?,
            Stream::Unix(stream) => self.converse(stream, request).await?,
        };
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await?) }
    }

    async fn converse<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ControlError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let answered = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            // How it ended shows in the answer that is on it.
            drop(tokio::spawn(connection));
            sender.send_request(request).await
        };
        self.within(self.bounds.answer_timeout, answered).await?.map_err(|error| self.broken(error))
    }

    /// Reads why the gate refused.
    async fn refusal(&self, answer: Response<Incoming>) -> Result<ControlError, ControlError> {
        let status = answer.status();
        let kind = answer.headers().get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
        if !kind.starts_with(b"text/plain") {
            return Err(ControlError::NotControl { at: self.at.clone() });
        }
        let text = String::from_utf8_lossy(&self.read(answer.into_body()).await?).into_owned();
        Ok(ControlError::Refused { status, text })
    }

    async fn read(&self, mut body: Incoming) -> Result<Vec<u8>, ControlError> {
        let bytes_max = self.bounds.answer_bytes_max;
        let mut read = BytesMut::new();
        while let Some(data) = self.more(&mut body).await? {
            if data.len() > bytes_max.saturating_sub(read.len()) {
                return Err(ControlError::Long { bytes_max });
            }
            read.extend_from_slice(&data);
        }
        Ok(read.into())
    }

    async fn more(&self, body: &mut Incoming) -> Result<Option<Bytes>, ControlError> {
        loop {
            match self.within(self.bounds.answer_timeout, body.frame()).await? {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.broken(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    async fn within<T>(&self, waited: Duration, work: impl Future<Output = T>) -> Result<T, ControlError> {
        time::timeout(waited, work).await.map_err(|_| ControlError::Silent { at: self.at.clone(), waited })
    }

    fn broken(&self, source: hyper::Error) -> ControlError {
        if source.is_parse() {
            ControlError::NotControl { at: self.at.clone() }
        } else {
            ControlError::Broken { at: self.at.clone(), source }
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Writes a target: a path and the parameters that have a value, percent-encoded.
pub(super) fn target(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut target = path.to_owned();
    let mut separator = '?';
    for (name, value) in parameters {
        let Some(value) = value else { continue };
        target.push(separator);
        target.push_str(name);
        target.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                target.push(char::from(byte));
            } else {
                target.push_str(&format!("%{byte:02X}"));
            }
        }
        separator = '&';
    }
    target
}

#[cfg(test)]
mod tests;
