use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use ingle_types::{Code, DType, Limits, Tensor};
use serde_json::json;
use tokio::sync::Semaphore;

use super::server::Server;
use super::stub::{Act, Stub, Stubs};

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_status_prints_every_field() {
    let server = Server::start().await;
    let answer = server.http().await.get("/v1/models/float").await;
    assert_eq!(
        answer.json(),
        json!({"model_version_status": [
            {"version": "2", "state": "END", "status": {"error_code": "INTERNAL", "error_message": "it \"broke\""}},
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
        ]})
    );
    let text = answer.text();
    assert!(
        text.starts_with("{\n \"model_version_status\": [\n  {\n   \"version\": \"2\",\n"),
        "{text}"
    );
}

#[tokio::test]
async fn metadata_prints_every_field_and_the_map_twice() {
    let server = Server::start().await;
    let answer = server.http().await.get("/v1/models/two/metadata").await;
    let info = |name: &str, dtype: &str| json!({"dtype": dtype, "tensor_shape": {"dim": [], "unknown_rank": true}, "name": name});
    let tensors = json!({"a": info("a", "DT_FLOAT"), "b": info("b", "DT_INT32")});
    let method = "tensorflow/serving/predict";
    let full =
        json!({"inputs": tensors, "outputs": tensors, "method_name": method, "defaults": {}});
    let none = json!({"inputs": {}, "outputs": {}, "method_name": method, "defaults": {}});
    assert_eq!(
        answer.json(),
        json!({
            "model_spec": {"name": "two", "signature_name": "", "version": "1"},
            "metadata": {"signature_def": {"signature_def":
                {"serving_default": full, "other": full, "none": none}}},
        })
    );
}

#[tokio::test]
async fn gzip_is_undone_and_what_is_not_gzip_is_empty() {
    let server = Server::start().await;
    let mut http = server.http().await;
    let path = "/v1/models/int32:predict";
    let body = gzip(br#"{"inputs":[1,2]}"#);
    let encoded = "Content-Encoding: gzip\r\n";
    let answer = http.request_with("POST", path, encoded, &body).await;
    assert!(answer.text().contains("[1, 2]"), "{}", answer.text());
    assert!(!answer.head.contains("content-encoding"), "{}", answer.head);
    for broken in [b"{\"inputs\":1}".to_vec(), body[..body.len() / 2].to_vec(), Vec::new()] {
        let answer = http.request_with("POST", path, encoded, &broken).await;
        let expected = (400, "JSON Parse error: The document is empty".to_owned());
        assert_eq!((answer.status, answer.error()), expected);
    }
}

#[tokio::test]
async fn the_content_type_of_a_request_does_not_matter() {
    let server = Server::start().await;
    let mut http = server.http().await;
    for kind in ["application/x-www-form-urlencoded", "text/html", "nonsense"] {
        let header = format!("Content-Type: {kind}\r\n");
        let body = b"{\"inputs\":1}";
        let answer = http.request_with("POST", "/v1/models/int32:predict", &header, body).await;
        assert_eq!(answer.status, 200, "{kind}");
    }
}

#[tokio::test]
async fn each_failure_has_its_status_and_the_connection_lives_on() {
    let codes = [
        (Code::Cancelled, 499),
        (Code::DeadlineExceeded, 504),
        (Code::ResourceExhausted, 429),
        (Code::FailedPrecondition, 400),
        (Code::Internal, 500),
        (Code::Unavailable, 503),
    ];
    let x = [("x", DType::F32)];
    let mut stubs = Stubs::echoes().with(Stub::new("panic", &x, Act::Panic));
    for (code, _) in codes {
        stubs = stubs.with(Stub::new(code.name(), &x, Act::Fail(code)));
    }
    let server = Server::with(stubs, Limits::default()).await;
    let mut http = server.http().await;
    for (code, status) in codes {
        let answer = http.predict(code.name(), "{\"inputs\":1}").await;
        assert_eq!((answer.status, answer.error()), (status, "as told".to_owned()), "{code}");
        assert_eq!(answer.head.contains("retry-after: 1"), matches!(status, 429 | 503), "{code}");
    }
    let answer = http.predict("panic", "{\"inputs\":1}").await;
    assert_eq!((answer.status, answer.error()), (500, "internal error".to_owned()));
    assert_eq!(http.predict("float", "{\"inputs\":1}").await.status, 200);
    let text = server.wire.metrics.render();
    let counted = r#"model="panic",version="1",signature="serving_default",api="Predict",entrypoint="REST",code="INTERNAL"} 1"#;
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn a_request_that_takes_too_long_times_out() {
    let (entered, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let stub = Stub::new("slow", &[("x", DType::F32)], Act::Wait { entered, go });
    let rest_deadline = Some(Duration::from_millis(50));
    let server =
        Server::with(Stubs::default().with(stub), Limits { rest_deadline, ..Limits::default() })
            .await;
    let answer = server.http().await.predict("slow", "{\"inputs\":1}").await;
    let expected = (504, "Timed out waiting for notification".to_owned());
    assert_eq!((answer.status, answer.error()), expected);
}

#[tokio::test]
async fn without_a_deadline_an_answer_is_waited_for_and_a_body_is_not() {
    let (entered, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let act = Act::Wait { entered: entered.clone(), go: go.clone() };
    let stub = Stub::new("slow", &[("x", DType::F32)], act);
    let default_deadline = Duration::from_millis(100);
    let limits = Limits { rest_deadline: None, default_deadline, ..Limits::default() };
    let server = Server::with(Stubs::default().with(stub), limits).await;
    let mut http = server.http().await;
    let later = async {
        entered.acquire().await.unwrap().forget();
        // Longer than the deadline of all others.
        tokio::time::sleep(default_deadline * 2).await;
        go.add_permits(1);
    };
    let (answer, ()) = tokio::join!(http.predict("slow", "{\"inputs\":1}"), later);
    assert_eq!(answer.status, 200);
    let mut http = server.http().await;
    let path = "/v1/models/slow:predict";
    http.send(format!("POST {path} HTTP/1.1\r\nContent-Length: 100\r\n\r\n{{")).await;
    assert_eq!(http.answer(false).await.unwrap().status, 504);
}

#[tokio::test]
async fn outputs_that_json_cannot_hold_are_refused() {
    let scalar = Tensor::from_slice(&[], &[1f32]).unwrap();
    let x = [("x", DType::F32)];
    let say = |name, outputs: BTreeMap<String, Tensor>| Stub::new(name, &x, Act::Say(outputs));
    let stubs = Stubs::default()
        .with(say("scalar", BTreeMap::from([("y".into(), scalar)])))
        .with(say("nothing", BTreeMap::new()));
    let server = Server::with(stubs, Limits::default()).await;
    let mut http = server.http().await;
    for (model, expected) in [
        ("scalar", "Tensor name: y has no shape information "),
        ("nothing", "Cannot convert empty tensor map to JSON"),
    ] {
        let answer = http.predict(model, "{\"instances\":[1]}").await;
        assert_eq!((answer.status, answer.error()), (400, expected.to_owned()));
    }
    let answer = http.predict("scalar", "{\"inputs\":1}").await;
    assert!(answer.text().contains("\"outputs\": 1.0"), "{}", answer.text());
}

#[tokio::test]
async fn a_large_array_is_read_whole() {
    let server = Server::start().await;
    let mut http = server.http().await;
    let row = format!("[{}]", vec!["0.5"; 224 * 3].join(","));
    let body = format!("{{\"instances\":[[{}]]}}", vec![row; 224].join(","));
    let answer = http.predict("float", &body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text().matches("0.5").count(), 224 * 224 * 3);
}
