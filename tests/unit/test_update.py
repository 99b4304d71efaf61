import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import Scripted, prepare, small_config
from marsrl.learner import update as update_module
from marsrl.learner.rollout import Experience, rollout
from marsrl.learner.update import (
    loss,
    reduce_metrics,
    statistics,
    take_sequences,
    to_sequences,
    update,
)
from marsrl.objectives import mappo
from marsrl.types import Box

BOX = Scripted(Box(2))
CASES = {
    "ff": ({"core": "ff"}, Scripted()),
    "ff-separate-box-both": ({"core": "ff", "share_parameters": False, "critic": "both"}, BOX),
    "gru": ({}, Scripted()),
    "gru-separate-obs": (
        {"share_parameters": False, "critic": "obs"},
        Scripted(death=(2, 10**6), shared_reward=False),
    ),
    "chunks": ({"chunk_length": 4}, Scripted()),
    "chunks-box-both": ({"chunk_length": 4, "critic": "both"}, BOX),
    "chunks-separate": (
        {"chunk_length": 3, "share_parameters": False},
        Scripted(shared_reward=False),
    ),
}


class Game:
    """A rollout, and the update that belongs to it."""

    def __init__(self, changes, env):
        self.config = small_config(**changes)
        self.networks, vector, self.learner, state = prepare(self.config, env)
        params = self.learner.params

        @jax.jit
        def play(state):
            return rollout(self.config, self.networks, params, vector, state)

        # the second one begins in the middle of episodes
        state, _, _ = play(state)
        _, self.experience, self.episodes = play(state)

    def update(self, experience):
        """A fresh compilation, so that a test can replace parts of the module."""

        @jax.jit
        def run(experience):
            keys = jax.random.split(jax.random.key(2), self.config.env_blocks)
            return update(self.config, self.networks, mappo(), self.learner, experience, keys)

        return run(experience)


@pytest.mark.parametrize("case", CASES)
def test_the_first_replay_gives_the_stored_log_probabilities(case):
    game = Game(*CASES[case])
    assert game.episodes.ended.sum(0).min() >= 2
    learner, metrics = game.update(game.experience)
    assert metrics["replay_error"] < 1e-5
    # other metrics are NaN by design where no sample of their kind occurred
    for name in ("actor/loss", "critic/loss", "actor/grad_norm", "critic/grad_norm", "entropy"):
        assert np.isfinite(metrics[name])
    for before, after in zip(game.learner.params, learner.params, strict=True):
        moved = jax.tree.map(lambda x, y: float(np.abs(x - y).max()), before, after)
        assert all(0 < step < 0.1 for step in jax.tree.leaves(moved))


@pytest.fixture(scope="module")
def chunked():
    return Game({"chunk_length": 4}, Scripted())


def reshaped_without_transposing(experience, num_chunks):
    def cut(x):
        return x.reshape((x.shape[0] // num_chunks, -1, *x.shape[2:]))

    right = to_sequences(experience, num_chunks)
    return Experience(*jax.tree.map(cut, experience[:4]), *right[4:])


def test_a_wrong_order_of_steps_would_be_noticed(chunked, monkeypatch):
    monkeypatch.setattr(update_module, "to_sequences", reshaped_without_transposing)
    assert chunked.update(chunked.experience)[1]["replay_error"] > 1e-2


def without_resets(experience):
    transition = experience.transition
    no_first = transition._replace(first=jnp.zeros_like(transition.first))
    return experience._replace(transition=no_first)


def without_carries(experience):
    return experience._replace(actor_carry=jnp.zeros_like(experience.actor_carry))


@pytest.fixture(scope="module")
def chunked_loss(chunked):
    """The jitted loss with its gradients, and sequences to try it on."""

    @jax.jit
    def run(batch):
        args = (chunked.config, chunked.networks, mappo(), chunked.learner.params, batch)
        return jax.value_and_grad(loss, argnums=3, has_aux=True)(*args, statistics(batch))

    return run, lambda experience: to_sequences(experience, chunked.config.num_chunks)


@pytest.mark.parametrize("damage", [without_resets, without_carries])
def test_a_wrong_start_of_sequences_would_be_noticed(chunked, chunked_loss, damage):
    run, cut = chunked_loss
    (_, right), _ = run(cut(chunked.experience))
    (_, wrong), _ = run(cut(damage(chunked.experience)))
    assert right["log_ratio/max"] < 1e-5
    assert wrong["log_ratio/max"] > 1e-2


# --- Sequences ------------------------------------------------------------------------------------

K, L, E = 3, 4, 5


def test_sequences_hold_consecutive_steps_of_one_environment(chunked):
    t, e = np.meshgrid(np.arange(K * L), np.arange(E), indexing="ij")
    carry = 100 * np.arange(E) + L * np.arange(K)[:, None]  # the step that it comes before
    fields = {"value": 100 * e + t, "advantage": -t[..., None], "target": t[..., None]}
    experience = chunked.experience._replace(
        transition=t, actor_carry=carry[..., None], critic_carry=(), **fields
    )
    sequences = to_sequences(experience, K)
    assert sequences.value.shape == (L, K * E)
    np.testing.assert_array_equal(np.diff(sequences.value, axis=0), 1)
    np.testing.assert_array_equal(sequences.value[0], sequences.actor_carry[:, 0])
    np.testing.assert_array_equal(sequences.transition, sequences.value % 100)
    assert set(sequences.value.ravel().tolist()) == set(fields["value"].ravel().tolist())
    batch = take_sequences(sequences, np.array([7, 2]))
    np.testing.assert_array_equal(batch.value, sequences.value[:, [7, 2]])
    np.testing.assert_array_equal(batch.advantage, sequences.advantage[:, [7, 2]])
    np.testing.assert_array_equal(batch.actor_carry, sequences.actor_carry[[7, 2]])


def test_every_minibatch_is_different_and_every_sequence_is_used_once(chunked, monkeypatch):
    seen = []

    def record(config, networks, objective, params, batch, stats):
        jax.debug.callback(lambda first: seen.append(np.array(first)), batch.value[0, :, 0])
        return loss(config, networks, objective, params, batch, stats)

    monkeypatch.setattr(update_module, "loss", record)
    value = chunked.experience.value
    numbered = jnp.arange(value.size, dtype=value.dtype).reshape(value.shape)
    jax.block_until_ready(chunked.update(chunked.experience._replace(value=numbered)))
    jax.effects_barrier()
    assert len(seen) == chunked.config.num_minibatches
    starts = np.asarray(numbered[:: chunked.config.sequence_length]).ravel()
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.sort(starts))


def test_metrics_keep_extremes_and_skip_what_is_missing():
    metrics = {name: jnp.array([[1.0, 5.0], [3.0, jnp.nan]]) for name in ("x", "y")}
    metrics |= {"ratio/min": jnp.array([1.0, 0.5]), "ratio/max": jnp.array([2.0, 3.0])}
    reduced = reduce_metrics(metrics)
    assert {k: float(v) for k, v in reduced.items()} == {
        "x": 3.0,
        "y": 3.0,
        "ratio/min": 0.5,
        "ratio/max": 3.0,
    }


# --- Who takes part in the loss -------------------------------------------------------------------


@pytest.fixture(scope="module")
def own():
    """Separate actors and critics, a death, and the jitted loss with its gradients."""
    env = Scripted(death=(2, 10**6), shared_reward=False)
    game = Game({"core": "ff", "share_parameters": False, "critic": "obs", "ent_coef": 0.1}, env)
    batch = to_sequences(game.experience, game.config.num_chunks)

    @jax.jit
    def run(batch):
        args = (game.config, game.networks, mappo(), game.learner.params, batch)
        return jax.value_and_grad(loss, argnums=3, has_aux=True)(*args, statistics(batch))

    return run, batch


def distorted(batch, agents):
    """The batch with other observations, actions and so on where `agents`, (..., N), is True."""
    steps = batch.transition
    steps = steps._replace(
        obs=jnp.where(agents[..., None], 7.0, steps.obs),
        action=jnp.where(agents, (steps.action + 1) % 3, steps.action),
        action_mask=steps.action_mask | agents[..., None],
        log_prob=jnp.where(agents, -9.0, steps.log_prob),
    )
    own = {
        name: jnp.where(agents, 50.0, getattr(batch, name))
        for name in ("value", "advantage", "target")
    }
    return batch._replace(transition=steps, **own)


def largest_difference(x, y):
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), x, y)))


def test_dead_agents_take_no_part(own):
    run, batch = own
    alive = batch.transition.agent_mask
    assert (~alive).any(axis=(0, 1)).tolist() == [True, False]
    result = run(batch)
    assert largest_difference(result, run(distorted(batch, ~alive))) == 0.0
    assert largest_difference(result, run(distorted(batch, alive))) > 0.1


@pytest.mark.parametrize("agent", [0, 1])
def test_an_agents_loss_moves_its_own_parameters_only(own, agent):
    run, batch = own
    mask = batch.transition.agent_mask & (jnp.arange(2) == agent)
    _, grads = run(batch._replace(transition=batch.transition._replace(agent_mask=mask)))
    for leaf in jax.tree.leaves(grads):
        assert jnp.abs(leaf[agent]).max() > 0
        assert (leaf[1 - agent] == 0).all()


def test_shared_parameters_learn_from_every_agent_but_an_id_from_its_own(chunked, chunked_loss):
    run, cut = chunked_loss
    batch = cut(chunked.experience)
    for agent in (0, 1):
        mask = batch.transition.agent_mask & (jnp.arange(2) == agent)
        _, grads = run(batch._replace(transition=batch.transition._replace(agent_mask=mask)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(grads.actor):
            moved = jnp.abs(leaf).reshape((len(leaf), -1)).max(-1) > 0
            if "agent_id" in jax.tree_util.keystr(path):
                assert moved.tolist() == [agent == 0, agent == 1]
            else:
                assert moved.any()
