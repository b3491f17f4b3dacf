//! The rules for the authority and for the chain to it.

use rcgen::KeyPair;

use super::super::{AUTHORITY_CERTIFICATES_MAX, Authority, CHAIN_CERTIFICATES_MAX, Error};
use super::draft::*;
use crate::time::UnixMillis;

fn now() -> UnixMillis {
    at("2026-11-22T00:00:00Z")
}

fn root() -> Draft {
    Draft::authority("Test Root CA", "Test Root CA", root_key())
}

fn intermediate() -> Draft {
    Draft::authority("Test User CA", "Test Root CA", intermediate_key())
}

fn authority(root: &Draft, intermediate: &Draft) -> Result<Authority, Error> {
    Authority::from_pem(&pem(&[root.sign(root_key()), intermediate.sign(root_key())]))
}

/// The verdict on a good merchant's certificate with this authority.
fn verdict(authority: &Authority) -> Result<(), Error> {
    authority.check(&Draft::merchant().sign(intermediate_key()), now()).map(drop)
}

/// Why the first and the second certificate of a bundle are refused when they alone differ from good ones.
fn refusals(change: impl Fn(Draft) -> Draft) -> [Error; 2] {
    let refusal = |bundle: Result<Authority, Error>, expected: usize| match bundle {
        Err(Error::InAuthority { position, source }) if position == expected => *source,
        other => panic!("{other:?}"),
    };
    [refusal(authority(&change(root()), &intermediate()), 1), refusal(authority(&root(), &change(intermediate())), 2)]
}

#[test]
fn an_issuer_is_an_authority_of_version_3_with_a_sound_key() {
    let both = |error: Error| [error.clone(), error];
    let not_ca = |draft: Draft| draft.with(BASIC_CONSTRAINTS, true, &tlv(0x30, &[]));
    assert_eq!(refusals(not_ca), both(Error::IssuerNotAuthority));
    assert_eq!(refusals(|draft| draft.without(BASIC_CONSTRAINTS)), both(Error::IssuerNotAuthority));
    let not_critical = |draft: Draft| draft.with(BASIC_CONSTRAINTS, false, &tlv(0x30, &[0x01, 1, 0xff]));
    assert_eq!(refusals(not_critical), both(Error::IssuerNotAuthority));
    let no_cert_sign = |draft: Draft| draft.with(KEY_USAGE, true, &key_usage(0b1000_0010));
    assert_eq!(refusals(no_cert_sign), both(Error::IssuerKeyUsage));
    let servers = |draft: Draft| draft.with(EXTENDED_KEY_USAGE, false, &tlv(0x30, SERVER_AUTH));
    assert_eq!(refusals(servers), both(Error::ExtendedKeyUsage));
    let weak = rsa_spki(&[&[0, 0xff][..], &[0x55; 127]].concat(), &[1, 0, 1]);
    assert_eq!(refusals(|draft| Draft { spki: weak.clone(), ..draft }), both(Error::KeySize { bits: 1024 }));
    let version_2 = |draft| Draft { version: tlv(0xa0, &tlv(0x02, &[1])), ..draft };
    assert_eq!(refusals(version_2), both(Error::Version));
    let version_1 = |draft| Draft { version: Vec::new(), extensions: Vec::new(), ..draft };
    // Without extensions it could not be an authority either, but the version is what to change.
    assert_eq!(refusals(version_1), both(Error::Version));
    let sha1 = algorithm(SHA1_WITH_RSA);
    let sha1 = |draft| Draft { algorithm: sha1.clone(), algorithm_outside: sha1.clone(), ..draft };
    assert_eq!(refusals(sha1), both(Error::SignatureAlgorithm));
    let nameless = |draft: Draft| Draft { subject: name(&[]), ..draft };
    assert_eq!(refusals(nameless), both(Error::IssuerUnnamed));
}

#[test]
fn what_an_issuer_demands_and_is_not_evaluated_is_refused() {
    for critical in [true, false] {
        let constrained = |draft: Draft| draft.with(NAME_CONSTRAINTS, critical, &tlv(0x30, &[]));
        assert_eq!(refusals(constrained), [Error::NameConstraints, Error::NameConstraints]);
    }
    let policies = |draft: Draft| draft.with(POLICY_CONSTRAINTS, true, &tlv(0x30, &[]));
    assert_eq!(refusals(policies), [Error::UnknownCriticalExtension, Error::UnknownCriticalExtension]);
    for bad in [&[0x30, 6, 0x01, 1, 0xff, 0x02, 1, 0xff][..], &[0x30, 3, 0x02, 1, 0]] {
        let malformed = |draft: Draft| draft.with(BASIC_CONSTRAINTS, true, bad);
        let error = Error::MalformedExtension { extension: "basicConstraints" };
        assert_eq!(refusals(malformed), [error.clone(), error]);
    }
}

#[test]
fn an_authority_has_an_anchor_that_signed_itself_and_few_certificates() {
    assert_eq!(Authority::from_pem(&pem(&[intermediate().sign(root_key())])).map(drop), Err(Error::NoAnchor));
    assert_eq!(Authority::from_pem("").map(drop), Err(Error::PemMissing { label: "CERTIFICATE" }));
    let not_by_itself = Authority::from_pem(&pem(&[root().sign(intermediate_key())])).map(drop);
    assert_eq!(not_by_itself, Err(Error::InAuthority { position: 1, source: Box::new(Error::NotSelfSigned) }));
    let root = root().sign(root_key());
    assert!(Authority::from_pem(&pem(&vec![root.clone(); AUTHORITY_CERTIFICATES_MAX])).is_ok());
    let too_many = Authority::from_pem(&pem(&vec![root; AUTHORITY_CERTIFICATES_MAX + 1])).map(drop);
    assert_eq!(too_many, Err(Error::PemTooMany { blocks_max: AUTHORITY_CERTIFICATES_MAX }));
}

#[test]
fn issuers_are_valid_now() {
    let early = |draft| Draft { not_after: tlv(0x17, b"261121235959Z"), ..draft };
    let late = |draft| Draft { not_before: tlv(0x17, b"261122000001Z"), ..draft };
    let expired = Err(Error::IssuerExpired { not_after: at("2026-11-21T23:59:59Z") });
    let not_yet = Err(Error::IssuerNotYetValid { not_before: at("2026-11-22T00:00:01Z") });
    for (root, intermediate, expected) in [
        (early(root()), intermediate(), expired.clone()),
        (root(), early(intermediate()), expired),
        (late(root()), intermediate(), not_yet.clone()),
        (root(), late(intermediate()), not_yet),
    ] {
        let authority = authority(&root, &intermediate).expect("judged at each check");
        assert_eq!(verdict(&authority), expected);
        let leaf = Draft::merchant().sign(intermediate_key());
        assert_eq!(authority.check_ignoring_validity(&leaf, now()).map(drop), expected);
    }
}

#[test]
fn a_chain_climbs_by_names_and_by_key_ids_where_both_have_one() {
    let unknown = Draft { issuer: common_name("Test User CB"), ..Draft::merchant() }.sign(intermediate_key());
    let plain = authority(&root(), &intermediate()).expect("authority");
    assert_eq!(plain.check(&unknown, now()), Err(Error::UnknownIssuer));
    let id = |text: &[u8]| tlv(0x30, &tlv(0x80, text));
    let with_id = authority(&root(), &intermediate().with(SUBJECT_KEY_ID, false, &tlv(0x04, b"key"))).expect("ids");
    let leaf = |id: &[u8]| Draft::merchant().with(AUTHORITY_KEY_ID, false, id).sign(intermediate_key());
    assert_eq!(with_id.check(&leaf(&id(b"key")), now()).map(drop), Ok(()));
    assert_eq!(with_id.check(&leaf(&id(b"kez")), now()), Err(Error::UnknownIssuer));
    assert_eq!(with_id.check(&leaf(&tlv(0x30, &[])), now()).map(drop), Ok(()));
    assert_eq!(verdict(&with_id), Ok(()));
    assert_eq!(plain.check(&leaf(&id(b"kez")), now()).map(drop), Ok(()));
}

#[test]
fn every_link_is_signed_and_another_link_is_tried_where_one_is_not() {
    let forged = intermediate().sign(intermediate_key());
    let anchor = root().sign(root_key());
    let with_forged = Authority::from_pem(&pem(&[forged.clone(), anchor.clone()])).expect("read");
    assert_eq!(verdict(&with_forged), Err(Error::Signature));
    let other_key = Draft::authority("Test User CA", "Test Root CA", merchant_key()).sign(root_key());
    let bundle = [forged, other_key, intermediate().sign(root_key()), anchor];
    assert_eq!(verdict(&Authority::from_pem(&pem(&bundle)).expect("read")), Ok(()));
}

#[test]
fn path_lengths_are_kept_by_intermediates_and_anchors() {
    let limited = |draft: Draft, length: u8| draft.with(BASIC_CONSTRAINTS, true, &path_length(length));
    let verdict_on = |root: &Draft, intermediate: &Draft| verdict(&authority(root, intermediate).expect("authority"));
    assert_eq!(verdict_on(&limited(root(), 1), &limited(intermediate(), 0)), Ok(()));
    assert_eq!(verdict_on(&limited(root(), 0), &intermediate()), Err(Error::PathLength { intermediates_max: 0 }));
    let middle = limited(Draft::authority("Middle CA", "Test Root CA", root_key()), 0).sign(root_key());
    let user = Draft::authority("Test User CA", "Middle CA", intermediate_key()).sign(root_key());
    let authority = Authority::from_pem(&pem(&[root().sign(root_key()), middle, user])).expect("authority");
    assert_eq!(verdict(&authority), Err(Error::PathLength { intermediates_max: 0 }));
}

/// A chain of so many certificates, the merchant's and the root included, all of one key.
fn chain_of(certificates: usize) -> Authority {
    let key: &KeyPair = intermediate_key();
    let names: Vec<String> = (1..certificates).map(|rank| format!("CA {rank}")).collect();
    let link = |pair: &[String]| Draft::authority(&pair[0], &pair[1], key).sign(key);
    let top = names.last().expect("a root");
    let bundle: Vec<Vec<u8>> = names.windows(2).map(link).chain([Draft::authority(top, top, key).sign(key)]).collect();
    Authority::from_pem(&pem(&bundle)).expect("authority")
}

#[test]
fn a_chain_has_a_bounded_length() {
    let leaf = Draft { issuer: common_name("CA 1"), ..Draft::merchant() }.sign(intermediate_key());
    for certificates in 2..=CHAIN_CERTIFICATES_MAX {
        assert_eq!(chain_of(certificates).check(&leaf, now()).map(drop), Ok(()), "{certificates}");
    }
    assert_eq!(chain_of(CHAIN_CERTIFICATES_MAX + 1).check(&leaf, now()), Err(Error::ChainTooLong));
}

#[test]
fn a_knot_of_authorities_costs_a_bounded_number_of_signature_checks() {
    let key = intermediate_key();
    let knot = |serial: u8| {
        let (name, issuer) = if serial.is_multiple_of(2) { ("Even CA", "Odd CA") } else { ("Odd CA", "Even CA") };
        Draft { serial: vec![serial], ..Draft::authority(name, issuer, key) }.sign(key)
    };
    let bundle: Vec<Vec<u8>> = (1..32).map(knot).chain([root().sign(root_key())]).collect();
    let authority = Authority::from_pem(&pem(&bundle)).expect("authority");
    let leaf = Draft { issuer: common_name("Even CA"), ..Draft::merchant() }.sign(key);
    assert_eq!(authority.check(&leaf, now()), Err(Error::SignatureChecks));
    let circle = Authority::from_pem(&pem(&[knot(1), knot(2), root().sign(root_key())])).expect("authority");
    assert_eq!(circle.check(&leaf, now()), Err(Error::UnknownIssuer), "no certificate is in a chain twice");
}

#[test]
fn a_root_is_bound_in_every_byte() {
    let good = root().sign(root_key());
    for index in 0..good.len() {
        let mut bad = good.clone();
        bad[index] ^= 0x01;
        assert!(Authority::from_pem(&pem(&[bad])).is_err(), "byte {index}");
    }
}
