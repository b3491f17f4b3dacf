//! Routes that demand an API certificate by TLS: whom the certificate that a peer shows vouches for.

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use tollgate::certificate::{Authority, Revocation};
use tollgate::merchant::{CertificateDemand, KeyOrigin, KeySpec, KeyStatus, MerchantSpec};
use tollgate::reason::Reason;
use tollgate::time::UnixMillis;

use crate::gate::{Gate, Setup, certified, key};
use crate::signer::{Draft, NOW, key_pair, mchid};

/// The serial that the certificates of the tests bear.
const SERIAL: &str = "5CB1";

fn pair(index: usize) -> KeyPair {
    let der: Pkcs8V1Der<'_> = key_pair(index).as_der().expect("DER");
    KeyPair::try_from(der.as_ref()).expect("a key pair")
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Test Root CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn authority() -> Authority {
    static PEM: OnceLock<String> = OnceLock::new();
    let pem = PEM.get_or_init(|| authority_params().self_signed(&pair(2)).expect("a root").pem());
    Authority::from_pem(pem).expect("an authority")
}

/// Issues a certificate for the year 2026 to this common name, signed with the key of that index.
fn issue(common_name: &str, signer: usize) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::ExplicitNoCa;
    params.serial_number = Some(SerialNumber::from(vec![0x5c, 0xb1]));
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 1, 1));
    params.signed_by(&pair(0), &Issuer::from_params(&authority_params(), pair(signer))).expect("a leaf").der().to_vec()
}

/// A gate whose refunds demand a certificate by TLS.
fn gate(authority: Option<Authority>, change: impl FnOnce(&mut MerchantSpec)) -> Gate {
    let mut setup = Setup { authority, ..Setup::default() }.first(|merchant| {
        // What signs is vouched for, too: the demand by TLS comes on top of that.
        let signing = merchant.keys.first_mut().expect("a key");
        signing.origin = certified(0, SERIAL).origin;
        change(merchant);
    });
    assert!(setup.routes.demand("v3.refund", CertificateDemand::Mtls));
    setup.gate()
}

fn registered(merchant: &mut MerchantSpec) {
    merchant.keys.push(certified(0, SERIAL));
}

fn refund(shown: Option<Vec<u8>>) -> Draft {
    Draft { client_certificate: shown, ..Draft::refund(0, "R1", 1) }
}

#[test]
fn the_registered_certificate_of_the_merchant_itself_is_accepted() {
    let mut gate = gate(Some(authority()), registered);
    let _admission = gate.admit(&refund(Some(issue(&mchid(0), 2))));
    let _unasked = gate.admit(&Draft { client_certificate: Some(vec![1]), ..Draft::query(0, "T1") });
}

#[test]
fn a_certificate_that_vouches_for_nobody_or_for_another_is_refused() {
    let mut gate = gate(Some(authority()), registered);
    for shown in [None, Some(Vec::new()), Some(vec![0x30; 900]), Some(issue(&mchid(1), 2)), Some(issue(&mchid(0), 1))] {
        let refusal = gate.refuse(&refund(shown));
        assert_eq!((refusal.reason, refusal.authentic.is_some()), (Reason::CertificateRequired, true));
    }
    let forged = refund(None).sign(gate.now).forged();
    assert_eq!(gate.refuse_call(&forged).reason, Reason::SignatureInvalid);
}

#[test]
fn a_certificate_that_is_not_registered_or_not_in_force_is_refused() {
    let leaf = issue(&mchid(0), 2);
    let revoked = KeySpec { status: KeyStatus::Revoked, ..certified(0, SERIAL) };
    for keys in [vec![], vec![revoked], vec![key(0, "5CB2")]] {
        let mut gate = gate(Some(authority()), |merchant| merchant.keys.extend(keys));
        assert_eq!(gate.reason(&refund(Some(leaf.clone()))), Reason::CertificateRequired);
    }
    let mut unasked = gate(None, registered);
    assert_eq!(unasked.reason(&refund(Some(leaf.clone()))), Reason::CertificateRequired);
    let mut later = gate(Some(authority()), |merchant| {
        merchant.keys.push(key(0, SERIAL));
        let years = UnixMillis(NOW.0 + 100 * 86_400_000);
        merchant.keys.first_mut().expect("a key").origin =
            KeyOrigin::Certificate { not_before: UnixMillis(0), not_after: years, revocation: Revocation::NotAsked };
    });
    let _valid = later.admit(&refund(Some(leaf.clone())));
    later.now = UnixMillis(later.now.0 + 60 * 86_400_000);
    assert_eq!(later.reason(&refund(Some(leaf))), Reason::CertificateRequired, "its year is over");
}

#[test]
fn a_certificate_by_tls_does_not_make_up_for_a_bare_key_that_signed() {
    let bare = "PUB_KEY_ID_0001";
    let mut gate = gate(Some(authority()), |merchant| {
        registered(merchant);
        merchant.keys.push(key(0, bare));
    });
    let signed_bare = Draft { serial: bare.to_owned(), ..refund(Some(issue(&mchid(0), 2))) };
    assert_eq!(gate.reason(&signed_bare), Reason::CertificateRequired);
}
