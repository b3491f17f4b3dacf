//! Signed payment orders for a gate that lives as long as they last, and then another one.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate::admission::{Batch, Decision, Outcome};
use tollgate::merchant::{LimitSpec, SubjectPart};
use tollgate::replay;
use tollgate::share::Share;
use tollgate::types::{Interface, KeyId, MerchantId};

use crate::gate::{Gate, Setup, fen, limit};
use crate::signer::{Call, Draft, NOW, mchid, serial};

/// How many orders a gate decides before it is replaced.
const CALLS: usize = 1 << 13;

/// How many orders it has decided before, so that its tables have grown to what they will hold.
const CALLS_BEFORE: usize = CALLS;

/// Nonces that a gate holds beside those of the orders.
const OTHER_NONCES: usize = 1 << 16;

/// How many customers there are.
const CUSTOMERS: usize = 1 << 10;

/// The orders, and the gate that decides them.
pub struct Pool {
    /// Those decided before, then the others.
    calls: Vec<Call>,
    next: usize,
    gate: Gate,
    batch: Batch<'static>,
}

impl Pool {
    /// Signs the orders.
    pub fn new() -> Self {
        let calls = (0..CALLS_BEFORE + CALLS).map(|number| order(number).sign(NOW)).collect();
        let mut pool = Self { calls, next: 0, gate: limits().gate(), batch: Batch::new() };
        pool.replace_gate();
        pool
    }

    /// Decides the next so many orders in one batch; returns how long that took, and the orders.
    pub fn decide(&mut self, size: usize) -> (Duration, &[Call]) {
        if self.next + size > self.calls.len() {
            self.replace_gate();
        }
        let from = self.next;
        self.next += size;
        let took = self.decide_range(from, self.next);
        (took, self.calls.get(from..self.next).expect("a range of the orders"))
    }

    /// Makes a gate as it is after some time: other nonces are held, and as many orders as are to come were freed again.
    fn replace_gate(&mut self) {
        self.gate = limits().gate();
        let merchant: MerchantId = mchid(0).parse().expect("a merchant");
        let key: KeyId = serial(0).parse().expect("a serial");
        let share = Arc::new(Share::default());
        let fresh = replay::fresh(NOW.seconds(), NOW, 300).expect("fresh");
        for nonce in 0..OTHER_NONCES {
            let nonce = format!("other-{nonce}");
            let nonces = self.gate.shared.nonces();
            let nonce = nonces.key(&merchant, &key, &nonce);
            drop(nonces.claim(nonce, 0, fresh, &share, NOW).expect("room"));
        }
        let mut batch = std::mem::take(&mut self.batch).recycle();
        self.calls.iter().take(CALLS_BEFORE).for_each(|call| batch.push(call.request()));
        self.gate.engine.decide(&mut batch, NOW);
        // Held together until here: as many as will be held later.
        let before: Vec<_> = batch.drain().collect();
        drop(before);
        self.batch = batch.recycle();
        self.next = CALLS_BEFORE;
    }

    fn decide_range(&mut self, from: usize, until: usize) -> Duration {
        let mut batch = std::mem::take(&mut self.batch).recycle();
        let calls = self.calls.get(from..until).expect("a range of the orders");
        calls.iter().for_each(|call| batch.push(call.request()));
        // A front has just read these bytes: they are near.
        black_box(calls.iter().map(read).sum::<usize>());
        let began = Instant::now();
        self.gate.engine.decide(&mut batch, NOW);
        let took = began.elapsed();
        let mut admitted = 0;
        for decision in batch.drain() {
            match decision {
                Decision::Admitted(admission) => admission.settle(Outcome::Done),
                Decision::Refused(refusal) => panic!("{refusal:?}"),
            }
            admitted += 1;
        }
        assert_eq!(admitted, until - from);
        self.batch = batch.recycle();
        took
    }
}

/// Reads all bytes of an order.
fn read(call: &Call) -> usize {
    let headers = call.headers.0.iter().flat_map(|(name, value)| name.bytes().chain(value.iter().copied()));
    let line = call.draft.method.bytes().chain(call.draft.target.bytes());
    headers.chain(line).chain(call.draft.body.bytes()).map(usize::from).sum()
}

/// Two limits of two windows each, which all orders fall under, and one that none does.
fn limits() -> Setup {
    let ceiling = fen(1 << 40);
    let customer = [SubjectPart::Customer, SubjectPart::Category];
    let mut native = LimitSpec { day: ceiling, ..limit("native", &[SubjectPart::Merchant]) };
    native.predicate.interfaces = vec![Interface::Native];
    Setup::limited([
        LimitSpec { transaction: ceiling, day: ceiling, month: ceiling, ..limit("customer", &customer) },
        LimitSpec { day: ceiling, month: ceiling, ..limit("merchant", &[SubjectPart::Merchant]) },
        native,
    ])
}

/// A JSAPI order as clients send it.
fn order(number: usize) -> Draft {
    let openid = format!("oUpF8uMuAJO_M2pxb1Q9zNjW{:04}", number % CUSTOMERS);
    let rest = format!(
        r#","description":"测试商品 unicode","notify_url":"https://example.com/n","payer":{{"openid":"{openid}"}}"#
    );
    let path = "/v3/pay/transactions/jsapi";
    let draft = Draft::order(number % 2, path, "wx-jsapi", &format!("T2026112200{number:06}"), "100", &rest);
    Draft { nonce: format!("593BEC0C930BF1AFEB40B4A08C{number:06}"), ..draft }
}
