//! The operators' API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use ingle_types::{BoxFuture, Code, Limits, ServeError, Stage, Version};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::http::Http;
use super::server::wire;
use super::stub::Stubs;
use crate::{Admin, Model, ModelVersion, Operate, Token};

/// Remembers what it is told; a model called "bad" fails.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn note(&self, what: String) -> BoxFuture<'_, Result<(), ServeError>> {
        let bad = what.contains("bad");
        self.0.lock().unwrap().push(what);
        let refused = || ServeError::new(Code::NotFound, Stage::Route, "no model bad");
        Box::pin(async move { if bad { Err(refused()) } else { Ok(()) } })
    }
}

impl Operate for Told {
    fn models(&self) -> Vec<Model> {
        let version = ModelVersion {
            version: "3".into(),
            state: "AVAILABLE",
            error_code: "OK",
            error_message: String::new(),
            plugins: BTreeMap::from([("resize".to_owned(), "2".to_owned())]),
        };
        let labels = BTreeMap::from([("stable".to_owned(), "3".to_owned())]);
        vec![Model { name: "m".into(), ready: true, labels, versions: vec![version] }]
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), ServeError>> {
        self.note("reload".into())
    }

    fn load(
        &self,
        model: String,
        version: Option<Version>,
    ) -> BoxFuture<'_, Result<(), ServeError>> {
        self.note(format!("load {model} {version:?}"))
    }

    fn unload(
        &self,
        model: String,
        version: Option<Version>,
    ) -> BoxFuture<'_, Result<(), ServeError>> {
        self.note(format!("unload {model} {version:?}"))
    }

    fn log_filter(&self) -> String {
        "info".into()
    }

    fn set_log_filter(&self, filter: &str) -> Result<(), ServeError> {
        self.0.lock().unwrap().push(format!("log {filter}"));
        match filter {
            "=" => Err(ServeError::invalid(Stage::Decode, "no filter")),
            _ => Ok(()),
        }
    }

    fn drain(&self) {
        self.0.lock().unwrap().push("drain".into());
    }
}

struct Server {
    address: SocketAddr,
    told: Arc<Told>,
    stop: CancellationToken,
}

impl Server {
    async fn start(token: Option<&str>) -> Self {
        let told = Arc::new(Told::default());
        let token = token.map(|token| Token::new(token).unwrap());
        let wire = wire(Stubs::echoes(), Limits::default());
        let admin = Admin::new(wire, told.clone(), token);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move { admin.serve(listener, stopped).await });
        Self { address, told, stop }
    }

    async fn http(&self) -> Http {
        Http::connect(self.address).await
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.0.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn each_request_does_what_it_says() {
    let server = Server::start(None).await;
    let mut http = server.http().await;
    for (path, expected) in [
        ("/reload", "reload"),
        ("/models/m/load", "load m None"),
        ("/models/a%20b/versions/3/load", "load a b Some(3)"),
        ("/models/m/unload", "unload m None"),
        ("/models/m/versions/0/unload", "unload m Some(0)"),
        ("/drain", "drain"),
    ] {
        let answer = http.request("POST", path, b"").await;
        assert_eq!((answer.status, answer.json()["done"].clone()), (200, true.into()), "{path}");
        assert_eq!(server.told(), [expected]);
    }
    let answer = http.request("PUT", "/log-level", b"{\"filter\": \"debug\"}").await;
    assert_eq!((answer.status, server.told()), (200, vec!["log debug".to_owned()]));
    assert_eq!(http.get("/log-level").await.json()["filter"], "info");
    let models = http.get("/models").await.json();
    let version = &models["models"][0]["versions"][0];
    assert_eq!((&version["version"], &version["plugins"]["resize"]), (&"3".into(), &"2".into()));
    let metrics = http.get("/metrics").await;
    assert!(metrics.head.contains("text/plain; version=0.0.4"), "{}", metrics.head);
    assert!(metrics.text().contains("# TYPE :tensorflow:serving:request_count counter"));
    assert_eq!(http.get("/healthz/live").await.json()["live"], true);
    assert_eq!(http.get("/healthz/models/float").await.status, 200);
}

#[tokio::test]
async fn what_fails_is_json_and_says_why() {
    let server = Server::start(None).await;
    let mut http = server.http().await;
    for (method, path, body, status, text) in [
        ("POST", "/models/bad/load", "", 404, "no model bad"),
        ("POST", "/models/m/versions/-1/load", "", 400, "\"-1\" is not the number of a version"),
        ("GET", "/drain", "", 405, "this path takes POST alone"),
        ("GET", "/v1/models/m", "", 404, "there is nothing at this path"),
        ("GET", "/healthz/nothing", "", 404, "there is nothing at this path"),
        ("PUT", "/log-level", "{", 400, "the body is not {\"filter\": \"...\"}"),
        ("PUT", "/log-level", "{\"filter\": 5}", 400, "the body is not {\"filter\": \"...\"}"),
        ("PUT", "/log-level", "{\"level\": \"a\"}", 400, "the body is not {\"filter\": \"...\"}"),
        ("PUT", "/log-level", "{\"filter\": \"=\"}", 400, "no filter"),
    ] {
        let answer = http.request(method, path, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.error().starts_with(text), "{}", answer.error());
    }
    let large = vec![b' '; 17 * 1024];
    assert_eq!(server.http().await.request("PUT", "/log-level", &large).await.status, 413);
    let headers = format!("x: {}\r\n", "x".repeat(20 * 1024));
    let answer = server.http().await.request_with("GET", "/models", &headers, b"").await;
    assert_eq!(answer.status, 431);
}

#[tokio::test]
async fn nobody_steers_who_may_not() {
    let server = Server::start(None).await;
    let page = "Origin: http://127.0.0.1\r\n";
    let answer = server.http().await.request_with("POST", "/drain", page, b"").await;
    assert_eq!(answer.status, 403);
    let mut http = server.http().await;
    http.send("POST /drain HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(http.answer(false).await.unwrap().status, 403);
    assert!(!answer.head.contains("access-control"), "{}", answer.head);
    let token = "0123456789abcdef";
    let server = Server::start(Some(token)).await;
    for (header, status) in [
        ("", 401),
        ("Authorization: Bearer 0123456789abcdee\r\n", 401),
        ("Authorization: Bearer 0123456789abcdef\r\n", 200),
    ] {
        for path in ["/models", "/metrics", "/healthz/live"] {
            let answer = server.http().await.request_with("GET", path, header, b"").await;
            assert_eq!(answer.status, status, "{path} {header}");
        }
    }
    assert_eq!(server.told(), Vec::<String>::new());
}
