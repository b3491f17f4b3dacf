//! Costs of claiming a nonce, and of binding and settling an order number, beside a bare `dashmap`.
//!
//! The rivals do less: no bounds, no expiry, no decision. They show what the promises cost over any shared map.
#![expect(clippy::unwrap_used, reason = "a benchmark stops where its set-up is wrong")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dashmap::DashMap;
use tollgate::prf::{DEPLOYMENT_KEY_BYTES, DeploymentKey, Prf};
use tollgate::replay::{
    BindRefused, Binding, Commit, Namespace, NonceBounds, Nonces, OnExpiry, OrderBounds, OrderName, Orders, Outcome,
    PaidRule, Refused, Release, Settled, Terms, fresh,
};
use tollgate::share::Share;
use tollgate::time::UnixMillis;
use tollgate::types::{KeyId, MerchantId};

/// Live entries in steady state.
const LIVE: u64 = 500_000;
const TOLERANCE_S: u32 = 5;
const START_S: i64 = 1_700_000_000;

/// As large as the charges of a decision.
type Charges = [u64; 19];

fn prf() -> Prf {
    DeploymentKey::new([7; DEPLOYMENT_KEY_BYTES]).derive("bench")
}

fn merchant() -> MerchantId {
    "1900000001".parse().unwrap()
}

fn key() -> KeyId {
    "5157F09EFDC096DE15EBE81A47057A7232F1B8E1".parse().unwrap()
}

/// Writes a number as the 32 characters that most clients send as nonce and order number.
fn name(buffer: &mut [u8; 32], index: u64) -> &str {
    for (digit, byte) in buffer.iter_mut().enumerate() {
        *byte = b'A' + u8::try_from(index >> (digit % 16 * 4) & 15).unwrap();
    }
    std::str::from_utf8(buffer).unwrap()
}

fn claim(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay/claim");
    group.throughput(Throughput::Elements(1));
    let (merchant, key, share, mut buffer) = (merchant(), key(), Arc::<Share>::default(), [0; 32]);

    let (prf_of_rival, rival) = (prf(), DashMap::<u128, (u128, i64)>::new());
    let mut index = 0_u64;
    let mut insert_rival = |index: u64| {
        let mut digest = |index| {
            let nonce = name(&mut buffer, index).as_bytes();
            prf_of_rival.digest(&[merchant.as_str().as_bytes(), key.as_str().as_bytes(), nonce])
        };
        let new = rival.insert(digest(index), (1, 0)).is_none();
        let freed = index < LIVE || rival.remove(&digest(index - LIVE)).is_some();
        assert!(new && freed);
    };
    (0..LIVE).for_each(&mut insert_rival);
    index += LIVE;
    group.bench_function("rival_dashmap_insert_and_remove", |bencher| {
        bencher.iter(|| {
            insert_rival(black_box(index));
            index += 1;
        });
    });

    let bounds = NonceBounds { entries_max: 2_000_000, entries_per_merchant_max: 2_000_000, tolerance_s: TOLERANCE_S };
    let nonces = Nonces::new(bounds, prf());
    let per_second = LIVE / u64::from(TOLERANCE_S);
    let mut claim = |index: u64| {
        let second = i64::try_from(index / per_second).unwrap();
        let now = UnixMillis::from_seconds(START_S + second);
        let fresh = fresh(START_S + second, now, TOLERANCE_S).unwrap();
        nonces.claim(nonces.key(&merchant, &key, name(&mut buffer, index)), 1, fresh, &share, now)
    };
    (0..LIVE).for_each(|index| assert!(claim(index).is_ok()));
    let mut index = LIVE;
    group.bench_function("new", |bencher| {
        bencher.iter(|| {
            assert!(claim(black_box(index)).is_ok());
            index += 1;
        });
    });
    let replayed = Some(Refused::Replayed { same_request: true, stored: None });
    group.bench_function("replayed", |bencher| {
        bencher.iter(|| assert_eq!(claim(black_box(index - 1)).err(), replayed));
    });
    group.finish();
}

fn bind(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay/bind");
    group.throughput(Throughput::Elements(1));
    let (merchant, share, mut buffer) = (merchant(), Arc::<Share>::default(), [0; 32]);
    let now = UnixMillis::from_seconds(START_S);

    let (prf_of_rival, rival) = (prf(), DashMap::<u128, (u128, u128)>::new());
    let mut digest = |index| {
        let number = name(&mut buffer, index).as_bytes();
        prf_of_rival.digest(&[b"payment", merchant.as_str().as_bytes(), number])
    };
    (0..LIVE).for_each(|index| assert!(rival.insert(digest(index), (1, 0)).is_none()));
    let mut index = LIVE;
    group.bench_function("rival_dashmap_insert_and_remove", |bencher| {
        bencher.iter(|| {
            let key = digest(black_box(index));
            assert!(rival.insert(key, (1, 0)).is_none());
            assert!(rival.remove(&key).is_some());
            index += 1;
        });
    });

    let bounds = OrderBounds { entries_max: 2_000_000, entries_per_merchant_max: 2_000_000, keep_s: 86_400 };
    let orders = Arc::new(Orders::<Charges>::new(bounds, prf()));
    let mut bind = |index: u64, digest: u128| {
        let name = OrderName { namespace: Namespace::Payment, merchant: &merchant, number: name(&mut buffer, index) };
        orders.bind(name, digest, &share, now)
    };
    let decide = |binding, index: u64, outcome| {
        let Ok(Binding::New(mut bound)) = binding else { unreachable!() };
        let decision = bound.decide(index, terms(index));
        (decision, bound.settle(outcome, now))
    };
    let ids: Vec<_> = (0..LIVE).map(|index| decide(bind(index, 1), index, Outcome::Created).0).collect();
    assert_eq!(orders.len() as u64, LIVE);
    let mut index = LIVE;
    group.bench_function("new_then_refused", |bencher| {
        bencher.iter(|| {
            let (_, settled) = decide(bind(black_box(index), 1), index, Outcome::Refused);
            assert!(matches!(settled, Settled::GiveBack(released) if released.charges[0] == index));
            index += 1;
        });
    });
    let mut index = 0;
    let id = |index: u64| *ids.get(usize::try_from(index).unwrap()).unwrap();
    group.bench_function("same", |bencher| {
        bencher.iter(|| {
            let Ok(Binding::Same { decision, again, .. }) = bind(black_box(index), 1) else { unreachable!() };
            assert_eq!((decision, again.settle(Outcome::Created, now)), (id(index), Settled::Nothing));
            index = (index + 1) % LIVE;
        });
    });
    group.bench_function("used", |bencher| {
        bencher.iter(|| {
            assert_eq!(bind(black_box(index), 2).err(), Some(BindRefused::Used));
            index = (index + 1) % LIVE;
        });
    });
    group.finish();
}

fn terms(index: u64) -> Terms<Charges> {
    let (note, expires_s, on_expiry) = (0, START_S + 7_200, OnExpiry::Release);
    Terms { charges: [index; 19], note, amount_fen: 100, expires_s, on_expiry }
}

fn settle(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay/settle");
    group.throughput(Throughput::Elements(1));
    let (merchant, share, mut buffer) = (merchant(), Arc::<Share>::default(), [0; 32]);
    let now = UnixMillis::from_seconds(START_S);
    let bounds = OrderBounds { entries_max: 2_000_000, entries_per_merchant_max: 2_000_000, keep_s: 86_400 };
    let orders = Arc::new(Orders::<Charges>::new(bounds, prf()));
    let ids: Vec<_> = (0..LIVE)
        .map(|index| {
            let number = name(&mut buffer, index);
            let order = OrderName { namespace: Namespace::Payment, merchant: &merchant, number };
            let Ok(Binding::New(mut bound)) = orders.bind(order, 1, &share, now) else { unreachable!() };
            let decision = bound.decide(index, terms(index));
            assert_eq!(bound.settle(Outcome::Created, now), Settled::Nothing);
            decision
        })
        .collect();
    let mut turn = ids.iter().cycle();
    let found = |id: &tollgate::types::DecisionId| orders.find(*id).unwrap();
    for id in &ids {
        assert!(matches!(orders.commit(found(id), now, |_| [0; 19]), Commit::Committed { .. }));
    }
    group.bench_function("find_and_commit_again", |bencher| {
        bencher.iter(|| assert_eq!(orders.commit(found(turn.next().unwrap()), now, |_| [0; 19]), Commit::Already));
    });
    group.bench_function("find_and_release_in_conflict", |bencher| {
        bencher.iter(|| {
            assert_eq!(orders.release(found(turn.next().unwrap()), now, PaidRule::Refuse), Release::Conflict);
        });
    });
    group.bench_function("refund_of_nothing", |bencher| {
        bencher.iter(|| assert_eq!(orders.refund(found(turn.next().unwrap()), 0).map(|refund| refund.fen), Some(0)));
    });
    group.bench_function("sweep_of_a_part", |bencher| {
        bencher.iter(|| assert_eq!(orders.sweep(now, tollgate::replay::EXPIRED_PER_SWEEP_MAX), []));
    });
    group.finish();
}

criterion_group!(benches, claim, bind, settle);
criterion_main!(benches);
