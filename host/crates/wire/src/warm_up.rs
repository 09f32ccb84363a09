//! A version's file of warm-up requests: a TFRecord of `PredictionLog`s.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ingle_types::{BoxFuture, Code, Limits, Replay, Replayed, Servable, ServeError, Stage};

use crate::tfrecord::Records;
use crate::tfs_grpc;

/// Reads such files, and sends what is in them.
#[derive(Clone, Debug)]
pub struct WarmUp {
    limits: Arc<Limits>,
    iterations: u32,
}

impl WarmUp {
    /// Each request is sent `iterations` times.
    pub fn new(limits: Arc<Limits>, iterations: u32) -> Self {
        Self { limits, iterations }
    }

    async fn send(&self, record: &Bytes, servable: &Arc<dyn Servable>) -> Result<(), ServeError> {
        // A server that is busy with requests has to be waited for.
        const PAUSE: Duration = Duration::from_millis(50);
        loop {
            match tfs_grpc::replay(record.clone(), servable, &self.limits).await {
                Err(error) if is_busy(&error) => tokio::time::sleep(PAUSE).await,
                done => return done,
            }
        }
    }

    async fn all(
        &self,
        file: Bytes,
        servable: &Arc<dyn Servable>,
        answered: &mut usize,
    ) -> Result<(), ServeError> {
        let most = self.limits.warm_up_records;
        for record in Records::new(file) {
            let record = record.map_err(|error| {
                let text =
                    format!("{error}. Please verify your warmup data is in TFRecord format.");
                ServeError::new(Code::DataLoss, Stage::Decode, text)
            })?;
            if *answered == most {
                let text = format!("Number of warmup records exceeds the maximum ({most})");
                return Err(ServeError::invalid(Stage::Decode, text));
            }
            let number = *answered + 1;
            for _ in 0..self.iterations {
                self.send(&record, servable).await.map_err(|error| numbered(error, number))?;
            }
            *answered = number;
        }
        Ok(())
    }
}

impl Replay for WarmUp {
    fn replay(&self, file: Bytes, servable: Arc<dyn Servable>) -> BoxFuture<'_, Replayed> {
        Box::pin(async move {
            let mut records = 0;
            let outcome = self.all(file, &servable, &mut records).await;
            Replayed { records, outcome }
        })
    }
}

/// There was no place in a queue.
fn is_busy(error: &ServeError) -> bool {
    error.stage() == Stage::Queue
        && matches!(error.code(), Code::ResourceExhausted | Code::Unavailable)
}

/// The same error, saying which record it is about.
fn numbered(error: ServeError, number: usize) -> ServeError {
    let message = format!("{} (warmup record {number})", error.message());
    ServeError::new(error.code(), error.stage(), message).with_source(error)
}
