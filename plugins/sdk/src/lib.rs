//! Write an Ingle plugin in Rust: the contract of `wit/plugin.wit` as two traits and plain types.
//!
//! It does not decode pictures or tokenise text, and it gives a plugin no capability but a
//! log. Read [`Preprocess`], [`Postprocess`] and [`Tensor`] first.
//!
//! A whole plugin, in a crate with `crate-type = ["cdylib", "rlib"]`:
//!
//! ```
//! use ingle_plugin::{
//!     DataType, InitOptions, PluginInfo, Prepared, Preprocess, RequestContext, Result, Tensor,
//!     TensorSpec, export_preprocess, plugin_info, single_input,
//! };
//! use serde::Deserialize;
//!
//! /// Bytes of text become the model's `bytes` input: one number for each, padded with zeros.
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct TextToBytes {
//!     length: usize,
//! }
//!
//! impl Preprocess for TextToBytes {
//!     fn init(options: InitOptions) -> Result<Self> {
//!         options.config()
//!     }
//!
//!     fn info(&self) -> PluginInfo {
//!         plugin_info!(vec![TensorSpec::new("text", DataType::Bytes, &[])])
//!     }
//!
//!     fn process(&mut self, _: &RequestContext, inputs: Vec<Tensor>) -> Result<Prepared> {
//!         let text = single_input(inputs, "text")?;
//!         let mut numbers: Vec<i32> = text.single_blob()?.iter().map(|&b| b.into()).collect();
//!         numbers.resize(self.length, 0);
//!         let input = Tensor::dense("bytes", &[self.length as u64], &numbers)?;
//!         Ok(Prepared::one(vec![input]))
//!     }
//! }
//!
//! export_preprocess!(TextToBytes);
//!
//! // It is an ordinary type, so that it is tested with `cargo test`:
//! let config = r#"{ "length": 4 }"#.to_string();
//! let options = InitOptions { config, ..InitOptions::default() };
//! let mut plugin = TextToBytes::init(options)?;
//! let text = Tensor::bytes("text", &[], vec![b"hi".to_vec()])?;
//! let prepared = plugin.process(&RequestContext::default(), vec![text])?;
//! assert_eq!(&*prepared.examples[0][0].view::<i32>()?, [104, 105, 0, 0]);
//! # Ok::<_, ingle_plugin::Error>(())
//! ```
//!
//! A component with both stages calls both macros, with a type for each.
//!
//! A panic becomes a line in the server's log and a trap; the client sees an internal error.
//! `Instant::now`, `SystemTime::now` and threads do not exist in a plugin, and panic.

mod config;
mod error;
mod export;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod glue;
mod stage;
pub mod telemetry;
mod tensor;

pub use error::{Code, Error, Result};
pub use stage::{
    File, InitOptions, PluginInfo, Postprocess, Prepared, Preprocess, RequestContext, TensorSpec,
    Value, single_input,
};
pub use tensor::{DataType, Element, Tensor, TensorData};
