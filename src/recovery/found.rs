//! What was recorded before a start: read from the store and the journal, and put back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::RecoveryError;
use crate::admission::{Restorer, Shared, UsedNonce};
use crate::journal::{EntryView, Found, Image};
use crate::quota;
use crate::store::{Fold, FoldedRow, Store};
use crate::time::UnixMillis;

/// For how long what was recorded may matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spans {
    /// For how long nonces may be in force, in seconds.
    pub window_s: i64,
    /// The most that the clock may be behind the highest time ever recorded, in seconds.
    pub step_back_s: i64,
}

/// What was recorded before this start.
#[derive(Debug)]
pub struct Recovered {
    spans: Spans,
    fold: Fold,
    /// Labels that are stored.
    stored: BTreeMap<u32, String>,
    /// Decisions whose nonces may be in force, oldest first.
    nonces: VecDeque<UsedNonce>,
    records: u64,
}

impl Recovered {
    /// Reads what the journal has beyond the store; with `accept_missing` also where records are missing between the two.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub fn read(found: &Found, store: &dyn Store, spans: Spans, accept_missing: bool) -> Result<Self, RecoveryError> {
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
        let mut recovered =
            Self { spans, fold: Fold::since(meta.highest), stored: meta.labels, nonces: VecDeque::new(), records: 0 };
        // Nonces are not stored: the journal has them.
        let since = meta.highest.map_or(UnixMillis(i64::MIN), |UnixMillis(highest_ms)| {
            UnixMillis(highest_ms.saturating_sub(spans.window_s.saturating_mul(1000)))
        });
        let from = |writer: u16| meta.reached.get(&writer).map_or(0, |reached| reached.position);
        let most = usize::try_from(found.records(&from, since)).unwrap_or(usize::MAX).min(RESERVED_MAX);
        recovered.fold.reserve(most);
        recovered.nonces.reserve(most);
        found.replay(&from, since, &mut |record| {
            let unfoldable = |source| RecoveryError::Fold { writer: record.writer, position: record.position, source };
            // What is stored is read again for its nonce alone.
            let entry = if record.position > from(record.writer) {
                recovered.records = recovered.records.saturating_add(1);
                recovered.fold.fold(store, record.payload, record.frame.at).map_err(unfoldable)?
            } else {
                EntryView::from_bytes(record.payload).map_err(|source| unfoldable(source.into()))?
            };
            if let EntryView::Decision(decision) = entry
                && let Some(nonce) = decision.nonce
            {
                recovered.nonces.push_back(UsedNonce::new(
                    decision.decision,
                    decision.merchant,
                    decision.refused,
                    nonce,
                ));
                recovered.drop_past(DROPPED_PER_RECORD);
            }
            Ok::<_, RecoveryError>(())
        })?;
        recovered.drop_past(usize::MAX);
        Ok(recovered)
    }

    /// Drops decisions whose nonces are not in force any more, whatever the clock may say after this.
    fn drop_past(&mut self, most: usize) {
        let oldest_s = self.oldest_nonce_s();
        for _ in 0..most {
            let past = |used: &UsedNonce| used.nonce.end_s < oldest_s;
            if !self.nonces.front().is_some_and(past) {
                return;
            }
            self.nonces.pop_front();
        }
    }

    fn oldest_nonce_s(&self) -> i64 {
        self.fold.highest().map_or(i64::MIN, |highest| highest.seconds().saturating_sub(self.spans.step_back_s))
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

    /// Returns how many records the store did not have.
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Returns the highest time of a record; `None` where there is none.
    pub const fn highest(&self) -> Option<UnixMillis> {
        self.fold.highest()
    }

    /// Fills the tables: with what is stored, and where it was folded since with that.
    ///
    /// # Errors
    /// [`RecoveryError::Restore`] where the tables have no room, [`RecoveryError::Store`].
    pub fn restore(mut self, shared: &Shared, store: &dyn Store, now: UnixMillis) -> Result<(), RecoveryError> {
        let (mut rows, mut orders, mut nonces) = (0_u64, 0_u64, 0_u64);
        let mut restorer = Restorer::new(shared);
        let mut result = Ok(());
        let mut row = |row: u128, folded: FoldedRow| {
            if result.is_ok() && !quota::is_past(row, folded.cells, now) {
                result = restorer.row(row, folded.label, folded.owner, folded.cells);
                rows = rows.saturating_add(1);
            }
        };
        store.each_row(&mut self.fold, &mut row)?;
        let mut order = |image: Image| {
            if result.is_ok() && shared.is_kept(&image, now) {
                result = restorer.order(&image);
                orders = orders.saturating_add(1);
            }
        };
        store.each_image(&self.fold, &mut order)?;
        result?;
        let oldest_s = self.oldest_nonce_s();
        if self.fold.highest().is_some() {
            shared.forget_nonces_until(oldest_s.saturating_sub(1));
        }
        for used in self.nonces.iter().filter(|used| used.nonce.end_s >= oldest_s) {
            restorer.nonce(used)?;
            nonces = nonces.saturating_add(1);
        }
        tracing::info!(records = self.records, rows, orders, nonces, "recovered from the store and the journal");
        Ok(())
    }
}

/// Most records that room is taken for ahead.
const RESERVED_MAX: usize = 1 << 22;

/// Most nonces dropped for one that is read: more than one, so that they do not pile up.
const DROPPED_PER_RECORD: usize = 4;
