mod cells;
mod classic;
mod own;
mod requests;
mod tensorflow;

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use ingle_types::{Code, Stage, Version};

pub use requests::{Finished, InFlight, RequestKind, StageTimes};

use own::{
    EntrypointLabels, LoadLabels, LoggedLabels, ModelLabels, Own, PluginCallLabels, PluginLabels,
    PluginLoadLabels, VersionLabels,
};
use requests::{Key, Series};
use tensorflow::TensorFlow;

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

/// A load of a model version that ended.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    pub model: &'a str,
    /// The version's folder, TensorFlow's label of loads.
    pub path: &'a str,
    pub outcome: LoadOutcome,
    pub elapsed: Duration,
}

/// Every metric of the server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    own: Own,
    tensorflow: TensorFlow,
    /// What requests of one kind count in, so that a request looks up once.
    requests: RwLock<HashMap<Key, Arc<Series>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            own: Own::new(),
            tensorflow: TensorFlow::new(),
            requests: RwLock::default(),
        }))
    }

    /// A request that has begun, by gRPC or REST, and lasts until what is returned is dropped.
    pub fn begin(&self, entrypoint: &'static str) -> InFlight {
        InFlight::new(self.0.own.in_flight.get_or_create_owned(&EntrypointLabels { entrypoint }))
    }

    /// The examples of a request of Classify and its like.
    pub fn examples(&self, model: &str, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.0.tensorflow.examples_total.add([model], count);
        self.0.tensorflow.examples.cell([model]).observe(count as f64);
    }

    /// One call of a plugin.
    pub fn plugin_call(&self, plugin: &str, stage: Stage, code: Option<Code>, elapsed: Duration) {
        let (own, stage) = (&self.0.own, stage.name());
        let labels = PluginCallLabels { plugin: plugin.into(), stage, code: code_name(code) };
        own.plugin_calls.get_or_create(&labels).inc();
        let labels = PluginLabels { plugin: plugin.into(), stage };
        own.plugin_call_seconds.get_or_create(&labels).observe(elapsed.as_secs_f64());
    }

    /// One attempt to load a model version.
    pub fn version_load(&self, load: Load<'_>) {
        let Inner { own, tensorflow, .. } = &*self.0;
        let model = load.model.to_owned();
        let labels = LoadLabels { model: model.clone(), outcome: load.outcome.name() };
        own.version_loads.get_or_create(&labels).inc();
        let status = match load.outcome {
            LoadOutcome::Ok => "success",
            LoadOutcome::Error => "fail",
        };
        tensorflow.load_attempts.add([load.path, status], 1);
        if load.outcome == LoadOutcome::Ok {
            let seconds = load.elapsed.as_secs_f64();
            own.version_load_seconds.get_or_create(&ModelLabels { model }).observe(seconds);
            let micros = u64::try_from(load.elapsed.as_micros()).unwrap_or(u64::MAX);
            tensorflow.load_latency.add([load.path], micros);
        }
    }

    /// The warm-up file of the version at `path` was replayed, or failed.
    pub fn warm_up(&self, path: &str, code: Option<Code>, elapsed: Duration) {
        let status = code_name(code);
        self.0.tensorflow.warm_up_latency.cell([path, status]).observe(micros(elapsed));
    }

    /// Records of the warm-up file of the version at `path` were read.
    pub fn warm_up_records(&self, path: &str, code: Option<Code>, count: u64) {
        self.0.tensorflow.warm_up_records.add([path, code_name(code)], count);
    }

    /// A request that was chosen for the log of requests; `code` says why it is not there.
    pub fn logged(&self, model: &str, code: Option<Code>) {
        let code = code_name(code);
        self.0.tensorflow.logged.add([model, code], 1);
        let labels = LoggedLabels { model: model.into(), code };
        self.0.own.logged.get_or_create(&labels).inc();
    }

    /// One attempt to put another plugin version to use.
    pub fn plugin_swap(&self, plugin: &str, outcome: LoadOutcome) {
        let labels = PluginLoadLabels { plugin: plugin.into(), outcome: outcome.name() };
        self.0.own.plugin_swaps.get_or_create(&labels).inc();
    }

    /// How many versions of a model can answer.
    pub fn available_versions(&self, model: &str, count: usize) {
        let labels = ModelLabels { model: model.into() };
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.0.own.available_versions.get_or_create(&labels).set(count);
    }

    /// What the weights of a version take; `None` once it is unloaded.
    pub fn weights_bytes(&self, model: &str, version: Version, bytes: Option<usize>) {
        let labels = VersionLabels { model: model.into(), version };
        let family = &self.0.own.weights_bytes;
        match bytes {
            Some(bytes) => {
                let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                family.get_or_create(&labels).set(bytes);
            }
            None => {
                family.remove(&labels);
            }
        }
    }

    /// What a counter of TensorFlow Serving stands at, by the name that its own calls use,
    /// `/tensorflow/serving/request_count`; `None` where there is no such counter.
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.0.tensorflow.total(name)
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        self.0.tensorflow.write(&mut text);
        self.0.own.write(&mut text);
        text
    }
}

fn code_name(code: Option<Code>) -> &'static str {
    code.map_or("OK", Code::name)
}

fn micros(elapsed: Duration) -> f64 {
    elapsed.as_nanos() as f64 / 1e3
}

#[cfg(test)]
mod tests;
