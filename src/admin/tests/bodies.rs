//! Explanations, and the bounds on bodies.

use super::*;

const SETTLE: &str = "/v1/decisions/000000000000000000000000000000ab/commit";

#[test]
fn a_request_is_explained_as_its_bytes_stand() {
    let gate = Running::usual();
    let request = "GET /v3/certificates HTTP/1.1\r\nhost: api\r\n\r\n\0";
    for (query, trusted_hop) in [("", false), ("?trusted_hop=false", false), ("?trusted_hop=true", true)] {
        let answer = gate.post(&format!("/v1/explain{query}"), request);
        assert_eq!((status(&answer), body(&answer)), ("200", "admitted\n"), "{query}");
        assert!(answer.contains("content-type: text/plain; charset=utf-8\r\n"));
        assert_eq!(gate.control.asked(), [Asked::Explain(request.as_bytes().to_vec(), trusted_hop)]);
    }
    let refused = gate.post("/v1/explain", "nonsense");
    assert_eq!((status(&refused), body(&refused)), ("400", "begin with a method\n"));
    gate.stop();
}

#[test]
fn what_is_no_explain_call_never_reaches_the_gate() {
    let gate = Running::usual();
    assert_eq!(status(&gate.post("/v1/explain", "")), "400");
    for query in ["?", "?trusted_hop=1", "?trusted_hop=true&trusted_hop=true", "?hop=true"] {
        assert_eq!(status(&gate.post(&format!("/v1/explain{query}"), "GET / HTTP/1.1\r\n\r\n")), "400", "{query}");
    }
    assert_eq!(gate.control.asked(), []);
    gate.stop();
}

#[test]
fn bodies_up_to_the_bound_are_read_and_longer_ones_refused() {
    let gate = Running::usual();
    let longest = format!("GET{}", "x".repeat(EXPLAIN_BYTES_MAX - 3));
    assert_eq!(status(&gate.post("/v1/explain", &longest)), "200");
    assert_eq!(gate.control.asked(), [Asked::Explain(longest.into_bytes(), false)]);
    assert_eq!(status(&gate.post(SETTLE, &format!("{{}}{}", " ".repeat(1022)))), "200");
    gate.control.asked();
    // Declared: refused before any of it is sent.
    for (target, bytes) in [("/v1/explain", EXPLAIN_BYTES_MAX + 1), (SETTLE, 1025)] {
        let head = format!("POST {target} HTTP/1.1\r\nhost: gate\r\ncontent-length: {bytes}\r\n\r\n");
        let answer = gate.ask(&head);
        let told = format!("send at most {} bytes of body\n", bytes - 1);
        assert_eq!((status(&answer), body(&answer)), ("413", told.as_str()), "{target}");
    }
    // Not declared: refused where the bound is passed.
    let chunk = format!("401\r\n{}\r\n0\r\n\r\n", " ".repeat(0x401));
    let head = format!("POST {SETTLE} HTTP/1.1\r\nhost: gate\r\ntransfer-encoding: chunked\r\n\r\n{chunk}");
    assert_eq!(status(&gate.ask(&head)), "413");
    assert_eq!(gate.control.asked(), []);
    gate.stop();
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let gate = Running::start(Bounds { body_timeout: Duration::from_millis(50), ..Bounds::default() });
    for target in ["/v1/explain", SETTLE] {
        let answer = gate.ask(&format!("POST {target} HTTP/1.1\r\nhost: gate\r\ncontent-length: 9\r\n\r\nG"));
        assert_eq!(status(&answer), "408", "{target}");
    }
    assert_eq!(gate.control.asked(), []);
    gate.stop();
}

#[test]
fn a_client_that_waits_to_be_told_to_send_its_body_is_told() {
    let gate = Running::usual();
    let mut stream = gate.connect();
    let head = "POST /v1/explain HTTP/1.1\r\nhost: gate\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut told = [0; 25];
    stream.read_exact(&mut told).expect("told");
    assert_eq!(told.as_slice(), b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(status(&converse(stream, "GET /")), "200");
    gate.stop();
}
