//! A bare hyper server, which only answers 200: what the HTTP below a gate costs by itself.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::process::Child;
use crate::wire::Address;

/// A bare server in a process of its own; it ends when this is dropped.
pub(crate) struct Bare {
    child: Child,
    address: Address,
}

impl Bare {
    /// Starts `program bare`, on one core if one is given, and waits until it listens. With TLS where the files of a
    /// certificate and its key are given.
    ///
    /// # Errors
    /// The program does not start, or does not say in time where it listens.
    pub fn start(program: &Path, certificate_and_key: Option<[&Path; 2]>, core: Option<usize>) -> io::Result<Self> {
        let mut arguments: Vec<&OsStr> = vec!["bare".as_ref()];
        arguments.extend(certificate_and_key.iter().flatten().map(|file| file.as_os_str()));
        let mut child = Child::start(program, &arguments, core)?;
        let line = child.wait_for_line(|line| line.starts_with(LISTENING), START_PATIENCE)?;
        let address = line.trim_start_matches(LISTENING).trim().parse().map_err(io::Error::other)?;
        Ok(Self { child, address: Address::Tcp(address) })
    }

    /// Returns where it listens.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the processor time, in seconds, that it has taken.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        self.child.cpu_seconds()
    }
}

/// Is a bare server: tells where it listens, and serves until it is ended. With TLS where certificate and key are given.
///
/// # Errors
/// Where no port can be had, or the certificate can't be used.
pub fn command(certificate_and_key: Option<(&Path, &Path)>, tell: &mut dyn FnMut(&str)) -> io::Result<()> {
    let tls = certificate_and_key.map(|(certificate, key)| server_tls(certificate, key).map_err(io::Error::other));
    let tls = tls.transpose()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    tell(&format!("{LISTENING}{}", listener.local_addr()?));
    serve(listener, tls).map(|_| ())
}

fn server_tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Box<dyn std::error::Error + Send + Sync>> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(Arc::new(config.with_no_client_auth().with_single_cert(chain, key)?))
}

/// Answers every request with 200 and the body `ok`, on this thread, until the process ends.
///
/// Request bodies are read and dropped, so that connections live on.
fn serve(listener: TcpListener, tls: Option<Arc<ServerConfig>>) -> io::Result<Infallible> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    listener.set_nonblocking(true)?;
    runtime.block_on(accept(listener, tls.map(TlsAcceptor::from)))
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>) -> io::Result<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let tls = tls.clone();
        tokio::spawn(async move {
            match tls {
                None => converse(stream).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(stream).await;
                    }
                }
            }
        });
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin) {
    // A connection that breaks is its client's matter.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

async fn answer(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(Response::new(Full::new(Bytes::from_static(BODY))))
}

const BODY: &[u8] = b"ok";

const LISTENING: &str = "listening on ";

/// Longest wait for a server to say where it listens.
const START_PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::wire::{Bounds, Target, Wire};

    fn assert_answers(tls: Option<(Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>)>) {
        let (server_tls, client_tls) = tls.unzip();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = Address::Tcp(listener.local_addr().expect("an address"));
        thread::spawn(|| serve(listener, server_tls));
        let bounds = Bounds { answer_bytes_max: 4096, answer_timeout: Duration::from_secs(20) };
        let mut wire = Wire::connect(&Target { address, tls: client_tls }, 2, bounds).expect("connected");
        let mut chunked = b"PUT /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        chunked.extend_from_slice(b"2\r\nab\r\n0\r\n\r\n");
        let mut long = b"POST /x?y HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n".to_vec();
        long.resize(long.len() + 100_000, b'z');
        for request in [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), chunked, long] {
            for _ in 0..2 {
                assert!(wire.send(1, &request).expect("sent"));
                let mut answered = false;
                while !answered {
                    wire.poll(None, &mut |done| {
                        let answer = done.outcome.expect("an answer");
                        assert_eq!((answer.status, answer.body), (200, BODY));
                        answered = true;
                    })
                    .expect("polled");
                }
                assert_eq!(wire.idle(), 2, "the connection is kept");
            }
        }
    }

    #[test]
    fn everything_is_answered_and_connections_are_kept() {
        assert_answers(None);
    }

    #[test]
    fn everything_is_answered_over_tls() {
        assert_answers(Some(crate::wire::tests::certificate()));
    }
}
