//! The embedded store: fjall, a log-structured tree with batches that are atomic across its keyspaces.
//!
//! | keyspace | key | value |
//! | --- | --- | --- |
//! | `orders` | decision, 16 bytes big-endian | the image as in the journal |
//! | `rows` | row, 16 bytes big-endian | label `u32`, window and use of two cells, `u16` and `u64` each, merchant as text; little-endian |
//! | `meta` | `format` | `2` |
//! | | `key` | fingerprint of the deployment key, 16 bytes |
//! | | `highest` | highest time of a record, milliseconds, `i64` little-endian |
//! | | `reached ` and the writer, `u16` big-endian | position and sequence of the last record, `u64` little-endian each |
//! | | `label ` and the number, `u32` big-endian | the limit's name |

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::fold::{Base, Fold, FoldedRow, Unfoldable};
use super::{CLEANED_PER_STEP, Meta, Reached, Store, StoreFault, key_of};
use crate::journal::Image;
use crate::time::UnixMillis;
use crate::types::DecisionId;

/// A store in a folder of its own.
pub struct Durable {
    database: Database,
    orders: Keyspace,
    rows: Keyspace,
    meta: Keyspace,
    /// Behind which order the next cleaning begins.
    cleaned: Option<[u8; 16]>,
}

impl Durable {
    /// Opens the store of a folder, or makes it. `fingerprint` tells the deployment's key.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub fn open(folder: &Path, fingerprint: [u8; 16]) -> Result<Self, StoreFault> {
        let builder = Database::builder(folder).worker_threads(WORKERS).cache_size(CACHE_BYTES);
        let database = builder.open().map_err(broken)?;
        let keyspace = |name| database.keyspace(name, KeyspaceCreateOptions::default).map_err(broken);
        let (orders, rows, meta) = (keyspace("orders")?, keyspace("rows")?, keyspace("meta")?);
        match (meta.get(FORMAT).map_err(broken)?, meta.get(KEY).map_err(broken)?) {
            (None, None) => {
                let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
                batch.insert(&meta, FORMAT, VERSION);
                batch.insert(&meta, KEY, fingerprint);
                batch.commit().map_err(broken)?;
            }
            (Some(format), _) if *format != *VERSION => {
                return Err(StoreFault::Broken("it is in the format of another version".to_owned()));
            }
            (_, Some(key)) if *key == fingerprint => {}
            (_, _) => return Err(StoreFault::Fingerprint),
        }
        Ok(Self { database, orders, rows, meta, cleaned: None })
    }
}

impl Base for Durable {
    fn image(&self, decision: DecisionId) -> Result<Option<Image>, Unfoldable> {
        let bytes = self.orders.get(key_of(decision)).map_err(broken)?;
        bytes.map(|bytes| Ok(Image::from_bytes(&bytes)?)).transpose()
    }

    fn row(&self, row: u128) -> Result<Option<FoldedRow>, Unfoldable> {
        let bytes = self.rows.get(row.to_be_bytes()).map_err(broken)?;
        bytes.map(|bytes| read_row(&bytes).ok_or_else(|| unreadable("a row").into())).transpose()
    }
}

impl Store for Durable {
    fn meta(&self) -> Result<Meta, StoreFault> {
        let mut meta = Meta::default();
        for item in self.meta.iter() {
            let (key, value) = item.into_inner().map_err(broken)?;
            if let Some(writer) = key.strip_prefix(REACHED) {
                let writer = <[u8; 2]>::try_from(writer).map_err(|_| unreadable("a writer"))?;
                let reached = read_reached(&value).ok_or_else(|| unreadable("a position"))?;
                meta.reached.insert(u16::from_be_bytes(writer), reached);
            } else if let Some(label) = key.strip_prefix(LABEL) {
                let label = <[u8; 4]>::try_from(label).map_err(|_| unreadable("a label"))?;
                let name = String::from_utf8(value.to_vec()).map_err(|_| unreadable("the name of a label"))?;
                meta.labels.insert(u32::from_be_bytes(label), name);
            } else if *key == *HIGHEST {
                let highest = <[u8; 8]>::try_from(&*value).map_err(|_| unreadable("the highest time"))?;
                meta.highest = Some(UnixMillis(i64::from_le_bytes(highest)));
            }
        }
        Ok(meta)
    }

    fn apply(&mut self, fold: &Fold, reached: &BTreeMap<u16, Reached>) -> Result<(), StoreFault> {
        let mut images: Vec<&Image> = fold.images().collect();
        images.sort_unstable_by_key(|image| image.decision.0);
        let mut rows: Vec<(u128, &FoldedRow)> = fold.rows().collect();
        rows.sort_unstable_by_key(|(row, _)| *row);
        // Synced as a whole: positions and what was reached are there together, or neither is.
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for image in images {
            let mut bytes = Vec::new();
            image.write(&mut bytes);
            batch.insert(&self.orders, key_of(image.decision), bytes);
        }
        for (row, folded) in rows {
            batch.insert(&self.rows, row.to_be_bytes(), write_row(folded));
        }
        for (label, name) in fold.labels() {
            batch.insert(&self.meta, [LABEL, &label.to_be_bytes()].concat(), name);
        }
        for (writer, Reached { position, sequence }) in reached {
            let value = [position.to_le_bytes(), sequence.to_le_bytes()].concat();
            batch.insert(&self.meta, [REACHED, &writer.to_be_bytes()].concat(), value);
        }
        if let Some(UnixMillis(highest)) = fold.highest() {
            batch.insert(&self.meta, HIGHEST, highest.to_le_bytes());
        }
        batch.commit().map_err(broken)
    }

    fn each_image(&self, visit: &mut dyn FnMut(Image)) -> Result<(), StoreFault> {
        for item in self.orders.iter() {
            let bytes = item.value().map_err(broken)?;
            visit(Image::from_bytes(&bytes).map_err(|_| unreadable("an order"))?);
        }
        Ok(())
    }

    fn each_row(&self, visit: &mut dyn FnMut(u128, FoldedRow)) -> Result<(), StoreFault> {
        for item in self.rows.iter() {
            let (key, bytes) = item.into_inner().map_err(broken)?;
            let row = <[u8; 16]>::try_from(&*key).map_err(|_| unreadable("the key of a row"))?;
            visit(u128::from_be_bytes(row), read_row(&bytes).ok_or_else(|| unreadable("a row"))?);
        }
        Ok(())
    }

    fn clean(&mut self, past: &dyn Fn(&Image) -> bool) -> Result<usize, StoreFault> {
        let from = self.cleaned.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut looked_at, mut last) = (0_usize, None);
        let mut batch = self.database.batch().durability(None);
        for item in self.orders.range((from, Bound::Unbounded)).take(CLEANED_PER_STEP) {
            let (key, bytes) = item.into_inner().map_err(broken)?;
            let image = Image::from_bytes(&bytes).map_err(|_| unreadable("an order"))?;
            if past(&image) {
                batch.remove(&self.orders, key.clone());
            }
            last = <[u8; 16]>::try_from(&*key).ok();
            looked_at = looked_at.saturating_add(1);
        }
        // At the end it begins again.
        self.cleaned = last.filter(|_| looked_at == CLEANED_PER_STEP);
        let forgotten = batch.len();
        // What is forgotten twice is forgotten: this need not be safe from a loss of power.
        batch.commit().map_err(broken)?;
        Ok(forgotten)
    }
}

impl std::fmt::Debug for Durable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Durable")
    }
}

fn write_row(row: &FoldedRow) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&row.label.to_le_bytes());
    for (window, used) in row.cells {
        bytes.extend_from_slice(&window.to_le_bytes());
        bytes.extend_from_slice(&used.to_le_bytes());
    }
    bytes.extend_from_slice(row.owner.as_str().as_bytes());
    bytes
}

fn read_row(bytes: &[u8]) -> Option<FoldedRow> {
    let (label, rest) = bytes.split_first_chunk()?;
    let (first, rest) = rest.split_first_chunk::<CELL_BYTES>()?;
    let (second, owner) = rest.split_first_chunk::<CELL_BYTES>()?;
    let cell = |bytes: &[u8; CELL_BYTES]| {
        let (window, used) = bytes.split_first_chunk()?;
        Some((u16::from_le_bytes(*window), u64::from_le_bytes(*used.first_chunk()?)))
    };
    let owner = std::str::from_utf8(owner).ok()?.parse().ok()?;
    Some(FoldedRow { label: u32::from_le_bytes(*label), owner, cells: [cell(first)?, cell(second)?] })
}

fn read_reached(bytes: &[u8]) -> Option<Reached> {
    let (position, sequence) = bytes.split_first_chunk()?;
    let sequence = u64::from_le_bytes(<[u8; 8]>::try_from(sequence).ok()?);
    Some(Reached { position: u64::from_le_bytes(*position), sequence })
}

#[expect(clippy::needless_pass_by_value, reason = "it is what a result is mapped with")]
fn broken(error: fjall::Error) -> StoreFault {
    StoreFault::Broken(error.to_string())
}

fn unreadable(what: &str) -> StoreFault {
    StoreFault::Broken(format!("{what} in it does not read as this version writes it"))
}

const FORMAT: &[u8] = b"format";
const VERSION: &[u8] = b"2";
const KEY: &[u8] = b"key";
const HIGHEST: &[u8] = b"highest";
const REACHED: &[u8] = b"reached ";
const LABEL: &[u8] = b"label ";

const CELL_BYTES: usize = 2 + 8;

/// Threads that compact, beside the one that writes.
const WORKERS: usize = 1;

/// Blocks kept in memory, in bytes.
const CACHE_BYTES: u64 = 32 << 20;
