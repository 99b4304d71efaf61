"""How JAX is set up by the commands."""

import os
import subprocess
import sys

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
