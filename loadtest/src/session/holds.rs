//! Holds that run out during a run, at an engine whose clock can be put forward.

use std::sync::Arc;
use std::time::Instant;

use tollgate::admission::Shared;

use super::SessionError;
use crate::in_process::{SetClock, end_holds};
use crate::pool::Prepared;
use crate::run::Observer;
use crate::settling::Bookkeeper;
use crate::target::Answered;

/// Keeps the books, and ends all holds once in the middle: what follows takes the room, and meets late commits.
pub(super) struct Halftime<'k, 'a> {
    pub keeper: &'k mut Bookkeeper<'a>,
    pub turn: Turn,
    /// When to end them; `None` once that is done.
    pub at: Option<Instant>,
    /// What came of it.
    pub ended: Result<(), SessionError>,
}

/// Puts a clock past the last hold. Twice in a run is less than what timestamps may be off.
pub(super) struct Turn {
    pub shared: Arc<Shared>,
    pub clock: SetClock,
    /// How long holds last, in seconds.
    pub hold_s: u32,
}

impl Turn {
    /// Ends all holds, in the engine and in the books.
    ///
    /// # Errors
    /// The engine did not.
    pub fn end_holds(&self, keeper: &mut Bookkeeper<'_>) -> Result<(), SessionError> {
        self.clock.put_forward(self.hold_s + HOLD_MARGIN_S);
        if !end_holds(&self.shared, self.clock.now()) {
            return Err(SessionError::Impossible("the engine did not end all holds that had run out".to_owned()));
        }
        keeper.end_holds();
        Ok(())
    }
}

impl Observer for Halftime<'_, '_> {
    fn answered(&mut self, prepared: &Prepared, answered: &Answered) {
        self.keeper.answered(prepared, answered);
    }

    fn tick(&mut self, now: Instant) {
        if self.at.take_if(|at| *at <= now).is_some() {
            self.ended = self.turn.end_holds(self.keeper);
        }
        self.keeper.tick(now);
    }

    fn may_send(&mut self, prepared: &Prepared) -> bool {
        self.keeper.may_send(prepared)
    }
}

/// How much further than a hold the clock is put forward, in seconds: it ends when its last second is over.
const HOLD_MARGIN_S: u32 = 2;
