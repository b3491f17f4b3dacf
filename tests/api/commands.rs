//! What the operator does: settles decisions, reads usage, export and metrics, over HTTP and by the program.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::deployment::deployment;
use crate::gate::{Gate, THOUSAND_A_DAY};
use crate::process::{printed, tollgate};
use crate::raw::Message;
use crate::request::{Request, unique};
use crate::till::{NOTHING, Taken, Till, committed, held};
use crate::upstream::answer;

const LIMIT: &str = "merchant-day";

fn control_of(gate: &Gate) -> String {
    gate.address("control").to_string()
}

/// Checks the answer to a settle call.
fn assert_settled(came: &Message, decision: &str, state: &str, already: bool, late: bool) {
    let expected = json!({ "decision": decision, "state": state, "already": already, "late": late });
    assert_eq!((came.status(), came.json()), (200, expected));
}

/// Makes an order on a listener and returns its decision: as told to the upstream, or to the caller in check mode.
fn decide(till: &Till, listener: &str, number: &str, fen: u64) -> String {
    let came = till.gate.connect(listener).ask(&Request::order(number, fen));
    assert_eq!(came.status(), 200, "{came:?}");
    match listener {
        "check" => came.json()["decision"].as_str().expect("a decision").to_owned(),
        _ => till.last_decision(),
    }
}

#[test]
fn a_decision_is_committed_once_and_stays_so() {
    for listener in ["public", "check"] {
        let till = Till::new(THOUSAND_A_DAY);
        let decision = decide(&till, listener, &unique("o"), 1000);
        assert_eq!(till.taken(LIMIT), held(1000), "{listener}");
        assert_settled(&till.settle(&decision, "commit", ""), &decision, "committed", false, false);
        assert_settled(&till.settle(&decision, "commit", ""), &decision, "committed", true, false);
        assert_eq!(till.settle(&decision, "release", "").status(), 409);
        assert_eq!((till.taken(LIMIT), till.events(&decision)), (committed(1000), vec!["committed".to_owned()]));
        till.refuse(&unique("o"), 1);
        till.assert_conserved();
    }
}

#[test]
fn a_decision_is_released_once_and_its_room_is_there_again() {
    for listener in ["public", "check"] {
        let till = Till::new(THOUSAND_A_DAY);
        let number = unique("o");
        let decision = decide(&till, listener, &number, 1000);
        assert_settled(&till.settle(&decision, "release", ""), &decision, "released", false, false);
        assert_settled(&till.settle(&decision, "release", ""), &decision, "released", true, false);
        assert_eq!(till.settle(&decision, "commit", "").status(), 409);
        assert_eq!((till.taken(LIMIT), till.events(&decision)), (NOTHING, vec!["released".to_owned()]));
        let again = decide(&till, listener, &number, 1000);
        assert_ne!(again, decision);
        assert_eq!(till.settle(&decision, "release", "").status(), 404, "the number has another decision now");
        assert_eq!(till.taken(LIMIT), held(1000));
        till.assert_conserved();
    }
}

#[test]
fn a_release_waits_for_what_is_under_way() {
    let till = Till::new(THOUSAND_A_DAY);
    let refused = till.upstream.then_hold(answer(400, "", "{}"));
    let mut client = till.gate.connect("public");
    client.send(&Request::order(&unique("o"), 1000).wire());
    till.upstream.wait_for(1);
    let decision = till.last_decision();
    assert_settled(&till.settle(&decision, "release", ""), &decision, "pending", false, false);
    assert_eq!(till.taken(LIMIT), held(1000), "it may be paid yet");
    refused.send(()).expect("it is waiting");
    assert_eq!(client.answer().status(), 400);
    assert_settled(&till.settle(&decision, "release", ""), &decision, "released", true, false);
    assert_eq!(till.taken(LIMIT), NOTHING);
}

#[test]
fn facts_of_a_commit_free_the_limits_that_they_rule_out() {
    const LIMITS: &str = r#"
[[limit]]
id = "quick"
when = { channel = ["quick_pay"] }
per = ["merchant"]
day_fen = 1000

[[limit]]
id = "class-three"
when = { account_class = ["iii"] }
per = ["merchant"]
day_fen = 1000
"#;
    let till = Till::new(LIMITS);
    let taken = || ["quick", "class-three"].map(|limit| till.taken(limit));
    let decision = till.pay(&unique("o"), 300);
    assert_eq!(taken(), [held(300); 2]);
    for wrong in [
        r#"{"channel":"cash"}"#,
        r#"{"chanel":"balance"}"#,
        "[]",
        "{",
        r#"{"channel":"balance","instrument":"debit_card"}"#,
    ] {
        assert_eq!(till.settle(&decision, "commit", wrong).status(), 400, "{wrong}");
    }
    assert_eq!(taken(), [held(300); 2]);
    assert_eq!(till.settle(&decision, "commit", r#"{"channel":"balance","account_class":"iii"}"#).status(), 200);
    assert_eq!(taken(), [NOTHING, committed(300)]);
    till.assert_conserved();
}

#[test]
fn only_a_decision_on_an_order_can_be_settled() {
    let till = Till::new(THOUSAND_A_DAY);
    till.told(&Request::query("a"), "{}");
    let query = till.last_decision();
    for verb in ["commit", "release"] {
        assert_eq!(till.settle(&query, verb, "").status(), 404);
        assert_eq!(till.settle(&"0".repeat(32), verb, "").status(), 404);
        assert_eq!(till.settle("1", verb, "").status(), 400);
        let get = till.gate.ask_control("GET", &format!("/v1/decisions/{query}/{verb}"), "");
        assert_eq!(get.status(), 405);
    }
    let elsewhere =
        till.gate.connect("public").ask(&Request::new("POST", &format!("/v1/decisions/{query}/commit"), ""));
    assert_eq!(elsewhere.status(), 404, "on the control listener only");
}

#[test]
fn a_commit_after_the_hold_ran_out_says_so() {
    let till = Till::with(THOUSAND_A_DAY, |settings| settings.replace("orders", "[orders]\nhold_s = 60"));
    let decision = till.pay(&unique("o"), 1000);
    till.gate.advance_s(65);
    assert_eq!(till.taken(LIMIT), NOTHING);
    assert_settled(&till.settle(&decision, "commit", ""), &decision, "committed", false, true);
    assert_settled(&till.settle(&decision, "commit", ""), &decision, "committed", true, false);
    assert_eq!(
        (till.taken(LIMIT), till.events(&decision)),
        (committed(1000), vec!["expired".into(), "committed_late".into()])
    );
}

#[test]
fn the_export_has_every_row_and_agrees_with_usage() {
    const LIMITS: &str = r#"
[[limit]]
id = "customer"
per = ["customer"]
day_fen = 1000
lifetime_fen = 100000

[[limit]]
id = "merchant"
per = ["merchant"]
day_fen = 100000
"#;
    let till = Till::new(LIMITS);
    let customers = ["o-one", "o-two", "o-three"];
    for (fen, openid) in (100..).step_by(11).zip(customers) {
        assert_eq!(till.ask(&Request::order_of(&unique("o"), fen, openid)).status(), 200);
        let decision = till.last_decision();
        assert_eq!(till.ask(&Request::order_of(&unique("o"), 2 * fen, openid)).status(), 200);
        assert_eq!(till.settle(&decision, "commit", "").status(), 200);
    }
    let exported = printed(&["usage", "--control", &control_of(&till.gate), "--export"]);
    let whole = till.gate.ask_control("GET", "/v1/usage/export", "");
    assert_eq!((whole.status(), String::from_utf8(whole.body).expect("text")), (200, exported.clone()));
    let rows = rows(&exported);

    let mut sum = Taken { held: 0, committed: 0 };
    for (fen, openid) in (100..).step_by(11).zip(customers) {
        let target = format!("/v1/usage?limit=customer&appid=wx0000000000000001&openid={openid}");
        let usage = till.gate.ask_control("GET", &target, "").json();
        for window in usage[0]["windows"].as_array().expect("windows") {
            let name = (
                usage[0]["row"].as_str().expect("a row").to_owned(),
                window["window"].as_str().expect("a name").to_owned(),
            );
            let found = rows.get(&name).unwrap_or_else(|| panic!("no {name:?} in {exported}"));
            let expected = Taken { held: 2 * fen, committed: fen };
            assert_eq!(
                (*found, number(window, "held"), number(window, "committed")),
                (expected, 2 * fen, fen),
                "{openid}"
            );
            if name.1 == "day" {
                sum = Taken { held: sum.held + found.held, committed: sum.committed + found.committed };
            }
        }
    }
    assert_eq!(till.taken("merchant"), sum, "what customers took is what the merchant got");
    assert_eq!(
        rows.len(),
        3 * 3 + 2,
        "day, month and lifetime of each customer, day and month of the merchant: {exported}"
    );
    for secret in customers.iter().chain(&[deployment().merchant.mchid]) {
        assert!(!exported.contains(secret), "rows are named by their keys alone");
    }
}

/// Reads an export: what is taken, by row and window.
fn rows(exported: &str) -> HashMap<(String, String), Taken> {
    let mut rows = HashMap::new();
    for line in exported.lines() {
        let row: Value = serde_json::from_str(line).expect("JSON");
        for window in row["windows"].as_array().expect("windows") {
            let name =
                (row["row"].as_str().expect("a row").to_owned(), window["window"].as_str().expect("a name").to_owned());
            let taken = Taken { held: number(window, "held"), committed: number(window, "committed") };
            assert_eq!(number(window, "used"), taken.held + taken.committed, "{line}");
            assert!(rows.insert(name, taken).is_none(), "twice: {line}");
        }
    }
    rows
}

fn number(window: &Value, name: &str) -> u64 {
    window[name].as_u64().unwrap_or_else(|| panic!("{name}: {window}"))
}

#[test]
fn the_program_shows_usage_and_settles() {
    let till = Till::new(THOUSAND_A_DAY);
    let (at, mchid) = (control_of(&till.gate), deployment().merchant.mchid);
    let first = till.pay(&unique("o"), 600);
    let second = till.pay(&unique("o"), 400);
    assert_eq!(printed(&["settle", "--control", &at, "commit", &first]), format!("{first}: committed\n"));
    let again = printed(&["settle", "--control", &at, "commit", &first]);
    assert_eq!(again, format!("{first}: committed already; nothing was done\n"));

    let usage = printed(&["usage", "--control", &at, "--merchant", mchid, "--json"]);
    let usage: Value = serde_json::from_str(&usage).expect("JSON");
    let expected = json!({ "used": 1000, "held": 400, "committed": 600, "ceiling": 1000, "room": 0 });
    for (name, value) in expected.as_object().expect("members") {
        assert_eq!(usage[0]["windows"][0][name], *value, "{name}: {usage}");
    }
    assert_eq!(usage[0]["subject"], json!({ "merchant": mchid }));
    let table = printed(&["usage", "--control", &at, "--merchant", mchid, "--limit", LIMIT]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let merchant = format!("merchant={mchid}");
    assert_eq!(lines[1][..8], [LIMIT, &merchant, "day", "10.00", "4.00", "6.00", "10.00", "0.00"], "{table}");

    assert_eq!(printed(&["settle", "--control", &at, "release", &second]), format!("{second}: released\n"));
    assert_eq!(till.taken(LIMIT), committed(600));
    let conflict = tollgate(&["settle", "--control", &at, "release", &first]);
    let told = String::from_utf8_lossy(&conflict.stderr).into_owned();
    assert!(conflict.status.code() == Some(1) && told.contains("committed before"), "{conflict:?}");
    let unknown = tollgate(&["usage", "--control", &at, "--limit", "nothing"]);
    let told = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(unknown.status.code() == Some(1) && told.contains("there is no limit `nothing`"), "{unknown:?}");
}

#[test]
fn metrics_tell_what_is_held_and_that_nothing_is_lost() {
    let till = Till::with(THOUSAND_A_DAY, |settings| settings.replace("orders", "[orders]\nhold_s = 7200"));
    till.pay(&unique("o"), 100);
    till.gate.advance_s(61);
    till.pay(&unique("o"), 20);
    let committed = till.pay(&unique("o"), 3);
    assert_eq!(till.settle(&committed, "commit", "").status(), 200);
    let released = till.pay(&unique("o"), 4);
    assert_eq!(till.settle(&released, "release", "").status(), 200);
    till.gate.sweep();
    let metric = |series: &str| till.gate.metric(series);
    let of_age =
        |age: &str| ["tollgate_holds", "tollgate_holds_fen"].map(|name| metric(&format!("{name}{{age=\"{age}\"}}")));
    assert_eq!(of_age("under_1m"), [1.0, 20.0]);
    assert_eq!(of_age("under_1h"), [1.0, 100.0]);
    assert_eq!((of_age("under_1d"), of_age("older")), ([0.0; 2], [0.0; 2]));
    for (event, orders, fen) in [
        ("committed", 1.0, 3.0),
        ("released", 1.0, 4.0),
        ("expired", 0.0, 0.0),
        ("expired_kept", 0.0, 0.0),
        ("committed_late", 0.0, 0.0),
    ] {
        assert_eq!(metric(&format!("tollgate_settlements_total{{event=\"{event}\"}}")), orders, "{event}");
        assert_eq!(metric(&format!("tollgate_settlements_fen_total{{event=\"{event}\"}}")), fen, "{event}");
    }
    assert_eq!(metric("tollgate_conservation_error"), 0.0);
}
