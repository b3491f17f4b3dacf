//! A client of HTTP/2 that sends frames as they are, in whatever order, and reads what comes of its streams.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{is_close, tcp};
use crate::deployment::deployment;
use crate::gate::Gate;
use crate::request::{Request, authorization};

/// A connection that speaks HTTP/2.
#[derive(Debug)]
pub struct Frames<S = TcpStream> {
    pub stream: S,
    buffer: Vec<u8>,
    next_stream: u32,
    /// What has come of streams that nobody has asked about yet.
    pending: Vec<(u32, Event)>,
    /// Whether it leaves a PING without an answer.
    pub deaf: bool,
}

/// A frame that came.
#[derive(Clone, Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// What came of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Status(u16),
    Data(Vec<u8>),
    End,
    Reset(u32),
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered: status and body.
    Answered(u16, Vec<u8>),
    /// Its stream was reset, for a reason.
    Reset(u32),
    /// The connection ended before.
    Gone,
}

impl Outcome {
    /// Returns the status of the answer; 0 where there is none.
    pub fn status(&self) -> u16 {
        if let Self::Answered(status, _) = self { *status } else { 0 }
    }
}

/// A list of header fields.
pub type List = Vec<(String, Vec<u8>)>;

impl Frames<TcpStream> {
    /// Connects to a listener in the clear.
    pub fn connect(gate: &Gate, listener: &str) -> Self {
        Self::of(tcp(gate.address(listener)))
    }
}

impl<S: Read + Write> Frames<S> {
    /// Begins on a stream that is connected already, and whose reads time out.
    pub fn of(stream: S) -> Self {
        Self::with_settings(stream, &[])
    }

    /// As [`of`](Self::of), with settings beside that of the table, which is kept empty.
    pub fn with_settings(stream: S, settings: &[(u16, u32)]) -> Self {
        let mut frames = Self { stream, buffer: Vec::new(), next_stream: 1, pending: Vec::new(), deaf: false };
        let mut payload = Vec::new();
        for (name, value) in [(HEADER_TABLE_SIZE, 0)].iter().chain(settings) {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        frames.send_raw(&[PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat());
        frames
    }

    /// Sends bytes; `false` where the gate has closed the connection.
    pub fn try_send_raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).is_ok()
    }

    /// Sends bytes.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        assert!(self.try_send_raw(bytes), "the gate takes bytes");
    }

    /// Returns the number of the next stream.
    pub fn next(&mut self) -> u32 {
        self.next_stream += 2;
        self.next_stream - 2
    }

    /// Sends a request signed by the sample merchant; returns its stream.
    pub fn send(&mut self, request: &Request) -> u32 {
        self.send_list(&list(request), &request.body)
    }

    /// Sends a list of fields and a body; returns their stream.
    pub fn send_list(&mut self, list: &List, body: &[u8]) -> u32 {
        let stream = self.next();
        let bytes = written(stream, list, body);
        self.send_raw(&bytes);
        stream
    }

    /// Sends a request signed by the sample merchant, and returns what becomes of it.
    pub fn ask(&mut self, request: &Request) -> Outcome {
        let stream = self.send(request);
        self.outcome(stream)
    }

    /// Reads until it is known what becomes of a stream.
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        let (mut status, mut body) = (0, Vec::new());
        loop {
            while let Some(place) = self.pending.iter().position(|(of, _)| *of == stream) {
                match self.pending.remove(place).1 {
                    Event::Status(told) => status = told,
                    Event::Data(data) => body.extend(data),
                    Event::End => return Outcome::Answered(status, body),
                    Event::Reset(reason) => return Outcome::Reset(reason),
                }
            }
            match self.read() {
                Some(frame) => self.take(&frame),
                None => return Outcome::Gone,
            }
        }
    }

    /// Reads until the gate says that it takes no more streams; returns the last that it takes.
    pub fn goaway(&mut self) -> u32 {
        loop {
            let frame = self.read().expect("the gate says goodbye");
            if frame.kind == GOAWAY {
                return number(&frame.payload) & 0x7fff_ffff;
            }
            self.take(&frame);
        }
    }

    /// Reads on until the gate has closed the connection; returns how long that took.
    pub fn until_closed(&mut self) -> Duration {
        let began = Instant::now();
        while let Some(frame) = self.read() {
            self.take(&frame);
        }
        began.elapsed()
    }

    /// Reads a frame; `None` where the gate closed the connection.
    fn read(&mut self) -> Option<Frame> {
        let head = self.exactly(9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = self.exactly(length)?;
        Some(Frame { kind: head[3], flags: head[4], stream: number(&head[5..]) & 0x7fff_ffff, payload })
    }

    fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.buffer.extend(&bytes[..read]),
                Err(error) if is_close(&error) => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("neither a frame nor a closed connection: {error}"),
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    fn take(&mut self, frame: &Frame) {
        let stream = frame.stream;
        match frame.kind {
            HEADERS => {
                assert!(frame.flags & END_HEADERS != 0, "answers have short heads");
                self.pending.push((stream, Event::Status(status(&frame.payload))));
            }
            DATA => self.pending.push((stream, Event::Data(frame.payload.clone()))),
            RST_STREAM => self.pending.push((stream, Event::Reset(number(&frame.payload)))),
            // Whether the gate still reads does not matter.
            SETTINGS if frame.flags & ACK == 0 => {
                let _ = self.try_send_raw(&self::frame(SETTINGS, ACK, 0, &[]));
            }
            PING if frame.flags & ACK == 0 && !self.deaf => {
                let _ = self.try_send_raw(&self::frame(PING, ACK, 0, &frame.payload));
            }
            _ => {}
        }
        if [HEADERS, DATA].contains(&frame.kind) && frame.flags & END_STREAM != 0 {
            self.pending.push((stream, Event::End));
        }
    }
}

/// Writes a frame out.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Writes a whole request out.
pub fn written(stream: u32, list: &List, body: &[u8]) -> Vec<u8> {
    let end = if body.is_empty() { END_STREAM } else { 0 };
    let mut bytes = frame(HEADERS, END_HEADERS | end, stream, &block(list));
    let pieces = body.chunks(16_384);
    let last = pieces.len();
    for (index, piece) in pieces.enumerate() {
        bytes.extend(frame(DATA, u8::from(index + 1 == last), stream, piece));
    }
    bytes
}

/// Compresses a list of fields, as little as can be: every one literal, none remembered (RFC 7541, section 6.2.2).
pub fn block(list: &List) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in list {
        bytes.push(0);
        for text in [name.as_bytes(), value] {
            length(&mut bytes, text.len());
            bytes.extend(text);
        }
    }
    bytes
}

/// Writes a length with a prefix of seven bits (RFC 7541, section 5.1).
fn length(bytes: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        return bytes.push(u8::try_from(length).expect("below 127"));
    };
    bytes.push(127);
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).expect("seven bits") | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).expect("seven bits"));
}

/// Returns the fields of a request signed by the sample merchant.
pub fn list(request: &Request) -> List {
    let field = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let (host, others): (Vec<_>, Vec<_>) = request.headers.iter().cloned().partition(|(name, _)| name == "Host");
    let signature =
        authorization(&deployment().merchant, &request.method, &request.target, &request.nonce, &request.body);
    let mut list = vec![field(":method", &request.method), field(":scheme", "http"), field(":path", &request.target)];
    list.extend(host.into_iter().map(|(_, value)| (":authority".to_owned(), value)));
    list.extend(others.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)));
    list.push(field("authorization", &signature));
    list
}

/// Reads the status that a block begins with (RFC 7541, appendices A and B).
fn status(block: &[u8]) -> u16 {
    let updates = block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count();
    let block = &block[updates..];
    match block[0] {
        index @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)],
        // A literal whose name is that of an entry of the static table, in Huffman's code.
        _ => {
            let value = block[2..2 + usize::from(block[1] & 0x7f)].iter();
            let mut bits = value.flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
            (0..3).fold(0, |number, _| {
                let mut take = |count: usize| bits.by_ref().take(count).fold(0, |code, bit| code << 1 | bit);
                let short = take(5);
                let digit = if short < 3 { short } else { (short << 1 | take(1)) - 0b01_1001 + 3 };
                number * 10 + digit
            })
        }
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"))
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

const HEADER_TABLE_SIZE: u16 = 1;
pub const INITIAL_WINDOW_SIZE: u16 = 4;

pub const PROTOCOL_ERROR: u32 = 1;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
