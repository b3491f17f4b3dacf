//! What was recorded before a start: read from the store and the journal, and put back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::RecoveryError;
use crate::admission::Shared;
use crate::journal::{DecisionEntry, Entry, Found, Image};
use crate::quota;
use crate::store::{Fold, FoldedRow, Store};
use crate::time::UnixMillis;

/// What was recorded before this start.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    fold: Fold,
    /// Labels that are stored.
    stored: BTreeMap<u32, String>,
    /// Decisions whose nonces may be in force, oldest first.
    nonces: VecDeque<DecisionEntry>,
    records: u64,
}

impl Recovered {
    pub fn read(
        found: &Found,
        store: &dyn Store,
        (window_s, step_back_s): (i64, i64),
        accept_missing: bool,
    ) -> Result<Self, RecoveryError> {
        let meta = store.meta()?;
        for (writer, first) in found.first() {
            let reached = meta.reached.get(&writer).copied().unwrap_or_default().sequence;
            if first > reached.saturating_add(1) {
                if !accept_missing {
                    return Err(RecoveryError::Missing { writer, reached, first });
                }
                tracing::error!(writer, reached, first, "records are missing between the store and the journal");
            }
        }
        let mut recovered = Self { fold: Fold::since(meta.highest), stored: meta.labels, ..Self::default() };
        // Nonces are not stored: the journal has them.
        let since = meta.highest.map_or(UnixMillis(i64::MIN), |UnixMillis(highest_ms)| {
            UnixMillis(highest_ms.saturating_sub(window_s.saturating_mul(1000)))
        });
        let from = |writer: u16| meta.reached.get(&writer).map_or(0, |reached| reached.position);
        found.replay(&from, since, &mut |record| {
            let unfoldable = |source| RecoveryError::Fold { writer: record.writer, position: record.position, source };
            // What is stored is read again for its nonce alone.
            let entry = if record.position > from(record.writer) {
                recovered.records = recovered.records.saturating_add(1);
                recovered.fold.fold(store, record.payload, record.frame.at).map_err(unfoldable)?
            } else {
                Entry::from_bytes(record.payload).map_err(|source| unfoldable(source.into()))?
            };
            if let Entry::Decision(mut decision) = entry
                && decision.nonce.is_some()
            {
                decision.order = None;
                recovered.nonces.push_back(*decision);
                recovered.drop_past(step_back_s, DROPPED_PER_RECORD);
            }
            Ok::<_, RecoveryError>(())
        })?;
        recovered.drop_past(step_back_s, usize::MAX);
        Ok(recovered)
    }

    /// Returns the highest time that was ever recorded.
    pub fn highest(&self) -> UnixMillis {
        self.fold.highest().unwrap_or(UnixMillis(i64::MIN))
    }

    /// Drops decisions whose nonces are not in force any more, whatever the clock may say after this.
    fn drop_past(&mut self, step_back_s: i64, most: usize) {
        let oldest_s = self.oldest_nonce_s(step_back_s);
        for _ in 0..most {
            let past = |entry: &DecisionEntry| entry.nonce.is_none_or(|nonce| nonce.end_s < oldest_s);
            if !self.nonces.front().is_some_and(past) {
                return;
            }
            self.nonces.pop_front();
        }
    }

    fn oldest_nonce_s(&self, step_back_s: i64) -> i64 {
        self.fold.highest().map_or(i64::MIN, |highest| highest.seconds().saturating_sub(step_back_s))
    }

    /// Returns the labels by their numbers, from one.
    pub fn labels(&self) -> Vec<Arc<str>> {
        let mut labels: Vec<Arc<str>> = Vec::new();
        let stored = self.stored.iter().map(|(number, name)| (*number, name.as_str()));
        for (number, name) in stored.chain(self.fold.labels()) {
            let place = usize::try_from(number).unwrap_or(0).saturating_sub(1);
            if labels.len() <= place {
                labels.resize(place + 1, Arc::from(""));
            }
            labels.get_mut(place).into_iter().for_each(|label| *label = name.into());
        }
        labels
    }

    /// Fills the tables: with what is stored, and where it was folded since with that.
    pub fn restore(
        self,
        shared: &Shared,
        store: &dyn Store,
        now: UnixMillis,
        step_back_s: i64,
    ) -> Result<(), RecoveryError> {
        let (mut rows, mut orders, mut nonces) = (0_u64, 0_u64, 0_u64);
        let mut result = Ok(());
        let mut row = |row: u128, folded: &FoldedRow| {
            if result.is_ok() && !quota::is_past(row, folded.cells, now) {
                result = shared.restore_row(row, folded.label, folded.owner, folded.cells);
                rows = rows.saturating_add(1);
            }
        };
        store.each_row(&mut |key, folded| {
            if !self.fold.has_row(key) {
                row(key, &folded);
            }
        })?;
        self.fold.rows().for_each(|(key, folded)| row(key, folded));
        let mut order = |image: &Image| {
            if result.is_ok() && shared.is_kept(image, now) {
                result = shared.restore_order(image);
                orders = orders.saturating_add(1);
            }
        };
        store.each_image(&mut |image| {
            if !self.fold.has_image(image.decision) {
                order(&image);
            }
        })?;
        self.fold.images().for_each(order);
        result?;
        let oldest_s = self.oldest_nonce_s(step_back_s);
        if self.fold.highest().is_some() {
            shared.forget_nonces_until(oldest_s.saturating_sub(1));
        }
        for entry in self.nonces.iter().filter(|entry| entry.nonce.is_some_and(|nonce| nonce.end_s >= oldest_s)) {
            shared.restore_nonce(entry)?;
            nonces = nonces.saturating_add(1);
        }
        tracing::info!(records = self.records, rows, orders, nonces, "recovered from the store and the journal");
        Ok(())
    }
}

/// Most nonces dropped for one that is read: more than one, so that they do not pile up.
const DROPPED_PER_RECORD: usize = 4;
