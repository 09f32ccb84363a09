//! New versions of models and plugins under load: nothing fails, nothing is mixed,
//! and what is broken changes nothing but its status.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ingle_tests::client::{Rest, answer, floats, grpc, request};
use ingle_tests::repository::Repository;
use ingle_tests::{Server, onnx};
use serde_json::{Value, json};

#[path = "../guests/mod.rs"]
#[allow(dead_code, reason = "shared with the plugin host's tests")]
mod guests;

const MANIFEST: &[u8] = b"
[signatures.tagged]
default = true
preprocess = { plugin = \"tag\" }
postprocess = { plugin = \"tag\" }
";

const SWAPS: u64 = 100;
const CLIENTS_OF_EACH_KIND: usize = 8;

fn model(version: u64) -> Vec<u8> {
    onnx::add([0.0, version as f32])
}

fn publish_model(repository: &Repository, version: u64) {
    let model = model(version);
    repository.publish_model("m", version, &[("model.onnx", &model), ("bundle.toml", MANIFEST)]);
}

fn serve(repository: &Repository) -> Server {
    Server::start(&[
        format!("--repository={}", repository.models().display()),
        "--file_system_poll_wait_seconds=0.02".into(),
    ])
}

/// What all clients saw.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    answers: AtomicU64,
    model: AtomicU64,
    plugin: AtomicU64,
}

impl Seen {
    /// An answer is [plugin at preprocess, model, carry, plugin at postprocess]: all
    /// from one plugin version and from the model version that the response names.
    fn check(&self, version: Option<u64>, values: &[f32]) {
        let [before, model, carry, after] = values else { panic!("four values: {values:?}") };
        assert!(before == carry && before == after, "plugin versions are mixed: {values:?}");
        if let Some(version) = version {
            assert_eq!(*model, version as f32, "the answer is not the named version's");
        }
        self.model.store(*model as u64, Ordering::Relaxed);
        self.plugin.store(*after as u64, Ordering::Relaxed);
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

async fn grpc_client(seen: Arc<Seen>, address: std::net::SocketAddr) {
    let mut client = grpc(address).await;
    while !seen.stopped() {
        let request = request("m", "", "x", floats(&[1, 2], &[0.0, 0.0]));
        let response = client.predict(request).await.expect("no request may fail").into_inner();
        let (version, values) = answer(&response, "x");
        seen.check(Some(version as u64), &values);
    }
}

fn rest_client(seen: &Seen, address: std::net::SocketAddr) {
    let client = Rest::new(address);
    while !seen.stopped() {
        let (status, body) = client.json("/v1/models/m:predict", &json!({"instances": [[0, 0]]}));
        assert_eq!(status, 200, "no request may fail: {body}");
        let values: Vec<f32> = serde_json::from_value(body["predictions"][0].clone()).unwrap();
        seen.check(None, &values);
    }
}

async fn wait_for(what: &AtomicU64, version: u64, server: &Server) {
    let until = Instant::now() + Duration::from_secs(60);
    while what.load(Ordering::Relaxed) != version {
        assert!(Instant::now() < until, "version {version} never answered:\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_swaps_of_each_kind_fail_no_request_and_mix_no_answer() {
    let repository = Repository::default();
    publish_model(&repository, 1);
    repository.publish_plugin("tag", 1, &guests::versioned(1));
    let server = serve(&repository);
    let seen = Arc::new(Seen::default());
    let grpc_clients: Vec<_> = (0..CLIENTS_OF_EACH_KIND)
        .map(|_| tokio::spawn(grpc_client(seen.clone(), server.grpc)))
        .collect();
    let rest_clients: Vec<_> = (0..CLIENTS_OF_EACH_KIND)
        .map(|_| {
            let (seen, address) = (seen.clone(), server.rest);
            std::thread::spawn(move || rest_client(&seen, address))
        })
        .collect();
    for version in 2..SWAPS + 2 {
        publish_model(&repository, version);
        wait_for(&seen.model, version, &server).await;
        repository.publish_plugin("tag", version, &guests::versioned(version));
        wait_for(&seen.plugin, version, &server).await;
        repository.remove_model("m", version - 1);
        repository.remove_plugin("tag", version - 1);
    }
    seen.stop.store(true, Ordering::Relaxed);
    for client in grpc_clients {
        client.await.expect("no request may fail");
    }
    for client in rest_clients {
        client.join().expect("no request may fail");
    }
    let answers = seen.answers.load(Ordering::Relaxed);
    println!("{answers} answers over {SWAPS} model swaps and {SWAPS} plugin swaps");
    assert!(answers > 2 * SWAPS);
}

/// A server of version 1 of both, and a client.
fn one_version() -> (Repository, Server, Rest) {
    let repository = Repository::default();
    publish_model(&repository, 1);
    repository.publish_plugin("tag", 1, &guests::versioned(1));
    let server = serve(&repository);
    let client = Rest::new(server.rest);
    (repository, server, client)
}

fn status_of(client: &Rest, version: u64) -> Option<Value> {
    let (_, body) = client.get("/v1/models/m");
    let body: Value = serde_json::from_str(&body).unwrap();
    let rows = body["model_version_status"].as_array()?.clone();
    let version = version.to_string();
    rows.into_iter().find(|row| row["version"] == version.as_str())
}

/// Waits until the status of `version` says `text`, then checks that version 1 answers.
fn refused(server: &Server, client: &Rest, version: u64, text: &str) -> Value {
    let until = Instant::now() + Duration::from_secs(60);
    let row = loop {
        let row = status_of(client, version);
        let message = row.as_ref().and_then(|r| r["status"]["error_message"].as_str());
        if message.is_some_and(|m| m.contains(text)) {
            break row.unwrap();
        }
        assert!(Instant::now() < until, "no {text:?} in {row:?}\n{}", server.log());
        std::thread::sleep(Duration::from_millis(5));
    };
    let (status, body) = client.json("/v1/models/m:predict", &json!({"instances": [[0, 0]]}));
    assert_eq!((status, &body["predictions"][0]), (200, &json!([1.0, 1.0, 1.0, 1.0])), "{body}");
    assert!(server.log().contains(text), "the log says why:\n{}", server.log());
    row
}

#[test]
fn a_broken_model_version_leaves_the_old_one_and_says_why() {
    let (repository, server, client) = one_version();
    let unknown = onnx::unknown_operator();
    repository.publish_model("m", 2, &[("model.onnx", &unknown)]);
    let row = refused(&server, &client, 2, "Frobnicate");
    assert_eq!(row["state"], "END");
    assert_ne!(row["status"]["error_code"], "OK");
    let message = row["status"]["error_message"].as_str().unwrap();
    for part in ["the_node", "com.example"] {
        assert!(message.contains(part), "{message}");
    }
    repository.publish_model("m", 3, &[("model.onnx", b"not a model")]);
    refused(&server, &client, 3, "model");
    let trapping = guests::processor("trap-init", "trap-init");
    let pinned = b"[signatures.s]\npreprocess = { file = \"bad.wasm\" }".as_slice();
    let files = [("model.onnx", &*model(4)), ("bundle.toml", pinned), ("bad.wasm", &*trapping)];
    repository.publish_model("m", 4, &files);
    let row = refused(&server, &client, 4, "bad");
    assert_eq!(row["state"], "END");
    let (_, metrics) = client.get("/monitoring/prometheus/metrics");
    let line = r#"ingle_version_loads_total{model="m",outcome="error"} 3"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn a_broken_plugin_version_leaves_the_old_one_and_says_why() {
    let (repository, server, client) = one_version();
    repository.publish_plugin("tag", 2, &guests::whole("version"));
    let row = refused(&server, &client, 1, "ingle:plugin");
    assert_eq!(row["state"], "AVAILABLE");
    repository.publish_plugin("tag", 3, &guests::processor("trap-init", "trap-init"));
    refused(&server, &client, 1, "init");
    repository.publish_plugin("tag", 4, b"not a component");
    refused(&server, &client, 1, "component");
    let (_, metrics) = client.get("/monitoring/prometheus/metrics");
    assert!(
        metrics.contains(r#"ingle_plugin_swaps_total{plugin="tag",outcome="error"}"#),
        "{metrics}"
    );
    // The next good one is taken, over all that are broken.
    repository.publish_plugin("tag", 5, &guests::versioned(5));
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let (_, body) = client.json("/v1/models/m:predict", &json!({"instances": [[0, 0]]}));
        if body["predictions"][0] == json!([5.0, 1.0, 5.0, 5.0]) {
            break;
        }
        assert!(Instant::now() < until, "{body}\n{}", server.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_model_that_came_before_its_plugin_serves_once_that_is_there() {
    let repository = Repository::default();
    publish_model(&repository, 1);
    let server = serve(&repository);
    let client = Rest::new(server.rest);
    let row = status_of(&client, 1).unwrap();
    assert_eq!((&row["state"], &row["status"]["error_code"]), (&json!("END"), &json!("NOT_FOUND")));
    repository.publish_plugin("tag", 1, &guests::versioned(1));
    let until = Instant::now() + Duration::from_secs(60);
    while client.json("/v1/models/m:predict", &json!({"instances": [[0, 0]]})).0 != 200 {
        assert!(Instant::now() < until, "{}", server.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn removing_the_newest_version_rolls_back() {
    let (repository, server, client) = one_version();
    let answers = |expected: Value| {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let (status, body) =
                client.json("/v1/models/m:predict", &json!({"instances": [[0, 0]]}));
            assert_eq!(status, 200, "{body}");
            if body["predictions"][0] == expected {
                return;
            }
            assert!(Instant::now() < until, "{body}\n{}", server.log());
        }
    };
    repository.publish_plugin("tag", 2, &guests::versioned(2));
    answers(json!([2.0, 1.0, 2.0, 2.0]));
    repository.remove_plugin("tag", 2);
    answers(json!([1.0, 1.0, 1.0, 1.0]));
    publish_model(&repository, 2);
    answers(json!([1.0, 2.0, 1.0, 1.0]));
    repository.remove_model("m", 2);
    answers(json!([1.0, 1.0, 1.0, 1.0]));
}

#[test]
fn one_broken_model_does_not_keep_the_others_from_serving() {
    let repository = Repository::default();
    repository.publish_plugin("tag", 1, &guests::versioned(1));
    publish_model(&repository, 1);
    repository.publish_model("broken", 1, &[("model.onnx", b"\xff\xff\xff")]);
    repository.publish_model("empty", 1, &[]);
    let server = serve(&repository);
    let client = Rest::new(server.rest);
    let (status, _) = client.json("/v1/models/m:predict", &json!({"instances": [[0, 0]]}));
    assert_eq!(status, 200);
    let (status, body) = client.json("/v1/models/broken:predict", &json!({"instances": [[0, 0]]}));
    assert_eq!(
        (status, &body["error"]),
        (404, &json!("Servable not found for request: Latest(broken)"))
    );
    let (_, body) = client.get("/v1/models/empty");
    assert!(body.contains("model.onnx: not found"), "{body}");
}

#[test]
fn a_terminated_server_finishes_what_it_began_and_exits_with_zero() {
    let (_repository, mut server, client) = one_version();
    assert_eq!(client.json("/v1/models/m:predict", &json!({"instances": [[0, 0]]})).0, 200);
    server.terminate();
    assert!(server.wait().success(), "{}", server.log());
}
