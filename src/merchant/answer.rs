//! What an upstream's answer says of an order: where its state stands, which states are final, and what it was paid by.

use serde::Deserialize;

use crate::request::Format;
use crate::request::json::Wanted;
use crate::types::{Channel, Instrument};

/// Where in an answer the outcome of an order stands, and what it may be.
///
/// A state that is neither done nor refused is not final: nobody knows yet.
#[derive(Debug)]
pub struct AnswerSpec {
    /// How the body is written.
    pub format: Format,
    /// The members of the body that are read, each at the position that the fields below name.
    pub wanted: Wanted,
    /// The order's state, where the answer names one.
    pub state: Option<usize>,
    /// States of an order whose money moved.
    pub done: Vec<String>,
    /// States of an order whose money never will.
    pub refused: Vec<String>,
    /// The order number, where the answer and not only the request names it.
    pub order: Option<usize>,
    /// The bank type: see [`instrument_of_bank_type`].
    pub paid_by: Option<usize>,
    /// What stands in place of an HTTP status, where every answer has 200.
    pub codes: Option<Codes>,
}

/// Where an answer of API v2 says what became of the request.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    /// Whether the request was understood.
    pub return_code: usize,
    /// Whether what it asks for was done.
    pub result_code: usize,
    /// Why it was not.
    pub err_code: usize,
}

/// The form of an [`AnswerSpec`] in the route table.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnswerEntry {
    state: Option<String>,
    #[serde(default)]
    done: Vec<String>,
    #[serde(default)]
    refused: Vec<String>,
    order: Option<String>,
    paid_by: Option<String>,
}

impl AnswerSpec {
    /// Checks what a route says of its answers. XML says something even where the route names nothing.
    ///
    /// # Errors
    /// What to change.
    pub(super) fn new(entry: Option<AnswerEntry>, format: Format) -> Result<Option<Self>, &'static str> {
        match (entry, format) {
            (None, Format::Json) => Ok(None),
            (entry, format) => Self::of(entry.unwrap_or_default(), format).map(Some),
        }
    }

    fn of(entry: AnswerEntry, format: Format) -> Result<Self, &'static str> {
        let AnswerEntry { state, done, refused, order, paid_by } = entry;
        if state.is_none() && format == Format::Json {
            return Err("`answer` names where the state stands");
        }
        if done.is_empty() && state.is_some() {
            return Err("`answer` names at least one state that is done");
        }
        if state.is_none() && !(done.is_empty() && refused.is_empty()) {
            return Err("`answer` names where the state stands that is done or refused");
        }
        if done.iter().any(|one| refused.contains(one)) {
            return Err("a state of `answer` is either done or refused");
        }
        let mut names = Vec::new();
        let mut note = |name: String| {
            names.push(name);
            names.len() - 1
        };
        let (state, order, paid_by) = (state.map(&mut note), order.map(&mut note), paid_by.map(&mut note));
        let codes = (format == Format::Xml).then(|| Codes {
            return_code: note("/return_code".to_owned()),
            result_code: note("/result_code".to_owned()),
            err_code: note("/err_code".to_owned()),
        });
        let pointers: Vec<&str> = names.iter().map(String::as_str).collect();
        let wanted =
            Wanted::new(&pointers).map_err(|_| "a pointer of `answer` is not a JSON Pointer that can be read")?;
        Ok(Self { format, wanted, state, done, refused, order, paid_by, codes })
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
        let entry = serde_json::from_str::<AnswerEntry>(json).expect("the form");
        AnswerSpec::new(Some(entry), Format::Json).map(|spec| spec.expect("one that was given"))
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
        assert_eq!((spec.wanted.len(), spec.state, spec.order, spec.paid_by), (3, Some(0), Some(1), Some(2)));
        let spec = entry(r#"{"state":"/a","done":["D"],"refused":[],"paid_by":"/b"}"#).expect("usable");
        assert_eq!((spec.wanted.len(), spec.order, spec.paid_by), (2, None, Some(1)));
    }

    #[test]
    fn an_answer_in_xml_says_something_even_where_the_route_names_nothing() {
        let spec = AnswerSpec::new(None, Format::Xml).expect("usable").expect("a specification");
        assert_eq!((spec.wanted.len(), spec.state, spec.codes.is_some()), (3, None, true));
        assert!(AnswerSpec::new(None, Format::Json).expect("usable").is_none());
        let entry = serde_json::from_str(r#"{"paid_by":"/bank_type"}"#).expect("the form");
        let spec = AnswerSpec::new(Some(entry), Format::Xml).expect("usable").expect("a specification");
        assert_eq!((spec.paid_by, spec.codes.map(|codes| codes.err_code)), (Some(0), Some(3)));
    }

    #[test]
    fn an_answer_that_says_nothing_or_two_things_is_refused() {
        for (json, problem) in [
            (r#"{"state":"/a","done":[],"refused":["R"]}"#, "at least one state that is done"),
            (r#"{"done":["D"],"refused":["R"]}"#, "where the state stands"),
            (r#"{"state":"/a","done":["D"],"refused":["R","D"]}"#, "either done or refused"),
            (r#"{"state":"a","done":["D"],"refused":[]}"#, "JSON Pointer"),
            (r#"{"state":"/a","done":["D"],"refused":[],"order":"path:x"}"#, "JSON Pointer"),
        ] {
            assert!(entry(json).expect_err(json).contains(problem), "{json}");
        }
    }
}
