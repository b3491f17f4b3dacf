//! Cases in which nothing can be recorded: a disk that is full or broken, a clock that was put back.

use std::sync::Arc;

use super::before_anybody_is_known::system;
use super::cases::{Case, Expected};
use super::configuration::{Bounds, JOURNAL_BYTES_MIN, Recorded};
use super::other_times::DAY_MS;
use super::request::{Message, Payment};
use super::world::{ManualClock, World};
use crate::storage::Storage;
use crate::storage::faulty::{Call, Error, Faulty, Rule};
use crate::storage::simulated::Simulated;
use crate::time::{Clock, SystemClock, UnixMillis};
use crate::types::Interface;

pub(super) fn journal_full() -> Case {
    Expected::unsigned(503, "SERVICE_UNAVAILABLE").after("the disk of the journal is full", |world| {
        Box::pin(async move {
            let disk = Simulated::new();
            // Room for the first file of the worker and of the gate, and for no further one.
            disk.set_room(Some(2 * JOURNAL_BYTES_MIN + 1));
            world
                .at_gate_on(Arc::new(disk), "journal-full", recording(world), system(), async |gate| {
                    gate.send(pay(world)).await
                })
                .await
        })
    })
}

pub(super) fn journal_failed() -> Case {
    Expected::unsigned(503, "SERVICE_UNAVAILABLE").after("the disk of the journal breaks", |world| {
        Box::pin(async move {
            let disk = Faulty::new(Arc::new(Simulated::new()));
            let breaks = disk.clone();
            world
                .at_broken_gate(Arc::new(disk), "journal-failed", recording(world), async |gate| {
                    gate.admit(pay(world)).await?;
                    breaks.set(Some(Rule { call: Some(Call::Sync), after: 0, times: u64::MAX, error: Error::Broken }));
                    gate.send(pay(world)).await
                })
                .await
        })
    })
}

pub(super) fn clock_stepped_back() -> Case {
    Expected::unsigned(503, "SERVICE_UNAVAILABLE").after("the clock is put back by a day", |world| {
        Box::pin(async move {
            let now = SystemClock.now();
            let clock = ManualClock::at(now);
            let disk: Arc<dyn Storage> = Arc::new(Simulated::new());
            let (yesterday, set) = (UnixMillis(now.0 - DAY_MS), Arc::clone(&clock));
            world
                .at_gate_on(disk, "clock-back", recording(world), clock, async |gate| {
                    gate.admit(pay(world).at(now)).await?;
                    set.set(yesterday);
                    // A bare key has no validity that could be over or yet to come.
                    let pay = world.accounts.store_bare.pay(Interface::Jsapi, &Payment::new(100));
                    gate.send(pay.at(yesterday)).await
                })
                .await
        })
    })
}

fn pay(world: &World) -> Message {
    world.accounts.store.pay(Interface::Jsapi, &Payment::new(100))
}

fn recording(world: &World) -> Bounds {
    Bounds { recorded: Recorded::OnItsOwn, ..world.small() }
}
