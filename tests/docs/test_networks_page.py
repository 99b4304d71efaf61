"""The blocks of docs/your-network.md, with a tiny budget."""

import re
from pathlib import Path

import pytest

from commands import run_all

PAGE = (Path(__file__).parents[2] / "docs" / "your-network.md").read_text()
SOURCE, COMMANDS = (text for _, text in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S))
TINY = (
    " --task paxmen/4ag --seeds 0 --num-envs 4 --rollout-length 8 --num-minibatches 1"
    " --update-epochs 1 --num-evaluations 1 --eval-episodes 2 --no-stagger"
)


@pytest.mark.slow
def test_every_block_runs(tmp_path):
    (tmp_path / "attention.py").write_text(SOURCE)
    commands = [
        line.removeprefix("marsrl ").replace("--total-steps 500000", "--total-steps 32")
        for line in COMMANDS.splitlines()
    ]
    commands = [c + TINY if c.startswith("train") else c + " --episodes 2" for c in commands]
    for code, _, err, _ in run_all([c.split() for c in commands], tmp_path):
        assert code == 0, err
