"""How JAX is set up by the commands, and by whoever trains from Python."""

import os
import subprocess
import sys
import warnings

import jax
import pytest

import marsrl
from marsrl.config import Layout
from marsrl.devices import startup
from marsrl.errors import UserError

PROGRAM = """
from marsrl.devices.startup import configure_jax
configure_jax(1)
import jax
print(jax.jit(lambda x: 2 * x + 1)(20.5))
"""


def start(cache):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"MARSRL_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == ("42.0\n", "")


def test_without_a_home_programs_are_kept_where_one_says_or_nowhere(tmp_path):
    setup = "import os; os.path.expanduser = lambda path: path\n"
    say = "print(jax.config.jax_compilation_cache_dir)"
    for given, kept in ((str(tmp_path), str(tmp_path)), ("", "None")):
        ended = subprocess.run(
            [sys.executable, "-c", f"{setup}{PROGRAM}\n{say}"],
            env={name: x for name, x in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
            | {"MARSRL_CACHE": given},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ended.stdout == f"42.0\n{kept}\n"


def test_a_damaged_program_is_compiled_anew_without_a_word(tmp_path):
    start(tmp_path)
    programs = {path: path.read_bytes() for path in tmp_path.glob("jit__lambda*-cache")}
    assert programs
    for path, content in programs.items():
        path.write_bytes(content[: len(content) // 2])
    start(tmp_path)
    for path, content in programs.items():
        assert len(path.read_bytes()) > len(content) // 2


def test_what_jax_was_begun_with_stays(monkeypatch):
    monkeypatch.delenv("MARSRL_CACHE")  # its folder is JAX's for all tests
    monkeypatch.setattr(startup.os.path, "expanduser", lambda path: path)
    assert len(jax.devices("cpu")) == 1  # from now on
    marsrl.configure_jax(cores=1)  # a cell of a notebook is run again
    monkeypatch.setattr(startup, "num_cores", lambda: 8)
    with pytest.raises(UserError, match=r"^JAX is in use already, with 1 CPU devices, .* have 8"):
        marsrl.configure_jax()


@pytest.mark.parametrize(
    ("layout", "cores", "idle"),
    [
        (Layout(2, 4, None), 2, True),
        (Layout(1, 4, None), 16, True),  # environments are spread too
        (Layout(3, 1, None), 2, False),  # three seeds cannot share two cores
        (Layout(2, 4, 1), 2, False),  # as it was asked for
        (Layout(2, 4, None), 1, False),
    ],
)
def test_idle_cores_are_worth_a_warning(monkeypatch, layout, cores, idle):
    monkeypatch.setattr(startup, "num_cores", lambda: cores)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        startup.warn_of_idle_cores(layout)
    said = [str(warning.message) for warning in seen]
    expected = f"trains on one of {cores} cores: call marsrl.configure_jax() before JAX is used, or"
    assert [text.startswith(expected) for text in said] == [True] * idle
