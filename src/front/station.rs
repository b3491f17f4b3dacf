//! What one worker works with.

use std::cell::Cell;
use std::sync::Arc;

use tokio::sync::watch;

use super::answers::Answers;
use super::decider::Decider;
use super::gate::Gate;
use super::upstream::Pool;
use crate::metrics;

/// What one worker works with; shared by its connections.
pub(super) struct Station {
    pub gate: Arc<Gate>,
    pub decider: Decider,
    pub upstream: Option<Pool>,
    pub metrics: Arc<metrics::Worker>,
    pub answers: Answers,
    pub draining: watch::Receiver<bool>,
    /// Connections of this worker that are open.
    pub open: Cell<usize>,
}
