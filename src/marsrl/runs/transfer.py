"""Starting from another run's parameters: another task, other settings, or the same further on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from marsrl.config import Config
from marsrl.errors import UserError, near_misses
from marsrl.learner.groups import Groups, groups_of
from marsrl.learner.networks import ActorCritic
from marsrl.runs.checkpoint import Checkpoints
from marsrl.runs.folder import RunFolder
from marsrl.runs.policy import saved_layout
from marsrl.runs.scores import best_seed, named_update
from marsrl.types import EnvSpec, leaf_name

_OF_AGENTS = ("agent_id", "params/log_std")
"""Parameters that have a row for each agent also where the others are shared."""
_SCALES = ("actor_norm", "critic_norm", "value_norm")
"""Settings that standardise what networks read or put out."""


class Source(NamedTuple):
    """Parameters of one seed of a run.

    Attributes:
        path: the run folder.
        seed: which of its seeds.
        step: environment steps that they were trained for.
        leaves: name -> array, of all weights of actor and critic.
        config: of the run; if not all agents share parameters, the first axis of the leaves is
            that of groups or agents.
        groups: the group of each of its agents, as `EnvSpec.groups`; empty if that is not told.
    """

    path: Path
    seed: int
    step: int
    leaves: dict[str, np.ndarray]
    config: Config
    groups: tuple[str, ...]


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
    groups = () if layout is None else layout.spec.groups
    return Source(Path(run), mine, steps, leaves, config, groups)


def started_from(config: Config, spec: EnvSpec, weights: ActorCritic) -> tuple[ActorCritic, str]:
    """The weights with those that `init_from` names, and what was taken; see `transferred`."""
    assert config.init_from is not None
    return transferred(weights, read_source(config.init_from), config, spec)


def transferred(
    weights: ActorCritic, source: Source, config: Config, spec: EnvSpec
) -> tuple[ActorCritic, str]:
    """Fresh weights with those of the source in place of all that have their name and shape.

    What belongs to agents or groups (ids, or everything if they do not share parameters) is taken
    one by one, as far as both have them: agents by their number, groups by their name. If all
    agents of the source share parameters, every group begins with these, and every agent with its
    id.

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
    groups = groups_of(spec, config.share_parameters)
    sharing = True if groups is None else config.share_parameters
    theirs_share = source.config.share_parameters
    if theirs_share == "groups" and len(set(source.groups)) == 1:
        theirs_share = True
    ours, known = (list(dict.fromkeys(each)) for each in (spec.groups, source.groups))
    both_have = [group for group in ours if group in known]
    begins = groups if sharing == "groups" and theirs_share is True else None
    regrouped = sharing is not True and theirs_share is not True and sharing != theirs_share

    def take(path: tuple, leaf: np.ndarray) -> np.ndarray:
        name = leaf_name(path)
        theirs, shape = source.leaves.get(name), leaf.shape[1:]
        of_agents = name.endswith(_OF_AGENTS)
        if len(shape) > 1:  # a bias fits too easily
            kernels.append(name)
        apart = sharing is not True and (name.startswith("actor") or config.critic != "state")
        if begins is not None and theirs is not None and theirs.shape != shape:
            theirs = _spread(theirs, begins, of_agents and source.config.agent_ids)
        if regrouped and apart:
            theirs = None  # the groups are not the agents, even if there are as many
        named = apart and sharing == theirs_share == "groups"
        if named and theirs is not None:
            theirs = theirs[[known.index(group) for group in both_have]]
        if theirs is not None and theirs.shape == shape:
            return np.broadcast_to(theirs, leaf.shape).astype(leaf.dtype)
        fresh.append(name)
        alike = apart and sharing == theirs_share
        if theirs is None or not (of_agents or alike) or "inputs" in name or not len(theirs):
            return leaf
        axes = len(shape) - 1 if of_agents else 1
        if theirs.ndim != len(shape) or theirs.shape[axes:] != shape[axes:]:
            return leaf
        number, *rest = (min(pair) for pair in zip(theirs.shape, shape, strict=True))
        rows = [ours.index(group) for group in both_have] if named else range(number)
        inside = tuple(map(slice, rest))
        taken = leaf.copy()
        taken[:, rows, *inside] = theirs[:number, *inside]
        fresh[-1] += f" (but for {', '.join(both_have) if named else f'{number} agents'})"
        return taken

    taken = jax.tree_util.tree_map_with_path(take, weights)
    names = [leaf_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(weights)]
    number, whole = len(names), [n for n in fresh if "but for" not in n]
    if set(kernels) <= set(whole):
        raise UserError(
            f"nothing of {source.path} fits here: no kernel of its networks has the name and shape "
            "of one of these; compare width, core and critic"
        )
    stayed = f"; fresh: {', '.join(fresh)}" if fresh else ""
    if theirs_share == "groups" and not known:
        stayed += "; which groups it had is not told"
    scales = {name: (getattr(config, name), getattr(source.config, name)) for name in _SCALES}
    other = [f"{name} is {x!r}, was {y!r}" for name, (x, y) in scales.items() if x != y]
    stayed += f"; of another scale: {', '.join(other)}" if other else ""
    text = f"starts from seed {source.seed} of {source.path}, step {source.step:,}: "
    return taken, f"{text}{number - len(whole)} of {number} arrays taken{stayed}"


def _spread(shared: np.ndarray, groups: Groups, of_agents: bool) -> np.ndarray | None:
    """What all agents share as what each group has; None if it is for fewer agents."""
    if not of_agents:
        return np.broadcast_to(shared, (groups.number, *shared.shape))
    return shared[groups.slots] if len(shared) >= len(groups.of_agents) else None
