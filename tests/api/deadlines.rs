//! Peers that are slow on purpose: each is cut off, and none of the others on the same worker waits for it.
//!
//! The gate has one worker. A deadline is proven by the connection that ends: were there none, the client would give up
//! far later. That it ends soon is not asserted closely, for the machine may be busy.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tollgate::front::Address;
use tollgate::reason::Reason;

use crate::client::{Client, Reply};
use crate::gate::{Gate, Settings};
use crate::request::{Request, unique};
use crate::upstream::{Act, Upstream, ok};

/// Sets one deadline to a short time and all others to a long one.
fn only<'a>(settings: &'a mut Settings, short: &str) -> &'a mut Settings {
    for name in ["head", "body", "idle", "write", "handshake"] {
        settings.set(&format!("bounds.{name}_timeout_ms"), if name == short { SHORT_MS } else { 60_000 });
    }
    settings
}

/// Has room for some long answers.
fn long_answers(settings: &mut Settings) -> &mut Settings {
    settings.set("upstream.answer_bytes_max", LONG_BYTES_MAX).set("upstream.answers_bytes_max", LONG_BYTES_MAX * 8)
}

/// Runs what is slow, and asks on a connection of its own all the while.
fn beside_a_probe<T: Send>(gate: &Gate, slow: impl FnOnce() -> T + Send) -> T {
    let done = AtomicBool::new(false);
    let mut probe = gate.connect("public");
    thread::scope(|scope| {
        let probing = scope.spawn(|| {
            let mut worst = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let asked = Instant::now();
                assert_eq!(probe.ask(&Request::query("probe")).status(), 200);
                worst = worst.max(asked.elapsed());
                thread::sleep(Duration::from_millis(10));
            }
            worst
        });
        let result = slow();
        done.store(true, Ordering::Relaxed);
        let worst = probing.join().expect("the probe is served");
        assert!(worst < Duration::from_secs(5), "the probe waited {worst:?}");
        result
    })
}

/// Sends a byte now and then, to every client, until all are cut off.
fn drip(clients: &mut [Client], byte: &[u8]) {
    let began = Instant::now();
    let mut left: Vec<_> = clients.iter_mut().collect();
    while !left.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "{} are still there", left.len());
        left.retain_mut(|client| client.try_send(byte));
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn heads_that_come_slowly_are_cut_off() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| only(settings, "head"));
    let mut clients: Vec<_> = (0..30).map(|_| gate.connect("public")).collect();
    clients.iter_mut().for_each(|client| client.send(b"POST /v3/pay HTTP/1.1\r\nHost: a\r\nX-"));
    beside_a_probe(&gate, || drip(&mut clients, b"a"));
    let mut client = gate.connect("public");
    assert_eq!(client.ask(&Request::query("a")).status(), 200);
    client.send(b"GET");
    beside_a_probe(&gate, || assert!(matches!(client.reply(), Reply::Closed), "the second head has a deadline, too"));
}

#[test]
fn bodies_that_come_slowly_are_cut_off() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| only(settings, "body"));
    let whole = Request { body: vec![b'a'; 20_000], ..Request::query("a") }.wire();
    let mut clients: Vec<_> = (0..30).map(|_| gate.connect("public")).collect();
    clients.iter_mut().for_each(|client| client.send(&whole[..whole.len() - 10_000]));
    let before = upstream.seen().len();
    beside_a_probe(&gate, || {
        let refusal = clients.pop().expect("a client").answer();
        assert_eq!((refusal.status(), refusal.value("connection")), (408, Some("close")));
        drip(&mut clients, b"a");
    });
    gate.wait_until(|readings| readings.bodies_bytes == 0);
    assert_eq!(gate.refused(Reason::BodyTimeout), 30);
    let others = upstream.seen().into_iter().skip(before).filter(|message| !message.target().contains("probe"));
    assert_eq!(others.count(), 0);
}

#[test]
fn connections_without_a_request_are_cut_off() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| only(settings, "idle"));
    // Made before anybody connects: it takes a while.
    let (whole, mut wire) = (Request::query("a").wire(), Request::query("a").wire());
    wire.extend(b"GET /");
    let mut silent = gate.connect("public");
    let mut served = gate.connect("public");
    assert_eq!(served.ask_raw(&whole).status(), 200);
    let mut refused = gate.connect("public");
    assert_eq!(refused.ask_raw(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n").status(), 404);
    let mut with_half = gate.connect("public");
    assert_eq!(with_half.ask_raw(&wire).status(), 200);
    for client in [&mut silent, &mut served, &mut refused, &mut with_half] {
        client.expect_close();
    }
    gate.wait_until(|readings| readings.connections == 0);
}

#[test]
fn a_connection_that_is_waiting_for_its_answer_is_not_idle() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| {
        for name in ["head", "idle", "body", "write"] {
            settings.set(&format!("bounds.{name}_timeout_ms"), SHORT_MS);
        }
        settings
    });
    let release = upstream.then_hold(ok("late"));
    let wire = Request::query("a").wire();
    let mut client = gate.connect("public");
    client.send(&wire);
    upstream.wait_for(1);
    // What must not happen can only be waited for.
    thread::sleep(Duration::from_millis(SHORT_MS as u64 * 2));
    release.send(()).expect("it is waiting");
    assert_eq!(client.answer().body, b"late");
}

#[test]
fn answers_that_nobody_reads_are_cut_off() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| long_answers(only(settings, "write")));
    let clients: Vec<_> = (0..4).map(|_| unwilling(&gate, &upstream)).collect();
    beside_a_probe(&gate, || gate.wait_until(|readings| readings.connections == 1));
    drop(clients);
}

#[test]
fn answers_that_are_read_slowly_are_cut_off() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| long_answers(only(settings, "write")));
    upstream.then(Act::Answer(ok(&"a".repeat(LONG_BYTES))));
    let mut client = gate.connect("public");
    client.send(&Request::query("long").wire());
    upstream.wait_for(1);
    let mut read = 0;
    beside_a_probe(&gate, || {
        // Enough at a time for the gate to write on, so little in all that it would take some seconds.
        let mut bytes = vec![0; LONG_BYTES / 32];
        while client.stream().read_exact(&mut bytes).is_ok() {
            read += bytes.len();
            thread::sleep(Duration::from_millis(100));
        }
    });
    assert!(read < LONG_BYTES, "all of it was read");
}

#[test]
fn the_deadline_of_a_head_does_not_cut_an_answer_short() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| long_answers(only(settings, "head")));
    // Two at once: while the first is handled, the gate does not read, and knows only the deadline of the first head.
    let release = upstream.then_hold(ok(&"a".repeat(LONG_BYTES)));
    let mut client = gate.connect("public");
    client.send(&[Request::query("a").wire(), Request::query("b").wire()].concat());
    upstream.wait_for(1);
    thread::sleep(Duration::from_millis(SHORT_MS as u64 * 2));
    release.send(()).expect("it is waiting");
    // Long enough for the answer to fill every buffer on the way.
    thread::sleep(Duration::from_millis(100));
    assert_eq!(client.answer().body.len(), LONG_BYTES);
    assert_eq!(client.answer().status(), 200);
}

#[test]
fn handshakes_that_do_not_go_on_are_cut_off() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| only(settings, "handshake"));
    let mut silent = gate.connect("tls");
    // The beginning of a record that says a ClientHello of 512 bytes follows.
    let mut half = gate.connect("tls");
    half.send(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]);
    let mut garbage = gate.connect("tls");
    garbage.send(&unique("garbage").repeat(20).into_bytes());
    let mut plain = gate.connect("tls");
    plain.send(&Request::query("a").wire());
    beside_a_probe(&gate, || {
        for client in [&mut silent, &mut half, &mut garbage, &mut plain] {
            // An alert may come before the end; an answer of HTTP must not.
            let mut bytes = Vec::new();
            let _ = client.stream().read_to_end(&mut bytes);
            assert!(bytes.is_empty() || bytes[0] == 0x15, "{bytes:?}");
        }
    });
    // The probe is gone by then as well.
    gate.wait_until(|readings| readings.connections == 0);
    assert_eq!(upstream.seen().iter().filter(|message| !message.target().contains("probe")).count(), 0);
}

#[test]
fn handshakes_under_way_are_bounded_and_silent_peers_take_no_place() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| {
        settings.set("bounds.handshakes_max", 2).set("bounds.handshake_timeout_ms", 60_000)
    });
    let silent: Vec<_> = (0..4).map(|_| gate.connect("tls")).collect();
    gate.wait_until(|readings| readings.connections == 4);
    let ask = || crate::tls::connect(&gate, &crate::tls::options()).ask(&Request::query("a")).status();
    assert_eq!(ask(), 200, "nobody shakes hands yet");
    let mut slow: Vec<_> = (0..2).map(|_| gate.connect("tls")).collect();
    // The head of a record that does not come: a handshake under way.
    slow.iter_mut().for_each(|client| client.send(&[0x16, 0x03, 0x01]));
    gate.wait_until(|readings| readings.connections == 6);
    thread::scope(|scope| {
        let waiting = scope.spawn(ask);
        assert_eq!(gate.connect("public").ask(&Request::query("a")).status(), 200, "listeners without TLS go on");
        drop(slow);
        assert_eq!(waiting.join().expect("no panic"), 200, "it waited for a place");
    });
    drop(silent);
    gate.wait_until(|readings| readings.connections == 0);
}

#[test]
fn answers_held_together_stay_within_their_budget() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| {
        settings.set("upstream.answer_bytes_max", LONG_BYTES_MAX);
        settings.set("upstream.answers_bytes_max", LONG_BYTES_MAX + 1_000_000)
    });
    let held = unwilling(&gate, &upstream);
    gate.wait_for_metric("tollgate_stage_seconds_count{stage=\"upstream\"}", 1.0);
    upstream.then(Act::Answer(ok(&"a".repeat(2_000_000))));
    let refused = gate.connect("public").ask(&Request::query("long"));
    assert_eq!(refused.status(), 502, "the first is held for a peer that does not read");
    upstream.then(Act::Answer(ok("short")));
    assert_eq!(gate.connect("public").ask(&Request::query("short")).status(), 200);
    drop(held);
}

/// Asks for a long answer and has room for little of it.
fn unwilling(gate: &Gate, upstream: &Upstream) -> std::net::TcpStream {
    upstream.then(Act::Answer(ok(&"a".repeat(LONG_BYTES))));
    let Address::Tcp(address) = gate.address("public") else { panic!("TCP") };
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(&(*address).into()).expect("connect");
    let mut stream: std::net::TcpStream = socket.into();
    let seen = upstream.seen().len();
    stream.write_all(&Request::query("long").wire()).expect("send");
    upstream.wait_for(seen + 1);
    stream
}

/// The one deadline that a test is about: it must be over before the test gives up, and not before it has begun.
const SHORT_MS: i64 = 300;

/// An answer longer than what the kernel buffers between two sockets.
const LONG_BYTES: usize = 32 * 1024 * 1024;

/// The bound that lets it pass.
const LONG_BYTES_MAX: i64 = 32 * 1024 * 1024;
