//! The names of metrics, and the set-up of logs.
//!
//! The only crate that touches the metrics library: everything else calls a
//! method of [`Metrics`], so that a name or a label is written once. It measures
//! nothing by itself.
#![forbid(unsafe_code)]

mod logs;
mod metrics;

pub use logs::{LogFilter, LogFormat, init_logs};
pub use metrics::{Finished, InFlight, Load, LoadOutcome, Metrics, RequestKind, StageTimes};
