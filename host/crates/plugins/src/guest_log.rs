use std::collections::VecDeque;

use ingle_types::Stage;
use tracing::Level as LogLevel;
use wasmtime::StoreContextMut;
use wasmtime::component::WasmStr;

use crate::bindings::ingle::plugin::telemetry::Level;
use crate::error::one_line;
use crate::instance::State;

/// What a line costs beside its text, so that empty lines are not free.
const LINE_BYTES: usize = 64;

/// Lines that are kept to explain a trap.
const LAST_LINES: usize = 8;

/// Which plugin, for which request, is speaking.
#[derive(Clone, Debug)]
pub(crate) struct Speaker {
    pub(crate) plugin: std::sync::Arc<str>,
    pub(crate) stage: Stage,
    pub(crate) model: std::sync::Arc<str>,
    pub(crate) request_id: std::sync::Arc<str>,
}

/// The log of one call: bounded, and forwarded line by line.
#[derive(Debug)]
pub(crate) struct GuestLog {
    speaker: Speaker,
    bytes_left: usize,
    dropped: u64,
    last: VecDeque<String>,
}

macro_rules! forward {
    ($speaker:expr, $level:expr, $line:expr, [$($wit:ident => $tracing:ident),*]) => {
        match $level {
            $(Level::$wit => tracing::event!(
                target: "plugin",
                LogLevel::$tracing,
                plugin = &*$speaker.plugin,
                stage = $speaker.stage.name(),
                model = &*$speaker.model,
                request_id = &*$speaker.request_id,
                "{}",
                $line
            ),)*
        }
    };
}

impl GuestLog {
    pub(crate) fn new(speaker: Speaker, bytes: usize) -> Self {
        Self { speaker, bytes_left: bytes, dropped: 0, last: VecDeque::new() }
    }

    pub(crate) fn enabled(&self, level: Level) -> bool {
        self.bytes_left > LINE_BYTES
            && match level {
                Level::Trace => tracing::enabled!(target: "plugin", LogLevel::TRACE),
                Level::Debug => tracing::enabled!(target: "plugin", LogLevel::DEBUG),
                Level::Info => tracing::enabled!(target: "plugin", LogLevel::INFO),
                Level::Warn => tracing::enabled!(target: "plugin", LogLevel::WARN),
                Level::Error => tracing::enabled!(target: "plugin", LogLevel::ERROR),
            }
    }

    fn room(&self) -> usize {
        self.bytes_left.saturating_sub(LINE_BYTES)
    }

    fn push(&mut self, level: Level, line: String) {
        self.bytes_left = self.room().saturating_sub(line.len());
        forward!(self.speaker, level, line, [
            Trace => TRACE, Debug => DEBUG, Info => INFO, Warn => WARN, Error => ERROR
        ]);
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}

impl Drop for GuestLog {
    fn drop(&mut self) {
        if self.dropped > 0 {
            let Speaker { plugin, stage, model, request_id } = &self.speaker;
            tracing::warn!(
                target: "plugin", %plugin, %stage, %model, %request_id, dropped = self.dropped,
                "the plugin logged more than its limit"
            );
        }
    }
}

/// The host function `telemetry.log`: the text is cut where it lies in the guest's
/// memory, so that a huge one is never copied.
///
/// # Errors
/// Where the text is not Unicode, which is the guest's breach of the contract.
pub(crate) fn log(
    mut store: StoreContextMut<'_, State>,
    level: Level,
    message: &WasmStr,
) -> wasmtime::Result<()> {
    let room = store.data().log.room();
    if room == 0 {
        store.data_mut().log.dropped += 1;
        return Ok(());
    }
    let text = message.to_str(&store)?;
    let cut = text.len() > room;
    let line = one_line(&text, room);
    let log = &mut store.data_mut().log;
    log.dropped += u64::from(cut);
    log.push(level, line);
    Ok(())
}
