//! Clients of both protocols, as small as tests need them.

use std::net::SocketAddr;
use std::time::Duration;

use ingle_wire::proto::tensorflow::serving::prediction_service_client::PredictionServiceClient;
use ingle_wire::proto::tensorflow::serving::{ModelSpec, PredictRequest, PredictResponse};
use ingle_wire::proto::tensorflow::{DataType, TensorProto, TensorShapeProto, tensor_shape_proto};
use serde_json::Value;
use tonic::transport::Channel;

pub async fn grpc(address: SocketAddr) -> PredictionServiceClient<Channel> {
    PredictionServiceClient::connect(format!("http://{address}")).await.unwrap()
}

pub fn floats(dims: &[i64], values: &[f32]) -> TensorProto {
    let dim = dims.iter().map(|d| tensor_shape_proto::Dim { size: *d, ..Default::default() });
    TensorProto {
        dtype: DataType::DtFloat.into(),
        tensor_shape: Some(TensorShapeProto { dim: dim.collect(), unknown_rank: false }),
        float_val: values.to_vec(),
        ..Default::default()
    }
}

pub fn request(model: &str, signature: &str, input: &str, tensor: TensorProto) -> PredictRequest {
    let spec =
        ModelSpec { name: model.into(), signature_name: signature.into(), ..Default::default() };
    PredictRequest {
        model_spec: Some(spec),
        inputs: [(input.to_owned(), tensor)].into(),
        ..Default::default()
    }
}

/// The version that answered, and an output's values.
pub fn answer(response: &PredictResponse, output: &str) -> (i64, Vec<f32>) {
    let version = response.model_spec.as_ref().unwrap().version_choice.as_ref().unwrap();
    let ingle_wire::proto::tensorflow::serving::model_spec::VersionChoice::Version(version) =
        version
    else {
        panic!("an answer names its version")
    };
    (version_number(version), response.outputs[output].float_val.clone())
}

fn version_number(version: &i64) -> i64 {
    *version
}

/// A REST client that keeps its connection.
pub struct Rest {
    agent: ureq::Agent,
    base: String,
}

impl Rest {
    pub fn new(address: SocketAddr) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build();
        Self { agent: config.into(), base: format!("http://{address}") }
    }

    /// The status and the body's text.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut response = self.agent.get(format!("{}{path}", self.base)).call().unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }

    pub fn post(&self, path: &str, body: &str) -> (u16, String) {
        let mut response = self.agent.post(format!("{}{path}", self.base)).send(body).unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }

    pub fn json(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.post(path, &body.to_string());
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}
