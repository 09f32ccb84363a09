use std::io;
use std::sync::Arc;
use std::time::Duration;

use ingle_types::{DType, Limits};
use serde_json::json;
use tokio::sync::Semaphore;

use super::grpc::{one, predict, spec};
use super::http::Http;
use super::server::Server;
use super::stub::{Act, Stub, Stubs};
use crate::proto::grpc::health::v1::HealthCheckRequest;
use crate::proto::grpc::health::v1::health_check_response::ServingStatus;
use crate::proto::grpc::health::v1::health_client::HealthClient;
use crate::{DrainError, Tally};

struct Gate {
    entered: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

impl Gate {
    async fn server(limits: Limits) -> (Self, Server) {
        let gate = Self { entered: Arc::new(Semaphore::new(0)), go: Arc::new(Semaphore::new(0)) };
        let act = Act::Wait { entered: gate.entered.clone(), go: gate.go.clone() };
        let stubs = Stubs::default().with(Stub::new("slow", &[("x", DType::F32)], act));
        (gate, Server::with(stubs, limits).await)
    }

    async fn wait_for(&self, requests: u32) {
        self.entered.acquire_many(requests).await.unwrap().forget();
    }
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_closes_the_rest() {
    let (gate, server) = Gate::server(Limits::default()).await;
    let mut idle = server.http().await;
    assert_eq!(idle.get("/v1/models/slow").await.status, 200);
    let mut http = server.http().await;
    let rest = tokio::spawn(async move {
        let answer = http.predict("slow", "{\"inputs\":1}").await;
        http.closed().await;
        answer
    });
    let mut client = server.predictions().await;
    let grpc =
        tokio::spawn(
            async move { client.predict(predict(spec("slow"), &[("x", one(&[1.0]))])).await },
        );
    gate.wait_for(2).await;
    server.stop();
    idle.closed().await;
    gate.go.add_permits(2);
    let answer = rest.await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    assert!(grpc.await.unwrap().is_ok());
    for end in server.join().await {
        assert!(end.is_ok(), "{end:?}");
    }
}

#[tokio::test]
async fn after_the_grace_what_is_left_is_cut_off_and_counted() {
    let limits = Limits { drain_grace: Duration::from_millis(100), ..Limits::default() };
    let (gate, server) = Gate::server(limits).await;
    let mut http = server.http().await;
    let rest = tokio::spawn(async move {
        http.send(
            "POST /v1/models/slow:predict HTTP/1.1\r\nContent-Length: 12\r\n\r\n{\"inputs\":1}",
        )
        .await;
        http.answer(false).await.is_none()
    });
    gate.wait_for(1).await;
    let ends = server.join().await;
    let [Ok(()), Err(error)] = ends.as_slice() else { panic!("{ends:?}") };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let left = error.get_ref().unwrap().downcast_ref::<DrainError>().unwrap();
    assert_eq!((left.connections, left.requests), (1, 1));
    assert!(rest.await.unwrap());
}

#[tokio::test]
async fn a_stopped_server_takes_no_connection() {
    let server = Server::start().await;
    let address = server.rest;
    server.join().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_request() {
    let (gate, server) = Gate::server(Limits::default()).await;
    let mut http = server.http().await;
    http.send("POST /v1/models/slow:predict HTTP/1.1\r\nContent-Length: 12\r\n\r\n{\"inputs\":1}")
        .await;
    gate.wait_for(1).await;
    drop(http);
    // The drain would wait for the request if it were still there.
    let wire = server.wire.clone();
    for end in server.join().await {
        assert!(end.is_ok(), "{end:?}");
    }
    let text = wire.metrics.render();
    let counted = r#"model="slow",version="1",signature="serving_default",api="Predict",entrypoint="REST",code="CANCELLED"} 1"#;
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn a_call_that_is_reset_frees_its_request_and_not_its_connection() {
    let (gate, server) = Gate::server(Limits::default()).await;
    let mut client = server.predictions().await;
    let mut other = client.clone();
    let request = || predict(spec("slow"), &[("x", one(&[1.0]))]);
    let call = tokio::spawn(async move { client.predict(request()).await });
    gate.wait_for(1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    let counted = r#"model="slow",version="1",signature="serving_default",api="Predict",entrypoint="GRPC",code="CANCELLED"} 1"#;
    while !server.wire.metrics.render().contains(counted) {
        tokio::task::yield_now().await;
    }
    gate.go.add_permits(1);
    assert!(other.predict(request()).await.is_ok());
}

#[tokio::test]
async fn a_client_that_waits_for_nothing_is_not_waited_for() {
    let limits = Limits { drain_grace: Duration::from_millis(100), ..Limits::default() };
    let server = Server::with(Stubs::echoes(), limits).await;
    let mut silent = Http::connect(server.grpc).await;
    silent.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    // Connections are taken in turn.
    let mut client = server.predictions().await;
    assert!(client.predict(predict(spec("float"), &[("x", one(&[1.0]))])).await.is_ok());
    for end in server.join().await {
        assert!(end.is_ok(), "{end:?}");
    }
    silent.closed().await;
}

/// A server that is asked to stop, and still takes connections.
async fn leaving() -> Server {
    let limits = Limits { drain_delay: Duration::from_secs(3600), ..Limits::default() };
    let server = Server::with(Stubs::echoes(), limits).await;
    assert_eq!(server.http().await.get("/healthz/ready").await.status, 200);
    server.stop();
    server
}

#[tokio::test]
async fn until_the_ports_close_the_server_answers_and_is_not_ready() {
    let server = leaving().await;
    let mut http = server.http().await;
    let answer = http.get("/healthz/ready").await;
    let expected = json!({"ready": false, "stopping": true, "not_ready": 0, "models": []});
    assert_eq!((answer.status, answer.json()), (503, expected));
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    http.closed().await;
    assert_eq!(server.http().await.get("/healthz/live").await.status, 200);
    let answer = server.http().await.predict("float", "{\"inputs\":1}").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("connection: close"), "{}", answer.head);

    let mut client = server.predictions().await;
    assert!(client.predict(predict(spec("float"), &[("x", one(&[1.0]))])).await.is_ok());
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "float", "tensorflow.serving.PredictionService"] {
        let request = HealthCheckRequest { service: service.into() };
        let answer = health.check(request.clone()).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::NotServing, "{service}");
        let mut watch = health.watch(request).await.unwrap().into_inner();
        let told = watch.message().await.unwrap().unwrap();
        assert_eq!(told.status(), ServingStatus::NotServing, "{service}");
    }
}

#[tokio::test]
async fn the_delay_comes_before_the_grace() {
    let limits = Limits {
        drain_delay: Duration::from_millis(200),
        drain_grace: Duration::ZERO,
        ..Limits::default()
    };
    let server = Server::with(Stubs::echoes(), limits).await;
    server.stop();
    assert_eq!(server.http().await.get("/healthz/live").await.status, 200);
    let address = server.rest;
    for end in server.join().await {
        assert!(end.is_ok(), "{end:?}");
    }
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_request_of_which_a_part_was_read_is_answered() {
    let server = Server::start().await;
    let mut fresh = server.http().await;
    let mut kept = server.http().await;
    assert_eq!(kept.get("/v1/models/float").await.status, 200);
    for http in [&mut fresh, &mut kept] {
        http.send("POST /v1/models/float:predict HTTP/1.1\r\nContent-").await;
    }
    // Answered after the two were read, and closed when the stop is seen.
    let mut other = server.http().await;
    assert_eq!(other.get("/v1/models/float").await.status, 200);
    server.stop();
    other.closed().await;
    for http in [&mut fresh, &mut kept] {
        http.send("Length: 12\r\n\r\n{\"inputs\":1}").await;
        let answer = http.answer(false).await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("connection: close"), "{}", answer.head);
        http.closed().await;
    }
    let wire = server.wire.clone();
    for end in server.join().await {
        assert!(end.is_ok(), "{end:?}");
    }
    assert_eq!(wire.requests(), Tally { begun: 4, answered: 4 });
}

#[tokio::test]
async fn what_was_sent_before_the_stop_is_answered() {
    let server = Server::start().await;
    // Nothing runs between these lines but this test: the server reads none of it before.
    let mut all = Vec::new();
    for _ in 0..20 {
        let mut http = server.http().await;
        http.send("GET /v1/models/float HTTP/1.1\r\n\r\n").await;
        all.push(http);
    }
    server.stop();
    for mut http in all {
        assert_eq!(http.answer(false).await.unwrap().status, 200);
    }
}
