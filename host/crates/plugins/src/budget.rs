use ingle_types::Limits;
use wasmtime::ResourceLimiter;

use crate::engine;

/// What one instance may still take of the host: all its memories and tables together.
#[derive(Debug)]
pub(crate) struct Budget {
    memory: Account,
    tables: Account,
}

/// A refusal that the guest was given. It usually aborts next, so the trap that
/// follows is reported as what caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) limit: usize,
    pub(crate) unit: &'static str,
}

#[derive(Debug)]
struct Account {
    limit: usize,
    unit: &'static str,
    used: usize,
    last_growth: usize,
    refused: bool,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory: Account::new(limits.plugin_memory_bytes, "bytes of memory"),
            tables: Account::new(limits.plugin_table_elements, "table entries"),
        }
    }

    pub(crate) fn refusal(&self) -> Option<Refusal> {
        [&self.memory, &self.tables]
            .into_iter()
            .find(|account| account.refused)
            .map(|account| Refusal { limit: account.limit, unit: account.unit })
    }
}

impl Account {
    fn new(limit: usize, unit: &'static str) -> Self {
        Self { limit, unit, used: 0, last_growth: 0, refused: false }
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let growth = desired.saturating_sub(current);
        let used = self.used.saturating_add(growth);
        if used > self.limit {
            self.refused = true;
            return false;
        }
        self.used = used;
        self.last_growth = growth;
        true
    }

    /// A growth that was allowed came to nothing, so it does not count.
    fn undo(&mut self, error: &wasmtime::Error) {
        self.used = self.used.saturating_sub(std::mem::take(&mut self.last_growth));
        self.refused |= error.downcast_ref::<std::io::Error>().is_some();
    }
}

impl ResourceLimiter for Budget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.memory.grow(current, desired))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory.undo(&error);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.tables.grow(current, desired))
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.tables.undo(&error);
        Ok(())
    }

    fn instances(&self) -> usize {
        engine::CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        engine::TABLES as usize
    }

    fn memories(&self) -> usize {
        engine::MEMORIES as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_summed_and_a_refusal_is_remembered() {
        let limits = Limits { plugin_memory_bytes: 300, ..Limits::default() };
        let mut budget = Budget::new(&limits);
        assert!(budget.memory_growing(0, 200, None).unwrap());
        assert!(budget.memory_growing(0, 100, None).unwrap());
        assert_eq!(budget.refusal(), None);
        assert!(!budget.memory_growing(100, 101, None).unwrap());
        assert_eq!(budget.refusal(), Some(Refusal { limit: 300, unit: "bytes of memory" }));
    }

    #[test]
    fn a_growth_that_failed_does_not_count() {
        let limits = Limits { plugin_table_elements: 10, ..Limits::default() };
        let mut budget = Budget::new(&limits);
        assert!(budget.table_growing(0, 10, Some(5)).unwrap());
        budget.table_grow_failed(wasmtime::format_err!("above its own maximum")).unwrap();
        assert!(budget.table_growing(0, 10, None).unwrap());
        assert_eq!(budget.refusal(), None);
    }
}
