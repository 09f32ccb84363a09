//! Operators of onnxruntime's own domain that fuse simple arithmetic. Its
//! optimiser writes them into the models that it saves.

use burn::tensor::ops::FloatTensor;

use super::activation::gelu_tanh;
use super::elementwise::{add, apply};
use super::function::Function;
use super::matmul::{gemm, matmul, scaled};
use super::tensor::permute;
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::split_at;
use crate::kernels::{Activation, Kernels};
use crate::value::{DeviceTensor, Value};
use crate::{BuildError, OpError};

pub(super) const DOMAIN: &str = "com.microsoft";

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add_in(DOMAIN, "Gelu", 1.., 1..=1, |_| biased(B::gelu));
    r.add_in(DOMAIN, "BiasGelu", 1.., 2..=2, |_| biased(B::gelu));
    r.add_in(DOMAIN, "FastGelu", 1.., 1..=2, |_| biased(gelu_tanh::<B>));
    r.add_in(DOMAIN, "QuickGelu", 1.., 1..=1, |a| {
        let alpha = a.float("alpha", 1.702)? as f32;
        biased(move |x| Activation::Swish { alpha }.apply::<B>(x))
    });
    r.add_in(DOMAIN, "BiasAdd", 1.., 3..=3, |_| {
        op(|ctx, mut inputs| {
            let x = inputs.take(0)?;
            let sum = add_into(ctx, x, inputs.take(1)?)?;
            Ok(vec![add_into(ctx, sum, inputs.take(2)?)?])
        })
    });
    r.add_in(DOMAIN, "BiasSoftmax", 1.., 2..=2, bias_softmax);
    r.add_in(DOMAIN, "FusedMatMul", 1.., 2..=2, fused_matmul);
    r.add_in(DOMAIN, "TransposeMatMul", 1.., 2..=2, fused_matmul);
    r.add_in(DOMAIN, "FusedGemm", 1.., 2..=3, fused_gemm);
    r.add_in(DOMAIN, "GemmFastGelu", 1.., 2..=3, |_| {
        op(|ctx, mut inputs| {
            let product = matmul(ctx, inputs.take(0)?, inputs.take(1)?)?;
            let sum = match inputs.take_opt(2) {
                Some(bias) => add_into(ctx, product, bias)?,
                None => product,
            };
            Ok(vec![map(ctx, sum, gelu_tanh::<B>)?])
        })
    });
}

/// `x + y`, which must have the shape of `x`.
pub(super) fn add_into<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    y: Value<B>,
) -> Result<Value<B>, OpError> {
    let (left, right) = (x.dims(), y.dims());
    let sum = apply(ctx, &add(), x, y)?;
    if sum.dims() != left {
        let what = "what is added does not broadcast to the operand";
        return Err(OpError::Mismatch { what, left, right });
    }
    Ok(sum)
}

fn map<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    function: impl Fn(FloatTensor<B>) -> FloatTensor<B>,
) -> Result<Value<B>, OpError> {
    let dims = x.dims();
    if dims.contains(&0) {
        return Ok(x);
    }
    let x = x.into_float(ctx, "the operand")?;
    Ok(DeviceTensor::<B>::Float(function(x)).reshape(&dims).into())
}

/// A function of the operand, to which a bias may be added first.
fn biased<B: Kernels>(
    function: impl Fn(FloatTensor<B>) -> FloatTensor<B> + Send + Sync + 'static,
) -> Built<B> {
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let x = match inputs.take_opt(1) {
            Some(bias) => add_into(ctx, x, bias)?,
            None => x,
        };
        Ok(vec![map(ctx, x, &function)?])
    })
}

/// Over all dimensions from the axis on, after a mask was added.
fn bias_softmax<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int("axis", 1)?;
    // It says in which of two ways onnxruntime's kernel repeats the bias.
    args.ignore("is_inner_broadcast");
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let x = add_into(ctx, x, inputs.take(1)?)?;
        let dims = x.dims();
        let (front, back) = dims.split_at(split_at(axis, dims.len())?);
        let flat = vec![front.iter().product(), back.iter().product()];
        let weights = map(ctx, x.reshape(flat), |x| B::softmax(x, 1))?;
        Ok(vec![weights.reshape(dims)])
    })
}

/// One operand of a fused product.
#[derive(Clone, Copy)]
struct Side {
    /// Whether the last two axes change places.
    turn: bool,
    /// Whether the first axis comes behind those of the batch.
    batch_first: bool,
}

impl Side {
    fn apply<B: Kernels>(self, ctx: &Context<B>, x: Value<B>) -> Result<Value<B>, OpError> {
        let rank = x.rank();
        if rank < 2 || !(self.turn || self.batch_first) {
            return Ok(x);
        }
        let mut axes: Vec<usize> = (0..rank).collect();
        if self.batch_first {
            axes = (1..rank - 1).chain([0, rank - 1]).collect();
        }
        if self.turn {
            axes.swap(rank - 1, rank - 2);
        }
        permute(ctx, x, &axes)
    }
}

fn fused_matmul<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let alpha = args.float("alpha", 1.0)?;
    let side = |turn, batch_first| -> Result<Side, BuildError> {
        let (turn, batch_first) = (args.flag(turn, false)?, args.flag(batch_first, false)?);
        Ok(Side { turn, batch_first })
    };
    let (left, right) = (side("transA", "transBatchA")?, side("transB", "transBatchB")?);
    op(move |ctx, mut inputs| {
        let (a, b) = (inputs.take(0)?, inputs.take(1)?);
        let product = matmul(ctx, left.apply(ctx, a)?, right.apply(ctx, b)?)?;
        Ok(vec![scaled(ctx, product, alpha)?])
    })
}

fn fused_gemm<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let parameter = |name| Ok::<_, BuildError>(args.float_opt(name)?.map(|value| value as f32));
    let parameters = [parameter("activation_alpha")?, parameter("activation_beta")?];
    args.ignore("activation_gamma");
    if !args.has("activation") {
        return Err(BuildError::Missing { name: "activation" });
    }
    let function = Function::named(&args.string("activation", "")?, parameters);
    let reason = "not a known function";
    let function = function.ok_or(BuildError::Value { name: "activation", reason })?;
    let product = gemm(args)?;
    op(move |ctx, inputs| {
        let answers = product.run(ctx, inputs)?;
        answers.into_iter().map(|y| map(ctx, y, |y| function.apply::<B>(y))).collect()
    })
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use crate::testing::{Case, counting, f32s};

    fn case(operator: &str, inputs: impl IntoIterator<Item = Tensor>) -> Case {
        Case::of(operator, inputs).domain(super::DOMAIN)
    }

    #[test]
    fn gelus_are_exact_or_fast_and_take_a_bias() {
        let x = f32s(&[2, 2], &[-2., -0.5, 1., 3.]);
        let bias = f32s(&[2], &[0.5, -1.]);
        let check = |operator: &str, bias: Option<&Tensor>, wanted: [f32; 4]| {
            case(operator, [&x].into_iter().chain(bias).cloned()).gives([f32s(&[2, 2], &wanted)]);
        };
        check("Gelu", None, [-0.045_500_28, -0.154_268_8, 0.841_344_7, 2.995_95]);
        check("BiasGelu", Some(&bias), [-0.100_210_8, -0.100_210_8, 1.399_789, 1.954_5]);
        check("FastGelu", None, [-0.045_402_35, -0.154_286, 0.841_192, 2.996_363]);
        check("FastGelu", Some(&bias), [-0.100_428_4, -0.100_428_4, 1.399_572, 1.954_598]);
        check("QuickGelu", None, [-0.064_341_37, -0.149_611_6, 0.845_795_8, 2.981_929]);
        case("BiasGelu", [bias, x]).fails("does not broadcast to the operand");
    }

    #[test]
    fn sums_and_masks_are_fused() {
        let x = f32s(&[1, 2, 2], &[-2., -0.5, 1., 3.]);
        let bias = f32s(&[2], &[0.5, -1.]);
        case("BiasAdd", [x.clone(), bias.clone(), x.clone()])
            .gives([f32s(&[1, 2, 2], &[-3.5, -2., 2.5, 5.])]);
        case("BiasSoftmax", [x.clone(), bias.clone()])
            .int("axis", 2)
            .int("is_inner_broadcast", 0)
            .gives([f32s(&[1, 2, 2], &[0.5, 0.5, 0.377_540_67, 0.622_459_3])]);
        case("BiasSoftmax", [x, bias]).int("axis", 4).int("is_inner_broadcast", 0).fails("axis 4");
    }

    #[test]
    fn products_turn_their_operands_and_scale() {
        let product = |a: &[usize], b: &[usize]| case("FusedMatMul", [counting(a), counting(b)]);
        product(&[1, 2, 3], &[1, 2, 3])
            .int("transB", 1)
            .float("alpha", 0.5)
            .gives([f32s(&[1, 2, 2], &[7., 16., 16., 38.5])]);
        product(&[2], &[2, 2]).int("transA", 1).gives([f32s(&[2], &[7., 10.])]);
        let batches = || product(&[2, 3, 2], &[3, 2, 2]).int("transBatchA", 1);
        batches().gives([f32s(
            &[3, 2, 2],
            &[7., 10., 31., 46., 43., 50., 115., 134., 111., 122., 231., 254.],
        )]);
        batches().int("transA", 1).gives([f32s(
            &[3, 2, 2],
            &[22., 30., 26., 36., 78., 90., 90., 104., 166., 182., 186., 204.],
        )]);
        product(&[3, 1, 2], &[2, 3, 2])
            .int("transBatchB", 1)
            .gives([f32s(&[3, 1, 2], &[15., 18., 45., 52., 91., 102.])]);
        product(&[2, 2], &[2, 3]).int("transB", 1).fails("inner dimensions");
    }

    #[test]
    fn a_function_follows_a_product() {
        let gemm = |activation: &str| {
            let operands = [counting(&[2, 2]), counting(&[2, 2]), f32s(&[2], &[-8., 0.])];
            case("FusedGemm", operands).string("activation", activation)
        };
        gemm("Relu").gives([f32s(&[2, 2], &[0., 10., 7., 22.])]);
        gemm("LeakyRelu")
            .float("activation_alpha", 0.1)
            .float("alpha", 0.5)
            .int("transB", 1)
            .gives([f32s(&[2, 2], &[-0.55, 5.5, -0.25, 12.5])]);
        gemm("Sigmund").fails("not a known function");
        case("FusedGemm", [counting(&[1, 1]), counting(&[1, 1])]).fails("is missing");
        case("GemmFastGelu", [f32s(&[1, 2], &[-1., 0.5]), counting(&[2, 1])])
            .gives([f32s(&[1, 1], &[0.])]);
    }
}
