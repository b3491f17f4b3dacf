//! A till: a gate in front of an upstream that answers as told, and what both know of payments.

use serde_json::Value;

use crate::deployment::deployment;
use crate::gate::{Gate, Settings};
use crate::raw::Message;
use crate::request::Request;
use crate::upstream::{Act, Upstream, answer, ok};

/// A gate and its upstream.
pub struct Till {
    pub gate: Gate,
    pub upstream: Upstream,
}

/// What is taken of the day of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub held: u64,
    pub committed: u64,
}

/// Nothing is taken.
pub const NOTHING: Taken = Taken { held: 0, committed: 0 };

impl Till {
    /// Sets up a till whose limits are those of a text.
    pub fn new(limits: &str) -> Self {
        Self::with(limits, |settings| settings)
    }

    /// Sets up a till after a change to its configuration. The merchant may also take payments by code.
    pub fn with(limits: &str, change: impl FnOnce(&mut Settings) -> &mut Settings) -> Self {
        let upstream = Upstream::start();
        let gate = Gate::with(&upstream, |settings| {
            settings.replace("limit", limits).add_to_merchant("interface", PAYMENT_CODE);
            change(settings)
        });
        Self { gate, upstream }
    }

    /// Sends a request; the upstream takes it with some answer of success.
    pub fn ask(&self, request: &Request) -> Message {
        self.gate.connect("public").ask(request)
    }

    /// Sends a request that the upstream answers with 200 and a body of JSON.
    pub fn told(&self, request: &Request, body: &str) {
        self.upstream.then(Act::Answer(ok(body)));
        let came = self.ask(request);
        assert_eq!((came.status(), came.body.as_slice()), (200, body.as_bytes()));
    }

    /// Sends a request that the upstream answers with a status.
    pub fn told_status(&self, request: &Request, status: u16) {
        self.upstream.then(Act::Answer(answer(status, "", if status == 204 { "" } else { "{}" })));
        assert_eq!(self.ask(request).status(), status);
    }

    /// Makes an order that passes, and returns the decision as the upstream was told it.
    pub fn pay(&self, number: &str, fen: u64) -> String {
        let came = self.ask(&Request::order(number, fen));
        assert_eq!(came.status(), 200, "{came:?}");
        self.last_decision()
    }

    /// Makes an order that a limit must refuse.
    pub fn refuse(&self, number: &str, fen: u64) -> Message {
        let refusal = self.ask(&Request::order(number, fen));
        assert_eq!((refusal.status(), refusal.json()["code"].as_str()), (403, Some("RULE_LIMIT")), "{refusal:?}");
        refusal
    }

    /// Returns the decision that the upstream was told last.
    pub fn last_decision(&self) -> String {
        let seen = self.upstream.seen();
        let decision = seen.last().and_then(|message| message.value("tollgate-decision"));
        decision.expect("a decision").to_owned()
    }

    /// Returns what the merchant takes of the day of a limit.
    pub fn taken(&self, limit: &str) -> Taken {
        let day = self.day(limit);
        let number = |name: &str| day[name].as_u64().unwrap_or_else(|| panic!("{name}: {day}"));
        let taken = Taken { held: number("held"), committed: number("committed") };
        assert_eq!(number("used"), taken.held + taken.committed, "{day}");
        assert_eq!(number("room"), number("ceiling").saturating_sub(number("used")), "{day}");
        taken
    }

    /// Returns the day of a limit of the merchant's, as the control listener tells it.
    pub fn day(&self, limit: &str) -> Value {
        let mchid = deployment().merchant.mchid;
        let answer = self.gate.ask_control("GET", &format!("/v1/usage?limit={limit}&merchant={mchid}"), "");
        assert_eq!(answer.status(), 200, "{answer:?}");
        let usage = answer.json();
        let limits = usage.as_array().expect("limits");
        assert_eq!((limits.len(), limits[0]["limit"].as_str()), (1, Some(limit)), "{usage}");
        let windows = limits[0]["windows"].as_array().expect("windows");
        windows.iter().find(|window| window["window"] == "day").expect("a day").clone()
    }

    /// Commits or releases a decision over the control listener.
    pub fn settle(&self, decision: &str, verb: &str, facts: &str) -> Message {
        self.gate.ask_control("POST", &format!("/v1/decisions/{decision}/{verb}"), facts)
    }

    /// Returns what became of decisions otherwise than by answers: events, oldest first.
    pub fn events(&self, decision: &str) -> Vec<String> {
        let answer = self.gate.ask_control("GET", "/v1/settlements", "");
        let lines = String::from_utf8(answer.body).expect("text");
        let settlements = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let of_it = settlements.filter(|settlement| settlement["decision"] == decision);
        of_it.map(|settlement| settlement["event"].as_str().expect("an event").to_owned()).collect()
    }

    /// Checks that what the limits show is what was taken and not given back.
    pub fn assert_conserved(&self) {
        assert_eq!(self.gate.control().readings().conservation_error, Some(0));
    }
}

/// Returns what is held, and nothing else.
pub const fn held(fen: u64) -> Taken {
    Taken { held: fen, committed: 0 }
}

/// Returns what is committed, and nothing else.
pub const fn committed(fen: u64) -> Taken {
    Taken { held: 0, committed: fen }
}

const PAYMENT_CODE: &str = r#"
kind = "payment_code"
scenario = "offline"
appids = ["wx0000000000000001"]
"#;
