//! The host against real components, most of them hostile.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../../../../tests/guests/mod.rs"]
mod guests;

mod cache;
mod calls;
mod contract;
mod fixture;
mod hostile;
mod log;
mod soak;
