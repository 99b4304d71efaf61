"""What the documentation's site has besides docs/; a hook of MkDocs, see mkdocs.yml.

- Pages of the repository's root: the README is the first page.
- The benchmarks' pages, drawn from their tables (docs/*/runs.json) and kept in .cache/ by a hash.
- The command line's help.
- The animations of the notebooks.

With MARSRL_SITE=quick nothing is drawn: pages that are not kept are empty.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent
CACHE = ROOT / ".cache" / "site"
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
TABLES = ("runs.json", "episodes.parquet", "curves.parquet")
DRAWN_BY = ("src/marsrl/report", "src/marsrl/bench", "src/marsrl/envs/tasks.py")
COMMANDS = "reference/commands.md"
UNSEEN = "<pre>&lt;IPython.core.display.Image object&gt;</pre>"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what is made here, in place of files of the same name."""
    for source, page in PAGES.items():
        _put(files, File.generated(config, page, content=as_page((ROOT / source).read_text())))
    text = (ROOT / "docs" / COMMANDS).read_text()
    _put(files, File.generated(config, COMMANDS, content=text + "\n".join(command_line())))
    for folder in sorted(tables.parent for tables in ROOT.glob("docs/*/runs.json")):
        for path in drawn(folder):
            name = f"{folder.name}/{path.relative_to(_cache_of(folder)).as_posix()}"
            _put(files, File.generated(config, name, abs_src_path=str(path)))
        if not files.get_file_from_path(page := f"{folder.name}/index.html"):
            files.append(File.generated(config, page, content="Not drawn: this site was quick."))
    return files


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Shows a notebook's animations, of which mkdocs-jupyter shows the name of the class."""
    source = Path(page.file.abs_src_path or "")
    for gif in _animations(source) if source.suffix == ".ipynb" else ():
        image = f'<img alt="animation" src="data:image/gif;base64,{gif}">'
        html = html.replace(UNSEEN, image, 1)
    return html


def _animations(notebook: Path) -> list[str]:
    """The GIFs among a notebook's outputs, in base64."""
    return [
        "".join(output["data"]["image/gif"].split())
        for cell in json.loads(notebook.read_text())["cells"]
        for output in cell.get("outputs", ())
        if "image/gif" in output.get("data", {})
    ]


def as_page(text: str) -> str:
    """A page of the root as one of docs/: its links are from there."""
    for source, page in PAGES.items():
        text = text.replace(f"]({source}", f"]({page}")
    return re.sub(r"\]\(docs/", "](", text)


def drawn(folder: Path) -> list[Path]:
    """The files of a benchmark's page, drawn now unless that has been done."""
    from marsrl.bench.results import read
    from marsrl.report.page import write_page
    from marsrl.report.summary import summarize_benchmark

    cache = _cache_of(folder)
    if not (cache / "index.html").exists():
        if os.environ.get("MARSRL_SITE") == "quick":
            return []
        write_page(summarize_benchmark(read(folder)), cache)
    return sorted(path for path in cache.rglob("*") if path.is_file())


def command_line() -> Iterator[str]:
    """Markdown: the help of every command."""
    for words in ([], *_subcommands([])):
        yield f"## `{' '.join(['marsrl', *words])}`\n\n```text\n{_help(words)}\n```\n"


def _subcommands(words: list[str]) -> Iterator[list[str]]:
    found = re.findall(r"^\W*• ([a-z-]+) ", _help(words), re.MULTILINE)
    for name in found:
        yield [*words, name]
        yield from _subcommands([*words, name])


def _help(words: list[str]) -> str:
    from marsrl import cli

    out, path = io.StringIO(), sys.path.copy()
    before, os.environ["COLUMNS"] = os.environ.get("COLUMNS", ""), "84"
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            cli.main([*words, "--help"])
    finally:
        os.environ["COLUMNS"] = before
        sys.path[:] = path  # the command line adds the current folder
    return out.getvalue().strip()


def _cache_of(folder: Path) -> Path:
    """Named by all that the page depends on."""
    digest = hashlib.sha256()
    for name in TABLES:
        digest.update((folder / name).read_bytes())
    for place in DRAWN_BY:
        for path in sorted(p for p in [ROOT / place, *(ROOT / place).rglob("*")] if p.is_file()):
            if "__pycache__" not in path.parts:
                digest.update(path.read_bytes())
    return CACHE / f"{folder.name}-{digest.hexdigest()[:16]}"


def _put(files: Files, file: File) -> None:
    if there := files.get_file_from_path(file.src_uri):
        files.remove(there)
    files.append(file)
