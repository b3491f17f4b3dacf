//! The requests of a run: who asks for what, worked out before anything is signed.

use std::collections::VecDeque;
use std::time::Duration;

use rand::{Rng, RngExt as _};

use crate::scenario::{Hostile, Scenario, Settles};

/// One request to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When it is to be sent, from the start of the run.
    pub at: Duration,
    pub kind: Kind,
    /// Position of the merchant: the last two are [`Cast::suspended`] and [`Cast::revoked`].
    pub merchant: usize,
    pub customer: usize,
    pub channel: Channel,
    pub amount_fen: u64,
    /// Number of the order; that of an earlier request where it is a duplicate.
    pub order: usize,
    /// What is to become of it where it is admitted.
    pub fate: Fate,
    /// The payment that a refund is of.
    pub original: Option<Original>,
}

/// A payment that is refunded, by the same merchant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    pub order: usize,
    pub amount_fen: u64,
}

/// What is to become of an order that is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Commit,
    Release,
    /// Committed when it is too late.
    Late,
    /// Nothing is heard of it.
    Missing,
}

impl Planned {
    /// Returns what stands for a request that asks for nothing: it has no order.
    pub const fn nothing() -> Self {
        Self {
            at: Duration::ZERO,
            kind: Kind::Payment,
            merchant: 0,
            customer: 0,
            channel: Channel::Balance,
            amount_fen: 0,
            order: 0,
            fate: Fate::Missing,
            original: None,
        }
    }
}

/// What is special about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A payment as it should be.
    Payment,
    /// A request sent before, byte for byte: that of its order.
    Replay,
    /// Signed an hour ago.
    Stale,
    /// Changed after it was signed.
    Tampered,
    /// Signed with another merchant's key.
    WrongKey,
    /// Signed with a revoked key.
    Revoked,
    /// For an appid that the merchant has no interface for.
    ForbiddenInterface,
    /// Of a suspended merchant.
    Suspended,
    /// An order sent before, signed anew.
    Duplicate,
    /// Of a payment that was committed before.
    Refund,
}

/// How a payment reaches the customer's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    QuickPay,
    Balance,
}

impl Channel {
    /// Returns its name in headers and limits.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QuickPay => "quick_pay",
            Self::Balance => "balance",
        }
    }
}

impl Kind {
    /// The kinds that a share of a scenario is given for, in its order.
    const HOSTILE: [Self; 9] = [
        Self::Replay,
        Self::Stale,
        Self::Tampered,
        Self::WrongKey,
        Self::Revoked,
        Self::ForbiddenInterface,
        Self::Suspended,
        Self::Duplicate,
        Self::Refund,
    ];

    /// Tells whether no gate may admit it.
    pub const fn is_forbidden(self) -> bool {
        match self {
            Self::Payment | Self::Replay | Self::Duplicate | Self::Refund => false,
            Self::Stale
            | Self::Tampered
            | Self::WrongKey
            | Self::Revoked
            | Self::ForbiddenInterface
            | Self::Suspended => true,
        }
    }

    /// Returns its name in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Replay => "replay",
            Self::Stale => "stale",
            Self::Tampered => "tampered",
            Self::WrongKey => "wrong_key",
            Self::Revoked => "revoked",
            Self::ForbiddenInterface => "forbidden_interface",
            Self::Suspended => "suspended",
            Self::Duplicate => "duplicate",
            Self::Refund => "refund",
        }
    }
}

/// Who takes part.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    merchants: usize,
}

impl Cast {
    /// Takes the number of ordinary merchants.
    pub const fn new(merchants: usize) -> Self {
        Self { merchants }
    }

    /// Returns how many merchants there are, those two included.
    pub const fn len(self) -> usize {
        self.merchants + 2
    }

    /// Returns the merchant that is suspended.
    pub const fn suspended(self) -> usize {
        self.merchants
    }

    /// Returns the merchant whose key was revoked.
    pub const fn revoked(self) -> usize {
        self.merchants + 1
    }
}

/// Works out the requests that are to be sent at these times.
pub fn plan(scenario: &Scenario, times: &[Duration], random: &mut impl Rng) -> Vec<Planned> {
    let cast = Cast::new(scenario.merchants.count);
    let merchants = Zipf::new(scenario.merchants.count, scenario.merchants.skew);
    let customers = Zipf::new(scenario.customers.count, scenario.customers.skew);
    let mut planned: Vec<Planned> = Vec::with_capacity(times.len());
    let mut payments: Vec<usize> = Vec::new();
    let mut refundable = Refundable::new(Duration::from_millis(scenario.settles.delay_ms) + REFUNDED_AFTER);
    for (number, at) in times.iter().enumerate() {
        let kind = kind(&scenario.hostile, random);
        let again = match kind {
            Kind::Replay | Kind::Duplicate => {
                let earlier = earlier(&payments, random).and_then(|position| planned.get(position));
                earlier.map(|earlier| Planned { kind, ..earlier.clone() })
            }
            Kind::Refund => refundable.draw(*at, random).map(|part| Planned {
                order: number,
                fate: fate(&scenario.settles, random),
                ..part
            }),
            _ => None,
        };
        let mut one = again.unwrap_or_else(|| {
            // What there is nothing earlier for is a plain payment.
            let kind = if matches!(kind, Kind::Replay | Kind::Duplicate | Kind::Refund) { Kind::Payment } else { kind };
            Planned { kind, ..payment(scenario, &merchants, &customers, number, random) }
        });
        one.at = *at;
        match one.kind {
            Kind::Suspended => one.merchant = cast.suspended(),
            Kind::Revoked => one.merchant = cast.revoked(),
            Kind::Payment => {
                payments.push(number);
                refundable.add(&one);
            }
            Kind::Replay
            | Kind::Stale
            | Kind::Tampered
            | Kind::WrongKey
            | Kind::ForbiddenInterface
            | Kind::Duplicate
            | Kind::Refund => {}
        }
        planned.push(one);
    }
    planned
}

fn payment(scenario: &Scenario, merchants: &Zipf, customers: &Zipf, order: usize, random: &mut impl Rng) -> Planned {
    let hot = percent(random) < scenario.merchants.hot;
    let amounts = &scenario.amounts;
    Planned {
        at: Duration::ZERO,
        kind: Kind::Payment,
        merchant: if hot { 0 } else { merchants.draw(random) },
        customer: customers.draw(random),
        channel: if percent(random) < scenario.channels.quick_pay { Channel::QuickPay } else { Channel::Balance },
        amount_fen: random.random_range(amounts.least_fen..=amounts.most_fen),
        order,
        fate: fate(&scenario.settles, random),
        original: None,
    }
}

fn fate(settles: &Settles, random: &mut impl Rng) -> Fate {
    let Settles { commit, release, late, .. } = *settles;
    let drawn = percent(random);
    if drawn < commit {
        Fate::Commit
    } else if drawn < commit + release {
        Fate::Release
    } else if drawn < commit + release + late {
        Fate::Late
    } else {
        Fate::Missing
    }
}

/// Payments that are to be committed, with what is left of each to be refunded.
struct Refundable {
    /// How long after a payment was to be sent its refund may be.
    after: Duration,
    /// Those whose time has not come, by their times.
    ripening: VecDeque<Planned>,
    /// The amount is what is left.
    ripe: Vec<Planned>,
}

impl Refundable {
    const fn new(after: Duration) -> Self {
        Self { after, ripening: VecDeque::new(), ripe: Vec::new() }
    }

    fn add(&mut self, payment: &Planned) {
        if payment.fate == Fate::Commit {
            let original = Some(Original { order: payment.order, amount_fen: payment.amount_fen });
            self.ripening.push_back(Planned { kind: Kind::Refund, original, ..payment.clone() });
        }
    }

    /// Draws a refund, of all that is left or of a part; `None` where nothing can be refunded yet.
    fn draw(&mut self, at: Duration, random: &mut impl Rng) -> Option<Planned> {
        while let Some(ripe) = self.ripening.pop_front_if(|one| one.at + self.after <= at) {
            self.ripe.push(ripe);
        }
        if self.ripe.is_empty() {
            return None;
        }
        let position = random.random_range(0..self.ripe.len());
        let left_fen = self.ripe.get(position)?.amount_fen;
        let all = random.random::<bool>();
        let fen = if all { left_fen } else { random.random_range(1..=left_fen) };
        if fen == left_fen {
            return Some(self.ripe.swap_remove(position));
        }
        let one = self.ripe.get_mut(position)?;
        one.amount_fen = left_fen - fen;
        Some(Planned { amount_fen: fen, ..one.clone() })
    }
}

/// Chooses a payment of the last ones: what is sent again is sent soon.
fn earlier(payments: &[usize], random: &mut impl Rng) -> Option<usize> {
    let first = payments.len().saturating_sub(RECENT);
    let recent = payments.get(first..).filter(|recent| !recent.is_empty())?;
    recent.get(random.random_range(0..recent.len())).copied()
}

fn kind(hostile: &Hostile, random: &mut impl Rng) -> Kind {
    let mut drawn = percent(random);
    for (kind, share) in Kind::HOSTILE.into_iter().zip(hostile.shares()) {
        if drawn < share {
            return kind;
        }
        drawn -= share;
    }
    Kind::Payment
}

fn percent(random: &mut impl Rng) -> f64 {
    random.random::<f64>() * 100.0
}

/// Draws the number `n` with a probability that falls as `(n + 1)^-skew`.
struct Zipf {
    /// Cumulated weights.
    sums: Vec<f64>,
}

impl Zipf {
    fn new(count: usize, skew: f64) -> Self {
        let mut sum = 0.0;
        let weight = |number: usize| (number as f64).powf(-skew);
        let sums = (1..=count).map(|number| {
            sum += weight(number);
            sum
        });
        Self { sums: sums.collect() }
    }

    fn draw(&self, random: &mut impl Rng) -> usize {
        let drawn = random.random::<f64>() * self.sums.last().copied().unwrap_or(0.0);
        self.sums.partition_point(|sum| *sum <= drawn).min(self.sums.len().saturating_sub(1))
    }
}

/// Among how many of the last payments the one is that is sent again.
const RECENT: usize = 1000;

/// How much later than its payment is to be settled a refund is sent.
const REFUNDED_AFTER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
