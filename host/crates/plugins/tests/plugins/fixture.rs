use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ingle_plugins::{
    CallContext, InitOptions, PluginError, PluginHost, PluginHostConfig, Postprocessor,
    Preprocessor,
};
use ingle_telemetry::Metrics;
use ingle_types::{Deadline, Limits, Tensor, TensorMap};

use crate::guests;

const MIB: usize = 1024 * 1024;

/// Small enough to be reached quickly, but for time: a slow machine must not fail a test.
pub(crate) fn limits() -> Limits {
    Limits {
        plugin_memory_bytes: 16 * MIB,
        plugin_output_bytes: MIB,
        plugin_call_timeout: Duration::from_secs(30),
        ..Limits::default()
    }
}

pub(crate) fn impatient() -> Limits {
    Limits { plugin_call_timeout: Duration::from_millis(10), ..limits() }
}

pub(crate) fn host_with(limits: Limits, cache_dir: Option<&Path>, calls: usize) -> PluginHost {
    PluginHost::new(PluginHostConfig {
        limits: Arc::new(limits),
        cache_dir: cache_dir.map(Path::to_owned),
        max_concurrent_calls: calls,
        metrics: Metrics::new(),
    })
    .unwrap()
}

pub(crate) fn host(limits: Limits) -> PluginHost {
    host_with(limits, None, 2)
}

pub(crate) fn preprocessor(host: &PluginHost, guest: &str) -> Result<Preprocessor, PluginError> {
    let plugin = host.compile(guest, Some(7), &guests::preprocessor(guest))?;
    plugin.preprocessor(InitOptions { config: "{}".into(), ..InitOptions::default() })
}

pub(crate) fn postprocessor(host: &PluginHost, guest: &str) -> Result<Postprocessor, PluginError> {
    let plugin = host.compile(guest, Some(7), &guests::postprocessor(guest))?;
    plugin.postprocessor(InitOptions { config: "{}".into(), ..InitOptions::default() })
}

pub(crate) fn context() -> CallContext {
    CallContext {
        request_id: "r1".into(),
        model: "m".into(),
        version: 3,
        signature: "serving_default".into(),
        deadline: Deadline::NONE,
    }
}

pub(crate) fn floats(values: &[f32]) -> Tensor {
    Tensor::from_slice(&[values.len()], values).unwrap()
}

pub(crate) fn tensors(tensors: &[(&str, Tensor)]) -> TensorMap {
    tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect()
}

pub(crate) fn x(values: &[f32]) -> TensorMap {
    tensors(&[("x", floats(values))])
}

/// The values of "x" in the one example of an answer.
pub(crate) fn answer(preprocessor: &Preprocessor, inputs: &TensorMap) -> Vec<f32> {
    let prepared = preprocessor.process(&context(), inputs).unwrap();
    assert_eq!(prepared.examples.len(), 1);
    prepared.examples[0]["x"].as_slice::<f32>().unwrap().into_owned()
}
