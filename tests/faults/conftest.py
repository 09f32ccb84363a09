"""Faults against the real binary. Run with:

  tests/setup
  cargo build --release
  target/venv/bin/python -m pytest tests/faults

INGLE_FAULTS=N sends N mutated requests over each protocol (default 300), INGLE_FAULTS_SEED
chooses other ones, INGLE_DRAINS=N drains N times (default 5). INGLE_BIN names another binary.
"""

import os
import random
import re
import sys
from contextlib import contextmanager
from pathlib import Path

# Read when TensorFlow is imported: its notes about this machine are no results.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "clients"))

import pytest  # noqa: E402

import small_models  # noqa: E402
from server import BINARY, Server  # noqa: E402

MUTATIONS = int(os.environ.get("INGLE_FAULTS", "300"))
SEED = int(os.environ.get("INGLE_FAULTS_SEED", "20261122"))
DRAINS = int(os.environ.get("INGLE_DRAINS", "5"))


def pytest_report_header(config):
    return f"INGLE_FAULTS={MUTATIONS} INGLE_FAULTS_SEED={SEED} INGLE_DRAINS={DRAINS}"


def pytest_sessionstart(session):
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is missing; run cargo build --release", returncode=2)


@pytest.fixture
def rng(request):
    """Draws the same for the same seed and test."""
    return random.Random(f"{SEED} {request.node.name}")


def resident_bytes(server):
    """What the process holds of the machine's memory."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


def assert_flat(server, work):
    """Doing the same again takes no more memory: what the first passes leave is caches."""
    seen = []
    for _ in range(5):
        work()
        seen.append(resident_bytes(server))
    assert seen[-1] < seen[1] * 1.05, f"bytes after each pass: {seen}"


def assert_sound(server):
    """No request was the server's fault."""
    log = server.log.read_text(errors="replace")
    assert "panicked" not in log, server.tail()
    assert not re.search(r'request failed.*code="?INTERNAL', log), server.tail()


class Models:
    """A folder of models and a configuration that serves them."""

    def __init__(self, folder):
        self.folder = folder / "models"
        self.names = small_models.write_all(self.folder)
        text = small_models.config(self.folder, self.names).rstrip().removesuffix("}")
        digits = f'config {{ name: "digits" base_path: "{ROOT / "models" / "digits"}" model_platform: "onnx" }}'
        self.file = folder / "models.config"
        self.file.write_text(f"{text}  {digits}\n}}\n")
        self.names = [*self.names, "digits"]

    def arguments(self):
        plugins = ROOT / "plugins"
        return [f"--model_config_file={self.file}", f"--plugin_repository={plugins}", "--device=cpu"]


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return Models(tmp_path_factory.mktemp("models"))


@contextmanager
def serving(models, log, *flags):
    """A server that must leave cleanly and have been at fault in nothing."""
    server = Server([*models.arguments(), *flags], log)
    try:
        server.wait_until_available(models.names)
        yield server
    except BaseException:
        server.kill()
        raise
    server.stop()
    assert_sound(server)


@pytest.fixture(scope="module")
def served(models, tmp_path_factory):
    with serving(models, tmp_path_factory.mktemp("served") / "log") as server:
        yield server
