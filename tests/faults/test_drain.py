"""SIGTERM under load: what was accepted is answered, and the process leaves in time."""

import re
import signal
import subprocess

import pytest

import http1
from conftest import DRAINS, assert_sound
from load import MIXED, Load
from server import STOP_SECONDS, Server


def start(models, log, delay):
    """A server, and how many requests it took to know that it is ready."""
    flags = ["--file_system_poll_wait_seconds=0", f"--drain_delay_seconds={delay}"]
    server = Server([*models.arguments(), *flags], log)
    asked = 0
    while True:
        if server.process.poll() is not None:
            raise RuntimeError(f"exit code {server.process.returncode}\n{server.tail()}")
        try:
            answer = http1.exchange(server.rest_port, http1.request("GET", "/healthz/ready"))
        except ConnectionRefusedError:
            continue
        asked += 1
        if http1.one(answer)[0] == 200:
            return server, asked


def counted(server):
    """The requests whose head the server has read, and those that it has answered."""
    text = server.log.read_text(errors="replace")
    line = re.search(r"stopped drain=Complete requests=(\d+) answered=(\d+)", text)
    assert line, server.tail()
    return int(line[1]), int(line[2])


@pytest.mark.parametrize("drain", range(DRAINS))
def test_no_accepted_request_fails(models, tmp_path, rng, drain):
    server, asked = start(models, tmp_path / "log", delay=0.2 * (drain % 2))
    load = Load(server)
    try:
        load.start(*MIXED)
        load.wait_for(rng.randint(100, 2000), of_each=rng.randint(1, 20))
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(timeout=STOP_SECONDS)
        load.join()
    except (AssertionError, subprocess.TimeoutExpired):
        server.kill()
        raise
    finally:
        server.channel.close()
    assert not load.failed, load.failed
    assert code == 0, server.tail()
    begun, answered = counted(server)
    # Whoever was told nothing had not been read: the clients saw every answer.
    assert begun == answered == load.answered + asked, (begun, answered, load.answered, asked)
    assert_sound(server)
