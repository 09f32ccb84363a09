use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::reload::Handle;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

type Replace = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

/// What is logged, which may change while the server runs. Cheap to clone.
#[derive(Clone)]
pub struct LogFilter {
    /// As the user asked for it.
    asked: Arc<Mutex<String>>,
    replace: Arc<Replace>,
}

impl LogFilter {
    fn new<S: 'static>(asked: &str, handle: Handle<EnvFilter, S>) -> Self {
        let replace: Replace = Box::new(move |filter| handle.reload(filter).is_ok());
        Self { asked: Arc::new(Mutex::new(asked.to_owned())), replace: Arc::new(replace) }
    }

    fn asked(&self) -> MutexGuard<'_, String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As the user asked for it last.
    pub fn get(&self) -> String {
        self.asked().clone()
    }

    /// Logs by `filter` from now on, which is what `asked` asks for.
    ///
    /// # Errors
    /// Where the filter cannot be read; then nothing changes.
    pub fn set(&self, asked: &str, filter: &str) -> Result<(), ParseError> {
        let filter = EnvFilter::try_new(filter)?;
        let mut known = self.asked();
        if (self.replace)(filter) {
            asked.clone_into(&mut known);
        }
        Ok(())
    }
}

/// Starts logging to standard error, with `filter` as in `info,ingle_serving=debug`, which
/// is what `asked` asks for.
///
/// # Errors
/// Where the filter cannot be read.
pub fn init_logs(asked: &str, filter: &str, format: LogFormat) -> Result<LogFilter, ParseError> {
    let filter = EnvFilter::try_new(filter)?;
    let colour = io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(colour);
    // A second start, as tests do, keeps the first subscriber.
    Ok(match format {
        LogFormat::Text => {
            let logs = logs.with_env_filter(filter).with_filter_reloading();
            let handle = logs.reload_handle();
            let _ = logs.try_init();
            LogFilter::new(asked, handle)
        }
        LogFormat::Json => {
            let logs = logs.json().flatten_event(true);
            let logs = logs.with_env_filter(filter).with_filter_reloading();
            let handle = logs.reload_handle();
            let _ = logs.try_init();
            LogFilter::new(asked, handle)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_changes_nothing() {
        let logs = init_logs("info", "hyper=off,info", LogFormat::Text).unwrap();
        assert_eq!(logs.get(), "info");
        logs.set("debug", "hyper=off,debug").unwrap();
        assert_eq!(logs.get(), "debug");
        assert!(logs.set("a=b=c", "a=b=c").is_err());
        assert_eq!(logs.get(), "debug");
    }
}
