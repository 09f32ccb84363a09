//! The nouns that every other crate shares: tensors, signatures, errors, limits
//! and the trait [`Serve`] that the protocols call.
//!
//! This crate does no I/O and knows no async runtime, so it compiles in seconds
//! and everything may depend on it. Read [`Tensor`] and [`Serve`] first.
//!
//! ```
//! use ingle_types::{DType, Tensor};
//! let t = Tensor::from_slice(&[2, 3], &[1f32, 2., 3., 4., 5., 6.])?;
//! assert_eq!((t.dtype(), t.dims()), (DType::F32, &[2, 3][..]));
//! let row = t.row(1).ok_or("no such row")?;
//! assert_eq!(row.as_slice::<f32>()?, [4., 5., 6.].as_slice());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod batching;
mod deadline;
mod dtype;
mod error;
mod limits;
mod serve;
mod shape;
mod signature;
mod tensor;

pub use batching::BatchingParameters;
pub use deadline::Deadline;
pub use dtype::{DType, Element};
pub use error::{Code, ServeError, Stage};
pub use limits::Limits;
pub use serve::{
    BoxFuture, ModelReadiness, ModelSpec, PredictRequest, Replay, Replayed, Servable, Serve,
    VersionChoice, VersionState, VersionStatus,
};
pub use shape::Shape;
pub use signature::{Dim, Method, Signature, SignatureError, TensorSpec};
pub use tensor::{Data, Tensor, TensorError, TensorMap};

/// A model version: the number that names its directory.
pub type Version = u64;

/// The signature that a request means when it names none.
pub const DEFAULT_SIGNATURE: &str = "serving_default";
