"""Models of one or two nodes, made here, and a configuration that serves them."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
# TensorFlow's name of a dtype that the server carries, and ONNX's number of it.
DTYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "bool": TensorProto.BOOL,
    "string": TensorProto.STRING,
}


def model(name, nodes, inputs, outputs, constants=()):
    """An ONNX file's bytes; `inputs` and `outputs` are (name, type, shape)."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(value, key) for key, value in dict(constants).items()],
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="ingle"
    )
    return made.SerializeToString()


def checked(data):
    onnx.checker.check_model(data, full_check=True)
    return data


def half_plus(addend):
    """y = x / 2 + addend, for x of any length."""
    nodes = [
        helper.make_node("Mul", ["x", "half"], ["product"]),
        helper.make_node("Add", ["product", "addend"], ["y"]),
    ]
    constants = {"half": np.array(0.5, np.float32), "addend": np.array(addend, np.float32)}
    ends = [("x", FLOAT, ["N"])], [("y", FLOAT, ["N"])]
    return checked(model("half_plus", nodes, *ends, constants))


def pair():
    """Two inputs of rows, their sum and their difference."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
    ]
    ends = lambda *names: [(name, FLOAT, ["N", 2]) for name in names]
    return checked(model("pair", nodes, ends("a", "b"), ends("sum", "difference")))


def identity(dtype):
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    # Of any rank, as exporters write it by leaving the shape out; the checker of
    # the onnx package wants one, runtimes do not.
    return model("identity", nodes, [("x", dtype, None)], [("y", dtype, None)])


def label_and_scores():
    """What classifiers are exported as: the label that they chose, and all scores."""
    nodes = [
        helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
        helper.make_node("Identity", ["x"], ["probabilities"]),
    ]
    outputs = [("label", TensorProto.INT64, ["N"]), ("probabilities", FLOAT, ["N", 3])]
    return checked(model("label_and_scores", nodes, [("x", FLOAT, ["N", 3])], outputs))


def scores_and_outputs():
    """Outputs by the names of TensorFlow Serving: x, and count + the sum of x."""
    nodes = [
        helper.make_node("Identity", ["x"], ["scores"]),
        helper.make_node("Cast", ["count"], ["count_float"], to=FLOAT),
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=1),
        helper.make_node("Add", ["sum", "count_float"], ["outputs"]),
    ]
    inputs = [("x", FLOAT, ["N", 2]), ("count", TensorProto.INT32, ["N", 1])]
    outputs = [("scores", FLOAT, ["N", 2]), ("outputs", FLOAT, ["N", 1])]
    constants = {"axes": np.array([1], np.int64)}
    return checked(model("scores_and_outputs", nodes, inputs, outputs, constants))


# Two names for the same program.
TWO_SIGNATURES = """[model]
file = "model.onnx"

[signatures.serving_default]
default = true

[signatures.second]
"""


def write_version(folder, model_name, version, data):
    path = folder / model_name / str(version)
    path.mkdir(parents=True)
    (path / "model.onnx").write_bytes(data)


def write_all(folder):
    """Writes every model; returns their names."""
    write_version(folder, "half_plus", 1, half_plus(1))
    write_version(folder, "half_plus", 2, half_plus(2))
    write_version(folder, "pair", 1, pair())
    write_version(folder, "label_and_scores", 1, label_and_scores())
    write_version(folder, "scores_and_outputs", 1, scores_and_outputs())
    (folder / "scores_and_outputs" / "1" / "bundle.toml").write_text(TWO_SIGNATURES)
    for name, dtype in DTYPES.items():
        write_version(folder, f"identity_{name}", 1, identity(dtype))
    return sorted(path.name for path in folder.iterdir())


def config(folder, names):
    """A models.config; both versions of half_plus, named by labels."""
    versions = """
    model_version_policy { all {} }
    version_labels { key: "stable" value: 1 }
    version_labels { key: "canary" value: 2 }"""
    entries = "".join(
        f"""
  config {{
    name: "{name}"
    base_path: "{folder / name}"
    model_platform: "tensorflow"{versions if name == "half_plus" else ""}
  }}"""
        for name in names
    )
    return f"model_config_list {{{entries}\n}}\n"
