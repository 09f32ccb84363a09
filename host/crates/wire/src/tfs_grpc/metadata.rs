use std::collections::BTreeMap;

use bytes::Bytes;
use ingle_types::ServeError;
use prost::Message as _;
use prost_types::Any;

use super::predict::version;
use super::{spec, unary};
use crate::call::Call;
use crate::proto::tensorflow::serving as pb;
use crate::signature_def::signature_defs;

const FIELD: &str = "signature_def";

pub(super) fn answer(call: &Call, message: Bytes) -> Result<Bytes, ServeError> {
    let request: pb::GetModelMetadataRequest = unary::decode(message)?;
    let spec = spec::given(request.model_spec)?;
    check(&request.metadata_field)?;
    let (model, _) = spec::read(Some(spec))?;
    let servable = call.resolve(&model)?;
    let signatures = Any {
        type_url: "type.googleapis.com/tensorflow.serving.SignatureDefMap".into(),
        value: signature_defs(&*servable).encode_to_vec(),
    };
    let spec = pb::ModelSpec {
        name: model.name,
        version_choice: version(&*servable),
        signature_name: String::new(),
    };
    unary::encode(&pb::GetModelMetadataResponse {
        model_spec: Some(spec),
        metadata: BTreeMap::from([(FIELD.to_owned(), signatures)]),
    })
}

fn check(fields: &[String]) -> Result<(), ServeError> {
    if fields.is_empty() {
        return Err(unary::invalid(
            "GetModelMetadataRequest must specify at least one metadata_field",
        ));
    }
    match fields.iter().find(|field| *field != FIELD) {
        None => Ok(()),
        Some(other) => Err(unary::invalid(format!("Metadata field {other} is not supported"))),
    }
}
