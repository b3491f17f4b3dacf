//! What requests want: read and worked out for a whole batch before anything is claimed or taken. HOT.
//!
//! Nothing here changes anything that another request could see. So it is done for all requests of a batch first, and the
//! memory that they will need is on its way while the last of them is read.

use std::ops::Range;

use smallvec::SmallVec;

use super::decision::{Detail, Refusal};
use super::facts::{self, Fault, Stated};
use super::identify::Identified;
use super::steps::Stage;
use crate::merchant::{Applies, Facts, Payment, Permitted};
use crate::quota::{CHARGES_MAX, Demand, Table};
use crate::reason::Reason;
use crate::replay::NonceKey;
use crate::signature::Verified;
use crate::types::{Fen, LimitMode, Operation};

/// What a request wants, for the record and for the steps to come.
pub(super) struct Intent<'a> {
    /// The entry of its nonce; `None` where the scheme has none.
    pub nonce: Option<NonceKey>,
    pub amount: Option<Fen>,
    /// What it is refused for once its nonce is claimed, or else what it wants.
    pub wish: Result<Wish<'a>, Refusal>,
}

/// What a request wants that may be granted.
pub(super) struct Wish<'a> {
    pub stated: &'a Stated<'a>,
    pub facts: Facts<'a>,
    pub permitted: Permitted,
    pub charges: WishedCharges,
}

/// What a payment is to be charged to, should its order be new.
#[derive(Default)]
pub(super) struct WishedCharges {
    /// Which of the batch's demands are its own.
    demands: Range<usize>,
    /// Shadow limits that would refuse it before anything is asked of the table.
    pub shadowed: SmallVec<[u16; 4]>,
    /// What it is refused for before anything is asked of the table.
    pub refused: Option<Refusal>,
    /// Whether a limit asks for the record to be safe from a loss of power.
    pub disk: bool,
}

/// What all requests of a batch ask of the limits.
#[derive(Default)]
pub(super) struct Wanted {
    demands: Vec<Demand>,
    /// The limit of each demand.
    limits: Vec<u16>,
}

impl Wanted {
    /// Empties it, and keeps its memory.
    pub fn clear(&mut self) {
        self.demands.clear();
        self.limits.clear();
    }

    /// Returns which of the demands are one request's, for [`Wanted::demands`].
    pub fn range(&self, charges: &WishedCharges) -> Range<usize> {
        charges.demands.clone()
    }

    /// Returns the demands of a range.
    pub fn demands(&self, range: Range<usize>) -> &[Demand] {
        self.demands.get(range).unwrap_or_default()
    }

    /// Returns the demands of one request, and the limit of each.
    pub fn of(&self, charges: &WishedCharges) -> (&[Demand], &[u16]) {
        let range = || charges.demands.clone();
        (self.demands.get(range()).unwrap_or_default(), self.limits.get(range()).unwrap_or_default())
    }

    /// Has the rows of all demands fetched, whose places in the index have been asked for.
    pub fn fetch_rows(&self, table: &Table) {
        self.demands.iter().for_each(|demand| table.fetch_rows(demand));
    }
}

impl<'s> Stage<'s, '_> {
    /// Reads what the request states.
    pub fn read(&self) -> Result<Stated<'s>, Fault> {
        let Identified { route, parameter, merchant, .. } = self.identified;
        Stated::read(route, *parameter, self.request, &merchant.id)
    }

    /// Works out what the request wants, and has the memory fetched in which its nonce and the rows of its limits are
    /// looked up.
    pub fn intend<'a>(
        &'a self,
        verified: &Verified,
        read: &'a Result<Stated<'a>, Fault>,
        wanted: &mut Wanted,
    ) -> Intent<'a> {
        let Identified { merchant, extracted, .. } = self.identified;
        let nonces = &self.shared.nonces;
        let nonce = extracted.nonce.map(|nonce| nonces.key(&merchant.id, &verified.key(), nonce));
        nonce.into_iter().for_each(|nonce| nonces.fetch(nonce));
        let amount = read.as_ref().ok().and_then(|stated| stated.amount);
        Intent { nonce, amount, wish: self.wish(read, wanted) }
    }

    fn wish<'a>(&'a self, read: &'a Result<Stated<'a>, Fault>, wanted: &mut Wanted) -> Result<Wish<'a>, Refusal> {
        let Identified { route, merchant, .. } = self.identified;
        let refuse = |reason| self.refuse(reason, Detail::None);
        let fault = |fault: &Fault| facts::refusal(fault.clone(), merchant.id);
        // Where the signature stands in the body, that of answers does too, and no key of the platform takes part.
        if route.scheme.signs_in_head() && !self.request.answer_key_known {
            return Err(refuse(Reason::PlatformKeyUnknown));
        }
        let stated = read.as_ref().map_err(fault)?;
        let facts = stated.facts(self.request).map_err(|error| fault(&error))?;
        let permitted = merchant.permit(route, &facts, self.request.trust, self.request.peer).map_err(refuse)?;
        let charges = match (route.operation, stated.amount) {
            (Operation::Pay, Some(amount)) => self.charges(&facts, &permitted, amount, wanted),
            _ => WishedCharges::default(),
        };
        Ok(Wish { stated, facts, permitted, charges })
    }

    /// Finds the limits that a payment is to be charged to.
    fn charges(&self, facts: &Facts<'_>, permitted: &Permitted, amount: Fen, wanted: &mut Wanted) -> WishedCharges {
        let merchant = self.identified.merchant;
        let payment = Payment { merchant, permitted, facts, amount, windows: self.moment.windows };
        let first = wanted.demands.len();
        let mut charges = WishedCharges::default();
        for (index, limit) in self.policy.limits_on(merchant) {
            let reason = match limit.applies(&payment, &self.shared.rows) {
                Applies::No | Applies::Checked => continue,
                Applies::Charge(demand) => {
                    if wanted.demands.len().saturating_sub(first) < CHARGES_MAX {
                        self.books.table.fetch_index(&demand);
                        wanted.demands.push(demand);
                        wanted.limits.push(index);
                        charges.disk |= limit.disk;
                        continue;
                    }
                    Reason::QuotaTableFull
                }
                Applies::ClockOutOfRange => Reason::ClockOutOfRange,
                Applies::AboveTransaction => Reason::LimitExceeded,
                Applies::SubjectUnknown => Reason::LimitSubjectUnknown,
            };
            match (limit.mode, reason) {
                (LimitMode::Shadow, _) => charges.shadowed.push(index),
                (LimitMode::Enforce, Reason::ClockOutOfRange) => {
                    charges.refused = Some(self.refuse(reason, Detail::None));
                    break;
                }
                (LimitMode::Enforce, _) => {
                    charges.refused = Some(self.refuse(reason, self.limit_detail(limit, None, false)));
                    break;
                }
            }
        }
        charges.demands = first..wanted.demands.len();
        charges
    }
}
