//! HTTP/2 (RFC 9113): one connection, many streams, within bounds. Each stream goes the way of any request; a stream that
//! the peer resets is a closed connection to it.

mod frames;
mod head;
mod streams;
mod watch;

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::streams::Streams;
use self::watch::{Limits, Watch};
use super::connection::wait;
use super::guard::{Deadlines, Guarded};
use super::options::Bounds;
use super::peer::Peer;
use super::preface::Opening;
use super::service;
use super::station::Station;

/// Serves a connection whose preface has come to its end.
pub(super) async fn serve<S>(station: &Rc<Station>, peer: Rc<Peer>, opening: Opening, stream: Guarded<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    station.metrics.multiplexed_opened();
    let bounds = *station.gate.bounds();
    let streams = Streams::new(Instant::now());
    let limits = Limits { resets_max: bounds.h2_resets_max, frames_max: bounds.h2_frames_max };
    let watch = Watch::new(Rc::clone(&streams), Deadlines::of(&bounds), limits, Arc::clone(&station.metrics));
    let last = Rc::new(Notify::new());
    let service = service_fn(|request: Request<Incoming>| {
        let refused = peer.is_exhausted();
        // A peer that does not hear goodbye is idle, whatever it asks for.
        let handling = (!refused).then(|| streams.handle());
        let (station, peer, streams) = (Rc::clone(station), Rc::clone(&peer), Rc::clone(&streams));
        if !refused && peer.last_request() {
            last.notify_one();
        }
        async move {
            if refused {
                // The peer was told that no more is taken: nothing was done for it, and it may come again.
                return Err(h2::Error::from(h2::Reason::REFUSED_STREAM));
            }
            let response = respond(station, peer, request).await;
            streams.answered();
            drop(handling);
            Ok(response.map(|body| Answer { body, streams }))
        }
    });
    let stream = TokioIo::new(opening.put_back(stream.paced_by(watch)));
    let connection = builder(&bounds).serve_connection(stream, service);
    let mut connection = pin!(connection);
    let mut draining = station.draining.clone();
    let ending = tokio::select! {
        biased;
        // How a connection ended is the peer's affair, as in HTTP/1.1.
        _ = connection.as_mut() => return,
        drained = wait(&mut draining) => drained,
        () = last.notified() => true,
    };
    if ending {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

fn builder(bounds: &Bounds) -> http2::Builder<OnThisThread> {
    let mut builder = http2::Builder::new(OnThisThread);
    let resets_max = usize::try_from(bounds.h2_resets_max).unwrap_or(usize::MAX);
    builder
        .max_concurrent_streams(bounds.h2_streams_max)
        .max_header_list_size(u32::try_from(bounds.head_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(resets_max)
        .max_local_error_reset_streams(resets_max)
        .max_frame_size(FRAME_BYTES_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    builder
}

async fn respond(station: Rc<Station>, peer: Rc<Peer>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.headers().len() > station.gate.bounds().headers_max {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return response;
    }
    let (mut head, body) = request.into_parts();
    // Counted before the form changes: what the peer sent is what is held.
    let held_bytes = head::list_bytes(&head.headers) + STREAM_BYTES;
    let begun =
        service::Begun { ambiguous: head::as_http1(&mut head).err(), held_bytes, version: service::Version::Http2 };
    service::handle(station, peer, Request::from_parts(head, body), begun).await
}

/// An answer that is known to be taken once nothing of it is held.
struct Answer {
    body: Full<Bytes>,
    streams: Rc<Streams>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        frame.map_ok(|frame| frame.map_data(|bytes| self.streams.hold(bytes)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs streams on the worker that their connection is on.
#[derive(Clone, Copy, Debug)]
struct OnThisThread;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisThread {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(stream);
    }
}

/// What a peer may send of bodies before they are read, of one stream and of all of a connection: the least that the
/// protocol has.
const WINDOW_BYTES: u32 = 65_535;

/// Longest frame: the least that the protocol has.
const FRAME_BYTES_MAX: u32 = 16_384;

/// What a stream counts of the budget of bodies, beside its fields and its body: a connection of HTTP/1.1 has one
/// request at a time, and this one many.
const STREAM_BYTES: usize = 4096;
