//! Arithmetic on the host in a tensor's own element type, as ONNX defines it:
//! integers wrap, and NaN wins where the greater or the lesser is asked for.

use std::borrow::Cow;
use std::cmp::Ordering;

use bytes::Bytes;
use half::{bf16, f16};
use ingle_types::{DType, Element, Shape, Tensor};

use crate::OpError;

/// An element type that is computed with on the host.
pub(crate) trait Number: Element + PartialOrd {
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;

    fn greater(self, other: Self) -> Self {
        if other > self || !other.is_number() { other } else { self }
    }

    fn lesser(self, other: Self) -> Self {
        if other < self || !other.is_number() { other } else { self }
    }

    /// Whether it is anything but NaN.
    fn is_number(self) -> bool {
        self.partial_cmp(&self).is_some()
    }

    /// An order in which NaN comes last and equals itself, and the zeros are equal.
    fn order(self, other: Self) -> Ordering {
        self.partial_cmp(&other).unwrap_or_else(|| other.is_number().cmp(&self.is_number()))
    }
}

macro_rules! integers {
    ($($t:ty),*) => {
        $(impl Number for $t {
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            fn times(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
        })*
    };
}

/// An integer type, whose arithmetic wraps.
pub(crate) trait Integer: Number {
    /// Cut towards zero; what is divided by zero is zero.
    fn divided(self, by: Self) -> Self;

    /// What division leaves, with the sign of the dividend.
    fn remainder(self, by: Self) -> Self;

    /// What division leaves, with the sign of the divisor.
    fn modulo(self, by: Self) -> Self;

    fn power(self, exponent: Self) -> Self;

    /// Zero where all bits are shifted out.
    fn shifted_left(self, by: Self) -> Self;

    /// As [`Integer::shifted_left`].
    fn shifted_right(self, by: Self) -> Self;
}

macro_rules! whole_numbers {
    ($is_negative:expr; $($t:ty),*) => {
        $(impl Integer for $t {
            fn divided(self, by: Self) -> Self {
                if by == 0 { 0 } else { self.wrapping_div(by) }
            }

            fn remainder(self, by: Self) -> Self {
                if by == 0 { 0 } else { self.wrapping_rem(by) }
            }

            fn modulo(self, by: Self) -> Self {
                let is_negative: fn($t) -> bool = $is_negative;
                let left = self.remainder(by);
                let turned = left != 0 && is_negative(left) != is_negative(by);
                if turned { left.wrapping_add(by) } else { left }
            }

            fn power(self, exponent: Self) -> Self {
                let is_negative: fn($t) -> bool = $is_negative;
                if is_negative(exponent) {
                    return (self as f64).powf(exponent as f64) as Self;
                }
                let (mut rest, mut factor, mut answer) = (exponent as u64, self, 1 as $t);
                while rest > 0 {
                    if rest % 2 == 1 {
                        answer = answer.wrapping_mul(factor);
                    }
                    factor = factor.wrapping_mul(factor);
                    rest /= 2;
                }
                answer
            }

            fn shifted_left(self, by: Self) -> Self {
                u32::try_from(by).ok().and_then(|by| self.checked_shl(by)).unwrap_or_default()
            }

            fn shifted_right(self, by: Self) -> Self {
                u32::try_from(by).ok().and_then(|by| self.checked_shr(by)).unwrap_or_default()
            }
        })*
    };
}

whole_numbers!(|value| value < 0; i8, i16, i32, i64);
whole_numbers!(|_| false; u8, u16, u32, u64);

macro_rules! floats {
    ($($t:ty),*) => {
        $(impl Number for $t {
            fn plus(self, other: Self) -> Self {
                self + other
            }

            fn times(self, other: Self) -> Self {
                self * other
            }
        })*
    };
}

integers!(u8, u16, u32, u64, i8, i16, i32, i64);
floats!(f16, bf16, f32, f64);

/// Evaluates an expression with `$t` as the Rust type of a dtype's elements, where
/// bools are bytes; strings have no such type.
macro_rules! by_element {
    ($dtype:expr, $t:ident => $numbers:expr, $strings:expr) => {{
        macro_rules! with {
            ($element:ty) => {{
                type $t = $element;
                $numbers
            }};
        }
        match $dtype {
            ingle_types::DType::Bool | ingle_types::DType::U8 => with!(u8),
            ingle_types::DType::U16 => with!(u16),
            ingle_types::DType::U32 => with!(u32),
            ingle_types::DType::U64 => with!(u64),
            ingle_types::DType::I8 => with!(i8),
            ingle_types::DType::I16 => with!(i16),
            ingle_types::DType::I32 => with!(i32),
            ingle_types::DType::I64 => with!(i64),
            ingle_types::DType::F16 => with!(half::f16),
            ingle_types::DType::BF16 => with!(half::bf16),
            ingle_types::DType::F32 => with!(f32),
            ingle_types::DType::F64 => with!(f64),
            ingle_types::DType::Bytes => $strings,
        }
    }};
}

pub(crate) use by_element;

/// The elements of a tensor whose dtype is `T`'s, or bools as bytes.
pub(crate) fn elements<T: Number>(tensor: &Tensor) -> Cow<'_, [T]> {
    let bytes = tensor.bytes().map(|bytes| bytes.as_ref()).unwrap_or_default();
    bytemuck::try_cast_slice(bytes)
        .map_or_else(|_| Cow::Owned(bytemuck::allocation::pod_collect_to_vec(bytes)), Cow::Borrowed)
}

/// A tensor of `values`, of which there must be one for each element.
pub(crate) fn tensor_of<T: Number + Send + Sync>(
    dtype: DType,
    dims: &[usize],
    values: Vec<T>,
) -> Result<Tensor, OpError> {
    let invalid = |_| OpError::Dims { what: "an output", dims: dims.to_vec() };
    let shape = Shape::new(dims).map_err(invalid)?;
    Tensor::dense(dtype, shape, Bytes::from_owner(Owned(values))).map_err(invalid)
}

struct Owned<T>(Vec<T>);

impl<T: Number> AsRef<[u8]> for Owned<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_wrap_and_nan_wins() {
        assert_eq!((250u8.plus(10), i64::MAX.plus(1), 100i8.times(3)), (4, i64::MIN, 44));
        for (a, b) in [(1.0f32, f32::NAN), (f32::NAN, 1.0)] {
            assert!(a.greater(b).is_nan() && a.lesser(b).is_nan());
        }
        assert_eq!((3u64.greater(u64::MAX), 3i8.lesser(-3)), (u64::MAX, -3));
    }

    #[test]
    fn division_never_ends_in_a_panic() {
        assert_eq!((i64::MIN.divided(-1), i8::MIN.remainder(-1)), (i64::MIN, 0));
        assert_eq!((5u8.divided(0), 5i32.modulo(0)), (0, 0));
        assert_eq!(((-7i16).divided(2), (-7i16).remainder(2), (-7i16).modulo(2)), (-3, -1, 1));
        assert_eq!((7i64.modulo(-3), i64::MAX.modulo(i64::MAX - 1)), (-2, 1));
        assert_eq!(u64::MAX.modulo(10), 5);
    }

    #[test]
    fn powers_wrap_and_shifts_run_out() {
        assert_eq!((3i32.power(4), 2u8.power(9), (-2i8).power(7)), (81, 0, -128));
        assert_eq!(
            (2i64.power(-1), 1i64.power(-5), 3u64.power(u64::MAX)),
            (0, 1, 12_297_829_382_473_034_411)
        );
        assert_eq!((1u8.shifted_left(7), 1u8.shifted_left(8)), (128, 0));
        assert_eq!((u64::MAX.shifted_right(63), u64::MAX.shifted_right(1 << 40)), (1, 0));
    }

    #[test]
    fn nan_comes_last() {
        let mut values = [f64::NAN, 2.0, f64::INFINITY, -1.0, f64::NAN];
        values.sort_by(|a, b| a.order(*b));
        assert_eq!(values[..3], [-1.0, 2.0, f64::INFINITY]);
        assert_eq!(f64::NAN.order(f64::NAN), Ordering::Equal);
    }
}
