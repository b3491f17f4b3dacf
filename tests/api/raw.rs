//! Messages of HTTP/1.1 read from a stream, strictly: what is not framed in exactly one way is an error.

use std::io::{self, Read};

/// Header fields in their order, each a name and a value.
pub type Fields = Vec<(String, Vec<u8>)>;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Request line or status line.
    pub first_line: String,
    /// Names in lower case, values as they came.
    pub headers: Fields,
    pub body: Vec<u8>,
}

/// Reads messages one behind the other.
#[derive(Debug)]
pub struct Reader<R> {
    pub stream: R,
    buffer: Vec<u8>,
}

/// Whose messages are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Requests: a body is announced.
    Client,
    /// Answers: a 204 or 304 has no body, and otherwise one without a length ends with the connection.
    Server,
}

impl<R: Read> Reader<R> {
    /// Begins to read a stream.
    pub fn new(stream: R) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Reads a message; `None` where the stream ends between messages.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for what is not a well-framed message, [`io::ErrorKind::UnexpectedEof`] for half of
    /// one, and what the stream says.
    pub fn message(&mut self, side: Side) -> io::Result<Option<Message>> {
        let head = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break self.buffer.drain(..end + 4).collect::<Vec<u8>>();
            }
            if !self.fill()? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        };
        let (first_line, headers) = parse_head(&head).ok_or_else(|| invalid("head"))?;
        let mut message = Message { first_line, headers, body: Vec::new() };
        message.body = self.body(&message, side)?;
        Ok(Some(message))
    }

    /// Tells whether the stream ends here.
    ///
    /// # Errors
    /// What the stream says.
    pub fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.buffer.is_empty() && !self.fill()?)
    }

    fn body(&mut self, message: &Message, side: Side) -> io::Result<Vec<u8>> {
        let lengths: Vec<_> = message.values("content-length").collect();
        let codings: Vec<_> = message.values("transfer-encoding").collect();
        match (lengths.as_slice(), codings.as_slice()) {
            ([length], []) => {
                let digits = str::from_utf8(length).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let length = digits.and_then(|text| text.parse().ok()).ok_or_else(|| invalid("content-length"))?;
                self.take(length)
            }
            ([], [b"chunked"]) => self.chunks(),
            ([], []) => {
                let status = message.first_line.split(' ').nth(1).unwrap_or("");
                let without_body = status.starts_with('1') || status == "204" || status == "304";
                if side == Side::Server && !without_body {
                    while self.fill()? {}
                    return Ok(std::mem::take(&mut self.buffer));
                }
                Ok(Vec::new())
            }
            _ => Err(invalid("framing")),
        }
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.line()?;
            let size = usize::from_str_radix(&size, 16).map_err(|_| invalid("chunk size"))?;
            body.extend(self.take(size)?);
            if self.take(2)? != b"\r\n" {
                return Err(invalid("end of a chunk"));
            }
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map_err(|_| invalid("line"));
            }
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16 * 1024];
        let length = self.stream.read(&mut bytes)?;
        self.buffer.extend(&bytes[..length]);
        Ok(length > 0)
    }
}

impl Message {
    /// Returns the values of a header, in order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(one, _)| one == name).map(|(_, value)| value.as_slice())
    }

    /// Returns the one value of a header as text.
    pub fn value<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let mut values = self.values(name);
        let value = values.next()?;
        assert!(values.next().is_none(), "`{name}` stands there twice: {self:?}");
        Some(str::from_utf8(value).expect("text"))
    }

    /// Returns the method.
    pub fn method(&self) -> &str {
        self.first_line.split(' ').next().unwrap_or("")
    }

    /// Returns the target.
    pub fn target(&self) -> &str {
        self.first_line.split(' ').nth(1).unwrap_or("")
    }

    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.target().parse().expect("a status")
    }

    /// Returns the body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a body of JSON")
    }
}

/// Parses a head up to and with its empty line; a name is a token, a line ends with CR LF, nothing is folded.
fn parse_head(head: &[u8]) -> Option<(String, Fields)> {
    let mut lines = split_lines(head.strip_suffix(b"\r\n\r\n")?).into_iter();
    let first_line = String::from_utf8(lines.next()?.to_vec()).ok()?;
    let mut headers = Vec::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let plain = |byte: &u8| *byte >= b' ' && *byte != 0x7f || *byte == b'\t';
        if name.is_empty() || !name.iter().all(token) || !value.iter().all(plain) {
            return None;
        }
        headers.push((String::from_utf8(name.to_ascii_lowercase()).ok()?, value.to_vec()));
    }
    Some((first_line, headers))
}

fn split_lines(mut text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = find(text, b"\r\n") {
        lines.push(&text[..end]);
        text = &text[end + 2..];
    }
    lines.push(text);
    lines
}

/// Returns where a sequence of bytes begins.
pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
