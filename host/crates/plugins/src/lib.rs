//! Runs untrusted WebAssembly components before and after a model, each call in a
//! fresh sandbox with bounded memory, time, output and log.
//!
//! What a plugin can reach is the interface `ingle:plugin/telemetry` and nothing
//! else: no WASI is linked. Every call blocks, so callers bring their own threads,
//! with at least `Limits::plugin_stack_bytes` of stack to spare. This crate does not
//! choose plugins, batch, or check a preprocessor's answer against a model: that is
//! `ingle-serving`'s job. Read [`PluginHost`], [`Plugin`] and [`PluginError`] first.

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../../wit",
        world: "processor",
        // Inputs are lowered from the request's own buffers, without a copy on the way.
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

mod budget;
mod cache;
mod contract;
mod engine;
mod error;
mod guest_log;
mod host;
mod instance;
mod lift;
mod lower;
mod permits;
mod plugin;

pub use error::{Function, GuestTrace, PluginError, Site};
pub use host::{PluginHost, PluginHostConfig};
pub use plugin::{
    CallContext, InitOptions, Plugin, PluginInfo, Postprocessor, Prepared, Preprocessor,
};

/// The version of the contract in `wit/` that this host speaks.
pub const CONTRACT_VERSION: &str = "0.1.0";
