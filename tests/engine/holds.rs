//! What is held until it is known whether the money moved: rules that other gates got wrong, and what settles a hold.

use tollgate::admission::{Event, Outcome, SettleAs, SettleFault, Settled, State};
use tollgate::merchant::{ExpiryRule, HoldRules, LimitSpec, Measure, Predicate, Refunds, SettledFacts};
use tollgate::reason::Reason;
use tollgate::time::UnixMillis;
use tollgate::types::{AccountClass, Channel, DecisionId, Instrument, Unit};

use crate::gate::{Gate, Setup, always_certified, fen, merchant_day};
use crate::signer::{Draft, serial};

const NO_FACTS: SettledFacts =
    SettledFacts { channel: None, instrument: None, account_class: None, code_grade: None, authentication: None };

/// A gate that holds orders for an hour, and on which refunds may be asked for.
fn gate(limits: impl IntoIterator<Item = LimitSpec>, on_expiry: ExpiryRule) -> Gate {
    let setup = Setup { holds: HoldRules { hold_s: 3_600, on_expiry }, ..Setup::limited(limits) };
    setup.first(|merchant| merchant.keys = vec![always_certified(0, &serial(0))]).gate()
}

fn day() -> Gate {
    gate([merchant_day("day", 100)], ExpiryRule::Release)
}

/// An order that was created upstream and may yet be paid.
fn created(gate: &mut Gate, number: &str, amount: u64) -> DecisionId {
    let admission = gate.admit(&Draft::native(0, number, amount));
    let id = admission.id;
    admission.answered(200, br#"{"code_url":"weixin://"}"#);
    id
}

/// An order that was paid.
fn paid(gate: &mut Gate, number: &str, amount: u64) -> DecisionId {
    let admission = gate.admit(&Draft::codepay(0, number, amount));
    let id = admission.id;
    admission.settle(Outcome::Done);
    id
}

fn refund(gate: &mut Gate, number: &str, original: &str, amount: u64, body: &[u8]) {
    gate.admit(&Draft::refund_of(0, number, original, amount)).answered(200, body);
}

fn settle(gate: &Gate, id: DecisionId, settle: SettleAs) -> Result<Settled, SettleFault> {
    gate.shared.settle(id, settle, &NO_FACTS, gate.now)
}

fn events(gate: &Gate) -> Vec<(Event, u64)> {
    gate.shared.settlements(100).into_iter().map(|one| (one.event, one.amount_fen)).collect()
}

const SUCCESS: &[u8] = br#"{"status":"SUCCESS"}"#;

#[test]
fn a_retried_reserve_takes_nothing_more_and_names_the_decision_that_holds() {
    let mut gate = day();
    let first = gate.admit(&Draft::native(0, "T1", 60));
    let holder = first.id;
    let retried = gate.admit(&Draft::native(0, "T1", 60));
    assert_eq!((retried.id, retried.duplicate, gate.books("day")), (holder, true, (60, 60, 0)));
    first.answered(200, b"{}");
    retried.answered(500, b"");
    let late = gate.admit(&Draft::native(0, "T1", 60));
    assert_eq!((late.id, gate.books("day")), (holder, (60, 60, 0)));
    late.settle(Outcome::Refused);
    assert_eq!(gate.books("day"), (60, 60, 0), "a refused retry frees nothing of what was created");
    gate.shared.settle(holder, SettleAs::Commit, &NO_FACTS, gate.now).expect("held");
    let after = gate.admit(&Draft::native(0, "T1", 60));
    assert_eq!((after.id, gate.books("day")), (holder, (60, 0, 60)));
    gate.assert_conserved();
}

#[test]
fn a_check_and_a_reserve_read_the_same_figure() {
    let mut gate = day();
    let _held = created(&mut gate, "T1", 60);
    paid(&mut gate, "T2", 20);
    for (amount, refused) in [(20, None), (21, Some(Reason::LimitExceeded))] {
        let call = Draft::native(0, "T3", amount).sign(gate.now);
        let explanation = gate.shared.explain(&call.request(), gate.now);
        assert_eq!(explanation.refused(), refused, "{explanation}");
        assert!(explanation.to_string().contains("used 80, ceiling 100, room 20"), "{explanation}");
        match refused {
            None => drop(gate.admit_call(&call)),
            Some(reason) => assert_eq!(gate.refuse_call(&call).reason, reason),
        }
    }
}

#[test]
fn the_sweep_ends_holds_whatever_becomes_of_them_and_in_every_mode_of_limits() {
    use tollgate::types::LimitMode;
    for (on_expiry, mode, left, event) in [
        (ExpiryRule::Release, LimitMode::Enforce, (0, 0, 0), Event::Expired),
        (ExpiryRule::Release, LimitMode::Shadow, (0, 0, 0), Event::Expired),
        (ExpiryRule::Keep, LimitMode::Enforce, (60, 0, 60), Event::ExpiredKept),
        (ExpiryRule::Keep, LimitMode::Shadow, (60, 0, 60), Event::ExpiredKept),
    ] {
        let mut gate = gate([LimitSpec { mode, ..merchant_day("day", 100) }], on_expiry);
        let id = created(&mut gate, "T1", 60);
        gate.pass(3_600);
        gate.sweep();
        assert_eq!((gate.books("day"), events(&gate)), ((60, 60, 0), vec![]), "it may be paid in the last second");
        gate.pass(1);
        gate.sweep();
        assert_eq!((gate.books("day"), events(&gate)), (left, vec![(event, 60)]));
        assert_eq!(gate.shared.settlements(1)[0].decision, id);
        gate.sweep();
        assert_eq!(events(&gate).len(), 1, "once");
        gate.assert_conserved();
    }
}

#[test]
fn a_hold_lives_as_long_as_its_order_can_be_paid_and_a_little_longer() {
    let mut gate = day();
    let until = |minutes: i64| {
        let at = jiff::Timestamp::from_second(crate::signer::NOW.seconds() + minutes * 60).expect("an instant");
        format!(r#","time_expire":"{at}""#)
    };
    let order = |number: &str, minutes| {
        Draft::order(0, "/v3/pay/transactions/native", "wx-native", number, "30", &until(minutes))
    };
    gate.admit(&order("T1", 10)).answered(200, b"{}");
    gate.admit(&order("T2", 120)).answered(200, b"{}");
    assert_eq!(gate.reason(&order("T3", 31 * 24 * 60)), Reason::ParameterInvalid);
    for (second, used) in [(900, 60), (901, 30), (7_500, 30), (7_501, 0)] {
        gate.now = tollgate::time::UnixMillis(crate::signer::NOW.0 + second * 1000);
        gate.sweep();
        assert_eq!(gate.books("day").0, used, "{second}");
    }
}

#[test]
fn an_order_that_its_answer_settles_is_kept_where_no_answer_came() {
    let mut gate = day();
    let mut lost = gate.admit(&Draft::codepay(0, "T1", 60));
    lost.sent();
    drop(lost);
    gate.pass(3_601);
    gate.sweep();
    assert_eq!((gate.books("day"), events(&gate)), ((60, 0, 60), vec![(Event::ExpiredKept, 60)]));
}

#[test]
fn a_commit_after_expiry_is_taken_again_past_the_ceiling_flagged_and_counted_once() {
    for by_query in [false, true] {
        let mut gate = day();
        let id = created(&mut gate, "T1", 60);
        gate.pass(3_601);
        gate.sweep();
        paid(&mut gate, "T2", 90);
        if by_query {
            gate.admit(&Draft::query(0, "T1")).answered(200, br#"{"trade_state":"SUCCESS"}"#);
        } else {
            let late = settle(&gate, id, SettleAs::Commit).expect("known");
            assert_eq!((late.state, late.already, late.late), (State::Committed, false, true));
        }
        assert_eq!(gate.books("day"), (150, 0, 150), "past the ceiling, for the money has moved");
        for _ in 0..2 {
            gate.admit(&Draft::query(0, "T1")).answered(200, br#"{"trade_state":"SUCCESS"}"#);
            let again = settle(&gate, id, SettleAs::Commit).expect("known");
            assert_eq!((again.already, again.late), (true, false));
        }
        assert_eq!(gate.books("day").0, 150, "once");
        assert_eq!(events(&gate), [(Event::Expired, 60), (Event::CommittedLate, 60)]);
        assert_eq!(gate.reason(&Draft::native(0, "T3", 1)), Reason::LimitExceeded);
        refund(&mut gate, "R1", "T1", 60, SUCCESS);
        assert_eq!(gate.books("day").0, 90, "and it is a payment like any other");
        gate.assert_conserved();
    }
}

#[test]
fn a_confirmation_that_did_not_arrive_can_be_asked_for_again() {
    let mut gate = day();
    let id = created(&mut gate, "T1", 60);
    // The answers to these queries were lost, broken, or said nothing.
    drop(gate.admit(&Draft::query(0, "T1")));
    let mut sent = gate.admit(&Draft::query(0, "T1"));
    sent.sent();
    drop(sent);
    for outcome in [Outcome::Done, Outcome::Created, Outcome::Refused, Outcome::Unknown] {
        gate.admit(&Draft::query(0, "T1")).settle(outcome);
        assert_eq!(gate.books("day"), (60, 60, 0), "{outcome:?}");
    }
    for (status, body) in [(500, "{}"), (404, "{}"), (200, "<html>"), (200, r#"{"trade_state":"NOTPAY"}"#), (200, "{}")]
    {
        gate.admit(&Draft::query(0, "T1")).answered(status, body.as_bytes());
        assert_eq!(gate.books("day"), (60, 60, 0), "{status} {body}");
    }
    gate.admit(&Draft::query(0, "T1")).answered(200, br#"{"trade_state":"SUCCESS","bank_type":"CFT"}"#);
    assert_eq!(gate.books("day"), (60, 0, 60));
    let again = settle(&gate, id, SettleAs::Commit).expect("known");
    assert_eq!((again.state, again.already, again.late), (State::Committed, true, false));
    assert_eq!(settle(&gate, id, SettleAs::Release), Err(SettleFault::Committed));
    assert_eq!(events(&gate), [], "what answers settled is no exception");
}

#[test]
fn a_refund_without_news_gives_room_back_when_a_query_says_so_and_once() {
    let mut gate = day();
    paid(&mut gate, "T1", 60);
    refund(&mut gate, "R1", "T1", 25, br#"{"status":"PROCESSING"}"#);
    assert_eq!(gate.books("day").0, 60);
    for _ in 0..3 {
        gate.admit(&Draft::query_refund(0, "R1")).answered(200, SUCCESS);
        assert_eq!(gate.books("day").0, 35);
    }
    refund(&mut gate, "R2", "T1", 10, br#"{"status":"ABNORMAL"}"#);
    assert_eq!(gate.books("day").0, 35);
    gate.assert_conserved();
}

#[test]
fn a_merchant_or_limit_that_is_gone_does_not_keep_holds_from_ending() {
    let mut gate = day();
    let ids = ["T1", "T2", "T3"].map(|number| created(&mut gate, number, 30));
    gate.admit(&Draft::native(1, "T1", 40)).answered(200, b"{}");
    let mut gone = Setup::limited([merchant_day("other", 5)]);
    gone.merchants.remove(0);
    gate.shared.replace_policy(gone.policy()).expect("nothing is recorded");
    settle(&gate, ids[0], SettleAs::Release).expect("held");
    settle(&gate, ids[1], SettleAs::Commit).expect("held");
    gate.pass(3_601);
    gate.sweep();
    assert_eq!(events(&gate).iter().filter(|(event, _)| *event == Event::Expired).count(), 2, "{:?}", events(&gate));
    assert_eq!(gate.shared.table().used_total(), 2 * 30, "the one that was committed");
    let late = settle(&gate, ids[2], SettleAs::Commit).expect("known");
    assert!(late.late);
    gate.pass(86_400 + 1);
    gate.sweep();
    assert!(gate.shared.orders().is_empty());
    let setup =
        Setup::limited([merchant_day("day", 100)]).first(|one| one.keys = vec![always_certified(0, &serial(0))]);
    gate.shared.replace_policy(setup.policy()).expect("nothing is recorded");
    assert_eq!(gate.used("day", &["merchant", "1900000000"], 1), 60, "put back, it knows what was used");
    gate.assert_conserved();
}

/// Limits on each way to pay.
fn by_means() -> [LimitSpec; 4] {
    let on = |id: &str, predicate| LimitSpec { predicate, ..merchant_day(id, 100) };
    let credit = Predicate { instruments: vec![Instrument::CreditCard], ..Predicate::default() };
    let quick = Predicate { channels: vec![Channel::QuickPay], ..Predicate::default() };
    let balance = Predicate { channels: vec![Channel::Balance], ..Predicate::default() };
    let class = Predicate { account_classes: vec![AccountClass::I], ..Predicate::default() };
    [on("credit", credit), on("quick", quick), on("balance", balance), on("class", class)]
}

#[test]
fn what_is_learned_of_a_payment_frees_the_limits_that_it_rules_out() {
    let facts = |channel, instrument, account_class| SettledFacts { channel, instrument, account_class, ..NO_FACTS };
    for (bank, by_operator, left) in [
        ("CFT", facts(Some(Channel::Balance), None, None), [0, 0, 60, 60]),
        ("ICBC_CREDIT", facts(None, Some(Instrument::CreditCard), None), [60, 60, 0, 60]),
        ("CMB_DEBIT", facts(Some(Channel::QuickPay), Some(Instrument::DebitCard), None), [0, 60, 0, 60]),
        ("OTHERS", NO_FACTS, [60, 60, 60, 60]),
        ("", facts(None, None, Some(AccountClass::III)), [60, 60, 60, 0]),
    ] {
        let body = format!(r#"{{"out_trade_no":"T1","trade_state":"SUCCESS","bank_type":"{bank}"}}"#);
        let used = |gate: &Gate| ["credit", "quick", "balance", "class"].map(|id| gate.books(id).0);
        for way in 0..4 {
            let mut gate = gate(by_means(), ExpiryRule::Release);
            match way {
                0 => {
                    let id = created(&mut gate, "T1", 60);
                    gate.shared.settle(id, SettleAs::Commit, &by_operator, gate.now).expect("held");
                }
                _ if bank.is_empty() => continue,
                1 => _ = gate.admit(&Draft::codepay(0, "T1", 60)).answered(200, body.as_bytes()),
                2 => {
                    created(&mut gate, "T1", 60);
                    gate.admit(&Draft::query(0, "T1")).answered(200, body.as_bytes());
                }
                _ => {
                    created(&mut gate, "T1", 60);
                    let target = "/v3/pay/transactions/id/4200?mchid=1900000000";
                    gate.admit(&Draft::new(0, "GET", target, "")).answered(200, body.as_bytes());
                }
            }
            assert_eq!(used(&gate), left, "{bank} {way}");
            gate.assert_conserved();
        }
    }
}

#[test]
fn refunds_give_room_back_to_limits_that_say_so_and_never_more_than_was_taken() {
    let count = LimitSpec { unit: Unit::Count, ..merchant_day("count", 10) };
    let gross = LimitSpec { refund: Refunds::Keep, ..merchant_day("gross", 1000) };
    let mut gate = gate([merchant_day("net", 1000), gross, count], ExpiryRule::Release);
    let used = |gate: &Gate| (gate.books("net").0, gate.books("gross").0, gate.books("count").0);
    paid(&mut gate, "T1", 60);
    created(&mut gate, "T2", 40);
    assert_eq!(used(&gate), (100, 100, 2));
    for (number, original, amount, left) in [
        ("R1", "T1", 20, (80, 100, 2)),
        ("R1", "T1", 20, (80, 100, 2)),
        ("R2", "T9", 20, (80, 100, 2)),
        ("R3", "T1", 39, (41, 100, 2)),
        ("R4", "T1", 500, (40, 100, 1)),
        ("R5", "T1", 5, (40, 100, 1)),
        // What was refunded was paid.
        ("R6", "T2", 10, (30, 100, 1)),
    ] {
        refund(&mut gate, number, original, amount, SUCCESS);
        assert_eq!(used(&gate), left, "{number}");
    }
    assert_eq!(gate.books("net"), (30, 0, 30));
    // The rest of the second payment is taken back: what was refunded is not given back twice.
    gate.admit(&Draft::reverse(0, "T2")).settle(Outcome::Done);
    assert_eq!(used(&gate), (0, 60, 0));
    gate.assert_conserved();
}

#[test]
fn a_refund_of_another_day_makes_no_room_today() {
    let month = LimitSpec { month: fen(500), ..merchant_day("day", 100) };
    let mut gate = gate([month], ExpiryRule::Release);
    paid(&mut gate, "T1", 60);
    gate.pass(86_400);
    paid(&mut gate, "T2", 70);
    refund(&mut gate, "R1", "T1", 25, SUCCESS);
    assert_eq!(gate.used("day", &["merchant", "1900000000"], 0), 70);
    assert_eq!(gate.used("day", &["merchant", "1900000000"], 1), 105, "the month goes on");
}

#[test]
fn what_was_only_created_is_held_and_what_was_paid_is_not() {
    for (draft, status, body, books) in [
        (Draft::native(0, "T1", 60), 200, "{}", (60, 60, 0)),
        (Draft::codepay(0, "T1", 60), 200, r#"{"trade_state":"SUCCESS"}"#, (60, 0, 60)),
        (Draft::codepay(0, "T1", 60), 200, r#"{"trade_state":"USERPAYING"}"#, (60, 60, 0)),
        (Draft::codepay(0, "T1", 60), 202, "", (60, 60, 0)),
        (Draft::codepay(0, "T1", 60), 200, r#"{"trade_state":"PAYERROR"}"#, (0, 0, 0)),
        (Draft::codepay(0, "T1", 60), 500, r#"{"trade_state":"PAYERROR"}"#, (60, 60, 0)),
        (Draft::codepay(0, "T1", 60), 404, r#"{"trade_state":"SUCCESS"}"#, (0, 0, 0)),
    ] {
        let mut gate = day();
        gate.admit(&draft).answered(status, body.as_bytes());
        assert_eq!(gate.books("day"), books, "{} {status} {body}", draft.target);
    }
    let mut gate = day();
    gate.admit(&Draft::native(0, "T1", 30)).settle(Outcome::Done);
    gate.admit(&Draft::codepay(0, "T2", 20)).settle(Outcome::Done);
    assert_eq!(gate.books("day"), (50, 30, 20));
}

#[test]
fn a_query_takes_back_what_was_revoked_and_a_close_what_was_paid() {
    let mut gate = day();
    created(&mut gate, "T1", 30);
    paid(&mut gate, "T2", 20);
    gate.admit(&Draft::query(0, "T1")).answered(200, br#"{"trade_state":"CLOSED"}"#);
    assert_eq!(gate.books("day"), (20, 0, 20));
    gate.admit(&Draft::reverse(0, "T2")).answered(204, b"");
    assert_eq!((gate.books("day"), gate.shared.orders().len()), ((0, 0, 0), 0));
    assert_eq!(events(&gate), []);
}

#[test]
fn an_operator_settles_once_and_is_told_of_contradictions() {
    let mut gate = day();
    let [kept, freed] = ["T1", "T2"].map(|number| created(&mut gate, number, 30));
    let state = |settled: Result<Settled, SettleFault>| settled.map(|one| (one.state, one.already, one.late));
    for already in [false, true] {
        assert_eq!(state(settle(&gate, kept, SettleAs::Commit)), Ok((State::Committed, already, false)));
        assert_eq!(state(settle(&gate, freed, SettleAs::Release)), Ok((State::Released, already, false)));
    }
    assert_eq!(settle(&gate, kept, SettleAs::Release), Err(SettleFault::Committed));
    assert_eq!(settle(&gate, freed, SettleAs::Commit), Err(SettleFault::Released));
    assert_eq!(settle(&gate, DecisionId(42), SettleAs::Commit), Err(SettleFault::Unknown));
    assert_eq!(gate.books("day"), (30, 0, 30));
    assert_eq!(events(&gate), [(Event::Committed, 30), (Event::Released, 30)]);
}

#[test]
fn a_release_with_a_forward_in_flight_waits_for_its_answer_and_is_not_told_as_done() {
    for (status, used, created) in [(404, 0, 0), (200, 60, 1)] {
        let mut gate = day();
        let forward = gate.admit(&Draft::native(0, "T1", 60));
        let pending = settle(&gate, forward.id, SettleAs::Release).expect("held");
        assert_eq!((pending.state, pending.already), (State::Pending, false));
        assert_eq!((gate.books("day").0, events(&gate)), (60, vec![]));
        forward.answered(status, b"{}");
        assert_eq!((gate.books("day").0, gate.shared.orders().len()), (used, created), "{status}");
    }
}

#[test]
fn a_refund_that_names_a_payment_in_two_ways_gives_no_room() {
    let mut gate = day();
    paid(&mut gate, "T1", 60);
    let mut draft = Draft::refund_of(0, "R1", "T1", 25);
    draft.body = draft.body.replacen('{', r#"{"transaction_id":"4200000001","#, 1);
    gate.admit(&draft).answered(200, SUCCESS);
    assert_eq!(gate.books("day").0, 60, "the platform may have paid back another payment");
    refund(&mut gate, "R2", "T1", 25, SUCCESS);
    assert_eq!(gate.books("day").0, 35);
}

#[test]
fn a_refund_gives_room_only_where_its_answer_says_that_it_is_done() {
    let mut gate = day();
    paid(&mut gate, "T1", 60);
    for (number, body) in [("R1", b"".as_slice()), ("R2", b"\x1f\x8b"), ("R3", b"{}"), ("R4", br#"{"status":"?"}"#)] {
        refund(&mut gate, number, "T1", 5, body);
        assert_eq!(gate.books("day").0, 60, "{number}");
    }
}

#[test]
fn a_refund_that_succeeds_after_its_hold_ran_out_gives_room_once() {
    let mut gate = day();
    created(&mut gate, "T1", 60);
    refund(&mut gate, "R1", "T1", 25, br#"{"status":"PROCESSING"}"#);
    settle(&gate, gate.shelf.records()[0].decision, SettleAs::Commit).expect("held");
    gate.now = UnixMillis(gate.now.0 + 2 * 3_600_000);
    gate.sweep();
    assert_eq!((gate.books("day").0, events(&gate)), (60, vec![(Event::Committed, 60)]));
    for _ in 0..2 {
        gate.admit(&Draft::query_refund(0, "R1")).answered(200, SUCCESS);
        assert_eq!(gate.books("day").0, 35);
    }
}

#[test]
fn an_order_that_is_sent_again_is_held_for_as_long_as_any_of_its_requests_says() {
    let mut gate = day();
    let expiring = |gate: &Gate, in_s: i64| {
        let at = jiff::Timestamp::from_second(gate.now.seconds() + in_s).expect("an instant");
        let mut draft = Draft::native(0, "T1", 60);
        draft.body = draft.body.replacen('{', &format!(r#"{{"time_expire":"{at}","#), 1);
        draft
    };
    let first = gate.admit(&expiring(&gate, -3_600));
    let second = gate.admit(&expiring(&gate, 7_200));
    assert!(second.duplicate);
    first.answered(400, b"{}");
    second.answered(200, b"{}");
    gate.now = UnixMillis(gate.now.0 + 7_000_000);
    gate.sweep();
    assert_eq!(gate.books("day").0, 60, "it can still be paid");
    gate.now = UnixMillis(gate.now.0 + 1_000_000);
    gate.sweep();
    assert_eq!(gate.books("day").0, 0);
}

#[test]
fn a_repeat_that_is_refused_does_not_keep_what_the_first_request_gives_back() {
    let restricted = |channel| {
        Setup::limited([merchant_day("day", 100)])
            .first(|merchant| merchant.measures = vec![Measure::RestrictedChannel(channel)])
    };
    let mut gate = restricted(Channel::QuickPay).gate();
    let first = gate.admit(&Draft::native(0, "T1", 60));
    gate.shared.replace_policy(restricted(Channel::Balance).policy()).expect("nothing is recorded");
    assert_eq!(gate.reason(&Draft::native(0, "T1", 60)), Reason::ChannelRestricted);
    first.answered(400, b"{}");
    assert_eq!((gate.books("day").0, gate.shared.orders().len()), (0, 0));
}

#[test]
fn a_payment_told_after_its_order_was_released_is_shown() {
    let mut gate = day();
    let id = created(&mut gate, "T1", 60);
    settle(&gate, id, SettleAs::Release).expect("held");
    gate.admit(&Draft::query(0, "T1")).answered(200, br#"{"trade_state":"SUCCESS"}"#);
    assert_eq!(gate.books("day").0, 0);
    assert_eq!(events(&gate).last().map(|(event, _)| *event), Some(Event::PaidAfterRelease));
}
