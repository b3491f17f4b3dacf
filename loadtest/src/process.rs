//! Child processes on a core of their own, what they say and how much processor time they take.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

/// A running program, ended when this is dropped: by SIGTERM, and by SIGKILL if it stays.
pub struct Child {
    inner: std::process::Child,
    lines: Receiver<String>,
    /// What was read last, for a program that ends before it says what was awaited.
    last_line: String,
}

impl Child {
    /// Starts a program, on one core if `core` is given. Its standard output and error go to [`Self::wait_for_line`].
    ///
    /// # Errors
    /// The program, or `taskset` for one on a core, does not start. That `taskset` fails shows in the lines.
    pub fn start(program: &Path, arguments: &[&OsStr], core: Option<usize>) -> io::Result<Self> {
        let mut command = match core {
            None => Command::new(program),
            Some(core) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(core.to_string()).arg(program);
                command
            }
        };
        let (reader, writer) = io::pipe()?;
        command.args(arguments).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let inner = command.spawn()?;
        // The command holds the ends for writing: while it lives, the lines never end.
        drop(command);
        let (sender, lines) = sync_channel(LINES_MAX);
        thread::spawn(move || pass_lines(reader, &sender));
        Ok(Self { inner, lines, last_line: String::new() })
    }

    /// Waits until the program writes a line for which `wanted` holds, and returns it; lines before it are gone.
    ///
    /// # Errors
    /// `TimedOut` when `patience` is over, `UnexpectedEof` with its last line if the program ends first.
    pub fn wait_for_line(&mut self, wanted: impl Fn(&str) -> bool, patience: Duration) -> io::Result<String> {
        let start = Instant::now();
        loop {
            match self.lines.recv_timeout(patience.saturating_sub(start.elapsed())) {
                Ok(line) if wanted(&line) => return Ok(line),
                Ok(line) => self.last_line = line,
                Err(reason) => {
                    let (kind, what) = match reason {
                        RecvTimeoutError::Timeout => (io::ErrorKind::TimedOut, "said nothing awaited"),
                        RecvTimeoutError::Disconnected => (io::ErrorKind::UnexpectedEof, "ended"),
                    };
                    let text = format!("the child {} {what}; its last line: {:?}", self.id(), self.last_line);
                    return Err(io::Error::new(kind, text));
                }
            }
        }
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.inner.id()
    }

    /// Measures the processor time, in seconds, that its threads and its children have taken so far.
    ///
    /// Exact to the nanosecond while no thread or child has ended; of those that have, to 10 ms.
    ///
    /// # Errors
    /// The process is gone, or `/proc` is not as Linux writes it.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        process_time(self.id()).map(|time| time.as_secs_f64())
    }

    /// Ends the process by SIGKILL, whatever it is at.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(mut self) -> io::Result<()> {
        self.inner.kill()?;
        self.inner.wait().map(drop)
    }

    /// Sends SIGTERM, then SIGKILL after two seconds, and waits until the process is gone.
    fn end(&mut self) -> io::Result<()> {
        if self.inner.try_wait()?.is_some() {
            return Ok(());
        }
        if let Some(id) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) {
            kill_process(id, Signal::TERM)?;
        }
        let start = Instant::now();
        while start.elapsed() < TERMINATION_PATIENCE {
            if self.inner.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(TERMINATION_POLL);
        }
        self.inner.kill()?;
        self.inner.wait().map(drop)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Fails only for a process that is gone.
        let _ = self.end();
    }
}

/// Keeps the calling thread, and the threads it starts from now on, on one core.
///
/// # Errors
/// There is no such core, or this process may not use it.
pub fn pin_to(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// Reads to the end, so that the child is never held up by a full pipe; lines for which there is no room are lost.
fn pass_lines(reader: io::PipeReader, lines: &SyncSender<String>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        let _ = lines.try_send(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
        line.clear();
    }
}

/// Adds up the time of a process, of its ended children and of those that run (proc(5)).
fn process_time(id: u32) -> io::Result<Duration> {
    let [user, system, children_user, children_system] = ticks(id)?;
    let mut running = Duration::ZERO;
    let mut children = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        let task = task?.path();
        // A thread that ends meanwhile has its time in the ticks.
        let schedstat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        let on_core_ns = schedstat.split_ascii_whitespace().next().and_then(|text| text.parse().ok());
        running += Duration::from_nanos(on_core_ns.unwrap_or(0));
        let ids = fs::read_to_string(task.join("children")).unwrap_or_default();
        for child in ids.split_ascii_whitespace().filter_map(|text| text.parse().ok()) {
            children += process_time(child).unwrap_or_default();
        }
    }
    Ok(running.max(from_ticks(user + system)) + children + from_ticks(children_user + children_system))
}

/// Reads `utime`, `stime`, `cutime` and `cstime`, the fields 14 to 17 of `/proc/ID/stat`.
fn ticks(id: u32) -> io::Result<[u64; 4]> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name in brackets, field 2, may itself contain brackets and spaces.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let mut times = fields.split(' ').skip(11).map_while(|field| field.parse().ok());
    match (times.next(), times.next(), times.next(), times.next()) {
        (Some(user), Some(system), Some(children_user), Some(children_system)) => {
            Ok([user, system, children_user, children_system])
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn from_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(TICK_MS))
}

/// Length of a tick in `/proc`: USER_HZ is 100 on every architecture this runs on.
const TICK_MS: u64 = 10;

/// Lines kept until somebody waits for them.
const LINES_MAX: usize = 1024;

const TERMINATION_PATIENCE: Duration = Duration::from_secs(2);

const TERMINATION_POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn shell(script: &str, core: Option<usize>) -> Child {
        Child::start(Path::new("/bin/sh"), &["-c".as_ref(), script.as_ref()], core).expect("a shell")
    }

    /// Whether a process runs; one that has ended and was not waited for does not.
    fn runs(id: u32) -> bool {
        fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[test]
    fn a_child_runs_on_its_core_only() {
        let mut child = shell("grep Cpus_allowed_list /proc/self/status", Some(1));
        let line = child.wait_for_line(|line| line.starts_with("Cpus_allowed_list"), PATIENCE).expect("the line");
        assert_eq!(line.split_ascii_whitespace().last(), Some("1"));
    }

    #[test]
    fn a_pinned_thread_runs_on_its_core_only() {
        let cores = thread::spawn(|| {
            pin_to(1).expect("pinned");
            let cores = rustix::thread::sched_getaffinity(None).expect("cores");
            (cores.count(), cores.is_set(1))
        });
        assert_eq!(cores.join().expect("joined"), (1, true));
        assert!(pin_to(CpuSet::MAX_CPU).is_err());
    }

    #[test]
    fn a_wait_skips_lines_and_reads_errors_too() {
        let mut child = shell("echo one; echo two >&2; echo three; sleep 60", None);
        assert_eq!(child.wait_for_line(|line| line.starts_with("tw"), PATIENCE).expect("the line"), "two");
        assert_eq!(child.wait_for_line(|_| true, PATIENCE).expect("the line"), "three");
        let error = child.wait_for_line(|_| true, Duration::from_millis(20)).expect_err("nothing more");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_wait_tells_that_the_child_ended_and_its_last_line() {
        let mut child = shell("echo no such file", None);
        let error = child.wait_for_line(|line| line == "ready", PATIENCE).expect_err("ended");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(error.to_string().contains("no such file"), "{error}");
    }

    #[test]
    fn a_child_that_says_too_much_is_not_held_up() {
        let mut child = shell("yes | head -n 100000 >&2; echo done >/dev/null; exit", None);
        let start = Instant::now();
        while child.inner.try_wait().expect("a state").is_none() {
            assert!(start.elapsed() < PATIENCE, "held up");
            thread::yield_now();
        }
    }

    #[test]
    fn processor_time_counts_running_and_ended_children() {
        let spin = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let mut child = shell(&format!("echo start; ({spin}); echo end; {spin}; echo spun; sleep 60"), None);
        child.wait_for_line(|line| line == "start", PATIENCE).expect("started");
        child.wait_for_line(|line| line == "end", PATIENCE).expect("the child of the child");
        let first = child.cpu_seconds().expect("a time");
        assert!(first >= 0.01, "{first}");
        child.wait_for_line(|line| line == "spun", PATIENCE).expect("the child itself");
        let second = child.cpu_seconds().expect("a time");
        assert!(second > first + 0.005, "{first} {second}");
        assert!((child.cpu_seconds().expect("a time") - second).abs() < 0.005, "asleep");
    }

    #[test]
    fn a_dropped_child_is_gone_even_if_it_ignores_termination() {
        for script in ["echo ready; sleep 60", "trap '' TERM; echo ready; while :; do sleep 0.1; done"] {
            let mut child = shell(script, None);
            child.wait_for_line(|line| line == "ready", PATIENCE).expect("ready");
            let id = child.id();
            assert!(runs(id));
            drop(child);
            assert!(!runs(id), "{script}");
        }
    }
}
