use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ingle_types::{BatchingParameters, Code};

/// Who may wait for a batch of one signature of one version.
#[derive(Debug)]
pub struct Admission {
    largest: usize,
    /// Examples that may wait: the batches that may, each filled.
    capacity: usize,
    waiting: Arc<AtomicUsize>,
}

/// Why a request may not wait, in TensorFlow Serving's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    #[error("Task size {size} is larger than maximum input batch size {largest}")]
    TooLarge { size: usize, largest: usize },
    #[error("The batch scheduling queue to which this task was submitted is full")]
    Full,
}

impl AdmissionError {
    pub fn code(self) -> Code {
        match self {
            Self::TooLarge { .. } => Code::InvalidArgument,
            Self::Full => Code::Unavailable,
        }
    }
}

/// Held by a request for as long as it waits.
#[derive(Debug)]
pub struct Place {
    size: usize,
    waiting: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.size, Ordering::Relaxed);
    }
}

impl Admission {
    pub fn new(parameters: &BatchingParameters) -> Self {
        let batch = parameters.max_execution_batch_size.unwrap_or(parameters.max_batch_size);
        Self {
            largest: parameters.max_batch_size,
            capacity: parameters.max_enqueued_batches.saturating_mul(batch),
            waiting: Arc::default(),
        }
    }

    /// A place for a request of so many examples.
    ///
    /// # Errors
    /// See [`AdmissionError`].
    pub fn admit(&self, size: usize) -> Result<Place, AdmissionError> {
        if size > self.largest {
            return Err(AdmissionError::TooLarge { size, largest: self.largest });
        }
        let room = |waiting: usize| waiting.checked_add(size).filter(|&sum| sum <= self.capacity);
        self.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .map_err(|_| AdmissionError::Full)?;
        Ok(Place { size, waiting: self.waiting.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(max_batch_size: usize, max_enqueued_batches: usize) -> Admission {
        let default = BatchingParameters::default();
        Admission::new(&BatchingParameters { max_batch_size, max_enqueued_batches, ..default })
    }

    #[test]
    fn a_request_larger_than_a_batch_is_refused_and_one_as_large_is_not() {
        let admission = admission(4, 1);
        let error = admission.admit(5).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        let text = "Task size 5 is larger than maximum input batch size 4";
        assert_eq!(error.to_string(), text);
        assert!(admission.admit(4).is_ok());
    }

    #[test]
    fn a_full_queue_has_room_again_when_one_is_taken_out() {
        let admission = admission(4, 2);
        let first = admission.admit(4).unwrap();
        let second = admission.admit(3).unwrap();
        assert_eq!(admission.admit(2).unwrap_err(), AdmissionError::Full);
        assert_eq!(AdmissionError::Full.code(), Code::Unavailable);
        let third = admission.admit(1).unwrap();
        assert!(admission.admit(1).is_err());
        drop(second);
        assert!(admission.admit(4).is_err());
        assert!(admission.admit(3).is_ok(), "the place is given back at once");
        drop((first, third));
        assert!(admission.admit(4).is_ok());
    }

    #[test]
    fn with_splitting_batches_that_wait_are_as_large_as_those_that_run() {
        let parameters = BatchingParameters {
            max_batch_size: 8,
            max_execution_batch_size: Some(4),
            max_enqueued_batches: 2,
            ..BatchingParameters::default()
        };
        let admission = Admission::new(&parameters);
        let _waiting = admission.admit(8).unwrap();
        assert_eq!(admission.admit(1).unwrap_err(), AdmissionError::Full);
    }

    #[test]
    fn sizes_without_end_do_not_overflow() {
        let admission = admission(usize::MAX, usize::MAX);
        let _waiting = admission.admit(usize::MAX).unwrap();
        assert_eq!(admission.admit(1).unwrap_err(), AdmissionError::Full);
    }
}
