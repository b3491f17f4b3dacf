//! Settle calls, and what became of decisions.

use super::*;
use crate::types::{Channel, Instrument};

fn path(decision: u128, verb: &str) -> String {
    format!("/v1/decisions/{}/{verb}", DecisionId(decision))
}

fn line(decision: u128, rest: &str) -> String {
    format!(r#"{{"decision":"{}",{rest}}}"#, DecisionId(decision))
}

#[test]
fn a_settle_call_is_answered_with_what_became_of_the_decision() {
    let gate = Running::usual();
    for (decision, verb, rest) in [
        (0xab, "commit", r#""state":"committed","already":false,"late":false"#),
        (0xab, "commit", r#""state":"committed","already":true,"late":false"#),
        (0xcd, "release", r#""state":"released","already":false,"late":false"#),
        (0xcd, "release", r#""state":"released","already":true,"late":false"#),
        (1, "commit", r#""state":"committed","already":false,"late":true"#),
        (2, "release", r#""state":"pending","already":false,"late":false"#),
    ] {
        let answer = gate.post(&path(decision, verb), "");
        assert_eq!((status(&answer), body(&answer)), ("200", line(decision, rest).as_str()));
        assert!(answer.contains("content-type: application/json\r\n"));
        let settle = if verb == "commit" { SettleAs::Commit } else { SettleAs::Release };
        let asked = Asked::Settle(DecisionId(decision), settle, SettleFacts::default());
        assert_eq!(gate.control.asked(), [asked], "{decision} {verb}");
    }
    gate.stop();
}

#[test]
fn a_decision_that_cannot_be_settled_so_says_why() {
    let gate = Running::usual();
    let unknown = gate.post(&path(0, "commit"), "");
    assert_eq!((status(&unknown), body(&unknown)), ("404", format!("{}\n", SettleFault::Unknown).as_str()));
    for (decision, first, then, fault) in
        [(7, "commit", "release", SettleFault::Committed), (8, "release", "commit", SettleFault::Released)]
    {
        assert_eq!(status(&gate.post(&path(decision, first), "")), "200");
        let refused = gate.post(&path(decision, then), "");
        assert_eq!((status(&refused), body(&refused)), ("409", format!("{fault}\n").as_str()));
    }
    gate.stop();
}

#[test]
fn a_settle_call_may_name_facts() {
    let gate = Running::usual();
    let answer = gate.post(&path(9, "commit"), r#"{"channel":"quick_pay","instrument":"credit_card"}"#);
    assert_eq!(status(&answer), "200");
    let facts = SettleFacts {
        channel: Some(Channel::QuickPay),
        instrument: Some(Instrument::CreditCard),
        ..SettleFacts::default()
    };
    assert_eq!(gate.control.asked(), [Asked::Settle(DecisionId(9), SettleAs::Commit, facts)]);
    gate.stop();
}

#[test]
fn a_settle_call_with_a_mistake_never_reaches_the_gate() {
    let gate = Running::usual();
    let upper = format!("/v1/decisions/{}/commit", "A".repeat(32));
    for target in ["/v1/decisions/ab/commit", "/v1/decisions//release", &upper, &format!("{}?x=1", path(9, "commit"))] {
        assert_eq!(status(&gate.post(target, "")), "400", "{target}");
    }
    for facts in [r#"{"chanel":"balance"}"#, r#"{"channel":"cash"}"#, "[]", "{", "x"] {
        assert_eq!(status(&gate.post(&path(9, "commit"), facts)), "400", "{facts}");
    }
    let contradiction = gate.post(&path(9, "commit"), r#"{"channel":"balance","instrument":"credit_card"}"#);
    assert!(body(&contradiction).contains("`balance` does not draw on `credit_card`"), "{contradiction}");
    assert_eq!(gate.control.asked(), []);
    gate.stop();
}

#[test]
fn settlements_are_json_lines_of_their_fields() {
    let gate = Running::usual();
    let answer = gate.get("/v1/settlements?last=7");
    let of = |event| {
        let rest = format!(r#""amount_fen":100,"event":"{event}""#);
        format!(r#"{{"at":"2026-11-21T16:00:00.123Z",{}"#, line(0xab, &rest).trim_start_matches('{'))
    };
    assert_eq!(
        (status(&answer), body(&answer)),
        ("200", format!("{}\n{}\n", of("expired"), of("committed_late")).as_str())
    );
    assert!(answer.contains("content-type: application/x-ndjson\r\n"));
    assert_eq!(gate.control.asked(), [Asked::Settlements(7)]);
    for query in ["?", "?last=0", "?last=10001", "?first=1"] {
        assert_eq!(status(&gate.get(&format!("/v1/settlements{query}"))), "400", "{query}");
    }
    assert_eq!(status(&gate.get("/v1/settlements")), "200");
    assert_eq!(gate.control.asked(), [Asked::Settlements(100)]);
    gate.stop();
}
