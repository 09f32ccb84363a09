"""Real models answer as ONNX Runtime does, by every road a tensor can take."""

import numpy as np
import pytest

from calls import assert_close, content, post_ok, predict, typed
from conftest import ZOO

CASES = sorted(ZOO.glob("*/case_*.npz"))
# JSON of a picture is megabytes; one such model shows that it works.
BY_REST = ["digits_cnn", "light_squeezenet", "mtcnn_rnet", "skl_mlp_reg", "skl_columns", "skl_texts"]


def case_name(path):
    return f"{path.parent.name}-{path.stem}"


def read_case(path):
    """Inputs and reference outputs, by name."""
    # Strings as the client gives them.
    as_sent = lambda array: array.astype(object) if array.dtype.kind == "S" else array
    arrays = np.load(path)
    pick = lambda kind: {
        key.removeprefix(kind): as_sent(arrays[key]) for key in arrays.files if key.startswith(kind)
    }
    return pick("in:"), pick("out:")


def assert_answers(found, expected):
    assert found.keys() == expected.keys()
    for name, reference in expected.items():
        assert_close(found[name], reference)


def test_the_zoo_holds_batches_of_one_and_of_more():
    sizes = {next(iter(read_case(path)[0].values())).shape[0] for path in CASES}
    assert len(CASES) >= 12
    assert 1 in sizes and max(sizes) >= 10


@pytest.mark.parametrize("encoding", [content, typed])
@pytest.mark.parametrize("path", CASES, ids=case_name)
def test_grpc(zoo, path, encoding):
    inputs, expected = read_case(path)
    tensors = {name: encoding(array) for name, array in inputs.items()}
    assert_answers(predict(zoo, path.parent.name, tensors), expected)


@pytest.mark.parametrize(
    "path", [path for path in CASES if path.parent.name in BY_REST], ids=case_name
)
class TestRest:
    def test_columns(self, zoo, path):
        inputs, expected = read_case(path)
        body = {"inputs": {name: as_json(array) for name, array in inputs.items()}}
        outputs = post_ok(zoo, f"{path.parent.name}:predict", body)["outputs"]
        if len(expected) == 1:
            outputs = {name: outputs for name in expected}
        assert_answers(as_arrays(outputs, expected), expected)

    def test_rows(self, zoo, path):
        inputs, expected = read_case(path)
        rows = zip(*(as_json(array) for array in inputs.values()))
        body = {"instances": [dict(zip(inputs, row)) for row in rows]}
        rows = post_ok(zoo, f"{path.parent.name}:predict", body)["predictions"]
        if len(expected) == 1:
            outputs = {name: rows for name in expected}
        else:
            outputs = {name: [row[name] for row in rows] for name in expected}
        assert_answers(as_arrays(outputs, expected), expected)


def as_json(array):
    return np.char.decode(array.astype(bytes)).tolist() if array.dtype == object else array.tolist()


def as_arrays(outputs, like):
    assert outputs.keys() == like.keys()

    def as_array(value, dtype):
        if dtype == object:
            return np.char.encode(value).astype(object)
        return np.array(value, dtype)

    return {name: as_array(value, like[name].dtype) for name, value in outputs.items()}
