"""Commands as a user types them, many in one process."""

import json
import os
import subprocess
import sys

STRICT = ["-W", "error", "-W", "ignore:Error reading persistent compilation cache"]
"""Options of Python; another process may be writing what JAX reads, and is then left to compile."""

RUN_ALL = """
import contextlib, io, json, sys
import jax
from marsrl.cli import main
compiled = []
jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: compiled.append(name))
for args in json.loads(sys.stdin.read()):
    out, err = io.StringIO(), io.StringIO()
    compiled.clear()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(args)
            code = 0
        except SystemExit as end:
            code = end.code
    programs = sum("backend_compile" in name for name in compiled)
    assert not {"jumanji", "jaxmarl", "brax"} & set(sys.modules)  # imported on use only
    print(json.dumps([code, out.getvalue(), err.getvalue(), programs]))
"""


def run_all(commands, folder, columns=200):
    """Runs commands one after another in a process of their own.

    Returns (exit code, stdout, stderr, programs compiled) of each.
    """
    process = subprocess.run(
        [sys.executable, *STRICT, "-c", RUN_ALL],
        input=json.dumps(commands),
        cwd=folder,
        env=os.environ | {"COLUMNS": str(columns)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]
