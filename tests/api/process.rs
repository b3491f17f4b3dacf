//! The program itself: `tollgate serve`, its log and its signals.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tollgate::front::Address;

use crate::client::{Client, PATIENCE};
use crate::gate::Settings;
use crate::raw::Message;

/// A `tollgate serve` that runs. Dropped, it is killed.
pub struct Process {
    child: Child,
    log: Arc<Log>,
    addresses: HashMap<String, Address>,
    pub settings: Settings,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Process {
    /// Starts the program and waits until it listens and takes signals.
    pub fn start(settings: Settings) -> Self {
        Self::start_within(settings, "true")
    }

    /// Starts the program under a shell command that bounds it.
    pub fn start_within(settings: Settings, bound: &str) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("{bound} && exec \"$0\" serve --config \"$1\""), env!("CARGO_BIN_EXE_tollgate")])
            .arg(settings.write())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawn");
        let log = Arc::new(Log::default());
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let ours = Arc::clone(&log);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                ours.lines.lock().expect("no panic").push(line);
                ours.changed.notify_all();
            }
        });
        let mut process = Self { child, log, addresses: HashMap::new(), settings };
        // The control listener is named last.
        process.wait_for_line("listener=\"control\"");
        process.addresses = process.lines().iter().filter_map(|line| listening(line)).collect();
        process.wait_for_signal_handlers();
        process
    }

    /// Connects to a listener.
    pub fn connect(&self, listener: &str) -> Client {
        Client::connect(self.address(listener))
    }

    /// Returns where a listener listens.
    pub fn address(&self, listener: &str) -> &Address {
        self.addresses.get(listener).expect("a listener of this name")
    }

    /// Asks the control listener.
    pub fn control(&self, method: &str, path: &str) -> Message {
        self.connect("control").ask_raw(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "the signal is sent");
    }

    /// Waits for a line of the log with this text in it.
    pub fn wait_for_line(&self, text: &str) {
        self.wait_for_lines(text, 1);
    }

    /// Waits for a number of lines of the log with this text in them.
    pub fn wait_for_lines(&self, text: &str, count: usize) {
        let missing = |lines: &mut Vec<String>| lines.iter().filter(|line| line.contains(text)).count() < count;
        let lines = self.log.lines.lock().expect("no panic");
        let (lines, waited) = self.log.changed.wait_timeout_while(lines, PATIENCE, missing).expect("no panic");
        assert!(!waited.timed_out(), "`{text}` was never logged: {lines:#?}");
    }

    /// Waits for the program to end.
    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end: {:#?}", self.lines());
            thread::sleep(POLL);
        }
    }

    /// Tells whether the program ended by itself, and with what.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// Returns a line of `/proc/PID/status` in kibibytes, such as `VmHWM`, the most memory that was ever resident.
    pub fn memory_kib(&self, name: &str) -> u64 {
        let status = self.status();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Waits until the program has a number of file descriptors open.
    pub fn wait_for_descriptors(&self, count: usize) {
        let began = Instant::now();
        let open = || std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count);
        while open() < count {
            assert!(began.elapsed() < PATIENCE, "{} are open", open());
            thread::sleep(POLL);
        }
    }

    /// Returns what was logged so far.
    pub fn lines(&self) -> Vec<String> {
        self.log.lines.lock().expect("no panic").clone()
    }

    fn status(&self) -> String {
        let path = PathBuf::from(format!("/proc/{}/status", self.child.id()));
        std::fs::read_to_string(path).expect("a process that runs")
    }

    /// The handlers are set up after the listeners; a signal before that would end the process.
    fn wait_for_signal_handlers(&self) {
        let began = Instant::now();
        loop {
            let status = self.status();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a line");
            let caught = u64::from_str_radix(caught.trim(), 16).expect("a mask");
            // SIGHUP, the first signal, is set up last.
            if caught & 1 != 0 {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "no handlers");
            thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let ended = self.child.wait();
        if !thread::panicking() {
            let signal = ended.ok().and_then(|status| status.signal());
            assert!(matches!(signal, None | Some(9)), "the program crashed: {signal:?} {:#?}", self.lines());
        }
    }
}

/// Runs a command of the program to its end.
pub fn tollgate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollgate")).args(arguments).stdin(Stdio::null()).output().expect("it runs")
}

/// Runs a command of the program that must succeed, and returns what it prints.
pub fn printed(arguments: &[&str]) -> String {
    let output = tollgate(arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Reads name and address from a line of the log.
fn listening(line: &str) -> Option<(String, Address)> {
    let (_, rest) = line.split_once("listener=\"")?;
    let (name, rest) = rest.split_once('"')?;
    let (_, address) = rest.split_once("address=")?;
    Some((name.to_owned(), Address::Tcp(address.trim().parse().ok()?)))
}

/// How often a process is looked at again.
const POLL: Duration = Duration::from_millis(10);
