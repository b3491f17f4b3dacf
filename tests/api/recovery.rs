//! What a gate knows after it was stopped and started again.

use std::fs;
use std::path::PathBuf;

use tollgate::reason::Reason;

use crate::gate::THOUSAND_A_DAY;
use crate::request::{Request, unique};
use crate::till::{Taken, Till, held};

const LIMIT: &str = "merchant-day";

/// Files of the journal that have records.
fn segments(till: &Till) -> Vec<PathBuf> {
    let folder = till.gate.folder().join("journal");
    let names = fs::read_dir(folder).expect("a journal").map(|entry| entry.expect("an entry").path());
    let mut names: Vec<_> = names.filter(|path| path.extension().is_some_and(|ending| ending == "journal")).collect();
    names.sort();
    names
}

#[test]
fn limits_orders_and_nonces_are_as_they_were_after_a_restart() {
    let mut till = Till::new(THOUSAND_A_DAY);
    let (kept, paid, back) = (unique("o"), unique("o"), unique("o"));
    let order = Request::order(&kept, 300);
    let bytes = order.wire();
    assert_eq!(till.gate.connect("public").ask_raw(&bytes).status(), 200);
    let decision = till.last_decision();
    let committed = till.pay(&paid, 200);
    assert_eq!(till.settle(&committed, "commit", "").status(), 200);
    let released = till.pay(&back, 400);
    assert_eq!(till.settle(&released, "release", "").status(), 200);
    assert_eq!(till.taken(LIMIT), Taken { held: 300, committed: 200 });
    for _ in 0..3 {
        till.gate.restart();
        assert_eq!(till.taken(LIMIT), Taken { held: 300, committed: 200 });
        till.assert_conserved();
        assert_eq!(till.gate.connect("public").ask_raw(&bytes).status(), 401, "the nonce was used before");
        assert_eq!(till.pay(&kept, 300), decision, "the order is the same decision");
        let again = till.settle(&committed, "commit", "");
        assert!(String::from_utf8_lossy(&again.body).contains("\"already\":true"), "{again:?}");
        assert_eq!(till.settle(&committed, "release", "").status(), 409);
        assert_eq!(till.ask(&Request::order(&paid, 201)).status(), 403, "its number is used");
        till.refuse(&unique("o"), 501);
        assert_eq!(till.taken(LIMIT), Taken { held: 300, committed: 200 });
    }
    // The number that was freed is free, and what is held yet can be given back.
    till.pay(&back, 500);
    assert_eq!(till.settle(&decision, "release", "").status(), 200);
    till.gate.restart();
    assert_eq!(till.taken(LIMIT), Taken { held: 500, committed: 200 });
}

#[test]
fn a_refund_that_gave_room_back_has_given_it_back_after_a_restart() {
    let mut till = Till::new(THOUSAND_A_DAY);
    let (order, refund) = (unique("o"), unique("r"));
    let decision = till.pay(&order, 900);
    assert_eq!(till.settle(&decision, "commit", "").status(), 200);
    till.told(&Request::refund_of(&order, &refund, 400), r#"{"status":"SUCCESS"}"#);
    assert_eq!(till.taken(LIMIT), Taken { held: 0, committed: 500 });
    till.gate.restart();
    assert_eq!(till.taken(LIMIT), Taken { held: 0, committed: 500 });
    till.told(&Request::refund_query(&refund), &format!(r#"{{"status":"SUCCESS","out_refund_no":"{refund}"}}"#));
    assert_eq!(till.taken(LIMIT), Taken { held: 0, committed: 500 }, "it gives room back once");
}

#[test]
fn a_store_that_is_lost_is_made_again_from_the_journal() {
    let mut till = Till::new(THOUSAND_A_DAY);
    till.pay(&unique("o"), 700);
    till.gate.restart();
    // By now what the first life recorded is sealed, and stored.
    till.gate.wait_until(|readings| readings.journal.is_some_and(|journal| journal.behind_records == 0));
    till.gate.stop();
    fs::remove_dir_all(till.gate.folder().join("journal/store")).expect("removed");
    till.gate.start_again().expect("started");
    assert_eq!(till.taken(LIMIT), held(700));
}

#[test]
fn records_that_are_missing_are_named_and_the_gate_does_not_start_without_them() {
    let mut till = Till::new(THOUSAND_A_DAY);
    till.pay(&unique("o"), 700);
    till.gate.restart();
    till.pay(&unique("o"), 100);
    till.gate.stop();
    fs::remove_dir_all(till.gate.folder().join("journal/store")).expect("removed");
    let first = segments(&till).into_iter().find(|path| path.to_string_lossy().contains("000-")).expect("a segment");
    fs::remove_file(first).expect("removed");
    let refused = till.gate.start_again().expect_err("records are missing");
    assert!(refused.contains("missing") && refused.contains("accept_missing"), "{refused}");
    till.gate.settings().set("journal.accept_missing", true);
    till.gate.start_again().expect("the operator accepts it");
    assert_eq!(till.taken(LIMIT), held(100));
}

#[test]
fn damage_another_key_and_a_second_gate_are_refused_with_what_to_do() {
    let mut till = Till::new(THOUSAND_A_DAY);
    till.pay(&unique("o"), 300);
    till.pay(&unique("o"), 400);
    let second = till.gate.start_another().map(drop).expect_err("the folder is taken");
    assert!(second.contains("another gate"), "{second}");
    till.gate.stop();
    let key = till.gate.settings().key_file();
    let ours = fs::read_to_string(&key).expect("a key");
    fs::write(&key, "0123456789abcdef".repeat(4)).expect("written");
    let refused = till.gate.start_again().expect_err("another key");
    assert!(refused.contains("another deployment key"), "{refused}");
    fs::write(&key, ours).expect("written");
    let first = segments(&till).into_iter().find(|path| path.to_string_lossy().contains("000-")).expect("a segment");
    let whole = fs::read(&first).expect("bytes");
    let mut damaged = whole.clone();
    damaged[4096 + 50] ^= 1;
    fs::write(&first, &damaged).expect("written");
    // A record that was safe, as a later one says.
    match till.gate.start_again() {
        Err(refused) => assert!(refused.contains("damaged at byte") && refused.contains("journal"), "{refused}"),
        Ok(()) => panic!("damage was passed over"),
    }
    fs::write(&first, &whole).expect("written");
    till.gate.start_again().expect("whole again");
    assert_eq!(till.taken(LIMIT), held(700));
}

#[test]
fn a_limit_that_asks_for_the_disk_waits_for_it_where_the_gate_does_not() {
    let limits = format!("{THOUSAND_A_DAY}\ndurability = \"disk\"\n");
    let till = Till::with(&limits, |settings| {
        settings.set("journal.durability", "process").set("journal.exposure_ms", 60_000)
    });
    till.pay(&unique("o"), 700);
    let safe = till.gate.metric("tollgate_stage_seconds_count{stage=\"safe\"}");
    assert!(safe >= 1.0, "{safe}");
    let lax = Till::with(THOUSAND_A_DAY, |settings| {
        settings.set("journal.durability", "process").set("journal.exposure_ms", 60_000)
    });
    lax.pay(&unique("o"), 700);
    assert_eq!(lax.gate.metric("tollgate_stage_seconds_count{stage=\"safe\"}"), 0.0);
}

#[test]
fn past_the_exposure_a_decision_waits_for_the_disk() {
    let till = Till::with(THOUSAND_A_DAY, |settings| {
        settings.set("journal.durability", "process").set("journal.exposure_ms", 60_000).set("journal.exposure_fen", 0)
    });
    till.pay(&unique("o"), 700);
    assert_eq!(till.gate.metric("tollgate_stage_seconds_count{stage=\"safe\"}"), 1.0);
    till.gate.wait_until(|readings| readings.journal.is_some_and(|journal| journal.exposed_fen == 0));
}

#[test]
fn a_clock_that_was_put_back_decides_nothing_until_the_operator_says_that_it_is_right() {
    let mut till = Till::new(THOUSAND_A_DAY);
    till.gate.advance_s(200);
    till.pay(&unique("o"), 100);
    till.gate.advance_s(-200);
    let refused = || till.ask(&Request::order(&unique("o"), 100)).status();
    assert_eq!((refused(), till.gate.refused(Reason::ClockSteppedBack)), (503, 1));
    // The time is in the journal: a restart does not get around it.
    till.gate.restart();
    assert_eq!(till.ask(&Request::order(&unique("o"), 100)).status(), 503);
    assert_eq!(till.gate.ask_control("POST", "/v1/clock/accept", "").status(), 204);
    till.pay(&unique("o"), 100);
    till.gate.restart();
    till.pay(&unique("o"), 100);
    assert_eq!(till.taken(LIMIT), held(300));
}
