#!/usr/bin/env python3
"""Runs ONNX's node tests through `ingle model test` and holds the result to what is committed.

  conformance.py [--device DEVICE] [--like DEVICE] [--sample] [--update] [--ingle FILE]

The tests are those of the onnx package; groups.tsv says which group each is in:
A float32, int64 and bool; B with int32 too; C with any other integer, float16 or float64.

expected/DEVICE.txt   the tests that must pass: fewer are an error, more are told. --update writes it
                      and the page of the docs, docs/reference/conformance.md.
--like DEVICE         hold it to another device's list, of which it must pass what that passes.
--sample              only the tests of sample.txt: for a device that is slow.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import onnx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
NODE_TESTS = Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"
PAGE = ROOT / "docs" / "reference" / "conformance.md"
COUNTED = ["A", "B", "C"]
REST = "other"


def lines(path):
    return path.read_text().split() if path.exists() else []


def groups():
    rows = [line.split("\t") for line in (HERE / "groups.tsv").read_text().splitlines()[1:]]
    return {name: group for name, group in rows}


def run(ingle, device, names):
    """The outcome of each test: (pass | fail | unsupported, why)."""
    folders = [str(NODE_TESTS / name) for name in names] if names else [str(NODE_TESTS)]
    command = [ingle, "model", "test", "--device", device, "--format", "json", *folders]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"{ingle} ended with {done.returncode}")
    found = (json.loads(line) for line in done.stdout.splitlines())
    return {row["test"]: (row["outcome"], row.get("why")) for row in found if "test" in row}


def check(passed, expected):
    lost, new = sorted(expected - passed), sorted(passed - expected)
    for name in lost:
        print(f"no longer passes: {name}")
    # Another processor may round one of these the other way, so they are no error.
    for name in new:
        print(f"passes and is not in the list: {name} (to list it: --update)")
    return not lost


def counts(outcomes, group_of):
    table = defaultdict(Counter)
    for name, (outcome, _) in outcomes.items():
        group = group_of.get(name, REST)
        table[group if group in COUNTED else REST][outcome] += 1
    return table


def print_counts(table):
    for group in [*COUNTED, REST]:
        row = table[group]
        print(f"group {group}: {row['pass']} passed, {row['fail']} failed, "
              f"{row['unsupported']} unsupported of {row.total()}")


def table_lines(table):
    yield "| group | tests | pass | fail | unsupported |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    names = {"A": "A: float32, int64, bool", "B": "B: with int32", "C": "C: any integer, float16, float64",
             REST: "other: strings, sequences, training, 8-bit and 4-bit floats"}
    for group, name in names.items():
        row = table[group]
        yield f"| {name} | {row.total()} | {row['pass']} | {row['fail']} | {row['unsupported']} |"
    total = sum(table.values(), Counter())
    yield f"| all | {total.total()} | {total['pass']} | {total['fail']} | {total['unsupported']} |"


def reasons(outcomes, kind):
    by_reason = defaultdict(list)
    for name, (outcome, why) in sorted(outcomes.items()):
        if outcome == kind:
            by_reason[why].append(name)
    for why, names in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        yield f"- {why}: {', '.join(f'`{name}`' for name in names)}"


def section(device, outcomes, group_of, cpu):
    yield f"## {device}"
    yield ""
    yield from table_lines(counts(outcomes, group_of))
    yield ""
    if cpu is None:
        yield "Wrong answers:"
        yield ""
        yield from reasons(outcomes, "fail")
        yield ""
        yield "Refused while the model is loaded, or when it is asked for:"
        yield ""
        yield from reasons(outcomes, "unsupported")
        yield ""
        return
    behind = {n: o for n, o in outcomes.items() if o[0] != "pass" and cpu.get(n, ("",))[0] == "pass"}
    yield f"Pass on the CPU and not here ({len(behind)}):"
    yield ""
    for kind in ("fail", "unsupported"):
        yield from reasons(behind, kind)
    yield ""


def write_page(results, group_of):
    parts = [
        "# ONNX conformance",
        "",
        "The node tests of the `onnx` 1.22.0 package, each on the device named, with the tolerances of",
        "ONNX's reference runner (relative 1e-3, absolute 1e-7; types and shapes must be equal). Made by",
        "",
        "    target/venv/bin/python tests/conformance/onnx/conformance.py --update",
        "    target/venv/bin/python tests/conformance/onnx/conformance.py --update --device vulkan",
        "",
        "after `tests/setup` and `cargo build --release` (for Vulkan with `--features vulkan`). The tests",
        "fail where one that is counted here no longer passes.",
        "",
    ]
    cpu = results.get("cpu")
    for device, outcomes in results.items():
        parts += section(device, outcomes, group_of, None if device == "cpu" else cpu)
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text("\n".join(parts).rstrip() + "\n")


def update(device, outcomes, group_of):
    """The page needs the outcomes on all devices, so they are kept beside the lists."""
    store = HERE / "expected"
    store.mkdir(exist_ok=True)
    passed = sorted(name for name, (outcome, _) in outcomes.items() if outcome == "pass")
    (store / f"{device}.txt").write_text("".join(f"{name}\n" for name in passed))
    behind = {n: o for n, o in sorted(outcomes.items()) if o[0] != "pass"}
    (store / f"{device}.json").write_text(json.dumps(behind, indent=1) + "\n")
    results = {}
    for path in sorted(store.glob("*.txt")):
        known = {name: ("pass", None) for name in lines(path)}
        known |= {n: tuple(o) for n, o in json.loads(path.with_suffix(".json").read_text()).items()}
        results[path.stem] = known
    write_page(results, group_of)


def main():
    parser = argparse.ArgumentParser(description="Runs ONNX's node tests.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--like", help="the device whose list counts")
    parser.add_argument("--sample", action="store_true", help="only the tests of sample.txt")
    parser.add_argument("--update", action="store_true", help="commit to what passes now")
    parser.add_argument("--ingle", default=str(ROOT / "target" / "release" / "ingle"))
    arguments = parser.parse_args()

    group_of = groups()
    sample = lines(HERE / "sample.txt") if arguments.sample else []
    outcomes = run(arguments.ingle, arguments.device, sample)
    passed = {name for name, (outcome, _) in outcomes.items() if outcome == "pass"}
    print_counts(counts(outcomes, group_of))
    if arguments.update and not sample:
        update(arguments.device, outcomes, group_of)
        return 0
    expected = set(lines(HERE / "expected" / f"{arguments.like or arguments.device}.txt"))
    expected = expected & set(sample) if sample else expected
    for name in sorted(expected - passed):
        print(f"{name}: {outcomes.get(name, ('missing', None))}")
    met = check(passed & expected if arguments.like else passed, expected)
    print(f"{len(passed)} passed on {arguments.device}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
