//! Tollgate decides, for every request to a payment API and in microseconds, who sent it, whether they may, and whether
//! there is room in the limits; takes the amount from every limit concerned, all or nothing; and forwards the request or
//! answers the check.

pub mod admin;
pub mod admission;
pub mod certificate;
pub mod config;
pub mod front;
pub mod journal;
pub mod merchant;
pub mod metrics;
pub mod prf;
pub mod quota;
pub mod reason;
pub mod replay;
pub mod request;
pub mod share;
pub mod signature;
pub mod time;
pub mod types;
