//! The steps after the verification: claim, permit, bind, reserve. HOT.

use arrayvec::ArrayVec;
use smallvec::SmallVec;

use super::decision::{Detail, Refusal, Undoes};
use super::engine::Moment;
use super::facts::{self, Stated};
use super::identify::Identified;
use super::shared::Shared;
use crate::merchant::{Applies, CertificateDemand, Facts, Payment, Permitted, Policy};
use crate::quota::{Charges, Demand, Reserved, Shortfall};
use crate::reason::Reason;
use crate::replay::{self, BindRefused, Binding, Bound, Claimed, Namespace, OrderName, Stored};
use crate::request::{Request, Trust};
use crate::signature::Verified;
use crate::types::{AccountClass, Channel, CodeGrade, DecisionId, Fen, Instrument, LimitMode, Operation};

/// What the steps after the verification look at.
pub(super) struct Stage<'s, 'r> {
    pub shared: &'s Shared,
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
    /// The decision found on the same order.
    pub same: Option<DecisionId>,
    /// The order that a success takes back.
    pub undoes: Option<Undoes>,
}

impl Stage<'_, '_> {
    pub fn run(
        &self,
        id: DecisionId,
        verified: &Verified,
        trail: &mut Trail,
    ) -> Result<(Permitted, Bound<Charges>), Refusal> {
        let refuse = |reason| self.refuse(reason, Detail::None);
        let Identified { route, parameter, merchant, key, .. } = self.identified;
        key.in_force(self.moment.now).map_err(refuse)?;
        self.demand_certificate().map_err(refuse)?;
        let repeated = self.claim(verified, trail)?;
        if !self.request.answer_key_known {
            return Err(refuse(Reason::PlatformKeyUnknown));
        }
        let fault = |fault| facts::refusal(fault, merchant.id);
        let stated = Stated::read(route, *parameter, self.request, &merchant.id).map_err(fault)?;
        let facts = stated.facts(self.request).map_err(fault)?;
        trail.amount = stated.amount;
        let mut permitted = merchant.permit(route, &facts, self.request.trust, self.request.peer).map_err(refuse)?;
        let orders = &self.shared.books.orders;
        let bound = match route.operation {
            Operation::Pay => self.bind(id, Namespace::Payment, &mut permitted, &stated, &facts, repeated, trail)?,
            Operation::Refund => self.bind(id, Namespace::Refund, &mut permitted, &stated, &facts, repeated, trail)?,
            Operation::Close | Operation::Reverse => {
                trail.undoes = stated.order.as_deref().and_then(|number| {
                    let name = OrderName { namespace: Namespace::Payment, merchant: &merchant.id, number };
                    orders.decided(name).map(|decision| Undoes { number: number.to_owned(), decision })
                });
                orders.unbound()
            }
            Operation::Query | Operation::Certificates | Operation::Echo => orders.unbound(),
        };
        Ok((permitted, bound))
    }

    fn refuse(&self, reason: Reason, detail: Detail) -> Refusal {
        Refusal { reason, detail, authentic: Some(self.identified.merchant.id) }
    }

    fn demand_certificate(&self) -> Result<(), Reason> {
        let Identified { route, merchant, key, .. } = self.identified;
        let signed = key.is_certificate();
        let shown = || {
            let certificate = self.request.client_certificate;
            certificate.is_some_and(|der| self.policy.vouches(der, merchant, self.moment.now))
        };
        let met = match route.certificate {
            CertificateDemand::None => true,
            CertificateDemand::Signature => signed,
            CertificateDemand::Mtls => signed && shown(),
        };
        if met { Ok(()) } else { Err(Reason::CertificateRequired) }
    }

    /// Claims the nonce. `true` where a trusted hop delivers a request again that was admitted before.
    fn claim(&self, verified: &Verified, trail: &mut Trail) -> Result<bool, Refusal> {
        let Identified { merchant, extracted, fresh, .. } = self.identified;
        let (Some(nonce), Some(fresh)) = (extracted.nonce, *fresh) else { return Ok(false) };
        let shares = &merchant.shares.nonces;
        let nonces = &self.shared.nonces;
        let now = self.moment.now;
        match nonces.claim(&merchant.id, &verified.key(), nonce, verified.digest(), fresh, shares, now) {
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
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one proof or fact of the request, and the caller is the only one"
    )]
    fn bind(
        &self,
        id: DecisionId,
        namespace: Namespace,
        permitted: &mut Permitted,
        stated: &Stated<'_>,
        facts: &Facts<'_>,
        repeated: bool,
        trail: &mut Trail,
    ) -> Result<Bound<Charges>, Refusal> {
        let merchant = self.identified.merchant;
        let number = stated.order.as_deref().unwrap_or_default();
        let name = OrderName { namespace, merchant: &merchant.id, number };
        let digest = self.order_digest(stated, facts);
        let binding = self.shared.books.orders.bind(name, digest, &merchant.shares.orders, self.moment.now);
        match binding {
            Ok(Binding::Same { decision, note, again }) => {
                trail.same = Some(decision);
                // Only the channels that were charged for then, and of them only those that are still open.
                permitted.channels.retain(|channel| note & bit(*channel) != 0);
                if permitted.channels.is_empty() {
                    return Err(self.refuse(Reason::ChannelRestricted, Detail::None));
                }
                Ok(again)
            }
            // What a trusted hop delivers again is never decided anew: its order was given back meanwhile.
            Ok(Binding::New(_)) if repeated => Err(self.refuse(Reason::NonceReplayed, Detail::None)),
            Ok(Binding::New(mut bound)) => {
                let charges = match (namespace, stated.amount) {
                    (Namespace::Payment, Some(amount)) => self.reserve(permitted, facts, amount, trail)?.keep(),
                    (Namespace::Payment, None) | (Namespace::Refund, _) => Charges::default(),
                };
                bound.decide(id, charges, permitted.channels.iter().fold(0, |note, channel| note | bit(*channel)));
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

    /// Digests what makes two requests the same order: not the raw body, which a retry may spell differently.
    fn order_digest(&self, stated: &Stated<'_>, facts: &Facts<'_>) -> u128 {
        let text = |value: Option<&'static str>| value.unwrap_or("").as_bytes();
        let amount = stated.amount.map_or(0, Fen::get).to_be_bytes();
        self.shared.digests.digest(&[
            self.identified.route.id.as_bytes(),
            self.identified.merchant.id.as_str().as_bytes(),
            facts.appid.unwrap_or("").as_bytes(),
            &amount,
            facts.customer.unwrap_or("").as_bytes(),
            facts.openid.unwrap_or("").as_bytes(),
            text(facts.channel.map(Channel::as_str)),
            text(facts.instrument.map(Instrument::as_str)),
            text(facts.account_class.map(AccountClass::as_str)),
            text(facts.code_grade.map(CodeGrade::as_str)),
        ])
    }

    fn reserve(
        &self,
        permitted: &Permitted,
        facts: &Facts<'_>,
        amount: Fen,
        trail: &mut Trail,
    ) -> Result<Reserved, Refusal> {
        let merchant = self.identified.merchant;
        let payment = Payment { merchant, permitted, facts, amount, windows: self.moment.windows };
        let mut demands: ArrayVec<Demand, DEMANDS_MAX> = ArrayVec::new();
        let mut charged: ArrayVec<u16, DEMANDS_MAX> = ArrayVec::new();
        for (index, limit) in self.policy.limits_on(merchant) {
            let reason = match limit.applies(&payment, &self.shared.rows) {
                Applies::No | Applies::Checked => continue,
                Applies::Charge(demand) => {
                    if demands.try_push(demand).is_ok() && charged.try_push(index).is_ok() {
                        continue;
                    }
                    Reason::QuotaTableFull
                }
                Applies::ClockOutOfRange if limit.mode == LimitMode::Enforce => {
                    return Err(self.refuse(Reason::ClockOutOfRange, Detail::None));
                }
                Applies::ClockOutOfRange => Reason::ClockOutOfRange,
                Applies::AboveTransaction => Reason::LimitExceeded,
                Applies::SubjectUnknown => Reason::LimitSubjectUnknown,
            };
            match limit.mode {
                LimitMode::Shadow => trail.shadowed.push(index),
                LimitMode::Enforce => {
                    return Err(self.refuse(reason, self.limit_detail(index, None)));
                }
            }
        }
        let table = &self.shared.books.table;
        let reserved = table.reserve(&demands, amount, &merchant.shares.rows).map_err(|shortfall| match shortfall {
            Shortfall::Exceeded { demand, cell } => {
                let index = charged.get(demand).copied().unwrap_or(u16::MAX);
                self.refuse(Reason::LimitExceeded, self.limit_detail(index, Some(cell)))
            }
            Shortfall::TableFull | Shortfall::TooManyCells => self.refuse(Reason::QuotaTableFull, Detail::None),
            Shortfall::ShareFull => self.refuse(Reason::QuotaShareFull, Detail::None),
        })?;
        trail.shadowed.extend(reserved.lacking().iter().filter_map(|position| charged.get(*position)).copied());
        Ok(reserved)
    }

    fn limit_detail(&self, index: u16, cell: Option<usize>) -> Detail {
        let Some(limit) = self.policy.limit(index) else { return Detail::None };
        Detail::Limit { limit: limit.id.to_string(), window: cell.and_then(|cell| limit.window(cell)) }
    }
}

/// Returns the bit that stands for a channel in the note of an order.
const fn bit(channel: Channel) -> u8 {
    match channel {
        Channel::QuickPay => 1,
        Channel::Balance => 2,
    }
}

/// Most limits charged by one decision.
const DEMANDS_MAX: usize = crate::quota::CHARGES_MAX / crate::quota::CELLS_PER_ROW_MAX;
