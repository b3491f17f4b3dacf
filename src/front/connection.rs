//! Connections: accepted within bounds, shaken hands with, served, drained.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::guard::{Deadlines, Guarded, Phase, SharedPhase};
use super::options::Listener;
use super::peer::Peer;
use super::places::{PeerPlace, Place};
use super::preface::Opening;
use super::service::{self, Begun, Version};
use super::station::Station;
use super::{http2, tls};
use crate::request::Trust;

/// An accepted stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Waits until the peer has sent something, or hung up.
    fn arrival(&self) -> impl Future<Output = io::Result<()>>;
}

impl Stream for TcpStream {
    fn arrival(&self) -> impl Future<Output = io::Result<()>> {
        self.async_io(Interest::READABLE, move || peek(SockRef::from(self)))
    }
}

impl Stream for UnixStream {
    fn arrival(&self) -> impl Future<Output = io::Result<()>> {
        self.async_io(Interest::READABLE, move || peek(SockRef::from(self)))
    }
}

/// Looks at the first byte without taking it: a new socket counts as readable until a read has said otherwise.
fn peek(socket: SockRef<'_>) -> io::Result<()> {
    socket.peek(&mut [MaybeUninit::uninit()]).map(|_| ())
}

/// Serves one accepted stream to its end.
pub(super) async fn serve<S: Stream>(station: Rc<Station>, listener: Rc<Listener>, stream: S, ip: Option<IpAddr>) {
    let Some(places) = admit(&station, &listener, ip) else {
        station.metrics.connection_refused();
        return;
    };
    let _open = Open::new(&station, places);
    let bounds = *station.gate.bounds();
    match &listener.tls {
        None => {
            let peer = Peer::new(&listener, ip, None, &bounds);
            let spoken = if listener.http2 { Spoken::Either } else { Spoken::Http1 };
            converse(&station, peer, stream, spoken).await;
        }
        Some(config) => match shake_hands(&station, Arc::clone(config), stream, bounds.handshake_timeout).await {
            Some(stream) => {
                let (_, session) = stream.get_ref();
                let leaf = session.peer_certificates().and_then(<[_]>::first).filter(|leaf| tls::is_provable(leaf));
                let leaf = leaf.map(|leaf| Rc::from(leaf.as_ref()));
                let spoken = if session.alpn_protocol() == Some(tls::H2) { Spoken::Http2 } else { Spoken::Http1 };
                let peer = Peer::new(&listener, ip, leaf, &bounds);
                converse(&station, peer, stream, spoken).await;
            }
            None => station.metrics.handshake_failed(),
        },
    }
}

/// A connection's place among all, and among those of its peer where its listener is public.
type Seats = (Place, Option<PeerPlace>);

fn admit(station: &Station, listener: &Listener, ip: Option<IpAddr>) -> Option<Seats> {
    let place = station.gate.connections().take()?;
    match (listener.trust, ip) {
        (Trust::Public, Some(ip)) => Some((place, Some(station.gate.peers().take(ip)?))),
        (Trust::Public, None) | (Trust::TrustedHop, _) => Some((place, None)),
    }
}

/// Counts a connection as open for as long as it lives, however it ends.
struct Open {
    station: Rc<Station>,
    _seats: Seats,
}

impl Open {
    fn new(station: &Rc<Station>, seats: Seats) -> Self {
        station.metrics.connection_opened();
        station.open.set(station.open.get() + 1);
        Self { station: Rc::clone(station), _seats: seats }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.station.open.set(self.station.open.get().saturating_sub(1));
        self.station.metrics.connection_closed();
    }
}

/// Shakes hands within the deadline. A peer that has sent nothing yet takes no place from those that have.
async fn shake_hands<S: Stream>(
    station: &Station,
    tls: Arc<rustls::ServerConfig>,
    stream: S,
    timeout: Duration,
) -> Option<tokio_rustls::server::TlsStream<S>> {
    let shaken = async {
        stream.arrival().await.ok()?;
        let _place = station.gate.handshakes().wait().await;
        TlsAcceptor::from(tls).accept(stream).await.ok()
    };
    tokio::time::timeout(timeout, shaken).await.ok().flatten()
}

/// Which version of HTTP a connection may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
    /// Whichever its first bytes are of.
    Either,
}

async fn converse<S>(station: &Rc<Station>, peer: Peer, stream: S, spoken: Spoken)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let phase: SharedPhase = Rc::new(Cell::new(Phase::Idle));
    let mut stream = Guarded::new(stream, Rc::clone(&phase), Deadlines::of(station.gate.bounds()));
    let peer = Rc::new(peer);
    let mut opening = Opening::default();
    let http2 = match spoken {
        Spoken::Http1 => false,
        Spoken::Http2 | Spoken::Either => match open(station, &mut opening, &mut stream).await {
            Some(http2) => http2,
            None => return,
        },
    };
    match (http2, spoken) {
        (true, _) => http2::serve(station, peer, opening, stream).await,
        (false, Spoken::Http1 | Spoken::Either) => converse_http1(station, peer, opening.put_back(stream), phase).await,
        // It agreed on HTTP/2, and speaks something else.
        (false, Spoken::Http2) => {}
    }
}

/// Reads the first bytes; `None` where nothing comes of the connection.
async fn open<S: AsyncRead + Unpin>(station: &Station, opening: &mut Opening, stream: &mut S) -> Option<bool> {
    let mut draining = station.draining.clone();
    let drained = tokio::select! {
        biased;
        http2 = opening.is_http2(stream) => return http2.ok(),
        drained = wait(&mut draining) => drained,
    };
    // What has begun is served even now.
    if drained && !opening.is_empty() { opening.is_http2(stream).await.ok() } else { None }
}

async fn converse_http1<S>(station: &Rc<Station>, peer: Rc<Peer>, stream: S, phase: SharedPhase)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let bounds = station.gate.bounds();
    let service = service_fn(|request| {
        let (station, peer, phase) = (Rc::clone(station), Rc::clone(&peer), Rc::clone(&phase));
        phase.set(Phase::Busy);
        async move {
            let begun = Begun { ambiguous: None, held_bytes: 0, version: Version::Http1 };
            let mut response = service::handle(station, Rc::clone(&peer), request, begun).await;
            if peer.last_request() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            phase.set(Phase::Idle);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .max_buf_size(bounds.head_bytes_max)
        .max_headers(bounds.headers_max)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut draining = station.draining.clone();
    let drained = tokio::select! {
        biased;
        // How a connection ended is the peer's affair: its requests have been answered or will not be.
        _ = connection.as_mut() => return,
        drained = wait(&mut draining) => drained,
    };
    if drained {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Waits until the gate drains.
pub(super) async fn wait(draining: &mut watch::Receiver<bool>) -> bool {
    draining.wait_for(|drain| *drain).await.is_ok()
}
