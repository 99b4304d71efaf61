import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import NEVER, Furnished, Pictured, Scripted, prepare, small_config
from marsrl.learner import update as update_module
from marsrl.learner.experience import Experience, Steps
from marsrl.learner.losses import loss, statistics
from marsrl.learner.metrics import Tally, merged, summed
from marsrl.learner.networks import ActorCritic
from marsrl.learner.schedule import Schedule
from marsrl.learner.update import take_sequences, to_sequences, update
from marsrl.objectives import mappo
from marsrl.types import Box, MultiDiscrete

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
    "groups": (
        {"chunk_length": 4, "share_parameters": "groups", "critic": "obs"},
        Scripted(num_agents=3, groups=("a", "b", "a"), death=(10**6, 4, 10**6)),
    ),
    "running-moments": (
        {"chunk_length": 4, "actor_norm": "running", "critic_norm": "running"},
        Scripted(shared_reward=False),
    ),
    "layer-norm": ({"core": "ff", "actor_norm": "layer", "critic_norm": "layer"}, Scripted()),
    "state-std": ({"state_std": True, "actor_norm": "running"}, BOX),
    "pictures": ({"core": "ff", "critic": "both", "actor_norm": "running"}, Pictured()),
    "dictionaries": ({"core": "ff", "critic": "both", "actor_norm": "running"}, Furnished()),
    "several-choices": (
        {"chunk_length": 4, "share_parameters": "groups"},
        Scripted(MultiDiscrete((3, 2)), groups=("a", "b")),
    ),
    "deep": ({"depth": 2, "activation": "tanh"}, Scripted()),
    "no-ids": ({"chunk_length": 4, "agent_ids": False, "critic": "obs"}, BOX),
    "orthogonal": ({"kernel_init": "orthogonal", "chunk_length": 4}, Scripted()),
    "own": ({"network": "own_networks:make", "chunk_length": 4}, Scripted()),
    "own-ff-separate-pictures": (
        {"network": "own_networks:make_ff", "share_parameters": False, "critic": "obs"},
        Pictured(),
    ),
    "stops-early": ({"kl_stop": 1e-9, "update_epochs": 3}, Scripted()),
}


class Game:
    """A rollout, and the update that belongs to it."""

    def __init__(self, changes, env):
        self.config = small_config(**changes)
        self.algorithm, self.learner, state = start = prepare(self.config, env)
        play = jax.jit(start.play)
        # the second one begins in the middle of episodes
        state, _, _ = play(state)
        _, self.experience, self.episodes = play(state)
        self.num_chunks = self.config.num_chunks

    def update(self, experience):
        """A fresh compilation, so that a test can replace parts of the module."""
        made = self.algorithm

        @jax.jit
        def run(experience):
            keys = jax.random.split(jax.random.key(2), self.config.env_blocks)
            return update(
                made.networks, mappo(), made.optimizer, made.losses, made.passes, self.learner,
                experience, Schedule(2e-3, 2e-3, 0.003, 0.2, 0.2, 0.99, 0.95), keys,
            )  # fmt: skip

        learner, metrics = run(experience)
        return learner, {name: merged({name: x})[name] for name, x in one_update(metrics).items()}

    def whole_batch(self, experience=None):
        """All sequences as one minibatch."""
        return to_sequences(experience or self.experience, self.num_chunks)

    def loss(self, batch):
        """The loss with its metrics, and its gradients."""
        made, weights = self.algorithm, self.learner.weights
        params = ActorCritic(*(each.params for each in weights))
        stats = statistics(made.networks, made.losses, batch)
        losses = jax.value_and_grad(
            lambda params: loss(
                made.networks, mappo(), made.losses, params, weights, batch, stats,
                self.config.ent_coef,
            ),
            has_aux=True,
        )  # fmt: skip
        return losses(params)


def one_update(metrics):
    """With a last axis, of updates."""
    return jax.tree.map(lambda x: np.asarray(x)[None], metrics)


@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_explained_variance_is_that_of_targets_of_any_size(scale):
    game = Game(*CASES["own"])
    batch = game.whole_batch()
    steps = jax.tree.map(lambda x: x, batch.steps)
    steps = steps._replace(target=scale * steps.target, value=scale * steps.value)
    stats = statistics(game.algorithm.networks, game.algorithm.losses, batch._replace(steps=steps))
    expected = 1 - np.var(steps.target - steps.value) / np.var(steps.target)
    np.testing.assert_allclose(stats.explained_variance, expected, rtol=1e-4)
    still = batch._replace(steps=steps._replace(target=jnp.zeros_like(steps.target)))
    _, metrics = game.loss(still)[0]
    assert np.isnan(merged(one_update({"x": metrics["critic/explained_variance"]}))["x"])


@pytest.mark.parametrize("case", CASES)
def test_the_first_replay_gives_the_stored_log_probabilities(case):
    game = Game(*CASES[case])
    assert game.episodes.ended.sum(0).min() >= 2
    learner, metrics = game.update(game.experience)
    assert metrics["replay_error/max"] < 1e-5
    # other metrics are NaN by design where no sample of their kind occurred
    for name in ("actor/loss", "critic/loss", "actor/grad_norm", "critic/grad_norm", "entropy"):
        assert np.isfinite(metrics[name])
    for before, after in zip(game.learner.weights, learner.weights, strict=True):
        moved = jax.tree.map(lambda x, y: float(np.abs(x - y).max()), before.params, after.params)
        assert all(0 < step < 0.1 for step in jax.tree.leaves(moved))


@pytest.mark.parametrize(("kl_stop", "made"), [(1e-9, 1), (1e9, 3)])
def test_an_update_makes_no_further_pass_once_it_has_moved(kl_stop, made):
    game = Game({"update_epochs": 3, "kl_stop": kl_stop}, Scripted())
    alone = Game({"update_epochs": made}, Scripted())
    learner, metrics = game.update(game.experience)
    assert metrics["update/passes"] == pytest.approx(made / 3)
    expected, _ = alone.update(alone.experience)
    for x, y in zip(*(jax.tree.leaves(each.weights) for each in (learner, expected)), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


@pytest.mark.parametrize("value_norm", [False, True])
@pytest.mark.parametrize("delta", [None, 0.4])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_the_critics_loss_by_hand(value_norm, delta, clip):
    settings = {"value_norm": value_norm, "huber_delta": delta, "value_clip": clip}
    game = Game(settings | {"core": "ff"}, Scripted(death=(2, NEVER)))
    batch = game.whole_batch()
    steps = batch.steps
    moved = np.linspace(-0.5, 0.5, steps.value.size).reshape(steps.value.shape)
    old = steps._replace(value=steps.value + moved, target=steps.target - 2 * moved)
    ((_, metrics), _) = game.loss(batch._replace(steps=old))
    unit = float(game.learner.weights.critic.outputs.scale.squeeze()) if value_norm else 1.0
    new, target = (np.asarray(x, np.float64) for x in (steps.value, old.target))

    def each(value):
        error = np.abs(value - target) / unit
        return (
            error**2 / 2
            if delta is None
            else np.where(error < delta, error**2 / 2, delta * (error - delta / 2))
        )

    expected = each(new)
    if clip is not None:
        near = old.value + np.clip(new - old.value, -clip * unit, clip * unit)
        expected = np.maximum(expected, each(near))
        assert (each(near) > each(new)).any()
    total, number = metrics["critic/loss"]
    np.testing.assert_allclose(total / number, expected.mean(), rtol=1e-4)


def test_how_far_an_update_has_moved_the_policy_is_measured_on_the_whole_rollout():
    game = Game({"chunk_length": 4, "num_minibatches": 2}, Scripted(death=(2, NEVER)))
    learner, metrics = game.update(game.experience)
    batch = game.whole_batch()
    steps = batch.steps.transition
    _, dist = game.algorithm.networks.act(
        learner.weights.actor, batch.carries.actor, steps.obs, steps.first, steps.action_mask
    )
    u = np.asarray(dist.log_prob(steps.action) - steps.log_prob, np.float64)
    kl, live = np.exp(u) - 1 - u, np.asarray(steps.agent_mask)
    assert 0 < live.mean() < 1
    assert live.sum() == np.asarray(game.experience.steps.transition.agent_mask).sum()
    np.testing.assert_allclose(metrics["update_kl"], kl[live].mean(), rtol=1e-3)
    agents = [kl[..., n][live[..., n]].mean() for n in range(live.shape[-1])]
    np.testing.assert_allclose(metrics["update_kl/agents"], np.std(agents), rtol=1e-3)
    np.testing.assert_allclose(metrics["eps"], 0.2, rtol=1e-6)


@pytest.fixture(scope="module")
def chunked():
    return Game({"chunk_length": 4}, Scripted())


def reshaped_without_transposing(experience, num_chunks):
    def cut(x):
        return x.reshape((x.shape[0] // num_chunks, -1, *x.shape[2:]))

    return to_sequences(experience, num_chunks)._replace(steps=jax.tree.map(cut, experience.steps))


def test_a_wrong_order_of_steps_would_be_noticed(chunked, monkeypatch):
    monkeypatch.setattr(update_module, "to_sequences", reshaped_without_transposing)
    assert chunked.update(chunked.experience)[1]["replay_error/max"] > 1e-2


def without_resets(experience):
    transition = experience.steps.transition
    no_first = transition._replace(first=jnp.zeros_like(transition.first))
    return experience._replace(steps=experience.steps._replace(transition=no_first))


def without_carries(experience):
    carries = experience.carries
    return experience._replace(carries=carries._replace(actor=jnp.zeros_like(carries.actor)))


@pytest.fixture(scope="module")
def chunked_loss(chunked):
    """The jitted loss with its gradients, and sequences to try it on."""
    return jax.jit(chunked.loss), chunked.whole_batch


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
    experience = Experience(Steps(t, **fields), ActorCritic(carry[..., None], ()))
    sequences = to_sequences(experience, K)
    steps, carries = sequences
    assert steps.value.shape == (L, K * E)
    np.testing.assert_array_equal(np.diff(steps.value, axis=0), 1)
    np.testing.assert_array_equal(steps.value[0], carries.actor[:, 0])
    np.testing.assert_array_equal(steps.transition, steps.value % 100)
    assert set(steps.value.ravel().tolist()) == set(fields["value"].ravel().tolist())
    batch = take_sequences(sequences, np.array([7, 2]))
    np.testing.assert_array_equal(batch.steps.value, steps.value[:, [7, 2]])
    np.testing.assert_array_equal(batch.steps.advantage, steps.advantage[:, [7, 2]])
    np.testing.assert_array_equal(batch.carries.actor, carries.actor[[7, 2]])


def test_every_minibatch_is_different_and_every_sequence_is_used_once(chunked, monkeypatch):
    seen = []

    def record(*args):
        jax.debug.callback(lambda first: seen.append(np.array(first)), args[5].steps.value[0, :, 0])
        return loss(*args)

    monkeypatch.setattr(update_module, "loss", record)
    steps = chunked.experience.steps
    numbered = jnp.arange(steps.value.size, dtype=float).reshape(steps.value.shape)
    experience = chunked.experience._replace(steps=steps._replace(value=numbered))
    jax.block_until_ready(chunked.update(experience))
    jax.effects_barrier()
    assert len(seen) == chunked.config.num_minibatches
    starts = np.asarray(numbered[:: chunked.config.sequence_length]).ravel()
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.sort(starts))


def test_metrics_keep_extremes_and_means_of_what_there_was():
    one = jnp.array([[1.0, 5.0], [3.0, 0.0]])
    metrics = {"x": Tally(one, one > 0), "ratio/min": jnp.array([1.0, 0.5])}
    metrics |= {
        "y": Tally(jnp.array([1.0, jnp.nan]), jnp.ones(2)),
        "ratio/max": jnp.array([2.0, 3]),
    }
    metrics |= {"none": Tally(jnp.zeros(2), jnp.zeros(2))}
    values = merged(one_update(summed(metrics)) | {"count": np.array([2, 3])})
    assert np.isnan(values.pop("y"))  # a loss that is not finite does not vanish
    assert np.isnan(values.pop("none"))
    assert {k: float(v) for k, v in values.items()} == {
        "x": 3.0,
        "ratio/min": 0.5,
        "ratio/max": 3.0,
        "count": 5.0,
    }


# --- Who takes part in the loss -------------------------------------------------------------------


@pytest.fixture(scope="module")
def own():
    """Separate actors and critics, a death, and the jitted loss with its gradients."""
    env = Scripted(death=(2, 10**6), shared_reward=False)
    game = Game({"core": "ff", "share_parameters": False, "critic": "obs", "ent_coef": 0.1}, env)
    return jax.jit(game.loss), game.whole_batch()


def distorted(batch, agents):
    """The batch with other observations, actions and so on where `agents`, (..., N), is True."""
    steps = batch.steps.transition
    steps = steps._replace(
        obs=jnp.where(agents[..., None], 7.0, steps.obs),
        action=jnp.where(agents, (steps.action + 1) % 3, steps.action),
        action_mask=steps.action_mask | agents[..., None],
        log_prob=jnp.where(agents, -9.0, steps.log_prob),
    )
    own = {
        name: jnp.where(agents, 50.0, getattr(batch.steps, name))
        for name in ("value", "advantage", "target")
    }
    return batch._replace(steps=batch.steps._replace(transition=steps, **own))


def only(batch, agent):
    """The batch in which nobody else is alive."""
    steps = batch.steps.transition
    mask = steps.agent_mask & (jnp.arange(2) == agent)
    return batch._replace(steps=batch.steps._replace(transition=steps._replace(agent_mask=mask)))


def largest_difference(x, y):
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), x, y)))


def test_dead_agents_take_no_part(own):
    run, batch = own
    alive = batch.steps.transition.agent_mask
    assert (~alive).any(axis=(0, 1)).tolist() == [True, False]
    result = run(batch)
    assert largest_difference(result, run(distorted(batch, ~alive))) == 0.0
    assert largest_difference(result, run(distorted(batch, alive))) > 0.1


@pytest.mark.parametrize("agent", [0, 1])
def test_an_agents_loss_moves_its_own_parameters_only(own, agent):
    run, batch = own
    _, grads = run(only(batch, agent))
    for leaf in jax.tree.leaves(grads):
        assert jnp.abs(leaf[agent]).max() > 0
        assert (leaf[1 - agent] == 0).all()


def test_shared_parameters_learn_from_every_agent_but_an_id_from_its_own(chunked, chunked_loss):
    run, cut = chunked_loss
    batch = cut(chunked.experience)
    for agent in (0, 1):
        _, grads = run(only(batch, agent))
        for path, leaf in jax.tree_util.tree_leaves_with_path(grads.actor):
            moved = jnp.abs(leaf).reshape((len(leaf), -1)).max(-1) > 0
            if "agent_id" in jax.tree_util.keystr(path):
                assert moved.tolist() == [agent == 0, agent == 1]
            else:
                assert moved.any()
