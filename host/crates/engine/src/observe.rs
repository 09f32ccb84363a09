//! Runs that are watched: what each step took, and what it worked on.

use std::sync::Arc;
use std::time::Instant;

use ingle_types::DType;

use crate::context::Context;
use crate::flops;
use crate::kernels::Kernels;
use crate::value::Value;
use crate::{NodeLabel, OpError};

/// Watches a run. See [`crate::Program::run_watched`].
pub trait Observer: Send + Sync {
    /// A step has ended. The steps of a subgraph come before the step that runs it.
    fn step(&self, step: StepReport);
}

/// One step of a run.
#[derive(Clone, Debug)]
pub struct StepReport {
    pub label: Arc<NodeLabel>,
    /// `None` = left out.
    pub inputs: Vec<Option<StepTensor>>,
    pub outputs: Vec<StepTensor>,
    pub start: Instant,
    /// When the device had done its part.
    pub end: Instant,
    /// Floating-point operations, estimated from the shapes: twice the multiplications
    /// of a convolution, a product of matrices, attention or a recurrent layer; one for
    /// each element that an elementwise operator makes; none for all else.
    pub flops: u64,
    /// What the values of the run took at most during the step, in bytes, weights aside.
    pub live_bytes: usize,
}

/// The type and the shape of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepTensor {
    pub dtype: DType,
    pub dims: Vec<usize>,
}

impl StepTensor {
    pub(crate) fn of<B: Kernels>(value: &Value<B>) -> Self {
        Self { dtype: value.dtype(), dims: value.dims() }
    }

    pub(crate) fn elements(&self) -> u64 {
        self.dims.iter().fold(1, |n: u64, &d| n.saturating_mul(d as u64))
    }
}

/// A step that is under way.
pub(crate) struct Watch<'a> {
    observer: &'a dyn Observer,
    inputs: Vec<Option<StepTensor>>,
    live_bytes: usize,
    start: Instant,
}

impl<'a> Watch<'a> {
    /// `held` are inputs that the operator has already; `live_bytes` is what the run's
    /// values take.
    pub(crate) fn start<B: Kernels>(
        observer: &'a dyn Observer,
        inputs: &[Option<Value<B>>],
        held: &[(usize, StepTensor)],
        live_bytes: usize,
    ) -> Self {
        let mut inputs: Vec<_> =
            inputs.iter().map(|input| input.as_ref().map(StepTensor::of)).collect();
        for (index, tensor) in held {
            if let Some(input) = inputs.get_mut(*index) {
                *input = Some(tensor.clone());
            }
        }
        Self { observer, inputs, live_bytes, start: Instant::now() }
    }

    pub(crate) fn end<B: Kernels>(
        self,
        ctx: &Context<B>,
        label: &Arc<NodeLabel>,
        outputs: &[Value<B>],
    ) -> Result<(), OpError> {
        ctx.wait()?;
        let end = Instant::now();
        let made = outputs.iter().map(Value::size_bytes).fold(0, usize::saturating_add);
        let outputs: Vec<_> = outputs.iter().map(StepTensor::of).collect();
        self.observer.step(StepReport {
            label: label.clone(),
            flops: flops::estimate(label, &self.inputs, &outputs),
            inputs: self.inputs,
            outputs,
            start: self.start,
            end,
            live_bytes: self.live_bytes.saturating_add(made),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::proto::GraphProto;
    use crate::testing::{bools, f32s, info, load, model, node};

    #[derive(Default)]
    struct Steps(Mutex<Vec<StepReport>>);

    impl Observer for Steps {
        fn step(&self, step: StepReport) {
            self.0.lock().unwrap().push(step);
        }
    }

    #[test]
    fn every_step_is_seen_after_those_that_it_runs() {
        let branch = |operator| GraphProto {
            node: vec![node(operator, &["x"], &["t"])],
            output: vec![info("t", DType::F32, None)],
            ..GraphProto::default()
        };
        let attribute = |name: &str, graph| crate::proto::AttributeProto {
            name: name.into(),
            g: Some(graph),
            r#type: crate::proto::attribute_proto::AttributeType::Graph.into(),
            ..Default::default()
        };
        let mut choice = node("If", &["c"], &["y"]);
        choice.attribute =
            vec![attribute("then_branch", branch("Neg")), attribute("else_branch", branch("Exp"))];
        let graph = GraphProto {
            node: vec![node("Abs", &["a"], &["x"]), choice],
            input: vec![info("a", DType::F32, None), info("c", DType::Bool, None)],
            output: vec![info("y", DType::F32, None)],
            ..GraphProto::default()
        };
        let program = load(&model(graph, 17)).unwrap();
        let request =
            [("a".to_owned(), f32s(&[2, 3], &[-1.; 6])), ("c".to_owned(), bools(&[], &[1]))].into();
        let steps = Arc::new(Steps::default());
        let answer = program.run_watched(&request, steps.clone()).unwrap();
        assert_eq!(answer["y"], f32s(&[2, 3], &[-1.; 6]));
        let steps = steps.0.lock().unwrap();
        let names: Vec<_> = steps.iter().map(|step| step.label.operator.as_str()).collect();
        assert_eq!(names, ["Abs", "Neg", "If"]);
        let [abs, neg, choice] = &steps[..] else { panic!("three steps") };
        let tensor = StepTensor { dtype: DType::F32, dims: vec![2, 3] };
        assert_eq!(
            (&abs.inputs[..], &abs.outputs[..]),
            (&[Some(tensor.clone())][..], &[tensor][..])
        );
        // `a`, `c` and `x`.
        assert_eq!((abs.flops, abs.live_bytes), (6, 24 + 1 + 24));
        assert!(choice.start <= neg.start && neg.end <= choice.end);
    }

    #[test]
    fn weights_that_the_operator_keeps_are_counted() {
        for (operator, dims) in [("Conv", &[4, 3, 1, 1][..]), ("MatMul", &[5, 4])] {
            let weight = crate::testing::counting(dims);
            let graph = GraphProto {
                node: vec![node(operator, &["x", "w"], &["y"])],
                input: vec![info("x", DType::F32, None)],
                output: vec![info("y", DType::F32, None)],
                initializer: vec![crate::testing::initializer("w", &weight)],
                ..GraphProto::default()
            };
            let request = [("x".to_owned(), f32s(&[1, 3, 2, 5], &[1.; 30]))].into();
            let steps = Arc::new(Steps::default());
            load(&model(graph, 17)).unwrap().run_watched(&request, steps.clone()).unwrap();
            let steps = steps.0.lock().unwrap();
            let [step] = &steps[..] else { panic!("one step") };
            let weight = step.inputs[1].as_ref().unwrap();
            assert_eq!(weight.dims, dims, "{operator}");
            let depth: u64 = if operator == "Conv" { 3 } else { 5 };
            assert_eq!(step.flops, 2 * depth * step.outputs[0].elements(), "{operator}");
        }
    }
}
