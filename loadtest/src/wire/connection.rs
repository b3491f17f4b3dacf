//! One connection: opening it, and the bytes that go and come, through TLS where there is TLS.

use std::io::{self, Read, Write};
use std::sync::Arc;

use mio::{Interest, Registry, Token};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::Target;
use super::answer::Reading;
use super::stream::Stream;

/// A connection that is registered for its events as long as it lives.
pub(super) struct Connection {
    stream: Stream,
    tls: Option<Box<ClientConnection>>,
    stage: Stage,
    token: Token,
    /// What the socket has not taken yet; TLS keeps its own.
    unsent: Vec<u8>,
    awaits_writable: bool,
    /// A read has emptied the socket, and there has been no event since.
    drained: bool,
    /// The other side sends no more: only a read of nothing ends the reading.
    ending: bool,
    pub(super) reading: Reading,
}

/// What a read came to.
pub(super) enum Received {
    /// So many bytes are in the buffer.
    Bytes(usize),
    /// The next bytes come with another event.
    Drained,
    /// The connection has ended.
    Closed,
    /// TLS does not understand the other side.
    Malformed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Handshaking,
    Open,
}

impl Connection {
    /// Starts to connect. Events carry `token`; each of them must be followed by [`Self::advance`] until it says true.
    pub(super) fn start(target: &Target, registry: &Registry, token: Token) -> io::Result<Self> {
        let tls = match &target.tls {
            None => None,
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                tls.set_buffer_limit(None);
                Some(Box::new(tls))
            }
        };
        let mut stream = Stream::connect(&target.address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            tls,
            stage: Stage::Connecting,
            token,
            unsent: Vec::new(),
            awaits_writable: true,
            drained: false,
            ending: false,
            reading: Reading::default(),
        })
    }

    /// Whether requests can be sent.
    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Goes on with opening as far as it goes without waiting; true when open.
    ///
    /// # Errors
    /// The connection was refused, or the TLS handshake failed.
    pub(super) fn advance(&mut self, registry: &Registry) -> io::Result<bool> {
        if self.stage == Stage::Connecting && self.stream.is_connected()? {
            self.stage = Stage::Handshaking;
        }
        if self.stage == Stage::Handshaking && self.shake_hands()? {
            self.stage = Stage::Open;
            self.flush(registry)?;
        }
        Ok(self.is_open())
    }

    /// Sends a request; what the socket does not take at once follows with later events.
    pub(super) fn send(&mut self, request: &[u8], registry: &Registry) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(request)?;
            return self.flush(registry);
        }
        let taken_bytes = match (&self.stream).write(request) {
            Ok(taken_bytes) => taken_bytes,
            Err(error) if is_transient(&error) => 0,
            Err(error) => return Err(error),
        };
        match request.get(taken_bytes..) {
            None | Some([]) => Ok(()),
            Some(rest) => {
                self.unsent.extend_from_slice(rest);
                self.flush(registry)
            }
        }
    }

    /// Sends on what is left of a request, and asks for an event when the socket takes no more.
    pub(super) fn flush(&mut self, registry: &Registry) -> io::Result<()> {
        let all_sent = match &mut self.tls {
            Some(tls) => flush_tls(tls, &self.stream)?,
            None => flush_plain(&mut self.unsent, &self.stream)?,
        };
        if all_sent == self.awaits_writable {
            // A Unix socket becomes writable with each request the other side reads: asked only when needed.
            let interest = if all_sent { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            registry.reregister(&mut self.stream, self.token, interest)?;
            self.awaits_writable = !all_sent;
        }
        Ok(())
    }

    /// Whether part of a request waits for the socket.
    pub(super) fn awaits_writable(&self) -> bool {
        self.awaits_writable
    }

    /// Notes an event, after which [`Self::receive`] reads the socket again. `ending`: the other side sends no more.
    pub(super) fn note_event(&mut self, ending: bool) {
        self.drained = false;
        self.ending |= ending;
    }

    /// Reads what has come into `buffer`. A short read says that the socket is empty, which saves asking it again.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        match &mut self.tls {
            Some(_) => self.receive_tls(buffer),
            None if self.drained => Received::Drained,
            None => match read_socket(&self.stream, buffer, self.ending, &mut self.drained) {
                Ok(0) => Received::Closed,
                Ok(bytes) => Received::Bytes(bytes),
                Err(error) if is_transient(&error) => Received::Drained,
                Err(_) => Received::Closed,
            },
        }
    }

    fn receive_tls(&mut self, buffer: &mut [u8]) -> Received {
        let Some(tls) = &mut self.tls else {
            return Received::Drained;
        };
        loop {
            match tls.reader().read(buffer) {
                Ok(0) => return Received::Closed,
                Ok(bytes) => return Received::Bytes(bytes),
                Err(error) if is_transient(&error) => {}
                Err(_) => return Received::Closed,
            }
            if self.drained {
                return Received::Drained;
            }
            let mut socket = Socket { stream: &self.stream, ending: self.ending, drained: &mut self.drained };
            match tls.read_tls(&mut socket) {
                Ok(_) => {}
                Err(error) if is_transient(&error) => return Received::Drained,
                Err(_) => return Received::Closed,
            }
            if tls.process_new_packets().is_err() {
                return Received::Malformed;
            }
            // An answer to a key update; an error will show with the next read.
            if tls.wants_write() && flush_tls(tls, &self.stream).is_err() {
                return Received::Closed;
            }
        }
    }

    fn shake_hands(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else {
            return Ok(true);
        };
        loop {
            flush_tls(tls, &self.stream)?;
            if !tls.is_handshaking() {
                return Ok(true);
            }
            match tls.read_tls(&mut &self.stream) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if is_transient(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

/// A socket as TLS reads it.
struct Socket<'a> {
    stream: &'a Stream,
    ending: bool,
    drained: &'a mut bool,
}

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_socket(self.stream, buffer, self.ending, self.drained)
    }
}

fn read_socket(mut stream: &Stream, buffer: &mut [u8], ending: bool, drained: &mut bool) -> io::Result<usize> {
    let bytes = stream.read(buffer)?;
    *drained = bytes < buffer.len() && !ending;
    Ok(bytes)
}

fn flush_plain(unsent: &mut Vec<u8>, mut stream: &Stream) -> io::Result<bool> {
    while !unsent.is_empty() {
        match stream.write(unsent) {
            Ok(bytes) => drop(unsent.drain(..bytes)),
            Err(error) if is_transient(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn flush_tls(tls: &mut ClientConnection, mut stream: &Stream) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(&mut stream) {
            Ok(_) => {}
            Err(error) if is_transient(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Whether only waiting for an event is needed.
fn is_transient(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
