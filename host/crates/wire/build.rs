//! Compiles `proto/` into Rust and into a descriptor set, without `protoc`.

use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;

const ROOTS: [&str; 9] = [
    "tensorflow_serving/apis/prediction_service.proto",
    "tensorflow_serving/apis/model_service.proto",
    "tensorflow_serving/apis/prediction_log.proto",
    "tensorflow_serving/config/monitoring_config.proto",
    "tensorflow_serving/config/ssl_config.proto",
    "tensorflow_serving/servables/tensorflow/session_bundle_config.proto",
    "grpc/health/v1/health.proto",
    "grpc/reflection/v1/reflection.proto",
    "grpc/reflection/v1alpha/reflection.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Asked at run time: a checkout that was moved keeps this program, and its old path with it.
    let proto = folder("CARGO_MANIFEST_DIR")?.join("../../../proto");
    let descriptors = protox::compile(ROOTS, [&proto])?;
    let out = folder("OUT_DIR")?;
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_server(false)
        .btree_map(".")
        .bytes(".")
        .compile_fds(descriptors)?;
    for watched in ["tensorflow", "tensorflow_serving", "grpc"] {
        println!("cargo:rerun-if-changed={}", proto.join(watched).display());
    }
    Ok(())
}

fn folder(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable).map(PathBuf::from).ok_or_else(|| format!("{variable} is not set"))
}
