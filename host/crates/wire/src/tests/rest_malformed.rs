//! Bytes that are not a request: each costs a 4xx, and the connection lives.

use super::rest::gzip;
use super::server::Server;

/// Bodies for the echo of float.
const BODIES: &[&str] = &[
    "",
    " ",
    "\0",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "true",
    "1",
    "\"instances\"",
    "{}",
    "[]",
    "{{}}",
    "{\"instances\"}",
    "{\"instances\":}",
    "{\"instances\":[}",
    "{\"instances\":[1}",
    "{\"instances\":[1",
    "{\"instances\":[1,",
    "{\"instances\":[1,]}",
    "{\"instances\":[1 2]}",
    "{\"instances\":[1],}",
    "{\"instances\":[1]",
    "{instances:[1]}",
    "{'instances':[1]}",
    "{\"instances\":[01]}",
    "{\"instances\":[1.]}",
    "{\"instances\":[.1]}",
    "{\"instances\":[1e]}",
    "{\"instances\":[+1]}",
    "{\"instances\":[--1]}",
    "{\"instances\":[0x1]}",
    "{\"instances\":[1e999]}",
    "{\"instances\":[nan]}",
    "{\"instances\":[Infinit]}",
    "{\"instances\":[tru]}",
    "{\"instances\":[None]}",
    "{\"instances\":[undefined]}",
    "{\"instances\":null}",
    "{\"instances\":{}}",
    "{\"instances\":\"1\"}",
    "{\"instances\":[]}",
    "{\"instances\":[{}]}",
    "{\"instances\":[{\"\":1}]}",
    "{\"instances\":[{\"y\":1}]}",
    "{\"instances\":[{\"x\":1},{}]}",
    "{\"instances\":[{\"x\":[1]},{\"x\":[1,2]}]}",
    "{\"instances\":[{\"x\":{\"x\":1}}]}",
    "{\"instances\":[\"\\ud800\"]}",
    "{\"instances\":[\"\\x41\"]}",
    "{\"instances\":[\"\\u12\"]}",
    "{\"instances\":[\"a\tb\"]}",
    "{\"instances\":[\"",
    "{\"instances\":[\"\\",
    "{\"instances\":[[1],[[1]]]}",
    "{\"instances\":[[1],1]}",
    "{\"instances\":[[[]],[[1]]]}",
    "{\"inputs\":null}",
    "{\"inputs\":{}}",
    "{\"inputs\":{\"y\":[1]}}",
    "{\"inputs\":[[],[1]]}",
    "{\"inputs\":[[1],[]]}",
    "{\"inputs\":[true]}",
    "{\"inputs\":[{}]}",
    "{\"inputs\":[{\"b64\":\"AA==\"}]}",
    "{\"inputs\":[1],\"instances\":[1]}",
    "{\"signature_name\":null,\"inputs\":[1]}",
    "{\"signature_name\":[],\"inputs\":[1]}",
    "{\"signature_name\":\"none\",\"inputs\":[1]}",
    "{\"signature_name\":\"\\u0000\",\"inputs\":[1]}",
    "{\"INSTANCES\":[1]}",
    "<xml/>",
    "instances=1",
    "{\"inputs\":[1]// comment\n}",
    "\u{feff}",
];

#[tokio::test]
async fn malformed_bodies_are_the_clients_and_cost_only_themselves() {
    let server = Server::start().await;
    let mut http = server.http().await;
    assert!(BODIES.len() >= 60);
    for body in BODIES {
        let answer = http.predict("float", body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert!(!answer.error().is_empty());
    }
    for body in
        [&b"\xff\xfe"[..], b"{\"inputs\":\xff}", b"{\"\xff\":1}", b"{\"inputs\":[\"\xc3\"]}"]
    {
        let answer = http.predict("float", body).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    assert_eq!(http.predict("float", "{\"inputs\":1}").await.status, 200);
}

#[tokio::test]
async fn bombs_are_refused() {
    let server = Server::start().await;
    let mut http = server.http().await;
    let million = 1_000_000;
    for body in [
        "[".repeat(million),
        "{\"a\":".repeat(million),
        format!("{{\"inputs\":{}", "[".repeat(million)),
        format!("{{\"inputs\":{}{}}}", "[".repeat(million), "]".repeat(million)),
        format!("{{\"inputs\":{}1{}}}", "[".repeat(200), "]".repeat(200)),
        format!("{{\"inputs\":[{}]}}", "1".repeat(10 * million)),
        format!("{{\"inputs\":[\"{}\"]}}", "a".repeat(10 * million)),
        format!("{{{}\"inputs\":\"\"}}", "\"k\":0,".repeat(million)),
    ] {
        let answer = http.predict("float", &body).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.body.len() < 1000, "{}", answer.text());
    }
    assert_eq!(http.predict("float", "{\"inputs\":1}").await.status, 200);
}

/// Heads that are not HTTP, or not this server's: the start of the answer, or `""`
/// where the connection may also just close.
#[tokio::test]
async fn malformed_heads_are_answered_or_hung_up_on() {
    let server = Server::start().await;
    for head in [
        "GARBAGE\r\n\r\n",
        "GET\r\n\r\n",
        "GET  HTTP/1.1\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /v1/models/m HTTP/1.1\r\nBad Header: 1\r\n\r\n",
        "GET /v1/models/m HTTP/1.1\r\n: 1\r\n\r\n",
        "GET /v1/models/m HTTP/1.1\r\nA\0: 1\r\n\r\n",
        "POST /v1/models/float:predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/models/float:predict HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "POST /v1/models/float:predict HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST /v1/models/float:predict HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /v1/models/float:predict HTTP/1.1\r\nTransfer-Encoding: nonsense\r\n\r\n",
        "POST /v1/models/float:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        "POST /v1/models/float:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "POST /v1/models/float:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "GET /\x01 HTTP/1.1\r\n\r\n",
        "GET /v1/models/ m HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
    ] {
        let mut http = server.http().await;
        http.send(head).await;
        if let Some(answer) = http.answer(false).await {
            assert!((400..500).contains(&answer.status), "{head}: {}", answer.status);
        }
    }
    assert_eq!(server.http().await.predict("float", "{\"inputs\":1}").await.status, 200);
}

#[tokio::test]
async fn tricks_with_paths_are_client_errors() {
    let server = Server::start().await;
    let mut http = server.http().await;
    for path in [
        "/v1/",
        "/v1//models/float",
        "/v1/models/float/../two",
        "/v1/models/%2e%2e",
        "/v1/models/%00",
        "/v1/models/%ff%fe",
        "/v1/models/%",
        "/v1/models/%zz",
        "/v1/models/..%2f..%2fetc%2fpasswd",
        "/v1/models/float%20",
        "/v1/models/float%0d%0aSet-Cookie:a",
        "/v1/models/float;a=b",
        "/v1/models/float#x",
        "/v1/models/*",
        "/v1/models/float/versions/1/versions/1",
        "/v1/models/float/versions/+1",
        "/v1/models/float/versions/-1",
        "/v1/models/float/versions/1e3",
        "/v1/models/float/versions/99999999999999999999",
        "/v1/models/float/metadata/x",
        "/v1/models/float:",
        "/v1/models/float::predict",
        "/v2/models/float/infer",
    ] {
        for method in ["GET", "POST"] {
            let answer = http.request(method, path, b"{\"inputs\":1}").await;
            let client = (400..500).contains(&answer.status);
            assert!(client || path.contains('#'), "{method} {path}: {}", answer.status);
        }
    }
    let long = format!("/v1/models/{}", "n".repeat(8000));
    assert_eq!(http.get(&long).await.status, 404);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start().await;
    let mut http = server.http().await;
    let one = |model: &str| {
        let body = "{\"inputs\":1}";
        format!(
            "POST /v1/models/{model}:predict HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    http.send([one("float"), one("nope"), one("int32")].concat()).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(http.answer(false).await.unwrap().status);
    }
    assert_eq!(statuses, [200, 404, 200]);
}

#[tokio::test]
async fn nested_encodings_are_undone_once() {
    let server = Server::start().await;
    let twice = gzip(&gzip(b"{\"inputs\":1}"));
    let header = "Content-Encoding: gzip, gzip\r\n";
    let mut http = server.http().await;
    let answer = http.request_with("POST", "/v1/models/float:predict", header, &twice).await;
    assert_eq!(answer.status, 400);
}
