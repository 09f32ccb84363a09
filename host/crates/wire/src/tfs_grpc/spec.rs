use ingle_types::{Code, ModelSpec, ServeError, Stage, Version, VersionChoice};

use super::unary::invalid;
use crate::proto::tensorflow::serving as pb;

/// A model and the name of a signature, which may be empty.
pub(super) fn read(spec: Option<pb::ModelSpec>) -> Result<(ModelSpec, String), ServeError> {
    let spec = given(spec)?;
    if spec.name.is_empty() {
        return Err(invalid("ModelSpec has no name specified."));
    }
    let version = match spec.version_choice {
        None => VersionChoice::Latest,
        Some(pb::model_spec::VersionChoice::Version(version)) => {
            VersionChoice::Specific(number(version).ok_or_else(|| {
                let message =
                    format!("Servable not found for request: Specific({}, {version})", spec.name);
                not_found(message)
            })?)
        }
        Some(pb::model_spec::VersionChoice::VersionLabel(label)) => VersionChoice::Label(label),
    };
    Ok((ModelSpec { name: spec.name, version }, spec.signature_name))
}

/// A model and a version of it, for which a label does not count.
pub(super) fn read_for_status(
    spec: Option<pb::ModelSpec>,
) -> Result<(String, Option<Version>), ServeError> {
    let spec = given(spec)?;
    let Some(pb::model_spec::VersionChoice::Version(version)) = spec.version_choice else {
        return Ok((spec.name, None));
    };
    match number(version) {
        Some(version) => Ok((spec.name, Some(version))),
        None => {
            let name = spec.name;
            Err(not_found(format!("Could not find version {version} of model {name}")))
        }
    }
}

pub(super) fn given(spec: Option<pb::ModelSpec>) -> Result<pb::ModelSpec, ServeError> {
    spec.ok_or_else(|| invalid("Missing ModelSpec"))
}

/// No version is negative.
fn number(version: i64) -> Option<Version> {
    Version::try_from(version).ok()
}

fn not_found(message: String) -> ServeError {
    ServeError::new(Code::NotFound, Stage::Route, message)
}
