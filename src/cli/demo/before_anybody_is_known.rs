//! Cases that end before anybody is known: none is signed, and three of them look alike to a stranger.

use serde_json::{Value, json};

use super::cases::{Case, Expected};
use super::request::Payment;
use super::world::{Call, World};
use crate::time::{Clock, SystemClock, UnixMillis};
use crate::types::Interface;

pub(super) fn route_unknown() -> Case {
    Expected::unsigned(404, "").on("a path that no route has", |world| {
        world.accounts.store.post("/v3/pay/transactions/nowhere", &json!({})).into()
    })
}

pub(super) fn method_not_allowed() -> Case {
    Expected::unsigned(405, "")
        .on("GET where only POST is taken", |world| world.accounts.store.get("/v3/pay/transactions/jsapi").into())
}

pub(super) fn head_invalid() -> Case {
    Expected::unsigned(400, "INVALID_REQUEST").on("Host twice", |world| {
        let mut signed = world.accounts.store.echo("hello").signed();
        signed.headers.append(http::header::HOST, http::HeaderValue::from_static("elsewhere.example"));
        signed.into()
    })
}

pub(super) fn header_missing() -> Case {
    Expected::unsigned(400, "INVALID_REQUEST").on("certificates without User-Agent", |world| {
        world.accounts.store.get("/v3/certificates").signed().without("user-agent").into()
    })
}

pub(super) fn body_too_large() -> Case {
    Expected::unsigned(413, "INVALID_REQUEST")
        .on("a head that promises 70,000 bytes", |world| Call::from(pay(world)).promising(70_000))
}

pub(super) fn body_timeout() -> Case {
    Expected::unsigned(408, "INVALID_REQUEST").after("a body that stops half way", |world| {
        Box::pin(async move {
            let bounds = super::configuration::Bounds { body_timeout_ms: 200, ..world.small() };
            let stalled = Call::from(pay(world)).promising(1000);
            world.at_gate("body-timeout", bounds, system(), async |gate| gate.send(stalled).await).await
        })
    })
}

pub(super) fn authorization_missing() -> Case {
    Expected::unsigned(401, "SIGN_ERROR").on("no Authorization", |world| pay(world).without("authorization").into())
}

pub(super) fn authorization_malformed() -> Case {
    Expected::unsigned(401, "SIGN_ERROR").on("Authorization without a nonce", |world| {
        let without_nonce =
            "WECHATPAY2-SHA256-RSA2048 mchid=\"1900000101\",timestamp=\"1\",serial_no=\"A\",signature=\"A\"";
        pay(world).with("authorization", without_nonce).into()
    })
}

pub(super) fn scheme_unsupported() -> Case {
    Expected::unsigned(401, "SIGN_ERROR")
        .on("a bearer token", |world| pay(world).with("authorization", "Bearer token").into())
}

pub(super) fn timestamp_skewed() -> Case {
    let case = Expected::unsigned(401, "SIGN_ERROR").on("signed an hour ago", |world| {
        let hour_ago = UnixMillis(SystemClock.now().0 - 3_600_000);
        message(world).at(hour_ago).into()
    });
    case.detail(|detail| {
        let skew_ms = detail.pointer("/skew_ms").and_then(Value::as_i64);
        skew_ms.is_some_and(|skew_ms| (-3_660_000..-3_599_000).contains(&skew_ms))
    })
}

pub(super) fn merchant_unknown() -> Case {
    let case = Expected::unsigned(401, "SIGN_ERROR").on("a merchant that nobody knows", |world| {
        let key_id = &world.accounts.store.key_id;
        message(world).claiming("1999999999", key_id).into()
    });
    case.detail(tells_what_was_verified)
}

pub(super) fn key_unknown() -> Case {
    let case = Expected::unsigned(401, "SIGN_ERROR")
        .on("a certificate that nobody knows", |world| message(world).claiming("1900000101", "5F0E").into());
    case.detail(tells_what_was_verified)
}

pub(super) fn signature_invalid() -> Case {
    let case = Expected::unsigned(401, "SIGN_ERROR").on("the body was changed on the way", |world| {
        let store = &world.accounts.store;
        let dearer = store.payment_body(Interface::Jsapi, &Payment::new(99_999));
        store.pay(Interface::Jsapi, &Payment::new(1)).signed().forged(&dearer.to_string()).into()
    });
    case.detail(tells_what_was_verified)
}

/// The same for strangers and for a wrong signature: its absence would tell them apart.
fn tells_what_was_verified(detail: &Value) -> bool {
    let url = detail.pointer("/sign_information/url").and_then(Value::as_str);
    let issue = detail.pointer("/detail/issue").and_then(Value::as_str);
    url == Some("/v3/pay/transactions/jsapi") && issue == Some("sign not match")
}

fn message(world: &World) -> super::request::Message {
    world.accounts.store.pay(Interface::Jsapi, &Payment::new(100))
}

fn pay(world: &World) -> super::request::Signed {
    message(world).signed()
}

/// Makes the clock of a gate that runs in the present.
pub(super) fn system() -> std::sync::Arc<dyn Clock> {
    std::sync::Arc::new(SystemClock)
}
