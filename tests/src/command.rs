use std::process::{Command, Output, Stdio};

use crate::server::binary;

/// What a command that ends by itself said, and its exit code.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub error: String,
}

/// Runs `ingle` with `arguments`.
pub fn ingle<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Said {
    let Output { status, stdout, stderr } =
        Command::new(binary()).args(arguments).stdin(Stdio::null()).output().unwrap();
    Said {
        code: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        error: String::from_utf8(stderr).unwrap(),
    }
}
