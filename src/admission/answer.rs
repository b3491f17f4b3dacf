//! What an answer of the upstream says of an order.

use crate::merchant::{AnswerSpec, Settle, SettledFacts, instrument_of_bank_type};
use crate::replay::Outcome;
use crate::request::json;
use crate::types::Operation;

/// What an answer says.
#[derive(Debug, Default)]
pub(super) struct News {
    /// What became of the request; `None` where the answer to a query tells nothing of its order.
    pub outcome: Option<Outcome>,
    /// How the order was paid.
    pub facts: SettledFacts,
    /// The order number in the answer.
    pub order: Option<String>,
}

impl News {
    /// Reads an answer. In doubt nobody can tell.
    pub fn read(operation: Operation, settle: Settle, spec: Option<&AnswerSpec>, status: u16, body: &[u8]) -> Self {
        let outcome = outcome(operation, settle, status);
        if !(200..300).contains(&status) {
            return match operation {
                Operation::Query => Self::default(),
                _ => Self { outcome: Some(outcome), ..Self::default() },
            };
        }
        let told = spec.and_then(|spec| Self::told(spec, body)).unwrap_or_default();
        let outcome = match operation {
            Operation::Query => return told,
            // It gives room back: only where the answer says so is it done.
            Operation::Refund if spec.is_some() && outcome == Outcome::Done => Outcome::Created,
            _ => outcome,
        };
        Self { outcome: told.outcome.or(Some(outcome)), ..told }
    }

    /// Reads the state of an order from the body; `None` where the body is not what the route says.
    fn told(spec: &AnswerSpec, body: &[u8]) -> Option<Self> {
        let found = json::read(body, &spec.wanted).ok()?;
        let text = |position: usize| found.string(position).ok().flatten();
        let state = text(spec.state);
        let outcome = state.map(|state| {
            let among = |states: &[String]| states.iter().any(|one| *one == state);
            if among(&spec.done) {
                Outcome::Done
            } else if among(&spec.refused) {
                Outcome::Refused
            } else {
                Outcome::Created
            }
        });
        let mut facts = SettledFacts::default();
        let paid_by = spec.paid_by.and_then(text);
        if let Some((channel, instrument)) = paid_by.and_then(|bank| instrument_of_bank_type(&bank)) {
            facts.channel = Some(channel);
            facts.instrument = instrument;
        }
        let order = spec.order.and_then(text).map(std::borrow::Cow::into_owned);
        Some(Self { outcome, facts, order })
    }
}

/// Reads from a status whether the upstream did what it was asked for.
fn outcome(operation: Operation, settle: Settle, status: u16) -> Outcome {
    let undoes = matches!(operation, Operation::Close | Operation::Reverse);
    match (status, settle) {
        (200 | 204, Settle::Later) => Outcome::Created,
        (200 | 204, Settle::OnAnswer | Settle::None) => Outcome::Done,
        // 202 is a promise: what it takes it takes already, what it gives it does not give yet.
        (200..300, _) if !undoes => Outcome::Created,
        // Others of the 4xx come after the deed in some frameworks: 406 and 412 are chosen by headers that nobody signs.
        (400 | 401 | 403 | 404 | 405 | 413 | 415 | 422 | 429, _) => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_settles_only_where_it_can_only_mean_one_thing() {
        let read = |operation, settle, status| News::read(operation, settle, None, status, b"").outcome;
        for refused in [400, 401, 403, 404, 405, 413, 415, 422, 429] {
            assert_eq!(read(Operation::Pay, Settle::OnAnswer, refused), Some(Outcome::Refused), "{refused}");
        }
        for unknown in [100, 302, 406, 408, 409, 412, 500, 502, 504] {
            assert_eq!(read(Operation::Pay, Settle::OnAnswer, unknown), Some(Outcome::Unknown), "{unknown}");
        }
        assert_eq!(read(Operation::Pay, Settle::OnAnswer, 200), Some(Outcome::Done));
        assert_eq!(read(Operation::Pay, Settle::Later, 200), Some(Outcome::Created));
        assert_eq!(read(Operation::Pay, Settle::OnAnswer, 202), Some(Outcome::Created));
        assert_eq!(read(Operation::Close, Settle::OnAnswer, 204), Some(Outcome::Done));
        assert_eq!(read(Operation::Close, Settle::OnAnswer, 202), Some(Outcome::Unknown));
        assert_eq!(read(Operation::Query, Settle::None, 404), None);
        assert_eq!(read(Operation::Query, Settle::None, 200), None);
    }
}
