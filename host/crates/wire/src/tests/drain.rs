use std::io;
use std::sync::Arc;
use std::time::Duration;

use ingle_types::{DType, Limits};
use tokio::sync::Semaphore;

use super::grpc::{one, predict, spec};
use super::server::Server;
use super::stub::{Act, Stub, Stubs};
use crate::DrainError;

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
    assert_eq!(left.connections, 1);
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
    let counted = r#"model="slow",api="Predict",entrypoint="REST",code="CANCELLED"} 1"#;
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
    let counted = r#"model="slow",api="Predict",entrypoint="GRPC",code="CANCELLED"} 1"#;
    while !server.wire.metrics.render().contains(counted) {
        tokio::task::yield_now().await;
    }
    gate.go.add_permits(1);
    assert!(other.predict(request()).await.is_ok());
}
