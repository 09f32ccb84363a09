//! Malformed requests over both protocols: each is the client's fault and costs
//! nobody else anything.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use ingle_tests::client::{Rest, floats, grpc, request};
use ingle_tests::{Server, workspace};
use ingle_wire::proto::tensorflow::serving::{ModelSpec, PredictRequest, model_spec};
use ingle_wire::proto::tensorflow::{TensorProto, TensorShapeProto, tensor_shape_proto};
use prost::Message;
use serde_json::json;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Codes that say "mend your request".
const CLIENT_FAULT: [Code; 5] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::FailedPrecondition,
    Code::OutOfRange,
    Code::ResourceExhausted,
];

fn serve() -> Server {
    Server::start(&[
        format!("--repository={}", workspace().join("models").display()),
        "--file_system_poll_wait_seconds=0".into(),
    ])
}

fn picture() -> Vec<u8> {
    std::fs::read(workspace().join("models/digits/samples/7.png")).unwrap()
}

fn good_request() -> PredictRequest {
    request("digits", "serving_default", "image", floats(&[1, 1, 8, 8], &[0.5]))
}

/// gRPC messages as they are on the wire.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

async fn predict_raw(channel: &Channel, message: Bytes) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let path = "/tensorflow.serving.PredictionService/Predict".parse().unwrap();
    client.unary(tonic::Request::new(message), path, Raw).await.map(tonic::Response::into_inner)
}

fn tensor(dtype: i32, dims: &[i64]) -> TensorProto {
    let dim = dims.iter().map(|d| tensor_shape_proto::Dim { size: *d, ..Default::default() });
    let tensor_shape = Some(TensorShapeProto { dim: dim.collect(), unknown_rank: false });
    TensorProto { dtype, tensor_shape, ..Default::default() }
}

fn string_tensor(dims: &[i64], values: &[&[u8]]) -> TensorProto {
    let string_val = values.iter().map(|v| Bytes::copy_from_slice(v)).collect();
    TensorProto { string_val, ..tensor(7, dims) }
}

/// Tensors that are no digit pictures, each with a name.
fn bad_tensors() -> Vec<(String, TensorProto)> {
    let mut cases = Vec::new();
    for dtype in (0..=36).filter(|d| *d != 1).chain([101, 107, 9999, -1, i32::MAX, i32::MIN]) {
        cases.push((format!("dtype {dtype}"), tensor(dtype, &[1, 1, 8, 8])));
    }
    let shapes: [&[i64]; 14] = [
        &[],
        &[1],
        &[64],
        &[-1, 1, 8, 8],
        &[1, 1, -8, -8],
        &[i64::MIN, 1, 8, 8],
        &[i64::MAX, i64::MAX, 8, 8],
        &[1 << 40, 1, 8, 8],
        &[1 << 62, 4, 8, 8],
        &[0, i64::MAX, i64::MAX, 2],
        &[1, 1, 8, 9],
        &[1, 3, 8, 8],
        &[1, 1, 8, 8, 1],
        &[1; 300],
    ];
    for dims in shapes {
        cases.push((format!("shape {dims:?}"), tensor(1, dims)));
    }
    for bytes in [0usize, 1, 255, 257, 512] {
        let tensor_content = Bytes::from(vec![1; bytes.max(1)]);
        let case = TensorProto { tensor_content, ..tensor(1, &[1, 1, 8, 8]) };
        cases.push((format!("content of {bytes} bytes"), case));
    }
    cases
}

/// Bytes that are no picture, or too much of one.
fn bad_pictures() -> Vec<(String, Vec<u8>)> {
    let png = picture();
    let jpeg = std::fs::read(workspace().join("models/digits/samples/7.jpg")).unwrap();
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, whole) in [("png", &png), ("jpeg", &jpeg)] {
        for eighth in 0..8 {
            // The last bytes of a picture carry no pixels, so a cut there may go unnoticed.
            let cut = whole.len() * eighth / 10;
            cases.push((format!("{name} cut at {cut}"), whole[..cut].to_vec()));
        }
    }
    let mut huge = png.clone();
    huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    cases.push(("png of 60000x60000".into(), huge));
    let mut none = png;
    none[16..24].fill(0);
    cases.push(("png of 0x0".into(), none));
    for (name, bytes) in
        [("gif", &b"GIF89a\x01\x00\x01\x00"[..]), ("text", b"seven"), ("zeros", &[0; 64])]
    {
        cases.push((name.into(), bytes.to_vec()));
    }
    cases
}

fn bad_specs() -> Vec<(&'static str, PredictRequest)> {
    let spec = |name: &str, signature: &str| ModelSpec {
        name: name.into(),
        signature_name: signature.into(),
        ..Default::default()
    };
    let with = |model_spec: Option<ModelSpec>| PredictRequest { model_spec, ..good_request() };
    let version = |choice| {
        let spec = spec("digits", "serving_default");
        with(Some(ModelSpec { version_choice: Some(choice), ..spec }))
    };
    let mut twice = good_request();
    twice.inputs.insert("other".into(), floats(&[1], &[1.0]));
    let filter = |names: &[&str]| PredictRequest {
        output_filter: names.iter().map(|n| (*n).to_owned()).collect(),
        ..good_request()
    };
    vec![
        ("no spec", with(None)),
        ("no name", with(Some(spec("", "")))),
        ("unknown model", with(Some(spec("nobody", "")))),
        ("a path for a name", with(Some(spec("../../etc/passwd", "")))),
        ("a name with a zero byte", with(Some(spec("digits\0", "")))),
        ("unknown signature", with(Some(spec("digits", "nothing")))),
        ("unknown version", version(model_spec::VersionChoice::Version(99))),
        ("negative version", version(model_spec::VersionChoice::Version(-1))),
        ("unknown label", version(model_spec::VersionChoice::VersionLabel("canary".into()))),
        ("no inputs", PredictRequest { inputs: BTreeMap::new(), ..good_request() }),
        ("too many inputs", twice),
        ("unknown output", filter(&["nothing"])),
        ("an output twice", filter(&["probabilities", "probabilities"])),
        (
            "wrong input name",
            request("digits", "serving_default", "picture", floats(&[1, 1, 8, 8], &[])),
        ),
        ("floats for a picture", request("digits", "serving_image", "image", floats(&[1], &[1.0]))),
        ("no pictures", request("digits", "serving_image", "image", string_tensor(&[0], &[]))),
        (
            "a matrix of pictures",
            request("digits", "serving_image", "image", string_tensor(&[1, 1], &[b"x"])),
        ),
        (
            "too many pictures",
            request("digits", "serving_image", "image", string_tensor(&[100_000], &[b"x"])),
        ),
        (
            "a string for numbers",
            request("digits", "serving_default", "image", string_tensor(&[1, 1, 8, 8], &[b"x"])),
        ),
    ]
}

/// A valid message with some of its bytes changed, cut or repeated.
fn mutations() -> Vec<(String, Bytes)> {
    let good = good_request().encode_to_vec();
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    (0..120)
        .map(|i| {
            let mut bytes = good.clone();
            match i % 3 {
                0 => bytes[random(good.len())] ^= 1 << random(8),
                1 => bytes.truncate(random(good.len())),
                _ => {
                    let at = random(good.len());
                    let tail = bytes.split_off(at);
                    bytes.extend_from_slice(&[0xff; 11][..random(11)]);
                    bytes.extend(tail);
                }
            }
            (format!("mutation {i}"), bytes.into())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_grpc_requests_are_the_clients_fault() {
    let server = serve();
    let mut client = grpc(server.grpc).await;
    let mut cases: Vec<(String, PredictRequest)> = Vec::new();
    for (name, tensor) in bad_tensors() {
        cases.push((name, request("digits", "serving_default", "image", tensor)));
    }
    for (name, bytes) in bad_pictures() {
        let tensor = string_tensor(&[1], &[&bytes]);
        cases.push((name, request("digits", "serving_image", "image", tensor)));
    }
    cases.extend(bad_specs().into_iter().map(|(name, request)| (name.to_owned(), request)));
    let count = cases.len();
    assert!(count >= 90, "{count}");
    for (name, request) in cases {
        let status = client.predict(request).await.expect_err(&name);
        assert!(CLIENT_FAULT.contains(&status.code()), "{name}: {status}");
        assert!(!status.message().is_empty(), "{name}");
        client.predict(good_request()).await.unwrap_or_else(|e| panic!("after {name}: {e}"));
    }
    let channel = Channel::from_shared(format!("http://{}", server.grpc)).unwrap();
    let channel = channel.connect().await.unwrap();
    for (name, bytes) in mutations() {
        // Some mutations are valid requests.
        if let Err(status) = predict_raw(&channel, bytes).await {
            assert!(CLIENT_FAULT.contains(&status.code()), "{name}: {status}");
        }
    }
    client.predict(good_request()).await.unwrap();
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

const PREDICT: &str = "/v1/models/digits:predict";

fn bad_bodies() -> Vec<String> {
    let deep = |n: usize| format!("{{\"instances\": {}{}}}", "[".repeat(n), "]".repeat(n));
    let image = |value: &str| {
        format!("{{\"signature_name\": \"serving_default\", \"instances\": {value}}}")
    };
    let mut bodies: Vec<String> = [
        "",
        " ",
        "\0",
        "{",
        "}",
        "[",
        "]",
        "null",
        "true",
        "5",
        "\"text\"",
        "[1, 2]",
        "{}",
        "{\"instances\"",
        "{\"instances\": }",
        "{\"instances\": 5}",
        "{\"instances\": []}",
        "{\"instances\": {}}",
        "{\"instances\": null}",
        "{\"instances\": [null]}",
        "{\"instances\": [[]]}",
        "{\"instances\": [{}]}",
        "{\"instances\": [1], \"inputs\": [1]}",
        "{\"inputs\": {}}",
        "{\"inputs\": {\"x\": 1}}",
        "{\"inputs\": null}",
        "{\"signature_name\": 5, \"instances\": [1]}",
        "{\"signature_name\": \"nothing\", \"instances\": [1]}",
        "{\"signature_name\": null}",
        "{\"instances\": [{\"b64\": \"_-_\"}]}",
        "{\"instances\": [{\"b64\": 5}]}",
        "{\"instances\": [{\"b64\": \"AAAA\", \"x\": 1}]}",
        "{\"instances\": [{\"b64\": \"AAAA\"}]}",
        "{\"instances\": [{\"image\": {\"b64\": \"AAAA\"}, \"x\": 1}]}",
        "{\"instances\": [\"\"]}",
        "{\"instances\": [\"\\ud800\"]}",
        "{\"instances\": [\"\\x\"]}",
        "{\"instances\": [\"unclosed]}",
        "{'instances': [1]}",
        "{\"instances\": [1,]}",
        "{\"instances\": [01]}",
        "{\"instances\": [+1]}",
        "{\"instances\": [1.]}",
        "{\"instances\": [1e]}",
        "{\"instances\": [--1]}",
        "{\"instances\" [1]}",
        "{\"instances\": [1e400]}",
        "instances=[1]",
        "<xml/>",
        "\u{feff}{}",
    ]
    .map(str::to_owned)
    .into();
    for value in [
        "[1]",
        "[[1, 2], [3]]",
        "[[[[1]]]]",
        "[\"a\"]",
        "[true]",
        "[{\"image\": 1}]",
        "[{\"b64\": \"AAAA\"}]",
        "[[[1], [2]], [3]]",
        "[1, [1]]",
        "[{\"image\": 1}, 1]",
        "[1, {\"image\": 1}]",
        "[null]",
        "[[[[null]]]]",
    ] {
        bodies.push(image(value));
    }
    bodies.push(deep(50));
    bodies.push(deep(1_000));
    bodies.push(deep(200_000));
    bodies.push("[".repeat(1_000_000));
    bodies.push(format!("{{\"instances\": [{}]}}", "9".repeat(1_000_000)));
    bodies.push(format!("{{{}}}", "\"a\": 1, ".repeat(100_000)));
    bodies
}

fn bad_urls() -> Vec<(&'static str, String)> {
    let mut urls: Vec<(&str, String)> = Vec::new();
    for path in [
        "/",
        "/healthz",
        "/v1",
        "/v1/",
        "/v1/foo",
        "/v1/models",
        "/v1/models/",
        "/v1/models/digits/",
        "/v1/models/digits:predict",
        "/v1/models/nobody",
        "/v1/models/nobody/metadata",
        "/v1/models/digits/versions/99",
        "/v1/models/digits/versions/x",
        "/v1/models/digits/version/1",
        "/v1/models/digits/versions/18446744073709551616",
        "/v1/models/digits/labels/x/metadata",
        "/v1/models/digits?x=1",
        "/v1/models/%2e%2e%2f%2e%2e/metadata",
        "/v1/models/a%00b",
        "/v1//models//digits",
        "/v2/models/digits",
        "/v1/models/digits/metadata/",
        "/v1/models/digits/versions/1/labels/x",
    ] {
        urls.push(("GET", path.to_owned()));
    }
    for path in [
        "/",
        "/v1/models",
        "/v1/models/digits",
        "/v1/models/digits/metadata",
        "/v1/models/digits:Predict",
        "/v1/models/digits:predict?x=1",
        "/v1/models/digits:explain",
        "/v1/models/digits/versions/x:predict",
        "/v1/models/digits/versions/1/labels/x:predict",
        "/v1/models/:predict",
        "/v1/models/a/b:predict",
    ] {
        urls.push(("POST", path.to_owned()));
    }
    for method in ["PUT", "DELETE", "PATCH", "HEAD"] {
        urls.push((method, PREDICT.to_owned()));
    }
    urls.push(("GET", format!("/v1/models/{}", "a".repeat(60_000))));
    urls
}

/// The status line's number, or `None` where the server closed the connection.
fn raw_http(server: &Server, head: &str, body: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(server.rest).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // The server may answer, and close, before it has read everything.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let line = String::from_utf8_lossy(&answer).into_owned();
    line.split(' ').nth(1)?.parse().ok()
}

fn bad_http() -> Vec<(&'static str, String, Vec<u8>)> {
    let post = |headers: &str| {
        format!("POST {PREDICT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
    };
    vec![
        ("no HTTP at all", "\x16\x03\x01\x02\x00\r\n\r\n".into(), vec![]),
        ("no version", format!("POST {PREDICT}\r\n\r\n"), vec![]),
        ("a header without a colon", post("nonsense\r\n"), vec![]),
        ("a negative length", post("Content-Length: -5\r\n"), vec![]),
        ("a length that is no number", post("Content-Length: x\r\n"), vec![]),
        ("two lengths", post("Content-Length: 2\r\nContent-Length: 3\r\n"), b"{}".to_vec()),
        ("a length beyond the limit", post("Content-Length: 999999999999\r\n"), vec![]),
        ("headers beyond the limit", post(&format!("X: {}\r\n", "a".repeat(100_000))), vec![]),
        ("ten thousand headers", post(&"X: a\r\n".repeat(10_000)), vec![]),
        (
            "gzip that is none",
            post("Content-Encoding: gzip\r\nContent-Length: 2\r\n"),
            b"{}".to_vec(),
        ),
        (
            "broken chunks",
            post("Transfer-Encoding: chunked\r\n"),
            b"zz\r\n{}\r\n0\r\n\r\n".to_vec(),
        ),
        ("no body", post(""), vec![]),
    ]
}

#[test]
fn malformed_rest_requests_are_the_clients_fault() {
    let server = serve();
    let client = Rest::new(server.rest);
    let good = json!({"signature_name": "serving_default", "inputs": vec![vec![vec![vec![0.5; 8]; 8]]; 1]});
    let mut count = 0;
    for body in bad_bodies() {
        let (status, answer) = client.post(PREDICT, &body);
        let shown: String = body.chars().take(80).collect();
        assert!((400..500).contains(&status), "{status} for {shown:?}: {answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["error"].as_str().is_some_and(|e| !e.is_empty()), "{shown:?}: {answer}");
        count += 1;
    }
    for (name, bytes) in bad_pictures() {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let (status, answer) = client.json(PREDICT, &json!({"instances": [{"b64": text}]}));
        assert_eq!(status, 400, "{name}: {answer}");
        count += 1;
    }
    for (method, path) in bad_urls() {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
        );
        let status =
            raw_http(&server, &head, b"{}").unwrap_or_else(|| panic!("{method} {path}: no answer"));
        assert!((400..500).contains(&status), "{method} {path}: {status}");
        count += 1;
    }
    for (name, head, body) in bad_http() {
        // Closing without a word is right where it is not HTTP.
        if let Some(status) = raw_http(&server, &head, &body) {
            assert!((400..500).contains(&status), "{name}: {status}");
        }
        let (status, answer) = client.json(PREDICT, &good);
        assert_eq!(status, 200, "after {name}: {answer}");
        count += 1;
    }
    assert!(count >= 120, "{count}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
