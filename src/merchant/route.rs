//! Routes are data: which method and path mean which operation, and where in the request the decision finds its facts.

mod entry;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde::Deserialize;

use super::answer::AnswerSpec;
use crate::request::json::Wanted;
use crate::signature::Scheme;
use crate::types::{Interface, Operation};
use entry::{Document, Entry};

/// The route table.
#[derive(Debug)]
pub struct Routes {
    routes: Vec<Route>,
    /// Paths without a parameter.
    fixed: HashMap<String, Vec<(String, RouteIndex)>, RandomState>,
    /// Paths with one parameter: what stands before and after it.
    patterns: Vec<Pattern>,
}

/// A position in the route table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteIndex(u16);

/// One route.
#[derive(Debug)]
pub struct Route {
    /// The stable id, such as `v3.jsapi`.
    pub id: String,
    /// How requests on it are signed.
    pub scheme: Arc<dyn Scheme>,
    /// What it asks for.
    pub operation: Operation,
    /// The interfaces it belongs to; empty where it belongs to all.
    pub interfaces: Vec<Interface>,
    /// Whether the API certificate is demanded, and how it is shown.
    pub certificate: CertificateDemand,
    /// How an admission on it settles.
    pub settle: Settle,
    /// Whether `Accept` and `User-Agent` must be present.
    pub agent_required: bool,
    /// Where its facts stand.
    pub pointers: Pointers,
    /// What its answers say of the order; `None` where they say nothing that settles it.
    pub answer: Option<Arc<AnswerSpec>>,
    /// What its order numbers name.
    pub orders: OrderKind,
    /// What it means by the value of one member; `None` where it means one thing.
    pub variants: Option<Variants>,
}

impl Route {
    /// Tells whether what it asks for moves money out.
    pub fn pays_out(&self) -> bool {
        matches!(self.operation, Operation::Refund | Operation::Reverse)
    }
}

/// What a route means, by the value of one member of the body.
#[derive(Debug)]
pub struct Variants {
    /// Where that member stands among those wanted.
    pub at: usize,
    /// What each value means; others are refused.
    pub of: Vec<Variant>,
}

/// What one value means.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// The stable id, such as `v2.unifiedorder.jsapi`.
    pub id: String,
    /// The value.
    pub is: String,
    /// The interfaces it belongs to.
    pub interfaces: Vec<Interface>,
    /// Whether the payer that such a request names is the one who will pay.
    #[serde(default)]
    pub payer: bool,
}

/// What an order number names: a payment and a refund may have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderKind {
    /// A payment.
    #[default]
    Payment,
    /// A refund.
    Refund,
}

/// Where in a request the facts of a decision stand.
#[derive(Debug)]
pub struct Pointers {
    /// The members of the body that are read, each at the position that the fields below name.
    pub wanted: Wanted,
    /// The JSON Pointers of those members, for messages.
    pub names: Vec<String>,
    /// The merchant.
    pub merchant: Place,
    /// The amount in fen.
    pub amount: Option<usize>,
    /// The currency; CNY where the member is absent.
    pub currency: Option<usize>,
    /// The customer's openid.
    pub payer: Option<usize>,
    /// The appid.
    pub appid: Option<usize>,
    /// The order number.
    pub order: Place,
    /// Until when the order can be paid, RFC 3339.
    pub expires: Option<usize>,
    /// The order number of the payment that is paid back.
    pub original: Option<usize>,
    /// The platform's own id of the payment that is paid back, or that a close or reversal is of.
    pub original_id: Option<usize>,
    /// Members that a request must not have: they would make it another one than the route means.
    pub absent: Vec<usize>,
}

/// Where one fact stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The request does not carry it.
    Nowhere,
    /// At this position among the members wanted of the body.
    Body(usize),
    /// It is the path's parameter.
    Path,
    /// It is this parameter of the query.
    Query(String),
}

/// Whether and how an API certificate is demanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateDemand {
    /// Any key of the merchant may sign.
    None,
    /// The signing key must be vouched for by an API certificate.
    Signature,
    /// So must it, and the TLS peer must hold an API certificate of the same merchant.
    Mtls,
}

impl CertificateDemand {
    /// Returns the name used in configuration and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Signature => "signature",
            Self::Mtls => "mtls",
        }
    }
}

impl Settle {
    /// Returns the name used in configuration and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::OnAnswer => "on_answer",
            Self::Later => "later",
        }
    }
}

/// How an admission settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settle {
    /// Nothing is held.
    None,
    /// The upstream's answer is the outcome.
    OnAnswer,
    /// A 2xx only creates an order: what it took is held until it is known whether the order was paid.
    Later,
}

/// A route found for a request.
#[derive(Clone, Copy, Debug)]
pub struct RouteMatch<'t> {
    /// Which route.
    pub index: RouteIndex,
    /// The path's parameter as on the wire, where the route has one.
    pub parameter: Option<&'t str>,
}

/// No route takes the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No route has the path.
    #[error("no route has this path")]
    Unknown,
    /// The path has a route, the method none.
    #[error("no route on this path takes this method")]
    Method,
}

/// The route table is not usable.
#[derive(Debug, thiserror::Error)]
pub enum RoutesInvalid {
    /// The data does not have the form of a route table.
    #[error("the route table is not of the expected form: {0}")]
    Form(#[from] serde_json::Error),
    /// A route contradicts itself, another, or what the gate can do.
    #[error("route `{id}`: {problem}")]
    Route {
        /// The route.
        id: String,
        /// What is wrong and what would be right.
        problem: &'static str,
    },
}

impl Routes {
    /// Reads a route table from its JSON form.
    ///
    /// # Errors
    /// [`RoutesInvalid`] names the route and what to change.
    pub fn from_json(text: &str) -> Result<Self, RoutesInvalid> {
        let document: Document = serde_json::from_str(text)?;
        let mut table = Self { routes: Vec::new(), fixed: HashMap::default(), patterns: Vec::new() };
        let mut ids = HashSet::new();
        for entry in document.routes {
            let id = entry.id.clone();
            let invalid = |problem| RoutesInvalid::Route { id: id.clone(), problem };
            if !ids.insert(entry.id.clone()) {
                return Err(invalid("the id occurs twice"));
            }
            table.add(entry).map_err(invalid)?;
        }
        Ok(table)
    }

    /// Returns the default table: the direct routes of WeChat Pay, API v3 and v2.
    ///
    /// # Errors
    /// None in practice: the table is part of the program and a test reads it.
    pub fn standard() -> Result<Self, RoutesInvalid> {
        Self::from_json(include_str!("routes.json"))
    }

    /// Finds the route of a request by its method and the raw path. Nothing is decoded, so `//` or `%2F` matches nothing.
    ///
    /// # Errors
    /// [`RouteError`] where no route takes the request.
    pub fn find<'t>(&self, method: &str, path: &'t str) -> Result<RouteMatch<'t>, RouteError> {
        let mut known = false;
        if let Some(methods) = self.fixed.get(path) {
            known = true;
            if let Some((_, index)) = methods.iter().find(|(name, _)| name == method) {
                return Ok(RouteMatch { index: *index, parameter: None });
            }
        }
        for pattern in &self.patterns {
            if let Some(parameter) = pattern.parameter(path) {
                known = true;
                if pattern.method == method {
                    return Ok(RouteMatch { index: pattern.index, parameter: Some(parameter) });
                }
            }
        }
        Err(if known { RouteError::Method } else { RouteError::Unknown })
    }

    /// Returns a route that [`Routes::find`] of this table found.
    pub fn route(&self, index: RouteIndex) -> Option<&Route> {
        self.routes.get(usize::from(index.0))
    }

    /// Returns all routes.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// Sets how a route demands the API certificate; `false` where no route has the id.
    pub fn demand(&mut self, id: &str, demand: CertificateDemand) -> bool {
        let route = self.routes.iter_mut().find(|route| route.id == id);
        route.map(|route| route.certificate = demand).is_some()
    }

    /// Tells whether the route of this id can demand the certificate so: where a secret signs, none vouches for it.
    pub fn can_demand(&self, id: &str, demand: CertificateDemand) -> bool {
        let route = self.routes.iter().find(|route| route.id == id);
        route.is_none_or(|route| entry::can_demand(&*route.scheme, demand))
    }

    fn add(&mut self, entry: Entry) -> Result<(), &'static str> {
        let index =
            u16::try_from(self.routes.len()).map(RouteIndex).map_err(|_| "there are more than 65,535 routes")?;
        let Entry { method, path, .. } = &entry;
        match path.split_once('{') {
            None => {
                let methods = self.fixed.entry(path.clone()).or_default();
                if methods.iter().any(|(name, _)| name == method) {
                    return Err("another route has the same method and path");
                }
                methods.push((method.clone(), index));
            }
            Some((prefix, rest)) => {
                let (_, suffix) = rest.split_once('}').ok_or("the path's `{` has no `}`")?;
                if suffix.contains('{') {
                    return Err("a path has at most one parameter");
                }
                let (method, prefix, suffix) = (method.clone(), prefix.to_owned(), suffix.to_owned());
                self.patterns.push(Pattern { method, prefix, suffix, index });
            }
        }
        self.routes.push(entry.into_route()?);
        Ok(())
    }
}

#[derive(Debug)]
struct Pattern {
    method: String,
    prefix: String,
    suffix: String,
    index: RouteIndex,
}

impl Pattern {
    fn parameter<'t>(&self, path: &'t str) -> Option<&'t str> {
        let parameter = path.strip_prefix(self.prefix.as_str())?.strip_suffix(self.suffix.as_str())?;
        (!parameter.is_empty() && !parameter.contains('/')).then_some(parameter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(routes: &Routes, method: &str, path: &str) -> Result<(String, Option<String>), RouteError> {
        let found = routes.find(method, path)?;
        let route = routes.route(found.index).expect("its own index");
        Ok((route.id.clone(), found.parameter.map(str::to_owned)))
    }

    #[test]
    fn the_standard_table_covers_all_seven_interfaces() {
        let routes = Routes::standard().expect("standard table");
        for interface in Interface::ALL {
            assert!(routes.iter().any(|route| route.interfaces.contains(interface)), "{interface}");
        }
    }

    #[test]
    fn a_path_is_matched_as_on_the_wire() {
        let routes = Routes::standard().expect("standard table");
        let order = "/v3/pay/transactions/out-trade-no/T1%7C";
        assert_eq!(found(&routes, "GET", order), Ok(("v3.query.out".into(), Some("T1%7C".into()))));
        assert_eq!(found(&routes, "POST", &format!("{order}/close")), Ok(("v3.close".into(), Some("T1%7C".into()))));
        assert_eq!(found(&routes, "POST", "/v3/pay/transactions/jsapi"), Ok(("v3.jsapi".into(), None)));
        for unknown in
            ["/v3//pay/transactions/jsapi", "/v3/pay/transactions/jsapi/", "/v3/pay/transactions%2Fjsapi", "/", ""]
        {
            assert_eq!(found(&routes, "POST", unknown), Err(RouteError::Unknown), "{unknown}");
        }
        assert_eq!(found(&routes, "GET", "/v3/pay/transactions/out-trade-no//"), Err(RouteError::Unknown));
    }

    #[test]
    fn a_known_path_with_another_method_is_told_apart() {
        let routes = Routes::standard().expect("standard table");
        assert_eq!(found(&routes, "GET", "/v3/pay/transactions/jsapi"), Err(RouteError::Method));
        assert_eq!(found(&routes, "post", "/v3/pay/transactions/jsapi"), Err(RouteError::Method));
    }

    #[test]
    fn a_table_that_contradicts_itself_is_refused() {
        let route = r#"{"id":"a","scheme":"wechatpay-v3","operation":"query","method":"GET","path":"/a","certificate":"none","settle":"none"}"#;
        let pay = route.replace("query", "pay");
        let v2 = route.replace("v3", "v2").replace("\"path\"", "\"merchant\":\"/mch_id\",\"path\"");
        let variants =
            |of: &str| route.replace("\"path\"", &format!("\"variants\":{{\"at\":\"/t\",\"of\":[{of}]}},\"path\""));
        let variant = r#"{"id":"a.b","is":"B","interfaces":["app"]}"#;
        let other = route.replace("\"a\"", "\"b\"");
        let scheme = route.replace("wechatpay-v3", "x");
        for (routes, problem) in [
            (format!("{route},{route}"), "the id occurs twice"),
            (format!("{route},{other}"), "another route has the same method and path"),
            (pay, "a route that pays names its amount and its order number"),
            (scheme, "the scheme is not one that the gate verifies"),
            (route.replace("\"/a\"", "\"/{a}/{b}\""), "a path has at most one parameter"),
            (v2.replace("\"/mch_id\"", "\"query:mch_id\""), "a body that is flat XML has no"),
            (v2.replace("\"/mch_id\"", "\"/mch/id\""), "a body that is flat XML has no"),
            (v2.replace("\"merchant\":\"/mch_id\",", ""), "names where the body says who signed"),
            (v2.replace("\"none\",\"settle", "\"signature\",\"settle"), "no certificate vouches for a secret"),
            (route.replace("\"path\"", "\"hmac_only\":true,\"path\""), "only where a secret signs"),
            (variants(""), "has at least one variant"),
            (variants(&format!("{variant},{variant}")), "two variants have the same value"),
            (
                variants(variant).replace("\"path\"", "\"interfaces\":[\"app\"],\"path\""),
                "its variants name its interfaces",
            ),
        ] {
            let error = Routes::from_json(&format!("{{\"routes\":[{routes}]}}")).expect_err(problem);
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}
