//! Check mode, and what a trusted hop may do that nobody else may.

use tollgate::reason::Reason;

use crate::gate::{Gate, THOUSAND_A_DAY};
use crate::raw::Message;
use crate::request::{Request, unique};
use crate::upstream::Upstream;

fn decision(answer: &Message) -> (String, bool) {
    assert_eq!(answer.status(), 200, "{answer:?}");
    let json = answer.json();
    assert_eq!(json["merchant"], crate::deployment::deployment().merchant.mchid);
    (json["decision"].as_str().expect("a decision").to_owned(), json["duplicate"].as_bool().expect("yes or no"))
}

fn order() -> Request {
    Request::order(&unique("o"), 1)
}

#[test]
fn exactly_200_admits_and_nothing_is_forwarded() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.replace("limit", THOUSAND_A_DAY));
    for listener in ["check", "open"] {
        let mut client = gate.connect(listener);
        let (first, duplicate) = decision(&client.ask(&order()));
        assert!(!duplicate);
        assert_ne!(decision(&client.ask(&order())).0, first);
        assert_eq!(client.ask(&Request::new("GET", "/v3/certificates", "")).status(), 200, "only a verdict");
        let stranger = Request::order(&unique("o"), 1);
        let refused = [
            (401, String::from_utf8(order().wire()).expect("text").replace("\"total\":1", "\"total\":2").into_bytes()),
            (401, stranger.wire_by(&crate::deployment::deployment().stranger)),
            (403, Request::order(&unique("o"), 1001).wire()),
            (400, Request { body: b"{}".to_vec(), ..order() }.wire()),
            (404, Request { target: "/v3/nothing".to_owned(), ..order() }.wire()),
            (405, Request { method: "DELETE".to_owned(), ..order() }.wire()),
        ];
        for (status, wire) in refused {
            let refusal = client.ask_raw(&wire);
            assert_eq!(refusal.status(), status, "{refusal:?}");
            assert!(refusal.value("wechatpay-signature").is_none(), "verdicts are not signed");
        }
    }
    assert_eq!((upstream.seen().len(), upstream.connections()), (0, 0));
}

#[test]
fn a_check_takes_the_room_that_the_payment_needs() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.replace("limit", THOUSAND_A_DAY));
    decision(&gate.connect("check").ask(&Request::order(&unique("o"), 1000)));
    assert_eq!(gate.connect("public").ask(&order()).status(), 403);
    assert_eq!(gate.connect("check").ask(&order()).status(), 403);
}

#[test]
fn the_second_delivery_by_a_trusted_hop_gets_the_first_decision_and_counts_once() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.replace("limit", THOUSAND_A_DAY));
    let wire = Request::order(&unique("o"), 600).wire();
    let mut client = gate.connect("check");
    let first = decision(&client.ask_raw(&wire));
    let second = decision(&gate.connect("check").ask_raw(&wire));
    assert_eq!((first.1, second), (false, (first.0.clone(), true)));
    let full = Request::order(&unique("o"), 500).wire();
    let refusals = [client.ask_raw(&full), client.ask_raw(&full)];
    assert!(refusals.iter().all(|refusal| refusal.status() == 403), "the first refusal, too: {refusals:?}");
    assert_eq!(refusals[0].json()["code"], refusals[1].json()["code"]);
    decision(&client.ask(&Request::order(&unique("o"), 400)));
    assert_eq!(gate.refused(Reason::NonceReplayed), 0);

    // A query has no order to be found by.
    let query = Request::query("a").wire();
    decision(&client.ask_raw(&query));
    assert_eq!(client.ask_raw(&query).status(), 200);
}

#[test]
fn a_second_delivery_to_anybody_is_a_replay() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    for listener in ["open", "public"] {
        let wire = order().wire();
        assert_eq!(gate.connect(listener).ask_raw(&wire).status(), 200);
        for again in ["open", "public"] {
            let refusal = gate.connect(again).ask_raw(&wire);
            assert_eq!((refusal.status(), refusal.json()["code"].as_str()), (401, Some("SIGN_ERROR")));
        }
    }
    assert_eq!(gate.refused(Reason::NonceReplayed), 4);
    // Another request under the nonce of one before is one on a trusted hop, too.
    let first = order();
    let other = Request { nonce: first.nonce.clone(), ..order() };
    let mut client = gate.connect("check");
    assert_eq!((client.ask(&first).status(), client.ask(&other).status()), (200, 401));
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn of_many_deliveries_at_once_one_is_admitted() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("gate.workers", 4));
    for _ in 0..10 {
        let wire = order().wire();
        let mut clients: Vec<_> = (0..16).map(|_| gate.connect("open")).collect();
        clients.iter_mut().for_each(|client| client.send(&wire));
        let statuses: Vec<_> = clients.iter_mut().map(|client| client.answer().status()).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 15, "{statuses:?}");
    }
}

#[test]
fn the_customer_that_a_trusted_hop_names_is_the_one_that_counts() {
    const LIMIT: &str = "[[limit]]\nid = \"customer\"\nper = [\"customer\"]\nday_fen = 1000\n";
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.replace("limit", LIMIT));
    let ask = |listener: &str, customer: &str, openid: &str, fen| {
        let order = Request::order_of(&unique("o"), fen, openid);
        gate.connect(listener).ask(&order.header("Tollgate-Customer", customer)).status()
    };
    assert_eq!(ask("check", "c1", "o1", 1000), 200);
    assert_eq!(ask("check", "c1", "o2", 1), 403, "one customer under two openids");
    assert_eq!(ask("hop", "c1", "o3", 1), 403, "on every trusted hop");
    assert_eq!(ask("check", "c2", "o1", 1000), 200, "two customers under one openid");
    assert_eq!(ask("open", "c3", "o4", 1000), 200);
    assert_eq!(ask("open", "c4", "o4", 1), 403, "nobody else may say who the customer is");
    assert_eq!(ask("public", "c3", "o5", 1000), 200);
}

#[test]
fn the_channel_and_instrument_that_a_trusted_hop_names_choose_the_limits() {
    const LIMITS: &str = r#"
[[limit]]
id = "quick"
when = { channel = ["quick_pay"] }
per = ["merchant"]
transaction_fen = 100

[[limit]]
id = "credit"
when = { instrument = ["credit_card"] }
per = ["merchant"]
transaction_fen = 10
"#;
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.replace("limit", LIMITS));
    let ask = |listener: &str, header: &str, value: &str, fen| {
        gate.connect(listener).ask(&Request::order(&unique("o"), fen).header(header, value)).status()
    };
    let (channel, instrument) = ("Tollgate-Channel", "Tollgate-Instrument");
    assert_eq!(ask("check", channel, "balance", 1000), 200);
    assert_eq!(ask("check", channel, "quick_pay", 101), 403);
    assert_eq!(ask("check", instrument, "debit_card", 100), 200);
    assert_eq!(ask("check", instrument, "credit_card", 11), 403);
    assert_eq!(ask("check", instrument, "balance", 1000), 200);
    for listener in ["open", "public"] {
        assert_eq!(ask(listener, channel, "balance", 11), 403, "what is not known falls under every limit it could");
        assert_eq!(ask(listener, instrument, "balance", 11), 403);
        assert_eq!(ask(listener, channel, "nonsense", 10), 200);
    }
    assert_eq!(ask("check", channel, "nonsense", 1), 400);
    assert_eq!(ask("check", instrument, "", 1), 400);
    let twice = Request::order(&unique("o"), 1).header(channel, "balance").header(channel, "quick_pay");
    assert_eq!(gate.connect("check").ask(&twice).status(), 400);
}

#[test]
fn the_scenario_that_a_trusted_hop_names_must_be_approved() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let ask = |listener: &str, scenario: &str| {
        gate.connect(listener).ask(&order().header("Tollgate-Scenario", scenario)).status()
    };
    assert_eq!(ask("check", "official_account"), 200);
    assert_eq!(ask("check", "offline"), 403);
    assert_eq!(ask("open", "offline"), 200, "from anybody else it says nothing");
}

#[test]
fn the_upstream_is_told_which_channel_is_closed() {
    const MEASURE: &str = "kind = \"restricted_channel\"\nchannel = \"quick_pay\"\nauthor = \"a\"\nreason = \"r\"\nsince = 2026-11-21T09:30:00+08:00\n";
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.add_to_merchant("measure", MEASURE));
    assert_eq!(gate.connect("public").ask(&order()).status(), 200);
    assert_eq!(upstream.seen()[0].value("tollgate-channel-excluded"), Some("quick_pay"));
    assert_eq!(gate.connect("check").ask(&order().header("Tollgate-Channel", "quick_pay")).status(), 403);
}
