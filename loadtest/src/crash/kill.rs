//! A gate ended by SIGKILL at random instants, under eight writers, and as it recovers.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::Outcome;
use super::client::Client;
use super::scene::{Call, CrashError, Scene, settle};
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
        let started = crate::process::Child::start(program, &Gate::arguments(&scene.deployment), None)?;
        thread::sleep(Duration::from_millis(random.random_range(0..60)));
        started.kill()?;
    }
    let gate = scene.start(program)?;
    let faults = scene.check(&gate, round)?;
    let requests = scene.sign(REQUESTS);
    let seen = load(scene, &gate, &requests, Duration::from_millis(random.random_range(20..300)), random.random())?;
    gate.kill()?;
    let Seen { answers, settled, unanswered } = seen()?;
    for (request, outcome) in answers {
        scene.note(request, &outcome);
    }
    settled.into_iter().for_each(|call| scene.settled(call));
    scene.unanswered.extend(unanswered);
    Ok(faults)
}

/// What the writers have seen.
#[derive(Default)]
struct Seen {
    answers: Vec<(usize, target::Outcome)>,
    settled: Vec<Call>,
    unanswered: Vec<Call>,
}

/// Has eight writers send requests for so long; what is returned waits until the gate has left them all.
#[expect(clippy::type_complexity, reason = "called once, at once")]
fn load<'s>(
    scene: &'s Scene,
    gate: &Gate,
    requests: &std::ops::Range<usize>,
    time: Duration,
    seed: u64,
) -> Result<Box<dyn FnOnce() -> Result<Seen, CrashError> + 's>, CrashError> {
    let check = gate.address("check").cloned().ok_or(CrashError::Listener("check"))?;
    let control = gate.address("control").cloned().ok_or(CrashError::Listener("control"))?;
    let next = std::sync::Arc::new(AtomicUsize::new(requests.start));
    let seen = std::sync::Arc::new(Mutex::new(Seen::default()));
    let end = requests.end;
    let bytes: std::sync::Arc<Vec<Vec<u8>>> = std::sync::Arc::new(
        scene.requests.iter().skip(requests.start).map(|prepared| prepared.bytes.clone()).collect(),
    );
    let first = requests.start;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (next, seen, bytes) = (next.clone(), seen.clone(), bytes.clone());
            let (mut check, mut control) = (Client::new(check.clone()), Client::new(control.clone()));
            let mut random = StdRng::seed_from_u64(seed ^ writer);
            thread::spawn(move || {
                loop {
                    let request = next.fetch_add(1, Ordering::Relaxed);
                    let Some(bytes) = bytes.get(request - first).filter(|_| request < end) else { return };
                    let outcome = check.ask(bytes);
                    let left = matches!(outcome, target::Outcome::Unknown { .. });
                    let mut call = None;
                    if let target::Outcome::Admitted { decision } = outcome
                        && random.random_range(0..10) < 7
                    {
                        let made = Call { decision, commit: random.random_range(0..4) > 0 };
                        call = Some((made, settle(&mut control, made)));
                    }
                    let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    seen.answers.push((request, outcome));
                    match call {
                        Some((made, Ok(200))) => seen.settled.push(made),
                        Some((made, _)) => seen.unanswered.push(made),
                        None => {}
                    }
                    if left {
                        return;
                    }
                }
            })
        })
        .collect();
    thread::sleep(time);
    Ok(Box::new(move || {
        for writer in writers {
            writer.join().map_err(|_| std::io::Error::other("a writer panicked"))?;
        }
        let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(std::mem::take(&mut *seen))
    }))
}

/// Clients that send at once.
const WRITERS: u64 = 8;

/// Requests signed for each round: more than a gate answers in the time.
const REQUESTS: usize = 4_000;
