//! Heads of HTTP/2, turned into what HTTP/1.1 would have brought: everything behind reads, verifies and forwards that.

use http::header::{COOKIE, HOST, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::{Parts as UriParts, Uri};

use crate::reason::Reason;

/// Gives a head the form that it would have had in HTTP/1.1: target in origin form, one `Host`, one `Cookie`.
///
/// # Errors
/// [`Reason::HeadInvalid`] for what RFC 9113, section 8.3.1 calls malformed and the library lets pass, and for values
/// that HTTP/1.1 cannot carry as they are.
pub(super) fn as_http1(head: &mut Parts) -> Result<(), Reason> {
    let UriParts { scheme, authority, path_and_query, .. } = std::mem::take(&mut head.uri).into_parts();
    // The library demands a scheme, and passes it on only with an authority.
    let known_scheme = scheme.is_none_or(|scheme| ["http", "https"].contains(&scheme.as_str()));
    let target = path_and_query.filter(|_| known_scheme).ok_or(Reason::HeadInvalid)?;
    head.uri = Uri::from(target);
    let named = authority.map(|authority| HeaderValue::from_str(authority.as_str())).transpose();
    let named = named.map_err(|_| Reason::HeadInvalid)?;
    let host = one_host(named, &head.headers)?;
    head.headers.insert(HOST, host);
    join_cookies(&mut head.headers)?;
    let padded = |value: &HeaderValue| value.as_bytes().trim_ascii() != value.as_bytes();
    if head.headers.values().any(padded) { Err(Reason::HeadInvalid) } else { Ok(()) }
}

/// Returns the size of a list of fields (RFC 9113, section 6.5.2), in bytes.
pub(super) fn list_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES).sum()
}

/// Returns the host that `:authority` and `Host` name, which must be one.
fn one_host(named: Option<HeaderValue>, headers: &HeaderMap) -> Result<HeaderValue, Reason> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (named, hosts.next(), hosts.next()) {
        (Some(named), None, None) => named,
        (None, Some(host), None) => host.clone(),
        (Some(named), Some(host), None) if named.as_bytes().eq_ignore_ascii_case(host.as_bytes()) => named,
        _ => return Err(Reason::HeadInvalid),
    };
    if host.is_empty() || host.as_bytes().contains(&b'@') { Err(Reason::HeadInvalid) } else { Ok(host) }
}

/// Joins what may come in pieces for the sake of compression (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) -> Result<(), Reason> {
    let pieces: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if pieces.len() > 1 {
        let joined = HeaderValue::from_bytes(&pieces.join(b"; ".as_slice())).map_err(|_| Reason::HeadInvalid)?;
        headers.insert(COOKIE, joined);
    }
    Ok(())
}

/// What a field counts beside its name and value.
const FIELD_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::head::tests::head;

    #[test]
    fn the_authority_becomes_the_host_and_cookies_become_one() {
        let mut one = head("https://a:1/p?q=%20", &[("cookie", "x=1"), ("accept", "*/*"), ("cookie", "y=2")]);
        assert_eq!(as_http1(&mut one), Ok(()));
        assert_eq!(one.uri, "/p?q=%20");
        assert!(one.uri.scheme().is_none() && one.uri.authority().is_none());
        let values = |name| one.headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(values("host"), ["a:1"]);
        assert_eq!(values("cookie"), ["x=1; y=2"]);
    }

    #[test]
    fn a_head_that_names_two_hosts_or_none_is_refused() {
        assert_eq!(as_http1(&mut head("http://a/p", &[("host", "A")])), Ok(()), "the same, but for its case");
        for (target, fields) in [
            ("http://a/p", &[("host", "b")][..]),
            ("http://a/p", &[("host", "a"), ("host", "a")]),
            ("http://u@a/p", &[]),
            ("/p", &[]),
            ("ftp://a/p", &[]),
            ("http://a/p", &[("x", " padded")]),
            ("http://a/p", &[("x", "padded\t")]),
        ] {
            assert_eq!(as_http1(&mut head(target, fields)), Err(Reason::HeadInvalid), "{target} {fields:?}");
        }
    }
}
