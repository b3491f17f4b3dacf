//! What is used of the limits, as the operator asks for it. COLD.

use std::collections::{HashMap, HashSet};

use serde::{Serialize, Serializer};

use super::books::Stake;
use super::shared::Shared;
use crate::merchant::{Limit, Merchant, Policy, SubjectNames, SubjectPart};
use crate::quota::{CellUsage, Charges, RowKey, Table};
use crate::time::{Calendar, UnixMillis};
use crate::types::{LimitMode, MerchantId, Unit, Window};

/// Asks for the use of one limit by one subject, or of every limit that counts per what is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageQuery {
    /// The limit's id; every limit where absent.
    pub limit: Option<String>,
    /// The platform's customer.
    pub customer: Option<String>,
    /// The merchant.
    pub merchant: Option<MerchantId>,
    /// The category; the merchant's where absent.
    pub category: Option<String>,
    /// The appid that `openid` belongs to.
    pub appid: Option<String>,
    /// A customer known by openid only.
    pub openid: Option<String>,
}

/// What one subject uses of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// The limit's id.
    pub limit: String,
    /// What it counts.
    pub unit: Unit,
    /// Whether it refuses what does not fit.
    pub mode: LimitMode,
    /// The key of the row, in hexadecimal, by which the export names it.
    pub row: String,
    /// What it counts per; an object in JSON.
    #[serde(serialize_with = "as_object")]
    pub subject: Vec<(&'static str, String)>,
    /// Its windows.
    pub windows: Vec<WindowUsage>,
}

/// What is used of one window, in the unit of the limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WindowUsage {
    /// The window.
    pub window: Window,
    /// All that is taken of it: held and committed.
    pub used: u64,
    /// Taken by orders that may still come to nothing.
    pub held: u64,
    /// Taken for good.
    pub committed: u64,
    /// The most that may be used of it; `None` where it is counted without a ceiling.
    pub ceiling: Option<u64>,
    /// What is left under the ceiling.
    pub room: Option<u64>,
    /// When it ends, RFC 3339; `None` where it never does.
    pub ends: Option<String>,
}

/// Why the use of a limit cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageFault {
    /// No limit has the id.
    #[error("there is no limit `{0}`; write an id that the configuration or one of its presets gives")]
    LimitUnknown(String),
    /// No merchant has the id.
    #[error("there is no merchant {0}")]
    MerchantUnknown(MerchantId),
    /// The limit counts per something that the query does not name.
    #[error("the limit `{limit}` counts per {part}; add {part}=... to the query")]
    SubjectMissing {
        /// The limit.
        limit: String,
        /// What is missing.
        part: &'static str,
    },
    /// The clock reads a time that no window can name.
    #[error("the clock is out of range; set it")]
    ClockOutOfRange,
}

impl Shared {
    /// Tells what is used of limits, of each as the query names its subject. Reads all orders for what is held.
    ///
    /// # Errors
    /// [`UsageFault`] where the query names no limit, merchant or subject that there is.
    pub fn usage(&self, query: &UsageQuery, now: UnixMillis) -> Result<Vec<Usage>, UsageFault> {
        let policy = self.policy.load();
        let merchant = match query.merchant {
            Some(id) => Some(policy.merchant(&id).ok_or(UsageFault::MerchantUnknown(id))?),
            None => None,
        };
        if let Some(id) = query.limit.as_ref().filter(|id| policy.limit_by_id(id).is_none()) {
            return Err(UsageFault::LimitUnknown(id.clone()));
        }
        let names = SubjectNames {
            merchant: merchant.map(|merchant| merchant.id.as_str()),
            category: query.category.as_deref().or_else(|| merchant.map(|merchant| merchant.category.as_str())),
            customer: query.customer.as_deref(),
            openid: query.appid.as_deref().zip(query.openid.as_deref()),
        };
        let mut asked = Vec::new();
        for limit in policy.limits() {
            let concerns = |one: &Merchant| limit.could_apply_to(one.kind, &one.category, one.risk);
            let named = query.limit.as_deref().is_none_or(|id| *limit.id == *id);
            if !named || !merchant.is_none_or(concerns) {
                continue;
            }
            match limit.row_of(&names, &self.rows) {
                Some(row) => asked.push(Asked::new(&policy, limit, row, now)?),
                None if query.limit.is_some() => {
                    let part = limit.per().iter().find(|part| named_in(&names, **part).is_none());
                    let part = part.map_or("subject", |part| part.as_str());
                    return Err(UsageFault::SubjectMissing { limit: limit.id.to_string(), part });
                }
                None => {}
            }
        }
        self.books.orders.held(&mut |stake| {
            if let Stake::Payment(charges) = stake {
                asked.iter_mut().for_each(|one| one.add_held(charges));
            }
        });
        Ok(asked.iter().map(|one| one.tell(self.table(), &names, merchant)).collect())
    }

    /// Returns how many pages the export has.
    pub fn export_pages(&self) -> usize {
        self.books.table.pages()
    }

    /// Writes one page of the export: a line of JSON for each row that something is used of. Reads all orders for what is held.
    pub fn export(&self, page: usize) -> Vec<u8> {
        let rows = self.books.table.page(page);
        let mut held: HashMap<(RowKey, Window, u16), u64> = HashMap::new();
        let keys: HashSet<RowKey> = rows.iter().map(|row| row.row).collect();
        self.books.orders.held(&mut |stake| {
            let Stake::Payment(charges) = stake else { return };
            for (row, window, window_id, taken) in charges.in_rows().filter(|(row, ..)| keys.contains(row)) {
                let sum = held.entry((row, window, window_id)).or_default();
                *sum = sum.saturating_add(taken);
            }
        });
        let mut lines = Vec::new();
        for row in &rows {
            let used = Window::ALL.iter().zip(&row.cells).filter_map(|(window, cell)| Some((*window, (*cell)?)));
            let windows = used.map(|(window, CellUsage { window_id, used })| {
                let held = held.get(&(row.row, window, window_id)).copied().unwrap_or(0);
                ExportedWindow { window, id: window_id, used, held, committed: used.saturating_sub(held) }
            });
            let limit = self.labelled(row.label);
            let line = ExportedRow {
                limit: limit.as_deref(),
                row: row_name(row.row),
                windows: windows.filter(|window| window.used > 0).collect(),
            };
            // Texts and integers always serialise.
            if !line.windows.is_empty() && serde_json::to_writer(&mut lines, &line).is_ok() {
                lines.push(b'\n');
            }
        }
        lines
    }
}

/// A row of the export.
#[derive(Serialize)]
struct ExportedRow<'a> {
    /// The limit: its id, zone, cut-over hour and unit.
    limit: Option<&'a str>,
    row: String,
    windows: Vec<ExportedWindow>,
}

/// A window of the export, in the unit of the limit.
#[derive(Serialize)]
struct ExportedWindow {
    window: Window,
    /// Days, months or years since 1970 in the limit's calendar; 0 for a lifetime.
    id: u16,
    used: u64,
    held: u64,
    committed: u64,
}

/// A row that the query asks for.
struct Asked<'p> {
    limit: &'p Limit,
    row: RowKey,
    /// The windows now open: their ids, and when they end in seconds since the epoch.
    open: [(u16, Option<i64>); Window::ALL.len()],
    /// What is held of the newest window that anything is held of: its id, and how much.
    held: [(u16, u64); Window::ALL.len()],
}

impl<'p> Asked<'p> {
    fn new(policy: &'p Policy, limit: &'p Limit, row: RowKey, now: UnixMillis) -> Result<Self, UsageFault> {
        let rule = policy.calendars().get(limit.calendar()).ok_or(UsageFault::ClockOutOfRange)?;
        let mut calendar = Calendar::new(rule.clone());
        let windows = calendar.windows(now).ok_or(UsageFault::ClockOutOfRange)?;
        let ends = calendar.ends(now).ok_or(UsageFault::ClockOutOfRange)?;
        let ids = [windows.day, windows.month, windows.year, 0];
        let ends = [Some(ends.day_s), Some(ends.month_s), Some(ends.year_s), None];
        let mut open = [(0, None); Window::ALL.len()];
        open.iter_mut().zip(ids.into_iter().zip(ends)).for_each(|(to, from)| *to = from);
        Ok(Self { limit, row, open, held: [(0, 0); Window::ALL.len()] })
    }

    fn add_held(&mut self, charges: &Charges) {
        for (window, window_id, taken) in charges.in_row(self.row) {
            let Some((newest, sum)) = self.held.get_mut(window as usize) else { continue };
            if window_id > *newest {
                (*newest, *sum) = (window_id, 0);
            }
            if window_id == *newest {
                *sum = sum.saturating_add(taken);
            }
        }
    }

    fn tell(&self, table: &Table, names: &SubjectNames<'_>, merchant: Option<&Merchant>) -> Usage {
        let limit = self.limit;
        let [_, ceilings @ ..] = limit.ceilings_of(merchant, names.customer);
        let cells = table.usage(self.row);
        let counted = limit.windows().into_iter().zip(Window::ALL).filter(|(counted, _)| *counted);
        let windows = counted.filter_map(|(_, window)| {
            let position = *window as usize;
            let (id, ends_s) = self.open.get(position).copied()?;
            // A window that has passed is not used any more; one that is ahead of the clock is charged in its place.
            let cell = cells.get(position).copied().flatten().filter(|cell| cell.window_id >= id);
            let used = cell.map_or(0, |cell| cell.used);
            // After the clock stepped back, orders may hold of an open window that the row has left.
            let held = self.held.get(position).filter(|(id, _)| cell.is_some_and(|cell| cell.window_id == *id));
            let held = held.map_or(0, |(_, sum)| *sum).min(used);
            let ceiling = ceilings.get(position).copied().flatten();
            Some(WindowUsage {
                window: *window,
                used,
                held,
                committed: used.saturating_sub(held),
                ceiling,
                room: ceiling.map(|ceiling| ceiling.saturating_sub(used)),
                ends: ends_s.and_then(|ends_s| Some(jiff::Timestamp::from_second(ends_s).ok()?.to_string())),
            })
        });
        Usage {
            limit: limit.id.to_string(),
            unit: limit.unit(),
            mode: limit.mode,
            row: row_name(self.row.stored()),
            subject: limit.per().iter().filter_map(|part| Some((part.as_str(), named_in(names, *part)?))).collect(),
            windows: windows.collect(),
        }
    }
}

/// Returns how a query names one part of a subject.
fn named_in(names: &SubjectNames<'_>, part: SubjectPart) -> Option<String> {
    match part {
        SubjectPart::Merchant => names.merchant.map(str::to_owned),
        SubjectPart::Category => names.category.map(str::to_owned),
        SubjectPart::Customer => {
            let openid = names.openid.map(|(appid, openid)| format!("{appid} {openid}"));
            names.customer.map(str::to_owned).or(openid)
        }
    }
}

/// Writes the key of a row.
fn row_name(RowKey(key): RowKey) -> String {
    format!("{key:032x}")
}

/// Writes what a limit counts per as an object.
fn as_object<S: Serializer>(pairs: &[(&'static str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(part, value)| (part, value)))
}
