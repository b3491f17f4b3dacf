//! The rules, one by one: what keeps them passes, what breaks one is refused for that.

mod chain;
mod corpus;
mod draft;
mod leaf;
mod limbo;
mod lists;
