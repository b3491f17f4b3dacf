//! What an authentic request says of itself: read from path, query, body and the headers of a trusted hop.

use std::borrow::Cow;
use std::str::FromStr;

use super::decision::{Detail, Refusal};
use crate::merchant::{Facts, Place, Route, Variant};
use crate::reason::Reason;
use crate::request::{self, Format, Found, Headers, NotOfType, Request, Trust};
use crate::types::{Channel, Fen, MerchantId, Operation};

/// The facts that stand in the request itself.
#[derive(Debug, Default)]
pub(super) struct Stated<'r> {
    pub amount: Option<Fen>,
    pub appid: Option<Cow<'r, str>>,
    pub openid: Option<Cow<'r, str>>,
    pub order: Option<Cow<'r, str>>,
    /// When the order can no longer be paid, in seconds since the epoch, and the name of the parameter that says so.
    pub expires_s: Option<(i64, &'r str)>,
    /// The number of the payment that a refund is of.
    pub original: Option<Cow<'r, str>>,
    /// Whether a refund, close or reversal names a payment by the platform's own id.
    pub original_by_id: bool,
    /// Which of the things that the route may mean it asks for.
    pub variant: Option<&'r Variant>,
}

/// A parameter at fault: the reason and the name of the parameter.
pub(super) type Fault = (Reason, String);

impl<'r> Stated<'r> {
    /// Reads the facts that the route names, and holds the merchant in the request against the one that signed.
    pub fn read(
        route: &'r Route,
        parameter: Option<&'r str>,
        request: &Request<'r>,
        signer: &MerchantId,
    ) -> Result<Self, Fault> {
        // Borrowed from where it was read: it is too large to be moved about.
        let read = (!route.pointers.names.is_empty())
            .then(|| request::read(route.scheme.format(), request.body, &route.pointers.wanted));
        if read.is_some() && !is_plain_utf8(request.headers) {
            return Err((Reason::BodyMalformed, "content-type".to_owned()));
        }
        let found = match &read {
            None => Body(None),
            Some(Ok(found)) => Body(Some(found)),
            Some(Err(error)) => return Err((Reason::BodyMalformed, error.to_string())),
        };
        let texts = Texts { route, parameter, request, found: &found };
        texts.check_merchant(signer)?;
        // A parameter that could be read as another path is refused even where no fact is read from it.
        texts.at(&Place::Path, "path parameter")?.map(checked_number).transpose()?;
        let paying = matches!(route.operation, Operation::Pay | Operation::Refund);
        let order = texts.at(&route.pointers.order, "order number")?.map(checked_number).transpose()?;
        if paying && order.is_none() {
            return Err((Reason::ParameterMissing, texts.name(&route.pointers.order, "order number")));
        }
        let member = |position: Option<usize>| position.map_or(Ok(None), |position| found.text(route, position));
        for position in &route.pointers.absent {
            if found.text(route, *position)?.is_some() {
                return Err((Reason::ParameterInvalid, name_of(route, Some(*position))));
            }
        }
        let variant = found.variant(route)?;
        if member(route.pointers.currency)?.is_some_and(|currency| currency != "CNY") {
            return Err((Reason::CurrencyUnsupported, name_of(route, route.pointers.currency)));
        }
        let amount = found.amount(route)?;
        let appid = member(route.pointers.appid)?;
        if route.operation == Operation::Pay && route.pointers.appid.is_some() && appid.is_none() {
            return Err((Reason::ParameterMissing, name_of(route, route.pointers.appid)));
        }
        let expires_s = member(route.pointers.expires)?.map(|text| instant_s(route, &text)).transpose()?;
        let original = member(route.pointers.original)?;
        let original_by_id = member(route.pointers.original_id)?.is_some();
        let pays = variant.is_none_or(|variant| variant.payer);
        let openid = member(route.pointers.payer)?.filter(|_| pays);
        Ok(Self { amount, appid, openid, order, expires_s, original, original_by_id, variant })
    }

    /// Adds what a trusted hop states in headers.
    pub fn facts<'a>(&'a self, request: &Request<'a>) -> Result<Facts<'a>, Fault> {
        let (appid, openid) = (self.appid.as_deref(), self.openid.as_deref());
        let interfaces = self.variant.map(|variant| &*variant.interfaces);
        let mut facts = Facts { appid, openid, interfaces, ..Facts::default() };
        if request.trust == Trust::TrustedHop {
            facts.customer = header(request.headers, "tollgate-customer")?;
            facts.channel = stated(request.headers, "tollgate-channel")?;
            facts.instrument = stated(request.headers, "tollgate-instrument")?;
            facts.account_class = stated(request.headers, "tollgate-account-class")?;
            facts.code_grade = stated(request.headers, "tollgate-code-grade")?;
            facts.authentication = stated(request.headers, "tollgate-authentication")?;
            facts.scenario = stated(request.headers, "tollgate-scenario")?;
            let contradiction = |channel: Channel| facts.instrument.is_some_and(|one| !channel.draws_on(one));
            if facts.channel.is_some_and(contradiction) {
                return Err((Reason::ParameterInvalid, "tollgate-instrument".to_owned()));
            }
        }
        Ok(facts)
    }
}

/// Makes the refusal of a parameter at fault.
pub(super) fn refusal((reason, name): Fault, signer: MerchantId) -> Refusal {
    Refusal { reason, detail: Detail::Parameter { name }, authentic: Some(signer) }
}

struct Texts<'t, 'r> {
    route: &'t Route,
    parameter: Option<&'r str>,
    request: &'t Request<'r>,
    found: &'t Body<'t, 'r>,
}

impl<'r> Texts<'_, 'r> {
    fn at(&self, place: &Place, role: &str) -> Result<Option<Cow<'r, str>>, Fault> {
        let invalid = |_| (Reason::ParameterInvalid, self.name(place, role));
        match place {
            Place::Nowhere => Ok(None),
            Place::Body(position) => self.found.text(self.route, *position),
            Place::Path => self.parameter.map(decode).transpose().map_err(invalid),
            Place::Query(name) => {
                let value = self.request.parameter(name).map_err(|_| (Reason::ParameterInvalid, name.clone()))?;
                value.map(decode).transpose().map_err(invalid)
            }
        }
    }

    fn check_merchant(&self, signer: &MerchantId) -> Result<(), Fault> {
        let place = &self.route.pointers.merchant;
        if *place == Place::Nowhere {
            return Ok(());
        }
        match self.at(place, "merchant")? {
            None => Err((Reason::ParameterMissing, self.name(place, "merchant"))),
            Some(named) if named == signer.as_str() => Ok(()),
            Some(_) => Err((Reason::MerchantMismatch, self.name(place, "merchant"))),
        }
    }

    fn name(&self, place: &Place, role: &str) -> String {
        match place {
            Place::Body(position) => name_of(self.route, Some(*position)),
            Place::Query(name) => name.clone(),
            Place::Path | Place::Nowhere => role.to_owned(),
        }
    }
}

/// The members of the body that the route wants; empty where it wants none.
struct Body<'t, 'r>(Option<&'t Found<'r>>);

impl<'r> Body<'_, 'r> {
    fn text(&self, route: &Route, position: usize) -> Result<Option<Cow<'r, str>>, Fault> {
        let Some(found) = &self.0 else { return Ok(None) };
        found.string(position).map_err(|_: NotOfType| (Reason::ParameterInvalid, name_of(route, Some(position))))
    }

    /// Finds which of the things that the route may mean is asked for.
    fn variant<'t>(&self, route: &'t Route) -> Result<Option<&'t Variant>, Fault> {
        let Some(variants) = &route.variants else { return Ok(None) };
        let fault = |reason| (reason, name_of(route, Some(variants.at)));
        let value = self.text(route, variants.at)?.ok_or_else(|| fault(Reason::ParameterMissing))?;
        let variant = variants.of.iter().find(|variant| variant.is == value);
        variant.map(Some).ok_or_else(|| fault(Reason::ParameterInvalid))
    }

    fn amount(&self, route: &Route) -> Result<Option<Fen>, Fault> {
        let (Some(found), Some(position)) = (&self.0, route.pointers.amount) else { return Ok(None) };
        let fault = |reason| (reason, name_of(route, Some(position)));
        let fen = found.integer(position).map_err(|_: NotOfType| fault(Reason::ParameterInvalid))?;
        let fen = fen.ok_or_else(|| fault(Reason::ParameterMissing))?;
        Fen::new(fen).map(Some).ok_or_else(|| fault(Reason::ParameterInvalid))
    }
}

/// Tells whether an upstream that honours the headers reads the same text as we do: UTF-8 and not compressed.
fn is_plain_utf8(headers: &dyn Headers) -> bool {
    let mut plain = true;
    headers.each("content-type", &mut |value| {
        let parameters = value.split(|byte| *byte == b';').skip(1).map(<[u8]>::trim_ascii);
        let charset = parameters.filter_map(|parameter| {
            parameter.split_at_checked(8).filter(|(name, _)| name.eq_ignore_ascii_case(b"charset="))
        });
        plain &= charset
            .into_iter()
            .all(|(_, name)| name.eq_ignore_ascii_case(b"utf-8") || name.eq_ignore_ascii_case(b"\"utf-8\""));
    });
    headers.each("content-encoding", &mut |value| plain &= value.eq_ignore_ascii_case(b"identity"));
    plain
}

fn name_of(route: &Route, position: Option<usize>) -> String {
    position.and_then(|position| route.pointers.names.get(position)).cloned().unwrap_or_default()
}

/// Reads an instant, in whole seconds since the epoch, and names its parameter: RFC 3339 in JSON, in XML as API v2 has it.
fn instant_s<'t>(route: &'t Route, text: &str) -> Result<(i64, &'t str), Fault> {
    let position = route.pointers.expires;
    let name = position.and_then(|position| route.pointers.names.get(position)).map_or("", String::as_str);
    let instant = match route.scheme.format() {
        Format::Json => text.parse::<jiff::Timestamp>().ok(),
        Format::Xml => compact_instant(text),
    };
    instant.map(|instant| (instant.as_second(), name)).ok_or_else(|| (Reason::ParameterInvalid, name.to_owned()))
}

/// Reads an instant of API v2: the 14 digits of year, month, day, hour, minute and second in Beijing.
fn compact_instant(text: &str) -> Option<jiff::Timestamp> {
    if text.len() != COMPACT_DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let local = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    BEIJING.to_timestamp(local).ok()
}

/// Order numbers of all namespaces: 1 to 64 of `[0-9A-Za-z_|*@-]`.
fn checked_number(number: Cow<'_, str>) -> Result<Cow<'_, str>, Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-|*@".contains(&byte);
    if (1..=ORDER_NUMBER_BYTES_MAX).contains(&number.len()) && number.bytes().all(plain) {
        Ok(number)
    } else {
        Err((Reason::ParameterInvalid, "order number".to_owned()))
    }
}

/// Undoes percent-encoding (RFC 3986, section 2.1). Only for matching: what is forwarded stays as received.
fn decode(text: &str) -> Result<Cow<'_, str>, Invalid> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or(Invalid);
            let value = digit()? * 16 + digit()?;
            decoded.push(u8::try_from(value).map_err(|_| Invalid)?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| Invalid)
}

#[derive(Debug)]
struct Invalid;

fn header<'a>(headers: &'a dyn Headers, name: &str) -> Result<Option<&'a str>, Fault> {
    let fault = || (Reason::ParameterInvalid, name.to_owned());
    let value = headers.only(name).map_err(|_| fault())?;
    let Some(value) = value else { return Ok(None) };
    let text = std::str::from_utf8(value).map_err(|_| fault())?;
    if (1..=FACT_BYTES_MAX).contains(&text.len()) { Ok(Some(text)) } else { Err(fault()) }
}

fn stated<T: FromStr>(headers: &dyn Headers, name: &str) -> Result<Option<T>, Fault> {
    let text = header(headers, name)?;
    text.map(str::parse).transpose().map_err(|_| (Reason::ParameterInvalid, name.to_owned()))
}

/// Digits of an instant of API v2.
const COMPACT_DIGITS: usize = 14;

/// The time that API v2 counts by, all year: UTC+8.
const BEIJING: jiff::tz::Offset = jiff::tz::Offset::constant(8);

/// Longest order number, in bytes.
const ORDER_NUMBER_BYTES_MAX: usize = 64;

/// Longest fact in a header, in bytes.
const FACT_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone_once_and_strictly() {
        assert_eq!(decode("T1%7C%2a").expect("encoded"), "T1|*");
        assert_eq!(decode("%257C").expect("encoded"), "%7C");
        for bad in ["%", "%7", "%7G", "%+1", "%ff"] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_body_that_an_upstream_could_decode_otherwise_is_not_plain() {
        let plain = |name, value: &'static str| is_plain_utf8(&[(name, value.as_bytes())]);
        for value in ["application/json", "application/json; charset=utf-8", "application/json;Charset=\"UTF-8\""] {
            assert!(plain("content-type", value), "{value}");
        }
        assert!(!plain("content-type", "application/json; charset=utf-7"));
        assert!(!plain("content-type", "application/json; a=b; charset=gbk"));
        assert!(!plain("content-encoding", "gzip") && plain("content-encoding", "identity"));
    }

    #[test]
    fn an_instant_of_api_v2_is_14_digits_of_beijing() {
        let instant = |text: &str| compact_instant(text).map(|instant| instant.to_string());
        assert_eq!(instant("20261122120000").as_deref(), Some("2026-11-22T04:00:00Z"));
        assert_eq!(instant("20270101000000").as_deref(), Some("2026-12-31T16:00:00Z"));
        for bad in [
            "2026112212000",
            "202611221200000",
            "20261322120000",
            "20260230000000",
            "2026-11-22T12:0",
            "+2026112212000",
        ] {
            assert_eq!(instant(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_order_number_has_a_length_and_an_alphabet() {
        assert!(checked_number(Cow::Borrowed("T_-|*@9")).is_ok());
        for bad in ["", "a b", "a/b", "é", &"1".repeat(65)] {
            assert!(checked_number(Cow::Borrowed(bad)).is_err(), "{bad}");
        }
    }
}
