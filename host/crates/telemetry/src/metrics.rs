use std::sync::Arc;
use std::time::Duration;

use ingle_types::{Code, Stage};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    model: String,
    api: &'static str,
    entrypoint: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DurationLabels {
    model: String,
    api: &'static str,
    entrypoint: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PluginCallLabels {
    plugin: String,
    stage: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PluginLabels {
    plugin: String,
    stage: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LoadLabels {
    model: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PluginLoadLabels {
    plugin: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModelLabels {
    model: String,
}

/// How an attempt to load a model version, or to swap a plugin, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadOutcome {
    Ok,
    Error,
}

impl LoadOutcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

/// Every metric of the server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<DurationLabels, Histogram>,
    plugin_calls: Family<PluginCallLabels, Counter>,
    plugin_call_seconds: Family<PluginLabels, Histogram>,
    version_loads: Family<LoadLabels, Counter>,
    plugin_swaps: Family<PluginLoadLabels, Counter>,
    available_versions: Family<ModelLabels, Gauge>,
}

/// 100 µs to about 26 s.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(1e-4, 2.0, 19))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("ingle");
        let requests = Family::default();
        registry.register("requests", "Requests answered", requests.clone());
        let request_seconds = Family::new_with_constructor(durations as fn() -> Histogram);
        registry.register_with_unit(
            "request_duration",
            "Time to answer",
            Unit::Seconds,
            request_seconds.clone(),
        );
        let plugin_calls = Family::default();
        registry.register("plugin_calls", "Calls of a plugin", plugin_calls.clone());
        let plugin_call_seconds = Family::new_with_constructor(durations as fn() -> Histogram);
        registry.register_with_unit(
            "plugin_call_duration",
            "Time in a plugin",
            Unit::Seconds,
            plugin_call_seconds.clone(),
        );
        let version_loads = Family::default();
        registry.register("version_loads", "Loads of a model version", version_loads.clone());
        let plugin_swaps = Family::default();
        registry.register(
            "plugin_swaps",
            "Attempts to put a plugin version to use",
            plugin_swaps.clone(),
        );
        let available_versions = Family::default();
        registry.register(
            "available_versions",
            "Versions that can answer",
            available_versions.clone(),
        );
        Self {
            registry: Arc::new(registry),
            requests,
            request_seconds,
            plugin_calls,
            plugin_call_seconds,
            version_loads,
            plugin_swaps,
            available_versions,
        }
    }

    /// One answered request. `model` is empty where the name is not one of ours,
    /// so that clients cannot make series; `code` is `None` for success.
    pub fn request(
        &self,
        model: &str,
        api: &'static str,
        entrypoint: &'static str,
        code: Option<Code>,
        elapsed: Duration,
    ) {
        let labels = RequestLabels { model: model.into(), api, entrypoint, code: code_name(code) };
        self.requests.get_or_create(&labels).inc();
        let labels = DurationLabels { model: model.into(), api, entrypoint };
        self.request_seconds.get_or_create(&labels).observe(elapsed.as_secs_f64());
    }

    /// One call of a plugin.
    pub fn plugin_call(&self, plugin: &str, stage: Stage, code: Option<Code>, elapsed: Duration) {
        let stage = stage.name();
        let labels = PluginCallLabels { plugin: plugin.into(), stage, code: code_name(code) };
        self.plugin_calls.get_or_create(&labels).inc();
        let labels = PluginLabels { plugin: plugin.into(), stage };
        self.plugin_call_seconds.get_or_create(&labels).observe(elapsed.as_secs_f64());
    }

    /// One attempt to load a model version.
    pub fn version_load(&self, model: &str, outcome: LoadOutcome) {
        let labels = LoadLabels { model: model.into(), outcome: outcome.name() };
        self.version_loads.get_or_create(&labels).inc();
    }

    /// One attempt to put another plugin version to use.
    pub fn plugin_swap(&self, plugin: &str, outcome: LoadOutcome) {
        let labels = PluginLoadLabels { plugin: plugin.into(), outcome: outcome.name() };
        self.plugin_swaps.get_or_create(&labels).inc();
    }

    /// How many versions of a model can answer.
    pub fn available_versions(&self, model: &str, count: usize) {
        let labels = ModelLabels { model: model.into() };
        self.available_versions
            .get_or_create(&labels)
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// All metrics in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn code_name(code: Option<Code>) -> &'static str {
    code.map_or("OK", Code::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_under_its_code() {
        let metrics = Metrics::new();
        metrics.request("m", "Predict", "REST", None, Duration::from_millis(2));
        metrics.request("m", "Predict", "REST", Some(Code::NotFound), Duration::from_millis(2));
        let text = metrics.render();
        let ok = r#"ingle_requests_total{model="m",api="Predict",entrypoint="REST",code="OK"} 1"#;
        assert!(text.contains(ok), "{text}");
        assert!(text.contains(r#"code="NOT_FOUND"} 1"#), "{text}");
        assert!(text.contains("ingle_request_duration_seconds_count"), "{text}");
    }

    #[test]
    fn a_failed_load_is_counted_beside_good_ones() {
        let metrics = Metrics::new();
        metrics.version_load("m", LoadOutcome::Error);
        metrics.plugin_swap("p", LoadOutcome::Ok);
        let text = metrics.render();
        assert!(
            text.contains(r#"ingle_version_loads_total{model="m",outcome="error"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"ingle_plugin_swaps_total{plugin="p",outcome="ok"} 1"#), "{text}");
    }
}
