use std::collections::BTreeMap;

use bytes::Bytes;
use ingle_types::{
    Code, Deadline, Limits, PredictRequest, Servable, ServeError, SignatureError, Stage, TensorMap,
};
use prost::Message as _;

use super::{spec, unary};
use crate::Wire;
use crate::budget::Budget;
use crate::call::{Call, ask};
use crate::inference::effective;
use crate::proto::tensorflow::serving as pb;
use crate::protobuf::{Fields, Value, WireError, text};
use crate::tensor_proto::{decode_message, encode, encode_as_content};

pub(super) async fn answer(
    wire: &Wire,
    call: &Call,
    deadline: Deadline,
    message: Bytes,
) -> Result<Bytes, ServeError> {
    let mut request = Request::read(message, &wire.limits)?;
    let (model, signature) = spec::read(request.spec.take())?;
    let servable = call.resolve(&model)?;
    let signature = effective(&*servable, signature);
    let outputs = run(Some(call), &*servable, &signature, request, &wire.limits, deadline).await?;
    let spec = pb::ModelSpec {
        name: model.name,
        version_choice: version(&*servable),
        signature_name: signature,
    };
    let encode = if wire.tensor_content { encode_as_content } else { encode };
    unary::encode(&pb::PredictResponse {
        model_spec: Some(spec),
        outputs: outputs.iter().map(|(name, tensor)| (name.clone(), encode(tensor))).collect(),
    })
}

/// Answers a recorded request; whichever model it names, `servable` is asked.
pub(super) async fn replay(
    servable: &dyn Servable,
    limits: &Limits,
    message: Bytes,
) -> Result<(), ServeError> {
    let mut request = Request::read(message, limits)?;
    let signature = request.spec.take().unwrap_or_default().signature_name;
    let signature = effective(servable, signature);
    run(None, servable, &signature, request, limits, Deadline::NONE).await.map(drop)
}

async fn run(
    call: Option<&Call>,
    servable: &dyn Servable,
    signature: &str,
    request: Request,
    limits: &Limits,
    deadline: Deadline,
) -> Result<TensorMap, ServeError> {
    let known = servable.signatures().get(signature).ok_or_else(|| {
        let message = format!("Serving signature key \"{signature}\" not found.");
        ServeError::new(Code::FailedPrecondition, Stage::Route, message)
    })?;
    // In TensorFlow Serving's order, so that of several faults the same one is told.
    known.check_names(&request.inputs).map_err(refused)?;
    let inputs = tensors(request.inputs, limits)?;
    known.check_output_filter(&request.output_filter).map_err(refused)?;
    let request = PredictRequest {
        signature: signature.to_owned(),
        inputs,
        output_filter: request.output_filter,
        deadline,
    };
    ask(call, servable, request).await
}

fn refused(error: SignatureError) -> ServeError {
    ServeError::invalid(Stage::Decode, error.to_string())
}

/// The version that answers, as clients read it.
pub(super) fn version(servable: &dyn Servable) -> Option<pb::model_spec::VersionChoice> {
    let version = i64::try_from(servable.version()).unwrap_or(i64::MAX);
    Some(pb::model_spec::VersionChoice::Version(version))
}

fn tensors(messages: BTreeMap<String, Bytes>, limits: &Limits) -> Result<TensorMap, ServeError> {
    let mut budget = Budget::new(limits.request_bytes);
    messages
        .into_iter()
        .map(|(name, message)| match decode_message(&name, message, &mut budget) {
            Ok(tensor) => Ok((name, tensor)),
            Err(error) => Err(ServeError::new(error.code(), Stage::Decode, error.to_string())),
        })
        .collect()
}

/// A `PredictRequest` whose tensors are still bytes.
#[derive(Default)]
struct Request {
    spec: Option<pb::ModelSpec>,
    inputs: BTreeMap<String, Bytes>,
    output_filter: Vec<String>,
}

impl Request {
    fn read(message: Bytes, limits: &Limits) -> Result<Self, ServeError> {
        let most = limits.tensors_per_request;
        let parse =
            |error: WireError| unary::invalid(format!("the message cannot be parsed: {error}"));
        let mut request = Self::default();
        for field in Fields::new(message) {
            match field.map_err(parse)? {
                (1, Value::Bytes(spec)) => {
                    let merged = request.spec.get_or_insert_default().merge(spec);
                    merged.map_err(|e| {
                        unary::invalid("the ModelSpec cannot be parsed").with_source(e)
                    })?;
                }
                (2, Value::Bytes(entry)) => {
                    let (name, tensor) = input(entry).map_err(parse)?;
                    request.inputs.insert(name, tensor);
                }
                (3, Value::Bytes(name)) => {
                    request.output_filter.push(text(&name).map_err(parse)?);
                }
                _ => {}
            }
            if request.inputs.len() > most || request.output_filter.len() > most {
                return Err(unary::invalid(format!("the request names more than {most} tensors")));
            }
        }
        Ok(request)
    }
}

fn input(entry: Bytes) -> Result<(String, Bytes), WireError> {
    let (mut name, mut tensor) = (String::new(), Bytes::new());
    for field in Fields::new(entry) {
        match field? {
            (1, Value::Bytes(key)) => name = text(&key)?,
            (2, Value::Bytes(value)) => tensor = value,
            _ => {}
        }
    }
    Ok((name, tensor))
}
