//! `tollgate usage`: what is used of the limits of a running gate.

pub(super) mod table;

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Deserialize;

use super::Failure;
use super::control::{Client, ControlError, Place, target};
use crate::types::{LimitMode, MerchantId, Unit, Window};

/// What usage is asked for.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// One limit, by its id; every limit that counts per what is named where absent.
    #[arg(long, value_name = "ID")]
    limit: Option<String>,
    /// The customer, by the platform's id.
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// The merchant.
    #[arg(long, value_name = "MCHID")]
    merchant: Option<MerchantId>,
    /// The category; the merchant's where absent.
    #[arg(long, value_name = "NAME")]
    category: Option<String>,
    /// The appid that the openid belongs to.
    #[arg(long, requires = "openid")]
    appid: Option<String>,
    /// A customer known by openid only.
    #[arg(long, requires = "appid")]
    openid: Option<String>,
    /// Print the gate's JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Print every row of the gate, one JSON object a line.
    #[arg(long, conflicts_with_all = ["limit", "customer", "merchant", "category", "appid", "openid", "json"])]
    export: bool,
}

/// Shows the usage that the options ask for.
pub(super) fn run(options: &Options, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(options.place.find()?)?;
    let shown = if options.export {
        client.stream("/v1/usage/export", out)
    } else {
        client.get(&options.target()).and_then(|answer| show(&answer, options.json, out))
    };
    match shown {
        // Whoever read the output has read enough.
        Err(ControlError::Local(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        shown => Ok(shown?),
    }
}

impl Options {
    fn target(&self) -> String {
        let parameters = [
            ("limit", self.limit.as_deref()),
            ("customer", self.customer.as_deref()),
            ("merchant", self.merchant.as_ref().map(MerchantId::as_str)),
            ("category", self.category.as_deref()),
            ("appid", self.appid.as_deref()),
            ("openid", self.openid.as_deref()),
        ];
        target("/v1/usage", &parameters)
    }
}

/// Writes what a gate says of usage, as it came or as a table.
pub(super) fn show(answer: &[u8], json: bool, out: &mut dyn Write) -> Result<(), ControlError> {
    let usage: Vec<Usage> = serde_json::from_slice(answer).map_err(ControlError::Form)?;
    if json {
        out.write_all(answer)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", table::Tables(&usage))?;
    }
    Ok(out.flush()?)
}

/// What one subject uses of one limit, as the gate writes it.
#[derive(Debug, Deserialize)]
struct Usage {
    limit: String,
    unit: Unit,
    mode: LimitMode,
    subject: BTreeMap<String, String>,
    windows: Vec<WindowUsage>,
}

/// What is used of one window.
#[derive(Debug, Deserialize)]
struct WindowUsage {
    window: Window,
    used: u64,
    held: u64,
    committed: u64,
    ceiling: Option<u64>,
    room: Option<u64>,
    ends: Option<String>,
}

#[cfg(test)]
mod tests;
