"""What hostile clients cost the others: a table of latencies, alone and beside each attack.

  target/venv/bin/python tests/faults/bench_attacks.py [seconds]
"""

import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import attacks
from conftest import Models, serving
from load import Load, grpc_kept, rest_kept


@contextmanager
def nobody(server):
    yield lambda: 0


def measure(server, attack, seconds):
    load = Load(server)
    with attack(server) as gone:
        load.start(grpc_kept, grpc_kept, rest_kept, rest_kept)
        sleep(seconds)
        load.stop()
        ended = gone()
    times = sorted(1000 * each for each in load.seconds)
    middle, last = times[len(times) // 2], times[len(times) * 99 // 100]
    failed = len(load.failed) + load.not_accepted
    rate = load.answered / seconds
    print(f"| {attack.__name__} | {rate:.0f} | {middle:.1f} | {last:.1f} | {failed} | {ended} |", flush=True)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with serving(Models(folder), folder / "log") as server:
            print("| beside | answers/s | median ms | p99 ms | failed | connections ended |")
            print("| --- | --- | --- | --- | --- | --- |")
            for attack in [nobody, *attacks.SLOW, *attacks.NEVER_READING, *attacks.FLOODS, nobody]:
                measure(server, attack, seconds)


if __name__ == "__main__":
    main()
