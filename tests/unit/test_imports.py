import os
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

from rooms import (
    MODULES,
    direct_imports,
    imports,
    matches,
    named_after,
    read_rooms,
    room_of,
    short,
    used_rooms,
)

ROOMS = read_rooms()
FRAMEWORKS = {"jax", "jaxlib", "flax", "optax", "orbax"}
TRAINING = {
    name for name in MODULES if name.startswith(("marsrl.learner.", "marsrl.objectives."))
} | {
    "marsrl.config", "marsrl.objectives", "marsrl.runs.checkpoint", "marsrl.devices.sharding",
}  # fmt: skip


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
        command, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )


def test_every_module_has_a_room():
    assert [module for module in MODULES if room_of(module, ROOMS) is None] == []


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_from_those_that_the_table_names(name):
    assert used_rooms(ROOMS[name], ROOMS) == ROOMS[name].imports


def test_a_room_imports_only_from_rooms_below_it():
    order = list(ROOMS)
    for name, room in ROOMS.items():
        assert room.imports <= set(order[order.index(name) + 1 :]), name


def test_the_table_names_nothing_else():
    for room in ROOMS.values():
        for pattern in (*room.patterns, *room.but_not):
            assert any(matches(module, pattern) for module in MODULES), pattern
        for pattern in room.but_not:
            assert room_of(f"marsrl.{pattern}", ROOMS) in (room.name, None), pattern


def test_no_modules_import_each_other_in_a_circle():
    TopologicalSorter({module: direct_imports(module) for module in MODULES}).prepare()


NO_BACKEND = {"JAX_PLATFORMS": "none_such"}  # JAX fails as soon as it needs a device


def test_no_import_starts_a_device():
    code = f"import importlib\nfor name in {[*MODULES]}: importlib.import_module(name)"
    result = run(code, **NO_BACKEND)
    assert result.returncode == 0, result.stderr


def test_starting_a_device_would_be_noticed():
    result = run("import jax.numpy; jax.numpy.zeros(())", **NO_BACKEND)
    assert result.returncode != 0
    assert "none_such" in result.stderr


MATHEMATICS = {
    short(module)
    for module in MODULES
    for name in named_after("The mathematics imports only arrays")
    if matches(module, name)
}


def test_the_mathematics_is_known():
    assert {"objectives.geometries", "learner.advantages", "report.stats"} <= MATHEMATICS


@pytest.mark.parametrize("module", sorted(MATHEMATICS))
def test_the_mathematics_imports_arrays_only(module):
    allowed = {"jax", "numpy", "array_api_compat", "marsrl"} | sys.stdlib_module_names
    names = imports(f"marsrl.{module}")
    assert roots(names) - allowed == set()
    own = {name.removeprefix("marsrl.") for name in names if name.startswith("marsrl.")}
    assert own <= MATHEMATICS


def without_jax(modules):
    """Imports modules in a process where importing any of the frameworks fails."""
    blocked = f"import sys\nfor name in {sorted(FRAMEWORKS)}: sys.modules[name] = None\n"
    return run(blocked + "\n".join(f"import {module}" for module in modules))


def needs_no_jax(module):
    room = ROOMS[room_of(module, ROOMS)]
    return not room.may_import_jax or any(matches(module, name) for name in room.but_not)


NEED_NO_JAX = [module for module in MODULES if needs_no_jax(module)]


def test_objectives_and_reports_need_no_jax():
    modules = [*within("objectives"), *within("report"), *within("bench"), *within("tune")]
    assert {"marsrl.objectives", "marsrl.report.stats", "marsrl.bench.commands"} <= set(modules)
    assert set(modules) <= set(NEED_NO_JAX)
    result = without_jax(NEED_NO_JAX)
    assert result.returncode == 0, result.stderr


def test_needing_jax_would_be_noticed():
    assert "marsrl/types.py" in without_jax(["marsrl.types"]).stderr


def test_training_knows_no_concrete_environment():
    interface = named_after("Training knows of environments only the interface")
    known = {f"marsrl.{name}" for name in interface} | {"marsrl.envs"}
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
