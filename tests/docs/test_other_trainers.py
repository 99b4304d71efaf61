"""The examples of docs/other-trainers.md run, and their losses are those of JAX and of the clip."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl.distributions import Categorical
from marsrl.learner import advantages
from marsrl.objectives import make_objective

try:
    import torch
except ImportError:
    torch = None

EXAMPLES = Path(__file__).parents[2] / "examples"
with_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")
each_objective = pytest.mark.parametrize("name", ["mars", "maspo", "mappo"])


def example(name, needs=()):
    """An example as a module; skipped where a library that it needs is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries, about their own code
        for library in needs:
            pytest.importorskip(library)
            import_module(library)
        spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look there
        try:
            spec.loader.exec_module(module)
        finally:
            del sys.modules[name]
    return module


def gradients(parameters):
    return [p.grad.numpy().copy() for p in parameters]


@with_torch
class TestTorch:
    """A trainer in PyTorch, on the game that it ships with."""

    @pytest.fixture(scope="class")
    @classmethod
    def ppo(cls):
        return example("ppo_torch")

    @pytest.fixture(scope="class")
    @classmethod
    def args(cls, ppo):
        return ppo.Args(
            total_steps=72, num_envs=3, rollout_length=8, width=8, num_minibatches=2,
            update_epochs=2,
        )  # fmt: skip

    @pytest.fixture(scope="class")
    @classmethod
    def played(cls, ppo, args):
        """A team, and a rollout of it as one minibatch, with advantages."""
        torch.manual_seed(0)
        games = ppo.make_games(args)
        team = ppo.Team(games.seen(), args.width)
        steps = ppo.rollout(games, team, args.rollout_length)
        batch = ppo.packed([x.flatten(0, 1) for x in ppo.unpacked(steps)])
        return team, batch, torch.randn(len(batch.action))

    def test_the_first_replay_is_the_rollout(self, ppo, played):
        team, batch, advantage = played
        for name in ("mars", "mappo"):
            loss, _ = ppo.losses(team, batch, advantage, advantage, make_objective(name), 0.0)
            assert loss.item() == pytest.approx(-advantage.mean().item(), abs=1e-5)

    @each_objective
    def test_loss_and_gradient_are_those_of_jax(self, ppo, played, name):
        team, batch, advantage = played
        objective = make_objective(name, 0.3)
        moved = batch._replace(log_prob=batch.log_prob + 0.5 * torch.sin(torch.arange(3.0)))
        team.zero_grad()
        loss, _ = ppo.losses(team, moved, advantage, advantage, objective, 0.01)
        loss.backward()

        ids = np.broadcast_to(np.eye(3, dtype=np.float32), (len(advantage), 3, 3))
        inputs = np.concatenate([batch.seen.obs.numpy(), ids], -1)
        arrays = [jnp.asarray(x) for x in (batch.action, moved.log_prob, advantage[:, None])]
        action, old, joint = arrays

        def in_jax(parameters):
            x = jnp.asarray(inputs)
            for i, (weight, bias) in enumerate(zip(*[iter(parameters)] * 2, strict=True)):
                x = (jax.nn.relu(x) if i else x) @ weight.T + bias
            policy = Categorical(x, jnp.asarray(batch.seen.legal.numpy()))
            surrogate = objective(policy.log_prob(action) - old, joint)
            return -(surrogate + 0.01 * policy.entropy()).mean()

        parameters = [jnp.asarray(p.detach().numpy()) for p in team.actor.parameters()]
        value, slopes = jax.jit(jax.value_and_grad(in_jax))(parameters)
        assert loss.item() == pytest.approx(float(value), rel=1e-5)
        for own, slope in zip(gradients(team.actor.parameters()), slopes, strict=True):
            np.testing.assert_allclose(own, slope, rtol=1e-3, atol=1e-6)
        assert max(abs(own).max() for own in gradients(team.actor.parameters())) > 1e-3

    def test_mappo_is_the_clip(self, ppo, played):
        team, batch, advantage = played
        moved = batch._replace(log_prob=batch.log_prob + 0.5 * torch.sin(torch.arange(3.0)))
        loss, _ = ppo.losses(team, moved, advantage, advantage, make_objective("mappo", 0.2), 0.0)
        r = (team.policy(batch.seen).log_prob(batch.action) - moved.log_prob).exp()
        A = advantage[:, None]
        clip = torch.minimum(r * A, r.clamp(1 - 0.2, 1 + 0.2) * A)
        assert loss.item() == pytest.approx(-clip.mean().item(), rel=1e-5)
        assert (r.clamp(0.8, 1.2) != r).any()

    def test_the_dead_are_in_no_loss(self, ppo, played):
        team, batch, advantage = played
        alive = torch.ones_like(batch.seen.alive)
        alive[:, 1] = False
        changed = batch.log_prob.clone()
        changed[:, 1] += 3
        found = [
            ppo.losses(
                team, batch._replace(seen=batch.seen._replace(alive=alive), log_prob=old),
                advantage, advantage, make_objective("mars"), 0.01,
            )[0].item()
            for old in (batch.log_prob, changed)
        ]  # fmt: skip
        assert found[0] == found[1]

    def test_advantages_are_the_learners(self, ppo, args):
        rng = np.random.default_rng(0)
        reward, value, next_value = rng.normal(size=(3, 9, 5)).astype(np.float32)
        terminated, truncated = rng.random((2, 9, 5)) < 0.2
        truncated &= ~terminated
        outcome = ppo.Outcome(
            None, *map(torch.tensor, (reward, terminated, terminated | truncated)), None
        )
        own = ppo.gae(outcome, torch.tensor(value), torch.tensor(next_value), args)
        expected, _ = advantages.gae(
            *map(jnp.asarray, (reward, value, next_value, terminated, truncated)),
            args.gamma, args.gae_lambda,
        )  # fmt: skip
        np.testing.assert_allclose(own.numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_it_trains_and_a_seed_says_all(self, ppo, args, played):
        untrained = [p.detach().clone() for p in played[0].parameters()]
        (one, returns), (other, _) = ppo.train(args), ppo.train(args)
        assert len(returns) == 3
        for a, b, before in zip(one.parameters(), other.parameters(), untrained, strict=True):
            assert torch.equal(a, b)
            assert not torch.equal(a, before)

    def test_the_game_pays_what_is_covered(self, ppo):
        torch.manual_seed(0)
        game = ppo.Cover(2)
        game._agents = torch.tensor([[0, 5, 5], [3, 9, 0]])
        game._goals = torch.tensor([[5, 1, 7]] * 2)
        game._clock, game._counted = torch.tensor([3, 15]), torch.tensor([True, True])
        seen = game.seen()  # the first agent's second place is a tenth of the ring ahead
        assert seen.obs[0, 0, 1].item() == pytest.approx(np.sin(2 * np.pi / 10), abs=1e-6)
        outcome = game.step(torch.tensor([[2, 1, 0], [1, 2, 2]]))
        assert outcome.reward.tolist() == pytest.approx([2 / 3, 1 / 3])
        assert outcome.done.tolist() == [False, True]
        assert not outcome.terminated.any()
        assert outcome.episode_return[1].item() == pytest.approx(1 / 3)
        assert game._clock.tolist() == [4, 0]
        assert game._agents[0].tolist() == [1, 5, 4]

    def test_without_jax(self):
        """The whole training, in a process that imports neither JAX nor an environment."""
        program = (
            "import sys; sys.path.insert(0, sys.argv[1]); import ppo_torch as p;"
            "p.train(p.Args(total_steps=64, num_envs=4, rollout_length=8, width=8));"
            "assert not {'jax', 'marsrl.envs'} & set(sys.modules)"
        )
        command = [sys.executable, "-W", "ignore", "-c", program, str(EXAMPLES)]
        subprocess.run(command, check=True, timeout=300, capture_output=True)

    def test_a_task_of_marsrl(self, ppo):
        args = ppo.Args(
            task="paxmen/4ag", total_steps=32, num_envs=2, rollout_length=8, width=8,
            num_minibatches=1, update_epochs=1,
        )  # fmt: skip
        team, returns = ppo.train(args)
        assert team.ids.shape == (4, 4)
        assert len(returns) == 2

    def test_an_environment_of_pettingzoo_is_paid_for_whole_episodes(self, ppo, monkeypatch):
        """Every step of which pays one, and whose length is seen."""
        pytest.importorskip("pettingzoo")
        monkeypatch.setenv("MARSRL_WORKERS", "1")
        games = ppo.make_games(ppo.Args(task="pettingzoo:host_games:Counting", num_envs=2))
        known_ever = 0
        try:
            for _ in range(32):
                length = games.seen().obs[:, 0, 1]
                outcome = games.step(torch.zeros(2, 2))
                known = outcome.episode_return.isfinite()
                assert (outcome.episode_return == length)[known].all()
                assert not known[~outcome.done].any()
                known_ever += int(known.sum())
        finally:
            games.close()
        assert known_ever > 1


class TestJaxmarl:
    """A trainer in JAX around an environment of JaxMARL."""

    @pytest.fixture(scope="class")
    @classmethod
    def ppo(cls):
        return example("ppo_jaxmarl", needs=("jaxmarl",))

    def test_mappo_is_the_clip(self, ppo):
        rng = np.random.default_rng(0)
        network = ppo.Network(5)
        obs = jnp.asarray(rng.normal(size=(32, 6)), jnp.float32)
        params = network.init(jax.random.key(0), obs)
        action = jnp.asarray(rng.integers(0, 5, 32))
        old, A = jnp.asarray(rng.normal(-1.6, 0.3, 32)), jnp.asarray(rng.normal(size=32))
        batch = ppo.Sample(obs, action, old, None, None, None)
        logits, value = network.apply(params, obs)
        r = jnp.exp(Categorical(logits, jnp.ones_like(logits, bool)).log_prob(action) - old)
        clip = jnp.minimum(r * A, jnp.clip(r, 0.8, 1.2) * A).mean()
        found = ppo.loss(params, network, batch, A, value, make_objective("mappo", 0.2), 0.0)
        assert float(found) == pytest.approx(-float(clip), rel=1e-5)

    def test_it_trains(self, ppo):
        args = ppo.Args(total_steps=240, num_envs=4, rollout_length=30, num_minibatches=2)
        returns = jax.jit(ppo.make_train(args))(jax.random.key(0))
        assert returns.shape == (2,)
        assert np.isfinite(returns).all()


@with_torch
@pytest.mark.filterwarnings("ignore")  # torchrl's and tensordict's, about each other
class TestTorchrl:
    """TorchRL's loss with another surrogate."""

    @pytest.fixture(scope="class")
    @classmethod
    def ppo(cls):
        return example("ppo_torchrl", needs=("tensordict", "torchrl", "gymnasium"))

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls, ppo):
        """A batch in which ratios are far from 1, with its networks."""
        torch.manual_seed(0)
        actor, critic = ppo.networks(3, 4)
        played = ppo.TensorDict({"observation": torch.randn(64, 3)}, [64])
        with torch.no_grad():
            actor(played)
        played["action_log_prob"] += torch.randn(64) * 0.5
        played["advantage"] = torch.randn(64, 1)
        played["value_target"] = torch.randn(64, 1)
        return actor, critic, played

    def terms(self, loss, data):
        found = loss(data.clone())
        loss.zero_grad()
        sum(value for name, value in found.items() if name.startswith("loss_")).backward()
        return found, gradients(loss.parameters())

    def test_mappo_is_its_own_clip(self, ppo, data):
        actor, critic, played = data
        options = {"entropy_coeff": 0.02, "normalize_advantage": True}
        own = ppo.ObjectiveLoss(actor, critic, make_objective("mappo", 0.2), **options)
        clip = ppo.ClipPPOLoss(actor, critic, **options)
        # theirs is 1 - eps to 1 + eps too, as a clip of the log-ratio
        (found, slopes), (expected, others) = self.terms(own, played), self.terms(clip, played)
        assert set(found.keys()) == set(expected.keys())
        for name in expected.keys():  # noqa: SIM118
            torch.testing.assert_close(found[name], expected[name])
        for slope, other in zip(slopes, others, strict=True):
            np.testing.assert_allclose(slope, other, rtol=1e-4, atol=1e-7)

    @each_objective
    def test_the_loss_is_that_of_jax(self, ppo, data, name):
        actor, critic, played = data
        objective = make_objective(name, 0.5)
        found = ppo.ObjectiveLoss(actor, critic, objective)(played.clone())["loss_objective"]
        with torch.no_grad():
            new = actor.get_dist(played.clone()).log_prob(played["action"])
        u, A = new - played["action_log_prob"], played["advantage"][:, 0]
        expected = -objective(jnp.asarray(u.numpy()), jnp.asarray(A.numpy())).mean()
        assert found.item() == pytest.approx(float(expected), rel=1e-5)

    def test_what_it_cannot_do_is_refused(self, ppo, data):
        with pytest.raises(ValueError, match="delay_actor"):
            ppo.ObjectiveLoss(*data[:2], make_objective("mars"), delay_actor=True)

    def test_it_trains(self, ppo):
        args = ppo.Args(total_steps=200, rollout_length=100, minibatch=50, update_epochs=1)
        assert len(ppo.train(args)) == 2
