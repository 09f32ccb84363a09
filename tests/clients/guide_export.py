"""Chapter 3.1 of the guide: a frozen TensorFlow graph becomes a model that is served.

The picture model takes one picture, bytes of [height, width, 3] in the order blue,
green, red, and gives two probabilities. `expected` asks TensorFlow itself.
"""

import os
import subprocess
import sys

import numpy as np
import tensorflow as tf

SIDE = 16
INPUT, OUTPUT = "input_1_1", "output_1"
SIGNATURE = "your_model"
v1 = tf.compat.v1


def weights(version):
    """What each colour's mean says for the two classes; no two alike."""
    return np.array([[1, -0.25], [0.25, 0.5], [-0.75, 0.75]], np.float32) * version


def write_frozen_graph(pb_file, version):
    graph = tf.Graph()
    with graph.as_default():
        picture = v1.placeholder(tf.uint8, [None, None, 3], name=INPUT)
        batch = tf.expand_dims(tf.cast(picture, tf.float32) / 255.0, 0)
        small = v1.image.resize_bilinear(batch, [SIDE, SIDE], half_pixel_centers=True)
        logits = tf.matmul(tf.reduce_mean(small, [1, 2]), weights(version))
        tf.squeeze(tf.nn.softmax(logits), [0], name=OUTPUT)
    pb_file.write_bytes(graph.as_graph_def().SerializeToString())


def read_frozen_graph(pb_file):
    definition = v1.GraphDef()
    definition.ParseFromString(pb_file.read_bytes())
    graph = tf.Graph()
    with graph.as_default():
        v1.import_graph_def(definition, name="")
    return graph, graph.get_tensor_by_name(f"{INPUT}:0"), graph.get_tensor_by_name(f"{OUTPUT}:0")


def pb_to_tfserving(pb_file, export_path):
    """The guide's export: a SavedModel whose only signature is the model's name."""
    graph, picture, answer = read_frozen_graph(pb_file)
    saved_model = v1.saved_model
    with graph.as_default(), v1.Session() as session:
        signature = saved_model.signature_def_utils.build_signature_def(
            {"input": saved_model.utils.build_tensor_info(picture)},
            {"output": saved_model.utils.build_tensor_info(answer)},
            method_name=saved_model.signature_constants.PREDICT_METHOD_NAME,
        )
        builder = saved_model.builder.SavedModelBuilder(str(export_path))
        builder.add_meta_graph_and_variables(
            sess=session,
            tags=[saved_model.tag_constants.SERVING],
            signature_def_map={SIGNATURE: signature},
            clear_devices=True,
        )
        builder.save()


def convert(command):
    """Runs a conversion command with this interpreter; `python` may not be on the path."""
    assert command[:3] == ["python", "-m", "tf2onnx.convert"], command
    done = subprocess.run(
        [sys.executable, *command[1:]], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr[-4000:]


def expected(pb_file, bgr):
    graph, picture, answer = read_frozen_graph(pb_file)
    with v1.Session(graph=graph) as session:
        return session.run(answer, {picture: bgr})
