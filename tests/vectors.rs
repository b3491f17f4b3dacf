//! The library against vectors from outside: what others signed verifies, what others know to be wrong is refused.

#![expect(clippy::expect_used, reason = "a test may stop where its data is broken")]

#[path = "vectors/captures.rs"]
#[expect(dead_code, reason = "the benches use the rest")]
mod captures;
#[path = "vectors/v2.rs"]
mod v2;

use std::fs;
use std::path::PathBuf;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use captures::{Capture, Captures, Lines};
use proptest::prelude::*;
use serde::Deserialize;
use tollgate::request::json;
use tollgate::signature::wechatpay_v3::{self, WechatPayV3, answer_message};
use tollgate::signature::{Extracted, Invalid, Job, Message, Scheme as _, Verified, Verifier, VerifyingKey};
use x509_parser::pem::parse_x509_pem;

/// Decides one signature.
fn verdict(key: &VerifyingKey, extracted: &Extracted<'_>) -> Result<Verified, Invalid> {
    let mut verdicts = Vec::new();
    Verifier::new().verify(&[Job { key, extracted }], &mut verdicts);
    assert_eq!(verdicts.len(), 1, "one verdict per job");
    verdicts.remove(0)
}

/// Claims a signature over a message that is no request.
fn claim<'a>(message: Message<'a>, signature: &'a str) -> Extracted<'a> {
    Extracted {
        merchant: "1900000001".parse().expect("a merchant"),
        key: "01".parse().expect("a serial"),
        timestamp_s: None,
        nonce: None,
        signature,
        sign_type: None,
        message,
    }
}

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    id: String,
    kind: String,
    expected: String,
    certificate_pem: Option<String>,
    public_key_pem: Option<String>,
    private_key_pem: Option<String>,
    serial: Option<String>,
    mchid: Option<String>,
    method: Option<String>,
    url: Option<String>,
    timestamp: Option<String>,
    nonce: Option<String>,
    body: Option<String>,
    message: Option<String>,
    signature: Option<String>,
    authorization: Option<String>,
}

impl Row {
    fn key(&self) -> VerifyingKey {
        if let Some(pem) = &self.certificate_pem {
            return captures::key_of_certificate(pem);
        }
        if let Some(pem) = &self.public_key_pem {
            return VerifyingKey::from_pem(pem).expect("a key within the policy");
        }
        let pem = self.private_key_pem.as_ref().expect("one of three kinds of key");
        let (_, block) = parse_x509_pem(pem.as_bytes()).expect("a PEM block");
        let pair = aws_lc_rs::rsa::KeyPair::from_pkcs8(&block.contents).expect("a private key");
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("a public key");
        VerifyingKey::from_spki_der(public.as_ref()).expect("a key within the policy")
    }

    /// Makes the request that the row describes; what it leaves out takes no part in the message.
    fn request(&self) -> Option<Capture> {
        let own = || {
            let field = |field: &Option<String>, otherwise: &str| field.clone().unwrap_or(otherwise.to_owned());
            format!(
                r#"{} mchid="{}",nonce_str="{}",timestamp="{}",serial_no="{}",signature="{}""#,
                wechatpay_v3::SCHEME,
                field(&self.mchid, "1900007291"),
                field(&self.nonce, "n"),
                field(&self.timestamp, "1"),
                field(&self.serial, "1"),
                field(&self.signature, "AA=="),
            )
        };
        let authorization = self.authorization.clone().unwrap_or_else(own);
        Some(Capture {
            id: self.id.clone(),
            method: self.method.clone()?,
            target: self.url.clone()?,
            headers: Lines(vec![("Authorization".to_owned(), authorization.into_bytes())]),
            body: self.body.clone()?.into_bytes(),
        })
    }

    /// Checks the message where the row states it, and the verdict where it has a signature.
    fn check(&self, extracted: &Extracted<'_>) {
        if let Some(message) = &self.message {
            assert_eq!(extracted.message.to_vec(), message.as_bytes(), "{}", self.id);
        }
        if self.signature.is_some() {
            let verdict = verdict(&self.key(), extracted);
            assert_eq!(verdict.is_ok(), self.expected == "valid", "{}", self.id);
        }
    }
}

#[test]
fn published_signatures_get_the_stated_verdicts() {
    let file: Vectors = serde_json::from_str(include_str!("data/wechatpay/signatures.json")).expect("the vectors");
    let (mut requests, mut answers, mut messages) = (0, 0, 0);
    for row in &file.vectors {
        let signature = row.signature.as_deref().unwrap_or_default();
        let text = |field: &Option<String>| field.clone().expect("a field of the row");
        if let Some(capture) = row.request() {
            requests += 1;
            row.check(&WechatPayV3::new().extract(&capture.request()).expect("a well-formed request"));
        } else if row.kind == "response_or_callback" {
            answers += 1;
            let (timestamp, nonce, body) = (text(&row.timestamp), text(&row.nonce), text(&row.body));
            row.check(&claim(answer_message(&timestamp, &nonce, body.as_bytes()), signature));
        } else {
            messages += 1;
            row.check(&claim(Message::new([text(&row.message).as_bytes()]), signature));
        }
    }
    assert_eq!((requests, answers, messages), (20, 8, 16), "no row was lost");
}

#[test]
fn requests_of_real_clients_verify() {
    let Captures { merchant, key_id, key, requests, .. } = captures::load();
    let requests: Vec<_> = requests.iter().map(Capture::request).collect();
    let extracted: Vec<_> = requests.iter().map(|request| WechatPayV3::new().extract(request).expect("form")).collect();
    let jobs: Vec<_> = extracted.iter().map(|extracted| Job { key: &key, extracted }).collect();
    let mut verdicts = vec![Err(Invalid)];
    Verifier::new().verify(&jobs, &mut verdicts);
    assert_eq!(verdicts.len(), 21);
    let mut digests: Vec<u128> = verdicts
        .into_iter()
        .map(|verdict| {
            let verified = verdict.expect("a valid signature");
            assert_eq!((verified.merchant(), verified.key()), (merchant, key_id));
            verified.digest()
        })
        .collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 21, "another request has another digest");
}

#[test]
fn a_batch_tells_its_members_apart_in_order() {
    let Captures { key, requests, .. } = captures::load();
    let requests: Vec<_> = requests.iter().map(Capture::request).collect();
    let mut extracted: Vec<_> =
        requests.iter().map(|request| WechatPayV3::new().extract(request).expect("form")).collect();
    let spoiled = |index: usize| index % 3 == 1;
    let other = extracted[0].signature;
    extracted.iter_mut().enumerate().filter(|(index, _)| spoiled(*index)).for_each(|(_, job)| job.signature = other);
    let mut verifier = Verifier::new();
    let mut verdicts = Vec::new();
    for size in [0, 1, 7, 8, 9, 21] {
        let jobs: Vec<_> = extracted[..size].iter().map(|extracted| Job { key: &key, extracted }).collect();
        verifier.verify(&jobs, &mut verdicts);
        let valid: Vec<bool> = verdicts.iter().map(Result::is_ok).collect();
        assert_eq!(valid, (0..size).map(|index| !spoiled(index)).collect::<Vec<_>>());
    }
}

/// Whether a request is taken for one of the merchant whose key is registered.
fn accepted(capture: &Capture, registered: &Captures) -> bool {
    let request = capture.request();
    let Ok(extracted) = WechatPayV3::new().extract(&request) else { return false };
    let known = (extracted.merchant, extracted.key) == (registered.merchant, registered.key_id);
    known && verdict(&registered.key, &extracted).is_ok()
}

/// Changes the byte at a place, counted through method, target, `Authorization` and body; `None` behind the end, where
/// the text would not be ASCII, or where only the case of the serial changes, which names the same key.
fn mutated(capture: &Capture, place: usize, mask: u8) -> Option<Capture> {
    let mut copy = capture.clone();
    let line = copy.headers.0.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let (_, authorization) = line.expect("the header");
    let serial = authorization.windows(11).position(|window| window == b"serial_no=\"").expect("the serial") + 11;
    let mut method = copy.method.clone().into_bytes();
    let mut target = copy.target.clone().into_bytes();
    let header = method.len() + target.len();
    let mut bytes = method.iter_mut().chain(&mut target).chain(authorization).chain(&mut copy.body);
    let byte = bytes.nth(place)?;
    let before = *byte;
    *byte ^= mask;
    let same_key = (serial..serial + 40).contains(&place.wrapping_sub(header)) && byte.eq_ignore_ascii_case(&before);
    copy.method = String::from_utf8(method).ok()?;
    copy.target = String::from_utf8(target).ok()?;
    (!same_key).then_some(copy)
}

#[test]
fn any_flipped_bit_of_a_request_is_refused() {
    let registered = captures::load();
    let capture = registered.requests.iter().find(|capture| !capture.body.is_empty()).expect("one with a body");
    assert!(accepted(capture, &registered));
    let bytes = capture.method.len() + capture.target.len() + capture.body.len() + 590;
    let mut tried = 0;
    for place in 0..bytes {
        for bit in 0..8 {
            if let Some(copy) = mutated(capture, place, 1 << bit) {
                tried += 1;
                assert!(!accepted(&copy, &registered), "bit {bit} of byte {place} does not count");
            }
        }
    }
    assert!(tried > 5000, "{tried}");
}

proptest! {
    #[test]
    fn any_changed_byte_of_a_request_is_refused(which: prop::sample::Index, place in 0..1200_usize, mask in 1..=u8::MAX) {
        let registered = captures::load();
        let capture = which.get(&registered.requests);
        if let Some(copy) = mutated(capture, place, mask) {
            prop_assert!(!accepted(&copy, &registered), "{} at {place} with {mask:#x}", capture.id);
        }
    }

    #[test]
    fn any_longer_or_shorter_body_is_refused(which: prop::sample::Index, byte: u8) {
        let registered = captures::load();
        let mut longer = which.get(&registered.requests).clone();
        longer.body.push(byte);
        prop_assert!(!accepted(&longer, &registered));
        longer.body.truncate(longer.body.len().saturating_sub(2));
        let shorter = longer;
        prop_assert_eq!(accepted(&shorter, &registered), shorter.body == which.get(&registered.requests).body);
    }
}

#[test]
fn signatures_in_another_encoding_are_invalid() {
    let registered = captures::load();
    let request = registered.requests[0].request();
    let good = WechatPayV3::new().extract(&request).expect("a well-formed request");
    let bytes = STANDARD.decode(good.signature).expect("base64");
    let longer = STANDARD.encode([&[0], bytes.as_slice()].concat());
    let shorter = STANDARD.encode(&bytes[1..]);
    let (body, padding) = good.signature.split_at(342);
    let (front, last) = body.split_at(341);
    assert_eq!(padding, "==");
    let next = char::from(last.as_bytes()[0] + 1);
    let bad = [
        String::new(),
        body.to_owned(),
        format!("{body}="),
        format!("{body}==="),
        format!("{front}{next}=="),
        format!("{body}\n=="),
        format!(" {body}=="),
        good.signature.replace('+', "-").replace('/', "_"),
        format!("WECHATPAY/SIGNTEST/{}", good.signature),
        longer,
        shorter,
        "A".repeat(1368),
        "A".repeat(10_000),
    ];
    assert!(verdict(&registered.key, &good).is_ok());
    for signature in &bad {
        let extracted = Extracted { signature, ..good.clone() };
        assert_eq!(verdict(&registered.key, &extracted).err(), Some(Invalid), "{signature}");
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wycheproof {
    number_of_tests: usize,
    test_groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    public_key_pem: String,
    tests: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    tc_id: usize,
    msg: String,
    sig: String,
    result: String,
    flags: Vec<String>,
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal")).collect()
}

#[test]
fn wycheproof_gets_its_verdicts_under_keys_within_the_policy() {
    let file = include_str!("data/wycheproof/rsa_signature_2048_sha256_test.json");
    let file: Wycheproof = serde_json::from_str(file).expect("the suite");
    let (mut valid, mut invalid) = (0, 0);
    for group in &file.test_groups {
        let key = VerifyingKey::from_pem(&group.public_key_pem);
        for case in &group.tests {
            let (message, signature) = (unhex(&case.msg), STANDARD.encode(unhex(&case.sig)));
            let verdict = key
                .as_ref()
                .is_ok_and(|key| verdict(key, &claim(Message::new([message.as_slice()]), &signature)).is_ok());
            let small = case.flags.iter().any(|flag| flag == "SmallPublicKey");
            assert_eq!(key.is_err(), small, "exponent 3 is outside the policy");
            assert_eq!(verdict, case.result == "valid" && !small, "case {}", case.tc_id);
            *if verdict { &mut valid } else { &mut invalid } += 1;
        }
    }
    assert_eq!((valid, invalid), (7, 252));
    assert_eq!(valid + invalid, file.number_of_tests);
}

#[test]
fn json_test_suite_gets_its_verdicts() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/json/test_parsing");
    let (mut accepted, mut refused, mut either) = (0, 0, 0);
    for entry in fs::read_dir(folder).expect("the suite") {
        let path = entry.expect("an entry").path();
        let document = fs::read(&path).expect("a document");
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let verdict = json::check(&document);
        match &name[..2] {
            "y_" => {
                accepted += 1;
                assert_eq!(verdict, Ok(()), "{name}");
            }
            "n_" => {
                refused += 1;
                assert!(verdict.is_err(), "{name}");
            }
            _ => either += 1,
        }
    }
    assert_eq!((accepted, refused, either), (95, 186, 35));
    assert_eq!(json::check("[".repeat(100_000).as_bytes()), Err(json::JsonError::Depth));
    assert_eq!(json::check("[{\"\":".repeat(50_000).as_bytes()), Err(json::JsonError::Depth));
}
