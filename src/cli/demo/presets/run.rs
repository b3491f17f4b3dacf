//! The way into one limit: pays up to a ceiling, sees the next payment refused, and moves the clock on.

use jiff::civil::Date;
use jiff::{Span, Timestamp};

use super::super::DemoError;
use super::super::accounts::{Account, customer};
use super::super::authentic::limit as names;
use super::super::books::UsageShown;
use super::super::client::{Answer, Connection, Signature};
use super::super::other_times::instant;
use super::super::request::Payment;
use super::super::shows::promise;
use super::super::world::{Call, DemoGate, Door, ManualClock, World};
use super::{Ceiling, Reached, Shipped};
use crate::admission::UsageQuery;
use crate::time::{Clock, SystemClock};
use crate::types::{Risk, Window};

/// Pays by one connection of the platform's cashier, and keeps the clock.
pub(super) struct Till<'w> {
    world: &'w World,
    gate: &'w DemoGate,
    clock: &'w ManualClock,
    date: Date,
    connection: Connection,
    counts: (u32, u32),
    ceilings: Vec<Ceiling>,
    /// What some customers used when a limit of theirs was used up.
    pub usage: UsageShown,
}

/// Who pays under which limit.
struct Payer {
    limit: &'static Shipped,
    customer: String,
    shop: &'static str,
    risk: Risk,
    /// What the ceilings are worth at the shop, in thousandths.
    permille: u64,
}

impl<'w> Till<'w> {
    /// Opens the connection.
    ///
    /// # Errors
    /// Where there is none to be had.
    pub async fn open(
        world: &'w World,
        gate: &'w DemoGate,
        clock: &'w ManualClock,
        date: Date,
    ) -> Result<Self, DemoError> {
        let connection = gate.doors().open(Door::Hop).await?;
        let usage = UsageShown::default();
        Ok(Self { world, gate, clock, date, connection, counts: (0, 0), ceilings: Vec::new(), usage })
    }

    /// Runs into a limit, in each of its windows.
    pub async fn reach(&mut self, limit: &'static Shipped) -> Reached {
        self.counts = (0, 0);
        let result = self.reach_all(limit).await;
        let difference = result.err().map(|error| error.to_string());
        let (paid, refused) = self.counts;
        let ceilings = std::mem::take(&mut self.ceilings);
        Reached { limit: limit.id, ceilings, paid, refused, ok: difference.is_none(), difference }
    }

    async fn reach_all(&mut self, limit: &'static Shipped) -> Result<(), DemoError> {
        self.move_to(self.date.last_of_month().tomorrow())?;
        for (risk, shop, permille) in limit.others {
            let payer = Payer { limit, customer: customer(), shop, risk: *risk, permille: *permille };
            self.use_day(&payer).await?;
            // The customer is counted in the category: where the ceiling is higher, there is room left.
            let at_home = Payer { shop: limit.shop, ..payer };
            if *permille < 1000 {
                self.pay(&at_home, 1).await?;
            } else {
                self.refused(&at_home, 1, Some(Window::Day)).await?;
            }
        }
        let payer = Payer { limit, customer: customer(), shop: limit.shop, risk: Risk::Normal, permille: 1000 };
        if payer.ceiling(Some(Window::Day)).is_some() {
            self.use_day(&payer).await?;
            self.use_month(&payer).await?;
        }
        if let Some(fen) = payer.ceiling(Some(Window::Year)) {
            self.pay(&payer, fen).await?;
            self.used_up(&payer, Window::Year).await?;
            self.move_to(self.date.tomorrow())?;
            self.refused(&payer, 1, Some(Window::Year)).await?;
            self.move_to(self.date.last_of_year().tomorrow())?;
            self.pay(&payer, 1).await?;
        }
        if let Some(fen) = payer.ceiling(Some(Window::Lifetime)) {
            self.pay(&payer, fen).await?;
            self.used_up(&payer, Window::Lifetime).await?;
            self.move_to(self.date.last_of_year().tomorrow())?;
            self.refused(&payer, 1, Some(Window::Lifetime)).await?;
        }
        Ok(())
    }

    /// Uses a day up, in payments as large as one may be.
    async fn use_day(&mut self, payer: &Payer) -> Result<(), DemoError> {
        let Some(day) = payer.ceiling(Some(Window::Day)) else { return Ok(()) };
        if let Some(transaction) = payer.ceiling(None) {
            self.refused(payer, transaction + 1, None).await?;
            self.ceilings.push(payer.reached(None, transaction));
        }
        self.pay_in_parts(payer, day).await?;
        self.used_up(payer, Window::Day).await
    }

    /// Uses the rest of a month up, a day after the other, the first of which is used up; or sees the next day open.
    async fn use_month(&mut self, payer: &Payer) -> Result<(), DemoError> {
        let Some(day) = payer.ceiling(Some(Window::Day)) else { return Ok(()) };
        let mut left = payer.ceiling(Some(Window::Month)).unwrap_or(day).saturating_sub(day);
        while left > 0 {
            self.move_to(self.date.tomorrow())?;
            self.pay_in_parts(payer, left.min(day)).await?;
            left -= left.min(day);
        }
        self.move_to(self.date.tomorrow())?;
        if payer.ceiling(Some(Window::Month)).is_some() {
            self.used_up(payer, Window::Month).await?;
            self.move_to(self.date.last_of_month().tomorrow())?;
        }
        self.pay(payer, 1).await
    }

    /// Sees that a window is used up to the last fen, and that not one more passes.
    async fn used_up(&mut self, payer: &Payer, window: Window) -> Result<(), DemoError> {
        self.refused(payer, 1, Some(window)).await?;
        let ceiling = payer.ceiling(Some(window)).unwrap_or(0);
        self.ceilings.push(payer.reached(Some(window), ceiling));
        let query = UsageQuery {
            limit: Some(payer.limit.id.to_owned()),
            customer: Some(payer.customer.clone()),
            merchant: payer.shop.parse().ok(),
            ..UsageQuery::default()
        };
        let usage = UsageShown::ask(self.gate, query, self.clock.now())?;
        let used = usage.window(window).map(|one| (one.used, one.held, one.ceiling));
        promise(used == Some((ceiling, 0, Some(ceiling))), "the usage is the ceiling, to the fen")?;
        let shown = SHOWN.contains(&(payer.limit.id, payer.risk, window));
        self.usage.0.extend(usage.0.into_iter().filter(|_| shown));
        Ok(())
    }

    async fn pay_in_parts(&mut self, payer: &Payer, fen: u64) -> Result<(), DemoError> {
        let most = payer.ceiling(None).unwrap_or(fen);
        let mut left = fen;
        while left > 0 {
            self.pay(payer, left.min(most)).await?;
            left -= left.min(most);
        }
        Ok(())
    }

    async fn pay(&mut self, payer: &Payer, fen: u64) -> Result<(), DemoError> {
        self.send(payer, fen).await?.admitted()?;
        self.counts.0 += 1;
        Ok(())
    }

    /// Sees a payment refused by this limit and this window, and when to try again where that helps.
    async fn refused(&mut self, payer: &Payer, fen: u64, window: Option<Window>) -> Result<(), DemoError> {
        let answer = self.send(payer, fen).await?;
        self.counts.1 += 1;
        promise((answer.status, &*answer.code()) == (403, "RULE_LIMIT"), "what passes the limit is refused")?;
        let detail = answer.member("/detail").unwrap_or_default();
        let named = names(&detail, payer.limit.id, Some(window.map_or("transaction", Window::as_str)));
        promise(named, "the answer names limit and window")?;
        let waits = answer.header("retry-after").map(str::parse::<i64>).transpose();
        promise(waits == Ok(self.seconds_left(window)?), "Retry-After is the end of the window")
    }

    async fn send(&mut self, payer: &Payer, fen: u64) -> Result<Answer, DemoError> {
        let account: Account = self.world.accounts.store_bare.known_as(payer.shop);
        let message = account.pay(payer.limit.interface, &Payment::new(fen)).at(self.clock.now());
        let signed = message.signed().with("tollgate-customer", &payer.customer);
        let signed = payer.limit.facts.iter().fold(signed, |signed, (name, value)| signed.with(name, value));
        let answer = self.connection.send(Call::from(signed).request()).await?;
        promise(matches!(self.world.verify(&answer), Signature::By(_)), "the answer is signed")?;
        Ok(answer)
    }

    /// Returns in how many seconds a window is over; `None` where none ends.
    fn seconds_left(&self, window: Option<Window>) -> Result<Option<i64>, DemoError> {
        let next = match window {
            Some(Window::Day) => self.date.tomorrow(),
            Some(Window::Month) => self.date.last_of_month().tomorrow(),
            Some(Window::Year) => self.date.last_of_year().tomorrow(),
            Some(Window::Lifetime) | None => return Ok(None),
        };
        let ends = instant(next.map_err(|_| DemoError::Calendar)?.at(0, 0, 0, 0))?;
        Ok(Some((ends.0 - self.clock.now().0) / 1000 + 1))
    }

    fn move_to(&mut self, date: Result<Date, jiff::Error>) -> Result<(), DemoError> {
        self.date = date.map_err(|_| DemoError::Calendar)?;
        self.clock.set(instant(self.date.at(9, 0, 0, 0))?);
        Ok(())
    }
}

impl Payer {
    /// Returns a ceiling at the shop where the customer pays.
    fn ceiling(&self, window: Option<Window>) -> Option<u64> {
        let position = window.map_or(0, |window| window as usize + 1);
        let fen = self.limit.ceilings.get(position).copied().filter(|fen| *fen > 0)?;
        Some(fen * self.permille / 1000)
    }

    fn reached(&self, window: Option<Window>, fen: u64) -> Ceiling {
        Ceiling { window: window.map_or("transaction", Window::as_str), risk: self.risk.as_str(), fen }
    }
}

/// Returns the first day after the present month: whatever the zone, it is not yet over anywhere.
pub(in super::super) fn first_day() -> Result<Date, DemoError> {
    let now = Timestamp::from_millisecond(SystemClock.now().0).map_err(|_| DemoError::Calendar)?;
    let this_month = now.to_zoned(jiff::tz::TimeZone::UTC).date().first_of_month();
    this_month.checked_add(Span::new().months(2)).map_err(|_| DemoError::Calendar)
}

/// What usage is shown of: the limit, the merchant's risk level, and the window that was just used up.
const SHOWN: [(&str, Risk, Window); 5] = [
    ("t10_micro_merchants.credit_card", Risk::Normal, Window::Month),
    ("t8_categories.retail.quick_pay", Risk::Normal, Window::Day),
    ("t8_categories.retail.quick_pay", Risk::High, Window::Day),
    ("pboc_43.class_ii", Risk::Normal, Window::Year),
    ("pboc_43.class_i", Risk::Normal, Window::Lifetime),
];
