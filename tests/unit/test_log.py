"""The log: rows are whole or not there, and damage is told by its line."""

import errno
import json
import os

import pytest

from marsrl.runs.log import Log

ROWS = [
    {"kind": "eval", "seed": seed, "step": step, "return": 0.1 * seed + step}
    for step in (0, 32)
    for seed in (3, 5)
]


@pytest.fixture
def log(tmp_path):
    log = Log(tmp_path / "metrics.jsonl")
    log.append(ROWS)
    return log


def test_rows_come_back_as_they_were(log):
    assert list(log.rows()) == ROWS
    assert log.damaged() == []
    assert log.damage() is None


def test_every_line_is_plain_json(log):
    for line, row in zip(log.path.read_text().splitlines(), ROWS, strict=True):
        assert json.loads(line).items() > row.items()


def test_what_is_not_finite_becomes_null(log):
    log.append([ROWS[0] | {"step": 64, "return": float("nan"), "returns": [float("inf"), 1.0]}])
    assert list(log.rows())[-1]["return"] is None
    assert list(log.rows())[-1]["returns"] == [None, 1.0]


def test_a_changed_digit_is_a_damaged_row(log):
    text = log.path.read_text()
    log.path.write_text(text.replace("32.3", "32.8"))
    assert list(log.rows()) == [ROWS[0], ROWS[1], ROWS[3]]
    assert log.damage() == f"{log.path}: 1 damaged row(s) left out, line(s) 3"


def test_a_last_line_that_was_cut_off_is_no_row_and_no_damage(log):
    content = log.path.read_bytes()
    log.path.write_bytes(content[:-5])
    assert list(log.rows()) == ROWS[:-1]
    assert log.damaged() == []


def test_a_log_of_before_checks_existed_is_read(log):
    log.path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert list(log.rows()) == ROWS


@pytest.mark.parametrize(
    "line", ["[]", "null", "{}", '{"kind": 1, "seed": 0, "step": 0}', "[" * 9999]
)
def test_a_line_of_another_shape_is_damage(line, log):
    log.path.write_text(f"{line}\n")
    assert list(log.rows()) == []
    assert log.damaged() == [1]


def test_a_full_disk_leaves_the_log_as_it_was(log, monkeypatch):
    before, real = log.path.read_bytes(), os.write
    left = [20]

    def write(descriptor, data):
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = real(descriptor, data[: left[0]])
        left[0] -= done
        return done

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space left"):
        log.append(ROWS)
    assert log.path.read_bytes() == before


def test_a_log_that_is_not_there_has_no_rows(tmp_path):
    assert list(Log(tmp_path / "none").rows()) == []
