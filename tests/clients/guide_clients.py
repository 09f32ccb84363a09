"""Chapter 3.3 of the guide: its gRPC client and its REST client.

The same calls and options; `tf.contrib.util.make_tensor_proto` is
`tf.make_tensor_proto`, the server's address is a parameter, and a client of a label
or a version says so in its model_spec.
"""

import json

import cv2
import grpc
import numpy as np
import requests
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


class YourModel:
    def __init__(self, socket):
        """`socket` is host:port of the server's gRPC port."""
        self.socket = socket
        self.request, self.stub = self.__get_request()

    def __get_request(self):
        channel = grpc.insecure_channel(
            self.socket,
            options=[
                ("grpc.max_send_message_length", 1024 * 1024 * 1024),
                ("grpc.max_receive_message_length", 1024 * 1024 * 1024),
            ],
        )
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "your_model"
        request.model_spec.signature_name = "your_model"
        return request, stub

    def run(self, image):
        """`image` in the order red, green, blue."""
        img = image[..., ::-1]
        self.request.inputs["input"].CopyFrom(tf.make_tensor_proto(img))
        result = self.stub.Predict(self.request, 30.0)
        self.version = result.model_spec.version.value
        return tf.make_ndarray(result.outputs["output"])

    def run_file(self, image_file):
        return self.run(read_rgb(image_file))


def read_rgb(image_file):
    image = cv2.imread(str(image_file))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


class SelfEncoder(json.JSONEncoder):
    def default(self, obj):
        if isinstance(obj, np.ndarray):
            return obj.tolist()
        if isinstance(obj, np.floating):
            return float(obj)
        if isinstance(obj, bytes):
            return str(obj, encoding="utf-8")
        return json.JSONEncoder.default(self, obj)


def rest_predict(url, image_file):
    """The answer to a POST of the picture to `url`, read as the guide reads it."""
    img = read_rgb(image_file)[..., ::-1]
    input_data = {"signature_name": "your_model", "instances": img}
    data = json.dumps(input_data, cls=SelfEncoder, indent=None)
    result = requests.post(url, data=data)
    return eval(result.content)
