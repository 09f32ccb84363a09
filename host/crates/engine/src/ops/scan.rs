//! Scan: a subgraph over each entry of a sequence, with a state carried along.

use super::control::{Layout, Stacks};
use super::generate::zeros;
use super::tensor::{join, narrow};
use super::{Args, Inputs, Op, Registry, Subgraph};
use crate::context::Context;
use crate::dims::axis_at;
use crate::kernels::Kernels;
use crate::value::Value;
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Scan", 8..=8, .., |args| {
        let directions = directions(args, "directions")?;
        let scan = Scan::of(args, 1, directions)?;
        Ok(Box::new(BatchScan(scan)))
    });
    r.add("Scan", 9.., 1.., |args| {
        let directions = directions(args, "scan_input_directions")?;
        Ok(Box::new(Scan::of(args, 0, directions)?))
    });
}

struct Scan<B: Kernels> {
    body: Subgraph<B>,
    /// The node's inputs before the states.
    leading: usize,
    states: usize,
    sequences: Vec<Sequence>,
    stacks: Vec<Sequence>,
}

/// How the body walks along an input, or an output grows.
#[derive(Clone, Copy)]
struct Sequence {
    axis: i64,
    backwards: bool,
}

/// The inputs that the body walks along.
type Sequences<B> = Vec<(Value<B>, Sequence)>;

impl<B: Kernels> Scan<B> {
    fn of(args: &Args<'_, B>, leading: usize, given: Vec<bool>) -> Result<Self, BuildError> {
        let body = args.graph("body")?;
        let name = "num_scan_inputs";
        let count = args.int_opt(name)?.ok_or(BuildError::Missing { name })?;
        let own = args.inputs().saturating_sub(leading);
        let sequences = usize::try_from(count).ok().filter(|count| (1..=own).contains(count));
        let reason = "not a number of its inputs";
        let sequences = sequences.ok_or(BuildError::Value { name, reason })?;
        let states = own - sequences;
        if body.inputs != own || body.outputs < states {
            let reason = "its inputs and outputs do not fit the node's";
            return Err(BuildError::Value { name: "body", reason });
        }
        args.makes_outputs(body.outputs);
        let stacks = body.outputs - states;
        let backwards = directions(args, "scan_output_directions")?;
        Ok(Self {
            leading,
            states,
            sequences: lay_out(args, "scan_input_axes", given, sequences)?,
            stacks: lay_out(args, "scan_output_axes", backwards, stacks)?,
            body,
        })
    }

    /// Runs over sequences of `length`; gives the last states and the stacks.
    fn walk(
        &self,
        ctx: &Context<B>,
        inputs: &Inputs<B>,
        mut states: Vec<Value<B>>,
        sequences: &[(Value<B>, Sequence)],
        length: usize,
    ) -> Result<Vec<Value<B>>, OpError> {
        let mut stacks = Stacks::of(self.body.declared.get(self.states..));
        for step in 0..length {
            ctx.step()?;
            let mut own = states;
            for (value, Sequence { axis, backwards }) in sequences {
                let step = if *backwards { length - 1 - step } else { step };
                own.push(entry(ctx, value, axis_at(*axis, value.rank())?, step)?);
            }
            let mut outputs = self.body.run(ctx, own, inputs)?.into_iter();
            states = outputs.by_ref().take(self.states).collect();
            stacks.push(ctx, outputs)?;
        }
        states.extend(stacks.join(ctx, |i| {
            let Sequence { axis, backwards } =
                self.stacks.get(i).copied().unwrap_or(Sequence { axis: 0, backwards: false });
            Layout { axis, backwards }
        })?);
        Ok(states)
    }

    fn take(&self, inputs: &mut Inputs<B>) -> Result<(Vec<Value<B>>, Sequences<B>), OpError> {
        let states = self.leading..self.leading + self.states;
        let first = states.end;
        let states = states.map(|i| inputs.take_any(i)).collect::<Result<_, _>>()?;
        let sequences = self.sequences.iter().enumerate();
        let sequences = sequences.map(|(i, &sequence)| Ok((inputs.take(first + i)?, sequence)));
        Ok((states, sequences.collect::<Result<_, OpError>>()?))
    }
}

/// 0 is forwards, 1 backwards.
fn directions<B: Kernels>(args: &Args<'_, B>, name: &'static str) -> Result<Vec<bool>, BuildError> {
    let direction = |&direction: &i64| match direction {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(BuildError::Value { name, reason: "a direction is neither 0 nor 1" }),
    };
    args.ints(name)?.unwrap_or_default().iter().map(direction).collect()
}

/// Axes and directions for `count` values; either list is complete or left out.
fn lay_out<B: Kernels>(
    args: &Args<'_, B>,
    name: &'static str,
    backwards: Vec<bool>,
    count: usize,
) -> Result<Vec<Sequence>, BuildError> {
    let axes = args.ints(name)?.unwrap_or_default();
    if [axes.len(), backwards.len()].iter().any(|&given| given != 0 && given != count) {
        let reason = "axes and directions must be given for all or for none";
        return Err(BuildError::Value { name, reason });
    }
    let at = |i| Sequence {
        axis: axes.get(i).copied().unwrap_or_default(),
        backwards: backwards.get(i).copied().unwrap_or_default(),
    };
    Ok((0..count).map(at).collect())
}

/// One entry of an axis, which is left out.
fn entry<B: Kernels>(
    ctx: &Context<B>,
    value: &Value<B>,
    axis: usize,
    index: usize,
) -> Result<Value<B>, OpError> {
    let mut dims = value.dims();
    dims.remove(axis);
    Ok(narrow(ctx, value, axis, index, index + 1)?.reshape(dims))
}

/// The one size that all sequences have along their axes.
fn length_of<B: Kernels>(sequences: &[(Value<B>, Sequence)]) -> Result<usize, OpError> {
    let mut known: Option<(usize, &Value<B>)> = None;
    for (value, sequence) in sequences {
        let dims = value.dims();
        let size = dims.get(axis_at(sequence.axis, dims.len())?).copied().unwrap_or_default();
        match known {
            Some((length, other)) if length != size => {
                let what = "the sequences differ in length";
                return Err(OpError::Mismatch { what, left: other.dims(), right: dims });
            }
            _ => known = Some((size, value)),
        }
    }
    Ok(known.map_or(0, |(length, _)| length))
}

impl<B: Kernels> Op<B> for Scan<B> {
    /// The body takes (states..., entries...) and gives (states..., stacked...).
    fn run(&self, ctx: &Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>, OpError> {
        let (states, sequences) = self.take(&mut inputs)?;
        let length = length_of(&sequences)?;
        self.walk(ctx, &inputs, states, &sequences, length)
    }
}

/// Opset 8: all values have a batch dimension in front, and each example may have
/// a length of its own.
struct BatchScan<B: Kernels>(Scan<B>);

impl<B: Kernels> Op<B> for BatchScan<B> {
    fn run(&self, ctx: &Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>, OpError> {
        let lengths = inputs.take_opt(0).map(|v| v.ints(ctx, "the lengths")).transpose()?;
        let (states, sequences) = self.0.take(&mut inputs)?;
        let (batch, longest) = batch_of(&states, &sequences)?;
        let lengths = match lengths {
            Some(lengths) => crate::dims::to_sizes(&lengths, "a length")?,
            None => vec![longest; batch],
        };
        if lengths.len() != batch || lengths.iter().any(|&length| length > longest) {
            return Err(OpError::Dims { what: "the lengths", dims: lengths });
        }
        let mut examples: Vec<Vec<Value<B>>> = Vec::with_capacity(batch);
        for (index, &length) in lengths.iter().enumerate() {
            let of = |value: &Value<B>| entry(ctx, value, 0, index);
            let states = states.iter().map(of).collect::<Result<Vec<_>, _>>()?;
            let cut = |(value, sequence): &(Value<B>, Sequence)| {
                Ok((narrow(ctx, &of(value)?, 0, 0, length)?, *sequence))
            };
            let cut = sequences.iter().map(cut).collect::<Result<Vec<_>, OpError>>()?;
            let outputs = self.0.walk(ctx, &inputs, states, &cut, length)?.into_iter();
            let filled = outputs.enumerate().map(|(i, value)| match i {
                i if i < self.0.states => Ok(value),
                _ => fill(ctx, value, longest),
            });
            examples.push(filled.collect::<Result<_, _>>()?);
        }
        (0..self.0.body.outputs).map(|i| batched(ctx, &examples, i)).collect()
    }
}

/// The batch size and the length that all values agree on.
fn batch_of<B: Kernels>(
    states: &[Value<B>],
    sequences: &[(Value<B>, Sequence)],
) -> Result<(usize, usize), OpError> {
    let first = sequences.first().map(|(value, _)| value.dims()).unwrap_or_default();
    let &[batch, length, ..] = first.as_slice() else {
        return Err(OpError::Dims { what: "a sequence", dims: first });
    };
    if batch == 0 {
        return Err(OpError::Unsupported { what: "a batch of nothing" });
    }
    for (value, _) in sequences {
        if value.dims().get(..2) != Some(&[batch, length]) {
            let what = "the sequences differ in length";
            return Err(OpError::Mismatch { what, left: first, right: value.dims() });
        }
    }
    match states.iter().find(|state| state.dims().first() != Some(&batch)) {
        Some(state) => Err(OpError::Dims { what: "a state", dims: state.dims() }),
        None => Ok((batch, length)),
    }
}

/// Zeros behind the entries of a stack, up to `length`.
fn fill<B: Kernels>(ctx: &Context<B>, value: Value<B>, length: usize) -> Result<Value<B>, OpError> {
    let mut dims = value.dims();
    let missing = dims.first().map_or(0, |&size| length.saturating_sub(size));
    if missing == 0 {
        return Ok(value);
    }
    if let Some(first) = dims.first_mut() {
        *first = missing;
    }
    let behind = zeros(ctx, value.dtype(), dims)?;
    join(ctx, vec![value, behind], 0)
}

fn batched<B: Kernels>(
    ctx: &Context<B>,
    examples: &[Vec<Value<B>>],
    output: usize,
) -> Result<Value<B>, OpError> {
    let rows = examples.iter().filter_map(|outputs| outputs.get(output)).map(|value| {
        let value = value.clone();
        let dims = [&[1], value.dims().as_slice()].concat();
        value.reshape(dims)
    });
    join(ctx, rows.collect(), 0)
}

#[cfg(test)]
mod tests {
    use ingle_types::DType;

    use crate::proto::GraphProto;
    use crate::testing::{Case, f32s, i64s, info, node};

    /// total += x - y; every total is kept, and every x doubled.
    fn body() -> GraphProto {
        let float = |name: &str| info(name, DType::F32, Some(&[2]));
        GraphProto {
            node: vec![
                node("Sub", &["x", "y"], &["difference"]),
                node("Add", &["total", "difference"], &["next"]),
                node("Identity", &["next"], &["kept"]),
                node("Add", &["x", "x"], &["double"]),
            ],
            input: ["total", "x", "y"].map(float).to_vec(),
            output: ["next", "kept", "double"].map(float).to_vec(),
            ..GraphProto::default()
        }
    }

    fn scan() -> Case {
        let x = f32s(&[3, 2], &[1., 2., 3., 4., 5., 6.]);
        let y = f32s(&[3, 2], &[0., 0., 1., 1., 2., 2.]);
        let case = Case::of("Scan", [f32s(&[2], &[0., 10.]), x, y]);
        case.graph("body", body()).int("num_scan_inputs", 2)
    }

    #[test]
    fn states_are_carried_and_outputs_stacked() {
        scan().gives([
            f32s(&[2], &[6., 19.]),
            f32s(&[3, 2], &[1., 12., 3., 15., 6., 19.]),
            f32s(&[3, 2], &[2., 4., 6., 8., 10., 12.]),
        ]);
    }

    #[test]
    fn axes_and_directions_are_each_values_own() {
        let x = f32s(&[2, 3], &[1., 3., 5., 2., 4., 6.]);
        let y = f32s(&[3, 2], &[2., 2., 1., 1., 0., 0.]);
        Case::of("Scan", [f32s(&[2], &[0., 10.]), x, y])
            .graph("body", body())
            .int("num_scan_inputs", 2)
            .ints("scan_input_axes", &[-1, 0])
            .ints("scan_input_directions", &[0, 1])
            .ints("scan_output_axes", &[1, 0])
            .ints("scan_output_directions", &[0, 1])
            .gives([
                f32s(&[2], &[6., 19.]),
                f32s(&[2, 3], &[1., 3., 6., 12., 15., 19.]),
                f32s(&[3, 2], &[10., 12., 6., 8., 2., 4.]),
            ]);
    }

    #[test]
    fn an_empty_sequence_leaves_the_state_and_stacks_nothing() {
        let (state, empty) = (f32s(&[2], &[1., 2.]), f32s(&[0, 2], &[]));
        Case::of("Scan", [state.clone(), empty.clone(), empty.clone()])
            .graph("body", body())
            .int("num_scan_inputs", 2)
            .gives([state, empty.clone(), empty]);
    }

    #[test]
    fn before_opset_9_examples_had_lengths() {
        let state = f32s(&[2, 2], &[0., 0., 1., 1.]);
        let x = f32s(&[2, 2, 2], &[1., 2., 3., 4., 5., 6., 7., 8.]);
        let y = f32s(&[2, 2, 2], &[0.; 8]);
        let case = |lengths: &[i64]| {
            let lengths = i64s(&[lengths.len()], lengths);
            Case::of("Scan", [lengths, state.clone(), x.clone(), y.clone()])
                .opset(8)
                .graph("body", body())
                .int("num_scan_inputs", 2)
        };
        case(&[2, 1]).gives([
            f32s(&[2, 2], &[4., 6., 6., 7.]),
            f32s(&[2, 2, 2], &[1., 2., 4., 6., 6., 7., 0., 0.]),
            f32s(&[2, 2, 2], &[2., 4., 6., 8., 10., 12., 0., 0.]),
        ]);
        case(&[2, 3]).fails("the lengths");
        case(&[2]).fails("the lengths");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let wrong = |attribute: &str, values: &[i64], text: &str| {
            scan().ints(attribute, values).fails(text);
        };
        wrong("scan_input_axes", &[0], "for all or for none");
        wrong("scan_output_directions", &[0, 2], "neither 0 nor 1");
        wrong("scan_input_axes", &[0, 2], "axis 2");
        let (x, y) = (f32s(&[3, 2], &[0.; 6]), f32s(&[2, 2], &[0.; 4]));
        let case = Case::of("Scan", [f32s(&[2], &[0.; 2]), x, y]).graph("body", body());
        case.clone().int("num_scan_inputs", 2).fails("differ in length");
        case.clone().int("num_scan_inputs", 4).fails("not a number of its inputs");
        case.clone().int("num_scan_inputs", -1).fails("not a number of its inputs");
        case.fails("\"num_scan_inputs\" is missing");
    }
}
