//! Products with a constant matrix, and what follows them.

use super::conv::{check_dtypes, fused_activation};
use super::elementwise::{add, apply};
use super::matmul::{Weights, matmul};
use super::{Args, Built, INTERNAL, Inputs, Op, Prepared, Registry};
use crate::OpError;
use crate::context::Context;
use crate::kernels::{Activation, Kernels};
use crate::value::{DeviceTensor, Value};

/// `x`, `[..., depth]`, times a matrix `[depth, columns]`, plus one number for each
/// column, through a function. Only the optimiser puts it in.
pub(crate) const LINEAR: (&str, &str, i64) = (INTERNAL, "Linear", 1);

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    let (domain, name, version) = LINEAR;
    r.add_in(domain, name, version..=version, 2..=3, linear);
}

fn linear<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    Ok(Box::new(Linear { activation: fused_activation(args)? }))
}

#[derive(Clone, Copy)]
struct Linear {
    activation: Option<Activation>,
}

impl<B: Kernels> Op<B> for Linear {
    fn run(&self, ctx: &Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>, OpError> {
        let (x, weight) = (inputs.take(0)?, inputs.take(1)?);
        let bias = inputs.take_opt(2);
        check_dtypes(weight.dtype(), [Some(&x), bias.as_ref()].into_iter().flatten())?;
        let (of_x, of_weight) = (x.dims(), weight.dims());
        let &[_, columns] = of_weight.as_slice() else {
            return Err(OpError::Dims { what: "the weights", dims: of_weight });
        };
        if let Some(bias) = bias.as_ref().filter(|bias| bias.dims() != [columns]) {
            return Err(OpError::Dims { what: "the bias", dims: bias.dims() });
        }
        if of_x.is_empty() {
            return Err(OpError::Dims { what: "the operand", dims: of_x });
        }
        let product = matmul(ctx, x, weight)?;
        let sum = match bias {
            Some(bias) => apply(ctx, &add(), product, bias)?,
            None => product,
        };
        let Some(activation) = self.activation.filter(|_| sum.elements() > 0) else {
            return Ok(vec![sum]);
        };
        let dims = sum.dims();
        let answer = B::activate(sum.into_float(ctx, "the answer")?, activation);
        Ok(vec![DeviceTensor::<B>::Float(answer).reshape(&dims).into()])
    }

    fn bind(&self, ctx: &Context<B>, constants: &[Option<Value<B>>]) -> Option<Prepared<B>> {
        let (weights, bytes) = Weights::of(ctx, constants.get(1)?.clone()?, false)?;
        let activation = self.activation;
        let run = move |ctx: &Context<B>, mut inputs: Inputs<B>| {
            let (x, bias) = (inputs.take(0)?, inputs.take_opt(2));
            if let Some(bias) = bias.as_ref().filter(|bias| bias.dims() != [weights.columns()]) {
                return Err(OpError::Dims { what: "the bias", dims: bias.dims() });
            }
            Ok(vec![weights.product(ctx, x, bias, activation)?])
        };
        Some(Prepared { op: Box::new(run), holds: vec![1], bytes })
    }
}
