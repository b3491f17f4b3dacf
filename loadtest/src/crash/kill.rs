//! A gate ended by SIGKILL at random instants, under eight writers, and as it recovers.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::Outcome;
use super::client::Client;
use super::scene::{Call, CrashError, Scene, Seen, settle};
use crate::deployment::Gate;
use crate::target;

/// Ends gates so often, half of them in each durability.
pub fn run(rounds: u32, seed: u64, program: &Path, tell: &mut dyn FnMut(&str)) -> Result<Outcome, CrashError> {
    let mut outcome = Outcome::default();
    let mut random = StdRng::seed_from_u64(seed);
    for (durability, rounds) in [("process", rounds / 2), ("disk", rounds - rounds / 2)] {
        let mut scene = Scene::new(durability, seed)?;
        for round in 1..=rounds {
            let faults = one(&mut scene, round, program, &mut random)?;
            outcome.passed += u32::from(faults == 0);
            outcome.failed += u32::from(faults > 0);
            tell(&format!("{durability} round {round} of {rounds}: {:?}, {faults} faults", scene.counts()));
        }
        // What the last kill left behind is looked at, too.
        let gate = scene.start(program)?;
        scene.check(&gate, rounds + 1)?;
        let counts = scene.counts();
        let (admitted, fen) = scene.ledger.admitted();
        outcome.summary.push_str(&format!("{durability}: {counts:?}; {admitted} payments of {fen} fen are in force\n"));
        outcome.failed += u32::from(!scene.faults.is_empty() && outcome.failed == 0);
        outcome.faults.append(&mut scene.faults);
    }
    Ok(outcome)
}

/// Starts a gate, compares it with the ledger, loads it, and ends it.
fn one(scene: &mut Scene, round: u32, program: &Path, random: &mut StdRng) -> Result<u32, CrashError> {
    if random.random_range(0..3) == 0 {
        // A recovery is ended, too; that must not matter.
        let started = crate::process::Child::start(program, &Gate::arguments(&scene.deployment.config_file), None)?;
        thread::sleep(Duration::from_millis(random.random_range(0..60)));
        started.kill()?;
    }
    let gate = scene.start(program)?;
    let faults = scene.check(&gate, round)?;
    let requests = scene.sign(REQUESTS);
    let loading = Load::start(scene, &gate, requests.start, random.random())?;
    thread::sleep(Duration::from_millis(random.random_range(20..300)));
    gate.kill()?;
    let seen = loading.end()?;
    scene.take(seen);
    Ok(faults)
}

/// Eight writers that send requests until the gate leaves them.
pub(super) struct Load {
    writers: Vec<JoinHandle<()>>,
    seen: Arc<Mutex<Seen>>,
}

impl Load {
    /// Has requests sent from the `first` on.
    pub fn start(scene: &Scene, gate: &Gate, first: usize, seed: u64) -> Result<Self, CrashError> {
        let check = gate.address("check").cloned().ok_or(CrashError::Listener("check"))?;
        let control = gate.address("control").cloned().ok_or(CrashError::Listener("control"))?;
        let bytes: Vec<Vec<u8>> = scene.requests.iter().skip(first).map(|prepared| prepared.bytes.clone()).collect();
        let (bytes, next, seen) = (Arc::new(bytes), Arc::new(AtomicUsize::new(0)), Arc::default());
        let writer = |number: u64| {
            let (bytes, next, seen) = (Arc::clone(&bytes), Arc::clone(&next), Arc::clone(&seen));
            let (mut check, mut control) = (Client::new(check.clone()), Client::new(control.clone()));
            let mut random = StdRng::seed_from_u64(seed ^ number);
            thread::spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(bytes) = bytes.get(number) else { return };
                    if !send(first + number, bytes, (&mut check, &mut control), &mut random, &seen) {
                        return;
                    }
                }
            })
        };
        let writers = (0..WRITERS).map(writer).collect();
        Ok(Self { writers, seen })
    }

    /// Waits until the gate has left them all.
    pub fn end(self) -> Result<Seen, CrashError> {
        for writer in self.writers {
            writer.join().map_err(|_| std::io::Error::other("a writer panicked"))?;
        }
        Ok(std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Sends one request, and settles most of what is admitted; `false` where the gate has left.
fn send(
    request: usize,
    bytes: &[u8],
    (check, control): (&mut Client, &mut Client),
    random: &mut StdRng,
    seen: &Mutex<Seen>,
) -> bool {
    let outcome = check.ask(bytes);
    let left = matches!(outcome, target::Outcome::Unknown { .. });
    let call = match outcome {
        target::Outcome::Admitted { decision, .. } if random.random_range(0..10) < 7 => {
            Some(Call { decision, commit: random.random_range(0..4) > 0 })
        }
        _ => None,
    };
    let answered = call.map(|call| settle(control, call));
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.answers.push((request, outcome));
    match (call, answered) {
        (Some(call), Some(Ok(200))) => seen.settled.push(call),
        (Some(call), _) => seen.unanswered.push(call),
        (None, _) => {}
    }
    !left
}

/// Clients that send at once.
const WRITERS: u64 = 8;

/// Requests signed for each round: more than a gate answers in the time.
const REQUESTS: usize = if cfg!(debug_assertions) { 1_000 } else { 4_000 };
