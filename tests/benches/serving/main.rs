//! What serving costs: CPU time of the server a request, against the same work called
//! natively in this process. Prints the tables of docs/benchmarks.md.
//!
//!     cargo test --release --bench serving

mod measure;
mod native;

use std::fs;
use std::time::Duration;

use ingle_tests::client::{Rest, floats, grpc, request};
use ingle_tests::repository::Repository;
use ingle_tests::{Server, workspace};
use ingle_wire::proto::tensorflow::TensorProto;
use ingle_wire::proto::tensorflow::serving::PredictRequest;
use serde_json::json;
use tokio::runtime::Runtime;

use measure::{ThreadCpu, median, rss_kib, server_cpu};

#[path = "../../guests/mod.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod guests;

/// Rounds of each measurement; the median is printed.
const ROUNDS: usize = 7;

fn picture(model: &str, name: &str) -> Vec<u8> {
    let path = workspace().join(model).join(name);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn strings(bytes: &[u8]) -> TensorProto {
    let tensor = floats(&[1], &[]);
    TensorProto { dtype: 7, string_val: vec![bytes.to_vec().into()], float_val: vec![], ..tensor }
}

/// digits as it is committed, digits between plugins that do nothing, EfficientNet-Lite0.
fn repository() -> Repository {
    let repository = Repository::default();
    let read = |path: &str| fs::read(workspace().join(path)).unwrap();
    for plugin in ["preprocess-image", "postprocess-softmax"] {
        repository.publish_plugin(plugin, 1, &read(&format!("plugins/{plugin}/1/plugin.wasm")));
    }
    repository.publish_plugin("noop", 1, &guests::processor("echo", "ready"));
    let digits = read("models/digits/1/model.onnx");
    let manifest = read("models/digits/1/bundle.toml");
    let labels = read("models/digits/1/labels.txt");
    let files: &[(&str, &[u8])] =
        &[("model.onnx", &digits), ("bundle.toml", &manifest), ("labels.txt", &labels)];
    repository.publish_model("digits", 1, files);
    let noop = native::adder();
    let manifest = b"[signatures.noop]\npreprocess = { plugin = \"noop\" }\npostprocess = { plugin = \"noop\" }";
    repository.publish_model("vector", 1, &[("model.onnx", &noop), ("bundle.toml", manifest)]);
    let lite0 = workspace().join("models/efficientnet-lite0/1");
    if lite0.is_dir() {
        let names = ["model.onnx", "bundle.toml", "labels.txt"];
        let contents = names.map(|name| fs::read(lite0.join(name)).unwrap());
        let files: Vec<_> = names.into_iter().zip(contents.iter().map(Vec::as_slice)).collect();
        repository.publish_model("efficientnet-lite0", 1, &files);
    }
    repository
}

fn start(repository: &Repository) -> Server {
    Server::start(&[
        format!("--repository={}", repository.models().display()),
        "--file_system_poll_wait_seconds=0".into(),
    ])
}

/// Median CPU microseconds of the server for one gRPC request.
fn grpc_cost(runtime: &Runtime, server: &Server, message: &PredictRequest, requests: u32) -> f64 {
    runtime.block_on(async {
        let mut client = grpc(server.grpc).await;
        for _ in 0..requests.div_ceil(4) {
            client.predict(message.clone()).await.unwrap();
        }
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let before = server_cpu(server.pid());
            for _ in 0..requests {
                client.predict(message.clone()).await.unwrap();
            }
            rounds.push(per_request(server_cpu(server.pid()) - before, requests));
        }
        median(rounds)
    })
}

fn rest_cost(server: &Server, path: &str, body: &str, requests: u32) -> f64 {
    let client = Rest::new(server.rest);
    let rounds = (0..ROUNDS).map(|_| {
        let before = server_cpu(server.pid());
        for _ in 0..requests {
            let (status, answer) = client.post(path, body);
            assert_eq!(status, 200, "{answer}");
        }
        per_request(server_cpu(server.pid()) - before, requests)
    });
    median(rounds.collect())
}

fn per_request(cpu: Duration, requests: u32) -> f64 {
    cpu.as_secs_f64() * 1e6 / f64::from(requests)
}

/// Median CPU microseconds of one call here.
fn native_cost(requests: u32, mut call: impl FnMut()) -> f64 {
    for _ in 0..requests.div_ceil(4) {
        call();
    }
    let rounds = (0..ROUNDS).map(|_| {
        let before = ThreadCpu::of_process();
        for _ in 0..requests {
            call();
        }
        per_request(ThreadCpu::of_process() - before, requests)
    });
    median(rounds.collect())
}

fn row(what: &str, native: f64, served: f64) {
    let extra = served - native;
    println!("| {what} | {native:.0} | {served:.0} | {extra:.0} | {:.2} |", served / native);
}

fn main() {
    empty_server();
    let repository = repository();
    let server = start(&repository);
    let runtime = Runtime::new().unwrap();
    println!("\n| request | native, µs CPU | served, µs CPU | added, µs | ratio |");
    println!("| --- | --- | --- | --- | --- |");
    let vector = native::Vector::new();
    let native_vector = native_cost(4000, || vector.run());
    let pair = || floats(&[1, 2], &[1.0, 2.0]);
    let raw = request("vector", "serving_default", "x", pair());
    row("2 floats, raw, gRPC", native_vector, grpc_cost(&runtime, &server, &raw, 2000));
    let noop = request("vector", "noop", "x", pair());
    row("2 floats, no-op plugins, gRPC", native_vector, grpc_cost(&runtime, &server, &noop, 2000));
    let digits = native::Pictures::digits();
    let seven = picture("models/digits/samples", "7.png");
    let input = digits.prepare(&seven);
    let native_raw = native_cost(2000, || drop(digits.run(&input)));
    let pixels = native::floats_of(&input);
    let raw = request("digits", "serving_default", "image", floats(&[1, 1, 8, 8], &pixels));
    row("digits, raw, gRPC", native_raw, grpc_cost(&runtime, &server, &raw, 2000));
    let body = json!({"signature_name": "serving_default", "inputs": native::nested(&pixels, 8)})
        .to_string();
    row(
        "digits, raw, REST",
        native_raw,
        rest_cost(&server, "/v1/models/digits:predict", &body, 2000),
    );
    let native_picture = native_cost(2000, || drop(digits.classify(&seven)));
    let message = request("digits", "serving_image", "image", strings(&seven));
    row(
        "digits, PNG 64x64 → label, gRPC",
        native_picture,
        grpc_cost(&runtime, &server, &message, 2000),
    );
    efficientnet(&runtime, &server);
    println!("\nserver after the run: {} MiB RSS", rss_kib(server.pid()) / 1024);
}

fn efficientnet(runtime: &Runtime, server: &Server) {
    if !workspace().join("models/efficientnet-lite0/1").is_dir() {
        println!("\nefficientnet-lite0 is not built: run models/efficientnet-lite0/build");
        return;
    }
    let model = native::Pictures::efficientnet();
    let jpeg = picture("tests/benches/serving", "picture.jpg");
    let input = model.prepare(&jpeg);
    let raw_native = native_cost(20, || drop(model.run(&input)));
    let pixels = native::floats_of(&input);
    let raw = request(
        "efficientnet-lite0",
        "serving_default",
        "images",
        floats(&[1, 3, 224, 224], &pixels),
    );
    row("EfficientNet-Lite0, raw, gRPC", raw_native, grpc_cost(runtime, server, &raw, 20));
    let native = native_cost(20, || drop(model.classify(&jpeg)));
    let message = request("efficientnet-lite0", "serving_image", "image", strings(&jpeg));
    row(
        "EfficientNet-Lite0, JPEG 640x480 → label, gRPC",
        native,
        grpc_cost(runtime, server, &message, 20),
    );
    let only = native_cost(50, || drop(model.prepare(&jpeg)));
    println!("\nof which preprocessing, native: {only:.0} µs CPU");
}

/// What an empty server takes, from its start to open ports.
fn empty_server() {
    let repository = Repository::default();
    let mut ready = Vec::new();
    let mut rss = Vec::new();
    for _ in 0..ROUNDS {
        let started = std::time::Instant::now();
        let server = start(&repository);
        ready.push(started.elapsed().as_secs_f64() * 1e3);
        rss.push(rss_kib(server.pid()) as f64 / 1024.0);
    }
    println!("| empty server | |\n| --- | --- |");
    println!("| time to ready | {:.0} ms |", median(ready));
    println!("| RSS | {:.1} MiB |", median(rss));
}
