//! What is taken from a peer, and where it ends: sizes and counts. Times are in `deadlines`.

use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};
use tollgate::front::Address;
use tollgate::reason::Reason;

use crate::client::{Client, PATIENCE, Reply};
use crate::gate::{Gate, Settings};
use crate::raw::Message;
use crate::request::{Request, unique};
use crate::upstream::{Upstream, answer, ok};

/// Returns the status, and checks that the connection ends after the answer.
fn last_status(client: &mut Client) -> u16 {
    let answer = client.answer();
    assert_eq!(answer.value("connection"), Some("close"), "{answer:?}");
    client.expect_close();
    answer.status()
}

/// Makes a query with a body of a size: queries are forwarded whatever their body holds.
fn with_body(bytes: usize) -> Request {
    Request { body: vec![b'a'; bytes], ..Request::query(&unique("q")) }
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("bounds.head_bytes_max", 8192));
    let mut client = gate.connect("public");
    assert_eq!(client.ask(&Request::query("a").header("X", "a".repeat(6000))).status(), 200);
    // No longer than the bound, so that the gate has read it all when it closes: what is unread would undo the answer.
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(8192));
    client.send(&head.as_bytes()[..8192]);
    assert_eq!(client.answer().status(), 431);
    client.expect_close();
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_head_with_too_many_fields_is_refused() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("bounds.headers_max", 16));
    let request = |fields| (1..fields - 3).fold(Request::query("a"), |request, _| request.header("X", "a"));
    let mut client = gate.connect("public");
    assert_eq!(client.ask(&request(16)).status(), 200, "with Authorization, exactly 16");
    client.send(&request(17).wire());
    assert_eq!(client.answer().status(), 431);
    client.expect_close();
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_body_that_says_it_is_too_long_is_refused_before_it_comes() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("bounds.body_bytes_max", 1024));
    let mut client = gate.connect("public");
    assert_eq!(client.ask(&with_body(1024)).status(), 200);
    let whole = with_body(1025).wire();
    client.send(&whole[..whole.len() - 1025]);
    assert_eq!(last_status(&mut client), 413);
    assert_eq!((upstream.seen().len(), gate.refused(Reason::BodyTooLarge)), (1, 1));
}

#[test]
fn a_body_that_turns_out_too_long_in_chunks_is_refused() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("bounds.body_bytes_max", 1024));
    let mut client = gate.connect("public");
    assert_eq!(client.ask_raw(&with_body(1024).wire_in_chunks(100)).status(), 200);
    // Without the chunks that the gate does not read.
    let whole = with_body(1100).wire_in_chunks(100);
    client.send(&whole[..whole.len() - 5]);
    assert_eq!(last_status(&mut client), 413);
    assert_eq!((upstream.seen().len(), gate.refused(Reason::BodyTooLarge)), (1, 1));
}

#[test]
fn bodies_together_stay_within_their_budget() {
    const MIB: usize = 1024 * 1024;
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| {
        settings.set("bounds.bodies_bytes_max", 1_048_576).set("bounds.body_bytes_max", 1_048_576);
        settings.set("bounds.body_timeout_ms", 60_000)
    });
    let whole = with_body(MIB).wire();
    let (most, rest) = whole.split_at(whole.len() - MIB / 4);
    let mut slow = gate.connect("public");
    slow.send(most);
    gate.wait_until(|readings| readings.bodies_bytes == (MIB - MIB / 4) as u64);

    let mut other = gate.connect("public");
    let whole = with_body(MIB / 4 + 1).wire();
    other.send(&whole);
    let refusal = other.answer();
    assert_eq!((refusal.status(), refusal.value("retry-after").is_some()), (503, true), "{refusal:?}");
    other.expect_close();
    let mut small = gate.connect("public");
    assert_eq!(small.ask(&with_body(1000)).status(), 200, "what fits the rest of the budget is served");

    slow.send(rest);
    assert_eq!(slow.answer().status(), 200);
    gate.wait_until(|readings| readings.bodies_bytes == 0);
    assert_eq!(gate.connect("public").ask_raw(&whole).status(), 200, "the nonce of what was not read is not spent");
    assert_eq!((upstream.seen().len(), gate.refused(Reason::BodyBudgetExhausted)), (3, 1));
}

#[test]
fn a_body_that_is_broken_off_reaches_nobody() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let wire = with_body(100).wire();
    for cut in [wire.len() - 1, wire.len() - 100] {
        let mut client = gate.connect("public");
        client.send(&wire[..cut]);
        client.stream().shutdown(std::net::Shutdown::Write).expect("shutdown");
        assert!(client.replies().iter().all(|answer| answer.status() >= 400));
    }
    gate.wait_until(|readings| readings.connections == 0 && readings.bodies_bytes == 0);
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_connection_above_the_bound_is_refused_and_hurts_no_other() {
    let upstream = Upstream::start();
    let gate =
        Gate::with(&upstream, |settings| settings.set("bounds.connections_max", 4).set("bounds.handshakes_max", 4));
    let mut within: Vec<_> = (0..4).map(|_| gate.connect("public")).collect();
    let all_served = |clients: &mut [Client]| {
        clients.iter_mut().for_each(|client| assert_eq!(client.ask(&Request::query("a")).status(), 200));
    };
    all_served(&mut within);
    for _ in 0..3 {
        let mut above = gate.connect("public");
        // It may be closed before a byte of this is taken.
        let _ = above.try_send(&Request::query("a").wire());
        assert!(matches!(above.reply(), Reply::Closed));
    }
    all_served(&mut within);
    within.pop();
    gate.wait_until(|readings| readings.connections == 3);
    within.push(gate.connect("public"));
    all_served(&mut within);
    assert_eq!(upstream.seen().len(), 12);
}

#[test]
fn one_peer_does_not_take_every_connection() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("bounds.connections_per_peer_max", 2));
    let from = |source: &str, listener: &str| {
        let Address::Tcp(address) = gate.address(listener) else { panic!("TCP") };
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        let source: SocketAddr = format!("{source}:0").parse().expect("an address");
        socket.bind(&source.into()).and_then(|()| socket.connect(&(*address).into())).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Client::<TcpStream>::of(socket.into())
    };
    let served = |client: &mut Client| client.try_send(&Request::query("a").wire()) && client.answer_if_any().is_some();
    let mut first: Vec<_> = (0..3).map(|_| from("127.0.0.1", "public")).collect();
    assert_eq!(first.iter_mut().map(served).collect::<Vec<_>>(), [true, true, false]);
    assert!(served(&mut from("127.0.0.2", "public")), "another peer has places of its own");
    assert!(served(&mut from("127.0.0.1", "hop")), "a trusted hop brings many clients");
    assert!(first[..2].iter_mut().all(served));
    first.remove(0);
    gate.wait_until(|readings| readings.connections == 1);
    assert!(served(&mut from("127.0.0.1", "public")), "a place that was left is free");
}

#[test]
fn a_connection_carries_as_many_requests_as_it_may_and_is_closed() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("bounds.requests_per_connection_max", 3));
    let mut client = gate.connect("public");
    // All at once: what comes after the third is not served, either.
    let wires: Vec<u8> = (0..5).flat_map(|_| Request::query("a").wire()).collect();
    client.send(&wires);
    let answers: Vec<_> = (0..3).map(|_| client.answer()).collect();
    assert!(answers.iter().all(|answer| answer.status() == 200));
    let closing: Vec<_> = answers.iter().map(|answer| answer.value("connection")).collect();
    assert_eq!(closing, [None, None, Some("close")]);
    assert!(client.replies().is_empty());
    assert_eq!(upstream.seen().len(), 3);
}

#[test]
fn requests_sent_without_waiting_are_answered_in_order() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    for index in 0..8 {
        upstream.then(crate::upstream::Act::Answer(ok(&format!("{index}"))));
    }
    let mut client = gate.connect("public");
    client.send(&(0..8).flat_map(|_| Request::query("a").wire()).collect::<Vec<u8>>());
    let bodies: Vec<_> = (0..8).map(|_| client.answer().body).collect();
    assert_eq!(bodies, (0..8).map(|index| index.to_string().into_bytes()).collect::<Vec<_>>());
}

#[test]
fn an_answer_does_not_wait_for_what_may_follow() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    for more in ["\r\n", "GET /v3/pay HTTP/1.1\r\nHo"] {
        let mut client = gate.connect("public");
        let mut wire = Request::query("a").wire();
        wire.extend(more.bytes());
        assert_eq!(client.ask_raw(&wire).status(), 200, "{more:?}");
    }
}

#[test]
fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let wire = with_body(1000).header("Expect", "100-continue").wire();
    let (head, body) = wire.split_at(wire.len() - 1000);
    let mut client = gate.connect("public");
    client.send(head);
    let mut told = [0; 25];
    std::io::Read::read_exact(client.stream(), &mut told).expect("an interim answer");
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send(body);
    assert_eq!(client.answer().status(), 200);
    assert!(upstream.seen()[0].values("expect").next().is_none(), "the gate has the body: nothing is to be waited for");

    // Refused by its head: nothing is read, so nothing is asked for.
    let wire = with_body(1000).header("Expect", "100-continue").wire();
    let wire = String::from_utf8(wire).expect("text").replace("/v3/pay/", "/v9/pay/");
    client.send(wire.split_inclusive("\r\n\r\n").next().expect("a head").as_bytes());
    std::io::Read::read_exact(client.stream(), &mut told).expect("an answer");
    assert!(told.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&told));
}

#[test]
fn an_answer_that_is_too_long_is_not_passed_on() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("upstream.answer_bytes_max", 1024));
    let mut client = gate.connect("public");
    let told = |upstream: &Upstream, bytes: Vec<u8>| upstream.then(crate::upstream::Act::Answer(bytes));
    told(&upstream, ok(&"a".repeat(1024)));
    assert_eq!(client.ask(&Request::query("a")).status(), 200);
    told(&upstream, ok(&"a".repeat(1025)));
    assert_eq!(client.ask(&Request::query("a")).status(), 502);
    let chunks: String = std::iter::repeat_n(format!("ff\r\n{}\r\n", "a".repeat(255)), 5).collect();
    let chunked = answer(204, "Transfer-Encoding: chunked\r\n", &(chunks + "0\r\n\r\n"));
    let chunked = String::from_utf8(chunked).expect("text").replace("204", "200");
    told(&upstream, chunked.into_bytes());
    assert_eq!(client.ask(&Request::query("a")).status(), 502);
    assert_eq!(client.ask(&Request::query("a")).status(), 200, "the gate goes on");
}

#[test]
fn json_that_is_too_deep_is_refused() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut client = gate.connect("public");
    for depth in [33, 20_000] {
        let order = Request::order(&unique("o"), 1);
        let body = String::from_utf8(order.body.clone()).expect("text");
        let deep = body.replacen('{', &format!("{{\"x\":{}{},", "[".repeat(depth), "]".repeat(depth)), 1);
        let refusal: Message = client.ask(&Request { body: deep.into_bytes(), ..order });
        assert_eq!(refusal.status(), 400, "{depth}");
    }
    assert!(upstream.seen().is_empty());
    assert_eq!(gate.refused(Reason::BodyMalformed), 2);
}

#[test]
fn a_signing_queue_that_is_full_refuses_and_recovers() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings: &mut Settings| settings.set("platform.signing_queue_max", 1));
    let mut clients: Vec<_> = (0..32).map(|_| gate.connect("public")).collect();
    let wires: Vec<_> = clients.iter().map(|_| Request::query("a").wire()).collect();
    clients.iter_mut().zip(&wires).for_each(|(client, wire)| client.send(wire));
    let statuses: Vec<_> = clients.iter_mut().map(|client| client.answer().status()).collect();
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");
    assert_eq!(clients[0].ask(&Request::query("a")).status(), 200);
}
