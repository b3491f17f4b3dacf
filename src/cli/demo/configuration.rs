//! The configuration of the demo's gates: each differs by a few bounds, and in whose merchants and limits it has.

use std::path::{Path, PathBuf};

use super::DemoError;
use super::accounts::write;
use super::presets;

/// Whose merchants and limits a gate has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limits {
    /// The demo's own.
    Own,
    /// All that come with the gate, and a merchant for each category and risk level.
    Presets,
}

/// Whether a gate records what it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// It does not: the case is about something else.
    Not,
    /// In a folder of its own.
    OnItsOwn,
}

/// Whether a gate goes by revocation lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lists {
    /// It does not: the case is about something else.
    None,
    /// By that of the demo's authority.
    Own,
}

/// What differs between the gates.
#[derive(Clone)]
pub(super) struct Bounds {
    pub limits: Limits,
    pub recorded: Recorded,
    pub lists: Lists,
    /// Worker threads; 0 means one per core.
    pub workers: u32,
    pub upstream: String,
    pub answer_timeout_ms: u64,
    pub body_bytes_max: u64,
    pub bodies_bytes_max: u64,
    pub body_timeout_ms: u64,
    pub nonces_max: u64,
    pub nonces_per_merchant_max: u64,
    pub orders_max: u64,
    pub orders_per_merchant_max: u64,
    pub rows_max: u64,
    pub rows_per_merchant_max: u64,
    pub signing_threads: usize,
    pub signing_queue_max: u64,
}

impl Bounds {
    /// Makes the bounds of the gate that takes the traffic; every table holds all that a demo can send.
    pub fn roomy(upstream: String) -> Self {
        Self {
            limits: Limits::Own,
            recorded: Recorded::OnItsOwn,
            lists: Lists::None,
            workers: 0,
            upstream,
            answer_timeout_ms: 10_000,
            body_bytes_max: 64 * 1024,
            bodies_bytes_max: 64 * MIB,
            body_timeout_ms: 5000,
            nonces_max: ENTRIES,
            nonces_per_merchant_max: ENTRIES,
            orders_max: ENTRIES,
            orders_per_merchant_max: ENTRIES,
            rows_max: ENTRIES,
            rows_per_merchant_max: ENTRIES,
            signing_threads: std::thread::available_parallelism().map_or(1, usize::from),
            signing_queue_max: 1024,
        }
    }

    /// Makes the bounds of a gate for one case: one worker, and whatever the case makes small.
    pub fn small(upstream: String) -> Self {
        Self { recorded: Recorded::Not, workers: 1, signing_threads: 1, ..Self::roomy(upstream) }
    }

    /// Writes the configuration of a gate into the demo's folder.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn write(&self, folder: &Path, name: &str, platform_serial: &str) -> Result<PathBuf, DemoError> {
        let (presets, rest) = match self.limits {
            Limits::Own => (String::new(), [MERCHANTS, LIMITS].join("\n")),
            Limits::Presets => (presets::names(), presets::merchants()),
        };
        let journal = match self.recorded {
            Recorded::Not => String::new(),
            Recorded::OnItsOwn => format!(
                "[journal]\nfolder = \"{name}.journal\"\nsegment_bytes = {JOURNAL_BYTES_MIN}\nreserve_bytes = \
                 {JOURNAL_BYTES_MIN}"
            ),
        };
        let lists = match self.lists {
            Lists::None => "",
            Lists::Own => "crl_files = [\"authority/revoked.pem\"]",
        };
        let values: [(&str, &dyn std::fmt::Display); 18] = [
            ("lists", &lists),
            ("journal", &journal),
            ("presets", &presets),
            ("workers", &self.workers),
            ("upstream", &self.upstream),
            ("answer_timeout_ms", &self.answer_timeout_ms),
            ("body_bytes_max", &self.body_bytes_max),
            ("bodies_bytes_max", &self.bodies_bytes_max),
            ("body_timeout_ms", &self.body_timeout_ms),
            ("nonces_max", &self.nonces_max),
            ("nonces_per_merchant_max", &self.nonces_per_merchant_max),
            ("orders_max", &self.orders_max),
            ("orders_per_merchant_max", &self.orders_per_merchant_max),
            ("rows_max", &self.rows_max),
            ("rows_per_merchant_max", &self.rows_per_merchant_max),
            ("signing_threads", &self.signing_threads),
            ("signing_queue_max", &self.signing_queue_max),
            ("platform_serial", &platform_serial),
        ];
        let fill = |text: String, (key, value): (&str, &dyn std::fmt::Display)| {
            text.replace(&format!("{{{{{key}}}}}"), &value.to_string())
        };
        let text = values.into_iter().fold(GATE.to_owned(), fill);
        let path = folder.join(format!("{name}.toml"));
        write(&path, &[text, rest].join("\n"))?;
        Ok(path)
    }
}

const GATE: &str = include_str!("tollgate.toml");
const MERCHANTS: &str = include_str!("merchants.toml");
const LIMITS: &str = include_str!("limits.toml");

/// Bytes of a file of a journal.
pub(super) const JOURNAL_BYTES_MIN: u64 = crate::journal::SEGMENT_BYTES_MIN;

/// Entries of each table: above [`super::traffic::EXCHANGES_MAX`].
const ENTRIES: u64 = 4_000_000;
const _: () = assert!(ENTRIES > super::traffic::EXCHANGES_MAX);

const MIB: u64 = 1024 * 1024;
