"""Foreign run folders, stores and results: nothing that they name runs, unless it is trusted."""

import pytest

import marsrl
from commands import run_all
from marsrl.bench.comparison import comparison
from marsrl.bench.plan import plan
from marsrl.bench.suite import Suite
from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.presets import preset
from marsrl.runs.folder import RunFolder
from marsrl.runs.runner import resume, train
from marsrl.trust import VARIABLE, check_trusted

EVIL = """
import pathlib
pathlib.Path({marker!r}).touch()
def make(*args, **settings):
    raise RuntimeError("it ran")
"""
HOST_TASKS = (
    "pettingzoo:evil",
    "pettingzoo:evil:make",
    "pettingzoo:evil.py:make",
    "gymnasium:evil:E",
)
TASKS = ("evil:make", "os:system", "subprocess:Popen", "evil.py:make", *HOST_TASKS)


def foreign_run(path, **changes):
    """A run folder as somebody else could send it."""
    RunFolder.create(path, Config(**changes), {"versions": {}, "git": None, "machine": {}})
    return path


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """Exists as soon as the foreign module has run; it lies wherever an import could find it."""
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(EVIL.format(marker=str(marker)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    return marker


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("use", [marsrl.load_policy, resume])
def test_a_task_of_a_foreign_run_is_not_imported(marker, tmp_path, task, use):
    settings = {"command": f"touch {marker}", "args": f"touch {marker}"}
    run = foreign_run(tmp_path / "run", task=task, task_settings=settings)
    with pytest.raises(UserError) as caught:
        use(str(run))
    message = str(caught.value)
    for part in (repr(task), str(run / "config.json"), "--trust", "trust=True", VARIABLE):
        assert part in message
    assert not marker.exists()


@pytest.mark.parametrize("task", ["os:system", "subprocess:Popen"])
def test_not_even_trust_runs_what_nobody_made_for_it(marker, tmp_path, task):
    settings = {"command": f"touch {marker}", "args": f"touch {marker}"}
    run = foreign_run(tmp_path / "run", task=task, task_settings=settings)
    with pytest.raises(UserError, match="Python's own module"):
        resume(run, trust=True)
    assert not marker.exists()


def test_an_objective_of_a_foreign_run_is_not_imported(marker, tmp_path):
    run = foreign_run(tmp_path / "run", objective="evil:make")
    assert RunFolder.open(run).config().objective == "evil:make"  # read, and no more
    with pytest.raises(UserError, match=r"objective 'evil:make'.*--trust"):
        resume(run)
    with pytest.raises(UserError, match="no evaluated checkpoint"):
        marsrl.load_policy(run)  # needs no objective
    assert not marker.exists()


@pytest.mark.parametrize("how", ["argument", "variable", "expected"])
@pytest.mark.parametrize("changes", [{"task": "evil:make"}, {"objective": "evil:make"}])
def test_what_is_trusted_runs(marker, tmp_path, monkeypatch, how, changes):
    run = foreign_run(tmp_path / "run", **changes)
    if how == "variable":
        monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(UserError, match="raised RuntimeError: it ran"):
        resume(
            run,
            trust=how == "argument",
            expected=Config(**changes) if how == "expected" else None,
        )
    assert marker.exists()


def test_what_is_named_in_the_call_runs_and_writes_nothing(marker, tmp_path):
    with pytest.raises(UserError, match="raised RuntimeError: it ran"):
        train(Config(objective="evil:make"), tmp_path / "run")
    assert marker.exists()
    assert not (tmp_path / "run").exists()


def test_names_of_the_library_need_no_trust(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    for name in ("paxmen/4ag", "jaxmarl:overcooked", "lab/of-a-package"):
        check_trusted("task", name, tmp_path, trust=False)
    check_trusted("objective", "mars", tmp_path, trust=False)
    for kind in ("objective", "network"):  # would be a jaxmarl.py of this folder
        with pytest.raises(UserError, match=f"{kind} 'jaxmarl:make'.*--trust"):
            check_trusted(kind, "jaxmarl:make", tmp_path, trust=False)
    monkeypatch.setenv(VARIABLE, "0")
    with pytest.raises(UserError, match="m:f"):
        check_trusted("task", "m:f", tmp_path, trust=False)


# --- The command line -----------------------------------------------------------------------------


FOREIGN = {"task": "evil:make", "objective": "evil:make"}
COMMANDS = {
    "evaluate run": "task 'evil:make'",
    "render run": "task 'evil:make'",
    "resume run": "task 'evil:make'",
    "compare --out both --resume --mixed --objectives mars mappo": "another configuration",
    "bench status store": None,
    "bench report store --out page": None,
    "bench export store out.json": None,
    "bench report results --out page2": None,
    "bench export results out2.json": None,
    "bench plan nano --store store --no-measure": None,
    "bench plan theirs.toml --no-measure": None,
    "bench restore results --store restored": None,
    "bench run tiny.toml --store store": "objective 'evil:make'",
    "bench run tiny.toml --store tasks": "task 'evil.py:make'",
    "bench status restored": None,
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    root = tmp_path_factory.mktemp("foreign")
    (root / "evil.py").write_text(EVIL.format(marker=str(root / "ran")))
    foreign_run(root / "run", **FOREIGN)
    config = preset("paxmen/4ag", seeds=(0, 1, 2, 3, 4))
    both = comparison(config, ("mars", "mappo"))
    for job in plan(both, root / "both"):
        foreign_run(job.folder, **FOREIGN)
    tasks, bounds = ("paxmen/4ag", "evil.py:make"), {"evil.py:make": {"low": 0, "high": 1}}
    theirs = ("mars", "evil:make", "evil:make@eps=0.4")
    for name, objectives in (("store", theirs), ("tasks", ("mars",))):
        suite = Suite("theirs", tasks, objectives, (0,), bounds=bounds)
        (root / name).mkdir()
        (root / name / "suite.toml").write_text(suite.to_toml())
    (root / "theirs.toml").write_text((root / "store" / "suite.toml").read_text())
    (root / "tiny.toml").write_text(
        Suite("theirs", ("paxmen/4ag",), ("mars",), (0,), {"total_steps": 64}).to_toml()
    )
    results = root / "results"
    run_all([["bench", "report", "store", "--out", "results"]], root)
    assert (results / "runs.json").exists()
    outcomes = run_all([command.split() for command in COMMANDS], root)
    ran = (root / "ran").exists()
    named = run_all([["bench", "add", "evil:make", "--store", "store"]], root)
    return dict(zip(COMMANDS, outcomes, strict=True)), ran, named, (root / "ran").exists()


@pytest.mark.parametrize(("command", "refusal"), COMMANDS.items())
def test_a_command_shows_or_refuses(outcomes, command, refusal):
    code, out, err, programs = outcomes[0][command]
    assert programs == 0
    assert "Traceback" not in out + err
    if refusal is None:
        assert (code, err) == (0, ""), err
    else:
        assert code == 2
        assert err.startswith("marsrl: ")
        assert err.count("\n") == 1
        assert refusal in err


def test_no_command_ran_what_a_file_names(outcomes):
    _, ran, named, ran_once_named = outcomes
    assert not ran
    assert "it ran" in named[0][2]  # this would have been noticed
    assert ran_once_named


def test_results_name_what_they_like(outcomes):
    status = outcomes[0]["bench status store"]
    assert "evil:make" in status[1]
