"""A case's file, taken apart. README.md says how it is written."""

import shlex
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CASES = FOLDER / "cases"
ROWS = FOLDER / "rows.txt"
DIFFERENCES = FOLDER.parents[2] / "docs" / "reference" / "tf-serving-differences.md"


@dataclass
class Step:
    line: int
    text: str
    verb: str
    words: list
    # What follows `->`; None where nothing does.
    expected: str | None


@dataclass
class Case:
    folder: Path
    rows: list
    # A row of the page of differences, by how it begins.
    differs: list
    steps: list


class BadCase(Exception):
    pass


def step_of(line, text):
    action, arrow, expected = text.partition(" -> ")
    verb, *words = shlex.split(action)
    return Step(line, text, verb, words, expected.strip() if arrow else None)


def read(folder):
    case = Case(folder, [], [], [])
    for line, text in enumerate((folder / "case").read_text().splitlines(), 1):
        text = text.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("row: "):
            case.rows.append(text.removeprefix("row: "))
        elif text.startswith("differs: "):
            case.differs.append(text.removeprefix("differs: "))
        else:
            case.steps.append(step_of(line, text))
    if not case.rows or not case.steps:
        raise BadCase(f"{folder.name}: a case needs rows and steps")
    return case


def all_cases():
    return [read(folder) for folder in sorted(CASES.iterdir()) if folder.is_dir()]


def all_rows():
    """What there has to be a case for: name and text."""
    lines = [line.strip() for line in ROWS.read_text().splitlines()]
    return dict(
        line.split(maxsplit=1) for line in lines if line and not line.startswith("#")
    )
