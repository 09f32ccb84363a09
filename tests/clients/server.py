"""A running `ingle`, started for a test on free loopback ports."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import grpc
import requests
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("INGLE_BIN", ROOT / "target" / "release" / "ingle"))
START_SECONDS = 120
STOP_SECONDS = 60
AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
UNLIMITED = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]


def free_ports(count):
    """Ports nobody listens on; held until all are found, so they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for held in sockets:
        held.bind(("127.0.0.1", 0))
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


class Server:
    """The process, and the official client's stubs for it."""

    def __init__(self, arguments, log, program=BINARY, environment=None):
        """`environment` is what the process has besides the tests' own."""
        self.grpc_port, self.rest_port = free_ports(2)
        self.log = Path(log)
        command = [
            str(program),
            *map(str, arguments),
            f"--port={self.grpc_port}",
            f"--rest_api_port={self.rest_port}",
        ]
        with open(self.log, "wb") as output:
            output.write((" ".join(command) + "\n").encode())
            output.flush()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
            )
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}", options=UNLIMITED)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.rest = requests.Session()
        self.url = f"http://127.0.0.1:{self.rest_port}"

    def wait_until_available(self, models):
        """Returns when every model has a version that answers."""
        deadline = time.monotonic() + START_SECONDS
        missing = list(models)
        while missing:
            if self.process.poll() is not None:
                raise RuntimeError(f"exit code {self.process.returncode} at start\n{self.tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"never available: {', '.join(missing)}\n{self.tail()}")
            missing = [model for model in missing if not self._is_available(model)]
            if missing:
                time.sleep(0.1)

    def _is_available(self, model):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        try:
            answer = self.model.GetModelStatus(request, timeout=5)
        except grpc.RpcError:
            return False
        return any(status.state == AVAILABLE for status in answer.model_version_status)

    def stop(self):
        """Ends the process as an orchestrator does; it must leave cleanly."""
        self.channel.close()
        self.rest.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still running after SIGTERM\n{self.tail()}") from None
        assert code == 0, f"exit code {code} after SIGTERM\n{self.tail()}"
        assert "panicked at" not in self.log.read_text(errors="replace"), self.tail()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def tail(self, lines=60):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
