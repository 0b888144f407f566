//! Where a passphrase or key comes from: the order of the sources, and how each of them fails.
#![cfg(all(feature = "vault", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stderr,
    missing_docs
)] // A failed step fails its test; a test that is run again says that it ran.

#[path = "unlock/doubles.rs"]
mod doubles;
#[path = "unlock/each.rs"]
mod each;
#[path = "unlock/order.rs"]
mod order;
