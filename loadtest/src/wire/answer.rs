//! Puts one HTTP/1.1 answer together from what a connection receives (RFC 9112), without copying one that came whole.
//!
//! Bodies are framed by Content-Length or chunked. One that ends with the connection, an interim answer (1xx) and an
//! answer to HEAD are not understood: this client never asks for them.

use std::mem::MaybeUninit;

use httparse::{ParserConfig, Response, Status};

use super::Answer;

/// Holds what has been received of an answer that is not whole yet.
#[derive(Default)]
pub(super) struct Reading {
    partial: Vec<u8>,
    progress: Progress,
}

/// What came of bytes that were fed.
pub(super) enum Fed<'a> {
    /// More bytes are needed.
    Partial,
    /// An answer is whole. `last`: the connection cannot be used again.
    Whole { answer: Answer<'a>, last: bool },
    /// This is no answer, or it is longer than allowed.
    Malformed,
}

#[derive(Default)]
struct Progress {
    head: Option<Head>,
    /// Where the next chunk starts in the bytes received so far.
    chunk_start: usize,
}

#[derive(Clone, Copy)]
struct Head {
    status: u16,
    bytes: usize,
    framing: Framing,
    last: bool,
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

#[derive(Clone, Copy)]
struct Whole {
    head: Head,
    end: usize,
}

struct Malformed;

impl Reading {
    /// Takes `fresh`, the bytes received next, of an answer of at most `answer_bytes_max` bytes.
    ///
    /// After [`Fed::Whole`] the next call must be [`Self::reset`].
    pub(super) fn feed<'a>(&'a mut self, fresh: &'a mut [u8], answer_bytes_max: usize) -> Fed<'a> {
        let continued = !self.partial.is_empty();
        if continued {
            self.partial.extend_from_slice(fresh);
        }
        let received: &[u8] = if continued { &self.partial } else { fresh };
        let received_bytes = received.len();
        let Ok(progress) = self.progress.advance(received, answer_bytes_max) else {
            return Fed::Malformed;
        };
        match progress {
            Some(whole) => whole.answer(if continued { &mut self.partial } else { fresh }),
            None if received_bytes >= answer_bytes_max => Fed::Malformed,
            None => {
                if !continued {
                    self.partial.extend_from_slice(fresh);
                }
                Fed::Partial
            }
        }
    }

    /// Makes ready for the next answer.
    pub(super) fn reset(&mut self) {
        self.partial.clear();
        self.progress = Progress::default();
    }
}

impl Progress {
    fn advance(&mut self, received: &[u8], answer_bytes_max: usize) -> Result<Option<Whole>, Malformed> {
        let head = match self.head {
            Some(head) => head,
            None => {
                let Some(head) = parse_head(received)? else {
                    return Ok(None);
                };
                self.chunk_start = head.bytes;
                *self.head.insert(head)
            }
        };
        let end = match head.framing {
            Framing::Length(body_bytes) => {
                let end = head.bytes.checked_add(body_bytes).ok_or(Malformed)?;
                (received.len() >= end).then_some(end)
            }
            Framing::Chunked => self.skip_chunks(received)?,
        };
        match end {
            Some(end) if end > answer_bytes_max => Err(Malformed),
            Some(end) => Ok(Some(Whole { head, end })),
            None => Ok(None),
        }
    }

    /// Steps over the chunks that are whole; says where the answer ends once the last one is there.
    fn skip_chunks(&mut self, received: &[u8]) -> Result<Option<usize>, Malformed> {
        loop {
            let rest = received.get(self.chunk_start..).unwrap_or_default();
            let (line_bytes, data_bytes) = match chunk_line(rest)? {
                None => return Ok(None),
                Some((line_bytes, 0)) => return Ok(trailer_end(received, self.chunk_start + line_bytes)),
                Some(line) => line,
            };
            let data_end = data_bytes.checked_add(self.chunk_start + line_bytes).ok_or(Malformed)?;
            let chunk_end = data_end.checked_add(CRLF.len()).ok_or(Malformed)?;
            match received.get(data_end..chunk_end) {
                None => return Ok(None),
                Some(CRLF) => self.chunk_start = chunk_end,
                Some(_) => return Err(Malformed),
            }
        }
    }
}

impl Whole {
    fn answer(self, received: &mut [u8]) -> Fed<'_> {
        let surplus = received.len() > self.end;
        let body_end = match self.head.framing {
            Framing::Length(_) => self.end,
            Framing::Chunked => join_chunks(received, self.head.bytes),
        };
        let Some((_, body)) = received.get(..body_end).and_then(|bytes| bytes.split_at_checked(self.head.bytes)) else {
            return Fed::Malformed;
        };
        Fed::Whole { answer: Answer { status: self.head.status, body }, last: self.head.last || surplus }
    }
}

/// Moves the data of chunks that [`Progress::skip_chunks`] has found whole to `body_start`; returns where it ends.
fn join_chunks(received: &mut [u8], body_start: usize) -> usize {
    let (mut from, mut to) = (body_start, body_start);
    while let Ok(Some((line_bytes, data_bytes @ 1..))) = chunk_line(received.get(from..).unwrap_or_default()) {
        let data_start = from + line_bytes;
        received.copy_within(data_start..data_start + data_bytes, to);
        to += data_bytes;
        from = data_start + data_bytes + CRLF.len();
    }
    to
}

fn parse_head(received: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut response, received, &mut headers);
    let Status::Complete(bytes) = parsed.map_err(|_| Malformed)? else {
        return Ok(None);
    };
    let status = response.code.ok_or(Malformed)?;
    let mut framing = matches!(status, 204 | 304).then_some(Framing::Length(0));
    let mut last = response.version != Some(1);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            framing = framing.or(Some(Framing::Length(decimal(header.value)?)));
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed);
            }
            framing = Some(Framing::Chunked);
        } else if header.name.eq_ignore_ascii_case("connection") {
            last |= header.value.eq_ignore_ascii_case(b"close");
        }
    }
    match framing {
        Some(framing) if status >= 200 => Ok(Some(Head { status, bytes, framing, last })),
        Some(_) | None => Err(Malformed),
    }
}

fn decimal(value: &[u8]) -> Result<usize, Malformed> {
    let digits = std::str::from_utf8(value).map_err(|_| Malformed)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed);
    }
    digits.parse().map_err(|_| Malformed)
}

/// Reads a chunk's first line: its bytes and those of the data that follow (RFC 9112 section 7.1).
fn chunk_line(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    match httparse::parse_chunk_size(bytes).map_err(|_| Malformed)? {
        Status::Partial => Ok(None),
        Status::Complete((line_bytes, data_bytes)) => {
            Ok(Some((line_bytes, usize::try_from(data_bytes).map_err(|_| Malformed)?)))
        }
    }
}

/// Finds the end of the trailer section: the first empty line at or after `start` (RFC 9112 section 7.1.2).
fn trailer_end(received: &[u8], start: usize) -> Option<usize> {
    let mut line_start = start;
    loop {
        let rest = received.get(line_start..)?;
        let line_bytes = rest.iter().position(|&byte| byte == b'\n')? + 1;
        line_start += line_bytes;
        if line_bytes <= CRLF.len() {
            return Some(line_start);
        }
    }
}

const CRLF: &[u8] = b"\r\n";

/// Headers in one answer, at most.
const HEADERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER_BYTES_MAX: usize = 1024;

    /// Feeds `bytes` in pieces; `None` unless an answer came of the last piece: status, body, last.
    fn read_in_pieces(bytes: &[u8], piece_bytes: usize) -> Option<(u16, Vec<u8>, bool)> {
        let mut reading = Reading::default();
        let mut left = bytes.len();
        for piece in bytes.chunks(piece_bytes) {
            left -= piece.len();
            match reading.feed(&mut piece.to_vec(), ANSWER_BYTES_MAX) {
                Fed::Partial => {}
                Fed::Whole { answer, last } if left == 0 => {
                    return Some((answer.status, answer.body.to_vec(), last));
                }
                Fed::Whole { .. } | Fed::Malformed => return None,
            }
        }
        None
    }

    fn assert_reads(bytes: &str, status: u16, body: &str, last: bool) {
        for piece_bytes in 1..=bytes.len() {
            assert_eq!(
                read_in_pieces(bytes.as_bytes(), piece_bytes),
                Some((status, body.as_bytes().to_vec(), last)),
                "{bytes:?} in pieces of {piece_bytes}"
            );
        }
    }

    fn assert_malformed(bytes: &str) {
        let (mut reading, mut fresh) = (Reading::default(), bytes.as_bytes().to_vec());
        assert!(matches!(reading.feed(&mut fresh, ANSWER_BYTES_MAX), Fed::Malformed), "{bytes:?}");
    }

    #[test]
    fn an_answer_is_the_same_in_pieces_of_any_size() {
        assert_reads("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false);
        assert_reads("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: close\r\n\r\n", 200, "", true);
        assert_reads("HTTP/1.1 204 No Content\r\n\r\n", 204, "", false);
        assert_reads("HTTP/1.0 403 Forbidden\r\ncontent-length: 3\r\n\r\nno!", 403, "no!", true);
    }

    #[test]
    fn chunks_are_joined() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_reads(&format!("{head}0\r\n\r\n"), 200, "", false);
        assert_reads(&format!("{head}3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"), 200, "abc0123456789", false);
        assert_reads(&format!("{head}1\r\nz\r\n0\r\nDigest: 1\r\nExpires: 2\r\n\r\n"), 200, "z", false);
    }

    #[test]
    fn bytes_after_the_answer_make_it_the_last() {
        let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP".to_vec();
        let mut reading = Reading::default();
        let Fed::Whole { answer, last } = reading.feed(&mut bytes, ANSWER_BYTES_MAX) else {
            panic!("a whole answer");
        };
        assert_eq!((answer.body, last), (b"ok".as_slice(), true));
    }

    #[test]
    fn what_cannot_be_framed_is_malformed() {
        assert_malformed("SSH-2.0-OpenSSH_9.9\r\n");
        assert_malformed("HTTP/1.1 200 OK\r\n\r\nuntil the end");
        assert_malformed("HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n");
        assert_malformed("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok");
        assert_malformed("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n");
        assert_malformed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n");
        assert_malformed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc\r\n");
    }

    #[test]
    fn an_answer_longer_than_the_bound_is_malformed() {
        let whole = |body_bytes: usize| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {body_bytes:04}\r\n\r\n");
            let mut bytes = head.into_bytes();
            bytes.resize(bytes.len() + body_bytes, b'x');
            bytes
        };
        let fits = ANSWER_BYTES_MAX - whole(0).len();
        for piece_bytes in [7, ANSWER_BYTES_MAX * 2] {
            assert!(read_in_pieces(&whole(fits), piece_bytes).is_some());
            assert!(read_in_pieces(&whole(fits + 1), piece_bytes).is_none());
        }
    }

    #[test]
    fn a_reading_that_was_reset_forgets_the_answer_before() {
        let mut reading = Reading::default();
        for body in ["one", "two"] {
            let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{body}").into_bytes();
            let (early, late) = bytes.split_at_mut(40);
            assert!(matches!(reading.feed(early, ANSWER_BYTES_MAX), Fed::Partial));
            let Fed::Whole { answer, .. } = reading.feed(late, ANSWER_BYTES_MAX) else {
                panic!("a whole answer");
            };
            assert_eq!(answer.body, body.as_bytes());
            reading.reset();
        }
    }
}
