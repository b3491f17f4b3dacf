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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::Outcome;
use super::scene::CrashError;
use setting::Setting;
use story::{Counts, Story};

/// Lives through so many seeds, from one on: each in one thread, and as many at once as there are cores.
pub fn run(seeds: u32, first: u64, tell: &mut dyn FnMut(&str)) -> Result<Outcome, CrashError> {
    let setting = Setting::new()?;
    let next = AtomicU64::new(first);
    let end = first.saturating_add(seeds.into());
    let told: Mutex<Vec<(u64, Result<Counts, String>)>> = Mutex::default();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let lived = live(&setting, seed);
                    told.lock().unwrap_or_else(PoisonError::into_inner).push((seed, lived));
                }
            });
        }
    });
    let mut told = told.into_inner().unwrap_or_else(PoisonError::into_inner);
    told.sort_unstable_by_key(|(seed, _)| *seed);
    let (mut outcome, mut sum) = (Outcome::default(), Counts::default());
    for (seed, lived) in told {
        match lived {
            Ok(counts) => {
                sum.add(counts);
                outcome.passed += 1;
            }
            Err(fault) => {
                let fault = format!("seed {seed}: {fault}; again: tests/crash sim 1 {seed}");
                tell(&fault);
                outcome.faults.push(fault);
                outcome.failed += 1;
            }
        }
    }
    outcome.summary = format!("{sum}\n");
    Ok(outcome)
}

fn live(setting: &Setting, seed: u64) -> Result<Counts, String> {
    // A panic is a fault of the seed, as any other.
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut story = Story::new(setting, seed);
        story.run().map(|()| story.counts)
    }));
    lived.unwrap_or_else(|_| Err("it panicked".to_owned()))
}
