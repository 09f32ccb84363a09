"""The binary in the place of `tensorflow_model_server`: its names, its image, its orchestrators."""

import os
import shutil
import subprocess
import time

import numpy as np
import pytest
import requests

import small_models
from server import BINARY, Server, free_ports


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """What an image would hold: the program under its usual names, and a model."""
    root = tmp_path_factory.mktemp("image")
    programs = root / "usr" / "bin"
    programs.mkdir(parents=True)
    for name in ("tensorflow_model_server", "tf_serving_entrypoint.sh"):
        (programs / name).symlink_to(BINARY)
    small_models.write_version(root / "models", "half_plus", 1, small_models.half_plus(1))
    return root


def half_of_two(server, model="half_plus"):
    answer = requests.post(
        f"{server.url}/v1/models/{model}:predict", json={"instances": [2.0]}, timeout=10
    )
    return answer.json()


def started(program, arguments, log, model="half_plus", **rest):
    server = Server(arguments, log, program, **rest)
    try:
        server.wait_until_available([model])
    except BaseException:
        server.kill()
        raise
    return server


def test_kserve_starts_it(root, tmp_path):
    # The arguments of KServe's ClusterServingRuntime, after the image's own.
    arguments = [
        "--model_name=half_plus",
        f"--model_base_path={root / 'models' / 'half_plus'}",
        "--rest_api_timeout_in_ms=60000",
    ]
    program = root / "usr" / "bin" / "tensorflow_model_server"
    server = started(program, arguments, tmp_path / "log")
    assert half_of_two(server) == {"predictions": [2.0]}
    server.stop()


def test_the_image_serves_the_model_of_its_environment(root, tmp_path):
    environment = {"MODEL_NAME": "half_plus", "MODEL_BASE_PATH": str(root / "models")}
    program = root / "usr" / "bin" / "tf_serving_entrypoint.sh"
    server = started(program, [], tmp_path / "log", environment=environment)
    assert half_of_two(server) == {"predictions": [2.0]}
    server.stop()


def test_arguments_after_the_image_s_own_win(root, tmp_path):
    config = tmp_path / "models.config"
    config.write_text(small_models.config(root / "models", ["half_plus"]))
    environment = {"MODEL_NAME": "nothing", "MODEL_BASE_PATH": str(tmp_path)}
    program = root / "usr" / "bin" / "tf_serving_entrypoint.sh"
    arguments = ["--port=1", "--rest_api_port=1", f"--model_config_file={config}"]
    server = started(program, arguments, tmp_path / "log", environment=environment)
    assert half_of_two(server) == {"predictions": [2.0]}
    server.stop()


def test_the_environment_alone_names_a_model(root, tmp_path):
    environment = {"MODEL_NAME": "half_plus", "MODEL_BASE_PATH": str(root / "models")}
    server = started(BINARY, [], tmp_path / "log", environment=environment)
    assert half_of_two(server) == {"predictions": [2.0]}
    server.stop()


def test_unknown_arguments_are_told_and_the_server_starts(root, tmp_path):
    arguments = [
        "--model_name=half_plus",
        f"--model_base_path={root / 'models' / 'half_plus'}",
        "--not_a_flag=3",
        "--enable_profiler=false",
    ]
    program = root / "usr" / "bin" / "tensorflow_model_server"
    server = started(program, arguments, tmp_path / "log")
    log = server.log.read_text()
    assert "unknown argument: --not_a_flag=3" in log
    assert "--enable_profiler=false" in log
    server.stop()
    refused = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 64 and "--not_a_flag" in refused.stderr


def test_the_lines_that_scripts_wait_for(root, tmp_path):
    arguments = [
        "--model_name=half_plus",
        f"--model_base_path={root / 'models' / 'half_plus'}",
        "--bind_address=0.0.0.0",
    ]
    server = started(root / "usr" / "bin" / "tensorflow_model_server", arguments, tmp_path / "log")
    server.stop()
    log = server.log.read_text()
    for line in (
        "Successfully loaded servable version {name: half_plus version: 1}",
        f"Running gRPC ModelServer at 0.0.0.0:{server.grpc_port} ...",
        f"Exporting HTTP/REST API at:localhost:{server.rest_port} ...",
    ):
        assert line in log, line


def test_rest_is_off_by_default_as_there(root, tmp_path):
    grpc_port, rest_port = free_ports(2)
    program = root / "usr" / "bin" / "tensorflow_model_server"
    command = [program, f"--model_base_path={root / 'models' / 'half_plus'}", f"--port={grpc_port}"]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(tmp_path / "log", "Running gRPC ModelServer")
        assert "Exporting HTTP/REST API" not in (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()


def wait_for(log, text):
    deadline = time.monotonic() + 60
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize("flag", ["--version", "--version=true"])
def test_the_version_has_the_form_that_scripts_read(root, flag):
    program = root / "usr" / "bin" / "tensorflow_model_server"
    run = subprocess.run([program, flag], capture_output=True, text=True, check=True, timeout=60)
    model_server, library = run.stdout.splitlines()
    assert model_server.startswith("TensorFlow ModelServer: ingle ")
    assert library.startswith("TensorFlow Library: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_it_needs_no_root_and_no_home(root, tmp_path):
    """As KServe runs it: user 1000, nothing to write to."""
    for folder in [root, *root.parents, tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == 0 and folder != folder.parent:
            folder.chmod(folder.stat().st_mode | 0o055)
    # Where the project lies may be closed to others.
    program = shutil.copy(BINARY, root / "ingle")
    grpc_port, rest_port = free_ports(2)
    command = [
        program,
        "--model_name=half_plus",
        f"--model_base_path={root / 'models' / 'half_plus'}",
        f"--port={grpc_port}",
        f"--rest_api_port={rest_port}",
    ]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, user=1000, group=1000, extra_groups=[], env={}, cwd="/"
        )
    try:
        wait_for(tmp_path / "log", "Exporting HTTP/REST API")
        answer = requests.post(
            f"http://127.0.0.1:{rest_port}/v1/models/half_plus:predict",
            json={"instances": [2.0]},
            timeout=10,
        )
        np.testing.assert_allclose(answer.json()["predictions"], [2.0])
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0
