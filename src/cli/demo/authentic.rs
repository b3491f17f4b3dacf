//! Cases in which the signature holds: the caller is who it says, and what it asks for is refused.

use serde_json::{Value, json};

use super::cases::{Case, Expected};
use super::request::Payment;
use super::world::{Call, Door, World};
use crate::types::Interface;

pub(super) fn certificate_revoked() -> Case {
    Expected::unsigned(401, "SIGN_ERROR")
        .on("signed by a key that is revoked", |world| world.accounts.store_revoked.echo("hello").into())
}

pub(super) fn certificate_required() -> Case {
    Expected::unsigned(403, "NO_AUTH")
        .on("a refund signed by a bare key", |world| world.accounts.store_bare.refund("R1").into())
}

pub(super) fn nonce_replayed() -> Case {
    Expected::unsigned(401, "SIGN_ERROR").after("the same bytes twice", |world| {
        Box::pin(async move {
            let paid = world.accounts.store.pay(Interface::Jsapi, &Payment::new(100)).signed();
            world.main.admit(paid.clone()).await?;
            world.main.send(paid).await
        })
    })
}

pub(super) fn platform_key_unknown() -> Case {
    Expected::unsigned(400, "PARAM_ERROR").on("Wechatpay-Serial of no platform key", |world| {
        world.accounts.store.echo("hello").signed().with("wechatpay-serial", "5F0E").into()
    })
}

pub(super) fn body_malformed() -> Case {
    Expected::signed(400, "PARAM_ERROR").on("the amount twice", |world| {
        let store = &world.accounts.store;
        let body = store.payment_body(Interface::Jsapi, &Payment::new(1)).to_string();
        let twice = body.replacen('{', "{\"amount\":{\"total\":9},", 1);
        store.raw(Interface::Jsapi, twice).into()
    })
}

pub(super) fn parameter_missing() -> Case {
    let case = Expected::signed(400, "PARAM_ERROR").on("no amount", |world| changed(world, "amount", Value::Null));
    case.detail(|detail| at(detail, "/amount/total"))
}

pub(super) fn parameter_invalid() -> Case {
    let case = Expected::signed(400, "PARAM_ERROR")
        .on("an amount of nothing", |world| changed(world, "amount", json!({ "total": 0, "currency": "CNY" })));
    case.detail(|detail| at(detail, "/amount/total"))
}

pub(super) fn currency_unsupported() -> Case {
    let case = Expected::signed(400, "PARAM_ERROR")
        .on("an amount in USD", |world| changed(world, "amount", json!({ "total": 1, "currency": "USD" })));
    case.detail(|detail| at(detail, "/amount/currency"))
}

pub(super) fn merchant_mismatch() -> Case {
    let case = Expected::signed(400, "PARAM_ERROR")
        .on("another merchant in the body", |world| changed(world, "mchid", json!("1900000102")));
    case.detail(|detail| at(detail, "/mchid"))
}

pub(super) fn appid_unknown() -> Case {
    Expected::signed(400, "APPID_MCHID_NOT_MATCH")
        .on("another merchant's appid", |world| changed(world, "appid", json!("wx1900000102a")))
}

pub(super) fn source_denied() -> Case {
    Expected::signed(403, "NO_AUTH").on("from an address that is not the merchant's", |world| {
        world.accounts.elsewhere.pay(Interface::Jsapi, &Payment::new(100)).into()
    })
}

pub(super) fn interface_denied() -> Case {
    Expected::signed(403, "NO_AUTH")
        .on("H5, which is not approved", |world| world.accounts.tea_house.pay(Interface::H5, &Payment::new(100)).into())
}

pub(super) fn scenario_denied() -> Case {
    Expected::signed(403, "NO_AUTH").on("JSAPI on premises, approved for official accounts", |world| {
        let pay = world.accounts.tea_house.pay(Interface::Jsapi, &Payment::new(100)).signed();
        pay.with("tollgate-scenario", "offline").through(Door::Hop)
    })
}

pub(super) fn scenario_restricted() -> Case {
    Expected::signed(403, "NO_AUTH").on("in an app, which risk control restricted", |world| {
        world.accounts.restricted.pay(Interface::App, &Payment::new(100)).into()
    })
}

pub(super) fn channel_restricted() -> Case {
    Expected::signed(403, "NO_AUTH").on("by quick pay, which risk control restricted", |world| {
        let pay = world.accounts.restricted.pay(Interface::Jsapi, &Payment::new(100)).signed();
        pay.with("tollgate-channel", "quick_pay").through(Door::Hop)
    })
}

pub(super) fn merchant_suspended() -> Case {
    Expected::signed(403, "NO_AUTH").on("a payment of a suspended merchant", |world| {
        world.accounts.suspended.pay(Interface::Jsapi, &Payment::new(100)).into()
    })
}

pub(super) fn payment_closed() -> Case {
    Expected::signed(403, "NO_AUTH").on("a payment where payments are closed", |world| {
        world.accounts.payment_closed.pay(Interface::Jsapi, &Payment::new(100)).into()
    })
}

pub(super) fn merchant_terminated() -> Case {
    Expected::signed(403, "NO_AUTH")
        .on("a query after the agreement ended", |world| world.accounts.terminated.query("T1").into())
}

pub(super) fn order_number_used() -> Case {
    Expected::signed(403, "OUT_TRADE_NO_USED").after("the same order with another amount", |world| {
        Box::pin(async move {
            let payment = Payment::new(100);
            world.main.admit(world.accounts.store.pay(Interface::Jsapi, &payment)).await?;
            let dearer = Payment { amount_fen: 101, ..payment };
            world.main.send(world.accounts.store.pay(Interface::Jsapi, &dearer)).await
        })
    })
}

/// The other windows are shown by the cases of limits.
pub(super) fn limit_exceeded() -> Case {
    let case = Expected::signed(403, "RULE_LIMIT").on("1,000.01 yuan at once, where 1,000 are allowed", |world| {
        world.accounts.store.pay(Interface::Jsapi, &Payment::new(100_001)).into()
    });
    case.detail(|detail| limit(detail, "retail-balance", Some("transaction")))
}

pub(super) fn limit_subject_unknown() -> Case {
    let case = Expected::signed(403, "RULE_LIMIT").on("a customer that is not named, where limits need one", |world| {
        world.accounts.travel.pay(Interface::Native, &Payment::new(100)).into()
    });
    case.detail(|detail| limit(detail, "travel-quick-pay", None))
}

pub(super) fn no_platform_certificate() -> Case {
    Expected::signed(404, "RESOURCE_NOT_EXISTS")
        .on("certificates without an APIv3 key", |world| world.accounts.tea_house.get("/v3/certificates").into())
}

/// Tells whether a detail names this limit and window.
pub(super) fn limit(detail: &Value, limit: &str, window: Option<&str>) -> bool {
    let text = |name| detail.get(name).and_then(Value::as_str);
    text("limit") == Some(limit) && text("window") == window
}

fn at(detail: &Value, field: &str) -> bool {
    detail.get("field").and_then(Value::as_str) == Some(field)
}

/// A payment of the store with one member of the body replaced, or left out where it is null.
fn changed(world: &World, name: &str, value: Value) -> Call {
    let store = &world.accounts.store;
    let mut body = store.payment_body(Interface::Jsapi, &Payment::new(100));
    if let Value::Object(members) = &mut body {
        members.remove(name);
        if !value.is_null() {
            members.insert(name.to_owned(), value);
        }
    }
    store.raw(Interface::Jsapi, body.to_string()).into()
}
