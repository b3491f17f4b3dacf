//! The program's memory under a flood stays within what its bounds add up to.

use std::io::Write as _;
use std::net::TcpStream;

use crate::client::{Client, tcp};
use crate::gate::Settings;
use crate::process::Process;
use crate::request::Request;

#[test]
fn a_flood_of_connections_and_bodies_stays_within_the_stated_budgets() {
    const MIB: i64 = 1024 * 1024;
    const BODIES_MIB: u32 = 8;
    const CONNECTIONS: u32 = 200;
    let mut settings = Settings::new();
    settings.set("bounds.bodies_bytes_max", i64::from(BODIES_MIB) * MIB).set("bounds.body_bytes_max", MIB);
    settings.set("bounds.connections_max", CONNECTIONS).set("bounds.handshakes_max", 32);
    settings.set("bounds.head_bytes_max", 16 * 1024);
    let process = Process::start(settings);
    assert_eq!(process.connect("check").ask(&Request::query("a")).status(), 200);
    let before_kib = process.memory_kib("VmRSS");

    // Without bounds: 600 bodies of almost 1 MiB each.
    let head = b"GET /v3/pay/transactions/out-trade-no/a?mchid=1 HTTP/1.1\r\nHost: a\r\n";
    let announced = [head, &b"Content-Length: 1048576\r\n\r\n"[..]].concat();
    let in_chunks = [head, &b"Transfer-Encoding: chunked\r\n\r\n"[..]].concat();
    let body = vec![b'a'; 1_000_000];
    let chunk: Vec<u8> = b"400\r\n".iter().copied().chain([b'a'; 1024]).chain(*b"\r\n").collect();
    let chunks = chunk.repeat(900);
    let endless_head = [&b"GET / HTTP/1.1\r\nX: "[..], &body[..15_000]].concat();
    let mut flood = Vec::new();
    for _ in 0..CONNECTIONS {
        for bytes in [[&announced[..], &body].concat(), [&in_chunks[..], &chunks].concat(), endless_head.clone()] {
            flood.extend(pour(&process, &bytes));
        }
    }
    let mut probe = None;
    let held_kib = process.memory_kib("VmRSS");
    // The flood fills the bound on connections: whoever leaves makes room.
    while probe.is_none() {
        flood.pop();
        let mut client = Client::of(tcp(process.address("check")));
        probe = client.try_send(&Request::query("b").wire()).then(|| client.answer_if_any()).flatten();
    }
    assert_eq!(probe.map(|answer| answer.status()), Some(200), "the gate goes on serving");
    drop(flood);
    let most_kib = process.memory_kib("VmHWM");
    let allowed_kib = before_kib + (u64::from(BODIES_MIB) + 64) * 1024;
    assert!(most_kib <= allowed_kib, "{before_kib} before, {held_kib} held, {most_kib} at most, {allowed_kib} allowed");
}

/// Sends as much as the gate takes without waiting; returns the connection, still open.
fn pour(process: &Process, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = tcp(process.address("check"));
    stream.set_nonblocking(true).expect("non-blocking");
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match stream.write(rest) {
            Ok(length) => sent += length,
            // The kernel is full: the gate has stopped reading, or will read this later.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            // Refused meanwhile.
            Err(_) => return None,
        }
    }
    Some(stream)
}
