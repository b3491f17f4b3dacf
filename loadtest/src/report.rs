//! What a run came to, in words and as JSON.

mod words;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::books::Verdict;
use crate::machine::{self, Machine};
use crate::run::Measured;
use crate::scenario::Scenario;
use crate::session::Options;
use crate::settling::{ADMISSIONS, Bookkeeper, Settles};
use crate::watch::Resident;

/// What a run came to. Latencies are in microseconds. What only a gate has is empty or absent for a bare server.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub scenario: Option<Scenario>,
    pub target: &'static str,
    /// `open`, or `closed`: then latencies count from sending and hide stalls.
    pub loop_kind: &'static str,
    pub tls: bool,
    pub connections: usize,
    pub key_primes: Option<usize>,
    pub signed_per_second: Option<f64>,
    pub took_s: f64,
    pub per_second: f64,
    pub sent: u64,
    pub unsent: u64,
    /// Refunds that were left out: their payments were refused, or not committed yet.
    pub withheld: u64,
    pub admitted: u64,
    pub refused: u64,
    /// Answers of a server that does not decide.
    pub answered: u64,
    pub timed_out: u64,
    pub failed: u64,
    /// Refusals by status and code, or in this process by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Answers to each kind of request: `admitted`, `duplicate` where the gate says so, or the code of a refusal. Behind a
    /// proxy nobody says so: there it is `admitted again` where the decision was known. What is delivered twice is admitted
    /// anew where its order was refused or released in between.
    pub answers: BTreeMap<&'static str, BTreeMap<String, u64>>,
    pub latency_us: Quantiles,
    pub service_us: Quantiles,
    /// How late the generator was by itself.
    pub lateness_us: Quantiles,
    /// Memory of the generator along the run, in KiB.
    pub resident_kib: Resident,
    /// Whether the generator kept up; else the latencies say nothing of the gate.
    pub valid: bool,
    /// Processor time of the gate or server while it was driven, in seconds.
    pub server_cpu_s: Option<f64>,
    /// What a decision took in this process, its signature included, in nanoseconds.
    pub decision_ns: Option<f64>,
    /// Requests that were sent again to learn what became of them, and those of which it is still unknown.
    pub resolved: usize,
    pub unresolved: usize,
    /// Whether all was settled that was to be.
    pub settled_all: bool,
    pub settles: Settles,
    pub payments_admitted: usize,
    pub payments_fen: u64,
    /// Refunds that were committed, and what they gave back of their payments.
    pub refunds: usize,
    pub refunds_fen: u64,
    /// Admissions of a decision that was known already, by the rig's own books: each counts once.
    pub repeats: u64,
    pub books: Option<Books>,
}

/// What the comparison of the books came to.
#[derive(Debug, Serialize)]
pub struct Books {
    pub balanced: bool,
    pub accounts: usize,
    pub used_fen: u64,
    /// The first of the differences, each with its subject.
    pub differences: Vec<String>,
    pub differences_count: usize,
}

/// A distribution, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: histogram.max() as f64 / 1e3 }
    }
}

impl Report {
    /// Puts together what was measured, of a target that keeps no books.
    pub fn new(options: &Options, measured: &Measured) -> Self {
        let done = measured.admitted + measured.refused + measured.answered;
        Self {
            machine: Machine::read(&machine::repository()),
            scenario: None,
            target: options.target.as_str(),
            loop_kind: if options.closed.is_some() { "closed" } else { "open" },
            tls: options.tls,
            connections: options.connections,
            key_primes: None,
            signed_per_second: None,
            took_s: measured.took.as_secs_f64(),
            per_second: done as f64 / measured.took.as_secs_f64().max(1e-9),
            sent: measured.sent,
            unsent: measured.unsent,
            withheld: measured.withheld,
            admitted: measured.admitted,
            refused: measured.refused,
            answered: measured.answered,
            timed_out: measured.timed_out,
            failed: measured.failed,
            refusals: BTreeMap::new(),
            answers: BTreeMap::new(),
            latency_us: Quantiles::of(&measured.latency),
            service_us: Quantiles::of(&measured.service),
            lateness_us: Quantiles::of(&measured.lateness),
            resident_kib: measured.resident,
            valid: measured.valid,
            server_cpu_s: None,
            decision_ns: None,
            resolved: 0,
            unresolved: 0,
            settled_all: true,
            settles: Settles::default(),
            payments_admitted: 0,
            payments_fen: 0,
            refunds: 0,
            refunds_fen: 0,
            repeats: 0,
            books: None,
        }
    }

    /// Adds what became of the payments of a scenario.
    pub fn with_books(
        self,
        options: &Options,
        scenario: &Scenario,
        keeper: &Bookkeeper<'_>,
        verdict: Verdict,
        signed_per_second: f64,
    ) -> Self {
        let (payments_admitted, payments_fen) = keeper.ledger.admitted();
        let (refunds, refunds_fen) = keeper.ledger.refunded();
        let differences_count = verdict.differences.len();
        let shown = verdict.differences.into_iter().take(DIFFERENCES_SHOWN).collect();
        Self {
            scenario: Some(scenario.clone()),
            key_primes: Some(options.primes),
            signed_per_second: Some(signed_per_second),
            refusals: refusals(&keeper.answers),
            answers: keeper.answers.clone(),
            settles: keeper.settles,
            payments_admitted,
            payments_fen,
            refunds,
            refunds_fen,
            repeats: keeper.ledger.repeats(),
            books: Some(Books {
                balanced: differences_count == 0,
                accounts: verdict.accounts,
                used_fen: verdict.used_fen,
                differences: shown,
                differences_count,
            }),
            ..self
        }
    }

    /// Tells whether the run counts, and the books balance. A server without books answers all, with what it always does.
    pub const fn is_good(&self) -> bool {
        let balanced = match &self.books {
            Some(books) => books.balanced && self.unresolved == 0 && self.settled_all && self.settles.refused == 0,
            None => self.refused == 0 && self.timed_out == 0 && self.failed == 0,
        };
        self.valid && balanced
    }

    /// Writes `result.json` to a folder that there is.
    ///
    /// # Errors
    /// Where that can't be done.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        std::fs::write(folder.join(RESULT_FILE), serde_json::to_vec_pretty(self)?)
    }
}

/// Adds up the refusals of all kinds of requests.
fn refusals(answers: &BTreeMap<&'static str, BTreeMap<String, u64>>) -> BTreeMap<String, u64> {
    let mut refusals = BTreeMap::new();
    for (answer, count) in answers.values().flatten().filter(|(answer, _)| !ADMISSIONS.contains(&answer.as_str())) {
        *refusals.entry(answer.clone()).or_default() += count;
    }
    refusals
}

/// Where the latencies go, second by second.
pub const LOG_FILE: &str = "latency.hlog";

const RESULT_FILE: &str = "result.json";

/// Most differences that a report names.
const DIFFERENCES_SHOWN: usize = 20;
