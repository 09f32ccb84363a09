//! A bounded queue before owned worker threads: where requests wait for the device.
//!
//! Today a job is one request's execution: nothing is joined yet. Scheduling,
//! padding and splitting will live here, behind the same [`Workers::run`]; of
//! [`ingle_types::BatchingParameters`] there is [`Admission`]. This
//! crate knows neither models nor plugins.
//!
//! A job whose caller has gone, or whose deadline has passed, is dropped before
//! it starts. A job that panics fails alone.
#![forbid(unsafe_code)]

mod admission;
mod workers;

pub use admission::{Admission, AdmissionError, Place};
pub use workers::{QueueError, Workers, WorkersConfig};
