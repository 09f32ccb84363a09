//! Turns `proto/onnx.proto` into Rust, without a protobuf compiler.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../proto");
    println!("cargo:rerun-if-changed={}", folder.join("onnx.proto").display());
    let files = protox::compile(["onnx.proto"], [&folder])?;
    prost_build::Config::new().bytes(["."]).compile_fds(files)?;
    Ok(())
}
