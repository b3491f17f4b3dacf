//! Tests of the platform's keys and certificates, and the keys that other tests of the front sign with.

use std::collections::HashSet;
use std::sync::OnceLock;

use rcgen::{CertificateParams, PKCS_RSA_SHA256, RsaKeySize, SerialNumber};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::Value;

use super::certificates::{Certificate, body};
use super::*;

pub(in crate::front) const PUBLIC_KEY_ID: &str = "PUB_KEY_ID_0116a";
const SERIAL: [u8; 4] = [0x0c, 0x4a, 0x00, 0xfe];
const FROM: UnixMillis = UnixMillis(1_600_000_000_000);
const UNTIL: UnixMillis = UnixMillis(1_700_000_000_000);
const APIV3_KEY: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

struct Material {
    private_key_pem: String,
    pkcs8: Vec<u8>,
    certificate_pem: String,
    spki_der: Vec<u8>,
}

/// Generates keys once for all tests; two, so that a wrong one can be told.
fn material(index: usize) -> &'static Material {
    static MATERIAL: [OnceLock<Material>; 2] = [const { OnceLock::new() }; 2];
    MATERIAL[index].get_or_init(|| {
        let key = rcgen::KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.serial_number = Some(SerialNumber::from_slice(&SERIAL));
        let certificate = params.self_signed(&key).expect("certificate");
        let (_, parsed) = X509Certificate::from_der(certificate.der()).expect("DER");
        Material {
            private_key_pem: key.serialize_pem(),
            pkcs8: key.serialize_der(),
            certificate_pem: certificate.pem(),
            spki_der: parsed.public_key().raw.to_vec(),
        }
    })
}

pub(in crate::front) fn public_key() -> PlatformKey {
    PlatformKey::public_key(id(PUBLIC_KEY_ID), &material(0).private_key_pem).expect("key")
}

/// Tells whether an answer's headers hold, with another library than signed them.
pub(in crate::front) fn holds(timestamp: &str, nonce: &str, body: &[u8], signature: &[u8]) -> bool {
    let spki = &material(0).spki_der;
    let (_, spki) = x509_parser::x509::SubjectPublicKeyInfo::from_der(spki).expect("SPKI");
    let message = [timestamp.as_bytes(), b"\n", nonce.as_bytes(), b"\n", body, b"\n"].concat();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &spki.subject_public_key.data)
        .verify(&message, signature)
        .is_ok()
}

fn id(text: &str) -> KeyId {
    text.parse().expect("key id")
}

fn certificate_of(certificate: usize, private_key_pem: &str) -> Result<PlatformKey, PlatformError> {
    let Material { certificate_pem, spki_der, .. } = material(certificate);
    PlatformKey::certificate(id("C4A00FE"), certificate_pem, FROM, UNTIL, private_key_pem, spki_der)
}

fn keys() -> PlatformKeys {
    let certificate = certificate_of(1, &material(1).private_key_pem).expect("key");
    PlatformKeys::new(vec![certificate, public_key()], id("C4A00FE")).expect("keys")
}

fn labelled(label: &str, der: &[u8]) -> String {
    pem(der).replace("CERTIFICATE", label)
}

#[test]
fn a_private_key_is_read_in_both_encodings() {
    let pkcs8 = &material(0).pkcs8;
    // The head of a PKCS#8 wrapping of a 2048-bit key is always as long.
    let pkcs1 = labelled("RSA PRIVATE KEY", &pkcs8[26..]);
    let key = PlatformKey::public_key(id(PUBLIC_KEY_ID), &pkcs1).expect("PKCS#1");
    assert_eq!(key.sign("1", "n", b"").expect("signed"), public_key().sign("1", "n", b"").expect("signed"));
}

#[test]
fn a_private_key_that_cannot_sign_safely_is_refused() {
    let refused = |pem: &str| PlatformKey::public_key(id(PUBLIC_KEY_ID), pem).err();
    let unreadable = Some(PlatformError::PrivateKeyUnreadable(id(PUBLIC_KEY_ID)));
    let rejected = Some(PlatformError::PrivateKeyRejected(id(PUBLIC_KEY_ID)));
    assert_eq!(refused(""), unreadable);
    assert_eq!(refused(&material(0).certificate_pem), unreadable);
    let weak = include_bytes!("../../../tests/data/platform/weak_1024_pkcs1.der");
    assert_eq!(refused(&labelled("RSA PRIVATE KEY", weak)), rejected);
    let elliptic = rcgen::KeyPair::generate().expect("key");
    assert_eq!(refused(&elliptic.serialize_pem()), rejected);
    let mut altered = material(0).pkcs8.clone();
    altered[100] ^= 1;
    assert_eq!(refused(&labelled("PRIVATE KEY", &altered)), rejected);
}

#[test]
fn a_certificate_takes_its_own_private_key_only() {
    assert!(certificate_of(0, &material(0).private_key_pem).is_ok());
    let mismatch = PlatformError::PrivateKeyMismatch(id("C4A00FE"));
    assert_eq!(certificate_of(0, &material(1).private_key_pem).err(), Some(mismatch));
}

#[test]
fn a_certificate_must_be_the_one_that_was_stated() {
    let Material { certificate_pem, spki_der, private_key_pem, .. } = material(0);
    let make = |name: &str, pem: &str, until: UnixMillis, spki: &[u8]| {
        PlatformKey::certificate(id(name), pem, FROM, until, private_key_pem, spki).err()
    };
    let named = id("C4A00FE");
    assert_eq!(make("C4A00FE", certificate_pem, UNTIL, spki_der), None);
    assert_eq!(make("0c4a00fe", certificate_pem, FROM, spki_der), None);
    let other = Some(PlatformError::CertificateMismatch(id("C4A00FF")));
    assert_eq!(make("C4A00FF", certificate_pem, UNTIL, spki_der), other);
    let other = Some(PlatformError::CertificateMismatch(named));
    assert_eq!(make("C4A00FE", certificate_pem, UNTIL, &material(1).spki_der), other);
    let backwards = Some(PlatformError::ValidityEmpty(named));
    assert_eq!(make("C4A00FE", certificate_pem, UnixMillis(FROM.0 - 1), spki_der), backwards);
    let unreadable = Some(PlatformError::CertificateUnreadable(named));
    for pem in ["", private_key_pem.as_str(), &certificate_pem.repeat(2), &pem(b"not DER")] {
        assert_eq!(make("C4A00FE", pem, UNTIL, spki_der), unreadable, "{pem}");
    }
}

#[test]
fn a_public_key_has_a_public_keys_id() {
    let refused = PlatformKey::public_key(id("AB12"), &material(0).private_key_pem).err();
    assert_eq!(refused, Some(PlatformError::PublicKeyIdInvalid(id("AB12"))));
}

#[test]
fn a_serial_goes_out_in_upper_case_with_its_leading_zero() {
    let key = certificate_of(0, &material(0).private_key_pem).expect("key");
    assert_eq!((key.serial(), key.id().as_str()), ("0C4A00FE", "C4A00FE"));
    assert_eq!(public_key().serial(), PUBLIC_KEY_ID);
    assert_eq!(whole_bytes_hex(&[0x00, 0xd7, 0xce]), "D7CE");
}

#[test]
fn only_the_certificate_is_published_of_its_file() {
    let Material { certificate_pem, spki_der, private_key_pem, .. } = material(0);
    let file = format!("a remark\r\n{private_key_pem}{certificate_pem}");
    let key = PlatformKey::certificate(id("C4A00FE"), &file, FROM, UNTIL, private_key_pem, spki_der).expect("key");
    let PlatformKeyKind::Certificate { pem, .. } = key.kind() else { panic!("a certificate") };
    assert_eq!(*pem, certificate_pem.replace("\r\n", "\n").trim_end());
}

#[test]
fn debug_output_shows_no_secret() {
    assert_eq!(format!("{:?}", public_key()), "PlatformKey { id: PUB_KEY_ID_0116a, .. }");
}

#[test]
fn a_set_of_keys_is_bounded_distinct_and_has_its_default() {
    assert_eq!(
        PlatformKeys::new(vec![public_key(), public_key()], id(PUBLIC_KEY_ID)).err(),
        Some(PlatformError::Duplicate(id(PUBLIC_KEY_ID)))
    );
    assert_eq!(PlatformKeys::new(vec![public_key()], id("AB")).err(), Some(PlatformError::DefaultUnknown(id("AB"))));
    let many = |count: usize| {
        let key = |index| PlatformKey::public_key(id(&format!("PUB_KEY_ID_{index}")), &material(0).private_key_pem);
        let keys = (0..count).map(key).collect::<Result<_, _>>().expect("keys");
        PlatformKeys::new(keys, id("PUB_KEY_ID_0")).err()
    };
    assert_eq!(many(PLATFORM_KEYS_MAX), None);
    assert_eq!(many(PLATFORM_KEYS_MAX + 1), Some(PlatformError::TooMany { count: PLATFORM_KEYS_MAX + 1 }));
}

#[test]
fn the_request_then_the_merchant_then_the_platform_chooses_the_key() {
    let keys = keys();
    let chosen = |requested, merchant: Option<&str>| keys.choose(requested, merchant.map(id)).map(|key| key.serial());
    assert_eq!(chosen(None, None), Ok("0C4A00FE"));
    assert_eq!(chosen(None, Some(PUBLIC_KEY_ID)), Ok(PUBLIC_KEY_ID));
    assert_eq!(chosen(None, Some("AB")), Ok("0C4A00FE"));
    assert_eq!(chosen(Some("0c4a00fe"), Some(PUBLIC_KEY_ID)), Ok("0C4A00FE"));
    assert_eq!(chosen(Some(PUBLIC_KEY_ID), None), Ok(PUBLIC_KEY_ID));
    for unknown in ["", "AB", "PUB_KEY_ID_", "pub_key_id_0116a", "0C4A00FE,0C4A00FE"] {
        assert_eq!(chosen(Some(unknown), None), Err(Reason::PlatformKeyUnknown), "{unknown}");
    }
    assert!(keys.contains(id("C4A00FE")) && !keys.contains(id("AB")));
}

#[test]
fn a_signature_covers_timestamp_nonce_and_body() {
    let key = public_key();
    let signature = key.sign("1722850421", "nonce", b"{}").expect("signed");
    assert!(holds("1722850421", "nonce", b"{}", &signature));
    assert!(!holds("1722850422", "nonce", b"{}", &signature));
    assert!(!holds("1722850421", "Nonce", b"{}", &signature));
    assert!(!holds("1722850421", "nonce", b"{} ", &signature));
}

#[test]
fn the_message_is_the_one_that_a_real_client_expects() {
    let row: Value =
        serde_json::from_str(include_str!("../../../tests/data/platform/signed_message.json")).expect("row");
    let text = |name: &str| row[name].as_str().expect("text");
    let der = CertificateDer::from_pem_slice(text("certificate_pem").as_bytes()).expect("PEM");
    let (_, certificate) = X509Certificate::from_der(&der).expect("DER");
    let message = answer_message(text("timestamp"), text("nonce"), text("body").as_bytes()).concat();
    let signature = STANDARD.decode(text("signature")).expect("Base64");
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &certificate.public_key().subject_public_key.data)
        .verify(&message, &signature)
        .expect("the signature holds");
}

#[test]
fn published_answers_are_reproduced_from_their_parts() {
    let rows: Value = serde_json::from_str(include_str!("../../../tests/data/platform/answers.json")).expect("rows");
    let rows = rows.as_array().expect("rows");
    for row in rows {
        let text = |name: &str| row[name].as_str().expect("text");
        let key = text("key").as_bytes();
        // One of the two was made with a key of 16 bytes.
        let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).expect("key"));
        let expected: Value = serde_json::from_str(text("response_body")).expect("answer");
        let listed = &expected["data"][0];
        let instant = |name: &str| {
            let time: jiff::Timestamp = listed[name].as_str().expect("text").parse().expect("time");
            UnixMillis(time.as_millisecond())
        };
        let certificate = Certificate {
            serial: listed["serial_no"].as_str().expect("serial"),
            pem: text("plaintext"),
            not_before: instant("effective_time"),
            not_after: instant("expire_time"),
        };
        let nonce = text("nonce").as_bytes().try_into().expect("12 bytes");
        let written = body(&[certificate.sealed(&key, nonce).expect("sealed")]);
        assert_eq!(serde_json::from_slice::<Value>(&written).expect("JSON"), expected);
        assert!(written.starts_with(br#"{"data":[{"serial_no":"#));
        // The PEM that is published is written as the real ones are.
        let der = CertificateDer::from_pem_slice(certificate.pem.as_bytes()).expect("PEM");
        assert_eq!(pem(&der), certificate.pem);
    }
    assert_eq!(rows.len(), 2);
}

#[test]
fn sealed_certificates_open_under_the_merchants_key_only() {
    let keys = keys();
    let written = keys.certificates_body(APIV3_KEY, &mut || *b"a1b2c3d4e5f6", UNTIL, None).expect("a certificate");
    let answer: Value = serde_json::from_slice(&written).expect("JSON");
    assert_eq!(answer["data"].as_array().map(Vec::len), Some(1));
    let row = &answer["data"][0];
    assert_eq!(row["serial_no"], "0C4A00FE");
    assert_eq!(row["effective_time"], "2020-09-13T20:26:40+08:00");
    assert_eq!(row["expire_time"], "2023-11-15T06:13:20+08:00");
    let sealed = &row["encrypt_certificate"];
    assert_eq!(sealed["algorithm"], "AEAD_AES_256_GCM");
    assert_eq!(sealed["nonce"], "a1b2c3d4e5f6");
    let open = |key: &[u8; 32]| {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("key"));
        let nonce = Nonce::assume_unique_for_key(*b"a1b2c3d4e5f6");
        let mut text = STANDARD.decode(sealed["ciphertext"].as_str().expect("text")).expect("Base64");
        let aad = Aad::from(sealed["associated_data"].as_str().expect("text"));
        key.open_in_place(nonce, aad, &mut text).map(|plain| String::from_utf8_lossy(plain).into_owned()).ok()
    };
    assert_eq!(open(APIV3_KEY).as_deref(), Some(material(1).certificate_pem.replace("\r\n", "\n").trim_end()));
    assert_eq!(open(b"0123456789abcdefghijklmnopqrstuV"), None);
}

#[test]
fn certificates_are_listed_until_their_last_instant_and_by_algorithm() {
    let keys = keys();
    let list = |now: UnixMillis, algorithm| keys.certificates_body(APIV3_KEY, &mut || [0; 12], now, algorithm);
    for algorithm in [None, Some("RSA"), Some("ALL")] {
        assert!(list(UNTIL, algorithm).is_ok());
        assert!(list(UnixMillis(FROM.0 - 86_400_000), algorithm).is_ok());
        assert_eq!(list(UnixMillis(UNTIL.0 + 1), algorithm), Err(Reason::NoPlatformCertificate));
    }
    assert_eq!(list(UNTIL, Some("SM2")).as_deref(), Ok(br#"{"data":[]}"#.as_slice()));
    assert_eq!(list(UNTIL, Some("rsa")), Err(Reason::ParameterInvalid));
    let bare = PlatformKeys::new(vec![public_key()], id(PUBLIC_KEY_ID)).expect("keys");
    let none = bare.certificates_body(APIV3_KEY, &mut || [0; 12], FROM, None);
    assert_eq!(none, Err(Reason::NoPlatformCertificate));
}

#[test]
fn every_nonce_is_asked_for_and_printable() {
    let Material { certificate_pem, spki_der, private_key_pem, .. } = material(0);
    let other_serial = certificate_of(1, &material(1).private_key_pem).expect("key");
    // Two certificates with one serial would not get into one set: the second gets another.
    let key = rcgen::KeyPair::from_pem(private_key_pem).expect("key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.serial_number = Some(SerialNumber::from_slice(&[0x7b]));
    let second = params.self_signed(&key).expect("certificate").pem();
    assert_ne!(&second, certificate_pem);
    let second = PlatformKey::certificate(id("7B"), &second, FROM, UNTIL, private_key_pem, spki_der).expect("key");
    let keys = PlatformKeys::new(vec![other_serial, second], id("7B")).expect("keys");
    let mut next = 0u8;
    let mut nonces = || {
        next += 120;
        [next; 12]
    };
    let written = keys.certificates_body(APIV3_KEY, &mut nonces, FROM, None).expect("certificates");
    let answer: Value = serde_json::from_slice(&written).expect("JSON");
    let seen: HashSet<&str> = answer["data"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["encrypt_certificate"]["nonce"].as_str())
        .collect();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|nonce| nonce.len() == 12 && nonce.bytes().all(|byte| byte.is_ascii_alphanumeric())));
}

#[test]
fn times_are_written_in_beijing_time() {
    assert_eq!(beijing_time(UnixMillis(0)), "1970-01-01T08:00:00+08:00");
    assert_eq!(beijing_time(UnixMillis(-1)), "1970-01-01T07:59:59+08:00");
    assert_eq!(beijing_time(UnixMillis(253_402_300_799_000)), "9999-12-31T06:00:00+08:00");
    assert_eq!(beijing_time(UnixMillis(i64::MAX)), beijing_time(UnixMillis(253_402_300_799_000)));
}

#[test]
fn an_echo_says_what_was_sent() {
    let echo = |body: &str| String::from_utf8(echo_body(body.as_bytes())).expect("UTF-8");
    assert_eq!(echo(r#"{"echo_message":"a\"\u4f60\/b","notify_url":"https://a"}"#), r#"{"echo_message":"a\"你/b"}"#);
    for nothing in ["", "{}", "[]", r#"{"echo_message":1}"#, r#"{"echo_message":"a","echo_message":"b"}"#] {
        assert_eq!(echo(nothing), r#"{"echo_message":""}"#, "{nothing}");
    }
}
