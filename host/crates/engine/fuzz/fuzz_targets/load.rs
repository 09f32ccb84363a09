//! Any bytes become a program or an error: never a panic, an endless loop, or
//! more memory than the limits say.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use ingle_engine::{DeviceChoice, Engine, NoExternalData};
use ingle_types::Limits;
use libfuzzer_sys::fuzz_target;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    Engine::new(DeviceChoice::Cpu).unwrap_or_else(|error| {
        eprintln!("nothing to fuzz: {error}");
        std::process::exit(1)
    })
});

fn limits() -> Limits {
    Limits {
        graph_nodes: 5_000,
        tensor_bytes: 16 << 20,
        run_bytes: 64 << 20,
        bundle_bytes: 64 << 20,
        default_deadline: Duration::from_secs(10),
        ..Limits::default()
    }
}

fuzz_target!(|model: &[u8]| {
    if let Err(error) = ENGINE.load(model, &NoExternalData, &limits()) {
        // The text is for people: making it must not fail either.
        let _ = error.to_string();
    }
});
