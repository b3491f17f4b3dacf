//! What an answer of the upstream says of an order.

use crate::merchant::{AnswerSpec, Codes, Settle, SettledFacts, instrument_of_bank_type};
use crate::replay::Outcome;
use crate::request::{self, Found};
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
        let found = spec.and_then(|spec| Some((spec, request::read(spec.format, body, &spec.wanted).ok()?)));
        let said = match (spec.and_then(|spec| spec.codes), &found) {
            (None, _) => Said::Done,
            (Some(codes), Some((_, found))) => said(codes, found),
            (Some(_), None) => Said::Nothing,
        };
        let told = match (&said, &found) {
            (Said::Done, Some((spec, found))) => Self::told(spec, found),
            _ => Self::default(),
        };
        let outcome = match (operation, said) {
            (Operation::Query, _) => return told,
            // It gives room back: only where the answer says so is it done.
            (Operation::Refund, Said::Done) if spec.is_some() && outcome == Outcome::Done => Outcome::Created,
            (_, Said::Done) => outcome,
            (_, Said::Refused) => Outcome::Refused,
            // An order that was not understood does not exist; where money moves at once, nobody knows.
            (Operation::Pay, Said::NotUnderstood) if settle == Settle::Later => Outcome::Refused,
            (_, Said::NotUnderstood | Said::Nothing) => Outcome::Unknown,
        };
        Self { outcome: told.outcome.or(Some(outcome)), ..told }
    }

    /// Reads the state of an order.
    fn told(spec: &AnswerSpec, found: &Found<'_>) -> Self {
        let text = |position: usize| found.string(position).ok().flatten();
        let state = spec.state.and_then(text);
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
        Self { outcome, facts, order }
    }
}

/// What an answer that has always the same status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// What was asked for was done.
    Done,
    /// It was not, and will not be.
    Refused,
    /// The request was not understood.
    NotUnderstood,
    /// It may have been.
    Nothing,
}

/// Reads the codes of API v2. In doubt they say nothing.
fn said(codes: Codes, found: &Found<'_>) -> Said {
    let text = |position: usize| found.string(position).ok().flatten().unwrap_or_default();
    let [returned, result, fault] = [codes.return_code, codes.result_code, codes.err_code].map(text);
    match (&*returned, &*result) {
        ("SUCCESS", "SUCCESS") => Said::Done,
        ("SUCCESS", "FAIL") if FINAL_FAULTS.contains(&&*fault) => Said::Refused,
        ("FAIL", "") => Said::NotUnderstood,
        _ => Said::Nothing,
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

/// Error codes of API v2 with which nothing was done. Others, such as SYSTEMERROR, USERPAYING and BANKERROR, leave it open,
/// and ORDERPAID or OUT_TRADE_NO_USED tell of another request with the same number.
const FINAL_FAULTS: &[&str] = &[
    "APPID_MCHID_NOT_MATCH",
    "APPID_NOT_EXIST",
    "AUTHCODEEXPIRE",
    "AUTH_CODE_ERROR",
    "AUTH_CODE_INVALID",
    "CA_ERROR",
    "FREQUENCY_LIMITED",
    "LACK_PARAMS",
    "MCHID_NOT_EXIST",
    "NOAUTH",
    "NOTENOUGH",
    "NOTSUPORTCARD",
    "NOT_UTF8",
    "ORDERCLOSED",
    "PARAM_ERROR",
    "POST_DATA_EMPTY",
    "REQUIRE_POST_METHOD",
    "RULE_LIMIT",
    "SIGNERROR",
    "XML_FORMAT_ERROR",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merchant::Routes;

    /// Reads an answer of 200 on a route of the standard table.
    fn of_route(id: &str, body: &str) -> (Option<Outcome>, Option<String>, SettledFacts) {
        let routes = Routes::standard().expect("the standard table");
        let route = routes.iter().find(|route| route.id == id).expect("a route");
        let news = News::read(route.operation, route.settle, route.answer.as_deref(), 200, body.as_bytes());
        (news.outcome, news.order, news.facts)
    }

    #[test]
    fn an_answer_in_xml_settles_by_its_codes() {
        let answer = |fields: &str| format!("<xml>{fields}</xml>");
        let done = "<return_code>SUCCESS</return_code><result_code>SUCCESS</result_code>";
        let failed = |code: &str| {
            format!("<return_code>SUCCESS</return_code><result_code>FAIL</result_code><err_code>{code}</err_code>")
        };
        let misunderstood = "<return_code><![CDATA[FAIL]]></return_code><return_msg>x</return_msg>";
        let outcome = |id: &str, fields: &str| of_route(id, &answer(fields)).0;
        let (order, paid, refund) = ("v2.unifiedorder", "v2.micropay", "v2.refund");
        assert_eq!(outcome(order, done), Some(Outcome::Created));
        assert_eq!(outcome(paid, done), Some(Outcome::Done));
        assert_eq!(outcome(refund, done), Some(Outcome::Created), "it is only asked for");
        assert_eq!(outcome("v2.closeorder", done), Some(Outcome::Done));
        assert_eq!(outcome(order, misunderstood), Some(Outcome::Refused));
        for id in [paid, refund, "v2.closeorder", "v2.reverse"] {
            assert_eq!(outcome(id, misunderstood), Some(Outcome::Unknown), "{id}");
        }
        for id in [order, paid, refund] {
            assert_eq!(outcome(id, &failed("PARAM_ERROR")), Some(Outcome::Refused), "{id}");
            for open in ["SYSTEMERROR", "USERPAYING", "BANKERROR", "ORDERPAID", "OUT_TRADE_NO_USED", "", "NEW_CODE"] {
                assert_eq!(outcome(id, &failed(open)), Some(Outcome::Unknown), "{id} {open}");
            }
            for nothing in [
                "",
                "<return_code>SUCCESS</return_code>",
                "<return_code>FAIL</return_code><result_code>SUCCESS</result_code>",
            ] {
                assert_eq!(outcome(id, nothing), Some(Outcome::Unknown), "{id} {nothing}");
            }
            assert_eq!(of_route(id, "OK").0, Some(Outcome::Unknown));
        }
    }

    #[test]
    fn a_query_in_xml_tells_the_state_of_the_order_that_it_names() {
        let state = |codes: &str, state: &str| {
            let body = format!(
                "<xml><return_code>SUCCESS</return_code><result_code>{codes}</result_code><out_trade_no>T1</out_trade_no>\
                 <trade_state>{state}</trade_state><bank_type>ICBC_CREDIT</bank_type></xml>"
            );
            of_route("v2.orderquery", &body)
        };
        for (name, outcome) in [
            ("SUCCESS", Outcome::Done),
            ("REFUND", Outcome::Done),
            ("CLOSED", Outcome::Refused),
            ("NOTPAY", Outcome::Created),
        ] {
            assert_eq!(state("SUCCESS", name).0, Some(outcome), "{name}");
        }
        let (_, order, facts) = state("SUCCESS", "SUCCESS");
        assert_eq!((order.as_deref(), facts.instrument), (Some("T1"), Some(crate::types::Instrument::CreditCard)));
        assert_eq!(state("FAIL", "SUCCESS"), (None, None, SettledFacts::default()));
        let refund = "<xml><return_code>SUCCESS</return_code><result_code>SUCCESS</result_code>\
                      <out_refund_no_0>R1</out_refund_no_0><refund_status_0>SUCCESS</refund_status_0></xml>";
        assert_eq!(
            of_route("v2.refundquery", refund),
            (Some(Outcome::Done), Some("R1".to_owned()), SettledFacts::default())
        );
    }

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
