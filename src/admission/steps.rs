//! The steps after the verification: claim, permit, bind, reserve. HOT.

use smallvec::SmallVec;

use super::books::{Books, Stake};
use super::decision::{Detail, Refusal};
use super::engine::Moment;
use super::facts::Stated;
use super::identify::Identified;
use super::intent::{Intent, Wanted, Wish, WishedCharges};
use super::shared::Shared;
use crate::merchant::{CertificateDemand, ExpiryRule, Facts, Limit, OrderKind, Permitted, Policy, Route, Settle};
use crate::quota::{Reserved, Shortfall};
use crate::reason::Reason;
use crate::replay::{
    self, BindRefused, Binding, Bound, Claimed, Namespace, NonceKey, OnExpiry, OrderName, OrderRef, Outcome, Stored,
    Terms,
};
use crate::request::{Request, Trust};
use crate::signature::Verified;
use crate::time::{Calendar, UnixMillis};
use crate::types::{AccountClass, Authentication, Channel, CodeGrade, DecisionId, Fen, Instrument, Operation, Window};

/// What the steps after the verification look at.
pub(super) struct Stage<'s, 'r> {
    pub shared: &'s Shared,
    pub books: &'s Books,
    pub policy: &'s Policy,
    pub request: &'s Request<'r>,
    pub identified: &'s Identified<'s, 'r>,
    pub moment: Moment<'s>,
}

/// What the steps leave behind for the record, whether they admit or refuse.
#[derive(Default)]
pub(super) struct Trail {
    pub claimed: Option<Claimed>,
    pub amount: Option<Fen>,
    /// Shadow limits that would have refused.
    pub shadowed: SmallVec<[u16; 4]>,
    /// The decision on the order: made now, or found.
    pub decision: Option<DecisionId>,
    /// Whether it was found.
    pub duplicate: bool,
    /// Whether a limit taken from asks for the record to be safe from a loss of power.
    pub disk: bool,
    /// The order that a query, close or reversal is about.
    pub about: Option<OrderRef>,
}

impl Stage<'_, '_> {
    pub fn run(
        &self,
        random: u64,
        verified: &Verified,
        intent: Intent<'_>,
        wanted: &Wanted,
        trail: &mut Trail,
    ) -> Result<(Permitted, Bound<Stake>), Refusal> {
        let refuse = |reason| self.refuse(reason, Detail::None);
        let Identified { route, merchant, .. } = self.identified;
        self.judge_key().map_err(refuse)?;
        let repeated = self.claim(verified, intent.nonce, trail)?;
        trail.amount = intent.amount;
        let mut wish = intent.wish?;
        let orders = &self.books.orders;
        let namespace = namespace_of(route);
        let bound = match route.operation {
            Operation::Pay | Operation::Refund => {
                self.bind(&Order { random, namespace, repeated }, &mut wish, wanted, trail)?
            }
            Operation::Close | Operation::Reverse | Operation::Query => {
                // Where the platform's own id stands beside it, that is what counts, and it may be another order's.
                let number = wish.stated.order.as_deref().filter(|_| !wish.stated.original_by_id);
                trail.about =
                    number.and_then(|number| orders.named(OrderName { namespace, merchant: &merchant.id, number }));
                orders.unbound()
            }
            Operation::Certificates | Operation::Echo => orders.unbound(),
        };
        Ok((wish.permitted, bound))
    }

    pub fn refuse(&self, reason: Reason, detail: Detail) -> Refusal {
        Refusal { reason, detail, authentic: Some(self.identified.merchant.id) }
    }

    /// Judges the key that signed, and what it signed with.
    pub fn judge_key(&self) -> Result<(), Reason> {
        let Identified { route, key, extracted, .. } = self.identified;
        key.in_force(self.moment.now)?;
        self.demand_certificate()?;
        let permitted = key.key.permits(extracted.sign_type, route.pays_out());
        if permitted { Ok(()) } else { Err(Reason::SignTypeForbidden) }
    }

    fn demand_certificate(&self) -> Result<(), Reason> {
        let Identified { route, merchant, key, .. } = self.identified;
        let signed = key.is_certificate();
        match route.certificate {
            CertificateDemand::None => Ok(()),
            CertificateDemand::Signature if signed => Ok(()),
            // No certificate vouches for a secret: then what the peer shows is all there is.
            CertificateDemand::Mtls if signed || key.key.is_secret() => {
                let shown = self.request.client_certificate.ok_or(Reason::CertificateRequired)?;
                self.policy.vouches(shown, merchant, self.moment.now)
            }
            CertificateDemand::Signature | CertificateDemand::Mtls => Err(Reason::CertificateRequired),
        }
    }

    /// Claims the nonce. `true` where a trusted hop delivers a request again that was admitted before.
    fn claim(&self, verified: &Verified, nonce: Option<NonceKey>, trail: &mut Trail) -> Result<bool, Refusal> {
        let Identified { merchant, fresh, .. } = self.identified;
        let (Some(nonce), Some(fresh)) = (nonce, *fresh) else { return Ok(false) };
        let shares = &merchant.shares.nonces;
        let nonces = &self.shared.nonces;
        let now = self.moment.now;
        match nonces.claim(nonce, verified.digest(), fresh, shares, now) {
            Ok(claimed) => {
                trail.claimed = Some(claimed);
                Ok(false)
            }
            Err(replay::Refused::TableFull) => Err(self.refuse(Reason::NonceTableFull, Detail::None)),
            Err(replay::Refused::ShareFull) => Err(self.refuse(Reason::NonceShareFull, Detail::None)),
            Err(replay::Refused::Replayed { same_request, stored }) => {
                let hop = same_request && self.request.trust == Trust::TrustedHop;
                match stored {
                    Some(Stored { refused: None, .. }) if hop => Ok(true),
                    // The limits may be others by now: the reason stands alone.
                    Some(Stored { refused: Some(reason), .. }) if hop => Err(self.refuse(reason, Detail::None)),
                    None if hop => Err(self.refuse(Reason::OrderInFlight, Detail::None)),
                    Some(_) | None => Err(self.refuse(Reason::NonceReplayed, Detail::None)),
                }
            }
        }
    }

    /// Binds the order number; takes the amount from every limit where the order is new.
    fn bind(
        &self,
        order: &Order,
        wish: &mut Wish<'_>,
        wanted: &Wanted,
        trail: &mut Trail,
    ) -> Result<Bound<Stake>, Refusal> {
        let Order { random, namespace, repeated } = *order;
        let Wish { stated, facts, permitted, charges } = wish;
        trail.disk = charges.disk;
        let stated = *stated;
        let merchant = self.identified.merchant;
        let number = stated.order.as_deref().unwrap_or_default();
        let name = OrderName { namespace, merchant: &merchant.id, number };
        let digest = self.order_digest(stated, facts);
        match self.books.orders.bind(name, digest, &merchant.shares.orders, self.moment.now) {
            Ok(Binding::Same { decision, note, again }) => {
                (trail.decision, trail.duplicate) = (Some(decision), true);
                // Only the channels that were charged for then, and of them only those that are still open.
                permitted.channels.retain(|channel| note & bit(*channel) != 0);
                let hold = if permitted.channels.is_empty() {
                    Err(self.refuse(Reason::ChannelRestricted, Detail::None))
                } else {
                    self.hold(stated)
                };
                match hold {
                    Ok((expires_s, _)) => again.prolong(expires_s),
                    Err(refusal) => {
                        // Nothing is sent of this one: it must not keep what the others may give back.
                        let _ = self.books.settle(again, Outcome::Refused, self.moment.now);
                        return Err(refusal);
                    }
                }
                Ok(again)
            }
            // What a trusted hop delivers again is never decided anew: its order was given back meanwhile.
            Ok(Binding::New(_)) if repeated => Err(self.refuse(Reason::NonceReplayed, Detail::None)),
            Ok(Binding::New(mut bound)) => {
                let (expires_s, on_expiry) = self.hold(stated)?;
                let charges = match (namespace, stated.amount) {
                    (Namespace::Payment, Some(amount)) => {
                        Stake::Payment(self.reserve(charges, wanted, amount, trail)?.keep())
                    }
                    (Namespace::Payment, None) => Stake::default(),
                    (Namespace::Refund, amount) => {
                        Stake::Refund { original: self.original(stated), fen: amount.map_or(0, Fen::get) }
                    }
                };
                let note = permitted.channels.iter().fold(0, |note, channel| note | bit(*channel));
                let amount_fen = stated.amount.map_or(0, Fen::get);
                let terms = Terms { charges, note, amount_fen, expires_s, on_expiry };
                trail.decision = Some(bound.decide(random, terms));
                Ok(bound)
            }
            Err(refused) => Err(self.refuse(
                match refused {
                    BindRefused::Used => Reason::OrderNumberUsed,
                    BindRefused::TableFull => Reason::OrderTableFull,
                    BindRefused::ShareFull => Reason::OrderShareFull,
                    BindRefused::InFlight => Reason::OrderInFlight,
                },
                Detail::None,
            )),
        }
    }

    /// Returns until when the order is held, in seconds since the epoch, and what happens then.
    ///
    /// A hold lives for at least as long as its order can be paid. Where the answer was to be the outcome and none came,
    /// the money may have moved: such a hold is kept.
    pub fn hold(&self, stated: &Stated<'_>) -> Result<(i64, OnExpiry), Refusal> {
        let rules = self.shared.holds;
        let now_s = self.moment.now.seconds();
        let latest_s = now_s.saturating_add(HOLD_S_MAX);
        let expires_s = match stated.expires_s {
            Some((expires_s, _)) if expires_s <= latest_s => expires_s.max(now_s).saturating_add(HOLD_GRACE_S),
            Some((_, name)) => {
                let detail = Detail::Parameter { name: name.to_owned() };
                return Err(self.refuse(Reason::ParameterInvalid, detail));
            }
            None => now_s.saturating_add(rules.hold_s.into()),
        };
        let Route { operation, settle, .. } = self.identified.route;
        let on_expiry = match (operation, settle, rules.on_expiry) {
            // It took nothing, and gives room back whenever it is heard to have succeeded.
            (Operation::Refund, ..) | (_, Settle::Later, ExpiryRule::Release) => OnExpiry::Release,
            (_, Settle::Later, ExpiryRule::Keep) | (_, Settle::OnAnswer | Settle::None, _) => OnExpiry::Keep,
        };
        Ok((expires_s, on_expiry))
    }

    /// Finds the payment that a refund is of; `None` where it names one by the platform's own id as well, which may be
    /// another.
    fn original(&self, stated: &Stated<'_>) -> Option<OrderRef> {
        let number = stated.original.as_deref().filter(|_| !stated.original_by_id)?;
        let merchant = &self.identified.merchant.id;
        self.books.orders.named(OrderName { namespace: Namespace::Payment, merchant, number })
    }

    /// Digests what makes two requests the same order: not the raw body, which a retry may spell differently.
    pub fn order_digest(&self, stated: &Stated<'_>, facts: &Facts<'_>) -> u128 {
        let text = |value: Option<&'static str>| value.unwrap_or("").as_bytes();
        let amount = stated.amount.map_or(0, Fen::get).to_be_bytes();
        let meaning = stated.variant.map_or(&self.identified.route.id, |variant| &variant.id);
        self.shared.digests.digest(&[
            meaning.as_bytes(),
            self.identified.merchant.id.as_str().as_bytes(),
            facts.appid.unwrap_or("").as_bytes(),
            &amount,
            facts.customer.unwrap_or("").as_bytes(),
            facts.openid.unwrap_or("").as_bytes(),
            text(facts.channel.map(Channel::as_str)),
            text(facts.instrument.map(Instrument::as_str)),
            text(facts.account_class.map(AccountClass::as_str)),
            text(facts.code_grade.map(CodeGrade::as_str)),
            text(facts.authentication.map(Authentication::as_str)),
            stated.original.as_deref().unwrap_or("").as_bytes(),
        ])
    }

    fn reserve(
        &self,
        charges: &WishedCharges,
        wanted: &Wanted,
        amount: Fen,
        trail: &mut Trail,
    ) -> Result<Reserved<'_>, Refusal> {
        trail.shadowed.extend_from_slice(&charges.shadowed);
        if let Some(refusal) = &charges.refused {
            return Err(refusal.clone());
        }
        let (demands, limits) = wanted.of(charges);
        let Books { table, lane, .. } = self.books;
        let owner = &self.identified.merchant.shares.rows;
        let reserved = table.reserve(*lane, demands, amount, owner).map_err(|shortfall| match shortfall {
            Shortfall::Exceeded { demand, window } => {
                let limit = limits.get(demand).and_then(|index| self.policy.limit(*index));
                let fits = demands.get(demand).is_some_and(|demand| {
                    let cell = demand.cells.get(window as usize).copied().flatten();
                    cell.is_some_and(|cell| demand.unit.taken(amount).get() <= cell.ceiling)
                });
                let detail = limit.map_or(Detail::None, |limit| self.limit_detail(limit, Some(window), fits));
                self.refuse(Reason::LimitExceeded, detail)
            }
            Shortfall::TableFull | Shortfall::TooManyCells => self.refuse(Reason::QuotaTableFull, Detail::None),
            Shortfall::ShareFull => self.refuse(Reason::QuotaShareFull, Detail::None),
        })?;
        trail.shadowed.extend(reserved.lacking().iter().filter_map(|position| limits.get(*position)).copied());
        Ok(reserved)
    }

    /// Names the limit at fault. Where the amount would fit a window that nothing is used of, waiting helps, and the end of
    /// the window is named.
    pub fn limit_detail(&self, limit: &Limit, window: Option<Window>, fits: bool) -> Detail {
        let ends_s = window.filter(|_| fits).and_then(|window| {
            let rule = self.policy.calendars().get(limit.calendar())?;
            let ends = Calendar::new(rule.clone()).ends(self.moment.now)?;
            match window {
                Window::Day => Some(ends.day_s),
                Window::Month => Some(ends.month_s),
                Window::Year => Some(ends.year_s),
                Window::Lifetime => None,
            }
        });
        let ends = ends_s.map(UnixMillis::from_seconds);
        Detail::Limit { limit: limit.id.to_string(), window, ends }
    }
}

/// An order about to be bound.
struct Order {
    /// For the decision's id.
    random: u64,
    namespace: Namespace,
    /// Whether a trusted hop delivers again what was admitted before.
    repeated: bool,
}

/// Returns the namespace of a route's order numbers.
pub(super) const fn namespace_of(route: &Route) -> Namespace {
    match (route.operation, route.orders) {
        (Operation::Refund, _) | (Operation::Query, OrderKind::Refund) => Namespace::Refund,
        (
            Operation::Pay
            | Operation::Close
            | Operation::Reverse
            | Operation::Query
            | Operation::Certificates
            | Operation::Echo,
            _,
        ) => Namespace::Payment,
    }
}

/// Returns the bit that stands for a channel in the note of an order.
const fn bit(channel: Channel) -> u8 {
    match channel {
        Channel::QuickPay => 1,
        Channel::Balance => 2,
    }
}

/// Longest time until an order expires, in seconds: 30 days. The platform takes less.
const HOLD_S_MAX: i64 = 30 * 86_400;

/// How long a hold outlives its order, in seconds: what is paid at the last moment is reported a little later.
const HOLD_GRACE_S: i64 = 300;
