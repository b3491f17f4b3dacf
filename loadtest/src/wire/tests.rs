use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::thread;

use super::*;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

const BOUNDS: Bounds = Bounds { answer_bytes_max: 1 << 20, answer_timeout: Duration::from_secs(20) };

/// What came of a request, owned.
type Outcome = (u64, Result<(u16, Vec<u8>), Failure>);

/// Serves each accepted connection in a thread of its own, which ends with the connection.
fn tcp_server(serve: impl Fn(std::net::TcpStream) + Clone + Send + 'static) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = Address::Tcp(listener.local_addr().expect("an address"));
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    Target { address, tls: None }
}

/// Reads a request without a body; false at the end of the connection.
fn read_request(reader: &mut impl BufRead) -> bool {
    let mut line = String::new();
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return false,
            Ok(_) if line == "\r\n" => return true,
            Ok(_) => {}
        }
    }
}

/// Answers every request on a connection with `answer`.
fn answer_all(stream: impl Read + Write, answer: &[u8]) {
    let mut reader = BufReader::new(stream);
    while read_request(&mut reader) {
        if reader.get_mut().write_all(answer).and_then(|()| reader.get_mut().flush()).is_err() {
            return;
        }
    }
}

/// Polls until `count` requests are over.
fn collect(wire: &mut Wire, count: usize) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while outcomes.len() < count {
        wire.poll(None, &mut |done| {
            outcomes.push((done.tag, done.outcome.map(|answer| (answer.status, answer.body.to_vec()))));
        })
        .expect("polled");
    }
    outcomes
}

/// Polls until `count` connections are idle.
fn wait_idle(wire: &mut Wire, count: usize) {
    while wire.idle() < count {
        wire.poll(None, &mut |done| panic!("unasked: {done:?}")).expect("polled");
    }
}

fn ok_answer() -> &'static [u8] {
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
}

#[test]
fn every_request_is_answered_once_with_its_tag() {
    let target = tcp_server(|stream| answer_all(stream, ok_answer()));
    let mut wire = Wire::connect(&target, 8, BOUNDS).expect("connected");
    let (mut next, mut seen) = (0_u64, Vec::new());
    while seen.len() < 1000 {
        while next < 1000 && wire.send(next, REQUEST).expect("sent") {
            next += 1;
        }
        for (tag, outcome) in collect(&mut wire, 1) {
            assert_eq!(outcome, Ok((200, b"ok".to_vec())));
            seen.push(tag);
        }
    }
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..1000));
    assert_eq!(wire.idle(), 8);
}

#[test]
fn connections_are_kept_and_no_more_are_opened() {
    let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&accepted);
    let target = tcp_server(move |stream| {
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        answer_all(stream, ok_answer());
    });
    let mut wire = Wire::connect(&target, 3, BOUNDS).expect("connected");
    for _ in 0..100 {
        for tag in 0..3 {
            assert!(wire.send(tag, REQUEST).expect("sent"));
        }
        assert!(!wire.send(3, REQUEST).expect("none idle"));
        collect(&mut wire, 3);
    }
    assert_eq!(accepted.load(std::sync::atomic::Ordering::SeqCst), 3);
}

#[test]
fn chunks_that_come_one_by_one_are_one_body() {
    let target = tcp_server(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
        while read_request(&mut reader) {
            let answer = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
            for byte in answer.chunks(1) {
                stream.write_all(byte).expect("written");
            }
        }
    });
    let mut wire = Wire::connect(&target, 1, BOUNDS).expect("connected");
    for tag in 0..3 {
        wire.send(tag, REQUEST).expect("sent");
        assert_eq!(collect(&mut wire, 1), [(tag, Ok((201, b"abcde".to_vec())))]);
    }
}

/// Sends bodies of 4 MB, which no socket takes at once, to a server that says how much came, and large bodies back.
fn assert_large_bodies_pass(target: &Target) {
    let mut wire = Wire::connect(target, 2, BOUNDS).expect("connected");
    let mut request = format!("POST / HTTP/1.1\r\nContent-Length: {LARGE_BYTES}\r\n\r\n").into_bytes();
    request.resize(request.len() + LARGE_BYTES, b'x');
    for round in 0..2 {
        for tag in 0..2 {
            assert!(wire.send(tag, &request).expect("sent"), "round {round}");
        }
        for (_, outcome) in collect(&mut wire, 2) {
            let (status, body) = outcome.expect("an answer");
            assert_eq!((status, body.len()), (200, 300_000));
            assert!(body.iter().all(|&byte| byte == b'y'));
        }
    }
}

fn serve_large(stream: impl Read + Write) {
    let mut reader = BufReader::new(stream);
    while read_request(&mut reader) {
        let mut body = vec![0; LARGE_BYTES];
        reader.read_exact(&mut body).expect("a body");
        assert!(body.iter().all(|&byte| byte == b'x'));
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n".to_vec();
        answer.resize(answer.len() + 300_000, b'y');
        reader.get_mut().write_all(&answer).expect("written");
        reader.get_mut().flush().expect("flushed");
    }
}

const LARGE_BYTES: usize = 4 << 20;

#[test]
fn large_bodies_pass_both_ways() {
    assert_large_bodies_pass(&tcp_server(serve_large));
}

#[test]
fn a_close_in_mid_answer_is_a_failure_and_the_connection_is_replaced() {
    let target = tcp_server(|stream| {
        let mut reader = BufReader::new(stream);
        read_request(&mut reader);
        let _ = reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
    });
    let mut wire = Wire::connect(&target, 1, BOUNDS).expect("connected");
    for tag in 0..3 {
        wait_idle(&mut wire, 1);
        wire.send(tag, REQUEST).expect("sent");
        assert_eq!(collect(&mut wire, 1), [(tag, Err(Failure::Closed))]);
    }
}

#[test]
fn an_answer_that_closes_counts_and_the_connection_is_replaced() {
    let target = tcp_server(|stream| {
        let mut reader = BufReader::new(stream);
        read_request(&mut reader);
        let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
        reader.get_mut().write_all(answer).expect("written");
    });
    let mut wire = Wire::connect(&target, 2, BOUNDS).expect("connected");
    for tag in 0..10 {
        wait_idle(&mut wire, 1);
        wire.send(tag, REQUEST).expect("sent");
        assert_eq!(collect(&mut wire, 1), [(tag, Ok((200, b"ok".to_vec())))]);
    }
}

#[test]
fn a_connection_closed_while_idle_is_replaced() {
    let target = tcp_server(|stream| {
        let mut reader = BufReader::new(stream);
        read_request(&mut reader);
        reader.get_mut().write_all(ok_answer()).expect("written");
    });
    let mut wire = Wire::connect(&target, 1, BOUNDS).expect("connected");
    let (mut answered, mut tag) = (0, 0);
    while answered < 5 {
        wait_idle(&mut wire, 1);
        wire.send(tag, REQUEST).expect("sent");
        // A request may cross the close: then it is a failure, never a second sending.
        for outcome in collect(&mut wire, 1) {
            match outcome {
                (_, Ok((status, _))) => {
                    assert_eq!(status, 200);
                    answered += 1;
                }
                (_, Err(failure)) => assert_eq!(failure, Failure::Closed),
            }
        }
        tag += 1;
    }
}

#[test]
fn what_is_no_answer_is_malformed() {
    let target = tcp_server(|stream| answer_all(stream, b"220 mail.example.com ESMTP\r\n"));
    let mut wire = Wire::connect(&target, 1, BOUNDS).expect("connected");
    wire.send(7, REQUEST).expect("sent");
    assert_eq!(collect(&mut wire, 1), [(7, Err(Failure::Malformed))]);
}

#[test]
fn an_answer_that_does_not_come_times_out() {
    let target = tcp_server(|stream| {
        let mut reader = BufReader::new(stream);
        while read_request(&mut reader) {}
    });
    let answer_timeout = Duration::from_millis(50);
    let mut wire = Wire::connect(&target, 1, Bounds { answer_timeout, ..BOUNDS }).expect("connected");
    for tag in 0..2 {
        wait_idle(&mut wire, 1);
        let start = Instant::now();
        wire.send(tag, REQUEST).expect("sent");
        assert_eq!(collect(&mut wire, 1), [(tag, Err(Failure::TimedOut))]);
        assert!(start.elapsed() >= answer_timeout);
    }
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let target = Target { address: Address::Tcp(address), tls: None };
    let bounds = Bounds { answer_timeout: Duration::from_millis(30), ..BOUNDS };
    let error = Wire::connect(&target, 2, bounds).map(drop).expect_err("nobody listens");
    let WireError::Unreachable { source, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_poll_returns_when_its_time_is_up() {
    let target = tcp_server(|stream| answer_all(stream, ok_answer()));
    let mut wire = Wire::connect(&target, 1, BOUNDS).expect("connected");
    for timeout_us in [0, 900, 1500] {
        wire.poll(Some(Duration::from_micros(timeout_us)), &mut |_| panic!("nothing was asked")).expect("polled");
    }
}

fn unix_server(folder: &tempfile::TempDir, serve: fn(std::os::unix::net::UnixStream)) -> Target {
    let path = folder.path().join("gate.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || serve(stream));
        }
    });
    Target { address: Address::Unix(path), tls: None }
}

#[test]
fn a_unix_socket_serves_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = unix_server(&folder, |stream| answer_all(stream, ok_answer()));
    let mut wire = Wire::connect(&target, 200, BOUNDS).expect("connected");
    for tag in 0..200 {
        assert!(wire.send(tag, REQUEST).expect("sent"));
    }
    assert!(collect(&mut wire, 200).iter().all(|(_, outcome)| *outcome == Ok((200, b"ok".to_vec()))));
}

#[test]
fn large_bodies_pass_over_a_unix_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = unix_server(&folder, serve_large);
    assert_large_bodies_pass(&target);
}

/// A server certificate for `localhost`: how to serve with it, and how to trust it.
pub(crate) fn certificate() -> (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a configuration");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

fn tls_server(serve: fn(rustls::StreamOwned<rustls::ServerConnection, std::net::TcpStream>)) -> Target {
    let (server, client) = certificate();
    let target = tcp_server(move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&server)).expect("a connection");
        serve(rustls::StreamOwned::new(connection, stream));
    });
    Target { tls: Some(client), ..target }
}

#[test]
fn tls_serves_alike() {
    let target = tls_server(|stream| answer_all(stream, ok_answer()));
    let mut wire = Wire::connect(&target, 4, BOUNDS).expect("connected");
    for _ in 0..50 {
        for tag in 0..4 {
            assert!(wire.send(tag, REQUEST).expect("sent"));
        }
        assert!(collect(&mut wire, 4).iter().all(|(_, outcome)| *outcome == Ok((200, b"ok".to_vec()))));
    }
}

#[test]
fn large_bodies_pass_over_tls() {
    assert_large_bodies_pass(&tls_server(serve_large));
}

#[test]
fn a_certificate_that_is_not_trusted_is_an_error() {
    let target = tls_server(|stream| answer_all(stream, ok_answer()));
    let (_, other_client) = certificate();
    let bounds = Bounds { answer_timeout: Duration::from_millis(60), ..BOUNDS };
    let target = Target { tls: Some(other_client), ..target };
    let error = Wire::connect(&target, 1, bounds).map(drop).expect_err("not trusted");
    let WireError::Unreachable { source, .. } = error else {
        panic!("{error}");
    };
    assert!(source.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()), "{source}");
}
