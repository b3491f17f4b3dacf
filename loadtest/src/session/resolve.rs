//! What is asked of a gate when all was sent: what became of requests without an answer, and its export.

use std::time::{Duration, Instant};

use super::SessionError;
use crate::pool::Prepared;
use crate::settling::Bookkeeper;
use crate::target::{self, Outcome};
use crate::wire::{self, Bounds, Wire, WireError};

/// Sends again, as a trusted hop may, what nobody knows the outcome of; returns how many, and how many stay unknown.
pub(super) fn resolve(
    keeper: &mut Bookkeeper<'_>,
    pool: &[Prepared],
    target: &wire::Target,
    bounds: Bounds,
) -> Result<(usize, usize), SessionError> {
    let unknown = std::mem::take(&mut keeper.unknown);
    if unknown.is_empty() {
        return Ok((0, 0));
    }
    let mut wire = Wire::connect(target, 1, bounds)?;
    let mut unresolved = 0;
    for request in &unknown {
        let Some(prepared) = pool.get(*request) else { continue };
        let outcome = (0..ASKED_AGAIN).find_map(|_| ask(&mut wire, &prepared.bytes).ok().flatten());
        match outcome {
            Some(Outcome::Admitted { decision }) => keeper.admit(decision, prepared, crate::now_s(), Instant::now()),
            Some(Outcome::Refused { .. }) => {}
            Some(Outcome::Answered | Outcome::Unknown { .. }) | None => {
                unresolved += 1;
            }
        }
    }
    Ok((unknown.len(), unresolved))
}

/// Sends one request and waits for its outcome; `None` where it stays unknown.
fn ask(wire: &mut Wire, bytes: &[u8]) -> Result<Option<Outcome>, WireError> {
    let mut outcome = None;
    let began = Instant::now();
    while !wire.send(0, bytes)? {
        wire.poll(Some(Duration::from_millis(10)), &mut |_| {})?;
        if began.elapsed() > FINISHED_WITHIN {
            return Ok(None);
        }
    }
    let mut answered = false;
    while !answered && began.elapsed() < FINISHED_WITHIN {
        wire.poll(Some(Duration::from_millis(10)), &mut |done| {
            answered = true;
            outcome = done.outcome.ok().map(|answer| target::read(answer.status, answer.body));
        })?;
    }
    Ok(outcome.filter(|outcome| !matches!(outcome, Outcome::Unknown { .. })))
}

/// Reads a page of the control listener.
pub(crate) fn fetch(control: &wire::Target, path: &str) -> Result<String, SessionError> {
    let bounds = Bounds { answer_bytes_max: EXPORT_BYTES_MAX, answer_timeout: FINISHED_WITHIN };
    let mut wire = Wire::connect(control, 1, bounds)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wire.send(0, request.as_bytes())?;
    let mut page = None;
    while page.is_none() {
        wire.poll(Some(Duration::from_millis(10)), &mut |done| {
            page = Some(done.outcome.map(|answer| (answer.status, String::from_utf8_lossy(answer.body).into_owned())));
        })?;
    }
    match page {
        Some(Ok((200, text))) => Ok(text),
        other => Err(SessionError::Impossible(format!("the control listener did not give {path}: {other:?}"))),
    }
}

/// How long the last settles and questions may take.
pub(super) const FINISHED_WITHIN: Duration = Duration::from_secs(30);

/// How often a request is sent again whose outcome is unknown.
const ASKED_AGAIN: usize = 3;

/// Longest export, in bytes.
const EXPORT_BYTES_MAX: usize = 1 << 30;
