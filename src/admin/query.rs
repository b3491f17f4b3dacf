//! Queries of the control listener: known parameters, each once, percent-decoded (RFC 3986, section 2.1; a `+` is a `+`).

use crate::admission::UsageQuery;
use crate::types::MerchantId;

/// What is wrong with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueryFault {
    /// A parameter that the endpoint does not know.
    #[error("a parameter is unknown; those that exist: {}", known.join(", "))]
    Unknown {
        /// What the endpoint knows.
        known: &'static [&'static str],
    },
    /// A parameter that is there twice.
    #[error("`{name}` is repeated; name each parameter once: {}", known.join(", "))]
    Repeated {
        /// The parameter.
        name: &'static str,
        /// What the endpoint knows.
        known: &'static [&'static str],
    },
    /// A value that is empty or cannot be decoded.
    #[error("`{name}` needs a value; percent-encode it as UTF-8")]
    Value {
        /// The parameter.
        name: &'static str,
    },
    /// A value outside the vocabulary of the parameter.
    #[error("`{name}` must be {expected}")]
    Invalid {
        /// The parameter.
        name: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// One of two parameters that only say something together.
    #[error("`{name}` names a customer only together with `{partner}`; add it")]
    Half {
        /// What is there.
        name: &'static str,
        /// What is missing.
        partner: &'static str,
    },
}

/// Reads what usage is asked for.
///
/// # Errors
/// [`QueryFault`].
pub(super) fn usage(query: Option<&str>) -> Result<UsageQuery, QueryFault> {
    let mut asked = UsageQuery::default();
    for (name, value) in parameters(query, USAGE)? {
        match name {
            "limit" => asked.limit = Some(value),
            "customer" => asked.customer = Some(value),
            "merchant" => {
                let merchant: Result<MerchantId, _> = value.parse();
                asked.merchant =
                    Some(merchant.map_err(|invalid| QueryFault::Invalid { name, expected: invalid.expected })?);
            }
            "category" => asked.category = Some(value),
            "appid" => asked.appid = Some(value),
            "openid" => asked.openid = Some(value),
            _ => return Err(QueryFault::Unknown { known: USAGE }),
        }
    }
    match (&asked.appid, &asked.openid) {
        (Some(_), None) => Err(QueryFault::Half { name: "appid", partner: "openid" }),
        (None, Some(_)) => Err(QueryFault::Half { name: "openid", partner: "appid" }),
        (None, None) | (Some(_), Some(_)) => Ok(asked),
    }
}

/// Reads whether a request is to be explained as one of a trusted hop.
///
/// # Errors
/// [`QueryFault`].
pub(super) fn trusted_hop(query: Option<&str>) -> Result<bool, QueryFault> {
    let value = parameters(query, EXPLAIN)?.into_iter().next();
    match value.as_ref().map(|(_, value)| value.as_str()) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(QueryFault::Invalid { name: "trusted_hop", expected: "true or false" }),
    }
}

fn parameters(query: Option<&str>, known: &'static [&'static str]) -> Result<Vec<(&'static str, String)>, QueryFault> {
    let mut found: Vec<(&'static str, String)> = Vec::new();
    let Some(query) = query else { return Ok(found) };
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let name = *known.iter().find(|known| **known == name).ok_or(QueryFault::Unknown { known })?;
        if found.iter().any(|(earlier, _)| *earlier == name) {
            return Err(QueryFault::Repeated { name, known });
        }
        let value = decode(value).filter(|value| !value.is_empty()).ok_or(QueryFault::Value { name })?;
        found.push((name, value));
    }
    Ok(found)
}

/// Undoes percent-encoding; `None` where a `%` is not followed by two hexadecimal digits, or the bytes are not UTF-8.
fn decode(text: &str) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok()
}

/// The parameters of a usage query.
const USAGE: &[&str] = &["limit", "customer", "merchant", "category", "appid", "openid"];

/// The parameters of an explain call.
const EXPLAIN: &[&str] = &["trusted_hop"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_parameter_of_a_usage_query_is_read_and_decoded() {
        let query = "limit=a&customer=%e5%BC%A0%20+&merchant=1900000001&category=b%26c&appid=d&openid=e%3D";
        let expected = UsageQuery {
            limit: Some("a".to_owned()),
            customer: Some("张 +".to_owned()),
            merchant: Some("1900000001".parse().expect("merchant")),
            category: Some("b&c".to_owned()),
            appid: Some("d".to_owned()),
            openid: Some("e=".to_owned()),
        };
        assert_eq!(usage(Some(query)), Ok(expected));
        assert_eq!(usage(None), Ok(UsageQuery::default()));
    }

    #[test]
    fn unknown_repeated_and_halved_parameters_are_refused_with_what_exists() {
        let unknown = QueryFault::Unknown { known: USAGE };
        for query in ["", "limits=a", "Limit=a", "limit=a&", "limit=a&x=1", "lim%69t=a"] {
            assert_eq!(usage(Some(query)), Err(unknown), "{query}");
        }
        let told = "a parameter is unknown; those that exist: limit, customer, merchant, category, appid, openid";
        assert_eq!(unknown.to_string(), told);
        assert_eq!(usage(Some("limit=a&limit=a")), Err(QueryFault::Repeated { name: "limit", known: USAGE }));
        assert_eq!(usage(Some("appid=a")), Err(QueryFault::Half { name: "appid", partner: "openid" }));
        assert_eq!(usage(Some("openid=a")), Err(QueryFault::Half { name: "openid", partner: "appid" }));
    }

    #[test]
    fn values_that_cannot_be_decoded_are_refused() {
        for value in ["", "%", "%1", "%g0", "%0g", "%+1", "%ff", "%c3"] {
            assert_eq!(usage(Some(&format!("limit={value}"))), Err(QueryFault::Value { name: "limit" }), "{value}");
        }
        assert_eq!(usage(Some("limit")), Err(QueryFault::Value { name: "limit" }));
        let merchant = usage(Some("merchant=a%20b"));
        assert!(matches!(merchant, Err(QueryFault::Invalid { name: "merchant", .. })), "{merchant:?}");
    }

    #[test]
    fn a_trusted_hop_is_true_or_false_and_false_unless_said() {
        for (query, trusted) in [(None, false), (Some("trusted_hop=false"), false), (Some("trusted_hop=true"), true)] {
            assert_eq!(trusted_hop(query), Ok(trusted), "{query:?}");
        }
        for query in
            ["", "trusted_hop", "trusted_hop=1", "trusted_hop=TRUE", "trusted_hop=true&trusted_hop=true", "x=1"]
        {
            assert!(trusted_hop(Some(query)).is_err(), "{query}");
        }
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(text: String) {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(decode(&encoded), Some(text));
        }
    }
}
