//! Explains a request from a file: the raw HTTP/1.1 message, as a proxy or a capture shows it.

use std::ops::RangeInclusive;
use std::path::Path;
use std::str;

use httparse::Status;

use crate::admission::{Shared, SharedParts};
use crate::config::{self, Config};
use crate::front::PlatformKeys;
use crate::request::{Request, Trust};
use crate::time::UnixMillis;

/// Explains a request by a configuration alone: no gate runs, so nothing is used of any limit.
///
/// # Errors
/// What to change in the configuration or in the message.
pub fn explain_offline(config: &Path, message: &[u8], trusted_hop: bool, now: UnixMillis) -> Result<String, String> {
    let Config { policy, deployment_key, nonces, orders, holds, quota, platform, .. } =
        config::load(config, now).map_err(|error| error.to_string())?;
    let shared = Shared::new(SharedParts { policy, deployment_key, nonces, orders, holds, quota });
    explain(&shared, &platform, message, trusted_hop, now)
}

/// Explains a request against the tables and the platform keys as they stand.
pub(super) fn explain(
    shared: &Shared,
    platform: &PlatformKeys,
    message: &[u8],
    trusted_hop: bool,
    now: UnixMillis,
) -> Result<String, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let malformed =
        |error: &dyn std::fmt::Display| format!("not an HTTP/1.1 request: {error}; write the message as sent");
    let rest = match head.parse(message).map_err(|error| malformed(&error))? {
        Status::Complete(length) => message.get(length..).unwrap_or_default(),
        Status::Partial => return Err(malformed(&"the empty line that ends the head is missing")),
    };
    let (Some(method), Some(target)) = (head.method, head.path) else { return Err(malformed(&"no request line")) };
    let body = framed(&head, rest)?;
    let answer_key = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("wechatpay-serial"));
    let answer_key = answer_key.map(|header| str::from_utf8(header.value).unwrap_or_default());
    let headers: Vec<(&str, &[u8])> = head.headers.iter().map(|header| (header.name, header.value)).collect();
    let request = Request {
        method,
        target,
        headers: &headers,
        body,
        trust: if trusted_hop { Trust::TrustedHop } else { Trust::Public },
        peer: None,
        client_certificate: None,
        answer_key_known: answer_key.is_none() || platform.choose(answer_key, None).is_ok(),
    };
    let mut told = shared.explain(&request, now);
    told.steps.iter_mut().flat_map(|step| &mut step.lines).for_each(|line| *line = printable(line));
    Ok(told.to_string())
}

/// Returns the body as its head frames it. What follows is what an editor left behind.
fn framed<'m>(head: &httparse::Request<'_, '_>, rest: &'m [u8]) -> Result<&'m [u8], &'static str> {
    let values = |name: &'static str| {
        head.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    };
    if values("transfer-encoding").next().is_some() {
        return Err("write the body whole: a Content-Length, and no Transfer-Encoding and chunks");
    }
    let mut lengths = values("content-length");
    match (lengths.next(), lengths.next()) {
        (None, _) if rest.trim_ascii().is_empty() => Ok(&[]),
        (None, _) => Err("there is a body and no Content-Length; add it, in bytes"),
        (Some(_), Some(_)) => Err("Content-Length stands there twice; write the message as sent"),
        (Some(length), None) => {
            let digits = str::from_utf8(length).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.and_then(|text| text.parse().ok()).ok_or("Content-Length is not a number of bytes")?;
            rest.get(..length).ok_or("the body is shorter than its Content-Length; write it as sent")
        }
    }
}

/// Escapes what would begin another line, move the cursor or turn the text around: the request chose these letters.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || UNPRINTABLE.iter().any(|range| range.contains(&letter)) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Most headers of a message.
const HEADERS_MAX: usize = 128;

/// Letters without a shape of their own, by which one text can look like another: marks of direction, separators of
/// lines, and the byte order mark.
const UNPRINTABLE: [RangeInclusive<char>; 4] =
    ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}', '\u{feff}'..='\u{feff}'];

#[cfg(test)]
mod tests {
    use super::*;

    fn body(message: &str) -> Result<&[u8], &'static str> {
        let mut headers = [httparse::EMPTY_HEADER; 4];
        let mut head = httparse::Request::new(&mut headers);
        let parsed = head.parse(message.as_bytes()).expect("a head");
        framed(&head, &message.as_bytes()[parsed.unwrap()..])
    }

    #[test]
    fn a_body_ends_where_its_head_says_and_not_where_the_file_does() {
        assert_eq!(body("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"), Ok(&b"{}"[..]));
        assert_eq!(body("POST / HTTP/1.1\ncontent-length: 2\n\n{}\n"), Ok(&b"{}"[..]));
        assert_eq!(body("POST / HTTP/1.1\nContent-Length: 3\n\n{}\n"), Ok(&b"{}\n"[..]));
        assert_eq!(body("GET / HTTP/1.1\n\n\r\n \n"), Ok(&b""[..]));
    }

    #[test]
    fn a_body_that_is_not_framed_in_exactly_one_way_is_refused() {
        for (head, rest, told) in [
            ("", "{}", "no Content-Length"),
            ("Content-Length: 3", "{}", "shorter"),
            ("Content-Length: 2\nContent-Length: 2", "{}", "twice"),
            ("Content-Length: +2", "{}", "not a number"),
            ("Content-Length: ", "{}", "not a number"),
            ("Content-Length: 99999999999999999999", "{}", "not a number"),
            ("Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n", "chunks"),
        ] {
            let separator = if head.is_empty() { "" } else { "\n" };
            let refused = body(&format!("POST / HTTP/1.1\n{head}{separator}\n{rest}")).expect_err(head);
            assert!(refused.contains(told), "{head}: {refused}");
        }
    }

    #[test]
    fn nothing_of_a_request_moves_the_cursor() {
        assert_eq!(printable("a\n\r\t\u{1b}[2J\u{7f}\u{9b}z"), "a\\n\\r\\t\\u{1b}[2J\\u{7f}\\u{9b}z");
        assert_eq!(printable("\u{202e}x\u{2028}\u{2066}\u{feff}"), "\\u{202e}x\\u{2028}\\u{2066}\\u{feff}");
        assert_eq!(printable("茶 \"tea\" \\ ok"), "茶 \"tea\" \\ ok");
    }
}
