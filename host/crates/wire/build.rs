//! Compiles `proto/` into Rust and into a descriptor set, without `protoc`.

use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;

const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../proto");

const ROOTS: [&str; 2] = [
    "tensorflow_serving/apis/prediction_service.proto",
    "tensorflow_serving/apis/model_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(ROOTS, [PROTO])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_server(false)
        .btree_map(".")
        .bytes(".")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed={PROTO}/tensorflow");
    println!("cargo:rerun-if-changed={PROTO}/tensorflow_serving");
    Ok(())
}
