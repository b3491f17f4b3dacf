//! What refunds give back: to limits that say so, of what was paid, once.

use crate::raw::Message;
use crate::request::{Request, unique};
use crate::till::{NOTHING, Taken, Till, committed, held};

/// A limit that gets room back, one that does not, and one that counts payments.
const LIMITS: &str = r#"
[[limit]]
id = "net"
per = ["merchant"]
day_fen = 1000

[[limit]]
id = "gross"
per = ["merchant"]
refund = "keep"
day_fen = 1000

[[limit]]
id = "often"
unit = "count"
per = ["merchant"]
day_count = 10
"#;

fn taken(till: &Till) -> [Taken; 3] {
    ["net", "gross", "often"].map(|limit| till.taken(limit))
}

/// Makes an order of so many fen that is paid.
fn paid(till: &Till, fen: u64) -> String {
    let number = unique("o");
    till.pay(&number, fen);
    till.told(&Request::query(&number), r#"{"trade_state":"SUCCESS"}"#);
    assert_eq!(taken(till), [committed(fen), committed(fen), committed(1)]);
    number
}

#[test]
fn a_refund_that_succeeds_gives_room_where_the_limit_says_so() {
    let till = Till::new(LIMITS);
    let order = paid(&till, 600);
    till.told(&Request::refund_of(&order, &unique("r"), 200), r#"{"status":"SUCCESS"}"#);
    assert_eq!(taken(&till), [committed(400), committed(600), committed(1)], "a part: it is still one payment");
    till.told(&Request::refund_of(&order, &unique("r"), 400), r#"{"status":"SUCCESS"}"#);
    assert_eq!(taken(&till), [NOTHING, committed(600), NOTHING], "all of it");
    till.told(&Request::refund_of(&order, &unique("r"), 600), r#"{"status":"SUCCESS"}"#);
    assert_eq!(taken(&till), [NOTHING, committed(600), NOTHING], "never more than was paid");
    till.assert_conserved();
}

#[test]
fn a_refund_counts_once_however_often_it_is_sent_or_asked_for() {
    let till = Till::new(LIMITS);
    let order = paid(&till, 600);
    let number = unique("r");
    for _ in 0..3 {
        till.told(&Request::refund_of(&order, &number, 200), r#"{"status":"SUCCESS"}"#);
        till.told(&Request::refund_query(&number), r#"{"status":"SUCCESS"}"#);
    }
    assert_eq!(till.taken("net"), committed(400));
    let other: Message = till.ask(&Request::refund_of(&order, &number, 201));
    assert_eq!(other.status(), 403, "under the same number it is another refund: {other:?}");
    till.assert_conserved();
}

#[test]
fn a_refund_under_way_gives_room_once_it_is_known_to_have_succeeded() {
    let till = Till::new(LIMITS);
    let order = paid(&till, 600);
    let number = unique("r");
    till.told(&Request::refund_of(&order, &number, 200), r#"{"status":"PROCESSING"}"#);
    till.told(&Request::refund_query(&number), r#"{"status":"PROCESSING"}"#);
    till.told_status(&Request::refund_query(&number), 404);
    assert_eq!(till.taken("net"), committed(600));
    till.told(&Request::refund_query(&number), r#"{"status":"SUCCESS"}"#);
    assert_eq!(taken(&till), [committed(400), committed(600), committed(1)]);
    till.assert_conserved();
}

#[test]
fn a_refund_that_comes_to_nothing_gives_nothing() {
    let till = Till::new(LIMITS);
    let order = paid(&till, 600);
    for status in ["CLOSED", "ABNORMAL"] {
        let number = unique("r");
        till.told(&Request::refund_of(&order, &number, 200), r#"{"status":"PROCESSING"}"#);
        till.told(&Request::refund_query(&number), &format!(r#"{{"status":"{status}"}}"#));
        till.told(&Request::refund_of(&order, &unique("r"), 200), &format!(r#"{{"status":"{status}"}}"#));
    }
    till.told_status(&Request::refund_of(&order, &unique("r"), 200), 403);
    till.told_status(&Request::refund_of(&order, &unique("r"), 200), 500);
    till.told(&Request::refund_of(&unique("never-made"), &unique("r"), 200), r#"{"status":"SUCCESS"}"#);
    assert_eq!(taken(&till), [committed(600), committed(600), committed(1)]);
    till.assert_conserved();
}

#[test]
fn a_refund_says_that_its_order_was_paid() {
    let till = Till::new(LIMITS);
    let order = unique("o");
    till.pay(&order, 600);
    assert_eq!(till.taken("net"), held(600));
    till.told(&Request::refund_of(&order, &unique("r"), 200), r#"{"status":"SUCCESS"}"#);
    assert_eq!(taken(&till), [committed(400), committed(600), committed(1)]);
    // The close of what is left takes back the rest, and nothing twice.
    till.told_status(&Request::close(&order), 204);
    assert_eq!(taken(&till), [NOTHING; 3]);
    till.assert_conserved();
}

#[test]
fn a_refund_that_was_only_checked_gives_room_where_it_is_committed() {
    let till = Till::new(LIMITS);
    let order = paid(&till, 600);
    let check = |fen| {
        let verdict = till.gate.connect("check").ask(&Request::refund_of(&order, &unique("r"), fen));
        assert_eq!(verdict.status(), 200, "{verdict:?}");
        verdict.json()["decision"].as_str().expect("a decision").to_owned()
    };
    let (made, never_made) = (check(200), check(100));
    assert_eq!(till.taken("net"), committed(600), "nobody knows yet");
    assert_eq!(till.settle(&never_made, "release", "").status(), 200);
    for already in [false, true] {
        assert_eq!(till.settle(&made, "commit", "").json()["already"], already);
        assert_eq!(taken(&till), [committed(400), committed(600), committed(1)]);
    }
    till.assert_conserved();
}
