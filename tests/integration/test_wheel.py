"""What a user installs: the wheel has all of the package, and works in a bare environment."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PAGE = (ROOT / "docs" / "first-run.md").read_text()
TINY = "--seeds 0 --total-steps 64 --num-envs 4 --rollout-length 8 --width 8 --num-minibatches 1 "
TINY += "--update-epochs 1 --num-evaluations 1 --eval-episodes 2 --no-stagger"
CUT = {"--episodes 1000": "--episodes 10"}
PLAIN = {"COLUMNS": "100", "PYTHONWARNINGS": "error", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


def run(*command, cwd, **environment):
    """A command that sees nothing of this checkout."""
    variables = {
        name: os.environ[name] for name in ("HOME", "PATH", "MARSRL_CACHE") if name in os.environ
    }
    result = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=variables | PLAIN | environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with the wheel and the sdist, as `make dist` builds them."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT, PYTHONPATH=PATHS)
    return folder


PATHS = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))


def names_of(dist):
    with zipfile.ZipFile(dist / f"marsrl-{VERSION}-py3-none-any.whl") as wheel:
        in_wheel = set(wheel.namelist())
    with tarfile.open(dist / f"marsrl-{VERSION}.tar.gz") as sdist:
        in_sdist = {name.partition("/")[2] for name in sdist.getnames()}
    return in_wheel, in_sdist


def test_every_file_of_the_package_is_in_both(dist):
    in_wheel, in_sdist = names_of(dist)
    files = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "marsrl").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    needed = ("py.typed", "bench/suites/nano.toml", "report/templates/page.html.j2")
    assert {f"marsrl/{name}" for name in needed} <= files
    information = {name for name in in_wheel if name.startswith(f"marsrl-{VERSION}.dist-info/")}
    assert in_wheel - information == files
    assert {name.removeprefix("src/") for name in in_sdist if name.startswith("src/")} == files


def test_what_else_is_in_them(dist):
    in_wheel, in_sdist = names_of(dist)
    assert f"marsrl-{VERSION}.dist-info/licenses/LICENSE" in in_wheel
    root = {name for name in in_sdist if not name.startswith("src/")}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= root
    assert not {name for name in root if name.startswith(("docs", "tests", "runs"))}


@pytest.fixture(scope="module")
def bare(dist, tmp_path_factory):
    """An environment with the wheel; of what it depends on, it sees this environment's."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    wheel = dist / f"marsrl-{VERSION}-py3-none-any.whl"
    python = folder / "bin" / "python"
    options = ("--no-deps", "--no-index", "--disable-pip-version-check")
    run(
        sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=folder,
        PYTHONWARNINGS="default",
    )  # fmt: skip
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(PATHS.replace(os.pathsep, "\n"))
    return folder


def test_the_first_run_works_from_the_wheel(bare, tmp_path):
    python, marsrl = bare / "bin" / "python", bare / "bin" / "marsrl"
    where = run(python, "-c", "import marsrl; print(marsrl.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(bare)
    first, then, again, *_ = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    said = {}
    for line in (first + then + again).splitlines():
        for long, short in CUT.items():
            line = line.replace(long, short)
        program, command, *words = shlex.split(line, comments=True)
        assert program == "marsrl"
        if command == "train":
            words += shlex.split(TINY)
        # jumanji warns as it is imported, which is not for this test to say
        said[command] = run(marsrl, command, *words, cwd=tmp_path, PYTHONWARNINGS="default")
    assert list(said) == ["--version", "envs", "train", "evaluate", "render", "doctor", "resume"]
    assert said["--version"] == f"marsrl {VERSION}\n"
    assert "lbf/8x8-2p-2f-coop" in said["envs"]
    assert "over 10 episodes" in said["evaluate"]
    assert "is sound" in said["doctor"]
    for made in ("learning_curve.png", "episode.gif", "episode-3.gif"):
        assert (tmp_path / "runs" / "first" / made).stat().st_size > 0


def test_suites_are_found_in_the_wheel(bare, tmp_path):
    command = ("bench", "plan", "nano", "--no-measure")
    assert "240 runs" in run(bare / "bin" / "marsrl", *command, cwd=tmp_path)
