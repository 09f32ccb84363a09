//! Recurrent layers.

use burn::tensor::ops::FloatTensor;
use ingle_types::DType;

use super::generate::full;
use super::matmul::matmul;
use super::tensor::{join, narrow, permute};
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("LSTM", 7.., 3..=8, |a| layer(a, Cell::Lstm));
    r.add("GRU", 7.., 3..=6, |a| {
        let late = a.flag("linear_before_reset", false)?;
        layer(a, Cell::Gru { late })
    });
    r.add("RNN", 7.., 3..=6, |a| layer(a, Cell::Plain));
}

#[derive(Clone, Copy, PartialEq)]
enum Cell {
    Plain,
    /// Whether the reset gate acts after the product with the hidden state.
    Gru {
        late: bool,
    },
    Lstm,
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Self::Plain => 1,
            Self::Gru { .. } => 3,
            Self::Lstm => 4,
        }
    }
}

struct Layer {
    cell: Cell,
    hidden: usize,
    backwards: Vec<bool>,
    batch_first: bool,
}

fn layer<B: Kernels>(args: &Args<'_, B>, cell: Cell) -> Built<B> {
    let backwards = match &*args.string("direction", "forward")? {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        _ => return Err(BuildError::Value { name: "direction", reason: "not a known direction" }),
    };
    check_activations(args, cell, backwards.len())?;
    let hidden = args.int_opt("hidden_size")?.ok_or(BuildError::Missing { name: "hidden_size" })?;
    let hidden = usize::try_from(hidden).ok().filter(|h| (1..1 << 24).contains(h));
    let layer = Layer {
        cell,
        hidden: hidden.ok_or(BuildError::Value { name: "hidden_size", reason: "not positive" })?,
        backwards,
        batch_first: args.flag("layout", false)?,
    };
    if args.has("clip") {
        return Err(BuildError::Unsupported { what: "the attribute clip" });
    }
    if args.flag("input_forget", false)? {
        return Err(BuildError::Unsupported { what: "the attribute input_forget" });
    }
    args.makes_outputs(if cell == Cell::Lstm { 3 } else { 2 });
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

fn check_activations<B: Kernels>(
    args: &Args<'_, B>,
    cell: Cell,
    directions: usize,
) -> Result<(), BuildError> {
    args.ignore("activation_alpha");
    args.ignore("activation_beta");
    let Some(given) = args.strings("activations")? else { return Ok(()) };
    let usual: &[&str] = match cell {
        Cell::Plain => &["tanh"],
        Cell::Gru { .. } => &["sigmoid", "tanh"],
        Cell::Lstm => &["sigmoid", "tanh", "tanh"],
    };
    let given: Vec<String> = given.iter().map(|name| name.to_ascii_lowercase()).collect();
    if given != usual.repeat(directions) {
        return Err(BuildError::Unsupported { what: "activations other than the usual ones" });
    }
    Ok(())
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

/// The weights of one direction, as 2-D matrices and 1-D biases.
struct Direction<B: Kernels> {
    weight: Value<B>,
    recurrence: FloatTensor<B>,
    input_bias: FloatTensor<B>,
    hidden_bias: FloatTensor<B>,
    /// For input, output and forget gate.
    peepholes: Option<[FloatTensor<B>; 3]>,
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
        if let Some(lengths) = &operands.lengths {
            let lengths = lengths.ints(ctx, "the lengths")?;
            if lengths.iter().any(|&l| usize::try_from(l) != Ok(steps)) {
                return Err(OpError::Unsupported { what: "sequences of different lengths" });
            }
        }
        if dims.contains(&0) {
            return Err(OpError::Dims { what: "the operand", dims });
        }
        let (mut sequences, mut hiddens, mut cells) = (Vec::new(), Vec::new(), Vec::new());
        for (index, &backwards) in self.backwards.iter().enumerate() {
            let direction = self.direction(ctx, index, width, &operands)?;
            let hidden = self.state(ctx, index, batch, operands.hidden.as_ref(), x.dtype())?;
            let cell = self.state(ctx, index, batch, operands.cell.as_ref(), x.dtype())?;
            let done = self.walk(ctx, &x, &direction, (hidden, cell), backwards)?;
            sequences.push(done.sequence);
            hiddens.push(done.hidden);
            cells.push(done.cell);
        }
        let sequence = join(ctx, sequences, 1)?;
        let (hidden, cell) = (join(ctx, hiddens, 0)?, join(ctx, cells, 0)?);
        let mut outputs = vec![sequence, hidden];
        if self.cell == Cell::Lstm {
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
            let wanted = [&[self.backwards.len()][..], dims].concat();
            if given != wanted {
                return Err(OpError::Dims { what, dims: given });
            }
            Ok(narrow(ctx, value, 0, index, index + 1)?.reshape(dims.to_vec()))
        };
        let weight = part(weight, &[rows, width], "the weights")?;
        let recurrence = part(recurrence, &[rows, self.hidden], "the recurrence weights")?;
        let dtype = weight.dtype();
        let bias = match bias {
            Some(bias) => part(bias, &[2 * rows], "the bias")?,
            None => {
                let zero = Host::ints(DType::I64, vec![], vec![0]).cast(dtype);
                full(ctx, &zero, vec![2 * rows])?
            }
        };
        let half = |from: usize| {
            let half = narrow(ctx, &bias, 0, from, from + rows)?;
            half.reshape(vec![1, rows]).into_float(ctx, "the bias")
        };
        let peepholes = match peepholes {
            Some(value) => {
                let value = part(value, &[3 * self.hidden], "the peepholes")?;
                let third = |i: usize| {
                    let third = narrow(ctx, &value, 0, i * self.hidden, (i + 1) * self.hidden)?;
                    third.reshape(vec![1, self.hidden]).into_float(ctx, "the peepholes")
                };
                Some([third(0)?, third(1)?, third(2)?])
            }
            None => None,
        };
        Ok(Direction {
            weight: permute(ctx, weight, &[1, 0])?,
            recurrence: permute(ctx, recurrence, &[1, 0])?.into_float(ctx, "the weights")?,
            input_bias: half(0)?,
            hidden_bias: half(rows)?,
            peepholes,
        })
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
        if value.dims() != [self.backwards.len(), batch, self.hidden] {
            return Err(OpError::Dims { what: "the initial state", dims: value.dims() });
        }
        let part = narrow(ctx, &value, 0, index, index + 1)?;
        part.reshape(dims).into_float(ctx, "the state")
    }

    fn walk<B: Kernels>(
        &self,
        ctx: &Context<B>,
        x: &Value<B>,
        direction: &Direction<B>,
        (mut hidden, mut cell): (FloatTensor<B>, FloatTensor<B>),
        backwards: bool,
    ) -> Result<Walked<B>, OpError> {
        let dims = x.dims();
        let steps = dims.first().copied().unwrap_or_default();
        let batch = dims.get(1).copied().unwrap_or_default();
        let rows = self.cell.gates() * self.hidden;
        // The products with the inputs need no state, so they are one product.
        let products = matmul(ctx, x.clone(), direction.weight.clone())?;
        let mut sequence: Vec<Value<B>> = Vec::with_capacity(steps);
        for i in 0..steps {
            ctx.step()?;
            let at = if backwards { steps - 1 - i } else { i };
            let product = narrow(ctx, &products, 0, at, at + 1)?.reshape(vec![batch, rows]);
            let product = product.into_float(ctx, "the operand")?;
            let product = B::float_add(product, direction.input_bias.clone());
            (hidden, cell) = self.step(direction, product, hidden, cell);
            let row: DeviceTensor<B> = DeviceTensor::Float(hidden.clone());
            sequence.push(row.reshape(&[1, 1, batch, self.hidden]).into());
        }
        if backwards {
            sequence.reverse();
        }
        let last = |t| DeviceTensor::<B>::Float(t).reshape(&[1, batch, self.hidden]).into();
        let sequence = join(ctx, sequence, 0)?;
        Ok(Walked { sequence, hidden: last(hidden), cell: last(cell) })
    }

    fn step<B: Kernels>(
        &self,
        direction: &Direction<B>,
        product: FloatTensor<B>,
        hidden: FloatTensor<B>,
        cell: FloatTensor<B>,
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        let size = self.hidden;
        let gate = |t: &FloatTensor<B>, i: usize| {
            let part = DeviceTensor::<B>::Float(t.clone()).narrow(1, i * size, (i + 1) * size);
            match part {
                DeviceTensor::Float(part) => part,
                _ => t.clone(),
            }
        };
        let recurrent = B::float_add(
            B::float_matmul(hidden.clone(), direction.recurrence.clone()),
            direction.hidden_bias.clone(),
        );
        match self.cell {
            Cell::Plain => (B::float_tanh(B::float_add(product, recurrent)), cell),
            Cell::Gru { late } => {
                let sum = |i| B::float_add(gate(&product, i), gate(&recurrent, i));
                let (update, reset) = (B::sigmoid(sum(0)), B::sigmoid(sum(1)));
                let inner = if late {
                    B::float_mul(reset, gate(&recurrent, 2))
                } else {
                    let weight = gate(&direction.recurrence, 2);
                    let bias = gate(&direction.hidden_bias, 2);
                    B::float_add(B::float_matmul(B::float_mul(reset, hidden.clone()), weight), bias)
                };
                let fresh = B::float_tanh(B::float_add(gate(&product, 2), inner));
                let kept = B::float_mul(update, B::float_sub(hidden, fresh.clone()));
                (B::float_add(fresh, kept), cell)
            }
            Cell::Lstm => {
                let sums = B::float_add(product, recurrent);
                let peep = |sum, cell: &FloatTensor<B>, i: usize| match direction
                    .peepholes
                    .as_ref()
                    .and_then(|p| p.get(i))
                {
                    Some(p) => B::float_add(sum, B::float_mul(cell.clone(), p.clone())),
                    None => sum,
                };
                let input = B::sigmoid(peep(gate(&sums, 0), &cell, 0));
                let forget = B::sigmoid(peep(gate(&sums, 2), &cell, 2));
                let fresh = B::float_tanh(gate(&sums, 3));
                let cell = B::float_add(B::float_mul(forget, cell), B::float_mul(input, fresh));
                let output = B::sigmoid(peep(gate(&sums, 1), &cell, 1));
                (B::float_mul(output, B::float_tanh(cell.clone())), cell)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, f32s};

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

    #[test]
    fn what_does_not_fit_is_refused() {
        case("LSTM", 3).fails("the weights");
        case("LSTM", 4).string("direction", "sideways").fails("not a known direction");
        case("LSTM", 4).float("clip", 1.).fails("clip");
        Case::of("RNN", vec![f32s(&[1], &[1.]); 3]).int("hidden_size", 1).fails("the operand");
    }
}
