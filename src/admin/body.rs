//! Bodies of requests to the control listener, bounded in bytes and in time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use tokio::time;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyFault {
    /// There is one, and the endpoint takes none.
    #[error("send no body")]
    Unwanted,
    /// It has more bytes than the endpoint takes.
    #[error("send at most {bytes_max} bytes of body")]
    TooLong {
        /// The most that it takes.
        bytes_max: usize,
    },
    /// It did not arrive in time.
    #[error("the body did not arrive in time; send it whole, and its length with it")]
    TooSlow,
    /// The connection broke, or the framing is wrong.
    #[error("the body could not be read; send it whole, and its length with it")]
    Broken,
}

/// Checks that there is no body.
///
/// # Errors
/// [`BodyFault::Unwanted`].
pub(super) fn none(body: &Incoming) -> Result<(), BodyFault> {
    if body.is_end_stream() { Ok(()) } else { Err(BodyFault::Unwanted) }
}

/// Reads a body of at most `bytes_max` bytes.
///
/// # Errors
/// [`BodyFault`]; a declared length that is too much is refused before anything is read.
pub(super) async fn read(body: Incoming, bytes_max: usize, timeout: Duration) -> Result<Bytes, BodyFault> {
    let too_long = BodyFault::TooLong { bytes_max };
    if body.size_hint().lower() > u64::try_from(bytes_max).unwrap_or(u64::MAX) {
        return Err(too_long);
    }
    match time::timeout(timeout, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long),
        Ok(Err(_)) => Err(BodyFault::Broken),
        Err(_) => Err(BodyFault::TooSlow),
    }
}

/// Most of a request that is explained, in bytes: the longest body of a request and 64 KiB for its head.
pub const EXPLAIN_BYTES_MAX: usize = (1024 + 64) * 1024;

/// Most of the facts that a settle call may bring, in bytes.
pub(super) const FACTS_BYTES_MAX: usize = 1024;
