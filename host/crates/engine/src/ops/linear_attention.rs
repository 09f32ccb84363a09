//! Attention whose state is of fixed size: a matrix for each head, to which each
//! step adds the product of its key and its value.

use burn::tensor::Shape;
use burn::tensor::ops::FloatTensor;
use ingle_types::DType;

use super::attention::heads;
use super::generate::full;
use super::tensor::{join, narrow, permute};
use super::{Args, Built, Inputs, Registry, op};
use crate::context::Context;
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("LinearAttention", 27.., 3..=6, linear_attention);
}

struct LinearAttention {
    heads: usize,
    /// Heads of keys and values; each serves neighbouring heads of queries.
    groups: usize,
    scale: f64,
    /// Whether the state fades before each step.
    gated: bool,
    /// Whether a value is written as its difference to what its key recalls.
    corrected: bool,
}

fn linear_attention<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    args.ignore("chunk_size");
    args.makes_outputs(2);
    let (gated, corrected) = match &*args.string("update_rule", "gated_delta")? {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        _ => return Err(BuildError::Value { name: "update_rule", reason: "not a known rule" }),
    };
    let count = |name| heads(args, name)?.ok_or(BuildError::Missing { name });
    let (heads, groups) = (count("q_num_heads")?, count("kv_num_heads")?);
    if !heads.is_multiple_of(groups) {
        let reason = "no multiple of kv_num_heads";
        return Err(BuildError::Value { name: "q_num_heads", reason });
    }
    let scale = args.float("scale", 0.0)?;
    let attention = LinearAttention { heads, groups, scale, gated, corrected };
    op(move |ctx, inputs| attention.run(ctx, inputs))
}

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    steps: usize,
    /// Of a key, and of a query.
    size: usize,
    /// Of a value.
    width: usize,
}

/// What each step reads, with the steps in front and batch and head as one axis.
struct Sequences<B: Kernels> {
    /// `[steps, batch * groups, heads / groups, size]`.
    query: Value<B>,
    /// `[steps, batch * groups, 1, size]`.
    key: Value<B>,
    /// `[steps, batch * groups, 1, width]`.
    value: Value<B>,
    /// `[steps, batch * groups, size or 1, 1]`.
    decay: Option<Value<B>>,
    /// `[steps, batch * groups, 1, 1]`.
    rate: Option<Value<B>>,
}

impl LinearAttention {
    fn run<B: Kernels>(
        &self,
        ctx: &Context<B>,
        mut inputs: Inputs<B>,
    ) -> Result<Vec<Value<B>>, OpError> {
        let (query, key, value) = (inputs.take(0)?, inputs.take(1)?, inputs.take(2)?);
        let (past, decay, rate) = (inputs.take_opt(3), inputs.take_opt(4), inputs.take_opt(5));
        let dtype = query.dtype();
        let sizes = self.sizes([&query, &key, &value])?;
        let Sizes { batch, steps, size, width } = sizes;
        let out = vec![batch, steps, self.heads * width];
        ctx.admit(DType::F32, &out)?;
        if batch == 0 || steps == 0 {
            return Err(OpError::Dims { what: "the queries", dims: query.dims() });
        }
        let state_dtype = past.as_ref().map_or(dtype, Value::dtype);
        let state = self.state(ctx, past, &sizes)?;
        let sequences = Sequences {
            query: self.steps_first(ctx, query, &sizes, self.heads / self.groups)?,
            key: self.steps_first(ctx, key, &sizes, 1)?,
            value: self.steps_first(ctx, value, &sizes, 1)?,
            decay: self.decay(ctx, decay, &sizes)?,
            rate: self.rate(ctx, rate, &sizes)?,
        };
        let (outputs, state) = self.walk(ctx, &sizes, &sequences, state)?;
        // [steps, batch, groups, heads / groups, width]
        let output = outputs.reshape(vec![steps, batch, self.heads, width]);
        let output = permute(ctx, output, &[1, 0, 2, 3])?.reshape(out).cast(ctx, dtype)?;
        let state = DeviceTensor::<B>::Float(state).reshape(&[batch, self.groups, size, width]);
        Ok(vec![output, Value::from(state).cast(ctx, state_dtype)?])
    }

    fn sizes<B: Kernels>(&self, [query, key, value]: [&Value<B>; 3]) -> Result<Sizes, OpError> {
        let (q, k, v) = (query.dims(), key.dims(), value.dims());
        let fail = |what| OpError::Mismatch { what, left: q.clone(), right: k.clone() };
        let (&[batch, steps, hidden], &[.., wide]) = (q.as_slice(), v.as_slice()) else {
            return Err(OpError::Dims { what: "the queries", dims: q });
        };
        let (size, width) = (hidden / self.heads, wide / self.groups);
        if !is_float(query.dtype()) || [key, value].iter().any(|v| v.dtype() != query.dtype()) {
            return Err(OpError::DTypes { left: query.dtype(), right: key.dtype() });
        }
        if size == 0 || width == 0 || hidden != size * self.heads {
            return Err(fail("the heads do not divide them"));
        }
        if k != [batch, steps, size * self.groups] {
            return Err(fail("the keys do not fit the queries"));
        }
        if v != [batch, steps, width * self.groups] {
            let what = "the values do not fit the keys";
            return Err(OpError::Mismatch { what, left: k, right: v });
        }
        Ok(Sizes { batch, steps, size, width })
    }

    /// `[batch, steps, groups * rows * n]` as `[steps, batch * groups, rows, n]`, in 32 bits.
    fn steps_first<B: Kernels>(
        &self,
        ctx: &Context<B>,
        x: Value<B>,
        sizes: &Sizes,
        rows: usize,
    ) -> Result<Value<B>, OpError> {
        let n = x.elements() / (sizes.batch * sizes.steps * self.groups * rows);
        let x = x.cast(ctx, DType::F32)?;
        let x = permute(ctx, x, &[1, 0, 2])?;
        Ok(x.reshape(vec![sizes.steps, sizes.batch * self.groups, rows, n]))
    }

    fn state<B: Kernels>(
        &self,
        ctx: &Context<B>,
        past: Option<Value<B>>,
        sizes: &Sizes,
    ) -> Result<FloatTensor<B>, OpError> {
        let Sizes { batch, size, width, .. } = *sizes;
        let flat = vec![batch * self.groups, size, width];
        let state = match past {
            Some(past) if past.dims() != [batch, self.groups, size, width] => {
                return Err(OpError::Dims { what: "the state", dims: past.dims() });
            }
            Some(past) => past.cast(ctx, DType::F32)?.reshape(flat),
            None => full(ctx, &Host::floats(DType::F32, vec![], vec![0.0]), flat)?,
        };
        state.into_float(ctx, "the state")
    }

    /// A number for each head, or for each entry of its keys.
    fn decay<B: Kernels>(
        &self,
        ctx: &Context<B>,
        decay: Option<Value<B>>,
        sizes: &Sizes,
    ) -> Result<Option<Value<B>>, OpError> {
        let decay = match (decay, self.gated) {
            (None, false) => return Ok(None),
            (Some(decay), true) => decay,
            (None, true) => return Err(OpError::Missing { index: 4 }),
            (Some(_), false) => {
                return Err(OpError::Unsupported { what: "a decay with this update_rule" });
            }
        };
        let dims = decay.dims();
        let rows = match *dims.as_slice() {
            [batch, steps, n] if (batch, steps) == (sizes.batch, sizes.steps) => {
                [1, sizes.size].into_iter().find(|rows| n == rows * self.groups)
            }
            _ => None,
        };
        let rows = rows.ok_or(OpError::Dims { what: "the decay", dims })?;
        self.steps_first(ctx, decay, sizes, rows).map(Some)
    }

    /// A number for each head, or one for all.
    fn rate<B: Kernels>(
        &self,
        ctx: &Context<B>,
        rate: Option<Value<B>>,
        sizes: &Sizes,
    ) -> Result<Option<Value<B>>, OpError> {
        let rate = match (rate, self.corrected) {
            (None, false) => return Ok(None),
            (Some(rate), true) => rate,
            (None, true) => return Err(OpError::Missing { index: 5 }),
            (Some(_), false) => {
                return Err(OpError::Unsupported { what: "a beta with this update_rule" });
            }
        };
        let dims = rate.dims();
        let wanted = vec![sizes.batch, sizes.steps, self.groups];
        if dims != wanted && dims != [sizes.batch, sizes.steps, 1] {
            return Err(OpError::Dims { what: "the rate", dims });
        }
        self.steps_first(ctx, rate.expand(ctx, &wanted)?, sizes, 1).map(Some)
    }

    /// The outputs, `[steps, batch * groups, heads / groups, width]`, and the last state.
    fn walk<B: Kernels>(
        &self,
        ctx: &Context<B>,
        sizes: &Sizes,
        sequences: &Sequences<B>,
        mut state: FloatTensor<B>,
    ) -> Result<(Value<B>, FloatTensor<B>), OpError> {
        let examples = sizes.batch * self.groups;
        let scale = if self.scale == 0.0 { (sizes.size as f64).sqrt().recip() } else { self.scale };
        let mut outputs: Vec<Value<B>> = Vec::with_capacity(sizes.steps);
        for step in 0..sizes.steps {
            ctx.step()?;
            let at = |x: &Value<B>, rows: usize, what| {
                let part = narrow(ctx, x, 0, step, step + 1)?;
                let columns = part.elements() / (examples * rows);
                part.reshape(vec![examples, rows, columns]).into_float(ctx, what)
            };
            if let Some(decay) = &sequences.decay {
                let rows = decay.dims().get(2).copied().unwrap_or(1);
                let kept = B::float_exp(at(decay, rows, "the decay")?);
                state = B::float_mul(state.clone(), spread::<B>(kept, examples, sizes));
            }
            let key = at(&sequences.key, 1, "the keys")?;
            let mut value = at(&sequences.value, 1, "the values")?;
            if let Some(rate) = &sequences.rate {
                let recalled = B::float_matmul(key.clone(), state.clone());
                let rate = B::float_expand(
                    at(rate, 1, "the rate")?,
                    Shape::from(vec![examples, 1, sizes.width]),
                );
                value = B::float_mul(B::float_sub(value, recalled), rate);
            }
            let written = B::float_matmul(B::float_swap_dims(key, 1, 2), value);
            state = B::float_add(state, written);
            let query = at(&sequences.query, self.heads / self.groups, "the queries")?;
            let output = B::float_matmul(query, state.clone());
            let output: DeviceTensor<B> =
                DeviceTensor::Float(B::float_mul_scalar(output, scale.into()));
            let dims = [&[1][..], &output.dims()].concat();
            outputs.push(output.reshape(&dims).into());
        }
        Ok((join(ctx, outputs, 0)?, state))
    }
}

/// `[examples, size or 1, 1]` for each entry of the state.
fn spread<B: Kernels>(kept: FloatTensor<B>, examples: usize, sizes: &Sizes) -> FloatTensor<B> {
    B::float_expand(kept, Shape::from(vec![examples, sizes.size, sizes.width]))
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use crate::testing::{Case, counting, f32s};

    /// Two heads of queries over one of keys; two steps.
    fn operands() -> [Tensor; 3] {
        [
            f32s(&[1, 2, 4], &[1., 0., 0., 1., 1., 1., -1., 2.]),
            f32s(&[1, 2, 2], &[1., 0.5, 0., 1.]),
            f32s(&[1, 2, 1], &[2., 3.]),
        ]
    }

    fn case(rule: &str, more: impl IntoIterator<Item = Tensor>) -> Case {
        Case::of("LinearAttention", operands().into_iter().chain(more))
            .opset(27)
            .int("q_num_heads", 2)
            .int("kv_num_heads", 1)
            .string("update_rule", rule)
    }

    fn state() -> Tensor {
        f32s(&[1, 1, 2, 1], &[1., -1.])
    }

    fn check(case: &Case, y: [f32; 4], state: [f32; 2]) {
        case.gives([f32s(&[1, 2, 2], &y), f32s(&[1, 1, 2, 1], &state)]);
    }

    #[test]
    fn a_state_gathers_keys_and_values() {
        let y = [2., 1., 6., 6.].map(|y: f32| y / 2f32.sqrt());
        check(&case("linear", []), y, [2., 4.]);
        check(&case("linear", []).float("scale", 1.), [2., 1., 6., 6.], [2., 4.]);
    }

    #[test]
    fn a_state_may_fade_and_be_corrected() {
        let (each, rate) =
            (f32s(&[1, 2, 2], &[-0.5, -0.25, -1., 0.]), f32s(&[1, 2, 1], &[0.5, 1.]));
        check(
            &case("gated", [state(), each]),
            [1.843_096, 0.156_411_5, 2.955_769, 3.877_427],
            [0.958_889, 3.221_199],
        );
        check(
            &case("delta", [state(), rate.clone()]).without(4),
            [1.237_437, -0.441_941_7, 3.358_757, 3.005_204],
            [1.75, 3.],
        );
        check(
            &case("gated_delta", [state(), f32s(&[1, 2, 1], &[-0.5, -1.]), rate]),
            [1.028_768, -0.128_938_8, 2.499_783, 3.864_178],
            [0.535_227_1, 3.],
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let one = || f32s(&[1, 2, 1], &[1., 1.]);
        case("gated", [state()]).fails("input 4 is missing");
        case("delta", [state()]).fails("input 5 is missing");
        case("linear", [state(), one()]).fails("a decay");
        case("linear", [state(), one()]).without(4).fails("a beta");
        case("gated", [state(), f32s(&[1, 2, 3], &[0.; 6])]).fails("the decay");
        case("linear", [f32s(&[1, 1, 1, 2], &[0.; 2])]).fails("the state");
        case("quadratic", []).fails("not a known rule");
        let heads = |q: i64, k: i64, dims: [&[usize]; 3]| {
            Case::of("LinearAttention", dims.map(counting))
                .opset(27)
                .int("q_num_heads", q)
                .int("kv_num_heads", k)
                .string("update_rule", "linear")
        };
        heads(3, 2, [&[1, 1, 3], &[1, 1, 2], &[1, 1, 2]]).fails("no multiple");
        heads(2, 0, [&[1, 1, 2], &[1, 1, 2], &[1, 1, 2]]).fails("not positive");
        heads(2, 1, [&[1, 1, 3], &[1, 1, 2], &[1, 1, 2]]).fails("do not divide");
        heads(2, 1, [&[1, 1, 2], &[1, 1, 2], &[1, 1, 2]]).fails("do not fit the queries");
        heads(1, 1, [&[1, 1, 2], &[1, 1, 2], &[1, 2, 2]]).fails("do not fit the keys");
        heads(1, 1, [&[1, 0, 2], &[1, 0, 2], &[1, 0, 2]]).fails("the queries");
    }
}
