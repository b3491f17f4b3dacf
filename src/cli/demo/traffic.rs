//! Traffic: keep-alive connections over TLS, each sending its next request when the last answer has come; every answer
//! checked against its verdict, and its signature verified.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::Receiver;
use serde::Serialize;

use super::DemoError;
use super::client::{Answer, Connection, Keyring, Signature};
use super::script::{Exchange, Receipts, Script, Scripted, Verdict};
use super::stock::Stock;
use super::world::{Counts, Door, Doors, World};
use crate::front::wire;
use crate::metrics::Snapshot;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Traffic {
    /// What these numbers are, and are not.
    pub measured: &'static str,
    pub debug_build: bool,
    pub seconds: f64,
    pub connections: usize,
    pub client_threads: usize,
    pub requests: u64,
    pub requests_per_second: f64,
    pub latency_us: Latency,
    pub batch_requests_mean: Option<f64>,
    pub signed_ahead: u64,
    pub signed_while_running: u64,
    pub signing_threads: usize,
    /// How often a connection found no signed request and had to wait.
    pub waits_for_signing: u64,
    pub verdicts: Vec<Line>,
    /// What each merchant took, by the demo's own count, in fen.
    #[serde(skip)]
    pub receipts: BTreeMap<&'static str, i64>,
    /// The first answers that were not the ones expected.
    pub differences: Vec<String>,
    pub ok: bool,
}

/// Latency from the first byte of a request to the last of its answer, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Latency {
    pub p50: u32,
    pub p99: u32,
    pub max: u32,
}

/// One verdict: how many requests were to get it, how many got it.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub verdict: &'static str,
    pub admitted: bool,
    pub expected: u64,
    pub seen: u64,
    /// What the gate itself counted; it knows no kinds of admission.
    pub counted: Option<u64>,
}

impl Line {
    /// Tells whether all numbers agree.
    pub fn is_ok(&self) -> bool {
        self.seen == self.expected && self.counted.is_none_or(|counted| counted == self.expected)
    }
}

/// Sends traffic for some seconds.
///
/// # Errors
/// Where threads or connections fail.
pub(super) fn run(world: &World, seconds: u64) -> Result<Traffic, DemoError> {
    let wanted = usize::try_from(seconds).unwrap_or(usize::MAX).saturating_mul(AHEAD_PER_SECOND).min(AHEAD_MAX);
    let stock = Stock::start(&Script::new(world), wanted)?;
    let signed_ahead = stock.signed_ahead(Duration::from_secs(seconds.min(AHEAD_S_MAX)), wanted / 8);
    let before = world.main.snapshot();
    let threads = thread::available_parallelism().map_or(1, usize::from).min(CLIENT_THREADS_MAX);
    let all_connected = Arc::new(Barrier::new(threads + 1));
    let sent = Arc::new(AtomicU64::new(0));
    let clients = (0..threads).map(|index| {
        let client = Client {
            doors: world.main.doors().clone(),
            keyring: world.keyring.clone(),
            source: stock.source(),
            connections: (CONNECTIONS + index) / threads,
            lasts: Duration::from_secs(seconds),
            all_connected: Arc::clone(&all_connected),
            sent: Arc::clone(&sent),
        };
        Ok(thread::Builder::new().name("merchants".to_owned()).spawn(move || client.run())?)
    });
    let clients: Vec<JoinHandle<_>> = clients.collect::<Result<_, DemoError>>()?;
    all_connected.wait();
    let began = Instant::now();
    let mut tally = Tally::default();
    for client in clients {
        tally.add(client.join().map_err(|_| DemoError::Thread)??);
    }
    let took = began.elapsed();
    let (after, signed, signing_threads) = (world.main.snapshot(), stock.signed(), stock.threads());
    stock.stop()?;
    let signing = Signing { ahead: signed_ahead, running: signed - signed_ahead, threads: signing_threads };
    Ok(report(tally, took, threads, &signing, (&before, &after)))
}

struct Signing {
    ahead: u64,
    running: u64,
    threads: usize,
}

fn report(tally: Tally, took: Duration, threads: usize, signing: &Signing, gate: (&Snapshot, &Snapshot)) -> Traffic {
    let (before, after) = gate;
    let requests = u64::try_from(tally.samples_us.len()).unwrap_or(u64::MAX);
    let verdicts = lines(&tally, &counted(before, after));
    let admitted: u64 = verdicts.iter().filter(|line| line.admitted).map(|line| line.expected).sum();
    let counts_agree = verdicts.iter().all(Line::is_ok) && after.admitted - before.admitted == admitted;
    let (batches, batched) = (after.batches - before.batches, after.batched_requests - before.batched_requests);
    let seconds = took.as_secs_f64();
    Traffic {
        measured: "demo traffic from the same machine: merchants, gate and stand-in share its cores; closed loop",
        debug_build: cfg!(debug_assertions),
        seconds,
        connections: CONNECTIONS,
        client_threads: threads,
        requests,
        requests_per_second: float(requests) / seconds,
        latency_us: latency(tally.samples_us),
        batch_requests_mean: (batches > 0).then(|| float(batched) / float(batches)),
        signed_ahead: signing.ahead,
        signed_while_running: signing.running,
        signing_threads: signing.threads,
        waits_for_signing: tally.waits,
        verdicts,
        ok: counts_agree && tally.differences.is_empty() && requests > 0,
        differences: tally.differences,
        receipts: tally.receipts,
    }
}

fn lines(tally: &Tally, counted: &Counts) -> Vec<Line> {
    let mut lines: Vec<Line> = tally
        .verdicts
        .iter()
        .map(|(verdict, (expected, seen))| {
            let counted = match verdict {
                Verdict::Admitted(_) => None,
                Verdict::Refused(reason) => Some(counted.get(reason).copied().unwrap_or(0)),
            };
            let (expected, seen, admitted) = (*expected, *seen, counted.is_none());
            Line { verdict: verdict.as_str(), admitted, expected, seen, counted }
        })
        .collect();
    // What the gate refused for a reason that no request was to be refused for.
    for (reason, count) in
        counted.iter().filter(|(reason, _)| !tally.verdicts.contains_key(&Verdict::Refused(**reason)))
    {
        lines.push(Line { verdict: reason.as_str(), admitted: false, expected: 0, seen: 0, counted: Some(*count) });
    }
    lines
}

fn counted(before: &Snapshot, after: &Snapshot) -> Counts {
    let before: Counts = before.refused.iter().copied().collect();
    let since = after.refused.iter().map(|(reason, count)| (*reason, count - before.get(reason).copied().unwrap_or(0)));
    since.filter(|(_, count)| *count > 0).collect()
}

fn latency(mut samples_us: Vec<u32>) -> Latency {
    samples_us.sort_unstable();
    // The smallest sample that so many per mille of all are not above.
    let at = |permille: usize| {
        let rank = (samples_us.len() * permille).div_ceil(1000);
        samples_us.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    };
    Latency { p50: at(500), p99: at(990), max: at(1000) }
}

fn float(count: u64) -> f64 {
    // Exact up to 2^53, which no demo reaches.
    count as f64
}

/// What came of the requests of one or more connections.
#[derive(Default)]
struct Tally {
    samples_us: Vec<u32>,
    /// Expected and seen.
    verdicts: BTreeMap<Verdict, (u64, u64)>,
    receipts: BTreeMap<&'static str, i64>,
    differences: Vec<String>,
    waits: u64,
}

impl Tally {
    fn note(&mut self, verdict: Verdict, took: Duration, difference: Option<String>) {
        self.samples_us.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        let (expected, seen) = self.verdicts.entry(verdict).or_default();
        *expected += 1;
        *seen += u64::from(difference.is_none());
        self.differ(difference);
    }

    fn receive(&mut self, receipts: Option<Receipts>) {
        if let Some((mchid, fen)) = receipts {
            *self.receipts.entry(mchid).or_default() += fen;
        }
    }

    fn differ(&mut self, difference: Option<String>) {
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.extend(difference);
        }
    }

    fn add(&mut self, other: Self) {
        self.samples_us.extend(other.samples_us);
        for (verdict, (expected, seen)) in other.verdicts {
            let line = self.verdicts.entry(verdict).or_default();
            *line = (line.0 + expected, line.1 + seen);
        }
        other.receipts.into_iter().for_each(|receipts| self.receive(Some(receipts)));
        other.differences.into_iter().for_each(|difference| self.differ(Some(difference)));
        self.waits += other.waits;
    }
}

/// One thread of clients.
struct Client {
    doors: Doors,
    keyring: Keyring,
    source: Receiver<Scripted>,
    connections: usize,
    lasts: Duration,
    all_connected: Arc<Barrier>,
    /// Requests sent by all clients.
    sent: Arc<AtomicU64>,
}

impl Client {
    fn run(self) -> Result<Tally, DemoError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let connected = runtime.map_err(DemoError::from).and_then(|runtime| {
            let connections = runtime.block_on(self.connect())?;
            Ok((runtime, connections))
        });
        // Whether or not they could connect: the others wait here.
        self.all_connected.wait();
        let (runtime, connections) = connected?;
        let until = Instant::now() + self.lasts;
        runtime.block_on(async {
            let client = Arc::new(self);
            let converse = |connection| tokio::spawn(Arc::clone(&client).converse(connection, until));
            let conversations: Vec<_> = connections.into_iter().map(converse).collect();
            let mut tally = Tally::default();
            for conversation in conversations {
                tally.add(conversation.await.map_err(|_| DemoError::Thread)?);
            }
            Ok(tally)
        })
    }

    async fn connect(&self) -> Result<Vec<Connection>, DemoError> {
        let mut connections = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            connections.push(self.doors.open(Door::Public).await?);
        }
        Ok(connections)
    }

    async fn converse(self: Arc<Self>, mut connection: Connection, until: Instant) -> Tally {
        let mut tally = Tally::default();
        // Relaxed: the counter publishes nothing but itself.
        while Instant::now() < until && self.sent.load(Ordering::Relaxed) < EXCHANGES_MAX - EXCHANGES_SPARE {
            let Ok(scripted) = self.source.try_recv() else {
                tally.waits += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            };
            // What lay too long is no longer fresh.
            if scripted.signed_at.elapsed() > SIGNED_AGE_MAX {
                continue;
            }
            for Exchange { signed, verdict, receipts } in scripted.exchanges {
                self.sent.fetch_add(1, Ordering::Relaxed);
                let began = Instant::now();
                match connection.send(signed.request()).await {
                    Ok(answer) => {
                        tally.note(verdict, began.elapsed(), self.difference(verdict, &answer));
                        tally.receive(receipts.filter(|_| answer.is_success()));
                    }
                    Err(error) => {
                        // The connection is of no further use.
                        tally.note(verdict, began.elapsed(), Some(format!("{}: {error}", verdict.as_str())));
                        return tally;
                    }
                }
            }
        }
        tally
    }

    fn difference(&self, verdict: Verdict, answer: &Answer) -> Option<String> {
        let signed = match self.keyring.verify(answer) {
            Signature::Absent => Some(false),
            Signature::By(_) => Some(true),
            Signature::Broken => None,
        };
        let as_expected = match verdict {
            Verdict::Admitted(_) => answer.is_success() && signed == Some(true),
            Verdict::Refused(reason) => {
                let wire = wire(reason);
                (answer.status, &*answer.code(), signed) == (wire.status, wire.code, Some(wire.signed))
            }
        };
        let differs = || format!("{}: {} {}, signed {signed:?}", verdict.as_str(), answer.status, answer.code());
        (!as_expected).then(differs)
    }
}

/// Connections in all.
pub(super) const CONNECTIONS: usize = 64;

/// Most requests of one demo; traffic ends early where it is reached.
pub(super) const EXCHANGES_MAX: u64 = 3_000_000;

/// More than all connections can have under way between two looks at the count.
const EXCHANGES_SPARE: u64 = 1024;

const CLIENT_THREADS_MAX: usize = 4;

/// Requests to sign ahead for each second, and at most; and the longest time to spend on it.
const AHEAD_PER_SECOND: usize = 4000;
const AHEAD_MAX: usize = 20_000;
const AHEAD_S_MAX: u64 = 3;

/// Oldest request that is still sent: well below the gate's tolerance of 300 s.
const SIGNED_AGE_MAX: Duration = Duration::from_secs(200);

const DIFFERENCES_MAX: usize = 20;
