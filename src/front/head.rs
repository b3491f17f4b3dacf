//! Heads: which are refused as ambiguous, and which fields go on to the other side.

use http::header::{
    self, ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use http::request::Parts;

use crate::reason::Reason;
use crate::request::Headers;

impl Headers for HeaderMap {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        self.get_all(name).iter().for_each(|value| visit(value.as_bytes()));
    }
}

/// Refuses a head that two parsers could read differently (RFC 9112, sections 3.2, 6.1 and 6.3).
///
/// # Errors
/// [`Reason::HeadInvalid`].
pub(super) fn check(head: &Parts) -> Result<(), Reason> {
    let count = |name: HeaderName| head.headers.get_all(name).iter().count();
    let origin_form = head.uri.scheme().is_none()
        && head.uri.authority().is_none()
        && head.uri.path_and_query().is_some_and(|target| target.as_str().starts_with('/'));
    let chunked = || head.headers.get(TRANSFER_ENCODING).is_some_and(|coding| coding.as_bytes() == b"chunked");
    let framed_once = match (count(TRANSFER_ENCODING), count(CONTENT_LENGTH)) {
        (0, 0 | 1) => true,
        (1, 0) => chunked(),
        _ => false,
    };
    if origin_form && framed_once && count(HOST) == 1 { Ok(()) } else { Err(Reason::HeadInvalid) }
}

/// Copies the end-to-end fields of a request that go to the upstream, in order, byte for byte.
///
/// `facts` says whether the peer may state facts in `Tollgate-*` headers; nobody may state a decision. Answers are asked
/// for uncompressed, whatever the caller takes: they are read here, and signed as clients verify them, decoded.
/// Fields of the names in `withheld` stay behind, too, in both spellings.
pub(super) fn forwarded(headers: &HeaderMap, facts: bool, withheld: &[HeaderName]) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len() + 5);
    let named = connection_options(headers);
    for (name, value) in headers {
        let dropped = is_hop_by_hop(name)
            || name == ACCEPT_ENCODING
            || (named.iter().any(|option| option == name.as_str()) && !is_protected(name))
            || withheld.iter().any(|other| is_alike(name, other))
            || (is_ours(name) && !(facts && FACTS.contains(&name.as_str())));
        if !dropped {
            kept.append(name, value.clone());
        }
    }
    // Without the field, any coding would do (RFC 9110, section 12.5.3).
    kept.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    kept
}

/// Copies the end-to-end fields of an upstream's answer.
pub(super) fn returned(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len() + 8);
    let named = connection_options(headers);
    for (name, value) in headers {
        let listed = named.iter().any(|option| option == name.as_str()) && !is_protected(name);
        if !is_hop_by_hop(name) && !listed {
            kept.append(name, value.clone());
        }
    }
    kept
}

/// Connection-specific fields (RFC 9110, section 7.6.1), and those that frame: framing is always rebuilt.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    [
        CONNECTION,
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::EXPECT,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
    ]
    .contains(name)
        || ["keep-alive", "proxy-connection", "http2-settings"].contains(&name.as_str())
}

/// Fields that a `Connection` list never removes: the upstream reads them to know who asks what.
fn is_protected(name: &HeaderName) -> bool {
    let text = name.as_str();
    text == "authorization"
        || text == "host"
        || text == "user-agent"
        || text == "request-id"
        || text.starts_with("content-")
        || text.starts_with("accept")
        || text.starts_with("wechatpay-")
        || text.starts_with("tollgate-")
}

/// `Tollgate-*`, in both spellings: some frameworks read `_` as `-`.
fn is_ours(name: &HeaderName) -> bool {
    let text = name.as_str();
    text.strip_prefix("tollgate").is_some_and(|rest| rest.starts_with(['-', '_']))
}

/// Tells whether two names are one to frameworks that read `_` as `-`.
fn is_alike(one: &HeaderName, other: &HeaderName) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte };
    one.as_str().bytes().map(plain).eq(other.as_str().bytes().map(plain))
}

/// Tells whether a header of this name may state a certificate: it means nothing else here.
pub fn may_state_a_certificate(name: &HeaderName) -> bool {
    !is_hop_by_hop(name) && !is_protected(name) && !is_ours(name)
}

fn connection_options(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|list| list.split(',')).map(|option| option.trim().to_ascii_lowercase()).collect()
}

/// Facts that a trusted hop may state; they go on to the upstream.
const FACTS: [&str; 7] = [
    "tollgate-customer",
    "tollgate-channel",
    "tollgate-instrument",
    "tollgate-account-class",
    "tollgate-code-grade",
    "tollgate-authentication",
    "tollgate-scenario",
];

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn head(target: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method("POST").uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("request").into_parts().0
    }

    #[test]
    fn an_ambiguous_head_is_refused() {
        assert_eq!(check(&head("/a", &[("host", "a")])), Ok(()));
        assert_eq!(check(&head("/a", &[("host", "a"), ("transfer-encoding", "chunked")])), Ok(()));
        for (target, fields) in [
            ("/a", &[][..]),
            ("/a", &[("host", "a"), ("host", "a")]),
            ("http://a/a", &[("host", "a")]),
            ("/a", &[("host", "a"), ("content-length", "1"), ("transfer-encoding", "chunked")]),
            ("/a", &[("host", "a"), ("content-length", "1"), ("content-length", "1")]),
            ("/a", &[("host", "a"), ("transfer-encoding", "gzip, chunked")]),
            ("*", &[("host", "a")]),
        ] {
            assert_eq!(check(&head(target, fields)), Err(Reason::HeadInvalid), "{target} {fields:?}");
        }
    }

    #[test]
    fn forged_and_hop_by_hop_fields_stay_behind_and_all_others_go_on_in_order() {
        let fields = [
            ("authorization", "signed"),
            ("connection", "close, authorization, x-private"),
            ("x-private", "1"),
            ("x-many", "1"),
            ("x-many", "2"),
            ("tollgate-decision", "forged"),
            ("tollgate_merchant", "forged"),
            ("tollgate-customer", "c"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("accept-encoding", "gzip"),
            ("accept-encoding", "br, *;q=0.5"),
        ];
        let fields = [&fields[..], &[("client-cert", ":MAA=:"), ("client_cert", ":MAA=:")]].concat();
        let received = head("/a", &fields).headers;
        let withheld = [HeaderName::from_static("client-cert")];
        let names = |kept: &HeaderMap| {
            kept.iter().map(|(name, value)| format!("{name}={}", value.to_str().expect("text"))).collect::<Vec<_>>()
        };
        assert_eq!(
            names(&forwarded(&received, false, &withheld)),
            ["authorization=signed", "x-many=1", "x-many=2", "accept-encoding=identity"]
        );
        assert!(names(&forwarded(&received, true, &[])).contains(&"tollgate-customer=c".to_owned()));
        assert!(names(&forwarded(&received, true, &[])).contains(&"client-cert=:MAA=:".to_owned()));
        assert!(!names(&forwarded(&received, true, &[])).iter().any(|field| field.contains("forged")));
    }
}
