//! Convolution along time that remembers the end of what it has seen.

use burn::tensor::ops::ConvOptions;
use ingle_types::DType;

use super::generate::full;
use super::tensor::{join, narrow};
use super::{Args, Built, Inputs, Registry, op};
use crate::context::Context;
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("CausalConvWithState", 27.., 2..=4, causal_conv);
}

/// Each channel by itself, `[batch, channels, length]`; position `i` sees the
/// positions up to `i`. The state holds what came before the first position.
fn causal_conv<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    args.makes_outputs(2);
    let silu = match &*args.string("activation", "none")? {
        "none" => false,
        "silu" | "swish" => true,
        _ => return Err(BuildError::Value { name: "activation", reason: "not a known function" }),
    };
    op(move |ctx, inputs| run(ctx, inputs, silu))
}

fn run<B: Kernels>(
    ctx: &Context<B>,
    mut inputs: Inputs<B>,
    silu: bool,
) -> Result<Vec<Value<B>>, OpError> {
    let (x, weight) = (inputs.take(0)?, inputs.take(1)?);
    let (bias, past) = (inputs.take_opt(2), inputs.take_opt(3));
    let (dtype, dims, kernel) = (x.dtype(), x.dims(), weight.dims());
    let differs = |v: &&Value<B>| !is_float(dtype) || v.dtype() != dtype;
    let others = [Some(&weight), bias.as_ref(), past.as_ref()];
    if let Some(other) = others.into_iter().flatten().find(differs) {
        return Err(OpError::DTypes { left: dtype, right: other.dtype() });
    }
    let (&[batch, channels, length], &[_, 1, taps]) = (dims.as_slice(), kernel.as_slice()) else {
        let what = "it takes tensors of rank three, and weights for each channel";
        return Err(OpError::Mismatch { what, left: dims, right: kernel });
    };
    let fits = |bias: &Value<B>| bias.dims() == [channels];
    if kernel.first() != Some(&channels) || taps == 0 || !bias.as_ref().is_none_or(fits) {
        let what = "the weights do not fit the channels";
        return Err(OpError::Mismatch { what, left: dims, right: kernel });
    }
    if dims.contains(&0) {
        return Err(OpError::Dims { what: "the operand", dims });
    }
    let remembered = vec![batch, channels, taps - 1];
    let past = match past {
        Some(past) if past.dims() != remembered => {
            return Err(OpError::Dims { what: "the state", dims: past.dims() });
        }
        Some(past) => past,
        None => full(ctx, &Host::ints(DType::I64, vec![], vec![0]).cast(dtype), remembered)?,
    };
    let padded = join(ctx, vec![past, x], 2)?;
    let state = narrow(ctx, &padded, 2, length, length + taps - 1)?;
    // Half precision is rounded once for each function, not at every product.
    let precise = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let wide = |v: Value<B>, what| v.cast(ctx, precise)?.into_float(ctx, what);
    let (x, weight) = (wide(padded, "the operand")?, wide(weight, "the weights")?);
    let bias = bias.map(|bias| wide(bias, "the bias")).transpose()?;
    let options = ConvOptions::new([1], [0], [1], channels);
    let answer = DeviceTensor::<B>::Float(B::conv1d(x, weight, bias, options)).cut(&dims)?;
    let answer = Value::from(answer.cast(ctx, dtype)?);
    if !silu {
        return Ok(vec![answer, state]);
    }
    let x = wide(answer, "the answer")?;
    let answer: DeviceTensor<B> = DeviceTensor::Float(B::float_mul(B::sigmoid(x.clone()), x));
    Ok(vec![answer.cast(ctx, dtype)?.into(), state])
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s};

    #[test]
    fn the_past_comes_before_the_first_position() {
        let (x, weight) = (counting(&[1, 2, 2]), f32s(&[2, 1, 2], &[10., 1., -1., 1.]));
        let case = |past: &[f32]| {
            let past = f32s(&[1, 2, 1], past);
            Case::of("CausalConvWithState", [x.clone(), weight.clone(), past]).opset(27).without(2)
        };
        let state = f32s(&[1, 2, 1], &[2., 4.]);
        case(&[5., 6.]).gives([f32s(&[1, 2, 2], &[51., 12., -3., 1.]), state.clone()]);
        Case::of("CausalConvWithState", [x.clone(), weight.clone(), f32s(&[2], &[100., 0.])])
            .opset(27)
            .gives([f32s(&[1, 2, 2], &[101., 112., 3., 1.]), state]);
        let short =
            Case::of("CausalConvWithState", [counting(&[1, 1, 1]), f32s(&[1, 1, 3], &[1.; 3])]);
        short.opset(27).gives([f32s(&[1, 1, 1], &[1.]), f32s(&[1, 1, 2], &[0., 1.])]);
    }

    #[test]
    fn the_answer_may_be_activated() {
        let case = Case::of("CausalConvWithState", [counting(&[1, 1, 1]), f32s(&[1, 1, 1], &[1.])]);
        let case = case.opset(27);
        let wanted = [f32s(&[1, 1, 1], &[0.731_058_6]), f32s(&[1, 1, 0], &[])];
        case.clone().string("activation", "silu").gives(wanted.clone());
        case.clone().string("activation", "swish").gives(wanted);
        case.string("activation", "gelu").fails("not a known function");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let case = |x: &[usize], weight: &[usize]| {
            Case::of("CausalConvWithState", [counting(x), counting(weight)]).opset(27)
        };
        case(&[1, 2, 3], &[1, 1, 2]).fails("do not fit the channels");
        case(&[1, 2, 3], &[2, 2, 2]).fails("rank three");
        case(&[2, 3], &[2, 1, 2]).fails("rank three");
        let past = counting(&[1, 2, 2]);
        Case::of("CausalConvWithState", [counting(&[1, 2, 3]), counting(&[2, 1, 2]), past])
            .without(2)
            .opset(27)
            .fails("the state");
    }
}
