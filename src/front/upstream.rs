//! The way to the upstream: HTTP/1.1 over pooled connections of one worker.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::body::{Budget, Grant};
use super::options::{Address, Upstream};
use crate::reason::Reason;

/// The connections of one worker to the upstream.
#[derive(Debug)]
pub(super) struct Pool {
    options: Upstream,
    host: Option<HeaderValue>,
    /// What all answers being held may take, over all workers.
    answers: Arc<Budget>,
    idle: RefCell<VecDeque<SendRequest<Full<Bytes>>>>,
    open: Rc<Cell<usize>>,
    room: Rc<Notify>,
}

/// A message to the upstream.
#[derive(Debug)]
pub(super) struct Forward {
    pub method: Method,
    pub target: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The upstream's answer.
#[derive(Debug)]
pub(super) struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The upstream gave no usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// What to tell the caller.
    pub reason: Reason,
    /// Whether the request may have reached the upstream.
    pub sent: bool,
}

impl Pool {
    pub fn new(options: Upstream, answers: Arc<Budget>) -> Self {
        let host = options.host.as_deref().and_then(|host| HeaderValue::from_str(host).ok());
        Self { options, host, answers, idle: RefCell::default(), open: Rc::default(), room: Rc::default() }
    }

    /// Sends a message and waits for the whole answer. What fails before a byte was sent is tried again, at last on a
    /// new connection: a pooled one may have been closed from the other side meanwhile.
    pub async fn forward(&self, mut message: Forward) -> Result<Answered, Failed> {
        if let Some(host) = &self.host {
            message.headers.insert(HOST, host.clone());
        }
        let deadline = Instant::now() + self.options.answer_timeout;
        let mut request = into_request(message);
        for attempt in 1..=ATTEMPTS_MAX {
            let pooled = attempt < ATTEMPTS_MAX;
            let mut sender =
                self.connection(pooled, deadline).await.map_err(|reason| Failed { reason, sent: false })?;
            match timeout_at(deadline, sender.try_send_request(request)).await {
                Err(_) => return Err(Failed { reason: Reason::UpstreamTimeout, sent: true }),
                Ok(Ok(response)) => {
                    let answered = timeout_at(deadline, self.receive(response)).await;
                    let answered = answered.map_err(|_| Failed { reason: Reason::UpstreamTimeout, sent: true })?;
                    let answered = answered.map_err(|reason| Failed { reason, sent: true })?;
                    self.keep(sender);
                    return Ok(answered);
                }
                Ok(Err(mut error)) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Failed { reason: Reason::UpstreamBroken, sent: true }),
                },
            }
        }
        Err(Failed { reason: Reason::UpstreamUnreachable, sent: false })
    }

    async fn receive(&self, response: http::Response<Incoming>) -> Result<Answered, Reason> {
        let (head, mut body) = response.into_parts();
        // Nobody asked for another protocol; an answer with this status would end the peer's HTTP as well.
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Reason::UpstreamBroken);
        }
        let mut bytes = BytesMut::new();
        let mut grant = Grant::nothing(&self.answers);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Reason::UpstreamBroken)?;
            let Ok(data) = frame.into_data() else { continue };
            let fits = bytes.len() + data.len() <= self.options.answer_bytes_max;
            if !fits || grant.grow(data.len()).is_err() {
                return Err(Reason::UpstreamBroken);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Answered { status: head.status, headers: head.headers, body: grant.hold(bytes.freeze()) })
    }

    async fn connection(&self, pooled: bool, deadline: Instant) -> Result<SendRequest<Full<Bytes>>, Reason> {
        loop {
            while let Some(mut sender) = self.take_idle() {
                let ready = timeout_at(deadline, sender.ready()).await;
                if pooled && ready.is_ok_and(|ready| ready.is_ok()) {
                    return Ok(sender);
                }
            }
            if self.open.get() < self.options.connections_max {
                let by = deadline.min(Instant::now() + self.options.connect_timeout);
                let connected = timeout_at(by, self.connect()).await;
                return connected.map_err(|_| Reason::UpstreamUnreachable)?.map_err(|_| Reason::UpstreamUnreachable);
            }
            timeout_at(deadline, self.room.notified()).await.map_err(|_| Reason::UpstreamUnreachable)?;
        }
    }

    /// The one used last is the least likely to have been closed.
    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        self.idle.borrow_mut().pop_back()
    }

    fn keep(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.borrow_mut();
        if !sender.is_closed() && idle.len() < self.options.idle_connections_max {
            idle.push_back(sender);
        }
        self.room.notify_one();
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ConnectError> {
        let place = Place::take(&self.open, &self.room);
        match &self.options.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // Without it a small request may wait for an acknowledgement; where it cannot be set, it waits.
                let _ = stream.set_nodelay(true);
                handshake(stream, place).await
            }
            Address::Unix(path) => handshake(UnixStream::connect(path).await?, place).await,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

async fn handshake<S>(stream: S, place: Place) -> Result<SendRequest<Full<Bytes>>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async move {
        // How it ended shows in the request that was on it.
        let _ = connection.await;
        drop(place);
    });
    Ok(sender)
}

fn into_request(message: Forward) -> Request<Full<Bytes>> {
    let Forward { method, target, headers, body } = message;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = target;
    *request.headers_mut() = headers;
    request
}

/// One open connection's place in the count.
struct Place {
    open: Rc<Cell<usize>>,
    room: Rc<Notify>,
}

impl Place {
    fn take(open: &Rc<Cell<usize>>, room: &Rc<Notify>) -> Self {
        open.set(open.get() + 1);
        Self { open: Rc::clone(open), room: Rc::clone(room) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.set(self.open.get().saturating_sub(1));
        self.room.notify_one();
    }
}

/// How often a message that never left is offered to a connection.
const ATTEMPTS_MAX: usize = 3;
