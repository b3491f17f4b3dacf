//! The request as a decision sees it: borrowed, and free of any HTTP library.

pub mod json;
mod members;
pub mod xml;

use std::net::IpAddr;

pub use members::{Format, Found, NotOfType, Unreadable, read};

/// How far the peer behind a listener is trusted. Trust belongs to listeners, never to peer addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Anybody may connect; `Tollgate-*` headers have been stripped.
    Public,
    /// A proxy or cashier of our own side: it may state facts, and may deliver one check twice.
    TrustedHop,
}

/// Looks headers up by name. Implemented for slices of pairs here, and by the front for its header map.
pub trait Headers {
    /// Calls `visit` with each value of the header `name` (lower case), in the order received.
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8]));

    /// Returns the one value of the header `name`, `None` where it is absent.
    ///
    /// # Errors
    /// [`Repeated`] where the header occurs more than once: which one counts would be anybody's guess.
    fn only<'a>(&'a self, name: &str) -> Result<Option<&'a [u8]>, Repeated> {
        let mut found = None;
        let mut repeated = false;
        self.each(name, &mut |value| repeated |= found.replace(value).is_some());
        if repeated { Err(Repeated) } else { Ok(found) }
    }
}

impl<const N: usize> Headers for [(&str, &[u8]); N] {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        self.as_slice().iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).for_each(|(_, value)| visit(value));
    }
}

impl Headers for Vec<(&str, &[u8])> {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        self.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).for_each(|(_, value)| visit(value));
    }
}

/// A header that must occur at most once occurred more often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header occurs more than once")]
pub struct Repeated;

/// One request, as received: nothing decoded, nothing re-encoded.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The method, as on the wire.
    pub method: &'a str,
    /// Path, and `?` with the query where there is one, exactly as on the wire.
    pub target: &'a str,
    /// The headers.
    pub headers: &'a dyn Headers,
    /// The body, exactly as received.
    pub body: &'a [u8],
    /// How far the listener trusts its peers.
    pub trust: Trust,
    /// The peer's address; `None` behind a Unix socket.
    pub peer: Option<IpAddr>,
    /// The DER of the leaf certificate that the TLS peer proved to hold, if it showed one.
    pub client_certificate: Option<&'a [u8]>,
    /// Whether the gate holds the platform key that the request wants its answer signed with.
    pub answer_key_known: bool,
}

impl<'a> Request<'a> {
    /// Splits the target into its path and its query (without the `?`).
    pub fn path_and_query(&self) -> (&'a str, Option<&'a str>) {
        match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target, None),
        }
    }

    /// Returns the one value of a parameter of the query, as on the wire; `None` where it is absent.
    ///
    /// # Errors
    /// [`Repeated`] where the parameter occurs more than once, or something in the query could be read as it by a parser
    /// that decodes keys or ignores their case.
    pub fn parameter(&self, name: &str) -> Result<Option<&'a str>, Repeated> {
        let (_, query) = self.path_and_query();
        let mut found = None;
        for pair in query.unwrap_or("").split(['&', ';']) {
            let (key, value) = pair.split_once('=').map_or((pair, None), |(key, value)| (key, Some(value)));
            let ambiguous = key.contains(['%', '+']) || (key != name && key.eq_ignore_ascii_case(name));
            let again = key == name && (value.is_none() || found.is_some());
            if ambiguous || again {
                return Err(Repeated);
            }
            if key == name {
                found = value;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_must_be_single_is_refused_when_repeated() {
        let headers: [(&str, &[u8]); 3] = [("Authorization", b"one"), ("accept", b"a"), ("authorization", b"two")];
        assert_eq!(headers.only("authorization"), Err(Repeated));
        assert_eq!(headers.only("accept"), Ok(Some(b"a".as_slice())));
        assert_eq!(headers.only("host"), Ok(None));
    }

    #[test]
    fn a_parameter_of_the_query_is_read_once() {
        const NONE: [(&str, &[u8]); 0] = [];
        fn request(target: &str) -> Request<'_> {
            Request {
                method: "GET",
                target,
                headers: &NONE,
                body: b"",
                trust: Trust::Public,
                peer: None,
                client_certificate: None,
                answer_key_known: true,
            }
        }
        assert_eq!(request("/a?mchid=1&x=2").parameter("mchid"), Ok(Some("1")));
        let readings =
            ["mchid=1&mchid=1", "%6dchid=2&mchid=1", "mchid=1&%6dchid=2", "mchid=1&MCHID=2", "mchid=1&mchid"];
        for ambiguous in readings.iter().chain(&["mchid", "mchid=1;mchid=2"]) {
            let target = format!("/a?{ambiguous}");
            assert_eq!(request(&target).parameter("mchid"), Err(Repeated), "{ambiguous}");
        }
        assert_eq!(request("/a").parameter("mchid"), Ok(None));
        assert_eq!(request("/a?b=?c").path_and_query(), ("/a", Some("b=?c")));
    }
}
