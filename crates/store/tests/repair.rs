//! Whatever is damaged is named, hides nothing else, and a repair saves all the rest.
#![allow(clippy::disallowed_methods, reason = "tests")]
#![cfg(feature = "vault")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod scene;

#[path = "repair/every_byte.rs"]
mod every_byte;
#[path = "repair/pieces.rs"]
mod pieces;
#[path = "repair/saved.rs"]
mod saved;
#[path = "repair/ways.rs"]
mod ways;
