//! HTTP/2: what passes by it is what would pass by HTTP/1.1, and reaches the upstream as that.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tollgate::front::Address;
use tollgate::reason::Reason;

use crate::client::PATIENCE;
use crate::frames::{
    CANCEL, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, List, Outcome, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM,
    block, frame, list, written,
};
use crate::gate::{Gate, THOUSAND_A_DAY};
use crate::process::Process;
use crate::raw::Message;
use crate::request::{Request, unique};
use crate::till::{NOTHING, Till};
use crate::tls;
use crate::upstream::{Act, Upstream, answer, ok};

fn order() -> Request {
    Request::order(&unique("o"), 1)
}

/// Adds a field.
fn with(mut list: List, name: &str, value: &str) -> List {
    list.push((name.to_owned(), value.as_bytes().to_vec()));
    list
}

/// Replaces a field, or takes it out.
fn but(list: List, name: &str, value: Option<&str>) -> List {
    let changed = |(one, old): (String, Vec<u8>)| {
        let kept = one != name;
        let new = if kept { Some(old) } else { value.map(|value| value.as_bytes().to_vec()) };
        new.map(|value| (one, value))
    };
    list.into_iter().filter_map(changed).collect()
}

/// Tells whether a message is what HTTP/1.1 would have made of a request, but for what names the decision.
fn assert_same(one: &Message, other: &Message) {
    assert_eq!((&one.first_line, &one.body), (&other.first_line, &other.body));
    let fields = |message: &Message| {
        let own = ["authorization", "tollgate-decision", "content-length"];
        let mut fields = message.headers.clone();
        fields.retain(|(name, _)| !own.contains(&name.as_str()));
        fields.sort();
        fields
    };
    assert_eq!(fields(one), fields(other));
    assert_eq!(one.values("content-length").collect::<Vec<_>>(), other.values("content-length").collect::<Vec<_>>());
}

#[test]
fn what_is_forwarded_is_what_http_1_1_would_have_brought() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut old = gate.connect("public");
    let mut new = Frames::connect(&gate, "public");
    let number = unique("o");
    let requests = [
        Request::query("a").header("X-Many", "1").header("x-many", "2").header("Te", "trailers"),
        Request::order(&number, 1).header("Tollgate-Merchant", "forged").header("Accept-Encoding", "gzip"),
        Request { body: vec![b'a'; 40_000], ..Request::query("a") },
        Request::close(&number).header("Cookie", "a=1; b=2"),
    ];
    for request in requests {
        assert_eq!(old.ask(&Request { nonce: unique("n"), ..request.clone() }).status(), 200);
        assert_eq!(new.ask(&Request { nonce: unique("n"), ..request }).status(), 200);
        let seen = upstream.seen();
        let [.., one, other] = seen.as_slice() else { panic!("two") };
        assert_same(one, other);
    }
}

#[test]
fn pieces_of_a_cookie_are_joined_and_the_host_may_stand_in_place_of_the_authority() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut client = Frames::connect(&gate, "public");
    let pieces = with(with(list(&Request::query("a")), "cookie", "a=1"), "cookie", "b=2");
    let stream = client.send_list(&pieces, b"");
    assert_eq!(client.outcome(stream).status(), 200);
    let named = with(but(list(&Request::query("a")), ":authority", None), "host", "shop.example.com");
    let stream = client.send_list(&named, b"");
    assert_eq!(client.outcome(stream).status(), 200);
    let seen = upstream.seen();
    assert_eq!(seen[0].value("cookie"), Some("a=1; b=2"));
    assert_eq!(seen[1].value("host"), Some("shop.example.com"));
}

#[test]
fn streams_at_once_are_answered_as_their_answers_come() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut client = Frames::connect(&gate, "public");
    let slow = upstream.then_hold(ok("slow"));
    let first = client.send(&order());
    upstream.wait_for(1);
    let others: Vec<u32> = (0..50).map(|_| client.send(&order())).collect();
    for stream in others {
        assert_eq!(client.outcome(stream).status(), 200);
    }
    slow.send(()).expect("it is waiting");
    assert_eq!(client.outcome(first), Outcome::Answered(200, b"slow".to_vec()));
    assert_eq!(upstream.seen().len(), 51);
    assert!(gate.metric("tollgate_multiplexed_connections_total") >= 1.0);
}

#[test]
fn every_listener_speaks_http2_unless_told_not_to() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| {
        settings.listener("hop").insert("address".to_owned(), "unix:hop.sock".into());
        settings.listener("open").insert("http2".to_owned(), false.into());
        settings
    });
    for listener in ["public", "check"] {
        assert_eq!(Frames::connect(&gate, listener).ask(&order()).status(), 200, "{listener}");
    }
    let Address::Unix(path) = gate.address("hop") else { panic!("a Unix socket") };
    let stream = UnixStream::connect(path).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    assert_eq!(Frames::of(stream).ask(&order()).status(), 200);
    let mut both = tls::options();
    both.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let client = tls::connect(&gate, &both);
    assert_eq!(Frames::of(client.into_stream()).ask(&order()).status(), 200, "the gate chooses HTTP/2");

    let mut client = gate.connect("open");
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let mut bytes = Vec::new();
    let _ = client.stream().read_to_end(&mut bytes);
    assert!(!bytes.windows(9).any(|window| window.starts_with(&[0, 0]) && window[3] == 4), "no SETTINGS: {bytes:?}");
    assert_eq!(gate.connect("open").ask(&order()).status(), 200);
}

#[test]
fn a_peer_that_agreed_on_http2_and_speaks_something_else_is_closed() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut options = tls::options();
    options.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = tls::connect(&gate, &options);
    client.send(&Request::query("a").wire());
    let mut bytes = Vec::new();
    let _ = client.stream().read_to_end(&mut bytes);
    assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");
    assert!(upstream.seen().is_empty());
}

#[test]
fn the_certificate_of_the_connection_counts_for_its_streams() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| {
        settings.replace("route", "[[route]]\nid = \"v3.refund\"\ncertificate = \"mtls\"\n")
    });
    let connect = |mut options: rustls::ClientConfig| {
        options.alpn_protocols = vec![b"h2".to_vec()];
        Frames::of(tls::connect(&gate, &options).into_stream())
    };
    let refund = || Request::refund(&unique("r"));
    assert_eq!(connect(tls::of(&crate::deployment::deployment().merchant)).ask(&refund()).status(), 200);
    assert_eq!(connect(tls::options()).ask(&refund()).status(), 403);
}

#[test]
fn a_list_of_fields_that_is_too_long_or_has_too_many_is_refused_and_its_connection_goes_on() {
    let upstream = Upstream::start();
    let gate =
        Gate::with(&upstream, |settings| settings.set("bounds.head_bytes_max", 8192).set("bounds.headers_max", 16));
    let mut client = Frames::connect(&gate, "public");
    assert_eq!(client.ask(&Request::query("a").header("X", "a".repeat(6000))).status(), 200);
    assert_eq!(client.ask(&Request::query("a").header("X", "a".repeat(8192))).status(), 431);
    let many = |count| (0..count).fold(Request::query("a"), |request, _| request.header("X", "a"));
    assert_eq!(client.ask(&many(13)).status(), 200, "with Accept, User-Agent and Authorization, exactly 16");
    assert_eq!(client.ask(&many(14)).status(), 431);
    assert_eq!(client.ask(&Request::query("a")).status(), 200);
    assert_eq!(upstream.seen().len(), 3);
}

#[test]
fn a_body_that_is_too_long_is_refused_and_its_connection_goes_on() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("bounds.body_bytes_max", 1024));
    let mut client = Frames::connect(&gate, "public");
    let request = |bytes: usize| Request { body: vec![b'a'; bytes], ..Request::query("a") };
    assert_eq!(client.ask(&request(1024)).status(), 200);
    assert_eq!(client.ask(&request(1025)).status(), 413);
    let announced = with(list(&request(1025)), "content-length", "1025");
    let stream = client.next();
    client.send_raw(&frame(HEADERS, END_HEADERS, stream, &block(&announced)));
    assert_eq!(client.outcome(stream).status(), 413, "before it comes");
    assert_eq!(client.ask(&request(10)).status(), 200);
    assert_eq!((upstream.seen().len(), gate.refused(Reason::BodyTooLarge)), (2, 2));
    gate.wait_until(|readings| readings.bodies_bytes == 0);
}

#[test]
fn what_streams_hold_together_stays_within_the_budget_of_bodies() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| {
        settings.set("bounds.bodies_bytes_max", 1_048_576).set("bounds.h2_streams_max", 1024)
    });
    let held: Vec<_> = (0..200).map(|_| upstream.then_hold(ok("held"))).collect();
    let request = || Request { body: vec![b'a'; 1000], ..Request::query("a") };
    let mut client = Frames::connect(&gate, "public");
    let streams: Vec<_> = (0..200).map(|_| client.send(&request())).collect();
    gate.wait_until(|_| gate.refused(Reason::BodyBudgetExhausted) > 0);
    drop(held);
    let mut statuses: Vec<_> = streams.into_iter().map(|stream| client.outcome(stream).status()).collect();
    statuses.sort_unstable();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!((1..100).contains(&refused) && statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    gate.wait_until(|readings| readings.bodies_bytes == 0);
    assert_eq!(client.ask(&request()).status(), 200);
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_reaches_nobody() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut client = Frames::connect(&gate, "public");
    let body = vec![b'a'; 100];
    let request = || Request { body: body.clone(), ..Request::query("a") };
    for length in ["99", "101", "0", "1e2", "+100", "-1", "100, 100"] {
        let stream = client.send_list(&with(list(&request()), "content-length", length), &body);
        let outcome = client.outcome(stream);
        assert!(matches!(outcome, Outcome::Reset(PROTOCOL_ERROR) | Outcome::Answered(400, _)), "{length}: {outcome:?}");
    }
    let twice = with(with(list(&request()), "content-length", "100"), "content-length", "100");
    let stream = client.send_list(&twice, &body);
    assert!(matches!(client.outcome(stream), Outcome::Reset(PROTOCOL_ERROR) | Outcome::Answered(400, _)));
    assert!(upstream.seen().is_empty());
    let stream = client.send_list(&with(list(&request()), "content-length", "100"), &body);
    assert_eq!(client.outcome(stream).status(), 200);
}

#[test]
fn a_head_that_is_malformed_reaches_nobody_and_its_connection_goes_on() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut client = Frames::connect(&gate, "public");
    let whole = || list(&Request::query("a"));
    let last = |name: &str| {
        let mut list = whole();
        let place = list.iter().position(|(one, _)| one == name).expect("there");
        let field = list.remove(place);
        list.push(field);
        list
    };
    let path = String::from_utf8(whole()[2].1.clone()).expect("text");
    let malformed = [
        ("no method", but(whole(), ":method", None)),
        ("no scheme", but(whole(), ":scheme", None)),
        ("another scheme", but(whole(), ":scheme", Some("ftp"))),
        ("no path", but(whole(), ":path", None)),
        ("an empty path", but(whole(), ":path", Some(""))),
        ("a path without its slash", but(whole(), ":path", Some(&path[1..]))),
        ("a path in absolute form", but(whole(), ":path", Some(&format!("http://pay.example.com{path}")))),
        ("a path with a space", but(whole(), ":path", Some(&format!("{path} HTTP/1.1")))),
        ("an asterisk", but(whole(), ":path", Some("*"))),
        ("two methods", with(whole(), ":method", "GET")),
        ("two paths", with(whole(), ":path", &path)),
        ("a pseudo-header behind the others", last(":path")),
        ("an unknown pseudo-header", with(whole(), ":host", "a")),
        ("the pseudo-header of an answer", with(whole(), ":status", "200")),
        ("no authority", but(whole(), ":authority", None)),
        ("an empty authority", but(whole(), ":authority", Some(""))),
        ("an authority with a user", but(whole(), ":authority", Some("user@pay.example.com"))),
        ("another host than the authority", with(whole(), "host", "other.example.com")),
        ("two hosts", with(with(but(whole(), ":authority", None), "host", "a"), "host", "a")),
        ("a name with a capital", with(whole(), "X-Upper", "a")),
        ("a name with a space", with(whole(), "x y", "a")),
        ("a name with a colon", with(whole(), "x:", "a")),
        ("a name with a line end", with(whole(), "x\r\ny", "a")),
        ("an empty name", with(whole(), "", "a")),
        ("a value with a line end", with(whole(), "x", "a\r\ntransfer-encoding: chunked")),
        ("a value with a zero", with(whole(), "x", "a\0")),
        ("a value that begins with a space", with(whole(), "x", " a")),
        ("a value that ends with a tab", with(whole(), "x", "a\t")),
        ("connection", with(whole(), "connection", "close")),
        ("keep-alive", with(whole(), "keep-alive", "1")),
        ("proxy-connection", with(whole(), "proxy-connection", "keep-alive")),
        ("transfer-encoding", with(whole(), "transfer-encoding", "chunked")),
        ("upgrade", with(whole(), "upgrade", "h2c")),
        ("te but trailers", with(whole(), "te", "gzip")),
        ("connect", but(whole(), ":method", Some("CONNECT"))),
    ];
    for (what, list) in malformed {
        let stream = client.send_list(&list, b"");
        let outcome = match client.outcome(stream) {
            // What cannot be decoded at all ends the connection.
            Outcome::Gone => {
                client = Frames::connect(&gate, "public");
                continue;
            }
            outcome => outcome,
        };
        let refused = matches!(outcome, Outcome::Reset(PROTOCOL_ERROR) | Outcome::Answered(400, _));
        assert!(refused, "{what}: {outcome:?}");
        assert_eq!(client.ask(&Request::query("b")).status(), 200, "after {what}");
    }
    assert!(upstream.seen().iter().all(|message| message.target().contains("/b?")));
}

#[test]
fn trailers_are_dropped() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut client = Frames::connect(&gate, "public");
    let request = Request { body: b"abc".to_vec(), ..Request::query("a") };
    let stream = client.next();
    client.send_raw(&frame(HEADERS, END_HEADERS, stream, &block(&list(&request))));
    client.send_raw(&frame(DATA, 0, stream, b"abc"));
    let trailers = vec![("tollgate-decision".to_owned(), b"forged".to_vec())];
    client.send_raw(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&trailers)));
    assert_eq!(client.outcome(stream).status(), 200);
    assert_eq!(upstream.seen()[0].body, b"abc");
    assert!(!upstream.seen()[0].values("tollgate-decision").any(|value| value == b"forged"));
}

#[test]
fn an_answer_longer_than_the_windows_comes_whole() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut client = Frames::connect(&gate, "public");
    let long = "a".repeat(60_000);
    upstream.then(Act::Answer(ok(&long)));
    assert_eq!(client.ask(&Request::query("a")), Outcome::Answered(200, long.into_bytes()));
    upstream.then(Act::Answer(answer(404, "Connection: close\r\nX: y\r\n", "{}")));
    assert_eq!(client.ask(&Request::query("a")).status(), 404, "what is of one hop stays behind");
}

#[test]
fn more_streams_than_there_may_be_are_refused_and_hurt_no_other() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("bounds.h2_streams_max", 8));
    let mut client = Frames::connect(&gate, "public");
    let held: Vec<_> = (0..8).map(|_| upstream.then_hold(ok("held"))).collect();
    let within: Vec<_> = (0..8).map(|_| client.send(&Request::query("a"))).collect();
    upstream.wait_for(8);
    for _ in 0..5 {
        let above = client.send(&Request::query("a"));
        assert_eq!(client.outcome(above), Outcome::Reset(REFUSED_STREAM));
    }
    drop(held);
    for stream in within {
        assert_eq!(client.outcome(stream).status(), 200);
    }
    assert_eq!(client.ask(&Request::query("a")).status(), 200);
    assert_eq!(upstream.seen().len(), 9);
}

#[test]
fn a_connection_carries_as_many_streams_as_it_may_and_says_goodbye() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("bounds.requests_per_connection_max", 3));
    let mut client = Frames::connect(&gate, "public");
    // All at once: what comes after the third is not served, either.
    let mut bytes = Vec::new();
    let streams: Vec<_> = (0..6)
        .map(|_| {
            let stream = client.next();
            bytes.extend(written(stream, &list(&Request::query("a")), b""));
            stream
        })
        .collect();
    client.send_raw(&bytes);
    let outcomes: Vec<_> = streams.into_iter().map(|stream| client.outcome(stream)).collect();
    assert!(outcomes[..3].iter().all(|outcome| outcome.status() == 200), "{outcomes:?}");
    assert!(outcomes[3..].iter().all(|outcome| *outcome == Outcome::Reset(REFUSED_STREAM)), "{outcomes:?}");
    client.until_closed();
    assert_eq!(upstream.seen().len(), 3);
}

#[test]
fn what_is_taken_for_streams_that_are_reset_is_what_the_upstream_saw() {
    let till = Till::with(THOUSAND_A_DAY, |settings| settings.set("bounds.h2_resets_max", 1000));
    let mut client = Frames::connect(&till.gate, "public");
    for round in 0..40_u32 {
        let stream = client.next();
        let request = order();
        let whole = written(stream, &list(&request), &request.body);
        let reset = frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
        if round % 2 == 0 {
            client.send_raw(&[whole, reset].concat());
        } else {
            client.send_raw(&whole);
            // While it waits for its decision, or for the upstream.
            std::thread::sleep(Duration::from_micros(100) * round);
            client.send_raw(&reset);
        }
    }
    // Behind all of them.
    assert_eq!(client.ask(&order()).status(), 200);
    let number = |message: &Message| message.json()["out_trade_no"].clone();
    let seen = till.upstream.seen();
    let mut numbers: Vec<_> = seen.iter().map(|message| number(message).to_string()).collect();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), seen.len());
    till.gate.wait_until(|readings| readings.bodies_bytes == 0);
    let taken = till.taken("merchant-day");
    assert_eq!(taken.held + taken.committed, till.upstream.seen().len() as u64);
    till.assert_conserved();
}

#[test]
fn a_stream_that_is_reset_before_its_body_is_complete_takes_nothing() {
    let till = Till::new(THOUSAND_A_DAY);
    let mut client = Frames::connect(&till.gate, "public");
    for _ in 0..20 {
        let request = Request::order(&unique("o"), 1000);
        let stream = client.next();
        client.send_raw(&frame(HEADERS, END_HEADERS, stream, &block(&list(&request))));
        client.send_raw(&frame(DATA, 0, stream, &request.body));
        till.gate.wait_until(|readings| readings.bodies_bytes > 0);
        client.send_raw(&frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        till.gate.wait_until(|readings| readings.bodies_bytes == 0);
    }
    assert_eq!(till.taken("merchant-day"), NOTHING);
    assert!(till.upstream.seen().is_empty());
    assert_eq!(client.ask(&Request::order(&unique("o"), 1000)).status(), 200);
    assert_eq!(till.gate.metric("tollgate_streams_reset_total"), 20.0);
}

#[test]
fn a_drain_says_goodbye_and_lets_streams_finish() {
    let upstream = Upstream::start();
    let mut settings = crate::gate::Settings::new();
    settings.upstream(&upstream).set("bounds.drain_timeout_ms", 20_000);
    let mut process = Process::start(settings);
    let mut idle = Frames::of(process.connect("public").into_stream());
    assert_eq!(idle.ask(&order()).status(), 200);
    let release = upstream.then_hold(ok("slow"));
    let mut slow = Frames::of(process.connect("public").into_stream());
    let stream = slow.send(&order());
    upstream.wait_for(2);
    process.signal("TERM");
    process.wait_for_line("draining");
    idle.goaway();
    idle.until_closed();
    slow.goaway();
    assert!(process.ended().is_none(), "something is under way");
    release.send(()).expect("it is waiting");
    assert_eq!(slow.outcome(stream), Outcome::Answered(200, b"slow".to_vec()));
    slow.until_closed();
    assert_eq!(process.wait().code(), Some(0));
}
