//! Memory for large tensors, kept from one operator to the next. The system takes
//! the pages of a large block back when it is freed, and to get them anew, zeroed,
//! costs as much as many operators do.

use std::sync::{Mutex, PoisonError};

use burn::tensor::DType;
use burn_flex::FlexTensor;

use super::elementwise::is_whole;

/// Smaller tensors are kept by the allocator well enough.
const LEAST_FLOATS: usize = 1 << 14;

/// How many floats are kept at most, for all models together: 256 MiB.
const MOST_FLOATS: usize = 1 << 26;

static POOL: Mutex<Pool> = Mutex::new(Pool { buffers: Vec::new(), floats: 0 });

struct Pool {
    /// The one given back last is the last.
    buffers: Vec<Vec<f32>>,
    /// What they take together.
    floats: usize,
}

impl Pool {
    /// The smallest that is large enough, and not much too large.
    fn take(&mut self, floats: usize) -> Option<Vec<f32>> {
        let most = floats + floats / 4;
        let fitting = self
            .buffers
            .iter()
            .enumerate()
            .filter(|(_, buffer)| (floats..=most).contains(&buffer.capacity()));
        let (index, _) = fitting.min_by_key(|(_, buffer)| buffer.capacity())?;
        let buffer = self.buffers.remove(index);
        self.floats -= buffer.capacity();
        Some(buffer)
    }

    fn give(&mut self, buffer: Vec<f32>) {
        self.floats += buffer.capacity();
        self.buffers.push(buffer);
        while self.floats > MOST_FLOATS {
            self.floats -= self.buffers.remove(0).capacity();
        }
    }
}

/// So many floats, which may be anything: to be written before they are read.
pub(super) fn take(floats: usize) -> Vec<f32> {
    let kept = (floats >= LEAST_FLOATS)
        .then(|| POOL.lock().unwrap_or_else(PoisonError::into_inner).take(floats));
    match kept.flatten() {
        Some(mut buffer) => {
            buffer.resize(floats, 0.0);
            buffer
        }
        None => vec![0.0; floats],
    }
}

/// Keeps the memory of a tensor that nobody else reads.
pub(super) fn give(tensor: FlexTensor) {
    let large = tensor.layout().num_elements() >= LEAST_FLOATS;
    if !large || tensor.dtype() != DType::F32 || !tensor.is_unique() || !is_whole(&tensor) {
        return;
    }
    if let Ok(buffer) = tensor.into_data().bytes.try_into_vec::<f32>() {
        give_floats(buffer);
    }
}

pub(super) fn give_floats(buffer: Vec<f32>) {
    if (LEAST_FLOATS..=MOST_FLOATS).contains(&buffer.capacity()) {
        POOL.lock().unwrap_or_else(PoisonError::into_inner).give(buffer);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    #[test]
    fn what_fits_best_is_taken_and_the_oldest_goes_first() {
        let mut pool = Pool { buffers: Vec::new(), floats: 0 };
        for floats in [1000, 1200, 1100, 5000] {
            pool.give(Vec::with_capacity(floats));
        }
        assert_eq!(pool.take(1050).map(|buffer| buffer.capacity()), Some(1100));
        assert_eq!(pool.take(3000), None, "5000 are much too large");
        assert_eq!(pool.take(1201), None);
        assert_eq!(pool.floats, 1000 + 1200 + 5000);
        pool.give(Vec::with_capacity(MOST_FLOATS - 5000));
        let left: Vec<usize> = pool.buffers.iter().map(Vec::capacity).collect();
        assert_eq!(left, [5000, MOST_FLOATS - 5000]);
    }

    #[test]
    fn a_tensor_that_others_read_stays_theirs() {
        let size = LEAST_FLOATS + 17;
        let tensor = FlexTensor::from_data(TensorData::new(vec![1.0_f32; size], [size]));
        give(tensor.clone());
        let buffers: Vec<Vec<f32>> = (0..8).map(|_| take(size)).collect();
        buffers.into_iter().for_each(|mut buffer| buffer.fill(2.0));
        assert!(tensor.storage::<f32>().iter().all(|value| *value == 1.0));
    }
}
