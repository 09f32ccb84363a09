"""What hostile clients cost the others: a table of latencies, alone and beside each attack.

  target/venv/bin/python tests/faults/bench_attacks.py [seconds]

An attack is a process of its own; four clients that call without a pause are another.
"""

import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from types import SimpleNamespace

import attacks
from conftest import Models, serving
from load import Load, grpc_kept, rest_kept

ATTACKS = {attack.__name__: attack for attack in attacks.SLOW + attacks.NEVER_READING + attacks.FLOODS}


@contextmanager
def apart(name, server):
    """The attack in another process; gives a function that ends it and tells the connections ended."""
    if name == "nobody":
        yield lambda: 0
        return
    command = [sys.executable, __file__, "--attack", name, str(server.rest_port), str(server.grpc_port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        yield lambda: int(process.communicate()[0])


def attack(name, rest_port, grpc_port):
    server = SimpleNamespace(rest_port=int(rest_port), grpc_port=int(grpc_port))
    with ATTACKS[name](server) as gone:
        print("begun", flush=True)
        sys.stdin.read()
        print(gone())


def measure(server, name, seconds):
    load = Load(server)
    with apart(name, server) as end:
        load.start(grpc_kept, grpc_kept, rest_kept, rest_kept)
        sleep(seconds)
        load.stop()
        ended = end()
    times = sorted(1000 * each for each in load.seconds)
    middle, last = times[len(times) // 2], times[len(times) * 99 // 100]
    failed = len(load.failed) + load.not_accepted
    rate = load.answered / seconds
    print(f"| {name} | {rate:.0f} | {middle:.1f} | {last:.1f} | {failed} | {ended} |", flush=True)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with serving(Models(folder), folder / "log") as server:
            print("| beside | answers/s | median ms | p99 ms | failed | connections ended |")
            print("| --- | --- | --- | --- | --- | --- |")
            for name in ["nobody", *ATTACKS, "nobody"]:
                measure(server, name, seconds)


if __name__ == "__main__":
    attack(*sys.argv[2:]) if sys.argv[1:2] == ["--attack"] else main()
