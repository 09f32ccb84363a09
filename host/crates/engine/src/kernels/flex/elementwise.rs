//! Functions of single elements over whole tensors of f32, in place where
//! nobody else reads them.

use burn::tensor::DType;
use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::activate::{activate, exp};
use super::copy::contiguous;
use super::simd::dispatch;
use super::team;
use crate::kernels::Activation;

/// `None` where Burn's own kernels are used.
pub(super) fn apply(x: FlexTensor, activation: Activation) -> Result<FlexTensor, FlexTensor> {
    if x.dtype() != DType::F32 {
        return Err(x);
    }
    let mut x = if is_whole(&x) { x } else { contiguous(&x) };
    if !is_whole(&x) {
        return Err(x);
    }
    let values = x.storage_mut::<f32>();
    let parts = values.chunks_mut(team::SHARE);
    team::for_each(parts, |values| dispatch(Work { activation, values }));
    Ok(x)
}

/// Whether a tensor is all that its memory holds, in row-major order.
pub(super) fn is_whole(x: &FlexTensor) -> bool {
    let layout = x.layout();
    let size = x.dtype().size();
    layout.is_contiguous()
        && layout.start_offset() == 0
        && layout.num_elements() * size == x.bytes().len()
}

struct Work<'a> {
    activation: Activation,
    values: &'a mut [f32],
}

impl WithSimd for Work<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        activate(self.activation, self.values);
    }
}

/// Softmax of each run of `row` values.
pub(super) fn softmax(x: FlexTensor, row: usize) -> Result<FlexTensor, FlexTensor> {
    if x.dtype() != DType::F32 || row == 0 {
        return Err(x);
    }
    let mut x = if is_whole(&x) { x } else { contiguous(&x) };
    if !is_whole(&x) {
        return Err(x);
    }
    let values = x.storage_mut::<f32>();
    let parts = values.chunks_mut(team::SHARE.div_ceil(row) * row);
    team::for_each(parts, |values| dispatch(Rows { row, values }));
    Ok(x)
}

struct Rows<'a> {
    row: usize,
    values: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.values.chunks_exact_mut(self.row).for_each(softmax_row);
    }
}

/// The powers of e, divided by their sum. NaN spreads over the row.
#[inline(always)]
pub(super) fn softmax_row(row: &mut [f32]) {
    let most = folded(row, f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
    for value in &mut *row {
        *value = exp(*value - most);
    }
    let scale = 1.0 / folded(row, 0.0, |a, b| a + b);
    for value in row {
        *value *= scale;
    }
}

/// Folds values in lanes that do not wait for each other.
#[inline(always)]
fn folded(values: &[f32], start: f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [start; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = join(*lane, *value);
        }
    }
    let all = lanes.iter().fold(start, |a, &b| join(a, b));
    rest.iter().fold(all, |a, &b| join(a, b))
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use burn::tensor::ops::{ActivationOps, FloatTensorOps};
    use burn_flex::Flex;

    use super::*;
    use crate::kernels::Kernels;

    #[test]
    fn rows_become_burns_softmax() {
        for (rows, columns) in [(1, 1), (3, 5), (7, 16), (300, 301)] {
            let values = (0..rows * columns).map(|i| (i * 37 % 97) as f32 - 50.0);
            let values: Vec<f32> = values.collect();
            let x = || FlexTensor::from_data(TensorData::new(values.clone(), [rows, columns]));
            let given = Flex::softmax_along(x(), 1).into_data();
            let wanted = <Flex as ActivationOps<Flex>>::softmax(x(), 1).into_data();
            for (a, b) in given.iter::<f32>().zip(wanted.iter::<f32>()) {
                assert!((a - b).abs() <= 1e-6, "{a} instead of {b}");
            }
        }
    }

    #[test]
    fn powers_of_e_are_exact_to_six_digits_from_zero_to_infinity() {
        for x in (-10_500..=9_000).map(|i| i as f32 * 0.01) {
            let (given, wanted) = (f64::from(exp(x)), f64::from(x).exp());
            let wanted = f64::from(wanted as f32);
            let close = (given - wanted).abs() <= 3e-7 * wanted + 2e-45;
            assert!(close || given == wanted, "exp({x}) = {given} instead of {wanted}");
        }
        assert_eq!((exp(f32::NEG_INFINITY), exp(f32::INFINITY)), (0.0, f32::INFINITY));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn rows_without_an_answer_have_none() {
        let softmax = |values: [f32; 3]| {
            let x = FlexTensor::from_data(TensorData::new(values.to_vec(), [1, 3]));
            Flex::softmax_along(x, 1).into_data().iter::<f32>().collect::<Vec<_>>()
        };
        assert!(softmax([f32::NAN, 1., 2.]).iter().all(|v| v.is_nan()));
        assert!(softmax([f32::NEG_INFINITY; 3]).iter().all(|v| v.is_nan()));
        assert_eq!(softmax([f32::NEG_INFINITY, 3., 3.]), [0., 0.5, 0.5]);
        assert_eq!(softmax([-3.4e38, 0., -200.]), [0., 1., 0.]);
    }

    #[test]
    fn large_small_turned_and_shared_tensors_are_mapped() {
        for (rows, columns) in [(3, 5), (300, 301)] {
            let values: Vec<f32> =
                (0..rows * columns).map(|i| (i % 97) as f32 * 0.1 - 5.0).collect();
            let x = FlexTensor::from_data(TensorData::new(values, [rows, columns]));
            for tensor in [x.clone(), Flex::float_transpose(x.clone())] {
                let given = Flex::activate(tensor.clone(), Activation::Tanh).into_data();
                let wanted = Activation::Tanh.apply::<Flex>(tensor).into_data();
                assert_eq!(given.shape, wanted.shape);
                for (a, b) in given.iter::<f32>().zip(wanted.iter::<f32>()) {
                    assert!((a - b).abs() <= 1e-6, "{a} instead of {b}");
                }
            }
            assert_eq!(x.into_data().iter::<f32>().next(), Some(-5.0), "a shared tensor changed");
        }
    }
}
