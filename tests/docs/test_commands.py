"""Every command line that the docs show can be typed: it parses, and names what is there."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from marsrl import cli
from marsrl.commandline import parse

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))
CODE = re.compile(r"^```sh\n(.*?)^```|(?<!`)`((?:marsrl|make|pip|python) [^`]*)`", re.M | re.S)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PLACEHOLDERS = {"$SLURM_ARRAY_TASK_ID": "1", "--NAME VALUE": "--width 8", "COMMAND": "train"}

EXPORTED = {"taken/play.py": "src/marsrl/takeaway/files/play.py"}
"""Scripts that a command writes, and what they are copies of."""


def text_of(path):
    if path.suffix == ".md":
        return path.read_text()
    cells = json.loads(path.read_text())["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def lines_of(path):
    """The command lines of a page, from its `sh` blocks and from single words in backticks."""
    for block, words in CODE.findall(text_of(path)):
        text = " ".join(words.split()) or block.replace("\\\n", " ")
        yield from (line.strip() for line in text.splitlines())


def commands():
    """(page, words) of every command line; several on one line are told apart."""
    for path in [*PAGES, *NOTEBOOKS]:
        for line in lines_of(path):
            for old, new in PLACEHOLDERS.items():
                line = line.replace(old, new)
            line = re.sub(r" --config( \S+)?", "", line)  # a file that only the reader has
            words: list[str] = []
            for word in [*shlex.split(line, comments=True), "&&"]:
                if word not in ("&&", "|", ";"):
                    words.append(word)
                elif words:
                    yield path.relative_to(ROOT).as_posix(), tuple(words)
                    words = []


ALL = sorted(set(commands()))


def of(program):
    return [(page, words) for page, words in ALL if program in words]


def test_there_are_many():
    assert len(of("marsrl")) > 60
    assert len({page for page, _ in ALL}) > 12


def ids(found):
    return [f"{page}: {' '.join(words)}"[:100] for page, words in found]


@pytest.mark.parametrize(("page", "words"), of("marsrl"), ids=ids(of("marsrl")))
def test_marsrl_takes_it(page, words, capsys):
    args = list(words[words.index("marsrl") + 1 :])
    if args == ["--version"]:
        return
    if all(re.fullmatch("[a-z-]+", word) for word in args):
        args.append("--help")  # a command that is only named
    try:
        parse(cli._commands(args), args, "")
    except SystemExit as end:  # --help
        assert end.code == 0  # noqa: PT017
        assert "usage: marsrl" in capsys.readouterr().out


@pytest.mark.parametrize(("page", "words"), of("make"), ids=ids(of("make")))
def test_make_has_the_target(page, words):
    target = words[words.index("make") + 1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("page", "words"), of("python"), ids=ids(of("python")))
def test_scripts_and_their_options_are_there(page, words):
    script = words[words.index("python") + 1]
    if script == "-m":
        assert words[words.index("-m") + 1] in ("venv", "marsrl")
        return
    source = (ROOT / EXPORTED.get(script, script)).read_text()
    for word in words:
        if word.startswith("--"):
            assert word.removeprefix("--").replace("-", "_") in source, word


def test_extras_are_there():
    found = [re.findall(r"(?:marsrl|\.)\[([\w,]+)\]", text_of(p)) for p in [*PAGES, *NOTEBOOKS]]
    names = {name for page in found for match in page for name in match.split(",")}
    assert {"envs", "bench", "ray"} <= names
    assert names <= set(PROJECT["optional-dependencies"])


def test_the_version_is_one():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [PROJECT["version"]]
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()
