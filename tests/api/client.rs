//! A client that sends bytes as they are and reads answers strictly.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tollgate::front::Address;

use crate::raw::{Message, Reader, Side};
use crate::request::Request;

/// A connection to the gate.
#[derive(Debug)]
pub struct Client<S = TcpStream> {
    reader: Reader<S>,
}

/// What came of a connection where an answer was waited for.
#[derive(Clone, Debug)]
pub enum Reply {
    /// An answer.
    Answer(Message),
    /// The gate closed the connection.
    Closed,
}

impl Client<TcpStream> {
    /// Connects by TCP.
    pub fn connect(address: &Address) -> Self {
        Self::of(tcp(address))
    }
}

impl Client<UnixStream> {
    /// Connects by a Unix socket.
    pub fn connect_unix(address: &Address) -> Self {
        let Address::Unix(path) = address else { panic!("a Unix socket") };
        let stream = UnixStream::connect(path).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Self::of(stream)
    }
}

impl<S: Read + Write> Client<S> {
    /// Speaks over a stream that is connected already, and whose reads time out.
    pub fn of(stream: S) -> Self {
        Self { reader: Reader::new(stream) }
    }

    /// Sends a request signed by the sample merchant, and returns the answer.
    pub fn ask(&mut self, request: &Request) -> Message {
        self.ask_raw(&request.wire())
    }

    /// Sends bytes and returns the answer.
    pub fn ask_raw(&mut self, bytes: &[u8]) -> Message {
        self.send(bytes);
        self.answer()
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.reader.stream.write_all(bytes).and_then(|()| self.reader.stream.flush()).expect("the gate takes bytes");
    }

    /// Sends bytes; `false` where the gate has closed the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.reader.stream.write_all(bytes).and_then(|()| self.reader.stream.flush()).is_ok()
    }

    /// Reads an answer.
    pub fn answer(&mut self) -> Message {
        match self.reply() {
            Reply::Answer(answer) => answer,
            Reply::Closed => panic!("closed without an answer"),
        }
    }

    /// Reads an answer or finds the connection closed.
    pub fn reply(&mut self) -> Reply {
        loop {
            match self.reader.message(Side::Server) {
                Ok(Some(answer)) if answer.status() == 100 => {}
                Ok(Some(answer)) => return Reply::Answer(answer),
                Ok(None) => return Reply::Closed,
                Err(error) if is_close(&error) => return Reply::Closed,
                Err(error) => panic!("neither an answer nor a closed connection: {error}"),
            }
        }
    }

    /// Reads an answer; `None` where the gate closed the connection instead.
    pub fn answer_if_any(&mut self) -> Option<Message> {
        match self.reply() {
            Reply::Answer(answer) => Some(answer),
            Reply::Closed => None,
        }
    }

    /// Reads every answer until the gate closes the connection.
    pub fn replies(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.answer_if_any()).collect()
    }

    /// Waits for the gate to close the connection without another word.
    pub fn expect_close(&mut self) {
        match self.reader.is_at_end() {
            Ok(ended) => assert!(ended, "more came where nothing should: {:?}", self.reply()),
            Err(error) => assert!(is_close(&error), "not closed: {error}"),
        }
    }

    /// Ends the talk in messages.
    pub fn into_stream(self) -> S {
        self.reader.stream
    }

    /// Returns the stream.
    pub fn stream(&mut self) -> &mut S {
        &mut self.reader.stream
    }
}

/// Connects by TCP; reads give up after a time that is too long for any test.
pub fn tcp(address: &Address) -> TcpStream {
    let Address::Tcp(address) = address else { panic!("a TCP address") };
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Tells whether an error is how a connection ends that the other side closed.
pub fn is_close(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof].contains(&error.kind())
}

/// How long anything may take before a test gives up. Deadlines of the gate are far shorter.
pub const PATIENCE: Duration = Duration::from_secs(30);
