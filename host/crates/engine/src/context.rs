use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use burn::tensor::{self as bt, BoolStore};
use bytes::Bytes;
use ingle_types::{DType, Limits};

use crate::kernels::{Kernels, bool_store};
use crate::{Observer, OpError, PanicText};

/// What an operator may know of the run that it is part of.
pub(crate) struct Context<B: Kernels> {
    device: B::Device,
    bool_store: BoolStore,
    tensor_bytes: usize,
    run_bytes: usize,
    constant_bytes: usize,
    steps: usize,
    steps_left: AtomicUsize,
    /// While a model is loaded: when to stop computing what could be computed once.
    fold_until: Option<Instant>,
    observer: Option<Arc<dyn Observer>>,
}

impl<B: Kernels> Context<B> {
    pub(crate) fn new(device: B::Device, limits: &Limits) -> Self {
        let bool_store = bool_store::<B>(&device);
        let tensor_bytes = limits.tensor_bytes.min(B::max_tensor_bytes(&device));
        Self {
            device,
            bool_store,
            tensor_bytes,
            run_bytes: limits.run_bytes,
            constant_bytes: usize::try_from(limits.bundle_bytes).unwrap_or(usize::MAX),
            steps: limits.graph_nodes,
            steps_left: AtomicUsize::new(limits.graph_nodes),
            fold_until: Instant::now().checked_add(limits.fold_time),
            observer: None,
        }
    }

    /// The same context for a new run, with its budget of steps refilled.
    pub(crate) fn renewed(&self) -> Self {
        let (device, steps_left) = (self.device.clone(), AtomicUsize::new(self.steps));
        Self { device, steps_left, observer: None, ..*self }
    }

    /// As [`Context::renewed`], for a run that may be watched.
    pub(crate) fn watched(&self, observer: Option<Arc<dyn Observer>>) -> Self {
        Self { observer, fold_until: None, ..self.renewed() }
    }

    pub(crate) fn observer(&self) -> Option<&dyn Observer> {
        self.observer.as_deref()
    }

    /// Waits until the device has done all that it was asked.
    pub(crate) fn wait(&self) -> Result<(), OpError> {
        B::sync(&self.device)
            .map_err(|error| OpError::Device { source: PanicText(format!("{error:?}")) })
    }

    pub(crate) fn device(&self) -> &B::Device {
        &self.device
    }

    pub(crate) fn bool_store(&self) -> BoolStore {
        self.bool_store
    }

    pub(crate) fn run_bytes(&self) -> usize {
        self.run_bytes
    }

    pub(crate) fn constant_bytes(&self) -> usize {
        self.constant_bytes
    }

    /// How the device stores `dtype`.
    pub(crate) fn stored(&self, dtype: DType) -> Result<bt::DType, OpError> {
        let stored = match dtype {
            DType::Bool => return Ok(bt::DType::Bool(self.bool_store)),
            DType::U8 => bt::DType::U8,
            DType::U16 => bt::DType::U16,
            DType::U32 => bt::DType::U32,
            DType::U64 => bt::DType::U64,
            DType::I8 => bt::DType::I8,
            DType::I16 => bt::DType::I16,
            DType::I32 => bt::DType::I32,
            DType::I64 => bt::DType::I64,
            DType::F16 => bt::DType::F16,
            DType::BF16 => bt::DType::BF16,
            DType::F32 => bt::DType::F32,
            DType::F64 => bt::DType::F64,
            DType::Bytes => return Err(OpError::DeviceDType { dtype }),
        };
        if B::computes(&self.device, stored) {
            Ok(stored)
        } else {
            Err(OpError::DeviceDType { dtype })
        }
    }

    /// Refuses a tensor that is above the limit, before anything is allocated for it.
    pub(crate) fn admit(&self, dtype: DType, dims: &[usize]) -> Result<(), OpError> {
        let too_large = || OpError::TooLarge { dims: dims.to_vec(), limit: self.tensor_bytes };
        if dims.contains(&0) {
            // It takes nothing, but its other sizes are multiplied in many places.
            let mut others = dims.iter().filter(|&&d| d > 0);
            let product = others.try_fold(1usize, |n, &d| n.checked_mul(d));
            return product.filter(|&n| n <= isize::MAX as usize).map(drop).ok_or_else(too_large);
        }
        // Of a string at least what refers to it.
        let size = dtype.size_bytes().unwrap_or(size_of::<Bytes>());
        dims.iter()
            .try_fold(size, |n, &d| n.checked_mul(d))
            .filter(|&bytes| bytes <= self.tensor_bytes)
            .map(drop)
            .ok_or_else(too_large)
    }

    /// Whether loading has taken so long that what is left is computed by each run.
    pub(crate) fn is_late(&self) -> bool {
        self.fold_until.is_some_and(|end| Instant::now() > end)
    }

    /// Counts one step of the run, so that no loop is endless.
    pub(crate) fn step(&self) -> Result<(), OpError> {
        if self.is_late() {
            return Err(OpError::Late);
        }
        self.steps_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .map(drop)
            .map_err(|_| OpError::Steps { limit: self.steps })
    }
}
