//! Turns `proto/onnx.proto` into Rust, without a protobuf compiler.

use std::env;
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    // Asked at run time: a checkout that was moved keeps this program, and its old path with it.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?;
    let folder = Path::new(&manifest).join("../../../proto");
    println!("cargo:rerun-if-changed={}", folder.join("onnx.proto").display());
    let files = protox::compile(["onnx.proto"], [&folder])?;
    prost_build::Config::new().bytes(["."]).compile_fds(files)?;
    Ok(())
}
