//! Keys of merchants, and requests signed with them.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tollgate::request::{Headers, Request, Trust};
use tollgate::signature::VerifyingKey;
use tollgate::time::UnixMillis;

/// Noon in Shanghai on 22 November 2026.
pub const NOW: UnixMillis = UnixMillis(1_795_320_000_000);

/// Returns a key pair, the same one for the same index; made when first asked for.
pub fn key_pair(index: usize) -> &'static KeyPair {
    static PAIRS: [OnceLock<KeyPair>; 3] = [const { OnceLock::new() }; 3];
    let pair = PAIRS.get(index).expect("one of the pairs");
    pair.get_or_init(|| KeyPair::generate(KeySize::Rsa2048).expect("a key pair"))
}

/// Returns the DER of the public key.
pub fn spki_der(index: usize) -> Vec<u8> {
    let der: PublicKeyX509Der<'_> = key_pair(index).public_key().as_der().expect("DER");
    der.as_ref().to_vec()
}

/// Returns the public key as merchants register it.
pub fn verifying_key(index: usize) -> VerifyingKey {
    VerifyingKey::from_spki_der(&spki_der(index)).expect("a key within the policy")
}

/// Returns the identity of a merchant of the tests.
pub fn mchid(merchant: usize) -> String {
    format!("190000000{merchant}")
}

/// Returns the serial under which a merchant registers its own key.
pub fn serial(merchant: usize) -> String {
    format!("5CA10000000000000000000000000000000000A{merchant}")
}

/// A request to be signed. Each is new: its nonce was never used.
#[derive(Clone, Debug)]
pub struct Draft {
    pub method: String,
    pub target: String,
    pub body: String,
    /// What `Authorization` names, and the key that really signs.
    pub mchid: String,
    pub serial: String,
    pub key: usize,
    pub nonce: String,
    /// The time it is signed at, where that is not the gate's.
    pub timestamp_s: Option<i64>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub trust: Trust,
    pub peer: Option<IpAddr>,
    pub client_certificate: Option<Vec<u8>>,
    pub answer_key_known: bool,
}

impl Draft {
    /// Makes a request of a merchant, signed with the key of the same index.
    pub fn new(merchant: usize, method: &str, target: &str, body: &str) -> Self {
        static NONCES: AtomicU64 = AtomicU64::new(0);
        let accept = ("Accept".to_owned(), b"application/json".to_vec());
        let agent = ("User-Agent".to_owned(), b"tests".to_vec());
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            body: body.to_owned(),
            mchid: mchid(merchant),
            serial: serial(merchant),
            key: merchant,
            // Relaxed: any number will do that nobody else has.
            nonce: format!("nonce-{}", NONCES.fetch_add(1, Ordering::Relaxed)),
            timestamp_s: None,
            headers: vec![accept, agent],
            trust: Trust::Public,
            peer: None,
            client_certificate: None,
            answer_key_known: true,
        }
    }

    /// Makes a payment order on a path; `amount` is the text of the number, `rest` goes behind the amount.
    pub fn order(merchant: usize, path: &str, appid: &str, number: &str, amount: &str, rest: &str) -> Self {
        let mchid = mchid(merchant);
        let body = format!(
            r#"{{"appid":"{appid}","mchid":"{mchid}","out_trade_no":"{number}","amount":{{"total":{amount},"currency":"CNY"}}{rest}}}"#
        );
        Self::new(merchant, "POST", path, &body)
    }

    /// Makes a Native order, which names no customer.
    pub fn native(merchant: usize, number: &str, fen: u64) -> Self {
        Self::order(merchant, "/v3/pay/transactions/native", "wx-native", number, &fen.to_string(), "")
    }

    /// Makes a JSAPI order, which names its customer.
    pub fn jsapi(merchant: usize, number: &str, fen: u64, openid: &str) -> Self {
        let payer = format!(r#","payer":{{"openid":"{openid}"}}"#);
        Self::order(merchant, "/v3/pay/transactions/jsapi", "wx-jsapi", number, &fen.to_string(), &payer)
    }

    /// Makes an order that the answer settles.
    pub fn codepay(merchant: usize, number: &str, fen: u64) -> Self {
        Self::order(merchant, "/v3/pay/transactions/codepay", "wx-code", number, &fen.to_string(), "")
    }

    /// Makes a query of an order.
    pub fn query(merchant: usize, number: &str) -> Self {
        let target = format!("/v3/pay/transactions/out-trade-no/{number}?mchid={}", mchid(merchant));
        Self::new(merchant, "GET", &target, "")
    }

    /// Makes a close of an order.
    pub fn close(merchant: usize, number: &str) -> Self {
        let target = format!("/v3/pay/transactions/out-trade-no/{number}/close");
        Self::new(merchant, "POST", &target, &format!(r#"{{"mchid":"{}"}}"#, mchid(merchant)))
    }

    /// Makes a reversal of an order.
    pub fn reverse(merchant: usize, number: &str) -> Self {
        let Self { target, .. } = Self::close(merchant, number);
        Self { target: target.replace("/close", "/reverse"), ..Self::close(merchant, number) }
    }

    /// Makes a query of a refund.
    pub fn query_refund(merchant: usize, number: &str) -> Self {
        Self::new(merchant, "GET", &format!("/v3/refund/domestic/refunds/{number}"), "")
    }

    /// Makes a refund of an order that the gate does not know.
    pub fn refund(merchant: usize, number: &str, fen: u64) -> Self {
        Self::refund_of(merchant, number, "T", fen)
    }

    /// Makes a refund of an order.
    pub fn refund_of(merchant: usize, number: &str, original: &str, fen: u64) -> Self {
        let body = format!(
            r#"{{"out_trade_no":"{original}","out_refund_no":"{number}","amount":{{"refund":{fen},"total":{fen},"currency":"CNY"}}}}"#
        );
        Self::new(merchant, "POST", "/v3/refund/domestic/refunds", &body)
    }

    /// Lets it come through a trusted hop that states facts.
    pub fn hop(mut self, facts: &[(&str, &str)]) -> Self {
        self.trust = Trust::TrustedHop;
        facts.iter().for_each(|(name, value)| self.headers.push(((*name).to_owned(), value.as_bytes().to_vec())));
        self
    }

    /// Leaves a header away.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// Signs it as of an instant.
    pub fn sign(&self, now: UnixMillis) -> Call {
        let Self { method, target, body, mchid, serial, nonce, .. } = self;
        let timestamp_s = self.timestamp_s.unwrap_or(now.seconds());
        let message = format!("{method}\n{target}\n{timestamp_s}\n{nonce}\n{body}\n");
        let mut signature = vec![0; key_pair(self.key).public_modulus_len()];
        let signed =
            key_pair(self.key).sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature);
        signed.expect("a signature");
        let signature = STANDARD.encode(signature);
        let authorization = format!(
            r#"WECHATPAY2-SHA256-RSA2048 mchid="{mchid}",nonce_str="{nonce}",timestamp="{timestamp_s}",serial_no="{serial}",signature="{signature}""#
        );
        let mut headers = self.headers.clone();
        headers.push(("Authorization".to_owned(), authorization.into_bytes()));
        Call { headers: Lines(headers), draft: self.clone() }
    }
}

/// A request as it arrives.
#[derive(Clone, Debug)]
pub struct Call {
    pub draft: Draft,
    pub headers: Lines,
}

impl Call {
    /// Returns the request as the library sees it.
    pub fn request(&self) -> Request<'_> {
        Request {
            method: &self.draft.method,
            target: &self.draft.target,
            headers: &self.headers,
            body: self.draft.body.as_bytes(),
            trust: self.draft.trust,
            peer: self.draft.peer,
            client_certificate: self.draft.client_certificate.as_deref(),
            answer_key_known: self.draft.answer_key_known,
        }
    }

    /// Returns the value of `Authorization`.
    pub fn authorization(&mut self) -> &mut Vec<u8> {
        let line = self.headers.0.iter_mut().find(|(name, _)| name == "Authorization");
        line.map(|(_, value)| value).expect("a signed request")
    }

    /// Spoils the signature and leaves everything else as it is.
    pub fn forged(mut self) -> Self {
        let authorization = self.authorization();
        let at = authorization.windows(11).position(|window| window == b"signature=\"").expect("the signature") + 11;
        let byte = authorization.get_mut(at).expect("its first character");
        *byte = if *byte == b'A' { b'B' } else { b'A' };
        self
    }
}

/// Header lines.
#[derive(Clone, Debug, Default)]
pub struct Lines(pub Vec<(String, Vec<u8>)>);

impl Headers for Lines {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        self.0.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).for_each(|(_, value)| visit(value));
    }
}
