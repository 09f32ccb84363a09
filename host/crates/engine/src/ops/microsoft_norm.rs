//! Normalisations of onnxruntime's own domain: of sums, and of embeddings.

use ingle_types::DType;

use super::gather::take;
use super::microsoft::{DOMAIN, add_into};
use super::norm::{Rows, normalize_rows};
use super::tensor::narrow;
use super::{Args, Built, Inputs, Registry, op};
use crate::OpError;
use crate::context::Context;
use crate::kernels::Kernels;
use crate::value::{Host, Value};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    // onnxruntime writes this one as if it were of ONNX's own domain.
    r.add("SimplifiedLayerNormalization", 1.., 2..=2, simplified);
    r.add_in(DOMAIN, "SkipLayerNormalization", 1.., 3..=5, |a| skip(a, false));
    r.add_in(DOMAIN, "SkipSimplifiedLayerNormalization", 1.., 3..=4, |a| skip(a, true));
    r.add_in(DOMAIN, "EmbedLayerNormalization", 1.., 1..=9, embed);
}

/// The second output is the inverse deviations.
fn simplified<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let (axis, epsilon) = (args.int("axis", -1)?, args.float("epsilon", 1e-5)?);
    args.ignore("stash_type");
    args.makes_outputs(2);
    let statistics = args.has_output(1);
    op(move |ctx, mut inputs| {
        let (x, scale) = (inputs.take(0)?, inputs.take(1)?);
        let rows = Rows { axis, epsilon, centred: false, statistics };
        let normalized = normalize_rows(ctx, &rows, x, scale, None)?;
        Ok([Some(normalized.rows), normalized.inverse].into_iter().flatten().collect())
    })
}

/// The sum of two operands and a bias, normalised: with the means, the inverse
/// deviations, and the sum itself as further outputs.
fn skip<B: Kernels>(args: &Args<'_, B>, simplified: bool) -> Built<B> {
    let epsilon = args.float("epsilon", 1e-12)?;
    args.makes_outputs(4);
    let statistics = args.has_output(1) || args.has_output(2);
    op(move |ctx, mut inputs| {
        let (x, other) = (inputs.take(0)?, inputs.take(1)?);
        let scale = inputs.take(2)?;
        let (shift, bias) = if simplified {
            (None, inputs.take_opt(3))
        } else {
            (inputs.take_opt(3), inputs.take_opt(4))
        };
        let sum = add_into(ctx, x, other)?;
        let sum = match bias {
            Some(bias) => add_into(ctx, sum, bias)?,
            None => sum,
        };
        let rows = Rows { axis: -1, epsilon, centred: !simplified, statistics };
        let normalized = normalize_rows(ctx, &rows, sum.clone(), scale, shift)?;
        let nothing = || Value::empty(DType::F32, vec![0]);
        let [mean, inverse] =
            [normalized.mean, normalized.inverse].map(|v| v.unwrap_or_else(nothing));
        Ok(vec![normalized.rows, mean, inverse, sum])
    })
}

/// The sum of the embeddings of words, positions and segments, normalised. The
/// second output is how many words a mask leaves, the third the sum.
fn embed<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let epsilon = args.float("epsilon", 1e-12)?;
    args.ignore("mask_index_type");
    args.makes_outputs(3);
    op(move |ctx, mut inputs| {
        let words = inputs.take(0)?;
        let dims = words.dims();
        let &[batch, sequence] = dims.as_slice() else {
            return Err(OpError::Dims { what: "the words", dims });
        };
        let sum = embedding(ctx, &mut inputs, words, sequence)?;
        let (scale, shift) = (inputs.take(5)?, inputs.take(6)?);
        let left = match inputs.take_opt(7) {
            Some(mask) if mask.dims() != dims => {
                return Err(OpError::Dims { what: "the mask", dims: mask.dims() });
            }
            Some(mask) => {
                let mask = mask.ints(ctx, "the mask")?;
                let rows = mask.chunks(sequence.max(1));
                rows.map(|row| row.iter().filter(|&&v| v == 1).count() as i64).collect()
            }
            None => vec![0; batch],
        };
        let left = if sequence == 0 { vec![0; batch] } else { left };
        let rows = Rows { axis: -1, epsilon, centred: true, statistics: false };
        let normalized = normalize_rows(ctx, &rows, sum.clone(), scale, Some(shift))?;
        Ok(vec![normalized.rows, Host::ints(DType::I32, vec![batch], left).into(), sum])
    })
}

/// `[batch, sequence, hidden]`.
fn embedding<B: Kernels>(
    ctx: &Context<B>,
    inputs: &mut Inputs<B>,
    words: Value<B>,
    sequence: usize,
) -> Result<Value<B>, OpError> {
    let (segments, table) = (inputs.take_opt(1), inputs.take(2)?);
    let table = matrix(table, "the embedding of the words")?;
    let sum = take(ctx, table, 0, words)?;
    let positions = matrix(inputs.take(3)?, "the embedding of the positions")?;
    let positions = match inputs.take_opt(8) {
        Some(places) => take(ctx, positions, 0, places)?,
        None => {
            let size = positions.dims().first().copied().unwrap_or_default();
            if sequence > size {
                let index = i64::try_from(sequence).unwrap_or(i64::MAX) - 1;
                return Err(OpError::Index { index, size });
            }
            narrow(ctx, &positions, 0, 0, sequence)?
        }
    };
    let sum = add_into(ctx, sum, positions)?;
    match (segments, inputs.take_opt(4)) {
        (Some(segments), Some(table)) => {
            let table = matrix(table, "the embedding of the segments")?;
            add_into(ctx, sum, take(ctx, table, 0, segments)?)
        }
        (None, None) => Ok(sum),
        (Some(_), None) => Err(OpError::Missing { index: 4 }),
        (None, Some(_)) => Err(OpError::Missing { index: 1 }),
    }
}

fn matrix<B: Kernels>(value: Value<B>, what: &'static str) -> Result<Value<B>, OpError> {
    if value.rank() == 2 { Ok(value) } else { Err(OpError::Dims { what, dims: value.dims() }) }
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use crate::testing::{Case, counting, f32s, tensor};

    fn case(operator: &str, inputs: impl IntoIterator<Item = Tensor>) -> Case {
        Case::of(operator, inputs).domain(super::super::microsoft::DOMAIN)
    }

    fn operands() -> [Tensor; 3] {
        [
            f32s(&[1, 2, 2], &[1., 3., -2., 2.]),
            f32s(&[1, 2, 2], &[1., 0., 0., 1.]),
            f32s(&[2], &[1., 10.]),
        ]
    }

    #[test]
    fn sums_are_normalised() {
        let (shift, bias) = (f32s(&[2], &[0., 1.]), f32s(&[2], &[0.5, -0.5]));
        let [x, other, scale] = operands();
        case("SkipLayerNormalization", [x.clone(), other, scale.clone(), shift.clone(), bias])
            .gives([
                f32s(&[1, 2, 2], &[0., 1., -1., 11.]),
                f32s(&[1, 2, 1], &[2.5, 0.5]),
                f32s(&[1, 2, 1], &[1e6, 0.5]),
                f32s(&[1, 2, 2], &[2.5, 2.5, -1.5, 2.5]),
            ]);
        let skip = f32s(&[2, 2], &[1., 0., 0., 1.]);
        case("SkipLayerNormalization", [x.clone(), skip.clone(), scale.clone(), shift])
            .gives([f32s(&[1, 2, 2], &[-1., 11., -1., 11.])]);
        case("SkipLayerNormalization", [skip, x, scale]).fails("does not broadcast");
        let [x, other, _] = operands();
        case("SkipLayerNormalization", [x, other, counting(&[3])]).fails("do not");
    }

    #[test]
    fn simplified_ones_have_no_mean() {
        let [x, other, scale] = operands();
        Case::of("SimplifiedLayerNormalization", [x.clone(), scale.clone()]).gives([
            f32s(&[1, 2, 2], &[0.447_213_2, 13.416_4, -0.999_998_8, 9.999_989]),
            f32s(&[1, 2, 1], &[0.447_213_2, 0.499_999_4]),
        ]);
        let bias = f32s(&[2], &[0.5, -0.5]);
        case("SkipSimplifiedLayerNormalization", [x, other, scale, bias]).gives([
            f32s(&[1, 2, 2], &[1., 10., -0.727_606_9, 12.126_78]),
            f32s(&[1, 2, 1], &[0., 0.]),
            f32s(&[1, 2, 1], &[0.4, 0.485_071_3]),
            f32s(&[1, 2, 2], &[2.5, 2.5, -1.5, 2.5]),
        ]);
    }

    fn tables() -> [Tensor; 3] {
        [
            f32s(&[3, 2], &[1., 2., 3., -4., 0., 5.]),
            f32s(&[3, 2], &[0.25, 0.5, 0.25, 0.5, 0.5, 0.5]),
            f32s(&[2, 2], &[1., 0., 0., -1.]),
        ]
    }

    #[test]
    fn embeddings_are_summed_and_normalised() {
        let (ids, segments) = (tensor(&[1, 3], &[1i32, 0, 2]), tensor(&[1, 3], &[0i32, 1, 1]));
        let [words, positions, kinds] = tables();
        let affine = [f32s(&[2], &[1., 10.]), f32s(&[2], &[0., 1.])];
        let y = f32s(&[1, 3, 2], &[1., -9., -1., 11., -1., 11.]);
        let first = [ids, segments, words.clone(), positions.clone(), kinds];
        let mask = tensor(&[1, 3], &[1i32, 0, 1]);
        let all = first.into_iter().chain(affine.clone()).chain([mask]);
        case("EmbedLayerNormalization", all).gives([
            y.clone(),
            tensor(&[1], &[2i32]),
            f32s(&[1, 3, 2], &[4.25, -3.5, 1.25, 1.5, 0.5, 4.5]),
        ]);
        let some = |ids: &[i32]| {
            let first = [tensor(&[1, 3], ids), words.clone(), positions.clone()];
            let places = tensor(&[1, 3], &[2i32, 0, 1]);
            let all = first.into_iter().chain(affine.clone()).chain([places]);
            case("EmbedLayerNormalization", all).without(1).without(4).without(7)
        };
        some(&[1, 0, 2]).gives([y, tensor(&[1], &[0i32])]);
        some(&[1, 0, 3]).fails("index 3");
    }
}
