//! What a run came to: in words, as JSON, and as a log of histograms.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2Serializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use serde::Serialize;

use crate::books::Verdict;
use crate::machine::{self, Machine};
use crate::run::Measured;
use crate::scenario::Scenario;
use crate::session::{Options, TargetKind};
use crate::settling::Bookkeeper;

/// What a run came to. Latencies are in microseconds.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub scenario: Scenario,
    pub target: &'static str,
    /// `open`, or `closed`: then latencies count from sending and hide stalls.
    pub loop_kind: &'static str,
    pub tls: bool,
    pub connections: usize,
    pub key_primes: usize,
    pub signed_per_second: f64,
    pub took_s: f64,
    pub per_second: f64,
    pub sent: u64,
    pub unsent: u64,
    pub admitted: u64,
    pub refused: u64,
    pub timed_out: u64,
    pub failed: u64,
    /// Refusals by status and code, or in this process by reason.
    pub refusals: BTreeMap<String, u64>,
    pub latency_us: Quantiles,
    pub service_us: Quantiles,
    /// How late the generator was by itself.
    pub lateness_us: Quantiles,
    /// Whether the generator kept up; else the latencies say nothing of the gate.
    pub valid: bool,
    /// Processor time of the gate while it was driven, in seconds.
    pub gate_cpu_s: Option<f64>,
    /// What a decision took in this process, its signature included, in nanoseconds.
    pub decision_ns: Option<f64>,
    /// Requests that were sent again to learn what became of them, and those of which it is still unknown.
    pub resolved: usize,
    pub unresolved: usize,
    /// Whether all payments were settled that were to be, and how many the gate refused to settle.
    pub settled_all: bool,
    pub settles_refused: u64,
    pub payments_admitted: usize,
    pub payments_fen: u64,
    pub books: Books,
    #[serde(skip)]
    seconds: Vec<Histogram<u64>>,
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
    /// Puts a report together.
    pub fn new(
        options: &Options,
        scenario: &Scenario,
        measured: &Measured,
        keeper: &Bookkeeper<'_>,
        verdict: Verdict,
        signed_per_second: f64,
    ) -> Self {
        let (payments_admitted, payments_fen) = keeper.ledger.admitted();
        let differences_count = verdict.differences.len();
        let shown = verdict.differences.into_iter().take(DIFFERENCES_SHOWN).collect();
        let done = measured.admitted + measured.refused;
        Self {
            machine: Machine::read(&machine::repository()),
            scenario: scenario.clone(),
            target: match options.target {
                TargetKind::Check => "check",
                TargetKind::Proxy => "proxy",
                TargetKind::InProcess => "in-process",
            },
            loop_kind: if options.closed.is_some() { "closed" } else { "open" },
            tls: options.tls,
            connections: options.connections,
            key_primes: options.primes,
            signed_per_second,
            took_s: measured.took.as_secs_f64(),
            per_second: done as f64 / measured.took.as_secs_f64().max(1e-9),
            sent: measured.sent,
            unsent: measured.unsent,
            admitted: measured.admitted,
            refused: measured.refused,
            timed_out: measured.timed_out,
            failed: measured.failed,
            refusals: keeper.codes.clone(),
            latency_us: Quantiles::of(&measured.latency),
            service_us: Quantiles::of(&measured.service),
            lateness_us: Quantiles::of(&measured.lateness),
            valid: measured.valid,
            gate_cpu_s: None,
            decision_ns: None,
            resolved: 0,
            unresolved: 0,
            settled_all: true,
            settles_refused: keeper.refused_settles,
            payments_admitted,
            payments_fen,
            books: Books {
                balanced: differences_count == 0,
                accounts: verdict.accounts,
                used_fen: verdict.used_fen,
                differences: shown,
                differences_count,
            },
            seconds: measured.seconds.clone(),
        }
    }

    /// Tells whether the run counts, and the books balance.
    pub const fn is_good(&self) -> bool {
        self.valid && self.books.balanced && self.unresolved == 0 && self.settled_all
    }

    /// Writes the result in words.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| text.push_str(&format!("{name:<12} {value}\n"));
        let spread = |of: &Quantiles| {
            let Quantiles { p50, p90, p99, p999, max } = of;
            format!("p50 {p50:.0} us, p90 {p90:.0}, p99 {p99:.0}, p99.9 {p999:.0}, max {max:.0}")
        };
        line("scenario", self.scenario.about.clone());
        line(
            "target",
            format!(
                "{}, {} loop, {} connections, keys of {} primes",
                self.target, self.loop_kind, self.connections, self.key_primes
            ),
        );
        line(
            "requests",
            format!(
                "{} sent in {:.1} s, {:.0} a second; {} unsent",
                self.sent, self.took_s, self.per_second, self.unsent
            ),
        );
        line(
            "answers",
            format!(
                "{} admitted, {} refused, {} timed out, {} failed",
                self.admitted, self.refused, self.timed_out, self.failed
            ),
        );
        for (code, count) in &self.refusals {
            line("", format!("{count} {code}"));
        }
        line("latency", spread(&self.latency_us));
        line("service", spread(&self.service_us));
        line("lateness", spread(&self.lateness_us));
        if let Some(cpu_s) = self.gate_cpu_s {
            let each = cpu_s * 1e6 / (self.admitted + self.refused).max(1) as f64;
            line("gate", format!("{cpu_s:.2} s of processor time, {each:.1} us a request"));
        }
        if let Some(decision_ns) = self.decision_ns {
            line("decision", format!("{:.1} us, signature included", decision_ns / 1e3));
        }
        if self.resolved > 0 {
            line("unknown", format!("{} asked again, {} still unknown", self.resolved, self.unresolved));
        }
        let Books { accounts, used_fen, differences_count, .. } = &self.books;
        let verdict =
            if self.books.balanced { "balanced".to_owned() } else { format!("{differences_count} DIFFERENCES") };
        line(
            "books",
            format!(
                "{verdict}: {accounts} accounts, {used_fen} fen in them; {} payments of {} fen",
                self.payments_admitted, self.payments_fen
            ),
        );
        self.books.differences.iter().for_each(|difference| line("", difference.clone()));
        if !self.settled_all || self.settles_refused > 0 {
            line("settles", format!("{} refused by the gate; all done: {}", self.settles_refused, self.settled_all));
        }
        if !self.valid {
            line("INVALID", "the generator did not keep up: the latencies say nothing of the gate".to_owned());
        }
        text
    }

    /// Writes `result.json` and `latency.hlog` to a folder, which is made.
    ///
    /// # Errors
    /// Where that can't be done.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("result.json"), serde_json::to_vec_pretty(self)?)?;
        let mut log = Vec::new();
        self.write_log(&mut log).map_err(io::Error::other)?;
        std::fs::File::create(folder.join("latency.hlog"))?.write_all(&log)
    }

    /// Writes a histogram for each second, in nanoseconds.
    fn write_log(&self, log: &mut Vec<u8>) -> Result<(), String> {
        let mut serializer = V2Serializer::new();
        let mut writer = IntervalLogWriterBuilder::new()
            .add_comment("latencies in nanoseconds, by the second of the answer")
            .with_start_time(SystemTime::now())
            .with_base_time(SystemTime::now())
            .begin_log_with(log, &mut serializer)
            .map_err(|error| error.to_string())?;
        for (second, histogram) in self.seconds.iter().enumerate() {
            let start = Duration::from_secs(second as u64);
            let written = writer.write_histogram(histogram, start, Duration::from_secs(1), None);
            written.map_err(|error| format!("{error:?}"))?;
        }
        Ok(())
    }
}

/// Most differences that a report names.
const DIFFERENCES_SHOWN: usize = 20;
