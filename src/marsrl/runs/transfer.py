"""Starting from another run's parameters: another task, other settings, or the same further on."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from marsrl.config import Config, Sharing
from marsrl.errors import UserError, near_misses
from marsrl.learner.groups import groups_of
from marsrl.learner.networks import ActorCritic
from marsrl.runs.checkpoint import Checkpoints
from marsrl.runs.folder import PASSED, RunFolder
from marsrl.runs.policy import saved_layout
from marsrl.runs.scores import best_seed, named_update
from marsrl.types import EnvSpec, leaf_name

_OF_AGENTS = ("agent_id", "params/log_std")
"""Parameters that have a row for each agent also where the others are shared, if it has an id."""
_SCALES = ("actor_norm", "critic_norm", "value_norm")
"""Settings that standardise what networks read or put out."""


class Source(NamedTuple):
    """Parameters of one seed of a run.

    Attributes:
        path: the run folder.
        seed: which of its seeds.
        step: environment steps that they were trained for.
        leaves: name -> array, of all weights of actor and critic.
        config: of the run; it tells which leaves have axes of agents or groups.
        spec: of its environment, which names them; None if the run, of an old version, does not
            tell.
    """

    path: Path
    seed: int
    step: int
    leaves: dict[str, np.ndarray]
    config: Config
    spec: EnvSpec | None


def read_source(name: str) -> Source:
    """Reads the parameters that `RUN[:SEED][@CHECKPOINT]` means.

    Args:
        name: a run folder; a seed of it, by default the one whose evaluation was best; and best
            (the default), latest, or a number of environment steps.

    Raises:
        UserError: there is no such run, seed or sound checkpoint.
    """
    match = re.fullmatch(r"(?s)(.+?)(?::(\d+))?(?:@([\w.+]+))?", name)
    run, seed, checkpoint = match.groups() if match else (name, None, None)
    if Path(name).is_dir():  # whose own name ends like a seed or a checkpoint
        run, seed, checkpoint = name, None, None
    folder = RunFolder.open(Path(run))
    config, checkpoints = folder.config(), Checkpoints(folder.checkpoints)
    seeds, scores = [str(s) for s in config.seeds], checkpoints.scores()
    if seed is not None and seed not in seeds:
        raise UserError(f"{run} has no seed {seed}{near_misses(seed, seeds)}")
    if not scores:
        raise UserError(f"{run} holds no evaluated checkpoint")
    mine = best_seed(scores, config.seeds) if seed is None else int(seed)
    update = named_update(
        checkpoint or "best",
        scores,
        checkpoints.complete(),
        mine,
        config.steps_per_update,
        Path(run),
    )
    index = config.seeds.index(mine)
    weights = checkpoints.part(update, ("learner", "weights"))
    leaves = {name: leaf[index] for name, leaf in weights.items()}
    steps = update * config.steps_per_update
    layout = saved_layout(folder)
    spec = None if layout is None else layout.spec
    return Source(Path(run), mine, steps, leaves, config, spec)


def started_from(config: Config, spec: EnvSpec, weights: ActorCritic) -> tuple[ActorCritic, str]:
    """The weights with those that `init_from` names, and what was taken; see `transferred`."""
    assert config.init_from is not None
    source = read_source(config.init_from)
    tasks = [(c.task, c.task_settings) for c in (config, source.config)]
    if source.spec is None and tasks[0] == tasks[1] and not config.task.startswith(PASSED):
        source = source._replace(spec=spec)
    return transferred(weights, source, config, spec)


def transferred(
    weights: ActorCritic, source: Source, config: Config, spec: EnvSpec
) -> tuple[ActorCritic, str]:
    """Fresh weights with those of the source in place of all that have their name and shape.

    What belongs to agents or groups (ids, or everything if they do not share parameters) is taken
    one by one, as far as both have them: a group by its name, an agent by its number in the group
    of its name, or in the team if there are no names. If all agents of the source share parameters,
    every group begins with these.

    Args:
        weights: (S, ...) NumPy arrays; every seed gets the same.
        source: what to take.
        config: of the run that begins.
        spec: of its environment.

    Returns:
        The weights, and a sentence about what was taken and what stayed fresh.

    Raises:
        UserError: nothing fits.
    """
    fresh: list[str] = []
    kernels: list[str] = []
    untold: list[str] = []
    theirs_groups = source.spec.groups if source.spec else ()
    named = bool(spec.groups and theirs_groups)
    sharing, theirs_share = _sharing(config, spec), _sharing(source.config, source.spec)

    def take(path: tuple, leaf: np.ndarray) -> np.ndarray:
        name = leaf_name(path)
        theirs, shape = source.leaves.get(name), leaf.shape[1:]
        if len(shape) > 1:  # a bias fits too easily
            kernels.append(name)
        here = there = _Rows()
        if _has_rows(name, config):
            here = _rows(name, config, spec, named)
        if _has_rows(name, source.config):
            if source.spec is None:
                untold.append(name)
                theirs = None
            else:
                there = _rows(name, source.config, source.spec, named)
        if theirs is None:
            fresh.append(name)
            return leaf
        if sharing == "groups" and theirs_share is True and here.keys and not there.keys:
            theirs, there = np.broadcast_to(theirs, (len(here.keys), *theirs.shape)), here
        if theirs.shape == shape and here == there:
            return np.broadcast_to(theirs, leaf.shape).astype(leaf.dtype)
        fresh.append(name)
        both = set(here.keys) & set(there.keys)
        alike = here.axes == there.axes or theirs_share in (True, sharing)
        fit = here.fit(shape) and there.fit(theirs.shape)
        one = shape[here.axes :]
        if not (both and alike and fit and theirs.shape[there.axes :] == one):
            return leaf
        taken = leaf.copy()
        mine, rows = taken.reshape(len(leaf), -1, *one), theirs.reshape(-1, *one)
        for i, key in enumerate(here.keys):
            if key in both:
                mine[:, i] = rows[there.keys.index(key)]
        if len(both) < len(set(here.keys)):
            fresh[-1] += f" (but for {len(both)} {here.what})"
        else:
            fresh.pop()
        return taken

    taken = jax.tree_util.tree_map_with_path(take, weights)
    names = [leaf_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(weights)]
    number, whole = len(names), [n for n in fresh if "but for" not in n]
    unknown = "; it is of an old version and does not tell whose its parameters are"
    unknown = unknown if untold else ""
    if set(kernels) <= set(whole):
        raise UserError(
            f"nothing of {source.path} fits here: no kernel of its networks has the name and shape "
            f"of one of these; compare width, core and critic{unknown}"
        )
    stayed = f"; fresh: {', '.join(fresh)}" if fresh else ""
    if sharing == theirs_share == "groups" and source.spec:
        others = [name for name in dict.fromkeys(spec.groups) if name not in theirs_groups]
        stayed += f"; groups that it does not have: {', '.join(others)}" if others else ""
    stayed += unknown
    scales = {name: (getattr(config, name), getattr(source.config, name)) for name in _SCALES}
    other = [f"{name} is {x!r}, was {y!r}" for name, (x, y) in scales.items() if x != y]
    stayed += f"; of another scale: {', '.join(other)}" if other else ""
    text = f"starts from seed {source.seed} of {source.path}, step {source.step:,}: "
    return taken, f"{text}{number - len(whole)} of {number} arrays taken{stayed}"


class _Rows(NamedTuple):
    """Whose the rows of an array are.

    Attributes:
        axes: how many of its first axes are of agents or groups.
        keys: of each row, along all these axes, what it is of: a name of a group, or an agent (the
            name of its group, its number in it).
        what: all of them.
    """

    axes: int = 0
    keys: tuple[str | tuple[str, int], ...] = ()
    what: str = ""

    def fit(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of that shape has these rows."""
        return math.prod(shape[: self.axes]) == len(self.keys)


def _sharing(config: Config, spec: EnvSpec | None) -> Sharing:
    """Who shares parameters; all, too, where there is but one group."""
    share = config.share_parameters
    return True if spec is not None and groups_of(spec, share) is None else share


def _has_ids(name: str, config: Config) -> bool:
    """Whether an array has a row for each agent also where agents share parameters."""
    return config.agent_ids and name.endswith(_OF_AGENTS)


def _has_rows(name: str, config: Config) -> bool:
    """Whether an array may have rows of agents or groups: it is not the team's, nor of inputs."""
    network, kind, *_ = name.split("/")
    if kind == "inputs" or (network == "critic" and config.critic == "state"):
        return False
    return config.share_parameters is not True or _has_ids(name, config)


def _rows(name: str, config: Config, spec: EnvSpec, named: bool) -> _Rows:
    """Those of an array that may have some; `named` if agents go by the names of their groups."""
    groups, ids = groups_of(spec, config.share_parameters), _has_ids(name, config)
    kinds = spec.groups if named else ("",) * spec.num_agents
    agents = tuple((kind, kinds[:i].count(kind)) for i, kind in enumerate(kinds))
    if groups is None:
        return _Rows(1, agents, "agents") if ids else _Rows()
    if groups.size > 1 and name.split("/")[1] == "outputs":  # one row for all
        return _Rows()
    if config.share_parameters == "groups" and not ids:
        return _Rows(1, tuple(dict.fromkeys(spec.groups)), "groups")
    if groups.size == 1:
        return _Rows(1, agents, "agents")
    return _Rows(2, tuple(agents[i] for i in groups.slots.ravel()), "agents")
