use std::process::ExitCode;

use crate::config::Config;

pub(crate) fn restart_with_larger_stacks(_config: &Config) -> Option<ExitCode> {
    None
}
