use ingle_types::{ServeError, Version, VersionStatus};
use serde::Serialize;

use super::metadata::print;
use crate::Wire;

#[derive(Serialize)]
struct Status {
    model_version_status: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    /// 64-bit integers are strings in the JSON of protobuf.
    version: String,
    state: &'static str,
    status: Reason,
}

#[derive(Serialize)]
struct Reason {
    error_code: &'static str,
    error_message: String,
}

pub(super) fn answer(
    wire: &Wire,
    model: &str,
    version: Option<Version>,
) -> Result<Vec<u8>, ServeError> {
    let versions = wire.serve.status(model, version)?;
    print(&Status { model_version_status: versions.into_iter().map(row).collect() })
}

fn row(status: VersionStatus) -> Row {
    Row {
        version: status.version.to_string(),
        state: status.state.name(),
        status: Reason {
            error_code: status.code.map_or("OK", |code| code.name()),
            error_message: status.message,
        },
    }
}
