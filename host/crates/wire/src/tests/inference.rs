//! Classify, Regress and MultiInference over gRPC.

use std::sync::Arc;

use ingle_types::{Code, DType, Dim, Limits, Shape, Tensor, TensorMap, TensorSpec};
use prost::Message as _;
use tokio::sync::Semaphore;

use super::grpc::spec;
use super::peer::{Peer, framed};
use super::server::Server;
use super::stub::{Act, Stub, Stubs};
use crate::proto::tensorflow::serving as pb;
use crate::proto::tensorflow::{Example, Feature, Features, FloatList, feature};
use pb::inference_result::Result as Answer;
use pb::input::Kind;
use pb::model_spec::VersionChoice;

const CLASSIFY: &str = "/tensorflow.serving.PredictionService/Classify";
const REGRESS: &str = "/tensorflow.serving.PredictionService/Regress";
const MULTI: &str = "/tensorflow.serving.PredictionService/MultiInference";

fn example(name: &str, values: &[f32]) -> Example {
    let kind = Some(feature::Kind::FloatList(FloatList { value: values.to_vec() }));
    let feature = [(name.to_owned(), Feature { kind })].into();
    Example { features: Some(Features { feature }) }
}

fn input(rows: &[&[f32]]) -> Option<pb::Input> {
    let examples = rows.iter().map(|row| example("x", row)).collect();
    Some(pb::Input { kind: Some(Kind::ExampleList(pb::ExampleList { examples })) })
}

fn classification(model_spec: pb::ModelSpec, rows: &[&[f32]]) -> pb::ClassificationRequest {
    pb::ClassificationRequest { model_spec: Some(model_spec), input: input(rows) }
}

fn regression(model_spec: pb::ModelSpec, rows: &[&[f32]]) -> pb::RegressionRequest {
    pb::RegressionRequest { model_spec: Some(model_spec), input: input(rows) }
}

fn named(model: &str, signature: &str) -> pb::ModelSpec {
    pb::ModelSpec { signature_name: signature.into(), ..spec(model) }
}

fn answered(model: &str, signature: &str) -> Option<pb::ModelSpec> {
    let version_choice = Some(VersionChoice::Version(1));
    Some(pb::ModelSpec { version_choice, ..named(model, signature) })
}

fn classes(result: &pb::ClassificationResult) -> Vec<Vec<(&str, f32)>> {
    let rows = result.classifications.iter();
    rows.map(|row| row.classes.iter().map(|c| (c.label.as_str(), c.score)).collect()).collect()
}

fn values(result: &pb::RegressionResult) -> Vec<f32> {
    result.regressions.iter().map(|r| r.value).collect()
}

fn floats(name: &str) -> TensorSpec {
    TensorSpec::new(name, DType::F32, vec![Dim::Any, Dim::Any])
}

/// Takes one float, and says a label and two scores for two examples.
fn labelled() -> Stub {
    let shape = Shape::new([2]).unwrap();
    let labels = Tensor::blobs(shape, vec!["cat".into(), b"d\xffg".as_slice().into()]).unwrap();
    let scores = Tensor::from_slice(&[2, 2], &[0.25f32, 0.75, 0.5, 0.25]).unwrap();
    let said = TensorMap::from([("label".into(), labels), ("probabilities".into(), scores)]);
    let outputs = vec![
        TensorSpec::new("label", DType::Bytes, vec![Dim::Any]),
        TensorSpec::new("probabilities", DType::F32, vec![Dim::Any, Dim::Fixed(2)]),
    ];
    let inputs = vec![TensorSpec::new("x", DType::F32, vec![Dim::Any])];
    Stub::new("labelled", &[], Act::Say(said)).signature("serving_default", inputs, outputs)
}

#[tokio::test]
async fn examples_are_classified() {
    let server = Server::with(Stubs::echoes().with(labelled()), Limits::default()).await;
    let mut client = server.predictions().await;
    let request = classification(spec("float"), &[&[0.5, 2.0], &[-1.0, 0.0]]);
    let answer = client.classify(request).await.unwrap().into_inner();
    assert_eq!(answer.model_spec, answered("float", "serving_default"));
    let expected = [[("", 0.5), ("", 2.0)], [("", -1.0), ("", 0.0)]];
    assert_eq!(classes(&answer.result.unwrap()), expected);

    let request = classification(spec("labelled"), &[&[0.0], &[0.0]]);
    let answer = client.classify(request).await.unwrap().into_inner();
    let expected = [[("", 0.25), ("cat", 0.75)], [("d\u{fffd}g", 0.5), ("", 0.25)]];
    assert_eq!(classes(&answer.result.unwrap()), expected);
    let text = server.wire.metrics.render();
    let counted = r#"model="labelled",version="1",signature="serving_default",api="Classify",entrypoint="GRPC",code="OK"} 1"#;
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn examples_have_a_value_each() {
    let server = Server::start().await;
    let mut client = server.predictions().await;
    let request = regression(named("double", "other"), &[&[0.5], &[-1.0]]);
    let answer = client.regress(request).await.unwrap().into_inner();
    assert_eq!(answer.model_spec, answered("double", "other"));
    assert_eq!(values(&answer.result.unwrap()), [0.5, -1.0]);
}

#[tokio::test]
async fn a_context_is_part_of_every_example() {
    let server = Server::start().await;
    let mut client = server.predictions().await;
    let list = pb::ExampleListWithContext {
        examples: vec![Example::default(), example("x", &[2.0])],
        context: Some(example("x", &[1.0])),
    };
    let input = Some(pb::Input { kind: Some(Kind::ExampleListWithContext(list)) });
    let request = pb::RegressionRequest { model_spec: Some(spec("float")), input };
    let answer = client.regress(request).await.unwrap().into_inner();
    assert_eq!(values(&answer.result.unwrap()), [1.0, 2.0]);
}

fn task(model_spec: pb::ModelSpec, method: &str) -> pb::InferenceTask {
    let method_name = format!("tensorflow/serving/{method}");
    pb::InferenceTask { model_spec: Some(model_spec), method_name }
}

#[tokio::test]
async fn several_signatures_answer_for_the_same_examples() {
    let server = Server::start().await;
    let mut client = server.predictions().await;
    let tasks = vec![task(named("float", "other"), "classify"), task(spec("float"), "regress")];
    let request = pb::MultiInferenceRequest { tasks, input: input(&[&[0.5], &[2.0]]) };
    let answer = client.multi_inference(request).await.unwrap().into_inner();
    let [first, second] = answer.results.as_slice() else { panic!("{:?}", answer.results) };
    assert_eq!(first.model_spec, answered("float", "other"));
    assert_eq!(second.model_spec, answered("float", "serving_default"));
    let Some(Answer::ClassificationResult(found)) = &first.result else { panic!("{first:?}") };
    assert_eq!(classes(found), [[("", 0.5)], [("", 2.0)]]);
    let Some(Answer::RegressionResult(found)) = &second.result else { panic!("{second:?}") };
    assert_eq!(values(found), [0.5, 2.0]);
}

#[tokio::test]
async fn several_tasks_are_refused_in_tensorflow_servings_words() {
    let server =
        Server::with(Stubs::echoes(), Limits { tensors_per_request: 2, ..Limits::default() }).await;
    let mut client = server.predictions().await;
    let float = || task(spec("float"), "classify");
    let old = pb::ModelSpec { version_choice: Some(VersionChoice::Version(7)), ..spec("float") };
    let invalid = Code::InvalidArgument;
    for (tasks, code, message) in [
        (vec![], invalid, "ModelSpec has no name specified."),
        (
            vec![task(spec("nope"), "classify")],
            Code::NotFound,
            "Servable not found for request: Latest(nope)",
        ),
        (
            vec![task(old, "classify")],
            Code::NotFound,
            "Servable not found for request: Specific(float, 7)",
        ),
        (
            vec![float(), task(spec(""), "regress")],
            invalid,
            "Found ModelSpec with an empty model name.",
        ),
        (
            vec![float(), task(spec("double"), "regress")],
            invalid,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            vec![float(), task(named("float", "serving_default"), "regress")],
            invalid,
            "Duplicate evaluation of signature: serving_default",
        ),
        (
            vec![float(), task(named("float", "nope"), "regress")],
            invalid,
            "Requested signature not found in model graph: nope",
        ),
        (
            vec![float(), task(named("float", "other"), "predict")],
            Code::Unimplemented,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        (vec![float(), float(), float()], invalid, "the request has more than 2 tasks"),
    ] {
        let request = pb::MultiInferenceRequest { tasks, input: input(&[&[1.0]]) };
        let status = client.multi_inference(request).await.unwrap_err();
        assert_eq!((i32::from(status.code()), status.message()), (code.number(), message));
    }
    let request = pb::MultiInferenceRequest { tasks: vec![float()], input: input(&[]) };
    let status = client.multi_inference(request).await.unwrap_err();
    assert_eq!(status.message(), "Input is empty.");
}

#[tokio::test]
async fn requests_are_refused_in_tensorflow_servings_words() {
    let scalar = vec![TensorSpec::new("x", DType::F32, vec![Dim::Any])];
    let stub = Stub::new("m", &[], Act::Echo)
        .signature("two_scores", scalar.clone(), vec![floats("a"), floats("b")])
        .signature("no_outputs", scalar, vec![]);
    let server = Server::with(Stubs::echoes().with(stub), Limits::default()).await;
    let mut client = server.predictions().await;
    let invalid = Code::InvalidArgument;
    for (spec, rows, code, message) in [
        (spec(""), &[][..], invalid, "ModelSpec has no name specified."),
        (spec("nope"), &[], Code::NotFound, "Servable not found for request: Latest(nope)"),
        (named("float", "nope"), &[], invalid, "No signature was found with the name: nope"),
        (named("float", "none"), &[], invalid, "Expected one input Tensor."),
        (named("m", "no_outputs"), &[], invalid, "Expected one or two output Tensors, found 0"),
        (
            named("m", "two_scores"),
            &[],
            Code::FailedPrecondition,
            "Expected classification signature outputs to contain at least one of \"classes\" or \"scores\".",
        ),
        (spec("float"), &[], invalid, "Input is empty."),
        (
            spec("two"),
            &[&[1.0][..]],
            invalid,
            "Name: <unknown>, Feature: a (data type: float) is required but could not be found.",
        ),
        (
            spec("string"),
            &[&[1.0]],
            invalid,
            "Name: <unknown>, Key: x, Index: 0.  Data types don't match. Data type: float but expected type: string",
        ),
        (
            spec("float"),
            &[&[1.0], &[1.0, 2.0]],
            invalid,
            "Name: <unknown>, Key: x, Index: 1.  Number of float values != expected.  Values size: 2 but output shape: [1]",
        ),
    ] {
        let status = client.classify(classification(spec, rows)).await.unwrap_err();
        assert_eq!(i32::from(status.code()), code.number(), "{status}");
        assert!(status.message().starts_with(message), "{status}");
    }
    let status = client.classify(pb::ClassificationRequest::default()).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::InvalidArgument, "Missing ModelSpec")
    );
    for (spec, message) in [
        (named("m", "two_scores"), "Expected one output Tensor."),
        (named("float", "nope"), "No signature was found with the name: nope"),
        (
            spec("float"),
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1]",
        ),
    ] {
        let status = client.regress(regression(spec, &[&[1.0, 2.0]])).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().starts_with(message), "{status}");
    }
}

#[tokio::test]
async fn messages_that_are_none_cost_only_themselves() {
    let server = Server::start().await;
    let mut peer = Peer::connect(&server).await;
    let spec = spec("float").encode_to_vec();
    let head = [&[0x0a, u8::try_from(spec.len()).unwrap()][..], &spec].concat();
    let after = |bytes: &[u8]| [&head[..], bytes].concat();
    let invalid = Some(Code::InvalidArgument.number());
    for message in [
        vec![],
        vec![0xff; 16],
        vec![0x0a, 9],
        vec![0x0a, 1, 0xff],
        head.clone(),
        after(&[0x12, 9]),
        after(&[0x12, 2, 0x0a, 9]),
        after(&[0x12, 4, 0x0a, 2, 0x0a, 9]),
        after(&[0x12, 6, 0x0a, 4, 0x0a, 2, 0x0a, 9]),
        after(&[0x12, 4, 0x12, 2, 0x12, 0]),
    ] {
        for path in [CLASSIFY, REGRESS, MULTI] {
            let code = peer.send(path, &[], framed(0, &message)).await;
            assert_eq!(code, invalid, "{path} {message:?}");
        }
    }
    let good = classification(super::grpc::spec("float"), &[&[1.0]]).encode_to_vec();
    assert_eq!(peer.send(CLASSIFY, &[], framed(0, &good)).await, Some(0));
}

#[tokio::test]
async fn examples_stay_within_the_limits_of_a_request() {
    let limits = Limits { request_bytes: 1000, ..Limits::default() };
    let server = Server::with(Stubs::echoes(), limits).await;
    let mut client = server.predictions().await;
    // Two bytes each on the wire.
    let many = vec![Example::default(); 100];
    let input =
        Some(pb::Input { kind: Some(Kind::ExampleList(pb::ExampleList { examples: many })) });
    let request = pb::ClassificationRequest { model_spec: Some(spec("float")), input };
    let status = client.classify(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
    // Small as a message, but not with the context in each.
    let list = pb::ExampleListWithContext {
        examples: vec![Example::default(); 10],
        context: Some(example("x", &[1.0; 100])),
    };
    let input = Some(pb::Input { kind: Some(Kind::ExampleListWithContext(list)) });
    let request = pb::RegressionRequest { model_spec: Some(spec("float")), input };
    let status = client.regress(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
    let request = regression(spec("float"), &[&[0.0; 300]]);
    let status = client.regress(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
    assert!(client.regress(regression(spec("float"), &[&[1.0]])).await.is_ok());
}

#[tokio::test]
async fn the_callers_deadline_counts_and_a_failure_keeps_its_code() {
    let (entered, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let x = [("x", DType::F32)];
    let stubs = Stubs::default()
        .with(Stub::new("slow", &x, Act::Wait { entered, go }))
        .with(Stub::new("busy", &x, Act::Fail(Code::Unavailable)))
        .with(Stub::new("nothing", &x, Act::Say(TensorMap::new())));
    let server = Server::with(stubs, Limits::default()).await;
    let message = framed(0, &regression(spec("slow"), &[&[1.0]]).encode_to_vec());
    let mut peer = Peer::connect(&server).await;
    let code = peer.send(REGRESS, &[("grpc-timeout", "50m")], message).await;
    assert_eq!(code, Some(Code::DeadlineExceeded.number()));
    let mut client = server.predictions().await;
    let status = client.regress(regression(spec("busy"), &[&[1.0]])).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "as told"));
    let status = client.regress(regression(spec("nothing"), &[&[1.0]])).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Internal);
}
