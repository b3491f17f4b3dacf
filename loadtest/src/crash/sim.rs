//! A gate, its disk, its store and its clock in one thread: production's own parts, taken step by step as a seed decides.
//!
//! Every step is one that a thread of a gate would take, and between any two of them the process may end or the power may
//! fail. What must be true then is known apart from the gate, by a model that heard its answers only.

mod belief;
mod life;
mod setting;
mod shaky;
mod story;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::Outcome;
use super::scene::CrashError;
pub use setting::Setting;
use story::Counts;
pub use story::Story;

/// Lives through so many seeds, from one on: each in one thread, and as many at once as there are cores. Where
/// `until_fault`, none is begun once a fault was found.
pub fn run(seeds: u32, first: u64, until_fault: bool, tell: &mut dyn FnMut(&str)) -> Result<Outcome, CrashError> {
    let setting = Setting::new()?;
    let found = AtomicBool::new(false);
    let live = |number: u32| {
        if until_fault && found.load(Ordering::Relaxed) {
            return Ok(Counts::default());
        }
        let seed = first.saturating_add(number.into());
        let mut story = Story::new(&setting, seed);
        let lived = story.run().map(|()| story.counts);
        found.fetch_or(lived.is_err(), Ordering::Relaxed);
        lived.map_err(|fault| format!("seed {seed}: {fault}; again: tests/crash sim 1 {seed}"))
    };
    let (mut outcome, mut sum) = (Outcome::default(), Counts::default());
    for lived in in_threads(seeds, &live) {
        match lived {
            Ok(counts) => {
                sum.add(&counts);
                outcome.passed += 1;
            }
            Err(fault) => {
                tell(&fault);
                outcome.faults.push(fault);
                outcome.failed += 1;
            }
        }
    }
    outcome.summary = format!("{sum}\n");
    Ok(outcome)
}

/// Does something for each number below `count`, on as many threads as there are cores; returns what came of it in their
/// order. A panic is a fault as any other.
pub fn in_threads<R: Send>(count: u32, act: &(dyn Fn(u32) -> Result<R, String> + Sync)) -> Vec<Result<R, String>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU32::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let acted = catch_unwind(AssertUnwindSafe(|| act(number)));
                    let acted = acted.unwrap_or_else(|_| Err(format!("number {number} panicked")));
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((number, acted));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}
