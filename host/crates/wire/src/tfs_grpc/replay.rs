//! Requests that were recorded as a `PredictionLog`.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use ingle_types::{Code, Limits, Servable, ServeError, Stage};

use super::{inference, multi_inference, predict};
use crate::inference::{Classifier, Regressor};
use crate::protobuf::{WireError, one_of};

/// The members of `PredictionLog.log_type`.
const LOG_TYPES: RangeInclusive<u32> = CLASSIFY..=PREDICT_STREAMED;
const CLASSIFY: u32 = 2;
const REGRESS: u32 = 3;
const MULTI_INFERENCE: u32 = 4;
const PREDICT: u32 = 6;
const PREDICT_STREAMED: u32 = 7;

/// A recorded request, still serialized.
#[derive(Debug)]
struct Recorded {
    log_type: u32,
    request: Bytes,
}

impl Recorded {
    /// `None` where a record holds no log.
    fn read(record: Bytes) -> Result<Option<Self>, WireError> {
        let Some((log_type, log)) = one_of(record, &LOG_TYPES)? else { return Ok(None) };
        let request = one_of(log, &(1..=1))?.map(|(_, request)| request).unwrap_or_default();
        Ok(Some(Self { log_type, request }))
    }
}

/// Sends a serialized `PredictionLog`'s request to `servable`, on the path of every other
/// request. Which model and version it asks for does not count.
///
/// # Errors
/// As the request; UNIMPLEMENTED for logs of kinds of requests that are not served.
pub(crate) async fn replay(
    record: Bytes,
    servable: &Arc<dyn Servable>,
    limits: &Limits,
) -> Result<(), ServeError> {
    let parsed = Recorded::read(record).map_err(|error| {
        ServeError::invalid(Stage::Decode, format!("Failed to parse warmup record: {error}"))
    })?;
    let Some(Recorded { log_type, request }) = parsed else { return Ok(()) };
    match log_type {
        PREDICT => predict::replay(&**servable, limits, request).await,
        CLASSIFY => inference::replay(servable, limits, request, Classifier::of).await,
        REGRESS => inference::replay(servable, limits, request, Regressor::of).await,
        MULTI_INFERENCE => multi_inference::replay(servable, limits, request).await,
        other => {
            let message = format!("Unsupported log_type for warmup: {other}");
            Err(ServeError::new(Code::Unimplemented, Stage::Route, message))
        }
    }
}
