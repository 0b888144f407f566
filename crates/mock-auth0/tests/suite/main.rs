//! The mock over the wire, one file a theme.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod first_path;
mod support;
