//! ONNX's own attention.

use super::attend::{
    Attended, Heads, Scoring, Stage, attend, causal_bias, join_heads, length_bias, mask_bias,
    split_heads, sum_biases, widened,
};
use super::tensor::join;
use super::{Args, Built, Inputs, Registry, op};
use crate::context::Context;
use crate::kernels::Kernels;
use crate::literal::dtype_of;
use crate::value::{Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Attention", 23..=23, 3..=6, attention);
    r.add("Attention", 24.., 3..=7, attention);
}

/// A count of heads.
pub(super) fn heads<B: Kernels>(
    args: &Args<'_, B>,
    name: &'static str,
) -> Result<Option<usize>, BuildError> {
    let positive = |n: i64| {
        let n = usize::try_from(n).ok().filter(|n| (1..1 << 24).contains(n));
        n.ok_or(BuildError::Value { name, reason: "not positive" })
    };
    args.int_opt(name)?.map(positive).transpose()
}

struct Attention {
    /// Of queries and of keys, where the operands are not split into heads.
    heads: Option<(usize, usize)>,
    causal: bool,
    scoring: Scoring,
}

impl Attention {
    fn of<B: Kernels>(args: &Args<'_, B>) -> Result<Self, BuildError> {
        let shown = match args.int("qk_matmul_output_mode", 0)? {
            0 => Stage::Scaled,
            1 => Stage::Capped,
            2 => Stage::Biased,
            3 => Stage::Weights,
            _ => {
                let name = "qk_matmul_output_mode";
                return Err(BuildError::Value { name, reason: "not a known mode" });
            }
        };
        let softcap = args.float("softcap", 0.0)?;
        if softcap < 0.0 || softcap.is_nan() {
            return Err(BuildError::Value { name: "softcap", reason: "negative" });
        }
        let precision = |element: i64| {
            let dtype = i32::try_from(element).ok().and_then(dtype_of).filter(|&d| is_float(d));
            dtype.ok_or(BuildError::Unsupported { what: "this softmax_precision" })
        };
        Ok(Self {
            heads: heads(args, "q_num_heads")?.zip(heads(args, "kv_num_heads")?),
            causal: args.flag("is_causal", false)?,
            scoring: Scoring {
                scale: args.float_opt("scale")?,
                softcap,
                precision: args.int_opt("softmax_precision")?.map(precision).transpose()?,
                shown: args.has_output(3).then_some(shown),
            },
        })
    }
}

fn attention<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    args.makes_outputs(4);
    let attention = Attention::of(args)?;
    op(move |ctx, inputs| attention.run(ctx, inputs))
}

impl Attention {
    fn run<B: Kernels>(
        &self,
        ctx: &Context<B>,
        mut inputs: Inputs<B>,
    ) -> Result<Vec<Value<B>>, OpError> {
        let (query, key, value) = (inputs.take(0)?, inputs.take(1)?, inputs.take(2)?);
        let packed = query.rank() == 3;
        let [query, key, value] = if packed {
            let heads = self.heads.ok_or(OpError::Dims { what: "queries", dims: query.dims() })?;
            [
                split_heads(ctx, query, heads.0, "the queries")?,
                split_heads(ctx, key, heads.1, "the keys")?,
                split_heads(ctx, value, heads.1, "the values")?,
            ]
        } else {
            [query, key, value]
        };
        let (mask, lengths) = (inputs.take_opt(3), inputs.take_opt(6));
        let (past, key, value) = match (inputs.take_opt(4), inputs.take_opt(5)) {
            (None, None) => (0, key, value),
            (Some(past_key), Some(past_value)) => {
                let past = past_key.dims().get(2).copied().unwrap_or_default();
                let key = join(ctx, vec![past_key, key], 2)?;
                (past, key, join(ctx, vec![past_value, value], 2)?)
            }
            (Some(_), None) => return Err(OpError::Missing { index: 5 }),
            (None, Some(_)) => return Err(OpError::Missing { index: 4 }),
        };
        let bias = self.bias(ctx, [&query, &key], mask, lengths, past)?;
        let present = [key.clone(), value.clone()];
        let Attended { output, scores } =
            attend(ctx, Heads { query, key, value, bias }, &self.scoring)?;
        let output = if packed { join_heads(ctx, output)? } else { output };
        let [key, value] = present;
        Ok([Some(output), Some(key), Some(value), scores].into_iter().flatten().collect())
    }

    /// What mask, order and padding add to the scores.
    fn bias<B: Kernels>(
        &self,
        ctx: &Context<B>,
        [query, key]: [&Value<B>; 2],
        mask: Option<Value<B>>,
        lengths: Option<Value<B>>,
        past: usize,
    ) -> Result<Option<Value<B>>, OpError> {
        let (dtype, dims, keys) = (query.dtype(), query.dims(), key.dims());
        let at = |dims: &[usize], axis: usize| dims.get(axis).copied().unwrap_or_default();
        let (batch, rows, columns) = (at(&dims, 0), at(&dims, 2), at(&keys, 2));
        let mask = match mask {
            Some(mask) => Some(widened(ctx, mask_bias(ctx, mask, dtype)?, columns)?),
            None => None,
        };
        let causal =
            if self.causal { causal_bias(ctx, [rows, columns], past, dtype)? } else { None };
        let padding = match lengths {
            Some(lengths) if lengths.dims() != [batch] => {
                return Err(OpError::Dims { what: "the lengths", dims: lengths.dims() });
            }
            Some(lengths) => {
                Some(length_bias(ctx, &lengths.ints(ctx, "the lengths")?, columns, dtype)?)
            }
            None => None,
        };
        sum_biases(ctx, [mask, causal, padding])
    }
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use crate::testing::{Case, bools, counting, f32s, i64s};

    /// Two heads of queries that share one head of keys.
    fn queries() -> Tensor {
        f32s(&[1, 2, 2, 2], &[1., 0., 0., 1., 1., 1., -1., 0.])
    }

    fn keys() -> Tensor {
        f32s(&[1, 1, 3, 2], &[1., 0., 0., 2., -1., 1.])
    }

    fn case(more: impl IntoIterator<Item = Tensor>) -> Case {
        let operands = [queries(), keys(), counting(&[1, 1, 3, 1])];
        Case::of("Attention", operands.into_iter().chain(more)).opset(24)
    }

    fn y(values: [f32; 4]) -> [Tensor; 1] {
        [f32s(&[1, 2, 2, 1], &values)]
    }

    #[test]
    fn heads_of_queries_share_keys() {
        case([]).gives(y([1.564_054, 2.143_966, 1.856_034, 2.435_946]));
        let packed = [
            f32s(&[1, 2, 4], &[1., 0., 1., 1., 0., 1., -1., 0.]),
            f32s(&[1, 3, 2], &[1., 0., 0., 2., -1., 1.]),
            counting(&[1, 3, 1]),
        ];
        let packed = Case::of("Attention", packed).opset(23);
        packed.fails("queries cannot be");
        packed
            .clone()
            .int("q_num_heads", 2)
            .int("kv_num_heads", 1)
            .gives([f32s(&[1, 2, 2], &[1.564_054, 1.856_034, 2.143_966, 2.435_946])]);
        packed.clone().int("q_num_heads", 3).int("kv_num_heads", 1).fails("the queries");
        packed.clone().int("q_num_heads", 0).int("kv_num_heads", 1).fails("not positive");
        packed.int("q_num_heads", 1).int("kv_num_heads", 1).fails("do not fit the queries");
    }

    #[test]
    fn masks_order_and_padding_hide_keys() {
        case([]).int("is_causal", 1).gives(y([1., 1.804_43, 1., 1.669_762]));
        case([bools(&[2, 3], &[1, 1, 0, 0, 1, 1])])
            .gives(y([1.330_238, 2.330_238, 1.669_762, 2.669_761]));
        case([f32s(&[1, 2], &[0.5, -1.])]).gives(y([1.099_114, 1.478_567, 1.311_548, 1.311_548]));
        case([i64s(&[1], &[2])])
            .without(3)
            .without(4)
            .without(5)
            .gives(y([1.330_238, 1.804_43, 1.669_762, 1.669_762]));
        case([f32s(&[2, 2, 3], &[0.; 12]), i64s(&[2], &[2, 2])])
            .without(4)
            .without(5)
            .fails("the lengths");
        case([f32s(&[3, 3], &[0.; 9])]).fails("broadcast");
        case([f32s(&[2, 4], &[0.; 8])]).fails("broadcast");
    }

    #[test]
    fn what_came_before_is_put_before_the_keys() {
        let (key, value) = (f32s(&[1, 1, 1, 2], &[-1., 1.]), f32s(&[1, 1, 1, 1], &[3.]));
        let past = [f32s(&[1, 1, 2, 2], &[1., 0., 0., 2.]), counting(&[1, 1, 2, 1])];
        let query = f32s(&[1, 2, 1, 2], &[1., 0., 1., 1.]);
        let operands = [query, key, value];
        Case::of("Attention", operands.iter().chain(&past).cloned())
            .opset(23)
            .without(3)
            .int("is_causal", 1)
            .gives([f32s(&[1, 2, 1, 1], &[1.564_054, 1.856_034]), keys(), counting(&[1, 1, 3, 1])]);
        Case::of("Attention", operands.iter().chain(&past[..1]).cloned())
            .opset(23)
            .without(3)
            .fails("input 5 is missing");
    }

    #[test]
    fn scores_are_shown_at_the_stage_asked_for() {
        let shown = |mode: i64, scores: [f32; 12]| {
            case([f32s(&[1, 3], &[1., 2., 3.])])
                .int("qk_matmul_output_mode", mode)
                .float("softcap", 0.5)
                .float("scale", 1.)
                .gives([
                    f32s(&[1, 2, 2, 1], &[2.330_729, 2.628_547, 2.427_749, 2.741_63]),
                    keys(),
                    counting(&[1, 1, 3, 1]),
                    f32s(&[1, 2, 2, 3], &scores),
                ]);
        };
        let (one, two) = (0.482_013_8, 0.499_664_7);
        shown(0, [1., 0., -1., 0., 2., 1., 1., 2., 0., -1., 0., 1.]);
        shown(1, [one, 0., -one, 0., two, one, one, two, 0., -one, 0., one]);
        let three = [1. + one, 2., 3. - one, 1., 2. + two, 3. + one];
        shown(
            2,
            [three, [1. + one, 2. + two, 3., 1. - one, 2., 3. + one]].concat().try_into().unwrap(),
        );
        shown(
            3,
            [
                0.181_934_3,
                0.305_402_9,
                0.512_662_8,
                0.057_321_3,
                0.256_810_1,
                0.685_868_6,
                0.120_052_1,
                0.332_146_8,
                0.547_801_1,
                0.040_358_95,
                0.177_652_1,
                0.781_989,
            ],
        );
        case([]).int("qk_matmul_output_mode", 4).fails("not a known mode");
        case([]).float("softcap", -1.).fails("negative");
        case([]).int("softmax_precision", 7).fails("softmax_precision");
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let refuse = |q: &[usize], k: &[usize], v: &[usize], why: &str| {
            Case::of("Attention", [counting(q), counting(k), counting(v)]).opset(24).fails(why);
        };
        refuse(&[1, 2, 2, 2], &[1, 1, 3, 3], &[1, 1, 3, 1], "do not fit the queries");
        refuse(&[1, 2, 2, 2], &[1, 1, 3, 2], &[1, 1, 2, 1], "do not fit the keys");
        refuse(&[1, 3, 2, 2], &[1, 2, 3, 2], &[1, 2, 3, 1], "no multiple");
        refuse(&[2, 2], &[1, 1, 3, 2], &[1, 1, 3, 1], "four axes");
        refuse(&[1, 1, 2, 2], &[1, 1, 0, 2], &[1, 1, 0, 1], "the keys and values");
        let ints = Case::of("Attention", [queries(), i64s(&[1, 1, 3, 2], &[1; 6]), keys()]);
        ints.opset(24).fails("float and int64");
    }
}
