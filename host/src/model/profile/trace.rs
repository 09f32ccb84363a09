//! Chrome's trace event format.

use ingle_engine::{StepReport, StepTensor};
use serde_json::{Value, json};

/// One complete event for each step. Those of a subgraph lie within its node's.
pub(super) fn of(steps: &[StepReport]) -> Value {
    let Some(origin) = steps.iter().map(|step| step.start).min() else {
        return json!({"traceEvents": []});
    };
    let event = |step: &StepReport| {
        let micros = |from, to: std::time::Instant| to.duration_since(from).as_secs_f64() * 1e6;
        json!({
            "name": step.label.operator,
            "cat": if step.label.domain.is_empty() { "ai.onnx" } else { &step.label.domain },
            "ph": "X",
            "ts": micros(origin, step.start),
            "dur": micros(step.start, step.end),
            "pid": 1,
            "tid": 1,
            "args": {
                "node": step.label.node,
                "inputs": step.inputs.iter().map(|input| input.as_ref().map(text)).collect::<Vec<_>>(),
                "outputs": step.outputs.iter().map(text).collect::<Vec<_>>(),
                "flops": step.flops,
            },
        })
    };
    let events: Vec<_> = steps.iter().map(event).collect();
    json!({"displayTimeUnit": "ms", "traceEvents": events})
}

/// `float[1,3,224,224]`.
fn text(tensor: &StepTensor) -> String {
    format!("{}{}", tensor.dtype, super::table::shape_text(&tensor.dims))
}
