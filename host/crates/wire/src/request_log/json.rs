//! Messages in protobuf's JSON, as its specification maps them: 64-bit integers and what is
//! no number as strings, bytes as base64, fields by the names of the `.proto` files.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage as _, Value,
};
use serde_json::{Map, Value as Json};

use crate::budget::Budget;
use crate::proto::DESCRIPTORS;
use crate::proto::tensorflow::TensorProto;
use crate::tensor_proto;

const MESSAGE: &str = "tensorflow.serving.PredictionLog";
const TENSOR: &str = "tensorflow.TensorProto";
/// A message of a number alone, which is written as the number.
const INT64_VALUE: &str = "google.protobuf.Int64Value";

/// Why a record is not printed.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    #[error("the built-in descriptors are damaged")]
    Descriptors,
    #[error("the record cannot be parsed: {0}")]
    Message(#[from] prost::DecodeError),
    #[error("the record cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// Read once: there is a record for each request.
static DESCRIPTOR: LazyLock<Option<MessageDescriptor>> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTORS).ok().and_then(|pool| pool.get_message_by_name(MESSAGE))
});

pub(super) fn print(record: Bytes) -> Result<Vec<u8>, JsonError> {
    let descriptor = DESCRIPTOR.as_ref().ok_or(JsonError::Descriptors)?;
    let message = DynamicMessage::decode(descriptor.clone(), record)?;
    Ok(serde_json::to_vec(&object(&message))?)
}

fn object(message: &DynamicMessage) -> Json {
    let mut fields = Map::new();
    for (field, value) in message.fields() {
        fields.insert(field.name().to_owned(), field_value(&field, value));
    }
    Json::Object(fields)
}

fn field_value(field: &FieldDescriptor, value: &Value) -> Json {
    match value {
        Value::List(values) => values.iter().map(|value| single(&field.kind(), value)).collect(),
        Value::Map(entries) => {
            let kind = field.kind();
            let value_kind = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
            let value_kind = value_kind.unwrap_or(kind);
            let entry =
                |(key, value): (&MapKey, &Value)| (key_text(key), single(&value_kind, value));
            Json::Object(entries.iter().map(entry).collect())
        }
        value => single(&field.kind(), value),
    }
}

fn single(kind: &Kind, value: &Value) -> Json {
    match value {
        Value::Bool(value) => Json::from(*value),
        Value::I32(value) => Json::from(*value),
        Value::U32(value) => Json::from(*value),
        Value::I64(value) => Json::from(value.to_string()),
        Value::U64(value) => Json::from(value.to_string()),
        // The shortest text of the float itself, not of the double next to it.
        Value::F32(value) if value.is_finite() => {
            value.to_string().parse::<f64>().map_or(Json::Null, Json::from)
        }
        Value::F32(value) => Json::from(not_finite(f64::from(*value))),
        Value::F64(value) if value.is_finite() => Json::from(*value),
        Value::F64(value) => Json::from(not_finite(*value)),
        Value::String(value) => Json::from(value.as_str()),
        Value::Bytes(value) => Json::from(STANDARD.encode(value)),
        Value::EnumNumber(number) => {
            let named = kind.as_enum().and_then(|kind| kind.get_value(*number));
            named.map_or_else(|| Json::from(*number), |value| Json::from(value.name()))
        }
        Value::Message(message) => match message.descriptor().full_name() {
            INT64_VALUE => {
                let number = message.get_field_by_name("value");
                number.map_or(Json::Null, |value| single(kind, &value))
            }
            TENSOR => object(&readable(message).unwrap_or_else(|| message.clone())),
            _ => object(message),
        },
        // Neither is inside of another.
        Value::List(_) | Value::Map(_) => Json::Null,
    }
}

/// A tensor of bytes with its values in the field of its dtype.
fn readable(message: &DynamicMessage) -> Option<DynamicMessage> {
    let proto: TensorProto = message.transcode_to().ok()?;
    if proto.tensor_content.is_empty() {
        return None;
    }
    let encoded: Bytes = proto.encode_to_vec().into();
    // What was answered was within the limits.
    let mut budget = Budget::new(usize::MAX);
    let tensor = tensor_proto::decode_message("", encoded, &mut budget).ok()?;
    let typed = tensor_proto::encode(&tensor).encode_to_vec();
    DynamicMessage::decode(message.descriptor(), typed.as_slice()).ok()
}

fn not_finite(value: f64) -> &'static str {
    match value {
        value if value.is_nan() => "NaN",
        value if value > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use super::*;
    use crate::proto::tensorflow::serving as pb;

    fn printed(log: &pb::PredictionLog) -> Json {
        let text = print(log.encode_to_vec().into()).unwrap();
        assert!(!text.contains(&b'\n'));
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn each_kind_of_value_has_its_form() {
        let floats =
            Tensor::from_slice(&[4], &[0.1f32, f32::NAN, f32::NEG_INFINITY, -0.0]).unwrap();
        let strings = Tensor::blobs(
            ingle_types::Shape::new(vec![1]).unwrap(),
            vec![Bytes::from_static(b"\xff\n")],
        )
        .unwrap();
        let packed = TensorProto {
            dtype: 9,
            tensor_content: Bytes::copy_from_slice(&(-7i64).to_le_bytes()),
            ..TensorProto::default()
        };
        let inputs = [
            ("floats".to_owned(), tensor_proto::encode(&floats)),
            ("packed".to_owned(), packed),
            ("strings".to_owned(), tensor_proto::encode(&strings)),
        ];
        let spec = pb::ModelSpec {
            name: "m\"\n".into(),
            version_choice: Some(pb::model_spec::VersionChoice::Version(1 << 60)),
            signature_name: "s".into(),
        };
        let request = pb::PredictRequest {
            model_spec: Some(spec),
            inputs: inputs.into(),
            ..pb::PredictRequest::default()
        };
        let log = pb::PredictionLog {
            log_metadata: None,
            log_type: Some(pb::prediction_log::LogType::PredictLog(pb::PredictLog {
                request: Some(request),
                response: None,
            })),
        };
        let json = printed(&log);
        let request = &json["predict_log"]["request"];
        let spec = serde_json::json!({"name": "m\"\n", "version": (1u64 << 60).to_string(), "signature_name": "s"});
        assert_eq!(request["model_spec"], spec);
        let floats = &request["inputs"]["floats"];
        assert_eq!(floats["dtype"], "DT_FLOAT");
        assert_eq!(floats["tensor_shape"]["dim"][0]["size"], "4");
        assert_eq!(floats["float_val"], serde_json::json!([0.1, "NaN", "-Infinity", -0.0]));
        assert_eq!(request["inputs"]["packed"]["int64_val"], serde_json::json!(["-7"]));
        assert_eq!(request["inputs"]["packed"].get("tensor_content"), None);
        assert_eq!(request["inputs"]["strings"]["string_val"], serde_json::json!(["/wo="]));
    }

    #[test]
    fn examples_and_answers_are_printed_too() {
        let classify = pb::ClassifyLog {
            request: None,
            response: Some(pb::ClassificationResponse {
                result: Some(pb::ClassificationResult {
                    classifications: vec![pb::Classifications {
                        classes: vec![pb::Class { label: "a".into(), score: 0.5 }],
                    }],
                }),
                model_spec: None,
            }),
        };
        let log = pb::PredictionLog {
            log_type: Some(pb::prediction_log::LogType::ClassifyLog(classify)),
            ..pb::PredictionLog::default()
        };
        let classes =
            &printed(&log)["classify_log"]["response"]["result"]["classifications"][0]["classes"];
        assert_eq!(*classes, serde_json::json!([{"label": "a", "score": 0.5}]));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        assert!(matches!(print(Bytes::from_static(b"\xff")), Err(JsonError::Message(_))));
    }
}
