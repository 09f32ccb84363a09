"""Makes cases.json with numpy: logits in, the best classes and their scores out.

    pip install numpy && python make.py
"""

import json
import pathlib

import numpy as np

CASES = []


def softmax(values, axis):
    shifted = np.exp(values - values.max(axis=axis, keepdims=True))
    return shifted / shifted.sum(axis=axis, keepdims=True)


def case(name, values, config, dtype="float32"):
    values = values.astype({"bfloat16": "float32"}.get(dtype, dtype))
    axis = config.get("axis", -1)
    wide = values.astype(np.float32).astype(np.float64)
    scores = softmax(wide, axis) if config.get("softmax", True) else wide
    # A stable sort of the negated values: of equals the lower index first.
    order = np.argsort(-wide, axis=axis, kind="stable")
    best = np.take(order, range(min(config.get("top_k", 5), values.shape[axis])), axis=axis)
    CASES.append({
        "name": name,
        "config": config,
        "dtype": dtype,
        "shape": list(values.shape),
        "values": values.astype(np.float64).ravel().tolist(),
        "answer_shape": list(best.shape),
        "indices": best.ravel().tolist(),
        "scores": np.take_along_axis(scores, best, axis=axis).astype(np.float32).astype(float).ravel().tolist(),
    })


random = np.random.default_rng(1)
case("defaults", random.normal(0, 3, 40), {})
case("one", random.normal(0, 3, 40), {"top_k": 1})
case("more-than-there-are", random.normal(0, 3, 4), {})
case("ties", np.array([1, 3, 2, 3, 3, 0]), {"top_k": 4})
case("large", np.array([1e4, 1e4 - 1, -1e4, 0]), {})
case("probabilities", softmax(random.normal(0, 3, 10), 0), {"softmax": False, "top_k": 3})
case("first-axis", random.normal(0, 2, (6, 2, 3)), {"axis": 0, "top_k": 2})
case("middle-axis", random.normal(0, 2, (2, 5, 3)), {"axis": -2, "top_k": 3})
case("last-axis", random.normal(0, 2, (2, 3, 7)), {"axis": 2, "top_k": 2})
case("float64", random.normal(0, 3, 12), {}, "float64")
case("float16", random.normal(0, 3, 12), {}, "float16")
case("bfloat16", random.integers(-8, 8, 12) / 4, {}, "bfloat16")
lines = ",\n".join("  " + json.dumps(one) for one in CASES)
pathlib.Path(__file__).with_name("cases.json").write_text(f"[\n{lines}\n]\n")
print(len(CASES), "cases")
