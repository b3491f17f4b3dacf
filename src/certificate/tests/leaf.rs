//! The rules for a merchant's certificate.

use super::super::{Authority, CERTIFICATE_BYTES_MAX, EXTENSIONS_MAX, Error};
use super::draft::*;
use crate::time::UnixMillis;

fn authority() -> Authority {
    let root = Draft::authority("Test Root CA", "Test Root CA", root_key()).sign(root_key());
    let intermediate = Draft::authority("Test User CA", "Test Root CA", intermediate_key()).sign(root_key());
    Authority::from_pem(&pem(&[root, intermediate])).expect("authority")
}

fn now() -> UnixMillis {
    at("2026-11-22T00:00:00Z")
}

/// The verdict on a merchant's certificate that differs from a good one as told.
fn verdict(change: impl FnOnce(&mut Draft)) -> Result<(), Error> {
    let mut draft = Draft::merchant();
    change(&mut draft);
    authority().check(&draft.sign(intermediate_key()), now()).map(drop)
}

fn verdict_with(id: u8, critical: bool, value: &[u8]) -> Result<(), Error> {
    verdict(|draft| *draft = draft.clone().with(id, critical, value))
}

#[test]
fn a_good_certificate_passes_and_says_who_and_until_when() {
    let checked = authority().check(&Draft::merchant().sign(intermediate_key()), now()).expect("good");
    assert_eq!(checked.merchant.as_str(), MERCHANT);
    assert_eq!(checked.serial.as_str(), format!("5C{}", "A2".repeat(19)));
    assert_eq!((checked.not_before, checked.not_after), (at("2026-01-01T00:00:00Z"), at("2031-01-01T00:00:00Z")));
    assert_eq!(checked.spki_der, spki(merchant_key()));
}

#[test]
fn a_chain_made_by_another_library_passes() {
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose};
    let mut root = CertificateParams::default();
    root.distinguished_name.push(DnType::CommonName, "Another Root CA");
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = root.self_signed(root_key()).expect("root");
    let issuer = Issuer::from_params(&root, root_key());
    let mut merchant = CertificateParams::default();
    merchant.distinguished_name = rcgen::DistinguishedName::new();
    merchant.distinguished_name.push(DnType::OrganizationName, "微信商户系统");
    merchant.distinguished_name.push(DnType::CommonName, MERCHANT);
    merchant.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
    merchant.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    merchant.use_authority_key_identifier_extension = true;
    merchant.is_ca = IsCa::ExplicitNoCa;
    let leaf = merchant.signed_by(merchant_key(), &issuer).expect("leaf");
    let authority = Authority::from_pem(&certificate.pem()).expect("authority");
    assert_eq!(authority.check(leaf.der(), now()).map(|checked| checked.merchant.to_string()), Ok(MERCHANT.to_owned()));
}

#[test]
fn the_form_is_strict_and_nothing_is_added() {
    let good = Draft::merchant().sign(intermediate_key());
    let check = |der: &[u8]| authority().check(der, now()).map(drop);
    assert_eq!(check(&[&good[..], &[0]].concat()), Err(Error::TrailingBytes { bytes: 1 }));
    assert_eq!(check(&good[..good.len() - 1]), Err(Error::Malformed));
    assert_eq!(check(&[]), Err(Error::Malformed));
    assert_eq!(verdict(|draft| draft.unsigned_rest = tlv(0x05, &[])), Err(Error::Malformed));
    assert_eq!(verdict(|draft| draft.signed_rest = tlv(0x05, &[])), Err(Error::Malformed));
    assert_eq!(verdict(|draft| draft.not_after = tlv(0x17, b"3101010000Z")), Err(Error::Malformed));
    assert_eq!(verdict(|draft| draft.not_after = tlv(0x17, b"310101000000+0000")), Err(Error::Malformed));
    assert_eq!(verdict(|draft| draft.not_after = tlv(0x17, b"311301000000Z")), Err(Error::Malformed));
    assert_eq!(verdict(|draft| draft.serial = vec![0, 1]), Err(Error::Malformed));
    let two_versions = tlv(0xa0, &[0x02, 1, 2, 0x02, 1, 2]);
    assert_eq!(verdict(|draft| draft.version = two_versions), Err(Error::Malformed));
    let two_parameters = [&algorithm(SHA256_WITH_RSA)[..13], &[0x05, 0, 0x05, 0]].concat();
    assert_eq!(verdict(|draft| draft.algorithm_outside = tlv(0x30, &two_parameters[2..])), Err(Error::Malformed));
}

#[test]
fn a_certificate_is_not_larger_than_the_bound() {
    let padded = |bytes: usize| verdict_with(SUBJECT_ALT_NAME, false, &tlv(0x04, &vec![0; bytes]));
    assert_eq!(padded(CERTIFICATE_BYTES_MAX - 1024), Ok(()));
    assert!(matches!(padded(CERTIFICATE_BYTES_MAX), Err(Error::TooLarge { bytes }) if bytes > CERTIFICATE_BYTES_MAX));
}

#[test]
fn the_version_is_3() {
    assert_eq!(verdict(|draft| draft.version = tlv(0xa0, &tlv(0x02, &[1]))), Err(Error::Version));
    let version_1 = |draft: &mut Draft| {
        draft.version.clear();
        draft.extensions.clear();
    };
    assert_eq!(verdict(version_1), Err(Error::Version));
    assert_eq!(verdict(|draft| draft.version = tlv(0xa0, &tlv(0x02, &[3]))), Err(Error::Version));
}

#[test]
fn a_serial_is_positive_and_has_at_most_20_octets() {
    for good in [vec![1], vec![0, 0xf5, 0x76], vec![0x7f; 20], [&[0][..], &[0xff; 19]].concat()] {
        assert_eq!(verdict(|draft| draft.serial = good), Ok(()));
    }
    for bad in [vec![0], vec![0xff], vec![0x80, 1], vec![1; 21], [&[0][..], &[0xff; 20]].concat()] {
        assert_eq!(verdict(|draft| draft.serial = bad), Err(Error::Serial));
    }
}

#[test]
fn the_signature_is_rsa_with_a_hash_of_the_second_family() {
    use rcgen::{KeyPair, PKCS_RSA_SHA384, PKCS_RSA_SHA512};
    for (number, scheme) in [(SHA384_WITH_RSA, &PKCS_RSA_SHA384), (SHA384_WITH_RSA + 1, &PKCS_RSA_SHA512)] {
        let der = rustls_pki_types::PrivateKeyDer::try_from(intermediate_key().serialize_der()).expect("key");
        let key = KeyPair::from_der_and_sign_algo(&der, scheme).expect("key");
        let draft = Draft { algorithm: algorithm(number), algorithm_outside: algorithm(number), ..Draft::merchant() };
        assert_eq!(authority().check(&draft.sign(&key), now()).map(drop), Ok(()));
    }
    for number in [MD2_WITH_RSA, MD5_WITH_RSA, SHA1_WITH_RSA, RSASSA_PSS, SHA384_WITH_RSA + 2, RSA_ENCRYPTION] {
        let change = |draft: &mut Draft| {
            draft.algorithm = algorithm(number);
            draft.algorithm_outside = algorithm(number);
        };
        assert_eq!(verdict(change), Err(Error::SignatureAlgorithm), "{number}");
    }
}

#[test]
fn both_signature_algorithms_are_the_same() {
    let without_null = tlv(0x30, &algorithm(SHA256_WITH_RSA)[2..13]);
    let mismatch = Err(Error::SignatureAlgorithmMismatch);
    assert_eq!(verdict(|draft| draft.algorithm_outside = algorithm(SHA384_WITH_RSA)), mismatch);
    assert_eq!(verdict(|draft| draft.algorithm = algorithm(SHA1_WITH_RSA)), mismatch);
    assert_eq!(verdict(|draft| draft.algorithm_outside = without_null), mismatch);
}

#[test]
fn the_signature_is_the_issuers() {
    let forged = Draft::merchant().sign(merchant_key());
    assert_eq!(authority().check(&forged, now()), Err(Error::Signature));
}

#[test]
fn the_dates_are_in_order_and_hold_now_to_the_millisecond() {
    let der = Draft::merchant().sign(intermediate_key());
    let (first, last) = (at("2026-01-01T00:00:00Z"), at("2031-01-01T00:00:00Z"));
    // The issuers' dates are the same, so that only the second rule can speak here.
    let wide = |name: &str, issuer: &str, key| Draft {
        not_before: tlv(0x17, b"500101000000Z"),
        not_after: tlv(0x18, b"99991231235959Z"),
        ..Draft::authority(name, issuer, key)
    };
    let root = wide("Test User CA", "Test User CA", intermediate_key()).sign(intermediate_key());
    let authority = Authority::from_pem(&pem(&[root])).expect("authority");
    let check = |now: i64| authority.check(&der, UnixMillis(now)).map(drop);
    assert_eq!((check(first.0), check(last.0)), (Ok(()), Ok(())));
    assert_eq!(check(first.0 - 1), Err(Error::NotYetValid { not_before: first }));
    assert_eq!(check(last.0 + 1), Err(Error::Expired { not_after: last }));
    for now in [first.0 - 1, last.0 + 1] {
        assert_eq!(authority.check_ignoring_validity(&der, UnixMillis(now)).map(|checked| checked.not_after), Ok(last));
    }
    assert_eq!(verdict(|draft| draft.not_after = tlv(0x17, b"251231235959Z")), Err(Error::ValidityReversed));
}

#[test]
fn an_extension_is_there_once_readable_and_among_few() {
    let duplicate = |draft: &mut Draft| draft.extensions.push(draft.extensions[1].clone());
    assert_eq!(verdict(duplicate), Err(Error::DuplicateExtension));
    let many = |draft: &mut Draft| draft.extensions.extend((60..100).map(|id| extension(id, false, &[])));
    assert_eq!(verdict(many), Err(Error::TooManyExtensions { extensions: 43 }));
    const { assert!(EXTENSIONS_MAX < 43) };
    for (id, value, extension) in [
        (KEY_USAGE, &[0x03, 2, 7, 0x81][..], "keyUsage"),
        (KEY_USAGE, &[0x03, 2, 6, 0xc0, 0x05, 0], "keyUsage"),
        (KEY_USAGE, &[], "keyUsage"),
        (BASIC_CONSTRAINTS, &[0x30, 3, 0x01, 1, 0x01], "basicConstraints"),
        (BASIC_CONSTRAINTS, &[0x30, 3, 0x02, 1, 0x00], "basicConstraints"),
        (EXTENDED_KEY_USAGE, &[0x30, 0], "extKeyUsage"),
        (EXTENDED_KEY_USAGE, &[0x30, 6, 0x06, 2, 0x2a, 0x03, 0x05, 0], "extKeyUsage"),
        (AUTHORITY_KEY_ID, &[0x04, 1, 0], "authorityKeyIdentifier"),
        (AUTHORITY_KEY_ID, &[0x30, 2, 0x05, 0], "authorityKeyIdentifier"),
        (AUTHORITY_KEY_ID, &[0x30, 0, 0x05, 0], "authorityKeyIdentifier"),
        (AUTHORITY_KEY_ID, &[0x30, 3, 0x80, 0x81, 0], "authorityKeyIdentifier"),
        (AUTHORITY_KEY_ID, &[0x30, 4, 0xa1, 2, 0x02, 0], "authorityKeyIdentifier"),
        (SUBJECT_KEY_ID, &[0x05, 0], "subjectKeyIdentifier"),
    ] {
        assert_eq!(verdict_with(id, false, value), Err(Error::MalformedExtension { extension }), "{value:02x?}");
    }
}

#[test]
fn a_merchants_certificate_constrains_no_names() {
    for critical in [false, true] {
        assert_eq!(verdict_with(NAME_CONSTRAINTS, critical, &tlv(0x30, &[])), Err(Error::NameConstraints));
    }
}

#[test]
fn a_critical_extension_that_is_not_evaluated_is_refused() {
    for (id, tag) in [
        (99, 0x30),
        (SUBJECT_ALT_NAME, 0x30),
        (POLICY_CONSTRAINTS, 0x30),
        (AUTHORITY_KEY_ID, 0x30),
        (SUBJECT_KEY_ID, 0x04),
    ] {
        assert_eq!(verdict_with(id, false, &tlv(tag, &[])), Ok(()), "{id}");
        assert_eq!(verdict_with(id, true, &tlv(tag, &[])), Err(Error::UnknownCriticalExtension), "{id}");
    }
}

#[test]
fn a_merchant_is_no_authority() {
    assert_eq!(verdict_with(BASIC_CONSTRAINTS, true, &tlv(0x30, &tlv(0x01, &[0xff]))), Err(Error::LeafIsAuthority));
    assert_eq!(verdict_with(KEY_USAGE, true, &key_usage(0b1000_0100)), Err(Error::LeafIsAuthority));
    assert_eq!(verdict(|draft| draft.extensions.clear()), Ok(()));
}

#[test]
fn the_key_may_sign_for_a_client() {
    assert_eq!(verdict_with(KEY_USAGE, true, &key_usage(0b1000_0000)), Ok(()));
    assert_eq!(verdict_with(KEY_USAGE, true, &key_usage(0b0111_0000)), Err(Error::LeafKeyUsage));
    assert_eq!(verdict_with(KEY_USAGE, false, &key_usage(0)), Err(Error::LeafKeyUsage));
    assert_eq!(verdict_with(EXTENDED_KEY_USAGE, true, &tlv(0x30, &[SERVER_AUTH, CLIENT_AUTH].concat())), Ok(()));
    assert_eq!(verdict_with(EXTENDED_KEY_USAGE, false, &tlv(0x30, ANY_PURPOSE)), Ok(()));
    assert_eq!(verdict_with(EXTENDED_KEY_USAGE, false, &tlv(0x30, SERVER_AUTH)), Err(Error::ExtendedKeyUsage));
}

#[test]
fn the_key_is_rsa_of_a_sound_size_and_form() {
    let modulus = |octets: usize, last: u8| [&[0, 0x80][..], &vec![0x55; octets - 2], &[last]].concat();
    let verdict_on = |spki: Vec<u8>| verdict(|draft| draft.spki = spki);
    let usual = [1, 0, 1];
    assert_eq!(verdict_on(rsa_spki(&modulus(256, 1), &usual)), Ok(()));
    assert_eq!(verdict_on(rsa_spki(&modulus(1024, 1), &usual)), Ok(()));
    assert_eq!(verdict_on(rsa_spki(&modulus(128, 1), &usual)), Err(Error::KeySize { bits: 1024 }));
    assert_eq!(verdict_on(rsa_spki(&modulus(1032, 1), &usual)), Err(Error::KeySize { bits: 8256 }));
    assert_eq!(verdict_on(rsa_spki(&modulus(256, 2), &usual)), Err(Error::KeyModulus));
    for exponent in [&[1][..], &[2], &[3], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
        assert_eq!(verdict_on(rsa_spki(&modulus(256, 1), exponent)), Err(Error::KeyExponent));
    }
    let mut other_type = spki(merchant_key());
    other_type[16] = RSASSA_PSS;
    assert_eq!(verdict_on(other_type), Err(Error::KeyType));
    let without_null = tlv(0x30, &algorithm(RSA_ENCRYPTION)[2..13]);
    let key = rsa_spki(&modulus(256, 1), &usual)[19..].to_vec();
    assert_eq!(verdict_on(tlv(0x30, &[&algorithm(RSA_ENCRYPTION)[..], &key].concat())), Ok(()));
    assert_eq!(verdict_on(tlv(0x30, &[without_null, key].concat())), Err(Error::KeyType));
    let key_of = |integers: &[&[u8]]| {
        let key: Vec<u8> = integers.iter().flat_map(|integer| tlv(0x02, integer)).collect();
        let key = tlv(0x03, &[&[0][..], &tlv(0x30, &key)].concat());
        tlv(0x30, &[algorithm(RSA_ENCRYPTION), key].concat())
    };
    let modulus = &modulus(256, 1)[..];
    let padded = &[&[0], modulus].concat()[..];
    for integers in [&[][..], &[modulus], &[modulus, &usual, &usual], &[padded, &usual], &[&modulus[1..], &usual]] {
        assert_eq!(verdict_on(key_of(integers)), Err(Error::KeyMalformed));
    }
}

#[test]
fn the_subject_has_one_common_name_and_it_is_a_merchant() {
    let verdict_on = |subject: Vec<u8>| verdict(|draft| draft.subject = subject);
    let tagged = |tag: u8, text: &[u8]| tlv(0x30, &tlv(0x31, &attribute(tag, text)));
    assert_eq!(verdict_on(tagged(0x13, MERCHANT.as_bytes())), Ok(()));
    assert_eq!(verdict_on(common_name(&"m".repeat(32))), Ok(()));
    let both = tlv(0x30, &tlv(0x31, &[attribute(0x0c, b"1"), attribute(0x0c, b"2")].concat()));
    for bad in [
        name(&[]),
        name(&[MERCHANT, MERCHANT]),
        both,
        common_name(""),
        common_name("19000 07291"),
        common_name("商户"),
        common_name("1\0"),
        common_name(&"m".repeat(33)),
        tagged(0x0c, &[0xff]),
        tagged(0x1e, &[0, b'1']),
        tagged(0x14, b"1"),
        tagged(0x02, &[0x31]),
    ] {
        assert_eq!(verdict_on(bad.clone()), Err(Error::Subject), "{bad:02x?}");
    }
}

/// The parser ignores how many bits of the signature are unused, which would be a second form of one certificate.
#[test]
fn all_bits_of_the_signature_count() {
    let ends_in_zero = |serial: u8| {
        let der = Draft { serial: vec![serial], ..Draft::merchant() }.sign(intermediate_key());
        der.last().is_some_and(|last| last & 1 == 0).then_some(der)
    };
    let mut der = (1..128).find_map(ends_in_zero).expect("one signature in two is even");
    assert_eq!(authority().check(&der, now()).map(drop), Ok(()));
    let unused = der.len() - 257;
    assert_eq!(der[unused], 0);
    der[unused] = 1;
    assert_eq!(authority().check(&der, now()), Err(Error::Signature));
}

#[test]
fn a_refusal_tells_the_date() {
    let error = Error::Expired { not_after: at("2031-01-01T00:00:00Z") };
    assert_eq!(error.to_string(), "the certificate expired at 2031-01-01T00:00:00Z; issue a new one");
}

/// A certificate is bound in every bit: whichever is turned, no other reading of it passes.
#[test]
fn no_byte_can_be_changed() {
    let authority = authority();
    let good = Draft::merchant().sign(intermediate_key());
    for index in 0..good.len() {
        for flip in [0x01, 0x20, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[index] ^= flip;
            assert!(authority.check(&bad, now()).is_err(), "byte {index} flipped by {flip:02x}");
        }
        assert!(authority.check(&good[..index], now()).is_err(), "cut at {index}");
        let inserted = [&good[..index], &[good[index]], &good[index..]].concat();
        assert!(authority.check(&inserted, now()).is_err(), "byte {index} doubled");
    }
}
