//! Runs ONNX models with Burn: a file becomes a graph, the graph a [`Program`]
//! on the [`Device`] that was chosen at run time.
//!
//! This crate reads no files and knows no protocol: the model's bytes come from the
//! caller, and [`Program::run`] computes on the thread that calls it, which the
//! threads of the kernels help on the CPU. Read [`Engine`] and [`Program`] first, then
//! `ops/mod.rs`, which says how an operator is added.
//!
//! ```
//! use ingle_engine::{DeviceChoice, Engine, NoExternalData};
//!
//! let engine = Engine::new(DeviceChoice::Cpu)?;
//! let refused = engine.load(b"not a model", &NoExternalData, &Default::default());
//! assert!(refused.is_err());
//! # Ok::<(), ingle_engine::DeviceError>(())
//! ```
// Two modules are unsafe, each with its reason: `probe` asks for a CUDA driver, and
// `kernels::flex::team` lends the caller's work to other threads.
#![deny(unsafe_code)]

mod context;
mod describe;
mod device;
mod dims;
mod error;
mod external;
mod flops;
mod graph;
mod kernels;
mod literal;
mod number;
mod observe;
mod ops;
mod passes;
mod plan;
mod probe;
mod program;
mod proto;
mod signature;
#[cfg(test)]
mod testing;
mod value;

pub use describe::{DeclaredValue, Description, describe};
pub use device::{Device, DeviceChoice, DeviceError, Engine};
pub use error::{BuildError, LoadError, NodeLabel, OpError, PanicText, RunError};
pub use external::{ExternalData, ExternalDataError, NoExternalData};
pub use literal::{LiteralError, read_tensor};
pub use observe::{Observer, StepReport, StepTensor};
pub use ops::{OperatorInfo, operators};
pub use passes::Optimize;
pub use program::Program;
