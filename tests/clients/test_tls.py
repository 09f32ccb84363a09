"""Encrypted connections and the Unix socket, by TensorFlow Serving's flags."""

import subprocess

import grpc
import pytest
import requests
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

import small_models
from conftest import running
from server import AVAILABLE


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate that signs itself, for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    out = ["-nodes", "-days", "2", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command, *out, *subject], check=True, capture_output=True)
    config = folder / "ssl.config"
    text = key.read_text().replace("\n", "\\n"), cert.read_text().replace("\n", "\\n")
    config.write_text(f'server_key: "{text[0]}"\nserver_cert: "{text[1]}"\nclient_verify: false\n')
    return config, cert


def states(channel):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half_plus"
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    answer = stub.GetModelStatus(request, timeout=20, wait_for_ready=True)
    return [status.state for status in answer.model_version_status]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls-models")
    small_models.write_version(folder, "half_plus", 1, small_models.half_plus(1))
    return folder


def test_both_ports_are_encrypted(models, certificate, tmp_path):
    config, cert = certificate
    arguments = [
        "serve",
        f"--repository={models}",
        f"--ssl_config_file={config}",
        f"--rest_api_ssl_config_file={config}",
    ]
    with running(arguments, [], tmp_path / "log") as server:
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        with grpc.secure_channel(f"localhost:{server.grpc_port}", credentials) as channel:
            assert states(channel) == [AVAILABLE]
        url = f"https://localhost:{server.rest_port}/v1/models/half_plus"
        answer = requests.post(f"{url}:predict", json={"instances": [2.0]}, verify=str(cert))
        assert answer.json() == {"predictions": [2.0]}
        with pytest.raises(requests.RequestException):
            requests.get(f"http://localhost:{server.rest_port}/v1/models/half_plus", timeout=10)
        with pytest.raises(grpc.RpcError), grpc.insecure_channel(
            f"localhost:{server.grpc_port}"
        ) as channel:
            request = get_model_status_pb2.GetModelStatusRequest()
            model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=10)


def test_a_unix_socket_answers_beside_the_port(models, tmp_path):
    path = tmp_path / "grpc.sock"
    arguments = ["serve", f"--repository={models}", f"--grpc_socket_path={path}"]
    with running(arguments, ["half_plus"], tmp_path / "log"):
        # Left alone, this client names the socket's path as the host, which is none.
        options = [("grpc.default_authority", "localhost")]
        with grpc.insecure_channel(f"unix:{path}", options=options) as channel:
            assert states(channel) == [AVAILABLE]
    assert not path.exists()
