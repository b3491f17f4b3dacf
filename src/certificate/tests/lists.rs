//! Revocation lists: which are taken, what they say of certificates, and which may follow which.

use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use rcgen::KeyPair;

use super::super::{Authority, Error, LIST_ENTRIES_MAX, Revocation, pem};
use super::draft::*;
use crate::time::UnixMillis;

/// The fields of a revocation list, encoded.
#[derive(Clone)]
pub(super) struct ListDraft {
    pub(super) version: Vec<u8>,
    pub(super) algorithm: Vec<u8>,
    pub(super) algorithm_outside: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) updates: Vec<u8>,
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) extensions: Vec<Vec<u8>>,
}

impl ListDraft {
    /// A list without a fault, of November 2026, that revokes nothing.
    pub(super) fn of(issuer: &str) -> Self {
        Self {
            version: tlv(0x02, &[1]),
            algorithm: algorithm(SHA256_WITH_RSA),
            algorithm_outside: algorithm(SHA256_WITH_RSA),
            issuer: common_name(issuer),
            updates: [utc("261101000000Z"), utc("261201000000Z")].concat(),
            entries: Vec::new(),
            extensions: vec![number(&[7])],
        }
    }

    /// Revokes a serial.
    pub(super) fn revoking(mut self, serial: &[u8]) -> Self {
        self.entries.push(entry(serial, &[]));
        self
    }

    fn numbered(mut self, octets: &[u8]) -> Self {
        self.extensions = vec![number(octets)];
        self
    }

    fn also(mut self, extension: Vec<u8>) -> Self {
        self.extensions.push(extension);
        self
    }

    /// Encodes and signs.
    pub(super) fn sign(&self, key: &KeyPair) -> Vec<u8> {
        use rcgen::SigningKey as _;
        let entries = if self.entries.is_empty() { Vec::new() } else { long(0x30, &self.entries.concat()) };
        let extensions = match self.extensions.concat() {
            list if list.is_empty() => Vec::new(),
            list => tlv(0xa0, &tlv(0x30, &list)),
        };
        let parts = [&self.version[..], &self.algorithm, &self.issuer, &self.updates, &entries, &extensions];
        let to_be_signed = long(0x30, &parts.concat());
        let signature = tlv(0x03, &[&[0][..], &key.sign(&to_be_signed).expect("signature")].concat());
        long(0x30, &[&to_be_signed[..], &self.algorithm_outside, &signature].concat())
    }
}

/// An element of any length up to three octets.
fn long(tag: u8, contents: &[u8]) -> Vec<u8> {
    if u16::try_from(contents.len()).is_ok() {
        return tlv(tag, contents);
    }
    let [_, length @ ..] = u32::try_from(contents.len()).expect("a length").to_be_bytes();
    [&[tag, 0x83][..], &length, contents].concat()
}

fn utc(text: &str) -> Vec<u8> {
    tlv(0x17, text.as_bytes())
}

fn number(octets: &[u8]) -> Vec<u8> {
    extension(CRL_NUMBER, false, &tlv(0x02, octets))
}

fn entry(serial: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let extensions = if extensions.is_empty() { Vec::new() } else { tlv(0x30, &extensions.concat()) };
    tlv(0x30, &[&tlv(0x02, serial)[..], &utc("261102000000Z"), &extensions].concat())
}

const CRL_NUMBER: u8 = 20;
const REASON_CODE: u8 = 21;
const DELTA_INDICATOR: u8 = 27;
const DISTRIBUTION_POINT: u8 = 28;
const CERTIFICATE_ISSUER: u8 = 29;
const FRESHEST: u8 = 46;

const ROOT: &str = "Test Root CA";
const USER: &str = "Test User CA";

/// A root, and an intermediate that issues the certificates of merchants.
fn authority() -> Authority {
    static BUNDLE: LazyLock<String> = LazyLock::new(|| {
        let root = Draft::authority(ROOT, ROOT, root_key()).sign(root_key());
        let user = Draft { serial: vec![9], ..Draft::authority(USER, ROOT, intermediate_key()) }.sign(root_key());
        super::draft::pem(&[root, user])
    });
    Authority::from_pem(&BUNDLE).expect("authority")
}

fn merchants() -> (Vec<u8>, Vec<u8>) {
    let draft = Draft::merchant();
    (draft.serial.clone(), draft.sign(intermediate_key()))
}

fn now() -> UnixMillis {
    at("2026-11-22T00:00:00Z")
}

fn with(lists: &[Vec<u8>], grace: Duration) -> Result<Authority, Error> {
    let mut authority = authority();
    lists.iter().try_for_each(|list| authority.add_list(list, grace, now())).map(|()| authority)
}

fn both(user: &ListDraft, root: &ListDraft) -> Authority {
    with(&[user.sign(intermediate_key()), root.sign(root_key())], Duration::ZERO).expect("lists")
}

fn refused(draft: &ListDraft) -> Error {
    with(&[draft.sign(intermediate_key())], Duration::ZERO).map(drop).expect_err("refused")
}

#[test]
fn what_a_list_revokes_is_refused_and_all_else_is_not() {
    let (serial, leaf) = merchants();
    let root = ListDraft::of(ROOT).revoking(&[8]);
    let authority = both(&ListDraft::of(USER).revoking(&[1]), &root);
    assert_eq!(authority.check(&leaf, now()).map(|checked| checked.merchant.to_string()), Ok(MERCHANT.to_owned()));
    let authority = both(&ListDraft::of(USER).revoking(&[1]).revoking(&serial), &root);
    assert_eq!(authority.check(&leaf, now()), Err(Error::Revoked));
    let ignoring = authority.check_ignoring_validity(&leaf, now()).expect("its user judges");
    assert_eq!(ignoring.revocation, Revocation::Revoked);
}

#[test]
fn a_revoked_intermediate_revokes_what_it_issued() {
    let (_, leaf) = merchants();
    let authority = both(&ListDraft::of(USER), &ListDraft::of(ROOT).revoking(&[9]));
    assert_eq!(authority.check(&leaf, now()), Err(Error::Revoked));
}

#[test]
fn a_serial_is_revoked_by_its_own_issuer_alone() {
    let (serial, leaf) = merchants();
    let authority = both(&ListDraft::of(USER).revoking(&[9]), &ListDraft::of(ROOT).revoking(&serial));
    assert!(authority.check(&leaf, now()).is_ok());
}

#[test]
fn once_there_is_a_list_every_issuer_below_the_root_needs_one() {
    let (_, leaf) = merchants();
    for lists in [vec![ListDraft::of(USER).sign(intermediate_key())], vec![ListDraft::of(ROOT).sign(root_key())]] {
        let authority = with(&lists, Duration::ZERO).expect("a list");
        assert_eq!(authority.check(&leaf, now()), Err(Error::Unlisted));
    }
    assert_eq!(authority().check(&leaf, now()).map(|checked| checked.revocation), Ok(Revocation::NotAsked));
}

#[test]
fn a_list_counts_until_its_next_update_and_the_grace_and_what_it_revoked_stays_so() {
    let (serial, leaf) = merchants();
    let end = at("2026-12-01T00:00:00Z");
    let lists = |user: ListDraft| [user.sign(intermediate_key()), ListDraft::of(ROOT).sign(root_key())];
    for (grace_s, last) in [(0, end), (3600, at("2026-12-01T01:00:00Z"))] {
        let good = with(&lists(ListDraft::of(USER)), Duration::from_secs(grace_s)).expect("lists");
        assert!(good.check(&leaf, last).is_ok());
        assert_eq!(good.check(&leaf, UnixMillis(last.0 + 1)), Err(Error::ListStale { until: last }));
        let revoked = with(&lists(ListDraft::of(USER).revoking(&serial)), Duration::ZERO).expect("lists");
        assert_eq!(revoked.check(&leaf, UnixMillis(last.0 + 1)), Err(Error::Revoked));
    }
    let facts = with(&lists(ListDraft::of(USER).revoking(&serial)), Duration::from_secs(60)).expect("lists");
    let facts: Vec<_> = facts.lists().map(|list| (list.issuer.to_owned(), list.next_update, list.entries)).collect();
    assert_eq!(facts, [(format!("CN={USER}"), end, 1), (format!("CN={ROOT}"), end, 0)]);
}

#[test]
fn a_list_of_the_future_is_refused_but_for_clocks_that_differ_a_little() {
    let from = |begins| ListDraft { updates: [utc(begins), utc("261201000000Z")].concat(), ..ListDraft::of(USER) };
    assert!(with(&[from("261122000500Z").sign(intermediate_key())], Duration::ZERO).is_ok());
    let (begins, ends) = (at("2026-11-22T00:05:01Z"), at("2026-12-01T00:00:00Z"));
    assert_eq!(refused(&from("261122000501Z")), Error::ListDates { begins, ends });
    assert!(matches!(refused(&from("261201000001Z")), Error::ListDates { .. }), "it ends before it begins");
}

#[test]
fn pem_and_der_are_read() {
    let der = ListDraft::of(USER).sign(intermediate_key());
    let pem = super::draft::pem(std::slice::from_ref(&der)).replace("CERTIFICATE", "X509 CRL");
    assert!(with(&[pem.clone().into_bytes()], Duration::ZERO).is_ok());
    let other = pem.replace("X509 CRL", "CERTIFICATE");
    assert!(matches!(with(&[other.into_bytes()], Duration::ZERO), Err(Error::PemBoundary { .. })));
    assert!(matches!(with(&[pem.repeat(2).into_bytes()], Duration::ZERO), Err(Error::PemTooMany { .. })));
    for junk in [&b""[..], b"-----BEGIN", &der[..der.len() - 1], &[&der[..], &[0]].concat()] {
        assert!(with(&[junk.to_vec()], Duration::ZERO).is_err(), "{junk:02x?}");
    }
}

#[test]
fn a_list_that_its_issuer_did_not_sign_is_refused() {
    let good = ListDraft::of(USER);
    let forged = with(&[good.sign(root_key())], Duration::ZERO).map(drop);
    assert_eq!(forged, Err(Error::ListSignature));
    assert_eq!(refused(&ListDraft::of("Nobody")), Error::ListUnknownIssuer);
    let mismatch = ListDraft { algorithm_outside: algorithm(SHA384_WITH_RSA), ..good.clone() };
    assert_eq!(refused(&mismatch), Error::ListMalformed);
    let old = algorithm(SHA1_WITH_RSA);
    let old = ListDraft { algorithm: old.clone(), algorithm_outside: old, ..good.clone() };
    assert_eq!(refused(&old), Error::SignatureAlgorithm);
    let mut changed = good.revoking(&[5]).sign(intermediate_key());
    let position = changed.windows(3).position(|three| three == [0x02, 1, 5]).expect("the serial");
    changed[position + 2] = 6;
    assert_eq!(with(&[changed], Duration::ZERO).map(drop), Err(Error::ListSignature));
}

#[test]
fn an_issuer_that_may_not_sign_lists_signs_none() {
    let root = Draft::authority(ROOT, ROOT, root_key()).with(KEY_USAGE, true, &key_usage(0b0000_0100));
    let mut authority = Authority::from_pem(&super::draft::pem(&[root.sign(root_key())])).expect("authority");
    let list = ListDraft::of(ROOT).sign(root_key());
    assert_eq!(authority.add_list(&list, Duration::ZERO, now()), Err(Error::ListUnknownIssuer));
}

#[test]
fn only_a_complete_numbered_list_of_version_2_is_taken() {
    let good = || ListDraft::of(USER);
    let point = tlv(0x30, &tlv(0x81, &[0xff]));
    let reason = |code: u8| extension(REASON_CODE, false, &[0x0a, 1, code]);
    let entries = |extensions: &[Vec<u8>]| ListDraft { entries: vec![entry(&[5], extensions)], ..good() };
    for (draft, expected) in [
        (good().also(extension(DISTRIBUTION_POINT, true, &point)), Error::ListPartial),
        (good().also(extension(DELTA_INDICATOR, true, &tlv(0x02, &[1]))), Error::ListPartial),
        (good().also(extension(99, true, &[5, 0])), Error::UnknownCriticalExtension),
        (good().also(number(&[7])), Error::DuplicateExtension),
        (ListDraft { extensions: vec![extension(FRESHEST, false, &tlv(0x30, &[]))], ..good() }, Error::ListNumber),
        (ListDraft { extensions: vec![extension(CRL_NUMBER, true, &tlv(0x02, &[7]))], ..good() }, Error::ListNumber),
        (good().numbered(&[0xff]), Error::ListNumber),
        (good().numbered(&[0, 1]), Error::ListNumber),
        (good().numbered(&[1; 21]), Error::ListNumber),
        (ListDraft { extensions: Vec::new(), ..good() }, Error::ListMalformed),
        (ListDraft { version: Vec::new(), ..good() }, Error::ListMalformed),
        (ListDraft { version: tlv(0x02, &[0]), ..good() }, Error::ListMalformed),
        (ListDraft { updates: utc("261101000000Z"), ..good() }, Error::ListMalformed),
        (entries(&[extension(CERTIFICATE_ISSUER, true, &tlv(0x30, &[]))]), Error::ListPartial),
        (entries(&[reason(8)]), Error::ListPartial),
        (entries(&[extension(99, true, &[5, 0])]), Error::UnknownCriticalExtension),
        (entries(&[reason(1), reason(1)]), Error::DuplicateExtension),
    ] {
        assert_eq!(refused(&draft), expected);
    }
    for harmless in [
        good().also(extension(FRESHEST, false, &tlv(0x30, &[]))),
        good().numbered(&[0x7f; 20]),
        entries(&[reason(6)]),
        good().revoking(&[0xff]).revoking(&[1; 30]).revoking(&[0]),
    ] {
        assert!(with(&[harmless.sign(intermediate_key())], Duration::ZERO).is_ok());
    }
}

#[test]
fn entries_and_bytes_are_bounded() {
    let full = |count: usize| {
        let serials = (0..u32::try_from(count).expect("a count")).map(|serial| (serial | 0x0100_0000).to_be_bytes());
        ListDraft { entries: serials.map(|serial| entry(&serial, &[])).collect(), ..ListDraft::of(USER) }
    };
    let authority = with(&[full(LIST_ENTRIES_MAX).sign(intermediate_key())], Duration::ZERO).expect("a full list");
    assert_eq!(authority.lists().map(|list| list.entries).collect::<Vec<_>>(), [LIST_ENTRIES_MAX]);
    assert_eq!(refused(&full(LIST_ENTRIES_MAX + 1)), Error::ListTooLong);
    let bytes = super::super::LIST_BYTES_MAX + 1;
    let huge = with(&[vec![0x30; bytes]], Duration::ZERO).map(drop);
    assert_eq!(huge, Err(Error::ListTooLarge { bytes }));
}

#[test]
fn there_is_one_list_of_each_issuer() {
    let list = ListDraft::of(USER);
    let twice = [list.sign(intermediate_key()), list.numbered(&[8]).sign(intermediate_key())];
    assert_eq!(with(&twice, Duration::ZERO).map(drop), Err(Error::ListRepeated { issuer: format!("CN={USER}") }));
}

#[test]
fn a_list_covers_what_its_own_key_issued_even_where_names_are_one() {
    let roots = [root_key(), intermediate_key()].map(|key| Draft::authority(ROOT, ROOT, key).sign(key));
    let leaf = |key| Draft { serial: vec![5], issuer: common_name(ROOT), ..Draft::merchant() }.sign(key);
    let mut authority = Authority::from_pem(&super::draft::pem(&roots)).expect("authority");
    let add =
        |authority: &mut Authority, list: ListDraft, key| authority.add_list(&list.sign(key), Duration::ZERO, now());
    add(&mut authority, ListDraft::of(ROOT).revoking(&[5]), root_key()).expect("a list");
    assert_eq!(authority.check(&leaf(root_key()), now()), Err(Error::Revoked));
    assert_eq!(authority.check(&leaf(intermediate_key()), now()), Err(Error::Unlisted));
    add(&mut authority, ListDraft::of(ROOT), intermediate_key()).expect("a list of the other key");
    assert!(authority.check(&leaf(intermediate_key()), now()).is_ok());
}

#[test]
fn the_number_of_a_list_never_goes_back_and_means_one_list() {
    let one = |draft: &ListDraft| with(&[draft.sign(intermediate_key())], Duration::ZERO).expect("a list");
    let at_7 = one(&ListDraft::of(USER));
    let (issuer, in_force) = (format!("CN={USER}"), "0x7".to_owned());
    assert_eq!(at_7.check_follows(&at_7), Ok(()));
    for (later, text) in [(&[8][..], "0x8"), (&[1, 0], "0x100"), (&[0x7f; 20], &format!("0x{}", "7F".repeat(20)))] {
        let later = one(&ListDraft::of(USER).numbered(later));
        assert_eq!(later.check_follows(&at_7), Ok(()));
        let found = "0x7".to_owned();
        let back = Error::ListOlder { issuer: issuer.clone(), found, in_force: text.to_owned() };
        assert_eq!(at_7.check_follows(&later), Err(back));
    }
    let other = one(&ListDraft::of(USER).revoking(&[1]));
    assert_eq!(other.check_follows(&at_7), Err(Error::ListAmbiguous { issuer, number: in_force }));
    // Another issuer's number says nothing of this one's; nor does a list that there was none of.
    let root = with(&[ListDraft::of(ROOT).numbered(&[1]).sign(root_key())], Duration::ZERO).expect("a list");
    assert_eq!(root.check_follows(&at_7), Ok(()));
    assert_eq!((at_7.check_follows(&authority()), authority().check_follows(&at_7)), (Ok(()), Ok(())));
}

/// Lists of others, and broken ones: what a fetch may bring instead of the list.
#[test]
fn no_list_from_elsewhere_is_taken_and_none_panics_whatever_byte_is_changed() {
    let folder = super::corpus::data("malformed");
    let mut seen = 0;
    for (file, bytes) in super::corpus::files(&folder).into_iter().filter(|(file, _)| file.contains("crl")) {
        let text = String::from_utf8_lossy(&bytes);
        let blocks = pem::blocks(&text, "X509 CRL", 8, 1 << 20).unwrap_or_else(|_| vec![bytes.clone()]);
        for der in blocks {
            seen += 1;
            assert!(with(std::slice::from_ref(&der), Duration::ZERO).is_err(), "{file}");
            for index in (0..der.len()).step_by(3) {
                let mut changed = der.clone();
                changed[index] ^= 0xff;
                assert!(with(&[changed], Duration::ZERO).is_err(), "{file} at {index}");
            }
        }
    }
    assert!(seen > 15, "{seen}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// The oracle is a set of numbers.
    #[test]
    fn a_list_revokes_exactly_the_serials_it_has(
        listed in proptest::collection::btree_set(1u64..40, 0..20),
        asked in 1u64..40,
    ) {
        let octets = |serial: u64| vec![u8::try_from(serial).expect("small")];
        let list = listed.iter().rev().fold(ListDraft::of(ROOT), |list, serial| list.revoking(&octets(*serial)));
        let mut authority = authority();
        authority.add_list(&list.sign(root_key()), Duration::ZERO, now()).expect("a list");
        let leaf = Draft { serial: octets(asked), issuer: common_name(ROOT), ..Draft::merchant() }.sign(root_key());
        let expected = if listed.contains(&asked) { Err(Error::Revoked) } else { Ok(()) };
        prop_assert_eq!(authority.check(&leaf, now()).map(drop), expected);
    }

    #[test]
    fn a_list_with_any_byte_changed_is_refused(index in 0usize..600, bit in 0u32..8) {
        let mut list = ListDraft::of(USER).revoking(&[5]).sign(intermediate_key());
        let index = index % list.len();
        list[index] ^= 1 << bit;
        prop_assert!(with(&[list], Duration::ZERO).is_err());
    }
}
