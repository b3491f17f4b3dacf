//! The whole decision on a payment order, signature included, beside one verification by ring.
//!
//! What the decision costs beyond the signature is measured as a difference: each round decides eight orders, verifies
//! the same eight, and verifies them with ring. Printed at the end, by percentiles; the requirement is below one eighth. On a
//! machine with other work the low percentile says more.

#![expect(clippy::expect_used, clippy::panic, reason = "a benchmark may stop where its data is broken")]

#[path = "../tests/engine/gate.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod gate;
#[path = "support/pool.rs"]
mod pool;
#[path = "../tests/engine/signer.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod signer;

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use tollgate::signature::wechatpay_v3::WechatPayV3;
use tollgate::signature::{Extracted, Job, Scheme as _, Verifier, VerifyingKey};

use crate::pool::Pool;
use crate::signer::{Call, key_pair, verifying_key};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Most orders that are decided together.
const BATCH: usize = 8;

/// Verifies by this library and by the rival what a gate decided.
struct Verifiers {
    ours: Verifier,
    keys: Vec<VerifyingKey>,
    rivals: Vec<UnparsedPublicKey<Vec<u8>>>,
}

impl Verifiers {
    fn new() -> Self {
        let rival = |key: usize| {
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key_pair(key).public_key().as_ref().to_vec())
        };
        Self { ours: Verifier::new(), keys: (0..2).map(verifying_key).collect(), rivals: (0..2).map(rival).collect() }
    }

    /// Times the verification that is part of a decision.
    fn verify(&mut self, calls: &[Call]) -> Duration {
        let requests: Vec<_> = calls.iter().map(Call::request).collect();
        let extracted: Vec<_> =
            requests.iter().map(|request| WechatPayV3::new().extract(request).expect("form")).collect();
        let key = |call: &Call| self.keys.get(call.draft.key).expect("one of the keys");
        let jobs: Vec<_> =
            calls.iter().zip(&extracted).map(|(call, extracted)| Job { key: key(call), extracted }).collect();
        let mut verdicts = Vec::with_capacity(jobs.len());
        let began = Instant::now();
        self.ours.verify(black_box(&jobs), &mut verdicts);
        let took = began.elapsed();
        assert!(verdicts.len() == calls.len() && verdicts.iter().all(Result::is_ok));
        took
    }

    /// Times the bare verifications by ring: messages joined and signatures decoded before.
    fn verify_by_rival(&self, calls: &[Call]) -> Duration {
        let decoded = calls.iter().map(|call| {
            let request = call.request();
            let Extracted { message, signature, .. } = WechatPayV3::new().extract(&request).expect("form");
            (message.to_vec(), STANDARD.decode(signature).expect("Base64"))
        });
        let decoded: Vec<_> = decoded.collect();
        let began = Instant::now();
        for (call, (message, signature)) in calls.iter().zip(&decoded) {
            let key = self.rivals.get(call.draft.key).expect("one of the keys");
            key.verify(black_box(message), signature).expect("a valid signature");
        }
        began.elapsed()
    }
}

/// How long each round took: the decisions, their signatures, and the rival.
#[derive(Default)]
struct Rounds {
    decided: Vec<Duration>,
    verified: Vec<Duration>,
    rival: Vec<Duration>,
}

impl Rounds {
    fn run(count: u64, pool: &mut Pool, verifiers: &mut Verifiers) -> Self {
        let mut rounds = Self::default();
        for _ in 0..count {
            let (decided, calls) = pool.decide(BATCH);
            rounds.decided.push(decided);
            rounds.verified.push(verifiers.verify(calls));
            rounds.rival.push(verifiers.verify_by_rival(calls));
        }
        rounds
    }

    fn extend(&mut self, other: Self) {
        self.decided.extend(other.decided);
        self.verified.extend(other.verified);
        self.rival.extend(other.rival);
    }

    /// Returns what a batch costs beyond its signatures. A difference of percentiles and not of single rounds or sums,
    /// which would be that of whatever else ran on the machine.
    fn rest(&self, percent: usize) -> Duration {
        percentile(&self.decided, percent).saturating_sub(percentile(&self.verified, percent))
    }

    /// Prints the figures of one request.
    fn print(&self) {
        let ns = |duration: Duration| duration.as_secs_f64() * 1e9 / BATCH as f64;
        for percent in [10, 50] {
            let [decided, verified, rival] =
                [&self.decided, &self.verified, &self.rival].map(|durations| ns(percentile(durations, percent)));
            let rest = ns(self.rest(percent));
            println!(
                "percentile {percent}, a request of a batch of {BATCH}: decision {decided:.0} ns, its signature \
                 {verified:.0} ns, the rest {rest:.0} ns; one verification by ring {rival:.0} ns, {:.1} times the rest",
                rival / rest
            );
        }
    }
}

/// Returns the duration that so many per cent are below.
fn percentile(durations: &[Duration], percent: usize) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}

fn decide(criterion: &mut Criterion) {
    let (mut pool, mut verifiers) = (Pool::new(), Verifiers::new());
    let mut group = criterion.benchmark_group("admission/decide");
    group.throughput(Throughput::Elements(1));
    group.bench_function("ring_verify_rsa2048", |bencher| {
        let sum = |pool: &mut Pool, verifiers: &Verifiers| verifiers.verify_by_rival(pool.decide(1).1);
        bencher.iter_custom(|rounds| (0..rounds).map(|_| sum(&mut pool, &verifiers)).sum());
    });
    for size in [1, BATCH] {
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::new("batch", size), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| pool.decide(size).0).sum());
        });
    }
    let mut rounds = Rounds::default();
    group.bench_function(BenchmarkId::new("batch_less_signatures", BATCH), |bencher| {
        bencher.iter_custom(|count| {
            let these = Rounds::run(count, &mut pool, &mut verifiers);
            let rest = these.rest(50).saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
            rounds.extend(these);
            rest
        });
    });
    group.finish();
    rounds.print();
}

criterion_group!(benches, decide);
criterion_main!(benches);
