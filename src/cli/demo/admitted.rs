//! What is admitted: every interface and operation, repeated requests, both ways to verify answers, check mode.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::client::{Answer, Signature};
use super::request::Payment;
use super::shows::{Show, Showing, promise, signed_by};
use super::upstream::{OWN_SIGNATURE, REFUSE, SEEN_DECISION, SIGNED};
use super::world::{Call, Door, PUBLIC_KEY_ID, World};
use super::{DemoError, api_v2};
use crate::types::Interface;

/// Everything, in the order shown.
pub(super) const ALL: &[Show] = &[
    show("jsapi", "a payment order through JSAPI", |world| paid(world, Interface::Jsapi, "/prepay_id")),
    show("mini_program", "the same path, told apart by appid", |world| {
        paid(world, Interface::MiniProgram, "/prepay_id")
    }),
    show("native", "a code for the customer to scan", |world| paid(world, Interface::Native, "/code_url")),
    show("app", "a payment order of a mobile app", |world| paid(world, Interface::App, "/prepay_id")),
    show("h5", "a page of a mobile site", |world| paid(world, Interface::H5, "/h5_url")),
    show("payment_code", "the customer's code, scanned at the till", |world| {
        paid(world, Interface::PaymentCode, "/trade_state")
    }),
    show("face", "the customer's face, at a terminal", |world| paid(world, Interface::Face, "/trade_state")),
    show("query", "the state of an order", |world| Box::pin(query(world))),
    show("query", "a suspended merchant may still query", |world| Box::pin(query_suspended(world))),
    show("close", "an order closed: 204, signed over an empty body", |world| Box::pin(close(world))),
    show("reverse", "an order taken back, by API certificate", |world| Box::pin(reverse(world))),
    show("refund", "a refund, by API certificate", |world| Box::pin(refund(world))),
    show("certificates", "the platform's certificate, sealed; opened and compared", |world| {
        Box::pin(certificates(world))
    }),
    show("echo", "the signature tested without money", |world| Box::pin(echo(world))),
    show("duplicate", "the same order again: the same decision", |world| Box::pin(duplicate(world))),
    show("answer_key", "Wechatpay-Serial chooses the platform's key, both ways", |world| Box::pin(answer_key(world))),
    show("answer_key", "the merchant's own default where nothing is asked for", |world| {
        Box::pin(answer_key_default(world))
    }),
    show("upstream_refusal", "the service's own refusal passes through, signed", |world| {
        Box::pin(upstream_refusal(world))
    }),
    show("upstream_signature", "the service's own signature passes through untouched", |world| {
        Box::pin(upstream_signature(world))
    }),
    show("api_v2", "an order by API v2, in XML, signed with HMAC-SHA256", |world| Box::pin(api_v2::order(world))),
    show("api_v2", "refused in XML at HTTP 200, signed with the merchant's key", |world| {
        Box::pin(api_v2::refusal(world))
    }),
    show("api_v2", "changed on its way: FAIL, unsigned", |world| Box::pin(api_v2::stranger(world))),
    show("check", "check mode answers with the decision", |world| Box::pin(check(world))),
    show("check", "delivered twice by a trusted hop: the same answer", |world| Box::pin(check_twice(world))),
];

const fn show(kind: &'static str, title: &'static str, steps: for<'w> fn(&'w World) -> Showing<'w>) -> Show {
    Show { kind, title, steps }
}

fn paid<'w>(world: &'w World, interface: Interface, member: &'static str) -> Showing<'w> {
    Box::pin(async move {
        let answer = world.main.send(world.accounts.store.pay(interface, &Payment::new(100))).await?;
        let (answer, key) = signed_by(world, answer)?;
        promise(key == world.platform.certificate.serial.as_str(), "the platform's default key signs")?;
        promise(answer.text(member).is_some(), "the service's answer arrives")
    })
}

async fn query(world: &World) -> Result<(), DemoError> {
    let store = &world.accounts.store;
    let payment = Payment::new(100);
    world.main.admit(store.pay(Interface::Native, &payment)).await?;
    let (answer, _) = signed_by(world, world.main.send(store.query(&payment.number)).await?)?;
    promise(answer.text("/out_trade_no") == Some(payment.number), "the order asked for is answered")
}

async fn query_suspended(world: &World) -> Result<(), DemoError> {
    signed_by(world, world.main.send(world.accounts.suspended.query("T1")).await?)?;
    Ok(())
}

async fn close(world: &World) -> Result<(), DemoError> {
    let store = &world.accounts.store;
    let payment = Payment::new(100);
    world.main.admit(store.pay(Interface::Jsapi, &payment)).await?;
    let (answer, _) = signed_by(world, world.main.send(store.close(&payment.number)).await?)?;
    promise(answer.status == 204 && answer.body.is_empty(), "a close is answered by 204 without a body")?;
    // The number is free again: another amount under it is a new order, not a conflict.
    let again = Payment { amount_fen: 101, ..payment };
    world.main.admit(store.pay(Interface::Jsapi, &again)).await.map(|_| ())
}

async fn reverse(world: &World) -> Result<(), DemoError> {
    let store = &world.accounts.store;
    let payment = Payment::new(100);
    world.main.admit(store.pay(Interface::PaymentCode, &payment)).await?;
    let target = format!("/v3/pay/transactions/out-trade-no/{}/reverse", payment.number);
    let reverse = store.post(&target, &serde_json::json!({ "mchid": store.mchid }));
    let (answer, _) = signed_by(world, world.main.send(reverse).await?)?;
    promise(answer.text("/trade_state").as_deref() == Some("REVOKED"), "the service's answer arrives")
}

async fn refund(world: &World) -> Result<(), DemoError> {
    let store = &world.accounts.store;
    let payment = Payment::new(100);
    world.main.admit(store.pay(Interface::PaymentCode, &payment)).await?;
    let (answer, _) = signed_by(world, world.main.send(store.refund(&payment.number)).await?)?;
    promise(answer.text("/refund_id").is_some(), "the service's answer arrives")
}

async fn certificates(world: &World) -> Result<(), DemoError> {
    let answer = world.main.send(world.accounts.store.get("/v3/certificates")).await?;
    let (answer, _) = signed_by(world, answer)?;
    let serial = world.platform.certificate.serial.as_str();
    promise(answer.text("/data/0/serial_no").as_deref() == Some(serial), "the serial is the platform's")?;
    let opened = opened(&answer, &world.platform.apiv3_key).ok_or(DemoError::Broken("the APIv3 key opens it"))?;
    let der = crate::certificate::pem_to_der(&opened, "CERTIFICATE")?;
    promise(der == world.platform.certificate.certificate_der, "what was sealed is the platform's certificate")
}

/// Opens the first certificate of a download: AES-256-GCM under the APIv3 key.
fn opened(answer: &Answer, apiv3_key: &str) -> Option<String> {
    let sealed = |name: &str| answer.text(&format!("/data/0/encrypt_certificate/{name}"));
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, apiv3_key.as_bytes()).ok()?);
    let nonce = Nonce::try_assume_unique_for_key(sealed("nonce")?.as_bytes()).ok()?;
    let mut ciphertext = STANDARD.decode(sealed("ciphertext")?).ok()?;
    let plain = key.open_in_place(nonce, Aad::from(sealed("associated_data")?), &mut ciphertext).ok()?;
    String::from_utf8(plain.to_vec()).ok()
}

async fn echo(world: &World) -> Result<(), DemoError> {
    let (answer, _) = signed_by(world, world.main.send(world.accounts.store.echo("你好")).await?)?;
    promise(answer.text("/echo_message").as_deref() == Some("你好"), "what was sent comes back")
}

async fn duplicate(world: &World) -> Result<(), DemoError> {
    let before = world.main.snapshot().duplicates;
    let payment = Payment::new(100);
    let mut decisions = Vec::new();
    for _ in 0..2 {
        let answer = world.main.admit(world.accounts.store.pay(Interface::Jsapi, &payment)).await?;
        decisions.push(answer.header(SEEN_DECISION).map(str::to_owned));
    }
    let same = matches!(&*decisions, [Some(one), Some(other)] if one == other);
    promise(same, "both forwards carry one decision")?;
    promise(world.main.snapshot().duplicates == before + 1, "the second is counted as a duplicate")
}

async fn answer_key(world: &World) -> Result<(), DemoError> {
    for asked in [world.platform.certificate.serial.as_str(), PUBLIC_KEY_ID] {
        let hello = world.accounts.store.echo("hello").signed().with("wechatpay-serial", asked);
        let (_, key) = signed_by(world, world.main.send(hello).await?)?;
        promise(key == asked, "the key asked for signs")?;
    }
    Ok(())
}

async fn answer_key_default(world: &World) -> Result<(), DemoError> {
    let (_, key) = signed_by(world, world.main.send(world.accounts.tea_house.echo("hello")).await?)?;
    promise(key == PUBLIC_KEY_ID, "the merchant's default key signs")
}

async fn upstream_refusal(world: &World) -> Result<(), DemoError> {
    let payment = Payment::new(100).scripted(REFUSE);
    let answer = world.main.send(world.accounts.store.pay(Interface::Jsapi, &payment)).await?;
    promise((answer.status, &*answer.code()) == (403, "TRADE_ERROR"), "status and code are the service's")?;
    promise(matches!(world.verify(&answer), Signature::By(_)), "the gate signs it")
}

async fn upstream_signature(world: &World) -> Result<(), DemoError> {
    let payment = Payment::new(100).scripted(SIGNED);
    let answer = world.main.admit(world.accounts.store.pay(Interface::Jsapi, &payment)).await?;
    let fields = ["wechatpay-signature", "wechatpay-nonce", "wechatpay-timestamp", "wechatpay-serial"];
    let sent = [OWN_SIGNATURE, "the-services-own", "1554208460", "0123456789ABCDEF"];
    promise(fields.map(|name| answer.header(name)) == sent.map(Some), "all headers are the service's")
}

async fn check(world: &World) -> Result<(), DemoError> {
    let answer = world.main.admit(asked(world)).await?;
    promise(world.verify(&answer) == Signature::Absent, "what the proxy is told is not signed")?;
    promise(answer.text("/merchant").as_deref() == Some("1900000101"), "it names the merchant")?;
    promise(answer.text("/decision").is_some_and(|id| id.len() == 32), "and the decision")
}

async fn check_twice(world: &World) -> Result<(), DemoError> {
    let call = asked(world);
    let once = world.main.admit(call.clone()).await?;
    let again = world.main.admit(call).await?;
    promise(once.text("/decision") == again.text("/decision"), "both deliveries have one decision")?;
    let duplicates = [once, again].map(|answer| answer.member("/duplicate").and_then(|member| member.as_bool()));
    promise(duplicates == [Some(false), Some(true)], "the second is called a duplicate")
}

fn asked(world: &World) -> Call {
    let pay = world.accounts.store.pay(Interface::Jsapi, &Payment::new(100));
    pay.signed().with("tollgate-customer", "c-0001").with("tollgate-channel", "balance").through(Door::Check)
}
