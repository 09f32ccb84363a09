"""Runs a page of docs/guide: every block of code on it, in the order of the page.

- A `python` or `toml` block whose first line is a comment with a file's name is written
  to that file, in a folder of its own;
- an `sh` block that starts with `ingle --` starts the server, on free ports in place of
  the page's 8500 and 8501; any other `sh` block is run by a shell;
- a `text` block is what the block before it has to print. One that shows an `Error:` is
  of a command that fails.

Any other language is an error, so that nothing on a page goes unchecked.
"""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path

from conftest import running
from server import BINARY, ROOT

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
STEP_SECONDS = 300


def blocks(page):
    """(language, content) of each block."""
    text = (ROOT / "docs" / "guide" / page).read_text()
    found = [(match[2], textwrap.dedent(match[3])) for match in FENCE.finditer(text)]
    assert found, f"{page} has no code"
    return found


class Page:
    def __init__(self, folder, pythons=None):
        """`pythons` are interpreters of scripts that want another than the tests'."""
        self.folder = Path(folder)
        self.pythons = pythons or {}
        self.bin = self.folder / "bin"
        self.work = self.folder / "work"
        for path in (self.bin, self.work):
            path.mkdir()
        self._program("ingle", BINARY)
        self._program("python", sys.executable)
        self.server = None
        self.said = None
        self.scripts = set()

    def _program(self, name, target):
        # A link would lose the virtual environment that the interpreter belongs to.
        (self.bin / name).write_text(f'#!/bin/sh\nexec {shlex.quote(str(target))} "$@"\n')
        (self.bin / name).chmod(0o755)

    def run(self, page):
        found = blocks(page)
        languages = [language for language, _ in found] + [""]
        with ExitStack() as stack:
            for (language, content), following in zip(found, languages[1:]):
                if language in ("python", "toml"):
                    self._write(content)
                elif language == "text":
                    self._compare(content)
                elif language == "sh" and content.startswith("ingle --"):
                    self._serve(content, stack)
                elif language == "sh":
                    fails = following == "text" and "Error: " in self._next(found, content)
                    self._shell(content, fails)
                else:
                    raise AssertionError(f"{page}: nobody runs a block of {language!r}")
        assert self.server is not None, f"{page} starts no server"
        assert "ask.py" in self.scripts, f"{page} asks nothing"

    @staticmethod
    def _next(found, content):
        return next(b for a, b in zip(found, found[1:]) if a[1] == content)[1]

    def _write(self, content):
        first = content.splitlines()[0]
        name = re.fullmatch(r"# (\S+\.(?:py|toml))", first)
        assert name, f"a block does not name its file: {first}"
        file = self.work / name[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self._ports(content))

    def _ports(self, text):
        if "localhost:850" not in text:
            return text
        assert self.server, "a client stands before its server"
        text = text.replace("localhost:8500", f"localhost:{self.server.grpc_port}")
        return text.replace("localhost:8501", f"localhost:{self.server.rest_port}")

    def _shell(self, content, fails):
        self.scripts.update(re.findall(r"^python (\S+\.py)", content, re.MULTILINE))
        for script, interpreter in self.pythons.items():
            content = content.replace(f"python {script}", f"{shlex.quote(interpreter)} {script}")
        environment = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._ports(content)],
            cwd=self.work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
        )
        told = f"{content}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        assert (done.returncode != 0) == fails, told
        self.said = done.stderr if fails else done.stdout

    def _compare(self, content):
        assert self.said is not None and self.said.split() == content.split(), self.said

    def _serve(self, content, stack):
        command = shlex.split(content.replace("$PWD", str(self.work)))
        ports = ["--port=8500", "--rest_api_port=8501"]
        assert command[1:3] == ports, "the page's clients know these ports"
        names = sorted(path.parent.parent.name for path in self.work.glob("models/*/*/model.onnx"))
        log = self.folder / "log"
        self.server = stack.enter_context(running(command[3:], set(names), log))
