use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ingle_types::{Code, ServeError, Stage};

/// The function of a stage's interface that was being called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Init,
    Process,
}

/// Which call of which plugin failed. Prints as `plugin NAME in preprocess`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub plugin: Arc<str>,
    pub stage: Stage,
    pub function: Function,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {} in {}", self.plugin, self.stage)?;
        match self.function {
            Function::Init => f.write_str(" init"),
            Function::Process => Ok(()),
        }
    }
}

/// Where a guest was when it was stopped, and what it logged last. For the log only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestTrace {
    /// Names of guest functions, the innermost first, where the component has any.
    pub frames: Vec<String>,
    pub last_log: Vec<String>,
}

impl fmt::Display for GuestTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames = if self.frames.is_empty() {
            "an unnamed function".to_owned()
        } else {
            self.frames.join(" < ")
        };
        write!(f, "in {frames}")?;
        if !self.last_log.is_empty() {
            write!(f, "; logged last: {}", self.last_log.join(" | "))?;
        }
        Ok(())
    }
}

impl std::error::Error for GuestTrace {}

/// The ways in which a plugin can be unfit, or a call of it can fail.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    #[error("the plugin host cannot start")]
    Start(#[source] wasmtime::Error),

    // Loading a component.
    #[error("plugin {plugin}: the file has {bytes} bytes, above the limit of {limit}")]
    TooLarge { plugin: Arc<str>, bytes: u64, limit: u64 },
    #[error("plugin {plugin}: {found}, but a plugin is a WebAssembly component")]
    NotAComponent { plugin: Arc<str>, found: &'static str },
    #[error("plugin {plugin}: does not compile: {reason}")]
    Compile { plugin: Arc<str>, reason: String },
    #[error("plugin {plugin}: built for {built_for}, this server speaks {speaks}")]
    ContractVersion { plugin: Arc<str>, built_for: String, speaks: &'static str },
    #[error(
        "plugin {plugin}: exports neither ingle:plugin/preprocess nor ingle:plugin/postprocess"
    )]
    NoStage { plugin: Arc<str> },
    #[error("plugin {plugin}: does not export {export}")]
    MissingExport { plugin: Arc<str>, export: String },
    #[error("plugin {plugin}: {item} has the wrong type: {reason}")]
    WrongType { plugin: Arc<str>, item: String, reason: String },
    #[error("plugin {plugin}: imports {}, which no plugin is granted", imports.join(", "))]
    ForbiddenImport { plugin: Arc<str>, imports: Vec<String> },

    // Calling it.
    #[error("{at}: {message}")]
    Guest { at: Site, code: Code, message: String },
    #[error("{at}: trapped: {trap}")]
    Trap {
        at: Site,
        trap: String,
        #[source]
        trace: Box<GuestTrace>,
    },
    #[error("{at}: {}", timeout_text(*.budget, *.deadline))]
    Timeout {
        at: Site,
        budget: Duration,
        /// The request's deadline was sooner than the plugin's own limit.
        deadline: bool,
        #[source]
        trace: Box<GuestTrace>,
    },
    #[error("{at}: asked for more than its {limit} {unit}")]
    Memory {
        at: Site,
        limit: usize,
        unit: &'static str,
        #[source]
        trace: Box<GuestTrace>,
    },
    #[error("{at}: broke the plugin contract: {what}")]
    Contract { at: Site, what: String },
    #[error("{at}: no instance became free before the deadline")]
    Busy { at: Site },
    #[error("{at}: the sandbox failed")]
    Sandbox { at: Site },
}

impl PluginError {
    /// What a plugin's answer got wrong, for checks that only the caller can do.
    pub fn contract(plugin: &str, stage: Stage, what: impl Into<String>) -> Self {
        let at = Site { plugin: plugin.into(), stage, function: Function::Process };
        Self::Contract { at, what: what.into() }
    }

    pub fn code(&self) -> Code {
        match self {
            Self::TooLarge { .. } | Self::Memory { .. } => Code::ResourceExhausted,
            Self::NotAComponent { .. }
            | Self::Compile { .. }
            | Self::NoStage { .. }
            | Self::MissingExport { .. }
            | Self::WrongType { .. } => Code::InvalidArgument,
            Self::ContractVersion { .. } => Code::FailedPrecondition,
            Self::ForbiddenImport { .. } => Code::PermissionDenied,
            // What `init` refuses is the bundle's configuration, never the client's input.
            Self::Guest { at, .. } if at.function == Function::Init => Code::FailedPrecondition,
            Self::Guest { code, .. } => *code,
            Self::Timeout { .. } | Self::Busy { .. } => Code::DeadlineExceeded,
            Self::Start(_) | Self::Trap { .. } | Self::Contract { .. } | Self::Sandbox { .. } => {
                Code::Internal
            }
        }
    }

    /// The call that failed; `None` where loading did.
    pub fn site(&self) -> Option<&Site> {
        match self {
            Self::Guest { at, .. }
            | Self::Trap { at, .. }
            | Self::Timeout { at, .. }
            | Self::Memory { at, .. }
            | Self::Contract { at, .. }
            | Self::Busy { at }
            | Self::Sandbox { at } => Some(at),
            _ => None,
        }
    }

    /// What a client may be told: it starts with `plugin NAME` and names the stage.
    fn client_text(&self, stage: Stage) -> String {
        match self {
            Self::Guest { at, code: Code::Internal, .. } => format!("{at}: internal error"),
            _ if self.site().is_some() => self.to_string(),
            _ => format!("{self} (in {stage})"),
        }
    }

    /// The request's error: the client's text without, the log's with the guest's internals.
    pub fn into_serve_error(self, stage: Stage) -> ServeError {
        ServeError::new(self.code(), stage, self.client_text(stage)).with_source(self)
    }
}

fn timeout_text(budget: Duration, deadline: bool) -> String {
    match deadline {
        _ if budget.is_zero() => "the request's deadline had passed".into(),
        true => format!("took longer than the {budget:?} that the request's deadline left"),
        false => format!("took longer than {budget:?}"),
    }
}

/// One line of at most `max` bytes: control characters would let a guest forge lines
/// of a log, or steer the terminal that shows it.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    for c in text.chars() {
        let c = if is_control(c) { ' ' } else { c };
        if line.len() + c.len_utf8() > max {
            break;
        }
        line.push(c);
    }
    line
}

/// Control characters, and the invisible ones that reorder or split a line.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(function: Function) -> Site {
        Site { plugin: "p".into(), stage: Stage::Preprocess, function }
    }

    #[test]
    fn a_client_reads_the_plugin_the_stage_and_the_guests_own_words() {
        let error = PluginError::Guest {
            at: at(Function::Process),
            code: Code::InvalidArgument,
            message: "not a JPEG".into(),
        };
        let served = error.into_serve_error(Stage::Preprocess);
        assert_eq!(served.code(), Code::InvalidArgument);
        assert_eq!(served.message(), "plugin p in preprocess: not a JPEG");
    }

    #[test]
    fn a_guests_internal_words_stay_in_the_log() {
        let error = PluginError::Guest {
            at: at(Function::Process),
            code: Code::Internal,
            message: "secret".into(),
        };
        let served = error.into_serve_error(Stage::Preprocess);
        assert_eq!(served.message(), "plugin p in preprocess: internal error");
        let source = std::error::Error::source(&served).unwrap().to_string();
        assert!(source.contains("secret"), "{source}");
    }

    #[test]
    fn a_traps_frames_stay_in_the_log() {
        let trace = GuestTrace { frames: vec!["decode".into()], last_log: vec!["odd".into()] };
        let error = PluginError::Trap {
            at: at(Function::Process),
            trap: "unreachable".into(),
            trace: Box::new(trace),
        };
        let served = error.into_serve_error(Stage::Preprocess);
        assert_eq!(served.code(), Code::Internal);
        assert_eq!(served.message(), "plugin p in preprocess: trapped: unreachable");
        let source = std::error::Error::source(&served).unwrap();
        let trace = source.source().unwrap().to_string();
        assert_eq!(trace, "in decode; logged last: odd");
    }

    #[test]
    fn init_never_blames_the_client() {
        let error = PluginError::Guest {
            at: at(Function::Init),
            code: Code::InvalidArgument,
            message: "size is missing".into(),
        };
        assert_eq!(error.code(), Code::FailedPrecondition);
        assert_eq!(error.to_string(), "plugin p in preprocess init: size is missing");
    }

    #[test]
    fn a_line_has_no_control_characters_and_ends_at_a_character() {
        assert_eq!(one_line("a\n\u{1b}[31mb\u{202e}c\u{7f}", 64), "a  [31mb c ");
        assert_eq!(one_line("aé", 2), "a");
        assert_eq!(one_line("aé", 3), "aé");
    }
}
