//! What requests are counted in.

use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use ingle_types::{Code, Stage, Version};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::own::{OutcomeLabels, RequestLabels, StageLabels};
use super::tensorflow::{RequestCells, counts};
use super::{Metrics, code_name, micros};

/// Kinds of requests. What comes after is counted without a version and a signature, so
/// that versions which come and go for years make no memory without end.
const MOST_KINDS: usize = 4096;

/// Which requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestKind<'a> {
    /// Empty where the name is not one of ours, so that clients cannot make series.
    pub model: &'a str,
    /// The version that answered.
    pub version: Option<Version>,
    /// Empty where it is not known.
    pub signature: &'a str,
    /// The call's name: `Predict`.
    pub api: &'static str,
    /// `GRPC` or `REST`.
    pub entrypoint: &'static str,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finished {
    /// `None` for success.
    pub code: Option<Code>,
    pub elapsed: Duration,
    /// From its beginning until the model was asked.
    pub decode: Option<Duration>,
    /// In the model, plugins and the wait for both included.
    pub run: Option<Duration>,
    /// From the model's answer to the end.
    pub encode: Option<Duration>,
}

/// Counts a request as one that is being answered, until it is dropped.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl InFlight {
    pub(super) fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    model: String,
    version: Option<Version>,
    signature: String,
    api: &'static str,
    entrypoint: &'static str,
}

impl Key {
    fn new(kind: &RequestKind<'_>) -> Self {
        Self {
            model: kind.model.to_owned(),
            version: kind.version,
            signature: kind.signature.to_owned(),
            api: kind.api,
            entrypoint: kind.entrypoint,
        }
    }
}

/// What requests of one kind are counted in.
#[derive(Debug)]
pub(super) struct Series {
    labels: RequestLabels,
    ok: OnceLock<Counter>,
    seconds: Histogram,
    stages: StageTimes,
    tensorflow: OnceLock<RequestCells>,
}

impl Metrics {
    /// One request that ended.
    pub fn request(&self, kind: &RequestKind<'_>, finished: &Finished) {
        let series = self.series(kind);
        let (own, tensorflow) = (&self.0.own, &self.0.tensorflow);
        series.seconds.observe(finished.elapsed.as_secs_f64());
        series.stages.observe(Stage::Decode, finished.decode);
        series.stages.observe(Stage::Encode, finished.encode);
        if let Some(code) = finished.code {
            own.requests.get_or_create(&series.outcome(Some(code))).inc();
            if counts(kind.api, kind.entrypoint) {
                tensorflow.requests.add([kind.model, code.name()], 1);
            }
            return;
        }
        series.ok.get_or_init(|| own.requests.get_or_create_owned(&series.outcome(None))).inc();
        let new = || RequestCells::new(tensorflow, kind.model, kind.api, kind.entrypoint);
        let cells = series.tensorflow.get_or_init(new);
        if let Some(count) = &cells.count {
            count.add(1);
        }
        if let Some(latency) = &cells.latency {
            latency.observe(micros(finished.elapsed));
        }
        if let (Some(runtime), Some(run)) = (&cells.runtime, finished.run) {
            runtime.observe(micros(run));
        }
    }

    /// Where the stages of one signature's requests count their times.
    pub fn stages(&self, model: &str, version: Version, signature: &str) -> StageTimes {
        StageTimes::new(self, [model, &version.to_string(), signature])
    }

    fn series(&self, kind: &RequestKind<'_>) -> Arc<Series> {
        let mut key = Key::new(kind);
        let requests = &self.0.requests;
        // A panic elsewhere leaves the table whole.
        if let Some(series) = requests.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return series.clone();
        }
        let mut requests = requests.write().unwrap_or_else(PoisonError::into_inner);
        if requests.len() >= MOST_KINDS && !requests.contains_key(&key) {
            (key.version, key.signature) = (None, String::new());
            if requests.len() >= 2 * MOST_KINDS {
                key.model = String::new();
            }
        }
        requests.entry(key.clone()).or_insert_with(|| Arc::new(self.new_series(key))).clone()
    }

    fn new_series(&self, key: Key) -> Series {
        let version = key.version.map_or_else(String::new, |version| version.to_string());
        let stages = StageTimes::new(self, [&key.model, &version, &key.signature]);
        let labels = RequestLabels {
            model: key.model,
            version,
            signature: key.signature,
            api: key.api,
            entrypoint: key.entrypoint,
        };
        Series {
            seconds: self.0.own.request_seconds.get_or_create_owned(&labels),
            labels,
            ok: OnceLock::new(),
            stages,
            tensorflow: OnceLock::new(),
        }
    }
}

impl Series {
    fn outcome(&self, code: Option<Code>) -> OutcomeLabels {
        OutcomeLabels { request: self.labels.clone(), code: code_name(code) }
    }
}

/// The times of the stages of one signature's requests. A stage that never counts has no
/// series.
#[derive(Clone, Debug)]
pub struct StageTimes {
    all: Family<StageLabels, Histogram>,
    labels: [String; 3],
    /// By [`Stage`], in its order.
    times: [OnceLock<Histogram>; 7],
}

impl StageTimes {
    fn new(metrics: &Metrics, labels: [&str; 3]) -> Self {
        let times = Default::default();
        let all = metrics.0.own.stage_seconds.clone();
        Self { all, labels: labels.map(str::to_owned), times }
    }

    pub fn observe(&self, stage: Stage, elapsed: Option<Duration>) {
        let Some(elapsed) = elapsed else { return };
        let new = || {
            let [model, version, signature] = self.labels.clone();
            let labels = StageLabels { model, version, signature, stage: stage.name() };
            self.all.get_or_create_owned(&labels)
        };
        if let Some(time) = self.times.get(stage as usize) {
            time.get_or_init(new).observe(elapsed.as_secs_f64());
        }
    }
}
