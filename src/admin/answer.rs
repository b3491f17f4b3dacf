//! Answers of the control listener: a status, a type, and a body that is whole or an export.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;

use super::pages::{Pages, Torn};

/// An answer.
pub(super) type Answer = Response<Sheet>;

/// The body of an answer.
pub(super) enum Sheet {
    /// In memory.
    Whole(Full<Bytes>),
    /// Made while it is sent.
    Export(Pages),
}

impl Sheet {
    /// Tells whether sending it may take long.
    pub fn is_export(&self) -> bool {
        match self {
            Self::Whole(_) => false,
            Self::Export(_) => true,
        }
    }
}

impl Body for Sheet {
    type Data = Bytes;
    type Error = Torn;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Torn>>> {
        match self.get_mut() {
            Self::Whole(whole) => {
                let frame: Option<Result<_, Infallible>> = ready!(Pin::new(whole).poll_frame(context));
                Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Self::Export(pages) => pages.poll_page(context).map(|page| page.map(|page| page.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Export(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Export(_) => SizeHint::new(),
        }
    }
}

/// Answers with a line of text.
pub(super) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", text)
}

/// Answers with what is to be changed; one line, ended.
pub(super) fn fault(status: StatusCode, fault: impl std::fmt::Display) -> Answer {
    plain(status, format!("{fault}\n"))
}

/// Answers that another method is needed.
pub(super) fn another_method(allowed: &'static str) -> Answer {
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "this endpoint takes another method\n");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// Answers with a value as JSON.
pub(super) fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(text) => answer(StatusCode::OK, "application/json", text),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written\n"),
    }
}

/// Answers with a body of a type.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    with_body(status, kind, Sheet::Whole(Full::new(body.into())))
}

/// Answers with JSON lines that are made while they are sent.
pub(super) fn export(pages: Pages) -> Answer {
    with_body(StatusCode::OK, JSON_LINES, Sheet::Export(pages))
}

/// Answers without a body.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Sheet::Whole(Full::default()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn with_body(status: StatusCode, kind: &'static str, body: Sheet) -> Answer {
    let mut answer = empty(status);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    *answer.body_mut() = body;
    answer
}

/// The content type of JSON, one value a line.
pub(super) const JSON_LINES: &str = "application/x-ndjson";
