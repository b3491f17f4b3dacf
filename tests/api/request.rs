//! Requests, and their signature as a merchant's client makes it.

use std::sync::atomic::{AtomicU64, Ordering};

use tollgate::time::{Clock as _, SystemClock};

use crate::deployment::{Merchant, deployment};
use crate::raw::Fields;

/// A request that is to be signed and written out.
#[derive(Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Fields,
    pub body: Vec<u8>,
    pub nonce: String,
}

impl Request {
    /// Makes a request with the headers that every client sends.
    pub fn new(method: &str, target: &str, body: impl Into<Vec<u8>>) -> Self {
        let request = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: body.into(),
            nonce: unique("nonce"),
        };
        request.header("Host", "pay.example.com").header("Accept", "*/*").header("User-Agent", "test")
    }

    /// Makes an order of an amount in fen.
    pub fn order(number: &str, fen: u64) -> Self {
        Self::order_of(number, fen, "o-customer")
    }

    /// Makes an order of an amount in fen, by a customer.
    pub fn order_of(number: &str, fen: u64, openid: &str) -> Self {
        let body = format!(
            r#"{{"appid":"wx0000000000000001","mchid":"{}","description":"tea","out_trade_no":"{number}","#,
            deployment().merchant.mchid
        ) + &format!(
            r#""notify_url":"https://shop.example.com/n","amount":{{"total":{fen},"currency":"CNY"}},"payer":{{"openid":"{openid}"}}}}"#
        );
        Self::new("POST", ORDER, body).header("Content-Type", "application/json")
    }

    /// Makes a query for an order.
    pub fn query(number: &str) -> Self {
        let mchid = deployment().merchant.mchid;
        Self::new("GET", &format!("/v3/pay/transactions/out-trade-no/{number}?mchid={mchid}"), "")
    }

    /// Makes the closing of an order.
    pub fn close(number: &str) -> Self {
        let body = format!(r#"{{"mchid":"{}"}}"#, deployment().merchant.mchid);
        Self::new("POST", &format!("/v3/pay/transactions/out-trade-no/{number}/close"), body)
    }

    /// Makes a payment by the code that the customer shows.
    pub fn code_payment(number: &str, fen: u64) -> Self {
        Self { target: CODE_PAYMENT.to_owned(), ..Self::order(number, fen) }
    }

    /// Makes a query for an order by the number that the platform gave it.
    pub fn query_by_id(id: &str) -> Self {
        let mchid = deployment().merchant.mchid;
        Self::new("GET", &format!("/v3/pay/transactions/id/{id}?mchid={mchid}"), "")
    }

    /// Makes the reversal of an order.
    pub fn reverse(number: &str) -> Self {
        let closing = Self::close(number);
        Self { target: closing.target.replace("/close", "/reverse"), ..closing }
    }

    /// Makes a refund of so much of an order.
    pub fn refund_of(order: &str, number: &str, fen: u64) -> Self {
        let body = format!(
            r#"{{"out_trade_no":"{order}","out_refund_no":"{number}","amount":{{"refund":{fen},"total":1000,"currency":"CNY"}}}}"#
        );
        Self::new("POST", "/v3/refund/domestic/refunds", body).header("Content-Type", "application/json")
    }

    /// Makes a query for a refund.
    pub fn refund_query(number: &str) -> Self {
        Self::new("GET", &format!("/v3/refund/domestic/refunds/{number}"), "")
    }

    /// Makes a refund.
    pub fn refund(number: &str) -> Self {
        let body = format!(
            r#"{{"out_trade_no":"{number}","out_refund_no":"{number}","amount":{{"refund":1,"total":1,"currency":"CNY"}}}}"#
        );
        Self::new("POST", "/v3/refund/domestic/refunds", body).header("Content-Type", "application/json")
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Signs with the sample merchant's key and writes the request out.
    pub fn wire(&self) -> Vec<u8> {
        self.wire_by(&deployment().merchant)
    }

    /// Signs with a merchant's key and writes the request out, framed by `Content-Length`.
    pub fn wire_by(&self, merchant: &Merchant) -> Vec<u8> {
        let mut bytes = self.head_by(merchant);
        if !self.body.is_empty() {
            bytes.extend(format!("Content-Length: {}\r\n", self.body.len()).bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
        bytes
    }

    /// Signs with the sample merchant's key and writes the request out, its body in chunks of a size.
    pub fn wire_in_chunks(&self, bytes_max: usize) -> Vec<u8> {
        let mut bytes = self.head_by(&deployment().merchant);
        bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
        for chunk in self.body.chunks(bytes_max) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        bytes
    }

    /// Writes out the head but for the framing of the body and the empty line.
    pub fn head_by(&self, merchant: &Merchant) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend(name.bytes());
            bytes.extend(b": ");
            bytes.extend(value);
            bytes.extend(b"\r\n");
        }
        let authorization = authorization(merchant, &self.method, &self.target, &self.nonce, &self.body);
        bytes.extend(format!("Authorization: {authorization}\r\n").bytes());
        bytes
    }
}

/// Makes the value of the header `Authorization`.
pub fn authorization(merchant: &Merchant, method: &str, target: &str, nonce: &str, body: &[u8]) -> String {
    let timestamp = SystemClock.now().seconds();
    let mut message = format!("{method}\n{target}\n{timestamp}\n{nonce}\n").into_bytes();
    message.extend(body);
    message.push(b'\n');
    let Merchant { mchid, serial, .. } = merchant;
    let signature = merchant.sign(&message);
    format!(
        "WECHATPAY2-SHA256-RSA2048 mchid=\"{mchid}\",nonce_str=\"{nonce}\",timestamp=\"{timestamp}\",serial_no=\"{serial}\",signature=\"{signature}\""
    )
}

/// Makes a name that no other call makes, for order numbers and nonces.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Where orders are made.
pub const ORDER: &str = "/v3/pay/transactions/jsapi";

/// Where payments by code are made.
const CODE_PAYMENT: &str = "/v3/pay/transactions/codepay";
