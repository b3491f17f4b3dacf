//! What an upstream's answer says of an order: where its state stands, which states are final, and what it was paid by.

use serde::Deserialize;

use crate::request::json::Wanted;
use crate::types::{Channel, Instrument};

/// Where in an answer the outcome of an order stands, and what it may be.
///
/// A state that is neither done nor refused is not final: nobody knows yet.
#[derive(Debug)]
pub struct AnswerSpec {
    /// The members of the body that are read, each at the position that the fields below name.
    pub wanted: Wanted,
    /// The order's state.
    pub state: usize,
    /// States of an order whose money moved.
    pub done: Vec<String>,
    /// States of an order whose money never will.
    pub refused: Vec<String>,
    /// The order number, where the answer and not only the request names it.
    pub order: Option<usize>,
    /// The bank type: see [`instrument_of_bank_type`].
    pub paid_by: Option<usize>,
}

/// The form of an [`AnswerSpec`] in the route table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnswerEntry {
    state: String,
    done: Vec<String>,
    refused: Vec<String>,
    order: Option<String>,
    paid_by: Option<String>,
}

impl AnswerEntry {
    /// Checks what a route says of its answers.
    ///
    /// # Errors
    /// What to change.
    pub fn into_spec(self) -> Result<AnswerSpec, &'static str> {
        let Self { state, done, refused, order, paid_by } = self;
        if done.is_empty() {
            return Err("`answer` names at least one state that is done");
        }
        if done.iter().any(|one| refused.contains(one)) {
            return Err("a state of `answer` is either done or refused");
        }
        let mut names = vec![state];
        let mut note = |name: Option<String>| {
            name.map(|name| {
                names.push(name);
                names.len() - 1
            })
        };
        let (order, paid_by) = (note(order), note(paid_by));
        let pointers: Vec<&str> = names.iter().map(String::as_str).collect();
        let wanted =
            Wanted::new(&pointers).map_err(|_| "a pointer of `answer` is not a JSON Pointer that can be read")?;
        Ok(AnswerSpec { wanted, state: 0, done, refused, order, paid_by })
    }
}

/// Tells what a payment was paid by from the bank type (`bank_type`) of a WeChat Pay answer; `None` where it does not say.
///
/// A type that ends in `_CREDIT` or `_DEBIT` is a bank's card, `CFT` is the balance.
pub fn instrument_of_bank_type(bank_type: &str) -> Option<(Channel, Option<Instrument>)> {
    let card_of = |ending| bank_type.strip_suffix(ending).is_some_and(|bank: &str| !bank.is_empty());
    if bank_type == "CFT" {
        Some((Channel::Balance, Some(Instrument::Balance)))
    } else if card_of("_CREDIT") {
        Some((Channel::QuickPay, Some(Instrument::CreditCard)))
    } else if card_of("_DEBIT") {
        Some((Channel::QuickPay, Some(Instrument::DebitCard)))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(json: &str) -> Result<AnswerSpec, &'static str> {
        serde_json::from_str::<AnswerEntry>(json).expect("the form").into_spec()
    }

    #[test]
    fn a_bank_type_tells_card_and_balance_apart() {
        let credit = Some((Channel::QuickPay, Some(Instrument::CreditCard)));
        let debit = Some((Channel::QuickPay, Some(Instrument::DebitCard)));
        assert_eq!(["ICBC_CREDIT", "A_DEBIT_CREDIT"].map(instrument_of_bank_type), [credit; 2]);
        assert_eq!(["CMB_DEBIT", "PINGAN_DEBIT"].map(instrument_of_bank_type), [debit; 2]);
        assert_eq!(instrument_of_bank_type("CFT"), Some((Channel::Balance, Some(Instrument::Balance))));
        for unknown in
            ["", "OTHERS", "LQT", "CMC", "cft", "CFT ", "icbc_debit", "_DEBIT", "_CREDIT", "DEBIT", "ICBC_DEBIT_"]
        {
            assert_eq!(instrument_of_bank_type(unknown), None, "{unknown}");
        }
        for (channel, instrument) in [credit, debit].into_iter().flatten() {
            assert!(instrument.is_some_and(|instrument| channel.draws_on(instrument)));
        }
    }

    #[test]
    fn an_answer_is_read_at_the_places_it_names() {
        let spec =
            entry(r#"{"state":"/a","done":["D"],"refused":["R"],"order":"/o","paid_by":"/b/c"}"#).expect("usable");
        assert_eq!((spec.wanted.len(), spec.state, spec.order, spec.paid_by), (3, 0, Some(1), Some(2)));
        let spec = entry(r#"{"state":"/a","done":["D"],"refused":[],"paid_by":"/b"}"#).expect("usable");
        assert_eq!((spec.wanted.len(), spec.order, spec.paid_by), (2, None, Some(1)));
    }

    #[test]
    fn an_answer_that_says_nothing_or_two_things_is_refused() {
        for (json, problem) in [
            (r#"{"state":"/a","done":[],"refused":["R"]}"#, "at least one state that is done"),
            (r#"{"state":"/a","done":["D"],"refused":["R","D"]}"#, "either done or refused"),
            (r#"{"state":"a","done":["D"],"refused":[]}"#, "JSON Pointer"),
            (r#"{"state":"/a","done":["D"],"refused":[],"order":"path:x"}"#, "JSON Pointer"),
        ] {
            assert!(entry(json).expect_err(json).contains(problem), "{json}");
        }
    }
}
