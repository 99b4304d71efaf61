"""The blocks of docs/your-network.md: its networks fit, and its commands mean them."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp

import marsrl
from environments import random_weights
from marsrl import cli
from marsrl.commandline import parse
from marsrl.learner.algorithm import networks_of

PAGE = (Path(__file__).parents[2] / "docs" / "your-network.md").read_text()
KEY = jax.random.key(0)
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S)
SOURCE, COMMANDS = (text for _, text in BLOCKS[:2])


def test_every_block_is_right(tmp_path, monkeypatch):
    (tmp_path / "attention.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    *trains, evaluate = (line.split()[1:] for line in COMMANDS.splitlines())
    assert parse(cli._commands(evaluate), evaluate, "").trust
    spec, first = marsrl.make("paxmen/4ag").spec, jnp.zeros((3, 2), bool)
    obs, mask = jnp.ones((3, 2, 4, *spec.obs_shape)), jnp.ones((3, 2, 4, 5), bool)
    shapes = []
    for line in trains:
        networks = networks_of(parse(cli._commands(line), line, "").config, spec)
        carry = networks.initial_carries(2)[0]
        weights = random_weights(networks).actor
        carries, dist = jax.eval_shape(networks.act, weights, carry, obs, first, mask)
        assert dist.logits.shape == (3, 2, 4, 5)
        shapes.append(jax.tree.map(lambda c: c.shape, carries))
    assert shapes == [(), (3, 2, 4, 32)]


def test_the_other_blocks_run_and_their_commands_can_be_carried_out():
    for kind, text in BLOCKS[2:]:
        if kind == "python":
            exec(text, {})
        for line in text.splitlines() if kind == "sh" else ():
            words = line.split()[1:]
            config = parse(cli._commands(words), words, "").config
            jax.eval_shape(networks_of(config, marsrl.make(config.task).spec).init, KEY)
