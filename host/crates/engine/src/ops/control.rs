//! Control flow: operators that run subgraphs.

use ingle_types::DType;

use super::tensor::join;
use super::{Args, Built, Inputs, Op, Registry, Subgraph};
use crate::context::Context;
use crate::dims::axis_at;
use crate::graph::Declared;
use crate::kernels::Kernels;
use crate::value::{Host, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("If", 1.., 1..=1, if_else);
    r.add("Loop", 1.., .., repeat);
}

impl<B: Kernels> Subgraph<B> {
    /// Runs with `own` inputs and what the node captured.
    pub(super) fn run(
        &self,
        ctx: &Context<B>,
        own: Vec<Value<B>>,
        inputs: &Inputs<B>,
    ) -> Result<Vec<Value<B>>, OpError> {
        let captured = self.captured.iter().map(|&i| inputs.captured(i));
        let values = own.into_iter().map(Some).chain(captured).collect();
        let outputs = self.plan.run(ctx, values, None, None).map_err(|error| OpError::Inner {
            label: error.label,
            reason: Box::new(error.reason),
        })?;
        let outputs: Option<Vec<_>> = outputs.into_iter().collect();
        outputs.ok_or(OpError::Unsupported { what: "a subgraph without a value" })
    }
}

struct If<B: Kernels> {
    yes: Subgraph<B>,
    no: Subgraph<B>,
}

fn if_else<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let (yes, no) = (args.graph("then_branch")?, args.graph("else_branch")?);
    args.makes_outputs(yes.outputs.min(no.outputs));
    if yes.inputs + no.inputs > 0 {
        return Err(BuildError::Unsupported { what: "a branch with inputs" });
    }
    Ok(Box::new(If { yes, no }))
}

impl<B: Kernels> Op<B> for If<B> {
    fn run(&self, ctx: &Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>, OpError> {
        let condition = inputs.take(0)?.scalar(ctx, "the condition")?;
        let branch = if condition != 0.0 { &self.yes } else { &self.no };
        branch.run(ctx, Vec::new(), &inputs)
    }
}

struct Loop<B: Kernels> {
    body: Subgraph<B>,
    carried: usize,
}

fn repeat<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let body = args.graph("body")?;
    let carried = args.inputs().saturating_sub(2);
    if body.inputs != carried + 2 || body.outputs <= carried {
        let reason = "its inputs and outputs do not fit the carried values";
        return Err(BuildError::Value { name: "body", reason });
    }
    args.makes_outputs(body.outputs - 1);
    Ok(Box::new(Loop { body, carried }))
}

impl<B: Kernels> Op<B> for Loop<B> {
    /// The body takes (iteration, condition, carried...) and gives (condition,
    /// carried..., scanned...); scanned values are stacked.
    fn run(&self, ctx: &Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>, OpError> {
        let trips = match inputs.take_opt(0) {
            Some(trips) => {
                let trips = trips.ints(ctx, "the number of trips")?;
                trips.first().copied().unwrap_or_default()
            }
            None => i64::MAX,
        };
        let mut condition = match inputs.take_opt(1) {
            Some(condition) => condition,
            None => Host::ints(DType::Bool, vec![], vec![1]).into(),
        };
        let mut carried =
            (0..self.carried).map(|i| inputs.take_any(i + 2)).collect::<Result<Vec<_>, _>>()?;
        let mut stacks = Stacks::of(self.body.declared.get(1 + self.carried..));
        let mut trip = 0;
        while trip < trips && condition.scalar(ctx, "the condition")? != 0.0 {
            ctx.step()?;
            let number: Value<B> = Host::ints(DType::I64, vec![], vec![trip]).into();
            let mut own = vec![number, condition];
            own.append(&mut carried);
            let mut outputs = self.body.run(ctx, own, &inputs)?.into_iter();
            condition = outputs.next().ok_or(OpError::Missing { index: 1 })?;
            carried = outputs.by_ref().take(self.carried).collect();
            stacks.push(ctx, outputs)?;
            trip += 1;
        }
        carried.extend(stacks.join(ctx, |_| Layout { axis: 0, backwards: false })?);
        Ok(carried)
    }
}

/// Outputs of a body that are stacked, one entry for each iteration.
pub(super) struct Stacks<'a, B: Kernels> {
    entries: Vec<(Vec<Value<B>>, &'a Declared)>,
    bytes: usize,
}

/// How entries lie in a stack.
pub(super) struct Layout {
    /// The axis that counts the entries.
    pub(super) axis: i64,
    /// Whether the last entry comes first.
    pub(super) backwards: bool,
}

impl<'a, B: Kernels> Stacks<'a, B> {
    pub(super) fn of(declared: Option<&'a [Declared]>) -> Self {
        let declared = declared.unwrap_or_default();
        Self { entries: declared.iter().map(|declared| (Vec::new(), declared)).collect(), bytes: 0 }
    }

    /// Adds the outputs of one iteration.
    pub(super) fn push(
        &mut self,
        ctx: &Context<B>,
        outputs: impl Iterator<Item = Value<B>>,
    ) -> Result<(), OpError> {
        for ((list, _), value) in self.entries.iter_mut().zip(outputs) {
            let value = value.tensor("a stacked output")?;
            self.bytes = self.bytes.saturating_add(value.size_bytes());
            list.push(value);
        }
        if self.bytes > ctx.run_bytes() {
            return Err(OpError::Memory { limit: ctx.run_bytes() });
        }
        Ok(())
    }

    pub(super) fn join(
        self,
        ctx: &Context<B>,
        layout: impl Fn(usize) -> Layout,
    ) -> Result<Vec<Value<B>>, OpError> {
        let stacks = self.entries.into_iter().enumerate();
        stacks.map(|(i, (list, declared))| stack(ctx, list, declared, &layout(i))).collect()
    }
}

fn stack<B: Kernels>(
    ctx: &Context<B>,
    mut list: Vec<Value<B>>,
    declared: &Declared,
    layout: &Layout,
) -> Result<Value<B>, OpError> {
    let Some(first) = list.first() else { return nothing(declared, layout) };
    let axis = axis_at(layout.axis, first.rank() + 1)?;
    if layout.backwards {
        list.reverse();
    }
    let entry = |value: Value<B>| {
        let mut dims = value.dims();
        // An entry of another rank is refused when they are joined.
        dims.insert(axis.min(dims.len()), 1);
        value.reshape(dims)
    };
    join(ctx, list.into_iter().map(entry).collect(), layout.axis)
}

/// A stack without entries, whose other dimensions are zero where the body does
/// not tell them.
fn nothing<B: Kernels>(declared: &Declared, layout: &Layout) -> Result<Value<B>, OpError> {
    let what = "a stacked output of no iterations and no declared type";
    let dtype = declared.dtype.ok_or(OpError::Unsupported { what })?;
    let dims = declared.dims.iter().flatten();
    let mut dims: Vec<usize> = dims.map(|size| size.unwrap_or_default()).collect();
    let axis = axis_at(layout.axis, dims.len() + 1)?;
    dims.insert(axis, 0);
    Ok(Value::empty(dtype, dims))
}

#[cfg(test)]
mod tests {
    use ingle_types::DType;

    use crate::proto::GraphProto;
    use crate::testing::{Case, bools, f32s, i64s, info, node};

    /// total += 2 in each round, of which every total is kept.
    fn body(condition: &str) -> GraphProto {
        let mut graph = GraphProto {
            node: vec![
                node("Identity", &[condition], &["go"]),
                node("Add", &["total", "total"], &["next"]),
                node("Identity", &["next"], &["kept"]),
            ],
            input: vec![
                info("i", DType::I64, Some(&[])),
                info("c", DType::Bool, Some(&[])),
                info("total", DType::F32, None),
            ],
            output: vec![
                info("go", DType::Bool, None),
                info("next", DType::F32, None),
                info("kept", DType::F32, None),
            ],
            ..GraphProto::default()
        };
        if condition == "small" {
            graph.node.push(node("Size", &["i"], &["one"]));
            graph.node.push(node("Less", &["i", "one"], &["small"]));
        }
        graph
    }

    #[test]
    fn loops_count_carry_and_stack() {
        let (trips, go, start) = (i64s(&[], &[3]), bools(&[], &[1]), f32s(&[1], &[1.]));
        Case::of("Loop", [trips.clone(), go.clone(), start.clone()])
            .graph("body", body("c"))
            .gives([f32s(&[1], &[8.]), f32s(&[3, 1], &[2., 4., 8.])]);
        Case::of("Loop", [trips, go, start])
            .graph("body", body("small"))
            .gives([f32s(&[1], &[4.]), f32s(&[2, 1], &[2., 4.])]);
    }

    #[test]
    fn no_iterations_stack_to_nothing_of_the_declared_type() {
        let inputs = [i64s(&[], &[0]), bools(&[], &[1]), f32s(&[1], &[1.])];
        let nothing = |dims, wanted: &[usize]| {
            let mut body = body("c");
            body.output.retain(|output| output.name != "kept");
            body.output.push(info("kept", DType::F32, dims));
            let start = f32s(&[1], &[1.]);
            Case::of("Loop", inputs.clone()).graph("body", body).gives([start, f32s(wanted, &[])]);
        };
        nothing(Some(&[2, -1]), &[0, 2, 0]);
        nothing(None, &[0]);
        let mut untyped = body("c");
        untyped.output.iter_mut().for_each(|output| output.r#type = None);
        Case::of("Loop", inputs).graph("body", untyped).fails("no declared type");
    }

    #[test]
    fn an_endless_loop_ends() {
        let endless = [bools(&[], &[1]), f32s(&[1], &[0.])];
        Case::of("Loop", endless).without(0).graph("body", body("c")).fails("steps");
    }

    #[test]
    fn a_body_must_fit_its_node() {
        let inputs = [i64s(&[], &[1]), bools(&[], &[1])];
        Case::of("Loop", inputs.clone()).graph("body", body("c")).fails("do not fit");
        Case::of("Loop", inputs).fails("\"body\" is missing");
    }
}
