//! Functions that operators name in an attribute.

use burn::tensor::ops::FloatTensor;

use super::activation::{elu, softplus, softsign, thresholded_relu};
use crate::kernels::{Activation, Kernels};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    Common(Activation),
    /// alpha * x + beta.
    Affine {
        alpha: f32,
        beta: f32,
    },
    /// alpha * tanh(beta * x).
    ScaledTanh {
        alpha: f32,
        beta: f32,
    },
    ThresholdedRelu {
        alpha: f32,
    },
    Elu {
        alpha: f32,
    },
    Softsign,
    Softplus,
}

impl Function {
    /// The function of this name, in any case of letters, with its parameters
    /// where they are given.
    pub(super) fn named(name: &str, [alpha, beta]: [Option<f32>; 2]) -> Option<Self> {
        let alpha = |usual: f32| alpha.unwrap_or(usual);
        let beta = |usual: f32| beta.unwrap_or(usual);
        Some(match name.to_ascii_lowercase().as_str() {
            "relu" => Self::Common(Activation::Relu),
            "tanh" => Self::Common(Activation::Tanh),
            "sigmoid" => Self::Common(Activation::Sigmoid),
            "leakyrelu" => Self::Common(Activation::LeakyRelu { alpha: alpha(0.01) }),
            "hardsigmoid" => {
                Self::Common(Activation::HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) })
            }
            "affine" => Self::Affine { alpha: alpha(1.0), beta: beta(0.0) },
            "scaledtanh" => Self::ScaledTanh { alpha: alpha(1.0), beta: beta(1.0) },
            "thresholdedrelu" => Self::ThresholdedRelu { alpha: alpha(1.0) },
            "elu" => Self::Elu { alpha: alpha(1.0) },
            "softsign" => Self::Softsign,
            "softplus" => Self::Softplus,
            _ => return None,
        })
    }

    /// How many of alpha and beta the function has.
    pub(super) fn parameters(self) -> usize {
        match self {
            Self::Affine { .. }
            | Self::ScaledTanh { .. }
            | Self::Common(Activation::HardSigmoid { .. }) => 2,
            Self::ThresholdedRelu { .. }
            | Self::Elu { .. }
            | Self::Common(Activation::LeakyRelu { .. }) => 1,
            _ => 0,
        }
    }

    pub(super) fn apply<B: Kernels>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        match self {
            Self::Common(activation) => activation.apply::<B>(x),
            Self::Affine { alpha, beta } => {
                B::float_add_scalar(B::float_mul_scalar(x, alpha.into()), beta.into())
            }
            Self::ScaledTanh { alpha, beta } => {
                let tanh = B::float_tanh(B::float_mul_scalar(x, beta.into()));
                B::float_mul_scalar(tanh, alpha.into())
            }
            Self::ThresholdedRelu { alpha } => thresholded_relu::<B>(x, alpha.into()),
            Self::Elu { alpha } => elu::<B>(x, alpha.into(), 1.0),
            Self::Softsign => softsign::<B>(x),
            Self::Softplus => softplus::<B>(x),
        }
    }
}
