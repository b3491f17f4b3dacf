//! API v2 against vectors from outside: strings to sign, printed examples, and recorded requests of real clients.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tollgate::request::{Request, Trust, xml};
use tollgate::signature::wechatpay_v2::WechatPayV2;
use tollgate::signature::{Extracted, Job, Scheme as _, SignType, Verifier, VerifyingKey};
use tollgate::types::Md5Rule;

use super::captures::{Capture, Lines};

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    id: String,
    scheme: String,
    kind: String,
    expected: String,
    #[serde(default)]
    params: BTreeMap<String, Option<String>>,
    ordered_keys: Option<Vec<String>>,
    message: Option<String>,
    key: Option<String>,
    signature: Option<String>,
    xml: Option<String>,
}

/// Writes parameters as a request whose merchant is `mch_id`, which must be among them.
fn body(params: &BTreeMap<String, Option<String>>, sign_type: Option<&str>, sign: &str) -> String {
    let mut body = String::from("<xml>");
    let stated = [("sign", Some(sign)), ("sign_type", sign_type)];
    let params = params.iter().map(|(name, value)| (&**name, value.as_deref()));
    for (name, value) in params.filter(|(name, _)| *name != "sign").chain(stated) {
        if let Some(value) = value {
            xml::element(&mut body, name, value);
        }
    }
    body + "</xml>"
}

fn request(body: &str) -> Capture {
    let (method, target) = ("POST".to_owned(), "/pay/unifiedorder".to_owned());
    Capture { id: String::new(), method, target, headers: Lines::default(), body: body.as_bytes().to_vec() }
}

fn key(secret: &str) -> VerifyingKey {
    VerifyingKey::wechatpay_v2(secret.as_bytes().try_into().expect("32 bytes"), Md5Rule::Allow)
}

fn scheme(merchant: &str) -> WechatPayV2 {
    WechatPayV2::new(merchant, ["total_fee", "out_trade_no", "openid", merchant].map(str::to_owned), false)
}

/// Returns what a request is signed over, but for the secret.
fn message(request: &Request<'_>, merchant: &str) -> String {
    let extracted = scheme(merchant).extract(request).expect("a well-formed request");
    String::from_utf8(extracted.message.to_vec()).expect("text")
}

fn holds(key: &VerifyingKey, extracted: &Extracted<'_>) -> bool {
    let mut verdicts = Vec::new();
    Verifier::new().verify(&[Job { key, extracted }], &mut verdicts);
    verdicts.iter().all(Result::is_ok)
}

#[test]
fn strings_to_sign_and_their_signatures_are_those_published() {
    let file: Vectors =
        serde_json::from_str(include_str!("../data/wechatpay/v2_signatures.json")).expect("the vectors");
    let mut counts = [0; 4];
    for row in &file.vectors {
        if let Some(document) = &row.xml {
            // Their secret is not published: they show how requests are written.
            counts[0] += 1;
            let document = xml::read(document.as_bytes()).expect("a flat document");
            assert_eq!(document.field("sign").as_deref(), row.signature.as_deref(), "{}", row.id);
        } else if let Some(keys) = &row.ordered_keys {
            counts[1] += 1;
            let mut params = row.params.clone();
            params.insert("mch_id".to_owned(), Some("7".to_owned()));
            let capture = request(&body(&params, None, "S"));
            let message = message(&capture.request(), "mch_id");
            let names = message.split('&').map(|pair| pair.split('=').next().expect("a name").to_owned());
            let added = |name: &String| name != "mch_id" || keys.contains(name);
            assert_eq!(&names.filter(added).collect::<Vec<_>>(), keys, "{}", row.id);
        } else if row.kind == "message_construction" {
            counts[2] += 1;
            let mut params = row.params.clone();
            params.insert("zz".to_owned(), Some("7".to_owned()));
            let capture = request(&body(&params, None, "S"));
            let message = message(&capture.request(), "zz");
            // The rows join without ordering, which is a step of its own there.
            let mut pairs: Vec<&str> = row.message.as_deref().expect("a message").split('&').chain(["zz=7"]).collect();
            pairs.sort_unstable();
            assert_eq!(message.split('&').collect::<Vec<_>>(), pairs, "{}", row.id);
        } else {
            counts[3] += 1;
            let sign_type = if row.scheme == "V2-MD5" { SignType::Md5 } else { SignType::HmacSha256 };
            let (secret, sign) =
                (row.key.as_deref().expect("a secret"), row.signature.as_deref().expect("a signature"));
            let capture = request(&body(&row.params, None, sign));
            let request = capture.request();
            let extracted = scheme("mch_id").extract(&request).expect("a well-formed request");
            let whole = row.message.as_deref().expect("a message");
            assert_eq!(
                extracted.message.to_vec(),
                whole.strip_suffix(&format!("&key={secret}")).expect("the secret").as_bytes()
            );
            // The examples do not state how they are signed.
            let extracted = Extracted { sign_type: Some(sign_type), ..extracted };
            assert_eq!(holds(&key(secret), &extracted), row.expected == "valid", "{}", row.id);
        }
    }
    assert_eq!(counts, [3, 4, 5, 3], "no row was lost");
}

#[derive(Deserialize)]
struct Recording {
    apiv2_key: String,
    mchid: String,
    captures: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    id: String,
    raw_request_base64: String,
    expected: String,
    sign_type: String,
}

fn recording() -> (VerifyingKey, String, Vec<(Capture, Recorded)>) {
    let file: Recording =
        serde_json::from_str(include_str!("../data/wechatpay/v2_captures.json")).expect("the captures");
    let parse = |row: Recorded| {
        let raw = STANDARD.decode(&row.raw_request_base64).expect("base64");
        (Capture::parse(&row.id, &raw), row)
    };
    (key(&file.apiv2_key), file.mchid, file.captures.into_iter().map(parse).collect())
}

fn merchant_field(capture: &Capture) -> &'static str {
    if capture.target.ends_with("/transfers") { "mchid" } else { "mch_id" }
}

#[test]
fn requests_of_real_clients_verify_and_any_flipped_bit_of_their_parameters_is_refused() {
    let (key, mchid, captures) = recording();
    assert_eq!(captures.len(), 10);
    for (capture, row) in captures {
        let scheme = scheme(merchant_field(&capture));
        let request = capture.request();
        assert_eq!(request.trust, Trust::Public);
        let extracted = scheme.extract(&request).expect("a well-formed request");
        assert_eq!(extracted.sign_type.map(SignType::as_str), Some(&*row.sign_type), "{}", row.id);
        assert_eq!((extracted.merchant.as_str(), row.expected.as_str()), (&*mchid, "VALID"), "{}", row.id);
        assert!(holds(&key, &extracted), "{}", row.id);
        let before = extracted.message.to_vec();
        let mut tried = 0;
        for place in 0..capture.body.len() {
            for bit in 0..8 {
                let mut copy = capture.clone();
                copy.body[place] ^= 1 << bit;
                let request = copy.request();
                let Ok(changed) = scheme.extract(&request) else { continue };
                // White space between elements, the root's name and an `X` for an `x` in the declaration mean nothing.
                if changed.message.to_vec() != before || changed.signature != extracted.signature {
                    tried += 1;
                    assert!(!holds(&key, &changed), "{}: bit {bit} of byte {place} does not count", row.id);
                }
            }
        }
        assert!(tried > 200, "{}: {tried}", row.id);
    }
}
