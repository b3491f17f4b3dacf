//! Holds at work, on a gate whose clock is moved: what an order takes before it is paid, and every way in which that
//! ends.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method};
use serde_json::{Value, json};

use super::DemoError;
use super::accounts::{Account, customer, unique};
use super::books::{Books, UsageShown};
use super::client::Outgoing;
use super::other_times::{DAY_MS, instant};
use super::presets::first_day;
use super::request::Payment;
use super::shows::{Showing, Shown, promise, shown};
use super::upstream::{BY_BALANCE, DROP, SEEN_DECISION};
use super::world::{DemoGate, Door, ManualClock, World};
use crate::admission::UsageQuery;
use crate::replay::Orders;
use crate::time::{Clock, UnixMillis};
use crate::types::{Interface, Window};

/// What came of it.
pub(super) struct Holds {
    pub shown: Vec<Shown>,
    pub usage: UsageShown,
    pub books: Books,
}

/// A gate, and a clock that is moved.
struct Scene<'w> {
    world: &'w World,
    gate: &'w DemoGate,
    clock: &'w ManualClock,
}

/// Something that becomes of an order.
struct Step {
    kind: &'static str,
    title: &'static str,
    steps: for<'s> fn(&'s Scene<'s>) -> Showing<'s>,
}

const ALL: &[Step] = &[
    step("held, committed", "300 yuan are held until a query is answered: paid; then they are counted", |scene| {
        Box::pin(committed(scene))
    }),
    step(
        "channel learned",
        "held by both limits of two channels; paid by balance, and quick pay has its room back",
        |scene| Box::pin(learned(scene)),
    ),
    step("released", "an order that is closed gives its 300 yuan back", |scene| Box::pin(closed(scene))),
    step("settled by hand", "POST /v1/decisions/{id}/commit: counted; again: nothing; release then: 409", |scene| {
        Box::pin(by_hand(scene))
    }),
    step("settled by hand", "POST /v1/decisions/{id}/release: the 300 yuan are given back", |scene| {
        Box::pin(released_by_hand(scene))
    }),
    step("refunded", "100 of 300 yuan refunded: no room while it is under way, 100 back when it succeeded", |scene| {
        Box::pin(refunded(scene))
    }),
    step(
        "refunded, gross",
        "a micro merchant's card receipts are counted gross: a refund gives no room back",
        |scene| Box::pin(refunded_gross(scene)),
    ),
    step("expired", "an order of ten minutes, not paid: its 600 yuan are given back", |scene| Box::pin(expired(scene))),
    step(
        "committed late",
        "paid all the same: 600 beside 1,000 yuan that came meanwhile, above the day's 1,000",
        |scene| Box::pin(late(scene)),
    ),
    step("expired, kept", "a payment code whose answer broke off: nobody knows, so it is counted for good", |scene| {
        Box::pin(kept(scene))
    }),
];

const fn step(kind: &'static str, title: &'static str, steps: for<'s> fn(&'s Scene<'s>) -> Showing<'s>) -> Step {
    Step { kind, title, steps }
}

/// Shows every step.
///
/// # Errors
/// Where the gate cannot be started.
pub(super) async fn run(world: &World) -> Result<Holds, DemoError> {
    let clock = ManualClock::at(instant(first_day()?.at(9, 0, 0, 0))?);
    let as_clock = Arc::<ManualClock>::clone(&clock);
    let steps = async |gate: &DemoGate| {
        let scene = Scene { world, gate, clock: &clock };
        let mut all = Vec::with_capacity(ALL.len());
        for Step { kind, title, steps } in ALL {
            all.push(shown(kind, title, steps(&scene)).await);
        }
        let usage = scene.last_held().await?;
        Ok(Holds { shown: all, usage, books: gate.books("holds") })
    };
    world.at_gate("holds", world.small(), as_clock, steps).await
}

async fn committed(scene: &Scene<'_>) -> Result<(), DemoError> {
    let (customer, payment) = (customer(), Payment::new(30_000));
    scene.order(scene.store(), &payment, &customer, BALANCE).await?;
    scene.uses(BALANCE_LIMIT, &customer, Window::Day, (30_000, 30_000))?;
    scene.paid(scene.store(), &payment).await?;
    scene.uses(BALANCE_LIMIT, &customer, Window::Day, (30_000, 0))
}

async fn learned(scene: &Scene<'_>) -> Result<(), DemoError> {
    let (customer, payment) = (customer(), Payment::new(30_000).scripted(BY_BALANCE));
    scene.order(scene.store(), &payment, &customer, &[]).await?;
    scene.uses(BALANCE_LIMIT, &customer, Window::Day, (30_000, 30_000))?;
    scene.uses(QUICK_PAY_LIMIT, &customer, Window::Day, (30_000, 30_000))?;
    scene.paid(scene.store(), &payment).await?;
    scene.uses(BALANCE_LIMIT, &customer, Window::Day, (30_000, 0))?;
    scene.uses(QUICK_PAY_LIMIT, &customer, Window::Day, (0, 0))
}

async fn closed(scene: &Scene<'_>) -> Result<(), DemoError> {
    let (customer, payment) = (customer(), Payment::new(30_000));
    scene.order(scene.store(), &payment, &customer, BALANCE).await?;
    let close = scene.store().close(&payment.number).at(scene.clock.now());
    scene.gate.admit(close).await?;
    scene.uses(BALANCE_LIMIT, &customer, Window::Day, (0, 0))
}

async fn by_hand(scene: &Scene<'_>) -> Result<(), DemoError> {
    let (customer, payment) = (customer(), Payment::new(30_000));
    let decision = scene.order(scene.store(), &payment, &customer, &[]).await?;
    let facts = json!({ "channel": "balance" });
    for already in [false, true] {
        let settled = json!({ "decision": decision, "state": "committed", "already": already, "late": false });
        promise(scene.settle(&decision, "commit", &facts).await? == (200, settled), "the answer says what was done")?;
        scene.uses(BALANCE_LIMIT, &customer, Window::Day, (30_000, 0))?;
        scene.uses(QUICK_PAY_LIMIT, &customer, Window::Day, (0, 0))?;
    }
    promise(scene.settle(&decision, "release", &Value::Null).await?.0 == 409, "what was committed is not released")?;
    scene.uses(BALANCE_LIMIT, &customer, Window::Day, (30_000, 0))
}

async fn released_by_hand(scene: &Scene<'_>) -> Result<(), DemoError> {
    let (customer, payment) = (customer(), Payment::new(30_000));
    let decision = scene.order(scene.store(), &payment, &customer, BALANCE).await?;
    let settled = json!({ "decision": decision, "state": "released", "already": false, "late": false });
    promise(
        scene.settle(&decision, "release", &Value::Null).await? == (200, settled),
        "the answer says what was done",
    )?;
    scene.uses(BALANCE_LIMIT, &customer, Window::Day, (0, 0))
}

async fn refunded(scene: &Scene<'_>) -> Result<(), DemoError> {
    let (customer, payment, refund) = (customer(), Payment::new(30_000), unique());
    scene.order(scene.store(), &payment, &customer, BALANCE).await?;
    scene.paid(scene.store(), &payment).await?;
    scene.gate.admit(scene.store().refund_of(&payment, &refund, 10_000).at(scene.clock.now())).await?;
    scene.uses(BALANCE_LIMIT, &customer, Window::Day, (30_000, 0))?;
    // Asked twice: what a refund gives back it gives back once.
    for _ in 0..2 {
        scene.gate.admit(scene.store().query_refund(&refund).at(scene.clock.now())).await?;
        scene.uses(BALANCE_LIMIT, &customer, Window::Day, (20_000, 0))?;
    }
    Ok(())
}

async fn refunded_gross(scene: &Scene<'_>) -> Result<(), DemoError> {
    let (payment, refund) = (Payment::new(40_000), unique());
    scene.order(scene.stall(), &payment, "", CREDIT_CARD).await?;
    scene.paid(scene.stall(), &payment).await?;
    scene.gate.admit(scene.stall().refund_of(&payment, &refund, 40_000).at(scene.clock.now())).await?;
    scene.gate.admit(scene.stall().query_refund(&refund).at(scene.clock.now())).await?;
    scene.uses(MICRO_LIMIT, "", Window::Day, (40_000, 0))?;
    scene.pass(DAY_MS)
}

async fn expired(scene: &Scene<'_>) -> Result<(), DemoError> {
    scene.expire().await?;
    scene.pass(DAY_MS)
}

/// The order runs out, and another one takes its room; then the operator learns that the first was paid after all.
async fn late(scene: &Scene<'_>) -> Result<(), DemoError> {
    let decision = scene.expire().await?;
    let other = Payment::new(100_000);
    scene.order(scene.stall(), &other, "", CREDIT_CARD).await?;
    scene.paid(scene.stall(), &other).await?;
    scene.uses(MICRO_LIMIT, "", Window::Day, (100_000, 0))?;
    let settled = json!({ "decision": decision, "state": "committed", "already": false, "late": true });
    promise(
        scene.settle(&decision, "commit", &Value::Null).await? == (200, settled),
        "the answer says that it is late",
    )?;
    scene.uses(MICRO_LIMIT, "", Window::Day, (160_000, 0))?;
    let next = scene.stall().pay(Interface::Jsapi, &Payment::new(1)).at(scene.clock.now()).signed();
    let next = next.with("tollgate-channel", "quick_pay").with("tollgate-instrument", "credit_card").through(Door::Hop);
    promise(scene.gate.send(next).await?.code() == "RULE_LIMIT", "nothing more passes that day")
}

async fn kept(scene: &Scene<'_>) -> Result<(), DemoError> {
    let (customer, payment) = (customer(), Payment::new(30_000).scripted(DROP));
    let pay = scene.store().pay(Interface::PaymentCode, &payment).at(scene.clock.now()).signed();
    let pay = pay.with("tollgate-customer", &customer).with("tollgate-channel", "balance").through(Door::Hop);
    promise(scene.gate.send(pay).await?.code() == "SYSTEM_ERROR", "the answer breaks off")?;
    scene.uses(BALANCE_LIMIT, &customer, Window::Month, (30_000, 30_000))?;
    scene.pass(8 * DAY_MS)?;
    scene.sweep();
    scene.uses(BALANCE_LIMIT, &customer, Window::Month, (30_000, 0))
}

impl Scene<'_> {
    fn store(&self) -> &Account {
        &self.world.accounts.store
    }

    fn stall(&self) -> &Account {
        &self.world.accounts.stall
    }

    /// Places an order through the cashier; returns the decision.
    async fn order(
        &self,
        account: &Account,
        payment: &Payment,
        customer: &str,
        facts: &[(&'static str, &str)],
    ) -> Result<String, DemoError> {
        let signed = account.pay(Interface::Jsapi, payment).at(self.clock.now()).signed();
        let named = if customer.is_empty() { signed } else { signed.with("tollgate-customer", customer) };
        let signed = facts.iter().fold(named, |signed, (name, value)| signed.with(name, value));
        let answer = self.gate.admit(signed.through(Door::Hop)).await?;
        answer.header(SEEN_DECISION).map(str::to_owned).ok_or(DemoError::Setup("no decision reached the service"))
    }

    /// Asks for the order, which the stand-in says is paid.
    async fn paid(&self, account: &Account, payment: &Payment) -> Result<(), DemoError> {
        self.gate.admit(account.query(&payment.number).at(self.clock.now())).await.map(|_| ())
    }

    /// Places an order of ten minutes at the stall, and lets it run out.
    async fn expire(&self) -> Result<String, DemoError> {
        let now = self.clock.now();
        let ends = jiff::Timestamp::from_millisecond(now.0 + 10 * MINUTE_MS).map_err(|_| DemoError::Calendar)?;
        let payment = Payment { expires: Some(ends), ..Payment::new(60_000) };
        let decision = self.order(self.stall(), &payment, "", CREDIT_CARD).await?;
        self.pass(14 * MINUTE_MS)?;
        self.sweep();
        // Paid at the last moment, it may be heard of a little later.
        self.uses(MICRO_LIMIT, "", Window::Day, (60_000, 60_000))?;
        self.pass(2 * MINUTE_MS)?;
        self.sweep();
        self.uses(MICRO_LIMIT, "", Window::Day, (0, 0))?;
        Ok(decision)
    }

    /// Settles a decision as an operator does, on the control listener.
    async fn settle(&self, decision: &str, verb: &str, facts: &Value) -> Result<(u16, Value), DemoError> {
        let body = if facts.is_null() { Bytes::new() } else { facts.to_string().into() };
        let mut request = http::Request::new(Outgoing::whole(body));
        *request.method_mut() = Method::POST;
        let target = format!("/v1/decisions/{decision}/{verb}");
        *request.uri_mut() = target.parse().map_err(|_| DemoError::Setup("a decision that no path can name"))?;
        request.headers_mut().insert(http::header::HOST, HeaderValue::from_static("localhost"));
        let answer = self.gate.doors().open(Door::Control).await?.send(request).await?;
        Ok((answer.status, answer.member("").unwrap_or_default()))
    }

    /// Checks what is used of a window, and what of it is held.
    fn uses(&self, limit: &str, customer: &str, window: Window, expected: (u64, u64)) -> Result<(), DemoError> {
        let usage = self.usage(limit, customer)?;
        let used = usage.window(window).map(|one| (one.used, one.held));
        promise(used == Some(expected), "the usage is what was held and counted, to the fen")
    }

    fn usage(&self, limit: &str, customer: &str) -> Result<UsageShown, DemoError> {
        let merchant = if customer.is_empty() { self.stall() } else { self.store() };
        let query = UsageQuery {
            limit: Some(limit.to_owned()),
            customer: Some(customer.to_owned()).filter(|customer| !customer.is_empty()),
            merchant: merchant.mchid.parse().ok(),
            ..UsageQuery::default()
        };
        UsageShown::ask(self.gate, query, self.clock.now())
    }

    /// Returns the usage of a customer who has paid one order and not yet another, whose channel nobody knows.
    async fn last_held(&self) -> Result<UsageShown, DemoError> {
        let (customer, paid) = (customer(), Payment::new(30_000).scripted(BY_BALANCE));
        self.order(self.store(), &paid, &customer, BALANCE).await?;
        self.paid(self.store(), &paid).await?;
        self.order(self.store(), &Payment::new(20_000), &customer, &[]).await?;
        let mut usage = self.usage(BALANCE_LIMIT, &customer)?;
        usage.0.extend(self.usage(QUICK_PAY_LIMIT, &customer)?.0);
        Ok(usage)
    }

    fn pass(&self, ms: i64) -> Result<(), DemoError> {
        self.clock.set(UnixMillis(self.clock.now().0.checked_add(ms).ok_or(DemoError::Calendar)?));
        Ok(())
    }

    /// Looks through all orders at once, as the gate does in the course of a minute; twice, since it does so meanwhile.
    fn sweep(&self) {
        let shared = self.gate.shared();
        (0..2 * sweeps(shared.orders())).for_each(|_| shared.sweep(self.clock.now()));
    }
}

const fn sweeps<C>(_: &Orders<C>) -> usize {
    Orders::<C>::SWEEPS_PER_PASS
}

const BALANCE_LIMIT: &str = "retail-balance";
const QUICK_PAY_LIMIT: &str = "retail-quick-pay";
const MICRO_LIMIT: &str = "micro-credit-card";

const BALANCE: &[(&str, &str)] = &[("tollgate-channel", "balance")];
const CREDIT_CARD: &[(&str, &str)] = &[("tollgate-channel", "quick_pay"), ("tollgate-instrument", "credit_card")];

const MINUTE_MS: i64 = 60_000;
