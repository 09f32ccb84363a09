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
    reload.reload(models).await?;
    // TensorFlow Serving answers zero for a counter that it does not know.
    let metric = |name| {
        let value_increase = Some(pb::metric::ValueIncrease::Int64ValueIncrease(0));
        pb::Metric { name, value_increase }
    };
    unary::encode(&pb::ReloadConfigResponse {
        status: Some(pb::StatusProto::default()),
        metric: request.metric_names.into_iter().map(metric).collect(),
    })
}
