//! The server's own metrics: base units, and labels for versions, signatures, stages and
//! plugins.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use ingle_types::Version;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::classic::classic;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) model: String,
    /// Empty where no version answered.
    pub(super) version: String,
    pub(super) signature: String,
    pub(super) api: &'static str,
    pub(super) entrypoint: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    #[prometheus(flatten)]
    pub(super) request: RequestLabels,
    pub(super) code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct StageLabels {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) signature: String,
    pub(super) stage: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct PluginCallLabels {
    pub(super) plugin: String,
    pub(super) stage: &'static str,
    pub(super) code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct PluginLabels {
    pub(super) plugin: String,
    pub(super) stage: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct LoadLabels {
    pub(super) model: String,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct LoggedLabels {
    pub(super) model: String,
    pub(super) code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct PluginLoadLabels {
    pub(super) plugin: String,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ModelLabels {
    pub(super) model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct VersionLabels {
    pub(super) model: String,
    pub(super) version: Version,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct EntrypointLabels {
    pub(super) entrypoint: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

#[derive(Debug)]
pub(super) struct Own {
    registry: Registry,
    pub(super) requests: Family<OutcomeLabels, Counter>,
    pub(super) request_seconds: Family<RequestLabels, Histogram>,
    pub(super) in_flight: Family<EntrypointLabels, Gauge>,
    pub(super) stage_seconds: Family<StageLabels, Histogram>,
    pub(super) plugin_calls: Family<PluginCallLabels, Counter>,
    pub(super) plugin_call_seconds: Family<PluginLabels, Histogram>,
    pub(super) version_loads: Family<LoadLabels, Counter>,
    pub(super) version_load_seconds: Family<ModelLabels, Histogram>,
    pub(super) logged: Family<LoggedLabels, Counter>,
    pub(super) plugin_swaps: Family<PluginLoadLabels, Counter>,
    pub(super) available_versions: Family<ModelLabels, Gauge>,
    pub(super) weights_bytes: Family<VersionLabels, Gauge>,
}

/// 100 µs to about 26 s.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(1e-4, 2.0, 19))
}

/// 10 ms to about 11 minutes.
fn load_durations() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 17))
}

impl Own {
    pub(super) fn new() -> Self {
        let mut root = Registry::default();
        root.register(
            "process_start_time_seconds",
            "Start of the process since the Unix epoch in seconds",
            started(),
        );
        let registry = root.sub_registry_with_prefix("ingle");
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "Always 1; which release this is", build);
        let mut names = Names(registry);
        Self {
            requests: names.counter("requests", "Requests answered"),
            request_seconds: names.seconds("request_duration", "Time to answer", durations),
            in_flight: names.gauge("requests_in_flight", "Requests that are being answered"),
            stage_seconds: names.seconds(
                "stage_duration",
                "Time of a request in one stage of its life",
                durations,
            ),
            plugin_calls: names.counter("plugin_calls", "Calls of a plugin"),
            plugin_call_seconds: names.seconds(
                "plugin_call_duration",
                "Time in a plugin",
                durations,
            ),
            version_loads: names.counter("version_loads", "Loads of a model version"),
            version_load_seconds: names.seconds(
                "version_load_duration",
                "Time of a load that succeeded",
                load_durations,
            ),
            logged: names.counter("logged_requests", "Requests chosen for the log of requests"),
            plugin_swaps: names.counter("plugin_swaps", "Attempts to put a plugin version to use"),
            available_versions: names.gauge("available_versions", "Versions that can answer"),
            weights_bytes: {
                let family = Family::default();
                let help = "Weights of a version that can answer";
                names.0.register_with_unit("version_weights", help, Unit::Bytes, family.clone());
                family
            },
            registry: root,
        }
    }

    pub(super) fn write(&self, text: &mut String) {
        let mut openmetrics = String::new();
        // Writing to a `String` does not fail.
        let _ = encode(&mut openmetrics, &self.registry);
        classic(text, &openmetrics);
    }
}

fn started() -> Gauge<f64, AtomicU64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(now.as_secs_f64());
    gauge
}

/// Registers what it makes.
struct Names<'a>(&'a mut Registry);

/// Label sets that can be written.
trait Labels:
    Clone + std::fmt::Debug + std::hash::Hash + Eq + EncodeLabelSet + Send + Sync + 'static
{
}

impl<L> Labels for L where
    L: Clone + std::fmt::Debug + std::hash::Hash + Eq + EncodeLabelSet + Send + Sync + 'static
{
}

impl Names<'_> {
    fn counter<L: Labels>(&mut self, name: &str, help: &str) -> Family<L, Counter> {
        let family = Family::default();
        self.0.register(name, help, family.clone());
        family
    }

    fn gauge<L: Labels>(&mut self, name: &str, help: &str) -> Family<L, Gauge> {
        let family = Family::default();
        self.0.register(name, help, family.clone());
        family
    }

    fn seconds<L: Labels>(
        &mut self,
        name: &str,
        help: &str,
        new: fn() -> Histogram,
    ) -> Family<L, Histogram> {
        let family = Family::new_with_constructor(new);
        self.0.register_with_unit(name, help, Unit::Seconds, family.clone());
        family
    }
}
