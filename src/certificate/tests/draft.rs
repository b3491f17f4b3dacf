//! Certificates made field by field, so that each defect can be had alone, signed with real keys.

use std::sync::OnceLock;

use base64::Engine as _;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};

use crate::time::UnixMillis;

/// The fields of a certificate, encoded.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) version: Vec<u8>,
    pub(super) serial: Vec<u8>,
    pub(super) algorithm: Vec<u8>,
    pub(super) algorithm_outside: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) not_before: Vec<u8>,
    pub(super) not_after: Vec<u8>,
    pub(super) subject: Vec<u8>,
    pub(super) spki: Vec<u8>,
    pub(super) extensions: Vec<Vec<u8>>,
    /// Elements after the extensions.
    pub(super) signed_rest: Vec<u8>,
    /// Elements after the signature.
    pub(super) unsigned_rest: Vec<u8>,
}

impl Draft {
    /// A merchant's certificate without a fault.
    pub(super) fn merchant() -> Self {
        Self {
            version: tlv(0xa0, &tlv(0x02, &[2])),
            serial: [&[0x5c][..], &[0xa2; 19]].concat(),
            algorithm: algorithm(SHA256_WITH_RSA),
            algorithm_outside: algorithm(SHA256_WITH_RSA),
            issuer: common_name("Test User CA"),
            not_before: tlv(0x17, b"260101000000Z"),
            not_after: tlv(0x17, b"310101000000Z"),
            subject: common_name(MERCHANT),
            spki: spki(merchant_key()),
            extensions: vec![
                extension(BASIC_CONSTRAINTS, false, &tlv(0x30, &[])),
                extension(KEY_USAGE, true, &key_usage(0b1100_0000)),
                extension(EXTENDED_KEY_USAGE, false, &tlv(0x30, CLIENT_AUTH)),
            ],
            signed_rest: Vec::new(),
            unsigned_rest: Vec::new(),
        }
    }

    /// An authority's certificate without a fault; a root where both names are one.
    pub(super) fn authority(subject: &str, issuer: &str, key: &KeyPair) -> Self {
        Self {
            serial: vec![1],
            issuer: common_name(issuer),
            subject: common_name(subject),
            spki: spki(key),
            extensions: vec![
                extension(BASIC_CONSTRAINTS, true, &tlv(0x30, &tlv(0x01, &[0xff]))),
                extension(KEY_USAGE, true, &key_usage(0b0000_0110)),
            ],
            ..Self::merchant()
        }
    }

    /// Replaces an extension, or adds it.
    pub(super) fn with(mut self, id: u8, critical: bool, value: &[u8]) -> Self {
        self = self.without(id);
        self.extensions.push(extension(id, critical, value));
        self
    }

    /// Removes an extension.
    pub(super) fn without(mut self, id: u8) -> Self {
        self.extensions.retain(|extension| extension[2..7] != [0x06, 3, 0x55, 0x1d, id]);
        self
    }

    /// Encodes and signs.
    pub(super) fn sign(&self, key: &KeyPair) -> Vec<u8> {
        let extensions = match self.extensions.concat() {
            list if list.is_empty() => Vec::new(),
            list => tlv(0xa3, &tlv(0x30, &list)),
        };
        let to_be_signed = tlv(
            0x30,
            &[
                &self.version[..],
                &tlv(0x02, &self.serial),
                &self.algorithm,
                &self.issuer,
                &tlv(0x30, &[&self.not_before[..], &self.not_after].concat()),
                &self.subject,
                &self.spki,
                &extensions,
                &self.signed_rest,
            ]
            .concat(),
        );
        let signature = key.sign(&to_be_signed).expect("signature");
        let signature = tlv(0x03, &[&[0][..], &signature].concat());
        tlv(0x30, &[&to_be_signed[..], &self.algorithm_outside, &signature, &self.unsigned_rest].concat())
    }
}

/// An element with a tag of one octet and a length of up to two.
pub(super) fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).expect("short contents").to_be_bytes();
    let header = match length {
        [0, short @ 0..0x80] => vec![tag, short],
        [0, long] => vec![tag, 0x81, long],
        [high, low] => vec![tag, 0x82, high, low],
    };
    [&header[..], contents].concat()
}

/// An algorithm of the PKCS #1 arc with a NULL parameter.
pub(super) fn algorithm(number: u8) -> Vec<u8> {
    tlv(0x30, &[&tlv(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, number])[..], &[0x05, 0]].concat())
}

/// A name of UTF-8 common names, each on its own.
pub(super) fn name(common_names: &[&str]) -> Vec<u8> {
    let relative = |text: &&str| tlv(0x31, &attribute(0x0c, text.as_bytes()));
    tlv(0x30, &common_names.iter().map(relative).collect::<Vec<_>>().concat())
}

/// A name of one common name.
pub(super) fn common_name(text: &str) -> Vec<u8> {
    name(&[text])
}

/// A common name whose text has a given tag.
pub(super) fn attribute(tag: u8, text: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&[0x06, 3, 0x55, 0x04, 0x03][..], &tlv(tag, text)].concat())
}

/// An extension of the certificate-extension arc.
pub(super) fn extension(id: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { tlv(0x01, &[0xff]) } else { Vec::new() };
    tlv(0x30, &[&[0x06, 3, 0x55, 0x1d, id][..], &critical, &tlv(0x04, value)].concat())
}

/// The bits of keyUsage, the first one the highest.
pub(super) fn key_usage(bits: u8) -> Vec<u8> {
    let unused = u8::try_from(bits.trailing_zeros().min(7)).expect("at most seven");
    tlv(0x03, &[unused, bits])
}

/// Critical basicConstraints of an authority that allows so many intermediates.
pub(super) fn path_length(intermediates_max: u8) -> Vec<u8> {
    tlv(0x30, &[&[0x01, 1, 0xff][..], &[0x02, 1, intermediates_max]].concat())
}

/// The public key of a pair.
pub(super) fn spki(key: &KeyPair) -> Vec<u8> {
    key.subject_public_key_info()
}

/// An RSA public key of any numbers, each with the octet that keeps it positive.
pub(super) fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = tlv(0x30, &[tlv(0x02, modulus), tlv(0x02, exponent)].concat());
    tlv(0x30, &[&algorithm(RSA_ENCRYPTION)[..], &tlv(0x03, &[&[0][..], &key].concat())].concat())
}

/// A bundle in PEM form.
pub(super) fn pem(certificates: &[Vec<u8>]) -> String {
    let block = |der: &Vec<u8>| {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    certificates.iter().map(block).collect()
}

/// An instant given as RFC 3339.
pub(super) fn at(text: &str) -> UnixMillis {
    UnixMillis(text.parse::<jiff::Timestamp>().expect("timestamp").as_millisecond())
}

/// Key pairs take long to make, so that the tests share a few.
fn key(cell: &'static OnceLock<KeyPair>) -> &'static KeyPair {
    cell.get_or_init(|| KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("key pair"))
}

pub(super) fn root_key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    key(&KEY)
}

pub(super) fn intermediate_key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    key(&KEY)
}

pub(super) fn merchant_key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    key(&KEY)
}

pub(super) const MERCHANT: &str = "1900007291";

pub(super) const RSA_ENCRYPTION: u8 = 1;
pub(super) const MD2_WITH_RSA: u8 = 2;
pub(super) const MD5_WITH_RSA: u8 = 4;
pub(super) const SHA1_WITH_RSA: u8 = 5;
pub(super) const RSASSA_PSS: u8 = 10;
pub(super) const SHA256_WITH_RSA: u8 = 11;
pub(super) const SHA384_WITH_RSA: u8 = 12;

pub(super) const SUBJECT_KEY_ID: u8 = 14;
pub(super) const KEY_USAGE: u8 = 15;
pub(super) const SUBJECT_ALT_NAME: u8 = 17;
pub(super) const BASIC_CONSTRAINTS: u8 = 19;
pub(super) const NAME_CONSTRAINTS: u8 = 30;
pub(super) const POLICY_CONSTRAINTS: u8 = 36;
pub(super) const AUTHORITY_KEY_ID: u8 = 35;
pub(super) const EXTENDED_KEY_USAGE: u8 = 37;

pub(super) const SERVER_AUTH: &[u8] = &[0x06, 8, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
pub(super) const CLIENT_AUTH: &[u8] = &[0x06, 8, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
pub(super) const ANY_PURPOSE: &[u8] = &[0x06, 4, 0x55, 0x1d, 0x25, 0x00];
