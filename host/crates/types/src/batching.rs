use std::time::Duration;

/// How requests that come at the same time are to be joined: TensorFlow Serving's
/// `BatchingParameters`, with its defaults, checked.
///
/// Batches of a signature of a version wait together; what runs them is shared by all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchingParameters {
    /// Examples in the largest request, at least one; without splitting also in the
    /// largest batch.
    pub max_batch_size: usize,
    /// How long a batch waits to be filled; zero = no longer than for a thread.
    pub batch_timeout: Duration,
    /// Batches that may wait, at least one.
    pub max_enqueued_batches: usize,
    /// Batches that may run at one moment; `None` = one for each core.
    pub num_batch_threads: Option<usize>,
    /// What metrics call the threads.
    pub thread_pool_name: String,
    /// Sizes that batches are padded to, from the least to the greatest; empty = as they come.
    pub allowed_batch_sizes: Vec<usize>,
    /// Whether inputs of different shapes are padded to one.
    pub pad_variable_length_inputs: bool,
    /// Examples in the largest batch, where larger requests are split over several; `None` =
    /// they are not split.
    pub max_execution_batch_size: Option<usize>,
}

impl Default for BatchingParameters {
    fn default() -> Self {
        Self {
            max_batch_size: 1000,
            batch_timeout: Duration::ZERO,
            max_enqueued_batches: 10,
            num_batch_threads: None,
            thread_pool_name: "batch_threads".to_owned(),
            allowed_batch_sizes: Vec::new(),
            pad_variable_length_inputs: false,
            max_execution_batch_size: None,
        }
    }
}
