import functools
import json
import sys
from pathlib import Path

import pytest

from marsrl.errors import UserError
from marsrl.loading import LONGEST, guarded, is_code, load

MODULE = """
import functools
import os
from os import system
from functools import partial
from marsrl.objectives import mars
import beside

class Levers: pass
class Number(int): pass
def make(): return beside.VALUE
@functools.lru_cache
def cached(): return 5
touch = partial(os.system, "touch ran")
half = partial(make)
constant = 3
instance = Levers()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with modules, as the current one; on the path as the command line puts it there."""
    for name in ("mine", "types", "test"):
        (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / "beside.py").write_text("VALUE = 7")
    (tmp_path / "boom.py").write_text("import sys\nsys.exit(3)")
    (tmp_path / "lab" / "envs").mkdir(parents=True)
    (tmp_path / "lab" / "__init__.py").write_text("from lab.envs.cave import Cave")
    (tmp_path / "lab" / "envs" / "cave.py").write_text("class Cave: pass")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # another test's
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("mine:make", 7),
        ("mine:half", 7),
        ("mine:cached", 5),
        ("mine.py:make", 7),
        ("./mine.py:make", 7),
        ("types:make", 7),  # before the standard library's, which is imported already
        ("test:make", 7),
        ("types.py:make", 7),
        ("mine:Number", 0),
    ],
)
def test_the_current_folder_comes_first(here, name, result):
    assert load(name)() == result


def test_first_on_the_path_is_first_too(here, monkeypatch):
    """As in a script or a notebook of that folder, where an import finds what lies there."""
    monkeypatch.setattr(sys, "path", [str(here), *sys.path])
    for name in ("mine:make", "test:make", "types:make"):
        assert load(name)() == 7


def test_classes_and_what_a_package_hands_on(here):
    assert load("lab:Cave") is load("lab.envs.cave:Cave")
    assert load("mine:mars")(0.3).name == "mars"
    assert load(f"{here}/mine.py:Levers") is load("mine.py:Levers")  # one module, however named


def test_outside_the_current_folder_modules_are_found_as_ever(here, monkeypatch):
    (here / "deep").mkdir()
    monkeypatch.chdir(here / "deep")
    assert load("mine:make")() == 7
    assert load("../mine.py:make")() == 7
    with pytest.raises(UserError, match=r"there is no test\.py in"):
        load("test:make")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os:system", "Python's own module 'os'"),
        ("os.path:join", "Python's own module 'os.path'"),
        ("subprocess:Popen", "Python's own module"),
        ("sys:exit", "Python's own module"),
        ("builtins:dict", "Python's own module"),
        ("posix:system", "Python's own module"),
        ("mine:system", "mine:system is Python's own <built-in function system>"),
        ("mine:partial", "Python's own"),
        ("mine:touch", "Python's own functools.partial"),
        ("types:Lever", "types has no factory 'Lever'; did you mean Levers"),
        ("mine:constant", "has no factory 'constant'"),
        ("mine:instance", "has no factory 'instance'"),
        ("nowhere:make", "importing 'nowhere' of 'nowhere:make' raised ModuleNotFoundError"),
        ("nowhere.py:make", "'nowhere.py:make' names no file"),
        ("boom:make", "importing 'boom' of 'boom:make' raised SystemExit: 3"),
        ("boom.py:make", "importing 'boom.py:make' raised SystemExit: 3"),
        ("mine", "'mine' is no factory; expected module:factory"),
        ("mine:", "is no factory"),
        (":make", "is no factory"),
        ("mine:make()", "is no factory"),
        ("..mine:make", "is no factory"),
        (f"{'m' * LONGEST}:make", "is no factory"),
        ("\x1b[31m.py:make", r"'\\x1b\[31m.py:make' is no factory"),
    ],
)
def test_what_is_no_factory_is_refused_before_it_is_called(here, name, message):
    with pytest.raises(UserError, match=message) as caught:
        load(name)
    assert "\n" not in str(caught.value)
    assert not (here / "ran").exists()


def test_the_shape_of_a_name():
    assert all(map(is_code, ("m:f", "a.b:f", "a/b.py:f", "C[1]/b.py:f")))
    assert not any(map(is_code, ("", "mars", "paxmen/4ag", "m:", ":f", "m:f:", "m:\x1b", "a b:f")))


def test_arguments_of_any_name_reach_what_is_called():
    assert guarded("calling", dict, what=1, call=2) == {"what": 1, "call": 2}
    assert guarded("calling", functools.partial(int, "ff"), base=16) == 255


def fails():
    raise KeyError("door")


def asks_a_library():
    return json.loads("no")


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (fails, "calling raised KeyError: 'door' ("),
        (asks_a_library, "calling raised JSONDecodeError: Expecting"),
    ],
)
def test_what_others_raise_is_told_with_their_own_line_and_a_traceback(call, expected):
    with pytest.raises(UserError) as caught:
        guarded("calling", call)
    line, _, path = str(caught.value).partition("; traceback: ")
    where = f"(test_loading.py, line {call.__code__.co_firstlineno + 1}, in {call.__name__})"
    assert line.startswith(expected)
    assert line.endswith(where)
    assert f"in {call.__name__}" in Path(path).read_text()
    Path(path).unlink()


def test_a_call_that_fits_no_arguments_is_told_by_its_reason():
    expected = r"^calling raised TypeError: fails\(\) takes 0 positional arguments but 1 was given$"
    with pytest.raises(UserError, match=expected):
        guarded("calling", fails, 1)
