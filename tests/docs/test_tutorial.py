"""Every block of the pages on one's own environment, run in order in an empty folder, cut short."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from commands import STRICT
from marsrl.envs.check import NonconformingEnvironment, check_env

DOCS = Path(__file__).parents[2] / "docs"
PAGE = "".join((DOCS / name).read_text() for name in ("your-environment.md", "outside-jax.md"))
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {text.split()[1]: text for _, text in BLOCKS if re.match(r"# \w+\.py\n", text)}
SOURCE = FILES["levers.py"]
NUM_STEPS = r"(total[_-]steps[ =])[\d_]+"

RUN = """
import json, shlex, sys
from marsrl.cli import main
names = {}
for language, text in json.loads(sys.stdin.read()):
    if language == "python":
        exec(text, names)
    if language == "sh":
        for line in text.splitlines():
            program, *args = shlex.split(line)
            assert program == "marsrl"
            main(args)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the files of the page lie, and its entry points as an installation would leave them."""
    folder = tmp_path_factory.mktemp("tutorial")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (toml,) = (tomllib.loads(text) for language, text in BLOCKS if language == "toml")
    ((group, points),) = toml["project"]["entry-points"].items()
    installed = folder / "levers-0.1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: levers\nVersion: 0.1\n")
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (installed / "entry_points.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def output(folder):
    """What all blocks print; they run in one process, so that it imports and compiles once."""
    blocks = [
        (language, re.sub(NUM_STEPS, r"\g<1>1", text))
        for language, text in BLOCKS
        if text not in FILES.values()
    ]
    process = subprocess.run(
        [sys.executable, *STRICT, "-c", RUN],
        input=json.dumps(blocks),
        cwd=folder,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def levers():
    return load(SOURCE)


def load(source: str) -> ModuleType:
    module = ModuleType("levers")
    exec(compile(source, "levers.py", "exec", dont_inherit=True), vars(module))
    return module


def test_the_budgets_are_cut():
    run = [text for language, text in BLOCKS if language != "console"]  # those need more packages
    assert sum(len(re.findall(NUM_STEPS, text)) for text in run) == 3


def test_every_block_runs(output, folder):
    assert "levers:Levers keeps to the interface" in output
    assert "levers/long keeps to the interface" in output
    assert re.search(r"levers/short +levers:Levers", output)
    assert re.search(r"levers/long +levers:long_corridor", output)
    assert "read as one row of float32: corridor (1, 9, 2), place (2,)" in output
    assert "num_agents=2" in output  # overcooked's spec
    assert "pettingzoo:meeting:Meeting keeps to the interface" in output
    assert "after 6,400 steps" in output  # the evaluation
    for run in ("levers", "levers-again"):
        log = (folder / "runs" / run / "metrics.jsonl").read_text()
        (final,) = (row for row in map(json.loads, log.splitlines()) if row["kind"] == "final")
        assert 0 <= final["opened"] <= 1
    assert (folder / "levers.gif").read_bytes().startswith(b"GIF")


def test_the_failure_that_the_page_shows():
    late = SOURCE.replace("state.step >= self.max_steps", "state.step > self.max_steps")
    assert late != SOURCE
    (shown,) = (text for language, text in BLOCKS if language == "text")
    with pytest.raises(NonconformingEnvironment) as caught:
        check_env(load(late).Levers())
    assert str(caught.value) == shown.strip()


def test_the_game_is_free_of_the_trap_that_the_page_names(levers):
    assert check_env(levers.Levers()) == ()


def test_perfect_play_is_worth_what_the_page_says(levers):
    """Both walk to their levers, whoever is nearer, and the last to arrive decides the time."""
    last, starts = levers.Levers().num_cells - 1, range(levers.Levers().num_cells)
    lengths = [1 + min(max(a, last - b), max(b, last - a)) for a, b in product(starts, repeat=2)]
    assert f"perfect play would reach {1 - 0.02 * np.mean(lengths):.2f}" in PAGE


def test_the_picture(levers):
    state = levers.State(np.array([2, 0]), np.bool_(False), np.int32(0))
    picture = levers.Levers().draw(state)
    assert (picture.shape, picture.dtype) == ((72, 216, 3), np.uint8)
    cells = picture[12::24, 12::24]
    assert cells[0, 2].tolist() == [230, 160, 0]
    assert cells[1, 0].tolist() == [0, 115, 180]
