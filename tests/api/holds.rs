//! What orders hold of limits, and what the answers of the upstream make of it.

use jiff::Timestamp;
use serde_json::Value;
use tollgate::time::{Clock as _, SystemClock};

use crate::deployment::deployment;
use crate::gate::THOUSAND_A_DAY;
use crate::raw::Message;
use crate::request::{Request, unique};
use crate::till::{NOTHING, Taken, Till, committed, held};
use crate::upstream::{Act, answer, ok};

const LIMIT: &str = "merchant-day";

/// Three limits that tell apart how the customer paid.
const BY_INSTRUMENT: &str = r#"
[[limit]]
id = "credit"
when = { instrument = ["credit_card"] }
per = ["merchant"]
day_fen = 1000

[[limit]]
id = "debit"
when = { instrument = ["debit_card"] }
per = ["merchant"]
day_fen = 1000

[[limit]]
id = "balance"
when = { channel = ["balance"] }
per = ["merchant"]
day_fen = 1000
"#;

fn state(number: &str, state: &str) -> String {
    format!(r#"{{"out_trade_no":"{number}","trade_state":"{state}"}}"#)
}

fn paid_by(number: &str, bank_type: &str) -> String {
    format!(r#"{{"trade_state":"SUCCESS","out_trade_no":"{number}","bank_type":"{bank_type}"}}"#)
}

fn retry_after_s(refusal: &Message) -> Option<i64> {
    refusal.value("retry-after").map(|seconds| seconds.parse().expect("seconds"))
}

#[test]
fn an_order_past_the_limit_is_told_which_limit_and_when_there_is_room_again() {
    let till = Till::new(THOUSAND_A_DAY);
    till.pay(&unique("o"), 1000);
    assert_eq!(till.taken(LIMIT), held(1000));
    let now_s = SystemClock.now().seconds();
    let refusal = till.refuse(&unique("o"), 1);
    let detail = &refusal.json()["detail"];
    assert_eq!((detail["limit"].as_str(), detail["window"].as_str()), (Some(LIMIT), Some("day")));
    let instant = |text: &Value| text.as_str().expect("an instant").parse::<Timestamp>().expect("RFC 3339").as_second();
    let resets_at_s = instant(&detail["resets_at"]);
    assert_eq!(resets_at_s, instant(&till.day(LIMIT)["ends"]), "the end of the day by the calendar of the limit");
    let wait_s = retry_after_s(&refusal).expect("a wait");
    assert!(wait_s > 0 && (0..60).contains(&(now_s + wait_s - resets_at_s)), "{wait_s} s from {now_s}");
    assert_eq!(till.taken(LIMIT), held(1000), "a refusal takes nothing");

    let checked = till.gate.connect("check").ask(&Request::order(&unique("o"), 1));
    assert_eq!((checked.status(), instant(&checked.json()["detail"]["resets_at"])), (403, resets_at_s));
    assert!(retry_after_s(&checked).is_some());
    // No wait makes room for what is more than the whole limit.
    let larger = till.refuse(&unique("o"), 1001);
    assert_eq!((&larger.json()["detail"]["resets_at"], retry_after_s(&larger)), (&Value::Null, None));
}

#[test]
fn an_answer_that_leaves_the_order_open_changes_nothing() {
    let till = Till::new(THOUSAND_A_DAY);
    let number = unique("o");
    till.pay(&number, 1000);
    let query = |body: &str| till.told(&Request::query(&number), body);
    for open in ["NOTPAY", "USERPAYING", "ACCEPT", "success", "SOMETHING_NEW", ""] {
        query(&state(&number, open));
    }
    for unreadable in ["", "{", "[]", r#"{"trade_state":1}"#, r#"{"trade_state":"CLOSED","trade_state":"CLOSED"}"#] {
        query(unreadable);
    }
    query(r#"{"data":{"trade_state":"CLOSED"}}"#);
    for status in [201, 202, 302, 400, 404, 500] {
        let body = if status < 300 { state(&number, "NOTPAY") } else { state(&number, "CLOSED") };
        till.upstream.then(Act::Answer(answer(status, "Content-Type: application/json\r\n", &body)));
        assert_eq!(till.ask(&Request::query(&number)).status(), status);
    }
    assert_eq!(till.taken(LIMIT), held(1000));
    till.refuse(&unique("o"), 1);
    till.assert_conserved();
}

#[test]
fn a_query_that_finds_the_order_paid_commits_it() {
    for paid in ["SUCCESS", "REFUND"] {
        for by_id in [false, true] {
            let till = Till::new(THOUSAND_A_DAY);
            let number = unique("o");
            till.pay(&number, 1000);
            let query = || if by_id { Request::query_by_id("4200000001") } else { Request::query(&number) };
            till.told(&query(), &state(&number, paid));
            assert_eq!(till.taken(LIMIT), committed(1000), "{paid}, by id: {by_id}");
            till.told(&query(), &state(&number, paid));
            assert_eq!(till.taken(LIMIT), committed(1000), "once");
            till.refuse(&unique("o"), 1);
            till.assert_conserved();
        }
    }
}

#[test]
fn a_query_that_finds_the_order_ended_gives_the_room_back() {
    for ended in ["CLOSED", "REVOKED", "PAYERROR"] {
        let till = Till::new(THOUSAND_A_DAY);
        let number = unique("o");
        till.pay(&number, 1000);
        till.told(&Request::query(&number), &state(&number, ended));
        assert_eq!(till.taken(LIMIT), NOTHING, "{ended}");
        till.pay(&unique("o"), 600);
        // Told again, of an order that is over.
        till.told(&Request::query(&number), &state(&number, ended));
        assert_eq!(till.taken(LIMIT), held(600), "once");
        till.assert_conserved();
    }
}

#[test]
fn a_query_settles_only_orders_of_the_merchant_that_asks() {
    let stranger = &deployment().stranger;
    let section = format!(
        "mchid = \"{}\"\nname = \"B\"\nkind = \"ordinary\"\ncategory = \"retail\"\n[[key]]\ncertificate_file = \"{}\"\nstatus = \"active\"\n",
        stranger.mchid,
        stranger.certificate_file.display()
    );
    let till = Till::with(THOUSAND_A_DAY, |settings| settings.add_merchant(&section));
    let number = unique("o");
    till.pay(&number, 1000);
    for query in [Request::query(&number), Request::query_by_id("4200000001")] {
        let target = query.target.replace(deployment().merchant.mchid, stranger.mchid);
        let body = state(&number, "CLOSED");
        till.upstream.then(Act::Answer(ok(&body)));
        let wire = Request { target, ..query }.wire_by(stranger);
        assert_eq!(till.gate.connect("public").ask_raw(&wire).status(), 200);
    }
    assert_eq!(till.taken(LIMIT), held(1000));
}

#[test]
fn how_the_customer_paid_frees_the_limits_that_it_rules_out() {
    let cases = [
        ("ICBC_CREDIT", [committed(400), NOTHING, NOTHING]),
        ("CMB_DEBIT", [NOTHING, committed(400), NOTHING]),
        ("CFT", [NOTHING, NOTHING, committed(400)]),
        ("OTHERS", [committed(400); 3]),
    ];
    for (bank_type, expected) in cases {
        let till = Till::new(BY_INSTRUMENT);
        let taken = || ["credit", "debit", "balance"].map(|limit| till.taken(limit));
        let number = unique("o");
        till.pay(&number, 400);
        assert_eq!(taken(), [held(400); 3], "not known yet: every limit that it could fall under");
        till.told(&Request::query(&number), &paid_by(&number, bank_type));
        assert_eq!(taken(), expected, "{bank_type}");
        till.told(&Request::query(&number), &paid_by(&number, bank_type));
        assert_eq!(taken(), expected, "{bank_type}, once");
        till.assert_conserved();
    }
}

#[test]
fn a_payment_by_code_settles_with_its_own_answer() {
    let cases = [
        (r#"{"trade_state":"USERPAYING"}"#, [held(400); 3]),
        (r#"{"trade_state":"SUCCESS","bank_type":"ICBC_CREDIT"}"#, [committed(400), NOTHING, NOTHING]),
        (r#"{"trade_state":"SUCCESS"}"#, [committed(400); 3]),
        (r#"{"trade_state":"PAYERROR"}"#, [NOTHING; 3]),
        // Without a state, that the upstream took it says that it was paid.
        ("{}", [committed(400); 3]),
    ];
    for (body, expected) in cases {
        let till = Till::new(BY_INSTRUMENT);
        let taken = || ["credit", "debit", "balance"].map(|limit| till.taken(limit));
        let number = unique("o");
        till.told(&Request::code_payment(&number, 400), body);
        assert_eq!(taken(), expected, "{body}");
        if expected == [held(400); 3] {
            till.told(&Request::query(&number), &paid_by(&number, "CFT"));
            assert_eq!(taken(), [NOTHING, NOTHING, committed(400)]);
        }
        till.assert_conserved();
    }
}

#[test]
fn a_close_and_a_reversal_give_the_room_back_even_of_what_was_paid() {
    for undo in [Request::close as fn(&str) -> Request, Request::reverse] {
        let till = Till::new(THOUSAND_A_DAY);
        let number = unique("o");
        till.pay(&number, 1000);
        for status in [202, 400, 404, 500] {
            till.told_status(&undo(&number), status);
            assert_eq!(till.taken(LIMIT), held(1000), "{status}");
        }
        till.told(&Request::query(&number), &state(&number, "SUCCESS"));
        till.told_status(&undo(&number), 204);
        assert_eq!(till.taken(LIMIT), NOTHING);
        till.told_status(&undo(&number), 204);
        till.pay(&number, 1000);
        assert_eq!(till.taken(LIMIT), held(1000), "the number is free, and nothing was given back twice");
        till.assert_conserved();
    }
}

#[test]
fn a_hold_that_runs_out_is_given_back_or_kept_as_configured() {
    for (on_expiry, expected, event) in [("release", NOTHING, "expired"), ("keep", committed(1000), "expired_kept")] {
        let till = Till::with(THOUSAND_A_DAY, |settings| {
            settings.replace("orders", &format!("[orders]\nhold_s = 60\non_expiry = \"{on_expiry}\""))
        });
        let number = unique("o");
        let decision = till.pay(&number, 1000);
        till.gate.advance_s(50);
        assert_eq!((till.taken(LIMIT), till.events(&decision)), (held(1000), Vec::new()));
        till.gate.advance_s(15);
        assert_eq!((till.taken(LIMIT), till.events(&decision)), (expected, vec![event.to_owned()]), "{on_expiry}");
        till.gate.wait_for_metric(&format!("tollgate_settlements_total{{event=\"{event}\"}}"), 1.0);
        till.gate.wait_for_metric(&format!("tollgate_settlements_fen_total{{event=\"{event}\"}}"), 1000.0);
        let again = till.ask(&Request::order(&number, 1000));
        let taken = if on_expiry == "release" { 403 } else { 200 };
        assert_eq!(
            again.status(),
            taken,
            "a number that ran out is not decided anew; one that was kept is the same order"
        );
        till.assert_conserved();
    }
}

#[test]
fn a_payment_that_is_known_only_after_its_hold_ran_out_is_counted_past_the_ceiling() {
    let till = Till::with(THOUSAND_A_DAY, |settings| settings.replace("orders", "[orders]\nhold_s = 60"));
    let number = unique("o");
    let decision = till.pay(&number, 1000);
    till.gate.advance_s(65);
    let other = unique("o");
    till.pay(&other, 700);
    till.told(&Request::query(&number), &state(&number, "SUCCESS"));
    assert_eq!(till.taken(LIMIT), Taken { held: 700, committed: 1000 });
    assert_eq!(till.events(&decision), ["expired", "committed_late"]);
    till.told(&Request::query(&number), &state(&number, "SUCCESS"));
    assert_eq!(till.taken(LIMIT), Taken { held: 700, committed: 1000 }, "once");
    till.refuse(&unique("o"), 1);
    till.assert_conserved();
}

#[test]
fn a_hold_lives_as_long_as_its_order_can_be_paid() {
    let till = Till::with(THOUSAND_A_DAY, |settings| settings.replace("orders", "[orders]\nhold_s = 60"));
    let order = |fen, expires_in_s| {
        let at = Timestamp::from_second(SystemClock.now().seconds() + expires_in_s).expect("an instant");
        let order = Request::order(&unique("o"), fen);
        let body = String::from_utf8(order.body).expect("text");
        Request { body: body.replacen('{', &format!("{{\"time_expire\":\"{at}\","), 1).into_bytes(), ..order }
    };
    assert_eq!(till.ask(&order(100, 600)).status(), 200);
    // What is paid in the last second is reported a little later.
    assert_eq!(till.ask(&order(20, -3600)).status(), 200);
    assert_eq!(till.ask(&order(3, 40 * 86_400)).status(), 400);
    till.gate.advance_s(290);
    assert_eq!(till.taken(LIMIT), held(120), "neither ends with hold_s");
    till.gate.advance_s(15);
    assert_eq!(till.taken(LIMIT), held(100));
    till.gate.advance_s(580);
    assert_eq!(till.taken(LIMIT), held(100));
    till.gate.advance_s(25);
    assert_eq!(till.taken(LIMIT), NOTHING);
}

#[test]
fn what_nobody_answered_where_the_answer_was_to_be_the_outcome_is_never_given_back_by_time() {
    let till = Till::with(THOUSAND_A_DAY, |settings| settings.replace("orders", "[orders]\nhold_s = 60"));
    till.told_status(&Request::code_payment(&unique("o"), 1000), 500);
    let decision = till.last_decision();
    assert_eq!(till.taken(LIMIT), held(1000));
    till.gate.advance_s(65);
    assert_eq!((till.taken(LIMIT), till.events(&decision)), (committed(1000), vec!["expired_kept".to_owned()]));
}

#[test]
fn a_hold_outlives_a_reload_and_gives_back_to_the_limit_that_it_took_from() {
    let mut till = Till::new(THOUSAND_A_DAY);
    let number = unique("o");
    let decision = till.pay(&number, 1000);
    let reload = |till: &mut Till, limits: &str| {
        till.gate.reload(|settings| settings.replace("limit", limits)).expect("reload");
    };
    reload(&mut till, &THOUSAND_A_DAY.replace("1000", "1500"));
    assert_eq!(till.taken(LIMIT), held(1000));
    till.pay(&unique("o"), 500);
    till.refuse(&unique("o"), 1);
    reload(&mut till, "");
    let gone = till.gate.ask_control("GET", &format!("/v1/usage?limit={LIMIT}"), "");
    assert_eq!(gone.status(), 404, "{gone:?}");
    assert_eq!(till.settle(&decision, "release", "").status(), 200);
    reload(&mut till, THOUSAND_A_DAY);
    assert_eq!(till.taken(LIMIT), held(500));
    till.assert_conserved();
}
