//! Requests signed ahead of a run. Each is used once, but for those that are to be sent again.

use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::deployment::Merchant;
use crate::traffic::{Cast, Kind, Original, Planned};

/// A request as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    pub planned: Planned,
    /// Head and body.
    pub bytes: Vec<u8>,
}

/// What all requests of a pool have in common.
#[derive(Clone, Copy)]
pub struct Signing<'a> {
    pub merchants: &'a [Merchant],
    /// When the first is to be sent, in seconds since 1970: what is sent later is signed as of later.
    pub starts_s: i64,
    /// Makes numbers and nonces of this run unlike those of another.
    pub run: u64,
    /// The appid that merchants use.
    pub appid: &'a str,
    /// What `Tollgate-*` headers say, on listeners that take them; left out elsewhere.
    pub facts: bool,
}

/// Signs all requests, on as many threads; returns them, and how many were signed a second.
pub fn sign(planned: &[Planned], signing: Signing<'_>, threads: usize) -> (Vec<Prepared>, f64) {
    let began = Instant::now();
    let part = planned.len().div_ceil(threads.max(1)).max(1);
    let mut prepared: Vec<Prepared> = thread::scope(|scope| {
        let parts: Vec<_> = planned
            .chunks(part)
            .enumerate()
            .map(|(number, chunk)| {
                let first = number * part;
                let sign = move |(position, one): (usize, &Planned)| signing.prepare(one, first + position);
                scope.spawn(move || chunk.iter().enumerate().map(sign).collect::<Vec<_>>())
            })
            .collect();
        // A thread that panicked signed nothing: what is missing is found by its number.
        parts.into_iter().filter_map(|part| part.join().ok()).flatten().collect()
    });
    let per_second = planned.len() as f64 / began.elapsed().as_secs_f64().max(1e-9);
    let again: Vec<(usize, Vec<u8>)> = prepared
        .iter()
        .enumerate()
        .filter(|(_, one)| one.planned.kind == Kind::Replay)
        .filter_map(|(position, one)| Some((position, prepared.get(one.planned.order)?.bytes.clone())))
        .collect();
    for (position, bytes) in again {
        if let Some(one) = prepared.get_mut(position) {
            one.bytes = bytes;
        }
    }
    (prepared, per_second)
}

/// Returns how long signing so many takes, by signing a few.
pub fn estimate(merchants: &[Merchant], count: usize, threads: usize) -> Duration {
    let Some(merchant) = merchants.first() else { return Duration::ZERO };
    let began = Instant::now();
    for number in 0..SAMPLES {
        std::hint::black_box(merchant.key.sign(&number.to_be_bytes()));
    }
    began.elapsed().mul_f64(count as f64 / f64::from(SAMPLES) / threads.max(1) as f64)
}

impl Signing<'_> {
    fn prepare(&self, planned: &Planned, number: usize) -> Prepared {
        Prepared { bytes: self.bytes(planned, number).unwrap_or_default(), planned: planned.clone() }
    }

    /// Writes one request; `None` where there is no such merchant.
    fn bytes(&self, planned: &Planned, number: usize) -> Option<Vec<u8>> {
        let merchant = self.merchants.get(planned.merchant)?;
        let cast = Cast::new(self.merchants.len().checked_sub(2)?);
        let signer = match planned.kind {
            Kind::WrongKey => self.merchants.get((planned.merchant + 1) % cast.suspended().max(1))?,
            _ => merchant,
        };
        let (path, mut body) = match planned.original {
            None => (PATH, self.payment(planned, merchant)),
            Some(original) => (REFUND_PATH, self.refund(planned, original)),
        };
        let age_s = if planned.kind == Kind::Stale { STALE_S } else { 0 };
        let timestamp_s = self.starts_s.saturating_add_unsigned(planned.at.as_secs()) - age_s;
        let nonce = format!("{:016x}{number:016x}", self.run);
        let message = format!("POST\n{path}\n{timestamp_s}\n{nonce}\n{body}\n");
        let signature = STANDARD.encode(signer.key.sign(message.as_bytes()));
        if planned.kind == Kind::Tampered {
            // As long as before, so that nothing but the signature can tell.
            body = body.replacen("an order", "an 0rder", 1);
        }
        let facts = if self.facts {
            format!(
                "Tollgate-Customer: {}\r\nTollgate-Channel: {}\r\n",
                customer(planned.customer),
                planned.channel.as_str()
            )
        } else {
            String::new()
        };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nUser-Agent: loadtest\r\n\
             Content-Type: application/json\r\n{facts}Authorization: WECHATPAY2-SHA256-RSA2048 mchid=\"{}\",\
             nonce_str=\"{nonce}\",signature=\"{signature}\",timestamp=\"{timestamp_s}\",serial_no=\"{}\"\r\n\
             Content-Length: {}\r\n\r\n",
            merchant.mchid,
            merchant.serial,
            body.len()
        );
        Some((head + &body).into_bytes())
    }

    fn payment(&self, planned: &Planned, merchant: &Merchant) -> String {
        let appid = if planned.kind == Kind::ForbiddenInterface { "wx-of-nobody" } else { self.appid };
        format!(
            r#"{{"appid":"{appid}","mchid":"{}","description":"an order","out_trade_no":"{}","notify_url":"https://shop.example/paid","amount":{{"total":{},"currency":"CNY"}},"payer":{{"openid":"o-{}"}}}}"#,
            merchant.mchid,
            self.number(planned.order),
            planned.amount_fen,
            planned.customer,
        )
    }

    fn refund(&self, planned: &Planned, original: Original) -> String {
        format!(
            r#"{{"out_trade_no":"{}","out_refund_no":"{}","reason":"an order","amount":{{"refund":{},"total":{},"currency":"CNY"}}}}"#,
            self.number(original.order),
            self.number(planned.order),
            planned.amount_fen,
            original.amount_fen,
        )
    }

    /// Writes the number of an order or a refund.
    fn number(&self, order: usize) -> String {
        format!("L{:08x}N{order:010}", self.run & 0xffff_ffff)
    }
}

/// Returns the name of a customer of the platform.
pub fn customer(number: usize) -> String {
    format!("c-{number}")
}

/// Where orders of the interface JSAPI are placed.
pub const PATH: &str = "/v3/pay/transactions/jsapi";

/// Where refunds are asked for.
const REFUND_PATH: &str = "/v3/refund/domestic/refunds";

/// How old a stale request is, in seconds: more than any gate tolerates.
const STALE_S: i64 = 3600;

/// Signatures made to estimate how long many take.
const SAMPLES: u32 = 20;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::keys::LoadKey;

    fn merchants() -> Vec<Merchant> {
        let mut random = StdRng::seed_from_u64(4);
        let merchant = |number: usize| Merchant {
            mchid: format!("190000000{number}"),
            serial: format!("5CA1{number}"),
            key: LoadKey::generate(16, &mut random),
        };
        (0..4).map(merchant).collect()
    }

    fn signed(merchants: &[Merchant], kinds: &[Kind]) -> Vec<Prepared> {
        let planned: Vec<_> = (0..).zip(kinds).map(|(order, kind)| planned(order, *kind)).collect();
        let signing = Signing { merchants, starts_s: 1_795_320_000, run: 9, appid: "wx1", facts: true };
        sign(&planned, signing, 2).0
    }

    fn planned(order: usize, kind: Kind) -> Planned {
        let order = if kind == Kind::Replay { 0 } else { order };
        let at = Duration::from_secs(order as u64);
        let original = (kind == Kind::Refund).then_some(Original { order: 0, amount_fen: 9 });
        Planned { at, kind, merchant: 1, customer: 7, amount_fen: 5, order, original, ..Planned::nothing() }
    }

    fn field<'a>(text: &'a str, name: &str) -> &'a str {
        let (_, rest) = text.split_once(&format!("{name}=\"")).expect("a field");
        rest.split_once('"').expect("its end").0
    }

    /// Asks openssl whether the signature of a request holds under a key.
    fn holds(prepared: &Prepared, key: &LoadKey) -> bool {
        let folder = tempfile::tempdir().expect("a folder");
        let text = String::from_utf8(prepared.bytes.clone()).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let path = head.split(' ').nth(1).expect("a path");
        let message = format!("POST\n{path}\n{}\n{}\n{body}\n", field(head, "timestamp"), field(head, "nonce_str"));
        let signature = STANDARD.decode(field(head, "signature")).expect("Base64");
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            path
        };
        let key = file("key", &key.spki_der());
        let output = Command::new("openssl")
            .args(["dgst", "-sha256", "-keyform", "DER", "-verify"])
            .arg(key)
            .arg("-signature")
            .arg(file("signature", &signature))
            .arg(file("message", message.as_bytes()))
            .output()
            .expect("openssl");
        output.status.success()
    }

    #[test]
    fn requests_are_signed_as_openssl_verifies_them_and_broken_ones_are_not() {
        let merchants = merchants();
        let kinds = [Kind::Payment, Kind::Tampered, Kind::WrongKey, Kind::Stale, Kind::Duplicate, Kind::Refund];
        let verdicts: Vec<_> = signed(&merchants, &kinds).iter().map(|one| holds(one, &merchants[1].key)).collect();
        assert_eq!(verdicts, [true, false, false, true, true, true]);
    }

    #[test]
    fn a_refund_names_its_payment_and_has_a_number_of_its_own() {
        let signed = signed(&merchants(), &[Kind::Payment, Kind::Refund]);
        let text = |number: usize| String::from_utf8(signed[number].bytes.clone()).expect("text");
        assert!(text(0).contains(r#""out_trade_no":"L00000009N0000000000""#), "{}", text(0));
        let refund = text(1);
        assert!(refund.starts_with("POST /v3/refund/domestic/refunds HTTP/1.1\r\n"), "{refund}");
        let body = r#"{"out_trade_no":"L00000009N0000000000","out_refund_no":"L00000009N0000000001","#;
        assert!(refund.contains(body) && refund.contains(r#""refund":5,"total":9"#), "{refund}");
    }

    #[test]
    fn timestamps_lie_along_the_run_and_a_replay_is_the_same_bytes() {
        let signed = signed(&merchants(), &[Kind::Payment, Kind::Payment, Kind::Payment, Kind::Replay, Kind::Stale]);
        let text = |number: usize| String::from_utf8(signed[number].bytes.clone()).expect("text");
        assert_eq!(field(&text(2), "timestamp"), "1795320002");
        assert_eq!(field(&text(4), "timestamp"), "1795316404");
        assert_eq!(signed[3].bytes, signed[0].bytes);
        assert_ne!(field(&text(0), "nonce_str"), field(&text(1), "nonce_str"));
    }
}
