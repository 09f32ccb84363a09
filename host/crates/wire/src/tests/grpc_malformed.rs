//! Bytes that are not a call: each costs a client's status, and the connection lives.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use http::Request;
use http_body_util::Full;
use ingle_types::{Code, Shape, Tensor};
use prost::Message as _;

use super::grpc::{one, predict, spec};
use super::limits::small;
use super::peer::{PREDICT, Peer, framed, post};
use super::rest::gzip;
use super::server::Server;
use crate::proto::tensorflow::TensorProto;
use crate::tensor_proto::encode;

const METADATA: &str = "/tensorflow.serving.PredictionService/GetModelMetadata";
const STATUS: &str = "/tensorflow.serving.ModelService/GetModelStatus";

fn good() -> Vec<u8> {
    predict(spec("float"), &[("x", one(&[1.0, 2.0]))]).encode_to_vec()
}

/// A message with one field that holds `bytes`.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// A request for the echo of float whose tensor is `bytes`.
fn with_tensor(bytes: &[u8]) -> Vec<u8> {
    let entry = [field(1, b"x"), field(2, bytes)].concat();
    [field(1, &spec("float").encode_to_vec()), field(2, &entry)].concat()
}

/// What gRPC calls deflate.
fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bad_messages() -> Vec<(&'static str, Vec<u8>)> {
    let tensor = |bytes: &[u8]| with_tensor(bytes);
    let float = |more: &[u8]| tensor(&[&[8, 1][..], more].concat());
    vec![
        ("empty", vec![]),
        ("zeros", vec![0; 8]),
        ("ones", vec![0xff; 32]),
        ("text", b"{\"inputs\": 1}".to_vec()),
        ("field number 0", vec![0x02, 0]),
        ("field number too high", vec![0xfa, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
        ("group", vec![0x0b, 0x0c]),
        ("wire type 6", vec![0x0e]),
        ("wire type 7", vec![0x0f]),
        ("spec cut short", vec![0x0a, 5, 1]),
        ("spec is a number", vec![0x08, 1]),
        ("spec is garbage", field(1, &[0xff; 3])),
        ("spec name is not text", field(1, &field(1, &[0xff]))),
        ("label is not text", field(1, &[field(1, b"float"), field(4, &[0xff])].concat())),
        ("length is a lie", vec![0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("length is huge", vec![0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ("entry cut short", field(2, &[0x0a, 9])),
        ("entry without name", [field(1, &spec("float").encode_to_vec()), field(2, b"")].concat()),
        ("input name is not text", field(2, &field(1, &[0xc3, 0x28]))),
        ("filter is not text", [good(), field(3, &[0xff])].concat()),
        ("filter is unknown", [good(), field(3, b"nope")].concat()),
        ("filter is empty", [good(), field(3, b"")].concat()),
        ("another input", [good(), field(2, &field(1, b"y"))].concat()),
        ("tensor is empty", tensor(&[])),
        ("tensor is garbage", tensor(&[0xff; 5])),
        ("dtype invalid", tensor(&[8, 0])),
        ("dtype complex", tensor(&[8, 8])),
        ("dtype quantized", tensor(&[8, 11])),
        ("dtype reference", tensor(&[8, 101])),
        ("dtype 9999", tensor(&[8, 0x8f, 0x4e])),
        ("dtype negative", tensor(&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])),
        ("dtype of another", tensor(&[8, 3])),
        ("shape is garbage", float(&field(2, &[0xff]))),
        ("dimension is garbage", float(&field(2, &field(2, &[0xff])))),
        (
            "dimension negative",
            float(&field(
                2,
                &field(2, &[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            )),
        ),
        ("rank 50 overflows", float(&field(2, &field(2, &[8, 0x80, 0x01]).repeat(30)))),
        ("content too short", float(&field(4, &[1, 2, 3]))),
        ("content too long", float(&field(4, &[1, 2, 3, 4, 5]))),
        ("packed floats in half", float(&field(5, &[1, 2, 3]))),
        ("unpacked float cut short", float(&[5 << 3 | 5, 1])),
    ]
}

#[tokio::test]
async fn malformed_messages_are_the_clients_and_cost_only_themselves() {
    let server = Server::start().await;
    let mut peer = Peer::connect(&server).await;
    let invalid = Some(Code::InvalidArgument.number());
    for (what, message) in bad_messages() {
        assert_eq!(peer.send(PREDICT, &[], framed(0, &message)).await, invalid, "{what}");
    }
    for (what, message) in [
        ("garbage", vec![0xff; 3]),
        ("cut short", vec![0x0a, 5, 1]),
        ("no spec", vec![]),
        ("name is not text", field(1, &field(1, &[0xff]))),
    ] {
        for path in [METADATA, STATUS] {
            assert_eq!(peer.send(path, &[], framed(0, &message)).await, invalid, "{path} {what}");
        }
    }
    assert_eq!(peer.send(PREDICT, &[], framed(0, &good())).await, Some(0));
}

#[tokio::test]
async fn lying_frames_are_the_clients() {
    let server = Server::start().await;
    let mut peer = Peer::connect(&server).await;
    let invalid = Some(Code::InvalidArgument.number());
    let zipped = gzip(&good());
    let gzip_header = [("grpc-encoding", "gzip")];
    let frames = [
        ("nothing", vec![]),
        ("part of a prefix", vec![0, 0]),
        ("length without message", vec![0, 0, 0, 0, 9]),
        ("message cut short", framed(0, &good())[..20].to_vec()),
        ("two messages", [framed(0, &good()), framed(0, &good())].concat()),
        ("something behind", [framed(0, &good()), vec![7]].concat()),
        ("flag 2", framed(2, &good())),
        ("flag 255", framed(255, &good())),
        ("compressed by nothing", framed(1, &zipped)),
    ];
    for (what, frame) in frames {
        assert_eq!(peer.send(PREDICT, &[], frame).await, invalid, "{what}");
    }
    let frame = framed(1, &zipped[..zipped.len() / 2]);
    assert_eq!(peer.send(PREDICT, &gzip_header, frame).await, invalid);
    assert_eq!(peer.send(PREDICT, &gzip_header, framed(1, b"no gzip")).await, invalid);
    assert_eq!(peer.send(PREDICT, &gzip_header, framed(1, &zipped)).await, Some(0));
    assert_eq!(peer.send(PREDICT, &gzip_header, framed(0, &good())).await, Some(0));
    let deflate = [("grpc-encoding", "deflate")];
    let deflated = zlib(&good());
    assert_eq!(peer.send(PREDICT, &deflate, framed(1, &deflated)).await, Some(0));
    let frame = framed(1, &deflated[..deflated.len() / 2]);
    assert_eq!(peer.send(PREDICT, &deflate, frame).await, invalid);
    assert_eq!(peer.send(PREDICT, &deflate, framed(1, &zipped)).await, invalid);
    let huge = vec![0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
    let exhausted = Some(Code::ResourceExhausted.number());
    assert_eq!(peer.send(PREDICT, &[], huge).await, exhausted);
}

#[tokio::test]
async fn a_compressed_bomb_stops_at_the_limit() {
    let server = small().await;
    let mut peer = Peer::connect(&server).await;
    let zeros = vec![0; 5_000_000];
    for (encoding, bomb) in [("gzip", gzip(&zeros)), ("deflate", zlib(&zeros))] {
        let bomb = framed(1, &bomb);
        assert!(bomb.len() < 10_000);
        let code = peer.send(PREDICT, &[("grpc-encoding", encoding)], bomb).await;
        assert_eq!(code, Some(Code::ResourceExhausted.number()), "{encoding}");
    }
    assert_eq!(peer.send(PREDICT, &[], framed(0, &good())).await, Some(0));
}

#[tokio::test]
async fn headers_that_make_no_sense_are_refused_or_ignored() {
    let server = Server::start().await;
    let mut peer = Peer::connect(&server).await;
    let body = || framed(0, &good());
    for timeout in ["", "x", "1", "S", "-5S", "1.5S", "123456789S", "1s", "0x1S", " 1S"] {
        let code = peer.send(PREDICT, &[("grpc-timeout", timeout)], body()).await;
        assert_eq!(code, Some(Code::InvalidArgument.number()), "{timeout}");
    }
    for timeout in ["99999999H", "99999999M", "10S"] {
        assert_eq!(peer.send(PREDICT, &[("grpc-timeout", timeout)], body()).await, Some(0));
    }
    for timeout in ["0S", "1n"] {
        let code = peer.send(PREDICT, &[("grpc-timeout", timeout)], body()).await;
        assert_eq!(code, Some(Code::DeadlineExceeded.number()), "{timeout}");
    }
    for encoding in ["br", "zstd", "gzip, gzip", "nonsense"] {
        let code = peer.send(PREDICT, &[("grpc-encoding", encoding)], body()).await;
        assert_eq!(code, Some(Code::Unimplemented.number()), "{encoding}");
    }
    let odd = [("x-custom-bin", "not base64!"), ("grpc-status", "13"), ("grpc-message", "%zz")];
    assert_eq!(peer.send(PREDICT, &odd, body()).await, Some(0));
}

#[tokio::test]
async fn what_is_not_a_known_method_is_unimplemented() {
    let server = Server::start().await;
    let mut peer = Peer::connect(&server).await;
    for path in [
        "/",
        "/tensorflow.serving.PredictionService",
        "/tensorflow.serving.PredictionService/",
        "/tensorflow.serving.PredictionService/predict",
        "/tensorflow.serving.PredictionService/Predict/",
        "/tensorflow.serving.PredictionService/Predict?x=1&",
        "/tensorflow.serving.SessionService/SessionRun",
        "/grpc.health.v1.Health/Else",
    ] {
        let code = peer.send(path, &[], framed(0, &good())).await;
        let expected = if path.contains('?') { 0 } else { Code::Unimplemented.number() };
        assert_eq!(code, Some(expected), "{path}");
    }
}

#[tokio::test]
async fn what_is_not_grpc_gets_an_http_status() {
    let server = Server::start().await;
    let mut peer = Peer::connect(&server).await;
    let get = Request::get(format!("http://test{PREDICT}")).body(Full::default()).unwrap();
    assert_eq!(peer.call(get).await, (405, None));
    for kind in ["application/json", "application/grpc-web", "application/grpc+json", ""] {
        let mut request = post(PREDICT, &[], framed(0, &good()));
        request.headers_mut().insert("content-type", kind.parse().unwrap());
        assert_eq!(peer.call(request).await, (415, None), "{kind}");
    }
    assert_eq!(peer.send(PREDICT, &[], framed(0, &good())).await, Some(0));
}

/// Every byte of a good request changed, and the request cut at every byte.
#[tokio::test]
async fn no_damage_to_a_good_request_is_the_servers_fault() {
    let server = Server::start().await;
    let mut peer = Peer::connect(&server).await;
    let text = Tensor::blobs(Shape::new([1]).unwrap(), vec!["abc".into()]).unwrap();
    let string: TensorProto = encode(&text);
    let mut request = predict(spec("string"), &[]);
    request.inputs.insert("x".into(), string);
    for message in [good(), request.encode_to_vec()] {
        for at in 0..message.len() {
            let mut damaged = message.clone();
            for flip in [0xff, 0x01, 0x80] {
                damaged[at] = message[at] ^ flip;
                let code = peer.send(PREDICT, &[], framed(0, &damaged)).await.unwrap();
                assert!(is_clients(code), "{code} at {at}");
            }
            let code = peer.send(PREDICT, &[], framed(0, &message[..at])).await.unwrap();
            assert!(is_clients(code), "{code} cut at {at}");
        }
    }
}

fn is_clients(code: i32) -> bool {
    [Code::InvalidArgument, Code::NotFound, Code::FailedPrecondition, Code::ResourceExhausted]
        .iter()
        .any(|c| c.number() == code)
        || code == 0
}
