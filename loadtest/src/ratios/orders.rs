//! Merchants with keys, and payment orders that they signed ahead of the measurement.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tollgate::request::{Headers, Request, Trust};
use tollgate::signature::wechatpay_v3::WechatPayV3;
use tollgate::signature::{Extracted, Invalid, Job, Scheme as _, Verified, Verifier, VerifyingKey};
use tollgate::time::UnixMillis;

use super::RatioError;

/// Noon in Shanghai on 22 November 2026, when all orders are signed and decided.
pub(super) const NOW: UnixMillis = UnixMillis(1_795_320_000_000);

/// A merchant with a key of 2048 bits.
pub(super) struct Signer {
    pub(super) mchid: String,
    pub(super) serial: String,
    /// As a gate keeps it.
    pub(super) key: VerifyingKey,
    pair: KeyPair,
}

impl Signer {
    /// Makes so many merchants.
    pub(super) fn several(count: usize) -> Result<Vec<Self>, RatioError> {
        (0..count).map(Self::new).collect()
    }

    fn new(number: usize) -> Result<Self, RatioError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(RatioError::broken("a key pair"))?;
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(RatioError::broken("a public key"))?;
        let key = VerifyingKey::from_spki_der(spki.as_ref()).map_err(RatioError::broken("a public key"))?;
        Ok(Self { mchid: format!("19{number:08}"), serial: format!("5CA1{number:036X}"), key, pair })
    }

    /// Returns the public key as the rivals read it: an `RSAPublicKey` (RFC 8017, appendix A.1.1).
    pub(super) fn public_key_der(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn sign(&self, message: &[u8]) -> Result<String, RatioError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let signed = self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature);
        signed.map_err(RatioError::broken("a signature"))?;
        Ok(STANDARD.encode(signature))
    }
}

/// A JSAPI order as it arrives.
pub(super) struct Order {
    /// Position of the merchant that signed it.
    pub(super) signer: usize,
    body: String,
    headers: Lines,
}

impl Order {
    /// Signs so many orders, the merchants by turns.
    pub(super) fn several(signers: &[Signer], count: usize) -> Result<Vec<Self>, RatioError> {
        let by_turns = signers.iter().enumerate().cycle().zip(0..count);
        by_turns.map(|((position, signer), number)| Self::new(position, signer, number)).collect()
    }

    fn new(position: usize, signer: &Signer, number: usize) -> Result<Self, RatioError> {
        let Signer { mchid, serial, .. } = signer;
        let openid = format!("oUpF8uMuAJO_M2pxb1Q9zNjW{:04}", number % CUSTOMERS);
        let names = format!(r#""appid":"{APPID}","mchid":"{mchid}","out_trade_no":"T2026112200{number:06}""#);
        let amount = r#""amount":{"total":100,"currency":"CNY"}"#;
        let texts = r#""description":"测试商品 unicode","notify_url":"https://example.com/n""#;
        let body = format!(r#"{{{names},{amount},{texts},"payer":{{"openid":"{openid}"}}}}"#);
        let (timestamp_s, nonce) = (NOW.seconds(), format!("593BEC0C930BF1AFEB40B4A08C{number:06}"));
        let signature = signer.sign(format!("POST\n{PATH}\n{timestamp_s}\n{nonce}\n{body}\n").as_bytes())?;
        let claims = format!(r#"mchid="{mchid}",nonce_str="{nonce}",timestamp="{timestamp_s}",serial_no="{serial}""#);
        let authorization = format!(r#"WECHATPAY2-SHA256-RSA2048 {claims},signature="{signature}""#);
        let lines = [("Accept", "application/json"), ("User-Agent", "loadtest"), (AUTHORIZATION, &authorization)];
        let headers = Lines(lines.map(|(name, value)| (name, value.to_owned())));
        Ok(Self { signer: position, body, headers })
    }

    /// Returns the request as the library sees it.
    pub(super) fn request(&self) -> Request<'_> {
        Request {
            method: "POST",
            target: PATH,
            headers: &self.headers,
            body: self.body.as_bytes(),
            trust: Trust::Public,
            peer: None,
            client_certificate: None,
            answer_key_known: true,
        }
    }

    /// Returns the order with another body under the same signature.
    pub(super) fn forged(&self) -> Self {
        let body = self.body.replacen(r#""total":100"#, r#""total":101"#, 1);
        Self { signer: self.signer, body, headers: self.headers.clone() }
    }

    /// Returns what the request claims.
    pub(super) fn extracted(&self) -> Result<Extracted<'_>, RatioError> {
        WechatPayV3::new().extract(&self.request()).map_err(RatioError::broken("an order"))
    }

    /// Adds up all bytes, as near to the processor afterwards as if a connection had just read them.
    pub(super) fn read(&self) -> usize {
        let headers = self.headers.0.iter().flat_map(|(name, value)| name.bytes().chain(value.bytes()));
        headers.chain(self.body.bytes()).map(usize::from).sum()
    }
}

/// Header lines.
#[derive(Clone)]
struct Lines([(&'static str, String); 3]);

impl Headers for Lines {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        let lines = self.0.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        lines.for_each(|(_, value)| visit(value.as_bytes()));
    }
}

/// What a rival is given: the message in one piece and the signature decoded, so that it does nothing but verify.
pub(super) struct Prepared {
    pub(super) signer: usize,
    pub(super) message: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl Prepared {
    pub(super) fn new(order: &Order) -> Result<Self, RatioError> {
        let Extracted { message, signature, .. } = order.extracted()?;
        let signature = STANDARD.decode(signature).map_err(RatioError::broken("Base64"))?;
        Ok(Self { signer: order.signer, message: message.to_vec(), signature })
    }
}

/// Pairs what orders claim with the keys of their merchants.
pub(super) fn jobs<'a, 'o>(
    signers: &'a [Signer],
    orders: impl IntoIterator<Item = &'o Order>,
    extracted: &'a [Extracted<'a>],
) -> Result<Vec<Job<'a, 'a>>, RatioError> {
    let job = |(order, extracted): (&Order, &'a Extracted<'a>)| {
        let signer = signers.get(order.signer).ok_or(RatioError::Wrong("an order of nobody"))?;
        Ok(Job { key: &signer.key, extracted })
    };
    orders.into_iter().zip(extracted).map(job).collect()
}

/// Verifies jobs in batches; tells whether all are valid.
pub(super) fn verify_all(
    verifier: &mut Verifier,
    verdicts: &mut Vec<Result<Verified, Invalid>>,
    jobs: &[Job<'_, '_>],
    batch: usize,
) -> bool {
    jobs.chunks(batch).all(|jobs| {
        verifier.verify(jobs, verdicts);
        verdicts.len() == jobs.len() && verdicts.iter().all(Result::is_ok)
    })
}

/// The official account that all merchants sell in.
pub(super) const APPID: &str = "wx-jsapi";

/// How many customers there are.
const CUSTOMERS: usize = 1 << 10;

const PATH: &str = "/v3/pay/transactions/jsapi";
const AUTHORIZATION: &str = "Authorization";
