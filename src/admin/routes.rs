//! The endpoints of the control listener.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use tokio::sync::{Mutex, Semaphore};
use tokio::task;

use super::answer::{self, Answer, JSON_LINES, empty, fault, plain};
use super::body::{self, BodyFault, EXPLAIN_BYTES_MAX, FACTS_BYTES_MAX};
use super::pages::Pages;
use super::{CALLS_MAX, Control, SettleFacts, decision_of, query, records, settle};
use crate::admission::{SettleAs, UsageFault};
use crate::types::DecisionId;

/// Answers requests.
pub(super) struct Desk {
    control: Arc<dyn Control>,
    body_timeout: Duration,
    /// Held by the reload under way.
    reload: Arc<Mutex<()>>,
    /// Held by the exports under way.
    exports: Arc<Semaphore>,
    /// Held by the calls of the control under way, whether or not somebody still waits for their answers.
    calls: Arc<Semaphore>,
}

impl Desk {
    /// Makes a desk that waits so long for a body.
    pub fn new(control: Arc<dyn Control>, body_timeout: Duration) -> Self {
        let [exports, calls] = [EXPORTS_MAX, CALLS_MAX].map(|max| Arc::new(Semaphore::new(max)));
        Self { control, body_timeout, reload: Arc::default(), exports, calls }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Answer {
        let Some(endpoint) = Endpoint::of(request.uri().path()) else {
            return plain(StatusCode::NOT_FOUND, "no such endpoint\n");
        };
        if request.method().as_str() != endpoint.method() {
            return answer::another_method(endpoint.method());
        }
        let (head, body) = request.into_parts();
        let query = head.uri.query();
        let answered = match endpoint {
            Endpoint::Settle(..) if query.is_some() => Ok(plain(StatusCode::BAD_REQUEST, "send no query\n")),
            Endpoint::Settle(settle, decision) => self.settle(decision, settle, body).await,
            Endpoint::Explain => self.explain(query, body).await,
            Endpoint::Bare(endpoint) => match body::none(&body) {
                Ok(()) => Ok(self.bare(endpoint, query).await),
                Err(fault) => Err(fault),
            },
        };
        answered.unwrap_or_else(unread)
    }

    /// Answers at an endpoint that takes no body.
    async fn bare(&self, endpoint: Bare, query: Option<&str>) -> Answer {
        match endpoint {
            Bare::Metrics => self.metrics().await,
            Bare::Live => plain(StatusCode::OK, "ok\n"),
            Bare::Ready if self.control.ready() => plain(StatusCode::OK, "ready\n"),
            Bare::Ready => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            Bare::Decisions => self.records(query, |control, last| records::decisions(&control.recent(last))).await,
            Bare::Settlements => {
                self.records(query, |control, last| records::settlements(&control.settlements(last))).await
            }
            Bare::Reload => self.reload().await,
            Bare::AcceptClock => self.accept_clock().await,
            Bare::Usage => self.usage(query).await,
            Bare::Export => self.export(query).await,
        }
    }

    async fn metrics(&self) -> Answer {
        match self.call(|control| control.metrics()).await {
            Some(Ok(text)) => answer::answer(StatusCode::OK, OPENMETRICS, text),
            Some(Err(_)) | None => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be read\n"),
        }
    }

    async fn records(
        &self,
        query: Option<&str>,
        read: impl FnOnce(&dyn Control, usize) -> Result<Vec<u8>, serde_json::Error> + Send + 'static,
    ) -> Answer {
        let Some(last) = records::last(query) else {
            return plain(StatusCode::BAD_REQUEST, "the query may be last=1 to last=10000\n");
        };
        match self.call(move |control| read(control, last)).await {
            Some(Ok(lines)) => answer::answer(StatusCode::OK, JSON_LINES, lines),
            Some(Err(_)) | None => plain(StatusCode::INTERNAL_SERVER_ERROR, "the records could not be read\n"),
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

    async fn accept_clock(&self) -> Answer {
        match self.call(|control| control.accept_clock()).await {
            Some(Ok(())) => empty(StatusCode::NO_CONTENT),
            Some(Err(problem)) => plain(StatusCode::SERVICE_UNAVAILABLE, problem),
            None => plain(StatusCode::INTERNAL_SERVER_ERROR, "the call broke off; see the log\n"),
        }
    }

    async fn usage(&self, query: Option<&str>) -> Answer {
        let query = match query::usage(query) {
            Ok(query) => query,
            Err(problem) => return fault(StatusCode::BAD_REQUEST, problem),
        };
        match self.call(move |control| control.usage(query)).await {
            Some(Ok(usage)) => answer::json(&usage),
            Some(Err(problem)) => fault(usage_status(&problem), problem),
            None => plain(StatusCode::INTERNAL_SERVER_ERROR, "the usage could not be read; see the log\n"),
        }
    }

    async fn export(&self, query: Option<&str>) -> Answer {
        if query.is_some() {
            return plain(StatusCode::BAD_REQUEST, "send no query: an export has all rows\n");
        }
        let Ok(turn) = Arc::clone(&self.exports).try_acquire_owned() else {
            return plain(StatusCode::CONFLICT, "other exports are under way; wait for the end of one\n");
        };
        match self.call(|control| control.export_pages()).await {
            Some(pages) => answer::export(Pages::new(Arc::clone(&self.control), pages, turn)),
            None => plain(StatusCode::INTERNAL_SERVER_ERROR, "the rows could not be read; see the log\n"),
        }
    }

    async fn settle(
        &self,
        decision: Option<DecisionId>,
        settle: SettleAs,
        body: Incoming,
    ) -> Result<Answer, BodyFault> {
        let body = body::read(body, FACTS_BYTES_MAX, self.body_timeout).await?;
        let Some(decision) = decision else {
            let text = "name the decision by its 32 lower-case hexadecimal digits\n";
            return Ok(plain(StatusCode::BAD_REQUEST, text));
        };
        let facts = match SettleFacts::read(&body) {
            Ok(facts) => facts,
            Err(problem) => return Ok(fault(StatusCode::BAD_REQUEST, problem)),
        };
        Ok(match self.call(move |control| control.settle(decision, settle, facts)).await {
            Some(settled) => settle::answered(settled),
            None => plain(StatusCode::INTERNAL_SERVER_ERROR, "the call broke off; see the log, and send it again\n"),
        })
    }

    async fn explain(&self, query: Option<&str>, body: Incoming) -> Result<Answer, BodyFault> {
        // The body first: a refusal with much of it unread could be lost to the reset of the connection.
        let request = body::read(body, EXPLAIN_BYTES_MAX, self.body_timeout).await?;
        let trusted_hop = match query::trusted_hop(query) {
            Ok(trusted_hop) => trusted_hop,
            Err(problem) => return Ok(fault(StatusCode::BAD_REQUEST, problem)),
        };
        if request.is_empty() {
            return Ok(plain(StatusCode::BAD_REQUEST, "send the HTTP/1.1 request to be explained as the body\n"));
        }
        Ok(match self.call(move |control| control.explain(&request, trusted_hop)).await {
            Some(Ok(text)) => plain(StatusCode::OK, text),
            Some(Err(problem)) => fault(StatusCode::BAD_REQUEST, problem),
            None => plain(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be explained; see the log\n"),
        })
    }

    /// Calls the control off this thread, so that a slow answer holds up no probe. `None` where the call panicked.
    async fn call<T: Send + 'static>(&self, ask: impl FnOnce(&dyn Control) -> T + Send + 'static) -> Option<T> {
        let control = Arc::clone(&self.control);
        // Nobody closes the semaphore.
        let call = Arc::clone(&self.calls).acquire_owned().await.ok()?;
        let asked = move || {
            let answer = ask(control.as_ref());
            drop(call);
            answer
        };
        task::spawn_blocking(asked).await.ok()
    }
}

#[derive(Clone, Copy)]
enum Endpoint {
    /// Takes no body.
    Bare(Bare),
    /// Settles a decision; `None` where the path names it wrongly.
    Settle(SettleAs, Option<DecisionId>),
    Explain,
}

/// An endpoint that takes no body.
#[derive(Clone, Copy)]
enum Bare {
    Metrics,
    Live,
    Ready,
    Decisions,
    Settlements,
    Reload,
    AcceptClock,
    Usage,
    Export,
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/metrics" => Some(Self::Bare(Bare::Metrics)),
            "/livez" => Some(Self::Bare(Bare::Live)),
            "/readyz" => Some(Self::Bare(Bare::Ready)),
            "/v1/decisions" => Some(Self::Bare(Bare::Decisions)),
            "/v1/settlements" => Some(Self::Bare(Bare::Settlements)),
            "/v1/reload" => Some(Self::Bare(Bare::Reload)),
            "/v1/clock/accept" => Some(Self::Bare(Bare::AcceptClock)),
            "/v1/usage" => Some(Self::Bare(Bare::Usage)),
            "/v1/usage/export" => Some(Self::Bare(Bare::Export)),
            "/v1/explain" => Some(Self::Explain),
            other => Self::settle(other),
        }
    }

    fn settle(path: &str) -> Option<Self> {
        let (id, verb) = path.strip_prefix("/v1/decisions/")?.split_once('/')?;
        let settle = match verb {
            "commit" => SettleAs::Commit,
            "release" => SettleAs::Release,
            _ => return None,
        };
        Some(Self::Settle(settle, decision_of(id)))
    }

    fn method(self) -> &'static str {
        match self {
            Self::Bare(
                Bare::Metrics
                | Bare::Live
                | Bare::Ready
                | Bare::Decisions
                | Bare::Settlements
                | Bare::Usage
                | Bare::Export,
            ) => "GET",
            Self::Bare(Bare::Reload | Bare::AcceptClock) | Self::Settle(..) | Self::Explain => "POST",
        }
    }
}

/// Answers where the body was not read.
fn unread(problem: BodyFault) -> Answer {
    let status = match problem {
        BodyFault::Unwanted | BodyFault::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BodyFault::TooSlow => StatusCode::REQUEST_TIMEOUT,
        BodyFault::Broken => StatusCode::BAD_REQUEST,
    };
    fault(status, problem)
}

const fn usage_status(problem: &UsageFault) -> StatusCode {
    match problem {
        UsageFault::LimitUnknown(_) | UsageFault::MerchantUnknown(_) => StatusCode::NOT_FOUND,
        UsageFault::SubjectMissing { .. } => StatusCode::BAD_REQUEST,
        UsageFault::ClockOutOfRange => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The content type of OpenMetrics 1.0 text.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Most exports at once: each keeps a page or two in memory.
const EXPORTS_MAX: usize = 2;
