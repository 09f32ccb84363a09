use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ingle_types::{Code, DType, Limits, Shape, Tensor};
use prost::Message as _;
use tokio::sync::Semaphore;

use super::peer::{PREDICT, Peer, framed};
use super::server::Server;
use super::stub::{Act, Stub, Stubs};
use crate::proto::tensorflow::serving as pb;
use crate::proto::tensorflow::{DataType, TensorProto};
use crate::tensor_proto::encode;
use pb::model_spec::VersionChoice;

pub(super) fn spec(name: &str) -> pb::ModelSpec {
    pb::ModelSpec { name: name.into(), ..pb::ModelSpec::default() }
}

pub(super) fn predict(spec: pb::ModelSpec, inputs: &[(&str, Tensor)]) -> pb::PredictRequest {
    pb::PredictRequest {
        model_spec: Some(spec),
        inputs: inputs.iter().map(|(name, t)| ((*name).to_owned(), encode(t))).collect(),
        ..pb::PredictRequest::default()
    }
}

pub(super) fn one(values: &[f32]) -> Tensor {
    Tensor::from_slice(&[values.len()], values).unwrap()
}

fn named(signature: &str) -> pb::ModelSpec {
    pb::ModelSpec { signature_name: signature.into(), ..spec("float") }
}

fn versioned(choice: VersionChoice) -> pb::ModelSpec {
    pb::ModelSpec { version_choice: Some(choice), ..spec("float") }
}

#[tokio::test]
async fn an_answer_names_the_model_the_version_and_the_signature() {
    let server = Server::start().await;
    let mut client = server.predictions().await;
    let specs = [
        (spec("float"), "serving_default"),
        (named("other"), "other"),
        (versioned(VersionChoice::Version(1)), "serving_default"),
        (versioned(VersionChoice::VersionLabel("stable".into())), "serving_default"),
    ];
    for (asked, signature) in specs {
        let request = predict(asked, &[("x", one(&[1.0, 2.0]))]);
        let answer = client.predict(request).await.unwrap().into_inner();
        let expected = pb::ModelSpec {
            name: "float".into(),
            version_choice: Some(VersionChoice::Version(1)),
            signature_name: signature.into(),
        };
        assert_eq!(answer.model_spec, Some(expected));
        let y = &answer.outputs["x"];
        assert_eq!((y.float_val.as_slice(), y.tensor_content.len()), ([1.0, 2.0].as_slice(), 0));
    }
}

#[tokio::test]
async fn requests_are_refused_in_tensorflow_servings_words() {
    let server = Server::start().await;
    let mut client = server.predictions().await;
    let x = || [("x", one(&[1.0]))];
    let filtered = |names: &[&str]| pb::PredictRequest {
        output_filter: names.iter().map(|n| (*n).to_owned()).collect(),
        ..predict(spec("float"), &x())
    };
    let table = [
        (pb::PredictRequest::default(), Code::InvalidArgument, "Missing ModelSpec"),
        (predict(spec(""), &x()), Code::InvalidArgument, "ModelSpec has no name specified."),
        (
            predict(spec("nope"), &x()),
            Code::NotFound,
            "Servable not found for request: Latest(nope)",
        ),
        (
            predict(versioned(VersionChoice::Version(0)), &x()),
            Code::NotFound,
            "Servable not found for request: Specific(float, 0)",
        ),
        (
            predict(versioned(VersionChoice::Version(-1)), &x()),
            Code::NotFound,
            "Servable not found for request: Specific(float, -1)",
        ),
        (
            predict(versioned(VersionChoice::VersionLabel("nope".into())), &x()),
            Code::InvalidArgument,
            "Unrecognized servable version label: nope",
        ),
        (
            predict(named("nope"), &x()),
            Code::FailedPrecondition,
            "Serving signature key \"nope\" not found.",
        ),
        (
            predict(spec("float"), &[]),
            Code::InvalidArgument,
            "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
        ),
        (
            filtered(&["z"]),
            Code::InvalidArgument,
            "output tensor alias not found in signature: z Outputs expected to be in the set {x}.",
        ),
        (filtered(&["x", "x"]), Code::InvalidArgument, "duplicate output tensor alias: x"),
        (
            predict(spec("int32"), &x()),
            Code::InvalidArgument,
            "input \"x\": expects int32 but float is provided",
        ),
    ];
    for (request, code, message) in table {
        let status = client.predict(request).await.unwrap_err();
        assert_eq!((i32::from(status.code()), status.message()), (code.number(), message));
    }
    let answer = client.predict(filtered(&["x"])).await.unwrap().into_inner();
    assert_eq!(answer.outputs.len(), 1);
}

/// Names, then tensors, then the filter, as TensorFlow Serving looks at them.
#[tokio::test]
async fn of_several_faults_the_first_is_told() {
    let server = Server::start().await;
    let mut client = server.predictions().await;
    let mut request = predict(spec("float"), &[("y", one(&[1.0]))]);
    request.inputs.insert("y".into(), TensorProto::default());
    request.output_filter.push("z".into());
    let status = client.predict(request.clone()).await.unwrap_err();
    assert!(status.message().starts_with("Signature input alias: x not found"), "{status}");
    let tensor = request.inputs.remove("y").unwrap();
    request.inputs.insert("x".into(), tensor);
    let status = client.predict(request).await.unwrap_err();
    assert!(status.message().starts_with("tensor parsing error: x"), "{status}");
}

#[tokio::test]
async fn answers_have_content_where_the_server_is_told_to() {
    let server = Server::with_tensor_content().await;
    let request = predict(spec("float"), &[("x", one(&[1.0, 2.0]))]);
    let answer = server.predictions().await.predict(request).await.unwrap().into_inner();
    let bytes = [1f32, 2.0].map(f32::to_le_bytes).concat();
    assert_eq!(answer.outputs["x"].tensor_content, bytes);
    assert!(answer.outputs["x"].float_val.is_empty());
}

#[tokio::test]
async fn what_is_not_a_tensor_names_itself() {
    let server = Server::start().await;
    let mut client = server.predictions().await;
    let complex = TensorProto { dtype: DataType::DtComplex64.into(), ..TensorProto::default() };
    let short = TensorProto {
        dtype: DataType::DtFloat.into(),
        tensor_content: vec![0; 7].into(),
        ..TensorProto::default()
    };
    for (tensor, expected) in [
        (complex, "tensor parsing error: x: dtype complex64 is not supported"),
        (short, "tensor parsing error: x: shape [] of float needs 4 bytes but 7 are given"),
        (TensorProto::default(), "tensor parsing error: x: dtype is not set"),
    ] {
        let mut request = predict(spec("float"), &[]);
        request.inputs.insert("x".into(), tensor);
        let status = client.predict(request).await.unwrap_err();
        assert_eq!(i32::from(status.code()), Code::InvalidArgument.number());
        assert_eq!(status.message(), expected);
    }
}

#[tokio::test]
async fn a_long_message_is_cut() {
    let server = Server::start().await;
    let mut client = server.predictions().await;
    let request = predict(spec(&"n".repeat(5000)), &[]);
    let status = client.predict(request).await.unwrap_err();
    assert!(status.message().ends_with("nnn...TRUNCATED"));
    assert_eq!(status.message().len(), 1024 + "...TRUNCATED".len());
}

#[tokio::test]
async fn metadata_holds_the_signatures() {
    let server = Server::start().await;
    let mut client = server.predictions().await;
    let ask = |spec, fields: &[&str]| pb::GetModelMetadataRequest {
        model_spec: spec,
        metadata_field: fields.iter().map(|f| (*f).to_owned()).collect(),
    };
    let request = ask(Some(spec("two")), &["signature_def"]);
    let answer = client.get_model_metadata(request).await.unwrap().into_inner();
    let expected = pb::ModelSpec { version_choice: Some(VersionChoice::Version(1)), ..spec("two") };
    assert_eq!(answer.model_spec, Some(expected));
    let any = &answer.metadata["signature_def"];
    assert_eq!(any.type_url, "type.googleapis.com/tensorflow.serving.SignatureDefMap");
    let map = pb::SignatureDefMap::decode(any.value.as_ref()).unwrap();
    let signature = &map.signature_def["serving_default"];
    assert_eq!(signature.method_name, "tensorflow/serving/predict");
    assert_eq!(signature.inputs["b"].dtype(), DataType::DtInt32);
    assert!(signature.outputs["a"].tensor_shape.as_ref().unwrap().unknown_rank);
    for (request, code, message) in [
        (ask(None, &[]), Code::InvalidArgument, "Missing ModelSpec"),
        (
            ask(Some(spec("two")), &[]),
            Code::InvalidArgument,
            "GetModelMetadataRequest must specify at least one metadata_field",
        ),
        (
            ask(Some(spec("two")), &["signature_def", "lineage"]),
            Code::InvalidArgument,
            "Metadata field lineage is not supported",
        ),
        (
            ask(Some(spec("nope")), &["signature_def"]),
            Code::NotFound,
            "Servable not found for request: Latest(nope)",
        ),
    ] {
        let status = client.get_model_metadata(request).await.unwrap_err();
        assert_eq!((i32::from(status.code()), status.message()), (code.number(), message));
    }
}

#[tokio::test]
async fn a_status_lists_versions_and_ignores_labels() {
    let server = Server::start().await;
    let mut client = server.models().await;
    let ask = |model_spec| pb::GetModelStatusRequest { model_spec };
    for (spec, versions) in [
        (spec("float"), vec![2, 1]),
        (versioned(VersionChoice::VersionLabel("nope".into())), vec![2, 1]),
        (versioned(VersionChoice::Version(1)), vec![1]),
    ] {
        let answer = client.get_model_status(ask(Some(spec))).await.unwrap().into_inner();
        let rows = answer.model_version_status;
        assert_eq!(rows.iter().map(|row| row.version).collect::<Vec<_>>(), versions);
        let available = rows.last().unwrap();
        assert_eq!(available.state(), pb::model_version_status::State::Available);
        assert_eq!(available.status, Some(pb::StatusProto::default()));
    }
    for (spec, message) in [
        (None, "Missing ModelSpec"),
        (Some(spec("")), "Could not find any versions of model "),
        (Some(versioned(VersionChoice::Version(7))), "Could not find version 7 of model float"),
        (Some(versioned(VersionChoice::Version(-7))), "Could not find version -7 of model float"),
    ] {
        let status = client.get_model_status(ask(spec)).await.unwrap_err();
        assert_eq!(status.message(), message);
    }
}

#[tokio::test]
async fn each_failure_keeps_its_code_and_its_cause_stays_here() {
    let x = [("x", DType::F32)];
    let stubs = Stubs::echoes().with(Stub::new("panic", &x, Act::Panic)).with(Stub::new(
        "busy",
        &x,
        Act::Fail(Code::Unavailable),
    ));
    let server = Server::with(stubs, Limits::default()).await;
    let mut client = server.predictions().await;
    let inputs = [("x", one(&[1.0]))];
    let status = client.predict(predict(spec("busy"), &inputs)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "as told"));
    let status = client.predict(predict(spec("panic"), &inputs)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::Internal, "internal error"));
    assert!(client.predict(predict(spec("float"), &inputs)).await.is_ok());
    let text = server.wire.metrics.render();
    let counted = r#"model="busy",version="1",signature="serving_default",api="Predict",entrypoint="GRPC",code="UNAVAILABLE"} 1"#;
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn the_callers_deadline_counts_and_else_the_default_one() {
    let slow = || {
        let (entered, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        Stubs::default().with(Stub::new("slow", &[("x", DType::F32)], Act::Wait { entered, go }))
    };
    let request = || predict(spec("slow"), &[("x", one(&[1.0]))]);
    let server = Server::with(slow(), Limits::default()).await;
    // By hand, because a client would give up by itself.
    let message = framed(0, &request().encode_to_vec());
    let mut peer = Peer::connect(&server).await;
    let code = peer.send(PREDICT, &[("grpc-timeout", "50m")], message).await;
    assert_eq!(code, Some(Code::DeadlineExceeded.number()));

    let limits = Limits { default_deadline: Duration::from_millis(50), ..Limits::default() };
    let server = Server::with(slow(), limits).await;
    let status = server.predictions().await.predict(request()).await.unwrap_err();
    assert_eq!(i32::from(status.code()), Code::DeadlineExceeded.number(), "{status}");
    assert_eq!(status.message(), "Timed out waiting for notification");
}

#[tokio::test]
async fn every_dtype_goes_through_both_ways() {
    let server = Server::start().await;
    let mut client = server.predictions().await;
    for dtype in DType::ALL {
        let size = dtype.size_bytes();
        let tensor = match size {
            None => Tensor::blobs(
                Shape::new([2]).unwrap(),
                vec![b"a\0\xff".as_slice().into(), "".into()],
            ),
            Some(size) => Tensor::dense(
                dtype,
                Shape::new([2]).unwrap(),
                (0..2 * size).map(|i| u8::try_from(i % 2).unwrap()).collect::<Vec<_>>(),
            ),
        };
        let tensor = tensor.unwrap();
        let request = predict(spec(dtype.name()), &[("x", tensor.clone())]);
        let answer = client.predict(request).await.unwrap().into_inner();
        let back = crate::tensor_proto::decode("x", &answer.outputs["x"], 1000).unwrap();
        assert_eq!(back, tensor, "{dtype}");
    }
    let empty: BTreeMap<_, _> = client
        .predict(predict(spec("float"), &[("x", one(&[]))]))
        .await
        .unwrap()
        .into_inner()
        .outputs;
    assert_eq!(empty["x"].float_val, [0f32; 0]);
}
