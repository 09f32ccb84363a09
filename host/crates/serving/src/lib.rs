//! From a name in a request to an answer: which version serves, with which
//! plugins around it, and when that changes.
//!
//! A model's [`Manager`] thread finds versions, loads them and publishes them on the
//! [`Board`]; a request takes a handle from the board and runs that handle's
//! [`pipeline`]. Protocols, files, ONNX and WebAssembly are other crates'.
//!
//! Read `board` (routing), `pipeline` (life of a request) and `manager` (life of a
//! version) in that order.
#![forbid(unsafe_code)]

mod assembly;
mod batching;
mod board;
mod examples;
mod manager;
mod pace;
mod pipeline;
mod plugin_repository;
mod servable;

pub use batching::{Batching, ReadParameters};
pub use board::{Board, Server};
pub use manager::{
    Manager, ManagerConfig, ModelConfig, ModelList, ModelReport, Models, Operator, OperatorError,
    ReloadError, RetryPolicy, VersionPolicy, VersionReport,
};
pub use pipeline::{Executors, REQUEST_STACK_BYTES};
pub use plugin_repository::PluginRepository;
