import ast
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import marsrl

SOURCE = Path(marsrl.__file__).parent
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(SOURCE)], "marsrl."))
FRAMEWORKS = {"jax", "jaxlib", "flax", "optax", "orbax"}
ENVIRONMENT_INTERFACE = {"base", "vector", "registry"}
TRAINING = {
    name for name in MODULES if name.startswith(("marsrl.learner.", "marsrl.objectives."))
} | {
    "marsrl.config", "marsrl.objectives", "marsrl.runs.checkpoint", "marsrl.devices.sharding",
}  # fmt: skip


def imports(module):
    """All that a module imports by name, in functions too: `a.b` and, for `from a import b`, both.

    The project has no relative imports; one would fail here.
    """
    file = SOURCE.joinpath(*module.split(".")[1:])
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if not name.startswith("marsrl") or name in MODULES}


def closure(module):
    """What a module imports, directly or through other modules of the project."""
    found, todo = set(), [module]
    while todo:
        new = imports(todo.pop()) - found
        found |= new
        todo += [name for name in new if name in MODULES]
    return found


def within(package):
    return [name for name in MODULES if f"{name}.".startswith(f"marsrl.{package}.")]


def roots(names):
    return {name.partition(".")[0] for name in names}


def run(code, **environment):
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=120
    )


NO_BACKEND = {"JAX_PLATFORMS": "none_such"}  # JAX fails as soon as it needs a device


def test_no_import_starts_a_device():
    code = f"import importlib\nfor name in {['marsrl', *MODULES]}: importlib.import_module(name)"
    result = run(code, **NO_BACKEND)
    assert result.returncode == 0, result.stderr


def test_starting_a_device_would_be_noticed():
    result = run("import jax.numpy; jax.numpy.zeros(())", **NO_BACKEND)
    assert result.returncode != 0
    assert "none_such" in result.stderr


MATHEMATICS = {
    "objectives", "errors", "loading", "learner.advantages", "distributions",
    *(name.removeprefix("marsrl.") for name in within("objectives")),
    "report.stats", "report.bootstrap", "report.factorial", "report.permutation",
}  # fmt: skip


@pytest.mark.parametrize("module", sorted(MATHEMATICS))
def test_the_mathematics_imports_arrays_only(module):
    allowed = {"jax", "numpy", "array_api_compat", "marsrl"} | sys.stdlib_module_names
    names = imports(f"marsrl.{module}")
    assert roots(names) - allowed == set()
    own = {name.removeprefix("marsrl.") for name in names if name.startswith("marsrl.")}
    assert own <= MATHEMATICS | {"types"}


def without_jax(modules):
    """Imports modules in a process where importing any of the frameworks fails."""
    blocked = f"import sys\nfor name in {sorted(FRAMEWORKS)}: sys.modules[name] = None\n"
    return run(blocked + "\n".join(f"import {module}" for module in modules))


def test_objectives_and_reports_need_no_jax():
    modules = [*within("objectives"), *within("report"), *within("bench"), *within("tune")]
    assert {"marsrl.objectives", "marsrl.report.stats", "marsrl.bench.commands"} <= set(modules)
    result = without_jax(modules)
    assert result.returncode == 0, result.stderr


def test_needing_jax_would_be_noticed():
    assert "marsrl/types.py" in without_jax(["marsrl.types"]).stderr


def test_training_knows_no_concrete_environment():
    known = {f"marsrl.envs.{name}" for name in ENVIRONMENT_INTERFACE} | {"marsrl.envs"}
    found = set()
    for module in TRAINING & set(MODULES):
        found |= {name for name in imports(module) if name.startswith("marsrl.envs")}
    assert "marsrl.envs.vector" in found
    assert found <= known


def test_environments_know_no_training():
    modules = within("envs")
    assert {"marsrl.envs.vector", "marsrl.envs.paxmen.env"} <= set(modules)
    for module in modules:
        assert closure(module) & TRAINING == set(), module
