//! Requests that two parsers could read differently: whatever the gate makes of them, the upstream sees well-framed
//! requests, each verified, or nothing.
//!
//! Every case is sent as it is, and again with a signature that holds for what a lenient parser might read, on routes
//! made for the cases: but for the gate's care, they would be forwarded.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use serde::Deserialize;
use serde_json::json;

use crate::client::Client;
use crate::deployment::deployment;
use crate::gate::{Gate, Settings};
use crate::raw::{Message, find};
use crate::request::{Request, authorization, unique};
use crate::upstream::Upstream;

#[derive(Deserialize)]
struct Suite<C> {
    cases: Vec<C>,
}

/// A case of `smuggling.json`.
#[derive(Deserialize)]
struct Case {
    id: String,
    raw_hex: String,
    expect: String,
}

/// A row of `llhttp_requests.json`.
#[derive(Deserialize)]
struct Row {
    title: String,
    #[serde(rename = "type")]
    kind: String,
    raw_hex: String,
    llhttp_error: Option<serde_json::Value>,
}

/// Bytes for one connection, and how what comes of them is recognised.
struct Shot {
    case: usize,
    bytes: Vec<u8>,
    /// The nonces of the messages in it.
    nonces: Vec<String>,
    /// The body that the first message is signed with.
    body: Vec<u8>,
}

/// What came of a case: of all its shots together.
#[derive(Default)]
struct Outcome {
    statuses: Vec<u16>,
    /// What reached the upstream, with the body that was signed, and whether it was the first message of its shot.
    forwarded: Vec<(Message, Vec<u8>, bool)>,
}

/// Cases that hyper reads more leniently than the suite asks: whether a request that follows on the connection is
/// served, too, and why nothing comes of it. In all of them the upstream's message is framed anew from the parts that
/// were parsed and verified.
const LENIENT: &[(&str, bool, &str)] = &[
    ("bare-lf", true, "a line may end with LF alone (RFC 9112, section 2.2); what is forwarded ends with CR LF"),
    ("chunk-12", true, "chunk extensions are skipped unread (RFC 9112, section 7.1.1), quotes too"),
    ("cl-dup-equal", false, "hyper drops the equal second length; it says nothing else (RFC 9112, section 6.3)"),
    (
        "cl-te",
        false,
        "hyper drops the length, as RFC 9112, section 6.3 allows, and takes nothing more on the connection",
    ),
    ("te-cl", false, "as cl-te"),
];

/// Rows of llhttp's that its strict mode refuses, or that only its lenient modes take, and of which a request is
/// forwarded.
const LLHTTP_LENIENT: &[(&str, &str)] = &[
    ("CRLF between requests, explicit `close`", FIRST_ONLY),
    ("CRLF between requests, explicit `close` (lenient)", FIRST_ONLY),
    ("CRLF between requests, explicit `close` followed by tab", FIRST_ONLY),
    ("Emitting part of body and pausing", NO_UPGRADE),
    ("HTTP protocol and ANNOUNCE method", ANY_METHOD),
    ("Invalid method", ANY_METHOD),
    ("Missing CR between headers", "a line may end with LF alone (RFC 9112, section 2.2)"),
    ("Multiple tokens with folding and LWS", NO_UPGRADE),
    ("No extension after semicolon", "chunk extensions are skipped unread (RFC 9112, section 7.1.1)"),
    ("No restart when keep-alive is off (1.0)", FIRST_ONLY),
    ("Resetting flags when keep-alive is off (1.0, lenient)", FIRST_ONLY),
    ("Second request header value (lenient)", FIRST_ONLY),
    ("Setting a flag and pausing", NO_UPGRADE),
    ("Space after chunk header", "white space after a chunk size is skipped; the chunks are not forwarded"),
    ("Space after chunk header (lenient)", "white space after a chunk size is skipped; the chunks are not forwarded"),
    ("Upgrade GET request", NO_UPGRADE),
    ("Upgrade POST request", NO_UPGRADE),
];

const FIRST_ONLY: &str = "the first request is in order and forwarded; what llhttp refuses comes after it";
const NO_UPGRADE: &str = "llhttp stops for the upgrade; the gate does not upgrade, and forwards without the header";
const ANY_METHOD: &str = "any token is a method (RFC 9110, section 9.1); the routes know which are served";

/// Cases beside those of the suite: what must become of each, and its bytes.
const MORE: &[(&str, &str, &str)] = &[
    ("bare-lf", "reject", "GET /a HTTP/1.1\nHost: a\n\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        "cl-dup-equal",
        "reject",
        "POST /v3/pay HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    ),
    ("cl-list", "reject", "POST /v3/pay HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello"),
    ("cl-plus", "reject", "POST /v3/pay HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello"),
    ("host-none", "reject", "GET /a HTTP/1.1\r\nX-Host: a\r\n\r\n"),
    ("host-twice", "reject", "GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("nul-value", "reject", "GET /a HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
    ("space-colon", "reject", "POST /v3/pay HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello"),
    (
        "te-cl",
        "reject",
        "POST /v3/pay HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "te-http10",
        "reject",
        "POST /v3/pay HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "te-twice",
        "reject",
        "POST /v3/pay HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
];

#[test]
fn no_request_is_smuggled_past_the_gate() {
    let suite: Suite<Case> = serde_json::from_str(include_str!("../data/http1/smuggling.json")).expect("cases");
    let more = MORE.iter().map(|(id, expect, raw)| (*id, *expect, raw.as_bytes().to_vec()));
    let suite = suite.cases.iter().map(|case| (case.id.as_str(), case.expect.as_str(), unhex(&case.raw_hex)));
    let cases: Vec<_> = suite.chain(more).collect();
    let raws: Vec<_> = cases.iter().map(|(_, _, raw)| raw.clone()).collect();
    let outcomes = shoot(&raws);
    let mut leaked = BTreeSet::new();
    for ((id, expect, raw), outcome) in cases.iter().zip(&outcomes) {
        let firsts = outcome.forwarded.iter().filter(|(_, _, first)| *first).count();
        let second = outcome.forwarded.len() > firsts;
        let lines: Vec<_> = outcome.forwarded.iter().map(|(message, _, _)| &message.first_line).collect();
        for (message, signed, first) in &outcome.forwarded {
            assert!(!first || message.body == *signed, "{id}: forwarded is not what was signed: {message:?}");
            assert!(message.values("upgrade").next().is_none(), "{id}: {message:?}");
            assert!(message.values("http2-settings").next().is_none(), "{id}: {message:?}");
        }
        match *expect {
            "reject" if firsts > 0 || second => drop(leaked.insert((*id, firsts, second))),
            "reject" => assert!(outcome.statuses.iter().all(|status| *status >= 400), "{id}: {:?}", outcome.statuses),
            "one-request" => assert_eq!((firsts, second), (1, false), "{id}: {lines:?}"),
            "one-request-or-reject" | "no-upgrade-forwarded" | "reject-or-canonical" => {
                assert!(firsts <= 1 && !second, "{id}: {lines:?}");
            }
            "one-or-two-requests" => assert_eq!(firsts, 1, "{id}: {lines:?}"),
            "signed-bytes==forwarded-bytes" => assert_eq!(firsts, 1, "{id}: {lines:?}"),
            other => panic!("{id}: what is `{other}`?"),
        }
        let canonical = |message: &Message| find(raw, message.target().as_bytes()).is_some();
        assert!(outcome.forwarded.iter().all(|(message, _, _)| canonical(message)), "{id}: {lines:?}");
    }
    let listed = LENIENT.iter().map(|(id, second, _)| (*id, 1, *second)).collect();
    assert_eq!(leaked, listed, "the list of deviations is exact");
}

#[test]
fn what_llhttp_refuses_does_not_reach_the_upstream() {
    let suite: Suite<Row> = serde_json::from_str(include_str!("../data/http1/llhttp_requests.json")).expect("rows");
    let refused =
        |row: &&Row| row.kind == "request" && row.llhttp_error.is_some() || row.kind.starts_with("request-lenient");
    let rows: Vec<_> = suite.cases.iter().filter(refused).collect();
    assert!(rows.len() > 80, "{}", rows.len());
    let raws: Vec<_> = rows.iter().map(|row| unhex(&row.raw_hex)).collect();
    let outcomes = shoot(&raws);
    let mut leaked = BTreeSet::new();
    for (row, outcome) in rows.iter().zip(&outcomes) {
        for (message, signed, first) in &outcome.forwarded {
            assert!(!first || message.body == *signed, "{}: forwarded is not what was signed: {message:?}", row.title);
        }
        if !outcome.forwarded.is_empty() {
            leaked.insert(row.title.as_str());
        }
    }
    assert_eq!(leaked, LLHTTP_LENIENT.iter().map(|(title, _)| *title).collect(), "the list of deviations is exact");
}

/// Sends every case in all its forms and returns what came of each; the gate must go on serving all the while.
fn shoot(raws: &[Vec<u8>]) -> Vec<Outcome> {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| {
        accept_all(settings, raws);
        settings.set("bounds.head_timeout_ms", 300).set("bounds.body_timeout_ms", 300);
        settings.set("bounds.idle_timeout_ms", 300)
    });
    let shots: Vec<_> = raws.iter().enumerate().flat_map(|(case, raw)| shots(case, raw)).collect();
    let mut outcomes: Vec<_> = raws.iter().map(|_| Outcome::default()).collect();
    let probe = |outcome: &str| {
        let answer = gate.connect("public").ask(&Request::new("GET", PROBE, ""));
        assert_eq!(answer.status(), 200, "{outcome}");
    };
    probe("before");
    for shots in shots.chunks(CONNECTIONS_AT_ONCE) {
        let connections: Vec<_> = shots.iter().map(|shot| (shot, fire(&gate, &shot.bytes))).collect();
        for (shot, mut client) in connections {
            let replies = client.replies();
            outcomes[shot.case].statuses.extend(replies.iter().map(Message::status));
        }
        probe("between");
    }
    let origins: BTreeMap<_, _> = shots
        .iter()
        .flat_map(|shot| shot.nonces.iter().enumerate().map(move |(index, nonce)| (nonce.as_str(), (shot, index == 0))))
        .collect();
    for message in upstream.seen() {
        let authorization = message.value("authorization").expect("only signed requests are forwarded");
        let (_, rest) = authorization.split_once("nonce_str=\"").expect("a nonce");
        if let Some((shot, first)) = rest.split_once('"').and_then(|(nonce, _)| origins.get(nonce)) {
            outcomes[shot.case].forwarded.push((message, shot.body.clone(), *first));
        }
    }
    outcomes
}

fn fire(gate: &Gate, bytes: &[u8]) -> Client {
    let mut client = gate.connect("public");
    // The gate may refuse before it has read all.
    let _ = client.stream().write_all(bytes);
    client
}

/// Gives every method and path of the cases a route whose body may be anything.
fn accept_all(settings: &mut Settings, raws: &[Vec<u8>]) {
    let mut routes = BTreeSet::from([("GET".to_owned(), PROBE.to_owned()), ("GET".to_owned(), "/smuggled".to_owned())]);
    for raw in raws {
        let (method, target) = request_line(raw);
        let path = target.split(['?', '#']).next().unwrap_or("");
        let path = path.strip_prefix("http://").map_or(path, |rest| rest.find('/').map_or("/", |start| &rest[start..]));
        if path.starts_with('/') {
            routes.insert((method, path.to_owned()));
        }
    }
    let routes: Vec<_> = routes
        .iter()
        .enumerate()
        .map(|(index, (method, path))| {
            json!({"id": format!("r{index}"), "scheme": "wechatpay-v3", "operation": "query", "method": method,
                "path": path, "certificate": "none", "settle": "none"})
        })
        .collect();
    let file = settings.folder().join("routes.json");
    std::fs::write(&file, json!({"routes": routes}).to_string()).expect("write");
    settings.set("gate.routes_file", file.to_str().expect("text"));
}

/// Makes the forms in which a case is sent: as it is; and signed, once for each body that a parser might read.
fn shots(case: usize, raw: &[u8]) -> Vec<Shot> {
    let mut shots = vec![Shot { case, bytes: raw.to_vec(), nonces: Vec::new(), body: Vec::new() }];
    for body in bodies(raw) {
        for with_host in [false, true] {
            if with_host && find(raw, b"Host:").is_some() {
                continue;
            }
            shots.extend(sign(case, raw, &body, with_host));
        }
    }
    shots
}

fn sign(case: usize, raw: &[u8], body: &[u8], with_host: bool) -> Option<Shot> {
    let (method, target) = request_line(raw);
    let start = raw.iter().position(|byte| !b"\r\n".contains(byte))?;
    let line_end = start + find(&raw[start..], b"\n")? + 1;
    let (first, second) = (unique("first"), unique("second"));
    let merchant = &deployment().merchant;
    let signed = authorization(merchant, &method, &target, &first, body);
    let mut bytes = raw[..line_end].to_vec();
    let rest = &raw[line_end..];
    let rest = match rest.strip_prefix(b" ") {
        // A fold of the line before: what is put between would mend the case.
        Some(_) => rest,
        None if find(raw, b"Authorization: one").is_some() => rest,
        None => {
            bytes.extend(format!("Authorization: {signed}\r\n").bytes());
            if with_host {
                bytes.extend(b"Host: a\r\n");
            }
            rest
        }
    };
    // A request hidden in the rest is signed, too: the gate would forward it if it came to read it as one.
    let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n";
    match find(rest, smuggled).filter(|_| find(body, b"GET /smuggled").is_none()) {
        Some(start) => {
            bytes.extend(&rest[..start + smuggled.len()]);
            let signed = authorization(merchant, "GET", "/smuggled", &second, b"");
            bytes.extend(format!("Authorization: {signed}\r\n").bytes());
            bytes.extend(&rest[start + smuggled.len()..]);
        }
        None => bytes.extend(rest),
    }
    for placeholder in [&b"Authorization: one"[..], b"Authorization: two"] {
        if let Some(start) = find(&bytes, placeholder) {
            bytes.splice(start..start + placeholder.len(), format!("Authorization: {signed}").bytes());
        }
    }
    Some(Shot { case, bytes, nonces: vec![first, second], body: body.to_vec() })
}

/// Returns the bodies that one parser or another might read: none; what the chunks hold; as much as any length says.
fn bodies(raw: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut bodies = BTreeSet::from([Vec::new()]);
    let ends = [&b"\r\n\r\n"[..], b"\n\n", b"\r\n\r"].map(|end| find(raw, end).map(|start| start + end.len()));
    for start in ends.into_iter().flatten() {
        let (head, rest) = raw.split_at(start);
        bodies.insert(lenient_chunks(rest));
        let head = String::from_utf8_lossy(head);
        let numbers = head.split(|char: char| !char.is_ascii_digit()).filter_map(|digits| digits.parse().ok());
        for length in numbers.filter(|length: &usize| (1..=rest.len()).contains(length)) {
            bodies.insert(rest[..length].to_vec());
        }
    }
    bodies
}

/// Reads chunks as leniently as anybody does.
fn lenient_chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = find(rest, b"\n") {
        let line = String::from_utf8_lossy(&rest[..end]).trim().replace('_', "");
        let digits = line.trim_start_matches("0x").trim_start_matches(['-', '+']);
        let digits = digits.find(|char: char| !char.is_ascii_hexdigit()).map_or(digits, |end| &digits[..end]);
        rest = &rest[end + 1..];
        let size = usize::from_str_radix(digits, 16).unwrap_or(0).min(rest.len());
        if size == 0 {
            break;
        }
        body.extend(&rest[..size]);
        rest = &rest[size..];
        rest = rest.strip_prefix(b"\r").unwrap_or(rest);
        rest = rest.strip_prefix(b"\n").unwrap_or(rest);
    }
    body
}

fn request_line(raw: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(raw);
    let mut words = text.trim_start().split([' ', '\r', '\n']);
    let method = words.next().unwrap_or("").to_owned();
    (method, words.next().unwrap_or("").to_owned())
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).expect("digits"), 16).expect("digits");
    text.as_bytes().chunks(2).map(byte).collect()
}

/// Where the probe between the cases goes.
const PROBE: &str = "/probe";

/// How many connections wait for their end at once: a case that the gate waits for more of ends by a deadline.
const CONNECTIONS_AT_ONCE: usize = 200;
