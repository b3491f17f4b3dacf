//! What the traffic consists of: mostly payments, some operations on them, and a few percent that is hostile.

use std::time::Instant;

use rand::Rng;

use super::accounts::Account;
use super::request::{Payment, Signed};
use super::world::World;
use crate::reason::Reason;
use crate::time::{Clock, SystemClock, UnixMillis};
use crate::types::Interface;

/// Makes scripts of requests.
#[derive(Clone)]
pub(super) struct Script {
    store: Account,
    tea_house: Account,
}

/// Requests that go one after another on one connection.
pub(super) struct Scripted {
    pub signed_at: Instant,
    pub exchanges: Vec<Exchange>,
}

/// A request and its expected verdict.
pub(super) struct Exchange {
    pub signed: Signed,
    pub verdict: Verdict,
    /// What the merchant has taken more, or less, once it is admitted.
    pub receipts: Option<Receipts>,
}

/// What a merchant has taken, in fen.
pub(super) type Receipts = (&'static str, i64);

/// What the gate is to make of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Admitted; of this kind.
    Admitted(&'static str),
    /// Refused for this reason.
    Refused(Reason),
}

impl Verdict {
    /// Returns its name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted(kind) => kind,
            Self::Refused(reason) => reason.as_str(),
        }
    }
}

impl Script {
    /// Makes the script for the merchants of a world.
    pub fn new(world: &World) -> Self {
        Self { store: world.accounts.store.clone(), tea_house: world.accounts.tea_house.clone() }
    }

    /// Writes and signs the next requests.
    pub fn next(&self, random: &mut impl Rng) -> Scripted {
        let customer = format!("o-customer-{}", random.next_u32() % CUSTOMERS);
        let payment = Payment::by(&customer, u64::from(1 + random.next_u32() % 9));
        let draw = random.next_u32() % 100;
        let exchanges = match draw {
            0..4 => self.hostile(random.next_u32() % HOSTILE, &payment),
            4..64 => vec![self.paid(draw, &payment)],
            64..82 => vec![admitted("query", self.store.query(&payment.number).signed())],
            82..89 => {
                let paid = self.pays("jsapi", &self.store, Interface::Jsapi, &payment);
                let closed = admitted("close", self.store.close(&payment.number).signed());
                let receipts = paid.receipts.map(|(mchid, fen)| (mchid, -fen));
                vec![paid, Exchange { receipts, ..closed }]
            }
            89..94 => vec![admitted("refund", self.store.refund(&payment.number).signed())],
            94..97 => {
                let again = self.tea_house.pay(Interface::Jsapi, &payment).signed();
                let paid = self.pays("jsapi", &self.tea_house, Interface::Jsapi, &payment);
                vec![paid, admitted("duplicate", again)]
            }
            _ => vec![admitted("echo", self.tea_house.echo("hello").signed())],
        };
        Scripted { signed_at: Instant::now(), exchanges }
    }

    fn paid(&self, draw: u32, payment: &Payment) -> Exchange {
        let (account, interface) = match draw % 10 {
            0 | 1 => (&self.store, Interface::Jsapi),
            2 => (&self.tea_house, Interface::Jsapi),
            3 => (&self.store, Interface::MiniProgram),
            4 => (&self.store, Interface::Native),
            5 => (&self.tea_house, Interface::Native),
            6 => (&self.store, Interface::App),
            7 => (&self.store, Interface::H5),
            8 => (&self.store, Interface::PaymentCode),
            _ => (&self.store, Interface::Face),
        };
        self.pays(interface.as_str(), account, interface, payment)
    }

    fn pays(&self, kind: &'static str, account: &Account, interface: Interface, payment: &Payment) -> Exchange {
        let receipts = i64::try_from(payment.amount_fen).ok().map(|fen| (account.mchid, fen));
        Exchange { receipts, ..admitted(kind, account.pay(interface, payment).signed()) }
    }

    fn hostile(&self, kind: u32, payment: &Payment) -> Vec<Exchange> {
        let message = self.store.pay(Interface::Jsapi, payment);
        let dearer = Payment { amount_fen: payment.amount_fen + 1, ..payment.clone() };
        match kind {
            0 => {
                let forged = self.store.payment_body(Interface::Jsapi, &dearer).to_string();
                vec![refused(Reason::SignatureInvalid, message.signed().forged(&forged))]
            }
            1 => {
                let hour_ago = UnixMillis(SystemClock.now().0 - 3_600_000);
                vec![refused(Reason::TimestampSkewed, message.at(hour_ago).signed())]
            }
            2 => {
                let paid = message.signed();
                let first =
                    Exchange { signed: paid.clone(), ..self.pays("jsapi", &self.store, Interface::Jsapi, payment) };
                vec![first, refused(Reason::NonceReplayed, paid)]
            }
            3 => {
                let stranger = message.claiming("1999999999", &self.store.key_id);
                vec![refused(Reason::MerchantUnknown, stranger.signed())]
            }
            4 => vec![refused(Reason::AuthorizationMissing, message.signed().without("authorization"))],
            5 => vec![refused(Reason::RouteUnknown, self.store.get("/v3/pay/transactions/../admin").signed())],
            6 => {
                let large = Payment { amount_fen: 600_000, ..payment.clone() };
                vec![refused(Reason::LimitExceeded, self.store.pay(Interface::Jsapi, &large).signed())]
            }
            _ => {
                let again = self.store.pay(Interface::Jsapi, &dearer).signed();
                let first = self.pays("jsapi", &self.store, Interface::Jsapi, payment);
                vec![first, refused(Reason::OrderNumberUsed, again)]
            }
        }
    }
}

fn admitted(kind: &'static str, signed: Signed) -> Exchange {
    Exchange { signed, verdict: Verdict::Admitted(kind), receipts: None }
}

fn refused(reason: Reason, signed: Signed) -> Exchange {
    Exchange { signed, verdict: Verdict::Refused(reason), receipts: None }
}

/// How many customers pay: few enough that limits have work, many enough that none of them runs into a limit.
const CUSTOMERS: u32 = 5000;

/// How many kinds of hostile requests there are.
const HOSTILE: u32 = 8;
