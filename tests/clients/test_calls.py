"""What the official client may ask besides Predict, and what it is told when it errs."""

import grpc
import numpy as np
import pytest
from google.protobuf import json_format
from tensorflow_serving.apis import predict_pb2

from calls import (
    TIMEOUT_SECONDS,
    content,
    get,
    metadata_request,
    post,
    post_ok,
    predict,
    predict_request,
    refused,
    send,
    signatures_of,
    status_of,
)

X = np.array([2, 4], np.float32)
A = np.array([[1, 2], [3, 4]], np.float32)
B = np.array([[10, 20], [30, 40]], np.float32)
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


# ------------------------------------------------------------------- versions


@pytest.mark.parametrize(
    "choice, version, expected",
    [
        ({}, 2, [3, 4]),
        ({"version": 1}, 1, [2, 3]),
        ({"version": 2}, 2, [3, 4]),
        ({"label": "stable"}, 1, [2, 3]),
        ({"label": "canary"}, 2, [3, 4]),
    ],
    ids=str,
)
def test_grpc_chooses_a_version(small, choice, version, expected):
    answer = send(small, predict_request("half_plus", {"x": X}, **choice))
    assert list(answer.outputs["y"].float_val) == expected
    assert answer.model_spec.name == "half_plus"
    assert answer.model_spec.version.value == version
    assert answer.model_spec.signature_name == "serving_default"


@pytest.mark.parametrize(
    "path, expected",
    [
        ("half_plus", [3, 4]),
        ("half_plus/versions/1", [2, 3]),
        ("half_plus/versions/2", [3, 4]),
        ("half_plus/labels/stable", [2, 3]),
        ("half_plus/labels/canary", [3, 4]),
    ],
)
def test_rest_chooses_a_version(small, path, expected):
    body = {"signature_name": "serving_default", "instances": [2, 4]}
    assert post_ok(small, f"{path}:predict", body) == {"predictions": expected}


def test_status(small):
    both = [(2, "AVAILABLE"), (1, "AVAILABLE")]
    assert status_of(small, "half_plus") == both
    assert status_of(small, "half_plus", version=1) == both[1:]
    good = {"error_code": "OK", "error_message": ""}
    rows = [
        {"version": "2", "state": "AVAILABLE", "status": good},
        {"version": "1", "state": "AVAILABLE", "status": good},
    ]
    assert get(small, "half_plus") == (200, {"model_version_status": rows})
    assert get(small, "half_plus/versions/1") == (200, {"model_version_status": rows[1:]})


# ------------------------------------------------------------------- metadata


def described(values):
    """{name: (dtype, sizes)} of a signature's inputs or outputs."""
    return {
        name: (info["dtype"], [int(d["size"]) for d in info["tensor_shape"].get("dim", [])])
        for name, info in values.items()
    }


PAIR_INPUTS = {"a": ("DT_FLOAT", [-1, 2]), "b": ("DT_FLOAT", [-1, 2])}
PAIR_OUTPUTS = {"sum": ("DT_FLOAT", [-1, 2]), "difference": ("DT_FLOAT", [-1, 2])}


def test_grpc_metadata(small):
    signatures = signatures_of(small, "pair")
    assert list(signatures) == ["serving_default"]
    signature = json_format.MessageToDict(
        signatures["serving_default"], preserving_proto_field_name=True
    )
    assert described(signature["inputs"]) == PAIR_INPUTS
    assert described(signature["outputs"]) == PAIR_OUTPUTS
    assert signature["method_name"] == "tensorflow/serving/predict"


def test_grpc_metadata_names_the_version(small):
    request = metadata_request("half_plus", "signature_def")
    answer = small.prediction.GetModelMetadata(request, TIMEOUT_SECONDS)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("half_plus", 2)


def test_rest_metadata(small):
    code, answer = get(small, "pair/metadata")
    assert code == 200
    assert answer["model_spec"] == {"name": "pair", "signature_name": "", "version": "1"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert described(signature["inputs"]) == PAIR_INPUTS
    assert described(signature["outputs"]) == PAIR_OUTPUTS
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["a"]["tensor_shape"]["unknown_rank"] is False


def test_metadata_publishes_signatures_with_plugins(bundles):
    signatures = signatures_of(bundles, "digits")
    assert set(signatures) == {"serving_image", "serving_default"}
    image = json_format.MessageToDict(
        signatures["serving_image"], preserving_proto_field_name=True
    )
    assert described(image["inputs"]) == {"image": ("DT_STRING", [-1])}
    assert described(image["outputs"]) == {
        "classes": ("DT_STRING", [-1, 3]),
        "scores": ("DT_FLOAT", [-1, 3]),
        "indices": ("DT_INT64", [-1, 3]),
    }


@pytest.mark.parametrize(
    "fields, text",
    [
        ([], "GetModelMetadataRequest must specify at least one metadata_field"),
        (["signature_def", "x"], "Metadata field x is not supported"),
    ],
)
def test_metadata_fields_are_checked(small, fields, text):
    request = metadata_request("pair", *fields)
    code, given = refused(lambda: small.prediction.GetModelMetadata(request, TIMEOUT_SECONDS))
    assert code == INVALID
    assert given.startswith(text)


# -------------------------------------------------------------------- outputs


def test_two_inputs_and_outputs(small):
    found = predict(small, "pair", {"a": A, "b": B})
    np.testing.assert_array_equal(found["sum"], A + B)
    np.testing.assert_array_equal(found["difference"], A - B)
    assert found.keys() == {"sum", "difference"}


def test_rest_rows_and_columns_of_two_inputs(small):
    rows = [{"a": a, "b": b} for a, b in zip(A.tolist(), B.tolist())]
    columns = {"a": A.tolist(), "b": B.tolist()}
    total, difference = (A + B).tolist(), (A - B).tolist()
    assert post_ok(small, "pair:predict", {"instances": rows}) == {
        "predictions": [{"sum": s, "difference": d} for s, d in zip(total, difference)]
    }
    assert post_ok(small, "pair:predict", {"inputs": columns}) == {
        "outputs": {"sum": total, "difference": difference}
    }


def test_output_filter(small):
    found = predict(small, "pair", {"a": A, "b": B}, outputs=["difference"])
    assert found.keys() == {"difference"}


# --------------------------------------------------------------------- errors


def without_model_spec():
    return predict_pb2.PredictRequest()


def without_model_name():
    return predict_request("", {"x": X}, version=1)


@pytest.mark.parametrize(
    "request_, code, text",
    [
        (
            predict_request("nobody", {"x": X}),
            NOT_FOUND,
            "Servable not found for request: Latest(nobody)",
        ),
        (
            predict_request("half_plus", {"x": X}, version=99),
            NOT_FOUND,
            "Servable not found for request: Specific(half_plus, 99)",
        ),
        (
            predict_request("half_plus", {"x": X}, label="nope"),
            INVALID,
            "Unrecognized servable version label: nope",
        ),
        (without_model_spec(), INVALID, "Missing ModelSpec"),
        (without_model_name(), INVALID, "ModelSpec has no name specified."),
        (
            predict_request("half_plus", {"x": X}, signature="other"),
            PRECONDITION,
            'Serving signature key "other" not found.',
        ),
        (
            predict_request("pair", {"a": A}),
            INVALID,
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). "
            "Sent extra: {}. Missing but required: {b}.",
        ),
        (
            predict_request("pair", {"a": A, "c": B}),
            INVALID,
            "Signature input alias: b",
        ),
        (
            predict_request("pair", {"a": A, "b": B, "c": B}),
            INVALID,
            "input size does not match signature: 3!=2",
        ),
        (
            predict_request("pair", {"a": A, "b": B}, outputs=["z"]),
            INVALID,
            "output tensor alias not found in signature: z",
        ),
        (
            predict_request("pair", {"a": A, "b": B}, outputs=["sum", "sum"]),
            INVALID,
            "duplicate output tensor alias: sum",
        ),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_grpc_refuses(small, request_, code, text):
    given_code, given = refused(lambda: send(small, request_))
    assert given.startswith(text)
    assert given_code == code


def test_grpc_names_both_dtypes_where_they_differ(small):
    code, text = refused(lambda: predict(small, "half_plus", {"x": X.astype(np.float64)}))
    assert code == INVALID
    assert "float" in text.replace("double", "") and "double" in text


def test_grpc_names_the_input_whose_shape_is_wrong(small):
    wrong = np.zeros((2, 3), np.float32)
    code, text = refused(lambda: predict(small, "pair", {"a": A, "b": wrong}))
    assert code == INVALID
    assert "b" in text and "[-1,2]" in text and "[2,3]" in text


def test_grpc_names_the_tensor_that_cannot_be_read(small):
    tensor = content(X)
    tensor.tensor_content = b"\0"
    code, text = refused(lambda: predict(small, "half_plus", {"x": tensor}))
    assert code == INVALID
    assert text.startswith("tensor parsing error: x")


def test_status_of_what_is_not_there(small):
    missing = "Could not find any versions of model nobody"
    assert refused(lambda: status_of(small, "nobody")) == (NOT_FOUND, missing)
    missing = "Could not find version 99 of model half_plus"
    assert refused(lambda: status_of(small, "half_plus", version=99)) == (NOT_FOUND, missing)


def test_metadata_of_what_is_not_there(small):
    request = metadata_request("nobody", "signature_def")
    code, text = refused(lambda: small.prediction.GetModelMetadata(request, TIMEOUT_SECONDS))
    assert code == NOT_FOUND
    assert text.startswith("Servable not found for request: Latest(nobody)")


@pytest.mark.parametrize(
    "path, body, code, text",
    [
        ("nobody:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(nobody)"),
        (
            "half_plus/versions/99:predict",
            {"instances": [1]},
            404,
            "Servable not found for request: Specific(half_plus, 99)",
        ),
        (
            "half_plus/labels/nope:predict",
            {"instances": [1]},
            400,
            "Unrecognized servable version label: nope",
        ),
        (
            "half_plus:predict",
            {"signature_name": "other", "instances": [1]},
            400,
            'Serving signature name: "other" not found in signature def',
        ),
        ("half_plus/versions/one:predict", {"instances": [1]}, 400, "Malformed request: POST "),
        ("half_plus:explain", {"instances": [1]}, 400, "Malformed request: POST "),
        (
            "pair:predict",
            {"instances": [1, 2]},
            400,
            "instances is a plain list, but expecting list of objects",
        ),
        ("pair:predict", {"inputs": {"a": [[1, 2]]}}, 400, "Missing named input: b"),
        ("nobody:predict", "{", 400, "JSON Parse error: "),
    ],
)
def test_rest_refuses(small, path, body, code, text):
    given_code, answer = post(small, path, body)
    assert answer.keys() == {"error"}
    assert answer["error"].startswith(text)
    assert given_code == code


def test_rest_status_of_what_is_not_there(small):
    code, answer = get(small, "nobody")
    assert code == 404
    assert answer["error"].startswith("Could not find any versions of model nobody")


def test_a_refused_request_leaves_the_next_one_alone(small):
    refused(lambda: predict(small, "half_plus", {"x": A}))
    np.testing.assert_array_equal(predict(small, "half_plus", {"x": X})["y"], [3, 4])
