//! Verification of signatures, beside the same library called one by one.

#![expect(clippy::expect_used, reason = "a benchmark may stop where its data is broken")]

use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use captures::{Capture, Captures};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use tollgate::signature::wechatpay_v3::WechatPayV3;
use tollgate::signature::{Extracted, Job, Scheme as _, Verifier};

#[path = "../tests/vectors/captures.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod captures;

/// What a service does that keeps the key as loaded: decodes, joins, verifies.
fn one_by_one(key: &UnparsedPublicKey<&[u8]>, extracted: &Extracted<'_>) -> bool {
    let message = extracted.message.to_vec();
    STANDARD.decode(extracted.signature).is_ok_and(|signature| key.verify(&message, &signature).is_ok())
}

fn verify(criterion: &mut Criterion) {
    let Captures { key, public_key, requests, .. } = captures::load();
    let requests: Vec<_> = requests.iter().map(Capture::request).collect();
    let extracted: Vec<_> = requests.iter().map(|request| WechatPayV3::new().extract(request).expect("form")).collect();
    let rival = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public_key.as_slice());
    let mut group = criterion.benchmark_group("signature/verify");
    for size in [1, 8] {
        let jobs: Vec<_> = extracted.iter().take(size).map(|extracted| Job { key: &key, extracted }).collect();
        group.throughput(Throughput::Elements(jobs.len() as u64));
        group.bench_function(BenchmarkId::new("ring", size), |bencher| {
            bencher.iter(|| assert!(black_box(&jobs).iter().all(|job| one_by_one(&rival, job.extracted))));
        });
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let mut verifier = Verifier::new();
            let mut verdicts = Vec::new();
            bencher.iter(|| {
                verifier.verify(black_box(&jobs), &mut verdicts);
                assert!(verdicts.len() == size && verdicts.iter().all(Result::is_ok));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
