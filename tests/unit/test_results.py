import dataclasses
import json
import math
import os
import random
import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from marsrl.bench.checks import check_version
from marsrl.bench.damage import faults
from marsrl.bench.doctor import find_faults, repair
from marsrl.bench.marl_eval import from_marl_eval, to_marl_eval
from marsrl.bench.plan import adopt, plan, write_suite
from marsrl.bench.progress import has_ended
from marsrl.bench.restore import restore
from marsrl.bench.results import check_replaceable, collect, part, read, write
from marsrl.bench.rows import DIAGNOSTICS, TRUST_REGION
from marsrl.bench.suite import Suite
from marsrl.cli import main
from marsrl.envs.tasks import BOUNDS_VERSION, TASKS
from marsrl.errors import UserError
from marsrl.report.benchmark_figures import make_plots
from marsrl.report.origins import costs, extensions, mixtures, origins
from marsrl.report.page import render_page
from marsrl.report.summary import summarize_benchmark
from marsrl.runs.folder import RunFolder
from marsrl.runs.machine import CODE
from marsrl.runs.records import read_or_empty, to_file, to_line
from marsrl.system import flock

DOCS = Path(__file__).parents[2] / "docs"

SUITE = Suite(
    "small",
    ("paxmen/4ag", "lbf/10x10-3p-3f"),
    ("mars", "mappo"),
    (0, 1),
    {"total_steps": 1000, "num_evaluations": 2, "num_envs": 10, "rollout_length": 50},
)
STEPS = (0, 500, 1000)
MEASURED = {"entropy": 1.0, "approx_kl": 0.5, **dict.fromkeys(DIAGNOSTICS, 0.25)}


def episodes(seed, step):
    return [seed + step / 1000, seed + step / 1000 + 2]


class Folder:
    """A run folder as the runner leaves it, to be bent before it is written."""

    def __init__(self, job, steps=STEPS, status="finished"):
        self.job = job
        seeds = job.config.seeds
        self.seeds = {str(seed): {"status": status, "step": steps[-1]} for seed in seeds}
        self.status = {"status": status, "step": steps[-1], "seeds": self.seeds}
        self.status |= {"seconds": {"compile": 1.0, "train": 2.0, "evaluate": 3.0}}
        self.status |= {"peak_memory_mb": 512}
        self.versions = {"jax": "1", "marsrl": "2.0"}
        self.git = None
        self.rows = []
        for step in steps:
            if step:
                self.rows += [self.train(seed, step) for seed in seeds]
            self.rows += [self.evaluation("eval", seed, step) for seed in seeds]
        if status == "finished":
            self.rows += [self.evaluation("final", seed, steps[-1]) for seed in seeds]

    @staticmethod
    def train(seed, step):
        head = {"kind": "train", "seed": seed, "step": step, "seconds": step / 100}
        return head | {"episode/return": 7.0, "episode/length": None} | MEASURED

    @staticmethod
    def evaluation(kind, seed, step):
        returns = episodes(seed, step)
        head = {"kind": kind, "seed": seed, "step": step, "greedy": False}
        return head | {"return": sum(returns) / 2, "length": 9.0, "returns": returns}

    def write(self):
        folder, config = self.job.folder, self.job.config
        folder.mkdir(parents=True)
        machine = {"versions": self.versions, "machine": {"cores": 1}, "git": self.git}
        content = {"config": config.to_dict(), "hash": config.hash} | machine
        (folder / "config.json").write_bytes(to_file(content))
        (folder / "status.json").write_bytes(to_file(self.status))
        (folder / "metrics.jsonl").write_bytes(b"".join(map(to_line, self.rows)))


@pytest.fixture
def jobs(tmp_path):
    """The jobs of a new store: paxmen and lbf, mars and mappo of each."""
    return plan(adopt(SUITE, tmp_path), tmp_path)


@pytest.fixture
def complete(jobs, tmp_path):
    for job in jobs:
        Folder(job).write()
    return collect(tmp_path)


def select(table, **wanted):
    rows = table.to_pylist()
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


# --- collecting -----------------------------------------------------------------------------------


def test_a_complete_store(complete):
    runs = complete.runs
    assert [(r.task, r.objective, r.seed) for r in runs] == [
        (task, objective, seed)
        for task in SUITE.tasks for objective in SUITE.objectives for seed in SUITE.seeds
    ]  # fmt: skip
    assert {r.status for r in runs} == {"done"}
    first = runs[0]
    assert first.run == SUITE.config("paxmen/4ag", "mars").hash
    assert (first.step, first.diverged_step, first.seeds_in_program) == (1000, None, 2)
    assert (first.seconds["train"], first.peak_memory_mb) == (2.0, 512)
    assert first.config["total_steps"] == 1000
    assert first.versions == {"jax": "1", "marsrl": "2.0"}
    assert (first.machine, first.git) == ({"cores": 1}, None)
    assert complete.episodes.num_rows == 8 * 2 * 4
    assert complete.curves.num_rows == 8 * (3 + 2)


def test_rows_say_where_they_are_from(complete):
    who = {"task": "lbf/10x10-3p-3f", "objective": "mappo", "seed": 1}
    last = select(complete.episodes, **who, step=1000)
    run = SUITE.config("lbf/10x10-3p-3f", "mappo").hash
    assert [(r["phase"], r["episode"], r["return"]) for r in last] == [
        ("eval", 0, 2.0), ("eval", 1, 4.0), ("final", 0, 2.0), ("final", 1, 4.0),
    ]  # fmt: skip
    assert {(r["family"], r["run"]) for r in last} == {("lbf", run)}
    train, evaluation = select(complete.curves, **who, step=500)
    assert (train["phase"], train["seconds"], train["return"]) == ("train", 5.0, 7.0)
    assert train["length"] is None
    assert {train[name] for name in DIAGNOSTICS} == {0.25}
    assert (evaluation["phase"], evaluation["seconds"]) == ("eval", 5.0)
    assert (evaluation["return"], evaluation["length"]) == (2.5, 9.0)
    assert {evaluation[name] for name in ("entropy", *DIAGNOSTICS)} == {None}


def test_what_is_not_complete_is_marked(jobs, tmp_path):
    Folder(jobs[0]).write()
    Folder(jobs[1], steps=(0, 500), status="stopped").write()
    diverged = Folder(jobs[2])
    diverged.seeds["1"] = {"status": "diverged", "step": 700}
    diverged.rows = [r for r in diverged.rows if r["seed"] == 0 or r["step"] < 700]
    diverged.write()
    jobs[3].folder.parent.mkdir()
    jobs[3].failure.write_text("no luck")
    results = collect(tmp_path)
    found = {
        (r.task, r.objective, r.seed): (r.status, r.step, r.diverged_step) for r in results.runs
    }
    assert [found[j.config.task, j.config.objective, 1] for j in jobs] == [
        ("done", 1000, None), ("running", 500, None), ("diverged", 700, 700), ("failed", 0, None),
    ]  # fmt: skip
    assert found[jobs[2].config.task, jobs[2].config.objective, 0][0] == "done"
    running = jobs[1].config
    steps = {r["step"] for r in select(results.episodes, task=running.task, objective="mappo")}
    assert steps == {0, 500}
    failed = jobs[3].config
    assert select(results.curves, task=failed.task, objective=failed.objective) == []
    (record,) = [r for r in results.runs if r[:4] == (failed.task, "mappo", failed.hash, 0)]
    assert (record.config, record.versions, record.seeds_in_program) == ({}, {}, 0)


def test_an_empty_store_is_all_missing(jobs, tmp_path):
    results = collect(tmp_path)
    assert {run.status for run in results.runs} == {"missing"}
    assert results.episodes.num_rows == results.curves.num_rows == 0


def test_seeds_that_the_suite_does_not_have_are_left_out(jobs, tmp_path):
    for job in jobs:
        Folder(job).write()
    (tmp_path / "suite.toml").write_text(dataclasses.replace(SUITE, seeds=(1,)).to_toml())
    results = collect(tmp_path)
    assert {run.seed for run in results.runs} == {1}
    for table in (results.episodes, results.curves):
        assert set(table.column("seed").to_pylist()) == {1}
    summarize_benchmark(results)


def test_every_seed_of_a_configuration_can_be_collected(tmp_path):
    seeds = (0, 2**32 - 1)
    suite = adopt(dataclasses.replace(SUITE, seeds=seeds), tmp_path)
    for job in plan(suite, tmp_path):
        Folder(job).write()
    assert set(collect(tmp_path).curves.column("seed").to_pylist()) == set(seeds)


def test_a_status_that_a_crash_cut_off_tells_no_seconds(jobs):
    Folder(jobs[0]).write()
    folder = RunFolder(jobs[0].folder)
    assert folder.times().own["train"] == 2.0
    path = jobs[0].folder / "status.json"
    path.write_text(path.read_text()[:20])
    assert folder.times().own == {}
    path.unlink()
    assert folder.times().own == {}


def test_a_row_that_is_just_being_written_waits(jobs, tmp_path):
    Folder(jobs[0], steps=(0, 500), status="running").write()
    with (jobs[0].folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "eval", "se')
    assert collect(tmp_path).episodes.num_rows == 2 * 2 * 2


def test_results_are_read_where_their_objectives_are_not(tmp_path, monkeypatch, capsys):
    """status, report and export show what a store holds, and import nothing that it names."""
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.delitem(sys.modules, "evil", raising=False)  # another test's
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names = ("mars", "evil:make", "gone:x")
    suite = dataclasses.replace(SUITE, tasks=("paxmen/4ag",), objectives=names)
    store = tmp_path / "store"
    for job in plan(adopt(suite, store), store):
        Folder(job).write()
    for words in ("status store", "report store --out page", "export page x.json"):
        main(["bench", *words.split()])
    out = capsys.readouterr().out
    assert "6 done" in out
    assert "gone:x" in out
    assert set(json.loads((tmp_path / "x.json").read_text())["paxmen"]["4ag"]) == set(names)
    assert "evil" not in sys.modules


# --- files ----------------------------------------------------------------------------------------


def test_files_hold_everything(complete, tmp_path):
    out = tmp_path / "deep" / "out"
    for _ in range(2):
        write(complete, out)
    assert {path.name for path in out.iterdir()} == {
        "episodes.parquet", "curves.parquet", "runs.json",
    }  # fmt: skip
    again = read(out)
    assert again.suite == complete.suite
    assert again.runs == complete.runs
    assert again.episodes.equals(complete.episodes)
    assert again.curves.equals(complete.curves)


def test_what_runs_share_is_said_once(complete, tmp_path):
    write(complete, tmp_path)
    content = json.loads((tmp_path / "runs.json").read_text())
    assert len(complete.runs) == 8
    # a configuration of each cell; versions, machine, git, and nothing, twice
    assert len(content["said"]) == 4 + 4
    text = (tmp_path / "runs.json").read_text()
    assert text.count('"gae_lambda"') == 4
    runs = [run._asdict() for run in complete.runs]  # as before each was said once
    del content["said"]
    (tmp_path / "runs.json").write_text(json.dumps(content | {"runs": runs}))
    assert read(tmp_path).runs == complete.runs
    (tmp_path / "runs.json").write_text(json.dumps(content | {"said": [], "runs": [{"git": 3}]}))
    with pytest.raises(UserError, match=r"runs\.json is no list of runs"):
        read(tmp_path)


def change(folder, **values):
    content = json.loads((folder / "runs.json").read_text())
    (folder / "runs.json").write_text(json.dumps(content | values))


def test_files_of_another_version_are_refused(complete, tmp_path):
    write(complete, tmp_path)
    change(tmp_path, bounds_version=BOUNDS_VERSION + 1)
    text = f"version {BOUNDS_VERSION + 1} of the bounds .* has version {BOUNDS_VERSION};"
    with pytest.raises(UserError, match=text):
        read(tmp_path)


def test_mixed_budgets_are_refused(complete, tmp_path):
    runs = [run._asdict() for run in complete.runs]
    runs[2]["config"] = runs[2]["config"] | {"total_steps": 2000}
    write(complete, tmp_path)
    change(tmp_path, runs=runs)
    text = "mars and mappo on paxmen/4ag cannot be compared.*total_steps = 1000 and 2000"
    with pytest.raises(UserError, match=text):
        read(tmp_path)


def relabelled(results, old, new, **settings):
    """The results with another label, whose runs have other settings and are of its objective."""
    runs = tuple(
        run._replace(objective=new, config=run.config | settings) if run.objective == old else run
        for run in results.runs
    )
    suite = dataclasses.replace(
        results.suite, objectives=tuple(new if x == old else x for x in results.suite.objectives)
    )
    tables = {}
    for name in ("episodes", "curves"):
        table = getattr(results, name)
        rows = [
            row | {"objective": new} if row["objective"] == old else row
            for row in table.to_pylist()
        ]
        tables[name] = type(table).from_pylist(rows, table.schema)
    return results._replace(suite=suite, runs=runs, **tables)


def test_labels_may_differ_in_what_leaves_scores_comparable(complete, tmp_path):
    wide = relabelled(complete, "mars", "mars@wide", eps=4.0, actor_lr=1e-3, update_epochs=8)
    write(wide, tmp_path / "wide")
    again = read(tmp_path / "wide")
    assert (again.runs, again.suite) == (wide.runs, wide.suite)
    differing = {x.name for x in summarize_benchmark(again).settings if x.differs}
    assert differing == {"objective", "eps", "actor_lr", "update_epochs"}
    for name, value in (("total_steps", 2000), ("eval_greedy", True), ("eval_episodes", 4)):
        write(relabelled(complete, "mars", "mars@wide", **{name: value}), tmp_path / name)
        text = f"mars@wide and mappo on paxmen/4ag cannot be compared, they differ: {name} = "
        with pytest.raises(UserError, match=text):
            read(tmp_path / name)
    write(relabelled(complete, "mars", "maspo@wide"), tmp_path / "other")
    with pytest.raises(UserError, match="objective = 'maspo@wide', and objective = 'mars'"):
        read(tmp_path / "other")


def test_runs_of_one_label_must_have_one_setting(complete, tmp_path):
    runs = list(complete.runs)
    runs[1] = runs[1]._replace(config=runs[1].config | {"eps": 0.4})
    write(complete._replace(runs=tuple(runs)), tmp_path)
    with pytest.raises(
        UserError, match=r"mars and mars on paxmen.*they differ: eps = 1\.0 and 0\.4"
    ):
        read(tmp_path)


def test_what_is_logged_of_the_trust_region_is_kept(jobs, tmp_path):
    measured = {name: number / 100 for number, name in enumerate(TRUST_REGION)}
    for job in jobs:
        folder = Folder(job)
        if job.config.objective == "mars":
            folder.rows = [row | measured if row["kind"] == "train" else row for row in folder.rows]
        seeds = job.config.seeds
        folder.rows += [folder.evaluation("last", seed, STEPS[-1]) for seed in seeds]
        folder.write()
    published = collect(tmp_path)
    rows = select(published.curves, phase="train")
    for row in rows:
        found = {name: row[name] for name in TRUST_REGION}
        assert found == (measured if row["objective"] == "mars" else dict.fromkeys(TRUST_REGION))
    assert len(select(published.episodes, phase="last")) == 8 * 2
    assert summarize_benchmark(published).fresh == 1.0
    again = tmp_path / "again"
    restored(published, tmp_path / "page", again)
    for kind in ("episodes", "curves"):
        assert rows_of(collect(again), kind) == rows_of(published, kind) != []


def test_curves_of_before_the_trust_region_was_measured_are_read(complete, tmp_path):
    old = complete.curves.drop_columns(list(TRUST_REGION))
    write(complete._replace(curves=old), tmp_path)
    assert read(tmp_path).curves.equals(complete.curves)


def test_damaged_files_are_refused(complete, tmp_path):
    with pytest.raises(UserError, match="holds no results"):
        read(tmp_path)
    write(complete, tmp_path)
    (tmp_path / "curves.parquet").replace(tmp_path / "episodes.parquet")
    with pytest.raises(UserError, match=r"episodes\.parquet has the columns .*expected .*episode"):
        read(tmp_path)
    (tmp_path / "episodes.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"cannot read .*episodes\.parquet"):
        read(tmp_path)
    (tmp_path / "runs.json").write_text("{}")
    with pytest.raises(UserError, match=r"runs\.json is no list of runs"):
        read(tmp_path)


RECORD = {
    "seconds": [None, {"train": "x"}, {"train": -1.0}, {"train": 10**400}, [1]],
    "peak_memory_mb": [None, "1", True, -1],
    "diverged_step": ["x", 5, True],
    "status": ["diverged", "unknown", None, []],
    "versions": [None, {"jax": 1}, "x"],
    "machine": [[1], None, {"cores": {"a": 1}}, {"cores": "\ud800"}],
    "git": ["x", {}, {"commit": 1, "dirty": True}, {"commit": "a", "dirty": "no"}],
    "task": ["smax/2s3z", "lbf/*", None, "\ud800", "x" * 10_000],
    "objective": ["maspo", 3, "[/x]\x1b"],
    "seed": [99, "0", True, -1, 10**30, 1],
    "step": [-1, 1.5, None, 10**20],
    "config": [None, {"seeds": 3}, {"seeds": []}, {"task": "x"}, {"a": {"b": {"c": {}}}}],
    "run": [None, 5],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in RECORD.items() for value in values]
)
def test_a_wrong_value_of_a_run_is_refused_in_one_line(field, value, complete, tmp_path):
    write(complete, tmp_path)
    runs = [run._asdict() for run in complete.runs]
    runs[2] = runs[2] | {field: value}
    change(tmp_path, runs=runs)
    with pytest.raises(
        UserError, match=r"runs\.json: (run 2 has|.* has more than)|runs\.json has"
    ) as caught:
        read(tmp_path)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is no list of runs"),
        ("null", "is no list of runs"),
        ('{"runs": ' + "[" * 5000, "nested too deeply|is not JSON"),
        ("{", "is not JSON"),
        ('{"bounds_version": 1, "suite": {}, "runs": []}', "runs.json: name is missing"),
        ('{"bounds_version": 1, "suite": 3, "runs": []}', "is no list of runs"),
        ('{"bounds_version": 1, "checksums": 3, "suite": 3, "runs": []}', "is no list of runs"),
    ],
)
def test_a_wrong_list_of_runs_is_refused_in_one_line(content, message, complete, tmp_path):
    write(complete, tmp_path)
    (tmp_path / "runs.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path)
    (tmp_path / "runs.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is no text"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("config.json", {"git": {}}, r"has git = \{\}, expected null, or a table of commit"),
        ("config.json", {"git": {"commit": 1, "dirty": True}}, "has git = .*expected null, or"),
        ("config.json", {"versions": None}, "has versions = None, expected a table of texts"),
        ("config.json", {"versions": {"jax": [1]}}, "has versions = .*expected a table of texts"),
        ("config.json", {"machine": {"a": [1]}}, "has machine = .*expected a table of plain"),
        ("status.json", {"seeds": {"foo": {"status": "finished", "step": 1}}}, "a seed 'foo'"),
        ("status.json", {"seeds": {"9" * 5000: {"status": "x", "step": 1}}}, "a seed '999"),
    ],
)
def test_a_foreign_run_folder_of_another_form_is_one_line(name, values, message, jobs, tmp_path):
    """One without a checksum, as an old version, or anybody, writes it."""
    for job in jobs:
        Folder(job).write()
    path = jobs[0].folder / name
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: x for key, x in content.items() if key != "check"}))
    with pytest.raises(UserError, match=rf"{name}.* {message}"):
        collect(tmp_path)


def test_what_has_no_versions_is_of_no_other_version(jobs):
    Folder(jobs[0]).write()
    path = jobs[0].folder / "config.json"
    path.write_text(json.dumps({"config": jobs[0].config.to_dict(), "versions": None}))
    check_version(jobs)


def test_a_config_that_is_no_table_is_of_other_settings(jobs, tmp_path):
    other = jobs[0].folder.parent.with_name("mars-0123456789ab") / "seeds-0-1"
    other.mkdir(parents=True)
    (other / "config.json").write_text('{"config": [1]}')
    with pytest.raises(UserError, match=r"is the only folder with runs of mars on .* settings"):
        collect(tmp_path)


@pytest.mark.parametrize("column", ["task", "phase", "family", "run"])
def test_what_is_no_text_in_a_table_is_one_line(column, complete, tmp_path):
    write(complete, tmp_path)
    change(tmp_path, checksums={})
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = complete.episodes
    ends = arrow.array(range(0, 2 * len(table) + 1, 2), arrow.int32()).buffers()[1]
    words = arrow.py_buffer(b"\xff\xfe" * len(table))
    bad = arrow.Array.from_buffers(arrow.string(), len(table), [None, ends, words])
    table = table.set_column(table.schema.get_field_index(column), column, bad)
    parquet.write_table(table, tmp_path / "episodes.parquet")
    with pytest.raises(UserError, match=r"cannot read .*episodes\.parquet: .*UTF8"):
        read(tmp_path)


def test_a_run_that_is_missing_from_the_list_is_noticed(complete, tmp_path):
    write(complete, tmp_path)
    runs = [run._asdict() for run in complete.runs]
    change(tmp_path, runs=runs[1:])
    with pytest.raises(UserError, match="has no run of seed 0 of mars on paxmen/4ag"):
        read(tmp_path)


def changed(table, column, value):
    """A table with another value in one row."""
    rows = table.to_pylist()
    rows[3] = rows[3] | {column: value}
    return type(table).from_pylist(rows, table.schema)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("return", math.inf, "has a return that is not finite"),
        ("return", math.nan, "has a return that is not finite"),
        ("return", None, "has a row without return"),
        ("step", -1, "has step = -1, expected 0 to"),
        ("step", None, "has a row without step"),
        ("seed", 99, "has seed = 99, expected one of the suite's"),
        ("seed", None, "has a row without seed"),
        ("task", "smax/2s3z", "has task = 'smax/2s3z', expected one of the suite's"),
        ("objective", None, "has a row without objective"),
        ("phase", "train", "has phase = 'train', expected eval, final"),
        ("episode", 0, "has 2 rows of task .*, step 0, episode 0, expected one"),
        ("episode", -1, "has episode = -1, expected 0 to"),
    ],
)
def test_a_wrong_row_is_refused_in_one_line(column, value, message, complete, tmp_path):
    write(complete._replace(episodes=changed(complete.episodes, column, value)), tmp_path)
    with pytest.raises(UserError, match=rf"episodes\.parquet {message}"):
        read(tmp_path)


def test_what_was_written_by_another_report_is_noticed(complete, tmp_path):
    """As after a kill between the three files, or a bit that flipped in one of them."""
    other = complete._replace(curves=complete.curves.slice(1))
    write(other, tmp_path / "other")
    for name in ("curves.parquet", "runs.json"):
        write(complete, tmp_path / "mixed")
        (tmp_path / "mixed" / name).write_bytes((tmp_path / "other" / name).read_bytes())
        with pytest.raises(UserError, match=r"curves\.parquet is not what was written with runs"):
            read(tmp_path / "mixed")
    runs = json.loads((tmp_path / "other" / "runs.json").read_text())["runs"]
    runs[0]["step"] += 8
    change(tmp_path / "other", runs=runs)
    with pytest.raises(UserError, match=r"runs\.json is not what was written"):
        read(tmp_path / "other")


def test_results_of_before_there_were_checksums_are_read(complete, tmp_path):
    write(complete, tmp_path)
    content = json.loads((tmp_path / "runs.json").read_text())
    del content["checksums"]
    (tmp_path / "runs.json").write_text(json.dumps(content))
    assert read(tmp_path).runs == complete.runs


def test_pyarrow_is_asked_for(jobs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'marsrl\[bench\]'"):
        collect(tmp_path)


def test_a_report_of_some_tasks(complete, tmp_path, capsys):
    """They are a suite of their own, and never written over what the store itself reports."""
    lbf = part(complete, ("lbf/10x10-3p-3f",))
    assert lbf.suite.tasks == ("lbf/10x10-3p-3f",)
    assert {run.task for run in lbf.runs} == set(lbf.suite.tasks)
    assert lbf.episodes.to_pylist() == select(complete.episodes, task=lbf.suite.tasks[0])
    assert lbf.curves.to_pylist() == select(complete.curves, task=lbf.suite.tasks[0])
    code, output, _ = command_line(
        capsys, "report", tmp_path, "--tasks", "lbf/*", "--out", tmp_path / "lbf"
    )
    assert (code, "paxmen" in output) == (0, False)
    assert read(tmp_path / "lbf").runs == lbf.runs
    published = tmp_path / "lbf" / "runs.json"
    published.write_text(f"{published.read_text()}\n")  # as an older version may have written it
    before = published.read_bytes()
    assert command_line(capsys, "report", tmp_path / "lbf")[0] == 0
    assert published.read_bytes() == before
    code, _, errors = command_line(capsys, "report", tmp_path, "--tasks", "lbf/*")
    assert (code, "choose another --out" in errors) == (2, True)
    code, _, errors = command_line(capsys, "report", tmp_path, "--tasks", "lfb/*")
    assert (code, "no task is like 'lfb/*'" in errors) == (2, True)


def test_other_results_are_not_written_over_unasked(complete, tmp_path, capsys):
    store, page, theirs = (tmp_path / name for name in ("store", "page", "theirs"))
    (job, *_) = plan(adopt(SUITE, store), store)
    Folder(job).write()
    write(complete, theirs)
    before = (theirs / "runs.json").read_bytes()
    text = r"other results, such as seed 0 of mappo on paxmen/4ag, id \w{12}; choose another --out$"
    with pytest.raises(UserError, match=text):
        check_replaceable(collect(store), theirs)
    code, _, errors = command_line(capsys, "report", store, "--out", theirs)
    assert (code, "choose another --out, or write over it with --replace\n" in errors) == (2, True)
    assert (theirs / "runs.json").read_bytes() == before
    check_replaceable(complete, theirs)  # the same again
    write(collect(store), page)
    check_replaceable(complete, page)  # more of the same
    with pytest.raises(UserError, match="is a store of its own"):
        check_replaceable(complete, store)
    (page / "runs.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot tell which results .* holds: .* is not JSON"):
        check_replaceable(complete, page)
    (page / "runs.json").rename(page / "index.html")
    with pytest.raises(UserError, match=r"has an index\.html, and no results"):
        check_replaceable(complete, page)
    check_replaceable(complete, tmp_path / "new")


# --- restoring ------------------------------------------------------------------------------------


def rows_of(results, kind):
    return getattr(results, kind).to_pylist()


def restored(results, folder, store):
    """Publishes results in a folder and restores a store from there."""
    write(results, folder)
    return restore(read(folder), store)


def test_a_restored_store_has_the_same_results(jobs, tmp_path):
    fallen = Folder(jobs[2])
    fallen.seeds["1"] = {"status": "diverged", "step": 700}
    fallen.rows = [r for r in fallen.rows if r["seed"] == 0 or r["step"] < 700]
    fallen.write()
    Folder(jobs[1], steps=(0,), status="diverged").write()
    for job in (jobs[0], jobs[3]):
        Folder(job).write()
    published, store = collect(tmp_path), tmp_path / "store"
    outcome = restored(published, tmp_path / "page", store)
    assert (len(outcome.written), outcome.kept, outcome.unfinished) == (4, [], 0)
    again = collect(str(store))
    assert again.suite == published.suite
    assert again.runs == published.runs
    for kind in ("episodes", "curves"):
        assert rows_of(again, kind) == rows_of(published, kind) != []
    assert all(map(has_ended, plan(SUITE, store)))
    for status in ("finished", "diverged"):
        found = {read_or_empty(job.folder / "status.json")["status"] for job in outcome.written}
        assert status in found


@pytest.mark.parametrize("published", sorted(DOCS.glob("*/runs.json")), ids=lambda p: p.parent.name)
def test_what_the_docs_publish_can_be_gone_on_from(published, tmp_path):
    """Also where settings have come, and presets have changed, since it was recorded."""
    results = read(str(published.parent))  # paths may be text
    outcome = restore(results, str(tmp_path))
    assert (outcome.kept, outcome.unfinished) == ([], 0)
    assert all(map(has_ended, outcome.written))


def test_what_has_not_ended_is_not_restored(jobs, tmp_path):
    for job, status in zip(jobs[:3], ("finished", "stopped", "running"), strict=True):
        Folder(job, status=status).write()
    half = Folder(jobs[3])
    half.seeds["1"] = {"status": "stopped", "step": 500}
    half.write()
    store = tmp_path / "store"
    written, kept, unfinished = restored(collect(tmp_path), tmp_path / "page", store)
    assert ([job.config for job in written], kept) == ([jobs[0].config], [])
    assert unfinished == 2 * 3  # seed 0 of the last one, too: its program has not ended
    assert [run.status for run in collect(store).runs].count("missing") == 2 * 3
    assert len(list((store / "runs").glob("*/*/*/config.json"))) == 1


def test_what_a_store_has_is_kept(complete, tmp_path):
    """Done, begun, in other jobs, or locked: each stays, and a failure is forgotten."""
    store = tmp_path / "store"
    done, begun, failed, locked = plan(adopt(SUITE, store), store)
    mine = Folder(done)
    mine.rows[0]["returns"] = [50.0, 50.0]
    mine.write()
    alone = dataclasses.replace(begun.config, seeds=(1,))
    Folder(begun._replace(config=alone, folder=begun.folder.with_name("seeds-1"))).write()
    begun.folder.with_name("seeds-1.lock").touch()
    failed.folder.parent.mkdir(parents=True)
    failed.failure.write_text("no luck")
    locked.folder.parent.mkdir(parents=True)
    with locked.lock.open("a") as file:
        assert flock(file.fileno())
        written, kept, _ = restored(complete, tmp_path / "page", store)
    assert (written, kept) == ([failed], [done, begun, locked])
    assert has_ended(failed)
    assert not failed.failure.exists()
    assert not begun.folder.exists()
    assert not locked.folder.exists()
    assert next(RunFolder(done.folder).rows())["returns"] == [50.0, 50.0]


def test_a_kill_in_the_middle_leaves_nothing_half(complete, tmp_path, monkeypatch):
    store = tmp_path / "store"
    monkeypatch.setattr(RunFolder, "append", lambda *args: sys.exit("killed"))
    with pytest.raises(SystemExit, match="killed"):
        restored(complete, tmp_path / "page", store)
    assert {run.status for run in collect(store).runs} == {"missing"}
    monkeypatch.undo()
    assert len(restored(complete, tmp_path / "page", store).written) == 4
    assert collect(store).runs == complete.runs


def test_settings_that_this_version_does_not_give_are_refused(complete, tmp_path):
    write(complete, tmp_path / "page")
    changed = complete._replace(
        runs=tuple(
            run._replace(run="0123456789ab", config=run.config | {"width": 128})
            for run in complete.runs
        )
    )
    store = tmp_path / "store"
    text = "mars on paxmen/4ag was trained with other settings .* in small: width = 128 and 64"
    with pytest.raises(UserError, match=text):
        restore(changed, store)
    assert not store.exists()


def test_a_store_with_other_settings_is_not_mixed(complete, tmp_path):
    store = tmp_path / "store"
    other = dataclasses.replace(SUITE, settings={"total_steps": 2000})
    Folder(plan(adopt(other, store), store)[0]).write()
    with pytest.raises(UserError, match="begun mars on paxmen/4ag with other settings"):
        restore(complete, store)


def test_what_could_not_be_compared_with_a_store_is_not_restored_into_it(complete, tmp_path):
    store = tmp_path / "store"
    Folder(plan(adopt(complete.suite, store), store)[0]).write()
    before = sorted(store.rglob("*"))
    runs = (x._replace(versions=x.versions | {"marsrl": "9.9"}) for x in complete.runs)
    with pytest.raises(UserError, match="cannot be compared, they differ: marsrl"):
        restore(complete._replace(runs=tuple(runs)), store)
    assert sorted(store.rglob("*")) == before


def test_others_results_cannot_be_restored(complete, tmp_path):
    theirs = from_marl_eval(to_marl_eval(complete), "theirs")
    with pytest.raises(UserError, match="mars on paxmen/4ag has no configuration"):
        restore(theirs, tmp_path / "store")


# --- refusals of a store --------------------------------------------------------------------------


def test_a_cell_with_other_settings_only_is_refused(jobs, tmp_path):
    other = dataclasses.replace(SUITE, settings={"total_steps": 2000})
    stray = plan(other, tmp_path)[0]
    Folder(stray).write()
    text = f"{stray.config.hash} is the only .*mars on paxmen/4ag.*total_steps = 2000 and 1000"
    with pytest.raises(UserError, match=text):
        collect(tmp_path)
    Folder(jobs[0]).write()
    assert collect(tmp_path).episodes.num_rows == 2 * 2 * 4  # the stray is left out


def test_runs_of_different_versions_are_refused(jobs, tmp_path):
    Folder(jobs[0]).write()
    other = Folder(jobs[1])
    other.versions["marsrl"] = "3.0"
    other.write()
    text = f"{tmp_path}: mars and mappo on paxmen/4ag cannot be .*: marsrl = 2.0 and 3.0$"
    with pytest.raises(UserError, match=text):
        collect(tmp_path)


def test_jobs_of_another_version_are_not_gone_on_with(jobs):
    check_version(jobs)
    Folder(jobs[1]).write()
    text = f"{jobs[1].folder} was begun by marsrl 2.0, this is {version('marsrl')}:"
    with pytest.raises(UserError, match=text):
        check_version(jobs)


def test_a_seed_in_two_folders_is_refused(jobs, tmp_path):
    Folder(jobs[0]).write()
    alone = dataclasses.replace(jobs[0].config, seeds=(1,))
    Folder(jobs[0]._replace(config=alone, folder=jobs[0].folder.with_name("seeds-1"))).write()
    with pytest.raises(UserError, match="has seed 1 in two folders"):
        collect(tmp_path)


def test_a_folder_with_the_wrong_configuration_is_refused(jobs, tmp_path):
    wide = dataclasses.replace(jobs[0].config, width=128)
    Folder(jobs[0]._replace(config=wide)).write()
    with pytest.raises(UserError, match=f"not of {jobs[0].config.hash} .*width = 128 and 64"):
        collect(tmp_path)


def test_an_episode_that_is_not_finite_is_refused(jobs, tmp_path):
    folder = Folder(jobs[0])
    next(r for r in folder.rows if r["kind"] == "eval" and r["step"] == 500)["returns"][1] = None
    folder.write()
    with pytest.raises(UserError, match="evaluation of seed 0 at step 500 has an episode without"):
        collect(tmp_path)


# --- damage ---------------------------------------------------------------------------------------


def flip(content, place):
    at = int(len(content) * place)
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def replaced(path, content):
    path.write_bytes(content)


def into_folder(path, content):
    path.unlink()
    path.mkdir()


def into_endless_link(path, content):
    """Unreadable, for root too."""
    path.unlink()
    path.symlink_to(path.name)


DAMAGE = {
    "emptied": lambda path, content: replaced(path, b""),
    "halved": lambda path, content: replaced(path, content[: len(content) // 2]),
    "random": lambda path, content: replaced(path, random.Random(0).randbytes(len(content))),
    "deleted": lambda path, content: path.unlink(),
    "a folder": into_folder,
    "unreadable": into_endless_link,
} | {
    f"flipped at {place}": lambda path, content, place=place: replaced(path, flip(content, place))
    for place in (0.02, 0.1, 0.3, 0.45, 0.55, 0.7, 0.9, 0.99)
}


def outcome(call):
    """What a call returns, or the one line of its refusal."""
    try:
        return call()
    except UserError as error:
        return str(error)


def command_line(capsys, *words):
    """The exit code, the output and the errors of `marsrl bench`."""
    try:
        main(["bench", *map(str, words)])
        return 0, *capsys.readouterr()
    except SystemExit as end:
        return end.code, *capsys.readouterr()


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_of_a_store_is_named_and_never_another_number(damage, complete, tmp_path, capsys):
    """Whatever happens to any file: the same results, or a line that names what is wrong."""
    (sound,) = [job for job in plan(SUITE, tmp_path) if job.config.objective == "mars"][:1]
    paths = [tmp_path / "suite.toml", *sorted(sound.folder.iterdir())]
    assert len(paths) == 4
    exported = to_marl_eval(complete)
    for path in paths:
        content = path.read_bytes()
        DAMAGE[damage](path, content)
        found = outcome(lambda: collect(tmp_path))
        assert isinstance(found, str) or to_marl_eval(found) == exported, path
        assert isinstance(found, str) or found.runs == complete.runs, path
        if isinstance(found, str):
            assert len(found.splitlines()) == 1
            assert path.name in found or str(tmp_path) in found
        code, out, errors = command_line(capsys, "status", tmp_path)
        assert (code, len(errors.splitlines())) in ((0, 0), (2, 1))
        assert not isinstance(found, str) or path.name in out + errors, path
        suite = tmp_path / "suite.toml"
        planned = command_line(capsys, "plan", suite, "--store", tmp_path, "--no-measure")
        assert (planned[0], len(planned[2].splitlines())) in ((0, 0), (2, 1))
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    assert collect(tmp_path).runs == complete.runs


SHAPES = {
    "config.json": [
        {"config": []}, {"hash": 5}, {"versions": None}, {"machine": [1]}, {"git": "x"},
    ],
    "status.json": [
        {"status": 5}, {"step": None}, {"step": -1}, {"seeds": []}, {"seeds": {"0": 3}},
        {"seeds": {"0": {"status": "finished"}}}, {"seeds": {}}, {"seconds": None},
        {"seconds": {"train": "x"}}, {"peak_memory_mb": None},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change"), [(name, change) for name, every in SHAPES.items() for change in every]
)
def test_a_file_of_a_wrong_shape_is_named(name, change, complete, jobs, tmp_path, capsys):
    path = jobs[0].folder / name
    for content in (json.loads(path.read_text()) | change, change, [], 3):
        if isinstance(content, dict):
            content.pop("check", None)
        path.write_bytes(to_file(content) if isinstance(content, dict) else b"[]")
        with pytest.raises(UserError, match=re.escape(str(path))):
            collect(tmp_path)
        main(["bench", "status", str(tmp_path)])
        assert name in capsys.readouterr().out


def test_rows_that_are_not_as_they_were_written_are_named(jobs, tmp_path):
    wrong = {
        "has the row of kind eval, seed 0, step 0 twice": lambda rows: rows[:1] + rows,
        "has no final row of seed 1, which has finished": lambda rows: rows[:-1],
        "has no evaluation of seed 0 at step 0": lambda rows: rows[1:],
        "has at step 0 of seed 0 returns = None": lambda rows: [rows[0] | {"returns": None}],
        r"has at step 0 of seed 0 returns = \['x'\]": lambda rows: [rows[0] | {"returns": ["x"]}],
        "has at step 0 of seed 9 a row, expected a seed": lambda rows: [rows[0] | {"seed": 9}],
        "has at step -1 of seed 0 a row, expected a seed": lambda rows: [rows[0] | {"step": -1}],
        "has at step 0 of seed 0 a row of kind 'x'": lambda rows: [rows[0] | {"kind": "x"}],
        "has at step 0 of seed 0 return = 'x'": lambda rows: [rows[0] | {"return": "x"}],
        "has at step 500 of seed 0 entropy = None": lambda rows: [
            {k: x for k, x in rows[2].items() if k != "entropy"}
        ],
        "has at step 500 of seed 0 update_kl = 'x'": lambda rows: [rows[2] | {"update_kl": "x"}],
    }
    folder = Folder(jobs[0])
    folder.write()
    path = jobs[0].folder / "metrics.jsonl"
    for message, change in wrong.items():
        path.write_bytes(b"".join(map(to_line, change(folder.rows))))
        with pytest.raises(UserError, match=f"metrics.jsonl {message}"):
            collect(tmp_path)


def test_no_row_of_a_run_that_has_ended_can_be_lost(jobs, tmp_path):
    folder = Folder(jobs[0])
    folder.versions |= {CODE: "0123"}
    folder.rows += [folder.evaluation("last", seed, STEPS[-1]) for seed in SUITE.seeds]
    folder.write()
    assert not list(faults(jobs[0]))
    path = jobs[0].folder / "metrics.jsonl"
    for lost in folder.rows:
        path.write_bytes(b"".join(to_line(row) for row in folder.rows if row is not lost))
        with pytest.raises(
            UserError,
            match=rf"metrics.jsonl has no {lost['kind']}\w* (row )?of seed {lost['seed']}",
        ):
            collect(tmp_path)
    alone = [row for row in folder.rows if row["kind"] != "last"]
    path.write_bytes(b"".join(map(to_line, alone)))
    with pytest.raises(UserError, match="has no last row of seed 0, which has finished"):
        collect(tmp_path)


def test_a_seed_that_diverged_lacks_no_row_from_then_on(jobs, tmp_path):
    folder = Folder(jobs[0])
    folder.seeds["1"] = {"status": "diverged", "step": 700}
    folder.rows = [r for r in folder.rows if r["seed"] == 0 or r["step"] < 700]
    folder.write()
    assert not list(faults(jobs[0]))
    path = jobs[0].folder / "metrics.jsonl"
    lost = [row for row in folder.rows if (row["kind"], row["step"]) != ("eval", 500)]
    path.write_bytes(b"".join(map(to_line, lost)))
    assert [x.partition(" has ")[2] for x in faults(jobs[0])] == [
        f"no evaluation of seed {seed} at step 500, which has ended" for seed in SUITE.seeds
    ]


def test_an_evaluation_that_one_of_the_runs_lacks_is_noticed(jobs, tmp_path):
    """Also where its own configuration does not tell: it was to be shorter at first."""
    Folder(jobs[0]).write()
    short = Folder(jobs[1])
    short.rows = [r for r in short.rows if r["step"] != 500]
    short.write()
    with pytest.raises(UserError, match=r"metrics\.jsonl has no evaluation of seed 0 at step 500"):
        collect(tmp_path)
    path = jobs[1].folder / "config.json"
    longer = {"extended": [{"from": 500, "to": 1000, "at": 500}]}
    path.write_bytes(to_file(read_or_empty(path) | longer))
    text = f"seed 0 of {jobs[1].folder} has no evaluation at step 500, which other runs of paxmen"
    with pytest.raises(UserError, match=text):
        collect(tmp_path)


# --- where runs come from -------------------------------------------------------------------------


def test_runs_of_different_sources_and_packages_are_told(jobs, tmp_path, capsys):
    """A version between tasks is another thing than one between the objectives of a task."""
    for number, job in enumerate(jobs):
        folder = Folder(job)
        folder.versions |= {"jumanji": "1" if number == 0 else "2", "brax": None}
        folder.git = {"commit": "a" * 40 if "paxmen" in job.config.task else "b" * 40}
        folder.git["dirty"] = "paxmen" in job.config.task
        folder.write()
    results = collect(tmp_path)
    source, jumanji = mixtures(results.runs)
    task, other = jobs[0].config.task, jobs[-1].config.task
    assert {task, other} == set(SUITE.tasks)
    pax, lbf = f"commit {'a' * 12} with changes", f"commit {'b' * 12}"
    assert source == ("source", {pax: 4, lbf: 4}, ())
    assert jumanji == ("jumanji", {"2": 6, "1": 2}, (task,))
    main(["bench", "status", str(tmp_path)])
    out = capsys.readouterr().out
    told = f"jumanji: 2 (6 runs), 1 (2 runs); objectives differ in it on {task}"
    assert f"not all alike: {told}" in out
    assert "on each task all objectives share theirs" in out
    summary = summarize_benchmark(results)
    assert told in render_page(summary, make_plots(summary))


def test_runs_that_are_alike_are_not_told(complete):
    assert mixtures(complete.runs) == ()


def test_an_objective_with_two_sources_is_two(jobs, tmp_path):
    for job in jobs:
        Folder(job).write()
    mars = [job for job in jobs if job.config.objective == "mars"]
    mars[0].source.write_text("0123456789ab\n")
    assert {run.source for run in collect(tmp_path).runs} == {None, "0123456789ab"}
    again = tmp_path / "again"
    restored(collect(tmp_path), tmp_path / "page", again)
    assert collect(again).runs == collect(tmp_path).runs
    mars[1].source.write_text("ba9876543210\n")
    with pytest.raises(UserError, match=r"mars on .* was trained with another source than"):
        collect(tmp_path)


@pytest.mark.parametrize(("kind", "place"), [("task", 1), ("network", 2)])
def test_a_task_or_network_with_two_sources_is_two_whatever_the_objective(kind, place, tmp_path):
    """Unknown digests, as all of before they were noted, are no other ones."""
    own = {"network": "mine.py:net"}
    suite = dataclasses.replace(SUITE, settings=SUITE.settings | own)
    jobs = plan(adopt(suite, tmp_path / "store"), tmp_path / "store")
    for job in jobs:
        Folder(job).write()

    def note(job, digest):
        job.source.write_text(" ".join([*"-" * place, digest]) + "\n")

    first = jobs[0]
    other = next(x for x in jobs if (x.config.task == first.config.task) and x.label != first.label)
    note(first, "0123456789ab")
    found = collect(tmp_path / "store")
    assert {getattr(run, f"{kind}_source") for run in found.runs} == {None, "0123456789ab"}
    again = tmp_path / "again"
    restored(found, tmp_path / "page", again)
    assert collect(again).runs == found.runs
    note(other, "ba9876543210")
    name = first.config.task if kind == "task" else "mine.py:net"
    text = f"{re.escape(name)}.* was trained with another source .* two {kind}s; .*--retrain"
    with pytest.raises(UserError, match=text):
        collect(tmp_path / "store")


# --- methods and own tasks ------------------------------------------------------------------------


LATER = {"versions": {"marsrl": "2.0", "jax": "2"}, "machine": {"cores": 8}, "git": None}


def test_what_else_a_run_went_on_with_is_counted_and_kept(jobs, tmp_path):
    for job in jobs:
        Folder(job).write()
    folder = RunFolder(jobs[0].folder)
    content = read_or_empty(folder.path / "config.json")
    longer = [{"from": 500, "to": 1000, "at": 500}]
    noted = {"resumed": [{"at": 500} | LATER], "extended": longer}
    (folder.path / "config.json").write_bytes(to_file(content | noted))
    results = collect(tmp_path)
    first = results.runs[0]
    assert (first.resumed, first.extended) == ([{"at": 500} | LATER], longer)
    mixed = {mixture.name: mixture for mixture in mixtures(results.runs)}
    assert mixed["jax"].runs == {"1": 6, "1, then 2": 2}
    assert mixed["jax"].tasks == (first.task,)
    assert sum(origin.runs for origin in origins(results.runs)) == len(results.runs) + 2
    (extension,) = extensions(results.runs)
    assert (extension.objective, extension.steps, extension.runs) == ("mars", (500, 1000), 2)
    write(results, tmp_path / "page")
    assert read(tmp_path / "page").runs == results.runs
    restore(read(tmp_path / "page"), tmp_path / "again")
    assert collect(tmp_path / "again").runs == results.runs
    for wrong in ([{"at": -1} | LATER], [{"at": 500}], 3):
        (folder.path / "config.json").write_bytes(to_file(content | {"resumed": wrong}))
        with pytest.raises(UserError, match=r"resumed = .*expected a list of tables"):
            collect(tmp_path)


def test_what_an_objective_took_is_the_share_of_its_jobs(jobs, tmp_path):
    for job in jobs:
        Folder(job).write()
    (cost, _) = costs(collect(tmp_path).runs)
    assert sum(cost.seconds.values()) == pytest.approx(6.0 * len(jobs) / 2)
    cut = dataclasses.replace(SUITE, seeds=(1,))
    write_suite(cut, tmp_path)
    write(collect(tmp_path), tmp_path / "page")
    restored = restore(read(tmp_path / "page"), tmp_path / "cut")
    assert len(restored.written) == len(jobs)
    (cost, _) = costs(collect(tmp_path / "cut").runs)
    assert sum(cost.seconds.values()) == pytest.approx(6.0 * len(jobs) / 4)


def test_methods_and_own_tasks_go_there_and_back(tmp_path):
    suite = dataclasses.replace(
        SUITE,
        settings=SUITE.settings | {"num_minibatches": 1},
        tasks=("mine:make", "lbf/10x10-3p-3f"),
        objectives=("mars@eps=0.1", "mars@wide", "mappo"),
        objective_settings={"mars@wide": {"eps": 0.9}},
        bounds={"mine:make": {"low": 0.0, "high": 4.0}},
    )
    store = tmp_path / "store"
    for job in plan(adopt(suite, store), store):
        Folder(job).write()
    results = collect(store)
    assert {run.objective for run in results.runs} == set(suite.objectives)
    assert {(row["family"], row["objective"]) for row in results.curves.to_pylist()} == {
        (family, label) for family in ("mine", "lbf") for label in suite.objectives
    }
    again = tmp_path / "again"
    restored(results, tmp_path / "page", again)
    assert collect(again).runs == results.runs
    rows = {row.task: row for row in summarize_benchmark(results).rows}
    assert (rows["mine:make"].low, rows["mine:make"].high) == (0.0, 4.0)
    data = to_marl_eval(results)
    assert set(data["mine"]["make"]) == set(suite.objectives)


# --- the doctor -----------------------------------------------------------------------------------


def texts(found):
    return [finding.text for finding in found]


def test_the_doctor_finds_nothing_in_a_sound_store(complete, tmp_path):
    write(complete, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert find_faults(tmp_path) == []
    assert repair(tmp_path) == ([], [])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with pytest.raises(UserError, match="is no store"):
        find_faults(tmp_path / "none")


def test_the_doctor_mends_what_can_be_made_anew(complete, jobs, tmp_path):
    """A suite of the tables, tables of the runs, rows twice, and what was left unfinished."""
    write(complete, tmp_path)
    path = tmp_path / "suite.toml"
    sound = path.read_bytes()
    path.write_bytes(flip(sound, 0.5))
    log = jobs[0].folder / "metrics.jsonl"
    rows = log.read_bytes()
    log.write_bytes(rows.split(b"\n")[0] + b"\n" + rows)
    old, new = tmp_path / "runs.json.0123.tmp", tmp_path / "curves.parquet.4567.tmp"
    for leftover in (old, new):
        leftover.touch()
    os.utime(old, (0, 0))
    (first, *others) = find_faults(tmp_path)
    assert "suite.toml was edited or damaged" in first.text
    assert first.remedy == f"writes {path} anew from runs.json"
    assert texts(others) == [f"{old} was left unfinished by an interruption"]
    mended, left = repair(tmp_path)
    assert [finding.text.split()[0] for finding in mended] == [str(path), str(old), str(log)]
    assert left == []
    assert (path.read_bytes(), log.read_bytes()) == (sound, rows)
    assert (tmp_path / "suite.toml.damaged").exists()
    assert log.with_name("metrics.jsonl.damaged").exists()
    assert new.exists()  # somebody may be writing it
    assert collect(tmp_path).runs == complete.runs
    (tmp_path / "episodes.parquet").write_bytes(b"PAR1")
    mended, left = repair(tmp_path)
    assert (len(mended), left) == (1, [])
    assert read(tmp_path).episodes.equals(complete.episodes)


def test_the_doctor_says_what_it_cannot_mend_and_deletes_nothing(complete, jobs, tmp_path):
    log, status = jobs[0].folder / "metrics.jsonl", jobs[1].folder / "status.json"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]))
    status.unlink()
    jobs[2].folder.rename(tmp_path / "away")
    jobs[2].folder.touch()
    mended, left = repair(tmp_path)
    assert mended == [] or all(str(status) in text for text in texts(mended))
    assert any("has no final row of seed 1" in text for text in texts(left))
    assert any("is no folder, expected that of a run" in text for text in texts(left))
    assert log.read_bytes() == b"".join(lines[:-1])
    assert jobs[2].folder.is_file()


def test_the_doctor_is_a_command(complete, jobs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("marsrl.cli.configure_jax", lambda: None)
    main(["doctor", str(tmp_path)])
    assert "is sound" in capsys.readouterr().out
    log = jobs[0].folder / "metrics.jsonl"
    rows = log.read_bytes()
    log.write_bytes(rows + rows)
    with pytest.raises(SystemExit) as end:
        main(["doctor", str(tmp_path)])
    assert end.value.code == 2
    assert "row(s) twice, alike but for times (--repair keeps the first" in capsys.readouterr().out
    assert log.read_bytes() == rows + rows
    main(["doctor", str(tmp_path), "--repair"])
    assert "is sound" in capsys.readouterr().out
    assert log.read_bytes() == rows


# --- marl-eval ------------------------------------------------------------------------------------


def test_marl_eval_has_its_form(complete):
    data = to_marl_eval(complete)
    assert {(env, *tasks) for env, tasks in data.items()} == {
        ("paxmen", "4ag"), ("lbf", "10x10-3p-3f"),
    }  # fmt: skip
    assert set(data["paxmen"]["4ag"]) == {"mars", "mappo"}
    assert data["paxmen"]["4ag"]["mars"]["seed_1"] == {
        "step_0": {"step_count": 0, "return": [1.0, 3.0]},
        "step_1": {"step_count": 500, "return": [1.5, 3.5]},
        "step_2": {"step_count": 1000, "return": [2.0, 4.0]},
        "absolute_metrics": {"return": [2.0, 4.0]},
    }


def test_marl_eval_there_and_back(complete, tmp_path):
    data = json.loads(json.dumps(to_marl_eval(complete)))
    back = from_marl_eval(data, "theirs")
    assert to_marl_eval(back) == data
    assert back.suite.name == "theirs"
    assert set(back.suite.tasks) == set(SUITE.tasks)
    assert {(r.status, r.step) for r in back.runs} == {("done", 1000)}
    write(back, tmp_path)
    assert read(tmp_path).episodes.equals(back.episodes)
    mean = select(back.curves, task="paxmen/4ag", objective="mars", seed=1, step=500)
    assert [(row["return"], row["phase"], row["seconds"]) for row in mean] == [(2.5, "eval", None)]


def test_only_ended_runs_are_exported(jobs, tmp_path):
    Folder(jobs[0]).write()
    Folder(jobs[1], steps=(0, 500), status="stopped").write()
    assert to_marl_eval(collect(tmp_path)) == {
        "paxmen": {"4ag": {"mars": to_marl_eval(collect(tmp_path))["paxmen"]["4ag"]["mars"]}}
    }


def test_a_diverged_run_is_exported_as_the_lowest(jobs, tmp_path):
    done, diverged = Folder(jobs[0]), Folder(jobs[1])
    assert (done.job.config.task, diverged.job.config.task) == ("paxmen/4ag", "paxmen/4ag")
    diverged.seeds["1"] = {"status": "diverged", "step": 700}
    diverged.rows = [
        r for r in diverged.rows if r["seed"] == 0 or r["step"] < 700 or r["kind"] == "final"
    ]
    diverged.write()
    worst = done.rows[0]
    worst["returns"], worst["return"] = [-23.0, 1.0], -11.0
    done.write()
    assert TASKS["paxmen/4ag"].low > -11
    data = to_marl_eval(collect(tmp_path))
    fallen = data["paxmen"]["4ag"]["mappo"]["seed_1"]
    assert fallen == {
        "step_0": {"step_count": 0, "return": [1.0, 3.0]},
        "step_1": {"step_count": 500, "return": [1.5, 3.5]},
        "step_2": {"step_count": 1000, "return": [-11.0]},
        "absolute_metrics": {"return": [-11.0]},
    }
    assert {run.step for run in from_marl_eval(data, "theirs").runs} == {1000}


def test_where_all_diverge_they_are_exported_as_the_random_policy(jobs, tmp_path):
    folder = Folder(jobs[0], steps=(0,), status="diverged")
    folder.write()
    runs = to_marl_eval(collect(tmp_path))["paxmen"]["4ag"]["mars"]
    low = TASKS["paxmen/4ag"].low
    assert low < 1
    assert [run["absolute_metrics"] for run in runs.values()] == [{"return": [low]}] * 2


def test_mixed_budgets_of_others_are_refused(complete):
    data = to_marl_eval(complete)
    data["paxmen"]["4ag"]["mappo"]["seed_1"]["step_2"]["step_count"] = 900
    text = "seed 1 of mappo on paxmen/4ag ends at step 900, seed 0 of mars at step 1000;"
    with pytest.raises(UserError, match=text):
        from_marl_eval(data, "theirs")


def test_a_run_that_others_have_is_missing(complete):
    data = to_marl_eval(complete)
    del data["paxmen"]["4ag"]["mars"]["seed_0"]
    back = from_marl_eval(data, "theirs")
    missing = [(r.task, r.objective, r.seed) for r in back.runs if r.status == "missing"]
    assert missing == [("paxmen/4ag", "mars", 0)]


ONE = {"step_count": 0, "mean_episode_return": [1]}
TEXT = ONE | {"step_count": "0"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "theirs holds no evaluations"),
        ([], r"the file is \[\], expected an object"),
        ({"lbf": {"10x10-3p-3f": 3}}, "lbf/10x10-3p-3f is 3, expected an object"),
        ({"lbf": {"10x10": {"a": {"r_0": {"step_0": ONE}}}}}, "unknown task 'lbf/10x10'; did you"),
        ({"paxmen": {"4ag": {"a": {"best": {}}}}}, "run 'best' of a on paxmen/4ag has no number"),
        ({"paxmen": {"4ag": {"a": {"r_0": {"step_0": {"x": 1}}}}}}, "4ag/a/r_0/step_0 has none of"),
        (
            {"paxmen": {"4ag": {"a": {"r_0": {"step_0": ONE | {"step_count": None}}}}}},
            "a/r_0/step_0/step_count is None, expected a whole number",
        ),
        (
            {"paxmen": {"4ag": {"a": {"r_0": {"absolute_metrics": ONE, "step_0": TEXT}}}}},
            "step_0/step_count is '0', expected a whole number",
        ),
        (
            {"paxmen": {"4ag": {"a": {"r_0": {"step_0": ONE}, "s_00": {"step_0": ONE}}}}},
            "runs 'r_0' and 's_00' of a on paxmen/4ag are both seed 0",
        ),
        (
            {"paxmen": {"4ag": {"a": {"r_0": {"step_0": {"step_count": 0, "return": 5}}}}}},
            "step_0/return is 5, expected a list of finite numbers",
        ),
        (
            {"paxmen": {"4ag": {"a": {"r_0": {"step_0": {"step_count": 0, "return": [None]}}}}}},
            r"step_0/return is \[None\], expected a list of finite numbers",
        ),
        (
            {"paxmen": {"4ag": {"a": {"r_0": {"step_0": {"step_count": 0, "return": [10**400]}}}}}},
            "step_0/return is .*about 401 digits.*, expected a list of finite numbers",
        ),
        (
            {"paxmen": {"4ag": {"a": {"r_0": {"step_0": {"step_count": 0, "return": [True]}}}}}},
            r"step_0/return is \[True\], expected a list of finite numbers",
        ),
        (
            {"paxmen": {"4ag": {"a": {"r_0": {"step_0": ONE | {"step_count": 10**20}}}}}},
            "step_count is 100000000000000000000, expected 0 to 9007199254740992; nearest",
        ),
        (
            {"paxmen": {"4ag": {"a": {"r_0": {"step_0": ONE, "step_1": ONE}}}}},
            "step_0 and step_1 of paxmen/4ag/a/r_0 are both at step 0",
        ),
        (
            {"paxmen": {"4ag": {"a": {"seed_" + "9" * 5000: {"step_0": ONE}}}}},
            r"run 'seed_9+'\.\.\. \(5,005 characters\) of a on paxmen/4ag has no number of 1 to 15",
        ),
        (
            {"paxmen": {"4ag": {"a\x1b[2J": {"r_0": {"step_0": ONE}}}}},
            r"objectives has 'a\\x1b\[2J', expected 1 to 200 printable characters",
        ),
        (
            {"x" * 100_000: {"y": {"a": {}}}},
            r"unknown task 'x+'\.\.\. \(100,002 characters\)",
        ),
    ],
)
def test_other_forms_are_refused(data, message):
    with pytest.raises(UserError, match=message) as caught:
        from_marl_eval(data, "theirs")
    assert len(str(caught.value)) < 2_500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": ' * 5_000 + "1" + "}" * 5_000, "nested too deeply|unknown task"),
        ('{"a": ' + "9" * 5_000 + "}", "is not JSON: .* has more than 20 digits"),
        ("[", "is not JSON"),
    ],
)
def test_json_without_end_is_refused_in_one_line(text, message, tmp_path, capsys):
    (tmp_path / "theirs.json").write_text(text)
    with pytest.raises(SystemExit) as end:
        main(["bench", "import", f"{tmp_path}/theirs.json", "--out", f"{tmp_path}/out"])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert not (tmp_path / "out").exists()


def test_other_names_of_the_return_are_read():
    back = from_marl_eval({"paxmen": {"4ag": {"ippo": {"r_7": {"step_0": ONE}}}}}, "theirs")
    assert [(r.objective, r.seed) for r in back.runs] == [("ippo", 7)]
