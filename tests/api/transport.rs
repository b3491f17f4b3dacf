//! The way to the upstream and the listeners on Unix sockets.

use std::os::unix::net::UnixListener;

use crate::client::Client;
use crate::gate::Gate;
use crate::request::{Request, unique};
use crate::upstream::{Act, Upstream, answer, ok};

#[test]
fn one_connection_to_the_upstream_carries_many_requests() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    for _ in 0..5 {
        let mut client = gate.connect("public");
        (0..4).for_each(|_| assert_eq!(client.ask(&Request::query("a")).status(), 200));
    }
    assert_eq!((upstream.seen().len(), upstream.connections()), (20, 1));
}

#[test]
fn connections_to_the_upstream_stay_within_their_bound() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| {
        settings.set("upstream.connections_max", 3).set("upstream.idle_connections_max", 2)
    });
    let mut clients: Vec<_> = (0..24).map(|_| gate.connect("public")).collect();
    for _ in 0..3 {
        clients.iter_mut().for_each(|client| client.send(&Request::query("a").wire()));
        assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    }
    // Those above the idle bound are closed and made anew; never are there more than three at once, so that at most
    // one in three requests needs a new one.
    assert_eq!(upstream.seen().len(), 72);
    assert!(upstream.connections() <= 3 + 72 / 3, "{}", upstream.connections());
}

#[test]
fn a_pooled_connection_that_was_closed_meanwhile_is_replaced_and_nothing_is_sent_twice() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut client = gate.connect("public");
    for round in 1..=5 {
        assert_eq!(client.ask(&Request::order(&unique("o"), 1)).status(), 200, "round {round}");
        assert_eq!((upstream.seen().len(), upstream.connections()), (round, round));
        upstream.close_connections();
    }
}

#[test]
fn an_answer_after_which_the_upstream_closes_is_whole() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut client = gate.connect("public");
    upstream.then(Act::AnswerAndClose(ok("said nothing")));
    assert_eq!(client.ask(&Request::query("a")).body, b"said nothing");
    upstream.then(Act::AnswerAndClose(answer(200, "Connection: close\r\n", "said so")));
    assert_eq!(client.ask(&Request::query("a")).body, b"said so");
    upstream.then(Act::AnswerAndClose(b"HTTP/1.0 200 OK\r\n\r\nno length".to_vec()));
    assert_eq!(client.ask(&Request::query("a")).body, b"no length");
    upstream.then(Act::Answer(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nin\r\n7\r\n chunks\r\n0\r\n\r\n".to_vec(),
    ));
    assert_eq!(client.ask(&Request::query("a")).body, b"in chunks");
    assert_eq!(upstream.seen().len(), 4);
}

#[test]
fn an_upstream_that_was_restarted_is_found_again() {
    let upstream = Upstream::start();
    let address = upstream.tcp_address();
    let gate = Gate::before(&upstream);
    let mut client = gate.connect("public");
    assert_eq!(client.ask(&Request::order(&unique("o"), 1)).status(), 200);
    drop(upstream);
    let upstream = Upstream::start_at(address);
    assert_eq!(client.ask(&Request::order(&unique("o"), 1)).status(), 200);
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_client_of_http_1_0_is_served() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let wire = |request: &Request| String::from_utf8(request.wire()).expect("text").replace(" HTTP/1.1", " HTTP/1.0");
    let mut client = gate.connect("public");
    let kept = client.ask_raw(wire(&Request::query("a").header("Connection", "keep-alive")).as_bytes());
    assert_eq!((kept.status(), kept.value("connection")), (200, Some("keep-alive")));
    assert_eq!(client.ask_raw(wire(&Request::order(&unique("o"), 1)).as_bytes()).status(), 200);
    client.expect_close();
    assert!(upstream.seen().iter().all(|message| message.first_line.ends_with(" HTTP/1.1")));
    assert_eq!(upstream.seen().len(), 2);
}

#[test]
fn an_upstream_on_a_unix_socket_is_reached() {
    let upstream = Upstream::start_unix();
    let gate = Gate::before(&upstream);
    let mut client = gate.connect("public");
    for _ in 0..3 {
        assert_eq!(client.ask(&Request::order(&unique("o"), 1)).status(), 200);
    }
    assert_eq!((upstream.seen().len(), upstream.connections()), (3, 1));
    assert_eq!(upstream.seen()[0].value("host"), Some("pay.example.com"));
}

#[test]
fn a_listener_on_a_unix_socket_serves_and_takes_over_what_a_dead_process_left() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| {
        let left_behind = UnixListener::bind(settings.folder().join("gate.sock")).expect("bind");
        drop(left_behind);
        settings.listener("public").insert("address".to_owned(), "unix:gate.sock".into());
        settings.listener("check").insert("address".to_owned(), "unix:check.sock".into());
        settings
    });
    let mut client = Client::connect_unix(gate.address("public"));
    assert_eq!(client.ask(&Request::order(&unique("o"), 1)).status(), 200);
    assert_eq!(Client::connect_unix(gate.address("check")).ask(&Request::order(&unique("o"), 1)).status(), 200);
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_merchant_with_registered_sources_is_held_to_them() {
    let upstream = Upstream::start();
    let gate = |source: &str| {
        Gate::with(&upstream, |settings| {
            settings.merchant().insert("sources".to_owned(), vec![source].into());
            settings.listener("open").insert("address".to_owned(), "unix:open.sock".into());
            settings
        })
    };
    let order = || Request::order(&unique("o"), 1);
    let allowed = gate("127.0.0.0/8");
    assert_eq!(allowed.connect("public").ask(&order()).status(), 200);
    assert_eq!(
        Client::connect_unix(allowed.address("open")).ask(&order()).status(),
        403,
        "a Unix socket has no source"
    );
    let denied = gate("192.0.2.0/24");
    let refusal = denied.connect("public").ask(&order().header("X-Forwarded-For", "192.0.2.1"));
    assert_eq!((refusal.status(), refusal.json()["code"].as_str()), (403, Some("NO_AUTH")));
    assert_eq!(denied.connect("hop").ask(&order()).status(), 200, "a trusted hop answers for its callers");
}
