//! Peers that speak HTTP/2 to do harm: floods, and slowness on purpose. Each is cut off, and others go on meanwhile.

use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tollgate::reason::Reason;

use crate::client::tcp;
use crate::frames::{
    ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, INITIAL_WINDOW_SIZE, Outcome, PING,
    PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, list, written,
};
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

/// Sends again and again, until the gate has closed the connection; returns how often.
fn flood(client: &mut Frames, mut next: impl FnMut(&mut Frames) -> Vec<u8>) -> usize {
    for count in 0..FLOOD_MAX {
        let bytes = next(client);
        if !client.try_send_raw(&bytes) {
            client.until_closed();
            return count;
        }
    }
    panic!("{FLOOD_MAX} were taken");
}

#[test]
fn streams_reset_as_fast_as_they_are_begun_end_the_connection() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("bounds.h2_resets_max", 50));
    let mut client = Frames::connect(&gate, "public");
    // Signed once: what is repeated is refused, which costs the gate as much.
    let (fields, body) = (list(&Request::order("rapid", 1)), Request::order("rapid", 1).body);
    flood(&mut client, |client| {
        let stream = client.next();
        [written(stream, &fields, &body), frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
    });
    let resets = gate.metric("tollgate_streams_reset_total");
    assert!(resets >= 50.0, "{resets}");
    assert!(upstream.seen().len() <= 1);
    assert_eq!(Frames::connect(&gate, "public").ask(&Request::query("a")).status(), 200);
}

#[test]
fn a_peer_that_takes_its_answers_may_reset_a_stream_now_and_then() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("bounds.h2_resets_max", 5));
    let mut client = Frames::connect(&gate, "public");
    for _ in 0..40 {
        let _never = upstream.then_hold(ok("late"));
        let seen = upstream.seen().len();
        let stream = client.send(&Request::query("a"));
        upstream.wait_for(seen + 1);
        client.send_raw(&frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        assert_eq!(client.ask(&Request::query("b")).status(), 200);
    }
    assert_eq!(gate.metric("tollgate_floods_ended_total"), 0.0);
}

#[test]
fn frames_that_carry_nothing_end_the_connection() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("bounds.h2_frames_max", 200));
    type Flood = fn(&mut Frames) -> Vec<u8>;
    let floods: [(&str, Flood); 7] = [
        ("PING", |_| frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", |_| frame(SETTINGS, 0, 0, &[])),
        ("PRIORITY", |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", |_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("frames of no known kind", |_| frame(0x5a, 0, 0, &[])),
        ("acknowledgements of nothing", |_| frame(PING, ACK, 0, &[0; 8])),
        ("WINDOW_UPDATE of a stream that ended", |_| frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())),
    ];
    for (what, next) in floods {
        let mut client = Frames::connect(&gate, "public");
        assert_eq!(client.ask(&Request::query("a")).status(), 200, "{what}");
        let count = flood(&mut client, next);
        assert!(count >= 100, "{what}: {count}");
    }
    assert_eq!(gate.metric("tollgate_floods_ended_total"), 7.0);
}

#[test]
fn a_list_of_fields_in_endless_pieces_ends_the_connection() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    for piece in [Vec::new(), block(&vec![("x".to_owned(), vec![b'a'; 1000])])] {
        let mut client = Frames::connect(&gate, "public");
        let stream = client.next();
        client.send_raw(&frame(HEADERS, 0, stream, &block(&list(&Request::query("a")))));
        let count = flood(&mut client, |_| frame(CONTINUATION, 0, stream, &piece));
        assert!(count > 0);
    }
    assert!(upstream.seen().is_empty());
    assert_eq!(Frames::connect(&gate, "public").ask(&Request::query("a")).status(), 200);
}

#[test]
fn empty_pieces_of_a_body_without_end_end_the_connection() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut client = Frames::connect(&gate, "public");
    let stream = client.next();
    client.send_raw(&frame(HEADERS, END_HEADERS, stream, &block(&list(&Request::query("a")))));
    flood(&mut client, |_| frame(DATA, 0, stream, &[]));
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_list_of_fields_that_comes_slowly_is_cut_off() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| only(settings, "head"));
    let whole = block(&list(&Request::query("a")));
    let drip = |mut client: Frames, pieces: &mut dyn FnMut() -> Vec<u8>| {
        let mut sent = 0;
        while client.try_send_raw(&pieces()) {
            sent += 1;
            assert!(sent < 400, "it is still there");
            thread::sleep(Duration::from_millis(50));
        }
    };
    let begun = |bytes: &[u8]| {
        let mut client = Frames::connect(&gate, "public");
        assert_eq!(client.ask(&Request::query("a")).status(), 200);
        client.send_raw(bytes);
        client
    };
    drip(begun(&frame(HEADERS, 0, 3, &whole[..10])), &mut || frame(CONTINUATION, 0, 3, &[]));
    let half = frame(HEADERS, END_HEADERS, 3, &whole);
    let mut rest = half[9..].iter();
    drip(begun(&half[..9]), &mut || rest.next().map(|byte| vec![*byte]).unwrap_or_default());
    // Half of a preface.
    let mut client = gate.connect("public");
    client.send(b"PRI * HT");
    client.expect_close();
}

#[test]
fn whoever_sends_one_request_behind_the_other_is_not_slow() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| only(settings, "head"));
    let mut client = Frames::connect(&gate, "public");
    let mut half = Vec::new();
    // Each write ends within the list of fields that the next one begins with.
    for _ in 0..12 {
        let (stream, request) = (client.next(), Request::query("a"));
        let whole = written(stream, &list(&request), b"");
        let (begin, end) = whole.split_at(whole.len() / 2);
        client.send_raw(&[half.as_slice(), begin].concat());
        half = end.to_vec();
        thread::sleep(Duration::from_millis(SHORT_MS as u64 / 4));
    }
    client.send_raw(&half);
    for stream in (1..24).step_by(2) {
        assert_eq!(client.outcome(stream).status(), 200);
    }
}

#[test]
fn a_body_that_comes_slowly_is_refused_and_its_connection_goes_on() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| only(settings, "body"));
    let mut client = Frames::connect(&gate, "public");
    let request = Request { body: vec![b'a'; 1000], ..Request::query("slow") };
    let stream = client.next();
    client.send_raw(&frame(HEADERS, END_HEADERS, stream, &block(&list(&request))));
    client.send_raw(&frame(DATA, 0, stream, &request.body[..500]));
    assert_eq!(client.outcome(stream).status(), 408);
    gate.wait_until(|readings| readings.bodies_bytes == 0);
    assert_eq!(gate.refused(Reason::BodyTimeout), 1);
    assert_eq!(client.ask(&Request::query("a")).status(), 200);
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_connection_without_a_request_is_cut_off_however_much_it_pings() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| only(settings, "idle"));
    let mut silent = Frames::connect(&gate, "public");
    let mut served = Frames::connect(&gate, "public");
    assert_eq!(served.ask(&Request::query("a")).status(), 200);
    let mut refused = Frames::connect(&gate, "public");
    assert_eq!(refused.ask(&Request::new("GET", "/nowhere", "")).status(), 404);
    let mut reset = Frames::connect(&gate, "public");
    let whole = Request::order(&unique("o"), 1);
    let stream = reset.next();
    reset.send_raw(&frame(HEADERS, END_HEADERS, stream, &block(&list(&whole))));
    thread::sleep(Duration::from_millis(50));
    reset.send_raw(&frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    for client in [&mut silent, &mut served, &mut refused, &mut reset] {
        client.until_closed();
    }
    let mut pinging = Frames::connect(&gate, "public");
    assert_eq!(pinging.ask(&Request::query("a")).status(), 200);
    let mut pings = 0;
    while pinging.try_send_raw(&frame(PING, 0, 0, &[0; 8])) {
        pings += 1;
        assert!(pings < 400, "it is still there");
        thread::sleep(Duration::from_millis(50));
    }
    gate.wait_until(|readings| readings.connections == 0);
}

#[test]
fn a_peer_that_does_not_hear_goodbye_is_cut_off() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| only(settings, "idle").set("bounds.requests_per_connection_max", 1));
    let mut client = Frames::connect(&gate, "public");
    client.deaf = true;
    assert_eq!(client.ask(&Request::query("a")).status(), 200);
    // It neither acknowledges the PING of a goodbye nor stops.
    let (fields, mut more) = (list(&Request::query("b")), 0);
    loop {
        let stream = client.next();
        if !client.try_send_raw(&written(stream, &fields, b"")) {
            break;
        }
        more += 1;
        assert!(more < 400, "it is still there");
        thread::sleep(Duration::from_millis(50));
    }
    gate.wait_until(|readings| readings.connections == 0);
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_connection_whose_stream_waits_for_its_answer_is_not_idle() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| {
        for name in ["head", "idle", "body", "write"] {
            settings.set(&format!("bounds.{name}_timeout_ms"), SHORT_MS);
        }
        settings
    });
    let release = upstream.then_hold(ok("late"));
    let mut client = Frames::connect(&gate, "public");
    let stream = client.send(&Request::query("a"));
    upstream.wait_for(1);
    thread::sleep(Duration::from_millis(SHORT_MS as u64 * 2));
    release.send(()).expect("it is waiting");
    assert_eq!(client.outcome(stream), Outcome::Answered(200, b"late".to_vec()));
}

#[test]
fn answers_for_which_no_window_is_opened_are_cut_off_and_held_no_longer() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| only(settings, "write"));
    // None at all; and one that an answer fills.
    for (window, length) in [(0, 10), (1000, 100_000)] {
        let settings = [(INITIAL_WINDOW_SIZE, window)];
        let mut client = Frames::with_settings(tcp(gate.address("public")), &settings);
        upstream.then(Act::Answer(ok(&"a".repeat(length))));
        client.send(&Request::query("a"));
        client.until_closed();
        gate.wait_until(|readings| readings.connections == 0 && readings.answers_bytes == 0);
    }
    // That other streams go on does not help.
    let mut client = Frames::with_settings(tcp(gate.address("public")), &[(INITIAL_WINDOW_SIZE, 0)]);
    client.send(&Request::query("a"));
    let mut more = 0;
    loop {
        let stream = client.next();
        let head = block(&list(&Request::query("b")));
        let begun = frame(HEADERS, END_HEADERS, stream, &head);
        if !client.try_send_raw(&[begun, frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()) {
            break;
        }
        more += 1;
        assert!(more < 100, "it is still there");
        thread::sleep(Duration::from_millis(50));
    }
    gate.wait_until(|readings| readings.connections == 0);
}

#[test]
fn an_answer_that_is_taken_little_by_little_is_whole() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut client = Frames::with_settings(tcp(gate.address("public")), &[(INITIAL_WINDOW_SIZE, 1000)]);
    let long = "b".repeat(20_000);
    upstream.then(Act::Answer(ok(&long)));
    let stream = client.send(&Request::query("a"));
    upstream.wait_for(1);
    for _ in 0..19 {
        client.send_raw(&frame(WINDOW_UPDATE, 0, stream, &1000_u32.to_be_bytes()));
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(client.outcome(stream), Outcome::Answered(200, long.into_bytes()));
}

#[test]
fn whatever_frames_come_the_gate_goes_on_and_forwards_nothing_that_was_not_signed() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| {
        settings.set("bounds.body_timeout_ms", SHORT_MS).set("bounds.head_timeout_ms", SHORT_MS)
    });
    let one = (0_u8..12, any::<u8>(), 0_u32..8, prop::collection::vec(any::<u8>(), 0..24));
    let mut runner = TestRunner::new(Config { failure_persistence: None, cases: 200, ..Config::default() });
    let ran = runner.run(&prop::collection::vec(one, 1..20), |frames| {
        let mut client = Frames::connect(&gate, "public");
        let head = block(&list(&Request::query("whole")));
        for (kind, flags, stream, payload) in frames {
            let payload = if kind == HEADERS && flags % 4 == 0 { head.clone() } else { payload };
            let flags = if kind == HEADERS { flags & !END_STREAM | END_HEADERS } else { flags };
            if !client.try_send_raw(&frame(kind, flags, stream, &payload)) {
                break;
            }
        }
        Ok(())
    });
    ran.expect("no case fails");
    assert_eq!(Frames::connect(&gate, "public").ask(&Request::query("a")).status(), 200);
    gate.wait_until(|readings| readings.connections == 0 && readings.bodies_bytes == 0);
    for message in upstream.seen() {
        // Signed over an empty body: with another nothing passes.
        assert!(message.body.is_empty() && message.target().contains("out-trade-no"), "{message:?}");
    }
}

/// The one deadline that a test is about.
const SHORT_MS: i64 = 300;

/// More than any flood may come to, what the kernel buffers included.
const FLOOD_MAX: usize = 2_000_000;
