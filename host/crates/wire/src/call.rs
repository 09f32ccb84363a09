//! One request from its headers to its answer: the clock, the model it turned out
//! to be for, and the one place where its failure is counted and logged.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::StatusCode;
use ingle_telemetry::{Finished, InFlight, Metrics, RequestKind};
use ingle_types::{
    Code, Deadline, ModelSpec, PredictRequest, Servable, Serve, ServeError, Stage, TensorMap,
    Version,
};

use crate::Wire;
use crate::proto::tensorflow::serving as pb;
use crate::request_log::{Chosen, RequestLog};

/// A request that is being answered. Dropped before [`Call::finish`], it counts as
/// cancelled: the client went away.
pub(crate) struct Call {
    metrics: Metrics,
    serve: Arc<dyn Serve>,
    api: &'static str,
    entrypoint: &'static str,
    started: Instant,
    seen: Mutex<Seen>,
    request_log: Option<Arc<dyn RequestLog>>,
    finished: bool,
    _in_flight: InFlight,
}

/// What became known of a request while it was answered.
#[derive(Clone, Default)]
struct Seen {
    /// Empty until the model is known to be one of ours, so that clients cannot make
    /// label values.
    model: String,
    version: Option<Version>,
    signature: String,
    /// From the beginning until the model was asked first.
    decode: Option<Duration>,
    /// In the model, all times that it was asked.
    run: Option<Duration>,
    answered: Option<Instant>,
}

impl Call {
    pub(crate) fn new(wire: &Wire, api: &'static str, entrypoint: &'static str) -> Self {
        Self {
            metrics: wire.metrics.clone(),
            serve: wire.serve.clone(),
            api,
            entrypoint,
            started: Instant::now(),
            seen: Mutex::default(),
            request_log: wire.request_log.clone(),
            finished: false,
            _in_flight: wire.metrics.begin(entrypoint),
        }
    }

    /// The model that the request names. One that is not ours is not noted.
    pub(crate) fn asks(&self, model: &str) {
        if self.serve.knows(model) {
            model.clone_into(&mut self.seen().model);
        }
    }

    pub(crate) fn found(&self, servable: &dyn Servable) {
        let mut seen = self.seen();
        servable.model().clone_into(&mut seen.model);
        seen.version = Some(servable.version());
    }

    /// Takes a handle to what answers for `model`.
    pub(crate) fn resolve(&self, model: &ModelSpec) -> Result<Arc<dyn Servable>, ServeError> {
        self.asks(&model.name);
        let servable = self.serve.resolve(model)?;
        self.found(&*servable);
        Ok(servable)
    }

    /// Asks the model, and takes the time.
    pub(crate) async fn predict(
        &self,
        servable: &dyn Servable,
        request: PredictRequest,
    ) -> Result<TensorMap, ServeError> {
        let asked = Instant::now();
        {
            let mut seen = self.seen();
            seen.decode.get_or_insert(asked - self.started);
            if seen.signature.is_empty() && servable.signatures().contains_key(&request.signature) {
                seen.signature.clone_from(&request.signature);
            }
        }
        let outputs = servable.predict(request).await?;
        let answered = Instant::now();
        let mut seen = self.seen();
        seen.run = Some(seen.run.unwrap_or_default() + (answered - asked));
        seen.answered = Some(answered);
        Ok(outputs)
    }

    /// The examples of Classify and its like, once they were answered.
    pub(crate) fn examples(&self, count: usize) {
        self.metrics.examples(&self.seen().model, count);
    }

    /// Whether the request is to be recorded, once it was answered.
    pub(crate) fn choose(&self) -> Option<Chosen> {
        let sampling_rate = self.request_log.as_ref()?.choose(&self.seen().model)?;
        Some(Chosen { sampling_rate })
    }

    pub(crate) fn request_log(&self) -> Option<&dyn RequestLog> {
        self.request_log.as_deref()
    }

    /// The `ModelSpec` of what answers.
    pub(crate) fn answered_by(&self) -> pb::ModelSpec {
        let seen = self.seen();
        let version = seen.version.and_then(|version| i64::try_from(version).ok());
        pb::ModelSpec {
            name: seen.model.clone(),
            version_choice: version.map(pb::model_spec::VersionChoice::Version),
            signature_name: seen.signature.clone(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Whole after a panic too: each change is one assignment.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rescue point: every outcome of a request passes here once.
    pub(crate) fn finish<T>(mut self, outcome: Result<T, ServeError>) -> Result<T, ServeError> {
        self.finished = true;
        self.count(outcome.as_ref().err().map(ServeError::code));
        if let Err(error) = &outcome {
            self.log(error);
        }
        outcome
    }

    fn count(&self, code: Option<Code>) {
        let seen = self.seen();
        let kind = RequestKind {
            model: &seen.model,
            version: seen.version,
            signature: &seen.signature,
            api: self.api,
            entrypoint: self.entrypoint,
        };
        let finished = Finished {
            code,
            elapsed: self.started.elapsed(),
            decode: seen.decode,
            run: seen.run,
            encode: seen.answered.filter(|_| code.is_none()).map(|at| at.elapsed()),
        };
        self.metrics.request(&kind, &finished);
    }

    fn log(&self, error: &ServeError) {
        let model = self.seen().model.clone();
        let (api, entrypoint, stage) = (self.api, self.entrypoint, error.stage().name());
        let (code, message, cause) = (error.code().name(), error.message(), chain(error));
        match error.code() {
            Code::Internal | Code::Unknown => {
                tracing::error!(
                    model,
                    api,
                    entrypoint,
                    stage,
                    code,
                    message,
                    cause,
                    "request failed"
                );
            }
            _ => {
                tracing::debug!(
                    model,
                    api,
                    entrypoint,
                    stage,
                    code,
                    message,
                    cause,
                    "request failed"
                );
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.finished {
            self.count(Some(Code::Cancelled));
        }
    }
}

/// Asks the model, for a client or, without a `call`, for the version itself.
pub(crate) async fn ask(
    call: Option<&Call>,
    servable: &dyn Servable,
    request: PredictRequest,
) -> Result<TensorMap, ServeError> {
    match call {
        Some(call) => call.predict(servable, request).await,
        None => servable.predict(request).await,
    }
}

/// What only the log may see.
fn chain(error: &ServeError) -> String {
    let mut causes = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    causes.join(": ")
}

/// Does `work` until `deadline`. A panic in it is this request's failure alone.
pub(crate) async fn run<T>(
    deadline: Deadline,
    work: impl Future<Output = Result<T, ServeError>> + Send,
) -> Result<T, ServeError> {
    let work = CatchPanic(pin!(work));
    match deadline.instant() {
        None => work.await,
        Some(_) if deadline.passed() => Err(timed_out()),
        Some(at) => {
            tokio::time::timeout_at(at.into(), work).await.unwrap_or_else(|_| Err(timed_out()))
        }
    }
}

fn timed_out() -> ServeError {
    let message = "Timed out waiting for notification";
    ServeError::new(Code::DeadlineExceeded, Stage::Run, message)
}

struct CatchPanic<'a, F>(Pin<&'a mut F>);

impl<T, F: Future<Output = Result<T, ServeError>>> Future for CatchPanic<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let work = self.0.as_mut();
        // A future that panicked is not polled again: its request is over.
        catch_unwind(AssertUnwindSafe(|| work.poll(context)))
            .unwrap_or_else(|panic| Poll::Ready(Err(panicked(panic.as_ref()))))
    }
}

/// The public face of a bug.
fn panicked(panic: &(dyn Any + Send)) -> ServeError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    ServeError::new(Code::Internal, Stage::Run, "internal error")
        .with_source(format!("panicked: {text}"))
}

/// Does work that is long for `bytes` bytes where it delays no other request.
pub(crate) async fn offload<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, ServeError> + Send + 'static,
) -> Result<T, ServeError> {
    // About the time that handing over to another thread takes.
    const WORTH_IT: usize = 64 * 1024;
    if bytes < WORTH_IT {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|failure| {
        Err(match failure.try_into_panic() {
            Ok(panic) => panicked(panic.as_ref()),
            Err(_) => ServeError::new(Code::Unavailable, Stage::Decode, "the server is stopping"),
        })
    })
}

/// gRPC's column of the codes.
pub(crate) const fn grpc_code(code: Code) -> tonic::Code {
    match code {
        Code::Cancelled => tonic::Code::Cancelled,
        Code::Unknown => tonic::Code::Unknown,
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::DeadlineExceeded => tonic::Code::DeadlineExceeded,
        Code::NotFound => tonic::Code::NotFound,
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::Aborted => tonic::Code::Aborted,
        Code::OutOfRange => tonic::Code::OutOfRange,
        Code::Unimplemented => tonic::Code::Unimplemented,
        Code::Internal => tonic::Code::Internal,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::DataLoss => tonic::Code::DataLoss,
    }
}

/// HTTP's column of the codes. A request that was too large to decode is told apart
/// from one that found the server busy.
pub(crate) fn http_status(code: Code, stage: Stage) -> StatusCode {
    const CLIENT_CLOSED_REQUEST: u16 = 499;
    match code {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted if stage == Stage::Decode => StatusCode::PAYLOAD_TOO_LARGE,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Cancelled => {
            StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::BAD_REQUEST)
        }
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use super::*;
    use crate::tests::stub::Stubs;

    #[test]
    fn codes_have_one_status_in_each_protocol() {
        let table = [
            (Code::Cancelled, 499),
            (Code::Unknown, 500),
            (Code::InvalidArgument, 400),
            (Code::DeadlineExceeded, 504),
            (Code::NotFound, 404),
            (Code::AlreadyExists, 409),
            (Code::PermissionDenied, 403),
            (Code::ResourceExhausted, 429),
            (Code::FailedPrecondition, 400),
            (Code::Aborted, 409),
            (Code::OutOfRange, 400),
            (Code::Unimplemented, 501),
            (Code::Internal, 500),
            (Code::Unavailable, 503),
            (Code::DataLoss, 500),
        ];
        for (code, status) in table {
            assert_eq!(http_status(code, Stage::Queue).as_u16(), status, "{code}");
            assert_eq!(i32::from(grpc_code(code)), code.number(), "{code}");
        }
        assert_eq!(http_status(Code::ResourceExhausted, Stage::Decode).as_u16(), 413);
    }

    fn wire() -> Wire {
        let limits = Arc::new(ingle_types::Limits::default());
        Wire::new(Arc::new(Stubs::echoes()), Metrics::new(), limits)
    }

    #[test]
    fn a_call_that_is_dropped_counts_as_cancelled() {
        let wire = wire();
        let call = Call::new(&wire, "Predict", "REST");
        call.asks("float");
        assert!(wire.metrics.render().contains("ingle_requests_in_flight{entrypoint=\"REST\"} 1"));
        drop(call);
        let text = wire.metrics.render();
        let count =
            ":tensorflow:serving:request_count{model_name=\"float\",status=\"CANCELLED\"} 1";
        assert!(text.contains(count), "{text}");
        assert!(text.contains("ingle_requests_in_flight{entrypoint=\"REST\"} 0"));
    }

    #[tokio::test]
    async fn a_request_is_counted_by_version_signature_and_stage() {
        let wire = wire();
        let call = Call::new(&wire, "Predict", "GRPC");
        let spec = ModelSpec { name: "float".into(), version: Default::default() };
        let servable = call.resolve(&spec).unwrap();
        let request = PredictRequest {
            signature: "other".into(),
            inputs: [("x".to_owned(), Tensor::from_slice(&[1], &[1f32]).unwrap())].into(),
            output_filter: Vec::new(),
            deadline: Deadline::NONE,
        };
        call.predict(&*servable, request).await.unwrap();
        call.finish(Ok(())).unwrap();
        let text = wire.metrics.render();
        let labels = "model=\"float\",version=\"1\",signature=\"other\"";
        let count = format!(
            "ingle_requests_total{{{labels},api=\"Predict\",entrypoint=\"GRPC\",code=\"OK\"}} 1"
        );
        assert!(text.contains(&count), "{text}");
        for stage in ["decode", "encode"] {
            let stage =
                format!("ingle_stage_duration_seconds_count{{{labels},stage=\"{stage}\"}} 1");
            assert!(text.contains(&stage), "{text}");
        }
        assert!(text.contains(":tensorflow:serving:runtime_latency_count{model_name=\"float\",API=\"Predict\",runtime=\"TF1\"} 1"));
    }

    #[test]
    fn names_that_clients_make_up_are_no_labels() {
        let wire = wire();
        for name in ["made", "up"] {
            let call = Call::new(&wire, "Predict", "GRPC");
            let spec = ModelSpec { name: name.into(), version: Default::default() };
            let outcome = call.resolve(&spec).map(drop);
            let _ = call.finish(outcome);
        }
        let text = wire.metrics.render();
        assert!(
            text.contains(
                ":tensorflow:serving:request_count{model_name=\"\",status=\"NOT_FOUND\"} 2"
            )
        );
        assert!(!text.contains("made"), "{text}");
    }
}
