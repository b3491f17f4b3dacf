//! Rules of holds; first those that a peer's users found broken there.

use super::*;

#[test]
fn a_retried_reserve_holds_once_and_finds_the_owning_decision() {
    let fixture = Fixture::after(Outcome::Created);
    for _ in 0..3 {
        assert_eq!(fixture.again().settle(Outcome::Created, at(0)), Settled::Nothing);
    }
    let mut held = 0;
    fixture.orders.held(&mut |charges| held += charges);
    assert_eq!(sweep_all(&fixture.orders, at(0)), []);
    let ages = fixture.orders.holds().by_age;
    assert_eq!((held, ages[0], fixture.taken()), (100, HoldAge { orders: 1, fen: 500 }, (1, 1)));
}

#[test]
fn what_is_held_counts_until_it_is_settled_and_no_longer() {
    let held = |fixture: &Fixture| {
        let mut held = 0;
        fixture.orders.held(&mut |charges| held += charges);
        held
    };
    let (fixture, first) = Fixture::decided();
    assert_eq!(held(&fixture), 100, "in flight");
    drop(first);
    assert_eq!(held(&fixture), 100, "in doubt");
    assert_eq!((fixture.commit(0), held(&fixture)), (Commit::Committed { freed: 0 }, 0));
    let fixture = Fixture::after(Outcome::Created);
    assert_eq!((fixture.close(), held(&fixture)), (Release::Released(fixture.released()), 0));
    let fixture = Fixture::after(Outcome::Created);
    assert_eq!((sweep_all(&fixture.orders, at(HOLD_S + 1)).len(), held(&fixture)), (1, 0));
}

#[test]
fn a_pass_of_sweeps_ends_every_hold_whose_time_is_over_once() {
    let (orders, merchant, share) = (table(1000, 1000), merchant(), Arc::default());
    let bind = |index: u64| {
        let mut bound = expect_new(orders.bind(payment(&merchant, &index.to_string()), 7, &share, at(0)));
        let id = bound.decide(index, terms(100));
        assert_eq!(bound.settle(Outcome::Created, at(0)), Settled::Nothing);
        id
    };
    let mut ids: Vec<_> = (0..500).map(bind).collect();
    assert_eq!(sweep_all(&orders, at(HOLD_S)), [], "the last second in which it may be paid");
    let mut expired = sweep_all(&orders, at(HOLD_S + 1));
    assert!(expired.iter().all(|one| one.charges == Some(100) && (one.amount_fen, one.refunded_fen) == (500, 0)));
    expired.sort_by_key(|one| one.decision.0);
    ids.sort_by_key(|id| id.0);
    assert_eq!(expired.iter().map(|one| one.decision).collect::<Vec<_>>(), ids);
    assert_eq!(sweep_all(&orders, at(HOLD_S + 1)), []);
    assert_eq!((orders.len(), orders.holds()), (500, Holds::default()), "the numbers stay taken");
}

#[test]
fn a_commit_after_expiry_is_reported_late_once_and_then_stands() {
    let fixture = Fixture::after(Outcome::Created);
    assert_eq!(fixture.orders.refund(fixture.order(), 20).map(|refund| refund.fen), Some(20));
    let expired = Expired { decision: fixture.id, amount_fen: 500, refunded_fen: 20, charges: Some(100) };
    assert_eq!(sweep_all(&fixture.orders, at(HOLD_S + 1)), [expired]);
    assert_eq!(fixture.orders.refund(fixture.order(), 20), None, "nothing is charged");
    let late = fixture.orders.commit(fixture.order(), at(HOLD_S + 2), |_| panic!("nothing is held to free from"));
    assert_eq!(late, Commit::Late { charges: 100, amount_fen: 500, refunded_fen: 20 });
    assert_eq!(fixture.commit(HOLD_S + 3), Commit::Already);
    let refused = fixture.orders.release(fixture.order(), at(HOLD_S + 3), PaidRule::Refuse);
    assert_eq!(refused, Release::Conflict);
    assert_eq!(fixture.close(), Release::Released(Released { refunded_fen: 20, ..fixture.released() }));
}

#[test]
fn a_confirmation_that_came_to_nothing_may_be_repeated() {
    // No forward was heard of, a close was tried, and the order may still be committed: nothing counts as done before.
    let (fixture, first) = Fixture::decided();
    assert_eq!(fixture.close(), Release::Pending);
    drop(first);
    assert_eq!(sweep_all(&fixture.orders, at(HOLD_S)), []);
    assert_eq!(fixture.commit(1), Commit::Committed { freed: 0 });
    assert_eq!((fixture.commit(2), fixture.commit(3)), (Commit::Already, Commit::Already));
    let (fixture, first) = Fixture::decided();
    drop(first);
    assert_eq!((fixture.close(), fixture.close()), (Release::Released(fixture.released()), Release::Already));
}

#[test]
fn a_deleted_merchant_or_a_stuck_forward_does_not_jam_the_sweep() {
    let (orders, merchant) = (table(1000, 1000), merchant());
    let mut stuck = Vec::new();
    for index in 0..400_u64 {
        // A share of its own, dropped here: as if its merchant had left the policy.
        let share = Arc::default();
        let mut bound = expect_new(orders.bind(payment(&merchant, &index.to_string()), 7, &share, at(0)));
        if index % 4 != 0 {
            let id = bound.decide(index, terms(100));
            match index % 4 {
                1 => drop(bound),
                2 => assert!(matches!(bound.settle(Outcome::Refused, at(0)), Settled::GiveBack(_))),
                _ => stuck.push((Some(id), bound)),
            }
        } else {
            stuck.push((None, bound));
        }
    }
    assert_eq!(sweep_all(&orders, at(HOLD_S + 1)).len(), 100);
    assert_eq!(sweep_all(&orders, at(HOLD_S + 2 + i64::from(KEEP_S))), []);
    assert_eq!((orders.len(), orders.notes.used(), stuck.len()), (200, 0, 200), "what is in flight stays, no more");
    for (id, bound) in stuck {
        let settled = bound.settle(Outcome::Done, at(HOLD_S + 3 + i64::from(KEEP_S)));
        let committed = id.map(|id| orders.commit(orders.find(id).expect("held"), at(0), keep_all));
        assert_eq!((settled, committed), (Settled::Nothing, id.map(|_| Commit::Already)), "nothing was lost");
    }
}

#[test]
fn expiry_leaves_an_order_in_flight_alone() {
    let (fixture, first) = Fixture::decided();
    assert_eq!(sweep_all(&fixture.orders, at(HOLD_S + 1_000_000)), []);
    assert_eq!(first.settle(Outcome::Created, at(HOLD_S + 1)), Settled::Nothing);
    let again = fixture.again();
    assert_eq!(sweep_all(&fixture.orders, at(HOLD_S + 1)), []);
    drop(again);
    assert_eq!(sweep_all(&fixture.orders, at(HOLD_S + 1)).len(), 1);
}

#[test]
fn expiry_that_keeps_commits() {
    let (fixture, first) = Fixture::decided_on(Terms { on_expiry: OnExpiry::Keep, ..terms(100) });
    drop(first);
    let expired = Expired { decision: fixture.id, amount_fen: 500, refunded_fen: 0, charges: None };
    assert_eq!(sweep_all(&fixture.orders, at(HOLD_S + 1)), [expired]);
    assert_eq!((fixture.commit(HOLD_S + 2), fixture.close()), (Commit::Already, Release::Released(fixture.released())));
}

#[test]
fn the_number_of_an_expired_order_is_used_until_it_is_dropped() {
    let fixture = Fixture::after(Outcome::Created);
    let expired_s = HOLD_S + 1;
    assert_eq!(sweep_all(&fixture.orders, at(expired_s)).len(), 1);
    for digest in [7, 8] {
        assert_eq!(fixture.bind(digest).err(), Some(BindRefused::Used));
    }
    assert_eq!(fixture.orders.decided(fixture.name()), Some(fixture.id));
    assert_eq!(sweep_all(&fixture.orders, at(expired_s + i64::from(KEEP_S))), []);
    assert_eq!(fixture.taken(), (1, 1));
    assert_eq!(sweep_all(&fixture.orders, at(expired_s + i64::from(KEEP_S) + 1)), []);
    assert_eq!((fixture.taken(), fixture.orders.find(fixture.id)), ((0, 0), None));
    drop(expect_new(fixture.bind(7)));
}

#[test]
fn release_of_an_expired_order_gives_nothing_back_and_frees_its_number() {
    for paid in [PaidRule::TakeBack, PaidRule::Refuse] {
        let fixture = Fixture::after(Outcome::Created);
        assert_eq!(sweep_all(&fixture.orders, at(HOLD_S + 1)).len(), 1);
        let order = fixture.order();
        assert_eq!(fixture.orders.release(order, at(HOLD_S + 1), paid), Release::Already);
        assert_eq!((fixture.commit(HOLD_S + 2), fixture.taken()), (Commit::Conflict, (0, 0)));
        drop(expect_new(fixture.bind(8)));
    }
}

#[test]
fn committed_orders_are_kept_from_when_they_were_settled() {
    let fixture = Fixture::after(Outcome::Created);
    let settled_s = HOLD_S - 1;
    assert_eq!(fixture.commit(settled_s), Commit::Committed { freed: 0 });
    let end_s = settled_s + i64::from(KEEP_S);
    assert_eq!((sweep_all(&fixture.orders, at(-1_000_000)), sweep_all(&fixture.orders, at(end_s))), (vec![], vec![]));
    let again = fixture.again();
    assert_eq!(
        (sweep_all(&fixture.orders, at(end_s + 1)), fixture.taken()),
        (vec![], (1, 1)),
        "a forward is in flight"
    );
    drop(again);
    assert_eq!((sweep_all(&fixture.orders, at(end_s + 1)), fixture.taken()), (vec![], (0, 0)));
    assert_eq!(fixture.orders.find(fixture.id), None);
}

#[test]
fn commit_frees_a_part_once_and_the_rest_is_what_a_reversal_hands_out() {
    let fixture = Fixture::after(Outcome::Created);
    let commit = || {
        fixture.orders.commit(fixture.order(), at(0), |charges| {
            *charges -= 30;
            30
        })
    };
    assert_eq!((commit(), commit()), (Commit::Committed { freed: 30 }, Commit::Already));
    assert_eq!(fixture.close(), Release::Released(Released { charges: 70, ..fixture.released() }));
}

#[test]
fn commit_does_not_wait_for_forwards_and_their_refusal_does_not_undo_it() {
    let (fixture, first) = Fixture::decided();
    assert_eq!(fixture.commit(0), Commit::Committed { freed: 0 });
    assert_eq!((first.settle(Outcome::Refused, at(0)), fixture.commit(0)), (Settled::Nothing, Commit::Already));
}

#[test]
fn an_operators_release_ends_a_hold_and_not_what_was_paid() {
    let fixture = Fixture::after(Outcome::Unknown);
    let release = |fixture: &Fixture| fixture.orders.release(fixture.order(), at(0), PaidRule::Refuse);
    assert_eq!(release(&fixture), Release::Released(fixture.released()));
    let fixture = Fixture::after(Outcome::Done);
    assert_eq!((release(&fixture), fixture.commit(0)), (Release::Conflict, Commit::Already));
    let again = fixture.again();
    assert_eq!(release(&fixture), Release::Conflict);
    assert_eq!(again.settle(Outcome::Refused, at(0)), Settled::Nothing, "a conflict leaves no mark");
}

#[test]
fn refunds_are_capped_in_sum_and_the_last_is_whole_once() {
    for outcome in [Outcome::Created, Outcome::Done] {
        let fixture = Fixture::after(outcome);
        let refund = |fen| fixture.orders.refund(fixture.order(), fen).map(|refund| (refund.fen, refund.whole));
        assert_eq!([refund(0), refund(200), refund(200)], [Some((0, false)), Some((200, false)), Some((200, false))]);
        assert_eq!([refund(u64::MAX), refund(200)], [Some((100, true)), Some((0, false))]);
        assert_eq!(fixture.close(), Release::Released(Released { refunded_fen: 500, ..fixture.released() }));
        assert_eq!(refund(1), None, "an order that ended has nothing to refund");
    }
}

#[test]
fn a_late_end_of_a_released_decision_does_nothing_to_the_next() {
    let (fixture, first) = Fixture::decided();
    let (key, _) = fixture.orders.key(fixture.name());
    drop(first);
    assert_eq!(fixture.close(), Release::Released(fixture.released()));
    let ended = || Bound::new(Hold::Forward(Arc::clone(&fixture.orders), key, 1));
    assert_eq!(ended().settle(Outcome::Done, at(0)), Settled::Nothing);
    assert_eq!(fixture.commit(0), Commit::Conflict);
    let mut second = expect_new(fixture.bind(8));
    let id = second.decide(2, terms(200));
    assert_eq!(ended().settle(Outcome::Refused, at(0)), Settled::Nothing);
    drop(ended());
    let Settled::GiveBack(released) = second.settle(Outcome::Refused, at(0)) else { panic!("its only forward") };
    assert_eq!((released.decision, released.charges), (id, 200));
}

#[test]
fn holds_are_counted_by_age_and_without_what_was_refunded() {
    let (orders, merchant, share) = (table(10, 10), merchant(), Arc::default());
    for (index, bound_s) in
        [0, 86_341, 86_400 - 59, 86_400 - 60, 86_400 - 3_599, 86_400 - 3_600].into_iter().enumerate()
    {
        let name = index.to_string();
        let mut bound = expect_new(orders.bind(payment(&merchant, &name), 7, &share, at(bound_s)));
        let id = bound.decide(1, Terms { expires_s: i64::MAX, ..terms(100) });
        let _ = orders.refund(orders.find(id).expect("held"), index as u64);
    }
    assert_eq!(orders.holds(), Holds::default(), "nothing was counted");
    for _ in 0..2 {
        assert_eq!(sweep_all(&orders, at(86_400)), []);
        let ages = [(2, 997), (2, 993), (1, 495), (1, 500)].map(|(orders, fen)| HoldAge { orders, fen });
        assert_eq!(orders.holds(), Holds { by_age: ages });
    }
}

#[test]
fn an_unknown_id_finds_nothing() {
    let fixture = Fixture::after(Outcome::Created);
    let others =
        [DecisionId(0), DecisionId(fixture.id.0 ^ 1), DecisionId(fixture.id.0 ^ (1 << 64)), DecisionId(u128::MAX)];
    assert_eq!(others.map(|id| fixture.orders.find(id)), [None; 4]);
    assert_eq!(fixture.orders.find(fixture.id), fixture.orders.named(fixture.name()));
    assert_eq!(fixture.order().decision(), fixture.id);
}
