//! Files of warm-up requests, without a server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use ingle_types::{
    BoxFuture, Code, DType, Limits, PredictRequest, Replay as _, Replayed, Servable, ServeError,
    Signature, Stage, TensorMap, Version,
};

use super::stub::{Act, Stub};
use crate::WarmUp;
use crate::tfrecord::append;

/// Counts requests; to the first few of them it has no place in its queue.
struct Busy {
    stub: Stub,
    refusals: usize,
    asked: AtomicUsize,
}

impl Busy {
    fn new(act: Act, refusals: usize) -> Arc<Self> {
        let stub = Stub::new("m", &[("x", DType::F32)], act);
        Arc::new(Self { stub, refusals, asked: AtomicUsize::new(0) })
    }
}

impl Servable for Busy {
    fn model(&self) -> &str {
        self.stub.model()
    }

    fn version(&self) -> Version {
        self.stub.version()
    }

    fn signatures(&self) -> &BTreeMap<String, Arc<Signature>> {
        self.stub.signatures()
    }

    fn default_signature(&self) -> &str {
        self.stub.default_signature()
    }

    fn predict(&self, request: PredictRequest) -> BoxFuture<'_, Result<TensorMap, ServeError>> {
        if self.asked.fetch_add(1, Ordering::Relaxed) < self.refusals {
            let full = ServeError::new(Code::ResourceExhausted, Stage::Queue, "full");
            return Box::pin(async { Err(full) });
        }
        self.stub.predict(request)
    }
}

/// A field of bytes, as protobuf writes it.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    [&[number << 3 | 2, length], content].concat()
}

/// A `PredictionLog` with a PredictRequest whose `x` is a scalar, and no ModelSpec.
fn predict_log() -> Vec<u8> {
    let tensor = [0x08, 1];
    let entry = [field(1, b"x"), field(2, &tensor)].concat();
    field(6, &field(1, &field(2, &entry)))
}

async fn replay(
    servable: &Arc<Busy>,
    iterations: u32,
    limits: Limits,
    records: &[Vec<u8>],
) -> Replayed {
    let mut file = Vec::new();
    for record in records {
        append(&mut file, record);
    }
    let warm_up = WarmUp::new(Arc::new(limits), iterations);
    warm_up.replay(Bytes::from(file), servable.clone()).await
}

#[tokio::test]
async fn each_record_is_sent_as_often_as_was_asked() {
    let servable = Busy::new(Act::Echo, 0);
    let replayed = replay(&servable, 3, Limits::default(), &[predict_log(), predict_log()]).await;
    assert!(replayed.outcome.is_ok(), "{:?}", replayed.outcome);
    assert_eq!((replayed.records, servable.asked.load(Ordering::Relaxed)), (2, 6));
}

#[tokio::test]
async fn a_full_queue_is_waited_for() {
    let servable = Busy::new(Act::Echo, 2);
    let replayed = replay(&servable, 1, Limits::default(), &[predict_log()]).await;
    assert!(replayed.outcome.is_ok(), "{:?}", replayed.outcome);
    assert_eq!((replayed.records, servable.asked.load(Ordering::Relaxed)), (1, 3));
}

#[tokio::test]
async fn the_first_failure_ends_it_and_keeps_its_code() {
    let servable = Busy::new(Act::Fail(Code::ResourceExhausted), 0);
    let replayed = replay(&servable, 1, Limits::default(), &[predict_log(), predict_log()]).await;
    let error = replayed.outcome.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::ResourceExhausted, "as told (warmup record 1)")
    );
    assert_eq!((replayed.records, servable.asked.load(Ordering::Relaxed)), (0, 1));
}

#[tokio::test]
async fn records_over_the_limit_and_damaged_files_are_refused() {
    let servable = Busy::new(Act::Echo, 0);
    let limits = Limits { warm_up_records: 1, ..Limits::default() };
    let replayed = replay(&servable, 1, limits, &[predict_log(), predict_log()]).await;
    let error = replayed.outcome.unwrap_err();
    let text = "Number of warmup records exceeds the maximum (1)";
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, text));
    assert_eq!(replayed.records, 1);
    let warm_up = WarmUp::new(Arc::default(), 1);
    let replayed = warm_up.replay(Bytes::from("no such file"), servable).await;
    let error = replayed.outcome.unwrap_err();
    assert_eq!(error.code(), Code::DataLoss);
    let hint = ". Please verify your warmup data is in TFRecord format.";
    assert!(error.message().ends_with(hint), "{error}");
}

#[tokio::test]
async fn a_tensor_over_the_limits_is_refused() {
    // 2^60 elements, and none of them there.
    let shape = field(2, &[0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]);
    let tensor = [vec![0x08, 1], field(2, &shape)].concat();
    let entry = [field(1, b"x"), field(2, &tensor)].concat();
    let log = field(6, &field(1, &field(2, &entry)));
    let servable = Busy::new(Act::Echo, 0);
    let error = replay(&servable, 1, Limits::default(), &[log]).await.outcome.unwrap_err();
    assert!(matches!(error.code(), Code::ResourceExhausted | Code::InvalidArgument), "{error}");
    assert_eq!(servable.asked.load(Ordering::Relaxed), 0);
}
