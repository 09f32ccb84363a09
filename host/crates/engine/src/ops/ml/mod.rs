//! The operators of `ai.onnx.ml`: scikit-learn's estimators after conversion.
//!
//! Their work is irregular and small, so all of it happens on the host, in the
//! precision that ONNX Runtime uses: 32 bits, except where doubles meet trees.

mod features;
mod labels;
mod linear;
mod scores;
mod svm;
mod trees;

use std::borrow::Cow;

use ingle_types::{DType, Element, Tensor};

use super::Registry;
use crate::OpError;
use crate::context::Context;
use crate::kernels::Kernels;
use crate::value::Value;

pub(crate) const DOMAIN: &str = "ai.onnx.ml";

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    features::register(r);
    labels::register(r);
    linear::register(r);
    svm::register(r);
    trees::register(r);
}

/// Rows and columns; a tensor of rank 1 is one row.
fn rows_of(dims: &[usize]) -> Result<[usize; 2], OpError> {
    match *dims {
        [columns] => Ok([1, columns]),
        [rows, columns] => Ok([rows, columns]),
        _ => Err(OpError::Dims { what: "the features", dims: dims.to_vec() }),
    }
}

/// The elements in 32 bits, without a copy where that is what they are.
fn singles(x: &Tensor) -> Result<Cow<'_, [f32]>, OpError> {
    Ok(match x.dtype() {
        DType::F32 => x.as_slice().map_err(|_| numbers_wanted(x))?,
        DType::F64 => converted(x, |v: f64| v as f32)?,
        DType::I64 => converted(x, |v: i64| v as f32)?,
        DType::I32 => converted(x, |v: i32| v as f32)?,
        DType::F16 => converted(x, half::f16::to_f32)?,
        _ => return Err(numbers_wanted(x)),
    })
}

/// As [`singles`], in 64 bits.
fn doubles(x: &Tensor) -> Result<Cow<'_, [f64]>, OpError> {
    match x.dtype() {
        DType::F64 => x.as_slice().map_err(|_| numbers_wanted(x)),
        _ => Ok(singles(x)?.iter().map(|&v| v.into()).collect()),
    }
}

fn converted<T: Element, F: Clone>(
    x: &Tensor,
    convert: impl Fn(T) -> F,
) -> Result<Cow<'_, [F]>, OpError> {
    let values = x.as_slice::<T>().map_err(|_| numbers_wanted(x))?;
    Ok(values.iter().map(|&v| convert(v)).collect())
}

fn numbers_wanted(x: &Tensor) -> OpError {
    let expected = "float, double, int64 or int32";
    OpError::DType { what: "the features", expected, given: x.dtype() }
}

/// An output of shape `dims`, which were admitted before `values` were computed.
fn output<B: Kernels, T: Element>(
    ctx: &Context<B>,
    dims: &[usize],
    values: &[T],
) -> Result<Value<B>, OpError> {
    let wrong = |_| OpError::Dims { what: "an output", dims: dims.to_vec() };
    Value::from_tensor(ctx, &Tensor::from_slice(dims, values).map_err(wrong)?)
}

/// The sum of products; in several partial sums, which a compiler can vectorise.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    const LANES: usize = 8;
    let (mut l, mut r) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let mut sums = [0f32; LANES];
    for (l, r) in l.by_ref().zip(r.by_ref()) {
        for ((sum, a), b) in sums.iter_mut().zip(l).zip(r) {
            *sum += a * b;
        }
    }
    let rest: f32 = l.remainder().iter().zip(r.remainder()).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_summed_beyond_the_lanes() {
        let ones = [1f32; 19];
        let counting: Vec<f32> = (1..=19u8).map(f32::from).collect();
        assert_eq!(dot(&ones, &counting), 190.);
        assert_eq!(dot(&[], &[]), 0.);
    }
}
