//! A version directory becomes a verified, bounded description in memory.
//!
//! The only crate that opens a model's or a plugin's files. Every file is opened
//! beneath a directory handle, so that no name, link or race leads outside of it;
//! it is read once, under [`ingle_types::Limits`], and what changes on disk later
//! cannot touch what is served. It knows nothing of ONNX or WebAssembly.
//!
//! Read [`ModelSource`] (which versions are there) and [`Bundle`] (what one holds) first.
#![forbid(unsafe_code)]

mod directory;
mod error;
mod foreign;
mod manifest;
mod read;
mod source;
mod sums;

pub use directory::Folder;
pub use error::BundleError;
pub use foreign::ForeignModel;
pub use manifest::{MANIFEST_FILE, PluginChoice};
pub use read::{Bundle, PluginRef, SignatureConfig, StageConfig};
pub use source::{FoundVersion, ModelSource, PluginSource, list_models};
pub use sums::SUMS_FILE;
