//! Client certificates: revocation lists that change while connections are open, certificates that nobody can use, and
//! those that a proxy states in a header.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, HandshakeKind};
use tollgate::reason::Reason;
use tollgate::types::KeyId;

use crate::deployment::{Merchant, deployment};
use crate::gate::{Gate, Settings};
use crate::request::{Request, unique};
use crate::tls::{self, REFUND_BY_MTLS};
use crate::upstream::Upstream;

/// Writes the revocation list of the second authority into the folder of a configuration.
fn write_list(folder: &Path, number: u64, revoked: &[&Merchant], days: u64) {
    let serials: Vec<KeyId> = revoked.iter().map(|merchant| merchant.serial.parse().expect("a serial")).collect();
    let list = deployment().second_authority.revocation_list(number, &serials, days).expect("a list");
    std::fs::write(folder.join("list.pem"), list).expect("write");
}

/// Trusts the second authority alone, and its list; refunds demand the certificate by TLS.
fn listed(settings: &mut Settings) -> &mut Settings {
    let deployment = deployment();
    write_list(settings.folder(), 1, &[], 10);
    settings.replace("route", REFUND_BY_MTLS);
    let authority = deployment.folder.join("second_authority.pem");
    settings.set("authority.certificate_file", authority.to_str().expect("text"));
    settings.set("authority.crl_files", vec!["list.pem"]);
    settings.merchant().insert("key".to_owned(), toml::Value::Array(Vec::new()));
    settings.add_to_merchant("key", &tls::key(&deployment.second_key, "active"));
    settings.add_to_merchant("key", &tls::key(&deployment.shown, "active"))
}

fn refund() -> Vec<u8> {
    Request::refund(&unique("r")).wire_by(&deployment().second_key)
}

fn query() -> Vec<u8> {
    Request::query("a").wire_by(&deployment().second_key)
}

#[test]
fn a_list_that_is_swapped_acts_on_open_connections_and_on_resumed_sessions() {
    let upstream = Upstream::start();
    let mut gate = Gate::with(&upstream, listed);
    let deployment = deployment();
    let options = Arc::new(tls::of(&deployment.shown));
    let mut open = tls::try_connect(&gate, &options).expect("a handshake");
    assert_eq!(open.ask_raw(&refund()).status(), 200);

    write_list(gate.folder(), 2, &[&deployment.shown], 10);
    gate.reload(|settings| settings).expect("reload");
    let refused = open.ask_raw(&refund());
    assert_eq!((refused.status(), &refused.json()["code"]), (403, &"NO_AUTH".into()));
    assert_eq!(open.ask_raw(&query()).status(), 200, "what signed is not revoked, and the route asks for no more");
    let mut resumed = tls::try_connect(&gate, &options).expect("a handshake");
    assert_eq!(resumed.stream().conn.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(resumed.ask_raw(&refund()).status(), 403);

    write_list(gate.folder(), 3, &[&deployment.second_key], 10);
    gate.reload(|settings| settings).expect("reload");
    for _ in 0..2 {
        let refused = open.ask_raw(&query());
        assert_eq!((refused.status(), &refused.json()["code"]), (401, &"SIGN_ERROR".into()));
    }
    assert_eq!(gate.refused(Reason::CertificateRevoked), 2);
    assert!(gate.metric("tollgate_revocation_list_days_left") > 9.0);
}

#[test]
fn a_list_that_is_out_of_date_refuses_what_it_covers_until_there_is_a_newer_one() {
    let upstream = Upstream::start();
    let mut gate = Gate::with(&upstream, listed);
    write_list(gate.folder(), 2, &[], 0);
    gate.reload(|settings| settings).expect("a stale list is no mistake");
    let mut client = gate.connect("public");
    let refused = client.ask_raw(&query());
    assert_eq!((refused.status(), gate.refused(Reason::RevocationUnknown)), (503, 1));
    assert!(refused.value("retry-after").is_some());
    gate.reload(|settings| settings.set("authority.crl_grace_s", 2 * 86_400)).expect("reload");
    assert_eq!(client.ask_raw(&query()).status(), 200, "the grace is not over");
    gate.reload(|settings| settings.set("authority.crl_grace_s", 0)).expect("reload");
    assert_eq!(client.ask_raw(&query()).status(), 503);
    write_list(gate.folder(), 3, &[], 10);
    gate.reload(|settings| settings).expect("reload");
    assert_eq!(client.ask_raw(&query()).status(), 200);
}

#[test]
fn a_list_that_cannot_be_used_changes_nothing() {
    let upstream = Upstream::start();
    let mut gate = Gate::with(&upstream, listed);
    let deployment = deployment();
    write_list(gate.folder(), 5, &[&deployment.shown], 10);
    gate.reload(|settings| settings).expect("reload");
    let mut client = tls::connect(&gate, &tls::of(&deployment.shown));
    let list = gate.folder().join("list.pem");

    write_list(gate.folder(), 4, &[], 10);
    let older = gate.reload(|settings| settings).expect_err("older");
    assert!(older.contains("has number 0x4, and 0x5 is in force"), "{older}");
    write_list(gate.folder(), 5, &[], 10);
    let other = gate.reload(|settings| settings).expect_err("another of the same number");
    assert!(other.contains("says something else"), "{other}");
    let whole = std::fs::read(&list).expect("a list");
    for broken in [&whole[..whole.len() / 2], b"", b"no list"] {
        std::fs::write(&list, broken).expect("write");
        assert!(gate.reload(|settings| settings).is_err());
    }
    std::fs::remove_file(&list).expect("remove");
    assert!(gate.reload(|settings| settings).is_err());
    assert_eq!(client.ask_raw(&refund()).status(), 403, "the list in force still revokes");
    assert_eq!(client.ask_raw(&query()).status(), 200);
}

#[test]
fn a_certificate_whose_issuer_has_no_list_is_a_mistake_of_the_file() {
    let upstream = Upstream::start();
    let mut gate = Gate::before(&upstream);
    let folder = gate.folder().to_owned();
    write_list(&folder, 1, &[], 10);
    let error = gate.reload(|settings| settings.set("authority.crl_files", vec!["list.pem"])).expect_err("no list");
    assert!(error.contains("no revocation list covers"), "{error}");
}

/// Makes the options of a client that shows whatever bytes, and signs with a key that is not theirs.
fn presenting(der: Vec<u8>) -> Arc<ClientConfig> {
    let key = rcgen::KeyPair::generate().expect("a key");
    let der_key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let signer = rustls::crypto::ring::sign::any_supported_type(&der_key).expect("a key");
    let shown = rustls::sign::CertifiedKey::new(vec![CertificateDer::from(der)], signer);
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(shown));
    Arc::new(tls::builder(rustls::DEFAULT_VERSIONS).with_client_cert_resolver(resolver))
}

#[test]
fn no_certificate_that_nobody_can_use_breaks_a_handshake_or_counts_for_anything() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.replace("route", REFUND_BY_MTLS));
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/x509/malformed");
    let seed = |name: &str| {
        let bytes = std::fs::read(seeds.join(name)).expect("a seed");
        let (_, pem) = x509_parser::pem::parse_x509_pem(&bytes).expect("PEM");
        pem.contents
    };
    let cut = deployment().merchant.certificate[..700].to_vec();
    let odd = [vec![0], vec![0x30; 900], vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff], vec![7; 20_000], cut];
    let named = ["badasn1time.pem", "v1_cert.pem", "custom/negative_serial.pem", "ecdsa_root.pem", "bigoid.pem"];
    for der in odd.into_iter().chain(named.map(seed)) {
        let options = presenting(der.clone());
        let mut client = tls::try_connect(&gate, &options).expect("a handshake");
        let start = &der[..der.len().min(16)];
        assert_eq!(client.ask(&Request::order(&unique("o"), 1)).status(), 200, "{start:02x?}");
        assert_eq!(client.ask(&Request::refund(&unique("r"))).status(), 403, "{start:02x?}");
        let mut again = tls::try_connect(&gate, &options).expect("a handshake");
        assert_eq!(again.ask(&Request::refund(&unique("r"))).status(), 403, "{start:02x?}, resumed");
    }
}

/// How a proxy writes a certificate.
fn stated(form: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    match form {
        "rfc9440" => format!(":{base64}:"),
        _ => {
            let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
            let escape = |byte: u8| match char::from(byte) {
                plain if plain.is_ascii_alphanumeric() || plain == '-' => plain.to_string(),
                _ => format!("%{byte:02X}"),
            };
            pem.bytes().map(escape).collect()
        }
    }
}

#[test]
fn behind_a_proxy_the_certificate_comes_in_a_header_of_a_trusted_hop() {
    let deployment = deployment();
    for (form, name) in [("rfc9440", "Client-Cert"), ("url_encoded_pem", "X-SSL-Client-Cert")] {
        let upstream = Upstream::start();
        let gate = Gate::with(&upstream, |settings| {
            settings.replace("route", REFUND_BY_MTLS);
            let hop = settings.listener("hop");
            hop.insert("client_certificate_header".to_owned(), name.into());
            hop.insert("client_certificate_form".to_owned(), form.into());
            settings
        });
        let good = stated(form, &deployment.merchant.certificate);
        let asking = |value: &str| Request::refund(&unique("r")).header(name, value);
        let mut hop = gate.connect("hop");
        assert_eq!(hop.ask(&asking(&good)).status(), 200);
        assert_eq!(upstream.seen().len(), 1);
        assert_eq!(upstream.seen()[0].value(&name.to_ascii_lowercase()), Some(&*good), "a hop's statement goes on");
        assert_eq!(hop.ask(&Request::refund(&unique("r"))).status(), 403, "none is stated");
        for other in [&deployment.stranger.certificate[..], &deployment.second_key.certificate, b"\x30\0"] {
            assert_eq!(hop.ask(&asking(&stated(form, other))).status(), 403);
        }
        assert_eq!(gate.connect("hop").ask(&asking(&good).header(name, &good)).status(), 400, "twice");
        assert_eq!(gate.connect("hop").ask(&asking("MAA=")).status(), 400, "not the form");

        let mut public = gate.connect("public");
        assert_eq!(public.ask(&asking(&good)).status(), 403, "anybody could write it there");
        assert_eq!(public.ask(&Request::order(&unique("o"), 1).header(name, &good)).status(), 200);
        let forwarded = upstream.seen();
        assert_eq!(forwarded.last().expect("a request").value(&name.to_ascii_lowercase()), None, "nor does it go on");
    }
}

#[test]
fn a_header_for_certificates_is_configured_on_trusted_hops_alone_and_by_a_name_that_means_nothing_else() {
    let upstream = Upstream::start();
    let mut gate = Gate::before(&upstream);
    let cases = [
        ("public", Some("Client-Cert"), Some("rfc9440"), "trusted_hop"),
        ("control", Some("Client-Cert"), Some("rfc9440"), "does not belong here"),
        ("hop", Some("Client-Cert"), None, "how your proxy writes"),
        ("hop", None, Some("rfc9440"), "name of the header"),
        ("hop", Some("Authorization"), Some("rfc9440"), "means nothing else"),
        ("hop", Some("Tollgate-Customer"), Some("rfc9440"), "means nothing else"),
        ("hop", Some("no name"), Some("rfc9440"), "means nothing else"),
    ];
    for (listener, header, form, told) in cases {
        let error = gate.reload(|settings| {
            for (key, value) in [("client_certificate_header", header), ("client_certificate_form", form)] {
                for name in ["public", "control", "hop"] {
                    settings.listener(name).remove(key);
                }
                value.map(|value| settings.listener(listener).insert(key.to_owned(), value.into()));
            }
            settings
        });
        let error = error.expect_err(told);
        assert!(error.contains(told), "{error}");
    }
}
