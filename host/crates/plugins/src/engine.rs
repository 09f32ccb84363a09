use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use ingle_types::Limits;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

/// How often running guests look whether their time is up: a deadline is missed by at
/// most two ticks. Finer would wake the ticker more often than a GPU finishes a batch.
const TICK: Duration = Duration::from_millis(5);

/// What one component may consist of. A Python component, the largest known, has 38
/// core instances; a larger one cannot be told from an attack on the host's tables.
pub(crate) const CORE_INSTANCES: u32 = 64;
pub(crate) const MEMORIES: u32 = 8;
pub(crate) const TABLES: u32 = 8;
/// Resource handles that are alive. The contract has none; a guest's own are the host's
/// to keep, outside of the guest's memory.
pub(crate) const HANDLES: usize = 4096;

const MIB: usize = 1024 * 1024;

/// Memory of a slot that is cleared rather than returned to the system after a call.
/// It covers a picture and its tensor; beyond it each page costs a fault per call.
const KEEP_RESIDENT_BYTES: usize = 8 * MIB;

/// Bookkeeping of one component instance; a Python component needs a few MiB.
const INSTANCE_BYTES: usize = 8 * MIB;

/// Stack frames that a trap's trace shows.
const TRACE_FRAMES: usize = 20;

/// The most stack that a guest may be given: it runs on its caller's, and a caller's
/// thread has 2 MiB unless it asked for more. Past its end the process would be killed.
const MAX_STACK_BYTES: usize = MIB;

/// The one engine of the process, with its ticker.
///
/// # Errors
/// Where the limits make no valid configuration.
pub(crate) fn start(limits: &Limits, concurrent_calls: u32) -> wasmtime::Result<Engine> {
    if limits.plugin_stack_bytes > MAX_STACK_BYTES {
        let asked = limits.plugin_stack_bytes;
        wasmtime::bail!("a plugin's stack of {asked} bytes is above {MAX_STACK_BYTES}");
    }
    let pooled = config(limits, Some(pool(limits, concurrent_calls)));
    // The pool reserves address space (not memory) for every slot at once, which a
    // container's limits may refuse. Instances are then made one by one, more slowly.
    let engine = Engine::new(&pooled).or_else(|reason| {
        tracing::warn!(%reason, "no pool of plugin instances: calls will be slower");
        Engine::new(&config(limits, None))
    })?;
    start_ticker(&engine)?;
    Ok(engine)
}

fn config(limits: &Limits, pool: Option<PoolingAllocationConfig>) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .max_wasm_stack(limits.plugin_stack_bytes)
        .async_stack_size(limits.plugin_stack_bytes.saturating_mul(2))
        .wasm_backtrace_max_frames(NonZeroUsize::new(TRACE_FRAMES))
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        // The same request gives the same answer on every host.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        // The compiler would share the engine's thread pool and stall inference there.
        .parallel_compilation(false);
    if let Some(pool) = pool {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

fn pool(limits: &Limits, calls: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(calls)
        .total_core_instances(calls.saturating_mul(CORE_INSTANCES))
        .total_memories(calls.saturating_mul(MEMORIES))
        .total_tables(calls.saturating_mul(TABLES))
        .total_stacks(0)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_memories_per_module(MEMORIES)
        .max_tables_per_module(TABLES)
        .max_component_instance_size(INSTANCE_BYTES)
        .max_core_instance_size(INSTANCE_BYTES)
        .max_memory_size(limits.plugin_memory_bytes)
        .table_elements(limits.plugin_table_elements)
        // Slots kept warm for one plugin are not kept for another beyond this.
        .max_unused_warm_slots(calls)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(limits.plugin_table_elements.saturating_mul(size_of::<usize>()))
        .pagemap_scan(Enabled::Auto);
    pool
}

/// Advances the epoch until the engine is gone: it holds the engine weakly, so the
/// thread dies with the last plugin.
fn start_ticker(engine: &Engine) -> wasmtime::Result<()> {
    let engine = engine.weak();
    let start = Instant::now();
    let mut ticked = 0;
    let tick = move || {
        while let Some(engine) = engine.upgrade() {
            // On a busy machine each sleep is a little too long. Counting ticks by the
            // clock keeps that from adding up over a call.
            let due = start.elapsed().as_nanos() / TICK.as_nanos();
            (ticked..due).for_each(|_| engine.increment_epoch());
            ticked = due;
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new().name("plugin-ticker".into()).spawn(tick)?;
    Ok(())
}

/// Ticks after which `budget` is about to have passed; whoever stops a guest looks at
/// the clock too, since a late ticker catches up in a hurry.
pub(crate) fn ticks(budget: Duration) -> u64 {
    let ticks = budget.as_nanos().div_ceil(TICK.as_nanos()).max(1);
    // Far below the overflow of the engine's own counter.
    u64::try_from(ticks).unwrap_or(u64::MAX).min(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_rounded_up() {
        assert_eq!(ticks(Duration::ZERO), 1);
        assert_eq!(ticks(Duration::from_nanos(1)), 1);
        assert_eq!(ticks(TICK), 1);
        assert_eq!(ticks(TICK * 10 + Duration::from_nanos(1)), 11);
        assert_eq!(ticks(Duration::MAX), u64::MAX / 2);
    }

    #[test]
    fn the_ticker_does_not_keep_the_engine_alive() {
        let engine = start(&Limits::default(), 1).unwrap();
        let weak = engine.weak();
        drop(engine);
        // The ticker holds the engine for one increment at a time.
        while weak.upgrade().is_some() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_stack_larger_than_a_callers_is_refused() {
        let stack = |plugin_stack_bytes| Limits { plugin_stack_bytes, ..Limits::default() };
        assert!(start(&stack(MAX_STACK_BYTES), 1).is_ok());
        assert!(start(&stack(MAX_STACK_BYTES + 1), 1).is_err());
    }

    #[test]
    fn an_impossible_pool_falls_back() {
        // 2^20 calls of 8 memories of 4 GiB each are more than an address space.
        assert!(
            Engine::new(&config(&Limits::default(), Some(pool(&Limits::default(), 1 << 20))))
                .is_err()
        );
        assert!(start(&Limits::default(), 1 << 20).is_ok());
    }
}
