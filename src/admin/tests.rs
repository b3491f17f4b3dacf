//! The endpoints, over real sockets.

mod bodies;
mod export;
mod fake;
mod settling;
mod usage;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::*;
use fake::Held;
pub(crate) use fake::{Asked, Fake};

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) control: Arc<Fake>,
    shutdown: watch::Sender<bool>,
    thread: JoinHandle<io::Result<()>>,
}

impl Running {
    /// Starts a listener as the gate does.
    pub(crate) fn usual() -> Self {
        Self::start(Bounds::default())
    }

    fn start(bounds: Bounds) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let control = Arc::new(Fake::default());
        let (shutdown, told) = watch::channel(false);
        let shown: Arc<dyn Control> = control.clone();
        let thread = std::thread::spawn(move || serve_within(bounds, Listener::Tcp(listener), shown, told));
        Self { address, control, shutdown, thread }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn ask(&self, head: &str) -> String {
        converse(self.connect(), head)
    }

    fn get(&self, target: &str) -> String {
        self.ask(&format!("GET {target} HTTP/1.1\r\nhost: gate\r\n\r\n"))
    }

    /// Posts a body of known length.
    fn post(&self, target: &str, body: &str) -> String {
        let length = body.len();
        self.ask(&format!("POST {target} HTTP/1.1\r\nhost: gate\r\ncontent-length: {length}\r\n\r\n{body}"))
    }

    /// Makes the next reload tell that it begins, and wait for its end.
    fn hold_next_reload(&self) -> (mpsc::Receiver<()>, mpsc::Sender<Result<(), String>>) {
        let (begun, begins) = mpsc::channel();
        let (end, ends) = mpsc::channel();
        *self.control.held.lock().expect("lock") = Some(Held { begun, ends });
        (begins, end)
    }

    pub(crate) fn stop(self) {
        self.shutdown.send(true).expect("the server listens");
        self.thread.join().expect("no panic").expect("served");
    }
}

/// Sends a head and returns the answer until the peer hangs up.
fn converse(mut stream: impl Read + Write, head: &str) -> String {
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered, and hung up");
    answer
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or("none")
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

const RELOAD: &str = "POST /v1/reload HTTP/1.1\r\nhost: gate\r\n\r\n";

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn metrics_are_served_as_openmetrics() {
    let gate = Running::start(Bounds::default());
    let answer = gate.get("/metrics");
    assert_eq!((status(&answer), body(&answer)), ("200", "# EOF\n"));
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
    gate.control.metrics_fail.store(true, Ordering::SeqCst);
    assert_eq!(status(&gate.get("/metrics")), "500");
    gate.stop();
}

#[test]
fn health_tells_alive_from_ready() {
    let gate = Running::start(Bounds::default());
    let live = gate.get("/livez");
    assert_eq!((status(&live), body(&live)), ("200", "ok\n"));
    assert_eq!(status(&gate.get("/readyz")), "503");
    gate.control.ready.store(true, Ordering::SeqCst);
    assert_eq!(status(&gate.get("/readyz")), "200");
    gate.stop();
}

#[test]
fn decisions_are_json_lines_of_their_fields() {
    let gate = Running::start(Bounds::default());
    let answer = gate.get("/v1/decisions?last=7");
    let expected = concat!(
        r#"{"at":"2026-11-21T16:00:00.123Z","decision":"000000000000000000000000000000ab","#,
        r#""merchant":"1900000001","operation":"pay","amount_fen":100,"verdict":"admitted","reason":null,"#,
        r#""duplicate":true,"shadowed":["customer-day"]}"#,
        "\n",
        r#"{"at":"2026-11-21T16:00:00.123Z","decision":"000000000000000000000000000000ab","#,
        r#""merchant":"1900000001","operation":"pay","amount_fen":100,"verdict":"refused","#,
        r#""reason":"limit_exceeded","duplicate":false,"shadowed":["customer-day"]}"#,
        "\n",
    );
    assert_eq!((status(&answer), body(&answer)), ("200", expected));
    assert_eq!(gate.control.asked_for.load(Ordering::SeqCst), 7);
    gate.stop();
}

#[test]
fn the_number_of_decisions_is_bounded() {
    let gate = Running::start(Bounds::default());
    for (query, asked_for) in [("", 100), ("?last=1", 1), ("?last=10000", 10_000)] {
        assert_eq!(status(&gate.get(&format!("/v1/decisions{query}"))), "200", "{query}");
        assert_eq!(gate.control.asked_for.load(Ordering::SeqCst), asked_for, "{query}");
    }
    for query in ["?", "?last=", "?last=0", "?last=10001", "?last=-1", "?last=1&last=2", "?first=1"] {
        assert_eq!(status(&gate.get(&format!("/v1/decisions{query}"))), "400", "{query}");
    }
    assert_eq!(gate.control.asked_for.load(Ordering::SeqCst), 10_000);
    gate.stop();
}

#[test]
fn a_reload_says_what_stopped_it() {
    let gate = Running::start(Bounds::default());
    let done = gate.ask(RELOAD);
    assert_eq!((status(&done), body(&done)), ("204", ""));
    let (_begins, end) = gate.hold_next_reload();
    end.send(Err("line 3: no such file".to_owned())).expect("a reload");
    let refused = gate.ask(RELOAD);
    assert_eq!((status(&refused), body(&refused)), ("409", "line 3: no such file"));
    gate.stop();
}

#[test]
fn a_second_reload_is_refused_and_probes_are_answered_while_one_is_under_way() {
    let gate = Running::start(Bounds::default());
    let (begins, end) = gate.hold_next_reload();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| gate.ask(RELOAD));
        begins.recv_timeout(PATIENCE).expect("the first reload begins");
        assert_eq!(status(&gate.ask(RELOAD)), "409");
        assert_eq!(status(&gate.get("/livez")), "200");
        end.send(Ok(())).expect("a reload");
        assert_eq!(status(&first.join().expect("no panic")), "204");
    });
    assert_eq!(gate.control.reloads.load(Ordering::SeqCst), 1);
    assert_eq!(status(&gate.ask(RELOAD)), "204");
    gate.stop();
}

#[test]
fn other_paths_methods_and_bodies_are_refused() {
    let gate = Running::start(Bounds::default());
    let ab = "/v1/decisions/000000000000000000000000000000ab";
    for target in ["/", "/metrics/", "/v1/reload/x", "/v1", "*", "/v1/usage/", ab, &format!("{ab}/commit/x")] {
        assert!(["404", "400"].contains(&status(&gate.get(target))), "{target}");
    }
    for (method, target) in [
        ("POST", "/metrics"),
        ("PUT", "/livez"),
        ("DELETE", "/v1/decisions"),
        ("HEAD", "/readyz"),
        ("GET", "/v1/reload"),
        ("POST", "/v1/usage"),
        ("POST", "/v1/usage/export"),
        ("POST", "/v1/settlements"),
        ("GET", "/v1/explain"),
        ("GET", "/v1/decisions/000000000000000000000000000000ab/commit"),
        ("DELETE", "/v1/decisions/x/release"),
    ] {
        let answer = gate.ask(&format!("{method} {target} HTTP/1.1\r\nhost: gate\r\n\r\n"));
        assert_eq!(status(&answer), "405", "{method} {target}");
        let posted = ["/v1/reload", "/v1/explain", "/commit", "/release"].iter().any(|end| target.ends_with(end));
        let allowed = if posted { "allow: POST\r\n" } else { "allow: GET\r\n" };
        assert!(answer.contains(allowed), "{method} {target}");
    }
    for framing in ["content-length: 1\r\n\r\nx", "transfer-encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let answer = gate.ask(&format!("POST /v1/reload HTTP/1.1\r\nhost: gate\r\n{framing}"));
        assert_eq!(status(&answer), "413", "{framing}");
    }
    assert_eq!(gate.control.reloads.load(Ordering::SeqCst), 0);
    gate.stop();
}

#[test]
fn a_call_that_breaks_off_is_answered_and_the_listener_goes_on() {
    let gate = Running::start(Bounds::default());
    let broken = [
        gate.get("/v1/usage?limit=broken"),
        gate.post("/v1/explain", "broken"),
        gate.post(&format!("/v1/decisions/{}/commit", DecisionId(3)), ""),
    ];
    assert!(broken.iter().all(|answer| status(answer) == "500"), "{broken:?}");
    assert_eq!(status(&gate.get("/livez")), "200");
    gate.stop();
}

#[test]
fn a_head_longer_than_the_bound_is_refused() {
    let gate = Running::start(Bounds::default());
    let padded = |bytes| format!("GET /livez HTTP/1.1\r\nhost: gate\r\nx-padding: {}\r\n\r\n", "x".repeat(bytes));
    assert_eq!(status(&gate.ask(&padded(15 * 1024))), "200");
    // Exactly as much as is read before the refusal, or the reset of the rest could overtake the answer.
    let endless = format!("GET /livez HTTP/1.1\r\nx: {}", "x".repeat(16 * 1024 - 24));
    assert_eq!(endless.len(), 16 * 1024);
    assert_eq!(status(&gate.ask(&endless)), "431");
    gate.stop();
}

#[test]
fn a_peer_that_sends_no_head_is_hung_up_on() {
    let gate = Running::start(Bounds { head_timeout: Duration::from_millis(50), ..Bounds::default() });
    let answer = gate.ask("GET /livez HTTP/1.1\r\n");
    assert!(["none", "408"].contains(&status(&answer)), "{answer}");
    gate.stop();
}

#[test]
fn connections_above_the_bound_wait_for_a_slot() {
    let gate = Running::start(Bounds { connections_max: 1, ..Bounds::default() });
    let mut first = gate.connect();
    first.write_all(b"GET /livez HTTP/1.1\r\n").expect("sent");
    let mut second = gate.connect();
    second.write_all(b"GET /livez HTTP/1.1\r\nhost: gate\r\n\r\n").expect("sent");
    second.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let early = second.read(&mut [0; 1]).expect_err("no answer without a slot");
    assert!(matches!(early.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
    assert_eq!(status(&converse(first, "host: gate\r\n\r\n")), "200");
    second.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    assert_eq!(status(&converse(second, "")), "200");
    gate.stop();
}

#[test]
fn a_shutdown_finishes_what_is_under_way_and_returns() {
    let gate = Running::start(Bounds { drain_timeout: PATIENCE, ..Bounds::default() });
    let (begins, end) = gate.hold_next_reload();
    let idle = gate.connect();
    let mut reloading = gate.connect();
    reloading.write_all(RELOAD.as_bytes()).expect("sent");
    begins.recv_timeout(PATIENCE).expect("the reload begins");
    gate.shutdown.send(true).expect("the server listens");
    assert_eq!(converse(idle, ""), "");
    end.send(Ok(())).expect("a reload");
    assert_eq!(status(&converse(reloading, "")), "204");
    gate.thread.join().expect("no panic").expect("served");
}

#[test]
fn a_shutdown_does_not_wait_for_ever_and_a_lost_sender_is_one() {
    let gate = Running::start(Bounds { drain_timeout: Duration::from_millis(20), ..Bounds::default() });
    let (begins, end) = gate.hold_next_reload();
    let mut reloading = gate.connect();
    reloading.write_all(RELOAD.as_bytes()).expect("sent");
    begins.recv_timeout(PATIENCE).expect("the reload begins");
    drop(gate.shutdown);
    gate.thread.join().expect("no panic").expect("served");
    end.send(Ok(())).expect("the reload left behind still ends");
}

#[test]
fn a_unix_socket_serves_the_same_user() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("control.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let (shutdown, told) = watch::channel(false);
    let server = std::thread::spawn(move || serve(Listener::Unix(listener), Arc::new(Fake::default()), told));
    let stream = UnixStream::connect(&path).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    assert_eq!(status(&converse(stream, "GET /livez HTTP/1.1\r\nhost: gate\r\n\r\n")), "200");
    shutdown.send(true).expect("the server listens");
    server.join().expect("no panic").expect("served");
}

#[test]
fn tcp_away_from_loopback_is_refused() {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let (_shutdown, told) = watch::channel(false);
    let error = serve(Listener::Tcp(listener), Arc::new(Fake::default()), told).expect_err("refused");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}
