//! WeChat Pay API v2 beside v3: an order in XML is forwarded, a refusal is written and signed as merchants of v2 expect it,
//! and MD5 is refused where it is forbidden. Signatures are made and checked here by other code than the gate's.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use md5::{Digest as _, Md5};
use ring::hmac;

use super::DemoError;
use super::accounts::unique;
use super::cases::{Case, Expected};
use super::client::Answer;
use super::request::Signed;
use super::shows::promise;
use super::upstream::SEEN_DECISION;
use super::world::{Door, World};
use crate::request::xml;

/// An order that is admitted.
pub(super) async fn order(world: &World) -> Result<(), DemoError> {
    let answer = world.main.send(native(world, "100", true)).await?;
    promise(answer.status == 200 && field(&answer, "code_url").is_some(), "the service's answer arrives as it is")?;
    promise(answer.header(SEEN_DECISION).is_some(), "it was forwarded with a decision")
}

/// An amount that no limit has room for.
pub(super) async fn refusal(world: &World) -> Result<(), DemoError> {
    let answer = world.main.send(native(world, "100001", true)).await?;
    promise(answer.status == 200, "every answer has status 200")?;
    let codes = ["return_code", "result_code", "err_code"].map(|name| field(&answer, name).unwrap_or_default());
    promise(codes == ["SUCCESS", "FAIL", "RULE_LIMIT"].map(str::to_owned), "the codes say that a limit refuses")?;
    promise(field(&answer, "mch_id").as_deref() == Some(STORE), "the answer repeats who asked")?;
    let document = xml::read(&answer.body).map_err(|_| DemoError::Broken("the answer is flat XML"))?;
    let fields: Vec<(&str, String)> = document.fields().map(|(name, value)| (name, value.into_owned())).collect();
    let signed: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, &**value)).collect();
    let expected = sign(&world.platform.apiv2_key, &signed);
    promise(field(&answer, "sign") == Some(expected), "the answer is signed with the merchant's API v2 key")
}

/// A signature that does not hold.
pub(super) async fn stranger(world: &World) -> Result<(), DemoError> {
    let mut order = native(world, "100", true);
    let body = String::from_utf8_lossy(&order.body).replace("<total_fee>100<", "<total_fee>1<");
    order.body = body.into();
    let answer = world.main.send(order).await?;
    let told = (field(&answer, "return_code"), field(&answer, "sign"));
    promise(answer.status == 200 && told == (Some("FAIL".to_owned()), None), "a stranger is told FAIL, unsigned")
}

pub(super) fn sign_type_forbidden() -> Case {
    Expected::unsigned(401, "SIGN_ERROR")
        .on("an order of API v2 signed with MD5, which its key forbids; asked in check mode", |world| {
            native(world, "100", false).through(Door::Check)
        })
}

/// Makes a signed Native order of the store.
fn native(world: &World, total_fee: &str, hmac: bool) -> Signed {
    let (number, nonce) = (unique(), unique());
    let mut fields = vec![
        ("appid", "wx1900000101a"),
        ("mch_id", STORE),
        ("nonce_str", &nonce),
        ("body", "demo"),
        ("out_trade_no", &number),
        ("total_fee", total_fee),
        ("spbill_create_ip", "192.0.2.9"),
        ("notify_url", "https://example.com/notify"),
        ("trade_type", "NATIVE"),
    ];
    let secret = &world.platform.apiv2_key;
    let signature = if hmac {
        fields.push(("sign_type", "HMAC-SHA256"));
        sign(secret, &fields)
    } else {
        hexadecimal(&Md5::digest(message(secret, &fields)))
    };
    fields.push(("sign", &signature));
    let body: String = fields.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("localhost"));
    headers.insert("content-type", HeaderValue::from_static("text/xml; charset=utf-8"));
    let body = Bytes::from(format!("<xml>{body}</xml>"));
    Signed { method: Method::POST, target: "/pay/unifiedorder".to_owned(), headers, body }
}

/// Returns what is signed: parameters with a value, ordered by name, and the secret.
fn message(secret: &str, fields: &[(&str, &str)]) -> String {
    let mut signed: Vec<_> = fields.iter().filter(|(name, value)| *name != "sign" && !value.is_empty()).collect();
    signed.sort_unstable();
    let pairs: String = signed.iter().map(|(name, value)| format!("{name}={value}&")).collect();
    format!("{pairs}key={secret}")
}

/// Signs with HMAC-SHA256.
fn sign(secret: &str, fields: &[(&str, &str)]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hexadecimal(hmac::sign(&key, message(secret, fields).as_bytes()).as_ref())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Returns a field of an answer; `None` where the answer is not flat XML or has no such field.
fn field(answer: &Answer, name: &str) -> Option<String> {
    Some(xml::read(&answer.body).ok()?.field(name)?.into_owned())
}

/// The merchant that has an API v2 key.
const STORE: &str = "1900000101";
