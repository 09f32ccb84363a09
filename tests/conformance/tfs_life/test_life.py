"""TensorFlow Serving's configuration and life of versions, case by case. Run with:

  target/venv/bin/python -m pytest tests/conformance/tfs_life

README.md tells how a case is written; rows.txt what there has to be a case for.
"""

import os
import re
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "clients"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import pytest  # noqa: E402

import case_file  # noqa: E402
from steps import World  # noqa: E402

CASES = case_file.all_cases()


def words(text):
    """Without what Markdown adds."""
    return re.sub(r"[`*]", "", text)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.folder.name)
def test_case(case, tmp_path):
    world = World(tmp_path, case.folder)
    done = []
    try:
        for step in case.steps:
            done.append(f"{step.line}: {step.text}")
            world.act(step.verb, step.words, step.expected)
        done.append("the server stops")
        world.close()
    except BaseException as failure:
        world.kill()
        log = world.log.read_text(errors="replace")[-6000:] if world.log.exists() else ""
        steps = "\n".join(done)
        raise AssertionError(f"{case.folder.name}\n{steps}\n{failure!r}\n\n{log}") from failure


def test_every_row_has_a_case():
    covered = {row for case in CASES for row in case.rows}
    rows = set(case_file.all_rows())
    assert not rows - covered, f"no case: {sorted(rows - covered)}"
    assert not covered - rows, f"no such row: {sorted(covered - rows)}"


def test_every_difference_is_on_the_page_of_differences():
    page = words(case_file.DIFFERENCES.read_text())
    starts = {cells.split(" | ")[0] for cells in re.findall(r"^\| (.*)$", page, re.M)}
    for case in CASES:
        for differs in case.differs:
            assert words(differs) in starts, f"{case.folder.name}: {differs}"
