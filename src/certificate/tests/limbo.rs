//! The cases of x509-limbo on paths (RFC 5280), for certificates of clients.
//!
//! They are made with ECDSA keys, for servers. Each certificate is issued again, with all else as it was: an RSA key, the
//! purposes of client and server exchanged, the leaf in the name of a merchant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, SigningKey as _};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::FromDer as _;

use super::super::der::{self, Reader};
use super::super::{Authority, Error};
use super::draft::*;

#[derive(serde::Deserialize)]
struct Case {
    id: String,
    accepted: bool,
    at: Option<String>,
    trusted: Vec<String>,
    untrusted: Vec<String>,
    leaf: String,
}

/// Where the gate decides otherwise than the suite, by why it does.
const DEPARTURES: &[(&str, &[&str])] = &[
    (
        "refused: an authority's certificate is not a merchant's, whatever path it has; a stolen one would sign for all",
        &["pathlen::validation-ignores-pathlen-in-leaf", "rfc5280::ca-as-leaf"],
    ),
    (
        "refused: names are constrained, which is not evaluated; a constraint that is passed over would be a hole",
        &[
            "rfc5280::nc::permitted-dns-match",
            "rfc5280::nc::permitted-dns-match-more",
            "rfc5280::nc::permitted-ipv4-match",
            "rfc5280::nc::permitted-ipv6-match",
            "rfc5280::nc::permitted-dn-match",
            "rfc5280::nc::permitted-self-issued",
            "rfc5280::nc::permitted-different-constraint-type",
            "rfc5280::nc::excluded-different-constraint-type",
            "rfc5280::nc::nc-forbids-alternate-chain-ica",
            "rfc5280::nc::nc-forbids-same-chain-ica",
            "rfc5280::nc::nc-permits-email-exact",
            "rfc5280::nc::nc-permits-email-domain",
            "rfc5280::nc::nc-permits-email-literal-asterisk-exact-match",
            "rfc5280::nc::nc-permits-email-literal-double-asterisk",
            "rfc5280::nc::nc-permits-email-literal-mid-asterisk",
            "rfc5280::nc::nc-forbids-othername-noop",
        ],
    ),
    (
        "refused: the operator wrote the bundle, and is told of a certificate in it that could never be used",
        &[
            "rfc5280::unknown-critical-extension-unrelated-root",
            "rfc5280::unknown-critical-extension-unrelated-intermediate",
        ],
    ),
    (
        "refused: in a bundle an anchor is what issued itself, so that an intermediate alone anchors nothing",
        &["rfc5280::root-and-intermediate-swapped"],
    ),
    (
        "refused: a certificate that names itself as its issuer is an anchor in a bundle; new keys need a name of their own",
        &["pathlen::self-issued-certs-pathlen"],
    ),
    (
        "refused: validity ends with the instant that is named, not with the second that it begins",
        &["rfc5280::validity::notafter-fractional"],
    ),
    (
        "accepted: ids of keys only choose among issuers of one name, and the signature is verified with any; old \
         authorities write none",
        &[
            "rfc5280::aki::leaf-missing-aki",
            "rfc5280::aki::intermediate-missing-aki",
            "rfc5280::ski::root-missing-ski",
            "rfc5280::ski::intermediate-missing-ski",
        ],
    ),
];

/// Keys enough for the longest chain of a case.
static KEYS: LazyLock<Vec<KeyPair>> =
    LazyLock::new(|| (0..6).map(|_| KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key")).collect());

/// One certificate, taken apart.
struct Parts {
    der: Vec<u8>,
    version: Vec<u8>,
    serial: Vec<u8>,
    issuer: Vec<u8>,
    validity: Vec<u8>,
    subject: Vec<u8>,
    spki: Vec<u8>,
    rest: Vec<u8>,
    /// Whether the signed and the unsigned algorithm differ.
    mismatch: bool,
}

impl Parts {
    fn of(base64: &str) -> Self {
        let der = STANDARD.decode(base64).expect("Base64");
        let mut outside = Reader::new(&der).enter(der::SEQUENCE).expect("a certificate");
        let mut signed = outside.enter(der::SEQUENCE).expect("what is signed");
        let algorithm_outside = outside.next().expect("an algorithm").contents.to_vec();
        let mut next =
            || signed.next().map(|element| (element.tag, tlv(element.tag, element.contents))).expect("a field");
        let (tag, first) = next();
        let (version, serial) = if tag == 0xa0 { (first, next().1) } else { (Vec::new(), first) };
        let algorithm = next().1;
        let (issuer, validity, subject, spki) = (next().1, next().1, next().1, next().1);
        let rest = exchanged(signed.rest());
        let mismatch = !algorithm.ends_with(&algorithm_outside);
        Self { version, serial, issuer, validity, subject, spki, rest, mismatch, der }
    }

    /// Tells whether another one's key signed this.
    fn is_signed_by(&self, other: &Self) -> bool {
        let (Ok((_, child)), Ok((_, parent))) =
            (X509Certificate::from_der(&self.der), X509Certificate::from_der(&other.der))
        else {
            return false;
        };
        child.verify_signature(Some(parent.public_key())).is_ok()
    }

    fn issue_again(&self, subject: &[u8], own: &KeyPair, issuer: &KeyPair) -> Vec<u8> {
        let inside = algorithm(SHA256_WITH_RSA);
        let outside = if self.mismatch { algorithm(SHA384_WITH_RSA) } else { inside.clone() };
        let fields =
            [&self.version[..], &self.serial, &inside, &self.issuer, &self.validity, subject, &spki(own), &self.rest];
        let to_be_signed = tlv(0x30, &fields.concat());
        let signature = tlv(0x03, &[&[0][..], &issuer.sign(&to_be_signed).expect("signature")].concat());
        tlv(0x30, &[&to_be_signed[..], &outside, &signature].concat())
    }
}

/// Exchanges the purposes of a server and of a client: their identifiers differ in the last octet.
fn exchanged(extensions: &[u8]) -> Vec<u8> {
    let mut changed = extensions.to_vec();
    for index in 0..extensions.len() {
        let rest = &extensions[index..];
        let other = match () {
            () if rest.starts_with(SERVER_AUTH) => CLIENT_AUTH,
            () if rest.starts_with(CLIENT_AUTH) => SERVER_AUTH,
            () => continue,
        };
        changed[index..index + other.len()].copy_from_slice(other);
    }
    changed
}

fn verdict(case: &Case) -> Result<(), Error> {
    let parts = |list: &[String]| list.iter().map(|one| Parts::of(one)).collect::<Vec<_>>();
    let (trusted, untrusted, leaf) = (parts(&case.trusted), parts(&case.untrusted), Parts::of(&case.leaf));
    let all: Vec<&Parts> = trusted.iter().chain(&untrusted).chain([&leaf]).collect();
    let spkis: BTreeSet<&[u8]> = all.iter().map(|one| &one.spki[..]).collect();
    let keys: BTreeMap<&[u8], &KeyPair> = spkis.into_iter().zip(KEYS.iter()).collect();
    let key = |one: &Parts| keys[&one.spki[..]];
    let issuer = |one: &Parts| {
        let signer = all.iter().find(|other| one.is_signed_by(other));
        let named = || all.iter().find(|other| other.subject == one.issuer);
        key(signer.or_else(named).copied().unwrap_or(&leaf))
    };
    // What is not trusted and names itself as its issuer would be an anchor in the bundle of an operator.
    let intermediates = untrusted.iter().filter(|one| one.subject != one.issuer);
    let bundle: Vec<Vec<u8>> =
        trusted.iter().chain(intermediates).map(|one| one.issue_again(&one.subject, key(one), issuer(one))).collect();
    let certificate = leaf.issue_again(&common_name(MERCHANT), key(&leaf), issuer(&leaf));
    let authority = Authority::from_pem(&pem(&bundle))?;
    authority.check(&certificate, at(case.at.as_deref().unwrap_or("2026-11-22T00:00:00Z"))).map(drop)
}

#[test]
fn every_case_is_decided_as_the_suite_says_but_for_those_that_are_argued() {
    let bytes = std::fs::read(super::corpus::data("limbo/cases.json")).expect("cases");
    let cases: Vec<Case> = serde_json::from_slice(&bytes).expect("cases");
    assert!(cases.len() > 90, "{}", cases.len());
    let argued = |(why, ids): &(&'static str, &'static [&'static str])| {
        let accepted = why.starts_with("accepted: ");
        ids.iter().map(move |id| (*id, accepted)).collect::<Vec<_>>()
    };
    let departures: BTreeMap<&str, bool> = DEPARTURES.iter().flat_map(argued).collect();
    let mut surprises = Vec::new();
    for case in &cases {
        let verdict = verdict(case);
        let expected = departures.get(&*case.id).copied();
        if verdict.is_ok() != expected.unwrap_or(case.accepted) || expected == Some(case.accepted) {
            surprises.push(format!("{} (accepted: {}): {verdict:?}", case.id, case.accepted));
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
    let known: BTreeSet<&str> = cases.iter().map(|case| &*case.id).collect();
    assert!(departures.keys().all(|id| known.contains(id)), "a departure names no case");
}
