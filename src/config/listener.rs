//! Where the gate listens, and where it forwards to. In the clear only where nothing leaves the machine.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use http::header::HeaderName;

use crate::front::{
    Address, CertificateForm, CertificateHeader, Listener, Mode, Upstream, may_state_a_certificate, tls,
};
use crate::request::Trust;

use super::bounds::{KIB, MIB, at_most, duration, few, within};
use super::fault::{At, Fault, Problem, ROOT};
use super::file::{Folder, PEM_BYTES_MAX};
use super::shape::{self, ListenerKind, Table, TlsVersion};

/// The listeners, checked.
pub(super) struct Listeners {
    /// Those of the data plane; at least one.
    pub data: Vec<Listener>,
    /// That of the control plane.
    pub control: Option<Address>,
}

/// Checks the sections `listener`, by themselves and against the upstream.
pub(super) fn check(
    shapes: Vec<Table<shape::Listener>>,
    upstream: Option<&Upstream>,
    folder: Folder<'_>,
) -> Result<Listeners, Fault> {
    few(&ROOT.key("listener"), &shapes, LISTENERS_MAX)?;
    let mut listeners = Listeners { data: Vec::new(), control: None };
    let mut addresses: Vec<Address> = Vec::new();
    let mut names = HashMap::new();
    for (index, Table(shape)) in shapes.into_iter().enumerate() {
        let at = ROOT.item("listener", index);
        name(&at.key("name"), &shape.name, index, &mut names)?;
        let address = address(&at.key("address"), &shape.address, folder)?;
        free(&at.key("address"), &address, &addresses, upstream)?;
        addresses.push(address.clone());
        let trust = match shape.kind {
            ListenerKind::Public => Trust::Public,
            ListenerKind::TrustedHop => Trust::TrustedHop,
            ListenerKind::Control => {
                if listeners.control.is_some() {
                    return Err(at.key("kind").refuse(Problem::Unwanted { remedy: "keep one control listener" }));
                }
                listeners.control = Some(control(&at, &shape, address)?);
                continue;
            }
        };
        listeners.data.push(data(&at, shape, address, trust, upstream, folder)?);
    }
    if listeners.data.is_empty() {
        let remedy = "add a [[listener]] of kind \"public\" or \"trusted_hop\"";
        return Err(ROOT.key("listener").refuse(Problem::Missing { remedy }));
    }
    withhold(&mut listeners.data);
    Ok(listeners)
}

/// Checks the section `upstream`.
pub(super) fn upstream(shape: Option<Table<shape::Upstream>>, folder: Folder<'_>) -> Result<Option<Upstream>, Fault> {
    let Some(Table(shape)) = shape else { return Ok(None) };
    let at = ROOT.key("upstream");
    let address = address(&at.key("address"), &shape.address, folder)?;
    if matches!(address, Address::Tcp(tcp) if tcp.port() == 0 || tcp.ip().is_unspecified()) {
        let expected = "the address and port that the service listens on, such as \"127.0.0.1:8081\"";
        return Err(at.key("address").refuse(Problem::Text { found: shape.address, expected }));
    }
    if let Some(host) = &shape.host {
        let fits = host.len() <= 255 && !host.contains('@') && host.parse::<http::uri::Authority>().is_ok();
        if !fits {
            let expected = "a host, with a port where needed, such as \"api.example.com\"";
            return Err(at.key("host").refuse(Problem::Text { found: host.clone(), expected }));
        }
    }
    let idle = at.key("idle_connections_max");
    at_most(&idle, shape.idle_connections_max, "connections_max", shape.connections_max)?;
    at_most(&at.key("answer_bytes_max"), shape.answer_bytes_max, "answers_bytes_max", shape.answers_bytes_max)?;
    let timeout = |name, value_ms| duration(&at.key(name), value_ms, 10..=600_000);
    Ok(Some(Upstream {
        address,
        host: shape.host,
        connect_timeout: timeout("connect_timeout_ms", shape.connect_timeout_ms)?,
        answer_timeout: timeout("answer_timeout_ms", shape.answer_timeout_ms)?,
        idle_connections_max: within(&idle, shape.idle_connections_max, 0..=65_536)?,
        connections_max: within(&at.key("connections_max"), shape.connections_max, 1..=65_536)?,
        answer_bytes_max: within(&at.key("answer_bytes_max"), shape.answer_bytes_max, KIB..=64 * MIB)?,
        answers_bytes_max: within(&at.key("answers_bytes_max"), shape.answers_bytes_max, MIB..=64 * KIB * MIB)?,
    }))
}

fn name(at: &At<'_>, name: &str, index: usize, names: &mut HashMap<String, usize>) -> Result<(), Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(plain) {
        let expected = "1 to 32 letters, digits, `_` or `-`";
        return Err(at.refuse(Problem::Text { found: name.to_owned(), expected }));
    }
    match names.insert(name.to_owned(), index) {
        None => Ok(()),
        Some(first) => {
            let first = ROOT.item("listener", first).to_string();
            Err(at.refuse(Problem::Duplicate { value: name.to_owned(), first }))
        }
    }
}

fn address(at: &At<'_>, text: &str, folder: Folder<'_>) -> Result<Address, Fault> {
    let unusable = |expected| at.refuse(Problem::Text { found: text.to_owned(), expected });
    if let Some(name) = text.strip_prefix("unix:") {
        let path = folder.path(name);
        let fits = !name.is_empty() && path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX;
        return if fits { Ok(Address::Unix(path)) } else { Err(unusable("unix: and a path of at most 107 bytes")) };
    }
    let expected = "an IP address and a port such as \"127.0.0.1:8443\", or \"unix:PATH\"";
    text.parse::<SocketAddr>().map(Address::Tcp).map_err(|_| unusable(expected))
}

/// Checks that nobody else has an address: no listener before, and not the upstream, which would be a loop.
fn free(at: &At<'_>, address: &Address, before: &[Address], upstream: Option<&Upstream>) -> Result<(), Fault> {
    let taken = |first| Err(at.refuse(Problem::Duplicate { value: address.to_string(), first }));
    if let Some(first) = before.iter().position(|other| overlaps(address, other)) {
        return taken(ROOT.item("listener", first).to_string());
    }
    if upstream.is_some_and(|upstream| overlaps(address, &upstream.address)) {
        taken("upstream".to_owned())
    } else {
        Ok(())
    }
}

/// Tells whether two addresses cannot both be listened on. Port 0 is a new port each time.
fn overlaps(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Tcp(one), Address::Tcp(other)) => {
            let any = one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() != 0 && one.port() == other.port() && (any || one.ip() == other.ip())
        }
        (Address::Unix(one), Address::Unix(other)) => one == other,
        (Address::Tcp(_), Address::Unix(_)) | (Address::Unix(_), Address::Tcp(_)) => false,
    }
}

fn control(at: &At<'_>, shape: &shape::Listener, address: Address) -> Result<Address, Fault> {
    let unwanted = [
        ("mode", shape.mode.is_some()),
        ("tls_certificate_file", shape.tls_certificate_file.is_some()),
        ("tls_key_file", shape.tls_key_file.is_some()),
        ("tls_versions", shape.tls_versions.is_some()),
        ("http2", shape.http2.is_some()),
        ("client_certificate_header", shape.client_certificate_header.is_some()),
        ("client_certificate_form", shape.client_certificate_form.is_some()),
    ];
    if let Some((name, _)) = unwanted.into_iter().find(|(_, present)| *present) {
        let remedy = "remove the key: the control listener forwards nothing and speaks plain HTTP on this machine only";
        return Err(at.key(name).refuse(Problem::Unwanted { remedy }));
    }
    if !address.is_local() {
        return Err(at.key("address").refuse(Problem::ControlNotLocal { address: address.to_string() }));
    }
    Ok(address)
}

fn data(
    at: &At<'_>,
    shape: shape::Listener,
    address: Address,
    trust: Trust,
    upstream: Option<&Upstream>,
    folder: Folder<'_>,
) -> Result<Listener, Fault> {
    let mode = match shape.mode {
        Some(shape::Mode::Check) => Mode::Check,
        Some(shape::Mode::Proxy) => Mode::Proxy,
        None => {
            let remedy = "write mode = \"proxy\" to forward what is admitted, or mode = \"check\" only to say so";
            return Err(at.key("mode").refuse(Problem::Missing { remedy }));
        }
    };
    if mode == Mode::Proxy && upstream.is_none() {
        let remedy = "add [upstream] with the address to forward to, or write mode = \"check\"";
        return Err(at.key("mode").refuse(Problem::Missing { remedy }));
    }
    let http2 = shape.http2.unwrap_or(true);
    let tls = tls(at, &shape, http2, folder)?;
    if tls.is_none() && !address.is_local() {
        return Err(at.key("address").refuse(Problem::PlainNotLocal { address: address.to_string() }));
    }
    let certificate_header = certificate_header(at, &shape, trust)?;
    Ok(Listener { name: shape.name, address, trust, mode, tls, http2, certificate_header, withheld: Arc::default() })
}

fn certificate_header(at: &At<'_>, shape: &shape::Listener, trust: Trust) -> Result<Option<CertificateHeader>, Fault> {
    let (header, form) = ("client_certificate_header", "client_certificate_form");
    let (text, form) = match (&shape.client_certificate_header, shape.client_certificate_form) {
        (None, None) => return Ok(None),
        (Some(text), Some(form)) => (text, form),
        (Some(_), None) => {
            let remedy = "write \"rfc9440\" or \"url_encoded_pem\": how your proxy writes the certificate";
            return Err(at.key(form).refuse(Problem::Missing { remedy }));
        }
        (None, Some(_)) => {
            let remedy = "add the name of the header that your proxy writes, such as \"Client-Cert\"";
            return Err(at.key(header).refuse(Problem::Missing { remedy }));
        }
    };
    if trust != Trust::TrustedHop {
        let remedy = "remove the key, or write kind = \"trusted_hop\": here anybody could write the header";
        return Err(at.key(header).refuse(Problem::Unwanted { remedy }));
    }
    let name = HeaderName::try_from(text.as_str())
        .ok()
        .filter(|name| name.as_str().len() <= HEADER_NAME_BYTES_MAX && may_state_a_certificate(name));
    let expected = "the name of a header of 1 to 64 bytes that means nothing else, such as \"Client-Cert\"";
    let name = name.ok_or_else(|| at.key(header).refuse(Problem::Text { found: text.clone(), expected }))?;
    let form = match form {
        shape::CertificateForm::Rfc9440 => CertificateForm::Rfc9440,
        shape::CertificateForm::UrlEncodedPem => CertificateForm::UrlEncodedPem,
    };
    Ok(Some(CertificateHeader { name, form }))
}

/// Has public listeners keep back what only proxies may state, whoever reads it behind the gate.
fn withhold(listeners: &mut [Listener]) {
    let standard = [HeaderName::from_static("client-cert"), HeaderName::from_static("client-cert-chain")];
    let stated = listeners.iter().filter_map(|listener| Some(listener.certificate_header.as_ref()?.name.clone()));
    let names: Arc<[HeaderName]> = standard.into_iter().chain(stated).collect();
    for listener in listeners.iter_mut().filter(|listener| listener.trust == Trust::Public) {
        listener.withheld = Arc::clone(&names);
    }
}

fn tls(
    at: &At<'_>,
    shape: &shape::Listener,
    http2: bool,
    folder: Folder<'_>,
) -> Result<Option<Arc<rustls::ServerConfig>>, Fault> {
    let missing = |name, remedy| Err(at.key(name).refuse(Problem::Missing { remedy }));
    let (certificate, key) = match (&shape.tls_certificate_file, &shape.tls_key_file) {
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) => return missing("tls_key_file", "add the file of the private key that belongs to it"),
        (None, Some(_)) => return missing("tls_certificate_file", "add the file of the certificate chain"),
        (None, None) if shape.tls_versions.is_some() => {
            return missing("tls_certificate_file", "add it and `tls_key_file`, or remove `tls_versions`");
        }
        (None, None) => return Ok(None),
    };
    let versions = shape.tls_versions.as_deref().unwrap_or(&[TlsVersion::Tls13]);
    if !versions.contains(&TlsVersion::Tls13) {
        let remedy = "write [\"1.3\"] or [\"1.3\", \"1.2\"]: TLS 1.3 is always spoken";
        return Err(at.key("tls_versions").refuse(Problem::Unwanted { remedy }));
    }
    let chain = chain(&at.key("tls_certificate_file"), certificate, folder)?;
    let private_key = private_key(&at.key("tls_key_file"), key, folder)?;
    tls::server_config(chain, private_key, versions.contains(&TlsVersion::Tls12), http2)
        .map(Some)
        .map_err(|error| at.key("tls_key_file").refuse(Problem::Tls(error)))
}

fn chain(at: &At<'_>, name: &str, folder: Folder<'_>) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let pem = folder.text(at, name, PEM_BYTES_MAX)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap_or_default();
    if chain.is_empty() {
        return Err(at.refuse(Problem::Content { path: folder.path(name), expected: "a chain of certificates in PEM" }));
    }
    Ok(chain)
}

fn private_key(at: &At<'_>, name: &str, folder: Folder<'_>) -> Result<PrivateKeyDer<'static>, Fault> {
    let pem = folder.secret(at, name)?;
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| at.refuse(Problem::Content { path: folder.path(name), expected: "a private key in PEM" }))
}

/// Most listeners.
const LISTENERS_MAX: usize = 16;

/// Longest name of a listener, in bytes.
const NAME_BYTES_MAX: usize = 32;

/// Longest name of a header that states certificates, in bytes.
const HEADER_NAME_BYTES_MAX: usize = 64;

/// Longest path of a Unix socket, in bytes: `sun_path` without its final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;
