//! The merchants' side of the wire: HTTP/1.1 over TLS 1.3, and the signatures of the gate's answers verified.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::DemoError;

/// A connection to the gate. Closed when dropped.
pub(super) struct Connection {
    sender: SendRequest<Outgoing>,
    driver: JoinHandle<()>,
}

/// What the gate answered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What an answer's signature headers are worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    /// There are none.
    Absent,
    /// The signature holds; by the key of this serial or id.
    By(String),
    /// Some are missing, the key is not one of the platform's, or the signature does not hold.
    Broken,
}

impl Connection {
    /// Connects; with TLS where a connector is given.
    ///
    /// # Errors
    /// Where the connection or the handshake fails.
    pub async fn open(address: SocketAddr, tls: Option<&TlsConnector>) -> Result<Self, DemoError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        match tls {
            None => Self::over(stream).await,
            Some(tls) => Self::over(tls.connect(ServerName::try_from("localhost")?, stream).await?).await,
        }
    }

    async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Result<Self, DemoError> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // How it ended shows in the request that was on it.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driver })
    }

    /// Sends a request and waits for the whole answer.
    ///
    /// # Errors
    /// Where the connection breaks, or no answer comes within [`EXCHANGE_TIMEOUT`].
    pub async fn send(&mut self, request: Request<Outgoing>) -> Result<Answer, DemoError> {
        let exchange = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        tokio::time::timeout(EXCHANGE_TIMEOUT, exchange).await.map_err(|_| DemoError::NoAnswer)?
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Answer {
    /// Returns a member of the body; `None` where the body is not JSON or has no such member.
    pub fn member(&self, pointer: &str) -> Option<serde_json::Value> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        body.pointer(pointer).cloned()
    }

    /// Returns a member of the body that is a text.
    pub fn text(&self, pointer: &str) -> Option<String> {
        self.member(pointer)?.as_str().map(str::to_owned)
    }

    /// Returns the error code; empty where there is none.
    pub fn code(&self) -> String {
        self.text("/code").unwrap_or_default()
    }

    /// Returns a header; `None` where it is absent or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The platform's public keys, by serial or id: what every merchant verifies answers with.
#[derive(Clone)]
pub(super) struct Keyring(Arc<HashMap<String, ParsedPublicKey>>);

impl Keyring {
    /// Reads keys, each a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// Where one is not an RSA key.
    pub fn new(keys: &[(&str, &[u8])]) -> Result<Self, DemoError> {
        let parse = |(serial, spki): &(&str, &[u8])| {
            let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, spki).map_err(|_| DemoError::Key)?;
            Ok(((*serial).to_owned(), key))
        };
        keys.iter().map(parse).collect::<Result<_, DemoError>>().map(|keys| Self(Arc::new(keys)))
    }

    /// Verifies an answer: RSASSA-PKCS1-v1_5 with SHA-256 over timestamp, nonce and body, each ended by LF.
    pub fn verify(&self, answer: &Answer) -> Signature {
        if SIGNATURE_FIELDS.iter().all(|name| !answer.headers.contains_key(*name)) {
            return Signature::Absent;
        }
        let holds = || {
            let [timestamp, nonce, signature, serial, kind] = SIGNATURE_FIELDS.map(|name| answer.header(name));
            let message = [timestamp?.as_bytes(), b"\n", nonce?.as_bytes(), b"\n", &answer.body, b"\n"].concat();
            let signature = STANDARD.decode(signature?).ok()?;
            let key = self.0.get(serial?)?;
            let holds = kind? == "WECHATPAY2-SHA256-RSA2048" && key.verify_sig(&message, &signature).is_ok();
            holds.then_some(serial?.to_owned())
        };
        holds().map_or(Signature::Broken, Signature::By)
    }
}

/// Makes the TLS side of clients that trust one authority and speak TLS 1.3 only.
///
/// # Errors
/// Where the authority's certificate cannot be read.
pub(super) fn connector(authority_pem: &str) -> Result<TlsConnector, DemoError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority_pem.as_bytes()).map_err(|_| DemoError::Key)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A body whose head may promise more bytes than ever follow: then the connection stays open, and silent.
pub(super) struct Outgoing {
    bytes: Option<Bytes>,
    left_bytes: u64,
}

impl Outgoing {
    pub fn whole(bytes: Bytes) -> Self {
        let left_bytes = length(&bytes);
        Self { bytes: Some(bytes), left_bytes }
    }

    /// Makes a body that promises `promised_bytes` and stops after `bytes`.
    pub fn stalling(bytes: Bytes, promised_bytes: u64) -> Self {
        Self { bytes: Some(bytes), left_bytes: promised_bytes }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.bytes.take() {
            Some(bytes) if !bytes.is_empty() => {
                self.left_bytes = self.left_bytes.saturating_sub(length(&bytes));
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(_) | None if self.left_bytes == 0 => Poll::Ready(None),
            Some(_) | None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The headers that sign an answer.
const SIGNATURE_FIELDS: [&str; 5] =
    ["wechatpay-timestamp", "wechatpay-nonce", "wechatpay-signature", "wechatpay-serial", "wechatpay-signature-type"];

/// Longest wait for an answer: far above every timeout of the gate, so that a demo of a gate that hangs ends.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(20);
