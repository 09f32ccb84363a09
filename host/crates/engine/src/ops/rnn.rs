//! Recurrent layers.

use burn::tensor::ops::{BoolTensor, FloatTensor};
use ingle_types::DType;

use super::elementwise::{add, apply};
use super::function::Function;
use super::generate::full;
use super::matmul::matmul;
use super::rnn_cell::{Call, Cell, Recurrence, State, Weights};
use super::tensor::{join, narrow, permute};
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("LSTM", 7.., 3..=8, |a| {
        let coupled = a.flag("input_forget", false)?;
        layer(a, Cell::Lstm { coupled })
    });
    r.add("GRU", 7.., 3..=6, |a| {
        let late = a.flag("linear_before_reset", false)?;
        layer(a, Cell::Gru { late })
    });
    r.add("RNN", 7.., 3..=6, |a| layer(a, Cell::Plain));
}

struct Layer {
    cell: Cell,
    hidden: usize,
    /// What the inputs of the functions are cut to, on both sides of zero.
    clip: Option<f64>,
    passes: Vec<Pass>,
    batch_first: bool,
}

/// One direction of a layer.
struct Pass {
    backwards: bool,
    functions: Vec<Function>,
}

fn layer<B: Kernels>(args: &Args<'_, B>, cell: Cell) -> Built<B> {
    let backwards = match &*args.string("direction", "forward")? {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        _ => return Err(BuildError::Value { name: "direction", reason: "not a known direction" }),
    };
    let functions = functions(args, cell, backwards.len())?;
    let passes = backwards.into_iter().zip(functions);
    let passes = passes.map(|(backwards, functions)| Pass { backwards, functions }).collect();
    let hidden = args.int_opt("hidden_size")?.ok_or(BuildError::Missing { name: "hidden_size" })?;
    let hidden = usize::try_from(hidden).ok().filter(|h| (1..1 << 24).contains(h));
    let hidden = hidden.ok_or(BuildError::Value { name: "hidden_size", reason: "not positive" })?;
    let clip = args.float_opt("clip")?;
    if clip.is_some_and(|clip| clip.is_nan() || clip < 0.0) {
        return Err(BuildError::Value { name: "clip", reason: "negative" });
    }
    // Some exporters write zero for no bound.
    let clip = clip.filter(|&clip| clip > 0.0);
    let batch_first = args.flag("layout", false)?;
    let layer = Layer { cell, hidden, clip, passes, batch_first };
    args.makes_outputs(if matches!(cell, Cell::Lstm { .. }) { 3 } else { 2 });
    op(move |ctx, mut inputs| {
        let operands = Operands {
            x: inputs.take(0)?,
            weight: inputs.take(1)?,
            recurrence: inputs.take(2)?,
            bias: inputs.take_opt(3),
            lengths: inputs.take_opt(4),
            hidden: inputs.take_opt(5),
            cell: inputs.take_opt(6),
            peepholes: inputs.take_opt(7),
        };
        layer.run(ctx, operands)
    })
}

/// The functions of each direction. Their parameters are taken from two lists, in
/// order, by those that have any.
fn functions<B: Kernels>(
    args: &Args<'_, B>,
    cell: Cell,
    directions: usize,
) -> Result<Vec<Vec<Function>>, BuildError> {
    let usual = cell.functions();
    let mut alphas = args.floats("activation_alpha")?.unwrap_or_default().iter().copied();
    let mut betas = args.floats("activation_beta")?.unwrap_or_default().iter().copied();
    let wanted = usual.len() * directions;
    let names = args.strings("activations")?;
    let names = match &names {
        Some(names) if names.len() < wanted => {
            let reason = "fewer than the layer has";
            return Err(BuildError::Value { name: "activations", reason });
        }
        Some(names) => names.iter().take(wanted).map(|name| &**name).collect(),
        None => usual.repeat(directions),
    };
    let function = |name: &str| {
        let reason = "not a known function";
        let unknown = || BuildError::Value { name: "activations", reason };
        let plain = Function::named(name, [None, None]).ok_or_else(unknown)?;
        let alpha = if plain.parameters() > 0 { alphas.next() } else { None };
        let beta = if plain.parameters() > 1 { betas.next() } else { None };
        Function::named(name, [alpha, beta]).ok_or_else(unknown)
    };
    let all = names.into_iter().map(function).collect::<Result<Vec<_>, _>>()?;
    Ok(all.chunks(usual.len()).map(<[Function]>::to_vec).collect())
}

/// A layer's inputs, in ONNX's order.
struct Operands<B: Kernels> {
    x: Value<B>,
    weight: Value<B>,
    recurrence: Value<B>,
    bias: Option<Value<B>>,
    lengths: Option<Value<B>>,
    hidden: Option<Value<B>>,
    cell: Option<Value<B>>,
    peepholes: Option<Value<B>>,
}

/// What one direction gives.
struct Walked<B: Kernels> {
    /// [steps, 1, batch, hidden].
    sequence: Value<B>,
    /// The last states, [1, batch, hidden].
    hidden: Value<B>,
    cell: Value<B>,
}

/// What one direction reads.
struct Direction<B: Kernels> {
    /// [width, gates * hidden].
    weight: Value<B>,
    input_bias: Option<FloatTensor<B>>,
    weights: Weights<B>,
}

impl Layer {
    fn run<B: Kernels>(
        &self,
        ctx: &Context<B>,
        operands: Operands<B>,
    ) -> Result<Vec<Value<B>>, OpError> {
        let x = operands.x.clone();
        let x = if self.batch_first { permute(ctx, x, &[1, 0, 2])? } else { x };
        let dims = x.dims();
        let &[steps, batch, width] = dims.as_slice() else {
            return Err(OpError::Dims { what: "the operand", dims });
        };
        if dims.contains(&0) {
            return Err(OpError::Dims { what: "the operand", dims });
        }
        let lengths = lengths(ctx, operands.lengths.as_ref(), batch, steps)?;
        let (mut sequences, mut hiddens, mut cells) = (Vec::new(), Vec::new(), Vec::new());
        for (index, pass) in self.passes.iter().enumerate() {
            let direction = self.direction(ctx, index, width, &operands)?;
            let hidden = self.state(ctx, index, batch, operands.hidden.as_ref(), x.dtype())?;
            let cell = self.state(ctx, index, batch, operands.cell.as_ref(), x.dtype())?;
            let state = State { hidden, cell };
            let done = self.walk(ctx, &x, (pass, &direction), state, lengths.as_deref())?;
            sequences.push(done.sequence);
            hiddens.push(done.hidden);
            cells.push(done.cell);
        }
        let sequence = join(ctx, sequences, 1)?;
        let (hidden, cell) = (join(ctx, hiddens, 0)?, join(ctx, cells, 0)?);
        let mut outputs = vec![sequence, hidden];
        if matches!(self.cell, Cell::Lstm { .. }) {
            outputs.push(cell);
        }
        if !self.batch_first {
            return Ok(outputs);
        }
        // [steps, directions, batch, hidden] and [directions, batch, hidden].
        let turn = |(i, v)| permute(ctx, v, if i == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] });
        outputs.into_iter().enumerate().map(turn).collect()
    }

    fn direction<B: Kernels>(
        &self,
        ctx: &Context<B>,
        index: usize,
        width: usize,
        operands: &Operands<B>,
    ) -> Result<Direction<B>, OpError> {
        let Operands { weight, recurrence, bias, peepholes, .. } = operands;
        let rows = self.cell.gates() * self.hidden;
        let part = |value: &Value<B>, dims: &[usize], what| {
            let given = value.dims();
            let wanted = [&[self.passes.len()][..], dims].concat();
            if given != wanted {
                return Err(OpError::Dims { what, dims: given });
            }
            Ok(narrow(ctx, value, 0, index, index + 1)?.reshape(dims.to_vec()))
        };
        let weight = part(weight, &[rows, width], "the weights")?;
        let recurrence = part(recurrence, &[rows, self.hidden], "the recurrence weights")?;
        let bias = bias.as_ref().map(|b| part(b, &[2 * rows], "the bias")).transpose()?;
        let half = |bias: &Value<B>, from: usize| {
            let half = narrow(ctx, bias, 0, from, from + rows)?;
            half.reshape(vec![1, rows]).into_float(ctx, "the bias")
        };
        let (input_bias, hidden_bias) = match &bias {
            Some(bias) => (Some(half(bias, 0)?), Some(half(bias, rows)?)),
            None => (None, None),
        };
        let third = |value: &Value<B>, i: usize| {
            let third = narrow(ctx, value, 0, i * self.hidden, (i + 1) * self.hidden)?;
            third.reshape(vec![1, self.hidden]).into_float(ctx, "the peepholes")
        };
        let peepholes = match peepholes {
            Some(value) => {
                let value = part(value, &[3 * self.hidden], "the peepholes")?;
                Some([third(&value, 0)?, third(&value, 1)?, third(&value, 2)?])
            }
            None => None,
        };
        let recurrence = permute(ctx, recurrence, &[1, 0])?.into_float(ctx, "the weights")?;
        let weights = Weights { recurrence, hidden_bias, peepholes };
        Ok(Direction { weight: permute(ctx, weight, &[1, 0])?, input_bias, weights })
    }

    fn state<B: Kernels>(
        &self,
        ctx: &Context<B>,
        index: usize,
        batch: usize,
        given: Option<&Value<B>>,
        dtype: DType,
    ) -> Result<FloatTensor<B>, OpError> {
        let dims = vec![batch, self.hidden];
        let Some(value) = given else {
            let zero = Host::ints(DType::I64, vec![], vec![0]).cast(dtype);
            return full(ctx, &zero, dims)?.into_float(ctx, "the state");
        };
        let value =
            if self.batch_first { permute(ctx, value.clone(), &[1, 0, 2])? } else { value.clone() };
        if value.dims() != [self.passes.len(), batch, self.hidden] {
            return Err(OpError::Dims { what: "the initial state", dims: value.dims() });
        }
        let part = narrow(ctx, &value, 0, index, index + 1)?;
        part.reshape(dims).into_float(ctx, "the state")
    }

    /// `lengths` are those of the sequences, where any is shorter than `x`. Behind
    /// its end a sequence keeps its state and gives zeros.
    fn walk<B: Kernels>(
        &self,
        ctx: &Context<B>,
        x: &Value<B>,
        (pass, direction): (&Pass, &Direction<B>),
        mut state: State<B>,
        lengths: Option<&[usize]>,
    ) -> Result<Walked<B>, OpError> {
        let dims = x.dims();
        let steps = dims.first().copied().unwrap_or_default();
        let batch = dims.get(1).copied().unwrap_or_default();
        let rows = self.cell.gates() * self.hidden;
        // The products with the inputs need no state, so they are one product.
        let products = matmul(ctx, x.clone(), direction.weight.clone())?;
        let products = match &direction.input_bias {
            Some(bias) => {
                let bias = DeviceTensor::<B>::Float(bias.clone()).reshape(&[1, 1, rows]);
                apply(ctx, &add(), products, bias.into())?
            }
            None => products,
        };
        let recurrence = Recurrence::of(&direction.weights, steps);
        let mut sequence: Vec<Value<B>> = Vec::with_capacity(steps);
        for i in 0..steps {
            ctx.step()?;
            let at = if pass.backwards { steps - 1 - i } else { i };
            let product = narrow(ctx, &products, 0, at, at + 1)?.reshape(vec![batch, rows]);
            let product = product.into_float(ctx, "the operand")?;
            let ended = match lengths {
                Some(lengths) => ended(ctx, lengths, at, self.hidden)?,
                None => None,
            };
            let before = ended.is_some().then(|| state.clone());
            let weights = &direction.weights;
            let recurrent = recurrence.product(&state);
            let call = Call { weights, functions: &pass.functions, clip: self.clip };
            state = self.cell.step(&call, product, recurrent, state);
            let mut row = state.hidden.clone();
            if let (Some(ended), Some(before)) = (ended, before) {
                row = B::float_mask_fill(row, ended.clone(), 0f64.into());
                state = state.unless(ended, before);
            }
            let row: DeviceTensor<B> = DeviceTensor::Float(row);
            sequence.push(row.reshape(&[1, 1, batch, self.hidden]).into());
        }
        if pass.backwards {
            sequence.reverse();
        }
        let last = |t| DeviceTensor::<B>::Float(t).reshape(&[1, batch, self.hidden]).into();
        let sequence = join(ctx, sequence, 0)?;
        Ok(Walked { sequence, hidden: last(state.hidden), cell: last(state.cell) })
    }
}

/// The sequences' lengths, where any is shorter than `steps`.
fn lengths<B: Kernels>(
    ctx: &Context<B>,
    given: Option<&Value<B>>,
    batch: usize,
    steps: usize,
) -> Result<Option<Vec<usize>>, OpError> {
    let Some(given) = given else { return Ok(None) };
    if given.dims() != [batch] {
        return Err(OpError::Dims { what: "the lengths", dims: given.dims() });
    }
    let length = |value: i64| {
        let length = usize::try_from(value).ok().filter(|&length| length <= steps);
        length.ok_or(OpError::Value { what: "the length of a sequence", value })
    };
    let lengths = given.ints(ctx, "the lengths")?;
    let lengths = lengths.into_iter().map(length).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(lengths).filter(|lengths| lengths.iter().any(|&length| length < steps)))
}

/// Which sequences have ended before step `at`, as `[batch, hidden]`; `None` = none.
fn ended<B: Kernels>(
    ctx: &Context<B>,
    lengths: &[usize],
    at: usize,
    hidden: usize,
) -> Result<Option<BoolTensor<B>>, OpError> {
    let ended: Vec<i64> = lengths.iter().map(|&length| i64::from(length <= at)).collect();
    if !ended.contains(&1) {
        return Ok(None);
    }
    let batch = lengths.len();
    let mask: Value<B> = Host::ints(DType::Bool, vec![batch, 1], ended).into();
    mask.expand(ctx, &[batch, hidden])?.into_bool(ctx, "the mask").map(Some)
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use crate::testing::{Case, f32s, tensor};

    /// One unit, one input, two steps.
    fn case(operator: &str, gates: usize) -> Case {
        let x = f32s(&[2, 1, 1], &[1., 2.]);
        let weight = f32s(&[1, gates, 1], &vec![0.5; gates]);
        let recurrence = f32s(&[1, gates, 1], &vec![0.25; gates]);
        Case::of(operator, [x, weight, recurrence]).int("hidden_size", 1)
    }

    #[test]
    fn a_plain_layer_feeds_its_state_back() {
        let h1 = 0.5f32.tanh();
        let h2 = (1. + 0.25 * h1).tanh();
        let last = f32s(&[1, 1, 1], &[h2]);
        case("RNN", 1).gives([f32s(&[2, 1, 1, 1], &[h1, h2]), last]);
        let (b1, b2) = (1f32.tanh(), (0.5 + 0.25 * 1f32.tanh()).tanh());
        case("RNN", 1)
            .string("direction", "reverse")
            .gives([f32s(&[2, 1, 1, 1], &[b2, b1]), f32s(&[1, 1, 1], &[b2])]);
    }

    #[test]
    fn an_lstm_keeps_a_cell() {
        let sigmoid = |x: f32| 1. / (1. + (-x).exp());
        let step = |x: f32, h: f32, c: f32| {
            let sum = 0.5 * x + 0.25 * h;
            let c = sigmoid(sum) * c + sigmoid(sum) * sum.tanh();
            (sigmoid(sum) * c.tanh(), c)
        };
        let (h1, c1) = step(1., 0., 0.);
        let (h2, c2) = step(2., h1, c1);
        case("LSTM", 4).gives([
            f32s(&[2, 1, 1, 1], &[h1, h2]),
            f32s(&[1, 1, 1], &[h2]),
            f32s(&[1, 1, 1], &[c2]),
        ]);
    }

    #[test]
    fn a_gru_mixes_old_and_new() {
        let sigmoid = |x: f32| 1. / (1. + (-x).exp());
        let step = |x: f32, h: f32| {
            let gate = sigmoid(0.5 * x + 0.25 * h);
            let fresh = (0.5 * x + 0.25 * gate * h).tanh();
            (1. - gate) * fresh + gate * h
        };
        let h1 = step(1., 0.);
        let h2 = step(2., h1);
        let wanted = [f32s(&[2, 1, 1, 1], &[h1, h2]), f32s(&[1, 1, 1], &[h2])];
        case("GRU", 3).gives(wanted.clone());
        case("GRU", 3).int("linear_before_reset", 1).gives(wanted);
    }

    fn one(values: &[f32]) -> Tensor {
        f32s(&[1, 1, 1], values)
    }

    #[test]
    fn sums_are_cut_before_their_functions() {
        case("RNN", 1)
            .float("clip", 0.25)
            .gives([f32s(&[2, 1, 1, 1], &[0.244_918_66; 2]), one(&[0.244_918_66])]);
        let wide = |operator: &str, gates: usize| {
            let weight = f32s(&[1, gates, 1], &vec![2.; gates]);
            let recurrence = f32s(&[1, gates, 1], &vec![0.25; gates]);
            Case::of(operator, [f32s(&[2, 1, 1], &[1., 2.]), weight, recurrence])
                .int("hidden_size", 1)
                .float("clip", 0.5)
        };
        wide("LSTM", 4).gives([
            f32s(&[2, 1, 1, 1], &[0.174_269_7, 0.271_098_6]),
            one(&[0.271_098_6]),
            one(&[0.466_699]),
        ]);
        let gru = [f32s(&[2, 1, 1, 1], &[0.174_468, 0.283_067_3]), one(&[0.283_067_3])];
        wide("GRU", 3).gives(gru.clone());
        wide("GRU", 3).int("linear_before_reset", 1).gives(gru);
    }

    #[test]
    fn gates_may_be_coupled_and_look_at_the_cell() {
        case("LSTM", 4).int("input_forget", 1).gives([
            f32s(&[2, 1, 1, 1], &[0.174_269_7, 0.423_387_6]),
            one(&[0.423_387_6]),
            one(&[0.651_238_3]),
        ]);
        let [x, weight, recurrence] = [
            f32s(&[2, 1, 1], &[1., 2.]),
            f32s(&[1, 4, 1], &[0.5; 4]),
            f32s(&[1, 4, 1], &[0.25; 4]),
        ];
        let peepholes = f32s(&[1, 3], &[0.1, 0.2, 0.3]);
        Case::of("LSTM", [x, weight, recurrence, peepholes])
            .without(3)
            .without(4)
            .without(5)
            .without(6)
            .int("hidden_size", 1)
            .gives([
                f32s(&[2, 1, 1, 1], &[0.178_027_3, 0.510_169]),
                one(&[0.510_169]),
                one(&[0.798_477_2]),
            ]);
    }

    #[test]
    fn each_function_has_its_own_parameters() {
        let check = |name: &str, alpha: &[f32], beta: &[f32], wanted: [f32; 2]| {
            let operands = [f32s(&[2, 1, 1], &[-1., 2.]), one(&[0.5]), one(&[0.25])];
            Case::of("RNN", operands)
                .int("hidden_size", 1)
                .strings("activations", &[name])
                .floats("activation_alpha", alpha)
                .floats("activation_beta", beta)
                .gives([f32s(&[2, 1, 1, 1], &wanted), one(&wanted[1..])]);
        };
        check("Relu", &[], &[], [0., 1.]);
        check("Affine", &[2.], &[0.5], [-0.5, 2.25]);
        check("LeakyRelu", &[0.1], &[], [-0.05, 0.9875]);
        check("ThresholdedRelu", &[0.6], &[], [0., 1.]);
        check("ScaledTanh", &[2.], &[0.5], [-0.489_837_3, 0.825_249_2]);
        check("HardSigmoid", &[0.3], &[0.4], [0.25, 0.718_75]);
        check("HardSigmoid", &[], &[], [0.4, 0.72]);
        check("Elu", &[0.5], &[], [-0.196_734_7, 0.950_816_3]);
        check("Softsign", &[], &[], [-1. / 3., 0.478_260_9]);
        check("Softplus", &[], &[], [0.474_077, 1.401_262]);
        case("LSTM", 4)
            .strings("activations", &["HardSigmoid", "Softsign", "LeakyRelu"])
            .floats("activation_alpha", &[0.3, 0.1])
            .floats("activation_beta", &[0.4])
            .gives([
                f32s(&[2, 1, 1, 1], &[0.100_833_3, 0.345_223_1]),
                one(&[0.345_223_1]),
                one(&[0.487_904_7]),
            ]);
    }

    /// 0.1, 0.2 and 0.3 beside 1, 2 and 3, with weights of a half and a quarter.
    fn ragged(
        operator: &str,
        gates: usize,
        dims: &[usize],
        directions: usize,
        lengths: &[i32],
    ) -> Case {
        let count = dims.iter().product();
        let x: Vec<f32> = [0.1, 1., 0.2, 2., 0.3, 3.].into_iter().take(count).collect();
        let matrix = |value: f32| f32s(&[directions, gates, 1], &vec![value; directions * gates]);
        let lengths = tensor(&[lengths.len()], lengths);
        Case::of(operator, [f32s(dims, &x), matrix(0.5), matrix(0.25), lengths])
            .without(3)
            .int("hidden_size", 1)
    }

    #[test]
    fn sequences_end_by_themselves() {
        let case = |operator: &str, gates: usize, directions: usize| {
            ragged(operator, gates, &[3, 2, 1], directions, &[3, 1])
        };
        case("RNN", 1, 1).gives([
            f32s(&[3, 1, 2, 1], &[0.049_958_35, 0.462_117_2, 0.112_017_5, 0., 0.176_147_9, 0.]),
            f32s(&[1, 2, 1], &[0.176_147_9, 0.462_117_2]),
        ]);
        case("RNN", 1, 1).string("direction", "reverse").gives([
            f32s(&[3, 1, 2, 1], &[0.083_893_9, 0.462_117_2, 0.136_366_4, 0., 0.148_885, 0.]),
            f32s(&[1, 2, 1], &[0.083_893_9, 0.462_117_2]),
        ]);
        let both = [
            [0.013_118_87, 0.174_269_7, 0.043_402_18, 0.174_269_7],
            [0.035_476_31, 0., 0.052_803_65, 0.],
            [0.065_235_41, 0., 0.042_911_05, 0.],
        ];
        case("LSTM", 4, 2).string("direction", "bidirectional").gives([
            f32s(&[3, 2, 2, 1], &both.concat()),
            f32s(&[2, 2, 1], &[0.065_235_41, 0.174_269_7, 0.043_402_18, 0.174_269_7]),
            f32s(&[2, 2, 1], &[0.121_482_4, 0.287_649_1, 0.084_345_65, 0.287_649_1]),
        ]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        case("LSTM", 3).fails("the weights");
        case("LSTM", 4).string("direction", "sideways").fails("not a known direction");
        case("LSTM", 4).float("clip", -1.).fails("clip");
        case("LSTM", 4).strings("activations", &["Tanh"]).fails("fewer than the layer has");
        case("RNN", 1).strings("activations", &["Tan"]).fails("not a known function");
        for (lengths, why) in
            [(vec![3], "cannot be 3"), (vec![-1], "cannot be -1"), (vec![1; 2], "the lengths")]
        {
            ragged("RNN", 1, &[2, 1, 1], 1, &lengths).fails(why);
        }
        Case::of("RNN", vec![f32s(&[1], &[1.]); 3]).int("hidden_size", 1).fails("the operand");
    }
}
