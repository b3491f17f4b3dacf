//! The way of one request: head, route, body, decision, forward or answer. Read [`handle`] from the top.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{ACCEPT_LANGUAGE, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;

use super::answers::{JSON, SIGNATURE_HEADERS, response};
use super::body::{Grant, Source};
use super::decider::{self, Ask};
use super::options::Mode;
use super::peer::Peer;
use super::respond::{self, Language};
use super::station::Station;
use super::upstream::{Answered, Forward};
use super::{body, head, platform};
use crate::admission::{Admission, Decision, Detail, Outcome, Refusal};
use crate::merchant::Route;
use crate::metrics::Stage;
use crate::reason::Reason;
use crate::request::{Format, Request, Trust};
use crate::signature::wechatpay_v3;
use crate::types::{Channel, MerchantId, Operation};

/// What is known of a request before it is handled.
#[derive(Debug)]
pub(super) struct Begun {
    /// What is wrong with the form of its head.
    pub ambiguous: Option<Reason>,
    /// What it holds beside its body and takes of the budget of bodies, in bytes.
    pub held_bytes: usize,
    /// In which version it came.
    pub version: Version,
}

/// A version of HTTP, as far as requests that come by it are handled differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// 1.0 and 1.1: a request that is not read to its end ends its connection.
    Http1,
    /// 2: it ends its stream.
    Http2,
}

/// Handles one request to its answer. Never fails: whatever goes wrong has an answer.
pub(super) async fn handle(
    station: Rc<Station>,
    peer: Rc<Peer>,
    request: http::Request<Incoming>,
    with: Begun,
) -> Response<Full<Bytes>> {
    let began = Instant::now();
    station.metrics.request();
    let (head, incoming) = request.into_parts();
    let language = Language::accepted(head.headers.get(ACCEPT_LANGUAGE).map(HeaderValue::as_bytes));
    let version = with.version;
    let response = match receive(&station, &peer, head, incoming, with).await {
        Err(Unreceived { refusal, close, format }) => {
            station.metrics.refused(refusal.reason);
            let detail = plain_detail(&refusal);
            let refused = match (format, peer.mode) {
                (Format::Json, _) => respond::refusal(refusal.reason, &detail, language),
                (Format::Xml, Mode::Check) => respond::v2::checked(refusal.reason, &detail, language),
                (Format::Xml, Mode::Proxy) => respond::v2::refusal(refusal.reason, &detail, language, None),
            };
            let mut response = station.answers.plain(refused);
            if close && version == Version::Http1 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
        Ok(ask) => {
            let ask = Rc::new(ask);
            match station.decider.decide(Rc::clone(&ask)).await {
                Decision::Admitted(admission) => {
                    station.metrics.admitted(admission.duplicate);
                    if !admission.shadowed.is_empty() {
                        station.metrics.shadow_refused(admission.shadowed.len());
                    }
                    admission.skew_ms.into_iter().for_each(|skew_ms| station.metrics.skew(skew_ms));
                    admitted(&station, &peer, &ask, admission, language).await
                }
                Decision::Refused(refusal) => refused(&station, &peer, &ask, &refusal, language).await,
            }
        }
    };
    station.metrics.stage(Stage::Total, began.elapsed());
    response
}

/// A request that never came to a decision.
struct Unreceived {
    refusal: Refusal,
    /// Whether what follows on the connection cannot be trusted to be a request.
    close: bool,
    /// How bodies on its route are written.
    format: Format,
}

impl Unreceived {
    fn close(reason: Reason, format: Format) -> Self {
        Self { refusal: Refusal { reason, detail: Detail::None, authentic: None }, close: true, format }
    }
}

/// Refuses what the head alone condemns before a byte of the body is held, then reads the body.
async fn receive(
    station: &Station,
    peer: &Peer,
    head: Parts,
    incoming: Incoming,
    with: Begun,
) -> Result<Ask, Unreceived> {
    let checked = with.ambiguous.map_or_else(|| head::check(&head), Err);
    checked.map_err(|reason| Unreceived::close(reason, Format::Json))?;
    let client_certificate = peer.certificate(&head.headers);
    let client_certificate = client_certificate.map_err(|reason| Unreceived::close(reason, Format::Json))?;
    let bodiless = Request {
        method: head.method.as_str(),
        target: decider::target(&head),
        headers: &head.headers,
        body: &[],
        trust: peer.trust,
        peer: peer.ip,
        client_certificate: None,
        answer_key_known: true,
    };
    let now = station.gate.clock().now();
    let admissible = station.gate.admission().check_head(&bodiless, now);
    let format = || route_of(station, &head, |route| route.scheme.format()).unwrap_or(Format::Json);
    admissible.map_err(|refusal| Unreceived { refusal, close: false, format: format() })?;
    let bounds = station.gate.bounds();
    let began = Instant::now();
    let mut grant = Grant::nothing(station.gate.budget());
    let source = match with.version {
        Version::Http1 => Source::Connection,
        Version::Http2 => Source::Stream,
    };
    let read = match grant.grow(with.held_bytes) {
        Ok(()) => body::read(incoming, bounds.body_bytes_max, &mut grant, bounds.body_timeout, source).await,
        Err(reason) => Err(reason),
    };
    let body = read.map_err(|reason| Unreceived::close(reason, format()))?;
    station.metrics.stage(Stage::Body, began.elapsed());
    let named = decider::answer_key(&head.headers);
    let answer_key_known = named.is_none() || station.gate.platform().choose(named, None).is_ok();
    Ok(Ask {
        trust: peer.trust,
        peer: peer.ip,
        client_certificate,
        withheld: Arc::clone(&peer.withheld),
        head,
        body,
        answer_key_known,
        _grant: grant,
    })
}

async fn admitted(
    station: &Rc<Station>,
    peer: &Peer,
    ask: &Rc<Ask>,
    admission: Admission,
    language: Language,
) -> Response<Full<Bytes>> {
    let merchant = admission.merchant;
    if peer.mode == Mode::Check {
        let verdict = verdict(&admission);
        // What the caller makes of the leave is not seen here: it is held until a settle call tells, or the hold ends.
        admission.settle(Outcome::Unknown);
        return station.answers.plain(verdict);
    }
    let answered = match admission.operation {
        Operation::Certificates => certificates(station, ask, &merchant),
        Operation::Echo => Ok(Local::ok(platform::echo_body(&ask.body))),
        Operation::Pay | Operation::Query | Operation::Close | Operation::Reverse | Operation::Refund => {
            forward(station, ask, admission).await
        }
    };
    match answered {
        Ok(Local { status, headers, body, signed: true }) => response(status, headers, body),
        Ok(Local { status, headers, body, signed: false }) => {
            station.answers.sign(ask, &merchant, status, headers, body, language).await
        }
        Err(reason) => {
            let refusal = Refusal { reason, detail: Detail::None, authentic: Some(merchant) };
            refused(station, peer, ask, &refusal, language).await
        }
    }
}

/// Looks at the route of a request. COLD.
fn route_of<T>(station: &Station, head: &Parts, look: impl FnOnce(&Route) -> T) -> Option<T> {
    let policy = station.gate.admission().policy();
    let found = policy.routes().find(head.method.as_str(), head.uri.path()).ok()?;
    policy.routes().route(found.index).map(look)
}

/// An answer that is ready but for its signature.
struct Local {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// Whether it carries a signature of the upstream's, or is of a kind that only the upstream signs.
    signed: bool,
}

impl Local {
    fn ok(body: Vec<u8>) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON)]);
        Self { status: StatusCode::OK, headers, body: body.into(), signed: false }
    }
}

fn certificates(station: &Station, ask: &Ask, merchant: &MerchantId) -> Result<Local, Reason> {
    let policy = station.gate.admission().policy();
    let key = policy.merchant(merchant).and_then(|merchant| merchant.apiv3_key);
    let key = key.ok_or(Reason::NoPlatformCertificate)?;
    let view = ask.view();
    let algorithm = view.parameter("algorithm_type").map_err(|_| Reason::ParameterInvalid)?;
    let now = station.gate.clock().now();
    let body =
        station.gate.platform().certificates_body(&key.0, &mut || station.answers.seal_nonce(), now, algorithm)?;
    Ok(Local::ok(body))
}

/// Forwards what was verified, byte for byte, and settles with the outcome, whether or not the caller is still there.
async fn forward(station: &Rc<Station>, ask: &Rc<Ask>, mut admission: Admission) -> Result<Local, Reason> {
    let message = message(ask, &admission)?;
    let format = admission.format;
    let task = {
        let (station, ask) = (Rc::clone(station), Rc::clone(ask));
        tokio::task::spawn_local(async move {
            let Some(upstream) = &station.upstream else { return Err(Reason::UpstreamUnreachable) };
            let began = Instant::now();
            admission.sent();
            let result = upstream.forward(message).await;
            station.metrics.stage(Stage::Upstream, began.elapsed());
            drop(ask);
            let given_back = match &result {
                Ok(answered) => admission.answered(answered.status.as_u16(), &answered.body),
                Err(failed) => admission.end(if failed.sent { Outcome::Unknown } else { Outcome::Refused }),
            };
            if let Some(position) = given_back {
                // Who is told of a refusal may come again at once: by then the number is free.
                station.decider.safe(position).await;
                // The record is safe; what it gives back may not have been given back yet.
                station.gate.admission().settle_ripe();
            }
            result.map_err(|failed| failed.reason)
        })
    };
    let Answered { status, headers, body } = task.await.map_err(|_| Reason::UpstreamBroken)??;
    let mut headers = head::returned(&headers);
    let signed = SIGNATURE_HEADERS.iter().all(|name| headers.contains_key(*name));
    if format == Format::Xml {
        // Its signature stands in the body, where whoever made the answer put it.
        return Ok(Local { status, headers, body, signed: true });
    }
    if !signed {
        // Part of a signature is none: a client would trip over the rest.
        SIGNATURE_HEADERS.iter().for_each(|name| drop(headers.remove(*name)));
    }
    Ok(Local { status, headers, body, signed })
}

fn message(ask: &Ask, admission: &Admission) -> Result<Forward, Reason> {
    let mut headers = head::forwarded(&ask.head.headers, ask.trust == Trust::TrustedHop, &ask.withheld);
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Reason::HeadInvalid);
    headers.insert(DECISION, value(&admission.id.to_string())?);
    headers.insert(MERCHANT, value(admission.merchant.as_str())?);
    for channel in excluded(admission) {
        headers.append(CHANNEL_EXCLUDED, value(channel.as_str())?);
    }
    let target: Uri = ask.target().parse().map_err(|_| Reason::HeadInvalid)?;
    Ok(Forward { method: ask.head.method.clone(), target, headers, body: ask.body.clone() })
}

/// Channels that an admitted payment must not take.
fn excluded(admission: &Admission) -> impl Iterator<Item = Channel> {
    let paying = admission.operation == Operation::Pay;
    Channel::ALL.iter().copied().filter(move |channel| paying && !admission.channels.contains(channel))
}

/// Answers a refusal in the protocol's own words.
async fn refused(
    station: &Rc<Station>,
    peer: &Peer,
    ask: &Ask,
    refusal: &Refusal,
    language: Language,
) -> Response<Full<Bytes>> {
    station.metrics.refused(refusal.reason);
    let format = route_of(station, &ask.head, |route| route.scheme.format()).unwrap_or(Format::Json);
    let mut answer = match (format, peer.mode) {
        (Format::Json, _) => respond::refusal(refusal.reason, &detail(refusal, ask), language),
        // Who only asks whether a request may pass is told by the status.
        (Format::Xml, Mode::Check) => respond::v2::checked(refusal.reason, &plain_detail(refusal), language),
        (Format::Xml, Mode::Proxy) => refused_in_xml(station, ask, refusal, language),
    };
    if let Detail::Limit { ends: Some(ends), .. } = refusal.detail {
        let wait_ms = ends.0.saturating_sub(station.gate.clock().now().0);
        answer.retry_after_s = u32::try_from(wait_ms.div_euclid(1000).saturating_add(1)).ok();
    }
    match refusal.authentic {
        Some(merchant) if answer.sign && peer.mode == Mode::Proxy && !station.gate.signer().is_busy() => {
            let local = station.answers.local(answer);
            station.answers.sign(ask, &merchant, local.0, local.1, local.2, language).await
        }
        Some(_) | None => station.answers.plain(answer),
    }
}

/// Answers a refusal as API v2 does: to who is known with the key that it signed with.
fn refused_in_xml(station: &Station, ask: &Ask, refusal: &Refusal, language: Language) -> respond::Answer {
    let view = ask.view();
    let extracted = route_of(station, &ask.head, |route| route.scheme.extract(&view).ok()).flatten();
    let policy = station.gate.admission().policy();
    let caller = refusal.authentic.and(extracted.as_ref()).and_then(|extracted| {
        let key = policy.merchant(&extracted.merchant)?.key_of(extracted)?;
        Some(respond::v2::Caller::read(&key.key, extracted.sign_type?, &ask.body, || station.answers.nonce()))
    });
    respond::v2::refusal(refusal.reason, &plain_detail(refusal), language, caller.as_ref())
}

fn detail<'a>(refusal: &'a Refusal, ask: &Ask) -> respond::Detail<'a> {
    match refusal.reason {
        Reason::MerchantUnknown | Reason::KeyUnknown | Reason::SignatureInvalid => {
            wechatpay_v3::sign_information(&ask.view()).map_or(respond::Detail::None, respond::Detail::Signature)
        }
        _ => plain_detail(refusal),
    }
}

fn plain_detail(refusal: &Refusal) -> respond::Detail<'_> {
    match &refusal.detail {
        Detail::None => respond::Detail::None,
        Detail::Parameter { name } => respond::Detail::Field { pointer: name, issue: refusal.reason.as_str() },
        Detail::Skew { skew_ms } => respond::Detail::Skew { skew_ms: *skew_ms },
        Detail::Limit { limit, window, ends } => respond::Detail::Limit { limit, window: *window, resets_at: *ends },
    }
}

/// Says in check mode that a request may pass.
fn verdict(admission: &Admission) -> respond::Answer {
    #[derive(serde::Serialize)]
    struct Verdict<'a> {
        decision: String,
        merchant: &'a str,
        duplicate: bool,
        /// What the payment must not take; only where something is excluded.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        channels_excluded: Vec<Channel>,
    }
    let Admission { id, merchant, duplicate, .. } = admission;
    let channels_excluded = excluded(admission).collect();
    let verdict =
        Verdict { decision: id.to_string(), merchant: merchant.as_str(), duplicate: *duplicate, channels_excluded };
    // Strings, a truth value and names always serialise.
    let body = serde_json::to_vec(&verdict).unwrap_or_default();
    let platform_code = respond::PLATFORM_CODE_SUCCESS;
    respond::Answer { status: 200, body, format: Format::Json, retry_after_s: None, platform_code, sign: false }
}

/// Names the decision to the upstream, and in check mode to the caller.
const DECISION: HeaderName = HeaderName::from_static("tollgate-decision");

/// Names the merchant to the upstream.
const MERCHANT: HeaderName = HeaderName::from_static("tollgate-merchant");

/// Names a channel that the payment must not take: risk control restricted it, or the facts rule it out.
const CHANNEL_EXCLUDED: HeaderName = HeaderName::from_static("tollgate-channel-excluded");
