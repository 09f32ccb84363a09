#!/usr/bin/env python3
"""Makes corpus/load from the onnx package's node tests: one small model for each operator, whose
inputs become weights where that keeps it small, so that loading it computes the operator."""

import os
from pathlib import Path

import onnx
from onnx import numpy_helper

MOST_BYTES = 2000
tests = Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"
corpus = Path(__file__).parent / "corpus" / "load"


def with_weights(folder):
    model = onnx.load(folder / "model.onnx")
    graph, kept = model.graph, []
    for index, value in enumerate(graph.input):
        path = folder / "test_data_set_0" / f"input_{index}.pb"
        if not value.type.HasField("tensor_type") or not path.exists():
            kept.append(value)
            continue
        tensor = onnx.TensorProto.FromString(path.read_bytes())
        tensor.name = value.name
        graph.initializer.append(tensor)
    del graph.input[:]
    graph.input.extend(kept)
    return model.SerializeToString()


best = {}
for folder in sorted(tests.iterdir()):
    plain = (folder / "model.onnx").read_bytes()
    data = min((d for d in (with_weights(folder), plain) if len(d) < MOST_BYTES), default=None, key=lambda d: -len(d))
    if data is None:
        continue
    for operator in {node.op_type for node in onnx.load_from_string(plain).graph.node}:
        if operator not in best or len(data) < len(best[operator][0]):
            best[operator] = (data, folder.name.removeprefix("test_"))
corpus.mkdir(parents=True, exist_ok=True)
for data, name in best.values():
    (corpus / f"{name}.onnx").write_bytes(data)
