"""The conformance check: silent on sound environments, one sentence for each thing broken."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import NEVER, Furnished, Pictured, Scripted, small_config
from marsrl.bench.rows import EPISODE_COLUMNS
from marsrl.config import Config
from marsrl.envs.check import NonconformingEnvironment, check_env
from marsrl.envs.check.play import _listed
from marsrl.envs.vector import EpisodeStats, VectorEnv, opened, vectorize
from marsrl.errors import UserError
from marsrl.learner.algorithm import episode_metrics
from marsrl.learner.program import Program
from marsrl.runs.member import score_rows
from marsrl.runs.runner import train
from marsrl.types import RESERVED_METRICS, Box, Discrete, MultiDiscrete

SPEC = Scripted().spec


def failures(env, **options) -> tuple[str, ...]:
    with pytest.raises(NonconformingEnvironment) as caught:
        check_env(env, **options)
    return caught.value.failures


# --- sound environments ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "env",
    [
        Scripted(),
        Scripted(death=(2, NEVER)),
        Scripted(action=Box(2), num_agents=3, terminates_at=NEVER, shared_reward=False),
        Scripted(action=Box(2, (0, -2.0), (0.5, 3.0))),
        Scripted(action=MultiDiscrete((3, 2))),
    ],
    ids=["terminates", "agents die", "continuous", "bounds of each dimension", "several choices"],
)
def test_a_sound_environment_passes(env):
    check_env(env)


def test_a_picture_of_bytes_passes_with_a_note():
    note = "obs is uint8: networks read it as float32, divided by 255"
    assert check_env(Pictured())[0] == note


def test_every_choice_needs_a_legal_action():
    def lacking(state, mask):
        return mask.at[1, 3:].set(False)

    env = Broken(action=MultiDiscrete((3, 2)), step_change=replaced(action_mask=lacking))
    (failure,) = failures(env)
    assert "action_mask leaves an agent, dead or alive, without a legal action" in failure


def test_groups_are_reported():
    note = "the agents are of 2 groups: 1 of scout, 2 of tracker; --share-parameters groups gives"
    env = Scripted(num_agents=3, groups=("scout", "tracker", "tracker"))
    assert check_env(env, num_steps=1)[0].startswith(note)


@dataclass(frozen=True)
class KeyInState(Scripted):
    """Has a typed key in its state, which is odd but harmless: `step` goes by its own."""

    def reset(self, key):
        clock, time_step = super().reset(key)
        return (clock, key), time_step

    def step(self, key, state, action):
        clock, time_step = super().step(key, state[0], action)
        return (clock, key), time_step


def test_a_key_in_the_state_passes():
    check_env(KeyInState())


# --- members --------------------------------------------------------------------------------------


class NoSpec:
    reset = step = print


class RaisingSpec(NoSpec):
    @property
    def spec(self):
        raise KeyError("layout")


def with_spec(**changes):
    return SimpleNamespace(reset=print, step=print, spec=dataclasses.replace(SPEC, **changes))


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ("lbf", "it is the name 'lbf', expected an environment, such as marsrl.make('lbf')"),
        (Scripted, "it is a class, expected an environment, such as Scripted()"),
        (SimpleNamespace(spec=SPEC, reset=print), "it has no method step"),
        (SimpleNamespace(spec=SPEC, reset=print, step=3), "it has no method step"),
        (SimpleNamespace(spec=SPEC, step=print), "it has no method reset"),
        (NoSpec(), "it has no attribute spec; expected a marsrl.EnvSpec"),
        (SimpleNamespace(reset=print, step=print, spec=3), "spec is 3, expected a marsrl.EnvSpec"),
        (RaisingSpec(), "spec raised KeyError: 'layout'"),
        (with_spec(num_agents=0), "spec.num_agents is 0, expected a positive int"),
        (with_spec(max_steps=5.0), "spec.max_steps is 5.0, expected a positive int"),
        (with_spec(obs_shape=(3, 0)), "spec.obs_shape is (3, 0), expected a tuple of positive"),
        (
            with_spec(groups=("a",)),
            "spec.groups is ('a',), expected a tuple with a string for each",
        ),
        (with_spec(groups=(0, 1)), "spec.groups is (0, 1), expected a tuple with a string for"),
        (with_spec(action=MultiDiscrete(())), "spec.action is MultiDiscrete(num_actions=())"),
        (
            with_spec(action=MultiDiscrete((2, 0))),
            "spec.action is MultiDiscrete(num_actions=(2, 0))",
        ),
        (with_spec(obs_parts=(("a", (2,)),)), "spec.obs_parts is (('a', (2,)),), expected names"),
        (with_spec(obs_shape=3), "spec.obs_shape is 3, expected a tuple of positive ints"),
        (with_spec(state_shape=()), "spec.state_shape is (), expected a tuple of positive ints"),
        (with_spec(action=4), "spec.action is 4, expected Discrete"),
        (with_spec(action=Discrete(0)), "spec.action is Discrete(num_actions=0), expected"),
        (with_spec(action=Box(2, 1.0, 1.0)), "spec.action is Box(num_dims=2, low=1.0, high=1.0)"),
        (
            with_spec(action=Box(2, -1.0, (1.0,))),
            "spec.action is Box(num_dims=2, low=-1.0, high=(1.",
        ),
        (with_spec(action=Box(2, (0.0, 1.0), (1.0, 1.0))), "spec.action is Box(num_dims=2, low=(0"),
        (with_spec(action=Box(2, [0.0, 1.0])), "spec.action is Box(num_dims=2, low=[0.0, 1.0], "),
        (with_spec(action=Box(2, np.zeros(2))), "spec.action is Box(num_dims=2, low=array([0., 0."),
        (
            with_spec(action=Box(1, ((0.0,),))),
            "spec.action is Box(num_dims=1, low=((0.0,),), high=",
        ),
        (with_spec(action=Box(2, -3e38, 3e38)), "spec.action is Box(num_dims=2, low=-3e+38, high"),
        (with_spec(action=Box(1, -(10**400))), "spec.action is Box(num_dims=1, low=-10000"),
        (
            with_spec(action=Box(1, float("nan"))),
            "spec.action is Box(num_dims=1, low=nan, high=1.0",
        ),
        (
            with_spec(metrics=("won", "return")),
            "spec.metrics has 'return', a name of the library's",
        ),
        (
            with_spec(metrics=("ratio/max",)),
            "spec.metrics has 'ratio/max', expected a name without",
        ),
        (with_spec(shared_reward=1), "spec.shared_reward is 1, expected a bool"),
        (with_spec(metrics=("won", "won")), "spec.metrics is ('won', 'won'), expected a tuple"),
        (with_spec(metrics="won"), "spec.metrics is 'won', expected a tuple of different strings"),
    ],
)
def test_members(env, sentence):
    found = failures(env)
    assert len(found) == 1
    assert found[0].startswith(sentence)


def test_all_failures_are_reported_in_one_error():
    env = with_spec(num_agents=0, max_steps=0)
    with pytest.raises(UserError) as caught:
        check_env(env)
    lines = str(caught.value).splitlines()
    assert lines[0] == "SimpleNamespace does not keep to the environment interface:"
    assert lines[1:] == [
        "- spec.num_agents is 0, expected a positive int",
        "- spec.max_steps is 0, expected a positive int",
    ]


def test_the_original_exception_is_chained():
    with pytest.raises(NonconformingEnvironment) as caught:
        check_env(RaisingSpec())
    assert isinstance(caught.value.__cause__, KeyError)


def test_what_an_environment_raises_is_told_with_its_traceback():
    (failure,) = failures(RaisingSpec())
    line, _, path = failure.partition("; traceback: ")
    assert re.fullmatch(
        r"spec raised KeyError: 'layout' \(test_check.py, line \d+, in spec\)", line
    )
    assert 'raise KeyError("layout")' in Path(path).read_text()
    Path(path).unlink()


def test_what_an_environment_raises_while_it_is_traced_is_found_in_its_own_code():
    (failure,) = failures(Broken(step_change=untraceable))
    assert re.search(r" \(test_check.py, line \d+, in untraceable\); traceback: ", failure)
    Path(failure.partition("; traceback: ")[2]).unlink()


# --- shapes and play ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken(Scripted):
    """`Scripted` with its results put through `reset_change` and `step_change`.

    Both take (state, time step, key) to (state, time step). The state of `Scripted` is a tuple
    (start, t).
    """

    reset_change: object = None
    step_change: object = None

    def reset(self, key):
        state, time_step = super().reset(key)
        return self.reset_change(state, time_step, key) if self.reset_change else (state, time_step)

    def step(self, key, state, action):
        state, time_step = super().step(key, state, action)
        return self.step_change(state, time_step, key) if self.step_change else (state, time_step)


def replaced(**fields):
    """A change that sets fields of the time step, to a value or to a function of (state, field)."""

    def change(state, time_step, key):
        new = {
            name: value(state, getattr(time_step, name)) if callable(value) else value
            for name, value in fields.items()
        }
        return state, time_step._replace(**new)

    return change


def at_step(t, value):
    """A change of a field that happens at step `t` only."""
    return lambda state, field: jnp.where(state.t == t, value, field)


def untraceable(state, time_step, key):
    if time_step.terminated:
        return state, time_step
    return state, time_step._replace(reward=-time_step.reward)


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (
            Broken(step_change=untraceable),
            "step, traced by JAX, raised TracerBoolConversionError: Attempted boolean conversion",
        ),
        (
            Broken(reset_change=lambda state, time_step, key: time_step),
            "reset returns TimeStep, expected (state, marsrl.TimeStep)",
        ),
        (
            Broken(reset_change=lambda state, time_step, key: (state, tuple(time_step))),
            "reset returns (Clock, tuple), expected (state, marsrl.TimeStep)",
        ),
        (
            Broken(step_change=lambda state, time_step, key: (state, time_step, 0.0)),
            "step returns (Clock, TimeStep, ShapeDtypeStruct), expected (state, marsrl.TimeStep)",
        ),
        (
            Broken(reset_change=lambda state, time_step, key: ("start", time_step)),
            "reset, traced by JAX, raised TypeError:",
        ),
        (
            Broken(step_change=replaced(obs=lambda _, x: x[:, :2])),
            "step: obs is (2, 2) float32, expected (2, 3) float32",
        ),
        (
            Broken(reset_change=replaced(obs=lambda _, x: x.astype(jnp.int32))),
            "reset: obs is (2, 3) int32, expected (2, 3) float32",
        ),
        (
            Broken(step_change=replaced(global_state=lambda _, x: jnp.stack([x, x]))),
            "step: global_state is (2, 3) float32, expected (3,) float32",
        ),
        (
            Broken(step_change=replaced(action_mask=lambda _, x: x.astype(jnp.float32))),
            "step: action_mask is (2, 3) float32, expected (2, 3) bool",
        ),
        (
            Broken(step_change=replaced(reward=lambda _, x: x[0])),
            "step: reward is () float32, expected (2,) float32",
        ),
        (
            Broken(step_change=replaced(terminated=lambda _, x: jnp.stack([x, x]))),
            "step: terminated is (2,) bool, expected () bool",
        ),
        (Broken(reset_change=replaced(agent_mask=None)), "reset: agent_mask is None, expected an"),
        (
            Broken(step_change=replaced(metrics={})),
            "step: metrics has [], expected the keys of spec.metrics ('won',)",
        ),
        (
            Broken(step_change=replaced(metrics=None)),
            "step: metrics has None, expected the keys of spec.metrics ('won',)",
        ),
        (
            Broken(step_change=replaced(metrics=lambda state, x: {"won": jnp.zeros(2)})),
            "step: metrics['won'] is (2,) float32, expected () float32 or int32 or bool",
        ),
        (
            Broken(reset_change=replaced(metrics=lambda *_: {"won": jnp.int32(0)})),
            "step: metrics['won'] is float32, expected int32 as in reset; both must have one type",
        ),
        (
            Broken(reset_change=replaced(metrics=lambda *_: {"won": jnp.bool_(False)})),
            "step: metrics['won'] is float32, expected bool as in reset; both must have one type",
        ),
        (
            Broken(step_change=lambda state, time_step, key: ((state, 0), time_step)),
            "step changes the structure of the state from PyTreeDef",
        ),
        (
            Broken(step_change=lambda s, time_step, key: (s._replace(t=1.0 * s.t), time_step)),
            "step changes state.t from () int32 to () float32; expected no change",
        ),
    ],
)
def test_shapes(env, sentence):
    found = failures(env)
    assert len(found) == 1
    assert found[0].startswith(sentence)


def test_a_metric_may_be_a_plain_number_at_the_start():
    check_env(Broken(reset_change=replaced(metrics=lambda *_: {"won": 0})))


@dataclass(frozen=True)
class BrokenDictionaries(Furnished):
    """`Furnished`, whose dictionaries are put through `change` in every step."""

    change: object = None

    def step(self, key, state, action):
        state, time_step = super().step(key, state, action)
        return state, time_step._replace(obs=self.change(time_step.obs))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda obs: obs | {"view": obs["view"].astype(jnp.float32)},
            "step: obs['view'] is (2, 9, 4, 2) float32, expected (2, 9, 4, 2) uint8 as in reset",
        ),
        (
            lambda obs: {"body": obs["body"], "zoom": obs["view"]},
            "step: obs['view'] is missing, expected (2, 9, 4, 2) uint8 as in reset\n"
            "step: obs['zoom'] is (2, 9, 4, 2) uint8, expected none as in reset",
        ),
        (
            lambda obs: obs | {"view": obs["view"].transpose(0, 2, 1, 3)},
            "step: obs['view'] is (2, 4, 9, 2) uint8, expected (2, 9, 4, 2) uint8 as in reset",
        ),
    ],
    ids=["type", "name", "order"],
)
def test_a_dictionary_is_made_of_the_same_in_every_step(change, sentence):
    assert "\n".join(failures(BrokenDictionaries(change=change))) == sentence


def test_numbers_of_a_dictionary_become_float32_of_whatever_type_they_are():
    def change(obs):
        return obs | {"body": jax.tree.map(lambda x: x.astype(jnp.float32), obs["body"])}

    check_env(BrokenDictionaries(change=change))


class NamedLikeOurs(Scripted):
    """Has for itself what environments outside of JAX have for the library."""

    notes = "hello"
    on_host = True
    task = 3

    def vectorized(self):
        raise ArithmeticError

    def check(self, action):
        raise ArithmeticError

    def close(self):
        raise ArithmeticError


def test_what_an_environment_has_for_itself_is_not_called():
    env = NamedLikeOurs()
    assert check_env(env) == check_env(Scripted())
    assert type(vectorize(env)) is VectorEnv
    with opened(env):
        pass
    Program(small_config(), env).close()


class Leaking(Scripted):
    """Remembers on itself what it traced."""

    def step(self, key, state, action):
        object.__setattr__(self, "last", [action])
        return super().step(key, state, action)


class LeakingDictionaries(Leaking, Furnished):
    pass


@pytest.mark.parametrize("env", [Leaking(), LeakingDictionaries()])
def test_a_leaked_tracer(env):
    assert failures(env) == (
        "it keeps a traced value in self.last; expected all that changes in the state",
    )


class LeakingClass(Scripted):
    """Remembers on its class what it traced, beside what JAX cannot look into."""

    log: ClassVar = []
    table: ClassVar = {1: "one", "two": 2}

    def step(self, key, state, action):
        self.log.append(action)
        return super().step(key, state, action)


def test_a_leaked_tracer_on_a_class():
    expected = ("it keeps a traced value in self.log; expected all that changes in the state",)
    assert failures(type("Inheriting", (LeakingClass,), {})()) == expected


def batched_only(state, time_step, key):
    @jax.custom_batching.custom_vmap
    def shifted(obs):
        return obs

    @shifted.def_vmap
    def _(size, batched, obs):
        return obs + 1.0, True

    return state, time_step._replace(obs=shifted(time_step.obs))


def answered_by_the_host(state, time_step, key):
    calls = iter(range(1, 1000))
    ever = jax.experimental.io_callback(
        lambda: np.float32(next(calls)), jax.ShapeDtypeStruct((), jnp.float32)
    )
    return state, time_step._replace(obs=time_step.obs + ever)


def noisy(state, time_step, key):
    return state, time_step._replace(obs=time_step.obs + np.float32(np.random.uniform()))  # noqa: NPY002


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (
            Broken(step_change=batched_only),
            "step: another time_step.obs vmapped than alone; expected that only the arguments",
        ),
        (
            Broken(step_change=answered_by_the_host),
            "step: another time_step.obs when called again with the same arguments",
        ),
        (
            Broken(step_change=noisy),
            "step: another time_step.obs vmapped than alone; expected that only the arguments",
        ),
        (
            Broken(reset_change=noisy),
            "reset: another time_step.obs vmapped than alone; expected that only the arguments",
        ),
        (
            Broken(reset_change=replaced(reward=lambda _, x: x + 1)),
            "reset: reward is not zero (at step 0)",
        ),
        (
            Broken(reset_change=replaced(truncated=lambda _, x: ~x)),
            "reset: terminated or truncated is True (at step 0)",
        ),
        (
            Broken(reset_change=replaced(agent_mask=lambda _, x: ~x)),
            "reset: agent_mask is all False (at step 0)",
        ),
        (
            Broken(step_change=replaced(obs=at_step(2, jnp.nan))),
            "step: obs has values that are not finite (at step 2)",
        ),
        (
            Broken(step_change=replaced(global_state=at_step(1, jnp.inf))),
            "step: global_state has values that are not finite (at step 1)",
        ),
        (
            Broken(step_change=replaced(reward=at_step(3, -jnp.inf))),
            "step: reward has values that are not finite (at step 3)",
        ),
        (
            Broken(step_change=replaced(metrics=lambda *_: {"won": jnp.float32(jnp.nan)})),
            "step: metrics['won'] has values that are not finite (at step 1)",
        ),
        (
            Broken(
                death=(1, NEVER), step_change=replaced(action_mask=lambda _, x: x.at[0].set(False))
            ),
            "step: action_mask leaves an agent, dead or alive, without a legal action (at step 1)",
        ),
        (
            Broken(
                action=Box(2), step_change=replaced(action_mask=lambda _, x: x.at[0].set(False))
            ),
            "step: action_mask leaves a live agent without a dimension (at step 1)",
        ),
        (
            Broken(step_change=replaced(reward=lambda _, x: x.at[0].add(1))),
            "step: rewards differ between agents although spec.shared_reward is True (at step 1)",
        ),
        (
            Broken(step_change=replaced(terminated=lambda state, _: state.t >= 5)),
            "step: terminated and truncated are both True (at step 5)",
        ),
        (
            Broken(terminates_at=NEVER, step_change=replaced(truncated=lambda _, x: x & False)),
            "step: the episode goes on at spec.max_steps = 5 (at step 5)",
        ),
    ],
)
def test_play(env, sentence):
    found = failures(env)
    assert len(found) == 1
    assert found[0].startswith(sentence)


def test_a_dead_agent_needs_no_dimension():
    check_env(
        Broken(
            action=Box(2),
            death=(1, NEVER),
            step_change=replaced(action_mask=lambda _, x: x.at[0].set(False)),
        )
    )


def test_rewards_may_differ_if_they_are_not_shared():
    check_env(Scripted(shared_reward=False))


def test_what_happens_after_the_end_does_not_matter():
    late = replaced(obs=lambda state, x: jnp.where(state.t > 3, jnp.nan, x))
    ended = replaced(terminated=lambda state, _: state.t >= 3, truncated=lambda _, x: x & False)
    check_env(Broken(step_change=lambda *args: late(*ended(*args), None)))


def test_an_episode_may_be_truncated_before_the_horizon():
    check_env(Broken(step_change=replaced(truncated=lambda state, x: x | (state.t == 2))))


def test_num_steps_limits_the_play():
    env = Broken(terminates_at=NEVER, step_change=replaced(truncated=lambda _, x: x & False))
    check_env(env, num_steps=4)
    assert failures(env, num_steps=50) == (
        "step: the episode goes on at spec.max_steps = 5 (at step 5)",
    )
    with pytest.raises(UserError, match=r"num_steps is 0, expected at least 1"):
        check_env(env, num_steps=0)


# --- notes on clocks ------------------------------------------------------------------------------

TELLS = (
    " tells the time: the final observation of a truncated episode is of a kind that is never "
    "acted on; time limits are still bootstrapped (bootstrap_truncated)"
)


def test_a_clock_in_the_global_state_is_noted():
    assert check_env(Scripted()) == (f"the global state (entry 1){TELLS}",)


@dataclass(frozen=True)
class Timed(Scripted):
    """Observations and the state are given by `sees(t)`, (3,)."""

    sees: object = None

    def at(self, clock):
        time_step = super().at(clock)
        now = jnp.asarray(self.sees(clock), jnp.float32)
        obs = time_step.obs.at[:, 1:].set(now[1:])
        return time_step._replace(obs=obs, global_state=now)


def binary(clock):
    """The step as three bits, none of which says much alone."""
    return clock.t >> jnp.arange(3) & 1


def event(clock):
    """Something happens in the middle of every episode."""
    return jnp.array([clock.start, clock.t > 2, 0])


def resembling(clock):
    """A clock of another phase in each episode."""
    return jnp.array([clock.start, clock.start + clock.t, jnp.round(8 * clock.start) + clock.t])


@pytest.mark.parametrize(
    ("env", "places"),
    [
        (Timed(sees=binary), "the observation (entries 1, 2) and the global state (entries 0, 1,"),
        (
            Timed(sees=binary, death=(1, NEVER)),
            "the observation (entries 1, 2) and the global state",
        ),
        (Timed(sees=binary, terminates_at=5), "the observation (entries 1, 2) and the global"),
        (Timed(sees=event), None),
        (Timed(sees=resembling), None),
    ],
    ids=["binary", "agents die", "late", "event", "resembling"],
)
def test_clocks(env, places):
    notes = check_env(env)
    assert len(notes) == (places is not None)
    if places:
        assert notes[0].startswith(places)


def test_no_note_where_no_episode_is_truncated():
    end = replaced(truncated=lambda _, x: x & False, terminated=lambda state, x: x | (state.t >= 5))
    assert check_env(Broken(step_change=end)) == ()
    assert len(check_env(Broken(step_change=end), num_steps=4)) == 1  # who knows


def test_entries_of_a_picture_are_named_by_their_places():
    entries = np.array([0, 5, 11, 12, 13])
    assert _listed(entries, (2, 3, 4)) == "entries (0, 0, 0), (0, 1, 1), (0, 2, 3) and 2 more"


# --- pictures -------------------------------------------------------------------------------------


def drawing(draw):
    return type("Drawing", (Scripted,), {"draw": draw})()


def picture(self, state, caption=""):
    return np.full((4, 6, 3), len(caption), np.uint8)


def grows(self, state, caption=""):
    return np.zeros((4 + int(state.t), 6, 3), np.uint8)


def fails_with_caption(self, state, caption=""):
    if caption:
        raise ValueError("no font")
    return np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda self, state: None, "draw has other arguments than draw(state, caption): too many"),
        (3, "draw is no method"),
        (fails_with_caption, "draw raised ValueError: no font"),
        (
            lambda self, state, caption="": [[0]],
            "draw returns list, expected (height, width, 3) uint8",
        ),
        (
            lambda self, state, caption="": picture(self, state) / 255,
            "draw returns (4, 6, 3) float64, expected (height, width, 3) uint8 of NumPy",
        ),
        (
            lambda self, state, caption="": picture(self, state)[..., 0],
            "draw returns (4, 6) uint8, expected (height, width, 3) uint8 of NumPy",
        ),
        (grows, "draw returns (4, 6, 3) and then (5, 6, 3)"),
    ],
)
def test_faulty_pictures(draw, sentence):
    (found,) = failures(drawing(draw), num_steps=1)
    assert found.startswith(sentence)


def test_a_sound_picture():
    check_env(drawing(picture), num_steps=1)


# --- reserved names -------------------------------------------------------------------------------


def test_all_names_that_a_run_gives_its_own_values_are_reserved():
    ended = jnp.ones((2, 3), bool)
    stats = EpisodeStats(ended, ended * 1.0, ended * 1, {})
    (row, _) = score_rows("eval", (0, 1), False, jax.device_get(stats), {0: 0, 1: 0})
    own = {*row, *(name.removeprefix("episode/") for name in episode_metrics(stats))}
    own |= {*EPISODE_COLUMNS} | {"seconds", "steps_per_second"}
    assert own <= RESERVED_METRICS
    assert "won" not in RESERVED_METRICS


def test_training_refuses_an_environment_that_it_is_given(tmp_path):
    env = with_spec(metrics=("return",))
    with pytest.raises(NonconformingEnvironment, match=r"spec\.metrics has 'return'"):
        train(Config(total_steps=1), tmp_path / "run", env=env)
    assert not (tmp_path / "run").exists()
