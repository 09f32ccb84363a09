//! Sequences of tensors, and values that may be absent.

use std::sync::Arc;

use ingle_types::DType;

use super::tensor::{join, narrow};
use super::{Args, Built, Inputs, Op, Registry, Subgraph, op};
use crate::context::Context;
use crate::dims::{axis_at, to_sizes};
use crate::kernels::Kernels;
use crate::literal::dtype_of;
use crate::value::{Host, Sequence, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("SequenceEmpty", 11.., 0..=0, empty);
    r.add("SequenceConstruct", 11.., 1.., |_| {
        op(|_, mut inputs| Ok(vec![sequence_of(inputs.take_all()?)?]))
    });
    r.add("SequenceAt", 11.., 2..=2, at);
    r.add("SequenceInsert", 11.., 2..=3, insert);
    r.add("SequenceErase", 11.., 1..=2, erase);
    r.add("SequenceLength", 11.., 1..=1, |_| {
        op(|_, mut inputs| {
            let count = take(&mut inputs, 0)?.items.len() as i64;
            Ok(vec![Host::ints(DType::I64, vec![], vec![count]).into()])
        })
    });
    r.add("SplitToSequence", 11.., 1..=2, split);
    r.add("ConcatFromSequence", 11.., 1..=1, concat);
    r.add("SequenceMap", 17.., 1.., map);
    r.add("Optional", 15.., 0..=1, optional);
    r.add("OptionalHasElement", 15.., 0..=1, |_| {
        op(|_, mut inputs| {
            let there = !matches!(inputs.take_opt(0), None | Some(Value::Absent));
            Ok(vec![Host::ints(DType::Bool, vec![], vec![there.into()]).into()])
        })
    });
    r.add("OptionalGetElement", 15.., 1..=1, |_| {
        op(|_, mut inputs| match inputs.take_any(0)? {
            Value::Absent => Err(OpError::Kind { what: "the input", given: ABSENT }),
            value => Ok(vec![value]),
        })
    });
}

const ABSENT: &str = "an empty optional value";

/// An input that must be a sequence.
fn take<B: Kernels>(inputs: &mut Inputs<B>, index: usize) -> Result<Sequence<B>, OpError> {
    match inputs.take_any(index)? {
        // Nothing else reads it, mostly; then its items are not cloned.
        Value::Sequence(sequence) => Ok(Arc::try_unwrap(sequence).unwrap_or_else(|shared| {
            Sequence { dtype: shared.dtype, items: shared.items.clone() }
        })),
        Value::Absent => Err(OpError::Kind { what: "an input", given: ABSENT }),
        Value::Host(_) | Value::Device(_) => {
            Err(OpError::Kind { what: "an input", given: "a tensor instead of a sequence" })
        }
    }
}

/// A sequence of tensors of one dtype.
fn sequence_of<B: Kernels>(items: Vec<Value<B>>) -> Result<Value<B>, OpError> {
    let dtype = items.first().map(Value::dtype);
    if let (Some(left), Some(other)) = (dtype, items.iter().find(|v| Some(v.dtype()) != dtype)) {
        return Err(OpError::DTypes { left, right: other.dtype() });
    }
    Ok(Sequence { dtype, items }.into())
}

fn empty<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let dtype = match args.int_opt("dtype")? {
        None => DType::F32,
        Some(element) => i32::try_from(element)
            .ok()
            .and_then(dtype_of)
            .ok_or(BuildError::Unsupported { what: "this element type" })?,
    };
    op(move |_, _| Ok(vec![Sequence { dtype: Some(dtype), items: Vec::new() }.into()]))
}

/// The place that an input names, among `places` of them; from the end where it
/// is negative, and `None` where it is not given.
fn place<B: Kernels>(
    ctx: &Context<B>,
    inputs: &mut Inputs<B>,
    index: usize,
    places: usize,
    length: usize,
) -> Result<Option<usize>, OpError> {
    let Some(given) = inputs.take_opt(index) else { return Ok(None) };
    let what = "the position";
    let &[position] = given.ints(ctx, what)?.as_slice() else {
        return Err(OpError::Dims { what, dims: given.dims() });
    };
    let from_start = i64::try_from(length).ok().and_then(|length| {
        if position < 0 { position.checked_add(length) } else { Some(position) }
    });
    let found = from_start.and_then(|place| usize::try_from(place).ok());
    found
        .filter(|&place| place < places)
        .map(Some)
        .ok_or(OpError::Index { index: position, size: length })
}

fn at<B: Kernels>(_: &Args<'_, B>) -> Built<B> {
    op(|ctx, mut inputs| {
        let mut sequence = take(&mut inputs, 0)?;
        let length = sequence.items.len();
        let place =
            place(ctx, &mut inputs, 1, length, length)?.ok_or(OpError::Missing { index: 1 })?;
        Ok(vec![sequence.items.swap_remove(place)])
    })
}

fn insert<B: Kernels>(_: &Args<'_, B>) -> Built<B> {
    op(|ctx, mut inputs| {
        let Sequence { dtype, mut items } = take(&mut inputs, 0)?;
        let tensor = inputs.take(1)?;
        let right = tensor.dtype();
        if let Some(left) = dtype.filter(|&dtype| dtype != right) {
            return Err(OpError::DTypes { left, right });
        }
        let length = items.len();
        let place = place(ctx, &mut inputs, 2, length + 1, length)?.unwrap_or(length);
        items.insert(place, tensor);
        Ok(vec![Sequence { dtype: Some(right), items }.into()])
    })
}

fn erase<B: Kernels>(_: &Args<'_, B>) -> Built<B> {
    op(|ctx, mut inputs| {
        let mut sequence = take(&mut inputs, 0)?;
        let length = sequence.items.len();
        let place = place(ctx, &mut inputs, 1, length, length)?;
        let place = place.or(length.checked_sub(1));
        let place = place.ok_or(OpError::Index { index: -1, size: 0 })?;
        sequence.items.remove(place);
        Ok(vec![sequence.into()])
    })
}

/// Bytes that an item takes beside its elements, roughly.
const ITEM_BYTES: usize = 256;

/// By a size for all parts, by a list of sizes, or into single entries.
fn split<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int("axis", 0)?;
    let keep = args.flag("keepdims", true)?;
    op(move |ctx, mut inputs| {
        let (x, sizes) = (inputs.take(0)?, inputs.take_opt(1));
        let dims = x.dims();
        let axis = axis_at(axis, dims.len())?;
        let size = dims.get(axis).copied().unwrap_or_default();
        let keep = keep || sizes.is_some();
        ctx.admit(DType::U8, &[size, ITEM_BYTES])?;
        let sizes = match sizes {
            None => vec![1; size],
            Some(sizes) if sizes.rank() == 0 => even(&sizes.ints(ctx, "the size")?, size)?,
            Some(sizes) => to_sizes(&sizes.ints(ctx, "the sizes")?, "a size")?,
        };
        if sizes.iter().try_fold(0usize, |n, &s| n.checked_add(s)) != Some(size) {
            let what = "sizes to split into";
            return Err(OpError::Mismatch { what, left: dims, right: sizes });
        }
        let mut start = 0;
        let mut items = Vec::with_capacity(sizes.len());
        for size in sizes {
            let part = narrow(ctx, &x, axis, start, start + size)?;
            let mut dims = part.dims();
            if !keep {
                dims.remove(axis);
            }
            items.push(part.reshape(dims));
            start += size;
        }
        Ok(vec![Sequence { dtype: Some(x.dtype()), items }.into()])
    })
}

/// Parts of one size, of which the last may be smaller.
fn even(each: &[i64], size: usize) -> Result<Vec<usize>, OpError> {
    let value = each.first().copied().unwrap_or_default();
    let each = usize::try_from(value).ok().filter(|&each| each > 0);
    let each = each.ok_or(OpError::Value { what: "the size", value })?;
    Ok((0..size).step_by(each).map(|start| each.min(size - start)).collect())
}

fn concat<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int_opt("axis")?.ok_or(BuildError::Missing { name: "axis" })?;
    let new = args.flag("new_axis", false)?;
    op(move |ctx, mut inputs| {
        let mut items = take(&mut inputs, 0)?.items;
        if new {
            let rank = items.first().map_or(0, Value::rank);
            let place = axis_at(axis, rank + 1)?;
            items = items
                .into_iter()
                .map(|item| {
                    let mut dims = item.dims();
                    dims.insert(place.min(dims.len()), 1);
                    item.reshape(dims)
                })
                .collect();
        }
        if items.is_empty() {
            return Err(OpError::Unsupported { what: "joining a sequence of nothing" });
        }
        Ok(vec![join(ctx, items, axis)?])
    })
}

/// A subgraph, run for the items at each place of the sequences; a tensor is the
/// same for all.
struct Map<B: Kernels> {
    body: Subgraph<B>,
    inputs: usize,
}

fn map<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let body = args.graph("body")?;
    let inputs = args.inputs();
    if body.inputs != inputs {
        let reason = "it does not take as many inputs as the node";
        return Err(BuildError::Value { name: "body", reason });
    }
    args.makes_outputs(body.outputs);
    Ok(Box::new(Map { body, inputs }))
}

impl<B: Kernels> Op<B> for Map<B> {
    fn run(&self, ctx: &Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>, OpError> {
        let values = (0..self.inputs).map(|i| inputs.take_any(i)).collect::<Result<Vec<_>, _>>()?;
        let Some(Value::Sequence(first)) = values.first() else {
            return Err(OpError::Kind { what: "the first input", given: "no sequence" });
        };
        let length = first.items.len();
        let mut bytes = 0usize;
        let mut outputs: Vec<Vec<Value<B>>> = Vec::new();
        outputs.resize_with(self.body.outputs, Vec::new);
        for place in 0..length {
            ctx.step()?;
            let item = |value: &Value<B>| match value {
                Value::Sequence(sequence) => {
                    let size = sequence.items.len();
                    let missing = OpError::Index { index: place as i64, size };
                    sequence.items.get(place).cloned().ok_or(missing)
                }
                value => Ok(value.clone()),
            };
            let own = values.iter().map(item).collect::<Result<_, _>>()?;
            for (list, value) in outputs.iter_mut().zip(self.body.run(ctx, own, &inputs)?) {
                bytes = bytes.saturating_add(value.size_bytes());
                list.push(value.tensor("an item")?);
            }
            if bytes > ctx.run_bytes() {
                return Err(OpError::Memory { limit: ctx.run_bytes() });
            }
        }
        outputs.into_iter().map(sequence_of).collect()
    }
}

fn optional<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    args.ignore("type");
    op(|_, mut inputs| Ok(vec![inputs.take_opt(0).unwrap_or(Value::Absent)]))
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use ingle_types::{DType, Tensor, TensorMap};

    use crate::proto::attribute_proto::AttributeType;
    use crate::proto::{AttributeProto, GraphProto, NodeProto};
    use crate::testing::{bools, counting, f32s, full_text, i64s, info, load, model, node};

    fn with(mut node: NodeProto, name: &str, i: i64) -> NodeProto {
        node.attribute.push(AttributeProto {
            name: name.into(),
            i,
            r#type: AttributeType::Int.into(),
            ..AttributeProto::default()
        });
        node
    }

    fn with_body(mut node: NodeProto, body: GraphProto) -> NodeProto {
        node.attribute.push(AttributeProto {
            name: "body".into(),
            g: Some(body),
            r#type: AttributeType::Graph.into(),
            ..AttributeProto::default()
        });
        node
    }

    /// What `y` is where the inputs are a, b and c.
    fn run(nodes: Vec<NodeProto>, inputs: &[Tensor], dtype: DType) -> Result<Tensor, String> {
        let names = ["a", "b", "c"].iter().zip(inputs);
        let graph = GraphProto {
            node: nodes,
            input: names.clone().map(|(name, t)| info(name, t.dtype(), None)).collect(),
            output: vec![info("y", dtype, None)],
            ..GraphProto::default()
        };
        let request: TensorMap = names.map(|(name, t)| ((*name).to_owned(), t.clone())).collect();
        let program = load(&model(graph, 18)).map_err(|e| full_text(&e))?;
        let mut answer = program.run(&request, &[]).map_err(|e| full_text(&e))?;
        Ok(answer.remove("y").unwrap())
    }

    #[track_caller]
    fn gives(nodes: Vec<NodeProto>, inputs: &[Tensor], wanted: &Tensor) {
        assert_eq!(run(nodes, inputs, wanted.dtype()).as_ref(), Ok(wanted));
    }

    #[track_caller]
    fn fails(nodes: Vec<NodeProto>, inputs: &[Tensor], text: &str) {
        let error = run(nodes, inputs, DType::F32).unwrap_err();
        assert!(error.contains(text), "{error}");
        assert!(!error.contains("made the engine fail"), "{error}");
    }

    #[test]
    fn items_are_put_in_looked_up_and_taken_out() {
        let (a, b, c) = (counting(&[2]), f32s(&[1], &[9.]), i64s(&[], &[-1]));
        let pair = node("SequenceConstruct", &["a", "b"], &["s"]);
        let inputs = [a.clone(), b.clone(), c];
        gives(vec![pair.clone(), node("SequenceAt", &["s", "c"], &["y"])], &inputs, &b);
        let insert = node("SequenceInsert", &["s", "a", "c"], &["t"]);
        let erase = node("SequenceErase", &["t"], &["u"]);
        let look = node("SequenceAt", &["u", "c"], &["y"]);
        gives(vec![pair, insert, erase, look], &inputs, &a);
        let none = node("SequenceEmpty", &[], &["e"]);
        let length = node("SequenceLength", &["e"], &["y"]);
        gives(vec![none.clone(), length], &[], &i64s(&[], &[0]));
        let longer = node("SequenceInsert", &["e", "a"], &["t"]);
        gives(
            vec![none, longer, node("SequenceLength", &["t"], &["y"])],
            &inputs,
            &i64s(&[], &[1]),
        );
    }

    #[test]
    fn what_was_split_is_joined_again() {
        let x = counting(&[3, 2]);
        let split = || node("SplitToSequence", &["a"], &["s"]);
        let joined = |new| {
            with(with(node("ConcatFromSequence", &["s"], &["y"]), "axis", 0), "new_axis", new)
        };
        gives(vec![split(), joined(0)], from_ref(&x), &x);
        gives(vec![with(split(), "keepdims", 0), joined(1)], from_ref(&x), &x);
        let by = node("SplitToSequence", &["a", "b"], &["s"]);
        let last = node("SequenceAt", &["s", "c"], &["y"]);
        let inputs = |sizes: Tensor| [x.clone(), sizes, i64s(&[], &[-1])];
        let tail = f32s(&[1, 2], &[5., 6.]);
        gives(vec![by.clone(), last.clone()], &inputs(i64s(&[], &[2])), &tail);
        gives(vec![by.clone(), last.clone()], &inputs(i64s(&[2], &[2, 1])), &tail);
        fails(vec![by.clone(), last.clone()], &inputs(i64s(&[], &[0])), "the size cannot be 0");
        fails(vec![by, last], &inputs(i64s(&[1], &[2])), "sizes to split into");
    }

    #[test]
    fn a_body_maps_the_items() {
        let body = GraphProto {
            node: vec![node("Add", &["x", "k"], &["z"])],
            input: vec![info("x", DType::F32, None), info("k", DType::F32, None)],
            output: vec![info("z", DType::F32, None)],
            ..GraphProto::default()
        };
        let nodes = vec![
            node("SplitToSequence", &["a"], &["s"]),
            with_body(node("SequenceMap", &["s", "b"], &["t"]), body),
            with(node("ConcatFromSequence", &["t"], &["y"]), "axis", 0),
        ];
        let inputs = [counting(&[3]), f32s(&[], &[10.])];
        gives(nodes, &inputs, &f32s(&[3], &[11., 12., 13.]));
    }

    #[test]
    fn a_loop_may_carry_a_sequence() {
        let body = GraphProto {
            node: vec![
                node("Identity", &["go"], &["on"]),
                node("Cast", &["i"], &["item"]),
                node("SequenceInsert", &["s", "item"], &["more"]),
            ],
            input: vec![
                info("i", DType::I64, Some(&[])),
                info("go", DType::Bool, Some(&[])),
                info("s", DType::F32, None),
            ],
            output: vec![info("on", DType::Bool, None), info("more", DType::F32, None)],
            ..GraphProto::default()
        };
        let mut body = body;
        body.node[1] = with(body.node[1].clone(), "to", 1);
        let nodes = vec![
            node("SequenceEmpty", &[], &["e"]),
            with_body(node("Loop", &["a", "b", "e"], &["s"]), body),
            with(with(node("ConcatFromSequence", &["s"], &["y"]), "axis", 0), "new_axis", 1),
        ];
        gives(nodes, &[i64s(&[], &[3]), bools(&[], &[1])], &f32s(&[3], &[0., 1., 2.]));
    }

    #[test]
    fn optional_values_are_there_or_not() {
        let has = |name| node("OptionalHasElement", &[name], &["y"]);
        let none = || node("Optional", &[], &["o"]);
        gives(vec![none(), has("o")], &[], &bools(&[], &[0]));
        gives(vec![node("OptionalHasElement", &[], &["y"])], &[], &bools(&[], &[0]));
        let some = node("Optional", &["a"], &["o"]);
        let x = counting(&[2]);
        gives(vec![some.clone(), has("o")], from_ref(&x), &bools(&[], &[1]));
        let get = node("OptionalGetElement", &["o"], &["y"]);
        gives(vec![some, get.clone()], from_ref(&x), &x);
        fails(vec![none(), get], &[], "empty optional");
    }

    #[test]
    fn what_is_no_sequence_or_no_place_is_refused() {
        let (x, far) = (counting(&[2]), i64s(&[], &[2]));
        let pair = || node("SequenceConstruct", &["a", "a"], &["s"]);
        let look = || node("SequenceAt", &["s", "b"], &["y"]);
        fails(vec![pair(), look()], &[x.clone(), far], "index 2");
        fails(vec![pair(), look()], &[x.clone(), i64s(&[], &[i64::MIN])], "size 2");
        fails(
            vec![node("SequenceAt", &["a", "b"], &["y"])],
            &[x.clone(), i64s(&[], &[0])],
            "a tensor",
        );
        fails(vec![pair(), node("Add", &["s", "a"], &["y"])], from_ref(&x), "a sequence");
        fails(vec![pair(), node("Identity", &["s"], &["y"])], from_ref(&x), "a sequence");
        let mixed = node("SequenceConstruct", &["a", "b"], &["s"]);
        fails(vec![mixed, look()], &[x, i64s(&[], &[0])], "float and int64");
        let none = node("SequenceEmpty", &[], &["s"]);
        let joined = with(node("ConcatFromSequence", &["s"], &["y"]), "axis", 0);
        fails(vec![none.clone(), joined], &[], "a sequence of nothing");
        let erased = vec![
            none,
            node("SequenceErase", &["s"], &["t"]),
            node("SequenceLength", &["t"], &["y"]),
        ];
        fails(erased, &[], "index -1");
    }
}
