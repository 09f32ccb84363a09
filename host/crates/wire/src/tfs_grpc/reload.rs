use bytes::Bytes;
use ingle_types::{Code, ServeError, Stage};

use super::unary;
use crate::proto::tensorflow::serving as pb;
use crate::{Wire, models_config};

/// A longer list of models is none, as in a file.
pub(super) const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Replaces the list of models, and waits until they answer.
pub(super) async fn answer(wire: &Wire, message: Bytes) -> Result<Bytes, ServeError> {
    let request: pb::ReloadConfigRequest = unary::decode(message)?;
    let Some(reload) = &wire.reload else {
        let message = "HandleReloadConfigRequest needs a list of models, as --model_config_file or --model_base_path give it; this server follows a repository";
        return Err(ServeError::new(Code::FailedPrecondition, Stage::Route, message));
    };
    let models = models_config::of_call(request.config)
        .map_err(|error| ServeError::new(error.code(), Stage::Decode, error.to_string()))?;
    // TensorFlow Serving answers zero for a counter that it does not know.
    let value = |name: &String| wire.metrics.counter(name).unwrap_or_default();
    let before: Vec<u64> = request.metric_names.iter().map(value).collect();
    reload.reload(models).await?;
    let metric = |(name, before): (String, u64)| {
        let increase = value(&name).saturating_sub(before);
        let increase = i64::try_from(increase).unwrap_or(i64::MAX);
        let value_increase = Some(pb::metric::ValueIncrease::Int64ValueIncrease(increase));
        pb::Metric { name, value_increase }
    };
    unary::encode(&pb::ReloadConfigResponse {
        status: Some(pb::StatusProto::default()),
        metric: request.metric_names.into_iter().zip(before).map(metric).collect(),
    })
}
