"""docs/architecture.md is as the code is; tests/unit/test_imports.py holds its rules."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from rooms import PAGE, SOURCE, picture, quoted, read_rooms

ROOT = Path(__file__).parents[2]
FLOW = PAGE.partition("## The way of the data")[2].partition("\n## ")[0]
CHANGES = PAGE.partition("## Ten changes")[2]


def test_the_picture_is_that_of_the_table():
    (drawn,) = re.findall(r"^```text\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)
    assert drawn == picture(read_rooms())


@pytest.mark.parametrize("name", sorted(set(quoted(FLOW))))
def test_the_way_of_the_data_names_what_there_is(name):
    module, _, attribute = name.rpartition(".")
    try:
        import_module(f"marsrl.{name}")
    except ModuleNotFoundError:
        assert hasattr(import_module(f"marsrl.{module}"), attribute)


def test_the_changes_name_rooms_and_files_that_there_are():
    rows = [line.split("|")[1:-1] for line in CHANGES.splitlines() if line.startswith("| ")][1:]
    rows = [[cell.strip() for cell in row] for row in rows if row[0].strip("-")]
    assert len(rows) == 10
    assert {room for _, room, _, _ in rows} <= set(read_rooms())
    for path in quoted(CHANGES):
        if "/" in path or path.endswith(".py"):
            places = (ROOT.glob(path), SOURCE.glob(path), SOURCE.glob(f"*/{path}"))
            assert any(map(list, places)), path
