//! The mock over the wire, one file a theme.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod admin;
mod api;
mod authorize;
mod clients;
mod command;
mod connections;
mod device;
mod first_path;
mod forged;
mod grants;
mod lost_answers;
mod refresh;
mod server;
mod strange_answers;
mod support;
