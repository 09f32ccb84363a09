//! Times by node and by operator.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ingle_engine::{StepReport, StepTensor};
use serde_json::{Value, json};

use super::{Failure, Output, units};

/// The nodes in the order in which they first ran.
pub(super) struct Table {
    nodes: Vec<Row>,
    operators: Vec<Row>,
}

/// A node, or all nodes of an operator.
#[derive(Clone, Debug, Default)]
struct Row {
    /// Empty for an operator.
    node: String,
    operator: String,
    /// Steps in one run: more than one in a loop.
    calls: usize,
    inputs: String,
    outputs: String,
    /// The median over all runs, of one run's sum, in seconds, without the steps of
    /// subgraphs.
    seconds: f64,
    flops: u64,
}

impl Row {
    fn gflops(&self) -> f64 {
        if self.seconds > 0.0 { self.flops as f64 / self.seconds / 1e9 } else { 0.0 }
    }

    fn json(&self, total: f64) -> Value {
        json!({
            "node": self.node,
            "operator": self.operator,
            "calls": self.calls,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "seconds": self.seconds,
            "share": if total > 0.0 { self.seconds / total } else { 0.0 },
            "flops": self.flops,
            "gflops_per_second": self.gflops(),
        })
    }
}

impl Table {
    pub(super) fn of(runs: &[Vec<StepReport>]) -> Self {
        let mut nodes: Vec<Row> = Vec::new();
        let mut times: Vec<Vec<f64>> = Vec::new();
        let mut places = HashMap::new();
        for (number, run) in runs.iter().enumerate() {
            for (step, own) in run.iter().zip(own_times(run)) {
                let key = (&step.label.node, &step.label.operator);
                let place = *places.entry(key).or_insert_with(|| {
                    nodes.push(row(step));
                    times.push(vec![0.0; runs.len()]);
                    nodes.len() - 1
                });
                let (Some(row), Some(times)) = (nodes.get_mut(place), times.get_mut(place)) else {
                    continue;
                };
                if number == 0 {
                    row.calls += 1;
                    row.flops = row.flops.saturating_add(step.flops);
                }
                if let Some(time) = times.get_mut(number) {
                    *time += own.as_secs_f64();
                }
            }
        }
        for (row, times) in nodes.iter_mut().zip(times) {
            row.seconds = median(times);
        }
        let operators = by_operator(&nodes);
        nodes.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Self { nodes, operators }
    }

    fn total(&self) -> Row {
        let seconds = self.nodes.iter().map(|row| row.seconds).sum();
        let flops = self.nodes.iter().map(|row| row.flops).fold(0, u64::saturating_add);
        let calls = self.nodes.iter().map(|row| row.calls).sum();
        Row { operator: "all".into(), seconds, flops, calls, ..Row::default() }
    }

    pub(super) fn json(&self, device: &str, shapes: &str) -> Value {
        let total = self.total();
        let rows = |rows: &[Row]| -> Vec<Value> {
            rows.iter().map(|row| row.json(total.seconds)).collect()
        };
        json!({
            "device": device,
            "shapes": shapes,
            "seconds": total.seconds,
            "flops": total.flops,
            "nodes": rows(&self.nodes),
            "operators": rows(&self.operators),
        })
    }

    /// The `top` slowest nodes, and all operators; 0 = all nodes.
    pub(super) fn print(&self, out: &mut Output, top: usize) -> Result<(), Failure> {
        let total = self.total();
        let shown = if top == 0 { self.nodes.len() } else { top.min(self.nodes.len()) };
        out.line(format_args!("{:>9} {:>6} {:>8}  node", "time", "share", "GFLOP/s"))?;
        for row in self.nodes.iter().take(shown) {
            let Row { node, operator, inputs, outputs, .. } = row;
            let calls = if row.calls > 1 { format!(" x{}", row.calls) } else { String::new() };
            let text = format!("{operator} {node}{calls}  {inputs} -> {outputs}");
            line(out, row, &total, &text)?;
        }
        let left = self.nodes.len() - shown;
        if left > 0 {
            out.line(format_args!("... and {left} more nodes: --top 0 shows all"))?;
        }
        out.line(format_args!("{:>9} {:>6} {:>8}  operator", "time", "share", "GFLOP/s"))?;
        for row in self.operators.iter().chain([&total]) {
            line(out, row, &total, &format!("{} x{}", row.operator, row.calls))?;
        }
        Ok(())
    }
}

fn line(out: &mut Output, row: &Row, total: &Row, text: &str) -> Result<(), Failure> {
    let share = if total.seconds > 0.0 { row.seconds / total.seconds * 100.0 } else { 0.0 };
    let (time, gflops) = (units::seconds(row.seconds), row.gflops());
    let gflops = if row.flops > 0 { format!("{gflops:.2}") } else { "-".into() };
    Ok(out.line(format_args!("{time:>9} {share:>5.1}% {gflops:>8}  {text}"))?)
}

fn row(step: &StepReport) -> Row {
    let absent = || "-".to_owned();
    let shape = |tensor: &StepTensor| shape_text(&tensor.dims);
    let inputs: Vec<String> =
        step.inputs.iter().map(|input| input.as_ref().map_or_else(absent, shape)).collect();
    let outputs: Vec<String> = step.outputs.iter().map(shape).collect();
    let domain = &step.label.domain;
    let name = &step.label.operator;
    Row {
        node: step.label.node.clone(),
        operator: if domain.is_empty() { name.clone() } else { format!("{domain}.{name}") },
        inputs: inputs.join(" "),
        outputs: outputs.join(" "),
        ..Row::default()
    }
}

/// `[1,3,224,224]`.
pub(super) fn shape_text(dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    format!("[{}]", dims.join(","))
}

/// What each step took, without the steps that it ran: those that ended before it and
/// began after it.
fn own_times(run: &[StepReport]) -> Vec<Duration> {
    let mut waiting: Vec<(Instant, Duration)> = Vec::new();
    let own = |step: &StepReport| {
        let whole = step.end.saturating_duration_since(step.start);
        let mut inner = Duration::ZERO;
        while let Some((_, time)) = waiting.pop_if(|(start, _)| *start >= step.start) {
            inner += time;
        }
        waiting.push((step.start, whole));
        whole.saturating_sub(inner)
    };
    run.iter().map(own).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn by_operator(nodes: &[Row]) -> Vec<Row> {
    let mut operators: Vec<Row> = Vec::new();
    for node in nodes {
        let known = operators.iter().position(|row| row.operator == node.operator);
        let place = known.unwrap_or_else(|| {
            operators.push(Row { operator: node.operator.clone(), ..Row::default() });
            operators.len() - 1
        });
        if let Some(row) = operators.get_mut(place) {
            row.seconds += node.seconds;
            row.flops = row.flops.saturating_add(node.flops);
            row.calls += node.calls;
        }
    }
    operators.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    operators
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ingle_engine::NodeLabel;
    use ingle_types::DType;

    use super::*;

    fn step(node: &str, origin: Instant, [start, end]: [u64; 2], flops: u64) -> StepReport {
        let label = NodeLabel {
            node: node.into(),
            operator: node.get(..1).unwrap_or_default().into(),
            domain: String::new(),
            opset: 17,
        };
        StepReport {
            label: Arc::new(label),
            inputs: vec![None, Some(StepTensor { dtype: DType::F32, dims: vec![2] })],
            outputs: vec![StepTensor { dtype: DType::F32, dims: vec![2, 3] }],
            start: origin + Duration::from_secs(start),
            end: origin + Duration::from_secs(end),
            flops,
            live_bytes: 0,
        }
    }

    /// A loop of ten seconds, whose body ran twice, between two others.
    fn run(origin: Instant) -> Vec<StepReport> {
        vec![
            step("A1", origin, [0, 1], 5),
            step("B", origin, [2, 4], 0),
            step("B", origin, [5, 8], 0),
            step("Loop", origin, [1, 11], 0),
            step("A2", origin, [11, 13], 7),
        ]
    }

    #[test]
    fn times_of_a_subgraph_are_counted_once() {
        let origin = Instant::now();
        let runs = [run(origin), run(origin), run(origin)];
        let table = Table::of(&runs);
        let nodes: Vec<_> =
            table.nodes.iter().map(|r| (r.node.as_str(), r.calls, r.seconds)).collect();
        // Equal times keep the order in which the nodes ran first.
        assert_eq!(nodes, [("B", 2, 5.0), ("Loop", 1, 5.0), ("A2", 1, 2.0), ("A1", 1, 1.0)]);
        let a = table.operators.iter().find(|row| row.operator == "A").unwrap();
        assert_eq!((a.calls, a.seconds, a.flops), (2, 3.0, 12));
        assert_eq!(table.total().seconds, 13.0);
        assert_eq!(
            (table.nodes[0].inputs.as_str(), table.nodes[0].outputs.as_str()),
            ("- [2]", "[2,3]")
        );
    }

    #[test]
    fn a_trace_begins_at_its_first_step() {
        let trace = super::super::trace::of(&run(Instant::now()));
        let events = trace["traceEvents"].as_array().unwrap();
        assert_eq!(events.len(), 5);
        assert_eq!((&events[0]["ts"], &events[0]["dur"]), (&json!(0.0), &json!(1e6)));
        assert_eq!((&events[3]["ts"], &events[3]["ph"]), (&json!(1e6), &json!("X")));
        assert_eq!(events[0]["args"]["inputs"], json!([null, "float[2]"]));
    }

    #[test]
    fn a_median_is_not_moved_by_one_slow_run() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
