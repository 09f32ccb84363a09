"""Servers that the tests share. Run with:

  tests/setup
  cargo build --release
  target/venv/bin/python -m pytest tests/clients

INGLE_BIN names another binary to test.
"""

import os
from contextlib import contextmanager

# Read when TensorFlow is imported: its notes about this machine are no results.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import shutil  # noqa: E402

import pytest  # noqa: E402

import small_models  # noqa: E402
from server import BINARY, ROOT, Server  # noqa: E402

ZOO = ROOT / "target" / "zoo"
PLUGINS = ROOT / "plugins"
EFFICIENTNET = ROOT / "models" / "efficientnet-lite0" / "1"


def pytest_sessionstart(session):
    for path, remedy in (
        (BINARY, "cargo build --release"),
        (ZOO, "tests/setup"),
        (EFFICIENTNET, "tests/setup"),
    ):
        if not path.exists():
            pytest.exit(f"{path} is missing; run {remedy}", returncode=2)


@contextmanager
def running(arguments, models, log, **process):
    server = Server(arguments, log, **process)
    try:
        server.wait_until_available(models)
        yield server
    except BaseException:
        server.kill()
        raise
    server.stop()


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """The repository's own models with its own plugins, as a first user starts them."""
    arguments = ["serve", "--repository", ROOT / "models"]
    log = tmp_path_factory.mktemp("bundles") / "log"
    with running(arguments, ["digits", "efficientnet-lite0"], log) as server:
        yield server


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """Every model of target/zoo, as plain version folders."""
    folder = tmp_path_factory.mktemp("zoo")
    names = sorted(path.parent.name for path in ZOO.glob("*/model.onnx"))
    for name in names:
        version = folder / "repository" / name / "1"
        version.mkdir(parents=True)
        shutil.copy(ZOO / name / "model.onnx", version)
    arguments = ["serve", "--repository", folder / "repository"]
    with running(arguments, names, folder / "log") as server:
        yield server


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The models of small_models.py, by a TensorFlow Serving configuration file."""
    folder = tmp_path_factory.mktemp("small")
    names = small_models.write_all(folder / "models")
    config = folder / "models.config"
    config.write_text(small_models.config(folder / "models", names))
    with running([f"--model_config_file={config}"], names, folder / "log") as server:
        yield server
