use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use ingle_engine::DeviceChoice;

use crate::config::variable;

/// The standard library reads it once, before it starts the first thread.
const MIN_STACK: &str = "RUST_MIN_STACK";

/// What Burn's own threads need on Vulkan; they set no stack size of their own.
const VULKAN_STACK_BYTES: usize = 64 * 1024 * 1024;

/// Burn compiles kernels on threads that it starts itself, and on Vulkan overflows
/// their stacks. Only the process's environment can give them more, and it is not
/// sound to change that from within, so the process starts itself anew, under the
/// same process id. Returns only where that is not needed, or failed.
pub(crate) fn restart_with_larger_stacks(device: DeviceChoice) -> Option<ExitCode> {
    let current = variable(MIN_STACK).and_then(|bytes| bytes.parse::<usize>().ok());
    let enough = current.is_some_and(|bytes| bytes >= VULKAN_STACK_BYTES);
    if enough || !matches!(device, DeviceChoice::Vulkan(_)) {
        return None;
    }
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| "ingle".into());
    let failed = match env::current_exe() {
        Ok(this) => Command::new(this)
            // By its name it knows what its flags mean.
            .arg0(name)
            .args(arguments)
            .env(MIN_STACK, VULKAN_STACK_BYTES.to_string())
            .exec(),
        Err(error) => error,
    };
    eprintln!("Error: cannot restart with {MIN_STACK} set: {failed}");
    Some(ExitCode::from(crate::EXIT_UNAVAILABLE))
}
