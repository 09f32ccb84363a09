//! Which requests are recorded, and as what.

use std::sync::{Arc, Mutex};

use ingle_types::Limits;
use prost::Message as _;

use super::grpc::{one, predict, spec};
use super::server::{Server, wire};
use super::stub::Stubs;
use crate::proto::tensorflow::serving as pb;
use crate::proto::tensorflow::{Example, Feature, Features, FloatList, feature};
use crate::{Record, RequestLog};
use pb::prediction_log::LogType;

/// Chooses all requests of `float`.
#[derive(Default)]
struct Kept(Mutex<Vec<(String, pb::PredictionLog)>>);

impl RequestLog for Kept {
    fn choose(&self, model: &str) -> Option<f64> {
        (model == "float").then_some(0.5)
    }

    fn take(&self, model: &str, record: Record) {
        let log = pb::PredictionLog::decode(record.bytes()).unwrap();
        self.0.lock().unwrap().push((model.to_owned(), log));
    }
}

impl Kept {
    fn only(&self) -> LogType {
        let mut kept = std::mem::take(&mut *self.0.lock().unwrap());
        assert_eq!(kept.len(), 1);
        let (model, log) = kept.remove(0);
        assert_eq!(model, "float");
        let metadata = log.log_metadata.unwrap();
        assert_eq!(metadata.model_spec, answered());
        assert_eq!(metadata.sampling_config.unwrap().sampling_rate, 0.5);
        assert!(metadata.timestamp_secs > 1_700_000_000);
        log.log_type.unwrap()
    }
}

fn answered() -> Option<pb::ModelSpec> {
    let version_choice = Some(pb::model_spec::VersionChoice::Version(1));
    let signature_name = "serving_default".to_owned();
    Some(pb::ModelSpec { version_choice, signature_name, ..spec("float") })
}

fn input(values: &[f32]) -> Option<pb::Input> {
    let kind = Some(feature::Kind::FloatList(FloatList { value: values.to_vec() }));
    let feature = [("x".to_owned(), Feature { kind })].into();
    let examples = vec![Example { features: Some(Features { feature }) }];
    Some(pb::Input { kind: Some(pb::input::Kind::ExampleList(pb::ExampleList { examples })) })
}

#[tokio::test]
async fn what_was_answered_is_recorded_as_it_was_on_the_wire() {
    let kept = Arc::new(Kept::default());
    let wire = wire(Stubs::echoes(), Limits::default()).with_request_log(kept.clone());
    let server = Server::of(wire).await;
    let (mut grpc, mut http) = (server.predictions().await, server.http().await);

    let request = predict(spec("float"), &[("x", one(&[1.0, 2.0]))]);
    let response = grpc.predict(request.clone()).await.unwrap().into_inner();
    let recorded = pb::PredictLog { request: Some(request), response: Some(response) };
    assert_eq!(kept.only(), LogType::PredictLog(recorded));

    let request =
        pb::ClassificationRequest { model_spec: Some(spec("float")), input: input(&[0.5]) };
    let response = grpc.classify(request.clone()).await.unwrap().into_inner();
    let classify = pb::ClassifyLog { request: Some(request), response: Some(response) };
    assert_eq!(kept.only(), LogType::ClassifyLog(classify.clone()));

    let request = pb::RegressionRequest { model_spec: Some(spec("float")), input: input(&[0.5]) };
    let response = grpc.regress(request.clone()).await.unwrap().into_inner();
    let regress = pb::RegressLog { request: Some(request), response: Some(response) };
    assert_eq!(kept.only(), LogType::RegressLog(regress.clone()));

    let task = pb::InferenceTask {
        model_spec: Some(spec("float")),
        method_name: "tensorflow/serving/regress".into(),
    };
    let request = pb::MultiInferenceRequest { tasks: vec![task], input: input(&[0.5]) };
    let response = grpc.multi_inference(request.clone()).await.unwrap().into_inner();
    let multi = pb::MultiInferenceLog { request: Some(request), response: Some(response) };
    assert_eq!(kept.only(), LogType::MultiInferenceLog(multi));

    assert_eq!(http.predict("float", "{\"instances\":[1, 2]}").await.status, 200);
    let LogType::PredictLog(log) = kept.only() else { panic!("no Predict") };
    let (request, response) = (log.request.unwrap(), log.response.unwrap());
    assert_eq!((&request.model_spec, &response.model_spec), (&answered(), &answered()));
    assert_eq!(request.inputs["x"].float_val, [1.0, 2.0]);
    assert_eq!(response.outputs, request.inputs);

    let body = b"{\"examples\":[{\"x\":0.5}]}";
    assert_eq!(http.request("POST", "/v1/models/float:classify", body).await.status, 200);
    let mut expected = classify;
    expected.request.as_mut().unwrap().model_spec = answered();
    assert_eq!(kept.only(), LogType::ClassifyLog(expected));
    assert_eq!(http.request("POST", "/v1/models/float:regress", body).await.status, 200);
    let mut expected = regress;
    expected.request.as_mut().unwrap().model_spec = answered();
    assert_eq!(kept.only(), LogType::RegressLog(expected));
    let body = b"{\"examples\":[{\"x\":0.5}],\"context\":{\"a\":1}}";
    assert_eq!(http.request("POST", "/v1/models/float:regress", body).await.status, 200);
    let LogType::RegressLog(log) = kept.only() else { panic!("no Regress") };
    let kind = log.request.unwrap().input.unwrap().kind;
    assert!(
        matches!(kind, Some(pb::input::Kind::ExampleListWithContext(list)) if list.context.is_some())
    );
}

#[tokio::test]
async fn failures_and_other_models_are_not_recorded() {
    let kept = Arc::new(Kept::default());
    let wire = wire(Stubs::echoes(), Limits::default()).with_request_log(kept.clone());
    let server = Server::of(wire).await;
    let (mut grpc, mut http) = (server.predictions().await, server.http().await);
    grpc.predict(predict(spec("float"), &[("wrong", one(&[1.0]))])).await.unwrap_err();
    grpc.predict(predict(spec("nobody"), &[("x", one(&[1.0]))])).await.unwrap_err();
    assert_eq!(http.predict("float", "{\"instances\":[\"a\"]}").await.status, 400);
    assert_eq!(http.predict("double", "{\"instances\":[1]}").await.status, 200);
    assert_eq!(http.get("/v1/models/float").await.status, 200);
    assert_eq!(http.get("/v1/models/float/metadata").await.status, 200);
    assert!(kept.0.lock().unwrap().is_empty());
}
