use std::fmt;

/// What went wrong, in the words of a gRPC status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request is at fault.
    InvalidArgument,
    /// Something that the request names does not exist.
    NotFound,
    /// The bundle is at fault: its configuration, a file, the model behind the plugin.
    FailedPrecondition,
    /// The request asks for more than a limit allows.
    ResourceExhausted,
    /// A valid request that this plugin cannot answer.
    Unimplemented,
    DeadlineExceeded,
    /// Trying again later may help.
    Unavailable,
    /// The plugin is at fault. The only code whose message clients never see.
    Internal,
}

/// A refusal: the code decides the client's status, the message says what is wrong and is
/// shown to the client (cut at 4 KiB) for every code but [`Code::Internal`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub code: Code,
    pub message: String,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// An [`Error`] that blames the request; takes what `format!` takes.
#[macro_export]
macro_rules! invalid_argument {
    ($($message:tt)+) => {
        $crate::Error::new($crate::Code::InvalidArgument, ::std::format!($($message)+))
    };
}

/// An [`Error`] that blames the bundle: a configuration, a file, the model.
#[macro_export]
macro_rules! failed_precondition {
    ($($message:tt)+) => {
        $crate::Error::new($crate::Code::FailedPrecondition, ::std::format!($($message)+))
    };
}

/// An [`Error`] that blames this plugin. Clients do not see its message, the server's log does.
#[macro_export]
macro_rules! internal {
    ($($message:tt)+) => {
        $crate::Error::new($crate::Code::Internal, ::std::format!($($message)+))
    };
}
