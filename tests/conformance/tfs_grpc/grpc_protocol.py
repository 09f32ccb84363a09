"""The methods that a case can name, and the messages of each."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
    session_service_pb2,
)

PREDICTION = "/tensorflow.serving.PredictionService/"
MODEL = "/tensorflow.serving.ModelService/"
HEALTH = "/grpc.health.v1.Health/"
REFLECTION = "/grpc.reflection.{}.ServerReflection/ServerReflectionInfo"

# What gRPC's own services say. Written down here, because a server's reflection would
# describe whatever that server does.
STANDARD = {
    "Check": {"service": (1, "string")},
    "Health": {"status": (1, "int32")},
    "List": {},
    "Listed.Entry": {"key": (1, "string"), "value": (2, "Health")},
    "Listed": {"statuses": (1, "Listed.Entry*")},
    "Question": {
        "host": (1, "string"),
        "file_by_filename": (3, "string"),
        "file_containing_symbol": (4, "string"),
        "list_services": (7, "string"),
    },
    "Service": {"name": (1, "string")},
    "Services": {"service": (1, "Service*")},
    # Of google.protobuf.FileDescriptorProto what a case can name.
    "File": {"name": (1, "string"), "package": (2, "string")},
    "Files": {"file_descriptor_proto": (1, "File*")},
    "Failure": {"error_code": (1, "int32"), "error_message": (2, "string")},
    "Answer": {
        "valid_host": (1, "string"),
        "original_request": (2, "Question"),
        "file_descriptor_response": (4, "Files"),
        "list_services_response": (6, "Services"),
        "error_response": (7, "Failure"),
    },
}


def standard_messages():
    """The classes of STANDARD's messages, by name."""
    file = descriptor_pb2.FileDescriptorProto(name="standard.proto", syntax="proto3", package="s")
    field = descriptor_pb2.FieldDescriptorProto
    scalars = {"string": field.TYPE_STRING, "int32": field.TYPE_INT32}
    for name, fields in STANDARD.items():
        message = file.message_type.add(name=name.replace(".", ""))
        for key, (number, kind) in fields.items():
            many, kind = kind.endswith("*"), kind.rstrip("*")
            made = message.field.add(name=key, number=number, json_name=key)
            made.label = field.LABEL_REPEATED if many else field.LABEL_OPTIONAL
            made.type = scalars.get(kind, field.TYPE_MESSAGE)
            if kind not in scalars:
                made.type_name = f".s.{kind.replace('.', '')}"
            elif not many:
                # Told apart from the default, as in the oneof that the questions are.
                made.oneof_index = len(message.oneof_decl)
                made.proto3_optional = True
                message.oneof_decl.add(name=f"_{key}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find = lambda name: pool.FindMessageTypeByName(f"s.{name.replace('.', '')}")
    return {name: message_factory.GetMessageClass(find(name)) for name in STANDARD}


S = standard_messages()

# By its short name: the path, what is sent and what is answered.
METHODS = {
    "Predict": (PREDICTION + "Predict", predict_pb2.PredictRequest, predict_pb2.PredictResponse),
    "Classify": (
        PREDICTION + "Classify",
        classification_pb2.ClassificationRequest,
        classification_pb2.ClassificationResponse,
    ),
    "Regress": (
        PREDICTION + "Regress",
        regression_pb2.RegressionRequest,
        regression_pb2.RegressionResponse,
    ),
    "MultiInference": (
        PREDICTION + "MultiInference",
        inference_pb2.MultiInferenceRequest,
        inference_pb2.MultiInferenceResponse,
    ),
    "GetModelMetadata": (
        PREDICTION + "GetModelMetadata",
        get_model_metadata_pb2.GetModelMetadataRequest,
        get_model_metadata_pb2.GetModelMetadataResponse,
    ),
    "GetModelStatus": (
        MODEL + "GetModelStatus",
        get_model_status_pb2.GetModelStatusRequest,
        get_model_status_pb2.GetModelStatusResponse,
    ),
    "HandleReloadConfigRequest": (
        MODEL + "HandleReloadConfigRequest",
        model_management_pb2.ReloadConfigRequest,
        model_management_pb2.ReloadConfigResponse,
    ),
    "SessionRun": (
        "/tensorflow.serving.SessionService/SessionRun",
        session_service_pb2.SessionRunRequest,
        session_service_pb2.SessionRunResponse,
    ),
    "Check": (HEALTH + "Check", S["Check"], S["Health"]),
    "Watch": (HEALTH + "Watch", S["Check"], S["Health"]),
    "List": (HEALTH + "List", S["List"], S["Listed"]),
    "Reflection": (REFLECTION.format("v1"), S["Question"], S["Answer"]),
    "ReflectionV1Alpha": (REFLECTION.format("v1alpha"), S["Question"], S["Answer"]),
}
# Of these the first answer is looked at.
STREAMS = {"Watch", "Reflection", "ReflectionV1Alpha"}
