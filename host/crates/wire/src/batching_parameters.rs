//! TensorFlow Serving's `--batching_parameters_file` and `batching_params.pbtxt`: a text
//! protobuf of `BatchingParameters`.

use std::time::Duration;

use ingle_types::BatchingParameters;
use prost_reflect::DescriptorError;
use prost_reflect::text_format::ParseError;

use crate::proto::tensorflow::serving as pb;
use crate::text_proto::{self, TextError};

const MESSAGE: &str = "tensorflow.serving.BatchingParameters";

/// More threads are a mistake, and would take the machine with them.
const MOST_THREADS: i64 = 4096;

/// The ways in which a file can be wrong, in TensorFlow Serving's words where it has any.
#[derive(Debug, thiserror::Error)]
pub enum BatchingParametersError {
    #[error("Error parsing text-format tensorflow.serving.BatchingParameters: {0}")]
    Syntax(ParseError),
    #[error("the built-in descriptors are damaged")]
    Descriptors(#[from] DescriptorError),
    #[error("{field} must be positive; was {value}")]
    NotPositive { field: &'static str, value: i64 },
    #[error("{field} must be non-negative; was {value}")]
    Negative { field: &'static str, value: i64 },
    #[error("{field} must be at most {most}; was {value}")]
    TooMany { field: &'static str, value: i64, most: i64 },
    #[error("allowed_batch_sizes must be strictly increasing; {next} comes after {size}")]
    NotIncreasing { size: usize, next: usize },
    #[error(
        "Last entry in allowed_batch_sizes must match {field}; last entry was {last}; expected {expected}"
    )]
    LastSize { field: &'static str, last: usize, expected: usize },
    #[error(
        "When enable_large_batch_splitting is true, max_execution_batch_size must be at most max_batch_size; was {size}, which is more than {most}"
    )]
    LargerThanTasks { size: usize, most: usize },
}

/// Reads a file's text.
///
/// # Errors
/// For the first thing that is wrong with it, naming the field.
pub fn parse(text: &str) -> Result<BatchingParameters, BatchingParametersError> {
    let message: pb::BatchingParameters =
        text_proto::read(MESSAGE, text).map_err(|error| match error {
            TextError::Syntax(error) => BatchingParametersError::Syntax(error),
            TextError::Descriptors(error) => error.into(),
        })?;
    check(message)
}

fn check(message: pb::BatchingParameters) -> Result<BatchingParameters, BatchingParametersError> {
    let default = BatchingParameters::default();
    let max_batch_size = match message.max_batch_size {
        Some(value) => positive("max_batch_size", value)?,
        None => default.max_batch_size,
    };
    let splitting = message.enable_large_batch_splitting.unwrap_or(false);
    let max_execution_batch_size = match message.max_execution_batch_size {
        _ if !splitting => None,
        Some(value) => Some(positive("max_execution_batch_size", value)?),
        None => Some(max_batch_size),
    };
    if let Some(size) = max_execution_batch_size.filter(|&size| size > max_batch_size) {
        return Err(BatchingParametersError::LargerThanTasks { size, most: max_batch_size });
    }
    let max_enqueued_batches = match message.max_enqueued_batches {
        // TensorFlow Serving's rule, for the sake of files that say so.
        Some(0) if !splitting => 1,
        Some(value) => positive("max_enqueued_batches", value)?,
        None => default.max_enqueued_batches,
    };
    let last = match max_execution_batch_size {
        Some(size) => ("max_execution_batch_size", size),
        None => ("max_batch_size", max_batch_size),
    };
    Ok(BatchingParameters {
        max_batch_size,
        batch_timeout: timeout(message.batch_timeout_micros)?,
        max_enqueued_batches,
        num_batch_threads: message.num_batch_threads.map(threads).transpose()?,
        thread_pool_name: message.thread_pool_name.unwrap_or(default.thread_pool_name),
        allowed_batch_sizes: allowed(message.allowed_batch_sizes, last)?,
        pad_variable_length_inputs: message.pad_variable_length_inputs,
        max_execution_batch_size,
    })
}

fn positive(field: &'static str, value: i64) -> Result<usize, BatchingParametersError> {
    let number = usize::try_from(value).ok().filter(|&number| number > 0);
    number.ok_or(BatchingParametersError::NotPositive { field, value })
}

fn timeout(micros: Option<i64>) -> Result<Duration, BatchingParametersError> {
    let value = micros.unwrap_or(0);
    let negative = BatchingParametersError::Negative { field: "batch_timeout_micros", value };
    Ok(Duration::from_micros(u64::try_from(value).map_err(|_| negative)?))
}

fn threads(value: i64) -> Result<usize, BatchingParametersError> {
    let field = "num_batch_threads";
    if value > MOST_THREADS {
        return Err(BatchingParametersError::TooMany { field, value, most: MOST_THREADS });
    }
    positive(field, value)
}

/// The sizes that batches may have, of which the last has to be the greatest possible one.
fn allowed(
    values: Vec<i64>,
    (field, expected): (&'static str, usize),
) -> Result<Vec<usize>, BatchingParametersError> {
    let sizes = values.into_iter().map(|value| positive("allowed_batch_sizes", value));
    let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
    for pair in sizes.windows(2) {
        if let &[size, next] = pair
            && next <= size
        {
            return Err(BatchingParametersError::NotIncreasing { size, next });
        }
    }
    match sizes.last() {
        Some(&last) if last != expected => {
            Err(BatchingParametersError::LastSize { field, last, expected })
        }
        _ => Ok(sizes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_says_the_defaults() {
        assert_eq!(parse("").unwrap(), BatchingParameters::default());
    }

    #[test]
    fn each_field_is_read() {
        let text = "
            max_batch_size { value: 128 }  # the most
            batch_timeout_micros: { value: 2500 },
            max_enqueued_batches < value: 7 >
            num_batch_threads { value: 3 };
            thread_pool_name { value: 'po' \"ol\" }
            allowed_batch_sizes: 8 allowed_batch_sizes: [0x10, 32]
            pad_variable_length_inputs: true
            enable_large_batch_splitting { value: true }
            max_execution_batch_size { value: 32 }";
        let expected = BatchingParameters {
            max_batch_size: 128,
            batch_timeout: Duration::from_micros(2500),
            max_enqueued_batches: 7,
            num_batch_threads: Some(3),
            thread_pool_name: "pool".to_owned(),
            allowed_batch_sizes: vec![8, 16, 32],
            pad_variable_length_inputs: true,
            max_execution_batch_size: Some(32),
        };
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn without_splitting_the_size_of_executions_does_not_count() {
        let size = |text| parse(text).unwrap().max_execution_batch_size;
        assert_eq!(size("max_execution_batch_size { value: 9999 }"), None);
        assert_eq!(size("enable_large_batch_splitting {} max_batch_size { value: 8 }"), None);
        let splitting = "enable_large_batch_splitting { value: true } max_batch_size { value: 8 }";
        assert_eq!(size(splitting), Some(8));
    }

    #[test]
    fn a_queue_of_no_batches_holds_one() {
        let none = "max_enqueued_batches { value: 0 }";
        assert_eq!(parse(none).unwrap().max_enqueued_batches, 1);
        let splitting = format!("{none} enable_large_batch_splitting {{ value: true }}");
        assert_eq!(refused(&splitting), "max_enqueued_batches must be positive; was 0");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
            ("max_batch_size {}", "max_batch_size must be positive; was 0"),
            ("max_batch_size { value: -4 }", "max_batch_size must be positive; was -4"),
            (
                "batch_timeout_micros { value: -1 }",
                "batch_timeout_micros must be non-negative; was -1",
            ),
            ("max_enqueued_batches { value: -1 }", "max_enqueued_batches must be positive; was -1"),
            ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
            (
                "num_batch_threads { value: 9000000000 }",
                "num_batch_threads must be at most 4096; was 9000000000",
            ),
            ("allowed_batch_sizes: [0, 1000]", "allowed_batch_sizes must be positive; was 0"),
            (
                "allowed_batch_sizes: [4, 4, 1000]",
                "allowed_batch_sizes must be strictly increasing; 4 comes after 4",
            ),
            (
                "allowed_batch_sizes: [8, 4, 1000]",
                "allowed_batch_sizes must be strictly increasing; 4 comes after 8",
            ),
            (
                "allowed_batch_sizes: [8, 16]",
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 16; expected 1000",
            ),
            (
                "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 8 } allowed_batch_sizes: 16",
                "Last entry in allowed_batch_sizes must match max_execution_batch_size; last entry was 16; expected 8",
            ),
            (
                "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 0 }",
                "max_execution_batch_size must be positive; was 0",
            ),
            (
                "enable_large_batch_splitting { value: true } max_batch_size { value: 4 } max_execution_batch_size { value: 8 }",
                "When enable_large_batch_splitting is true, max_execution_batch_size must be at most max_batch_size; was 8, which is more than 4",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(refused(text), expected, "{text}");
        }
        for text in ["max_batch_size: 8", "max_batch_sizes { value: 8 }", "allowed_batch_sizes"] {
            let error = refused(text);
            let start = "Error parsing text-format tensorflow.serving.BatchingParameters";
            assert!(error.starts_with(start), "{error}");
        }
    }
}
