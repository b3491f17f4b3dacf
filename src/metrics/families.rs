//! The declarations: name as scraped, unit, kind, and what to do when it rises.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// One metric.
#[derive(Debug)]
pub(super) struct Family {
    /// The name as scraped, its unit and, of a counter or an info, the suffix of its kind included.
    pub name: &'static str,
    /// The unit that ends the name, less the suffix of the kind; `None` for counts and units OpenMetrics has no word for.
    pub unit: Option<Unit>,
    /// What kind of metric it is.
    pub kind: MetricType,
    /// What it counts, and what to do when it rises.
    pub help: &'static str,
}

impl Family {
    /// Returns the name without unit and suffix, to which the encoder adds them again.
    pub fn stem(&self) -> &'static str {
        let name = match self.kind {
            MetricType::Counter => without(self.name, "total"),
            MetricType::Info => without(self.name, "info"),
            MetricType::Gauge | MetricType::Histogram | MetricType::Unknown => self.name,
        };
        self.unit.as_ref().map_or(name, |unit| without(name, unit.as_str()))
    }
}

fn without(name: &'static str, ending: &str) -> &'static str {
    name.strip_suffix(ending).and_then(|name| name.strip_suffix('_')).unwrap_or(name)
}

pub(super) static DECISIONS: Family = Family {
    name: "tollgate_decisions_total",
    unit: None,
    kind: MetricType::Counter,
    help: "Verdicts by reason. When one reason rises, its name says whom to ask: signature_*, nonce_* and \
           authorization_* the merchants' integrations, limit_* and merchant_* the operator's policy, *_table_full \
           the table bounds, upstream_* the upstream.",
};

pub(super) static DUPLICATES: Family = Family {
    name: "tollgate_duplicates_total",
    unit: None,
    kind: MetricType::Counter,
    help: "Admissions that found an earlier decision on the same order and took nothing more. When it rises, clients \
           are retrying: look at the upstream stage and at upstream_* refusals.",
};

pub(super) static SHADOW_REFUSALS: Family = Family {
    name: "tollgate_shadow_refusals_total",
    unit: None,
    kind: MetricType::Counter,
    help: "Admissions that a shadow limit would have refused, once for each such limit. GET /v1/decisions names the \
           limits: where too many honest payments are among them, raise the ceilings before you enforce.",
};

pub(super) static REQUESTS: Family = Family {
    name: "tollgate_requests_total",
    unit: None,
    kind: MetricType::Counter,
    help: "Requests whose head was read. When it rises beyond what the gate was sized for, add workers or gates.",
};

pub(super) static BATCH_REQUESTS: Family = Family {
    name: "tollgate_batch_requests",
    unit: None,
    kind: MetricType::Histogram,
    help: "Requests decided together. Rises with load, by design; when most batches are of the largest size, a worker \
           is saturated: add workers.",
};

pub(super) static STAGE_SECONDS: Family = Family {
    name: "tollgate_stage_seconds",
    unit: Some(Unit::Seconds),
    kind: MetricType::Histogram,
    help: "Time by stage; decide is per batch. When body rises, clients send slowly; queue or decide, add workers; \
           upstream, look there; sign, add signing threads.",
};

pub(super) static CLOCK_SKEW_SECONDS: Family = Family {
    name: "tollgate_clock_skew_seconds",
    unit: Some(Unit::Seconds),
    kind: MetricType::Histogram,
    help: "How far the timestamps of authentic requests are ahead of or behind the gate's clock. When one direction \
           rises for everybody, the gate's clock is off: check its time synchronisation.",
};

pub(super) static CONNECTIONS: Family = Family {
    name: "tollgate_connections",
    unit: None,
    kind: MetricType::Gauge,
    help: "Connections open. When it nears its bound, look for clients that do not reuse or close connections, or \
           raise the bound.",
};

pub(super) static CONNECTIONS_OPENED: Family = Family {
    name: "tollgate_connections_opened_total",
    unit: None,
    kind: MetricType::Counter,
    help: "Connections accepted. When it rises as fast as the requests, clients do not reuse connections.",
};

pub(super) static CONNECTIONS_CLOSED: Family = Family {
    name: "tollgate_connections_closed_total",
    unit: None,
    kind: MetricType::Counter,
    help: "Connections that ended. When it falls behind the connections opened, clients hold connections idle: \
           shorten the idle timeout.",
};

pub(super) static CONNECTIONS_REFUSED: Family = Family {
    name: "tollgate_connections_refused_total",
    unit: None,
    kind: MetricType::Counter,
    help: "Connections closed at once because a bound was reached. When it rises, find who opens them, or raise the \
           bound on connections.",
};

pub(super) static MULTIPLEXED_CONNECTIONS: Family = Family {
    name: "tollgate_multiplexed_connections_total",
    unit: None,
    kind: MetricType::Counter,
    help: "Connections that spoke HTTP/2. When it stays behind the connections opened, the others speak HTTP/1.1.",
};

pub(super) static STREAMS_RESET: Family = Family {
    name: "tollgate_streams_reset_total",
    unit: None,
    kind: MetricType::Counter,
    help: "Streams that callers reset before their end. When it rises, callers give up waiting: look at the stages for \
           what is slow.",
};

pub(super) static FLOODS_ENDED: Family = Family {
    name: "tollgate_floods_ended_total",
    unit: None,
    kind: MetricType::Counter,
    help: "Connections ended since more streams were reset, or more frames came that carry nothing, than the bounds \
           h2_resets_max and h2_frames_max allow. When it rises, find who does it, or raise the bound.",
};

pub(super) static HANDSHAKES_FAILED: Family = Family {
    name: "tollgate_handshakes_failed_total",
    unit: None,
    kind: MetricType::Counter,
    help: "TLS handshakes that failed or took too long. When it rises after a change of certificates, clients do not \
           trust the new one; otherwise look for scanners.",
};

pub(super) static ACCEPTS_FAILED: Family = Family {
    name: "tollgate_accepts_failed_total",
    unit: None,
    kind: MetricType::Counter,
    help: "Failures of a listener to accept. When it rises, raise the limit on open files or lower the bound on \
           connections.",
};

pub(super) static TABLE_ENTRIES: Family = Family {
    name: "tollgate_table_entries",
    unit: None,
    kind: MetricType::Gauge,
    help: "Entries held by table. When it nears tollgate_table_entries_max, requests will be refused with \
           *_table_full: raise the bound of that table.",
};

pub(super) static TABLE_ENTRIES_MAX: Family = Family {
    name: "tollgate_table_entries_max",
    unit: None,
    kind: MetricType::Gauge,
    help: "Most entries that a table holds, as configured. It rises only when the configuration does.",
};

pub(super) static ROWS_BYTES: Family = Family {
    name: "tollgate_limit_rows_bytes",
    unit: Some(Unit::Bytes),
    kind: MetricType::Gauge,
    help: "Memory of the table of limit rows. When it nears what the host can spare, lower the bound of the table.",
};

pub(super) static ROWS_SLICED: Family = Family {
    name: "tollgate_limit_rows_sliced",
    unit: None,
    kind: MetricType::Gauge,
    help: "Limit rows so busy that each worker has a slice of their room. When it rises, a few merchants or customers make \
           most of the traffic; nothing to do.",
};

pub(super) static CONSERVATION_ERROR: Family = Family {
    name: "tollgate_conservation_error",
    unit: None,
    kind: MetricType::Gauge,
    help: "What the limit rows show as used, less what was taken from them and not given back, as an absolute value. Absent \
           while traffic is too heavy to tell. It must be 0: when it is not, stop the gate and report it.",
};

pub(super) static HOLDS: Family = Family {
    name: "tollgate_holds",
    unit: None,
    kind: MetricType::Gauge,
    help: "Orders whose outcome is not known yet, by age. When the older ones rise, orders are neither queried, closed nor \
           settled: call the settle endpoint, or let merchants query.",
};

pub(super) static HOLDS_FEN: Family = Family {
    name: "tollgate_holds_fen",
    unit: None,
    kind: MetricType::Gauge,
    help: "Money that such orders hold, in fen, by age. When it rises, limits fill with orders that may come to nothing.",
};

pub(super) static SETTLEMENTS: Family = Family {
    name: "tollgate_settlements_total",
    unit: None,
    kind: MetricType::Counter,
    help: "Orders settled otherwise than by an answer. When expired rises, orders are created and not paid; expired_kept, \
           the upstream's answers get lost; committed_late, payments are reported after their hold ran out and may have \
           passed a ceiling: raise hold_s; paid_after_release, an order that was released was paid all the same: correct \
           its limits by hand.",
};

pub(super) static SETTLEMENTS_FEN: Family = Family {
    name: "tollgate_settlements_fen_total",
    unit: None,
    kind: MetricType::Counter,
    help: "Money of such orders, in fen. When committed_late rises, that much may stand above ceilings until windows end.",
};

pub(super) static CERTIFICATE_DAYS_LEFT: Family = Family {
    name: "tollgate_certificate_days_left",
    unit: None,
    kind: MetricType::Gauge,
    help: "Days until the first certificate of a kind expires, negative once it has. It should rise at every renewal; \
           when it falls under 30, renew.",
};

pub(super) static REVOCATION_LIST_DAYS_LEFT: Family = Family {
    name: "tollgate_revocation_list_days_left",
    unit: None,
    kind: MetricType::Gauge,
    help: "Days until the first revocation list stops counting, negative once it has: what it covers is refused then with \
           revocation_unknown. It should rise with every reload that brings a newer list; when it falls under 1, find out \
           why none came.",
};

pub(super) static MERCHANTS: Family = Family {
    name: "tollgate_merchants",
    unit: None,
    kind: MetricType::Gauge,
    help: "Merchants in the policy in force. When it jumps, compare the policy that was loaded last with the one before.",
};

pub(super) static BODIES_BYTES: Family = Family {
    name: "tollgate_bodies_bytes",
    unit: Some(Unit::Bytes),
    kind: MetricType::Gauge,
    help: "Request bodies being held. When it nears its budget, requests will be refused with body_budget_exhausted: \
           find who sends slowly, or raise the budget.",
};

pub(super) static ANSWERS_BYTES: Family = Family {
    name: "tollgate_answers_bytes",
    unit: Some(Unit::Bytes),
    kind: MetricType::Gauge,
    help: "Answers of the upstream being held. When it nears its budget, answers will be refused with upstream_broken: \
           find who reads slowly, or raise the budget.",
};

pub(super) static CELLS_USED: Family = Family {
    name: "tollgate_limit_cells_used",
    unit: None,
    kind: MetricType::Gauge,
    help: "Windows of limits of which something is used. Rises with customers and merchants; what is over counts until its \
           row is freed.",
};

pub(super) static JOURNAL_EXPOSED_FEN: Family = Family {
    name: "tollgate_journal_exposed_fen",
    unit: None,
    kind: MetricType::Gauge,
    help: "Money charged by records that a loss of power would take now. When it nears exposure_fen, decisions wait for the \
           disk: look at its sync times.",
};

pub(super) static JOURNAL_EXPOSED_SECONDS: Family = Family {
    name: "tollgate_journal_exposed_seconds",
    unit: Some(Unit::Seconds),
    kind: MetricType::Gauge,
    help: "Age of the oldest record that a loss of power would take now. When it nears exposure_ms, decisions wait for the \
           disk: look at its sync times.",
};

pub(super) static JOURNAL_GIVE_BACKS: Family = Family {
    name: "tollgate_journal_give_backs_waiting",
    unit: None,
    kind: MetricType::Gauge,
    help: "Give-backs and freed order numbers that wait until their records are safe. When it rises and stays, the disk \
           does not keep up.",
};

pub(super) static JOURNAL_FULL: Family = Family {
    name: "tollgate_journal_full",
    unit: None,
    kind: MetricType::Gauge,
    help: "1 while the disk has no room for the next file of the journal, else 0. At 1, free space before the files in \
           use are full: then decisions are refused with journal_full.",
};

pub(super) static JOURNAL_FAILED: Family = Family {
    name: "tollgate_journal_failed",
    unit: None,
    kind: MetricType::Gauge,
    help: "1 once a write or a sync of the journal failed, else 0. At 1 nothing is acknowledged and the gate ends: look at \
           the disk, then start it again.",
};

pub(super) static STORE_BEHIND_RECORDS: Family = Family {
    name: "tollgate_store_behind_records",
    unit: None,
    kind: MetricType::Gauge,
    help: "Records in full files of the journal that the store does not have yet. When it rises and stays, the store does \
           not keep up: a start takes longer, and the journal keeps more files.",
};

pub(super) static STORE_BEHIND_FEN: Family = Family {
    name: "tollgate_store_behind_fen",
    unit: None,
    kind: MetricType::Gauge,
    help: "What records in full files of the journal charge that the store does not have yet, in fen: what limits would \
           miss after a start without these files.",
};

pub(super) static STORE_BEHIND_SECONDS: Family = Family {
    name: "tollgate_store_behind_seconds",
    unit: Some(Unit::Seconds),
    kind: MetricType::Gauge,
    help: "Age of the oldest record in full files of the journal that the store does not have yet. When it rises and \
           stays, read the log: the store fails or is slow.",
};

pub(super) static SIGNING_QUEUE: Family = Family {
    name: "tollgate_signing_queue",
    unit: None,
    kind: MetricType::Gauge,
    help: "Answers waiting to be signed. When it rises and stays, add signing threads.",
};

pub(super) static READY: Family = Family {
    name: "tollgate_ready",
    unit: None,
    kind: MetricType::Gauge,
    help: "1 while the gate takes requests, else 0. When it is 0 for longer than a start or a drain, read the log.",
};

pub(super) static BUILD: Family = Family {
    name: "tollgate_build_info",
    unit: None,
    kind: MetricType::Info,
    help: "The version that runs. Gates that differ for longer than a rollout: finish it.",
};

/// Every family, for the tests.
#[cfg(test)]
pub(super) static ALL: [&Family; 42] = [
    &DECISIONS,
    &DUPLICATES,
    &SHADOW_REFUSALS,
    &REQUESTS,
    &BATCH_REQUESTS,
    &STAGE_SECONDS,
    &CLOCK_SKEW_SECONDS,
    &CONNECTIONS,
    &CONNECTIONS_OPENED,
    &CONNECTIONS_CLOSED,
    &CONNECTIONS_REFUSED,
    &MULTIPLEXED_CONNECTIONS,
    &STREAMS_RESET,
    &FLOODS_ENDED,
    &HANDSHAKES_FAILED,
    &ACCEPTS_FAILED,
    &TABLE_ENTRIES,
    &TABLE_ENTRIES_MAX,
    &ROWS_BYTES,
    &ROWS_SLICED,
    &CONSERVATION_ERROR,
    &HOLDS,
    &HOLDS_FEN,
    &SETTLEMENTS,
    &SETTLEMENTS_FEN,
    &CERTIFICATE_DAYS_LEFT,
    &REVOCATION_LIST_DAYS_LEFT,
    &MERCHANTS,
    &BODIES_BYTES,
    &ANSWERS_BYTES,
    &CELLS_USED,
    &JOURNAL_EXPOSED_FEN,
    &JOURNAL_EXPOSED_SECONDS,
    &JOURNAL_GIVE_BACKS,
    &JOURNAL_FULL,
    &JOURNAL_FAILED,
    &STORE_BEHIND_RECORDS,
    &STORE_BEHIND_FEN,
    &STORE_BEHIND_SECONDS,
    &SIGNING_QUEUE,
    &READY,
    &BUILD,
];
