"""The models that the cases call: each of one to a few nodes, made here."""

import numpy as np
from onnx import TensorProto, helper

import small_models
from small_models import model

FLOAT, DOUBLE, INT32, INT64 = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.INT32,
    TensorProto.INT64,
)
STRING, BOOL = TensorProto.STRING, TensorProto.BOOL

# TensorFlow Serving's name of a dtype, which is the name of a model too: y = x, of any shape.
DTYPES = {
    "float": FLOAT,
    "double": DOUBLE,
    "half": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": INT32,
    "int64": INT64,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "bool": BOOL,
    "string": STRING,
}


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def two():
    """Inputs of two dtypes, which leave as they came: p = a, q = b."""
    nodes = [node("Identity", "a", "p"), node("Identity", "b", "q")]
    inputs = [("a", FLOAT, None), ("b", INT32, None)]
    return model("two", nodes, inputs, [("p", FLOAT, None), ("q", INT32, None)])


def five():
    """Five outputs of one input of strings: itself twice, and three of other dtypes."""
    nodes = [
        node("Identity", "text", "plain"),
        node("Identity", "text", "raw_bytes"),
        node("Cast", "text", "number", to=FLOAT),
        node("Cast", "number", "whole", to=INT64),
        node("Greater", "number zero", "positive"),
    ]
    outputs = [
        ("plain", STRING, ["N"]),
        ("raw_bytes", STRING, ["N"]),
        ("number", FLOAT, ["N"]),
        ("whole", INT64, ["N"]),
        ("positive", BOOL, ["N"]),
    ]
    constants = {"zero": np.array(0, np.float32)}
    return model("five", nodes, [("text", STRING, ["N"])], outputs, constants)


def encoded():
    """An output whose name ends in _bytes."""
    nodes = [node("Identity", "x", "str_tensor_bytes")]
    return model("encoded", nodes, [("x", STRING, None)], [("str_tensor_bytes", STRING, None)])


def total():
    """One number for all rows: an output of rank 0."""
    nodes = [node("ReduceSum", "x", "y", keepdims=0)]
    return model("total", nodes, [("x", FLOAT, ["N"])], [("y", FLOAT, [])])


def uneven():
    """As many values as rows, and one for all of them."""
    nodes = [node("Identity", "x", "a"), node("ReduceSum", "x", "b", keepdims=1)]
    outputs = [("a", FLOAT, ["N"]), ("b", FLOAT, [1])]
    return model("uneven", nodes, [("x", FLOAT, ["N"])], outputs)


def nothing():
    """No row of two columns, whatever comes."""
    nodes = [node("Slice", "x zero zero", "y")]
    constants = {"zero": np.array([0], np.int64)}
    ends = [("x", FLOAT, ["N", 2])], [("y", FLOAT, [0, 2])]
    return model("nothing", nodes, *ends, constants)


def constant():
    """No input at all."""
    nodes = [node("Identity", "value", "y")]
    constants = {"value": np.array([1], np.float32)}
    return model("constant", nodes, [], [("y", FLOAT, [1])], constants)


def matrix():
    """Rows of three columns, times a matrix of [3, 1]: their sums."""
    nodes = [node("MatMul", "x ones", "y")]
    constants = {"ones": np.ones((3, 1), np.float32)}
    return model("matrix", nodes, [("x", FLOAT, ["N", 3])], [("y", FLOAT, ["N", 1])], constants)


def complex64():
    """A dtype that the server does not have."""
    nodes = [node("Identity", "x", "y")]
    ends = [("x", TensorProto.COMPLEX64, None)], [("y", TensorProto.COMPLEX64, None)]
    return model("complex64", nodes, *ends)


def features():
    """One input of each kind that a feature can have; the answer adds up what came."""
    nodes = [
        node("Cast", "text", "number", to=FLOAT),
        node("Cast", "count", "count_float", to=FLOAT),
        node("Add", "number count_float", "sum"),
        node("Add", "sum x", "outputs"),
    ]
    inputs = [("text", STRING, ["N", 1]), ("count", INT64, ["N", 1]), ("x", FLOAT, ["N", 1])]
    return model("features", nodes, inputs, [("outputs", FLOAT, ["N", 1])])


def pair_of_labels():
    """Labels and scores by the names of TensorFlow Serving: what came, and its length."""
    nodes = [node("Identity", "labels", "classes"), node("Identity", "x", "scores")]
    inputs = [("labels", STRING, ["N", 2]), ("x", FLOAT, ["N", 2])]
    outputs = [("classes", STRING, ["N", 2]), ("scores", FLOAT, ["N", 2])]
    return model("pair_of_labels", nodes, inputs, outputs)


def increment(step):
    """y = x + step, which tells versions apart."""
    nodes = [node("Add", "x step", "y")]
    constants = {"step": np.array(step, np.float32)}
    return model("increment", nodes, [("x", FLOAT, ["N"])], [("y", FLOAT, ["N"])], constants)


def write_all(folder):
    """Writes every model; returns their names."""
    for name, dtype in DTYPES.items():
        small_models.write_version(folder, name, 1, small_models.identity(dtype))
    for make in (
        two,
        five,
        encoded,
        total,
        uneven,
        nothing,
        constant,
        matrix,
        complex64,
        features,
        pair_of_labels,
    ):
        small_models.write_version(folder, make.__name__, 1, make())
    # A name that is also a word of the API, and one that a path must encode.
    small_models.write_version(folder, "metadata", 1, increment(0))
    small_models.write_version(folder, "two words: é", 1, increment(0))
    small_models.write_version(folder, "classifier", 1, small_models.label_and_scores())
    for version in (1, 2, 3):
        small_models.write_version(folder, "increment", version, increment(version))
    (folder / "increment" / "4").mkdir()
    (folder / "increment" / "4" / "model.onnx").write_bytes(b"no model")
    return sorted(path.name for path in folder.iterdir())


LABELS = {"stable": 1, "canary": 2, "a label!": 3}


def config(folder, names):
    """The models.config that serves them; all versions of `increment`, with labels."""
    entries = []
    for name in names:
        extra = ""
        if name == "increment":
            labels = "".join(
                f'\n    version_labels {{ key: "{key}" value: {value} }}'
                for key, value in LABELS.items()
            )
            extra = f"\n    model_version_policy {{ all {{}} }}{labels}"
        entries.append(
            f"""
  config {{
    name: "{name}"
    base_path: "{folder / name}"
    model_platform: "tensorflow"{extra}
  }}"""
        )
    return f"model_config_list {{{''.join(entries)}\n}}\n"
