//! `tollgate explain`: what a gate, or a configuration alone, says of a request from a file.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::deployment::deployment;
use crate::gate::{Gate, Settings, THOUSAND_A_DAY};
use crate::process::{printed, tollgate};
use crate::request::{Request, unique};
use crate::till::{Till, held};

/// A folder of requests.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(unique("request"));
        std::fs::write(&path, bytes).expect("written");
        path
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Explains a request of a file by a running gate.
fn by_gate(gate: &Gate, request: &Path, more: &[&str]) -> String {
    let at = gate.address("control").to_string();
    printed(&[&["explain", "--control", &at, "--request", text(request)], more].concat())
}

/// Explains a request of a file by a configuration.
fn by_file(config: &Path, request: &Path, more: &[&str]) -> String {
    printed(&[&["explain", "--config", text(config), "--request", text(request)], more].concat())
}

fn verdict(explanation: &str) -> &str {
    explanation.lines().last().expect("a line")
}

/// Rewrites a message as an editor may leave it: line ends of LF, and one more at the end.
fn edited(wire: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(wire.to_vec()).expect("text");
    format!("{}\n", text.replace("\r\n", "\n")).into_bytes()
}

#[test]
fn a_running_gate_explains_by_its_tables_and_takes_nothing() {
    let (till, desk) = (Till::new(THOUSAND_A_DAY), Desk::new());
    till.pay(&unique("o"), 600);
    let order = Request::order(&unique("o"), 400);
    let fits = desk.write(&order.wire());
    for _ in 0..2 {
        let told = by_gate(&till.gate, &fits, &[]);
        assert_eq!(verdict(&told), "verdict: admitted", "{told}");
        assert!(told.contains("asks 400 fen, used 600, ceiling 1000, room 400"), "{told}");
    }
    let wide = by_gate(&till.gate, &desk.write(&Request::order(&unique("o"), 401).wire()), &[]);
    assert_eq!(verdict(&wide), "verdict: refused, limit_exceeded", "{wide}");
    assert_eq!((till.taken("merchant-day"), till.upstream.seen().len()), (held(600), 1));

    let mut client = till.gate.connect("public");
    assert_eq!(client.ask_raw(&order.wire()).status(), 200, "its nonce and its number were left alone");
    let spent = by_gate(&till.gate, &fits, &[]);
    assert_eq!(verdict(&spent), "verdict: refused, nonce_replayed", "{spent}");
}

#[test]
fn a_configuration_alone_explains_as_a_gate_would_that_nobody_has_used() {
    let desk = Desk::new();
    let mut settings = Settings::new();
    settings.replace("limit", THOUSAND_A_DAY);
    let config = settings.write();
    let explained = |wire: &[u8]| by_file(&config, &desk.write(wire), &[]);
    let order = Request::order(&unique("o"), 1000).wire();
    for wire in [order.clone(), edited(&order), edited(&Request::query("a").wire()), Request::query("a").wire()] {
        let told = explained(&wire);
        assert_eq!(verdict(&told), "verdict: admitted", "{told}");
    }
    assert!(explained(&order).contains("asks 1000 fen, used 0, ceiling 1000, room 1000"));
    let forged = String::from_utf8(order).expect("text").replace("\"total\":1000", "\"total\":1001");
    let told = explained(forged.as_bytes());
    assert_eq!(verdict(&told), "verdict: refused, signature_invalid", "{told}");
    assert!(told.contains("limit: REFUSED limit_exceeded"), "and what else is wrong: {told}");
    let unknown = explained(&Request::order(&unique("o"), 1).wire_by(&deployment().stranger));
    assert_eq!(verdict(&unknown), "verdict: refused, merchant_unknown", "{unknown}");
    let named = Request::query("a").header("Wechatpay-Serial", "0123456789ABCDEF");
    assert_eq!(verdict(&explained(&named.wire())), "verdict: refused, platform_key_unknown");
    let named = Request::query("a").header("Wechatpay-Serial", deployment().platform_serial());
    assert_eq!(verdict(&explained(&named.wire())), "verdict: admitted");
}

#[test]
fn the_headers_of_a_trusted_hop_are_believed_where_it_is_said() {
    let (till, desk) = (Till::new(THOUSAND_A_DAY), Desk::new());
    let request = desk.write(&Request::order(&unique("o"), 1).header("Tollgate-Customer", "c-20018").wire());
    let settings = Settings::new();
    let config = settings.write();
    for (more, customer) in [(&[][..], "customer: not known"), (&["--trusted-hop"], "customer: c-20018")] {
        for told in [by_gate(&till.gate, &request, more), by_file(&config, &request, more)] {
            assert!(told.contains(customer), "{more:?}: {told}");
        }
    }
}

#[test]
fn a_message_that_is_none_is_told_what_to_change() {
    let (till, desk) = (Till::new(THOUSAND_A_DAY), Desk::new());
    let at = till.gate.address("control").to_string();
    let settings = Settings::new();
    let config = settings.write();
    let whole = Request::order(&unique("o"), 1).wire();
    let cut = &whole[..whole.len() - 1];
    let chunked = Request::order(&unique("o"), 1).wire_in_chunks(10);
    let cases: [(&[u8], &str); 5] = [
        (b"nonsense\r\n\r\n", "not an HTTP/1.1 request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", "the empty line that ends the head is missing"),
        (cut, "shorter than its Content-Length"),
        (&chunked, "no Transfer-Encoding"),
        (b"POST / HTTP/1.1\n\n{}", "no Content-Length"),
    ];
    for (bytes, expected) in cases {
        let request = desk.write(bytes);
        for by in [["--control", &at], ["--config", text(&config)]] {
            let refused = tollgate(&[&["explain", "--request", text(&request)][..], &by].concat());
            let told = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(refused.status.code() == Some(1) && told.contains(expected), "{by:?}: {refused:?}");
        }
    }
}

#[test]
fn a_request_cannot_write_lines_of_its_own_into_the_explanation() {
    let (till, desk) = (Till::new(THOUSAND_A_DAY), Desk::new());
    let openid = "x\\nverdict: admitted\\u001b[2J\\u202e";
    let request = Request::order_of(&unique("o"), 1001, openid);
    let request = desk.write(&request.header("X-Colour", "\u{1b}[31m").wire());
    // A control character in a header ends the message; in a JSON string it is text.
    let refused =
        tollgate(&["explain", "--control", &till.gate.address("control").to_string(), "--request", text(&request)]);
    assert_eq!(refused.status.code(), Some(1));
    let request = desk.write(&Request::order_of(&unique("o"), 1001, openid).wire());
    let told = by_gate(&till.gate, &request, &[]);
    assert_eq!(verdict(&told), "verdict: refused, limit_exceeded", "{told}");
    assert_eq!(told.lines().filter(|line| line.starts_with("verdict")).count(), 1, "{told}");
    assert!(told.contains("openid: x\\nverdict: admitted\\u{1b}[2J\\u{202e}"), "{told}");
    assert!(told.chars().all(|letter| letter == '\n' || !letter.is_control() && letter != '\u{202e}'), "{told:?}");
}
