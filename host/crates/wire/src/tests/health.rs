use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ingle_types::{Code, Limits};
use prost::Message as _;
use tonic::transport::Channel;

use super::peer::{Peer, framed};
use super::server::Server;
use super::stub::Stubs;
use crate::proto::grpc::health::v1 as pb;
use pb::health_check_response::ServingStatus;
use pb::health_client::HealthClient;

fn limits() -> Limits {
    Limits { watch_interval: Duration::from_millis(5), ..Limits::default() }
}

/// The echoes, and `late`, which is ready once the flag says so.
async fn server(limits: Limits) -> (Arc<AtomicBool>, Server) {
    let ready = Arc::new(AtomicBool::new(false));
    (ready.clone(), Server::with(Stubs::echoes().with_readiness("late", &ready), limits).await)
}

async fn client(server: &Server) -> HealthClient<Channel> {
    HealthClient::new(server.channel().await)
}

fn ask(service: &str) -> pb::HealthCheckRequest {
    pb::HealthCheckRequest { service: service.into() }
}

#[tokio::test]
async fn a_check_tells_of_the_server_its_services_and_its_models() {
    let (ready, server) = server(limits()).await;
    let mut client = client(&server).await;
    let whole = [
        "",
        "PredictionService",
        "ModelService",
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "late",
    ];
    for (flag, status) in [(false, ServingStatus::NotServing), (true, ServingStatus::Serving)] {
        ready.store(flag, Ordering::SeqCst);
        for service in whole {
            let answer = client.check(ask(service)).await.unwrap().into_inner();
            assert_eq!(answer.status(), status, "{service}");
        }
        let answer = client.check(ask("float")).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    let status = client.check(ask("nope")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::NotFound, "unknown service"));
    let text = server.wire.metrics.render();
    assert!(!text.contains("GRPC"), "checks are no requests of a model: {text}");
}

#[tokio::test]
async fn a_list_names_everything_unless_it_is_long() {
    let (_, server) = server(limits()).await;
    let answer = client(&server).await.list(pb::HealthListRequest {}).await.unwrap().into_inner();
    let status = |name: &str| answer.statuses[name].status();
    assert_eq!(status(""), ServingStatus::NotServing);
    assert_eq!(status("PredictionService"), ServingStatus::NotServing);
    assert_eq!(status("late"), ServingStatus::NotServing);
    assert_eq!(status("float"), ServingStatus::Serving);
    assert!(!answer.statuses.contains_key("nope"));

    let ready = Arc::new(AtomicBool::new(true));
    let many =
        (0..100).fold(Stubs::default(), |stubs, i| stubs.with_readiness(&format!("{i}"), &ready));
    let server = Server::with(many, limits()).await;
    let status = client(&server).await.list(pb::HealthListRequest {}).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
}

#[tokio::test]
async fn a_watch_tells_each_change_and_that_the_server_stops() {
    let (ready, server) = server(limits()).await;
    let mut client = client(&server).await;
    let mut late = client.watch(ask("late")).await.unwrap().into_inner();
    let mut unknown = client.watch(ask("nope")).await.unwrap().into_inner();
    let first = late.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::NotServing);
    let other = unknown.message().await.unwrap().unwrap();
    assert_eq!(other.status(), ServingStatus::ServiceUnknown);
    ready.store(true, Ordering::SeqCst);
    let second = late.message().await.unwrap().unwrap();
    assert_eq!(second.status(), ServingStatus::Serving);
    server.stop();
    let last = late.message().await.unwrap().unwrap();
    assert_eq!(last.status(), ServingStatus::NotServing);
    assert_eq!(late.message().await.unwrap_err().code(), tonic::Code::Unavailable);
    // Neither watch is waited for until the grace ends.
    for end in server.join().await {
        assert!(end.is_ok(), "{end:?}");
    }
}

#[tokio::test]
async fn a_watch_ends_at_the_callers_deadline() {
    let (_, server) = server(limits()).await;
    let mut request = tonic::Request::new(ask(""));
    request.metadata_mut().insert("grpc-timeout", "20m".parse().unwrap());
    let mut watch = client(&server).await.watch(request).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let status = watch.message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status}");
}

#[tokio::test]
async fn streaming_calls_are_bounded_and_free_their_place() {
    let (_, server) = server(Limits { streaming_calls: 1, ..limits() }).await;
    let mut client = client(&server).await;
    let mut first = client.watch(ask("")).await.unwrap().into_inner();
    assert!(first.message().await.unwrap().is_some());
    let status = client.watch(ask("")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(status.message(), "more than 1 streaming calls at one moment");
    assert!(client.check(ask("float")).await.is_ok());
    drop(first);
    while client.watch(ask("")).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn malformed_questions_are_refused() {
    let (_, server) = server(limits()).await;
    let mut peer = Peer::connect(&server).await;
    let invalid = Some(Code::InvalidArgument.number());
    for path in ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"] {
        let two = [framed(0, &ask("").encode_to_vec()), framed(0, b"")].concat();
        for body in [Vec::new(), framed(0, b"\x0a\xff"), framed(0, b"\x0a\x01\xff"), two] {
            assert_eq!(peer.send(path, &[], body.clone()).await, invalid, "{path} {body:?}");
        }
        let late = peer.send(path, &[("grpc-timeout", "soon")], framed(0, b"")).await;
        assert_eq!(late, invalid, "{path}");
        let large = framed(0, &ask(&"n".repeat(20_000)).encode_to_vec());
        let exhausted = Some(Code::ResourceExhausted.number());
        assert_eq!(peer.send(path, &[], large).await, exhausted, "{path}");
    }
}
