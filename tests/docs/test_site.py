"""The documentation's site builds with every link and page in its place; a broken one fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    result = build(ROOT / "mkdocs.yml", folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.slow
def test_it_builds_without_a_warning(site):
    for page in ("index", "install", "notebooks/first-team", "changelog", "nano/index"):
        assert (site / f"{page}.html").stat().st_size > 5_000


@pytest.mark.slow
def test_the_reference_has_what_the_package_offers(site):
    import marsrl

    pages = "".join(path.read_text() for path in (site / "reference").glob("*.html"))
    for name in marsrl.__all__:
        assert f'id="marsrl.{name}"' in pages, name


@pytest.mark.slow
def test_the_reference_has_every_command(site):
    page = (site / "reference" / "commands.html").read_text()
    for command in ("marsrl train", "marsrl check-env", "marsrl bench run", "marsrl bench export"):
        assert f"<code>{command}</code>" in page
    assert "--total-steps" in page


@pytest.mark.slow
def test_pages_ask_no_other_server(site):
    for path in site.rglob("*.html"):
        if path.parent.name not in ("nano", "lite"):  # which have a test of their own
            for attribute in ('src="http', "src='http", 'rel="stylesheet" href="http'):
                assert attribute not in path.read_text(), path


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
