"""The models that the cases ask: those of tests/clients, and odd ones of this suite."""

import numpy as np
import small_models
from onnx import TensorProto, helper

FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
STRING = TensorProto.STRING


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs, [output], **attributes)


def with_default():
    """y = a + b, where b may be left out and is 10 then."""
    return small_models.model(
        "with_default",
        [node("Add", ["a", "b"], "y")],
        [("a", FLOAT, ["N"]), ("b", FLOAT, [1])],
        [("y", FLOAT, ["N"])],
        {"b": np.array([10], np.float32)},
    )


def examples_as_they_are():
    """Its only input is `inputs`, strings: it gets serialized examples, and says them."""
    return small_models.model(
        "examples_as_they_are",
        [node("Identity", ["inputs"], "classes")],
        [("inputs", STRING, ["N"])],
        [("classes", STRING, ["N"])],
    )


def wrong_shape():
    """Scores of rank 3, a regression of two values for an example."""
    nodes = [
        node("Unsqueeze", ["x", "first"], "scores"),
        node("Identity", ["x"], "outputs"),
    ]
    outputs = [("scores", FLOAT, [1, "N", 2]), ("outputs", FLOAT, ["N", 2])]
    return small_models.model(
        "wrong_shape", nodes, [("x", FLOAT, ["N", 2])], outputs, {"first": np.array([0])}
    )


def wrong_batch():
    """One row, whatever the number of examples."""
    nodes = [
        node("ReduceMax", ["x"], "scores", axes=[0], keepdims=1),
        node("ReduceMax", ["x"], "outputs", axes=[0, 1], keepdims=1),
    ]
    outputs = [("scores", FLOAT, [1, 2]), ("outputs", FLOAT, [1, 1])]
    return small_models.model("wrong_batch", nodes, [("x", FLOAT, ["N", 2])], outputs)


def wrong_dtype():
    """Integers where scores and values are meant."""
    nodes = [
        node("Cast", ["x"], "scores", to=INT64),
        node("ReduceMax", ["scores"], "outputs", axes=[1], keepdims=1),
    ]
    outputs = [("scores", INT64, ["N", 2]), ("outputs", INT64, ["N", 1])]
    return small_models.model("wrong_dtype", nodes, [("x", FLOAT, ["N", 2])], outputs)


def uneven():
    """Two classes and three scores for an example."""
    nodes = [node("Identity", ["x"], "scores"), node("Identity", ["names"], "classes")]
    inputs = [("x", FLOAT, ["N", 3]), ("names", STRING, ["N", 2])]
    outputs = [("scores", FLOAT, ["N", 3]), ("classes", STRING, ["N", 2])]
    return small_models.model("uneven", nodes, inputs, outputs)


def named_classes():
    """A class and a score for each of two, by the names of TensorFlow Serving."""
    nodes = [node("Identity", ["x"], "scores"), node("Identity", ["names"], "classes")]
    inputs = [("x", FLOAT, ["N", 2]), ("names", STRING, ["N", 2])]
    outputs = [("scores", FLOAT, ["N", 2]), ("classes", STRING, ["N", 2])]
    return small_models.model("named_classes", nodes, inputs, outputs)


def only_classes():
    nodes = [node("Identity", ["names"], "classes")]
    ends = [("names", STRING, ["N", 2])], [("classes", STRING, ["N", 2])]
    return small_models.model("only_classes", nodes, *ends)


def three_outputs():
    """None of them named as a method wants it."""
    nodes = [node("Identity", ["x"], name) for name in ("p", "q", "r")]
    outputs = [(name, FLOAT, ["N", 2]) for name in ("p", "q", "r")]
    return small_models.model("three_outputs", nodes, [("x", FLOAT, ["N", 2])], outputs)


def values():
    """Outputs `outputs` of rank 1."""
    nodes = [node("Mul", ["x", "two"], "outputs")]
    two = {"two": np.array(2, np.float32)}
    return small_models.model(
        "values", nodes, [("x", FLOAT, ["N"])], [("outputs", FLOAT, ["N"])], two
    )


def no_input():
    nodes = [node("Identity", ["one"], "outputs")]
    one = {"one": np.array([1], np.float32)}
    return small_models.model("no_input", nodes, [], [("outputs", FLOAT, [1])], one)


ODD = [
    with_default,
    examples_as_they_are,
    wrong_shape,
    wrong_batch,
    wrong_dtype,
    uneven,
    named_classes,
    only_classes,
    three_outputs,
    values,
    no_input,
]


def write_all(folder):
    """Writes every model; returns their names."""
    small_models.write_all(folder)
    for make in ODD:
        small_models.write_version(folder, make.__name__, 1, make())
    # A version of the number zero, and one that cannot be loaded.
    for version in (0, 1):
        small_models.write_version(folder, "from_zero", version, small_models.half_plus(version))
    small_models.write_version(folder, "broken", 1, small_models.half_plus(1))
    small_models.write_version(folder, "broken", 2, b"no model")
    return sorted(path.name for path in folder.iterdir())


POLICIES = {"from_zero": "all {}", "broken": "all {}"}


def config(folder, names):
    """The models.config of the server that cases share."""
    plain = [name for name in names if name not in POLICIES]
    text = small_models.config(folder, plain)
    entries = "".join(
        f"""
  config {{
    name: "{name}"
    base_path: "{folder / name}"
    model_platform: "tensorflow"
    model_version_policy {{ {policy} }}
  }}"""
        for name, policy in POLICIES.items()
    )
    return text.rstrip().removesuffix("}") + f"{entries}\n}}\n"


def write_for_reload(folder):
    """What servers of a case's own are asked to load: three versions of two models, a
    folder without versions, and a model that cannot be loaded."""
    for name in ("one", "two"):
        for version in (1, 2, 3):
            data = small_models.half_plus(version)
            small_models.write_version(folder, name, version, data)
    (folder / "empty").mkdir()
    small_models.write_version(folder, "broken", 1, b"no model")
    identities = {"float32": FLOAT, "float16": TensorProto.FLOAT16, "string": STRING}
    for name, dtype in identities.items():
        small_models.write_version(folder, f"identity_{name}", 1, small_models.identity(dtype))
