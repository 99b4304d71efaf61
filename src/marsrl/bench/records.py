"""What is known of a suite's runs: a record of each, and two tables of what they measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from marsrl.bench.labels import objective_of
from marsrl.bench.progress import RunStatus
from marsrl.bench.suite import Suite

if TYPE_CHECKING:
    import pyarrow as pa


class RunRecord(NamedTuple):
    """One run that a suite plans: a seed of a task and objective, trained or not.

    Attributes:
        task: its name.
        objective: its label in the suite: its name, or `name@what differs`.
        run: the id of the configuration, `Config.hash`.
        seed: the seed.
        status: done, running (started and not ended), failed, diverged or missing.
        step: environment steps reached.
        diverged_step: the step at which it diverged, if it did.
        seconds: of all seeds of its job, their share of their program: compile, train, evaluate.
        seeds_in_program: how many seeds that program had; 0 if missing.
        peak_memory_mb: of its process.
        config: all settings; this and the following are empty if it is missing.
        versions: of the packages.
        machine: cores, device, Python.
        git: commit and dirty flag of marsrl's source, if it ran from a checkout.
        resumed: where it went on with others of these three: the step, `at`, and the three.
        extended: where it was trained further than it was to be: total steps `from`, `to`, and `at`
            which step.
        source: digest of the source of an objective of the user's own; None also where it is not
            known, as in results of before it was recorded.
        task_source: of a task, likewise.
        network_source: of a network, likewise.
    """

    task: str
    objective: str
    run: str
    seed: int
    status: RunStatus
    step: int = 0
    diverged_step: int | None = None
    seconds: dict[str, float] = {}  # noqa: RUF012 (never changed)
    seeds_in_program: int = 0
    peak_memory_mb: float = 0.0
    config: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    versions: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    machine: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    git: dict[str, Any] | None = None
    resumed: list[dict[str, Any]] = []  # noqa: RUF012 (never changed)
    extended: list[dict[str, int]] = []  # noqa: RUF012 (never changed)
    source: str | None = None
    task_source: str | None = None
    network_source: str | None = None

    @property
    def own_seconds(self) -> dict[str, float]:
        """Its share of `seconds`."""
        seeds = self.config.get("seeds", (self.seed,))
        return {name: seconds / len(seeds) for name, seconds in self.seconds.items()}

    @property
    def origins(self) -> list[dict[str, Any]]:
        """Versions, machine and git, of where it began and then of where it went on with others."""
        began = {"versions": self.versions, "machine": self.machine, "git": self.git}
        return [began, *self.resumed] if self.machine else []

    @property
    def own_sources(self) -> dict[tuple[str, str], str]:
        """The digests that are known, by what they are of: its kind and name."""
        found = {
            ("objective", objective_of(self.objective)): self.source,
            ("task", self.task): self.task_source,
            ("network", str(self.config.get("network"))): self.network_source,
        }
        return {what: digest for what, digest in found.items() if digest}


class Results(NamedTuple):
    """Everything that is known of a suite's runs.

    Attributes:
        suite: what was planned.
        runs: one for each planned run, missing ones included, by task, objective and seed.
        episodes: one row per evaluation episode: family, task, objective, run, seed, step, phase
            (`eval` during training, `final` for the best parameters again and `last` for the last
            ones, on more episodes), episode, return.
        curves: one row per row of a log: family, task, objective, run, seed, step, seconds (wall
            time of the program so far), phase (`train` or `eval`), return, length, entropy,
            approx_kl, `marsrl.bench.rows.DIAGNOSTICS` and `TRUST_REGION`; null where not measured.
    """

    suite: Suite
    runs: tuple[RunRecord, ...]
    episodes: pa.Table
    curves: pa.Table
