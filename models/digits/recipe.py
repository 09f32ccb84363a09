#!/usr/bin/env python3
"""How this folder was made: the model's training, and the sample pictures.

  recipe.py train MODEL      train the network and write MODEL (an ONNX file)
  recipe.py samples FOLDER   write one held-out picture a digit, and check that
                             1/model.onnx recognises them

Training is seeded, but sums in the order that the machine's BLAS likes: another
machine gets a model as accurate, not the same bytes. `1/model.onnx` is the one
that is served and tested.

Needs the packages of tests/requirements.txt.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
EPOCHS = 40
BATCH = 64
SAMPLE_SIDE = 64
# A sample is the first held-out picture of its digit that gets this probability,
# so that a test on samples fails for a fault of the server, not of the model.
SURE = 0.75


def load_split():
    """Pictures [n, 8, 8] with values 0 to 16, and labels, of both parts."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        digits.images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    return train_x, train_y, test_x, test_y


# ------------------------------------------------------------------ training


class Network:
    """Two 3x3 convolutions and two dense layers, with their gradients."""

    NAMES = [
        f"{layer}.{part}"
        for layer in ("conv1", "conv2", "fc1", "fc2")
        for part in ("weight", "bias")
    ]

    def __init__(self, rng):
        self.weights = []
        for shape in ((16, 1, 3, 3), (32, 16, 3, 3), (64, 512), (10, 64)):
            deviation = np.sqrt(2 / np.prod(shape[1:]))
            self.weights.append((rng.standard_normal(shape) * deviation).astype(np.float32))
            self.weights.append(np.zeros(shape[0], np.float32))

    def forward(self, x):
        """Logits, and what `gradients` needs again."""
        w = self.weights
        n = len(x)
        cols1 = windows(x, 1)
        act1 = relu(cols1.reshape(n, 8, 8, 9) @ w[0].reshape(16, 9).T + w[1])
        act1 = act1.transpose(0, 3, 1, 2)
        cols2 = windows(act1, 2)
        act2 = relu(cols2.reshape(n, 4, 4, 144) @ w[2].reshape(32, 144).T + w[3])
        act2 = act2.transpose(0, 3, 1, 2)
        flat = act2.reshape(n, 512)
        act3 = relu(flat @ w[4].T + w[5])
        return act3 @ w[6].T + w[7], (cols1, act1, cols2, act2, flat, act3)

    def gradients(self, x, labels):
        """Gradients of the mean cross-entropy, in the order of `weights`."""
        w = self.weights
        n = len(x)
        logits, (cols1, act1, cols2, act2, flat, act3) = self.forward(x)
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(n), labels] -= 1
        d_logits = p / n
        d3 = (d_logits @ w[6]) * (act3 > 0)
        d2 = ((d3 @ w[4]).reshape(act2.shape) * (act2 > 0)).transpose(0, 2, 3, 1)
        d_cols2 = (d2 @ w[2].reshape(32, 144)).reshape(n, 4, 4, 16, 3, 3)
        d_act1 = np.zeros((n, 16, 10, 10), np.float32)
        for row in range(3):
            for col in range(3):
                part = d_cols2[..., row, col].transpose(0, 3, 1, 2)
                d_act1[:, :, row : row + 8 : 2, col : col + 8 : 2] += part
        d1 = (d_act1[:, :, 1:9, 1:9] * (act1 > 0)).transpose(0, 2, 3, 1)
        return [
            np.einsum("nhwo,nhwk->ok", d1, cols1.reshape(n, 8, 8, 9)).reshape(w[0].shape),
            d1.sum((0, 1, 2)),
            np.einsum("nhwo,nhwk->ok", d2, cols2.reshape(n, 4, 4, 144)).reshape(w[2].shape),
            d2.sum((0, 1, 2)),
            d3.T @ flat,
            d3.sum(0),
            d_logits.T @ act3,
            d_logits.sum(0),
        ]


def relu(x):
    return np.maximum(x, 0)


def windows(x, stride):
    """3x3 windows of x with a border of zeros: [n, rows, columns, channels, 3, 3]."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    return view[:, :, ::stride, ::stride].transpose(0, 2, 3, 1, 4, 5)


def fit(network, rng, x, labels):
    """Adam with weight decay; some batches are shifted by a pixel."""
    weights = network.weights
    mean = [np.zeros_like(w) for w in weights]
    square = [np.zeros_like(w) for w in weights]
    step = 0
    for epoch in range(EPOCHS):
        rate = 2e-3 * (0.5 + 0.5 * np.cos(np.pi * epoch / EPOCHS))
        for chosen in np.array_split(rng.permutation(len(x)), len(x) // BATCH):
            batch = x[chosen]
            if epoch < EPOCHS - 4 and rng.random() < 0.3:
                batch = np.roll(batch, rng.integers(-1, 2, 2), (2, 3))
            step += 1
            for k, gradient in enumerate(network.gradients(batch, labels[chosen])):
                g = gradient.astype(np.float32) + 1e-4 * weights[k]
                mean[k] = 0.9 * mean[k] + 0.1 * g
                square[k] = 0.999 * square[k] + 0.001 * g * g
                m = mean[k] / (1 - 0.9**step)
                v = square[k] / (1 - 0.999**step)
                weights[k] = (weights[k] - rate * m / (np.sqrt(v) + 1e-8)).astype(np.float32)


def to_onnx(network, accuracy):
    names = Network.NAMES
    node = helper.make_node
    pads = [1, 1, 1, 1]
    nodes = [
        node("Conv", ["image", *names[0:2]], ["c1"], kernel_shape=[3, 3], pads=pads),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", *names[2:4]], ["c2"], kernel_shape=[3, 3], pads=pads, strides=[2, 2]),
        node("Relu", ["c2"], ["r2"]),
        node("Flatten", ["r2"], ["f"], axis=1),
        node("Gemm", ["f", *names[4:6]], ["g1"], transB=1),
        node("Relu", ["g1"], ["r3"]),
        node("Gemm", ["r3", *names[6:8]], ["logits"], transB=1),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])
    weights = [numpy_helper.from_array(w, n) for w, n in zip(network.weights, names)]
    graph = helper.make_graph(nodes, "digits_cnn", [image], [probabilities], weights)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="make_zoo",
    )
    model.metadata_props.add(key="test_accuracy", value=f"{accuracy:.4f}")
    onnx.checker.check_model(model, full_check=True)
    return model


def train(path):
    train_x, train_y, test_x, test_y = load_split()
    as_input = lambda x: (x / 16).astype(np.float32)[:, None]
    rng = np.random.default_rng(0)
    network = Network(rng)
    fit(network, rng, as_input(train_x), train_y)
    accuracy = float((network.forward(as_input(test_x))[0].argmax(1) == test_y).mean())
    Path(path).write_bytes(to_onnx(network, accuracy).SerializeToString())
    print(f"{path}: right on {accuracy:.2%} of {len(test_y)} held-out digits")


# ------------------------------------------------------------------- samples


def as_picture(digit):
    """An 8-bit gray picture, every pixel of the digit a square of 8x8 pixels."""
    from PIL import Image

    small = Image.fromarray(np.round(digit * 255 / 16).astype(np.uint8))
    return small.resize((SAMPLE_SIDE, SAMPLE_SIDE), Image.Resampling.NEAREST)


def as_served(picture):
    """What preprocess-image makes of a picture with the bundle's configuration."""
    from PIL import Image

    small = picture.convert("L").resize((8, 8), Image.Resampling.BICUBIC)
    return (np.asarray(small) / 255.0).astype(np.float32)[None]


def samples(folder):
    import onnxruntime
    from PIL import Image

    session = onnxruntime.InferenceSession(HERE / "1" / "model.onnx")
    predict = lambda pictures: session.run(
        None, {"image": np.stack([as_served(p) for p in pictures])}
    )[0]
    _, _, test_x, test_y = load_split()
    pictures = [as_picture(x) for x in test_x]
    scores = predict(pictures)
    share = (scores.argmax(1) == test_y).mean()
    print(f"as pictures, right on {share:.2%} of {len(test_y)} held-out digits")

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for digit in range(10):
        sure = np.flatnonzero((test_y == digit) & (scores[:, digit] >= SURE))
        written.append(folder / f"{digit}.png")
        pictures[sure[0]].save(written[-1], optimize=True)
    written.append(folder / "7.jpg")
    Image.open(folder / "7.png").save(written[-1], quality=90)
    found = predict([Image.open(path) for path in written])
    for path, row in zip(written, found):
        print(f"{path.name}: {row.argmax()} ({row.max():.4f})")
        if str(row.argmax()) != path.stem:
            sys.exit(f"{path} is not recognised")


def main():
    commands = {"train": train, "samples": samples}
    if len(sys.argv) != 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](sys.argv[2])


if __name__ == "__main__":
    main()
