//! What becomes of an admission: the answer that the client gets, its signature, and the room in the limits.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tollgate::reason::Reason;
use tollgate::time::{Clock as _, SystemClock};

use crate::deployment::deployment;
use crate::gate::{Gate, Settings, THOUSAND_A_DAY};
use crate::raw::Message;
use crate::request::{Request, unique};
use crate::upstream::{Act, Upstream, answer, ok};

/// Starts a gate whose only limit is full with an order of 1000 fen.
fn gate(upstream: &Upstream) -> Gate {
    Gate::with(upstream, |settings| settings.replace("limit", THOUSAND_A_DAY))
}

fn order(gate: &Gate, fen: u64) -> Message {
    gate.connect("public").ask(&Request::order(&unique("o"), fen))
}

/// Checks that the limit is full: not one fen passes.
fn assert_full(gate: &Gate, what: &str) {
    let refusal = order(gate, 1);
    assert_eq!(refusal.status(), 403, "{what}");
    assert_eq!(refusal.json()["code"], "RULE_LIMIT", "{what}");
}

/// Checks that the limit is empty: all of it passes.
fn assert_empty(gate: &Gate, what: &str) {
    assert_eq!(order(gate, 1000).status(), 200, "{what}");
    assert_full(gate, what);
}

/// Checks the five headers against the platform's certificate.
fn assert_signed(answer: &Message) {
    let value = |name| answer.value(name).unwrap_or_else(|| panic!("{name}: {answer:?}"));
    let (timestamp, nonce) = (value("wechatpay-timestamp"), value("wechatpay-nonce"));
    let skew_s = timestamp.parse::<i64>().expect("seconds") - SystemClock.now().seconds();
    assert!(skew_s.abs() < 60 && nonce.len() == 32, "{timestamp} {nonce}");
    assert_eq!(value("wechatpay-serial"), deployment().platform_serial());
    assert_eq!(value("wechatpay-signature-type"), "WECHATPAY2-SHA256-RSA2048");
    let message = [format!("{timestamp}\n{nonce}\n").as_bytes(), &answer.body, b"\n"].concat();
    assert!(deployment().platform_signed(&message, value("wechatpay-signature")), "{answer:?}");
}

fn assert_unsigned(answer: &Message) {
    assert!(!answer.headers.iter().any(|(name, _)| name.starts_with("wechatpay-")), "{answer:?}");
}

#[test]
fn a_success_keeps_the_room_and_is_signed() {
    for status in [200, 201, 202, 204] {
        let upstream = Upstream::start();
        let gate = gate(&upstream);
        let body = if status == 204 { "" } else { "{\"prepay_id\": \"wx\" }" };
        upstream.then(Act::Answer(answer(status, "", body)));
        let came = order(&gate, 1000);
        assert_eq!((came.status(), came.body.as_slice()), (status, body.as_bytes()));
        assert_signed(&came);
        assert_full(&gate, "success");
        assert_eq!(upstream.seen().len(), 1);
    }
}

#[test]
fn a_refusal_by_the_upstream_gives_the_room_back() {
    for status in [400, 401, 403, 404, 405, 413, 415, 422, 429] {
        let upstream = Upstream::start();
        let gate = gate(&upstream);
        let number = unique("o");
        upstream.then(Act::Answer(answer(status, "", "{\"code\":\"X\"}")));
        let came = gate.connect("public").ask(&Request::order(&number, 1000));
        assert_eq!((came.status(), came.body.as_slice()), (status, &b"{\"code\":\"X\"}"[..]));
        assert_signed(&came);
        // The order number is free as well: the same number may come with other parameters.
        assert_eq!(gate.connect("public").ask(&Request::order(&number, 400)).status(), 200, "{status}");
        assert_eq!(order(&gate, 600).status(), 200, "{status}");
        assert_full(&gate, "after 400 and 600");
    }
}

#[test]
fn an_unknown_outcome_keeps_the_room() {
    // Some frameworks answer 406, 409 or 412 when the deed is done.
    for status in [302, 406, 408, 409, 412, 416, 499, 500, 502, 503, 504] {
        let upstream = Upstream::start();
        let gate = gate(&upstream);
        upstream.then(Act::Answer(answer(status, "", "{}")));
        let came = order(&gate, 1000);
        assert_eq!(came.status(), status);
        assert_signed(&came);
        assert_full(&gate, &status.to_string());
    }
}

#[test]
fn an_answer_that_breaks_off_keeps_the_room() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345".to_vec();
    let chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n".to_vec();
    let not_http = b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec();
    let framed_twice = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12".to_vec();
    for bytes in [Vec::new(), half, chunk, not_http, framed_twice] {
        let upstream = Upstream::start();
        let gate = gate(&upstream);
        let what = String::from_utf8_lossy(&bytes).into_owned();
        upstream.then(Act::AnswerAndClose(bytes));
        let came = order(&gate, 1000);
        assert_eq!((came.status(), came.json()["code"].as_str()), (502, Some("SYSTEM_ERROR")), "{what}");
        assert_signed(&came);
        assert_full(&gate, &what);
        assert_eq!((upstream.seen().len(), gate.refused(Reason::UpstreamBroken)), (1, 1), "{what}");
    }
}

#[test]
fn an_upstream_that_takes_too_long_keeps_the_room() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345".to_vec();
    for act in [Act::Silence, Act::Answer(half)] {
        let upstream = Upstream::start();
        let gate = Gate::with(&upstream, |settings| {
            settings.replace("limit", THOUSAND_A_DAY).set("upstream.answer_timeout_ms", 300)
        });
        upstream.then(act);
        let came = order(&gate, 1000);
        assert_eq!((came.status(), came.json()["code"].as_str()), (504, Some("SYSTEM_ERROR")));
        assert_signed(&came);
        assert_full(&gate, "timeout");
        assert_eq!((upstream.seen().len(), gate.refused(Reason::UpstreamTimeout)), (1, 1));
    }
}

#[test]
fn an_upstream_that_is_not_there_gives_the_room_back() {
    let upstream = Upstream::start();
    let address = upstream.tcp_address();
    let gate = gate(&upstream);
    drop(upstream);
    let refusal = order(&gate, 1000);
    assert_eq!((refusal.status(), refusal.json()["code"].as_str()), (502, Some("SERVICE_UNAVAILABLE")));
    assert_signed(&refusal);
    assert!(refusal.value("retry-after").is_some());
    let upstream = Upstream::start_at(address);
    assert_empty(&gate, "unreachable");
    assert_eq!((upstream.seen().len(), gate.refused(Reason::UpstreamUnreachable)), (1, 1));
}

#[test]
fn an_upstream_that_takes_no_connection_in_time_gives_the_room_back() {
    // Its queue holds one connection; nobody accepts, so that the next one waits.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("an address").into()).expect("bind");
    listener.listen(0).expect("listen");
    let address = listener.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
    let _first = TcpStream::connect(address).expect("the one in the queue");
    let mut settings = Settings::new();
    settings.set("upstream.address", address.to_string()).set("upstream.connect_timeout_ms", 200);
    settings.replace("limit", THOUSAND_A_DAY);
    let gate = Gate::start(settings);
    let refusal = order(&gate, 1000);
    assert_eq!((refusal.status(), refusal.json()["code"].as_str()), (502, Some("SERVICE_UNAVAILABLE")));
    assert_eq!(gate.connect("check").ask(&Request::order(&unique("o"), 1000)).status(), 200);
    assert_eq!(gate.refused(Reason::UpstreamUnreachable), 1);
}

#[test]
fn a_retry_after_an_unknown_outcome_goes_on_under_the_same_decision_and_counts_once() {
    let upstream = Upstream::start();
    let gate = gate(&upstream);
    let number = unique("o");
    upstream.then(Act::Answer(answer(500, "", "{}")));
    let mut client = gate.connect("public");
    assert_eq!(client.ask(&Request::order(&number, 1000)).status(), 500);
    assert_eq!(client.ask(&Request::order(&number, 1000)).status(), 200);
    let seen = upstream.seen();
    assert_eq!(seen[0].value("tollgate-decision"), seen[1].value("tollgate-decision"));
    assert_eq!(gate.control().snapshot().duplicates, 1);
    assert_full(&gate, "once");
    let other = client.ask(&Request::order(&number, 999));
    assert_eq!((other.status(), other.json()["code"].as_str()), (403, Some("OUT_TRADE_NO_USED")));
    assert_eq!(upstream.seen().len(), 2);
}

#[test]
fn closing_an_order_gives_the_room_back_where_the_upstream_agrees() {
    let upstream = Upstream::start();
    let gate = gate(&upstream);
    let number = unique("o");
    let mut client = gate.connect("public");
    assert_eq!(client.ask(&Request::order(&number, 1000)).status(), 200);
    upstream.then(Act::Answer(answer(404, "", "{}")));
    assert_eq!(client.ask(&Request::close(&number)).status(), 404);
    assert_full(&gate, "not closed");
    upstream.then(Act::Answer(answer(204, "", "")));
    let closed = client.ask(&Request::close(&number));
    assert_eq!((closed.status(), closed.body.len()), (204, 0));
    assert_signed(&closed);
    assert_empty(&gate, "closed");
}

#[test]
fn a_client_that_went_away_settles_all_the_same() {
    for (status, given_back) in [(400, true), (200, false), (500, false)] {
        let upstream = Upstream::start();
        let gate = gate(&upstream);
        let release = upstream.then_hold(answer(status, "", "{}"));
        let mut client = gate.connect("public");
        client.send(&Request::order(&unique("o"), 1000).wire());
        upstream.wait_for(1);
        assert_full(&gate, "under way");
        drop(client);
        gate.wait_until(|readings| readings.connections == 0);
        assert_full(&gate, "under way, and nobody waits for it");
        release.send(()).expect("it is waiting");
        gate.wait_for_metric("tollgate_stage_seconds_count{stage=\"upstream\"}", 1.0);
        if given_back {
            assert_empty(&gate, "refused");
        } else {
            assert_full(&gate, &status.to_string());
        }
    }
}

#[test]
fn an_answer_that_the_upstream_signed_is_passed_on_untouched() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let theirs = [
        ("Wechatpay-Timestamp", "1554208460"),
        ("Wechatpay-Nonce", "theirs"),
        ("Wechatpay-Signature", "WECHATPAY/SIGNTEST/c2lnbmVk"),
        ("Wechatpay-Serial", "PUB_KEY_ID_0000000000000024101100397200000006"),
        ("Wechatpay-Signature-Type", "WECHATPAY2-SHA256-RSA2048"),
    ];
    let lines: String = theirs.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut client = gate.connect("public");
    for (status, body) in [(200, "{ \"a\":\t1}"), (204, ""), (400, "{}")] {
        upstream.then(Act::Answer(answer(status, &lines, body)));
        let came = client.ask(&Request::query("a"));
        assert_eq!((came.status(), came.body.as_slice()), (status, body.as_bytes()));
        for (name, value) in &theirs {
            assert_eq!(came.value(&name.to_ascii_lowercase()), Some(*value));
        }
    }
    // Without the signature, the others are of no use: all five are the gate's own, never a mixture.
    let lines = "Wechatpay-Serial: AB\r\nWechatpay-Nonce: theirs\r\nWechatpay-Signature-Type: X\r\n";
    upstream.then(Act::Answer(answer(200, lines, "{}")));
    assert_signed(&client.ask(&Request::query("a")));
}

#[test]
fn refusals_are_signed_where_the_caller_is_known_and_spent_a_nonce() {
    let upstream = Upstream::start();
    let gate = gate(&upstream);
    let mut client = gate.connect("public");
    let mut ask = |request: &Request| client.ask(request);
    assert_signed(&ask(&Request::order(&unique("o"), 1001)));
    let not_json = Request { body: b"{".to_vec(), ..Request::order("a", 1) };
    let refusal = ask(&not_json);
    assert_eq!(refusal.status(), 400);
    assert_signed(&refusal);

    let replayed = Request::query("a");
    assert_signed(&ask(&replayed));
    let refusal = ask(&replayed);
    assert_eq!(refusal.status(), 401);
    assert_unsigned(&refusal);
    let refusal = ask(&Request::query("a").header("Wechatpay-Serial", "0123456789ABCDEF"));
    assert_eq!((refusal.status(), refusal.json()["code"].as_str()), (400, Some("PARAM_ERROR")));
    assert_unsigned(&refusal);
    let named = Request::query("a").header("Wechatpay-Serial", deployment().platform_serial());
    assert_signed(&ask(&named));
    let unsigned = b"GET /v3/pay/transactions/id/1?mchid=1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let refusal = client.ask_raw(unsigned);
    assert_eq!(refusal.status(), 401);
    assert_unsigned(&refusal);
    assert!(refusal.value("request-id").is_some(), "every answer has one");
}

#[test]
fn a_slow_upstream_holds_up_nobody_else() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let held: Vec<_> = (0..8).map(|_| upstream.then_hold(ok("late"))).collect();
    let mut waiting: Vec<_> = (0..8).map(|_| gate.connect("public")).collect();
    waiting.iter_mut().for_each(|client| client.send(&Request::query("slow").wire()));
    upstream.wait_for(8);
    let mut other = gate.connect("public");
    other.stream().set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
    assert_eq!(other.ask(&Request::query("quick")).status(), 200);
    drop(held);
    assert!(waiting.iter_mut().all(|client| client.answer().body == b"late"));
}
