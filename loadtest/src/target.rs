//! What requests are sent to: a gate behind a socket, or an engine in this process.

use std::time::{Duration, Instant};

use crate::pool::Prepared;
use crate::wire::{Failure, Wire, WireError};

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It may pass, under this decision. Whether the gate calls it a duplicate, of an order that it has admitted before,
    /// is not known behind a proxy.
    Admitted { decision: u128, duplicate: Option<bool> },
    /// It was refused, with this code.
    Refused { code: String },
    /// It was answered, by a server that does not decide.
    Answered,
    /// Nobody can tell.
    Unknown { timed_out: bool },
}

/// Answers to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Its position in the pool.
    pub request: usize,
    pub sent: Instant,
    pub at: Instant,
    /// The time by which it was decided, in seconds since 1970, where that is known: that of a gate in this process.
    pub as_of_s: Option<i64>,
    pub outcome: Outcome,
}

/// Why a run can't go on.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("a request could not be read back: {0}")]
    Request(&'static str),
    #[error("the log of latencies can't be written: {0}")]
    Log(std::io::Error),
}

/// Takes requests and gives answers.
pub trait Target {
    /// Sends a request; `false` where none can be sent now.
    ///
    /// # Errors
    /// [`TargetError`] where nothing can be sent any more.
    fn send(&mut self, request: usize, prepared: &Prepared) -> Result<bool, TargetError>;

    /// Waits for answers, at most this long; hands them out.
    ///
    /// # Errors
    /// As [`Target::send`].
    fn poll(&mut self, patience: Duration, answers: &mut Vec<Answered>) -> Result<(), TargetError>;
}

/// A gate behind a socket.
pub struct Remote {
    wire: Wire,
    /// Whether the answers are verdicts.
    decides: bool,
}

impl Remote {
    /// Takes the connections; `decides` tells whether answers are a gate's verdicts.
    pub const fn new(wire: Wire, decides: bool) -> Self {
        Self { wire, decides }
    }
}

impl Target for Remote {
    fn send(&mut self, request: usize, prepared: &Prepared) -> Result<bool, TargetError> {
        Ok(self.wire.send(request as u64, &prepared.bytes)?)
    }

    fn poll(&mut self, patience: Duration, answers: &mut Vec<Answered>) -> Result<(), TargetError> {
        let decides = self.decides;
        self.wire.poll(Some(patience), &mut |done| {
            let outcome = match done.outcome {
                Ok(answer) if decides => read(answer.status, answer.body),
                Ok(answer) if answer.status == 200 => Outcome::Answered,
                Ok(answer) => Outcome::Refused { code: answer.status.to_string() },
                Err(failure) => Outcome::Unknown { timed_out: matches!(failure, Failure::TimedOut) },
            };
            let request = usize::try_from(done.tag).unwrap_or(usize::MAX);
            answers.push(Answered { request, sent: done.sent, at: Instant::now(), as_of_s: None, outcome });
        })?;
        Ok(())
    }
}

/// Reads a gate's verdict, or the answer that it forwarded of an upstream that repeats the decision.
pub fn read(status: u16, body: &[u8]) -> Outcome {
    #[derive(serde::Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        decision: Option<&'a str>,
        duplicate: Option<bool>,
        #[serde(borrow)]
        code: Option<std::borrow::Cow<'a, str>>,
    }
    let body: Option<Body<'_>> = serde_json::from_slice(body).ok();
    let decision = body.as_ref().and_then(|body| u128::from_str_radix(body.decision?, 16).ok());
    match (status, decision) {
        (200..=299, Some(decision)) => {
            let duplicate = body.as_ref().and_then(|body| body.duplicate);
            Outcome::Admitted { decision, duplicate }
        }
        // A gate that fails, or an upstream that does: what became of it nobody can tell.
        (200..=299 | 500.., _) => Outcome::Unknown { timed_out: false },
        _ => {
            let code = body.and_then(|body| body.code).map_or_else(|| status.to_string(), std::borrow::Cow::into_owned);
            Outcome::Refused { code: format!("{status} {code}") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_and_what_is_none_is_unknown() {
        let admitted = br#"{"decision":"596049f79d0ba3ecae694f94cd9bea46","merchant":"1","duplicate":false}"#;
        let decision = 0x5960_49f7_9d0b_a3ec_ae69_4f94_cd9b_ea46;
        assert_eq!(read(200, admitted), Outcome::Admitted { decision, duplicate: Some(false) });
        let forwarded = br#"{"prepay_id":"wx20","decision":"596049f79d0ba3ecae694f94cd9bea46"}"#;
        assert_eq!(read(200, forwarded), Outcome::Admitted { decision, duplicate: None });
        let refused = br#"{"code":"RULE_LIMIT","message":"a \"limit\""}"#;
        assert_eq!(read(403, refused), Outcome::Refused { code: "403 RULE_LIMIT".to_owned() });
        assert_eq!(read(404, b"<html>"), Outcome::Refused { code: "404 404".to_owned() });
        for (status, body) in [(200, &b"{}"[..]), (200, b""), (500, refused), (503, b"")] {
            assert_eq!(read(status, body), Outcome::Unknown { timed_out: false }, "{status}");
        }
    }
}
