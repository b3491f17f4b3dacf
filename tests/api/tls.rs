//! TLS: versions, early data, client certificates and what the route asks of them.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned};

use crate::client::{Client, tcp};
use crate::deployment::{Merchant, deployment};
use crate::gate::Gate;
use crate::request::{Request, unique};
use crate::upstream::Upstream;

/// TLS over TCP.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Makes the options of a client that trusts the gate's authority and shows no certificate.
pub fn options() -> ClientConfig {
    builder(rustls::DEFAULT_VERSIONS).with_no_client_auth()
}

/// Makes the options of a client that trusts the gate's authority.
pub fn builder(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(deployment().authority()).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
    builder.with_root_certificates(roots)
}

/// Makes the options of a client that shows a certificate.
fn showing(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> ClientConfig {
    let options = builder(rustls::DEFAULT_VERSIONS).with_client_auth_cert(vec![certificate], key);
    options.expect("a certificate and its key")
}

/// Makes the options of a client that shows a merchant's certificate.
pub fn of(merchant: &Merchant) -> ClientConfig {
    showing(merchant.certificate.clone(), merchant.private_key())
}

/// Connects and shakes hands.
pub fn connect(gate: &Gate, options: &ClientConfig) -> Client<Stream> {
    try_connect(gate, &Arc::new(options.clone())).expect("a handshake")
}

/// Connects and shakes hands, if the gate does.
pub fn try_connect(gate: &Gate, options: &Arc<ClientConfig>) -> io::Result<Client<Stream>> {
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::clone(options), name).expect("a connection");
    let mut stream = StreamOwned::new(connection, tcp(gate.address("tls")));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Client::of(stream))
}

fn kind(client: &mut Client<Stream>) -> Option<HandshakeKind> {
    client.stream().conn.handshake_kind()
}

/// Makes a certificate that nobody vouches for and whose time is over.
fn worthless() -> ClientConfig {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let certificate = params.self_signed(&key).expect("a certificate");
    showing(certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

#[test]
fn tls_1_3_is_spoken_and_1_2_only_where_configured() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut client = connect(&gate, &options());
    assert_eq!(client.stream().conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(client.stream().conn.alpn_protocol(), None);
    assert_eq!(client.ask(&Request::order(&unique("o"), 1)).status(), 200);
    let old = Arc::new(builder(&[&rustls::version::TLS12]).with_no_client_auth());
    assert!(try_connect(&gate, &old).is_err(), "1.2 is not spoken unless asked for");

    let gate = Gate::with(&upstream, |settings| {
        settings.listener("tls").insert("tls_versions".to_owned(), vec!["1.3", "1.2"].into());
        settings
    });
    let mut client = try_connect(&gate, &old).expect("1.2");
    assert_eq!(client.stream().conn.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    assert_eq!(client.ask(&Request::order(&unique("o"), 1)).status(), 200);
    let mut client = connect(&gate, &options());
    assert_eq!(client.stream().conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[test]
fn a_connection_that_the_gate_ends_is_ended_by_tls_too() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| settings.set("bounds.requests_per_connection_max", 1));
    let mut client = connect(&gate, &options());
    assert_eq!(client.ask(&Request::query("a")).value("connection"), Some("close"));
    // Without a close_notify this is an error: somebody on the way might have cut the answer short.
    assert_eq!(client.stream().read(&mut [0; 1]).expect("an orderly end"), 0);
}

#[test]
fn http_2_and_1_1_are_offered_and_2_only_where_configured() {
    let upstream = Upstream::start();
    let offering = |protocols: &[&[u8]]| {
        let mut options = options();
        options.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(options)
    };
    let chosen = |gate: &Gate, protocols: &[&[u8]]| {
        let mut client = try_connect(gate, &offering(protocols)).ok()?;
        client.stream().conn.alpn_protocol().map(<[u8]>::to_vec)
    };
    let gate = Gate::before(&upstream);
    assert_eq!(chosen(&gate, &[b"http/1.1", b"h2"]).as_deref(), Some(&b"h2"[..]));
    assert_eq!(chosen(&gate, &[b"http/1.1"]).as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(chosen(&gate, &[b"h3"]), None, "a client that speaks neither is told so");
    let gate = Gate::with(&upstream, |settings| {
        settings.listener("tls").insert("http2".to_owned(), false.into());
        settings
    });
    assert_eq!(chosen(&gate, &[b"h2", b"http/1.1"]).as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(chosen(&gate, &[b"h2"]), None);
}

#[test]
fn a_resumed_session_takes_no_early_data() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut eager = options();
    eager.enable_early_data = true;
    eager.resumption = Resumption::in_memory_sessions(4);
    let eager = Arc::new(eager);
    let mut first = try_connect(&gate, &eager).expect("a handshake");
    assert_eq!(first.ask(&Request::query("a")).status(), 200);
    assert_eq!(kind(&mut first), Some(HandshakeKind::Full));

    let name = ServerName::try_from("localhost").expect("a name");
    let mut second = ClientConnection::new(Arc::clone(&eager), name).expect("a connection");
    assert!(second.early_data().is_none(), "the ticket allows no early data");
    let mut stream = StreamOwned::new(second, tcp(gate.address("tls")));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).expect("a handshake");
    }
    assert_eq!(stream.conn.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(!stream.conn.is_early_data_accepted());
    assert_eq!(Client::of(stream).ask(&Request::query("a")).status(), 200);
}

#[test]
fn a_client_certificate_that_is_good_for_nothing_breaks_no_handshake() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut client = connect(&gate, &worthless());
    assert_eq!(client.ask(&Request::order(&unique("o"), 1)).status(), 200, "the route asks for none");
}

#[test]
fn whoever_does_not_hold_the_key_of_a_certificate_is_not_let_in() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let deployment = deployment();
    let signer = rustls::crypto::ring::sign::any_supported_type(&deployment.stranger.private_key()).expect("a key");
    let stolen = rustls::sign::CertifiedKey::new(vec![deployment.merchant.certificate.clone()], signer);
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(stolen));
    let options = Arc::new(builder(rustls::DEFAULT_VERSIONS).with_client_cert_resolver(resolver));
    // In TLS 1.3 the client is done before the gate has looked at its signature.
    let answered = try_connect(&gate, &options).and_then(|mut client| {
        client.stream().write_all(&Request::query("a").wire())?;
        client.stream().read(&mut [0; 1])
    });
    assert!(answered.is_err(), "{answered:?}");
    assert!(upstream.seen().is_empty());
}

#[test]
fn plain_http_on_a_tls_listener_is_closed() {
    let upstream = Upstream::start();
    let gate = Gate::before(&upstream);
    let mut client = gate.connect("tls");
    client.send(&Request::query("a").wire());
    let mut bytes = Vec::new();
    let _ = client.stream().read_to_end(&mut bytes);
    assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");
    assert!(upstream.seen().is_empty());
}

/// The section that has refunds of API v3 demand the certificate.
pub const REFUND_BY_MTLS: &str = "[[route]]\nid = \"v3.refund\"\ncertificate = \"mtls\"\n";

#[test]
fn a_route_that_demands_the_certificate_takes_the_merchants_and_no_other() {
    let upstream = Upstream::start();
    let gate = Gate::with(&upstream, |settings| {
        let deployment = deployment();
        settings.replace("route", REFUND_BY_MTLS);
        settings.add_to_merchant("key", &key(&deployment.second_key, "revoked"));
        settings.add_merchant(&format!(
            "mchid = \"{}\"\nname = \"s\"\nkind = \"ordinary\"\ncategory = \"retail\"\n[[key]]\n{}",
            deployment.stranger.mchid,
            key(&deployment.stranger, "active")
        ))
    });
    let deployment = deployment();
    let refund = || Request::refund(&unique("r"));
    assert_eq!(connect(&gate, &of(&deployment.merchant)).ask(&refund()).status(), 200);
    let refused = [
        ("no certificate", options()),
        ("the certificate of another", of(&deployment.stranger)),
        ("a revoked certificate", of(&deployment.second_key)),
        ("a certificate of nobody", worthless()),
    ];
    for (what, options) in &refused {
        let mut client = connect(&gate, options);
        let refusal = client.ask(&refund());
        assert_eq!((refusal.status(), &refusal.json()["code"]), (403, &"NO_AUTH".into()), "{what}");
        assert_eq!(client.ask(&Request::order(&unique("o"), 1)).status(), 200, "{what}: other routes go on");
    }
    assert_eq!(gate.connect("public").ask(&refund()).status(), 403, "without TLS there is no certificate");
    let forwarded = upstream.seen().iter().filter(|message| message.target().contains("refund")).count();
    assert_eq!(forwarded, 1);
}

#[test]
fn a_certificate_that_is_revoked_counts_no_more_on_open_and_on_resumed_sessions() {
    let upstream = Upstream::start();
    let deployment = deployment();
    let mut gate = Gate::with(&upstream, |settings| {
        settings.replace("route", REFUND_BY_MTLS);
        settings.add_to_merchant("key", &key(&deployment.second_key, "active"))
    });
    let refund = || Request::refund(&unique("r"));
    let options = Arc::new(of(&deployment.second_key));
    let mut open = try_connect(&gate, &options).expect("a handshake");
    assert_eq!(open.ask(&refund()).status(), 200);
    let mut resumed = try_connect(&gate, &options).expect("a handshake");
    assert_eq!(kind(&mut resumed), Some(HandshakeKind::Resumed));
    assert_eq!(resumed.ask(&refund()).status(), 200, "the certificate counts on a resumed session");

    let revoke = gate.reload(|settings| {
        let keys = settings.merchant()["key"].as_array_mut().expect("keys");
        keys[1].as_table_mut().expect("a key").insert("status".to_owned(), "revoked".into());
        settings
    });
    revoke.expect("reload");
    assert_eq!(open.ask(&refund()).status(), 403);
    let mut again = try_connect(&gate, &options).expect("a handshake");
    assert_eq!(kind(&mut again), Some(HandshakeKind::Resumed));
    assert_eq!(again.ask(&refund()).status(), 403);
}

/// Writes the section of a merchant's key.
pub fn key(merchant: &Merchant, status: &str) -> String {
    format!("certificate_file = {:?}\nstatus = \"{status}\"\n", merchant.certificate_file)
}
