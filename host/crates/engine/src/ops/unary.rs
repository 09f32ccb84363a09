//! Functions of one number, applied to each element.

use burn::tensor::ops::{FloatTensor, IntTensor};

use super::{Args, Built, Registry, op};
use crate::OpError;
use crate::kernels::{Activation, Kernels};
use crate::value::{DeviceTensor, Host, HostData};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Sqrt", 1.., 1..=1, |a| float(a, B::float_sqrt, f64::sqrt));
    r.add("Exp", 1.., 1..=1, |a| float(a, |x| B::activate(x, Activation::Exp), f64::exp));
    r.add("Log", 1.., 1..=1, |a| float(a, B::float_log, f64::ln));
    r.add("Reciprocal", 1.., 1..=1, |a| float(a, B::float_recip, f64::recip));
    r.add("Floor", 1.., 1..=1, |a| float(a, B::float_floor, f64::floor));
    r.add("Ceil", 1.., 1..=1, |a| float(a, B::float_ceil, f64::ceil));
    r.add("Round", 11.., 1..=1, |a| float(a, B::float_round, f64::round_ties_even));
    r.add("Tanh", 1.., 1..=1, |a| float(a, |x| B::activate(x, Activation::Tanh), f64::tanh));
    r.add("Sin", 7.., 1..=1, |a| float(a, B::float_sin, f64::sin));
    r.add("Cos", 7.., 1..=1, |a| float(a, B::float_cos, f64::cos));
    r.add("Tan", 7.., 1..=1, |a| float(a, B::float_tan, f64::tan));
    r.add("Asin", 7.., 1..=1, |a| float(a, B::float_asin, f64::asin));
    r.add("Acos", 7.., 1..=1, |a| float(a, B::float_acos, f64::acos));
    r.add("Atan", 7.., 1..=1, |a| float(a, B::float_atan, f64::atan));
    r.add("Sinh", 9.., 1..=1, |a| float(a, B::float_sinh, f64::sinh));
    r.add("Cosh", 9.., 1..=1, |a| float(a, B::float_cosh, f64::cosh));
    r.add("Asinh", 9.., 1..=1, |a| float(a, B::float_asinh, f64::asinh));
    r.add("Acosh", 9.., 1..=1, |a| float(a, B::float_acosh, f64::acosh));
    r.add("Atanh", 9.., 1..=1, |a| float(a, B::float_atanh, f64::atanh));
    r.add("Erf", 9.., 1..=1, |a| on_device(a, |x| B::activate(x, Activation::Erf)));
    r.add("Neg", 1.., 1..=1, |a| any(a, B::float_neg, |x| -x, B::int_neg, i64::wrapping_neg));
    r.add("Abs", 1.., 1..=1, |a| any(a, B::float_abs, f64::abs, B::int_abs, i64::wrapping_abs));
    r.add("Sign", 9.., 1..=1, |a| any(a, B::float_sign, sign, B::int_sign, i64::signum));
    r.add("BitwiseNot", 18.., 1..=1, |a| any(a, |x| x, |x| x, B::bitwise_not, |x| !x));
}

fn sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() { x } else { x.signum() }
}

fn float<B: Kernels>(
    args: &Args<'_, B>,
    device: fn(FloatTensor<B>) -> FloatTensor<B>,
    host: fn(f64) -> f64,
) -> Built<B> {
    any_with(args, device, Some(host), None)
}

fn on_device<B: Kernels>(
    args: &Args<'_, B>,
    device: fn(FloatTensor<B>) -> FloatTensor<B>,
) -> Built<B> {
    any_with(args, device, None, None)
}

fn any<B: Kernels>(
    args: &Args<'_, B>,
    device: fn(FloatTensor<B>) -> FloatTensor<B>,
    host: fn(f64) -> f64,
    device_int: fn(IntTensor<B>) -> IntTensor<B>,
    host_int: fn(i64) -> i64,
) -> Built<B> {
    any_with(args, device, Some(host), Some((device_int, host_int)))
}

type OnInts<B> = (fn(IntTensor<B>) -> IntTensor<B>, fn(i64) -> i64);

fn any_with<B: Kernels>(
    _: &Args<'_, B>,
    device: fn(FloatTensor<B>) -> FloatTensor<B>,
    host: Option<fn(f64) -> f64>,
    ints: Option<OnInts<B>>,
) -> Built<B> {
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        if let Some(given) = x.as_host() {
            let (dtype, dims) = (given.dtype(), given.dims().to_vec());
            match (given.data(), host, ints) {
                (HostData::Float(values), Some(host), _) => {
                    let values = values.iter().map(|&v| host(v)).collect();
                    return Ok(vec![Host::floats(dtype, dims, values).into()]);
                }
                (HostData::Int(values), _, Some((_, host))) if given.is_plain() => {
                    let values = values.iter().map(|&v| host(v)).collect();
                    return Ok(vec![Host::ints(dtype, dims, values).into()]);
                }
                _ if given.elements() == 0 => return Ok(vec![x]),
                _ => {}
            }
        }
        let (given, dims) = (x.dtype(), x.dims());
        let answer = match (x.into_device(ctx)?, ints) {
            (DeviceTensor::Float(t), _) => DeviceTensor::Float(device(t)),
            (DeviceTensor::Int(t), Some((device, _))) => DeviceTensor::Int(device(t)),
            _ => {
                let expected = "a float tensor";
                return Err(OpError::DType { what: "the operand", expected, given });
            }
        };
        Ok(vec![answer.reshape(&dims).into()])
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, f32s, i64s};

    /// On the host, for few elements, and on the device, for many.
    #[track_caller]
    fn check(operator: &str, x: [f32; 3], y: [f32; 3]) {
        for times in [1, 100] {
            let dims = [3 * times, 1];
            Case::of(operator, [f32s(&dims, &x.repeat(times))])
                .gives([f32s(&dims, &y.repeat(times))]);
        }
        Case::of(operator, [f32s(&[3], &x)]).gives([f32s(&[3], &y)]);
    }

    #[test]
    fn functions_have_their_values() {
        check("Sqrt", [0., 4., 5.], [0., 2., 2.236_068]);
        check("Exp", [0., 1., -1.], [1., 2.718_281_7, 0.367_879_45]);
        check("Log", [1., 3., 20.], [0., 1.098_612_3, 2.995_732_3]);
        check("Reciprocal", [1., 2., -4.], [1., 0.5, -0.25]);
        check("Tanh", [0., 1., -2.], [0., 0.761_594_2, -0.964_027_6]);
        check("Erf", [0., 1., -0.5], [0., 0.842_700_8, -0.520_499_9]);
        check("Sin", [0., 1., -2.], [0., 0.841_471, -0.909_297_4]);
        check("Atan", [0., 3., -2.], [0., 1.249_045_8, -1.107_148_7]);
    }

    #[test]
    fn rounding_prefers_even_numbers() {
        check("Round", [0.5, 1.5, -2.5], [0., 2., -2.]);
        check("Floor", [1.5, -1.5, 2.], [1., -2., 2.]);
        check("Ceil", [1.5, -1.5, 2.], [2., -1., 2.]);
    }

    #[test]
    fn signs_are_those_of_the_operand() {
        check("Neg", [1., -2., 0.], [-1., 2., 0.]);
        check("Abs", [1., -2., 0.], [1., 2., 0.]);
        check("Sign", [3., -2., 0.], [1., -1., 0.]);
        Case::of("Abs", [i64s(&[2], &[-3, 3])]).gives([i64s(&[2], &[3, 3])]);
        Case::of("Neg", [i64s(&[1500], &[7; 1500])]).gives([i64s(&[1500], &[-7; 1500])]);
        Case::of("Sqrt", [i64s(&[1], &[4])]).fails("float tensor");
    }
}
