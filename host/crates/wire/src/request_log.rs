//! Requests that were answered, as records of `tensorflow.serving.PredictionLog`: what
//! TensorFlow Serving's `logging_config` asks for.

mod json;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ingle_types::{Tensor, TensorMap};
use prost::Message as _;

use crate::call::Call;
use crate::inference::Examples;
use crate::proto::tensorflow::TensorProto;
use crate::proto::tensorflow::serving as pb;
use crate::tensor_proto;

pub use json::JsonError;

/// Whoever keeps records.
pub trait RequestLog: Send + Sync + 'static {
    /// Decides whether a request of this model is recorded. Returns the share of its
    /// requests that are, if so.
    fn choose(&self, model: &str) -> Option<f64>;

    /// Takes a record of a model's request. Never waits and never fails: what there is no
    /// place for is dropped and counted.
    fn take(&self, model: &str, record: Record);
}

/// A request and its answer. The message that is written is made where it is written, not
/// where the request waits.
#[derive(Clone, Debug)]
pub struct Record(Content);

#[derive(Clone, Debug)]
enum Content {
    Log(Bytes),
    /// As gRPC has them.
    Messages {
        metadata: pb::LogMetadata,
        kind: Kind,
        exchange: Exchange,
    },
    /// A Predict that came as text.
    Tensors {
        metadata: pb::LogMetadata,
        inputs: TensorMap,
        outputs: Arc<TensorMap>,
    },
}

/// A `PredictionLog` that is serialized already.
impl From<Vec<u8>> for Record {
    fn from(log: Vec<u8>) -> Self {
        Self(Content::Log(log.into()))
    }
}

impl Record {
    /// About what it takes in memory.
    pub fn size_bytes(&self) -> usize {
        match &self.0 {
            Content::Log(log) => log.len(),
            Content::Messages { exchange, .. } => exchange.request.len() + exchange.response.len(),
            Content::Tensors { inputs, outputs, .. } => {
                inputs.values().chain(outputs.values()).map(Tensor::size_bytes).sum()
            }
        }
    }

    /// The serialized `PredictionLog`.
    pub fn bytes(&self) -> Bytes {
        match &self.0 {
            Content::Log(log) => log.clone(),
            Content::Messages { metadata, kind, exchange } => {
                log(metadata.clone(), *kind, exchange.clone())
            }
            Content::Tensors { metadata, inputs, outputs } => {
                let model_spec = metadata.model_spec.clone();
                let request = pb::PredictRequest {
                    model_spec: model_spec.clone(),
                    inputs: messages(inputs),
                    ..pb::PredictRequest::default()
                };
                let response = pb::PredictResponse { model_spec, outputs: messages(outputs) };
                let (request, response) = (request.encode_to_vec(), response.encode_to_vec());
                let exchange = Exchange { request: request.into(), response: response.into() };
                log(metadata.clone(), Kind::Predict, exchange)
            }
        }
    }

    /// The message in protobuf's JSON with the fields' own names, on one line, tensors in
    /// the fields of their dtypes.
    ///
    /// # Errors
    /// Where it is no such message.
    pub fn json(&self) -> Result<Vec<u8>, JsonError> {
        json::print(self.bytes())
    }
}

fn messages(tensors: &TensorMap) -> BTreeMap<String, TensorProto> {
    let message = |(name, tensor): (&String, _)| (name.clone(), tensor_proto::encode(tensor));
    tensors.iter().map(message).collect()
}

fn log(metadata: pb::LogMetadata, kind: Kind, exchange: Exchange) -> Bytes {
    let mut log = Log { log_metadata: Some(metadata), ..Log::default() };
    let exchange = Some(exchange);
    match kind {
        Kind::Classify => log.classify = exchange,
        Kind::Regress => log.regress = exchange,
        Kind::MultiInference => log.multi_inference = exchange,
        Kind::Predict => log.predict = exchange,
    }
    log.encode_to_vec().into()
}

/// The member of `PredictionLog.log_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Classify,
    Regress,
    MultiInference,
    Predict,
}

/// A request that is to be recorded once it was answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Chosen {
    pub(crate) sampling_rate: f64,
}

/// A request and its answer, both still serialized.
#[derive(Clone, PartialEq, prost::Message)]
struct Exchange {
    #[prost(bytes = "bytes", tag = "1")]
    request: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    response: Bytes,
}

/// Two messages in the fields 1 and 2 of another.
#[derive(Clone, PartialEq, prost::Message)]
struct Pair {
    #[prost(bytes = "bytes", tag = "1")]
    first: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    second: Bytes,
}

/// `PredictionLog`, whose messages are not read again to be written.
#[derive(Clone, PartialEq, prost::Message)]
struct Log {
    #[prost(message, optional, tag = "1")]
    log_metadata: Option<pb::LogMetadata>,
    #[prost(message, optional, tag = "2")]
    classify: Option<Exchange>,
    #[prost(message, optional, tag = "3")]
    regress: Option<Exchange>,
    #[prost(message, optional, tag = "4")]
    multi_inference: Option<Exchange>,
    #[prost(message, optional, tag = "6")]
    predict: Option<Exchange>,
}

impl Call {
    /// Records a request that was answered, both as they are on gRPC's wire.
    pub(crate) fn record(&self, chosen: Chosen, kind: Kind, request: Bytes, response: Bytes) {
        let exchange = Exchange { request, response };
        self.keep(chosen, |metadata| Content::Messages { metadata, kind, exchange });
    }

    /// Records a Predict that came as text, as gRPC would have it.
    pub(crate) fn record_predict(
        &self,
        chosen: Chosen,
        inputs: TensorMap,
        outputs: Arc<TensorMap>,
    ) {
        self.keep(chosen, |metadata| Content::Tensors { metadata, inputs, outputs });
    }

    /// Records a Classify or Regress that came as text, as gRPC would have it. `result` is
    /// the serialized `ClassificationResult` or `RegressionResult`.
    pub(crate) fn record_examples(
        &self,
        chosen: Chosen,
        kind: Kind,
        examples: &Examples,
        result: Vec<u8>,
    ) {
        let spec: Bytes = self.answered_by().encode_to_vec().into();
        // Both kinds of requests, and of answers, have the same fields.
        let request = Pair { first: spec.clone(), second: examples.input() };
        let response = Pair { first: result.into(), second: spec };
        let (request, response) = (request.encode_to_vec(), response.encode_to_vec());
        self.record(chosen, kind, request.into(), response.into());
    }

    fn keep(&self, chosen: Chosen, content: impl FnOnce(pb::LogMetadata) -> Content) {
        let Some(log) = self.request_log() else { return };
        let spec = self.answered_by();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sampling_rate = chosen.sampling_rate;
        let sampling = pb::SamplingConfig { sampling_rate, ..pb::SamplingConfig::default() };
        let metadata = pb::LogMetadata {
            model_spec: Some(spec.clone()),
            sampling_config: Some(sampling),
            timestamp_secs: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            ..pb::LogMetadata::default()
        };
        log.take(&spec.name, Record(content(metadata)));
    }
}
