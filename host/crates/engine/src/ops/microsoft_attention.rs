//! Attention of onnxruntime's own domain.

use ingle_types::DType;

use super::attend::{
    Attended, Heads, Scoring, Stage, attend, causal_bias, join_heads, split_heads, sum_biases,
};
use super::attention::heads;
use super::matmul::matmul;
use super::microsoft::{DOMAIN, add_into};
use super::rotary::{Rotation, angles_at, turn_heads};
use super::tensor::{join, narrow, permute};
use super::{Args, Built, Inputs, Registry, op};
use crate::context::Context;
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add_in(DOMAIN, "Attention", 1.., 2..=6, |a| {
        let attention = Attention::of(a)?;
        op(move |ctx, inputs| attention.projected(ctx, inputs))
    });
    r.add_in(DOMAIN, "MultiHeadAttention", 1.., 1..=8, |a| {
        let attention = Attention::of(a)?;
        op(move |ctx, inputs| attention.multi_head(ctx, inputs))
    });
    r.add_in(DOMAIN, "RotaryEmbedding", 1.., 4..=4, rotary_embedding);
}

struct Attention {
    heads: usize,
    causal: bool,
    scale: Option<f64>,
    /// What is added to the scores that a mask hides.
    filter: f64,
    /// The sizes of queries, keys and values in what the projection gives.
    sizes: Option<[usize; 3]>,
    weights_shown: bool,
}

impl Attention {
    fn of<B: Kernels>(args: &Args<'_, B>) -> Result<Self, BuildError> {
        for unsupported in ["do_rotary", "past_present_share_buffer"] {
            if args.flag(unsupported, false)? {
                let reason = "not supported";
                return Err(BuildError::Value { name: unsupported, reason });
            }
        }
        args.ignore("rotary_embedding_dim");
        args.makes_outputs(4);
        let name = "qkv_hidden_sizes";
        let wrong = |_| BuildError::Value { name, reason: "not three sizes" };
        let sizes = args.sizes(name)?.map(|sizes| sizes.try_into().map_err(wrong)).transpose()?;
        // Zero means the usual scale.
        let scale = args.float_opt("scale")?.filter(|&scale| scale != 0.0);
        Ok(Self {
            heads: heads(args, "num_heads")?.ok_or(BuildError::Missing { name: "num_heads" })?,
            causal: args.flag("unidirectional", false)?,
            scale,
            filter: args.float("mask_filter_value", -10000.0)?,
            sizes,
            weights_shown: args.has_output(3),
        })
    }

    /// Queries, keys and values are products of one operand.
    fn projected<B: Kernels>(
        &self,
        ctx: &Context<B>,
        mut inputs: Inputs<B>,
    ) -> Result<Vec<Value<B>>, OpError> {
        let (x, weights) = (inputs.take(0)?, inputs.take(1)?);
        if x.rank() != 3 || weights.rank() != 2 {
            let what = "the operand and weights of an attention";
            return Err(OpError::Mismatch { what, left: x.dims(), right: weights.dims() });
        }
        let product = matmul(ctx, x, weights)?;
        let product = match inputs.take_opt(2) {
            Some(bias) => add_into(ctx, product, bias)?,
            None => product,
        };
        let width = product.dims().last().copied().unwrap_or_default();
        let sizes = self.sizes.unwrap_or([width / 3; 3]);
        let [query, key, value] = thirds(ctx, &product, sizes)?;
        let query = split_heads(ctx, query, self.heads, "the queries")?;
        let key = split_heads(ctx, key, self.heads, "the keys")?;
        let value = split_heads(ctx, value, self.heads, "the values")?;
        let mask = inputs.take_opt(3);
        let (past_key, past_value) = match inputs.take_opt(4) {
            Some(past) => {
                let (key, value) = halves(ctx, &past)?;
                (Some(key), Some(value))
            }
            None => (None, None),
        };
        let operands = Operands { query, key, value, mask, added: inputs.take_opt(5) };
        let Answer { output, key, value, .. } =
            self.attend(ctx, operands, [past_key, past_value])?;
        let stacked = |v: Value<B>| {
            let dims = [&[1][..], &v.dims()].concat();
            v.reshape(dims)
        };
        let present = if key.dims() == value.dims() {
            join(ctx, vec![stacked(key), stacked(value)], 0)?
        } else {
            Value::empty(key.dtype(), vec![0])
        };
        Ok(vec![output, present])
    }

    fn multi_head<B: Kernels>(
        &self,
        ctx: &Context<B>,
        mut inputs: Inputs<B>,
    ) -> Result<Vec<Value<B>>, OpError> {
        let query = inputs.take(0)?;
        let (key, value, bias) = (inputs.take_opt(1), inputs.take_opt(2), inputs.take_opt(3));
        let [query, key, value] = unpacked(ctx, query, key, value)?;
        let bias = match bias {
            Some(bias) => {
                let last = |v: &Value<B>| v.dims().last().copied().unwrap_or_default();
                let sizes = [last(&query), last(&key), last(&value)];
                let [query, key, value] = thirds(ctx, &bias, sizes)?;
                [Some(query), Some(key), Some(value)]
            }
            None => [None, None, None],
        };
        let [query_bias, key_bias, value_bias] = bias;
        let split = |x: Value<B>, bias: Option<Value<B>>, what| {
            if x.rank() == 4 && bias.is_none() {
                return Ok(x);
            }
            let x = match bias {
                Some(bias) => add_into(ctx, x, bias)?,
                None => x,
            };
            split_heads(ctx, x, self.heads, what)
        };
        let operands = Operands {
            query: split(query, query_bias, "the queries")?,
            key: split(key, key_bias, "the keys")?,
            value: split(value, value_bias, "the values")?,
            mask: inputs.take_opt(4),
            added: inputs.take_opt(5),
        };
        let past = [inputs.take_opt(6), inputs.take_opt(7)];
        let Answer { output, key, value, weights } = self.attend(ctx, operands, past)?;
        Ok([Some(output), Some(key), Some(value), weights].into_iter().flatten().collect())
    }

    fn attend<B: Kernels>(
        &self,
        ctx: &Context<B>,
        operands: Operands<B>,
        past: [Option<Value<B>>; 2],
    ) -> Result<Answer<B>, OpError> {
        let Operands { query, key, value, mask, added } = operands;
        let (before, key, value) = match past {
            [None, None] => (0, key, value),
            [Some(past_key), Some(past_value)] => {
                let before = past_key.dims().get(2).copied().unwrap_or_default();
                let key = join(ctx, vec![past_key, key], 2)?;
                (before, key, join(ctx, vec![past_value, value], 2)?)
            }
            [Some(_), None] | [None, Some(_)] => {
                return Err(OpError::Unsupported { what: "a past of keys or values alone" });
            }
        };
        let (dtype, dims) = (query.dtype(), query.dims());
        let &[batch, _, rows, _] = dims.as_slice() else {
            return Err(OpError::Dims { what: "the queries", dims });
        };
        let columns = key.dims().get(2).copied().unwrap_or_default();
        let mask = match mask {
            Some(mask) => Some(self.mask_bias(ctx, mask, [batch, rows, columns], dtype)?),
            None => None,
        };
        let order =
            if self.causal { causal_bias(ctx, [rows, columns], before, dtype)? } else { None };
        let bias = sum_biases(ctx, [added, mask, order])?;
        let shown = self.weights_shown.then_some(Stage::Weights);
        let scoring = Scoring { scale: self.scale, shown, ..Scoring::default() };
        let present = [key.clone(), value.clone()];
        let Attended { output, scores } = attend(ctx, Heads { query, key, value, bias }, &scoring)?;
        let [key, value] = present;
        Ok(Answer { output: join_heads(ctx, output)?, key, value, weights: scores })
    }

    /// A mask says which columns each example, or each of its rows, sees: by ones
    /// and zeros, or by where they end and, in a second part, where they start.
    fn mask_bias<B: Kernels>(
        &self,
        ctx: &Context<B>,
        mask: Value<B>,
        [batch, rows, columns]: [usize; 3],
        dtype: DType,
    ) -> Result<Value<B>, OpError> {
        let dims = mask.dims();
        let spread = match *dims.as_slice() {
            [b, c] if (b, c) == (batch, columns) => vec![batch, 1, 1, columns],
            [b, r, c] if (b, r, c) == (batch, rows, columns) => vec![batch, 1, rows, columns],
            [n] if n == batch || n == 2 * batch => {
                let ends = mask.ints(ctx, "the mask")?;
                return self.range_bias(ctx, &ends, [batch, columns], dtype);
            }
            _ => return Err(OpError::Dims { what: "the mask", dims }),
        };
        if spread.contains(&0) {
            return Ok(Value::empty(dtype, spread));
        }
        // Where the mask is one nothing is added, where it is zero the filter.
        let seen = mask.cast(ctx, DType::Bool)?.cast(ctx, dtype)?.reshape(spread.clone());
        let seen: DeviceTensor<B> = seen.into_device(ctx)?;
        let seen = Value::from(seen).into_float(ctx, "the mask")?;
        let hidden = B::float_sub_scalar(seen, 1f64.into());
        let bias = B::float_mul_scalar(hidden, (-self.filter).into());
        Ok(Value::from(DeviceTensor::<B>::Float(bias).reshape(&spread)))
    }

    fn range_bias<B: Kernels>(
        &self,
        ctx: &Context<B>,
        ends: &[i64],
        [batch, columns]: [usize; 2],
        dtype: DType,
    ) -> Result<Value<B>, OpError> {
        let dims = vec![batch, 1, 1, columns];
        ctx.admit(DType::F64, &dims)?;
        let (ends, starts) = ends.split_at_checked(batch).unwrap_or((ends, &[]));
        let row = |(i, &end): (usize, &i64)| {
            let start = starts.get(i).copied().unwrap_or_default();
            let seen = move |c: usize| i64::try_from(c).is_ok_and(|c| (start..end).contains(&c));
            (0..columns).map(move |c| if seen(c) { 0.0 } else { self.filter })
        };
        let values: Vec<f64> = ends.iter().enumerate().flat_map(row).collect();
        Ok(Host::floats(dtype, dims, values).into())
    }
}

/// What attention gives.
struct Answer<B: Kernels> {
    /// With its heads joined.
    output: Value<B>,
    /// With what came before; the values too.
    key: Value<B>,
    value: Value<B>,
    /// Where they are shown.
    weights: Option<Value<B>>,
}

/// What attention reads, split into heads.
struct Operands<B: Kernels> {
    query: Value<B>,
    key: Value<B>,
    value: Value<B>,
    mask: Option<Value<B>>,
    /// Added to the scores.
    added: Option<Value<B>>,
}

/// Queries, keys and values of `[.., sizes]` behind each other.
fn thirds<B: Kernels>(
    ctx: &Context<B>,
    x: &Value<B>,
    sizes: [usize; 3],
) -> Result<[Value<B>; 3], OpError> {
    let dims = x.dims();
    let axis = dims.len().saturating_sub(1);
    let [q, k, v] = sizes;
    let ends = q.checked_add(k).and_then(|k| Some((k, k.checked_add(v)?)));
    let Some((key_end, end)) = ends.filter(|(_, end)| dims.last() == Some(end)) else {
        let what = "it holds no queries, keys and values of these sizes";
        return Err(OpError::Mismatch { what, left: dims, right: sizes.to_vec() });
    };
    Ok([
        narrow(ctx, x, axis, 0, q)?,
        narrow(ctx, x, axis, q, key_end)?,
        narrow(ctx, x, axis, key_end, end)?,
    ])
}

/// Keys and values of `[2, batch, heads, sequence, size]`.
fn halves<B: Kernels>(ctx: &Context<B>, past: &Value<B>) -> Result<(Value<B>, Value<B>), OpError> {
    let dims = past.dims();
    let [2, rest @ ..] = dims.as_slice() else {
        return Err(OpError::Dims { what: "the past", dims });
    };
    let half = |i: usize| Ok(narrow(ctx, past, 0, i, i + 1)?.reshape(rest.to_vec()));
    Ok((half(0)?, half(1)?))
}

/// Queries, keys and values that may come as one tensor, `[batch, sequence,
/// heads, 3, size]`, or with keys and values as one, `[.., 2, size]`.
fn unpacked<B: Kernels>(
    ctx: &Context<B>,
    query: Value<B>,
    key: Option<Value<B>>,
    value: Option<Value<B>>,
) -> Result<[Value<B>; 3], OpError> {
    let part = |x: &Value<B>, i: usize, of: usize| {
        let dims = x.dims();
        match *dims.as_slice() {
            [batch, sequence, heads, parts, size] if parts == of => {
                let part = narrow(ctx, x, 3, i, i + 1)?;
                permute(ctx, part.reshape(vec![batch, sequence, heads, size]), &[0, 2, 1, 3])
            }
            _ => Err(OpError::Dims { what: "packed queries, keys or values", dims }),
        }
    };
    match (key, value) {
        (Some(key), Some(value)) => Ok([query, key, value]),
        (None, None) => Ok([part(&query, 0, 3)?, part(&query, 1, 3)?, part(&query, 2, 3)?]),
        (Some(packed), None) => Ok([query, part(&packed, 0, 2)?, part(&packed, 1, 2)?]),
        (None, Some(_)) => Err(OpError::Missing { index: 1 }),
    }
}

fn rotary_embedding<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let rotation = Rotation::of(args)?;
    let name = "num_heads";
    let heads = usize::try_from(args.int(name, 0)?).ok().filter(|&heads| heads < 1 << 24);
    let heads = heads.ok_or(BuildError::Value { name, reason: "negative" })?;
    if args.flag("is_packed_batching", false)? {
        let reason = "not supported";
        return Err(BuildError::Value { name: "is_packed_batching", reason });
    }
    // onnxruntime's own kernel for the CPU does not read it either.
    args.ignore("scale");
    op(move |ctx, mut inputs| {
        let (x, positions) = (inputs.take(0)?, inputs.take(1)?);
        let (cos, sin) = (inputs.take(2)?, inputs.take(3)?);
        let dims = x.dims();
        let (batch, sequence) = match *dims.as_slice() {
            [batch, sequence, _] | [batch, _, sequence, _] => (batch, sequence),
            _ => return Err(OpError::Dims { what: "the operand", dims }),
        };
        // Without a number of heads all of a head turns.
        let size = cos.dims().last().copied().unwrap_or_default().saturating_mul(2);
        let heads = match (heads, dims.as_slice()) {
            (0, &[_, _, hidden]) => hidden.checked_div(size).unwrap_or_default(),
            _ => heads,
        };
        let positions = counted(ctx, positions, [batch, sequence])?;
        let angles = [angles_at(ctx, cos, &positions)?, angles_at(ctx, sin, &positions)?];
        Ok(vec![turn_heads(ctx, &rotation, x, heads, angles)?])
    })
}

/// The position of each place: given, or counted from the one that is given.
fn counted<B: Kernels>(
    ctx: &Context<B>,
    positions: Value<B>,
    [batch, sequence]: [usize; 2],
) -> Result<Value<B>, OpError> {
    if positions.rank() == 2 {
        return Ok(positions);
    }
    let first = match positions.ints(ctx, "the position")?.as_slice() {
        &[first] => first,
        _ => return Err(OpError::Dims { what: "the position", dims: positions.dims() }),
    };
    let dims = vec![batch, sequence];
    ctx.admit(DType::I64, &dims)?;
    let row = || (0..sequence).map(|i| first.saturating_add(i64::try_from(i).unwrap_or(i64::MAX)));
    Ok(Host::ints(DType::I64, dims, (0..batch).flat_map(|_| row()).collect()).into())
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use crate::testing::{Case, counting, f32s, i64s, tensor};

    fn case(operator: &str, inputs: impl IntoIterator<Item = Tensor>) -> Case {
        Case::of(operator, inputs).domain(super::DOMAIN)
    }

    fn x() -> Tensor {
        f32s(&[1, 3, 2], &[1., 0., 0., 2., -1., 1.])
    }

    fn check(case: &Case, wanted: [f32; 6]) {
        case.gives([f32s(&[1, 3, 2], &wanted)]);
    }

    /// Two heads of size one.
    fn projected(more: impl IntoIterator<Item = Tensor>) -> Case {
        let weights = f32s(&[2, 6], &[1., 0., 0.5, 1., 1., 2., 0., 1., 1., -1., 0., 1.]);
        let bias = f32s(&[6], &[0., 0.5, 0., 0., 0.25, 0.]);
        let operands = [x(), weights, bias];
        case("Attention", operands.into_iter().chain(more)).int("num_heads", 2)
    }

    fn mask(dims: &[usize], values: &[i32]) -> Tensor {
        tensor(dims, values)
    }

    const UNMASKED: [f32; 6] = [0.25, 1.537_158, 0.25, 1.998_343, 0.25, 1.967_397];

    #[test]
    fn queries_keys_and_values_are_projected_together() {
        check(&projected([]), UNMASKED);
        let ordered = [1.25, 2., 0.75, 2., 0.25, 1.967_397];
        check(&projected([]).int("unidirectional", 1), ordered);
        let added = f32s(&[1, 1, 3, 3], &[0., 1., -1., 0., 1., -1., 0., 1., -1.]);
        check(
            &projected([added]).without(3).without(4).float("scale", 2.),
            [0.261_294_7, 1.952_371, 0.404_697_9, 2., 0.670_512_4, 1.999_864],
        );
        let weights = f32s(&[2, 5], &[1., 0., 0.5, 1., 1., 0., 1., 1., -1., 0.]);
        let bias = f32s(&[5], &[0., 0.5, 0., 0., 0.25]);
        let narrow = case("Attention", [x(), weights, bias]).int("num_heads", 1);
        narrow
            .clone()
            .ints("qkv_hidden_sizes", &[2, 2, 1])
            .gives([f32s(&[1, 3, 1], &[0.528_648_6, 1.235_222, 1.157_776])]);
        narrow.fails("of these sizes");
        narrow.clone().ints("qkv_hidden_sizes", &[2, 2]).fails("not three sizes");
        narrow.ints("qkv_hidden_sizes", &[2, 4, 1]).fails("of these sizes");
        projected([]).int("do_rotary", 1).fails("do_rotary");
    }

    #[test]
    fn masks_come_in_many_forms() {
        let first_two = [0.432_425_5, 2., 0.75, 2., 1.067_574, 2.];
        check(&projected([mask(&[1, 3], &[1, 1, 0])]), first_two);
        check(&projected([mask(&[1], &[2])]), first_two);
        let last_two = [0.067_574_47, 0.5, -0.25, 0.5, -0.567_574_4, 0.5];
        check(&projected([mask(&[2], &[3, 1])]), last_two);
        let each = mask(&[1, 3, 3], &[1, 1, 0, 0, 1, 1, 1, 0, 1]);
        check(&projected([each]), [0.432_425_5, 2., -0.25, 0.5, 0.25, 1.967_039]);
        check(
            &projected([mask(&[1, 3], &[1, 1, 0])]).float("mask_filter_value", -1.),
            [0.358_062_7, 1.811_33, 0.516_956_4, 1.999_39, 0.647_307_8, 1.987_923],
        );
        check(&projected([mask(&[1, 3], &[0; 3])]), UNMASKED);
        projected([mask(&[1, 4], &[1; 4])]).fails("the mask");
        projected([mask(&[3], &[1; 3])]).fails("the mask");
    }

    #[test]
    fn the_past_goes_before_and_comes_out_longer() {
        let past = counting(&[2, 1, 2, 1, 1]);
        let present = f32s(
            &[2, 1, 2, 4, 1],
            &[1., 0.5, 2., 0.5, 2., 1., -2., -2., 3., 1.25, 0.25, -0.75, 4., 2., 2., -1.],
        );
        projected([past.clone()]).without(3).int("unidirectional", 1).gives([
            f32s(&[1, 3, 2], &[2.339_304, 3.244_919, 1.5, 3.848_206, 0.839_455_6, 3.622_493]),
            present.clone(),
        ]);
        projected([mask(&[1, 4], &[0, 1, 1, 1]), past])
            .gives([f32s(&[1, 3, 2], &UNMASKED), present]);
        projected([counting(&[1, 1, 2, 1, 1])]).without(3).fails("the past");
    }

    fn multi(more: impl IntoIterator<Item = Tensor>) -> Case {
        let key = f32s(&[1, 2, 2], &[1., 0., 0., 2.]);
        let value = f32s(&[1, 2, 2], &[1., 2., 3., 5.]);
        let operands = [x(), key, value];
        case("MultiHeadAttention", operands.into_iter().chain(more)).int("num_heads", 2)
    }

    const MULTI: [f32; 6] = [1.537_883, 3.5, 2., 4.946_041, 2.462_117, 4.642_391];

    #[test]
    fn queries_keys_and_values_may_come_apart() {
        check(&multi([]), MULTI);
        let bias = f32s(&[6], &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
        check(&multi([bias]), [1.999_48, 4.396_063, 2.450_042, 5.563_614, 2.921_899, 5.350_482]);
        let added = f32s(&[1, 1, 3, 2], &[0., 1., 1., 0., 0., 0.]);
        check(
            &multi([added]).without(3).without(4),
            [2., 4.193_176, 1.537_883, 4.857_723, 2.462_117, 4.642_391],
        );
        check(&multi([mask(&[1], &[1])]).without(3), [1., 2., 1., 2., 1., 2.]);
        check(&multi([mask(&[1, 2], &[0, 1])]).without(3), [3., 5., 3., 5., 3., 5.]);
        let own = case("MultiHeadAttention", [x(), x(), x()]).int("num_heads", 2);
        check(&own.int("unidirectional", 1), [1., 0., 0.5, 1.964_028, -0.575_210_4, 1.575_21]);
        multi([counting(&[5])]).fails("of these sizes");
        let three = case("MultiHeadAttention", [x(), x(), x()]).int("num_heads", 3);
        three.fails("the queries");
    }

    #[test]
    fn keys_and_values_may_be_split_or_packed() {
        let key = f32s(&[1, 2, 2, 1], &[1., 0., 0., 2.]);
        let value = f32s(&[1, 2, 2, 1], &[1., 3., 2., 5.]);
        check(&case("MultiHeadAttention", [x(), key, value]).int("num_heads", 2), MULTI);
        let both = f32s(&[1, 2, 2, 2, 1], &[1., 1., 0., 2., 0., 3., 2., 5.]);
        check(&case("MultiHeadAttention", [x(), both]).int("num_heads", 2), MULTI);
        let all = f32s(&[1, 1, 2, 3, 1], &[1., 2., 3., 4., 5., 6.]);
        case("MultiHeadAttention", [all]).int("num_heads", 2).gives([f32s(&[1, 1, 2], &[3., 6.])]);
        case("MultiHeadAttention", [x()]).int("num_heads", 2).fails("packed");
    }

    #[test]
    fn keys_and_values_are_kept_for_the_next_step() {
        let one = |values: &[f32]| f32s(&[1, 1, 2], values);
        let past = [f32s(&[1, 2, 1, 1], &[1., 2.]), f32s(&[1, 2, 1, 1], &[3., 4.])];
        let step = [one(&[1., 0.]), one(&[1., 0.]), one(&[1., 2.])];
        case("MultiHeadAttention", step.into_iter().chain(past.clone()))
            .without(3)
            .without(4)
            .without(5)
            .int("num_heads", 2)
            .gives([
                one(&[2., 3.]),
                f32s(&[1, 2, 2, 1], &[1., 1., 2., 0.]),
                f32s(&[1, 2, 2, 1], &[3., 1., 4., 2.]),
            ]);
        case("MultiHeadAttention", [x(), x(), x()].into_iter().chain(past))
            .without(3)
            .without(4)
            .without(5)
            .int("num_heads", 2)
            .int("unidirectional", 1)
            .gives([f32s(&[1, 3, 2], &[2., 2., 1.333_333, 2.972_775, -0.279_917_5, 2.543_88])]);
    }

    #[test]
    fn rotary_embedding_takes_positions_or_the_first() {
        let cos = f32s(&[3, 2], &[1., 1., 0., 1., -1., 0.]);
        let sin = f32s(&[3, 2], &[0., 0., 1., 0., 0., 1.]);
        let turned = |x: Tensor, positions: Tensor| {
            case("RotaryEmbedding", [x, positions, cos.clone(), sin.clone()])
        };
        let x = || counting(&[1, 2, 4]);
        turned(x(), i64s(&[1, 2], &[0, 1]))
            .gives([f32s(&[1, 2, 4], &[1., 2., 3., 4., -7., 6., 5., 8.])]);
        turned(x(), i64s(&[1], &[1]))
            .gives([f32s(&[1, 2, 4], &[-3., 2., 1., 4., -5., -8., -7., 6.])]);
        turned(x(), i64s(&[1, 2], &[2, 1]))
            .int("interleaved", 1)
            .gives([f32s(&[1, 2, 4], &[-1., -2., -4., 3., -6., 5., 7., 8.])]);
        turned(counting(&[1, 2, 2, 4]), i64s(&[1, 2], &[2, 1])).gives([f32s(
            &[1, 2, 2, 4],
            &[-1., -4., -3., 2., -7., 6., 5., 8., -9., -12., -11., 10., -15., 14., 13., 16.],
        )]);
        turned(x(), i64s(&[1], &[2])).fails("index 3");
        turned(x(), i64s(&[2], &[0, 1])).fails("the position");
        turned(counting(&[1, 2, 6]), i64s(&[1], &[0])).fails("do not fit the heads");
    }
}
