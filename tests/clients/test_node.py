"""A client in a second language: gRPC's own library for Node, with the messages of proto/.

What it asks is in node/client.test.js; each of its tests is one here.
"""

import hashlib
import os
import re
import shutil
import subprocess

import pytest

from server import ROOT

HERE = ROOT / "tests" / "clients" / "node"
SCRIPT = HERE / "client.test.js"
PACKAGES = ROOT / "target" / "node"
NAMES = re.findall(r'^test\("([^"]+)"', SCRIPT.read_text(), re.M)
INSTALL_SECONDS = 600
RUN_SECONDS = 300


def install():
    """The packages of node/package-lock.json, once for each state of that file."""
    lock = (HERE / "package-lock.json").read_bytes()
    digest = hashlib.sha256(lock).hexdigest()
    stamp = PACKAGES / "installed"
    if stamp.exists() and stamp.read_text() == digest:
        return
    shutil.rmtree(PACKAGES, ignore_errors=True)
    PACKAGES.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, PACKAGES)
    # None of them needs a script of its own to be installed.
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(command, cwd=PACKAGES, check=True, timeout=INSTALL_SECONDS)
    stamp.write_text(digest)


@pytest.fixture(scope="module")
def results(small):
    """Whether each of the script's tests passed, and all that was said."""
    install()
    environment = os.environ | {
        "NODE_PATH": str(PACKAGES / "node_modules"),
        "INGLE_GRPC": f"127.0.0.1:{small.grpc_port}",
        "INGLE_PROTOS": str(ROOT / "proto"),
    }
    command = ["node", "--test", "--test-reporter=tap", str(SCRIPT)]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS
    )
    lines = re.findall(r"^\s*(not ok|ok) \d+ - (.+)$", run.stdout, re.M)
    return {name: word == "ok" for word, name in lines}, run.stdout + run.stderr


@pytest.mark.parametrize("name", NAMES)
def test_node(results, name):
    passed, output = results
    assert passed.get(name), output
