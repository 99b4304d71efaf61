import dataclasses
from itertools import product

import pytest

from marsrl import digest
from marsrl.bench.commands import Run
from marsrl.bench.locks import FileLock
from marsrl.bench.plan import plan
from marsrl.bench.sources import check_sources, note_source, recorded, set_aside
from marsrl.bench.suite import Suite
from marsrl.errors import UserError
from marsrl.report.commands import Compare
from marsrl.runs.sources import source_digest
from rooms import MODULES, read_rooms, room_of

MINE = """
from helper import slope  # what it is made of


def f(eps=0.2):
    return slope(eps)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("def slope(eps):\n    return eps\n")
    return tmp_path


@pytest.fixture
def job(folder):
    suite = Suite("s", ("paxmen/4ag",), ("mine:f",), (0,))
    (job,) = plan(suite, folder / "store")
    job.folder.parent.mkdir(parents=True)
    return job


def test_a_source_is_known_without_being_imported(folder):
    (folder / "mine.py").write_text(MINE + "raise SystemExit\n")
    digest = source_digest("mine:f", folder)
    assert len(digest) == 12
    assert digest == source_digest("mine.py:f", folder)
    assert source_digest("mars", folder) is None
    assert source_digest("gone:f", folder) is None
    assert source_digest("gone.py:f", folder) is None


def test_only_code_counts(folder):
    before = source_digest("mine:f", folder)
    (folder / "mine.py").write_text(MINE.replace("# what", "# other words:") + "\n\n# end\n")
    assert source_digest("mine:f", folder) == before
    (folder / "mine.py").write_text(f'"""What it is."""\n{MINE}"""What it was."""\n')
    assert source_digest("mine:f", folder) == before
    (folder / "other.py").write_text("x = 1\n")
    assert source_digest("mine:f", folder) == before
    (folder / "mine.py").write_text(MINE.replace("0.2", "0.3"))
    assert source_digest("mine:f", folder) != before
    (folder / "mine.py").write_text(MINE)
    (folder / "helper.py").write_text("def slope(eps):\n    return 2 * eps\n")
    assert source_digest("mine:f", folder) != before


def test_all_versions_of_python_have_the_same_digest(folder):
    nested = """f"{x!r:>{len( x )}} {{}} {f'{x + 1}'}" """
    text = f"def f(x):  # so\n    return {nested}, rf'\\d{{x}}'  # or so\n"
    (folder / "mine.py").write_text(text)
    assert source_digest("mine:f", folder) == "7191bd3e3500"  # 3.11 to 3.13, whose tokens differ


@pytest.mark.parametrize("text", ["def f(:", "\x00", "(" * 3000, "'"])
def test_what_is_no_python_has_a_digest_too(text, folder):
    (folder / "mine.py").write_text(text)
    assert source_digest("mine:f", folder) is not None


def _noted(objective=None, task=None, network=None):
    return {"objective": objective, "task": task, "network": network}


def test_a_changed_objective_is_not_gone_on_with(folder, job):
    note_source(job, folder)
    job.folder.mkdir()
    check_sources([job], folder)
    assert not set_aside(job, folder, "mine:f")  # it has not changed
    (folder / "mine.py").write_text(MINE.replace("0.2", "0.3"))
    with pytest.raises(UserError, match=r"mine:f has changed since .*; train it .*--retrain"):
        check_sources([job], folder)
    note_source(job, folder)  # not of what has begun
    lock = FileLock(job.lock)
    lock.take()
    with pytest.raises(UserError, match="is being written by process"):
        set_aside(job, folder, "mine:f")
    lock.release()
    assert set_aside(job, folder, "mine:f")
    assert not job.folder.exists()
    assert [path.name for path in job.folder.parent.iterdir()] == ["seeds-0.retired-1"]
    check_sources([job], folder)
    note_source(job, folder)
    assert recorded(job) == _noted(objective=source_digest("mine:f", folder))
    job.folder.mkdir()
    assert not set_aside(job, folder, "mine:f")  # the same command again


def test_a_note_that_was_damaged_tells_nothing(folder, job):
    job.folder.mkdir()
    for content in (b"", b"\xff", b"\x1b[2J"):
        job.source.write_bytes(content)
        assert recorded(job) == _noted()
        check_sources([job], folder)


def test_a_changed_task_is_not_gone_on_with(folder):
    """It is told by the file of its factory, like an objective."""
    bounds = {"mine.py:f": {"low": 0, "high": 1}}
    suite = Suite("s", ("mine.py:f", "paxmen/4ag"), ("mars", "helper:slope"), (0,), bounds=bounds)
    own, both, builtin, objective = (
        next(j for j in plan(suite, folder / "store") if (j.config.task, j.label) == cell)
        for cell in product(suite.tasks, suite.objectives)
    )
    for job in (own, both, builtin, objective):
        job.folder.parent.mkdir(parents=True)
        note_source(job, folder)
        job.folder.mkdir()
    assert not builtin.source.exists()
    task, slope = source_digest("mine.py:f", folder), source_digest("helper:slope", folder)
    assert [recorded(job) for job in (own, both, builtin, objective)] == [
        _noted(task=task), _noted(slope, task), _noted(), _noted(slope)
    ]  # fmt: skip
    (folder / "mine.py").write_text(MINE.replace("0.2", "0.3"))
    check_sources([builtin, objective], folder)
    for job in (own, both):
        with pytest.raises(UserError, match=r"mine.py:f has changed .*another task; .*--retrain"):
            check_sources([job], folder)
        if job is both:
            assert not set_aside(job, folder, "helper:slope")  # that has not changed
        assert set_aside(job, folder, "mine.py:f")
        assert not job.source.exists()
    assert not set_aside(objective, folder, "helper:slope")
    assert set_aside(builtin, folder, "mars")


def test_a_changed_network_is_not_gone_on_with(folder):
    settings = {"network": "mine.py:net"}
    (job,) = plan(Suite("s", ("paxmen/4ag",), ("mars",), (0,), settings), folder / "store")
    job.folder.parent.mkdir(parents=True)
    note_source(job, folder)
    job.folder.mkdir()
    assert recorded(job) == _noted(network=source_digest("mine.py:net", folder))
    job.source.write_text(f"{'0' * 12} -\n")  # of before networks were noted
    check_sources([job], folder)
    job.source.write_text(f"- - {source_digest('mine.py:net', folder)}\n")
    check_sources([job], folder)
    (folder / "mine.py").write_text(MINE.replace("0.2", "0.3"))
    text = r"mine.py:net has changed .*another network; .*--retrain mine.py:net"
    with pytest.raises(UserError, match=text):
        check_sources([job], folder)
    assert set_aside(job, folder, "mine.py:net")
    check_sources([job], folder)


def test_what_is_trained_anew_excuses_no_other_method_of_a_changed_objective(folder, monkeypatch):
    monkeypatch.chdir(folder)
    labels = ("mine.py:f@eps=0.1", "mine.py:f@eps=0.2")
    store, suite = folder / "store", Suite("s", ("paxmen/4ag", "lbf/10x10-3p-3f"), labels, (0,))
    for job in plan(suite, store):
        job.folder.parent.mkdir(parents=True)
        note_source(job, folder)
        job.folder.mkdir()
    (folder / "mine.py").write_text(MINE.replace("0.2", "0.3"))

    def check(*retrain, **words):
        Run("s.toml", store, retrain=retrain, mixed=True, **words)._check(store, suite)

    for retrain in ((), labels[:1]):
        with pytest.raises(UserError, match=r"mine.py:f has changed since .*@eps=0.[12], seeds 0"):
            check(*retrain)
    check(*labels)
    check("mine.py:f")
    check("mine.py:f", shard="1/2")  # the others do their share


def test_a_changed_source_is_refused_wherever_the_page_would_have_it(folder, monkeypatch):
    """Else it would be refused when all is trained."""
    monkeypatch.chdir(folder)
    store, tasks = folder / "store", ("paxmen/4ag", "lbf/10x10-3p-3f")
    suite = Suite("s", tasks, ("mine.py:f", "mars"), (0,))
    begun = next(job for job in plan(suite, store) if job.label == "mine.py:f")
    begun.folder.parent.mkdir(parents=True)
    note_source(begun, folder)
    begun.folder.mkdir()
    (folder / "mine.py").write_text(MINE.replace("0.2", "0.3"))
    assert begun.config.task == "paxmen/4ag"
    for check in (
        lambda: Run("s.toml", store, tasks=("lbf/*",), mixed=True)._check(store, suite),
        lambda: Compare(mixed=True)._check(
            dataclasses.replace(suite, tasks=tasks[1:]), store, suite
        ),
    ):
        with pytest.raises(UserError, match=r"mine.py:f has changed since"):
            check()


def test_what_comes_with_a_library_has_no_digest_of_its_own(folder):
    for name in ("mars", "paxmen/4ag", "jaxmarl:MPE_simple_v3", "levers/none"):
        assert source_digest(name, folder) is None
    for name in ("pettingzoo:mpe2.simple_v3", "gymnasium:CartPole-v1"):
        assert source_digest(name, folder) is None


def test_an_environment_of_one_s_own_for_another_library_is_told_by_its_file(folder):
    mine = source_digest("mine.py:f", folder)
    for name in (
        "pettingzoo:mine:f",
        "pettingzoo:mine.py:f",
        "pettingzoo:mine",
        "gymnasium:mine:M-v0",
    ):
        assert source_digest(name, folder) == mine


def test_the_digest_of_marsrl_is_of_what_trains(monkeypatch, tmp_path):
    paths = "learner/update", "bench/plan", "cli", "settings", "runs/followers/csv", "runs/commands"
    files = {f"{path}.py": "x = 1" for path in paths}
    digests = []
    for name in (None, *files):
        root = tmp_path / str(len(digests)) / "marsrl"
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(f"{text if path != name else 'x = 2'}  # {len(digests)}\n")
        monkeypatch.setattr(digest, "__file__", str(root / "digest.py"))
        digests.append(digest.read_digest())
    original, learner, *others = digests
    assert {original} == set(others)
    assert original != learner


def test_the_digest_leaves_out_what_there_is_and_nothing_that_trains():
    rooms, training = read_rooms(), ("arrays", "configuration", "devices", "learner", "objectives")
    paths = {module: set(module.split(".")) for module in MODULES}
    assert set().union(*paths.values()) >= digest._TRAINS_NOTHING
    for module, parts in paths.items():
        if room_of(module, rooms) in training:
            assert not parts & digest._TRAINS_NOTHING, module
