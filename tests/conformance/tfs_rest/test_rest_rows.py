"""Every row of the contract has a case, or a reason why not; every case has a row."""

import re
import tomllib

import pytest

import rest_case
from rest_case import HERE, FormatError, all_cases, load, made, parse_json, read_request, same

ROOT = HERE.parents[2]
DATA = tomllib.loads((HERE / "rows.toml").read_text(encoding="utf-8"))
ELSEWHERE, UNREACHABLE = DATA.pop("elsewhere"), DATA.pop("unreachable")
ROWS = {f"{section}-{number}" for section, rows in DATA.items() for number in rows}
DIFFERENCES = ROOT / "docs" / "reference" / "tf-serving-differences.md"


def test_every_row_has_a_case_or_a_reason():
    told = ELSEWHERE.keys() | UNREACHABLE.keys()
    assert told <= ROWS
    assert not ELSEWHERE.keys() & UNREACHABLE.keys()
    covered = {load(folder).row for folder in all_cases()}
    assert sorted(ROWS - covered - told) == []
    assert sorted(covered - ROWS) == []


@pytest.mark.parametrize("row", sorted(ELSEWHERE))
def test_the_test_that_has_a_row_is_there(row):
    path, name = ELSEWHERE[row]
    text = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"\b(?:fn|def) {name}\(", text)
    assert name.startswith("test_") or re.search(rf"::test\]\n.*fn {name}\(|#\[test\]\n.*fn {name}\(", text)


def test_what_differs_is_documented():
    documented = DIFFERENCES.read_text(encoding="utf-8")
    named = set()
    for folder in all_cases():
        for request, _ in load(folder).exchanges:
            named |= {request.differs} - {None}
    assert named
    assert [text for text in sorted(named) if text not in documented] == []


def test_values_are_compared_strictly():
    for a, b in (("1", "1.0"), ("0.0", "-0.0"), ("[1]", "[1, 1]"), ('{"a": 1}', "{}"), ("true", "1")):
        assert not same(parse_json(a), parse_json(b))
        assert same(parse_json(a), parse_json(a))
    assert same(parse_json("[NaN, -Infinity]"), parse_json("[NaN, -Infinity]"))
    with pytest.raises(ValueError):
        parse_json('{"a": 1, "a": 1}')


def test_what_is_no_case_is_refused(tmp_path):
    assert made("b'a' + b'[' * 3") == b"a[[["
    for recipe in ("open('x')", "__import__('os')", "gzip(b'', 1)", "'text'"):
        with pytest.raises(FormatError):
            made(recipe)
    for text in ("# nothing\n", "GET\n", "@server other\nGET /\n", "@bdy b''\nGET /\n", "GET /\nno header\n"):
        with pytest.raises(FormatError):
            read_request(text)
    for text in ("200\n", "200\n@empty\n@error x\n", "200\n@error\n"):
        with pytest.raises(FormatError):
            rest_case.read_response(text)
    folder = tmp_path / "2.8-01-stray"
    folder.mkdir()
    (folder / "request").write_text("GET /\n")
    (folder / "response").write_text("404\n@empty\n")
    assert load(folder).row == "2.8-01"
    (folder / "request.3").write_text("GET /\n")
    with pytest.raises(FormatError):
        load(folder)
