//! The renewal protocol as a model, and a search of every order in which its steps can happen.
//!
//! Each step stands for one piece of `tokenkeep-session` between two points at which something else can come in between,
//! and its name is that of the function there. What is checked in every state stands in [`rules`]; what is deliberately
//! broken to see the checks fail, in [`bounds::Break`]. `docs/design.md` says what the model leaves out.

#![forbid(unsafe_code)]

pub mod bounds;
mod caller;
mod ending;
mod exchange;
mod handle;
mod issuer;
mod outside;
mod person;
mod renewal;
pub mod rules;
pub mod search;
mod settle;
mod state;
mod world;

pub use bounds::{Bounds, Break, Overlap, Reach};
