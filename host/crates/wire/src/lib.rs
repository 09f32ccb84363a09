//! The protocols: TensorFlow Serving's gRPC and REST over the trait
//! [`ingle_types::Serve`].
//!
//! This crate decodes, routes nothing, runs nothing and encodes: it knows neither
//! Burn nor wasmtime and never touches the file system. Read [`Wire`] first, then
//! the calls in `tfs_grpc` and `tfs_rest`, which are the same three steps: resolve a
//! servable, decode by its signature, predict.
#![forbid(unsafe_code)]

mod admin;
pub mod batching_parameters;
mod body;
mod budget;
mod call;
mod inference;
mod json;
pub mod models_config;
pub mod monitoring_config;
pub mod proto;
mod protobuf;
mod request_log;
mod server;
mod share;
mod signature_def;
pub mod ssl_config;
pub mod tensor_proto;
mod text_proto;
pub mod tfrecord;
mod tfs_grpc;
mod tfs_rest;
mod warm_up;

#[cfg(test)]
mod tests;

pub use admin::{Admin, Model, ModelVersion, Operate, Token, TokenError};
pub use request_log::{JsonError, Record, RequestLog};
pub use server::{DrainError, Listener, Reload, Tally, Tls, Wire};
pub use warm_up::WarmUp;
