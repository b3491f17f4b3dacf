//! The other end of a connection.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName};

use super::options::{Bounds, Listener, Mode};
use super::shown::CertificateHeader;
use crate::reason::Reason;
use crate::request::Trust;

/// Who is on the other end of a connection, and by which door it came in.
#[derive(Debug)]
pub(super) struct Peer {
    pub trust: Trust,
    pub mode: Mode,
    pub ip: Option<IpAddr>,
    /// The leaf certificate that the TLS peer proved to hold.
    certificate: Option<Rc<[u8]>>,
    /// Where it states the certificate of its client instead.
    certificate_header: Option<CertificateHeader>,
    /// Fields that never go on to the upstream.
    pub withheld: Arc<[HeaderName]>,
    /// How many more requests the connection may carry.
    requests_left: Cell<u64>,
}

impl Peer {
    pub fn new(listener: &Listener, ip: Option<IpAddr>, certificate: Option<Rc<[u8]>>, bounds: &Bounds) -> Self {
        let requests_left = Cell::new(bounds.requests_per_connection_max);
        let (certificate_header, withheld) = (listener.certificate_header.clone(), Arc::clone(&listener.withheld));
        let Listener { trust, mode, .. } = *listener;
        Self { trust, mode, ip, certificate, certificate_header, withheld, requests_left }
    }

    /// Returns the certificate of the client that a request comes from, if it showed one.
    ///
    /// # Errors
    /// As of [`CertificateHeader::read`].
    pub fn certificate(&self, headers: &HeaderMap) -> Result<Option<Rc<[u8]>>, Reason> {
        match &self.certificate_header {
            Some(header) => Ok(header.read(headers)?.map(Rc::from)),
            None => Ok(self.certificate.clone()),
        }
    }

    /// Tells whether the connection has carried all the requests that it may.
    pub fn is_exhausted(&self) -> bool {
        self.requests_left.get() == 0
    }

    /// Counts a request; `true` where it was the last that the connection may carry.
    pub fn last_request(&self) -> bool {
        let left = self.requests_left.get().saturating_sub(1);
        self.requests_left.set(left);
        left == 0
    }
}
