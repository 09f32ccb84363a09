//! Whether a tensor is the one that is wanted.

use anyhow::{anyhow, ensure};
use half::{bf16, f16};
use ingle_types::{DType, Data, Tensor};

use crate::model::preview::element;

/// A float may be `absolute + relative * |wanted|` away from what is wanted, as in
/// the runner of ONNX's own tests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerance {
    pub(super) relative: f64,
    pub(super) absolute: f64,
}

impl Tolerance {
    /// NaN is NaN, and an infinity is itself.
    fn accepts(self, given: f64, wanted: f64) -> bool {
        given == wanted
            || given.is_nan() && wanted.is_nan()
            || (given - wanted).abs() <= self.absolute + self.relative * wanted.abs()
                && wanted.is_finite()
    }
}

/// Types and shapes must be the same, floats close, and all else equal.
pub(super) fn compare(
    given: &Tensor,
    wanted: &Tensor,
    tolerance: Tolerance,
) -> Result<(), anyhow::Error> {
    let (types, shapes) = ((given.dtype(), wanted.dtype()), (given.shape(), wanted.shape()));
    ensure!(types.0 == types.1, "it is of type {} instead of {}", types.0, types.1);
    ensure!(shapes.0 == shapes.1, "it is of shape {} instead of {}", shapes.0, shapes.1);
    let (Some(floats), Some(wanted_floats)) = (floats(given)?, floats(wanted)?) else {
        return equal(given, wanted);
    };
    let pairs = || floats.iter().copied().zip(wanted_floats.iter().copied());
    let mut wrong = pairs().enumerate().filter(|(_, (g, w))| !tolerance.accepts(*g, *w));
    let Some((index, _)) = wrong.next() else { return Ok(()) };
    let (count, all) = (wrong.count() + 1, floats.len());
    let (g, w) = (element(given, index), element(wanted, index));
    // NaN is never the largest of two.
    let largest = pairs().map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
    Err(anyhow!(
        "element {index} is {g} instead of {w}; {count} of {all} differ, by {largest:.3e} at most"
    ))
}

/// The elements of a float tensor; `None` for other types.
fn floats(tensor: &Tensor) -> Result<Option<Vec<f64>>, anyhow::Error> {
    Ok(Some(match tensor.dtype() {
        DType::F32 => tensor.as_slice::<f32>()?.iter().map(|&v| v.into()).collect(),
        DType::F64 => tensor.as_slice::<f64>()?.into_owned(),
        DType::F16 => tensor.as_slice::<f16>()?.iter().map(|v| v.to_f64()).collect(),
        DType::BF16 => tensor.as_slice::<bf16>()?.iter().map(|v| v.to_f64()).collect(),
        _ => return Ok(None),
    }))
}

fn equal(given: &Tensor, wanted: &Tensor) -> Result<(), anyhow::Error> {
    let dtype = wanted.dtype();
    let places: Vec<usize> = match (given.data(), wanted.data()) {
        (Data::Dense(given), Data::Dense(wanted)) => {
            let size = dtype.size_bytes().unwrap_or(1);
            different(given.chunks(size), wanted.chunks(size))
        }
        (Data::Blobs(given), Data::Blobs(wanted)) => different(given.iter(), wanted.iter()),
        _ => return Err(anyhow!("only one of the two is a string tensor")),
    };
    let Some(&index) = places.first() else { return Ok(()) };
    let (g, w) = (element(given, index), element(wanted, index));
    let (count, all) = (places.len(), wanted.shape().elements());
    Err(anyhow!("element {index} is {g} instead of {w}; {count} of {all} differ"))
}

/// Where two lists differ.
fn different<T: PartialEq>(a: impl Iterator<Item = T>, b: impl Iterator<Item = T>) -> Vec<usize> {
    a.zip(b).enumerate().filter(|(_, (a, b))| a != b).map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use ingle_types::Shape;

    use super::*;

    const TOLERANCE: Tolerance = Tolerance { relative: 1e-3, absolute: 1e-7 };

    fn difference(given: &[f32], wanted: &[f32]) -> Option<String> {
        let tensor = |values: &[f32]| Tensor::from_slice(&[values.len()], values).unwrap();
        compare(&tensor(given), &tensor(wanted), TOLERANCE).err().map(|e| e.to_string())
    }

    #[test]
    fn floats_may_be_close_and_nothing_else() {
        assert_eq!(difference(&[1.0009, -1000.9, 0.0], &[1.0, -1000.0, 1e-7]), None);
        let text = difference(&[1.0, 1.002, 3.5], &[1.0, 1.0, 3.0]).unwrap();
        assert!(text.starts_with("element 1 is 1.00"), "{text}");
        assert!(text.ends_with("2 of 3 differ, by 5.000e-1 at most"), "{text}");
        assert!(difference(&[2e-7], &[0.0]).is_some());
    }

    #[test]
    fn nan_equals_nan_and_infinities_themselves() {
        let (nan, infinity) = (f32::NAN, f32::INFINITY);
        assert_eq!(difference(&[nan, infinity, -infinity], &[nan, infinity, -infinity]), None);
        for (given, wanted) in [
            (nan, 1.0),
            (1.0, nan),
            (f32::MAX, infinity),
            (infinity, f32::MAX),
            (infinity, -infinity),
        ] {
            assert!(difference(&[given], &[wanted]).is_some(), "{given} {wanted}");
        }
    }

    #[test]
    fn other_types_must_be_equal() {
        let ints = |values: &[i64]| Tensor::from_slice(&[2], values).unwrap();
        assert!(compare(&ints(&[1, 10_000]), &ints(&[1, 10_000]), TOLERANCE).is_ok());
        let text = compare(&ints(&[1, 10_001]), &ints(&[1, 10_000]), TOLERANCE).unwrap_err();
        assert_eq!(text.to_string(), "element 1 is 10001 instead of 10000; 1 of 2 differ");
        let strings =
            |a: &'static str| Tensor::blobs(Shape::new([1]).unwrap(), vec![a.into()]).unwrap();
        let text = compare(&strings("a"), &strings("b"), TOLERANCE).unwrap_err();
        assert_eq!(text.to_string(), "element 0 is \"a\" instead of \"b\"; 1 of 1 differ");
    }

    #[test]
    fn types_and_shapes_must_be_the_same() {
        let text = |given: &Tensor, wanted: &Tensor| {
            compare(given, wanted, TOLERANCE).unwrap_err().to_string()
        };
        let (float, int) = (Tensor::from_slice(&[1], &[1f32]), Tensor::from_slice(&[1], &[1i32]));
        let (float, int) = (float.unwrap(), int.unwrap());
        assert_eq!(text(&float, &int), "it is of type float instead of int32");
        let row = float.clone().reshaped(&[1, 1]).unwrap();
        assert_eq!(text(&float, &row), "it is of shape [1] instead of [1,1]");
    }
}
