"""What the steps of a case do: to files, to the server's process, and over its ports."""

import shutil
import signal
import socket
import subprocess
import threading
import time

import grpc
import numpy as np
import requests
from google.protobuf import text_format
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

import life_models
from server import Server

POLL_SECONDS = 0.05
WAIT_SECONDS = 30
CALL_SECONDS = 60
STATE = get_model_status_pb2.ModelVersionStatus.State.Name
CODES = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "NOT_FOUND": 404,
    "DEADLINE_EXCEEDED": 504,
    "UNKNOWN": 500,
    "UNIMPLEMENTED": 501,
}


class Refused(Exception):
    """A call was answered with an error."""

    def __init__(self, code, message):
        super().__init__(f"{code} {message}")


def over_grpc(call, request):
    try:
        return call(request, CALL_SECONDS)
    except grpc.RpcError as error:
        raise Refused(error.code().name, error.details()) from None


def over_rest(answer):
    if answer.status_code == 200:
        return answer.json()
    name = [name for name, status in CODES.items() if status == answer.status_code]
    raise Refused("|".join(name) or str(answer.status_code), answer.json()["error"])


def matches(found, expected):
    """`...` at the end leaves the rest open; REST knows of some codes only their status."""
    code, space, text = found.partition(" ")
    wanted, _, wanted_text = expected.partition(" ")
    if wanted not in code.split("|"):
        return False
    if wanted_text.endswith("..."):
        return text.startswith(wanted_text.removesuffix("..."))
    return text == wanted_text


def target(words):
    """`NAME`, `NAME version N` or `NAME label L`, and what follows."""
    name, *rest = words
    if rest and rest[0] in ("version", "label"):
        return name, rest[0], rest[1], rest[2:]
    return name, None, None, rest


def set_choice(spec, name, kind, choice):
    spec.name = name
    if kind == "version":
        spec.version.value = int(choice)
    elif kind == "label":
        spec.version_label = choice


def path_of(name, kind, choice):
    return f"/v1/models/{name}" + (f"/{kind}s/{choice}" if kind else "")


class World:
    """The folder and the server of one case."""

    def __init__(self, folder, case_folder):
        self.folder = folder
        self.case_folder = case_folder
        self.server = None
        self.log = folder / "log"
        self.threads = []

    # Files

    def path(self, name):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def do_model(self, name, version, kind="plain"):
        path = self.path(f"{name}/model.onnx")
        path.write_bytes(life_models.KINDS[kind](int(version)))

    def do_broken(self, name):
        self.path(f"{name}/model.onnx").write_bytes(b"this is no ONNX file")

    def do_text(self, name, content):
        self.path(name).write_text(content.replace("$DIR", str(self.folder)) + "\n")

    def do_mkdir(self, name):
        (self.folder / name).mkdir(parents=True)

    def do_rename(self, old, new):
        (self.folder / old).rename(self.path(new))

    def do_copy(self, old, new, *first):
        """Copies a file, or with `--first N` only so many bytes of it."""
        content = (self.folder / old).read_bytes()
        self.path(new).write_bytes(content[: int(first[1])] if first else content)

    def do_remove(self, name):
        path = self.folder / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def do_link(self, name, to):
        self.path(name).symlink_to(to.replace("$DIR", str(self.folder)))

    def do_digests(self, name):
        """As the guide tells to make them."""
        command = "sha256sum * > MANIFEST.sha256"
        subprocess.run(command, shell=True, cwd=self.folder / name, check=True)

    def config_text(self, name):
        return (self.case_folder / name).read_text().replace("$DIR", str(self.folder))

    def do_config(self, name):
        """Replaces the file that the server was started with, at once."""
        new = self.path("models.config.new")
        new.write_text(self.config_text(name))
        new.rename(self.folder / "models.config")

    # The process

    def do_launch(self, *flags):
        flags = [flag.replace("$DIR", str(self.folder)) for flag in flags]
        names = {flag.split("=")[0] for flag in flags}
        if not names & {"--model_base_path", "--repository", "--model_config_file"}:
            flags.append(f"--model_config_file={self.folder / 'models.config'}")
        if "--file_system_poll_wait_seconds" not in names:
            flags.append(f"--file_system_poll_wait_seconds={POLL_SECONDS}")
        assert self.server is None, "there is a server already"
        self.server = Server(["--bind_address=127.0.0.1", *flags], self.log)

    def do_start(self, *flags):
        self.do_launch(*flags)
        self.until(self.listens, "the ports are open")

    def listens(self):
        code = self.server.process.poll()
        assert code is None, f"the server left with {code}"
        return self.connects(self.server.rest_port) and self.connects(self.server.grpc_port)

    @staticmethod
    def connects(port):
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    def do_closed(self):
        assert self.server.process.poll() is None, "the server left"
        ports = (self.server.rest_port, self.server.grpc_port)
        assert not any(map(self.connects, ports)), "a port is open"

    def do_exits(self, code):
        server, self.server = self.server, None
        server.channel.close()
        found = server.process.wait(WAIT_SECONDS)
        assert found == int(code), f"exit code {found}"

    def do_stop(self):
        server, self.server = self.server, None
        server.stop()

    def do_log(self, text):
        self.until(lambda: text in self.log_text(), f"the log says {text!r}")

    def do_silent(self, text):
        assert text not in self.log_text(), f"the log says {text!r}"

    def log_text(self):
        return self.log.read_text(errors="replace").replace(str(self.folder), "$DIR")

    def do_rounds(self, count):
        """So many looks of the server, and a bit."""
        time.sleep((int(count) + 1) * POLL_SECONDS)

    # Calls

    def do_predict(self, *words, expected, once=False):
        name, kind, choice, rest = target(words)
        x = life_models.X + (int(rest[1]) if rest else 0)
        calls = [self.predict_grpc] if once else [self.predict_grpc, self.predict_rest]
        for call in calls:
            self.check(lambda: call(name, kind, choice, x), expected)

    def predict_grpc(self, name, kind, choice, x):
        request = predict_pb2.PredictRequest()
        set_choice(request.model_spec, name, kind, choice)
        tensor = request.inputs["x"]
        tensor.dtype = types_pb2.DT_FLOAT
        tensor.tensor_shape.dim.add(size=1)
        tensor.float_val.append(x)
        answer = over_grpc(self.server.prediction.Predict, request)
        version = str(answer.model_spec.version.value)
        assert self.version_of(answer.outputs["y"].float_val, x) == version, "another's answer"
        return version

    def predict_rest(self, name, kind, choice, x):
        url = f"{self.server.url}{path_of(name, kind, choice)}:predict"
        # A session is not for several threads.
        answer = over_rest(requests.post(url, json={"instances": [x]}, timeout=CALL_SECONDS))
        return self.version_of(answer["predictions"], x)

    @staticmethod
    def version_of(values, x):
        (value,) = values
        return str(int(np.float32(value) - np.float32(x)))

    def do_status(self, *words, expected, once=False):
        name, kind, choice, _ = target(words)
        calls = [self.status_grpc] if once else [self.status_grpc, self.status_rest]
        for call in calls:
            self.check(lambda: self.states(call(name, kind, choice)), expected)

    @staticmethod
    def states(rows):
        return ", ".join(f"{version} {state}" for version, state, _, _ in rows)

    def do_reason(self, name, version, *, expected, once=False):
        """The code and the message in a version's status."""
        for call in (self.status_grpc, self.status_rest):
            rows = call(name, "version", version)
            self.check(lambda: " ".join(rows[0][2:]).strip(), expected)

    def status_grpc(self, name, kind, choice):
        request = get_model_status_pb2.GetModelStatusRequest()
        set_choice(request.model_spec, name, kind, choice)
        answer = over_grpc(self.server.model.GetModelStatus, request)
        code = lambda row: grpc_code_name(row.status.error_code)
        return [
            (str(row.version), STATE(row.state), code(row), row.status.error_message)
            for row in answer.model_version_status
        ]

    def status_rest(self, name, kind, choice):
        url = f"{self.server.url}{path_of(name, kind, choice)}"
        rows = over_rest(requests.get(url, timeout=CALL_SECONDS))["model_version_status"]
        status = lambda row: (row["status"]["error_code"], row["status"]["error_message"])
        return [(row["version"], row["state"], *status(row)) for row in rows]

    def do_health(self, name, *, expected, once=False):
        answer = requests.get(f"{self.server.url}/healthz/models/{name}", timeout=CALL_SECONDS)
        assert str(answer.status_code) == expected, answer.text

    def do_reload(self, name, *, expected, once=False):
        """HandleReloadConfigRequest with a file's text; `nothing` leaves the list unset."""
        request = model_management_pb2.ReloadConfigRequest()
        if name != "nothing":
            config = model_server_config_pb2.ModelServerConfig()
            text_format.Parse(self.config_text(name), config)
            request.config.CopyFrom(config)

        def reload():
            answer = over_grpc(self.server.model.HandleReloadConfigRequest, request)
            return grpc_code_name(answer.status.error_code)

        self.check(reload, expected)

    @staticmethod
    def check(call, expected):
        try:
            found = call()
        except Refused as refused:
            found = str(refused)
        assert matches(found, expected), f"found: {found}"

    # Time

    def until(self, condition, what):
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"never: {what}"
            time.sleep(0.01)

    def do_wait(self, verb, *words, expected):
        """Repeats a step over gRPC until it holds."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return self.act(verb, words, expected, once=True)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def do_begin(self, verb, *words, expected=None):
        """Does a step beside the following ones, until `join`."""
        failures = []

        def work():
            try:
                self.act(verb, words, expected, once=True)
            except BaseException as failure:
                failures.append(failure)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self.threads.append((thread, failures))

    def do_pending(self):
        """What was begun has not ended."""
        assert all(thread.is_alive() for thread, _ in self.threads), "it has ended"

    def do_join(self):
        threads, self.threads = self.threads, []
        for thread, failures in threads:
            thread.join(WAIT_SECONDS)
            assert not thread.is_alive(), "still running"
            if failures:
                raise failures[0]

    def act(self, verb, words, expected, **options):
        do = getattr(self, f"do_{verb}", None)
        assert do, f"there is no step {verb!r}"
        if expected is not None:
            options["expected"] = expected
        do(*words, **options)

    def close(self):
        """The server has to leave as it should, whatever the case was about."""
        if self.server:
            self.do_join()
            self.do_stop()

    def kill(self):
        if self.server:
            self.server.process.send_signal(signal.SIGKILL)
            self.server.process.wait()


def grpc_code_name(number):
    names = {code.value[0]: code.name for code in grpc.StatusCode}
    return names[number]
