//! What `--device` does where the device is there, and where it is not.
//!
//! With `--features cuda,vulkan` this also runs a model on Vulkan; the software driver
//! of Debian's mesa-vulkan-drivers will do.

use std::path::Path;
use std::time::Duration;

use ingle_tests::{Server, workspace};

fn launch(device: &str, environment: &[(&str, &str)]) -> Server {
    let flags = [
        format!("--repository={}", workspace().join("models").display()),
        format!("--device={device}"),
    ];
    Server::launch(&flags, environment)
}

/// The server must end by itself, in one line that names the device.
fn refused(device: &str) {
    let mut server = launch(device, &[]);
    let status = server.wait_for_exit(Duration::from_secs(60)).expect("it ends by itself");
    let log = server.log();
    assert!(!status.success(), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    let told = log.lines().filter(|line| line.to_lowercase().contains("cuda")).count();
    assert_eq!(told, 1, "{log}");
}

#[test]
fn a_cuda_device_that_is_not_there_is_told_in_one_line() {
    if Path::new("/dev/nvidiactl").exists() {
        return;
    }
    refused("cuda");
    refused("cuda:7");
}

#[test]
fn auto_falls_back_to_the_cpu_and_says_so() {
    if Path::new("/dev/nvidiactl").exists() {
        return;
    }
    let mut server = launch("auto", &[]);
    server.wait_until_ready();
    assert!(server.log().contains("by fallback"), "{}", server.log());
}

#[cfg(feature = "vulkan")]
#[test]
fn vulkan_reads_every_digit() {
    use base64::Engine;
    use ingle_tests::client::Rest;
    use serde_json::json;

    let runtime_dir = tempfile::tempdir().unwrap();
    let mut server = launch("vulkan", &[("XDG_RUNTIME_DIR", runtime_dir.path().to_str().unwrap())]);
    server.wait_until_ready();
    let client = Rest::new(server.rest);
    for digit in 0..10 {
        let sample = workspace().join(format!("models/digits/samples/{digit}.png"));
        let picture =
            base64::engine::general_purpose::STANDARD.encode(std::fs::read(sample).unwrap());
        let body = json!({"instances": [{"b64": picture}]});
        let (status, answer) = client.json("/v1/models/digits:predict", &body);
        assert_eq!(status, 200, "{answer}\n{}", server.log());
        assert_eq!(answer["predictions"][0]["classes"][0], digit.to_string(), "{answer}");
    }
    assert!(server.log().contains("vulkan:0"), "{}", server.log());
    server.terminate();
    assert!(server.wait().success(), "{}", server.log());
}
