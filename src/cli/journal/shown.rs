//! Records as the operator reads them: a line of words, or an object of JSON. Digests of nonces and orders are not shown.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Serialize;

use super::time;
use crate::cli::usage::table::{printable, yuan};
use crate::journal::{
    Cause, ChangeEntry, DecisionEntry, Entry, Image, ImagePhase, ImageStake, NO_WINDOW, Name, OpenFault, Recorded,
    RowPart,
};
use crate::time::UnixMillis;
use crate::types::{MerchantId, Operation, Window};

/// Knows the limits by the marks that records have for them.
#[derive(Debug, Default)]
pub(in crate::cli) struct Names {
    labels: BTreeMap<u32, Name>,
    /// The labels of rows: records of what became of an order later do not repeat them.
    rows: HashMap<u128, u32>,
}

/// One record.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Shown {
    at: Option<jiff::Timestamp>,
    #[serde(skip)]
    time: UnixMillis,
    writer: u16,
    sequence: u64,
    #[serde(flatten)]
    pub what: What,
}

/// What it says.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "one is held at a time")]
pub(in crate::cli) enum What {
    Decision(Decision),
    Change { cause: &'static str, orders: Vec<Order> },
    Label { label: u32, name: String },
    Clock { accepted: bool },
}

/// A decision.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Decision {
    pub decision: String,
    pub merchant: MerchantId,
    pub operation: Operation,
    pub verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The limit that refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<&'static str>,
    pub amount_fen: u64,
    pub duplicate: bool,
    pub shadowed: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
}

/// An order as it is since.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Order {
    pub decision: String,
    pub merchant: MerchantId,
    pub state: &'static str,
    revision: u32,
    pub amount_fen: u64,
    pub refunded_fen: u64,
    since: Option<jiff::Timestamp>,
    expires: Option<jiff::Timestamp>,
    keep_on_expiry: bool,
    #[serde(flatten)]
    stake: Stake,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Stake {
    Payment {
        charges: Vec<Charge>,
    },
    Refund {
        refund_fen: u64,
        /// The decision on the payment; null where the gate did not know it.
        payment: Option<String>,
    },
}

/// What is charged to one row of a limit.
#[derive(Debug, Serialize)]
struct Charge {
    /// Id, zone, cut-over hour and unit; absent where no record that is left names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<String>,
    row: String,
    counts: bool,
    windows: Vec<u16>,
    charged: u64,
}

impl Names {
    pub fn new(labels: BTreeMap<u32, Name>) -> Self {
        Self { labels, rows: HashMap::new() }
    }

    /// Reads a record. To be given every record, in their order.
    ///
    /// # Errors
    /// [`OpenFault::Unreadable`].
    pub fn read(&mut self, folder: &std::path::Path, record: &Recorded<'_>) -> Result<Entry, OpenFault> {
        let (id, offset) = record.place;
        let unreadable = |_| OpenFault::Unreadable { path: id.path(folder).display().to_string(), offset };
        let entry = Entry::from_bytes(record.payload).map_err(unreadable)?;
        match &entry {
            Entry::Decision(decision) => decision.order.iter().for_each(|order| self.note(order)),
            Entry::Change(change) => change.orders.iter().for_each(|order| self.note(order)),
            Entry::Label { label, name } => drop(self.labels.insert(*label, name.as_str().into())),
            Entry::Clock { .. } => {}
        }
        Ok(entry)
    }

    fn note(&mut self, order: &Image) {
        for part in order.charged().filter(|part| part.label != 0) {
            if self.rows.len() < ROWS_MAX || self.rows.contains_key(&part.row) {
                self.rows.insert(part.row, part.label);
            }
        }
    }

    pub fn show(&self, record: &Recorded<'_>, entry: Entry) -> Shown {
        let what = match entry {
            Entry::Decision(decision) => What::Decision(self.decision(*decision)),
            Entry::Change(ChangeEntry { cause, orders }) => What::Change {
                cause: cause_name(cause),
                orders: orders.iter().map(|order| self.order(order)).collect(),
            },
            Entry::Label { label, name } => What::Label { label, name },
            Entry::Clock { accepted } => What::Clock { accepted },
        };
        let time = record.frame.at;
        Shown { at: stamp(time), time, writer: record.writer, sequence: record.frame.sequence, what }
    }

    fn decision(&self, entry: DecisionEntry) -> Decision {
        let DecisionEntry {
            decision, merchant, operation, amount_fen, refused, limit, duplicate, shadowed, order, ..
        } = entry;
        let window = |window: Option<Window>| window.map_or("transaction", Window::as_str);
        Decision {
            decision: decision.to_string(),
            merchant,
            operation,
            verdict: if refused.is_some() { "refused" } else { "admitted" },
            reason: refused.map(|reason| reason.to_string()),
            window: limit.as_ref().map(|(_, name)| window(*name)),
            limit: limit.map(|(id, _)| id.to_string()),
            amount_fen,
            duplicate,
            shadowed: shadowed.iter().map(|id| id.to_string()).collect(),
            order: order.map(|order| self.order(&order)),
        }
    }

    fn order(&self, image: &Image) -> Order {
        let stake = match &image.stake {
            ImageStake::Payment(_) => {
                Stake::Payment { charges: image.charged().map(|part| self.charge(part)).collect() }
            }
            ImageStake::Refund { original, fen } => {
                Stake::Refund { refund_fen: *fen, payment: original.map(|original| original.to_string()) }
            }
        };
        let seconds = |seconds: u32| stamp(UnixMillis::from_seconds(seconds.into()));
        Order {
            decision: image.decision.to_string(),
            merchant: image.merchant,
            state: match image.phase {
                ImagePhase::Held => "held",
                ImagePhase::Committed => "committed",
                ImagePhase::Expired => "expired",
                ImagePhase::Released => "released",
            },
            revision: image.revision,
            amount_fen: image.amount_fen,
            refunded_fen: image.refunded_fen,
            since: seconds(image.since_s),
            expires: seconds(image.expires_s),
            keep_on_expiry: image.keep_on_expiry,
            stake,
        }
    }

    fn charge(&self, part: &RowPart) -> Charge {
        let label = if part.label == 0 { self.rows.get(&part.row).copied().unwrap_or(0) } else { part.label };
        Charge {
            limit: self.labels.get(&label).map(|name| name.to_string()),
            row: format!("{:032x}", part.row),
            counts: part.counts,
            windows: part.windows.into_iter().filter(|window| *window != NO_WINDOW).collect(),
            charged: part.charged,
        }
    }
}

impl Order {
    /// Names what it charges: the ids of limits, each with how much.
    pub fn charges(&self) -> String {
        match &self.stake {
            Stake::Payment { charges } => {
                let charges: Vec<String> = charges.iter().map(Charge::to_string).collect();
                charges.join(", ")
            }
            Stake::Refund { refund_fen, payment } => {
                format!("refund {} of {}", yuan(*refund_fen), payment.as_deref().unwrap_or("a payment not known"))
            }
        }
    }
}

impl fmt::Display for Charge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The id stands before zone, hour and unit.
        let id = self.limit.as_deref().and_then(|name| name.rsplitn(4, ' ').last()).unwrap_or(&self.row);
        let charged = if self.counts { format!("{} counted", self.charged) } else { yuan(self.charged) };
        write!(formatter, "{} {charged}", printable(id))
    }
}

impl fmt::Display for Order {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, refunded_fen, .. } = self;
        formatter.write_str(state)?;
        if *refunded_fen > 0 {
            write!(formatter, ", refunded {}", yuan(*refunded_fen))?;
        }
        let charges = self.charges();
        if charges.is_empty() { formatter.write_str("; charges nothing") } else { write!(formatter, "; {charges}") }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { decision, merchant, operation, verdict, amount_fen, .. } = self;
        write!(formatter, "decision {decision} {merchant} {operation} {} {verdict}", yuan(*amount_fen))?;
        if let Some(reason) = &self.reason {
            write!(formatter, " {}", printable(reason))?;
        }
        if let (Some(limit), Some(window)) = (&self.limit, self.window) {
            write!(formatter, " by {}, {window}", printable(limit))?;
        }
        if self.duplicate {
            formatter.write_str(", duplicate")?;
        }
        if !self.shadowed.is_empty() {
            write!(formatter, ", shadowed by {}", printable(&self.shadowed.join(" ")))?;
        }
        self.order.iter().try_for_each(|order| write!(formatter, ": {order}"))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}/{} ", time(self.time), self.writer, self.sequence)?;
        match &self.what {
            What::Decision(decision) => decision.fmt(formatter),
            What::Change { cause, orders } => {
                write!(formatter, "change by {cause}")?;
                orders.iter().try_for_each(|order| {
                    write!(formatter, " | {} {} {}: {order}", order.decision, order.merchant, yuan(order.amount_fen))
                })
            }
            What::Label { label, name } => write!(formatter, "label {label} is {}", printable(name)),
            What::Clock { accepted: false } => formatter.write_str("clock"),
            What::Clock { accepted: true } => formatter.write_str("clock, put back by the operator"),
        }
    }
}

fn stamp(at: UnixMillis) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(at.0).ok()
}

const fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Answer => "answer",
        Cause::Call => "call",
        Cause::Expiry => "expiry",
    }
}

/// Most rows whose limit is remembered; some 50 bytes each. Those beyond are shown by their keys.
const ROWS_MAX: usize = 1 << 22;
