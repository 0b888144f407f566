//! The client against real connections.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod issuer;
mod logs;
mod proxy;
mod refresh;
mod scripted;
mod sign_in;
mod tenant;
