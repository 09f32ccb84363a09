//! JSON as TensorFlow Serving reads it: RapidJSON's iterative parser with NaN and
//! Infinity, which stops after the first complete value.
//!
//! A text is read twice and never becomes a tree: [`scan`] proves the syntax and
//! notes where the members of the root are, then a [`Cursor`] goes over the same
//! text by the model's signature, straight into the elements of tensors.

mod cursor;
mod escape;
mod number;
mod scan;

pub(crate) use cursor::{Cursor, Token};
pub(crate) use escape::{unescape, write_string};
pub(crate) use number::Number;
pub(crate) use scan::{Document, scan};
