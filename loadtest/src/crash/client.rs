//! A client that waits for each answer, and that a gate may leave at any instant.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::target::{self, Outcome};
use crate::wire::Address;

/// One connection, opened when it is first used.
pub struct Client {
    address: Address,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    pub const fn new(address: Address) -> Self {
        Self { address, stream: None, buffer: Vec::new() }
    }

    /// Sends a request; returns the status and the body of its answer.
    ///
    /// # Errors
    /// No whole answer came. Whether the request arrived is not known.
    pub fn send(&mut self, request: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let answer = self.try_send(request);
        if answer.is_err() {
            self.stream = None;
            self.buffer.clear();
        }
        answer
    }

    /// Sends a request on a connection of its own, which nobody has had the time to close.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn send_alone(&mut self, request: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        self.stream = None;
        self.buffer.clear();
        self.send(request)
    }

    /// Sends a request whose answer is a gate's verdict.
    pub fn ask(&mut self, request: &[u8]) -> Outcome {
        match self.send(request) {
            Ok((status, body)) => target::read(status, &body),
            Err(_) => Outcome::Unknown { timed_out: false },
        }
    }

    fn try_send(&mut self, request: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let Address::Tcp(address) = &self.address else { return Err(io::ErrorKind::Unsupported.into()) };
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                none.insert(stream)
            }
        };
        stream.write_all(request)?;
        let mut part = [0; 4096];
        loop {
            if let Some((status, body, whole)) = answer(&self.buffer)? {
                self.buffer.drain(..whole);
                return Ok((status, body));
            }
            match stream.read(&mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.buffer.extend_from_slice(part.get(..read).unwrap_or_default()),
            }
        }
    }
}

/// Reads an answer with a length: status, body, and how many bytes it takes; `None` where it is not whole yet.
fn answer(bytes: &[u8]) -> io::Result<Option<(u16, Vec<u8>, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let httparse::Status::Complete(begun) = parsed else { return Ok(None) };
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse::<usize>().ok());
    let length = length.ok_or(io::ErrorKind::InvalidData)?;
    let end = begun.saturating_add(length);
    Ok(bytes.get(begun..end).map(|body| (head.code.unwrap_or(0), body.to_vec(), end)))
}

/// Longest wait for a connection, or for the next part of an answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        let bytes = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n";
        assert_eq!(answer(&bytes[..20]).expect("so far"), None);
        assert_eq!(answer(&bytes[..46]).expect("so far"), None);
        assert_eq!(answer(bytes).expect("an answer"), Some((403, b"{}".to_vec(), 47)));
        assert!(answer(b"SSH-2.0\r\n\r\n").is_err());
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "without a length nobody knows its end");
    }
}
