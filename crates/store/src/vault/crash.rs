//! Crashes: kill -9 and power cuts at every operation, on a simulated disk, against a model in memory.
//!
//! What is checked after each: every entry and note is as it was before or after the write that was under way; what a
//! call returned is there; no revision was ever seen with two values; nothing reads as damaged.
//!
//! `TOKENKEEP_CRASH_HISTORIES` says how many random histories [`long`] runs, `TOKENKEEP_CRASH_SEED` from which seed on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests")]

mod calls;
mod errors;
mod fates;
mod long;
mod marks;
mod model;
mod scene;
mod short;
mod torn;
