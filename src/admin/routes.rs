//! The endpoints of the control listener.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task;

use super::Control;
use crate::journal::Record;
use crate::types::{MerchantId, Operation};

/// Answers requests.
pub(super) struct Desk {
    control: Arc<dyn Control>,
    /// Held by the reload under way.
    reload: Arc<Mutex<()>>,
}

type Answer = Response<Full<Bytes>>;

impl Desk {
    /// Makes a desk.
    pub fn new(control: Arc<dyn Control>) -> Self {
        Self { control, reload: Arc::default() }
    }

    /// Answers one request.
    pub async fn answer<B: Body>(&self, request: &Request<B>) -> Answer {
        let Some(endpoint) = Endpoint::of(request.uri().path()) else {
            return plain(StatusCode::NOT_FOUND, "no such endpoint\n");
        };
        if request.method().as_str() != endpoint.method() {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "this endpoint takes another method\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(endpoint.method()));
            return answer;
        }
        if !request.body().is_end_stream() {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "send no body\n");
        }
        match endpoint {
            Endpoint::Metrics => self.metrics().await,
            Endpoint::Live => plain(StatusCode::OK, "ok\n"),
            Endpoint::Ready if self.control.ready() => plain(StatusCode::OK, "ready\n"),
            Endpoint::Ready => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            Endpoint::Decisions => match last(request.uri().query()) {
                Some(last) => self.decisions(last).await,
                None => plain(StatusCode::BAD_REQUEST, "the query may be last=1 to last=10000\n"),
            },
            Endpoint::Reload => self.reload().await,
        }
    }

    async fn metrics(&self) -> Answer {
        match self.call(|control| control.metrics()).await {
            Some(Ok(text)) => answer(StatusCode::OK, OPENMETRICS, text),
            Some(Err(_)) | None => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be read\n"),
        }
    }

    async fn decisions(&self, last: usize) -> Answer {
        match self.call(move |control| lines(&control.recent(last))).await {
            Some(Ok(lines)) => answer(StatusCode::OK, JSON_LINES, lines),
            Some(Err(_)) | None => plain(StatusCode::INTERNAL_SERVER_ERROR, "the decisions could not be read\n"),
        }
    }

    async fn reload(&self) -> Answer {
        let Ok(alone) = Arc::clone(&self.reload).try_lock_owned() else {
            return plain(StatusCode::CONFLICT, "another reload is under way\n");
        };
        // The guard goes along: the reload ends by itself even if whoever asked for it hangs up.
        let reloaded = self.call(move |control| {
            let reloaded = control.reload();
            drop(alone);
            reloaded
        });
        match reloaded.await {
            Some(Ok(())) => empty(StatusCode::NO_CONTENT),
            Some(Err(problem)) => plain(StatusCode::CONFLICT, problem),
            None => plain(StatusCode::INTERNAL_SERVER_ERROR, "the reload broke off; see the log\n"),
        }
    }

    /// Calls the control off this thread, so that a slow answer holds up no probe. `None` where the call panicked.
    async fn call<T: Send + 'static>(&self, ask: impl FnOnce(&dyn Control) -> T + Send + 'static) -> Option<T> {
        let control = Arc::clone(&self.control);
        task::spawn_blocking(move || ask(control.as_ref())).await.ok()
    }
}

#[derive(Clone, Copy)]
enum Endpoint {
    Metrics,
    Live,
    Ready,
    Decisions,
    Reload,
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/metrics" => Some(Self::Metrics),
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            "/v1/decisions" => Some(Self::Decisions),
            "/v1/reload" => Some(Self::Reload),
            _ => None,
        }
    }

    fn method(self) -> &'static str {
        match self {
            Self::Metrics | Self::Live | Self::Ready | Self::Decisions => "GET",
            Self::Reload => "POST",
        }
    }
}

/// A decision as the operator reads it.
#[derive(Serialize)]
struct Line<'a> {
    /// RFC 3339, UTC; null for an instant that has no such form.
    at: Option<jiff::Timestamp>,
    decision: String,
    merchant: &'a MerchantId,
    operation: Operation,
    amount_fen: u64,
    verdict: &'static str,
    reason: Option<&'static str>,
    duplicate: bool,
    /// Shadow limits that would have refused it.
    shadowed: Vec<&'a str>,
}

impl<'a> From<&'a Record> for Line<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            at: jiff::Timestamp::from_millisecond(record.at.0).ok(),
            decision: record.decision.to_string(),
            merchant: &record.merchant,
            operation: record.operation,
            amount_fen: record.amount_fen,
            verdict: if record.refused.is_some() { "refused" } else { "admitted" },
            reason: record.refused.map(|reason| reason.as_str()),
            duplicate: record.duplicate,
            shadowed: record.shadowed.iter().map(|id| &**id).collect(),
        }
    }
}

fn lines(records: &[Record]) -> Result<Vec<u8>, serde_json::Error> {
    let mut lines = Vec::new();
    for record in records {
        serde_json::to_writer(&mut lines, &Line::from(record))?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// Reads how many decisions are asked for; `None` where the query is anything else or out of bounds.
fn last(query: Option<&str>) -> Option<usize> {
    let Some(query) = query else { return Some(DECISIONS_DEFAULT) };
    let last = query.strip_prefix("last=")?.parse().ok()?;
    (1..=DECISIONS_MAX).contains(&last).then_some(last)
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", text)
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = empty(status);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    *answer.body_mut() = Full::new(body.into());
    answer
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The content type of OpenMetrics 1.0 text.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The content type of JSON, one value a line.
const JSON_LINES: &str = "application/x-ndjson";

/// How many decisions are listed where the query does not say.
const DECISIONS_DEFAULT: usize = 100;

/// Most decisions listed at once.
const DECISIONS_MAX: usize = 10_000;
