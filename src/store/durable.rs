//! The embedded store: fjall, a log-structured tree with batches that are atomic across its keyspaces.
//!
//! | keyspace | key | value |
//! | --- | --- | --- |
//! | `orders` | decision, 16 bytes big-endian | the image as in the journal |
//! | `rows` | part, `u16`, and number of the run, `u64`, big-endian | the part of the run, see `rows.rs` |
//! | `runs` | as in `rows` | level of the part, one byte |
//! | `ahead` | decision, 16 bytes big-endian | nothing: its first image is not folded yet, a later one is |
//! | `meta` | `format` | `2` |
//! | | `key` | fingerprint of the deployment key, 16 bytes |
//! | | `highest` | highest time of a record, milliseconds, `i64` little-endian |
//! | | `reached ` and the writer, `u16` big-endian | position and sequence of the last record, `u64` little-endian each |
//! | | `label ` and the number, `u32` big-endian | the limit's name |

mod runs;

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use fjall::compaction::Leveled;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use self::runs::Runs;
use super::fold::{Base, Fold, FoldedRow, Unfoldable};
use super::orders::BuildKeyHasher;
use super::{CLEANED_PER_STEP, Meta, Reached, Store, StoreFault, key_of};
use crate::journal::Image;
use crate::time::UnixMillis;
use crate::types::DecisionId;

/// A store in a folder of its own.
pub struct Durable {
    database: Database,
    orders: Keyspace,
    ahead: Keyspace,
    meta: Keyspace,
    runs: Runs,
    /// The keys of `ahead`.
    are_ahead: HashSet<u128, BuildKeyHasher>,
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
        let options = || {
            let order = Leveled::default().with_l0_threshold(UNORDERED_MAX);
            KeyspaceCreateOptions::default().compaction_strategy(Arc::new(order))
        };
        let keyspace = |name| database.keyspace(name, options).map_err(broken);
        let (orders, ahead, meta) = (keyspace("orders")?, keyspace("ahead")?, keyspace("meta")?);
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
        let runs = Runs::open(keyspace("rows")?, keyspace("runs")?)?;
        let mut are_ahead = HashSet::default();
        for item in ahead.iter() {
            let key = item.key().map_err(broken)?;
            let decision = <[u8; 16]>::try_from(&*key).map_err(|_| unreadable("a decision"))?;
            are_ahead.insert(u128::from_be_bytes(decision));
        }
        Ok(Self { database, orders, ahead, meta, runs, are_ahead, cleaned: None })
    }
}

#[cfg(test)]
impl Durable {
    /// Returns the most runs that a part has.
    pub(super) fn runs_max(&self) -> usize {
        self.runs.most()
    }
}

impl Base for Durable {
    fn image(&self, decision: DecisionId) -> Result<Option<Image>, Unfoldable> {
        let bytes = self.orders.get(key_of(decision)).map_err(broken)?;
        bytes.map(|bytes| Ok(Image::from_bytes(&bytes)?)).transpose()
    }

    fn is_ahead(&self, DecisionId(decision): DecisionId) -> bool {
        self.are_ahead.contains(&decision)
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

    fn apply(&mut self, fold: &mut Fold, reached: &BTreeMap<u16, Reached>) -> Result<(), StoreFault> {
        // Synced as a whole: positions and what was reached are there together, or neither is.
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for (decision, image) in fold.images() {
            batch.insert(&self.orders, key_of(decision), image);
        }
        for (decision, ahead) in fold.ahead() {
            if ahead {
                batch.insert(&self.ahead, key_of(decision), []);
            } else {
                batch.remove(&self.ahead, key_of(decision));
            }
        }
        let run = self.runs.next();
        let parts = self.runs.write(&mut batch, run, fold.rows()?);
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
        batch.commit().map_err(broken)?;
        self.runs.written(run, &parts);
        for (DecisionId(decision), ahead) in fold.ahead() {
            if ahead {
                self.are_ahead.insert(decision);
            } else {
                self.are_ahead.remove(&decision);
            }
        }
        self.runs.merge(&self.database)
    }

    fn each_image(&self, and: &Fold, visit: &mut dyn FnMut(Image)) -> Result<(), StoreFault> {
        let read = |bytes: &[u8]| Image::from_bytes(bytes).map_err(|_| unreadable("an order"));
        for item in self.orders.iter() {
            let image = read(&item.value().map_err(broken)?)?;
            if !and.has_image(image.decision) {
                visit(image);
            }
        }
        and.images().try_for_each(|(_, image)| {
            visit(read(image)?);
            Ok(())
        })
    }

    fn each_row(&self, and: &mut Fold, visit: &mut dyn FnMut(u128, FoldedRow)) -> Result<(), StoreFault> {
        self.runs.each_row(and.rows()?, visit)
    }

    fn clean(&mut self, past: &dyn Fn(&Image) -> bool) -> Result<usize, StoreFault> {
        let from = self.cleaned.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut looked_at, mut last, mut forgotten) = (0_usize, None, Vec::new());
        let mut batch = self.database.batch().durability(None);
        for item in self.orders.range((from, Bound::Unbounded)).take(CLEANED_PER_STEP) {
            let (key, bytes) = item.into_inner().map_err(broken)?;
            let image = Image::from_bytes(&bytes).map_err(|_| unreadable("an order"))?;
            if past(&image) {
                batch.remove(&self.orders, key.clone());
                if self.is_ahead(image.decision) {
                    // Its first image was lost: all older records are folded.
                    batch.remove(&self.ahead, key.clone());
                }
                forgotten.push(image.decision.0);
            }
            last = <[u8; 16]>::try_from(&*key).ok();
            looked_at = looked_at.saturating_add(1);
        }
        // What is forgotten twice is forgotten: this need not be safe from a loss of power.
        batch.commit().map_err(broken)?;
        // At the end it begins again.
        self.cleaned = last.filter(|_| looked_at == CLEANED_PER_STEP);
        forgotten.iter().for_each(|decision| _ = self.are_ahead.remove(decision));
        Ok(forgotten.len())
    }

    fn clean_rows(&mut self, past: &dyn Fn(u128, &FoldedRow) -> bool) -> Result<usize, StoreFault> {
        self.runs.clean(&self.database, past)
    }
}

impl std::fmt::Debug for Durable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Durable")
    }
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

/// Files of a keyspace that are put in order together: more than usual, since little is looked up and much is written.
const UNORDERED_MAX: u8 = 8;

/// Threads that compact, beside the one that writes.
const WORKERS: usize = 1;

/// Blocks kept in memory, in bytes.
const CACHE_BYTES: u64 = 32 << 20;
