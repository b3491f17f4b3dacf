use std::collections::{HashMap, HashSet};
use std::sync::Barrier;
use std::sync::atomic::AtomicU64;

use proptest::prelude::*;

use super::*;
use crate::prf::{DEPLOYMENT_KEY_BYTES, DeploymentKey};

const KEEP_S: u32 = 86_400;

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

/// Looks through the whole table.
fn sweep_all(orders: &Orders<Charges>, now: UnixMillis) {
    (0..Orders::<Charges>::SWEEPS_PER_PASS).for_each(|_| orders.sweep(now));
}

fn expect_new(binding: Result<Binding<Charges>, BindRefused>) -> Bound<Charges> {
    match binding {
        Ok(Binding::New(bound)) => bound,
        other => panic!("expected a new binding, got {other:?}"),
    }
}

fn expect_same(binding: Result<Binding<Charges>, BindRefused>, expected: u128) -> Bound<Charges> {
    match binding {
        Ok(Binding::Same { decision: DecisionId(decision), again, .. }) if decision == expected => again,
        other => panic!("expected the decision {expected}, got {other:?}"),
    }
}

/// A table with one order that decision 1 holds and charged 100, and the bound of its first forward.
struct Fixture {
    orders: Arc<Orders<Charges>>,
    merchant: MerchantId,
    share: Arc<Share>,
}

impl Fixture {
    fn decided() -> (Self, Bound<Charges>) {
        let fixture = Self { orders: table(10, 10), merchant: merchant(), share: Arc::default() };
        let mut first = expect_new(fixture.bind(7));
        first.decide(DecisionId(1), 100, 0);
        (fixture, first)
    }

    fn bind(&self, digest: u128) -> Result<Binding<Charges>, BindRefused> {
        self.orders.bind_within(0, self.name(), digest, &self.share, at(0))
    }

    fn name(&self) -> OrderName<'_> {
        payment(&self.merchant, "a")
    }

    fn held(&self) -> (usize, u32) {
        (self.orders.len(), self.share.used())
    }
}

#[test]
fn bind_finds_the_decision_of_the_same_request_and_refuses_another() {
    let (fixture, first) = Fixture::decided();
    let again = expect_same(fixture.bind(7), 1);
    assert_eq!(fixture.bind(8).err(), Some(BindRefused::Used));
    assert_eq!((first.settle(Outcome::Done), again.settle(Outcome::Done)), (None, None));
    drop(expect_same(fixture.bind(7), 1));
    assert_eq!(fixture.held(), (1, 1));
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
    let fixture = Fixture { orders: table(10, 10), merchant: merchant(), share: Arc::default() };
    drop(expect_new(fixture.bind(7)));
    assert_eq!(fixture.held(), (0, 0));
    assert_eq!(expect_new(fixture.bind(8)).settle(Outcome::Done), None, "nothing was decided");
    assert_eq!(fixture.held(), (0, 0));
}

#[test]
fn a_bound_dropped_after_the_decision_keeps_the_order() {
    let (fixture, first) = Fixture::decided();
    drop(first);
    assert_eq!(expect_same(fixture.bind(7), 1).settle(Outcome::Refused), None);
    assert_eq!(fixture.held(), (1, 1));
}

#[test]
fn bind_refuses_after_waiting_for_a_decision_in_flight() {
    let fixture = Fixture { orders: table(10, 10), merchant: merchant(), share: Arc::default() };
    let mut first = expect_new(fixture.bind(7));
    assert_eq!(fixture.orders.bind(fixture.name(), 7, &fixture.share, at(0)).err(), Some(BindRefused::InFlight));
    assert_eq!(fixture.bind(8).err(), Some(BindRefused::InFlight), "the number may yet be freed");
    assert_eq!(fixture.orders.release(fixture.name(), DecisionId(1)), None);
    first.decide(DecisionId(1), 100, 0);
    drop(expect_same(fixture.bind(7), 1));
}

#[test]
fn settle_hands_the_charges_out_when_the_last_forward_is_refused() {
    let (fixture, first) = Fixture::decided();
    let again = expect_same(fixture.bind(7), 1);
    assert_eq!(first.settle(Outcome::Refused), None, "another forward is in flight");
    assert_eq!(fixture.held(), (1, 1));
    assert_eq!(again.settle(Outcome::Refused), Some(100));
    assert_eq!(fixture.held(), (0, 0));
    drop(expect_new(fixture.bind(8)));
}

#[test]
fn settle_of_a_refused_duplicate_releases_nothing_after_success_or_doubt() {
    for kept in [Outcome::Done, Outcome::Unknown] {
        let (fixture, first) = Fixture::decided();
        assert_eq!(first.settle(kept), None);
        assert_eq!(expect_same(fixture.bind(7), 1).settle(Outcome::Refused), None);
        let (overtaken, again) = (expect_same(fixture.bind(7), 1), expect_same(fixture.bind(7), 1));
        assert_eq!((again.settle(Outcome::Refused), overtaken.settle(Outcome::Refused)), (None, None));
        assert_eq!(
            fixture.orders.release(fixture.name(), DecisionId(1)),
            Some(Released { decision: DecisionId(1), charges: 100 })
        );
    }
}

#[test]
fn release_hands_the_charges_out_once_and_frees_the_number() {
    let (fixture, first) = Fixture::decided();
    assert_eq!(first.settle(Outcome::Done), None);
    assert_eq!(
        fixture.orders.release(fixture.name(), DecisionId(1)),
        Some(Released { decision: DecisionId(1), charges: 100 })
    );
    assert_eq!((fixture.orders.release(fixture.name(), DecisionId(1)), fixture.held()), (None, (0, 0)));
    let mut second = expect_new(fixture.bind(8));
    second.decide(DecisionId(2), 200, 0);
    assert_eq!(second.settle(Outcome::Done), None);
    assert_eq!(fixture.orders.release(fixture.name(), DecisionId(1)), None, "the number holds another decision");
    assert_eq!((fixture.orders.decided(fixture.name()), fixture.held()), (Some(DecisionId(2)), (1, 1)));
}

#[test]
fn release_of_an_order_in_flight_waits_for_what_becomes_of_it() {
    let (fixture, first) = Fixture::decided();
    let again = expect_same(fixture.bind(7), 1);
    assert_eq!(again.settle(Outcome::Done), None);
    assert_eq!(
        fixture.orders.release(fixture.name(), DecisionId(1)),
        None,
        "one forward may have passed the close on the way"
    );
    assert_eq!(fixture.held(), (1, 1));
    assert_eq!(first.settle(Outcome::Refused), Some(100), "what had succeeded was closed, the rest refused");
    assert_eq!(fixture.held(), (0, 0));
    for kept in [Outcome::Done, Outcome::Unknown] {
        let (fixture, late) = Fixture::decided();
        assert_eq!(fixture.orders.release(fixture.name(), DecisionId(1)), None);
        assert_eq!(late.settle(kept), None, "the order came through after the close");
        assert_eq!(fixture.held(), (1, 1));
    }
}

#[test]
fn a_note_comes_back_with_the_decision() {
    let fixture = Fixture { orders: table(10, 10), merchant: merchant(), share: Arc::default() };
    let mut first = expect_new(fixture.bind(7));
    first.decide(DecisionId(1), 100, 5);
    let Ok(Binding::Same { note, .. }) = fixture.bind(7) else { panic!("the same request") };
    assert_eq!(note, 5);
}

#[test]
fn unbound_holds_and_settles_nothing() {
    let orders = table(0, 0);
    let mut bound = orders.unbound();
    bound.decide(DecisionId(1), 100, 0);
    assert_eq!((bound.settle(Outcome::Refused), orders.len()), (None, 0));
}

#[test]
fn bind_refuses_when_full_and_still_finds_what_is_bound() {
    let (orders, merchant, share) = (table(2, 9), merchant(), Arc::default());
    for number in ["a", "b"] {
        expect_new(orders.bind(payment(&merchant, number), 7, &share, at(0))).decide(DecisionId(1), 0, 0);
    }
    assert_eq!(orders.bind(payment(&merchant, "c"), 7, &share, at(0)).err(), Some(BindRefused::TableFull));
    drop(expect_same(orders.bind(payment(&merchant, "a"), 7, &share, at(0)), 1));
    let (orders, share) = (table(9, 1), Arc::default());
    let held = expect_new(orders.bind(payment(&merchant, "a"), 7, &share, at(0)));
    assert_eq!(orders.bind(payment(&merchant, "b"), 7, &share, at(0)).err(), Some(BindRefused::ShareFull));
    drop(held);
    drop(expect_new(orders.bind(payment(&merchant, "b"), 7, &share, at(0))));
}

#[test]
fn sweep_drops_what_is_old_and_idle_and_nothing_else() {
    let (orders, merchant, share) = (table(10, 10), merchant(), Arc::default());
    let bind = |number, seconds| expect_new(orders.bind(payment(&merchant, number), 7, &share, at(seconds)));
    let deciding = bind("deciding", 0);
    let mut forwarding = bind("forwarding", 0);
    forwarding.decide(DecisionId(1), 100, 0);
    bind("idle", 0).decide(DecisionId(2), 100, 0);
    bind("young", 1).decide(DecisionId(3), 100, 0);
    sweep_all(&orders, at(-1_000_000));
    sweep_all(&orders, at(i64::from(KEEP_S)));
    assert_eq!(orders.len(), 4);
    sweep_all(&orders, at(i64::from(KEEP_S) + 1));
    assert_eq!((orders.len(), share.used(), orders.release(payment(&merchant, "idle"), DecisionId(2))), (3, 3, None));
    drop(deciding);
    assert_eq!(forwarding.settle(Outcome::Refused), Some(100));
    sweep_all(&orders, at(i64::from(KEEP_S) + 2));
    assert_eq!((orders.len(), share.used()), (0, 0));
}

const THREADS: usize = 16;

/// What one trial of a storm saw.
#[derive(Default)]
struct Seen {
    new: Vec<u128>,
    same: Vec<u128>,
    used: usize,
}

/// Runs trials in which 16 threads bind one number at one instant; each decides under an id of its own.
fn storm(trials: usize, digest_of: impl Fn(usize) -> u128 + Sync, check: impl Fn(&Seen) + Sync) {
    let (orders, merchant, share) = (table(trials, 1 << 20), merchant(), Arc::default());
    let (start, seen) = (Barrier::new(THREADS), std::sync::Mutex::new(Seen::default()));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (orders, merchant, share, start, seen) = (&orders, &merchant, &share, &start, &seen);
            let (digest_of, check) = (&digest_of, &check);
            scope.spawn(move || {
                for trial in 0..trials {
                    let number = trial.to_string();
                    start.wait();
                    let binding = orders.bind(payment(merchant, &number), digest_of(thread), share, at(0));
                    let (outcome, _bound) = match binding {
                        Ok(Binding::New(mut bound)) => {
                            thread::yield_now();
                            bound.decide(DecisionId(thread as u128), 0, 0);
                            (Ok((true, thread as u128)), Some(bound))
                        }
                        Ok(Binding::Same { decision, again, .. }) => (Ok((false, decision.0)), Some(again)),
                        Err(refused) => (Err(refused), None),
                    };
                    let mut all = seen.lock().expect("no panic");
                    match outcome {
                        Ok((true, decision)) => all.new.push(decision),
                        Ok((false, decision)) => all.same.push(decision),
                        Err(BindRefused::Used) => all.used += 1,
                        Err(other) => panic!("{other}"),
                    }
                    drop(all);
                    if start.wait().is_leader() {
                        check(&std::mem::take(&mut *seen.lock().expect("no panic")));
                    }
                }
            });
        }
    });
    assert_eq!(orders.len(), trials);
}

#[test]
fn storm_of_one_request_is_decided_once_and_all_see_that_decision() {
    let check = |seen: &Seen| {
        assert_eq!((seen.new.len(), seen.same.len(), seen.used), (1, THREADS - 1, 0));
        assert!(seen.same.iter().all(|decision| *decision == seen.new[0]));
    };
    storm(500, |_| 7, check);
}

#[test]
fn storm_of_different_requests_has_exactly_one_winner() {
    let check = |seen: &Seen| {
        assert_eq!((seen.new.len(), seen.same.len(), seen.used), (1, 3, 12));
        assert!(seen.same.iter().all(|decision| decision % 4 == seen.new[0] % 4));
    };
    storm(500, |thread| thread as u128 % 4, check);
}

#[test]
fn storm_hands_charges_out_at_most_once_and_holds_the_bounds() {
    const ENTRIES_MAX: usize = 6;
    let (orders, merchant, share) = (table(ENTRIES_MAX, 5), merchant(), Arc::<Share>::default());
    let ids = AtomicU64::new(1);
    let out = thread::scope(|scope| {
        let work = |seed: u64| {
            let mut out = Vec::new();
            for index in 0..5_000_u64 {
                // A small generator is enough to make the threads disagree.
                let random = (index * 2_654_435_761 + seed * 40_503) >> 7;
                let number = (random % 8).to_string();
                let name = payment(&merchant, &number);
                let outcome = match random / 8 % 8 {
                    0 => Outcome::Done,
                    1 => Outcome::Unknown,
                    _ => Outcome::Refused,
                };
                match orders.bind(name, u128::from(random / 64 % 2), &share, at(0)) {
                    Ok(Binding::New(mut bound)) if !(random / 128).is_multiple_of(4) => {
                        let id = u128::from(ids.fetch_add(1, Ordering::Relaxed));
                        bound.decide(DecisionId(id), id, 0);
                        out.extend(bound.settle(outcome));
                    }
                    Ok(Binding::New(bound)) => drop(bound),
                    Ok(Binding::Same { again, .. }) => out.extend(again.settle(outcome)),
                    Err(BindRefused::InFlight) => panic!("nobody decides for so long"),
                    Err(BindRefused::Used | BindRefused::TableFull | BindRefused::ShareFull) => {}
                }
                if (random / 512).is_multiple_of(16) {
                    out.extend(take_back(&orders, name).map(|released| released.charges));
                }
                assert!(orders.len() <= ENTRIES_MAX && share.used() <= 5);
            }
            out
        };
        let threads: Vec<_> = (0..THREADS as u64).map(|seed| scope.spawn(move || work(seed))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    let distinct: HashSet<_> = out.iter().collect();
    assert!(out.len() > 1_000 && distinct.len() == out.len(), "charges were handed out twice");
    let left = (0..8).filter_map(|number: u32| take_back(&orders, payment(&merchant, &number.to_string()))).count();
    let decided = ids.load(Ordering::Relaxed) - 1;
    assert_eq!(((out.len() + left) as u64, orders.len(), share.used()), (decided, 0, 0), "charges were lost");
}

/// Takes back whatever decision holds the number.
fn take_back<C>(orders: &Orders<C>, name: OrderName<'_>) -> Option<Released<C>> {
    orders.release(name, orders.decided(name)?)
}

/// One step of a random history.
#[derive(Clone, Copy, Debug)]
enum Step {
    Bind { number: u8, digest: u128 },
    Decide { bound: usize },
    Settle { bound: usize, outcome: Outcome },
    Drop { bound: usize },
    Release { number: u8 },
    Clock { seconds: i64 },
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![1 => Just(Outcome::Done), 1 => Just(Outcome::Unknown), 4 => Just(Outcome::Refused)];
    let bound = 0..8_usize;
    let step = prop_oneof![
        6 => (0..3_u8, 0..2_u128).prop_map(|(number, digest)| Step::Bind { number, digest }),
        4 => bound.clone().prop_map(|bound| Step::Decide { bound }),
        4 => (bound.clone(), outcome).prop_map(|(bound, outcome)| Step::Settle { bound, outcome }),
        1 => bound.prop_map(|bound| Step::Drop { bound }),
        1 => (0..3_u8).prop_map(|number| Step::Release { number }),
        1 => (-50_000..100_000_i64).prop_map(|seconds| Step::Clock { seconds }),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..100)
}

/// The plain form of an order.
#[derive(Clone, Debug)]
struct Plain {
    digest: u128,
    bound_s: i64,
    decision: Option<u128>,
    forwards: Vec<u64>,
    kept: bool,
}

/// The table written down plainly: bounds are tickets, an order lists the tickets that are in flight.
#[derive(Default)]
struct Oracle {
    orders: HashMap<u8, Plain>,
    tickets: u64,
    decisions: u128,
    now_s: i64,
}

impl Oracle {
    fn bind(&mut self, number: u8, digest: u128) -> Result<(u64, Option<u128>), BindRefused> {
        self.tickets += 1;
        let ticket = self.tickets;
        let Some(order) = self.orders.get_mut(&number) else {
            let order = Plain { digest, bound_s: self.now_s, decision: None, forwards: vec![ticket], kept: false };
            self.orders.insert(number, order);
            return Ok((ticket, None));
        };
        let decision = order.decision.ok_or(BindRefused::InFlight)?;
        if order.digest != digest {
            return Err(BindRefused::Used);
        }
        order.forwards.push(ticket);
        Ok((ticket, Some(decision)))
    }

    fn settle(&mut self, number: u8, ticket: u64, outcome: Outcome) -> Option<u128> {
        let order = self.orders.get_mut(&number).filter(|order| order.forwards.contains(&ticket))?;
        order.forwards.retain(|other| *other != ticket);
        order.kept |= outcome != Outcome::Refused;
        if order.decision.is_none() || (order.forwards.is_empty() && !order.kept) {
            return self.orders.remove(&number)?.decision;
        }
        None
    }

    fn release(&mut self, number: u8) -> Option<u128> {
        let order = self.orders.get_mut(&number).filter(|order| order.decision.is_some())?;
        order.kept = false;
        if order.forwards.is_empty() { self.orders.remove(&number)?.decision } else { None }
    }

    fn sweep(&mut self) {
        let (now_s, keep_s) = (self.now_s, i64::from(KEEP_S));
        self.orders.retain(|_, order| !order.forwards.is_empty() || now_s <= order.bound_s + keep_s);
    }
}

/// A bound in hand: its number, the oracle's ticket, whether a decision was made.
struct Held {
    number: u8,
    ticket: u64,
    decided: bool,
    bound: Bound<Charges>,
}

fn run_step(step: Step, oracle: &mut Oracle, orders: &Arc<Orders<Charges>>, share: &Arc<Share>, held: &mut Vec<Held>) {
    let merchant = merchant();
    match step {
        Step::Bind { number, digest } => {
            let now = at(oracle.now_s);
            let text = number.to_string();
            let (expected, ticket) = match oracle.bind(number, digest) {
                Ok((ticket, decision)) => (Ok(decision), ticket),
                Err(refused) => (Err(refused), 0),
            };
            let (found, bound) = match orders.bind_within(0, payment(&merchant, &text), digest, share, now) {
                Ok(Binding::New(bound)) => (Ok(None), Some(bound)),
                Ok(Binding::Same { decision, again, .. }) => (Ok(Some(decision.0)), Some(again)),
                Err(refused) => (Err(refused), None),
            };
            assert_eq!(found, expected);
            let decided = matches!(found, Ok(Some(_)));
            held.extend(bound.map(|bound| Held { number, ticket, decided, bound }));
        }
        Step::Decide { bound } => {
            let Some(held) = held.get_mut(bound).filter(|held| !held.decided) else { return };
            oracle.decisions += 1;
            oracle.orders.get_mut(&held.number).expect("in flight").decision = Some(oracle.decisions);
            held.bound.decide(DecisionId(oracle.decisions), oracle.decisions, 0);
            held.decided = true;
        }
        Step::Settle { bound, outcome } if bound < held.len() => {
            let held = held.remove(bound);
            assert_eq!(held.bound.settle(outcome), oracle.settle(held.number, held.ticket, outcome));
        }
        Step::Drop { bound } if bound < held.len() => {
            let held = held.remove(bound);
            oracle.settle(held.number, held.ticket, Outcome::Unknown);
        }
        Step::Settle { .. } | Step::Drop { .. } => {}
        Step::Release { number } => {
            let released = take_back(orders, payment(&merchant, &number.to_string())).map(|released| {
                assert_eq!(released.decision, DecisionId(released.charges));
                released.charges
            });
            assert_eq!(released, oracle.release(number));
        }
        Step::Clock { seconds } => oracle.now_s += seconds,
        Step::Sweep => {
            oracle.sweep();
            sweep_all(orders, at(oracle.now_s));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn orders_agree_with_their_plain_form(steps in steps()) {
        let (orders, share, mut oracle, mut held) = (table(9, 9), Arc::default(), Oracle::default(), Vec::new());
        for step in steps {
            run_step(step, &mut oracle, &orders, &share, &mut held);
            let expected = oracle.orders.len();
            prop_assert_eq!((orders.len(), share.used() as usize), (expected, expected));
        }
    }
}
