//! Routes are data: which method and path mean which operation, and where in the request the decision finds its facts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde::Deserialize;

use super::answer::{AnswerEntry, AnswerSpec};
use crate::request::json::Wanted;
use crate::signature::{Scheme, wechatpay_v3::WechatPayV3};
use crate::types::{Interface, Operation};

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
    /// The platform's own id of the payment that is paid back.
    pub original_id: Option<usize>,
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

    /// Returns the default table: the direct v3 routes of WeChat Pay.
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

#[derive(Deserialize)]
struct Document {
    routes: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    scheme: String,
    operation: Operation,
    method: String,
    path: String,
    #[serde(default)]
    interfaces: Vec<Interface>,
    merchant: Option<String>,
    amount: Option<String>,
    currency: Option<String>,
    payer: Option<String>,
    appid: Option<String>,
    order: Option<String>,
    expires: Option<String>,
    original: Option<String>,
    original_id: Option<String>,
    answer: Option<AnswerEntry>,
    #[serde(default)]
    orders: OrderKind,
    certificate: CertificateDemand,
    settle: Settle,
    #[serde(default)]
    agent_required: bool,
}

impl Entry {
    fn into_route(self) -> Result<Route, &'static str> {
        let scheme: Arc<dyn Scheme> = match self.scheme.as_str() {
            "wechatpay-v3" => Arc::new(WechatPayV3::new()),
            _ => return Err("the scheme is not one that the gate verifies: `wechatpay-v3`"),
        };
        if self.operation == Operation::Pay && (self.amount.is_none() || self.order.is_none()) {
            return Err("a route that pays names its amount and its order number");
        }
        let mut wanted = Vec::new();
        let pointers = Pointers {
            merchant: place(self.merchant, &mut wanted)?,
            amount: member(self.amount, &mut wanted)?,
            currency: member(self.currency, &mut wanted)?,
            payer: member(self.payer, &mut wanted)?,
            appid: member(self.appid, &mut wanted)?,
            order: place(self.order, &mut wanted)?,
            expires: member(self.expires, &mut wanted)?,
            original: member(self.original, &mut wanted)?,
            original_id: member(self.original_id, &mut wanted)?,
            wanted: {
                let pointers: Vec<&str> = wanted.iter().map(String::as_str).collect();
                Wanted::new(&pointers).map_err(|_| "a pointer is not a JSON Pointer that can be read")?
            },
            names: wanted,
        };
        let answer = self.answer.map(AnswerEntry::into_spec).transpose()?.map(Arc::new);
        let Self { id, operation, interfaces, certificate, settle, agent_required, orders, .. } = self;
        Ok(Route { id, scheme, operation, interfaces, certificate, settle, agent_required, pointers, answer, orders })
    }
}

/// Notes a body pointer as wanted and returns its position.
fn member(pointer: Option<String>, wanted: &mut Vec<String>) -> Result<Option<usize>, &'static str> {
    match place(pointer, wanted)? {
        Place::Nowhere => Ok(None),
        Place::Body(position) => Ok(Some(position)),
        Place::Path | Place::Query(_) => Err("this fact is read from the body: a JSON Pointer such as /amount/total"),
    }
}

fn place(text: Option<String>, wanted: &mut Vec<String>) -> Result<Place, &'static str> {
    let Some(text) = text else { return Ok(Place::Nowhere) };
    if text.starts_with("path:") {
        return Ok(Place::Path);
    }
    if let Some(name) = text.strip_prefix("query:") {
        return Ok(Place::Query(name.to_owned()));
    }
    if !text.starts_with('/') {
        return Err("a place is a JSON Pointer, path:NAME or query:NAME");
    }
    wanted.push(text);
    Ok(Place::Body(wanted.len() - 1))
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
        let other = route.replace("\"a\"", "\"b\"");
        let scheme = route.replace("wechatpay-v3", "x");
        for (routes, problem) in [
            (format!("{route},{route}"), "the id occurs twice"),
            (format!("{route},{other}"), "another route has the same method and path"),
            (pay, "a route that pays names its amount and its order number"),
            (scheme, "the scheme is not one that the gate verifies"),
            (route.replace("\"/a\"", "\"/{a}/{b}\""), "a path has at most one parameter"),
        ] {
            let error = Routes::from_json(&format!("{{\"routes\":[{routes}]}}")).expect_err(problem);
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}
