//! Quantization of whole tensors by one scale.

use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{DType, Element, FloatDType, IntDType, TensorData};
use burn_flex::{Flex, FlexTensor};

use super::Kernels;

/// How real numbers become integers: divided by `scale`, rounded with halves to
/// even, moved by `zero`, cut to `low..=high`. All but the scale are integers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantizer {
    pub(crate) scale: f32,
    pub(crate) zero: f32,
    pub(crate) low: f32,
    pub(crate) high: f32,
}

/// Adding and subtracting it leaves of a number up to 2^22 its nearest integer,
/// halves to even: a float has no digits left for more.
const ROUNDER: f32 = 12_582_912.0;

impl Quantizer {
    /// Of the float32s of any backend.
    pub(super) fn by_parts<B: Kernels>(self, x: FloatTensor<B>, dtype: IntDType) -> IntTensor<B> {
        let wide = |v: f32| f64::from(v).into();
        let x = if self.scale == 1.0 { x } else { B::float_div_scalar(x, wide(self.scale)) };
        let x = B::float_add_scalar(B::float_round(x), wide(self.zero));
        B::float_into_int(B::float_clamp(x, wide(self.low), wide(self.high)), dtype)
    }

    /// As [`Self::by_parts`], in one pass.
    pub(super) fn on_cpu(self, x: FlexTensor, dtype: IntDType) -> FlexTensor {
        let x = x.to_contiguous();
        match (x.dtype(), dtype) {
            (DType::F32, IntDType::U8) => self.pass(&x, |v| v as u8),
            (DType::F32, IntDType::I8) => self.pass(&x, |v| v as i8),
            (DType::F32, IntDType::U16) => self.pass(&x, |v| v as u16),
            (DType::F32, IntDType::I16) => self.pass(&x, |v| v as i16),
            _ => self.by_parts::<Flex>(x, dtype),
        }
    }

    fn pass<T: Element>(self, x: &FlexTensor, to: impl Fn(f32) -> T) -> FlexTensor {
        // Integers as they are, the bounds cut before the rounding as well as after it.
        let (low, high) = (self.low - self.zero, self.high - self.zero);
        let integer = |&v: &f32| {
            let v = (v / self.scale).max(low).min(high);
            to((v + ROUNDER) - ROUNDER + self.zero)
        };
        let integers: Vec<T> = x.storage::<f32>().iter().map(integer).collect();
        FlexTensor::from_data(TensorData::new(integers, x.layout().shape().to_vec()))
    }
}

/// `(x - zero) * scale` of integers of 8 or 16 bits, as float32.
pub(super) fn dequantize_by_parts<B: Kernels>(
    x: IntTensor<B>,
    zero: f32,
    scale: f32,
) -> FloatTensor<B> {
    let x = B::int_into_float(x, FloatDType::F32);
    let x = if zero == 0.0 { x } else { B::float_sub_scalar(x, f64::from(zero).into()) };
    B::float_mul_scalar(x, f64::from(scale).into())
}

/// As [`dequantize_by_parts`], in one pass.
pub(super) fn dequantize_on_cpu(x: FlexTensor, zero: f32, scale: f32) -> FlexTensor {
    fn pass<T: Element + bytemuck::Pod + Into<f32>>(
        x: &FlexTensor,
        zero: f32,
        scale: f32,
    ) -> FlexTensor {
        let real = |&v: &T| (v.into() - zero) * scale;
        let reals: Vec<f32> = x.storage::<T>().iter().map(real).collect();
        FlexTensor::from_data(TensorData::new(reals, x.layout().shape().to_vec()))
    }
    let x = x.to_contiguous();
    match x.dtype() {
        DType::U8 => pass::<u8>(&x, zero, scale),
        DType::I8 => pass::<i8>(&x, zero, scale),
        DType::U16 => pass::<u16>(&x, zero, scale),
        DType::I16 => pass::<i16>(&x, zero, scale),
        _ => dequantize_by_parts::<Flex>(x, zero, scale),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_does_what_the_parts_do() {
        let mut values: Vec<f32> = (-2000..2000).map(|i| i as f32 / 8.0).collect();
        values.extend([f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e9, -0.0, 1e-40]);
        let x = || FlexTensor::from_data(TensorData::new(values.clone(), [values.len()]));
        for (dtype, zero, low, high) in [
            (IntDType::U8, 0.0, 0.0, 255.0),
            (IntDType::U8, 255.0, 0.0, 255.0),
            (IntDType::I8, -3.0, -128.0, 127.0),
            (IntDType::U16, 65_535.0, 0.0, 65_535.0),
            (IntDType::I16, 7.0, -32_768.0, 32_767.0),
        ] {
            for scale in [1.0, 0.25, 0.1, 1e-9, 1e9] {
                let quantizer = Quantizer { scale, zero, low, high };
                let one = quantizer.on_cpu(x(), dtype);
                let parts = quantizer.by_parts::<Flex>(x(), dtype);
                let back = |x: FlexTensor| dequantize_on_cpu(x, zero, scale).into_data();
                let by_parts = dequantize_by_parts::<Flex>(one.clone(), zero, scale);
                assert_eq!(back(one.clone()), by_parts.into_data(), "{quantizer:?}");
                assert_eq!(one.into_data(), parts.into_data(), "{quantizer:?}");
            }
        }
    }
}
