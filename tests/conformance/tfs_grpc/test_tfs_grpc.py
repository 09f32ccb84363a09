"""TensorFlow Serving's gRPC API, row by row. README.md says how to read and run it."""

import os
import re
import sys
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path
from string import Template

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE), str(ROOT / "tests" / "clients")]

import pytest  # noqa: E402

import grpc_models as models  # noqa: E402
from grpc_case import Step  # noqa: E402
from server import BINARY, Server  # noqa: E402

CASES = sorted(path for path in (HERE / "cases").iterdir() if path.is_dir())
ROWS = tomllib.loads((HERE / "rows.toml").read_text())["row"]
DIFFERENCES = ROOT / "docs" / "reference" / "tf-serving-differences.md"
# For a state that comes by itself.
UNTIL_SECONDS = 30


@contextmanager
def running(config, flags, log):
    """A server of the configuration file `config`, in which every listed model answers."""
    names = re.findall(r'^ *name: "([^"]+)"', config.read_text(), re.M)
    server = Server([f"--model_config_file={config}", *flags], log)
    try:
        server.wait_until_available(names)
        yield server
    except BaseException:
        server.kill()
        raise
    server.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The server of all cases that change nothing."""
    folder = tmp_path_factory.mktemp("tfs_grpc")
    config = folder / "models.config"
    config.write_text(models.config(folder / "models", models.write_all(folder / "models")))
    with running(config, [], folder / "log") as server:
        yield server


@pytest.fixture(scope="module")
def reloadable(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfs_grpc_reload")
    models.write_for_reload(folder)
    return folder


def steps_of(case, variables):
    """A case's steps: its numbered folders, or itself."""
    numbered = sorted(path for path in case.iterdir() if path.is_dir())
    assert [path.name for path in numbered] == [str(i + 1) for i in range(len(numbered))], case
    return [Step(folder, variables) for folder in numbered or [case]]


def take(step, server):
    until = time.monotonic() + (UNTIL_SECONDS if step.given.get("until") else 0)
    while True:
        answer = step.call(server.channel)
        try:
            return step.check(answer)
        except AssertionError:
            if time.monotonic() >= until:
                raise
        time.sleep(0.05)


@contextmanager
def server_of(case, request, variables, tmp_path):
    """The shared server, or where the case has a models.config one of its own."""
    own = case / "models.config"
    if not own.exists():
        yield request.getfixturevalue("shared")
        return
    config = tmp_path / "models.config"
    config.write_text(Template(own.read_text()).substitute(variables))
    first = steps_of(case, variables)[0]
    flags = [Template(flag).substitute(variables) for flag in first.given.get("flags", [])]
    with running(config, flags, tmp_path / "log") as server:
        server.config = config
        yield server


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case, request, tmp_path):
    variables = {"MODELS": str(request.getfixturevalue("reloadable"))}
    with server_of(case, request, variables, tmp_path) as server:
        for step in steps_of(case, variables):
            if "write_config" in step.given:
                text = (case / step.given["write_config"]).read_text()
                server.config.write_text(Template(text).substitute(variables))
            try:
                take(step, server)
            except AssertionError as error:
                pytest.fail(f"{step.folder.relative_to(HERE)}: {error}\n{server.tail(20)}")


# ---------------------------------------------------------------------- index


def row_of(case):
    """A case is named after its row; a variant of it after two dashes."""
    return case.name.split("--")[0]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_row_is_covered(row):
    cases = [case for case in CASES if row_of(case) == row["id"]]
    tests = row.get("tests", [])
    assert cases or tests, f'no case for: {row["text"]}'
    for test in tests:
        file, name = test.split("::")
        pattern = rf"^ *(async )?(fn|def) {name}\("
        assert re.search(pattern, (ROOT / file).read_text(), re.M), f"{test} is not there"


def test_every_case_belongs_to_a_row():
    known = [row["id"] for row in ROWS]
    assert len(known) == len(set(known))
    strays = [case.name for case in CASES if row_of(case) not in known]
    assert not strays


def test_every_difference_is_documented():
    documented = " ".join(DIFFERENCES.read_text().split())
    named = [step.given.get("difference") for case in CASES for step in steps_of(case, {})]
    named += [row.get("difference") for row in ROWS]
    missing = [text for text in named if text and text not in documented]
    assert not missing, f"not in {DIFFERENCES.name}: {missing}"


def test_the_binary_is_there():
    assert BINARY.exists(), "run cargo build --release"
