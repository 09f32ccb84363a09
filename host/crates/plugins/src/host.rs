use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use ingle_telemetry::Metrics;
use ingle_types::{Deadline, Limits, Version};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::cache::{self, Cache};
use crate::contract;
use crate::engine;
use crate::error::one_line;
use crate::instance::State;
use crate::permits::Permits;
use crate::plugin::Loaded;
use crate::{Plugin, PluginError};

/// Why a component does not compile, in an error.
const REASON_BYTES: usize = 512;

/// More calls at once than this help nobody, and each reserves address space.
const MAX_CALLS: u32 = 1024;

#[derive(Clone, Debug)]
pub struct PluginHostConfig {
    pub limits: Arc<Limits>,
    /// Where compiled components are kept; made if it is not there. `None`, or a
    /// directory that others can write: nothing is kept.
    pub cache_dir: Option<PathBuf>,
    /// Calls that run at once, from 1 to 1024; further ones wait. Each may hold
    /// `Limits::plugin_memory_bytes`, and keeps up to 8 MiB while idle.
    pub max_concurrent_calls: usize,
    pub metrics: Metrics,
}

/// Compiles and runs plugins. One for a process: it holds the engine and the pool of
/// instances. Cheap to clone.
#[derive(Clone)]
pub struct PluginHost(Arc<Host>);

pub(crate) struct Host {
    pub(crate) limits: Arc<Limits>,
    pub(crate) metrics: Metrics,
    pub(crate) permits: Permits,
    engine: Engine,
    linker: Linker<State>,
    cache: Option<Cache>,
    compiling: Permits,
}

impl PluginHost {
    /// # Errors
    /// Where the limits make no valid configuration, or no thread can be started.
    pub fn new(config: PluginHostConfig) -> Result<Self, PluginError> {
        let PluginHostConfig { limits, cache_dir, max_concurrent_calls, metrics } = config;
        let calls = u32::try_from(max_concurrent_calls).unwrap_or(MAX_CALLS).clamp(1, MAX_CALLS);
        let engine = engine::start(&limits, calls).map_err(PluginError::Start)?;
        let linker = contract::linker(&engine).map_err(PluginError::Start)?;
        let cache = cache_dir.and_then(|dir| {
            Cache::open(&dir, &engine, &limits)
                .inspect_err(|reason| {
                    tracing::warn!(dir = %dir.display(), %reason, "compiled plugins are not kept");
                })
                .ok()
        });
        let permits = Permits::new(calls as usize);
        // More than one, so that a slow compilation does not hold up every other load; few,
        // so that the cores are left to requests.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let compiling = Permits::new((cores / 2).max(2));
        Ok(Self(Arc::new(Host { limits, metrics, permits, engine, linker, cache, compiling })))
    }

    /// Compiles a component, or finds it compiled, and checks that it keeps the contract.
    /// It takes from milliseconds to minutes of one core; few run at once, and further
    /// ones wait.
    ///
    /// # Errors
    /// What the component is instead, imports, or fails to export.
    pub fn compile(
        &self,
        name: &str,
        version: Option<Version>,
        wasm: &[u8],
    ) -> Result<Plugin, PluginError> {
        let host = &*self.0;
        let name: Arc<str> = name.into();
        let (bytes, limit) = (wasm.len() as u64, host.limits.component_bytes);
        if bytes > limit {
            return Err(PluginError::TooLarge { plugin: name, bytes, limit });
        }
        if let Some(found) = no_component(wasm) {
            return Err(PluginError::NotAComponent { plugin: name, found });
        }
        let digest = Sha256::digest(wasm).into();
        let component = host
            .component(wasm, &digest)
            .map_err(|reason| PluginError::Compile { plugin: name.clone(), reason })?;
        let checked = contract::check(&name, &host.linker, &component)?;
        Ok(Plugin::new(Loaded {
            host: self.0.clone(),
            name,
            version,
            digest: cache::hex(&digest),
            pre: checked.pre,
            preprocess: checked.preprocess,
            postprocess: checked.postprocess,
        }))
    }
}

impl Host {
    fn component(&self, wasm: &[u8], digest: &cache::Sha256Digest) -> Result<Component, String> {
        let _permit = self.compiling.acquire(Deadline::NONE);
        let cached = self.cache.as_ref().and_then(|cache| cache.load(&self.engine, digest));
        if let Some(component) = cached {
            return Ok(component);
        }
        // A compiler that meets what it did not foresee must not take the thread along.
        let compile = AssertUnwindSafe(|| Component::from_binary(&self.engine, wasm));
        let component = catch_unwind(compile)
            .map_err(|_| "the compiler failed".to_owned())?
            .map_err(|error| one_line(&format!("{error:#}"), REASON_BYTES))?;
        if let Some(cache) = &self.cache {
            cache.store(digest, &component);
        }
        Ok(component)
    }
}

/// What bytes are that are no component, by their first eight.
fn no_component(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => None,
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Some("this is a core WebAssembly module"),
        [0, b'a', b's', b'm', _, _, _, _, ..] => Some("this is another version of WebAssembly"),
        [0x7f, b'E', b'L', b'F', ..] => Some("this is native code"),
        [b'(', ..] => Some("this is WebAssembly text"),
        [] => Some("the file is empty"),
        _ => Some("this is not WebAssembly"),
    }
}

impl std::fmt::Debug for PluginHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginHost").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}
