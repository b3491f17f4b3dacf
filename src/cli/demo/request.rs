//! Requests as merchants make them: the body of each interface, and the signature of WeChat Pay API v3.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use serde_json::{Value, json};

use super::accounts::{Account, unique};
use super::client::Outgoing;
use crate::time::{Clock, SystemClock, UnixMillis};
use crate::types::Interface;

/// A request before it is signed.
#[derive(Clone)]
pub(super) struct Message {
    account: Account,
    method: Method,
    target: String,
    body: String,
    timestamp_s: i64,
    nonce: String,
}

/// A signed request; it can be sent more than once.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A payment order.
#[derive(Clone)]
pub(super) struct Payment {
    pub number: String,
    pub amount_fen: u64,
    /// The customer's openid, in the interfaces that state it.
    pub openid: String,
    /// When it can no longer be paid.
    pub expires: Option<jiff::Timestamp>,
}

impl Payment {
    /// Makes a payment of a customer of its own under an order number of its own.
    pub fn new(amount_fen: u64) -> Self {
        Self::by(&format!("o{}", unique()), amount_fen)
    }

    /// Makes a payment of a customer under an order number of its own.
    pub fn by(openid: &str, amount_fen: u64) -> Self {
        Self { number: unique(), amount_fen, openid: openid.to_owned(), expires: None }
    }

    /// Puts a word before the order number, which tells the stand-in upstream to misbehave.
    pub fn scripted(mut self, word: &str) -> Self {
        self.number = format!("{word}{}", self.number.get(..24).unwrap_or_default());
        self
    }
}

impl Account {
    /// Begins a POST of JSON.
    pub fn post(&self, target: &str, body: &Value) -> Message {
        self.message(Method::POST, target, body.to_string())
    }

    /// Begins a GET.
    pub fn get(&self, target: &str) -> Message {
        self.message(Method::GET, target, String::new())
    }

    /// Begins a payment through an interface.
    pub fn pay(&self, interface: Interface, payment: &Payment) -> Message {
        self.post(path(interface), &self.payment_body(interface, payment))
    }

    /// Begins a payment whose body is written already.
    pub fn raw(&self, interface: Interface, body: String) -> Message {
        self.message(Method::POST, path(interface), body)
    }

    /// Begins the close of an order.
    pub fn close(&self, number: &str) -> Message {
        let target = format!("/v3/pay/transactions/out-trade-no/{number}/close");
        self.post(&target, &json!({ "mchid": self.mchid }))
    }

    /// Begins the query of an order.
    pub fn query(&self, number: &str) -> Message {
        self.get(&format!("/v3/pay/transactions/out-trade-no/{number}?mchid={}", self.mchid))
    }

    /// Begins a refund of one fen.
    pub fn refund(&self, number: &str) -> Message {
        self.refund_of(&Payment { number: number.to_owned(), ..Payment::new(100) }, &unique(), 1)
    }

    /// Begins a refund of a part of a payment, under a number of its own.
    pub fn refund_of(&self, payment: &Payment, refund_number: &str, fen: u64) -> Message {
        let amount = json!({ "refund": fen, "total": payment.amount_fen, "currency": "CNY" });
        let numbers = json!({ "out_trade_no": payment.number, "out_refund_no": refund_number });
        let mut body = json!({ "reason": "returned", "amount": amount });
        join(&mut body, numbers);
        self.post("/v3/refund/domestic/refunds", &body)
    }

    /// Begins the query of a refund.
    pub fn query_refund(&self, refund_number: &str) -> Message {
        self.get(&format!("/v3/refund/domestic/refunds/{refund_number}"))
    }

    /// Returns the account of another merchant that signs with the same key, as a bare one.
    pub fn known_as(&self, mchid: &'static str) -> Self {
        Self { mchid, key_id: format!("PUB_KEY_ID_{mchid}"), key: Arc::clone(&self.key) }
    }

    /// Begins an echo, which touches no money.
    pub fn echo(&self, text: &str) -> Message {
        self.post("/v3/security/echo", &json!({ "echo_message": text }))
    }

    /// Writes the body of a payment.
    pub fn payment_body(&self, interface: Interface, payment: &Payment) -> Value {
        let Payment { number, amount_fen, openid, expires } = payment;
        let appid = self.appid(interface);
        let amount = json!({ "total": amount_fen, "currency": "CNY" });
        let mut body = json!({ "description": "demo", "out_trade_no": number, "amount": amount });
        let more = match interface {
            Interface::Jsapi | Interface::MiniProgram => json!({ "payer": { "openid": openid } }),
            Interface::Native | Interface::App => json!({}),
            Interface::H5 => json!({ "scene_info": { "payer_client_ip": "192.0.2.9", "h5_info": { "type": "Wap" } } }),
            Interface::PaymentCode => {
                json!({ "payer": { "auth_code": "130061098828009406" }, "scene_info": { "store_info": { "id": "1" } } })
            }
            Interface::Face => json!({ "payer": { "face_code": "FC0001" } }),
        };
        let who = match interface {
            Interface::Face => json!({ "sp_mchid": self.mchid }),
            Interface::Jsapi
            | Interface::MiniProgram
            | Interface::Native
            | Interface::App
            | Interface::H5
            | Interface::PaymentCode => {
                json!({ "mchid": self.mchid, "appid": appid, "notify_url": "https://merchant.example/notify" })
            }
        };
        let expires = expires.map_or_else(|| json!({}), |expires| json!({ "time_expire": expires.to_string() }));
        for part in [more, who, expires] {
            join(&mut body, part);
        }
        body
    }

    /// Returns the appid that the demo's configuration gives the merchant for an interface.
    fn appid(&self, interface: Interface) -> String {
        let letter = match interface {
            Interface::MiniProgram => "m",
            Interface::App => "p",
            Interface::Jsapi | Interface::Native | Interface::H5 | Interface::PaymentCode | Interface::Face => "a",
        };
        format!("wx{}{letter}", self.mchid)
    }

    fn message(&self, method: Method, target: &str, body: String) -> Message {
        let timestamp_s = SystemClock.now().seconds();
        Message { account: self.clone(), method, target: target.to_owned(), body, timestamp_s, nonce: unique() }
    }
}

impl Message {
    /// Dates the request.
    pub fn at(mut self, now: UnixMillis) -> Self {
        self.timestamp_s = now.seconds();
        self
    }

    /// Claims another merchant or another key than those of the signer.
    pub fn claiming(mut self, mchid: &'static str, key_id: &str) -> Self {
        self.account.mchid = mchid;
        self.account.key_id = key_id.to_owned();
        self
    }

    /// Signs the request: five lines, each ended by LF, with RSASSA-PKCS1-v1_5 and SHA-256.
    pub fn signed(self) -> Signed {
        let Self { account, method, target, body, timestamp_s, nonce } = self;
        let message = format!("{method}\n{target}\n{timestamp_s}\n{nonce}\n{body}\n");
        let mut signature = vec![0; account.key.public_modulus_len()];
        let signing = account.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature);
        // A signature that could not be made is one that the gate refuses: the demo then says so.
        let signature = if signing.is_ok() { STANDARD.encode(signature) } else { String::new() };
        let Account { mchid, key_id, .. } = account;
        let authorization = format!(
            "WECHATPAY2-SHA256-RSA2048 mchid=\"{mchid}\",nonce_str=\"{nonce}\",timestamp=\"{timestamp_s}\",\
             serial_no=\"{key_id}\",signature=\"{signature}\""
        );
        let mut headers = HeaderMap::new();
        for (name, value) in [("host", "localhost"), ("accept", "application/json"), ("user-agent", USER_AGENT)] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        if !body.is_empty() {
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Signed { method, target, headers, body: body.into() }.with("authorization", &authorization)
    }
}

impl Signed {
    /// Sets a header. A value that no header can have leaves it out.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => self.headers.insert(HeaderName::from_static(name), value),
            Err(_) => self.headers.remove(name),
        };
        self
    }

    /// Removes a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// Puts another body in place of the one that was signed.
    pub fn forged(mut self, body: &str) -> Self {
        self.body = Bytes::copy_from_slice(body.as_bytes());
        self
    }

    /// Makes the request to send.
    pub fn request(&self) -> Request<Outgoing> {
        self.request_with(Outgoing::whole(self.body.clone()))
    }

    /// Makes the request to send, with a body of another kind.
    pub fn request_with(&self, body: Outgoing) -> Request<Outgoing> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        // Targets are the demo's own; one that could not be read would be answered as an unknown path.
        *request.uri_mut() = self.target.parse().unwrap_or_else(|_| Uri::from_static("/"));
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Adds the members of one object to another.
fn join(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

/// Returns the path that creates a payment through an interface.
pub(super) const fn path(interface: Interface) -> &'static str {
    match interface {
        Interface::Jsapi | Interface::MiniProgram => "/v3/pay/transactions/jsapi",
        Interface::Native => "/v3/pay/transactions/native",
        Interface::App => "/v3/pay/transactions/app",
        Interface::H5 => "/v3/pay/transactions/h5",
        Interface::PaymentCode => "/v3/pay/transactions/codepay",
        Interface::Face => "/v3/offlineface/transactions",
    }
}

const USER_AGENT: &str = concat!("tollgate-demo/", env!("CARGO_PKG_VERSION"));
