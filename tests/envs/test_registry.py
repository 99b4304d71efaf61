import importlib.metadata
import sys

import numpy as np
import pytest

import marsrl
from environments import Scripted
from marsrl.envs import tasks
from marsrl.envs.paxmen import PaxMen
from marsrl.errors import UserError

MODULE = """
from environments import Scripted

def three():
    return Scripted(num_agents=3)

def placed(*args):
    return Scripted()

def broken():
    return object()

constant = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "own_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_module", None)


def test_a_task_of_the_benchmark():
    assert marsrl.make("paxmen/5ag") == PaxMen(5)


def test_settings_take_the_place_of_the_task_s():
    assert marsrl.make("paxmen/5ag", num_agents=6) == PaxMen(6)


def test_numbers_of_numpy_s_are_python_s_own():
    assert marsrl.make("paxmen/5ag", num_agents=np.int64(6)) == PaxMen(6)
    env = marsrl.make("environments:Scripted", max_steps=np.int32(7))
    assert repr(env) == repr(Scripted(max_steps=7))


def test_a_factory_of_one_s_own(module):
    assert marsrl.make("own_module:three") == Scripted(num_agents=3)


def test_a_class_is_a_factory(module):
    assert marsrl.make("environments:Scripted", max_steps=7) == Scripted(max_steps=7)


def test_a_task_of_an_installed_package(module, monkeypatch):
    point = importlib.metadata.EntryPoint("lab/three", "own_module:three", tasks.ENTRY_POINTS)
    monkeypatch.setattr(
        tasks, "entry_points", lambda group: [point] if group == tasks.ENTRY_POINTS else []
    )
    assert marsrl.make("lab/three") == Scripted(num_agents=3)
    assert set(tasks.installed_tasks()) == {"lab/three"}
    with pytest.raises(UserError, match="unknown task 'lab/thre'; did you mean lab/three"):
        marsrl.make("lab/thre")


@pytest.mark.parametrize(
    ("task", "settings", "reason"),
    [
        ("paxmen/4agent", {}, "unknown task 'paxmen/4agent'; did you mean paxmen/4ag"),
        ("pacmen/4ag", {}, "no known family; did you mean paxmen"),
        ("zzz", {}, "no known family; known: rware, lbf, connector, mpe, smax, mabrax"),
        ("paxmen/4ag", {"num_agnets": 5}, "no setting 'num_agnets'; did you mean num_agents"),
        ("paxmen/4ag", {"num_agents": 7}, "num_agents is 7"),
        (
            "own_module:three",
            {"num": 2},
            "^own_module:three takes no settings, but .* 'num'$",
        ),
        ("own_module:placed", {"args": 2}, "^own_module:placed takes no settings, .*'args'$"),
        ("no_such_module:env", {}, "importing 'no_such_module' of 'no_such_module:env' raised"),
        ("own_module:", {}, "'own_module:' is no factory; expected module:factory"),
        ("own_module:thre", {}, "own_module has no factory 'thre'; did you mean three"),
        ("own_module:constant", {}, "own_module has no factory 'constant'"),
        (
            "own_module:broken",
            {},
            "broken breaks the environment interface: it has no method reset",
        ),
    ],
)
def test_bad_names_and_settings(module, task, settings, reason):
    with pytest.raises(UserError, match=reason):
        marsrl.make(task, **settings)
