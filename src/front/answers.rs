//! Answers put together and signed.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::Full;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::decider::Ask;
use super::gate::Gate;
use super::respond::{self, Answer, Language};
use super::sign::SignedHeaders;
use crate::metrics::{self, Stage};
use crate::reason::Reason;
use crate::request::Format;
use crate::types::MerchantId;

/// Puts the answers of one worker together.
pub(super) struct Answers {
    gate: Arc<Gate>,
    metrics: Arc<metrics::Worker>,
    random: RefCell<StdRng>,
}

impl Answers {
    /// `seed` must be 32 random bytes; nonces of answers and request ids come from it.
    pub fn new(gate: Arc<Gate>, metrics: Arc<metrics::Worker>, seed: [u8; 32]) -> Self {
        Self { gate, metrics, random: RefCell::new(StdRng::from_seed(seed)) }
    }

    /// Signs an answer and puts it together.
    pub async fn sign(
        &self,
        ask: &Ask,
        merchant: &MerchantId,
        status: StatusCode,
        mut headers: HeaderMap,
        body: Bytes,
        language: Language,
    ) -> Response<Full<Bytes>> {
        let began = std::time::Instant::now();
        let signed = self.signature(ask, merchant, body.clone()).await;
        self.metrics.stage(Stage::Sign, began.elapsed());
        let Ok(signed) = signed else {
            self.metrics.refused(Reason::SigningOverloaded);
            return self.plain(respond::refusal(Reason::SigningOverloaded, &respond::Detail::None, language));
        };
        let SignedHeaders { timestamp, nonce, signature, serial, signature_type } = signed;
        let values = [&timestamp, &nonce, &signature, &serial, signature_type];
        for (name, value) in SIGNATURE_HEADERS.into_iter().zip(values) {
            // Digits, letters and Base64: always a header value.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        if !headers.contains_key(REQUEST_ID) {
            headers.insert(REQUEST_ID, self.request_id(0));
        }
        response(status, headers, body)
    }

    async fn signature(&self, ask: &Ask, merchant: &MerchantId, body: Bytes) -> Result<SignedHeaders, Reason> {
        let policy = self.gate.admission().policy();
        let preferred = policy.merchant(merchant).and_then(|merchant| merchant.platform_key);
        drop(policy);
        let platform = self.gate.platform();
        // A key that is not known was refused already; what the refusal is signed with is the default.
        let named = ask.answer_key();
        let key = platform.choose(named, preferred).or_else(|_| platform.choose(None, preferred))?;
        let timestamp_s = self.gate.clock().now().seconds();
        let signing = self.gate.signer().sign(Arc::clone(key), timestamp_s, self.nonce(), body);
        let signing = signing.map_err(|_| Reason::SigningOverloaded)?;
        let signed = tokio::time::timeout(SIGNING_WAIT_MAX, signing).await;
        signed.ok().flatten().ok_or(Reason::SigningOverloaded)
    }

    /// Puts an answer together that is not signed.
    pub fn plain(&self, answer: Answer) -> Response<Full<Bytes>> {
        let (status, headers, body) = self.local(answer);
        response(status, headers, body)
    }

    /// Turns an answer of the gate's own into status, headers and body.
    pub fn local(&self, answer: Answer) -> (StatusCode, HeaderMap, Bytes) {
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(REQUEST_ID, self.request_id(answer.platform_code));
        if !answer.body.is_empty() {
            headers.insert(CONTENT_TYPE, if answer.format == Format::Xml { XML } else { JSON });
        }
        if let Some(seconds) = answer.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        (status, headers, answer.body.into())
    }

    /// Makes the nonce of an answer: 32 letters and digits.
    pub fn nonce(&self) -> String {
        self.letters::<32>().into_iter().map(char::from).collect()
    }

    /// Makes the nonce of a sealed certificate: 12 letters and digits, used as they are.
    pub fn seal_nonce(&self) -> [u8; 12] {
        self.letters()
    }

    fn letters<const N: usize>(&self) -> [u8; N] {
        let mut random = self.random.borrow_mut();
        std::array::from_fn(|_| {
            // 32 letters and digits: five bits each, without bias.
            let index = usize::try_from(random.next_u32() & 31).unwrap_or(0);
            LETTERS.get(index).copied().unwrap_or(b'A')
        })
    }

    fn request_id(&self, platform_code: u32) -> HeaderValue {
        let mut random = self.random.borrow_mut();
        let id = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
        // Hexadecimal digits, a hyphen and a number: always a header value.
        HeaderValue::from_str(&respond::request_id(id, platform_code)).unwrap_or(HeaderValue::from_static("0"))
    }
}

/// Puts an answer together.
pub(super) fn response(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The headers of a signature: timestamp, nonce, signature, key and scheme.
pub(super) const SIGNATURE_HEADERS: [&str; 5] =
    ["wechatpay-timestamp", "wechatpay-nonce", "wechatpay-signature", "wechatpay-serial", "wechatpay-signature-type"];

/// The media type of all JSON answers.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// The media type of all XML answers.
const XML: HeaderValue = HeaderValue::from_static("text/xml; charset=utf-8");

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Longest wait for an answer to be signed.
const SIGNING_WAIT_MAX: Duration = Duration::from_secs(5);
