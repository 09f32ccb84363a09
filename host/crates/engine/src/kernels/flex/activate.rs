//! Activation functions over slices, as loops that become vector instructions
//! where they are inlined into code that has them. NaN stays NaN.

use pulp::Simd;

use crate::kernels::Activation;

/// Whether [`activate_vector`] knows it: a few instructions, no curve.
pub(super) fn is_cheap(activation: Activation) -> bool {
    matches!(
        activation,
        Activation::Relu
            | Activation::LeakyRelu { .. }
            | Activation::Clip { .. }
            | Activation::HardSigmoid { .. }
            | Activation::HardSwish
    )
}

/// The activation of each number of a vector, where it is cheap.
#[inline(always)]
pub(super) fn activate_vector<S: Simd>(simd: S, activation: Activation, x: S::f32s) -> S::f32s {
    let splat = |value| simd.splat_f32s(value);
    match activation {
        Activation::Relu => least(simd, x, 0.0),
        Activation::LeakyRelu { alpha } => {
            let below = simd.less_than_f32s(x, splat(0.0));
            simd.select_f32s(below, simd.mul_f32s(splat(alpha), x), x)
        }
        Activation::Clip { low, high } => most(simd, least(simd, x, low), high),
        Activation::HardSigmoid { alpha, beta } => {
            let line = simd.mul_add_e_f32s(splat(alpha), x, splat(beta));
            most(simd, least(simd, line, 0.0), 1.0)
        }
        Activation::HardSwish => {
            let line = simd.mul_add_e_f32s(splat(1.0 / 6.0), x, splat(0.5));
            simd.mul_f32s(x, most(simd, least(simd, line, 0.0), 1.0))
        }
        _ => x,
    }
}

#[inline(always)]
fn least<S: Simd>(simd: S, x: S::f32s, low: f32) -> S::f32s {
    let low = simd.splat_f32s(low);
    simd.select_f32s(simd.less_than_f32s(x, low), low, x)
}

#[inline(always)]
fn most<S: Simd>(simd: S, x: S::f32s, high: f32) -> S::f32s {
    let high = simd.splat_f32s(high);
    simd.select_f32s(simd.less_than_f32s(high, x), high, x)
}

/// Replaces each value by its activation.
#[inline(always)]
pub(super) fn activate(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Relu => each(values, |x| if x < 0.0 { 0.0 } else { x }),
        Activation::LeakyRelu { alpha } => each(values, |x| if x < 0.0 { alpha * x } else { x }),
        Activation::Clip { low, high } => each(values, |x| clamp(x, low, high)),
        Activation::Sigmoid => each(values, sigmoid),
        Activation::Tanh => each(values, tanh),
        Activation::HardSigmoid { alpha, beta } => {
            each(values, |x| clamp(alpha * x + beta, 0.0, 1.0));
        }
        Activation::HardSwish => each(values, |x| x * clamp(x * (1.0 / 6.0) + 0.5, 0.0, 1.0)),
        Activation::Swish { alpha } => each(values, |x| x * sigmoid(alpha * x)),
        Activation::Gelu => {
            each(values, |x| 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)));
        }
        Activation::GeluTanh => {
            each(values, |x| 0.5 * x * (1.0 + tanh(0.797_884_6 * (x + 0.044_715 * x * x * x))));
        }
        Activation::Erf => each(values, erf),
        Activation::Exp => each(values, exp),
    }
}

#[inline(always)]
fn each(values: &mut [f32], function: impl Fn(f32) -> f32) {
    for value in values {
        *value = function(*value);
    }
}

#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// Within 2 units in the last place over the whole range, whose ends are zero and
/// infinity.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding this rounds to a whole number, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -105.0 { -105.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    // ln 2 in two parts, so that the rest is exact.
    let rest = x - whole * 0.693_359_4;
    let rest = rest + whole * 2.121_944_4e-4;
    let mut sum = 1.987_569_2e-4;
    for factor in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = sum * rest + factor;
    }
    let power = sum * (rest * rest) + rest + 1.0;
    // In two steps, as the power of two alone may be none that a float has.
    let whole = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = whole >> 1;
    let two_to = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    power * two_to(half) * two_to(whole.wrapping_sub(half))
}

#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// A quotient of polynomials.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let x = clamp(x, -7.905_311, 7.905_311);
    let square = x * x;
    let mut top = -2.760_768_5e-16;
    for factor in
        [2.000_188e-13, -8.604_672e-11, 5.122_297e-8, 1.485_722_4e-5, 6.372_619_3e-4, 4.893_525e-3]
    {
        top = top * square + factor;
    }
    let mut bottom = 1.198_258_4e-6;
    for factor in [1.185_347e-4, 2.268_434_6e-3, 4.893_525e-3] {
        bottom = bottom * square + factor;
    }
    x * top / bottom
}

/// A quotient of polynomials.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let x = clamp(x, -4.0, 4.0);
    let square = x * x;
    let mut top = -2.726_142_3e-10;
    for factor in [
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ] {
        top = top * square + factor;
    }
    let mut bottom = -1.456_607_2e-5;
    for factor in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2] {
        bottom = bottom * square + factor;
    }
    x * top / bottom
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(function: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        let steps = (-20_000..=20_000).map(|i| i as f32 * 0.001);
        steps.map(|x| (f64::from(function(x)) - exact(x.into())).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn curves_are_exact_to_six_digits() {
        let error = worst(|x| exp(x) / (f64::from(x).exp() as f32), |_| 1.0);
        assert!(error < 4e-7, "exp {error}");
        let error = worst(sigmoid, |x| 1.0 / (1.0 + (-x).exp()));
        assert!(error < 2e-7, "sigmoid {error}");
        let error = worst(tanh, f64::tanh);
        assert!(error < 4e-7, "tanh {error}");
        // From tables: erf(0.5), erf(1), erf(2), erf(6).
        for (x, y) in [(0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3), (6.0, 1.0)] {
            assert!((erf(x) - y).abs() < 4e-7 && (erf(-x) + y).abs() < 4e-7, "erf {x}");
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so_and_infinities_have_limits() {
        let all = [
            Activation::Relu,
            Activation::LeakyRelu { alpha: 0.1 },
            Activation::Clip { low: 0.0, high: 6.0 },
            Activation::Sigmoid,
            Activation::Tanh,
            Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
            Activation::HardSwish,
            Activation::Swish { alpha: 1.0 },
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::Erf,
            Activation::Exp,
        ];
        for activation in all {
            let mut values = [f32::NAN];
            activate(activation, &mut values);
            assert!(values[0].is_nan(), "{activation:?}");
        }
        let mut values = [f32::NEG_INFINITY, f32::INFINITY];
        activate(Activation::Sigmoid, &mut values);
        assert!(values[0].abs() < 1e-37 && values[1] == 1.0, "{values:?}");
        let mut values = [f32::NEG_INFINITY, f32::INFINITY];
        activate(Activation::Tanh, &mut values);
        assert!((values[0] + 1.0).abs() < 4e-7 && (values[1] - 1.0).abs() < 4e-7, "{values:?}");
    }
}
