//! A bare hyper server, which only answers 200: what the HTTP below a gate costs by itself.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

/// Answers every request with 200 and the body `ok`, on this thread, until the process ends.
///
/// Request bodies are read and dropped, so that connections live on.
///
/// # Errors
/// The runtime or the listener cannot be set up, or the listener fails.
pub fn serve(listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>) -> io::Result<Infallible> {
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

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::wire::{Address, Bounds, Target, Wire};

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
