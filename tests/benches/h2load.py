"""CPU time of a request on the smallest model, under h2load. Prints a table.

  tests/setup; apt-get install nghttp2-client
  cargo build --release
  target/venv/bin/python tests/benches/h2load.py

The model adds two floats to two floats. One process of h2load, 16 connections; CPU time is that of all threads
of the server, by /proc. INGLE_BIN names another binary to measure.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "clients"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402
from tensorflow_serving.apis import predict_pb2  # noqa: E402

import small_models  # noqa: E402
from server import Server  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
PATH = "/tensorflow.serving.PredictionService/Predict"


def grpc_body():
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "pair"
    for name in ("a", "b"):
        request.inputs[name].CopyFrom(tf.make_tensor_proto([[1.5, 2.5]], dtype=tf.float32))
    message = request.SerializeToString()
    return b"\0" + len(message).to_bytes(4, "big") + message


REST_BODY = b'{"instances": [{"a": [1.5, 2.5], "b": [1.5, 2.5]}]}'


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def load(server, protocol, body, args):
    """One round: CPU time of a request in µs, requests a second, h2load's mean time in text."""
    if protocol == "REST":
        url = f"{server.url}/v1/models/pair:predict"
        extra = ["--h1", "-H", "content-type: application/json"]
    else:
        url = f"http://127.0.0.1:{server.grpc_port}{PATH}"
        extra = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    command = ["h2load", "-c", str(args.connections), "-t", "1", "-D", str(args.seconds)]
    before = cpu_seconds(server.process.pid)
    run = subprocess.run(
        [*command, "-d", str(body), *extra, url], check=True, capture_output=True, text=True
    )
    used = cpu_seconds(server.process.pid) - before
    counts = next(line for line in run.stdout.splitlines() if line.startswith("requests:"))
    words = counts.replace(",", "").split()
    done, failed = int(words[words.index("succeeded") - 1]), int(words[words.index("failed") - 1])
    assert done and not failed, run.stdout
    rate = next(line for line in run.stdout.splitlines() if line.startswith("finished in"))
    return used / done * 1e6, float(rate.split(",")[1].split()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each round")
    parser.add_argument("--connections", type=int, default=16)
    args = parser.parse_args()
    if not shutil.which("h2load"):
        sys.exit("h2load is missing; on Debian: apt-get install nghttp2-client")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_models.write_version(folder / "models", "pair", 1, small_models.pair())
        bodies = {"gRPC": folder / "grpc.bin", "REST": folder / "rest.json"}
        bodies["gRPC"].write_bytes(grpc_body())
        bodies["REST"].write_bytes(REST_BODY)
        server = Server(["serve", "--repository", folder / "models"], folder / "log")
        try:
            server.wait_until_available(["pair"])
            rounds = {protocol: [] for protocol in bodies}
            for _ in range(args.rounds):
                for protocol, body in bodies.items():
                    rounds[protocol].append(load(server, protocol, body, args))
        finally:
            server.kill()
    print("| protocol | CPU time a request, µs | requests a second |")
    print("| --- | ---: | ---: |")
    for protocol, values in rounds.items():
        cpu, rate = (statistics.median(column) for column in zip(*values))
        print(f"| {protocol} | {cpu:.0f} | {rate:,.0f} |")


if __name__ == "__main__":
    main()
