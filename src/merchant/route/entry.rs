//! The form of a route in the table, and its check.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;

use super::super::answer::{AnswerEntry, AnswerSpec};
use super::{CertificateDemand, OrderKind, Place, Pointers, Route, Settle, Variant, Variants};
use crate::request::json::Wanted;
use crate::signature::Scheme;
use crate::signature::wechatpay_v2::{self, WechatPayV2};
use crate::signature::wechatpay_v3::WechatPayV3;
use crate::types::{Interface, Operation};

#[derive(Deserialize)]
pub(super) struct Document {
    pub routes: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub id: String,
    scheme: String,
    operation: Operation,
    pub method: String,
    pub path: String,
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
    #[serde(default)]
    absent: Vec<String>,
    variants: Option<VariantsEntry>,
    #[serde(default)]
    hmac_only: bool,
    answer: Option<AnswerEntry>,
    #[serde(default)]
    orders: OrderKind,
    certificate: CertificateDemand,
    settle: Settle,
    #[serde(default)]
    agent_required: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VariantsEntry {
    at: String,
    of: Vec<Variant>,
}

impl Entry {
    /// Checks a route by itself.
    ///
    /// # Errors
    /// What to change.
    pub fn into_route(self) -> Result<Route, &'static str> {
        if self.operation == Operation::Pay && (self.amount.is_none() || self.order.is_none()) {
            return Err("a route that pays names its amount and its order number");
        }
        let mut wanted = Vec::new();
        let merchant_name = self.merchant.clone();
        let variants = self.variants.map(|entry| variants(entry, &self.interfaces, &mut wanted)).transpose()?;
        let absent = self.absent.into_iter().map(|pointer| required_member(pointer, &mut wanted));
        let absent = absent.collect::<Result<Vec<_>, _>>()?;
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
            absent,
            wanted: {
                let pointers: Vec<&str> = wanted.iter().map(String::as_str).collect();
                Wanted::new(&pointers).map_err(|_| "a pointer is not a JSON Pointer that can be read")?
            },
            names: wanted,
        };
        let scheme: Arc<dyn Scheme> = match self.scheme.as_str() {
            "wechatpay-v3" if self.hmac_only => return Err("`hmac_only` is for routes only where a secret signs"),
            "wechatpay-v3" => Arc::new(WechatPayV3::new()),
            wechatpay_v2::SCHEME => Arc::new(flat(merchant_name.as_deref(), &pointers, self.hmac_only)?),
            _ => return Err("the scheme is not one that the gate verifies: `wechatpay-v3` or `wechatpay-v2`"),
        };
        if !can_demand(&*scheme, self.certificate) {
            return Err("no certificate vouches for a secret: the route demands `none` or `mtls`");
        }
        let answer = AnswerSpec::new(self.answer, scheme.format())?.map(Arc::new);
        let Self { id, operation, mut interfaces, certificate, settle, agent_required, orders, .. } = self;
        if let Some(Variants { of, .. }) = &variants {
            interfaces.extend(of.iter().flat_map(|variant| &variant.interfaces));
        }
        Ok(Route {
            id,
            scheme,
            operation,
            interfaces,
            certificate,
            settle,
            agent_required,
            pointers,
            answer,
            orders,
            variants,
        })
    }
}

/// Tells whether a route that is signed so can demand the certificate so.
pub(super) fn can_demand(scheme: &dyn Scheme, demand: CertificateDemand) -> bool {
    scheme.name() != wechatpay_v2::SCHEME || demand != CertificateDemand::Signature
}

/// Makes the scheme of a route whose body is flat XML with the signature in it.
fn flat(merchant: Option<&str>, pointers: &Pointers, hmac_only: bool) -> Result<WechatPayV2, &'static str> {
    let names = pointers.names.iter().map(|pointer| pointer.strip_prefix('/').filter(|name| !name.contains('/')));
    let names: Option<Vec<String>> = names.map(|name| name.map(str::to_owned)).collect();
    let in_body = |place: &Place| matches!(place, Place::Nowhere | Place::Body(_));
    match names.filter(|_| in_body(&pointers.merchant) && in_body(&pointers.order)) {
        None => Err("a body that is flat XML has no members but such as /total_fee, and there all facts are read"),
        Some(names) => {
            let merchant = merchant.and_then(|pointer| pointer.strip_prefix('/'));
            let merchant = merchant.ok_or("a route that a secret signs names where the body says who signed")?;
            Ok(WechatPayV2::new(merchant, names, hmac_only))
        }
    }
}

/// Checks the variants of a route.
fn variants(
    entry: VariantsEntry,
    interfaces: &[Interface],
    wanted: &mut Vec<String>,
) -> Result<Variants, &'static str> {
    let VariantsEntry { at, of } = entry;
    if !interfaces.is_empty() {
        return Err("where a route has variants, its variants name its interfaces");
    }
    let values: HashSet<&str> = of.iter().map(|variant| &*variant.is).collect();
    if values.len() < of.len() {
        return Err("two variants have the same value");
    }
    if of.is_empty() {
        return Err("`variants` has at least one variant");
    }
    Ok(Variants { at: required_member(at, wanted)?, of })
}

/// Notes a body pointer as wanted and returns its position.
fn required_member(pointer: String, wanted: &mut Vec<String>) -> Result<usize, &'static str> {
    member(Some(pointer), wanted)?.ok_or(NOT_IN_BODY)
}

/// Notes a body pointer as wanted and returns its position.
fn member(pointer: Option<String>, wanted: &mut Vec<String>) -> Result<Option<usize>, &'static str> {
    match place(pointer, wanted)? {
        Place::Nowhere => Ok(None),
        Place::Body(position) => Ok(Some(position)),
        Place::Path | Place::Query(_) => Err(NOT_IN_BODY),
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

const NOT_IN_BODY: &str = "this fact is read from the body: a JSON Pointer such as /amount/total";
