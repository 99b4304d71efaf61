"""The speed benchmarks run on tiny settings, write what they promise, and count right."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import env_speed
import host_envs
import learning_speed
import pictures
import profile_loop
import reset_speed
import scaling
import sweep_speed
import time_to_quality
import timing
import training_speed
import trainings
import workarounds
from environments import Scripted, small_config
from marsrl import compiler
from marsrl.config import Config
from marsrl.distributions import Categorical
from marsrl.envs.check import check_env
from marsrl.envs.paxmen import PaxMen
from marsrl.envs.paxmen.rules import AGENT, DOT, WALL
from marsrl.errors import UserError
from marsrl.learner.program import Program
from plain import Plain

TINY = small_config(task="environments:Scripted", seeds=(0,), core="ff")


# --- what they share ------------------------------------------------------------------------------


def test_calls_are_timed_in_turn():
    order = []
    calls = {name: lambda i, name=name: order.append((name, i)) for name in "ab"}
    seconds = timing.in_turn(calls, 2, warm_up=1)
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert [len(clock) for clock in (*seconds["a"], *seconds["b"])] == [2] * 4


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "folder" / "x.json"
    timing.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        timing.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_table():
    assert timing.table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_a_fresh_process_is_another_one():
    assert timing.fresh(os.getpid) != os.getpid()


# --- the plain trainer ----------------------------------------------------------------------------


def test_plain_replays_what_it_played():
    # several episodes, so that the carry must start anew inside
    trainer = Plain(TINY, Scripted())

    @jax.jit
    def play_and_replay():
        start = trainer.init(jax.random.key(0))
        _, steps = jax.lax.scan(trainer.play, start, length=12)
        actor, critic = start.params["actor"], start.params["critic"]
        _, logits = trainer.actor.apply(actor, start.carry[0], steps.obs, steps.first)
        _, value = trainer.critic.apply(critic, start.carry[1], steps.world, steps.first)
        return steps, Categorical(logits, steps.legal).log_prob(steps.action), value[..., 0]

    steps, log_prob, value = play_and_replay()
    assert steps.first[0].all()
    assert steps.first[1:].any()
    assert (steps.done[:-1] == steps.first[1:]).all()
    np.testing.assert_allclose(log_prob, steps.log_prob, atol=1e-5)
    np.testing.assert_allclose(value, steps.value, atol=1e-5)
    ids = np.tile(np.eye(2), (12, 4, 1))
    assert (steps.obs[..., -2:] == ids).all()
    assert (steps.world[..., -2:] == ids).all()


# --- training speed -------------------------------------------------------------------------------


def test_training_speed(tmp_path, monkeypatch):
    def fresh(call, *rest):  # the second process would only compile again
        return 0.5 if call is training_speed.measure_warm else timing.fresh(call, *rest)

    monkeypatch.setattr(training_speed, "fresh", fresh)
    monkeypatch.setattr(training_speed, "ROWS", {"mpe": TINY})
    path = tmp_path / "speed.json"
    args = training_speed.Args(
        rows=("mpe",), seeds=2, devices=2, repetitions=5, json=path, settings={"width": 4}
    )
    training_speed.run(args)
    row = json.loads(path.read_text())["mpe"]
    assert row["config"]["width"] == 4
    assert {name: len(taken) for name, taken in row["seconds"].items()} == {
        "marsrl": 5,
        "matmul": 5,
        "plain": 5,
    }
    median = np.median(row["seconds"]["marsrl"])
    assert row["steps_per_second"] == pytest.approx(2 * 4 * 12 / median)
    assert row["ratio"] == pytest.approx(np.median(row["seconds"]["plain"]) / median)
    assert row["share_of_peak"] == pytest.approx(row["gflops"] / row["matmul_gflops"])
    assert row["circumstances"]["machine"]["num_devices"] == 2
    assert path.with_suffix(".md").read_text().count("\n") == 3


def test_workarounds_are_left_out_one_at_a_time(tmp_path, monkeypatch):
    option = "xla_backend_optimization_level"
    monkeypatch.setattr(workarounds, "ROWS", {"mpe": TINY})
    path = tmp_path / "workarounds.json"
    args = workarounds.Args(
        ("mpe",), (option,), starts=2, repetitions=3, devices=1, json=path
    )  # fmt: skip
    workarounds.run(args)
    row = json.loads(path.read_text())["mpe"]
    for what, times in (("cold", 1), ("warm", 2), ("update", 3)):
        assert {name: len(taken) for name, taken in row[what].items()} == {
            "nothing": times,
            option: times,
        }
    assert path.with_suffix(".md").read_text().count("\n") == 4
    with pytest.raises(UserError, match="no_garbage_collection"):
        workarounds.Args(("mpe",), ("garbage",))


@pytest.mark.parametrize("name", workarounds.WORKAROUNDS)
def test_what_stands_in_place_of_a_workaround(name):
    module, function, plain = workarounds.WORKAROUNDS[name]
    assert getattr(module, function) is getattr(compiler, function)
    if function == "compiler_options":
        assert plain("gpu") is None
        assert {name} == compiler.compiler_options("cpu").keys() - plain("cpu").keys()


def test_forward_flops():
    program = Program(dataclasses.replace(TINY, width=7), Scripted())
    hidden = 7 * 7 + 7
    actor = (3 * 7 + 7) + 2 * 7 + hidden + (7 * 3 + 3)  # the agents' ids are parameters too
    critic = (3 * 7 + 7) + hidden + (7 + 1)
    assert training_speed.forward_flops(program) == 2 * (2 * actor + critic)


@pytest.mark.parametrize(
    ("make_args", "told"),
    [
        (lambda: training_speed.Args(rows=("smx",)), "did you mean smax"),
        (lambda: training_speed.Args(repetitions=4), "expected at least 5"),
        (lambda: scaling.Args(only=("env",)), "did you mean envs"),
        (lambda: scaling.Args(repetitions=1), "expected at least 5"),
        (lambda: learning_speed.Args(tasks=("paxman",)), "did you mean paxmen"),
    ],
)
def test_wrong_arguments_are_refused(make_args, told):
    with pytest.raises(UserError, match=told):
        make_args()


# --- scaling --------------------------------------------------------------------------------------


def test_scaling_keeps_its_points(tmp_path, monkeypatch):
    curve = scaling.Curve("width", (2, 4), lambda x: Config(width=x))
    monkeypatch.setattr(scaling, "CURVES", {"width": curve, "seeds": curve})
    numbers = dict.fromkeys(scaling.KEPT, 0.5) | {"circumstances": timing.circumstances()}
    calls = []

    def fresh(call, config, repetitions):
        calls.append((call, config.width, repetitions))
        if config.width == 4:
            raise BrokenProcessPool
        return numbers | {"steps_per_second": 1000.0 * config.width}

    monkeypatch.setattr(scaling, "fresh", fresh)
    args = scaling.Args(out=tmp_path, only=("width",), repetitions=6)
    results = scaling.run(args)
    assert calls == [(training_speed.measure, 2, 6), (training_speed.measure, 4, 6)]
    assert results["width"]["2"]["steps_per_second"] == 2000
    assert results["width"]["2"]["config"] == Config(width=2).to_dict()
    assert "memory" in results["width"]["4"]["failed"]
    assert (tmp_path / "scaling.png").stat().st_size > 1000
    assert (tmp_path / "scaling.md").read_text().count("| width |") == 1
    assert json.loads((tmp_path / "scaling.json").read_text()) == results
    del calls[:]
    scaling.run(dataclasses.replace(args, only=("width", "seeds")))
    assert [width for _, width, _ in calls] == [4, 2, 4]  # what is measured is kept


def test_points_of_a_curve_differ():
    for curve in scaling.CURVES.values():
        assert len({curve.config(x) for x in curve.xs}) == len(curve.xs)


# --- profile --------------------------------------------------------------------------------------

HLO = """\
%body.1 (arg: (s32[], f32[4])) -> (s32[], f32[4]) {
  %copy.1 = f32[4]{0} copy(%arg)
  ROOT %add.1 = f32[4]{0} add(%copy.1, %copy.1), metadata={op_name="jit(f)/part_rules/add"}
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %while.1 = f32[4] while(%x), condition=%c, body=%body.1, metadata={op_name="part_fresh"}
  %dot.1 = f32[4]{0} dot(%x, %x)
  %grad.1 = f32[4]{0} multiply(%x, %x), metadata={op_name="transpose(jvp(part_network))/mul"}
  %bits.1 = u32[4]{0} fusion(%x), metadata={op_name="jit(f)/jit(_threefry_split)/xor"}
  ROOT %copy.2 = f32[4]{0} copy(%x)
}
"""


def test_parts_of_a_program():
    assert profile_loop.parts_of(HLO) == {
        "copy.1": "fresh",
        "add.1": "rules",
        "while.1": "fresh",
        "dot.1": "network",
        "grad.1": "network",
        "bits.1": "random",
        "copy.2": "rest",
    }


def test_operations_count_without_those_inside():
    def event(name, start, end):
        return SimpleNamespace(name=name, start_ns=start * 1e9, duration_ns=(end - start) * 1e9)

    events = [
        event("while.1", 0, 10),
        event("ThunkExecutor::Execute", 1, 9),
        event("add.1", 2, 5),
        event("copy.1", 5, 6),
        event("dot.1", 12, 15),
    ]
    spent = profile_loop.self_seconds(events, profile_loop.parts_of(HLO))
    assert spent == {"fresh": 7, "rules": 3, "network": 3}


def test_profile(tmp_path, monkeypatch):
    path = tmp_path / "profile.json"
    monkeypatch.setattr(
        profile_loop, "preset", lambda task, **more: small_config(task=task, **more)
    )
    profile_loop.run(profile_loop.Args(tasks=(TINY.task,), updates=2, json=path))
    shares = json.loads(path.read_text())[TINY.task]["shares"]
    assert set(shares) == set(profile_loop.PARTS)
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0
    assert path.with_suffix(".md").read_text().count("\n") == 3


# --- learning curves ------------------------------------------------------------------------------


def test_learning_speed_keeps_what_is_finished(tmp_path, monkeypatch):
    small = dataclasses.replace(TINY, total_steps=96, num_evaluations=2, eval_episodes=2)
    monkeypatch.setattr(learning_speed, "TASKS", {"small": small})
    args = learning_speed.Args(out=tmp_path, tasks=("small",), seeds=(0, 1))
    curves = learning_speed.run(args)
    for step, returns in curves["small"].values():
        assert step.tolist() == [0, 48, 96]
        assert returns.shape == (2, 3)
        assert np.isfinite(returns).all()
    assert (tmp_path / "learning-speed.png").stat().st_size > 1000
    assert (tmp_path / "learning-speed.md").read_text().count("\n") == 4
    for module, name in (
        (trainings, "train"),
        (trainings, "resume"),
        (learning_speed, "write_json"),
    ):
        monkeypatch.setattr(module, name, None)
    assert learning_speed.run(args).keys() == curves.keys()
    monkeypatch.setattr(learning_speed, "TASKS", {"small": dataclasses.replace(small, gamma=0.5)})
    with pytest.raises(UserError, match="another configuration"):
        learning_speed.run(args)
    with pytest.raises(UserError, match="another configuration"):
        learning_speed.ensure_plain(learning_speed.TASKS["small"], tmp_path / "small-plain")


def test_what_a_benchmark_compares_is_trained_once_and_drawn(tmp_path, monkeypatch):
    small = dataclasses.replace(TINY, total_steps=96, num_evaluations=2, eval_episodes=2)
    configs = {"one": small, "other": dataclasses.replace(small, gamma=0.5, seeds=(0, 1))}
    text = trainings.side_by_side("gamma", configs, tmp_path, "gammas.png")
    head, _, one, other = text.splitlines()
    assert head == "| gamma | final return of each seed | mean |"
    finals = [x.split() for x in (one.split("|")[2], other.split("|")[2])]
    assert list(map(len, finals)) == [1, 2]
    assert (tmp_path / "gammas.png").stat().st_size > 1000
    for name in ("train", "resume"):
        monkeypatch.setattr(trainings, name, None)
    assert trainings.side_by_side("gamma", configs, tmp_path, "gammas.png") == text


def test_paxmen_as_a_picture_shows_what_its_row_shows():
    env, key = pictures.PaxMenPictures(), jax.random.key(0)
    check_env(env, num_steps=3)
    row, picture = PaxMen().reset(key)[1].obs, env.reset(key)[1].obs
    assert picture.dtype == np.uint8
    colours = np.array([WALL, DOT, AGENT], np.float32)
    np.testing.assert_allclose((picture / 255 @ colours).reshape(4, 25), row, rtol=1e-6)


# --- time to quality ------------------------------------------------------------------------------


def test_the_mean_is_of_the_last_hundred_episodes():
    updates = [
        time_to_quality.Update(seconds, 10 * seconds, count, count * mean)
        for seconds, count, mean in ((1, 90, 5.0), (2, 0, 0.0), (3, 60, 1.0), (4, 100, 2.0))
    ]
    means = [time_to_quality.last_mean(updates[: i + 1]) for i in range(4)]
    np.testing.assert_allclose(means, [np.nan, np.nan, (90 * 5 + 60) / 150, 2.0])
    assert time_to_quality.reached(updates, 3.0) == updates[2]
    assert time_to_quality.reached(updates, 3.5) is None


def test_time_to_quality(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("MARSRL_TRUST", "1")
    ours = dataclasses.replace(TINY, total_steps=4800, num_evaluations=2, eval_episodes=2)
    goal = time_to_quality.Goal(None, ours, dataclasses.replace(ours, core="gru"))
    monkeypatch.setattr(time_to_quality, "GOALS", {"small": goal})
    monkeypatch.setattr(time_to_quality, "EPISODES", 8)
    args = time_to_quality.Args(out=tmp_path, tasks=("small",), seeds=(3,))
    results = time_to_quality.run(args)
    ended = [
        json.loads((tmp_path / f"small-{name}-3.json").read_text())["updates"]
        for name in ("plain", "marsrl")
    ]
    for updates in ended:
        seconds, steps, counts, _ = zip(*updates, strict=True)
        assert list(seconds) == sorted(seconds)
        assert list(steps) == sorted(steps)
        assert steps[-1] / 5 - 4 <= sum(counts) <= steps[-1] / 3  # of three or five steps
    assert "| marsrl |" in time_to_quality.markdown(results)
    time_to_quality.draw(results, tmp_path / "figure.png")
    monkeypatch.setattr(time_to_quality, "measure", None)
    assert time_to_quality.run(args) == results


def test_a_sweep_trains_what_it_says(monkeypatch):
    monkeypatch.setattr(sweep_speed, "preset", lambda task: TINY)
    monkeypatch.setattr(sweep_speed, "start_jax", lambda: None)
    args = sweep_speed.Args(task="tiny", eps=(0.5, 2.0), seeds=2, repetitions=5)
    sizes = {name: [[len(c.seeds) for c in p] for p in ps] for name, ps in args.ways().items()}
    assert sizes == {"seeds": [[4]], "sweep": [[2, 2]], "apart": [[2], [2]]}
    assert [config.eps for config in args.ways()["sweep"][0]] == [0.5, 2.0]
    result = sweep_speed.run(args)
    assert result["ways"]["seeds"]["time"] == 1.0
    assert all(len(way["seconds"]) == 5 for way in result["ways"].values())
    assert sweep_speed.markdown(result).count("\n") == 5


# --- environments ---------------------------------------------------------------------------------


def test_env_speed():
    args = env_speed.Args(task=TINY.task, num_envs=2, num_steps=3, repetitions=5, pool=1)
    result = env_speed.measure(args)
    assert {name: len(rates) for name, rates in result["rates"].items()} == {
        "auto_reset/wall": 5,
        "auto_reset/cpu": 5,
        "no_reset/wall": 5,
        "no_reset/cpu": 5,
    }


def test_reset_speed(monkeypatch):
    # jumanji's own loop takes long to compile
    monkeypatch.setattr(reset_speed, "shipped_loop", reset_speed.bare_loop)
    args = reset_speed.Args(num_envs=2, rollout_length=3, pool=1, repetitions=1)
    rates = reset_speed.measure(TINY.task, args)
    assert list(rates) == ["shipped", "pool", "none"]
    assert min(rates.values()) > 0


# --- environments outside of JAX ------------------------------------------------------------------


def test_environments_outside_of_jax(tmp_path, monkeypatch, capsys):
    tiny = dataclasses.replace(TINY, task="pettingzoo:host_games:Simple", total_steps=48, width=4)
    monkeypatch.setattr(host_envs, "HOST", tiny)
    monkeypatch.setattr(host_envs, "TRAINED", {"mpe2": tiny, "jaxmarl": TINY})
    monkeypatch.setattr(host_envs, "start_jax", lambda: None)
    monkeypatch.setenv(host_envs.VARIABLE, "1")
    points = {0: [1.0, 2.0], 48: [3.0, 4.0]}
    monkeypatch.setattr(host_envs, "ensure_trained", lambda config, run: write_curve(run, points))
    host_envs.main(host_envs.Args(tmp_path / "out", (1,), 4, 48, (0, 1)))
    text = capsys.readouterr().out
    assert (tmp_path / "out" / "tables.md").read_text().strip() == text.strip()
    (row,) = re.findall(r"^\| 1 \| ([\d.]+) \| (-?[\d.]+) \| (-?[\d.]+) \| [\d,]+ \|$", text, re.M)
    assert float(row[0]) >= 0
    assert "| 48 | 3.5 (3.0 to 4.0) | 3.5 (3.0 to 4.0) |" in text
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")


def write_curve(run, points):
    run.mkdir()
    (run / "status.json").write_text("{}")
    lines = [
        json.dumps({"kind": "eval", "step": step, "seed": seed, "return": value})
        for step, values in points.items()
        for seed, value in enumerate(values)
    ]
    (run / "metrics.jsonl").write_text("\n".join(lines))
