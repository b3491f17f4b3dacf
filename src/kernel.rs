//! What safe Rust cannot say: memory that the system clears when it is first touched, and hints to the processor.
//!
//! The one place of the crate with `unsafe` code. Every block argues why it is sound; miri runs the tests of this module.

mod prefetch;
mod zeroed;

pub(crate) use prefetch::prefetch;
pub(crate) use zeroed::{Line, zeroed};
