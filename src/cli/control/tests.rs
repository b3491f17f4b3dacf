//! The client, against peers that are no gate or one that is gone.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use super::*;
use crate::admin::tests::Running;
use crate::cli::tests::output;

/// Answers one connection by rote, and returns what was sent on it.
fn peer(answer: &'static [u8]) -> (Address, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = Address::Tcp(listener.local_addr().expect("an address"));
    (address, std::thread::spawn(move || rote(&mut listener.accept().expect("a connection").0, answer)))
}

fn rote(stream: &mut (impl Read + Write), answer: &[u8]) -> String {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("read") == 1 {
        head.push(byte[0]);
    }
    // The client may have seen enough before the end.
    let _ = stream.write_all(answer);
    String::from_utf8(head).expect("text")
}

fn client(at: Address) -> Client {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bounds = Bounds { answer_bytes_max: 8, ..Bounds::default() };
    Client { runtime, at, bounds }
}

#[test]
fn one_request_goes_over_a_connection_that_is_then_closed() {
    let (at, server) = peer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    assert_eq!(Client::new(at).expect("a client").get("/livez?a=b").expect("an answer"), b"ok");
    let head = server.join().expect("no panic");
    assert!(head.starts_with("GET /livez?a=b HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("host: tollgate\r\n") && head.contains("connection: close\r\n"), "{head}");
}

#[test]
fn a_unix_socket_is_spoken_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("control.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = std::thread::spawn(move || {
        rote(&mut listener.accept().expect("a connection").0, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]")
    });
    let at = format!("unix:{}", path.display());
    let told = output(&["usage", "--control", &at]).expect("an answer");
    assert_eq!(told, "no limit counts per what is named\n");
    server.join().expect("no panic");
    let gone = output(&["usage", "--control", "unix:/nowhere/control.sock"]).expect_err("nobody there");
    assert!(gone.starts_with("no gate can be reached at unix:/nowhere/control.sock: "), "{gone}");
}

#[test]
fn a_gate_that_does_not_run_is_said_so() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address").to_string();
    drop(listener);
    for line in [
        ["usage", "--control", &at].as_slice(),
        &["usage", "--export", "--control", &at],
        &["settle", "--control", &at, "commit", "000000000000000000000000000000ab"],
        &["explain", "--control", &at, "--request", "Cargo.toml"],
    ] {
        let gone = output(line).expect_err("nobody there");
        assert!(gone.starts_with(&format!("no gate can be reached at {at}: ")), "{gone}");
        assert!(gone.ends_with("start it, or give the address of its `kind = \"control\"` listener"), "{gone}");
    }
}

#[test]
fn a_peer_that_is_no_control_listener_is_told_apart() {
    for answer in [
        b"SSH-2.0-OpenSSH_9.9\r\n".as_slice(),
        b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 301 Moved\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (at, server) = peer(answer);
        let error = client(at).get("/v1/usage").expect_err("no answer");
        assert!(matches!(error, ControlError::NotControl { .. }), "{error}");
        server.join().expect("no panic");
    }
}

#[test]
fn a_refusal_is_passed_on() {
    let (at, server) = peer(b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\ngone\n");
    let error = client(at).get("/").expect_err("refused");
    assert_eq!(error.to_string(), "the gate answered 404 Not Found: gone");
    server.join().expect("no panic");
}

#[test]
fn answers_are_bounded_but_for_streams() {
    let long = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nnine byte";
    let (at, server) = peer(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n8 bytes!");
    assert_eq!(client(at).get("/").expect("an answer"), b"8 bytes!");
    server.join().expect("no panic");
    let (at, server) = peer(long);
    assert!(matches!(client(at).get("/"), Err(ControlError::Long { bytes_max: 8 })));
    server.join().expect("no panic");
    let (at, server) = peer(long);
    let mut streamed = Vec::new();
    client(at).stream("/", &mut streamed).expect("streamed");
    assert_eq!(streamed, b"nine byte");
    server.join().expect("no panic");
}

#[test]
fn an_answer_that_breaks_off_is_an_error_and_no_end() {
    for answer in [
        b"".as_slice(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
    ] {
        let (at, server) = peer(answer);
        let error = client(at).stream("/", &mut Vec::new()).expect_err("broken off");
        assert!(matches!(error, ControlError::Broken { .. }), "{error}");
        server.join().expect("no panic");
    }
}

#[test]
fn a_peer_that_is_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = Address::Tcp(listener.local_addr().expect("an address"));
    let mut client = client(at);
    client.bounds.answer_timeout = Duration::from_millis(50);
    assert!(matches!(client.get("/"), Err(ControlError::Silent { .. })));
}

#[test]
fn the_address_is_that_of_the_control_listener_in_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = folder.path().join("gate");
    let mut random = rand::rand_core::UnwrapErr(rand::rngs::SysRng);
    config::init(&made, &mut random, SystemClock.now()).expect("a configuration");
    let place = |file: PathBuf| Place { control: None, config: Some(file) };
    let file = made.join("tollgate.toml");
    assert_eq!(place(file.clone()).find().expect("an address"), address("127.0.0.1:9090").expect("an address"));
    let text = std::fs::read_to_string(&file).expect("read");
    let without = text.replace("kind = \"control\"", "kind = \"public\"\nmode = \"check\"");
    std::fs::write(&file, without).expect("written");
    assert!(matches!(place(file).find(), Err(ControlError::NoListener { .. })));
    assert!(matches!(place(made.join("missing.toml")).find(), Err(ControlError::Config(_))));
}

#[test]
fn addresses_are_written_as_in_configuration() {
    assert_eq!(address("127.0.0.1:1"), Ok(Address::Tcp("127.0.0.1:1".parse().expect("address"))));
    assert_eq!(address("[::1]:1"), Ok(Address::Tcp("[::1]:1".parse().expect("address"))));
    assert_eq!(address("unix:/run/a b"), Ok(Address::Unix("/run/a b".into())));
    for text in ["", "unix:", "127.0.0.1", "9090", "http://127.0.0.1:1", "localhost:1"] {
        assert!(address(text).is_err(), "{text}");
    }
}

#[test]
fn a_target_has_only_the_parameters_that_have_a_value_and_only_plain_letters() {
    let parameters = [("a", None), ("b", Some("x-._~9")), ("c", Some("ü &=+%/?#\n"))];
    assert_eq!(target("/p", &parameters), "/p?b=x-._~9&c=%C3%BC%20%26%3D%2B%25%2F%3F%23%0A");
    assert_eq!(target("/p", &[("a", None)]), "/p");
}

#[test]
fn a_listener_of_a_gate_is_spoken_to() {
    let gate = Running::usual();
    let client = Client::new(Address::Tcp(gate.address)).expect("a client");
    assert_eq!(client.get("/livez").expect("alive"), b"ok\n");
    let error = client.get("/readyz").expect_err("not ready");
    assert_eq!(error.to_string(), "the gate answered 503 Service Unavailable: not ready");
    let error = client.post("/livez", Vec::new()).expect_err("another method");
    assert!(matches!(error, ControlError::Refused { status: StatusCode::METHOD_NOT_ALLOWED, .. }), "{error}");
    gate.stop();
}
