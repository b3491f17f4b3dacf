//! A stand-in for the upstream: records every request, answers as told.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;
use tollgate::front::Address;

use crate::client::PATIENCE;
use crate::raw::{Message, Reader, Side};

/// An upstream that listens. Dropped, it stops and closes every connection.
pub struct Upstream {
    address: Address,
    shared: Arc<Shared>,
    stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
    /// Where its Unix socket lies.
    _folder: Option<TempDir>,
}

/// What the upstream does with one request.
pub enum Act {
    /// Answers with these bytes.
    Answer(Vec<u8>),
    /// Answers with these bytes once told, or when whoever would tell is gone.
    AnswerWhen(Receiver<()>, Vec<u8>),
    /// Answers with these bytes and closes the connection without having said so.
    AnswerAndClose(Vec<u8>),
    /// Does not answer, and keeps the connection.
    Silence,
}

/// Closes a connection, whoever else holds its stream.
type Close = Arc<dyn Fn() + Send + Sync>;

/// What the upstream has seen.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    seen: Vec<Message>,
    /// What came that was no well-framed request.
    broken: Vec<String>,
    script: VecDeque<Act>,
    connections: usize,
    open: Vec<Close>,
}

impl Upstream {
    /// Listens on a port of its own.
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"))
    }

    /// Listens on an address.
    pub fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("bind");
        let address = listener.local_addr().expect("address");
        let accept = move || {
            let (stream, _) = listener.accept().ok()?;
            stream.set_nodelay(true).ok()?;
            let other = stream.try_clone().ok()?;
            let close: Close = Arc::new(move || drop(other.shutdown(Shutdown::Both)));
            Some((stream, close))
        };
        Self::run(Address::Tcp(address), accept)
    }

    /// Listens on a Unix socket.
    pub fn start_unix() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("upstream.sock");
        let listener = UnixListener::bind(&path).expect("bind");
        let accept = move || {
            let (stream, _) = listener.accept().ok()?;
            let other = stream.try_clone().ok()?;
            let close: Close = Arc::new(move || drop(other.shutdown(Shutdown::Both)));
            Some((stream, close))
        };
        let mut upstream = Self::run(Address::Unix(path), accept);
        upstream._folder = Some(folder);
        upstream
    }

    fn run<S, A>(address: Address, mut accept: A) -> Self
    where
        S: Read + Write + Send + 'static,
        A: FnMut() -> Option<(S, Close)> + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let (ours, stop) = (Arc::clone(&shared), Arc::clone(&stopping));
        let accepting = thread::spawn(move || {
            while let Some((stream, close)) = accept() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let mut state = ours.lock();
                state.connections += 1;
                state.open.push(Arc::clone(&close));
                drop(state);
                let shared = Arc::clone(&ours);
                thread::spawn(move || shared.converse(stream, &close));
            }
        });
        Self { address, shared, stopping, accepting: Some(accepting), _folder: None }
    }

    /// Returns where it listens, as the configuration names it.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Returns where it listens.
    pub fn tcp_address(&self) -> SocketAddr {
        let Address::Tcp(address) = self.address else { panic!("a TCP address") };
        address
    }

    /// Tells what to do with the next request for which nothing was told yet.
    pub fn then(&self, act: Act) {
        self.shared.lock().script.push_back(act);
    }

    /// Holds the next request for which nothing was told yet, until the sender is used or dropped.
    pub fn then_hold(&self, answer: Vec<u8>) -> Sender<()> {
        let (sender, receiver) = mpsc::channel();
        self.then(Act::AnswerWhen(receiver, answer));
        sender
    }

    /// Returns every request so far.
    pub fn seen(&self) -> Vec<Message> {
        let state = self.shared.lock();
        assert!(state.broken.is_empty(), "ill-framed bytes reached the upstream: {:?}", state.broken);
        state.seen.clone()
    }

    /// Waits until a number of requests has come.
    pub fn wait_for(&self, count: usize) -> Vec<Message> {
        let state = self.shared.lock();
        let missing = |state: &mut State| state.seen.len() < count;
        let (state, waited) = self.shared.changed.wait_timeout_while(state, PATIENCE, missing).expect("no panic");
        assert!(!waited.timed_out(), "{} of {count} requests came", state.seen.len());
        state.seen.clone()
    }

    /// Returns how many connections were made.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// Closes every connection.
    pub fn close_connections(&self) {
        self.shared.lock().open.drain(..).for_each(|close| close());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts; whether it is there to be woken does not matter.
        match &self.address {
            Address::Tcp(address) => drop(TcpStream::connect(address)),
            Address::Unix(path) => drop(UnixStream::connect(path)),
        }
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        self.close_connections();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn converse<S: Read + Write>(&self, stream: S, close: &Close) {
        let mut reader = Reader::new(stream);
        loop {
            let message = match reader.message(Side::Client) {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(error) => {
                    self.lock().broken.push(error.to_string());
                    self.changed.notify_all();
                    return;
                }
            };
            let mut state = self.lock();
            state.seen.push(message);
            let act = state.script.pop_front().unwrap_or_else(|| Act::Answer(ok(r#"{"prepay_id":"wx1"}"#)));
            drop(state);
            self.changed.notify_all();
            let (bytes, last) = match act {
                Act::Answer(bytes) => (bytes, false),
                Act::AnswerAndClose(bytes) => (bytes, true),
                Act::AnswerWhen(told, bytes) => {
                    let _ = told.recv();
                    (bytes, false)
                }
                Act::Silence => continue,
            };
            if reader.stream.write_all(&bytes).is_err() || last {
                return close();
            }
        }
    }
}

/// Writes out an answer of 200 with a body of JSON.
pub fn ok(body: &str) -> Vec<u8> {
    answer(200, "Content-Type: application/json\r\n", body)
}

/// Writes out an answer; `headers` are whole lines.
pub fn answer(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("HTTP/1.1 {status} Told\r\n{headers}{length}\r\n{body}").into_bytes()
}
