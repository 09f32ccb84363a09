//! `:classify` and `:regress`.

use ingle_types::{Code, DType, Dim, Limits, Shape, Tensor, TensorMap, TensorSpec};
use serde_json::json;

use super::http::{Answer, Http};
use super::rest::gzip;
use super::server::Server;
use super::stub::{Act, Stub, Stubs};

async fn ask(http: &mut Http, call: &str, body: &str) -> Answer {
    http.request("POST", &format!("/v1/models/{call}"), body.as_bytes()).await
}

/// Says two classes for one example of one integer.
fn labelled() -> Stub {
    let shape = || Shape::new([1, 2]).unwrap();
    let classes = Tensor::blobs(shape(), vec!["cat".into(), "dog".into()]).unwrap();
    let scores = Tensor::from_slice(&[1, 2], &[0.1f32, 2.0]).unwrap();
    let said = TensorMap::from([("classes".into(), classes), ("scores".into(), scores)]);
    let output = |name, dtype| TensorSpec::new(name, dtype, vec![Dim::Any, Dim::Fixed(2)]);
    let outputs = vec![output("classes", DType::Bytes), output("scores", DType::F32)];
    let inputs = vec![TensorSpec::new("n", DType::I32, vec![Dim::Any])];
    Stub::new("labelled", &[], Act::Say(said)).signature("named", inputs, outputs)
}

#[tokio::test]
async fn answers_are_under_results() {
    let server = Server::with(Stubs::echoes().with(labelled()), Limits::default()).await;
    let mut http = server.http().await;
    let body = r#"{"signature_name": "named", "examples": [{"n": 7}]}"#;
    let answer = ask(&mut http, "labelled:classify", body).await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"results": [[["cat", 0.1], ["dog", 2.0]]]}))
    );
    let answer = ask(&mut http, "float:classify", r#"{"examples": [{"x": [0.5, 2.0]}]}"#).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"results": [[["", 0.5], ["", 2.0]]]})));
    let body = r#"{"examples": [{"x": 0.5}, {"x": [2.0]}, {"x": 1e0}], "unknown": [[{}]]}"#;
    for call in ["float:regress", "half/versions/1:regress", "double/labels/stable:regress"] {
        let answer = ask(&mut http, call, body).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"results": [0.5, 2.0, 1.0]})));
    }
    let text = server.wire.metrics.render();
    for counted in [
        r#"model="labelled",version="1",signature="named",api="Classify",entrypoint="REST",code="OK"} 1"#,
        r#"model="half",version="1",signature="serving_default",api="Regress",entrypoint="REST",code="OK"} 1"#,
    ] {
        assert!(text.contains(counted), "{text}");
    }
}

#[tokio::test]
async fn values_of_each_kind_arrive() {
    let server = Server::start().await;
    let mut http = server.http().await;
    let classify = async |http: &mut Http, model: &str, body: &str| {
        let body = format!("{{\"signature_name\": \"other\", \"examples\": [{body}]}}");
        let answer = ask(http, &format!("{model}:classify"), &body).await;
        let text = answer.text();
        (answer.status == 200).then(|| answer.json()["results"].clone()).ok_or(text)
    };
    let labels = |labels: &[&str]| {
        Ok(json!([labels.iter().map(|label| json!([label, 0.0])).collect::<Vec<_>>()]))
    };
    for (model, body, expected) in [
        ("string", r#"{"x": ["a", {"b64": "aGVsbG8="}, "\u00e9"]}"#, &["a", "hello", "é"][..]),
        ("string", r#"{"x": {"b64": "aGVsbG8"}}"#, &["hello"]),
        ("string", r#"{"x": 1, "x": "last"}"#, &["last"]),
        (
            "int64",
            r#"{"x": [-9223372036854775808, true, false]}"#,
            &["-9223372036854775808", "1", "0"],
        ),
        ("int8", r#"{"x": [-128]}"#, &["-128"]),
    ] {
        assert_eq!(classify(&mut http, model, body).await, labels(expected), "{body}");
    }
    let body = r#"{"context": {"x": 1.5, "b": 0}, "examples": [{}, {"x": 2.5}, {"b": []}]}"#;
    let answer = ask(&mut http, "float:regress", body).await;
    assert_eq!(answer.json(), json!({"results": [1.5, 2.5, 1.5]}));
    let body = r#"{"examples": [{"x": [NaN, Infinity, -Inf, 1e39, 18446744073709551616]}]}"#;
    let answer = ask(&mut http, "float:classify", body).await;
    let expected =
        r#"[[["", NaN], ["", Infinity], ["", -Infinity], ["", Infinity], ["", 1.84467441e+19]]]"#;
    assert!(answer.text().contains(expected), "{}", answer.text());
}

#[tokio::test]
async fn requests_are_refused_in_tensorflow_servings_words() {
    let server = Server::start().await;
    let mut http = server.http().await;
    let missing = r#"JSON Value: {"inputs": 1} When method is classify, key 'examples' is expected and was not found"#;
    for (call, body, status, expected) in [
        ("float:classify", "", 400, "JSON Parse error: The document is empty"),
        (
            "nope:classify",
            "{",
            400,
            "JSON Parse error: Missing a name for object member. at offset: 1",
        ),
        ("float:classify", "[1]", 400, "JSON Value: [1] Is not object"),
        (
            "float:classify",
            r#"{"signature_name": 5}"#,
            400,
            r#"JSON Value: {"signature_name": 5} not formatted correctly. 'signature_name' key must be a string value."#,
        ),
        ("float:classify", r#"{"inputs": 1}"#, 400, missing),
        ("float:regress", r#"{"inputs": 1}"#, 400, missing),
        (
            "float:regress",
            r#"{"examples": {}}"#,
            400,
            r#"JSON Value: {"examples": {}} Expecting 'examples' value to be an list/array"#,
        ),
        (
            "float:regress",
            r#"{"examples": []}"#,
            400,
            r#"JSON Value: {"examples": []} 'examples' value is an empty array"#,
        ),
        (
            "float:regress",
            r#"{"examples": [[1]]}"#,
            400,
            "Example must be JSON object but got JSON Array",
        ),
        (
            "float:regress",
            r#"{"context": 1, "examples": [{}]}"#,
            400,
            "Example must be JSON object but got JSON Number",
        ),
        (
            "float:regress",
            r#"{"examples": [{"x": null}]}"#,
            400,
            "Feature: x has element with unexpected JSON type: Null",
        ),
        (
            "float:regress",
            r#"{"examples": [{"x": [[1.0]]}]}"#,
            400,
            "Feature: x has element with unexpected JSON type: Array",
        ),
        (
            "float:regress",
            r#"{"examples": [{"x": {"a": 1}}]}"#,
            400,
            "Feature: x has element with unexpected JSON type: Object",
        ),
        (
            "float:regress",
            r#"{"examples": [{"x": [10, 10.0]}]}"#,
            400,
            "Unexpected element type in feature: x expecting type: int64",
        ),
        (
            "float:regress",
            r#"{"examples": [{"x": ["a", true]}]}"#,
            400,
            "Unexpected element type in feature: x expecting type: bytes",
        ),
        (
            "float:regress",
            r#"{"examples": [{"x": [1.5, "a"]}]}"#,
            400,
            "Unexpected element type in feature: x expecting type: float",
        ),
        (
            "float:regress",
            r#"{"examples": [{"x": 18446744073709551603}]}"#,
            400,
            "Feature: x has uint64 element. Only int64_t is supported.",
        ),
        (
            "string:classify",
            r#"{"examples": [{"x": {"b64": "_-_"}}]}"#,
            400,
            "Feature: x Unable to base64 decode",
        ),
        (
            "nope:classify",
            r#"{"examples": [{}]}"#,
            404,
            "Servable not found for request: Latest(nope)",
        ),
        (
            "float/versions/7:regress",
            r#"{"examples": [{}]}"#,
            404,
            "Servable not found for request: Specific(float, 7)",
        ),
        (
            "float:classify",
            r#"{"signature_name": "s", "examples": [{}]}"#,
            400,
            "No signature was found with the name: s",
        ),
        (
            "float:classify",
            r#"{"examples": [{"x": 1}]}"#,
            400,
            "Name: <unknown>, Key: x, Index: 0.  Data types don't match. Data type: int64 but expected type: float",
        ),
        (
            "float:classify",
            r#"{"examples": [{"x": 1.0}, {"x": []}]}"#,
            400,
            "Name: <unknown>, Feature: x (data type: float) is required but could not be found. Index: 1",
        ),
        (
            "int8:classify",
            r#"{"examples": [{"x": 128}]}"#,
            400,
            "Name: <unknown>, Key: x, Index: 0.  Value 128 is not in the range of the input's type: int8",
        ),
    ] {
        let answer = ask(&mut http, call, body).await;
        assert_eq!((answer.status, answer.error()), (status, expected.to_owned()), "{call} {body}");
    }
}

#[tokio::test]
async fn bodies_are_inflated_and_bounded() {
    let limits = Limits { request_bytes: 2000, ..Limits::default() };
    let stubs =
        Stubs::echoes().with(Stub::new("busy", &[("x", DType::F32)], Act::Fail(Code::Unavailable)));
    let server = Server::with(stubs, limits).await;
    let mut http = server.http().await;
    let body = gzip(br#"{"examples": [{"x": 0.5}]}"#);
    let path = "/v1/models/float:regress";
    let answer = http.request_with("POST", path, "Content-Encoding: gzip\r\n", &body).await;
    assert_eq!(answer.json(), json!({"results": [0.5]}));
    let examples = |example: &str, count: usize| {
        format!("{{\"examples\": [{}{example}]}}", format!("{example},").repeat(count - 1))
    };
    // Each is small as a text: examples, features, values, and a context in each.
    let wide = format!("{{\"examples\": [{{{}}}]}}", ["\"\":[]"; 100].join(","));
    let context = format!(
        "{{\"context\": {{\"x\": [{}]}}, {}",
        ["0.0"; 100].join(","),
        &examples("{}", 100)[1..]
    );
    for body in [examples("{}", 100), wide, examples("{\"x\":[1,2,3,4]}", 60), context] {
        assert!(body.len() < 2000);
        let answer = ask(&mut http, "float:regress", &body).await;
        assert_eq!(answer.status, 413, "{body}: {}", answer.text());
    }
    let answer = ask(&mut http, "busy:regress", r#"{"examples": [{"x": 0.5}]}"#).await;
    assert_eq!((answer.status, answer.error()), (503, "as told".to_owned()));
}
