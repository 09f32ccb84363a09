//! Scaled dot products of queries and keys: what every attention operator does
//! once its operands are split into heads.

use burn::tensor::ops::FloatTensor;
use burn::tensor::{IntDType, Shape};
use ingle_types::DType;

use super::elementwise::{add, apply};
use super::generate::full;
use super::tensor::permute;
use crate::OpError;
use crate::context::Context;
use crate::dims::{broadcast, with_rank};
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, HostData, Value, is_float};

/// The operands of attention, split into heads.
pub(super) struct Heads<B: Kernels> {
    /// `[batch, heads, rows, size]`.
    pub(super) query: Value<B>,
    /// `[batch, groups, columns, size]`. Each serves `heads / groups` neighbouring
    /// heads of the queries.
    pub(super) key: Value<B>,
    /// `[batch, groups, columns, width]`.
    pub(super) value: Value<B>,
    /// Added to the scores; broadcasts to `[batch, heads, rows, columns]`.
    pub(super) bias: Option<Value<B>>,
}

/// How scores become weights.
#[derive(Clone, Copy, Default)]
pub(super) struct Scoring {
    /// `None` = one over the root of the heads' size.
    pub(super) scale: Option<f64>,
    /// The scores that a smooth bound keeps them below; zero = no bound.
    pub(super) softcap: f64,
    /// What the softmax is computed in; `None` = the operands' own type.
    pub(super) precision: Option<DType>,
    /// The scores that are an output too.
    pub(super) shown: Option<Stage>,
}

/// Where scores stand on their way to weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    Scaled,
    Capped,
    Biased,
    Weights,
}

/// What attention gives.
pub(super) struct Attended<B: Kernels> {
    /// `[batch, heads, rows, width]`.
    pub(super) output: Value<B>,
    /// `[batch, heads, rows, columns]`, where [`Scoring::shown`] asks for them.
    pub(super) scores: Option<Value<B>>,
}

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    heads: usize,
    groups: usize,
    rows: usize,
    columns: usize,
    size: usize,
    width: usize,
}

impl Sizes {
    fn of<B: Kernels>(operands: &Heads<B>) -> Result<Self, OpError> {
        let (q, k, v) = (operands.query.dims(), operands.key.dims(), operands.value.dims());
        let (&[batch, heads, rows, size], &[_, groups, columns, _], &[.., width]) =
            (q.as_slice(), k.as_slice(), v.as_slice())
        else {
            return Err(OpError::Mismatch { what: "heads have four axes", left: q, right: k });
        };
        if k != [batch, groups, columns, size] {
            let what = "the keys do not fit the queries";
            return Err(OpError::Mismatch { what, left: q, right: k });
        }
        if v != [batch, groups, columns, width] {
            let what = "the values do not fit the keys";
            return Err(OpError::Mismatch { what, left: k, right: v });
        }
        if [groups, columns, size, width].contains(&0) {
            return Err(OpError::Dims { what: "the keys and values", dims: k });
        }
        if !heads.is_multiple_of(groups) {
            let what = "the heads of the queries are no multiple of the keys'";
            return Err(OpError::Mismatch { what, left: q, right: k });
        }
        Ok(Self { batch, heads, groups, rows, columns, size, width })
    }

    fn scores(&self) -> [usize; 4] {
        [self.batch, self.heads, self.rows, self.columns]
    }

    /// Queries that share keys, or their scores, as one head with more rows.
    fn grouped(&self, last: usize) -> Shape {
        Shape::from(vec![self.batch, self.groups, self.heads / self.groups * self.rows, last])
    }

    fn is_grouped(&self) -> bool {
        self.heads != self.groups
    }
}

/// `softmax(query * key * scale + bias) * value`.
pub(super) fn attend<B: Kernels>(
    ctx: &Context<B>,
    operands: Heads<B>,
    scoring: &Scoring,
) -> Result<Attended<B>, OpError> {
    let sizes = Sizes::of(&operands)?;
    let (dtype, dims) = (operands.query.dtype(), sizes.scores());
    check_dtypes(&operands)?;
    let out = vec![sizes.batch, sizes.heads, sizes.rows, sizes.width];
    ctx.admit(dtype, &out)?;
    ctx.admit(dtype, &dims)?;
    if out.contains(&0) {
        let scores = scoring.shown.map(|_| Value::empty(dtype, dims.to_vec()));
        return Ok(Attended { output: Value::empty(dtype, out), scores });
    }
    let bias = operands.bias.map(|bias| aligned(ctx, bias, &dims)).transpose()?;
    let scale = scoring.scale.unwrap_or_else(|| (sizes.size as f64).sqrt().recip());
    let query = operands.query.into_float(ctx, "the queries")?;
    let key = operands.key.into_float(ctx, "the keys")?;
    // Half precision overflows where the product is scaled only afterwards.
    let half = matches!(dtype, DType::F16 | DType::BF16);
    let (query, scale) =
        if half { (B::float_mul_scalar(query, scale.into()), 1.0) } else { (query, scale) };
    let scores = product::<B>(&sizes, query, B::float_swap_dims(key, 2, 3), sizes.size);
    let scores = B::float_reshape(scores, Shape::from(dims.to_vec()));
    let (weights, shown) = weights(ctx, scores, bias, scale, scoring)?;
    let value_dtype = operands.value.dtype();
    let weights = Value::from(weights).cast(ctx, value_dtype)?.into_float(ctx, "the weights")?;
    let value = operands.value.into_float(ctx, "the values")?;
    let output = product::<B>(&sizes, weights, value, sizes.columns);
    let output = DeviceTensor::<B>::Float(output).reshape(&out).cast(ctx, dtype)?;
    let scores = shown.map(|scores| Value::from(scores).cast(ctx, dtype)).transpose()?;
    Ok(Attended { output: output.into(), scores })
}

fn check_dtypes<B: Kernels>(operands: &Heads<B>) -> Result<(), OpError> {
    let Heads { query, key, value, bias } = operands;
    let left = query.dtype();
    let differs = |v: &&Value<B>| v.dtype() != left;
    if let Some(other) = [Some(key), bias.as_ref()].into_iter().flatten().find(differs) {
        return Err(OpError::DTypes { left, right: other.dtype() });
    }
    if !is_float(left) || !is_float(value.dtype()) {
        return Err(OpError::DTypes { left, right: value.dtype() });
    }
    Ok(())
}

/// A bias as a tensor of rank four.
fn aligned<B: Kernels>(
    ctx: &Context<B>,
    bias: Value<B>,
    scores: &[usize],
) -> Result<FloatTensor<B>, OpError> {
    let dims = bias.dims();
    if broadcast(&dims, scores)? != scores {
        let what = "the mask does not broadcast to the scores";
        return Err(OpError::Mismatch { what, left: dims, right: scores.to_vec() });
    }
    bias.reshape(with_rank(&dims, scores.len())).into_float(ctx, "the mask")
}

/// The products of `[batch, heads, rows, inner]` and `[batch, groups, inner, n]`.
fn product<B: Kernels>(
    sizes: &Sizes,
    left: FloatTensor<B>,
    right: FloatTensor<B>,
    inner: usize,
) -> FloatTensor<B> {
    let left = if sizes.is_grouped() { B::float_reshape(left, sizes.grouped(inner)) } else { left };
    B::float_matmul(left, right)
}

type Weighed<B> = (DeviceTensor<B>, Option<DeviceTensor<B>>);

/// The weights, and the scores that are shown.
fn weights<B: Kernels>(
    ctx: &Context<B>,
    scores: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    scale: f64,
    scoring: &Scoring,
) -> Result<Weighed<B>, OpError> {
    let plain = scoring.softcap == 0.0 && scoring.precision.is_none();
    if plain && matches!(scoring.shown, None | Some(Stage::Weights)) {
        let weights = DeviceTensor::Float(B::attention_weights(scores, scale, bias));
        let shown = scoring.shown.map(|_| weights.clone());
        return Ok((weights, shown));
    }
    let mut shown = None;
    let mut show = |stage, scores: &FloatTensor<B>| {
        if scoring.shown == Some(stage) {
            shown = Some(DeviceTensor::Float(scores.clone()));
        }
    };
    let scores = B::float_mul_scalar(scores, scale.into());
    show(Stage::Scaled, &scores);
    let scores = capped::<B>(scores, scoring.softcap);
    show(Stage::Capped, &scores);
    let scores = match bias {
        Some(bias) => B::biased(scores, bias),
        None => scores,
    };
    show(Stage::Biased, &scores);
    let scores: DeviceTensor<B> = DeviceTensor::Float(scores);
    let precise = scores.dtype();
    let scores = scores.cast(ctx, scoring.precision.unwrap_or(precise))?;
    let scores = Value::from(scores).into_float(ctx, "the scores")?;
    let weights = B::attention_weights(scores, 1.0, None);
    show(Stage::Weights, &weights);
    Ok((DeviceTensor::Float(weights), shown))
}

fn capped<B: Kernels>(scores: FloatTensor<B>, cap: f64) -> FloatTensor<B> {
    if cap == 0.0 {
        return scores;
    }
    let bent = B::float_tanh(B::float_div_scalar(scores, cap.into()));
    B::float_mul_scalar(bent, cap.into())
}

/// `[batch, sequence, heads * size]` as `[batch, heads, sequence, size]`.
pub(super) fn split_heads<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    heads: usize,
    what: &'static str,
) -> Result<Value<B>, OpError> {
    let dims = x.dims();
    match dims.as_slice() {
        &[batch, sequence, hidden] if heads > 0 && hidden.is_multiple_of(heads) => {
            let split = x.reshape(vec![batch, sequence, heads, hidden / heads]);
            permute(ctx, split, &[0, 2, 1, 3])
        }
        _ => Err(OpError::Dims { what, dims }),
    }
}

/// What [`split_heads`] split, joined again.
pub(super) fn join_heads<B: Kernels>(ctx: &Context<B>, x: Value<B>) -> Result<Value<B>, OpError> {
    let x = permute(ctx, x, &[0, 2, 1, 3])?;
    let dims = x.dims();
    let (front, back) = dims.split_at(2);
    let joined = [front, &[back.iter().product()]].concat();
    Ok(x.reshape(joined))
}

/// What a mask adds to scores of `dtype`: nothing where a bool is true, minus
/// infinity where it is false; a number as it is.
pub(super) fn mask_bias<B: Kernels>(
    ctx: &Context<B>,
    mask: Value<B>,
    dtype: DType,
) -> Result<Value<B>, OpError> {
    if mask.dtype() != DType::Bool {
        return mask.cast(ctx, dtype);
    }
    let dims = mask.dims();
    ctx.admit(dtype, &dims)?;
    if let Some(HostData::Int(values)) = mask.as_host().map(Host::data) {
        let bias = values.iter().map(|&v| if v != 0 { 0.0 } else { f64::NEG_INFINITY });
        return Ok(Host::floats(dtype, dims, bias.collect()).into());
    }
    let hidden = B::bool_not(mask.into_bool(ctx, "the mask")?);
    hidden_bias(ctx, hidden, dtype, dims)
}

fn hidden_bias<B: Kernels>(
    ctx: &Context<B>,
    hidden: burn::tensor::ops::BoolTensor<B>,
    dtype: DType,
    dims: Vec<usize>,
) -> Result<Value<B>, OpError> {
    let stored = ctx.stored(dtype)?;
    let zeros = B::float_zeros(Shape::from(dims), ctx.device(), stored.into());
    let bias = B::float_mask_fill(zeros, hidden, f64::NEG_INFINITY.into());
    Ok(DeviceTensor::Float(bias).into())
}

/// Minus infinity where a row may not look: row `i` sees the columns up to
/// `i + past`. `None` where every row sees all.
pub(super) fn causal_bias<B: Kernels>(
    ctx: &Context<B>,
    [rows, columns]: [usize; 2],
    past: usize,
    dtype: DType,
) -> Result<Option<Value<B>>, OpError> {
    if rows == 0 || past >= columns.saturating_sub(1) {
        return Ok(None);
    }
    let dims = vec![rows, columns];
    ctx.admit(DType::I64, &dims)?;
    ctx.admit(dtype, &dims)?;
    let (device, shape) = (ctx.device(), Shape::from(dims.clone()));
    let line = |from: usize, count: usize, dims: [usize; 2]| {
        let (from, count) = (from as i64, count as i64);
        let line = B::int_arange(from..from + count, device, IntDType::I64);
        B::int_expand(B::int_reshape(line, Shape::from(dims.to_vec())), shape.clone())
    };
    let last_seen = line(past, rows, [rows, 1]);
    let hidden = B::int_greater(line(0, columns, [1, columns]), last_seen, ctx.bool_store());
    hidden_bias(ctx, hidden, dtype, dims).map(Some)
}

/// Minus infinity behind the first `lengths[b]` columns of example `b`, as
/// `[batch, 1, 1, columns]`.
pub(super) fn length_bias<B: Kernels>(
    ctx: &Context<B>,
    lengths: &[i64],
    columns: usize,
    dtype: DType,
) -> Result<Value<B>, OpError> {
    let dims = vec![lengths.len(), 1, 1, columns];
    ctx.admit(DType::F64, &dims)?;
    let row = |&length: &i64| {
        let seen = usize::try_from(length).unwrap_or_default();
        (0..columns).map(move |i| if i < seen { 0.0 } else { f64::NEG_INFINITY })
    };
    let values = lengths.iter().flat_map(row).collect();
    Ok(Host::floats(dtype, dims, values).into())
}

/// The sum of the biases that there are.
pub(super) fn sum_biases<B: Kernels>(
    ctx: &Context<B>,
    biases: impl IntoIterator<Item = Option<Value<B>>>,
) -> Result<Option<Value<B>>, OpError> {
    let mut sum: Option<Value<B>> = None;
    for bias in biases.into_iter().flatten() {
        sum = Some(match sum {
            Some(sum) => apply(ctx, &add(), sum, bias)?,
            None => bias,
        });
    }
    Ok(sum)
}

/// `bias` with columns of minus infinity behind it, up to `columns`.
pub(super) fn widened<B: Kernels>(
    ctx: &Context<B>,
    bias: Value<B>,
    columns: usize,
) -> Result<Value<B>, OpError> {
    let mut dims = bias.dims();
    let Some(last) = dims.last_mut().filter(|last| **last < columns) else { return Ok(bias) };
    *last = columns - *last;
    let hidden = Host::floats(bias.dtype(), vec![], vec![f64::NEG_INFINITY]);
    let hidden = full(ctx, &hidden, dims)?;
    super::tensor::join(ctx, vec![bias, hidden], -1)
}
