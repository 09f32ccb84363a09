use std::time::Duration;

use ingle_types::{Code, Limits};
use prost::Message as _;
use prost_reflect::DescriptorPool;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

use super::limits::small;
use super::peer::{Peer, framed};
use super::server::Server;
use super::stub::Stubs;
use crate::proto::grpc::reflection::{v1 as pb, v1alpha};
use pb::server_reflection_client::ServerReflectionClient;
use pb::server_reflection_request::MessageRequest;
use pb::server_reflection_response::MessageResponse;

const PATH: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

fn question(message_request: Option<MessageRequest>) -> pb::ServerReflectionRequest {
    pb::ServerReflectionRequest { host: "h".into(), message_request }
}

/// The answers to questions asked in one call.
async fn ask(server: &Server, questions: &[MessageRequest]) -> Vec<MessageResponse> {
    let asked: Vec<_> = questions.iter().map(|q| question(Some(q.clone()))).collect();
    let mut client = ServerReflectionClient::new(server.channel().await);
    let stream = tokio_stream::iter(asked.clone());
    let mut stream = client.server_reflection_info(stream).await.unwrap().into_inner();
    let mut answers = Vec::new();
    for asked in asked {
        let answer = stream.message().await.unwrap().unwrap();
        assert_eq!((answer.valid_host.as_str(), answer.original_request), ("h", Some(asked)));
        answers.push(answer.message_response.unwrap());
    }
    assert_eq!(stream.message().await.unwrap(), None);
    answers
}

fn files(answer: &MessageResponse) -> Vec<FileDescriptorProto> {
    let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("{answer:?}") };
    let files = files.file_descriptor_proto.iter();
    files.map(|file| FileDescriptorProto::decode(file.as_ref()).unwrap()).collect()
}

#[tokio::test]
async fn services_are_listed_and_described_with_all_that_they_need() {
    let server = Server::start().await;
    let answers = ask(
        &server,
        &[
            MessageRequest::ListServices(String::new()),
            MessageRequest::FileContainingSymbol("tensorflow.serving.PredictionService".into()),
        ],
    )
    .await;
    let MessageResponse::ListServicesResponse(list) = &answers[0] else { panic!("{answers:?}") };
    let mut names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "tensorflow.serving.ModelService",
        "tensorflow.serving.PredictionService",
    ];
    assert_eq!(names, expected);
    let file = files(&answers[1]);
    assert_eq!(file[0].name(), "tensorflow_serving/apis/prediction_service.proto");
    let pool = DescriptorPool::from_file_descriptor_set(FileDescriptorSet { file }).unwrap();
    let tensor = pool.get_message_by_name("tensorflow.TensorProto").unwrap();
    assert_eq!(tensor.get_field_by_name("tensor_content").unwrap().number(), 4);
}

#[tokio::test]
async fn files_are_found_by_name_and_by_what_is_in_them() {
    let server = Server::start().await;
    let predict = "tensorflow_serving/apis/predict.proto";
    let symbol = |name: &str| MessageRequest::FileContainingSymbol(name.into());
    let table = [
        (MessageRequest::FileByFilename(predict.into()), predict),
        (symbol("tensorflow.serving.PredictRequest"), predict),
        (symbol("tensorflow.serving.PredictRequest.inputs"), predict),
        (
            symbol("tensorflow.serving.PredictionService.Predict"),
            "tensorflow_serving/apis/prediction_service.proto",
        ),
        (symbol("tensorflow.DataType"), "tensorflow/core/framework/types.proto"),
        (
            symbol("tensorflow.serving.ModelSpec.version_choice"),
            "tensorflow_serving/apis/model.proto",
        ),
        (symbol("grpc.health.v1.Health"), "grpc/health/v1/health.proto"),
        (symbol("google.protobuf.Any"), "google/protobuf/any.proto"),
    ];
    let questions: Vec<_> = table.iter().map(|(question, _)| question.clone()).collect();
    for (answer, (question, file)) in ask(&server, &questions).await.iter().zip(&table) {
        assert_eq!(files(answer)[0].name(), *file, "{question:?}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_an_answer_and_not_the_end() {
    let server = Server::start().await;
    let extension = |name: &str| {
        let (containing_type, extension_number) = (name.into(), -1);
        MessageRequest::FileContainingExtension(pb::ExtensionRequest {
            containing_type,
            extension_number,
        })
    };
    let missing = [
        MessageRequest::FileByFilename("../../etc/passwd".into()),
        MessageRequest::FileContainingSymbol("tensorflow.serving.PredictionService.Nope".into()),
        MessageRequest::FileContainingSymbol("tensorflow.serving.ModelSpec.nope".into()),
        MessageRequest::FileContainingSymbol(String::new()),
        MessageRequest::AllExtensionNumbersOfType("nope".into()),
        extension("nope"),
        extension("tensorflow.serving.ModelSpec"),
        MessageRequest::AllExtensionNumbersOfType("tensorflow.serving.ModelSpec".into()),
    ];
    let answers = ask(&server, &missing).await;
    let (last, failures) = answers.split_last().unwrap();
    for answer in failures {
        let MessageResponse::ErrorResponse(error) = answer else { panic!("{answer:?}") };
        assert_eq!(error.error_code, Code::NotFound.number(), "{}", error.error_message);
    }
    let none = pb::ExtensionNumberResponse {
        base_type_name: "tensorflow.serving.ModelSpec".into(),
        extension_number: Vec::new(),
    };
    assert_eq!(*last, MessageResponse::AllExtensionNumbersResponse(none));
}

#[tokio::test]
async fn the_older_protocol_answers_too() {
    let server = Server::start().await;
    let channel = server.channel().await;
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let list = v1alpha::server_reflection_request::MessageRequest::ListServices("*".into());
    let request = v1alpha::ServerReflectionRequest {
        message_request: Some(list),
        ..v1alpha::ServerReflectionRequest::default()
    };
    let stream = client.server_reflection_info(tokio_stream::once(request)).await;
    let answer = stream.unwrap().into_inner().message().await.unwrap().unwrap();
    let response = answer.message_response.unwrap();
    let v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list) = response
    else {
        panic!("{response:?}")
    };
    assert_eq!(list.service.len(), 5);
}

#[tokio::test]
async fn malformed_messages_end_the_call() {
    let server = small().await;
    let mut peer = Peer::connect(&server).await;
    let list = question(Some(MessageRequest::ListServices(String::new()))).encode_to_vec();
    let good = framed(0, &list);
    for (body, code) in [
        (Vec::new(), None),
        (good.clone(), None),
        ([good.clone(), framed(0, b"")].concat(), None),
        ([&good, &good[..good.len() - 1]].concat(), Some(Code::InvalidArgument)),
        (vec![0, 0, 0], Some(Code::InvalidArgument)),
        (framed(0, b"\x0a\xff"), Some(Code::InvalidArgument)),
        (framed(1, &list), Some(Code::InvalidArgument)),
        (framed(7, &list), Some(Code::InvalidArgument)),
        (vec![0, 0xff, 0xff, 0xff, 0xff], Some(Code::ResourceExhausted)),
        (framed(0, &[0; 9000]), Some(Code::ResourceExhausted)),
    ] {
        let expected = Some(code.map_or(0, Code::number));
        assert_eq!(peer.send(PATH, &[], body.clone()).await, expected, "{body:?}");
    }
}

#[tokio::test]
async fn a_client_that_asks_nothing_is_ended_and_a_stop_ends_those_that_wait() {
    let wait = || tokio_stream::pending::<pb::ServerReflectionRequest>();
    let limits = Limits { default_deadline: Duration::from_millis(50), ..Limits::default() };
    let server = Server::with(Stubs::echoes(), limits).await;
    let mut client = ServerReflectionClient::new(server.channel().await);
    let mut stream = client.server_reflection_info(wait()).await.unwrap().into_inner();
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.message(), "no message came for 50ms");

    let server = Server::start().await;
    let mut client = ServerReflectionClient::new(server.channel().await);
    let mut stream = client.server_reflection_info(wait()).await.unwrap().into_inner();
    server.stop();
    assert_eq!(stream.message().await.unwrap_err().code(), tonic::Code::Unavailable);
    for end in server.join().await {
        assert!(end.is_ok(), "{end:?}");
    }
}
