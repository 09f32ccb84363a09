//! Messages for the server's log, where they appear with the model's and the plugin's name.
//!
//! What goes over the call's budget (64 KiB) is dropped and counted. A native build, as in
//! tests, writes to standard error.

use std::fmt;

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Whether the server keeps messages of this level.
pub fn enabled(level: Level) -> bool {
    #[cfg(target_family = "wasm")]
    return crate::glue::telemetry_enabled(level);
    #[cfg(not(target_family = "wasm"))]
    return level >= Level::Warn;
}

/// Logs a message; formats nothing where the level is not kept.
pub fn log(level: Level, message: fmt::Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    #[cfg(target_family = "wasm")]
    crate::glue::telemetry_log(level, &message.to_string());
    #[cfg(not(target_family = "wasm"))]
    eprintln!("{level:?}: {message}");
}

/// Logs at a [`Level`](crate::telemetry::Level): `log!(Warn, "{n} tiles")`.
#[macro_export]
macro_rules! log {
    ($level:ident, $($message:tt)+) => {
        $crate::telemetry::log(
            $crate::telemetry::Level::$level,
            ::std::format_args!($($message)+),
        )
    };
}
