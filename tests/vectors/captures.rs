//! Recorded requests of real clients, and the key that they were signed with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tollgate::request::{Headers, Request, Trust};
use tollgate::signature::VerifyingKey;
use tollgate::types::{KeyId, MerchantId};
use x509_parser::pem::parse_x509_pem;

/// The recording.
pub struct Captures {
    /// Who signed all of it.
    pub merchant: MerchantId,
    /// Under which name the key is registered.
    pub key_id: KeyId,
    /// The public key.
    pub key: VerifyingKey,
    /// The public key as PKCS#1 has it, for other libraries.
    pub public_key: Vec<u8>,
    /// The requests.
    pub requests: Vec<Capture>,
}

/// One request, taken apart.
#[derive(Clone)]
pub struct Capture {
    /// Names it in failures.
    pub id: String,
    /// The method.
    pub method: String,
    /// The target, as on the wire.
    pub target: String,
    /// The header lines.
    pub headers: Lines,
    /// The body.
    pub body: Vec<u8>,
}

/// Header lines, each with its name and its value.
#[derive(Clone, Default)]
pub struct Lines(pub Vec<(String, Vec<u8>)>);

impl Headers for Lines {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        self.0.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).for_each(|(_, value)| visit(value));
    }
}

impl Capture {
    /// Takes an HTTP/1.1 request apart; the body is what follows the head.
    pub fn parse(id: &str, raw: &[u8]) -> Self {
        let end = raw.windows(4).position(|window| window == b"\r\n\r\n").expect("the end of the head");
        let (head, body) = raw.split_at(end);
        let head = std::str::from_utf8(head).expect("an ASCII head");
        let mut lines = head.split("\r\n");
        let mut first = lines.next().expect("a request line").split(' ');
        let mut word = || first.next().expect("three words").to_owned();
        let headers = lines.map(|line| line.split_once(':').expect("a header line"));
        Self {
            id: id.to_owned(),
            method: word(),
            target: word(),
            headers: Lines(headers.map(|(name, value)| (name.to_owned(), value.trim().into())).collect()),
            body: body.strip_prefix(b"\r\n\r\n").expect("an empty line").to_vec(),
        }
    }

    /// Returns the request as the library sees it.
    pub fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            target: &self.target,
            headers: &self.headers,
            body: &self.body,
            trust: Trust::Public,
            peer: None,
            client_certificate: None,
            answer_key_known: true,
        }
    }
}

/// Loads the recording.
pub fn load() -> Captures {
    let file: File = serde_json::from_str(include_str!("../data/wechatpay/captures.json")).expect("the captures");
    let valid = |row: Row| {
        assert_eq!(row.expected, "VALID", "{}", row.id);
        Capture::parse(&row.id, &STANDARD.decode(row.raw_request_base64).expect("base64"))
    };
    Captures {
        merchant: file.mchid.parse().expect("a merchant"),
        key_id: file.merchant_serial.parse().expect("a serial"),
        key: key_of_certificate(&file.merchant_certificate_pem),
        public_key: public_key(&file.merchant_certificate_pem),
        requests: file.captures.into_iter().map(valid).collect(),
    }
}

/// Reads the public key out of a certificate.
pub fn key_of_certificate(pem: &str) -> VerifyingKey {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).expect("a PEM block");
    let certificate = pem.parse_x509().expect("a certificate");
    VerifyingKey::from_spki_der(certificate.public_key().raw).expect("a key within the policy")
}

fn public_key(pem: &str) -> Vec<u8> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).expect("a PEM block");
    pem.parse_x509().expect("a certificate").public_key().subject_public_key.data.to_vec()
}

#[derive(Deserialize)]
struct File {
    mchid: String,
    merchant_serial: String,
    merchant_certificate_pem: String,
    captures: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    id: String,
    raw_request_base64: String,
    expected: String,
}
