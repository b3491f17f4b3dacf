//! How long a decision waits before anything that follows from it leaves.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::journal::{Durability, Fault, Position, Watermark};
use crate::time::UnixMillis;

/// What decisions wait for. Clones are the same.
#[derive(Clone)]
pub struct Safety {
    /// Tells what is safe.
    pub watermark: Arc<dyn Watermark>,
    /// How safe every decision must be.
    pub durability: Durability,
    /// With [`Durability::Process`], the most that a loss of power may take: past it a decision waits.
    pub exposure: ExposureMax,
    /// Told whenever more is safe, or never will be.
    pub progress: Arc<Notify>,
}

/// The most that a loss of power may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExposureMax {
    /// How old the oldest record may be that is not safe, in milliseconds.
    pub age_ms: u32,
    /// What the records that are not safe may have charged, in fen.
    pub fen: u64,
}

impl Safety {
    /// Tells whether a decision must be safe from a loss of power before anything follows from it; `disk` where a limit asks
    /// for that.
    pub fn must_wait(&self, disk: bool, now: UnixMillis) -> bool {
        if disk || self.durability == Durability::Disk {
            return true;
        }
        let exposure = self.watermark.exposure();
        let age_ms = exposure.since.map_or(0, |since| now.0.saturating_sub(since.0));
        exposure.fen > self.exposure.fen || age_ms > i64::from(self.exposure.age_ms)
    }

    /// Waits until a position is safe.
    ///
    /// # Errors
    /// [`Fault::Failed`] where it never will be.
    pub(super) async fn wait(&self, position: Position) -> Result<(), Fault> {
        let mut asked = false;
        loop {
            let progress = self.progress.notified();
            let mut progress = std::pin::pin!(progress);
            // From here on no news is missed.
            progress.as_mut().enable();
            if self.watermark.covers(position) {
                return Ok(());
            }
            if self.watermark.has_failed() {
                return Err(Fault::Failed);
            }
            if !asked {
                self.watermark.request();
                asked = true;
            }
            progress.await;
        }
    }
}

impl fmt::Debug for Safety {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Safety").field("durability", &self.durability).finish_non_exhaustive()
    }
}
