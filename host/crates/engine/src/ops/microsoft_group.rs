//! Attention of onnxruntime's own domain whose queries share keys, with a cache.

use ingle_types::DType;

use super::attend::{
    Attended, Heads, Scoring, attend, join_heads, split_heads, sum_biases, widened,
};
use super::attention::heads;
use super::cache::write_all;
use super::generate::full;
use super::microsoft::DOMAIN;
use super::rotary::{Rotation, angles_at, turn_heads};
use super::tensor::{join, narrow};
use super::{Args, Inputs, Registry, op};
use crate::context::Context;
use crate::kernels::Kernels;
use crate::value::{Host, Value};
use crate::{BuildError, OpError};

/// What comes behind the inputs that are known: smooth softmax, quantized caches,
/// norms of queries and keys.
const UNKNOWN_INPUTS: std::ops::Range<usize> = 11..16;

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add_in(DOMAIN, "GroupQueryAttention", 1.., 1..=UNKNOWN_INPUTS.end, |a| {
        let attention = GroupQuery::of(a)?;
        op(move |ctx, inputs| attention.run(ctx, inputs))
    });
}

struct GroupQuery {
    heads: usize,
    groups: usize,
    /// Whether a position sees none behind it.
    causal: bool,
    /// How many positions, with its own, one sees; `None` = all before it.
    window: Option<usize>,
    rotation: Option<Rotation>,
    scoring: Scoring,
}

impl GroupQuery {
    fn of<B: Kernels>(args: &Args<'_, B>) -> Result<Self, BuildError> {
        for name in ["smooth_softmax", "qk_output", "sliding_window_cache"] {
            if args.int(name, 0)? > 0 {
                return Err(BuildError::Value { name, reason: "not supported" });
            }
        }
        for name in ["k_quant_type", "v_quant_type"] {
            if args.string(name, "NONE")? != "NONE" {
                return Err(BuildError::Value { name, reason: "not supported" });
            }
        }
        args.ignore("kv_cache_bit_width");
        args.ignore("qk_norm_epsilon");
        args.makes_outputs(3);
        let interleaved = args.flag("rotary_interleaved", false)?;
        let rotates = args.flag("do_rotary", false)?;
        let softcap = args.float("softcap", 0.0)?;
        if softcap < 0.0 || softcap.is_nan() {
            return Err(BuildError::Value { name: "softcap", reason: "negative" });
        }
        let scale = args.float_opt("scale")?.filter(|&scale| scale != 0.0);
        let count = |name| heads(args, name)?.ok_or(BuildError::Missing { name });
        Ok(Self {
            heads: count("num_heads")?,
            groups: count("kv_num_heads")?,
            causal: args.flag("causal", true)?,
            window: usize::try_from(args.int("local_window_size", -1)?).ok().filter(|&w| w > 0),
            rotation: rotates.then_some(Rotation { interleaved, turning: 0 }),
            scoring: Scoring { scale, softcap, ..Scoring::default() },
        })
    }

    fn run<B: Kernels>(
        &self,
        ctx: &Context<B>,
        mut inputs: Inputs<B>,
    ) -> Result<Vec<Value<B>>, OpError> {
        if UNKNOWN_INPUTS.into_iter().any(|i| inputs.take_opt(i).is_some()) {
            return Err(OpError::Unsupported { what: "one of its inputs" });
        }
        let [query, key, value] = self.operands(ctx, &mut inputs)?;
        let (past_key, past_value) = (inputs.take_opt(3), inputs.take_opt(4));
        let places = Places::of(ctx, &mut inputs, &query, past_key.as_ref())?;
        let (query, key) = self.turned(ctx, &mut inputs, (query, key), &places)?;
        let query = split_heads(ctx, query, self.heads, "the queries")?;
        let key = split_heads(ctx, key, self.groups, "the keys")?;
        let value = split_heads(ctx, value, self.groups, "the values")?;
        let key = places.cached(ctx, past_key, key)?;
        let value = places.cached(ctx, past_value, value)?;
        let added = match inputs.take_opt(10) {
            Some(added) => Some(widened(ctx, added, places.columns)?),
            None => None,
        };
        let hidden = self.hidden(ctx, &places, query.dtype())?;
        let bias = sum_biases(ctx, [added, hidden])?;
        let present = [key.clone(), value.clone()];
        let Attended { output, .. } =
            attend(ctx, Heads { query, key, value, bias }, &self.scoring)?;
        let [key, value] = present;
        Ok(vec![join_heads(ctx, output)?, key, value])
    }

    /// Queries, keys and values, which may come as one tensor.
    fn operands<B: Kernels>(
        &self,
        ctx: &Context<B>,
        inputs: &mut Inputs<B>,
    ) -> Result<[Value<B>; 3], OpError> {
        let query = inputs.take(0)?;
        let dims = query.dims();
        let &[_, _, hidden] = dims.as_slice() else {
            return Err(OpError::Dims { what: "the queries", dims });
        };
        match (inputs.take_opt(1), inputs.take_opt(2)) {
            (Some(key), Some(value)) => Ok([query, key, value]),
            (None, None) => {
                let all = self.heads + 2 * self.groups;
                if !hidden.is_multiple_of(all) {
                    return Err(OpError::Dims { what: "packed queries, keys and values", dims });
                }
                let size = hidden / all;
                let (key, value) = (self.heads * size, (self.heads + self.groups) * size);
                let part = |from, to| narrow(ctx, &query, 2, from, to);
                Ok([part(0, key)?, part(key, value)?, part(value, hidden)?])
            }
            (None, Some(_)) => Err(OpError::Missing { index: 1 }),
            (Some(_), None) => Err(OpError::Missing { index: 2 }),
        }
    }

    fn turned<B: Kernels>(
        &self,
        ctx: &Context<B>,
        inputs: &mut Inputs<B>,
        (query, key): (Value<B>, Value<B>),
        places: &Places,
    ) -> Result<(Value<B>, Value<B>), OpError> {
        let (cos, sin, given) = (inputs.take_opt(7), inputs.take_opt(8), inputs.take_opt(9));
        let Some(rotation) = &self.rotation else { return Ok((query, key)) };
        let cos = cos.ok_or(OpError::Missing { index: 7 })?;
        let sin = sin.ok_or(OpError::Missing { index: 8 })?;
        // The table says how many entries of a head turn.
        let half = cos.dims().last().copied().unwrap_or_default();
        let rotation = Rotation { turning: half.saturating_mul(2), ..*rotation };
        let positions = match given {
            Some(positions) => positions,
            None => places.positions(ctx)?,
        };
        let angles = [angles_at(ctx, cos, &positions)?, angles_at(ctx, sin, &positions)?];
        let query = turn_heads(ctx, &rotation, query, self.heads, angles.clone())?;
        Ok((query, turn_heads(ctx, &rotation, key, self.groups, angles)?))
    }

    /// Minus infinity where a row does not look.
    fn hidden<B: Kernels>(
        &self,
        ctx: &Context<B>,
        places: &Places,
        dtype: DType,
    ) -> Result<Option<Value<B>>, OpError> {
        let Places { rows, columns, .. } = *places;
        let dims = vec![places.starts.len(), 1, rows, columns];
        ctx.admit(DType::F64, &dims)?;
        let sees = |start: usize, row: usize, column: usize| {
            let own = start + row;
            let last = if self.causal { own } else { start + rows - 1 };
            column <= last && self.window.is_none_or(|window| column + window > own)
        };
        let of_row = |start: usize, row: usize| {
            (0..columns).map(
                move |column| {
                    if sees(start, row, column) { 0.0 } else { f64::NEG_INFINITY }
                },
            )
        };
        let of_rows = |&start: &usize| (0..rows).flat_map(move |row| of_row(start, row));
        let values: Vec<f64> = places.starts.iter().flat_map(of_rows).collect();
        if values.iter().all(|&v| v == 0.0) {
            return Ok(None);
        }
        Ok(Some(Host::floats(dtype, dims, values).into()))
    }
}

/// Where new keys go in the cache.
struct Places {
    /// The first new position of each example.
    starts: Vec<usize>,
    /// How many positions are new.
    rows: usize,
    /// How many the cache has.
    columns: usize,
}

impl Places {
    fn of<B: Kernels>(
        ctx: &Context<B>,
        inputs: &mut Inputs<B>,
        query: &Value<B>,
        past: Option<&Value<B>>,
    ) -> Result<Self, OpError> {
        let dims = query.dims();
        let &[batch, rows, _] = dims.as_slice() else {
            return Err(OpError::Dims { what: "the queries", dims });
        };
        let lasts = inputs.take(5)?;
        if lasts.elements() != batch || dims.contains(&0) {
            return Err(OpError::Dims { what: "the lengths", dims: lasts.dims() });
        }
        let value = inputs.take(6)?.scalar(ctx, "the total length")? as i64;
        let total = usize::try_from(value).ok().filter(|&total| total >= rows);
        let total = total.ok_or(OpError::Value { what: "the total length", value })?;
        let room = match past.map(|past| past.dims()) {
            Some(dims) => dims.get(2).copied().unwrap_or_default(),
            None => 0,
        };
        let columns = total.max(room);
        // All positions are new when there are as many as there are in total.
        let start = |&last: &i64| {
            let end = usize::try_from(last).ok().and_then(|last| last.checked_add(1));
            let start = if total == rows { Some(0) } else { end.and_then(|e| e.checked_sub(rows)) };
            let fits = start.filter(|&start| start.checked_add(rows).is_some_and(|e| e <= columns));
            fits.ok_or(OpError::Value { what: "the length of a sequence", value: last })
        };
        let starts = lasts.ints(ctx, "the lengths")?.iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self { starts, rows, columns })
    }

    fn positions<B: Kernels>(&self, ctx: &Context<B>) -> Result<Value<B>, OpError> {
        let dims = vec![self.starts.len(), self.rows];
        ctx.admit(DType::I64, &dims)?;
        let row = |&start: &usize| (start..start + self.rows).map(|i| i as i64);
        let positions = self.starts.iter().flat_map(row).collect();
        Ok(Host::ints(DType::I64, dims, positions).into())
    }

    /// The cache with new entries, `[batch, groups, columns, size]`.
    fn cached<B: Kernels>(
        &self,
        ctx: &Context<B>,
        past: Option<Value<B>>,
        fresh: Value<B>,
    ) -> Result<Value<B>, OpError> {
        let mut dims = fresh.dims();
        if let Some(slot) = dims.get_mut(2) {
            *slot = self.columns;
        }
        ctx.admit(fresh.dtype(), &dims)?;
        let start = self.starts.first().copied().unwrap_or_default();
        let together = self.starts.iter().all(|&s| s == start);
        if together && start + self.rows == self.columns {
            let Some(past) = past.filter(|_| start > 0) else { return whole(fresh, &dims) };
            let size = past.dims().get(2).copied().unwrap_or_default();
            if start > size {
                return Err(OpError::Dims { what: "the past", dims: past.dims() });
            }
            return whole(join(ctx, vec![narrow(ctx, &past, 2, 0, start)?, fresh], 2)?, &dims);
        }
        let zero = Host::ints(DType::I64, vec![], vec![0]).cast(fresh.dtype());
        let cache = match past {
            Some(past) => {
                let mut behind = past.dims();
                if let Some(slot) = behind.get_mut(2) {
                    *slot = self.columns - (*slot).min(self.columns);
                }
                join(ctx, vec![past, full(ctx, &zero, behind)?], 2)?
            }
            None => full(ctx, &zero, dims.clone())?,
        };
        let starts: Vec<i64> = self.starts.iter().map(|&start| start as i64).collect();
        write_all(ctx, whole(cache, &dims)?, &fresh, (2, false), &starts)
    }
}

/// `cache`, which must have these dims.
fn whole<B: Kernels>(cache: Value<B>, dims: &[usize]) -> Result<Value<B>, OpError> {
    if cache.dims() == dims {
        return Ok(cache);
    }
    let what = "the past does not fit the new keys and values";
    Err(OpError::Mismatch { what, left: cache.dims(), right: dims.to_vec() })
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use crate::testing::{Case, f32s, tensor};

    /// One example, two heads of queries over one of keys, of size one.
    fn case(rows: usize, last: i32, total: i32) -> Case {
        let query: Vec<f32> = (0..2 * rows).map(|i| (i % 3) as f32 - 1.0).collect();
        let key: Vec<f32> = (0..rows).map(|i| i as f32).collect();
        let value: Vec<f32> = (0..rows).map(|i| 10.0 * (i as f32 + 1.0)).collect();
        let operands = [
            f32s(&[1, rows, 2], &query),
            f32s(&[1, rows, 1], &key),
            f32s(&[1, rows, 1], &value),
            tensor(&[1], &[last]),
            tensor(&[], &[total]),
        ];
        Case::of("GroupQueryAttention", operands)
            .domain(super::DOMAIN)
            .int("num_heads", 2)
            .int("kv_num_heads", 1)
    }

    fn past(count: usize) -> [Tensor; 2] {
        [f32s(&[1, 1, count, 1], &vec![0.; count]), f32s(&[1, 1, count, 1], &vec![20.; count])]
    }

    #[test]
    fn a_prompt_sees_what_comes_before() {
        let (keys, values) = (f32s(&[1, 1, 2, 1], &[0., 1.]), f32s(&[1, 1, 2, 1], &[10., 20.]));
        // The second row weighs its keys with 1 : exp(1) and 1 : exp(-1).
        let y = [10., 10., 17.310_585, 12.689_414];
        let prompt = |case: Case| case.without(3).without(4);
        prompt(case(2, 1, 2)).gives([f32s(&[1, 2, 2], &y), keys.clone(), values.clone()]);
        prompt(case(2, 1, 2)).int("local_window_size", 1).gives([
            f32s(&[1, 2, 2], &[10., 10., 20., 20.]),
            keys,
            values,
        ]);
        prompt(case(2, 1, 1)).fails("the total length cannot be 1");
        prompt(case(2, 1, 2)).int("smooth_softmax", 1).fails("smooth_softmax");
        prompt(case(2, 1, 2)).int("do_rotary", 1).fails("input 7 is missing");
    }

    /// One new position behind `count` old ones.
    fn step(count: usize, last: i32, total: i32) -> Case {
        let [keys, values] = past(count);
        let operands = [
            f32s(&[1, 1, 2], &[1., -1.]),
            f32s(&[1, 1, 1], &[1.]),
            f32s(&[1, 1, 1], &[30.]),
            keys,
            values,
            tensor(&[1], &[last]),
            tensor(&[], &[total]),
        ];
        Case::of("GroupQueryAttention", operands)
            .domain(super::DOMAIN)
            .int("num_heads", 2)
            .int("kv_num_heads", 1)
    }

    #[test]
    fn a_step_is_put_behind_the_past_or_into_its_room() {
        // Keys 0, 0 and 1 weigh 1 : 1 : exp(1) for the first head.
        step(2, 2, 3).gives([
            f32s(&[1, 1, 2], &[25.761_17, 21.553_624]),
            f32s(&[1, 1, 3, 1], &[0., 0., 1.]),
            f32s(&[1, 1, 3, 1], &[20., 20., 30.]),
        ]);
        step(4, 1, 2).gives([
            f32s(&[1, 1, 2], &[27.310_586, 22.689_414]),
            f32s(&[1, 1, 4, 1], &[0., 1., 0., 0.]),
            f32s(&[1, 1, 4, 1], &[20., 30., 20., 20.]),
        ]);
    }

    #[test]
    fn lengths_stay_inside_of_the_cache() {
        step(2, 4, 5).fails("the past");
        step(2, 3, 3).fails("length of a sequence cannot be 3");
        step(2, -1, 3).fails("length of a sequence cannot be -1");
        step(2, 2, 0).fails("the total length cannot be 0");
        step(2, i32::MAX - 1, i32::MAX).fails("larger than the limit");
        step(2, 2, 3).float("softcap", -1.).fails("negative");
    }
}
