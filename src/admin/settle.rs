//! Settle calls: what they say, and how they are answered.

use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};

use super::answer::{self, Answer};
use crate::admission::{SettleFault, Settled, State};
use crate::merchant::SettledFacts;
use crate::types::{AccountClass, Authentication, Channel, CodeGrade, DecisionId, Instrument};

/// Facts of a payment that are known once it is settled; what they rule out is not counted against a limit any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettleFacts {
    /// How the customer paid.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
    /// What the money was taken from.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub instrument: Option<Instrument>,
    /// The class of the customer's payment account.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub account_class: Option<AccountClass>,
    /// The grade of the risk precautions of a payment by bar code.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub code_grade: Option<CodeGrade>,
    /// How the payment was authenticated.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
}

impl From<SettleFacts> for SettledFacts {
    fn from(facts: SettleFacts) -> Self {
        let SettleFacts { channel, instrument, account_class, code_grade, authentication } = facts;
        Self { channel, instrument, account_class, code_grade, authentication }
    }
}

/// Reads the id of a decision: 32 lower-case hexadecimal digits, as the gate writes it. `None` for anything else.
pub fn decision_of(text: &str) -> Option<DecisionId> {
    let digits = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    digits.then(|| u128::from_str_radix(text, 16).ok().map(DecisionId)).flatten()
}

/// What is wrong with the facts of a settle call.
#[derive(Debug, thiserror::Error)]
pub(super) enum FactsFault {
    /// They are not an object of known facts and values.
    #[error("send no body, or one JSON object of the facts known: {0}")]
    Form(serde_json::Error),
    /// They are JSON, but not an object.
    #[error("send no body, or one JSON object of the facts known")]
    NoObject,
    /// They contradict each other.
    #[error("`{channel}` does not draw on `{instrument}`; correct one of them, or leave it out")]
    Contradiction {
        /// The channel.
        channel: Channel,
        /// The instrument.
        instrument: Instrument,
    },
}

impl SettleFacts {
    /// Reads the body of a settle call; no body says nothing.
    ///
    /// # Errors
    /// [`FactsFault`].
    pub(super) fn read(body: &[u8]) -> Result<Self, FactsFault> {
        let body = body.trim_ascii();
        if body.is_empty() {
            return Ok(Self::default());
        }
        // The derived reader would take an array, too.
        if !body.starts_with(b"{") {
            return Err(FactsFault::NoObject);
        }
        let facts: Self = serde_json::from_slice(body).map_err(FactsFault::Form)?;
        match (facts.channel, facts.instrument) {
            (Some(channel), Some(instrument)) if !channel.draws_on(instrument) => {
                Err(FactsFault::Contradiction { channel, instrument })
            }
            (Some(_) | None, Some(_) | None) => Ok(facts),
        }
    }
}

/// Reads a value that must not be null: a fact that is not known is left out.
fn named<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Writes what became of a settle call.
pub(super) fn answered(settled: Result<Settled, SettleFault>) -> Answer {
    match settled {
        Ok(Settled { decision, state, already, late }) => {
            answer::json(&Line { decision: decision.to_string(), state, already, late })
        }
        Err(fault) => answer::fault(status(fault), fault),
    }
}

const fn status(fault: SettleFault) -> StatusCode {
    match fault {
        SettleFault::Unknown => StatusCode::NOT_FOUND,
        SettleFault::Released | SettleFault::Committed => StatusCode::CONFLICT,
        SettleFault::Unrecorded(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[derive(Serialize)]
struct Line {
    decision: String,
    state: State,
    already: bool,
    late: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_named_as_the_gate_writes_it() {
        for id in [0, 1, 0xab, u128::MAX] {
            assert_eq!(decision_of(&DecisionId(id).to_string()), Some(DecisionId(id)));
        }
        let other = ["", "0", &"0".repeat(31), &"0".repeat(33), &"A".repeat(32), &format!("+{}", "0".repeat(31))];
        for text in other {
            assert_eq!(decision_of(text), None, "{text}");
        }
    }

    #[test]
    fn facts_are_an_object_of_known_names_and_values() {
        let all = br#" {"channel":"quick_pay","instrument":"debit_card","account_class":"ii","code_grade":"b","authentication":"fewer"}"#;
        let expected = SettleFacts {
            channel: Some(Channel::QuickPay),
            instrument: Some(Instrument::DebitCard),
            account_class: Some(AccountClass::II),
            code_grade: Some(CodeGrade::B),
            authentication: Some(Authentication::Fewer),
        };
        assert_eq!(SettleFacts::read(all).expect("facts"), expected);
        assert_eq!(serde_json::to_vec(&expected).expect("JSON").as_slice(), all.trim_ascii());
        for nothing in ["", " \r\n", "{}"] {
            assert_eq!(SettleFacts::read(nothing.as_bytes()).expect("no facts"), SettleFacts::default());
        }
        let refused = [
            r#"{"chanel":"balance"}"#,
            r#"{"channel":"cash"}"#,
            r#"{"channel":null}"#,
            r#"{"channel":"balance","channel":"balance"}"#,
            r#"["balance"]"#,
            "null",
            "\"balance\"",
            "{} {}",
            "{",
            r#"{"channel":"balance","instrument":"debit_card"}"#,
        ];
        for body in refused {
            assert!(SettleFacts::read(body.as_bytes()).is_err(), "{body}");
        }
        let unknown = SettleFacts::read(br#"{"chanel":"balance"}"#).expect_err("unknown").to_string();
        assert!(unknown.contains("`channel`, `instrument`, `account_class`, `code_grade`"), "{unknown}");
    }
}
