//! Syncing: what is written is made safe, all writers together, again as soon as the last time has ended.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::log::Watermark;
use super::writer::{Progress, Segment, Wake};

/// Makes safe what the writers have written. One for all of them.
pub struct Syncer {
    progress: Arc<Progress>,
    /// How long to wait between two syncs where nobody asks for one.
    pace: Duration,
    /// Called after each sync, and when there will be none any more.
    after: Box<dyn Fn() + Send>,
}

impl Syncer {
    pub(super) fn new(progress: Arc<Progress>) -> Self {
        Self { progress, pace: Duration::ZERO, after: Box::new(|| {}) }
    }

    /// Waits so long between two syncs where nobody asks for one.
    #[must_use]
    pub fn paced(self, pace: Duration) -> Self {
        Self { pace, ..self }
    }

    /// Has something done after each sync, and when there will be none any more.
    #[must_use]
    pub fn telling(self, after: Box<dyn Fn() + Send>) -> Self {
        Self { after, ..self }
    }

    /// Makes safe what is written by now.
    ///
    /// # Errors
    /// What the system says, once: from then on the journal has failed. A sync is never tried again, since the system may
    /// have dropped what it could not write.
    pub fn step(&self) -> io::Result<()> {
        let synced = self.progress.writers.iter().try_for_each(|writer| {
            // Together: a writer that turned over in between would have a segment taken for synced that is not.
            let files = writer.files();
            let mark = writer.mark();
            let open: Vec<Segment> = files.open.clone();
            drop(files);
            let count = open.len();
            if mark.written > writer.durable.load(std::sync::atomic::Ordering::Acquire) {
                open.iter().try_for_each(|segment| segment.file.sync_data())?;
                writer.synced(mark);
            }
            // Those that were full when the sync began are safe to their end.
            let mut files = writer.files();
            let whole = open.iter().take_while(|segment| segment.end.is_some()).count().min(count);
            let whole: Vec<Segment> = files.open.drain(..whole).collect();
            files.full.extend(whole);
            Ok(())
        });
        if synced.is_err() {
            self.progress.fail();
        }
        self.progress.announce();
        (self.after)();
        synced
    }

    /// Syncs until [`Progress`] is told to stop, and once more then.
    ///
    /// # Errors
    /// What [`Syncer::step`] fails with.
    pub fn run(&self) -> io::Result<()> {
        loop {
            let some = |wake: &Wake| wake.stopping || self.progress.has_work();
            let mut wake = self.progress.sleep(some, None);
            if !wake.stopping && !wake.requested && !self.pace.is_zero() {
                let hurry = |wake: &Wake| wake.stopping || wake.requested;
                wake = self.progress.sleep(hurry, Some(self.pace));
            }
            self.step()?;
            if wake.stopping || self.progress.has_failed() {
                return Ok(());
            }
        }
    }
}

impl fmt::Debug for Syncer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Syncer").field("pace", &self.pace).finish_non_exhaustive()
    }
}
