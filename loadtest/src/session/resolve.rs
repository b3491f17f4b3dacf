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
        let known = outcome.is_some_and(|outcome| keeper.enter(&outcome, prepared, crate::now_s(), Instant::now()));
        unresolved += usize::from(!known);
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

/// Waits until the gate has ended all holds, the last of which begin now at the latest.
pub(super) fn wait_for_holds(control: &wire::Target, hold_s: u32) -> Result<(), SessionError> {
    let patience = Duration::from_secs(hold_s.into()) + SWEPT_WITHIN;
    let began = Instant::now();
    loop {
        std::thread::sleep(HOLDS_POLL);
        if !fetch(control, EXPORT)?.lines().any(holds) {
            return Ok(());
        }
        if began.elapsed() > patience {
            return Err(SessionError::Impossible(format!("the gate did not end all holds within {patience:?}")));
        }
    }
}

/// Tells whether a line of the export says that something is held.
fn holds(line: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Row {
        windows: Vec<Window>,
    }
    #[derive(serde::Deserialize)]
    struct Window {
        held: u64,
    }
    // A line that can't be read is found when the books are compared.
    serde_json::from_str(line).is_ok_and(|row: Row| row.windows.iter().any(|window| window.held > 0))
}

/// Where a gate shows what is used of all limits.
pub(super) const EXPORT: &str = "/v1/usage/export";

/// How long a gate may take to notice that a hold has run out: it looks at a part of the orders each second.
const SWEPT_WITHIN: Duration = Duration::from_secs(150);

/// How often it is asked whether anything is held.
const HOLDS_POLL: Duration = Duration::from_secs(2);

/// How long the last settles and questions may take.
pub(super) const FINISHED_WITHIN: Duration = Duration::from_secs(30);

/// How often a request is sent again whose outcome is unknown.
const ASKED_AGAIN: usize = 3;

/// Longest export, in bytes.
const EXPORT_BYTES_MAX: usize = 1 << 30;
