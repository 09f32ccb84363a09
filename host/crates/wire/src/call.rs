//! One request from its headers to its answer: the clock, the model it turned out
//! to be for, and the one place where its failure is counted and logged.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Instant;

use http::StatusCode;
use ingle_telemetry::Metrics;
use ingle_types::{Code, Deadline, ServeError, Stage};

/// A request that is being answered. Dropped before [`Call::finish`], it counts as
/// cancelled: the client went away.
pub(crate) struct Call {
    metrics: Metrics,
    api: &'static str,
    entrypoint: &'static str,
    started: Instant,
    /// Set once the model is known to be one of ours, so that clients cannot make
    /// label values.
    model: OnceLock<String>,
    finished: bool,
}

impl Call {
    pub(crate) fn new(metrics: &Metrics, api: &'static str, entrypoint: &'static str) -> Self {
        Self {
            metrics: metrics.clone(),
            api,
            entrypoint,
            started: Instant::now(),
            model: OnceLock::new(),
            finished: false,
        }
    }

    pub(crate) fn found(&self, model: &str) {
        self.model.get_or_init(|| model.to_owned());
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
        let model = self.model.get().map_or("", String::as_str);
        self.metrics.request(model, self.api, self.entrypoint, code, self.started.elapsed());
    }

    fn log(&self, error: &ServeError) {
        let model = self.model.get().map_or("", String::as_str);
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
        Code::Unknown | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ];
        for (code, status) in table {
            assert_eq!(http_status(code, Stage::Queue).as_u16(), status, "{code}");
            assert_eq!(i32::from(grpc_code(code)), code.number(), "{code}");
        }
        assert_eq!(http_status(Code::ResourceExhausted, Stage::Decode).as_u16(), 413);
    }

    #[test]
    fn a_call_that_is_dropped_counts_as_cancelled() {
        let metrics = Metrics::new();
        let call = Call::new(&metrics, "Predict", "REST");
        call.found("m");
        drop(call);
        let _ = Call::new(&metrics, "Predict", "REST").finish(Ok(()));
        let text = metrics.render();
        assert!(text.contains(r#"model="m",api="Predict",entrypoint="REST",code="CANCELLED"} 1"#));
        assert!(text.contains(r#"model="",api="Predict",entrypoint="REST",code="OK"} 1"#));
    }
}
