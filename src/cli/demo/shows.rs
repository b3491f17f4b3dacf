//! What is shown beside the refusals: admissions of each kind, and limits being run into.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use serde::Serialize;

use super::client::{Answer, Signature};
use super::world::World;
use super::{DemoError, admitted, limits};

/// Something shown, with a check of all that it promises.
pub(super) struct Show {
    pub kind: &'static str,
    pub title: &'static str,
    pub steps: for<'w> fn(&'w World) -> Showing<'w>,
}

/// A show under way.
pub(super) type Showing<'w> = Pin<Box<dyn Future<Output = Result<(), DemoError>> + 'w>>;

/// How a show went.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub kind: &'static str,
    pub case: &'static str,
    pub ok: bool,
    /// What differed.
    pub difference: Option<String>,
    pub took_ms: u64,
}

/// Runs everything that is to be admitted.
pub(super) async fn admissions(world: &World) -> Vec<Shown> {
    run_all(world, admitted::ALL).await
}

/// Runs into limits.
pub(super) async fn limits(world: &World) -> Vec<Shown> {
    run_all(world, limits::ALL).await
}

async fn run_all(world: &World, shows: &[Show]) -> Vec<Shown> {
    let mut all = Vec::new();
    for Show { kind, title, steps } in shows {
        all.push(shown(kind, title, steps(world)).await);
    }
    all
}

/// Waits for the end of a show, and says how it went.
pub(super) async fn shown(kind: &'static str, case: &'static str, showing: Showing<'_>) -> Shown {
    let began = Instant::now();
    let difference = showing.await.err().map(|error| error.to_string());
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Shown { kind, case, ok: difference.is_none(), difference, took_ms }
}

/// Refuses a state of affairs that is not the one promised.
///
/// # Errors
/// With the promise, where it does not hold.
pub(super) fn promise(holds: bool, promise: &'static str) -> Result<(), DemoError> {
    if holds { Ok(()) } else { Err(DemoError::Broken(promise)) }
}

/// Takes a success with a signature that holds; returns the serial or id of the key that made it.
///
/// # Errors
/// Where it is no success, or the signature is missing or wrong.
pub(super) fn signed_by(world: &World, answer: Answer) -> Result<(Answer, String), DemoError> {
    let answer = answer.admitted()?;
    match world.verify(&answer) {
        Signature::By(key) => Ok((answer, key)),
        Signature::Absent => Err(DemoError::Broken("the answer is signed")),
        Signature::Broken => Err(DemoError::Broken("the answer's signature holds")),
    }
}
