"""The documentation's site builds with every link and page in its place; a broken one fails."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from bench_results import NANO_TASKS, make_results
from marsrl.bench.results import write

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")

ROOT = Path(__file__).parents[2]


def build(config, out):
    """Builds as `make docs` does, without drawing the benchmarks' pages, which takes minutes."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", out],
        env=os.environ | {"MARSRL_SITE": "quick", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    result = build(ROOT / "mkdocs.yml", folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_it_builds_without_a_warning(site):
    for page in ("index", "install", "notebooks/first-team", "changelog"):
        assert (site / f"{page}.html").stat().st_size > 5_000
    assert (site / "fair" / "index.html").exists()


def test_notebooks_show_their_pictures(site):
    page = (site / "notebooks" / "first-team.html").read_text()
    assert "IPython.core.display" not in page
    assert page.count("data:image/gif;base64,R0lGOD") == 1
    assert "data:image/png;base64," in page


def test_the_reference_has_what_the_package_offers(site):
    import marsrl

    pages = "".join(path.read_text() for path in (site / "reference").glob("*.html"))
    for name in marsrl.__all__:
        assert f'id="marsrl.{name}"' in pages, name


def test_the_reference_has_every_command(site):
    page = (site / "reference" / "commands.html").read_text()
    for command in ("marsrl train", "marsrl check-env", "marsrl bench run", "marsrl bench export"):
        assert f"<code>{command}</code>" in page
    assert "--total-steps" in page


def test_pages_ask_no_other_server(site):
    for path in site.rglob("*.html"):
        if not (ROOT / "docs" / path.parent.name / "runs.json").exists():  # those have a test
            for attribute in ('src="http', "src='http", 'rel="stylesheet" href="http'):
                assert attribute not in path.read_text(), path


@pytest.fixture
def hook(monkeypatch, tmp_path):
    spec = spec_from_file_location("docs_site", ROOT / "docs_site.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    return module


def test_the_page_of_a_benchmark_is_drawn_from_its_tables_once(hook, tmp_path, monkeypatch):
    folder = tmp_path / "tables"
    folder.mkdir()
    few = make_results(lambda *_: 0.5, NANO_TASKS[:1], ("mars", "mappo"))
    write(few, folder)
    monkeypatch.setenv("MARSRL_SITE", "quick")
    assert hook.drawn(folder) == []
    monkeypatch.delenv("MARSRL_SITE")
    made = hook.drawn(folder)
    assert {"index.html", "scores.svg", "scores.png"} <= {path.name for path in made}
    assert all(path.stat().st_size > 1000 for path in made)
    monkeypatch.setattr("marsrl.report.page.write_page", None)  # not again
    assert hook.drawn(folder) == made
    (folder / "runs.json").write_text((folder / "runs.json").read_text() + " ")
    with pytest.raises(TypeError, match="not callable"):  # other tables are drawn anew
        hook.drawn(folder)


def test_links_of_the_root_are_the_sites(hook):
    text = "[a](docs/runs.md#x) ![b](docs/images/b.png) [c](CHANGELOG.md) [d](README.md)"
    page = "[a](runs.md#x) ![b](images/b.png) [c](changelog.md) [d](index.md)"
    assert hook.as_page(text) == page


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ("[a page](nowhere.md)", "nowhere.md"),
        ("[a place](index.md#nowhere)", "nowhere"),
        ("![a picture](nowhere.png)", "nowhere.png"),
    ],
)
def test_what_is_broken_fails(tmp_path, page, fault):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n{page}\n")
    lines = (ROOT / "mkdocs.yml").read_text().partition("\nvalidation:")[2]
    (tmp_path / "mkdocs.yml").write_text(f"site_name: x\nvalidation:{lines}")
    result = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert result.returncode == 1
    assert fault in result.stderr
