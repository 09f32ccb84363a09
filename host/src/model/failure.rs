use std::any::Any;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use ingle_engine::{DeviceError, LoadError, RunError};
use ingle_types::Code;

/// Why a command could not do its work, with an exit code of sysexits.h.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    error: anyhow::Error,
}

const EXIT_USAGE: u8 = 64;
const EXIT_DATA: u8 = 65;
const EXIT_NO_INPUT: u8 = 66;
const EXIT_UNAVAILABLE: u8 = 69;
const EXIT_SOFTWARE: u8 = 70;
const EXIT_IO: u8 = 74;

impl Failure {
    /// The arguments do not fit each other, or the model.
    pub(super) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { code: EXIT_USAGE, error: error.into() }
    }

    /// A file is not what it should be.
    pub(super) fn data(error: impl Into<anyhow::Error>) -> Self {
        Self { code: EXIT_DATA, error: error.into() }
    }

    /// A file is not there, or cannot be read.
    pub(super) fn no_input(error: impl Into<anyhow::Error>) -> Self {
        Self { code: EXIT_NO_INPUT, error: error.into() }
    }

    /// A model that is not one, or that the engine cannot run.
    pub(super) fn load(file: &Path, error: LoadError) -> Self {
        let code = exit_of(error.code());
        let problems = error.problems().len();
        let error = anyhow::Error::new(error).context(file.display().to_string());
        if problems < 2 {
            return Self { code, error };
        }
        let error =
            anyhow!("{error:#}\nAll of it in a list: ingle model inspect {}", file.display());
        Self { code, error }
    }

    pub(super) fn run(error: RunError) -> Self {
        Self { code: exit_of(error.code()), error: error.into() }
    }

    pub(super) fn bug(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Self { code: EXIT_SOFTWARE, error: anyhow!("a bug in ingle, please report it: {text}") }
    }

    /// Another process of ours could not do its work, and has said why.
    pub(super) fn of_child(code: Option<u8>, error: anyhow::Error) -> Self {
        Self { code: code.unwrap_or(EXIT_SOFTWARE), error }
    }

    pub(super) fn into_error(self) -> anyhow::Error {
        self.error
    }

    /// A reader that has seen enough (`| head`) is no reason to complain.
    pub(super) fn report(self) -> ExitCode {
        let closed = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
        if self.error.downcast_ref::<io::Error>().is_some_and(closed) {
            return ExitCode::SUCCESS;
        }
        eprintln!("Error: {:#}", self.error);
        ExitCode::from(self.code)
    }
}

fn exit_of(code: Code) -> u8 {
    match code {
        Code::Unimplemented => super::EXIT_NO,
        Code::Internal => EXIT_SOFTWARE,
        _ => EXIT_DATA,
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { code: EXIT_IO, error: error.into() }
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        Self { code: EXIT_UNAVAILABLE, error: anyhow!("--device: {error}") }
    }
}
