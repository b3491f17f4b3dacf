//! Certificates that others made: malformed and odd ones, and those of the payment platform's own clients.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::read::Certificate;
use super::super::{AUTHORITY_CERTIFICATES_MAX, AUTHORITY_PEM_BYTES_MAX, Authority, Error, inspect, pem};
use super::draft::{Draft, at, common_name, pem as to_pem, root_key};

pub(super) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/x509").join(name)
}

/// Every file below a directory with its bytes.
pub(super) fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("directory") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).expect("file")));
        }
    }
    found
}

/// The certificates that a file may be taken for: its bytes, and each of its PEM blocks.
fn candidates(bytes: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(bytes);
    let blocks = pem::blocks(&text, "CERTIFICATE", AUTHORITY_CERTIFICATES_MAX, AUTHORITY_PEM_BYTES_MAX);
    [vec![bytes.to_vec()], blocks.unwrap_or_default()].concat()
}

fn inspect_file(name: &str) -> Result<super::super::Inspected, Error> {
    let bytes = fs::read(data(name)).expect("file");
    let is_pem = bytes.starts_with(b"-----");
    inspect(&if is_pem { String::from_utf8_lossy(&bytes).into_owned() } else { to_pem(&[bytes]) })
}

fn malformed() -> Vec<(String, Vec<u8>)> {
    let named = |(name, bytes): (String, Vec<u8>)| candidates(&bytes).into_iter().map(move |der| (name.clone(), der));
    let all: Vec<(String, Vec<u8>)> = files(&data("malformed")).into_iter().flat_map(named).collect();
    assert!(all.len() > 250, "{}", all.len());
    all
}

/// An authority with a name of someone else's choice.
fn authority_named(name: &[u8]) -> Authority {
    let root = Draft::authority("", "", root_key());
    let root = Draft { subject: name.to_vec(), issuer: name.to_vec(), ..root }.sign(root_key());
    Authority::from_pem(&to_pem(&[root])).expect("authority")
}

#[test]
fn no_malformed_certificate_passes_even_where_its_issuer_is_known_by_name() {
    let stranger = authority_named(&common_name("Test Root CA"));
    let mut climbed = 0;
    for (file, der) in malformed() {
        let named = Certificate::read(&der).ok().filter(|read| read.issuer().len() > 2);
        let issuer = named.map_or_else(|| stranger.clone(), |read| authority_named(read.issuer()));
        let verdict = issuer.check_ignoring_validity(&der, at("2026-11-22T00:00:00Z"));
        climbed += usize::from(verdict == Err(Error::Signature));
        assert!(verdict.is_err(), "{file}: {verdict:?}");
    }
    assert!(climbed > 0, "some have no other fault than that they are not ours");
}

/// Either verdict is right; it is a panic that would fail here.
#[test]
fn no_certificate_panics_whatever_byte_is_changed() {
    let authority = authority_named(&common_name("Test Root CA"));
    for (_, der) in malformed() {
        for index in (0..der.len()).step_by(5) {
            let mut changed = der.clone();
            changed[index] ^= 0xff;
            assert!(authority.check(&changed, at("2026-11-22T00:00:00Z")).is_err());
        }
        let _ = inspect(&to_pem(std::slice::from_ref(&der)));
        let _ = Authority::from_pem(&to_pem(&[der]));
    }
}

#[test]
fn malformed_certificates_are_refused_for_what_is_wrong_with_them() {
    for (name, expected) in [
        ("badasn1time.pem", Error::Malformed),
        ("custom/negative_serial.pem", Error::Serial),
        ("custom/mismatch_inner_outer_sig_algorithm.der", Error::SignatureAlgorithmMismatch),
        ("custom/two_basic_constraints.pem", Error::DuplicateExtension),
        ("custom/invalid_version.pem", Error::Version),
        ("wosign-bc-invalid.pem", Error::MalformedExtension { extension: "basicConstraints" }),
        ("ecdsa_root.pem", Error::KeyType),
        ("custom/unsupported_subject_public_key_info.pem", Error::KeyType),
        ("verisign_md2_root.pem", Error::KeySize { bits: 1024 }),
    ] {
        assert_eq!(inspect_file(&format!("malformed/{name}")).map(drop), Err(expected), "{name}");
    }
}

#[test]
fn certificates_of_the_platforms_clients_are_inspected() {
    // The serial, as openssl prints it, and the dates.
    for (name, serial, not_before, not_after) in [
        ("go-verifier", "F5765756002FDD77", "2021-04-27T08:40:32Z", "2031-04-25T08:40:32Z"),
        ("go-notify", "D7CE59D1F522D701", "2021-04-27T08:55:23Z", "2031-04-25T08:55:23Z"),
        ("java-rsa", "5F1C72E2A8931B72A2E13AF8DEE92471EB397115", "2022-05-10T01:57:10Z", "2025-05-09T01:57:10Z"),
        ("apache-v1", "ADCD403A3602379E", "2022-05-09T20:21:56Z", "2023-05-09T20:21:56Z"),
    ] {
        let inspected = inspect_file(&format!("wechatpay/{name}.pem")).expect(name);
        assert_eq!(inspected.serial_registered, serial);
        assert_eq!(Ok(inspected.serial), serial.parse());
        assert_eq!((inspected.not_before, inspected.not_after), (at(not_before), at(not_after)));
        let at = inspected.der.windows(inspected.spki_der.len()).position(|window| window == inspected.spki_der);
        assert!(at.is_some(), "the key is a part of the certificate");
    }
    assert_eq!(inspect_file("wechatpay/java-sm2.pem").map(drop), Err(Error::KeyType));
}

#[test]
fn a_registered_serial_keeps_the_zero_of_its_first_octet() {
    let der = Draft { serial: vec![0x0c, 0x4a], ..Draft::merchant() }.sign(root_key());
    let inspected = inspect(&to_pem(&[der])).expect("good");
    assert_eq!((inspected.serial_registered.as_str(), inspected.serial.as_str()), ("0C4A", "C4A"));
}
