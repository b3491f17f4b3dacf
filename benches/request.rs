//! Reading a request: its JSON, beside serde, and its `Authorization` header.

#![expect(clippy::expect_used, reason = "a benchmark may stop where its data is broken")]

use std::borrow::Cow;
use std::hint::black_box;

use captures::Capture;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use tollgate::request::json::{self, Wanted};
use tollgate::signature::Scheme as _;
use tollgate::signature::wechatpay_v3::WechatPayV3;

#[path = "../tests/vectors/captures.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod captures;

/// What a service would write that reads the same members with serde.
#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow)]
    mchid: Cow<'a, str>,
    #[serde(borrow)]
    appid: Cow<'a, str>,
    #[serde(borrow)]
    out_trade_no: Cow<'a, str>,
    amount: Amount<'a>,
    #[serde(borrow)]
    payer: Payer<'a>,
}

#[derive(Deserialize)]
struct Amount<'a> {
    total: u64,
    #[serde(borrow)]
    currency: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Payer<'a> {
    #[serde(borrow)]
    openid: Cow<'a, str>,
}

const POINTERS: [&str; 6] = ["/amount/total", "/amount/currency", "/mchid", "/appid", "/out_trade_no", "/payer/openid"];

/// An order with more in it than the gate asks for, as shops send it.
const DETAILED: &str = r#"{"appid":"wxd678efh567hg6787","mchid":"1900000001","description":"Image形象店-深圳腾大-QQ公仔",
"out_trade_no":"T20261122001","time_expire":"2026-11-23T10:34:56+08:00","attach":"{\"shop\":7,\"desk\":\"A\"}","notify_url":
"https://example.com/notify","goods_tag":"WXG","support_fapiao":false,"amount":{"total":100,"currency":"CNY"},"payer":
{"openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},"detail":{"cost_price":608800,"invoice_id":"微信123","goods_detail":[
{"merchant_goods_id":"1246464644","wechatpay_goods_id":"1001","goods_name":"iPhoneX 256G","quantity":1,"unit_price":528800},
{"merchant_goods_id":"1246464645","wechatpay_goods_id":"1002","goods_name":"iPhoneX 64G","quantity":2,"unit_price":428800}]},
"scene_info":{"payer_client_ip":"14.23.150.211","device_id":"013467007045764","store_info":{"id":"0001","name":"腾讯大厦分店",
"area_code":"440305","address":"广东省深圳市南山区科技中一道10000号"}},"settle_info":{"profit_sharing":false}}"#;

/// Returns an order of a real client.
fn order() -> Vec<u8> {
    let requests = captures::load().requests;
    let paid = |capture: &Capture| capture.target.ends_with("/jsapi");
    requests.into_iter().find(paid).expect("an order").body
}

fn read(criterion: &mut Criterion) {
    let wanted = Wanted::new(&POINTERS).expect("pointers");
    let mut group = criterion.benchmark_group("request/json");
    for (case, document) in [("order", order()), ("detailed", DETAILED.as_bytes().to_vec())] {
        group.throughput(Throughput::Bytes(document.len() as u64));
        group.bench_function(format!("serde/{case}"), |bencher| {
            bencher.iter(|| {
                let order: Order<'_> = serde_json::from_slice(black_box(&document)).expect("an order");
                assert!(order.amount.total == 100 && order.amount.currency == "CNY" && order.mchid == "1900000001");
                assert!(order.appid.len() == 18 && order.out_trade_no.len() == 12 && order.payer.openid.len() == 28);
            });
        });
        group.bench_function(format!("read/{case}"), |bencher| {
            bencher.iter(|| {
                let found = json::read(black_box(&document), &wanted).expect("an order");
                let text = |index| found.string(index).expect("a string").expect("a member");
                assert!(found.integer(0) == Ok(Some(100)) && text(1) == "CNY" && text(2) == "1900000001");
                assert!(text(3).len() == 18 && text(4).len() == 12 && text(5).len() == 28);
            });
        });
    }
    group.finish();
}

fn authorization(criterion: &mut Criterion) {
    let captures = captures::load();
    let request = captures.requests.first().expect("a request").request();
    let scheme = WechatPayV3::new();
    criterion.bench_function("request/authorization/parse", |bencher| {
        bencher.iter(|| {
            let extracted = scheme.extract(black_box(&request)).expect("form");
            assert!(extracted.merchant == captures.merchant && extracted.key == captures.key_id);
        });
    });
}

criterion_group!(benches, read, authorization);
criterion_main!(benches);
