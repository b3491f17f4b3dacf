//! The demo's world: a temporary folder, keys, the stand-in upstream, the gate that takes the traffic, and small gates
//! that live for one case.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use super::DemoError;
use super::accounts::{self, Accounts, Platform};
use super::books::Books;
use super::client::{self, Answer, Connection, Keyring, Outgoing, Signature};
use super::configuration::{Bounds, Limits};
use super::request::{Message, Signed};
use super::upstream::StandIn;
use crate::admission::Shared;
use crate::config;
use crate::front::Address;
use crate::metrics::Snapshot;
use crate::reason::Reason;
use crate::server::{self, Running, ServerError};
use crate::storage::{Disk, Storage};
use crate::time::{Clock, SystemClock, UnixMillis};

/// Everything that the cases work with.
pub(super) struct World {
    pub accounts: Accounts,
    pub platform: Platform,
    pub keyring: Keyring,
    pub main: DemoGate,
    tls: TlsConnector,
    upstream: StandIn,
    /// What gates counted that are stopped.
    stopped: RefCell<Counts>,
    folder: TempDir,
}

/// A gate that runs in this process.
pub(super) struct DemoGate {
    running: Running,
    doors: Doors,
}

/// Where a gate listens, and how to get in.
#[derive(Clone)]
pub(super) struct Doors {
    pub public: SocketAddr,
    pub hop: SocketAddr,
    pub check: SocketAddr,
    pub control: SocketAddr,
    pub tls: TlsConnector,
}

/// A listener of the demo's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Merchants, over TLS.
    Public,
    /// The platform's cashier, over TLS: its headers are believed.
    Hop,
    /// The platform's proxy, in the clear: it asks before it forwards.
    Check,
    /// The operator, in the clear.
    Control,
}

/// A request and the door it goes to.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub door: Door,
    pub signed: Signed,
    /// Bytes that the head promises, where that is more than the body has.
    pub promised_bytes: Option<u64>,
}

/// How often gates refused for each reason; reasons that never occurred are left out.
pub(super) type Counts = BTreeMap<Reason, u64>;

impl World {
    /// Makes keys and configuration, and starts the stand-in and the gate.
    ///
    /// # Errors
    /// Where a part cannot be made or started.
    pub fn build() -> Result<Self, DemoError> {
        let folder = tempfile::Builder::new().prefix("tollgate-demo-").tempdir()?;
        let (accounts, platform) = accounts::make(folder.path(), SystemClock.now())?;
        let spki = crate::certificate::inspect(&platform.certificate.certificate_pem)?.spki_der;
        let keys = [(platform.certificate.serial.as_str(), &*spki), (PUBLIC_KEY_ID, &*platform.public_key_der)];
        let keyring = Keyring::new(&keys)?;
        let tls = client::connector(&platform.authority_pem)?;
        let upstream = StandIn::start()?;
        let file = Bounds::roomy(upstream.address.to_string()).write(
            folder.path(),
            "tollgate",
            platform.certificate.serial.as_str(),
        )?;
        let main = DemoGate::start(file, tls.clone(), Arc::new(SystemClock), Arc::new(Disk))?;
        Ok(Self { accounts, platform, keyring, main, tls, upstream, stopped: RefCell::default(), folder })
    }

    /// Returns the bounds of a small gate in front of the stand-in.
    pub fn small(&self) -> Bounds {
        Bounds::small(self.upstream.address.to_string())
    }

    /// Returns the bounds of a gate in front of the stand-in that has all limits that come with the gate.
    pub fn presets(&self) -> Bounds {
        Bounds { limits: Limits::Presets, ..self.small() }
    }

    /// Writes the configuration of another gate.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn configuration(&self, name: &str, bounds: &Bounds) -> Result<PathBuf, DemoError> {
        bounds.write(self.folder.path(), name, self.platform.certificate.serial.as_str())
    }

    /// Starts a gate of its own for a case, and stops it afterwards.
    ///
    /// # Errors
    /// Where the gate cannot be started or stopped, or the case fails.
    pub async fn at_gate<T>(
        &self,
        name: &str,
        bounds: Bounds,
        clock: Arc<dyn Clock>,
        case: impl AsyncFnOnce(&DemoGate) -> Result<T, DemoError>,
    ) -> Result<T, DemoError> {
        self.at_gate_on(Arc::new(Disk), name, bounds, clock, case).await
    }

    /// Starts a gate whose journal is on this storage, and stops it afterwards.
    ///
    /// # Errors
    /// As [`World::at_gate`].
    pub async fn at_gate_on<T>(
        &self,
        storage: Arc<dyn Storage>,
        name: &str,
        bounds: Bounds,
        clock: Arc<dyn Clock>,
        case: impl AsyncFnOnce(&DemoGate) -> Result<T, DemoError>,
    ) -> Result<T, DemoError> {
        let gate = DemoGate::start(self.configuration(name, &bounds)?, self.tls.clone(), clock, storage)?;
        let result = case(&gate).await;
        self.note(&gate.snapshot());
        // Connections that the case gave up close now, so that the drain need not wait for them.
        tokio::task::yield_now().await;
        gate.stop()?;
        result
    }

    /// Starts a gate whose journal is on storage that breaks in the course of the case: it must not end well.
    ///
    /// # Errors
    /// As [`World::at_gate`], and where the gate does not say that its journal failed.
    pub async fn at_broken_gate<T>(
        &self,
        storage: Arc<dyn Storage>,
        name: &str,
        bounds: Bounds,
        case: impl AsyncFnOnce(&DemoGate) -> Result<T, DemoError>,
    ) -> Result<T, DemoError> {
        let mut answered = None;
        let ended = self
            .at_gate_on(storage, name, bounds, Arc::new(SystemClock), async |gate| {
                answered = Some(case(gate).await?);
                Ok(())
            })
            .await;
        match (ended, answered) {
            (Err(DemoError::Server(ServerError::Thread { thread: "journal", .. })), Some(answered)) => Ok(answered),
            (Err(error), _) => Err(error),
            (Ok(()), _) => Err(DemoError::Setup("a gate whose journal broke ended as if nothing had happened")),
        }
    }

    /// Keeps what a gate counted that is about to stop.
    pub fn note(&self, snapshot: &Snapshot) {
        let mut stopped = self.stopped.borrow_mut();
        snapshot.refused.iter().for_each(|(reason, count)| *stopped.entry(*reason).or_default() += count);
    }

    /// Returns how often all gates together have refused for each reason.
    pub fn counts(&self) -> Counts {
        let mut counts = self.stopped.borrow().clone();
        self.main.snapshot().refused.iter().for_each(|(reason, count)| *counts.entry(*reason).or_default() += count);
        counts
    }

    /// Verifies an answer's signature.
    pub fn verify(&self, answer: &Answer) -> Signature {
        self.keyring.verify(answer)
    }

    /// Returns the connector that trusts the demo's authority.
    pub fn tls(&self) -> &TlsConnector {
        &self.tls
    }

    /// Stops the gate and the stand-in, and removes the folder.
    ///
    /// # Errors
    /// Where a thread failed or the folder could not be removed.
    pub fn stop(self) -> Result<(), DemoError> {
        self.main.stop()?;
        self.upstream.stop()?;
        Ok(self.folder.close()?)
    }
}

impl DemoGate {
    fn start(
        file: PathBuf,
        tls: TlsConnector,
        clock: Arc<dyn Clock>,
        storage: Arc<dyn Storage>,
    ) -> Result<Self, DemoError> {
        let config = config::load(&file, SystemClock.now())?;
        let running = server::start_on(config, Some(file), clock, storage)?;
        let address = |name| match running.address(name) {
            Some(Address::Tcp(address)) => Ok(*address),
            Some(Address::Unix(_)) | None => Err(DemoError::Listener(name)),
        };
        let (public, hop) = (address("public")?, address("hop")?);
        let doors = Doors { public, hop, check: address("check")?, control: address("control")?, tls };
        Ok(Self { running, doors })
    }

    /// Returns where it listens.
    pub fn doors(&self) -> &Doors {
        &self.doors
    }

    /// Sends one request on a connection of its own.
    ///
    /// # Errors
    /// Where no answer came.
    pub async fn send(&self, call: impl Into<Call>) -> Result<Answer, DemoError> {
        self.doors.send(call).await
    }

    /// Sends one request that is to be admitted.
    ///
    /// # Errors
    /// Where no answer came, or not a success.
    pub async fn admit(&self, call: impl Into<Call>) -> Result<Answer, DemoError> {
        self.send(call).await?.admitted()
    }

    /// Returns what the gate counted.
    pub fn snapshot(&self) -> Snapshot {
        self.running.control().snapshot()
    }

    /// Returns how many bytes of bodies the gate holds.
    pub fn bodies_bytes(&self) -> u64 {
        self.running.control().readings().bodies_bytes
    }

    /// Returns the policy in force and the tables.
    pub fn shared(&self) -> &Shared {
        self.running.control().admission()
    }

    /// Reads the gate's books.
    pub fn books(&self, gate: &'static str) -> Books {
        Books::read(gate, self.shared())
    }

    fn stop(self) -> Result<(), DemoError> {
        Ok(self.running.stop()?)
    }
}

impl Doors {
    /// Opens a connection.
    ///
    /// # Errors
    /// Where the connection or the handshake fails.
    pub async fn open(&self, door: Door) -> Result<Connection, DemoError> {
        match door {
            Door::Public => Connection::open(self.public, Some(&self.tls)).await,
            Door::Hop => Connection::open(self.hop, Some(&self.tls)).await,
            Door::Check => Connection::open(self.check, None).await,
            Door::Control => Connection::open(self.control, None).await,
        }
    }

    /// Sends one request on a connection of its own.
    ///
    /// # Errors
    /// Where no answer came.
    pub async fn send(&self, call: impl Into<Call>) -> Result<Answer, DemoError> {
        let call = call.into();
        self.open(call.door).await?.send(call.request()).await
    }
}

impl Answer {
    /// Takes an answer that must be a success.
    ///
    /// # Errors
    /// Where it is not one.
    pub fn admitted(self) -> Result<Self, DemoError> {
        if self.is_success() { Ok(self) } else { Err(DemoError::Unexpected { status: self.status, code: self.code() }) }
    }
}

impl Call {
    /// Makes the request to send.
    pub fn request(&self) -> http::Request<Outgoing> {
        match self.promised_bytes {
            None => self.signed.request(),
            Some(bytes) => self.signed.request_with(Outgoing::stalling(self.signed.body.clone(), bytes)),
        }
    }

    /// Promises more bytes than follow.
    pub fn promising(mut self, bytes: u64) -> Self {
        self.promised_bytes = Some(bytes);
        self
    }
}

impl From<Signed> for Call {
    fn from(signed: Signed) -> Self {
        Self { door: Door::Public, signed, promised_bytes: None }
    }
}

impl From<Message> for Call {
    fn from(message: Message) -> Self {
        message.signed().into()
    }
}

impl Signed {
    /// Sends it by another door than that of merchants.
    pub fn through(self, door: Door) -> Call {
        Call { door, signed: self, promised_bytes: None }
    }
}

/// A clock that stands until it is set.
pub(super) struct ManualClock(AtomicI64);

impl ManualClock {
    /// Makes a clock that stands at an instant.
    pub fn at(now: UnixMillis) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(now.0)))
    }

    /// Sets the clock.
    pub fn set(&self, now: UnixMillis) {
        // Relaxed: the demo sets it between two requests, and their sockets order them.
        self.0.store(now.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}

/// The platform's key in public-key mode.
pub(super) const PUBLIC_KEY_ID: &str = "PUB_KEY_ID_0000000001";
