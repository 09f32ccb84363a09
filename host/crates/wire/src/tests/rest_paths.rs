//! The URL vectors of TensorFlow Serving's own tests, by number.

use super::server::Server;

const VECTORS: &[(u32, &str, &str, u16, &str)] = &[
    (51, "GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
    (51, "POST", "/v1/foo", 400, "Malformed request: POST /v1/foo"),
    (52, "GET", "/v1/models", 400, "Missing model name in request."),
    (53, "POST", "/v1/models", 400, "Malformed request: POST /v1/models"),
    (54, "GET", "/v1/models/float:predict", 400, "Malformed request: GET /v1/models/float:predict"),
    (
        55,
        "GET",
        "/v1/models/debug/model_name",
        400,
        "Malformed request: GET /v1/models/debug/model_name",
    ),
    (
        56,
        "POST",
        "/v1/models/float/version/50:regress",
        400,
        "Malformed request: POST /v1/models/float/version/50:regress",
    ),
    (
        57,
        "POST",
        "/v1/models/float/versions/HELLO:regress",
        400,
        "Malformed request: POST /v1/models/float/versions/HELLO:regress",
    ),
    (
        58,
        "POST",
        "/v1/models/float/versions/18446744073709551615:regress",
        400,
        "Failed to convert version: 18446744073709551615 to numeric.",
    ),
    (59, "POST", "/v1/models/m/metadata", 400, "Malformed request: POST /v1/models/m/metadata"),
    (
        60,
        "POST",
        "/v1/models/float/versions/50/labels/s:regress",
        400,
        "Malformed request: POST /v1/models/float/versions/50/labels/s:regress",
    ),
    (
        65,
        "GET",
        "/v1/models/float/labels/x/metadata",
        400,
        "Unrecognized servable version label: x",
    ),
    (66, "GET", "/v1/models/metadata", 404, "Could not find any versions of model metadata"),
    (
        67,
        "POST",
        "/V1/Models/float:Predict",
        400,
        "Malformed request: POST /V1/Models/float:Predict",
    ),
    (
        68,
        "POST",
        "/v1/models/float:predict?x=1",
        400,
        "Malformed request: POST /v1/models/float:predict?x=1",
    ),
    (68, "GET", "/v1/models/float?x=1", 404, "Could not find any versions of model float?x=1"),
    (69, "GET", "/v1/models/float/", 400, "Malformed request: GET /v1/models/float/"),
    (70, "PUT", "/v1/models/float", 400, "Malformed request: PUT /v1/models/float"),
    (70, "DELETE", "/v1/models/float", 400, "Malformed request: DELETE /v1/models/float"),
    (
        70,
        "PATCH",
        "/v1/models/float:predict",
        400,
        "Malformed request: PATCH /v1/models/float:predict",
    ),
    (0, "GET", "/v1/models/float/versions/9", 404, "Could not find version 9 of model float"),
    (0, "GET", "/v1/models/nope/metadata", 404, "Servable not found for request: Latest(nope)"),
];

#[tokio::test]
async fn refused_paths_get_tensorflow_servings_texts() {
    let server = Server::start().await;
    let mut http = server.http().await;
    for &(number, method, path, status, expected) in VECTORS {
        let answer = http.request(method, path, b"{\"inputs\":1}").await;
        let got = (answer.status, answer.error());
        assert_eq!(got, (status, expected.to_owned()), "{number} {method} {path}");
    }
}

#[tokio::test]
async fn names_and_prefixes_are_matched_as_tensorflow_serving_does() {
    let server = Server::start().await;
    let mut http = server.http().await;
    for path in [
        "/V1/MODELS/float:predict",
        "/v1/models/%66loat:predict",
        "/v1/models/float/versions/1:predict",
        "/v1/models/float/labels/stable:predict",
        "/v1/models/float/LABELS/st%61ble:predict",
    ] {
        let answer = http.request("POST", path, b"{\"inputs\":1}").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    // A label does not count for a status (64), and a HEAD is malformed (70).
    assert_eq!(http.get("/v1/models/float/labels/nope").await.status, 200);
    assert_eq!(http.request("HEAD", "/v1/models/float", b"").await.status, 400);
}

#[tokio::test]
async fn other_paths_are_not_json() {
    let server = Server::start().await;
    let mut http = server.http().await;
    for path in ["/", "/healthz", "/statuspage", "/v1", "/v2/models/m", "//v1/models/m"] {
        let answer = http.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.head.contains("content-type: text/plain"), "{}", answer.head);
    }
}

#[tokio::test]
async fn the_metrics_page_has_one_path() {
    let server = Server::start().await;
    let mut http = server.http().await;
    assert_eq!(http.predict("float", "{\"inputs\":1}").await.status, 200);
    assert_eq!(http.predict("unknown", "{\"inputs\":1}").await.status, 404);
    let page = http.get("/monitoring/prometheus/metrics").await;
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-type: text/plain; version=0.0.4"), "{}", page.head);
    let found = r#"model="float",version="1",signature="serving_default",api="Predict",entrypoint="REST",code="OK"} 1"#;
    assert!(page.text().contains(found), "{}", page.text());
    let unknown =
        r#"model="",version="",signature="",api="Predict",entrypoint="REST",code="NOT_FOUND"} 1"#;
    assert!(page.text().contains(unknown), "{}", page.text());
    // 73.
    let page = http.get("/monitoring/prometheus/metrics?a=b").await;
    assert_eq!(page.status, 400);
    assert_eq!(
        page.text(),
        "Unexpected path: /monitoring/prometheus/metrics?a=b. Should be /monitoring/prometheus/metrics"
    );
}

#[tokio::test]
async fn the_metrics_page_may_be_elsewhere_or_nowhere() {
    let server = Server::with_metrics_path(Some("/v1/metrics")).await;
    let mut http = server.http().await;
    assert_eq!(http.get("/v1/metrics").await.status, 200);
    assert_eq!(
        http.get("/v1/metrics?a").await.text(),
        "Unexpected path: /v1/metrics?a. Should be /v1/metrics"
    );
    assert_eq!(http.get("/monitoring/prometheus/metrics").await.status, 404);
    let server = Server::with_metrics_path(None).await;
    let mut http = server.http().await;
    assert_eq!(http.get("/monitoring/prometheus/metrics").await.status, 404);
    assert_eq!(http.get("/v1/metrics").await.status, 400);
}

#[tokio::test]
async fn a_failure_counts_for_the_model_that_it_was_about() {
    let server = Server::start().await;
    let mut http = server.http().await;
    assert_eq!(http.predict("float", "{\"inputs\"").await.status, 400);
    assert_eq!(http.predict("float/versions/9", "{\"inputs\":1}").await.status, 404);
    assert_eq!(http.get("/v1/models/float").await.status, 200);
    let page = http.get("/monitoring/prometheus/metrics").await.text();
    for status in ["INVALID_ARGUMENT", "NOT_FOUND", "OK"] {
        let line = format!(
            ":tensorflow:serving:request_count{{model_name=\"float\",status=\"{status}\"}} 1\n"
        );
        assert!(page.contains(&line), "{page}");
    }
    let latency = ":tensorflow:serving:request_latency_count{model_name=\"float\",API=\"\",entrypoint=\"REST\"} 1\n";
    assert!(page.contains(latency), "{page}");
}

#[tokio::test]
async fn a_browsers_question_is_answered_by_its_origin() {
    let server = Server::start().await;
    let mut http = server.http().await;
    for (origin, status) in [("Origin: https://a\r\n", 200), ("Origin: null\r\n", 400), ("", 400)] {
        let answer = http.request_with("OPTIONS", "/v1/models/m:predict", origin, b"").await;
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{origin}");
    }
}
