"""A run folder with plausible rows, to be bent before it is written, and who hears of a run."""

import json

from marsrl.config import Config
from marsrl.runs.monitor import Silent

SEEDS = (0, 1, 2)
LENGTH = {"total_steps": 1000, "num_evaluations": 2}
LENGTH |= {"num_envs": 10, "rollout_length": 50, "num_minibatches": 1}
TRAIN_STEPS = tuple(range(100, 1001, 100))
METRICS = {
    "seconds": 1.0,
    "episode/length": 9.0,
    "entropy": 1.0,
    "approx_kl": 0.5,
    "gradient/dead": 0.25,
    "gradient/corrective": None,
    "ratio/collapsed": 0.0,
    "ratio/min": 0.5,
    "ratio/max": 2.0,
}


def evaluation(kind, seed, step, value):
    head = {"kind": kind, "seed": seed, "step": step}
    return head | {"return": value, "length": 9.0, "returns": [value]}


class Writer:
    """As the runner leaves it; each seed's return rises evenly to its top."""

    def __init__(self, path, objective="mars", tops=(10.0, 20.0, 30.0), **settings):
        self.path = path
        config = {"objective": objective, "seeds": SEEDS} | LENGTH | settings
        self.config = Config(**config)
        self.status = {str(s): {"status": "finished", "step": 1000} for s in self.config.seeds}
        self.rows = []
        evaluated = self.config.evaluation_steps
        for seed, top in zip(self.config.seeds, tops, strict=True):
            self.rows += [
                {"kind": "train", "seed": seed, "step": step, "episode/return": top * step / 1000}
                | METRICS
                for step in sorted({*TRAIN_STEPS, *evaluated[1:]})
            ]
            self.rows += [evaluation("eval", seed, step, top * step / 1000) for step in evaluated]
            self.rows.append(evaluation("final", seed, 1000, top + 1))

    def change(self, kind, seed, step, **values):
        (row,) = self.select(kind, seed, step)
        row.update({key.replace("__", "/"): value for key, value in values.items()})
        if "return" in values and kind != "train":
            row["returns"] = [values["return"]]

    def drop(self, kind, seed, step):
        (row,) = self.select(kind, seed, step)
        self.rows.remove(row)

    def select(self, *wanted):
        return [r for r in self.rows if (r["kind"], r["seed"], r["step"]) == wanted]

    def diverge(self, seed, step):
        """As the runner does: no rows from this step on, but a final score of what went before."""
        self.status[str(seed)] = {"status": "diverged", "step": step}
        self.rows = [
            r for r in self.rows if r["seed"] != seed or r["kind"] == "final" or r["step"] < step
        ]

    def write(self):
        self.path.mkdir(parents=True)
        content = {"config": self.config.to_dict(), "hash": self.config.hash}
        content |= {"versions": {"marsrl": "1"}, "machine": {"cores": 1}, "git": None}
        (self.path / "config.json").write_text(json.dumps(content))
        status = {"status": "finished", "step": 1000, "seeds": self.status}
        (self.path / "status.json").write_text(json.dumps(status))
        lines = [json.dumps(row) + "\n" for row in self.rows]
        (self.path / "metrics.jsonl").write_text("".join(lines))
        return self.path


class Listener(Silent):
    """Keeps what a run says."""

    def __init__(self):
        self.said = []

    def message(self, text):
        self.said.append(text)
