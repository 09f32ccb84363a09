//! Control flow: operators that run subgraphs.

use ingle_types::DType;

use super::tensor::join;
use super::{Args, Built, Inputs, Op, Registry, Subgraph};
use crate::context::Context;
use crate::kernels::Kernels;
use crate::value::{Host, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("If", 1.., 1..=1, if_else);
    r.add("Loop", 1.., .., repeat);
}

impl<B: Kernels> Subgraph<B> {
    /// Runs with `own` inputs and what the node captured.
    fn run(
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
            (0..self.carried).map(|i| inputs.take(i + 2)).collect::<Result<Vec<_>, _>>()?;
        let mut scanned: Vec<Vec<Value<B>>> = Vec::new();
        scanned.resize_with(self.body.outputs - 1 - self.carried, Vec::new);
        let mut trip = 0;
        let mut bytes = 0usize;
        while trip < trips && condition.scalar(ctx, "the condition")? != 0.0 {
            ctx.step()?;
            let number: Value<B> = Host::ints(DType::I64, vec![], vec![trip]).into();
            let mut own = vec![number, condition];
            own.append(&mut carried);
            let mut outputs = self.body.run(ctx, own, &inputs)?.into_iter();
            condition = outputs.next().ok_or(OpError::Missing { index: 1 })?;
            carried = outputs.by_ref().take(self.carried).collect();
            for (list, value) in scanned.iter_mut().zip(outputs) {
                bytes = bytes.saturating_add(value.size_bytes());
                let mut dims = value.dims();
                dims.insert(0, 1);
                list.push(value.reshape(dims));
            }
            if bytes > ctx.run_bytes() {
                return Err(OpError::Memory { limit: ctx.run_bytes() });
            }
            trip += 1;
        }
        for list in scanned {
            if list.is_empty() {
                return Err(OpError::Unsupported { what: "a scanned output of no iterations" });
            }
            carried.push(join(ctx, list, 0)?);
        }
        Ok(carried)
    }
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
