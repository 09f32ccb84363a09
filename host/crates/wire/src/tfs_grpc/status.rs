use bytes::Bytes;
use ingle_types::{ServeError, VersionStatus};

use super::{spec, unary};
use crate::Wire;
use crate::call::Call;
use crate::proto::tensorflow::serving as pb;

pub(super) fn answer(wire: &Wire, call: &Call, message: Bytes) -> Result<Bytes, ServeError> {
    let request: pb::GetModelStatusRequest = unary::decode(message)?;
    let (model, version) = spec::read_for_status(request.model_spec)?;
    call.asks(&model);
    let versions = wire.serve.status(&model, version)?;
    unary::encode(&pb::GetModelStatusResponse {
        model_version_status: versions.into_iter().map(row).collect(),
    })
}

fn row(status: VersionStatus) -> pb::ModelVersionStatus {
    pb::ModelVersionStatus {
        version: i64::try_from(status.version).unwrap_or(i64::MAX),
        state: status.state.number(),
        status: Some(pb::StatusProto {
            error_code: status.code.map_or(0, |code| code.number()),
            error_message: status.message,
        }),
    }
}
