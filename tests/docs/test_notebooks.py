"""The notebooks of the docs run from the first cell to the last, and show what their pages show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

PLACE = Path(__file__).parents[2] / "docs" / "notebooks"
NUMBER = r"-?\d+\.?\d*(e-?\d+)?"


def read(name):
    return nbformat.read(PLACE / f"{name}.ipynb", as_version=4)


def rerun(name, folder):
    """The notebook after it has been run anew, in an empty folder."""
    notebook = read(name)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    place = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=place).execute()
    return notebook


def texts(notebook):
    """What each cell prints or returns as text, with numbers left out."""
    outputs = [
        "".join(output.get("text") or output.get("data", {}).get("text/plain", ""))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    ]
    return ["".join(re.sub(NUMBER, "0", text).split()) for text in outputs]


def kinds(notebook):
    return {
        kind for c in notebook.cells for o in c.get("outputs", []) for kind in o.get("data", {})
    }


def test_the_algorithm(tmp_path):
    ran = rerun("algorithm", tmp_path)
    assert texts(ran) == texts(read("algorithm"))
    assert len(texts(ran)) > 3


def test_the_first_team(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")  # it trains for longer than it compiles
    ran = rerun("first-team", tmp_path)
    assert texts(ran) == texts(read("first-team"))
    (learned,) = re.findall(r"best checkpoint: ([\d.]+) of 1", str(ran.cells))
    assert float(learned) > 0.8
    assert {"image/png", "image/gif"} <= kinds(ran) & kinds(read("first-team"))


def test_there_is_no_other():
    assert {path.stem for path in PLACE.glob("*.ipynb")} == {"algorithm", "first-team"}
