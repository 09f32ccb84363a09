"""Models whose answer names their version, and such as take their time on purpose."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import small_models

FLOAT = TensorProto.FLOAT
# Each round multiplies two matrices of this size.
SIZE = 96
# Rounds of a slow load: seconds, on any machine.
LOAD_ROUNDS = 40_000
# Requests ask for x = 1 and mean it; a slow model takes rounds for what x is above it.
X = 1.0


def value(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


def plain(version):
    """y = x + version."""
    nodes = [helper.make_node("Add", ["x", "version"], ["y"])]
    constants = {"version": np.array(version, np.float32)}
    ends = [("x", FLOAT, ["N"])], [("y", FLOAT, ["N"])]
    return small_models.checked(small_models.model("plain", nodes, *ends, constants))


def rounds_body():
    """carried = carried * matrix, with nothing that could be known before."""
    nodes = [
        helper.make_node("Identity", ["go"], ["go_on"]),
        helper.make_node("MatMul", ["carried", "matrix"], ["carried_on"]),
    ]
    square = [SIZE, SIZE]
    matrix = numpy_helper.from_array(np.zeros(square, np.float32), "matrix")
    inputs = [
        value("round", TensorProto.INT64, []),
        value("go", TensorProto.BOOL, []),
        value("carried", FLOAT, square),
    ]
    outputs = [value("go_on", TensorProto.BOOL, []), value("carried_on", FLOAT, square)]
    return helper.make_graph(nodes, "rounds", inputs, outputs, [matrix])


def slow(version, count_nodes, shape, constants):
    """y = x + version, after as many rounds as `count_nodes` make of x."""
    nodes = [
        *count_nodes,
        helper.make_node("Cast", ["count"], ["rounds"], to=TensorProto.INT64),
        helper.make_node("Loop", ["rounds", "", "start"], ["end"], body=rounds_body()),
        helper.make_node("ReduceMax", ["end"], ["zero"], keepdims=0),
        helper.make_node("Add", ["zero", "version"], ["shift"]),
        helper.make_node("Add", ["x", "shift"], ["y"]),
    ]
    constants = constants | {
        "start": np.zeros([SIZE, SIZE], np.float32),
        "version": np.array(version, np.float32),
    }
    ends = [("x", FLOAT, shape)], [("y", FLOAT, shape)]
    return small_models.checked(small_models.model("slow", nodes, *ends, constants))


def slow_answer(version):
    """As many rounds as x is greater than 1."""
    count = [
        helper.make_node("ReduceMax", ["x"], ["greatest"], keepdims=0),
        helper.make_node("Sub", ["greatest", "one"], ["count"]),
    ]
    return slow(version, count, ["N"], {"one": np.array(1, np.float32)})


def slow_load(version):
    """Many rounds where x is zero, as in the request that a load ends with."""
    count = [
        helper.make_node("Reshape", ["x", "scalar"], ["greatest"]),
        helper.make_node("Equal", ["greatest", "nothing"], ["is_zero"]),
        helper.make_node("Cast", ["is_zero"], ["zero_or_one"], to=FLOAT),
        helper.make_node("Mul", ["zero_or_one", "many"], ["count"]),
    ]
    constants = {
        "scalar": np.array([], np.int64),
        "nothing": np.array(0, np.float32),
        "many": np.array(LOAD_ROUNDS, np.float32),
    }
    return slow(version, count, [1], constants)


KINDS = {"plain": plain, "slow-load": slow_load, "slow-answer": slow_answer}
