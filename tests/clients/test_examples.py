"""Classify, Regress and MultiInference: tf.Example in, classes and values out."""

import base64

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2

from calls import TIMEOUT_SECONDS, post, post_ok, refused
from conftest import ROOT

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
SEVEN = (ROOT / "models" / "digits" / "samples" / "7.png").read_bytes()
# Floats that are exact in 32 bits and equal their shortest decimals.
X = [[0.25, 0.5, 0.125], [4.0, 2.0, 1.0]]
CLASSES = [[("", 0.25), ("1", 0.5), ("", 0.125)], [("0", 4.0), ("", 2.0), ("", 1.0)]]


def feature(values):
    """A tf.train.Feature of the kind that the first value has."""
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def example(**features):
    kinds = {name: feature(values) for name, values in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=kinds))


def name(spec, model, signature, version=None):
    spec.name = model
    spec.signature_name = signature
    if version is not None:
        spec.version.value = version


def fill(request, examples, context=None):
    if context is None:
        request.input.example_list.examples.extend(examples)
        return request
    request.input.example_list_with_context.examples.extend(examples)
    request.input.example_list_with_context.context.CopyFrom(context)
    return request


def classification(model, examples, signature="", version=None, context=None):
    request = classification_pb2.ClassificationRequest()
    name(request.model_spec, model, signature, version)
    return fill(request, examples, context)


def regression(model, examples, signature="", version=None, context=None):
    request = regression_pb2.RegressionRequest()
    name(request.model_spec, model, signature, version)
    return fill(request, examples, context)


def multi(tasks, examples):
    """`tasks` are (model, signature, method)."""
    request = inference_pb2.MultiInferenceRequest()
    for model, signature, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        name(task.model_spec, model, signature)
    return fill(request, examples)


def classify(server, *request, **choice):
    return server.prediction.Classify(classification(*request, **choice), TIMEOUT_SECONDS)


def regress(server, *request, **choice):
    return server.prediction.Regress(regression(*request, **choice), TIMEOUT_SECONDS)


def classes(result):
    return [[(c.label, c.score) for c in row.classes] for row in result.classifications]


def values(result):
    return [row.value for row in result.regressions]


def answered_by(spec):
    return spec.name, spec.version.value, spec.signature_name


def numbered(*counts):
    """Examples for scores_and_outputs; the sum of x is 1."""
    return [example(x=[0.75, 0.25], count=[count]) for count in counts]


# ----------------------------------------------------------------------- gRPC


def test_classify_labels_the_greatest_score(small):
    answer = classify(small, "label_and_scores", [example(x=row) for row in X])
    assert classes(answer.result) == CLASSES
    assert answered_by(answer.model_spec) == ("label_and_scores", 1, "serving_default")


def test_classify_by_the_names_of_tensorflow_serving(small):
    answer = classify(small, "scores_and_outputs", numbered(7), signature="second")
    assert classes(answer.result) == [[("", 0.75), ("", 0.25)]]
    assert answered_by(answer.model_spec) == ("scores_and_outputs", 1, "second")


def test_classify_a_picture_with_plugins(bundles):
    answer = classify(bundles, "digits", [example(image=[SEVEN])])
    [row] = classes(answer.result)
    assert len(row) == 3
    assert row[0][0] == "7"
    assert row[0][1] > 0.5
    assert answered_by(answer.model_spec) == ("digits", 1, "serving_image")


def test_regress(small):
    answer = regress(small, "scores_and_outputs", numbered(7, -2))
    assert values(answer.result) == [8, -1]
    assert answered_by(answer.model_spec) == ("scores_and_outputs", 1, "serving_default")


def test_regress_by_the_only_output(small):
    examples = [example(x=[2.0]), example(x=[4.0])]
    assert values(regress(small, "half_plus", examples).result) == [3, 4]
    answer = regress(small, "half_plus", examples, version=1)
    assert values(answer.result) == [2, 3]
    assert answered_by(answer.model_spec) == ("half_plus", 1, "serving_default")


def test_a_context_is_part_of_every_example(small):
    examples = [example(count=[1]), example(count=[2], x=[1.0, 1.0])]
    context = example(x=[0.75, 0.25], ignored=[b"by all"])
    answer = regress(small, "scores_and_outputs", examples, context=context)
    assert values(answer.result) == [2, 4]


def test_multi_inference(small):
    tasks = [
        ("scores_and_outputs", "", "classify"),
        ("scores_and_outputs", "second", "regress"),
    ]
    answer = small.prediction.MultiInference(multi(tasks, numbered(7, 8)), TIMEOUT_SECONDS)
    first, second = answer.results
    assert classes(first.classification_result) == [[("", 0.75), ("", 0.25)]] * 2
    assert values(second.regression_result) == [8, 9]
    assert answered_by(first.model_spec) == ("scores_and_outputs", 1, "serving_default")
    assert answered_by(second.model_spec) == ("scores_and_outputs", 1, "second")


@pytest.mark.parametrize(
    "request_, code, text",
    [
        (classification("nobody", [example(x=[1.0])]), NOT_FOUND, "Servable not found for request: Latest(nobody)"),
        (
            classification("half_plus", [example(x=[1.0])], signature="other"),
            INVALID,
            "No signature was found with the name: other",
        ),
        (classification("label_and_scores", []), INVALID, "Input is empty."),
        (
            classification("half_plus", [example(x=[1.0])]),
            grpc.StatusCode.FAILED_PRECONDITION,
            "Expected classification signature outputs to contain at least one of ",
        ),
        (
            classification("label_and_scores", [example(y=[1.0])]),
            INVALID,
            "Name: <unknown>, Feature: x (data type: float) is required but could not be found.",
        ),
        (
            classification("label_and_scores", [example(x=[1, 2, 3])]),
            INVALID,
            "Name: <unknown>, Key: x, Index: 0.  Data types don't match. Data type: int64 but expected type: float",
        ),
        (
            classification("label_and_scores", [example(x=X[0]), example(x=[1.0])]),
            INVALID,
            "Name: <unknown>, Key: x, Index: 1.  Number of float values != expected.  Values size: 1 but output shape: [3]",
        ),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_classify_refuses(small, request_, code, text):
    given_code, given = refused(lambda: small.prediction.Classify(request_, TIMEOUT_SECONDS))
    assert given.startswith(text)
    assert given_code == code


def test_regress_refuses(small):
    code, text = refused(lambda: regress(small, "pair", [example(a=[1.0, 2.0])]))
    assert (code, text.startswith("Expected one output Tensor.")) == (INVALID, True)
    big = [example(x=[0.0, 0.0], count=[2**31])]
    code, text = refused(lambda: regress(small, "scores_and_outputs", big))
    assert code == INVALID
    assert "count" in text and "2147483648" in text and "int32" in text


@pytest.mark.parametrize(
    "tasks, code, text",
    [
        (
            [("half_plus", "", "regress"), ("pair", "", "regress")],
            INVALID,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            [("half_plus", "", "regress"), ("half_plus", "serving_default", "regress")],
            INVALID,
            "Duplicate evaluation of signature: serving_default",
        ),
        (
            [("half_plus", "other", "regress")],
            INVALID,
            "Requested signature not found in model graph: other",
        ),
        (
            [("half_plus", "", "predict")],
            grpc.StatusCode.UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
    ],
    ids=["two models", "twice", "unknown", "predict"],
)
def test_multi_inference_refuses(small, tasks, code, text):
    request = multi(tasks, [example(x=[1.0])])
    given_code, given = refused(lambda: small.prediction.MultiInference(request, TIMEOUT_SECONDS))
    assert (given_code, given) == (code, text)


# ----------------------------------------------------------------------- REST


def test_rest_classify(small):
    body = {"examples": [{"x": row} for row in X]}
    expected = [[list(pair) for pair in row] for row in CLASSES]
    assert post_ok(small, "label_and_scores:classify", body) == {"results": expected}


def test_rest_classify_a_picture_with_plugins(bundles):
    picture = {"b64": base64.b64encode(SEVEN).decode()}
    answer = post_ok(bundles, "digits:classify", {"examples": [{"image": picture}]})
    [[best, *others]] = answer["results"]
    assert best[0] == "7"
    assert len(others) == 2


def test_rest_regress(small):
    body = {
        "signature_name": "second",
        "context": {"x": [0.75, 0.25]},
        "examples": [{"count": 7}, {"count": [True]}, {"count": -2, "x": [1.0, 1.0]}],
    }
    answer = post_ok(small, "scores_and_outputs/versions/1:regress", body)
    assert answer == {"results": [8, 2, 0]}
    answer = post_ok(small, "half_plus/labels/stable:regress", {"examples": [{"x": 2.0}]})
    assert answer == {"results": [2]}


@pytest.mark.parametrize(
    "path, body, code, text",
    [
        ("nobody:classify", {"examples": [{"x": 1.0}]}, 404, "Servable not found for request: Latest(nobody)"),
        ("half_plus:regress", {"examples": []}, 400, "JSON Value: "),
        ("half_plus:regress", {"instances": [1]}, 400, "JSON Value: "),
        ("half_plus:regress", {"examples": [[1.0]]}, 400, "Example must be JSON object but got JSON Array"),
        ("half_plus:regress", {"examples": [{"x": [10, 10.0]}]}, 400, "Unexpected element type in feature: x expecting type: int64"),
        ("half_plus:regress", {"examples": [{"x": 1}]}, 400, "Name: <unknown>, Key: x, Index: 0.  Data types don't match."),
        ("half_plus:regress", {"examples": [{}]}, 400, "Name: <unknown>, Feature: x (data type: float) is required"),
    ],
    ids=str,
)
def test_rest_refuses(small, path, body, code, text):
    given_code, answer = post(small, path, body)
    assert answer.keys() == {"error"}
    assert answer["error"].startswith(text)
    assert given_code == code
