"""A search whose runs are pretended: what one comes to depends on its trust region alone.

As a program, `python pretend_tune.py FOLDER TRIALS`, it is a launcher that can be killed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from marsrl.bench import launch as bench_launch
from marsrl.config import Config
from marsrl.tune import launch
from marsrl.tune.plan import Study, Tuning, adopt
from marsrl.tune.space import Choice, LogUniform, Tied

# The best is eps = 1. `PRETEND` in the environment may make it slow, hang, diverge or fail beyond
# some eps. It writes what the real one leaves, and dies with its launcher as that does.
WORKER = """
import json, math, os, pathlib, sys, time
config, folder = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
what = json.loads(os.environ.get("PRETEND", "{}"))
eps, parent = config["eps"], os.getppid()
with (folder.parent / "notes").open("a") as file: file.write(f"{eps} {config['actor_lr']}\\n")
if eps > what.get("fail", 1e9): sys.exit("no luck")
folder.mkdir(parents=True, exist_ok=True)
status = "diverged" if eps > what.get("diverge", 1e9) else "finished"
steps = config["num_envs"] * config["rollout_length"]
for number in range(config["num_evaluations"] + 1):
    while eps > what.get("hang", 1e9) and number == 2 and os.getppid() == parent: time.sleep(0.01)
    if os.getppid() != parent: sys.exit(1)
    time.sleep(what.get("pause", 0.0) if eps > what.get("slow", 0) else 0.0)
    with (folder / "metrics.jsonl").open("a") as file:
        for seed in config["seeds"]:
            row = {"seed": seed, "step": number * steps}
            row["return"] = number * (1 - abs(math.log10(eps)))
            file.write(json.dumps({"kind": "eval", **row}) + "\\n")
            file.write(json.dumps({"kind": "train", **row, "approx_kl": eps / 1000}) + "\\n")
seeds = {str(seed): {"status": status, "step": 9} for seed in config["seeds"]}
content = {"status": status, "step": 9, "seeds": seeds, "seconds": {"train": 3.0}}
(folder / "status.json").write_text(json.dumps(content))
"""


def start(words, path, environment, output, held):
    command = [sys.executable, "-c", WORKER, *words]
    return subprocess.Popen(command, stdout=output, stderr=output, pass_fds=held, text=True)


def install(patch):
    patch(bench_launch, "start_worker", start)
    patch(launch, "_LOOK", 0.02)


def config(**changes):
    values = {
        "task": "mine:env", "seeds": (100, 101), "total_steps": 32 * 6, "num_envs": 4,
        "rollout_length": 8, "num_minibatches": 1, "num_evaluations": 6, "core": "ff", "eps": 0.2,
    }  # fmt: skip
    return Config(**values | changes)


SPACE = {
    "eps": LogUniform(0.2, 10.0),
    "actor_lr": LogUniform(1e-4, 1e-2),
    "critic_lr": Tied("actor_lr"),
}


def tuning(dimensions=None, trials=5, sampler="random", pruner="none", **more):
    study = Study("mars", "mars", None, (config(),), (None,), dimensions or SPACE)
    return Tuning((study,), trials, sampler, pruner, "last", 0, **more)


def eps_grid(*values, **more):
    return tuning({"eps": Choice(values)}, len(values), "grid", **more)


def launcher(folder, trials, **pretend):
    """A process that searches."""
    source = Path(__file__)
    paths = [str(source.parent), str(Path(bench_launch.__file__).parents[2])]
    paths += os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    environment["PRETEND"] = json.dumps(pretend)
    command = [sys.executable, str(source), str(folder), str(trials)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


if __name__ == "__main__":
    install(setattr)
    where = Path(sys.argv[1])
    launch.search(adopt(tuning(trials=int(sys.argv[2])), where), where, 1, lambda _: None)
