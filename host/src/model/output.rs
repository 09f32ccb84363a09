use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use serde_json::Value;

use super::args::Format;

/// Standard output, where a closed pipe is an error and not a panic.
pub(super) struct Output {
    stdout: BufWriter<Stdout>,
    /// Somebody watches, so every line is shown at once.
    watched: bool,
    format: Format,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        let stdout = io::stdout();
        Self { watched: stdout.is_terminal(), stdout: BufWriter::new(stdout), format }
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    pub(super) fn line(&mut self, line: fmt::Arguments<'_>) -> io::Result<()> {
        writeln!(self.stdout, "{line}")?;
        if self.watched { self.flush() } else { Ok(()) }
    }

    /// One JSON object on a line of its own.
    pub(super) fn object(&mut self, value: &Value) -> io::Result<()> {
        self.line(format_args!("{value}"))
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}
