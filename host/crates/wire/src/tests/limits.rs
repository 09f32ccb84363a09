//! What one peer may hold, and for how long.

use std::time::Duration;

use ingle_types::{Code, Limits};
use prost::Message as _;

use super::grpc::{one, predict, spec};
use super::http::Http;
use super::peer::{PREDICT as PREDICT_CALL, Peer, framed};
use super::rest::gzip;
use super::server::Server;
use super::stub::Stubs;
use crate::proto::grpc::health::v1::HealthCheckRequest;
use crate::proto::grpc::health::v1::health_client::HealthClient;

const PREDICT: &str = "/v1/models/float:predict";

/// Those who say nothing are gone soon.
pub(super) fn hasty() -> Limits {
    Limits { header_read_timeout: Duration::from_secs(1), ..Limits::default() }
}

pub(super) async fn small() -> Server {
    let limits = Limits {
        request_bytes: 10_000,
        header_bytes: 8 * 1024,
        header_read_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    Server::with(Stubs::echoes(), limits).await
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    let server = small().await;
    let large = vec![b' '; 10_001];
    let answer = server.http().await.request("POST", PREDICT, &large).await;
    let text = "the request's body is larger than the limit of 10000 bytes";
    assert_eq!((answer.status, answer.error()), (413, text.to_owned()));

    // Announced only: refused before a byte of it comes.
    let mut http = server.http().await;
    http.send(format!("POST {PREDICT} HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n")).await;
    assert_eq!(http.answer(false).await.unwrap().status, 413);

    // Announced by nothing: refused as it passes the limit.
    let mut http = server.http().await;
    http.send(format!("POST {PREDICT} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    for _ in 0..5000 {
        http.send("3\r\n   \r\n").await;
    }
    assert_eq!(http.answer(false).await.unwrap().status, 413);

    let fits = format!("{{\"inputs\":1}}{}", " ".repeat(9_000));
    assert_eq!(server.http().await.predict("float", fits).await.status, 200);
}

#[tokio::test]
async fn a_gzip_bomb_stops_at_the_limit() {
    let server = small().await;
    let bomb = gzip(&vec![b' '; 5_000_000]);
    assert!(bomb.len() < 10_000);
    let mut http = server.http().await;
    let answer = http.request_with("POST", PREDICT, "Content-Encoding: gzip\r\n", &bomb).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert_eq!(http.predict("float", "{\"inputs\":1}").await.status, 200);
}

#[tokio::test]
async fn elements_are_bounded_and_not_only_text() {
    let server = small().await;
    // Two bytes each in JSON, eight as doubles.
    let body = format!("{{\"inputs\":[{}1]}}", "1,".repeat(2000));
    let answer = server.http().await.predict("double", &body).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(answer.error().contains("limit of 10000 bytes"), "{}", answer.text());
    assert_eq!(server.http().await.predict("int8", &body).await.status, 200);
    let body = format!("{{\"instances\":[{}\"\"]}}", "\"\",".repeat(2000));
    assert_eq!(server.http().await.predict("string", &body).await.status, 413);
}

#[tokio::test]
async fn a_message_over_the_limit_exhausts() {
    let server = small().await;
    let mut client = server.predictions().await;
    let status =
        client.predict(predict(spec("float"), &[("x", one(&[0.5; 3000]))])).await.unwrap_err();
    assert_eq!(i32::from(status.code()), Code::ResourceExhausted.number(), "{status}");
    assert_eq!(status.message(), "the message is larger than the limit of 10000 bytes");
    let fits = predict(spec("float"), &[("x", one(&[0.5; 2000]))]);
    assert!(client.predict(fits).await.is_ok());
    // A request that holds no tensor is bounded as headers are.
    let long = crate::proto::tensorflow::serving::GetModelStatusRequest {
        model_spec: Some(spec(&"n".repeat(9000))),
    };
    let status = server.models().await.get_model_status(long).await.unwrap_err();
    assert_eq!(i32::from(status.code()), Code::ResourceExhausted.number(), "{status}");
}

#[tokio::test]
async fn too_many_tensors_are_refused() {
    let server = Server::start().await;
    let mut request = predict(spec("float"), &[("x", one(&[1.0]))]);
    request.output_filter = vec!["x".into(); 257];
    let status = server.predictions().await.predict(request).await.unwrap_err();
    assert_eq!(status.message(), "the request names more than 256 tensors");
    let mut request = predict(spec("float"), &[]);
    request.inputs = (0..257).map(|i| (i.to_string(), Default::default())).collect();
    let status = server.predictions().await.predict(request).await.unwrap_err();
    assert_eq!(status.message(), "the request names more than 256 tensors");
}

#[tokio::test]
async fn large_headers_are_431() {
    let server = small().await;
    let header = format!("X-Large: {}\r\n", "a".repeat(9000));
    let mut http = server.http().await;
    let answer = http.request_with("GET", "/v1/models/float", &header, b"").await;
    assert_eq!(answer.status, 431);
    let many: String = (0..2000).map(|i| format!("X-{i}: a\r\n")).collect();
    let mut http = server.http().await;
    http.send(format!("GET /v1/models/float HTTP/1.1\r\n{many}\r\n")).await;
    assert_eq!(http.answer(false).await.unwrap().status, 431);

    let tight = Limits { header_bytes: 100, ..Limits::default() };
    let server = Server::with(Stubs::echoes(), tight).await;
    let header = format!("X-Large: {}\r\n", "a".repeat(200));
    let mut http = server.http().await;
    let answer = http.request_with("GET", "/v1/models/float", &header, b"").await;
    assert_eq!((answer.status, answer.error().contains("limit of 100 bytes")), (431, true));
}

#[tokio::test]
async fn headers_that_do_not_come_end_the_connection() {
    let server = small().await;
    let mut slow = server.http().await;
    slow.send("GET /v1/models/float HTTP/1.1\r\nHost:").await;
    slow.closed().await;
    let mut silent = server.http().await;
    silent.closed().await;
    let mut idle = server.http().await;
    assert_eq!(idle.get("/v1/models/float").await.status, 200);
    idle.closed().await;
}

#[tokio::test]
async fn a_preface_that_does_not_come_or_is_not_one_ends_the_connection() {
    let server = small().await;
    for start in ["", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost: test\r\n\r\n"] {
        let mut peer = Http::connect(server.grpc).await;
        peer.send(start).await;
        peer.closed().await;
    }
    // And silence after it: no answer to a ping.
    let mut peer = Http::connect(server.grpc).await;
    peer.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    peer.closed().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_times_out() {
    let limits = Limits { default_deadline: Duration::from_millis(100), ..Limits::default() };
    let server = Server::with(Stubs::echoes(), limits).await;
    let mut http = server.http().await;
    http.send(format!("POST {PREDICT} HTTP/1.1\r\nContent-Length: 100\r\n\r\n{{")).await;
    assert_eq!(http.answer(false).await.unwrap().status, 504);
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_cut_off() {
    let limits = Limits { default_deadline: Duration::from_millis(200), ..Limits::default() };
    let server = Server::with(Stubs::echoes(), limits).await;
    let mut http = server.http().await;
    // Answers pile up until the kernel takes no more of them.
    let body = format!("{{\"inputs\":[{}0]}}", "0,".repeat(100_000));
    let request =
        format!("POST {PREDICT} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    while http.send(&request).await {}
}

#[tokio::test]
async fn connections_over_the_limit_wait() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let server = Server::with(Stubs::echoes(), limits).await;
    let mut first = server.http().await;
    assert_eq!(first.get("/v1/models/float").await.status, 200);
    let mut second = server.http().await;
    second.send("GET /v1/models/float HTTP/1.1\r\n\r\n").await;
    assert_eq!(first.get("/v1/models/float").await.status, 200);
    drop(first);
    assert_eq!(second.answer(false).await.unwrap().status, 200);
}

/// A header as HPACK has it, without index or compression.
fn header(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A call whose client lets nothing of its answer come, and reads what else there is.
async fn windowless(server: &Server, path: &str, message: Vec<u8>) -> Http {
    let headers: Vec<u8> = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        ("content-type", "application/grpc"),
    ]
    .iter()
    .flat_map(|(name, value)| header(name, value))
    .collect();
    let no_window = [0, 4, 0, 0, 0, 0];
    let mut peer = Http::connect(server.grpc).await;
    peer.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    peer.send(frame(4, 0, 0, &no_window)).await;
    peer.send(frame(1, 4, 1, &headers)).await;
    peer.send(frame(0, 1, 1, &message)).await;
    peer
}

#[tokio::test]
async fn a_peer_that_leaves_no_window_for_an_answer_is_cut_off() {
    let limits = Limits { default_deadline: Duration::from_millis(200), ..Limits::default() };
    let server = Server::with(Stubs::echoes(), limits).await;
    let request = predict(spec("float"), &[("x", one(&[0.5; 3000]))]).encode_to_vec();
    let mut peer = windowless(&server, PREDICT_CALL, framed(0, &request)).await;
    peer.closed().await;
}

#[tokio::test]
async fn the_messages_of_a_connection_are_bounded_together() {
    let limits = Limits { connection_bytes: 10_000, ..Limits::default() };
    let server = Server::with(Stubs::echoes(), limits).await;
    let mut client = server.predictions().await;
    let fits = || predict(spec("float"), &[("x", one(&[0.5; 2000]))]);
    // One after the other: what was taken is given back.
    for _ in 0..5 {
        assert!(client.predict(fits()).await.is_ok());
    }
    let large = predict(spec("float"), &[("x", one(&[0.5; 3000]))]);
    let status = client.predict(large).await.unwrap_err();
    assert_eq!(i32::from(status.code()), Code::ResourceExhausted.number(), "{status}");
    let text = "the messages in flight of this connection are larger than the limit of 10000 bytes";
    assert_eq!(status.message(), text);
    let large = predict(spec("float"), &[("x", one(&[0.5; 3000]))]).encode_to_vec();
    let squeezed = framed(1, &gzip(&large));
    let mut peer = Peer::connect(&server).await;
    let code = peer.send(PREDICT_CALL, &[("grpc-encoding", "gzip")], squeezed).await;
    assert_eq!(code, Some(Code::ResourceExhausted.number()));
}

#[tokio::test]
async fn a_stream_that_has_nothing_to_say_stays() {
    let limits = Limits { default_deadline: Duration::from_millis(100), ..Limits::default() };
    let server = Server::with(Stubs::echoes(), limits).await;
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let silent = tokio::time::timeout(Duration::from_millis(400), watch.message()).await;
    assert!(silent.is_err(), "{silent:?}");
}

#[tokio::test]
async fn a_large_answer_comes_whole() {
    let server = Server::start().await;
    let values: Vec<f32> = (0..300_000).map(|i| i as f32).collect();
    let request = predict(spec("float"), &[("x", one(&values))]);
    let answer = server.predictions().await.predict(request).await.unwrap().into_inner();
    assert_eq!(answer.outputs["x"].float_val, values);
}
