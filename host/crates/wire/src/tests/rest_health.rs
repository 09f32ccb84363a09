use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::GzDecoder;
use ingle_types::Limits;
use serde_json::json;

use super::rest::gzip;
use super::server::Server;
use super::stub::Stubs;

/// `float` and `late`, which is ready once the flag says so.
async fn server() -> (Arc<AtomicBool>, Server) {
    let ready = Arc::new(AtomicBool::new(false));
    let stubs = Stubs::echoes().with_readiness("late", &ready).with_readiness("a b", &ready);
    (ready, Server::with(stubs, Limits::default()).await)
}

#[tokio::test]
async fn ready_means_that_every_configured_model_can_answer() {
    let (ready, server) = server().await;
    let mut http = server.http().await;
    let answer = http.get("/healthz/live").await;
    assert_eq!((answer.status, answer.json()), (200, json!({"live": true})));
    let answer = http.get("/healthz/ready").await;
    let expected = json!({"ready": false, "not_ready": 2, "models": ["a b", "late"]});
    assert_eq!((answer.status, answer.json()), (503, expected));
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    ready.store(true, Ordering::SeqCst);
    let answer = http.get("/healthz/ready?verbose=1").await;
    let expected = json!({"ready": true, "not_ready": 0, "models": []});
    assert_eq!((answer.status, answer.json()), (200, expected));
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
}

#[tokio::test]
async fn an_answer_that_names_models_is_short() {
    let ready = Arc::new(AtomicBool::new(false));
    let late = |stubs: Stubs, i: i32| stubs.with_readiness(&format!("late-{i}"), &ready);
    let stubs = (0..1000).fold(Stubs::default(), late);
    let server = Server::with(stubs, Limits::default()).await;
    let answer = server.http().await.get("/healthz/ready").await;
    assert_eq!((answer.status, answer.json()["not_ready"].as_u64()), (503, Some(1000)));
    assert_eq!(answer.json()["models"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn each_model_has_a_path_and_all_are_listed() {
    let (ready, server) = server().await;
    let mut http = server.http().await;
    let late = |ready: bool, versions: &[&str]| json!({"name": "late", "ready": ready, "available_versions": versions});
    let answer = http.get("/healthz/models/late").await;
    assert_eq!((answer.status, answer.json()), (503, late(false, &[])));
    assert_eq!(http.get("/healthz/models/a%20b").await.status, 503);
    ready.store(true, Ordering::SeqCst);
    let answer = http.get("/healthz/models/late").await;
    assert_eq!((answer.status, answer.json()), (200, late(true, &["1"])));
    let answer = http.get("/healthz/models/nope").await;
    let expected = (404, "no model nope is configured".to_owned());
    assert_eq!((answer.status, answer.error()), expected);
    let list = http.get("/healthz/models").await;
    let models = list.json()["models"].as_array().unwrap().clone();
    assert!(list.status == 200 && models.contains(&late(true, &["1"])), "{}", list.text());
    assert_eq!(models.len(), ingle_types::DType::ALL.len() + 4);
}

#[tokio::test]
async fn health_is_read_only() {
    let (_, server) = server().await;
    let mut http = server.http().await;
    assert_eq!(http.request("HEAD", "/healthz/live", b"").await.status, 200);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(http.request(method, "/healthz/live", b"x").await.status, 405, "{method}");
    }
    for path in ["/healthz", "/healthz/", "/healthz/dead", "/healthz/models/a/b"] {
        assert_eq!(http.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn other_origins_are_allowed_where_that_is_on() {
    let allowed = [
        "access-control-allow-origin: *\r\n",
        "access-control-allow-methods: post, get\r\n",
        "access-control-allow-headers: content-type\r\n",
    ];
    for on in [false, true] {
        let server = Server::start_with_cors(on).await;
        let mut http = server.http().await;
        let origin = "Origin: https://page\r\n";
        let path = "/v1/models/int32:predict";
        let preflight = http.request_with("OPTIONS", path, origin, b"").await;
        assert_eq!((preflight.status, preflight.body.len()), (200, 0));
        let good = http.request_with("POST", path, origin, b"{\"inputs\":1}").await;
        let bad = http.request_with("POST", path, origin, b"").await;
        assert_eq!((good.status, bad.status), (200, 400));
        for answer in [preflight, good, bad] {
            let found = allowed.iter().all(|header| answer.head.contains(header));
            assert_eq!(found, on, "{}", answer.head);
            assert_eq!(answer.head.contains("access-control"), on, "{}", answer.head);
        }
        let metrics = http.request_with("GET", "/healthz/models", origin, b"").await;
        assert!(!metrics.head.contains("access-control"), "{}", metrics.head);
    }
}

#[tokio::test]
async fn answers_are_compressed_for_those_who_ask() {
    let server = Server::start().await;
    let mut http = server.http().await;
    let path = "/v1/models/int32:predict";
    let request = format!("{{\"inputs\":[{}7]}}", "7,".repeat(100_000));
    let plain = http.request("POST", path, request.as_bytes()).await;
    assert!(!plain.head.contains("content-encoding"), "{}", plain.head);
    let both = "Accept-Encoding: br, gzip\r\nContent-Encoding: gzip\r\n";
    let packed = http.request_with("POST", path, both, &gzip(request.as_bytes())).await;
    assert!(packed.head.contains("content-encoding: gzip"), "{}", packed.head);
    assert!(packed.head.contains("vary: accept-encoding"), "{}", packed.head);
    assert!(packed.body.len() * 10 < plain.body.len(), "{}", packed.body.len());
    let mut text = Vec::new();
    GzDecoder::new(packed.body.as_slice()).read_to_end(&mut text).unwrap();
    assert_eq!((packed.status, text == plain.body), (200, true));
    // A body that fits a packet stays as it is.
    let small =
        http.request_with("POST", path, "Accept-Encoding: gzip\r\n", b"{\"inputs\":1}").await;
    assert!(!small.head.contains("content-encoding"), "{}", small.head);
    assert!(small.text().contains("\"outputs\": 1"), "{}", small.text());
}
