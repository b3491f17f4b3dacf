mod history;
mod holds;
mod plain;
mod storms;

use super::*;
use crate::prf::{DEPLOYMENT_KEY_BYTES, DeploymentKey};

const KEEP_S: u32 = 86_400;
const HOLD_S: i64 = 7_200;

type Charges = u128;

fn table(entries_max: usize, entries_per_merchant_max: u32) -> Arc<Orders<Charges>> {
    let prf = DeploymentKey::new([7; DEPLOYMENT_KEY_BYTES]).derive("orders");
    Arc::new(Orders::new(OrderBounds { entries_max, entries_per_merchant_max, keep_s: KEEP_S }, prf))
}

fn merchant() -> MerchantId {
    "1900000001".parse().expect("identity")
}

fn payment<'a>(merchant: &'a MerchantId, number: &'a str) -> OrderName<'a> {
    OrderName { namespace: Namespace::Payment, merchant, number }
}

fn at(seconds: i64) -> UnixMillis {
    UnixMillis::from_seconds(1_700_000_000 + seconds)
}

/// A hold of 500 fen for [`HOLD_S`] after the start.
fn terms(charges: Charges) -> Terms<Charges> {
    let (note, expires_s) = (5, at(HOLD_S).seconds());
    Terms { charges, note, amount_fen: 500, expires_s, on_expiry: OnExpiry::Release }
}

/// Looks through the whole table.
fn sweep_all(orders: &Orders<Charges>, now: UnixMillis) -> Vec<Expired<Charges>> {
    (0..Orders::<Charges>::SWEEPS_PER_PASS).flat_map(|_| orders.sweep(now, EXPIRED_PER_SWEEP_MAX)).collect()
}

fn expect_new(binding: Result<Binding<Charges>, BindRefused>) -> Bound<Charges> {
    match binding {
        Ok(Binding::New(bound)) => bound,
        other => panic!("expected a new binding, got {other:?}"),
    }
}

fn expect_same(binding: Result<Binding<Charges>, BindRefused>, expected: DecisionId) -> Bound<Charges> {
    match binding {
        Ok(Binding::Same { decision, again, .. }) if decision == expected => again,
        other => panic!("expected the decision {expected}, got {other:?}"),
    }
}

/// Splits nothing off.
fn keep_all(_: &mut Charges) -> Charges {
    0
}

/// A table with one order that a decision holds and charged 100, and the bound of its first forward.
struct Fixture {
    orders: Arc<Orders<Charges>>,
    merchant: MerchantId,
    share: Arc<Share>,
    id: DecisionId,
}

impl Fixture {
    fn empty() -> Self {
        Self { orders: table(10, 10), merchant: merchant(), share: Arc::default(), id: DecisionId(0) }
    }

    fn decided() -> (Self, Bound<Charges>) {
        Self::decided_on(terms(100))
    }

    fn decided_on(terms: Terms<Charges>) -> (Self, Bound<Charges>) {
        let mut fixture = Self::empty();
        let mut first = expect_new(fixture.bind(7));
        fixture.id = first.decide(1, terms);
        (fixture, first)
    }

    /// Makes an order whose one forward ended so.
    fn after(outcome: Outcome) -> Self {
        let (fixture, first) = Self::decided();
        assert_eq!(first.settle(outcome, at(0)), Settled::Nothing);
        fixture
    }

    fn bind(&self, digest: u128) -> Result<Binding<Charges>, BindRefused> {
        self.orders.bind_within(0, self.name(), digest, &self.share, at(0))
    }

    fn again(&self) -> Bound<Charges> {
        expect_same(self.bind(7), self.id)
    }

    fn name(&self) -> OrderName<'_> {
        payment(&self.merchant, "a")
    }

    fn order(&self) -> OrderRef {
        self.orders.find(self.id).expect("known")
    }

    fn commit(&self, seconds: i64) -> Commit<Charges> {
        self.orders.commit(self.order(), at(seconds), keep_all)
    }

    fn close(&self) -> Release<Charges> {
        self.orders.release(self.order(), at(0), PaidRule::TakeBack)
    }

    fn released(&self) -> Released<Charges> {
        Released { decision: self.id, charges: 100, refunded_fen: 0, amount_fen: 500 }
    }

    /// How many numbers are taken, in all and by the merchant.
    fn taken(&self) -> (usize, u32) {
        (self.orders.len(), self.share.used())
    }
}

#[test]
fn bind_finds_the_decision_of_the_same_request_and_refuses_another() {
    let (fixture, first) = Fixture::decided();
    let again = fixture.again();
    assert_eq!(fixture.bind(8).err(), Some(BindRefused::Used));
    assert_eq!(first.settle(Outcome::Done, at(0)), Settled::Nothing);
    assert_eq!(again.settle(Outcome::Done, at(0)), Settled::Nothing);
    drop(fixture.again());
    assert_eq!(fixture.taken(), (1, 1));
}

#[test]
fn bind_tells_namespaces_merchants_and_numbers_apart() {
    let (orders, one, other, share) = (table(10, 10), merchant(), "2".parse().expect("identity"), Arc::default());
    let refund = OrderName { namespace: Namespace::Refund, ..payment(&one, "a") };
    let names = [payment(&one, "a"), refund, payment(&other, "a"), payment(&one, "b")];
    let bounds = names.map(|name| expect_new(orders.bind(name, 7, &share, at(0))));
    assert_eq!(orders.len(), bounds.len());
}

#[test]
fn a_bound_dropped_before_the_decision_frees_the_number() {
    let fixture = Fixture::empty();
    drop(expect_new(fixture.bind(7)));
    assert_eq!(fixture.taken(), (0, 0));
    let undecided = expect_new(fixture.bind(8));
    assert_eq!(undecided.settle(Outcome::Done, at(0)), Settled::Nothing, "nothing was decided");
    assert_eq!(fixture.taken(), (0, 0));
}

#[test]
fn a_bound_dropped_after_the_decision_keeps_the_order() {
    let (fixture, first) = Fixture::decided();
    drop(first);
    assert_eq!(fixture.again().settle(Outcome::Refused, at(0)), Settled::Nothing);
    assert_eq!(fixture.taken(), (1, 1));
}

#[test]
fn bind_refuses_after_waiting_for_a_decision_in_flight() {
    let mut fixture = Fixture::empty();
    let mut first = expect_new(fixture.bind(7));
    assert_eq!(fixture.orders.bind(fixture.name(), 7, &fixture.share, at(0)).err(), Some(BindRefused::InFlight));
    assert_eq!(fixture.bind(8).err(), Some(BindRefused::InFlight), "the number may yet be freed");
    assert_eq!((fixture.orders.named(fixture.name()), fixture.orders.decided(fixture.name())), (None, None));
    fixture.id = first.decide(1, terms(100));
    drop(fixture.again());
}

#[test]
fn settle_hands_the_charges_out_when_the_last_forward_is_refused() {
    let (fixture, first) = Fixture::decided();
    let again = fixture.again();
    assert_eq!(first.settle(Outcome::Refused, at(0)), Settled::Nothing, "another forward is in flight");
    assert_eq!(fixture.taken(), (1, 1));
    assert_eq!(again.settle(Outcome::Refused, at(0)), Settled::GiveBack(fixture.released()));
    assert_eq!(fixture.taken(), (0, 0));
    drop(expect_new(fixture.bind(8)));
}

#[test]
fn settle_of_a_refused_duplicate_releases_nothing_after_success_or_doubt() {
    for kept in [Outcome::Done, Outcome::Created, Outcome::Unknown] {
        let fixture = Fixture::after(kept);
        assert_eq!(fixture.again().settle(Outcome::Refused, at(0)), Settled::Nothing);
        let (overtaken, again) = (fixture.again(), fixture.again());
        assert_eq!(again.settle(Outcome::Refused, at(0)), Settled::Nothing);
        assert_eq!(overtaken.settle(Outcome::Refused, at(0)), Settled::Nothing);
        assert_eq!(fixture.close(), Release::Released(fixture.released()));
    }
}

#[test]
fn release_hands_the_charges_out_once_and_frees_the_number() {
    let fixture = Fixture::after(Outcome::Done);
    let order = fixture.order();
    assert_eq!(fixture.close(), Release::Released(fixture.released()));
    assert_eq!((fixture.close(), fixture.taken()), (Release::Already, (0, 0)));
    assert_eq!((fixture.commit(0), fixture.orders.refund(order, 1)), (Commit::Conflict, None));
    assert_eq!((fixture.orders.decided(fixture.name()), fixture.orders.named(fixture.name())), (None, Some(order)));
    let mut second = expect_new(fixture.bind(8));
    let id = second.decide(2, terms(200));
    assert_eq!(second.settle(Outcome::Done, at(0)), Settled::Nothing);
    assert_eq!(fixture.orders.find(fixture.id), None, "the number holds another decision");
    assert_eq!(fixture.orders.release(order, at(0), PaidRule::TakeBack), Release::Unknown);
    assert_eq!(fixture.orders.commit(order, at(0), keep_all), Commit::Unknown);
    assert_eq!((fixture.orders.decided(fixture.name()), fixture.taken()), (Some(id), (1, 1)));
}

#[test]
fn release_of_an_order_in_flight_waits_for_what_becomes_of_it() {
    let (fixture, first) = Fixture::decided();
    assert_eq!(fixture.again().settle(Outcome::Done, at(0)), Settled::Nothing);
    assert_eq!(fixture.close(), Release::Pending, "one forward may have passed the close on the way");
    assert_eq!((fixture.close(), fixture.taken()), (Release::Pending, (1, 1)));
    let settled = first.settle(Outcome::Refused, at(0));
    assert_eq!(settled, Settled::GiveBack(fixture.released()), "what had succeeded was closed, the rest refused");
    assert_eq!((fixture.taken(), fixture.close()), ((0, 0), Release::Already));
    for kept in [Outcome::Done, Outcome::Created, Outcome::Unknown] {
        let (fixture, late) = Fixture::decided();
        assert_eq!(fixture.close(), Release::Pending);
        assert_eq!(late.settle(kept, at(0)), Settled::Nothing, "the order came through after the close");
        let committed = if kept == Outcome::Done { Commit::Already } else { Commit::Committed { freed: 0 } };
        assert_eq!((fixture.taken(), fixture.commit(0)), ((1, 1), committed));
    }
}

#[test]
fn a_note_comes_back_with_the_decision() {
    let fixture = Fixture::after(Outcome::Created);
    let Ok(Binding::Same { note, .. }) = fixture.bind(7) else { panic!("the same request") };
    assert_eq!(note, 5);
}

#[test]
fn unbound_holds_and_settles_nothing() {
    let orders = table(0, 0);
    let mut bound = orders.unbound();
    let id = bound.decide(1, terms(100));
    assert_eq!((orders.find(id), bound.settle(Outcome::Refused, at(0)), orders.len()), (None, Settled::Nothing, 0));
}

#[test]
fn bind_refuses_when_full_and_still_finds_what_is_bound() {
    let (orders, merchant, share) = (table(2, 9), merchant(), Arc::default());
    let ids = ["a", "b"]
        .map(|number| expect_new(orders.bind(payment(&merchant, number), 7, &share, at(0))).decide(1, terms(0)));
    assert_eq!(orders.bind(payment(&merchant, "c"), 7, &share, at(0)).err(), Some(BindRefused::TableFull));
    drop(expect_same(orders.bind(payment(&merchant, "a"), 7, &share, at(0)), ids[0]));
    let (orders, share) = (table(9, 1), Arc::default());
    let held = expect_new(orders.bind(payment(&merchant, "a"), 7, &share, at(0)));
    assert_eq!(orders.bind(payment(&merchant, "b"), 7, &share, at(0)).err(), Some(BindRefused::ShareFull));
    drop(held);
    drop(expect_new(orders.bind(payment(&merchant, "b"), 7, &share, at(0))));
}

#[test]
fn released_orders_take_no_room_from_those_held_and_have_bounded_room_of_their_own() {
    let (orders, merchant, share) = (table(1, 1), merchant(), Arc::default());
    let ids: Vec<_> = (0..NOTES_MIN + 10)
        .map(|index| {
            let mut bound = expect_new(orders.bind(payment(&merchant, &index.to_string()), 7, &share, at(0)));
            let id = bound.decide(index as u64, terms(100));
            assert!(matches!(bound.settle(Outcome::Refused, at(0)), Settled::GiveBack(_)));
            id
        })
        .collect();
    let known = |orders: &Orders<_>| ids.iter().filter(|id| orders.find(**id).is_some()).count();
    assert_eq!((orders.len(), share.used(), known(&orders)), (0, 0, NOTES_MIN));
    // Bound again, an order leaves its room for another note.
    drop(expect_new(orders.bind(payment(&merchant, "0"), 7, &share, at(0))));
    assert_eq!((known(&orders), orders.notes.used()), (NOTES_MIN - 1, NOTES_MIN - 1));
    assert_eq!(sweep_all(&orders, at(i64::from(RELEASED_KEEP_S))), []);
    assert_eq!(known(&orders), NOTES_MIN - 1);
    assert_eq!(sweep_all(&orders, at(i64::from(RELEASED_KEEP_S) + 1)), []);
    assert_eq!((known(&orders), orders.notes.used()), (0, 0));
}

#[test]
fn a_number_placed_where_another_is_finds_nothing_of_it() {
    let (fixture, first) = Fixture::decided();
    let ((key, check), bound_s) = (fixture.orders.key(fixture.name()), seconds(at(0).seconds()));
    // Same digest, same place, another number: as if 64 bits of the function agreed.
    let collided = fixture.orders.try_bind((key, check ^ 1), 7, &fixture.share, bound_s);
    assert_eq!(collided.err(), Some(BindRefused::Used));
    drop(first);
    fixture.orders.part(key).get_mut(&key).expect("held").state = State::Released { random: 1, since_s: 0 };
    assert!(fixture.orders.notes.take());
    let other = fixture.orders.try_bind((key, check ^ 1), 7, &fixture.share, bound_s);
    let Ok(Some(Binding::New(mut other))) = other else { panic!("a released order's place is free") };
    let _ = other.decide(2, terms(100));
    assert_eq!((fixture.orders.decided(fixture.name()), fixture.orders.named(fixture.name())), (None, None));
}

#[test]
fn an_entry_is_as_small_as_planned() {
    // With charges of 152 bytes, as the gate has them.
    assert_eq!(size_of::<(OrderKey, Order<[u64; 19]>)>(), 240);
    assert_eq!(Orders::<[u64; 19]>::ENTRY_BYTES, 810);
}
