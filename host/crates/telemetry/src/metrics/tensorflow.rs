//! TensorFlow Serving's metrics under its names, types, labels and edges, on which
//! dashboards are built.

use std::sync::Arc;

use super::cells::{Counter, Histogram, Table, exponential};

/// In the order of their names, as they are printed.
#[derive(Debug)]
pub(super) struct TensorFlow {
    pub(super) load_attempts: Table<Counter, 2>,
    pub(super) load_latency: Table<Counter, 1>,
    pub(super) warm_up_latency: Table<Histogram, 2>,
    pub(super) warm_up_records: Table<Counter, 2>,
    pub(super) requests: Table<Counter, 2>,
    pub(super) examples_total: Table<Counter, 1>,
    pub(super) examples: Table<Histogram, 1>,
    pub(super) request_latency: Table<Histogram, 3>,
    pub(super) logged: Table<Counter, 2>,
    pub(super) runtime_latency: Table<Histogram, 3>,
}

/// There is one runtime, and dashboards look for this name of it.
pub(super) const RUNTIME: &str = "TF1";

impl TensorFlow {
    pub(super) fn new() -> Self {
        // Microseconds: 10 µs to about 25 minutes.
        let latencies = exponential(10.0, 1.8, 33);
        let latency = || latencies.clone();
        Self {
            load_attempts: Table::counter(
                "/tensorflow/cc/saved_model/load_attempt_count",
                ["model_path", "status"],
            ),
            load_latency: Table::counter("/tensorflow/cc/saved_model/load_latency", ["model_path"]),
            warm_up_latency: Table::histogram(
                "/tensorflow/serving/model_warmup_latency",
                ["model_path", "status"],
                latency(),
            ),
            warm_up_records: Table::counter(
                "/tensorflow/serving/model_warmup_records_read",
                ["model_path", "status"],
            ),
            requests: Table::counter("/tensorflow/serving/request_count", ["model_name", "status"]),
            examples_total: Table::counter(
                "/tensorflow/serving/request_example_count_total",
                ["model"],
            ),
            examples: Table::histogram(
                "/tensorflow/serving/request_example_counts",
                ["model"],
                exponential(1.0, 2.0, 15),
            ),
            request_latency: Table::histogram(
                "/tensorflow/serving/request_latency",
                ["model_name", "API", "entrypoint"],
                latency(),
            ),
            logged: Table::counter(
                "/tensorflow/serving/request_log_count",
                ["model_name", "status_code"],
            ),
            runtime_latency: Table::histogram(
                "/tensorflow/serving/runtime_latency",
                ["model_name", "API", "runtime"],
                latency(),
            ),
        }
    }

    pub(super) fn write(&self, text: &mut String) {
        self.load_attempts.write(text);
        self.load_latency.write(text);
        self.warm_up_latency.write(text);
        self.warm_up_records.write(text);
        self.requests.write(text);
        self.examples_total.write(text);
        self.examples.write(text);
        self.request_latency.write(text);
        self.logged.write(text);
        self.runtime_latency.write(text);
    }

    /// What the counter of this internal name stands at, its label values together; `None`
    /// for a name that is no counter's.
    pub(super) fn total(&self, name: &str) -> Option<u64> {
        let pairs = [&self.load_attempts, &self.warm_up_records, &self.requests, &self.logged];
        let singles = [&self.load_latency, &self.examples_total];
        let pair = pairs.into_iter().find(|table| table.name == name).map(Table::total);
        pair.or_else(|| singles.into_iter().find(|table| table.name == name).map(Table::total))
    }
}

/// The cells in which successes of one kind of request are counted.
#[derive(Debug, Default)]
pub(super) struct RequestCells {
    pub(super) count: Option<Arc<Counter>>,
    pub(super) latency: Option<Arc<Histogram>>,
    pub(super) runtime: Option<Arc<Histogram>>,
}

/// Whether TensorFlow Serving counts a request of this kind.
pub(super) fn counts(api: &str, entrypoint: &str) -> bool {
    entrypoint == "REST" || matches!(api, "Predict" | "Classify" | "Regress")
}

impl RequestCells {
    pub(super) fn new(
        metrics: &TensorFlow,
        model: &str,
        api: &'static str,
        entrypoint: &'static str,
    ) -> Self {
        let runs = matches!(api, "Predict" | "Classify" | "Regress" | "MultiInference");
        let runtime = runs.then(|| metrics.runtime_latency.cell([model, api, RUNTIME]));
        if !counts(api, entrypoint) {
            return Self { runtime, ..Self::default() };
        }
        let name = latency_api(api, entrypoint);
        Self {
            count: Some(metrics.requests.cell([model, "OK"])),
            latency: Some(metrics.request_latency.cell([model, name, entrypoint])),
            runtime,
        }
    }
}

/// What the label `API` of latencies says.
fn latency_api(api: &'static str, entrypoint: &str) -> &'static str {
    match (api, entrypoint) {
        ("Predict", "REST") => "predict",
        ("Classify", "REST") => "classify",
        ("Regress", "REST") => "regress",
        (_, "REST") => "",
        (api, _) => api,
    }
}
