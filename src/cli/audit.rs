//! `tollgate audit`: who asked for what, what was decided, and by which limits.

use std::io::Write;
use std::path::PathBuf;

use super::Failure;
use super::journal::shown::{Names, Shown, What};
use super::journal::{Found, finished, instant, time};
use super::usage::table::{printable, yuan};
use crate::journal::inspect;
use crate::journal::{Entry, Image};
use crate::replay::{Namespace, ORDERS_PURPOSE, OrderName, order_digest};
use crate::storage::Disk;
use crate::time::UnixMillis;
use crate::types::MerchantId;

/// What is looked for.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    /// The gate's configuration, which names the journal's folder and the key of order numbers.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// One merchant.
    #[arg(long, value_name = "MCHID")]
    merchant: Option<MerchantId>,
    /// One order or refund of the merchant, by its number; decisions that refused it bound no number and are not found.
    #[arg(long, value_name = "NUMBER", requires = "merchant")]
    order: Option<String>,
    /// From this instant on, such as 2026-11-21T09:30:00+08:00.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    since: Option<UnixMillis>,
    /// Before this instant.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    until: Option<UnixMillis>,
    /// Print JSON objects, one a line, instead of a table.
    #[arg(long)]
    json: bool,
}

/// Verifies the journal, and prints what is looked for.
pub(super) fn run(options: &Options, out: &mut dyn Write) -> Result<(), Failure> {
    let done = print(options, out);
    finished(done, out)
}

fn print(options: &Options, out: &mut dyn Write) -> Result<(), Failure> {
    let found = Found::by(&options.config)?;
    let inspection = inspect::segments(&Disk, &found.folder)?;
    found.check_key(&inspection)?;
    let wanted = Wanted::new(options, &found);
    let mut names = Names::new(inspection.labels().clone());
    if !options.json {
        row(out, ["time", "merchant", "operation", "yuan", "verdict", "decision", "limits"])?;
    }
    inspection.visit(&Disk, &mut |record| {
        let entry = names.read(inspection.folder(), record)?;
        if wanted.is(record.frame.at, &entry) {
            let shown = names.show(record, entry);
            if options.json { json(&shown, out)? } else { rows(&shown, record.frame.at, out)? }
        }
        Ok::<_, Failure>(())
    })?;
    if let Some(fault) = inspection.fault() {
        return Err(fault.into());
    }
    let segments = inspection.segments().len();
    let written = if options.json {
        writeln!(out, "{}", serde_json::json!({ "chain": "verified", "segments": segments }))
    } else {
        writeln!(out, "chain verified: {segments} segments")
    };
    written.map_err(Failure::Output)
}

/// Tells which records are looked for.
struct Wanted<'o> {
    options: &'o Options,
    /// What images have for the order's number, as a payment's and as a refund's.
    order: Option<[(u64, u64); 2]>,
}

impl<'o> Wanted<'o> {
    fn new(options: &'o Options, found: &Found) -> Self {
        let named = options.order.as_deref().zip(options.merchant.as_ref()).zip(found.key.as_ref());
        let order = named.map(|((number, merchant), key)| {
            let prf = key.derive(ORDERS_PURPOSE);
            [Namespace::Payment, Namespace::Refund]
                .map(|namespace| order_digest(&prf, OrderName { namespace, merchant, number }))
        });
        Self { options, order }
    }

    fn is(&self, at: UnixMillis, entry: &Entry) -> bool {
        let Options { merchant, since, until, .. } = self.options;
        if since.is_some_and(|since| at < since) || until.is_some_and(|until| at >= until) {
            return false;
        }
        let of_merchant = |one: MerchantId| merchant.is_none_or(|merchant| merchant == one);
        match entry {
            Entry::Decision(decision) => of_merchant(decision.merchant) && self.has_order(decision.order.as_slice()),
            Entry::Change(change) => {
                change.orders.iter().any(|order| of_merchant(order.merchant)) && self.has_order(&change.orders)
            }
            Entry::Label { .. } | Entry::Clock { .. } => false,
        }
    }

    fn has_order(&self, images: &[Image]) -> bool {
        let numbered = |image: &Image| self.order.is_none_or(|order| order.contains(&(image.key, image.check)));
        self.order.is_none() || images.iter().any(numbered)
    }
}

fn rows(shown: &Shown, at: UnixMillis, out: &mut dyn Write) -> Result<(), Failure> {
    let time = time(at);
    match &shown.what {
        What::Decision(decision) => {
            let limits = match (&decision.limit, decision.window, &decision.reason) {
                (Some(limit), Some(window), _) => format!("{limit}, {window}"),
                (_, _, Some(reason)) => reason.clone(),
                _ => decision.order.as_ref().map_or_else(|| "-".to_owned(), |order| order.charges()),
            };
            let shadowed = decision.shadowed.iter().map(|limit| format!("; shadow: {limit}"));
            let duplicate = if decision.duplicate { "; duplicate" } else { "" };
            let limits: String = std::iter::once(limits).chain(shadowed).chain([duplicate.to_owned()]).collect();
            let (merchant, operation) = (decision.merchant.as_str(), decision.operation.as_str());
            let amount = yuan(decision.amount_fen);
            row(out, [&time, merchant, operation, &amount, decision.verdict, &decision.decision, &limits])
        }
        What::Change { cause, orders } => orders.iter().try_for_each(|order| {
            let charges = order.charges();
            let refunded =
                if order.refunded_fen > 0 { format!("; refunded {}", yuan(order.refunded_fen)) } else { String::new() };
            let limits = format!("{}{refunded}", if charges.is_empty() { "-" } else { &charges });
            let amount = yuan(order.amount_fen);
            row(out, [&time, order.merchant.as_str(), cause, &amount, order.state, &order.decision, &limits])
        }),
        What::Label { .. } | What::Clock { .. } => Ok(()),
    }
}

/// Writes a row of the table. Records are too many to be measured first, so columns have the width of what is usual.
fn row(out: &mut dyn Write, cells: [&str; 7]) -> Result<(), Failure> {
    let [time, merchant, operation, amount, verdict, decision, limits] = cells;
    let limits = printable(limits);
    writeln!(out, "{time:24}  {merchant:10}  {operation:9}  {amount:>12}  {verdict:9}  {decision:32}  {limits}")
        .map_err(Failure::Output)
}

fn json(shown: &Shown, out: &mut dyn Write) -> Result<(), Failure> {
    let written = serde_json::to_writer(&mut *out, shown).map_err(Into::into);
    written.and_then(|()| writeln!(out)).map_err(Failure::Output)
}
