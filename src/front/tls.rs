//! TLS by rustls with the ring provider: 1.3, and 1.2 where configured; early data off.
//!
//! A client certificate is asked for and optional. The handshake checks possession of its key and nothing else, so that
//! an unusable certificate never breaks a handshake; chain, time and revocation are judged per route, on resumed
//! sessions too. Of a certificate whose key cannot be used here possession is not checked, and it counts as not shown.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};

use crate::certificate::could_be_a_merchants;

/// Makes the TLS side of a listener.
///
/// # Errors
/// Where the key does not fit the certificate, or either is unusable.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    tls12: bool,
    http2: bool,
) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[&rustls::SupportedProtocolVersion] =
        if tls12 { &[&rustls::version::TLS13, &rustls::version::TLS12] } else { &[&rustls::version::TLS13] };
    let verifier = Arc::new(Possession { algorithms: algorithms(&provider) });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = [H2, b"http/1.1"].into_iter().skip(usize::from(!http2)).map(<[u8]>::to_vec).collect();
    // A replayed early request would be a replayed payment.
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// What a peer names that is to speak HTTP/2 (RFC 9113, section 3.2).
pub(super) const H2: &[u8] = b"h2";

/// Tells whether possession of a certificate's key is checked in the handshake. One of which this is not so could not be a
/// merchant's, whoever issued it; the answer depends on nothing else, so that it is the same on a resumed session.
pub(super) fn is_provable(certificate: &CertificateDer<'_>) -> bool {
    could_be_a_merchants(certificate) && ParsedCertificate::try_from(certificate).is_ok()
}

fn algorithms(provider: &CryptoProvider) -> WebPkiSupportedAlgorithms {
    provider.signature_verification_algorithms
}

/// Checks that the peer holds the key of the certificate it shows, where [`is_provable`].
#[derive(Debug)]
struct Possession {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Possession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !is_provable(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !is_provable(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
