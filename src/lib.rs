//! Tollgate decides, for every request to a payment API and in microseconds, who sent it, whether they may, and whether
//! there is room in the limits; takes the amount from every limit concerned, all or nothing; and forwards the request or
//! answers the check.
//!
//! The library is the gate without its sockets: [`admission::Engine::decide`] takes a batch of borrowed requests and an
//! instant, and returns decisions. It does no I/O, reads no clock and waits for nothing.
//!
//! # The way of a request
//! ```text
//! socket -> TLS -> head and body -> route -> [ decide the batch ] -> journal -> forward | answer -> socket
//!                                              |
//!    1 fresh      the timestamp is within the tolerance        before anything costs anything
//!    2 look up    merchant and key
//!    3 verify     the signature over the raw bytes             -> Verified
//!    4 claim      the nonce, once                              -> Claimed
//!    5 permit     source, interface, scenario, channel, measures -> Permitted
//!    6 bind       the order number, new or decided before      -> Bound
//!    7 reserve    every limit, all or nothing                  -> Reserved
//!    8 record     the decision                                 -> Receipt
//! ```
//! An [`admission::Admission`] can only be made of all these proofs, so a step that is skipped does not compile.
//!
//! # The house
//! A module imports only from modules below it; modules on one layer do not know each other. Top to bottom:
//!
//! | layer | module | what lives there |
//! | --- | --- | --- |
//! | 10 | [`cli`] | the commands |
//! | 9 | [`server`] | composition root: parts built, threads started, drained |
//! | 8 | [`config`] | the one reader of files and environment |
//! | 7 | [`front`] | data plane: sockets, TLS, HTTP, batches, forwarding, answers |
//! | 7 | [`admin`] | control plane: metrics, health, decisions, usage, settling, explanations, reload |
//! | 7 | [`recovery`] | going on where a gate left off: what was recorded is put back, files and store are kept |
//! | 6 | [`admission`] | the decision: all of the branching, none of the mechanism |
//! | 5 | [`store`] | what records come to: folded, kept, loaded |
//! | 4 | [`merchant`] | registry snapshot, routes, permissions, which limits apply |
//! | 4 | [`replay`] | freshness, nonces, order numbers |
//! | 3 | [`signature`] | schemes, canonical bytes, keys, verification |
//! | 3 | [`certificate`] | chain, usage, time, binding to the merchant |
//! | 3 | [`quota`] | rows of limits: taking from them, slices for hot ones, reclaim |
//! | 3 | [`journal`] | what was decided, on disk: written, synced, sealed, read again |
//! | 2 | [`metrics`] | every metric, declared once |
//! | 2 | [`storage`] | the seam through which the journal reaches the disk |
//! | 1 | [`request`] | the borrowed, HTTP-free request; the strict readers of JSON and flat XML |
//! | 1 | [`prf`], [`share`] | keyed table keys; a merchant's share of a bounded table |
//! | 1 | `kernel` | the only place for `unsafe`: zeroed memory, prefetch |
//! | 0 | [`time`], [`types`], [`reason`] | instants and windows; newtypes; stable reasons of refusal |
//! | 0 | `sync` | the standard library's atomics and locks, or the model checker's |
//!
//! `unsafe` code is in `kernel` and nowhere else.

pub mod cli;
pub mod server;

pub mod config;

pub mod admin;
pub mod front;
pub mod recovery;

pub mod admission;

pub mod store;

pub mod merchant;
pub mod replay;

pub mod certificate;
pub mod journal;
pub mod quota;
pub mod signature;

pub mod metrics;
pub mod storage;

mod kernel;
pub mod prf;
pub mod request;
pub mod share;

pub mod reason;
mod sync;
pub mod time;
pub mod types;
