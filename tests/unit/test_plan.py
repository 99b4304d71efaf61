import contextlib
import dataclasses
import json
import threading
import time
from collections import Counter

import pytest

from marsrl.bench import plan as plan_module
from marsrl.bench.checks import check_same_code, check_unplanned
from marsrl.bench.locks import store_lock
from marsrl.bench.measure import Cost, costs, seconds_left
from marsrl.bench.plan import (
    adopt,
    batches,
    cell_folder,
    differences,
    plan,
    retire,
    rival_locks,
    shard,
    store_suite,
    task_folder,
)
from marsrl.bench.progress import State, has_ended, seed_states, unplanned
from marsrl.bench.show import progress, total
from marsrl.bench.suite import Suite
from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.runs.machine import CODE, describe_versions


def suite_of(**changes):
    defaults = {
        "name": "small",
        "tasks": ("lbf/10x10-3p-3f", "lbf/15x15-3p-5f", "paxmen/4ag"),
        "objectives": ("mars", "mappo"),
        "seeds": (0, 1, 2),
        "settings": {"total_steps": 1000},
    }
    return Suite(**(defaults | changes))


def begin(job, status=None, **more):
    job.folder.mkdir(parents=True)
    content = {"config": job.config.to_dict(), "hash": job.config.hash}
    (job.folder / "config.json").write_text(json.dumps(content))
    if status:
        seeds = {str(seed): status for seed in job.config.seeds}
        run = {"status": status["status"], "step": status["step"], "seeds": seeds} | more
        (job.folder / "status.json").write_text(json.dumps(run))


def described(jobs):
    return [(j.config.task, j.config.objective, j.config.seeds) for j in jobs]


# --- jobs and their order ------------------------------------------------------------------------


def test_families_take_turns_and_objectives_stay_together(tmp_path):
    order = [job.config.task for job in plan(suite_of(), tmp_path)]
    assert order[::2] == order[1::2] == ["lbf/10x10-3p-3f", "paxmen/4ag", "lbf/15x15-3p-5f"]
    objectives = [job.config.objective for job in plan(suite_of(), tmp_path)]
    assert objectives == ["mars", "mappo"] * 3


def test_every_run_is_planned_once_whatever_the_grouping(tmp_path):
    for per_job in (None, 1, 2, 7):
        suite = suite_of(seeds_per_job=per_job)
        jobs = plan(suite, tmp_path)
        runs = Counter((t, o, seed) for t, o, seeds in described(jobs) for seed in seeds)
        assert set(runs.values()) == {1}
        assert len(runs) == 3 * 2 * 3
        assert len({job.folder for job in jobs}) == len(jobs)


def test_first_seeds_come_before_more_seeds(tmp_path):
    jobs = plan(suite_of(seeds_per_job=2), tmp_path)
    assert [job.config.seeds for job in jobs] == [(0, 1)] * 6 + [(2,)] * 6


def test_folders_say_what_is_in_them(tmp_path):
    job = plan(suite_of(), tmp_path)[0]
    cell = tmp_path / "runs" / "lbf-10x10-3p-3f" / f"mars-{job.config.hash}"
    assert job.folder == cell / "seeds-0-1-2"
    assert (job.log, job.lock) == (cell / "seeds-0-1-2.log", cell / "seeds-0-1-2.lock")


def test_begun_jobs_keep_their_seeds_and_new_seeds_get_new_jobs(tmp_path):
    begin(plan(suite_of(seeds=(0, 1)), tmp_path)[0])
    first, *others = plan(suite_of(seeds=(0, 1, 2, 3)), tmp_path)
    assert first.config.seeds == (0, 1)
    extra = [job for job in others if job.folder.parent == first.folder.parent]
    assert [job.config.seeds for job in extra] == [(2, 3)]
    assert len(others) == 1 + 5


@pytest.mark.parametrize("count", [1, 2, 4, 50])
def test_shards_are_a_partition(count, tmp_path):
    jobs = plan(suite_of(seeds_per_job=1), tmp_path)
    shares = [shard(jobs, index, count) for index in range(1, count + 1)]
    assert Counter(job for share in shares for job in share) == Counter(jobs)
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 2  # a group: both objectives of a task and seed


@pytest.mark.parametrize("per_job", [None, 1, 2])
def test_a_shard_has_all_objectives_of_its_tasks_and_seeds(per_job, tmp_path):
    suite = suite_of(objectives=("mars", "mappo", "maspo"), seeds_per_job=per_job)
    jobs = plan(suite, tmp_path)
    begin(jobs[0])
    for count in (2, 3, 4):
        for index in range(1, count + 1):
            cells = Counter(
                (job.config.task, job.config.seeds)
                for job in shard(plan(suite, tmp_path), index, count)
            )
            assert set(cells.values()) <= {3}


def test_shards_stay_a_partition_while_jobs_begin(tmp_path):
    suite = suite_of(seeds_per_job=1)
    before = plan(suite, tmp_path)
    first = shard(before, 1, 2)
    for job in before:
        if job.config.seeds == (1,):
            begin(job)
    second = shard(plan(suite, tmp_path), 2, 2)
    assert set(described(first)) | set(described(second)) == set(described(before))
    assert set(described(first)) & set(described(second)) == set()


def test_rivals_are_other_jobs_with_a_seed_of_this_one(tmp_path):
    job = plan(suite_of(), tmp_path)[0]
    job.folder.parent.mkdir(parents=True)
    job.lock.touch()
    assert rival_locks(job) == []
    for name in ("seeds-2-3.lock", "seeds-3-4.lock", "seeds-0-1-2.lock.old", "seeds-x.lock"):
        (job.folder.parent / name).touch()
    assert [path.name for path in rival_locks(job)] == ["seeds-2-3.lock"]


# --- how far they are ----------------------------------------------------------------------------


def test_states_follow_the_files(tmp_path):
    missing, running, stopped, done, torn, failed = plan(suite_of(), tmp_path)
    begin(running)
    begin(stopped, {"status": "stopped", "step": 500})
    begin(done, {"status": "finished", "step": 1000})
    begin(torn)
    (torn.folder / "status.json").write_text("")
    failed.folder.parent.mkdir(parents=True, exist_ok=True)
    failed.failure.write_text("no luck")
    states = [seed_states(job)[0] for job in (missing, running, stopped, done, torn, failed)]
    assert states == [
        State("missing"), State("running"), State("running", 500), State("done", 1000),
        State("running"), State("failed"),
    ]  # fmt: skip
    assert [has_ended(job) for job in (stopped, done, torn)] == [False, True, False]


def test_a_diverged_seed_does_not_hide_the_others(tmp_path):
    job = plan(suite_of(), tmp_path)[0]
    begin(job, {"status": "running", "step": 500})
    status = json.loads((job.folder / "status.json").read_text())
    status["seeds"]["1"] = {"status": "diverged", "step": 320}
    (job.folder / "status.json").write_text(json.dumps(status))
    running = State("running", 500)
    assert seed_states(job) == {0: running, 1: State("diverged", 320, 320), 2: running}


# --- the store's suite ---------------------------------------------------------------------------


def test_a_store_keeps_and_grows_its_suite(tmp_path):
    store = tmp_path / "store"
    assert adopt(suite_of(), store) == suite_of() == store_suite(store)
    more = suite_of(objectives=("maspo",), seeds=(2, 9), tasks=("smax/2s3z",))
    grown = adopt(more, store)
    assert grown == store_suite(store)
    assert grown.objectives == ("mars", "mappo", "maspo")
    assert grown.seeds == (0, 1, 2, 9)
    assert grown.tasks[-1] == "smax/2s3z"
    assert adopt(suite_of(), store) == grown
    assert {path.name for path in store.iterdir()} == {"suite.toml"}


def test_what_two_add_at_a_time_is_not_lost(tmp_path, monkeypatch):
    adopt(suite_of(), tmp_path)
    reading = threading.Barrier(2, timeout=0.3)
    sealed = plan_module._sealed

    def write_slowly(text):
        with contextlib.suppress(threading.BrokenBarrierError):
            reading.wait()  # both have read the old suite, if nothing keeps them apart
        return sealed(text)

    monkeypatch.setattr(plan_module, "_sealed", write_slowly)
    names = ("maspo", "mars-log")
    threads = [
        threading.Thread(target=adopt, args=(suite_of(objectives=(name,)), tmp_path))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    assert set(store_suite(tmp_path).objectives) == {"mars", "mappo", *names}
    assert [path.name for path in tmp_path.iterdir()] == ["suite.toml"]


def test_a_store_that_somebody_else_changes_for_long_is_refused(tmp_path):
    text = f"{tmp_path} is being written by process"
    with store_lock(tmp_path), pytest.raises(UserError, match=text):
        store_lock(tmp_path, patience=0.0).__enter__()


def test_a_lock_that_nobody_can_have_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    with pytest.raises(UserError, match=r"cannot write .*nowhere.*: No such file or directory"):
        store_lock(tmp_path / "nowhere", patience=300).__enter__()


def test_methods_that_could_not_be_compared_do_not_come_into_one_store(tmp_path):
    mars = suite_of(objectives=("mars",), objective_settings={"mars": {"total_steps": 512}})
    adopt(mars, tmp_path)
    mappo = suite_of(objectives=("mappo",), objective_settings={"mappo": {"total_steps": 1024}})
    text = r"with what .* has already: mars and mappo on .* have total_steps = 512 and 1024"
    with pytest.raises(UserError, match=text):
        adopt(mappo, tmp_path)
    assert store_suite(tmp_path) == mars


def test_what_is_refused_leaves_a_store_as_it_was(tmp_path):
    def refuse(suite):
        assert "maspo" in suite.objectives
        raise UserError("no")

    more, store = suite_of(objectives=("maspo",)), tmp_path / "store"
    with pytest.raises(UserError, match="no"):
        adopt(more, store, refuse)
    assert not store.exists()
    adopt(suite_of(), store)
    before = (store / "suite.toml").stat()
    with pytest.raises(UserError, match="no"):
        adopt(more, store, refuse)
    assert (store / "suite.toml").stat() == before
    assert [path.name for path in store.iterdir()] == ["suite.toml"]


def test_what_another_adds_while_a_suite_is_checked_is_kept(tmp_path):
    """The check takes long in a large store, and all that start together wait for its lock."""
    checked = []

    def check(suite):
        checked.append(suite.objectives)
        if len(checked) == 1:
            adopt(suite_of(objectives=("maspo",)), tmp_path)

    grown = adopt(suite_of(), tmp_path, check)
    assert checked == [("mars", "mappo"), ("maspo", "mars", "mappo")]
    assert grown == store_suite(tmp_path)
    assert grown.objectives == checked[1]


def test_an_objective_is_taken_out_and_put_back(tmp_path):
    adopt(suite_of(), tmp_path)
    begin(plan(suite_of(), tmp_path)[0])
    with pytest.raises(UserError, match="has no objective 'marz'; did you mean mars"):
        retire("marz", tmp_path)
    left = suite_of(objectives=("mappo",), removed=("mars",))
    assert retire("mars", tmp_path) == store_suite(tmp_path) == left
    assert len(unplanned(store_suite(tmp_path), tmp_path)) == 1
    with pytest.raises(UserError, match="mappo is the only objective of"):
        retire("mappo", tmp_path)
    again = adopt(suite_of(), tmp_path)
    assert set(again.objectives) == {"mars", "mappo"}
    assert not again.removed
    assert unplanned(store_suite(tmp_path), tmp_path) == []


def test_settings_may_change_until_a_cell_has_begun(tmp_path):
    adopt(suite_of(), tmp_path)
    changed = suite_of(settings={"total_steps": 2000})
    assert adopt(changed, tmp_path) == changed
    begin(plan(changed, tmp_path)[0])
    with pytest.raises(UserError, match=r"begun mars on lbf/10x10.*steps = 2000 and 1000"):
        adopt(suite_of(), tmp_path)
    assert store_suite(tmp_path) == changed


LBF, PAXMEN = {"total_steps": 2000, "gamma": 0.9}, {"task_settings": {"paxmen/4ag": {"eps": 2.0}}}
ONE_LBF = {"tasks": ("lbf/10x10-3p-3f",)}
GAMMA = {"gamma": 0.8}
SMALLER = {
    "the same": (PAXMEN, True),
    "families that it does not name": (PAXMEN | {"family_settings": {"lbf": GAMMA}}, True),
    "settings of its cell": (
        PAXMEN | {"objective_settings": {"mars": {"task": {"paxmen/4ag": GAMMA}}}},
        True,
    ),
    "another task": ({"tasks": ("smax/2s3z",), "family_settings": {"smax": GAMMA}}, True),
    "another method": (
        PAXMEN | {"objectives": ("maspo",), "objective_settings": {"maspo": GAMMA}},
        True,
    ),
    "other seeds": (PAXMEN | {"seeds": (2, 3)}, True),
    "other settings": (PAXMEN | {"settings": {"total_steps": 1000, "gamma": 0.8}}, False),
    "a task without its table": ({}, False),
    "a method with another table": (PAXMEN | {"objective_settings": {"mars": GAMMA}}, False),
    "a family with another table": (ONE_LBF | {"family_settings": {"lbf": GAMMA}}, False),
    "a family without its table": (ONE_LBF, False),
    "other seeds and settings": (
        PAXMEN | {"seeds": (2, 3), "objective_settings": {"mars": {"family": {"paxmen": GAMMA}}}},
        False,
    ),
}


@pytest.mark.parametrize(("changes", "adopted"), SMALLER.values(), ids=SMALLER)
def test_what_a_smaller_suite_does_not_name_stays_as_it_was(changes, adopted, tmp_path):
    inner = {"task": {"lbf/15x15-3p-5f": {"eps": 3.0}}, "family": {"lbf": {"gae_lambda": 0.9}}}
    methods = {"mappo": {"width": 32} | inner, "mars": inner}
    old = suite_of(family_settings={"lbf": LBF}, objective_settings=methods, **PAXMEN)
    adopt(old, tmp_path)
    smaller = suite_of(**{"tasks": ("paxmen/4ag",), "objectives": ("mars",)} | changes)
    if adopted:
        assert adopt(smaller, tmp_path) == store_suite(tmp_path)
    else:
        with pytest.raises(UserError, match=r"small would change what .* has beyond it: "):
            adopt(smaller, tmp_path)
    grown = store_suite(tmp_path)
    for task in old.tasks:
        for label in old.objectives:
            whole = set(old.seeds) <= set(smaller.seeds)
            if not (whole and task in smaller.tasks and label in smaller.objectives):
                assert grown.config(task, label).hash == old.config(task, label).hash
    for task in smaller.tasks if adopted else ():
        for label in smaller.objectives:
            assert grown.config(task, label).hash == smaller.config(task, label).hash


def test_the_first_of_what_a_smaller_suite_would_change_is_named(tmp_path):
    adopt(suite_of(family_settings={"lbf": LBF}), tmp_path)
    smaller = suite_of(tasks=("lbf/10x10-3p-3f",), settings={"total_steps": 1000, "gamma": 0.8})
    text = (
        r"small would change .*: lbf/15x15-3p-5f mars, seeds 0 1 2 \(total_steps = 2000 and 1000, "
        r"gamma = 0.9 and 0.8\), and 3 more; take the settings of .*suite.toml, or choose another"
    )
    with pytest.raises(UserError, match=text):
        adopt(smaller, tmp_path)


def test_a_suite_that_was_damaged_is_not_taken_for_another(tmp_path):
    adopt(suite_of(), tmp_path)
    path = tmp_path / "suite.toml"
    text = path.read_text()
    path.write_text(text.replace("seeds = [0, 1, 2]", "seeds = [0, 1, 3]"))
    with pytest.raises(UserError, match=r"suite\.toml was edited or damaged: its checksum differs"):
        store_suite(tmp_path)
    path.write_text(path.read_text().partition("\n")[2])  # as the message says
    assert store_suite(tmp_path).seeds == (0, 1, 3)
    path.write_text(text)
    assert store_suite(tmp_path) == suite_of()


def test_a_folder_without_a_suite_is_no_store(tmp_path):
    with pytest.raises(UserError, match=r"is no store: it has no suite\.toml"):
        store_suite(tmp_path)


def test_published_results_are_not_made_a_store(tmp_path):
    (tmp_path / "runs.json").touch()
    message = "holds results without their run folders; choose another folder, which marsrl bench"
    with pytest.raises(UserError, match=message):  # of `bench run --store`, `compare --out`
        adopt(suite_of(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["runs.json"]


def test_runs_of_another_configuration_are_unplanned(tmp_path):
    other = suite_of(settings={"total_steps": 2000})
    begin(plan(other, tmp_path)[0])
    begin(plan(suite_of(), tmp_path)[0])
    cell = cell_folder(tmp_path, "mars", other.config("lbf/10x10-3p-3f", "mars"))
    assert unplanned(suite_of(), tmp_path) == [cell]
    assert unplanned(other, tmp_path) == [
        cell_folder(tmp_path, "mars", suite_of().config(other.tasks[0], "mars"))
    ]


# --- estimates -----------------------------------------------------------------------------------


def test_jobs_that_ended_are_measurements(tmp_path):
    jobs = plan(suite_of(), tmp_path)
    end = {"status": "finished", "step": 1000}
    for job, train, memory in zip(jobs[:2], (10.0, 30.0), (500, 700), strict=True):
        seconds = {"compile": 5.0, "train": train, "evaluate": 1.0}
        begin(job, end, seconds=seconds, peak_memory_mb=memory)
    begin(jobs[2], {"status": "stopped", "step": 250})
    known = costs(jobs, tmp_path, measure=False, tell=print)
    assert known == dict.fromkeys(jobs[:2], Cost(26.0, 700))
    assert seconds_left(jobs[0], known[jobs[0]]) == 0
    assert seconds_left(jobs[2], Cost(100.0, 1)) == 75.0


def test_trials_are_kept(tmp_path, monkeypatch):
    tried = []

    def pretend(config):
        tried.append(config.task)
        return {"seconds": 60.0, "peak_memory_mb": 100.0}

    monkeypatch.setattr("marsrl.bench.measure._try", pretend)
    jobs = plan(suite_of(), tmp_path)
    for _ in range(2):
        known = costs(jobs, tmp_path, measure=True, tell=tried.append)
        assert set(known.values()) == {Cost(60.0, 100.0)}
        assert set(known) == set(jobs)
    assert tried == [
        word for task in ("lbf/10x10-3p-3f", "paxmen/4ag", "lbf/15x15-3p-5f")
        for word in (f"trying {task} ...", task)
    ]  # fmt: skip


def test_a_trial_that_was_damaged_is_done_again(tmp_path, monkeypatch):
    (job, *_) = jobs = plan(suite_of(tasks=("paxmen/4ag",), objectives=("mars",)), tmp_path)
    right = {"seconds": 60.0, "peak_memory_mb": 100.0}
    monkeypatch.setattr("marsrl.bench.measure._try", lambda config: right)
    path = tmp_path / "measurements.json"
    key = f"{job.config.task} {job.config.hash} 3"
    for wrong in (None, 3, {}, {"seconds": "x", "peak_memory_mb": 1}, right | {"seconds": -1}):
        path.write_text(json.dumps({key: wrong}))
        assert costs(jobs, tmp_path, measure=True, tell=print) == {job: Cost(60.0, 100.0)}
    for text in ("", "[]", "[" * 5000):
        path.write_text(text)
        assert costs(jobs, tmp_path, measure=True, tell=print) == {job: Cost(60.0, 100.0)}


def test_a_short_plan_is_told_in_minutes(tmp_path):
    suite = suite_of(tasks=("paxmen/4ag",))
    jobs = plan(suite, tmp_path)
    known = dict.fromkeys(jobs, Cost(1800.0, 700.0))
    assert "2 jobs left, about 30.0 min with 2 workers, and up to 1,400 MB" in total(
        suite, jobs, known, workers=2
    )
    assert "about 1.0 h with 1 worker, and up to 700 MB" in total(suite, jobs, known, workers=1)
    begin(jobs[0], {"status": "finished", "step": 1000})
    assert "1 job left, about 30.0 min" in total(suite, jobs, known, workers=1)


# --- methods and processes -----------------------------------------------------------------------


SWEEP = tuple(f"mars@eps={eps}" for eps in (0.1, 0.2, 0.4))


def test_no_two_methods_share_a_folder(tmp_path):
    names = ("mars", "mars@a", "mars@eps=0.4", "mars@eps-0.4", "m:f", "m.py:f", "m:f@eps=0.4")
    suite = suite_of(objectives=names, tasks=("paxmen/4ag",))
    jobs = plan(suite, tmp_path)
    assert [job.label for job in jobs] == list(names)
    assert len({job.folder for job in jobs}) == len(names)
    assert jobs[2].folder.parent.name == f"mars@eps=0.4-{jobs[2].config.hash}"
    assert jobs[2].name == "paxmen/4ag mars@eps=0.4, seeds 0 1 2"
    begin(jobs[2])
    assert [job.folder.exists() for job in plan(suite, tmp_path)].count(True) == 1
    assert unplanned(suite, tmp_path) == []


def test_points_of_a_sweep_share_a_process(tmp_path):
    labels = (*SWEEP, "mars@eps=0.4,eps_end=0.1", "mars@width=32", "mappo", "mappo@gamma=0.9")
    suite = suite_of(objectives=labels, tasks=("paxmen/4ag", "lbf/10x10-3p-3f"))
    jobs = plan(suite, tmp_path)
    assert [[job] for job in jobs] == batches(jobs, 1)
    for size, expected in (
        (2, [SWEEP[:2], SWEEP[2:], *((x,) for x in labels[3:5]), labels[5:]]),
        (9, [SWEEP, *((x,) for x in labels[3:5]), labels[5:]]),
    ):
        found = batches(jobs, size)
        for task in suite.tasks:
            of_task = [batch for batch in found if batch[0].config.task == task]
            assert [tuple(job.label for job in batch) for batch in of_task] == expected
        assert sum(map(len, found)) == len(jobs)
    later = plan(dataclasses.replace(suite, seeds=(3,)), tmp_path)
    assert all(len({job.config.seeds for job in b}) == 1 for b in batches([*jobs, *later], 9))


def test_a_store_keeps_the_settings_of_its_methods(tmp_path):
    own = {"mars@wide": {"eps": 4.0}, "mars": {"actor_lr": 1e-3}}
    suite = suite_of(objectives=("mars", "mars@wide"), objective_settings=own)
    adopt(suite, tmp_path)
    grown = adopt(suite_of(objectives=("mappo",), bounds={"m:f": {"low": 0, "high": 1}}), tmp_path)
    assert grown.objectives == ("mars", "mars@wide", "mappo")
    assert grown.objective_settings == own
    assert grown.bounds == {"m:f": {"low": 0, "high": 1}}
    with pytest.raises(UserError, match=r"has beyond it: lbf/10x10.* mars, .*actor_lr = 0.001 and"):
        adopt(suite_of(objectives=("mars@eps=0.4",)), tmp_path)  # it has a mars of other settings
    with_mars = suite_of(objectives=("mars", "mars@eps=0.4"))
    assert adopt(with_mars, tmp_path).objective_settings == {"mars@wide": {"eps": 4.0}}
    left = retire("mars@wide", tmp_path)
    back = adopt(dataclasses.replace(left, objectives=("mars@wide",)), tmp_path)
    assert back.config("lbf/10x10-3p-3f", "mars@wide").eps == 4.0
    assert (back.objectives[-1], back.removed) == ("mars@wide", ())
    other = suite_of(bounds={"m:f": {"low": 0, "high": 2}})
    assert adopt(other, tmp_path).bounds == other.bounds
    task_folder(tmp_path, "m:f").mkdir(parents=True)
    with pytest.raises(UserError, match=r"has begun m:f with scores of 0 and 2 as 0 and 1, and"):
        adopt(suite_of(bounds={"m:f": {"low": 0, "high": 1}}), tmp_path)


def test_each_method_keeps_how_its_settings_were_found(tmp_path):
    adopt(suite_of(chosen="by hand"), tmp_path)
    grown = adopt(suite_of(objectives=("maspo",), chosen="marsrl tune"), tmp_path)
    assert [grown.chosen_of(x) for x in ("mars", "mappo", "maspo")] == [
        *("by hand", "by hand"), "marsrl tune",
    ]  # fmt: skip
    assert retire("maspo", tmp_path).chosen_of("maspo") == "marsrl tune"
    silent = adopt(suite_of(objectives=("mars@eps=2.0",)), tmp_path)
    assert silent.chosen_of("mars@eps=2.0") == "by hand"  # as that of its base
    assert adopt(suite_of(objectives=("ano",)), tmp_path).chosen_of("ano") == ""


def test_settings_that_no_number_depends_on_are_no_difference():
    one = Config().to_dict()
    assert differences(one, one | {"log_interval": 5, "devices": 2, "seeds": [7]}) == ""
    assert differences(one, one | {"gamma": 0.5}) == "gamma = 0.99 and 0.5"


def test_a_method_that_has_begun_keeps_its_settings(tmp_path):
    suite = suite_of(objectives=("mars@wide",), objective_settings={"mars@wide": {"eps": 4.0}})
    begin(plan(adopt(suite, tmp_path), tmp_path)[0])
    other = dataclasses.replace(suite, objective_settings={"mars@wide": {"eps": 5.0}})
    message = r"has begun mars@wide on lbf/10x10.*eps = 4.0 and 5.0\); choose another folder$"
    with pytest.raises(UserError, match=message):
        adopt(other, tmp_path)
    with pytest.raises(UserError, match=r"of mars@wide on .*has other settings: eps"):
        check_unplanned(other, tmp_path, plan(other, tmp_path))
    named = suite_of(objectives=("mars@other",), objective_settings={"mars@other": {"eps": 5.0}})
    check_unplanned(named, tmp_path, plan(named, tmp_path))  # another method, which may begin


def test_the_status_of_many_methods_has_a_row_for_each(tmp_path):
    labels = tuple(f"mars@eps={eps / 10}" for eps in range(1, 25))
    suite = suite_of(objectives=labels, tasks=("lbf/10x10-3p-3f",))
    table, totals = progress(suite, plan(suite, tmp_path))
    assert table.row_count == 24
    assert totals == "72 missing"


# --- runs of the same code -----------------------------------------------------------------------


def test_runs_of_other_code_are_not_gone_on_with(tmp_path):
    jobs = plan(suite_of(), tmp_path)
    ours = describe_versions()
    check_same_code(jobs, ours)  # nothing has begun
    for job, versions in zip(
        jobs, (ours, ours | {"brax": None, "orbax-checkpoint": "0"}), strict=False
    ):
        begin(job)
        content = {"config": job.config.to_dict(), "versions": versions}
        (job.folder / "config.json").write_text(json.dumps(content))
    check_same_code(jobs, ours)
    check_same_code(jobs, ours | {"mujoco": None})
    with pytest.raises(
        UserError, match=f"2 of the store's jobs, .*: jax {ours['jax']}, here 9; go"
    ):
        check_same_code(jobs, ours | {"jax": "9"})
    with pytest.raises(UserError, match=rf"marsrl code {ours[CODE]}, here 0123; .*--mixed"):
        check_same_code(jobs, ours | {CODE: "0123"})
    old = {name: version for name, version in ours.items() if name != CODE}
    (jobs[0].folder / "config.json").write_text(json.dumps({"versions": old}))
    with pytest.raises(UserError, match=r"1 of the store's jobs, .*marsrl code unknown, here"):
        check_same_code(jobs, ours)
