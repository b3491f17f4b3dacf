//! What the records of the journal come to: folded into orders and rows, kept in a durable store behind the gate, and
//! loaded when it starts.
//!
//! Nothing here reads the tables that decisions are made on. The journal is the queue: what is folded is what was recorded.

mod fold;

pub use fold::{Base, Fold, FoldedRow, Nothing, Unfoldable};
