//! The other end of a connection.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;

use super::options::{Bounds, Listener, Mode};
use crate::request::Trust;

/// Who is on the other end of a connection, and by which door it came in.
#[derive(Debug)]
pub(super) struct Peer {
    pub trust: Trust,
    pub mode: Mode,
    pub ip: Option<IpAddr>,
    /// The leaf certificate that the TLS peer proved to hold.
    pub certificate: Option<Rc<[u8]>>,
    /// How many more requests the connection may carry.
    requests_left: Cell<u64>,
}

impl Peer {
    pub fn new(listener: &Listener, ip: Option<IpAddr>, certificate: Option<Rc<[u8]>>, bounds: &Bounds) -> Self {
        let requests_left = Cell::new(bounds.requests_per_connection_max);
        Self { trust: listener.trust, mode: listener.mode, ip, certificate, requests_left }
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
