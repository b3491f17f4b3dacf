//! A gate in this process, configured by the file that `init` writes and what a test changes in it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tollgate::admin::Control as _;
use tollgate::config;
use tollgate::front::Address;
use tollgate::metrics::Readings;
use tollgate::reason::Reason;
use tollgate::replay::Orders;
use tollgate::server::{self, Controller, Running};
use tollgate::time::{Clock, SystemClock, UnixMillis};

use crate::client::{Client, PATIENCE};
use crate::deployment::{deployment, write_secret};
use crate::raw::Message;
use crate::upstream::Upstream;

/// A gate that runs. Dropped, it drains.
pub struct Gate {
    running: Option<Running>,
    settings: Settings,
    clock: Arc<ShiftedClock>,
}

/// The system's clock, set ahead by as much as a test says.
#[derive(Default)]
struct ShiftedClock {
    ahead_ms: AtomicI64,
}

impl Clock for ShiftedClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(SystemClock.now().0 + self.ahead_ms.load(Ordering::SeqCst))
    }
}

/// A configuration in a folder of its own.
pub struct Settings {
    table: toml::Table,
    folder: TempDir,
}

impl Settings {
    /// Takes what `init` wrote; puts every listener on a port of its own and one worker behind them.
    ///
    /// The listeners: `public` (in the clear), `tls`, `hop` (trusted, forwards), `check` (trusted, checks), `open`
    /// (public, checks), `control`.
    pub fn new() -> Self {
        let mut settings = Self { table: deployment().configuration(), folder: tempfile::tempdir().expect("a folder") };
        let tls = settings.table["listener"][0].as_table().expect("a listener").clone();
        settings.replace("listener", LISTENERS);
        for name in ["tls_certificate_file", "tls_key_file"] {
            settings.listener("tls").insert(name.to_owned(), tls[name].clone());
        }
        settings.set("gate.workers", 1).set("gate.time_zone", zone());
        // Nothing is under way when a test ends well.
        settings.set("bounds.drain_timeout_ms", 100);
        settings.set("upstream.address", unreachable());
        // Many gates run at once.
        settings.set("journal.segment_bytes", 1 << 20).set("journal.reserve_bytes", 1 << 18);
        settings
    }

    /// Forwards to an upstream.
    pub fn upstream(&mut self, upstream: &Upstream) -> &mut Self {
        self.set("upstream.address", upstream.name())
    }

    /// Sets a key of a section, `section.key`.
    pub fn set(&mut self, path: &str, value: impl Into<toml::Value>) -> &mut Self {
        let (section, key) = path.split_once('.').expect("section.key");
        let table = self.table[section].as_table_mut().expect("a section");
        table.insert(key.to_owned(), value.into());
        self
    }

    /// Replaces all sections of a name by those in a text; by none where the text has none.
    pub fn replace(&mut self, section: &str, text: &str) -> &mut Self {
        let mut table: toml::Table = text.parse().expect("TOML");
        self.table.remove(section);
        if let Some(value) = table.remove(section) {
            self.table.insert(section.to_owned(), value);
        }
        self
    }

    /// Returns a listener.
    pub fn listener(&mut self, name: &str) -> &mut toml::Table {
        let listeners = self.table["listener"].as_array_mut().expect("listeners");
        let mut listeners = listeners.iter_mut().filter_map(toml::Value::as_table_mut);
        listeners.find(|listener| listener["name"].as_str() == Some(name)).expect("a listener of this name")
    }

    /// Returns the first merchant.
    pub fn merchant(&mut self) -> &mut toml::Table {
        self.table["merchant"][0].as_table_mut().expect("a merchant")
    }

    /// Adds to a list of sections within the first merchant.
    pub fn add_to_merchant(&mut self, section: &str, text: &str) -> &mut Self {
        let item: toml::Table = text.parse().expect("TOML");
        let sections = self.merchant().entry(section).or_insert_with(|| toml::Value::Array(Vec::new()));
        sections.as_array_mut().expect("sections").push(item.into());
        self
    }

    /// Adds a merchant.
    pub fn add_merchant(&mut self, text: &str) -> &mut Self {
        let item: toml::Table = text.parse().expect("TOML");
        self.table["merchant"].as_array_mut().expect("merchants").push(item.into());
        self
    }

    /// Returns the file of the deployment's secret.
    pub fn key_file(&self) -> PathBuf {
        self.folder().join(self.table["gate"]["key_file"].as_str().expect("a name"))
    }

    /// Returns the folder that the configuration is written to.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the configuration and returns the file.
    pub fn write(&self) -> PathBuf {
        let file = self.folder().join("tollgate.toml");
        write_secret(&file, &self.table.to_string());
        file
    }
}

impl Gate {
    /// Starts a gate in front of an upstream.
    pub fn before(upstream: &Upstream) -> Self {
        Self::with(upstream, |settings| settings)
    }

    /// Starts a gate in front of an upstream, after a change to its configuration.
    pub fn with(upstream: &Upstream, change: impl FnOnce(&mut Settings) -> &mut Settings) -> Self {
        let mut settings = Settings::new();
        settings.upstream(upstream);
        change(&mut settings);
        Self::start(settings)
    }

    /// Starts a gate.
    pub fn start(settings: Settings) -> Self {
        let mut gate = Self { running: None, settings, clock: Arc::default() };
        gate.start_again().unwrap_or_else(|error| panic!("{error}"));
        gate
    }

    /// Starts the gate that was stopped.
    ///
    /// # Errors
    /// What it says.
    pub fn start_again(&mut self) -> Result<(), String> {
        self.running = Some(self.start_another()?);
        Ok(())
    }

    /// Starts another gate of the same configuration.
    ///
    /// # Errors
    /// What it says.
    pub fn start_another(&self) -> Result<Running, String> {
        let file = self.settings.write();
        let config = config::load(&file, SystemClock.now()).unwrap_or_else(|error| panic!("{error}"));
        let clock = Arc::<ShiftedClock>::clone(&self.clock);
        server::start(config, Some(file), clock).map_err(|error| error.to_string())
    }

    /// Stops the gate.
    pub fn stop(&mut self) {
        self.running.take().expect("it runs").stop().expect("it ends well");
    }

    /// Stops the gate, and starts it again.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Returns the folder that the configuration is written to.
    pub fn folder(&self) -> &Path {
        self.settings.folder()
    }

    /// Returns the configuration, for the next start.
    pub fn settings(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Sets the gate's clock ahead, and has the gate see what is past by then.
    pub fn advance_s(&self, seconds: i64) {
        self.clock.ahead_ms.fetch_add(seconds * 1000, Ordering::SeqCst);
        self.sweep();
    }

    /// Has the gate look through all of its tables.
    pub fn sweep(&self) {
        // Twice: the gate's own thread may just have taken a part out of turn.
        (0..2 * Orders::<()>::SWEEPS_PER_PASS).for_each(|_| self.control().sweep());
    }

    /// Sends a request to the control listener.
    pub fn ask_control(&self, method: &str, target: &str, body: &str) -> Message {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        self.connect("control").ask_raw((head + body).as_bytes())
    }

    /// Returns where a listener listens.
    pub fn address(&self, listener: &str) -> &Address {
        self.running().address(listener).expect("a listener of this name")
    }

    /// Connects to a listener.
    pub fn connect(&self, listener: &str) -> Client {
        Client::connect(self.address(listener))
    }

    /// Changes the configuration and has the gate read it again.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn reload(&mut self, change: impl FnOnce(&mut Settings) -> &mut Settings) -> Result<(), String> {
        change(&mut self.settings);
        self.settings.write();
        self.control().reload()
    }

    /// Returns the control plane's side.
    pub fn control(&self) -> &Controller {
        self.running().control()
    }

    /// Returns how often requests were refused for a reason.
    pub fn refused(&self, reason: Reason) -> u64 {
        let refused = self.control().snapshot().refused;
        refused.into_iter().find(|(one, _)| *one == reason).map_or(0, |(_, count)| count)
    }

    /// Waits until what is read from the gate is as wanted.
    pub fn wait_until(&self, wanted: impl Fn(&Readings) -> bool) {
        let began = Instant::now();
        while !wanted(&self.control().readings()) {
            assert!(began.elapsed() < PATIENCE, "it never came to that: {:?}", self.control().readings());
            thread::sleep(POLL);
        }
    }

    /// Returns the value of a series of the metrics.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.control().metrics().expect("metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series} in {text}")).parse().expect("a number")
    }

    /// Waits until a series of the metrics has a value.
    pub fn wait_for_metric(&self, series: &str, value: f64) {
        self.wait_until(|_| self.metric(series) >= value);
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs until it is dropped")
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // One that was stopped, or did not start again, has nothing to end.
        let Some(running) = &self.running else { return };
        let alive = running.is_alive();
        let stopped = self.running.take().map(Running::stop);
        if !thread::panicking() {
            assert!(alive, "a thread of the gate ended by itself");
            assert!(matches!(stopped, Some(Ok(()))), "a thread of the gate failed");
        }
    }
}

/// Returns an address at which nobody listens.
pub fn unreachable() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address").to_string()
}

/// Chooses a time zone in which no day ends while the tests run.
fn zone() -> &'static str {
    const HOUR_S: i64 = 3600;
    let midnight_in_shanghai = 15 * HOUR_S..17 * HOUR_S;
    let shanghai = !midnight_in_shanghai.contains(&SystemClock.now().seconds().rem_euclid(24 * HOUR_S));
    if shanghai { "Asia/Shanghai" } else { "UTC" }
}

/// One limit, on the merchant's receipts of a day: 1000 fen.
pub const THOUSAND_A_DAY: &str = r#"
[[limit]]
id = "merchant-day"
per = ["merchant"]
day_fen = 1000
"#;

const LISTENERS: &str = r#"
[[listener]]
name = "public"
kind = "public"
mode = "proxy"
address = "127.0.0.1:0"

[[listener]]
name = "tls"
kind = "public"
mode = "proxy"
address = "127.0.0.1:0"

[[listener]]
name = "hop"
kind = "trusted_hop"
mode = "proxy"
address = "127.0.0.1:0"

[[listener]]
name = "check"
kind = "trusted_hop"
mode = "check"
address = "127.0.0.1:0"

[[listener]]
name = "open"
kind = "public"
mode = "check"
address = "127.0.0.1:0"

[[listener]]
name = "control"
kind = "control"
address = "127.0.0.1:0"
"#;

/// How often a reading is looked at again.
const POLL: Duration = Duration::from_millis(5);
