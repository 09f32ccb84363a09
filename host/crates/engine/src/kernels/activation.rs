//! Functions that other operators apply to what they computed, before it is
//! written to memory.

use burn::tensor::ops::FloatTensor;

use super::Kernels;

/// A function of one number, with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Activation {
    Relu,
    LeakyRelu {
        alpha: f32,
    },
    /// `low` is not above `high`.
    Clip {
        low: f32,
        high: f32,
    },
    Sigmoid,
    Tanh,
    /// alpha * x + beta, between 0 and 1.
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    /// x * min(max(x / 6 + 1/2, 0), 1).
    HardSwish,
    /// x * sigmoid(alpha * x).
    Swish {
        alpha: f32,
    },
    /// The exact form, by the error function.
    Gelu,
    /// The form with tanh, which is close to it.
    GeluTanh,
    /// The error function.
    Erf,
    Exp,
}

impl Activation {
    /// With Burn's own kernels.
    pub(crate) fn apply<B: Kernels>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        match self {
            Self::Relu => B::relu(x),
            Self::LeakyRelu { alpha } => B::leaky_relu(x, alpha.into()),
            Self::Clip { low, high } => B::float_clamp(x, low.into(), high.into()),
            Self::Sigmoid => B::sigmoid(x),
            Self::Tanh => B::float_tanh(x),
            Self::HardSigmoid { alpha, beta } => hard_sigmoid::<B>(x, alpha, beta),
            Self::HardSwish => B::float_mul(hard_sigmoid::<B>(x.clone(), 1.0 / 6.0, 0.5), x),
            Self::Swish { alpha } => {
                let scaled = B::float_mul_scalar(x.clone(), alpha.into());
                B::float_mul(B::sigmoid(scaled), x)
            }
            Self::Gelu => B::gelu(x),
            Self::GeluTanh => gelu_tanh::<B>(x),
            Self::Erf => B::float_erf(x),
            Self::Exp => B::float_exp(x),
        }
    }
}

fn hard_sigmoid<B: Kernels>(x: FloatTensor<B>, alpha: f32, beta: f32) -> FloatTensor<B> {
    let line = B::float_add_scalar(B::float_mul_scalar(x, alpha.into()), beta.into());
    B::float_clamp(line, 0f64.into(), 1f64.into())
}

fn gelu_tanh<B: Kernels>(x: FloatTensor<B>) -> FloatTensor<B> {
    let cube = B::float_mul(B::float_mul(x.clone(), x.clone()), x.clone());
    let inner = B::float_add(x.clone(), B::float_mul_scalar(cube, 0.044_715f64.into()));
    let slope = (2.0 / std::f64::consts::PI).sqrt();
    let tanh = B::float_tanh(B::float_mul_scalar(inner, slope.into()));
    let half = B::float_mul_scalar(x, 0.5f64.into());
    B::float_mul(B::float_add_scalar(tanh, 1f64.into()), half)
}
