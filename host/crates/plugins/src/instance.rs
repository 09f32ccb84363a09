use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ingle_types::{Code, Deadline, Limits, Stage};
use wasmtime::component::Instance;
use wasmtime::{Store, StoreContextMut, Trap, UpdateDeadline, WasmBacktrace};

use crate::bindings::exports::ingle::plugin::{postprocess, preprocess};
use crate::bindings::ingle::plugin::types::{self as wit, ErrorCode};
use crate::budget::Budget;
use crate::engine;
use crate::error::{Function, GuestTrace, PluginError, Site, one_line};
use crate::guest_log::{GuestLog, Speaker};
use crate::lift;
use crate::lower::InitArguments;
use crate::permits::Permit;
use crate::plugin::{CallContext, Loaded};

/// A guest's own message, as the client sees it.
const MESSAGE_BYTES: usize = 4096;

/// A guest function's name, or a reason, in an error.
const TEXT_BYTES: usize = 256;

/// What the host keeps beside one instance.
#[derive(Debug)]
pub(crate) struct State {
    budget: Budget,
    pub(crate) log: GuestLog,
    /// When the guest code that is running has had its time.
    stop: Deadline,
}

/// Called when the ticks that a guest was given have passed.
fn stop_or_go_on(store: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    Ok(match store.data().stop.remaining() {
        Some(left) if left.is_zero() => UpdateDeadline::Interrupt,
        left => UpdateDeadline::Continue(engine::ticks(left.unwrap_or(Duration::MAX))),
    })
}

/// The functions that a stage exports, as the bindings have them.
pub(crate) trait Guest: Sized {
    type Exports;
    const STAGE: Stage;

    fn load(
        exports: &Self::Exports,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> wasmtime::Result<Self>;

    fn init(
        &self,
        store: &mut Store<State>,
        options: wit::InitOptions<'_>,
    ) -> wasmtime::Result<Result<wit::PluginInfo, wit::Error>>;
}

macro_rules! guest {
    ($interface:ident, $stage:ident) => {
        impl Guest for $interface::Guest {
            type Exports = $interface::GuestIndices;
            const STAGE: Stage = Stage::$stage;

            fn load(
                exports: &Self::Exports,
                store: &mut Store<State>,
                instance: &Instance,
            ) -> wasmtime::Result<Self> {
                exports.load(store, instance)
            }

            fn init(
                &self,
                store: &mut Store<State>,
                options: wit::InitOptions<'_>,
            ) -> wasmtime::Result<Result<wit::PluginInfo, wit::Error>> {
                self.call_init(store, options)
            }
        }
    };
}

guest!(preprocess, Preprocess);
guest!(postprocess, Postprocess);

/// One initialised instance. It serves one request and is thrown away, so that no
/// request can find what another left behind.
pub(crate) struct Live<'a, G> {
    guest: G,
    sandbox: Sandbox<'a>,
}

struct Sandbox<'a> {
    // The slot of the pool is free again only when the store is gone, so the store is
    // dropped before the permit.
    store: Store<State>,
    _permit: Permit<'a>,
    limits: &'a Limits,
    at: Site,
    deadline: Deadline,
}

impl<'a, G: Guest> Live<'a, G> {
    /// Makes an instance and calls its `init`.
    pub(crate) fn start(
        plugin: &'a Loaded,
        exports: &G::Exports,
        arguments: &InitArguments,
        context: &CallContext,
    ) -> Result<(Self, wit::PluginInfo), PluginError> {
        let mut sandbox = Sandbox::new(plugin, G::STAGE, context)?;
        let guest = sandbox.run(|store, _| {
            let instance = plugin.pre.instantiate(&mut *store)?;
            Ok(Ok(G::load(exports, store, &instance)?))
        })?;
        let info = arguments.lend(|options| sandbox.run(|store, _| guest.init(store, options)))?;
        sandbox.at.function = Function::Process;
        Ok((Self { guest, sandbox }, info))
    }

    /// Calls `process`; the function is given the time that the guest has.
    pub(crate) fn call<R>(
        &mut self,
        function: impl FnOnce(
            &G,
            &mut Store<State>,
            Duration,
        ) -> wasmtime::Result<Result<R, wit::Error>>,
    ) -> Result<R, PluginError> {
        let guest = &self.guest;
        self.sandbox.run(|store, budget| function(guest, store, budget))
    }

    /// The guest's answer is not what the contract says.
    pub(crate) fn contract(&self, what: String) -> PluginError {
        PluginError::Contract { at: self.sandbox.at.clone(), what }
    }

    pub(crate) fn at_init(&self, what: String) -> PluginError {
        let at = Site { function: Function::Init, ..self.sandbox.at.clone() };
        PluginError::Contract { at, what }
    }
}

impl<'a> Sandbox<'a> {
    fn new(plugin: &'a Loaded, stage: Stage, context: &CallContext) -> Result<Self, PluginError> {
        let at = Site { plugin: plugin.name.clone(), stage, function: Function::Init };
        let host = &*plugin.host;
        let Some(permit) = host.permits.acquire(context.deadline) else {
            return Err(PluginError::Busy { at });
        };
        let speaker = Speaker {
            plugin: plugin.name.clone(),
            stage,
            model: context.model.clone(),
            request_id: context.request_id.clone(),
        };
        let limits = &*host.limits;
        let log = GuestLog::new(speaker, limits.plugin_log_bytes);
        let state = State { budget: Budget::new(limits), log, stop: Deadline::NONE };
        let mut store = Store::new(plugin.pre.engine(), state);
        store.limiter(|state| &mut state.budget);
        store.epoch_deadline_callback(stop_or_go_on);
        store.set_hostcall_fuel(lift::answer_bytes(limits));
        store.set_max_component_handles(engine::HANDLES);
        Ok(Self { store, _permit: permit, limits, at, deadline: context.deadline })
    }

    /// Runs guest code within what is left of the deadline, and sorts out how it ended.
    fn run<R>(
        &mut self,
        guest_code: impl FnOnce(&mut Store<State>, Duration) -> wasmtime::Result<Result<R, wit::Error>>,
    ) -> Result<R, PluginError> {
        let limit = self.limits.plugin_call_timeout;
        let left = self.deadline.remaining();
        let budget = left.map_or(limit, |left| left.min(limit));
        if budget.is_zero() {
            return Err(self.timeout(budget, true, GuestTrace::default()));
        }
        self.store.data_mut().stop = Deadline::after(budget);
        self.store.set_epoch_deadline(engine::ticks(budget));
        // A panic of the host must cost this one call: its store is dropped, not reused.
        let ended = catch_unwind(AssertUnwindSafe(|| guest_code(&mut self.store, budget)));
        match ended {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(error))) => Err(self.guest_error(error)),
            Ok(Err(error)) => {
                Err(self.stopped(&error, budget, left.is_some_and(|left| left < limit)))
            }
            Err(_) => Err(PluginError::Sandbox { at: self.at.clone() }),
        }
    }

    fn guest_error(&self, error: wit::Error) -> PluginError {
        let message = one_line(&error.message, MESSAGE_BYTES);
        PluginError::Guest { at: self.at.clone(), code: code(error.code), message }
    }

    /// Why the guest did not return, which wasmtime says in one of several ways.
    fn stopped(&self, error: &wasmtime::Error, budget: Duration, deadline: bool) -> PluginError {
        let trace = self.trace(error);
        let trap = error.downcast_ref::<Trap>();
        if trap == Some(&Trap::Interrupt) {
            return self.timeout(budget, deadline, trace);
        }
        let at = self.at.clone();
        if let Some(refusal) = self.store.data().budget.refusal() {
            let trace = Box::new(trace);
            return PluginError::Memory { at, limit: refusal.limit, unit: refusal.unit, trace };
        }
        if let Some(trap) = trap {
            let trap = trap.to_string();
            let trap = one_line(trap.trim_start_matches("wasm trap: "), TEXT_BYTES);
            return PluginError::Trap { at, trap, trace: Box::new(trace) };
        }
        let what = one_line(&error.root_cause().to_string(), TEXT_BYTES);
        // Wasmtime has no public type for this one; a test holds it to the words.
        if what.contains("fuel allocated for hostcalls has been exhausted") {
            return PluginError::Contract { at, what: lift::too_much(self.limits) };
        }
        PluginError::Contract { at, what }
    }

    fn timeout(&self, budget: Duration, deadline: bool, trace: GuestTrace) -> PluginError {
        PluginError::Timeout { at: self.at.clone(), budget, deadline, trace: Box::new(trace) }
    }

    fn trace(&self, error: &wasmtime::Error) -> GuestTrace {
        let frames = error.downcast_ref::<WasmBacktrace>().map_or(&[][..], WasmBacktrace::frames);
        let names = frames.iter().filter_map(|frame| frame.func_name());
        GuestTrace {
            frames: names.map(|name| one_line(name, TEXT_BYTES)).collect(),
            last_log: self.store.data().log.last_lines(),
        }
    }
}

fn code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::InvalidArgument => Code::InvalidArgument,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::FailedPrecondition => Code::FailedPrecondition,
        ErrorCode::ResourceExhausted => Code::ResourceExhausted,
        ErrorCode::Unimplemented => Code::Unimplemented,
        ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorCode::Unavailable => Code::Unavailable,
        ErrorCode::Internal => Code::Internal,
    }
}
