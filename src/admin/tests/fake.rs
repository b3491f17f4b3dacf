//! A gate without a data plane.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

use super::*;
use crate::admission::{Event, State, WindowUsage};
use crate::reason::Reason;
use crate::time::UnixMillis;
use crate::types::{LimitMode, Operation, Unit, Window};

/// A gate that answers by rote, and remembers what it was asked.
#[derive(Default)]
pub(crate) struct Fake {
    pub(super) ready: AtomicBool,
    pub(super) metrics_fail: AtomicBool,
    pub(super) asked_for: AtomicUsize,
    pub(super) reloads: AtomicUsize,
    /// What holds up the next reload, if anything.
    pub(super) held: Mutex<Option<Held>>,
    /// What was asked of it, apart from metrics, health, decisions and reloads.
    pub(super) asked: Mutex<Vec<Asked>>,
    /// Why the next usage cannot be told, if it cannot.
    pub(super) usage_fault: Mutex<Option<UsageFault>>,
    settled: Mutex<HashMap<u128, SettleAs>>,
    pub(super) pages: Mutex<Book>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Usage(UsageQuery),
    Page(usize),
    Settle(DecisionId, SettleAs, SettleFacts),
    Settlements(usize),
    Explain(Vec<u8>, bool),
}

/// The pages of an export.
#[derive(Default)]
pub(super) struct Book {
    pub(super) pages: Vec<Vec<u8>>,
    /// Before this page is made, one message is waited for.
    gate: Option<(usize, Arc<Mutex<mpsc::Receiver<()>>>)>,
    /// The page that cannot be made.
    pub(super) torn: Option<usize>,
}

/// A reload that says when it begins, and waits to be told how it ends.
pub(super) struct Held {
    pub(super) begun: mpsc::Sender<()>,
    pub(super) ends: mpsc::Receiver<Result<(), String>>,
}

impl Control for Fake {
    fn metrics(&self) -> Result<String, fmt::Error> {
        if self.metrics_fail.load(Ordering::SeqCst) { Err(fmt::Error) } else { Ok("# EOF\n".to_owned()) }
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    fn recent(&self, max: usize) -> Vec<Record> {
        self.asked_for.store(max, Ordering::SeqCst);
        let admitted = Record {
            at: UnixMillis(1_795_276_800_123),
            decision: DecisionId(0xab),
            merchant: "1900000001".parse().expect("merchant"),
            operation: Operation::Pay,
            amount_fen: 100,
            refused: None,
            duplicate: true,
            shadowed: smallvec::smallvec!["customer-day".into()],
        };
        let refused = Record { refused: Some(Reason::LimitExceeded), duplicate: false, ..admitted.clone() };
        vec![admitted, refused]
    }

    fn accept_clock(&self) -> Result<(), String> {
        Err("no journal".to_owned())
    }

    fn reload(&self) -> Result<(), String> {
        self.reloads.fetch_add(1, Ordering::SeqCst);
        let held = self.held.lock().expect("lock").take();
        held.map_or(Ok(()), |held| {
            held.begun.send(()).expect("a listener");
            held.ends.recv().expect("an end")
        })
    }

    fn usage(&self, query: UsageQuery) -> Result<Vec<Usage>, UsageFault> {
        assert_ne!(query.limit.as_deref(), Some("broken"));
        self.note(Asked::Usage(query));
        self.usage_fault.lock().expect("lock").take().map_or_else(|| Ok(vec![money(), payments()]), Err)
    }

    fn export_pages(&self) -> usize {
        self.pages.lock().expect("lock").pages.len()
    }

    fn export(&self, page: usize) -> Vec<u8> {
        self.note(Asked::Page(page));
        let (lines, gate, torn) = {
            let book = self.pages.lock().expect("lock");
            let gate = book.gate.as_ref().filter(|(gated, _)| *gated == page).map(|(_, gate)| Arc::clone(gate));
            (book.pages.get(page).cloned().unwrap_or_default(), gate, book.torn == Some(page))
        };
        assert!(!torn, "the page is torn");
        if let Some(gate) = gate {
            gate.lock().expect("lock").recv().expect("a message");
        }
        lines
    }

    /// Decision 0 is unknown, 1 had expired, 2 is in flight, 3 breaks the gate; all others settle as they are told first.
    fn settle(&self, decision: DecisionId, settle: SettleAs, facts: SettleFacts) -> Result<Settled, SettleFault> {
        self.note(Asked::Settle(decision, settle, facts));
        let state = match (decision.0, settle) {
            (0, _) => return Err(SettleFault::Unknown),
            (3, _) => unreachable!("the gate is broken"),
            (2, SettleAs::Release) => State::Pending,
            (_, SettleAs::Commit) => State::Committed,
            (_, SettleAs::Release) => State::Released,
        };
        match self.settled.lock().expect("lock").insert(decision.0, settle) {
            None => Ok(Settled { decision, state, already: false, late: decision.0 == 1 }),
            Some(before) if before == settle => Ok(Settled { decision, state, already: true, late: false }),
            Some(SettleAs::Commit) => Err(SettleFault::Committed),
            Some(SettleAs::Release) => Err(SettleFault::Released),
        }
    }

    fn settlements(&self, max: usize) -> Vec<Settlement> {
        self.note(Asked::Settlements(max));
        let late = Settlement {
            at: UnixMillis(1_795_276_800_123),
            decision: DecisionId(0xab),
            amount_fen: 100,
            event: Event::CommittedLate,
        };
        vec![Settlement { event: Event::Expired, ..late }, late]
    }

    fn explain(&self, request: &[u8], trusted_hop: bool) -> Result<String, String> {
        assert_ne!(request, b"broken");
        self.note(Asked::Explain(request.to_vec(), trusted_hop));
        if request.starts_with(b"GET") { Ok("admitted\n".to_owned()) } else { Err("begin with a method".to_owned()) }
    }
}

impl Fake {
    fn note(&self, asked: Asked) {
        self.asked.lock().expect("lock").push(asked);
    }

    /// Returns what was asked since this was called last.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().expect("lock"))
    }

    /// Sets the pages of the exports to come.
    pub(crate) fn set_pages(&self, pages: Vec<Vec<u8>>) {
        self.pages.lock().expect("lock").pages = pages;
    }

    /// Makes every export wait for one message before it makes a page.
    pub(super) fn hold_page(&self, page: usize) -> mpsc::Sender<()> {
        let (open, opens) = mpsc::channel();
        self.pages.lock().expect("lock").gate = Some((page, Arc::new(Mutex::new(opens))));
        open
    }
}

/// A limit of money, near its ceiling for the day.
fn money() -> Usage {
    let day = WindowUsage {
        window: Window::Day,
        used: 123_456,
        held: 3_456,
        committed: 120_000,
        ceiling: Some(200_000),
        room: Some(76_544),
        ends: Some("2026-11-23T00:00:00+08:00".to_owned()),
    };
    let lifetime = WindowUsage { window: Window::Lifetime, ceiling: None, room: None, ends: None, ..day.clone() };
    Usage {
        limit: "customer-day".to_owned(),
        unit: Unit::Fen,
        mode: LimitMode::Enforce,
        row: "0f".repeat(16),
        subject: vec![("merchant", "1900000001".to_owned()), ("customer", "张三".to_owned())],
        windows: vec![day, lifetime],
    }
}

/// A shadow limit of payments.
fn payments() -> Usage {
    let month = WindowUsage {
        window: Window::Month,
        used: 7,
        held: 0,
        committed: 7,
        ceiling: Some(5),
        room: Some(0),
        ends: Some("2026-12-01T00:00:00+08:00".to_owned()),
    };
    Usage {
        limit: "often".to_owned(),
        unit: Unit::Count,
        mode: LimitMode::Shadow,
        row: "1e".repeat(16),
        subject: vec![("customer", "a\u{1b}[31m".to_owned())],
        windows: vec![month],
    }
}
